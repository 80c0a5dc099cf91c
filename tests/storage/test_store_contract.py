"""What both stores promise, told by examples."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from log_builder import INCIDENT, LOG, LogBuilder, commit, keep, name

from meshnode.core.ids import EntryHash, IncidentId, LogId
from meshnode.core.log import Applied, CommitBatch, LogHead, Seal
from meshnode.errors import LocalFaultError
from meshnode.storage.memory import MemoryLogStore
from meshnode.storage.sqlite import SqliteLogStore
from meshnode.storage.ticket import SCRUB_START, CommittingLogStore


@pytest.fixture(params=["memory", "sqlite"])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[CommittingLogStore]:
    made: CommittingLogStore = (
        MemoryLogStore() if request.param == "memory" else SqliteLogStore.open(tmp_path / "store")
    )
    yield made
    made.close()


def test_an_empty_store_answers_everything_with_nothing(store: CommittingLogStore) -> None:
    assert store.incidents() == []
    assert store.heads(INCIDENT) == []
    assert store.read(INCIDENT, LOG, 1, 10) == []
    assert store.seals(INCIDENT, LOG, 1, 10) == []
    assert store.find(INCIDENT, EntryHash(bytes(32))) is None
    assert (store.applied_after(0, 10), store.applied_last()) == ([], 0)
    assert (store.get("peers", b"a"), store.scan("peers")) == (None, [])
    assert (store.damaged(), store.notices()) == (0, ())
    assert store.begin_commit() is None


def test_a_staged_batch_is_read_before_during_and_after_its_commit(store: CommittingLogStore) -> None:
    log = LogBuilder()
    store.stage(log.run(3))
    ticket = store.begin_commit()
    store.stage(log.run(2))
    assert ticket is not None
    assert store.read(INCIDENT, LOG, 1, 9) == log.entries
    store.write(ticket)
    assert store.read(INCIDENT, LOG, 1, 9) == log.entries
    store.end_commit(ticket)
    assert store.read(INCIDENT, LOG, 1, 9) == log.entries
    commit(store)
    assert store.read(INCIDENT, LOG, 1, 9) == log.entries
    assert store.heads(INCIDENT) == [LogHead(LOG, 5, log.entries[4].hash)]


def test_the_height_of_a_log_is_its_last_seal_and_not_its_last_entry(store: CommittingLogStore) -> None:
    log = LogBuilder()
    keep(store, log.run(2), CommitBatch(entries=log.grow(2)))
    assert store.heads(INCIDENT) == [LogHead(LOG, 2, log.entries[1].hash)]
    assert len(store.read(INCIDENT, LOG, 1, 9)) == 4
    keep(store, CommitBatch(seals=(log.seal(4),)))
    assert store.heads(INCIDENT) == [LogHead(LOG, 4, log.entries[3].hash)]


def test_logs_and_incidents_come_in_the_order_of_their_ids(store: CommittingLogStore) -> None:
    incidents = [IncidentId(name(f"incident {number}", 16)) for number in range(4)]
    logs = [LogId(name(f"log {number}", 32)) for number in range(4)]
    keep(store, *(LogBuilder(incident, log).run(1) for incident in incidents for log in logs))
    assert store.incidents() == sorted(incidents)
    assert [head.log for head in store.heads(incidents[0])] == sorted(logs)


def test_one_log_id_in_two_incidents_is_two_logs(store: CommittingLogStore) -> None:
    here, there = LogBuilder(), LogBuilder(IncidentId(name("other incident", 16)))
    keep(store, here.run(2), there.run(1))
    assert store.read(here.incident, LOG, 1, 9) == here.entries
    assert store.read(there.incident, LOG, 1, 9) == there.entries
    assert store.find(here.incident, there.entries[0].hash) is None
    assert store.find(there.incident, there.entries[0].hash) == (LOG, 1)


@pytest.mark.parametrize("durable", [False, True])
def test_a_batch_that_breaks_a_rule_is_refused_whole(store: CommittingLogStore, durable: bool) -> None:
    log, stranger = LogBuilder(), LogBuilder(log=LogId(name("stranger", 32)))
    store.stage(log.run(2))
    store.stage(CommitBatch(applied=(log.applied(1, 1),)))
    if durable:
        commit(store)
    rival = LogBuilder()
    rival.grow(1, size_bytes=99)
    third, fourth = log.grow(2)
    good = CommitBatch(puts=(("peers", b"a", b"never"),))
    for bad in (
        CommitBatch(entries=(fourth,), puts=good.puts),
        CommitBatch(entries=(third, fourth, *rival.entries), puts=good.puts),
        CommitBatch(seals=(log.seal(3),), puts=good.puts),
        CommitBatch(seals=(stranger.seal(1),), puts=good.puts),
        CommitBatch(applied=(log.applied(3, 1),), puts=good.puts),
        CommitBatch(applied=(log.applied(1, 1),), puts=good.puts),
        CommitBatch(applied=(log.applied(2, 3),), puts=good.puts),
        CommitBatch(applied=(Applied(2, IncidentId(bytes(16)), LOG, 1),), puts=good.puts),
    ):
        with pytest.raises(ValueError, match=r"log whose last|journal number|another entry"):
            store.stage(bad)
    assert store.read(INCIDENT, LOG, 1, 9) == log.entries[:2]
    assert store.scan("peers") == []
    assert (store.begin_commit() is None) == durable


@pytest.mark.parametrize("durable", [False, True])
def test_entries_that_are_stored_already_may_come_again(store: CommittingLogStore, durable: bool) -> None:
    log = LogBuilder()
    store.stage(log.run(3))
    if durable:
        commit(store)
    more = log.grow(1)
    store.stage(CommitBatch(entries=(*log.entries, *more, *more), seals=(log.seal(4),)))
    commit(store)
    assert store.read(INCIDENT, LOG, 1, 9) == log.entries
    assert store.seals(INCIDENT, LOG, 1, 9) == [log.seal(3), log.seal(4)]


def test_a_seal_that_comes_again_replaces_the_one_before(store: CommittingLogStore) -> None:
    log = LogBuilder()
    keep(store, log.run(1))
    other = Seal(INCIDENT, LOG, 1, bytes(64))
    store.stage(CommitBatch(seals=(other,)))
    assert store.seals(INCIDENT, LOG, 1, 1) == [other]
    commit(store)
    assert store.seals(INCIDENT, LOG, 1, 1) == [other]


def test_the_last_put_of_a_key_counts_and_none_deletes(store: CommittingLogStore) -> None:
    keep(store, CommitBatch(puts=(("a", b"1", b"x"), ("a", b"1", b"y"), ("a", b"0", b""), ("b", b"1", b"z"))))
    assert store.scan("a") == [(b"0", b""), (b"1", b"y")]
    store.stage(CommitBatch(puts=(("a", b"1", None), ("b", b"never there", None))))
    assert (store.get("a", b"1"), store.scan("a")) == (None, [(b"0", b"")])
    commit(store)
    assert (store.get("a", b"1"), store.scan("a"), store.get("b", b"1")) == (None, [(b"0", b"")], b"z")


def test_journal_rows_are_read_in_pages(store: CommittingLogStore) -> None:
    log = LogBuilder()
    rows = tuple(log.applied(number, 6 - number) for number in range(1, 6))
    store.stage(CommitBatch(entries=log.grow(5), applied=rows[:3]))
    commit(store)
    store.stage(CommitBatch(applied=rows[3:]))
    assert store.applied_after(0, 2) == list(rows[:2])
    assert store.applied_after(2, 9) == list(rows[2:])
    assert (store.applied_after(5, 9), store.applied_last()) == ([], 5)


def test_abandon_goes_back_to_what_is_durable(store: CommittingLogStore) -> None:
    log = LogBuilder()
    keep(store, log.run(2), CommitBatch(applied=(log.applied(1, 1),), puts=(("peers", b"a", b"kept"),)))
    store.stage(log.run(2))
    ticket = store.begin_commit()
    other = LogBuilder(IncidentId(name("other incident", 16)))
    store.stage(other.run(1))
    store.stage(CommitBatch(applied=(log.applied(2, 2),), puts=(("peers", b"a", None),)))
    store.abandon()
    assert ticket is not None
    with pytest.raises(RuntimeError):
        store.write(ticket)
    assert store.incidents() == [INCIDENT]
    assert store.heads(INCIDENT) == [LogHead(LOG, 2, log.entries[1].hash)]
    assert (store.applied_last(), store.get("peers", b"a")) == (1, b"kept")
    assert store.begin_commit() is None
    keep(store, CommitBatch(entries=tuple(log.entries[2:])), CommitBatch(entries=tuple(other.entries)))
    assert store.read(INCIDENT, LOG, 1, 9) == log.entries
    assert store.read(other.incident, LOG, 1, 9) == other.entries


def test_abandon_keeps_a_ticket_that_was_written(store: CommittingLogStore) -> None:
    log = LogBuilder()
    store.stage(log.run(2))
    ticket = store.begin_commit()
    assert ticket is not None
    store.write(ticket)
    store.stage(log.run(1))
    store.abandon()
    assert store.read(INCIDENT, LOG, 1, 9) == log.entries[:2]


def test_one_ticket_is_in_flight_at_a_time_and_in_order(store: CommittingLogStore) -> None:
    log = LogBuilder()
    store.stage(log.run(1))
    ticket = store.begin_commit()
    assert ticket is not None
    store.stage(log.run(1))
    with pytest.raises(RuntimeError):
        store.begin_commit()
    with pytest.raises(RuntimeError):
        store.end_commit(ticket)
    store.write(ticket)
    store.end_commit(ticket)
    with pytest.raises(RuntimeError):
        store.end_commit(ticket)


def test_a_scrub_of_a_sound_store_comes_round_and_finds_nothing(store: CommittingLogStore) -> None:
    log = LogBuilder()
    keep(store, log.run(5), CommitBatch(applied=(log.applied(1, 1),), puts=(("a", b"1", b"x"), ("a", b"2", b"y"))))
    found = store.scrub(SCRUB_START, 2)
    for _slice in range(50):
        assert found.damaged == 0
        if found.following == SCRUB_START:
            return
        found = store.scrub(found.following, 2)
    pytest.fail("the scrub does not come round")


def test_an_injected_full_disk_lets_the_same_ticket_be_written_later() -> None:
    faults = [LocalFaultError("store-full", "no space"), None]
    store = MemoryLogStore(fail_commit=lambda number: faults.pop(0))
    store.stage(LogBuilder().run(1))
    ticket = store.begin_commit()
    assert ticket is not None
    with pytest.raises(LocalFaultError, match="store-full"):
        store.write(ticket)
    store.write(ticket)
    store.end_commit(ticket)
    store.lose_uncommitted()
    assert len(store.read(INCIDENT, LOG, 1, 9)) == 1


def test_an_injected_failed_sync_ends_commits_until_the_restart() -> None:
    store = MemoryLogStore(fail_commit=lambda number: LocalFaultError("store-failed", "sync") if number == 2 else None)
    log = LogBuilder()
    keep(store, log.run(1))
    store.stage(log.run(1))
    with pytest.raises(LocalFaultError, match="store-failed"):
        store.commit_all()
    with pytest.raises(LocalFaultError, match="store-failed"):
        store.stage(log.run(1))
    with pytest.raises(LocalFaultError, match="store-failed"):
        store.begin_commit()
    assert len(store.read(INCIDENT, LOG, 1, 9)) == 2
    store.lose_uncommitted()
    assert store.read(INCIDENT, LOG, 1, 9) == log.entries[:1]
    store.stage(CommitBatch(entries=(log.entries[1],)))


def test_commit_all_makes_everything_staged_durable() -> None:
    store = MemoryLogStore()
    log = LogBuilder()
    store.stage(log.run(1))
    store.begin_commit()
    store.stage(log.run(1))
    store.commit_all()
    store.lose_uncommitted()
    assert store.read(INCIDENT, LOG, 1, 9) == log.entries
