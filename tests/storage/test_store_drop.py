"""Incidents that are dropped are gone at once and deleted in slices; what one takes is known without counting."""

from __future__ import annotations

import contextlib
import os
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest
from log_builder import INCIDENT, KEY, LOG, LogBuilder, commit, crash_image, keep, name, open_store, refused, scrub_all

from meshnode.core.ids import IncidentId, KeyId, LogId
from meshnode.core.log import CommitBatch
from meshnode.errors import LocalFaultError
from meshnode.storage import schema, sqlite, sweep, writer
from meshnode.storage.catalog import FREE
from meshnode.storage.catalog import INCIDENT as MERGED
from meshnode.storage.catalog import KEY as KEY_NAME
from meshnode.storage.memory import MemoryLogStore
from meshnode.storage.rows import name_check
from meshnode.storage.sqlite import SqliteLogStore
from meshnode.storage.ticket import CommittingLogStore

OTHER = IncidentId(name("other incident", 16))


@pytest.fixture(params=["memory", "sqlite"])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[CommittingLogStore]:
    made: CommittingLogStore = MemoryLogStore() if request.param == "memory" else open_store(tmp_path / "store")
    yield made
    made.close()


def drop(*incidents: IncidentId) -> CommitBatch:
    return CommitBatch(drops=incidents)


def bytes_of(*logs: LogBuilder) -> int:
    return sum(entry.size_bytes for log in logs for entry in log.entries)


def tidy_all(store: SqliteLogStore) -> int:
    """How many calls it took."""
    calls = 0
    while store.tidy_due():
        store.tidy()
        calls += 1
    return calls


def rows_of(store: SqliteLogStore) -> list[int]:
    """Rows of every table that names positions, then names that are in use."""
    counts = [store._reader.rows(f"SELECT COUNT(*) FROM {t}")[0][0] for t in TABLES]
    return [*counts, store._reader.rows("SELECT COUNT(*) FROM name WHERE kind != ?", FREE)[0][0]]


TABLES = ("entry", "entry_by_hash", "seal", "size", "damaged")

# --- what both stores promise ---------------------------------------------------------------------------------------


def test_a_dropped_incident_is_gone_at_once_and_the_others_stay(store: CommittingLogStore) -> None:
    gone, stays = LogBuilder(), LogBuilder(OTHER)
    keep(store, gone.run(5), stays.run(3))
    store.stage(drop(INCIDENT))
    for _look in range(2):
        assert (store.incidents(), store.heads(INCIDENT), store.incident_bytes(INCIDENT)) == ([OTHER], [], 0)
        assert (store.read(INCIDENT, LOG, 1, 9), store.seals(INCIDENT, LOG, 1, 9)) == ([], [])
        assert store.find(INCIDENT, gone.entries[0].hash) is None
        assert store.read(OTHER, LOG, 1, 9) == stays.entries
        assert store.incident_bytes(OTHER) == bytes_of(stays)
        if store.begin_commit() is not None:
            store.abandon()
            assert store.read(INCIDENT, LOG, 1, 9) == gone.entries
            assert store.incident_bytes(INCIDENT) == bytes_of(gone)
            keep(store, drop(INCIDENT))


def test_what_is_still_on_its_way_to_the_disk_can_be_dropped(store: CommittingLogStore) -> None:
    log = LogBuilder()
    store.stage(log.run(2))
    ticket = store.begin_commit()
    assert ticket is not None
    store.stage(log.run(2))
    store.stage(drop(INCIDENT))
    assert (store.incidents(), store.find(INCIDENT, log.entries[0].hash)) == ([], None)
    again = LogBuilder()
    store.stage(again.run(1))
    store.write(ticket)
    store.end_commit(ticket)
    commit(store)
    assert store.read(INCIDENT, LOG, 1, 9) == again.entries
    assert store.find(INCIDENT, again.entries[0].hash) == (LOG, 1)
    assert store.incident_bytes(INCIDENT) == bytes_of(again)


def test_a_dropped_incident_may_come_again_and_be_dropped_again(store: CommittingLogStore) -> None:
    for count in (3, 5, 2):
        log = LogBuilder()
        keep(store, log.run(count))
        assert store.read(INCIDENT, LOG, 1, 9) == log.entries
        assert store.heads(INCIDENT)[0].height == count
        keep(store, drop(INCIDENT))
    assert store.incidents() == []


def test_what_the_journal_names_is_never_dropped(store: CommittingLogStore) -> None:
    log = LogBuilder()
    keep(store, log.run(2))
    assert not store.journaled(INCIDENT)
    store.stage(CommitBatch(applied=(log.applied(1, 1),)))
    for _look in range(2):
        assert store.journaled(INCIDENT)
        with pytest.raises(ValueError, match="in the journal"):
            store.stage(CommitBatch(puts=(("peers", b"a", b"never"),), drops=(INCIDENT,)))
        if store.begin_commit() is not None:
            store.abandon()
            assert not store.journaled(INCIDENT)
            keep(store, CommitBatch(applied=(log.applied(1, 1),)))
    assert (store.read(INCIDENT, LOG, 1, 9), store.get("peers", b"a")) == (log.entries, None)


def test_a_batch_that_drops_what_it_writes_is_refused_and_an_unknown_incident_is_passed_over(
    store: CommittingLogStore,
) -> None:
    log = LogBuilder()
    run = log.run(2)
    with pytest.raises(ValueError, match="dropped and written"):
        store.stage(CommitBatch(run.entries, run.seals, drops=(INCIDENT,)))
    assert store.incidents() == []
    store.stage(CommitBatch(run.entries, run.seals, drops=(OTHER, OTHER)))
    store.stage(drop(INCIDENT, INCIDENT))
    commit(store)
    assert store.incidents() == []


def test_an_incident_takes_what_its_entries_take_also_when_they_come_twice(store: CommittingLogStore) -> None:
    log, second = LogBuilder(), LogBuilder(log=LogId(name("second log", 32)))
    assert store.incident_bytes(INCIDENT) == 0
    log.grow(2, size_bytes=1_000, package=b"a package")
    keep(store, CommitBatch(tuple(log.entries), (log.seal(2),)), second.run(3))
    store.stage(CommitBatch(tuple(log.entries)))
    assert store.incident_bytes(INCIDENT) == bytes_of(log, second)
    store.stage(log.run(1))
    assert store.incident_bytes(INCIDENT) == bytes_of(log, second)


# --- deleting in slices ---------------------------------------------------------------------------------------------


def test_a_drop_is_deleted_in_slices_and_goes_on_after_a_crash_at_each(
    path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sweep, "SLICE_ROWS", 7)
    logs = [LogBuilder(log=LogId(name(f"log {number}", 32))) for number in range(3)]
    stays = LogBuilder(OTHER)
    with closing(open_store(path)) as store:
        keep(store, *(log.run(15) for log in logs), stays.run(4))
        keep(store, drop(INCIDENT))
        images = [crash_image(path, tmp_path / "0")]
        while store.tidy_due():
            store.tidy()
            images.append(crash_image(path, tmp_path / str(len(images))))
        assert rows_of(store) == [4, 4, 1, 0, 0, 3]
    assert len(images) > 45 // 7
    for image in images:
        with closing(open_store(image)) as found:
            assert found.incidents() == [OTHER]
            assert found.read(OTHER, LOG, 1, 9) == stays.entries
            again = LogBuilder(log=logs[0].log)
            keep(found, again.run(3))
            tidy_all(found)
            assert found.read(INCIDENT, again.log, 1, 9) == again.entries
            assert rows_of(found) == [7, 7, 2, 0, 0, 6]
            assert scrub_all(found) == 0


def test_a_slice_is_bounded_in_bytes_too(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sweep, "SLICE_BYTES", 10_000)
    log = LogBuilder()
    with closing(open_store(path)) as store:
        keep(store, log.run(20, size_bytes=4_000))
        keep(store, drop(INCIDENT))
        assert tidy_all(store) >= 20 * 4_000 // 15_000
        assert rows_of(store) == [0] * 6


def test_numbers_are_used_again_so_the_table_of_names_does_not_grow(path: Path) -> None:
    with closing(open_store(path)) as store:
        for round_ in range(5):
            logs = [LogBuilder(log=LogId(name(f"log {round_}.{number}", 32))) for number in range(20)]
            for number, log in enumerate(logs):
                log.key = KeyId(name(f"key {round_}.{number}", 32))
            keep(store, *(log.run(1) for log in logs))
            for log in logs:
                assert store.read(INCIDENT, log.log, 1, 9) == log.entries
            keep(store, drop(INCIDENT))
            tidy_all(store)
        # A number is free from the commit on that follows its deletion: so twice the names of one round.
        assert store._reader.rows("SELECT COUNT(*), MAX(number) FROM name")[0] == (82, 82)
    with closing(open_store(path)) as store:
        keep(store, LogBuilder(OTHER).run(2))
        assert store._reader.rows("SELECT COUNT(*), MAX(number) FROM name")[0] == (82, 82)


def test_a_number_given_back_by_an_abandoned_commit_is_given_again(path: Path) -> None:
    with closing(open_store(path)) as store:
        keep(store, LogBuilder().run(1))
        keep(store, drop(INCIDENT))
        tidy_all(store)
        store.stage(LogBuilder(OTHER).run(1))
        assert store.begin_commit() is not None
        store.stage(LogBuilder().run(1))
        store.abandon()
        log = LogBuilder(OTHER)
        keep(store, log.run(1))
        assert store._reader.rows("SELECT COUNT(*), MAX(number) FROM name")[0] == (3, 3)
        assert store.read(OTHER, LOG, 1, 9) == log.entries


def test_two_incidents_that_name_one_key_keep_it_apart(path: Path) -> None:
    here, there = LogBuilder(), LogBuilder(OTHER)
    with closing(open_store(path)) as store:
        keep(store, here.run(2), there.run(2))
        keep(store, drop(INCIDENT))
        tidy_all(store)
        assert store.read(OTHER, LOG, 1, 9) == there.entries
    with closing(open_store(path)) as store:
        assert store.read(OTHER, LOG, 1, 9) == there.entries


def test_the_file_forgets_the_names_of_what_was_dropped(path: Path) -> None:
    """The handle, the log and the key id are overwritten; what may stay in free pages is ciphertext."""
    with closing(open_store(path)) as store:
        keep(store, LogBuilder().run(300))
        store.tidy()
        assert INCIDENT in path.read_bytes()
        keep(store, drop(INCIDENT))
        tidy_all(store)
    data = path.read_bytes()
    assert not any(known in data for known in (INCIDENT, LOG, KEY))


def test_a_large_drop_is_one_small_commit(path: Path) -> None:
    with closing(open_store(path)) as store:
        log = LogBuilder()
        for _run in range(10):
            keep(store, log.run(500))
            tidy_all(store)
        before = store._writer.frames
        keep(store, drop(INCIDENT))
        assert store._writer.frames - before < 10
        assert tidy_all(store) >= 10


def test_damage_in_what_is_dropped_goes_with_it(path: Path) -> None:
    log = LogBuilder()
    with closing(open_store(path)) as store:
        keep(store, log.run(9))
    with closing(sqlite3.connect(path)) as connection, connection:
        connection.execute("UPDATE entry SET sealed = x'00' WHERE place & 255 = 5")
        connection.execute("UPDATE seal SET signature = x'00'")
    with closing(open_store(path)) as store:
        with refused("store-row-damaged"):
            store.read(INCIDENT, LOG, 1, 9)
        assert store.heads(INCIDENT) == []
        keep(store, drop(INCIDENT))
        tidy_all(store)
        assert rows_of(store) == [0, 1, 0, 0, 0, 0]  # a damaged row does not say where the search by hash has it
        again = LogBuilder()
        keep(store, again.run(4))
        assert store.find(INCIDENT, log.entries[4].hash) is None
        keep(store, again.run(5))
        assert store.read(INCIDENT, LOG, 1, 9) == again.entries
        assert store.find(INCIDENT, again.entries[4].hash) == (LOG, 5)


def test_a_full_disk_puts_deleting_off(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sweep, "SLICE_ROWS", 50)
    full = sqlite3.OperationalError("no space")
    full.sqlite_errorcode, full.sqlite_errorname = sqlite3.SQLITE_FULL, "SQLITE_FULL"
    with closing(open_store(path)) as store:
        keep(store, LogBuilder().run(200), LogBuilder(OTHER).run(1))
        keep(store, drop(INCIDENT))
        store.tidy()

        def fail(numbers: list[int], done: object) -> None:
            raise full

        with monkeypatch.context() as patch:
            patch.setattr(store._writer.sweep, "_free", fail)
            with refused("store-full"):
                tidy_all(store)
        assert store._writer._connection.execute("PRAGMA secure_delete").fetchone() == (1,)
        tidy_all(store)
        assert rows_of(store) == [1, 1, 1, 0, 0, 3]


# --- sizes ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("clean", [False, True])
def test_a_restart_adds_up_only_what_was_not_marked(
    path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, clean: bool
) -> None:
    monkeypatch.setattr(sqlite, "MARK_ENTRIES", 10)
    log, other = LogBuilder(), LogBuilder(OTHER)
    with closing(open_store(path)) as store:
        for _commit in range(9):
            keep(store, log.run(3), other.run(1))
        image = crash_image(path, tmp_path / "image")
    with closing(open_store(path if clean else image)) as store:
        assert store.incident_bytes(INCIDENT) == bytes_of(log)
        assert store.incident_bytes(OTHER) == bytes_of(other)
        assert store._catalog.unmarked_entries == (0 if clean else 36 % 12)


@pytest.mark.parametrize("change", ["bytes = bytes + 1", "seq = seq + 1", "seq = 90, bytes = 7", '"check" = NULL'])
def test_a_damaged_mark_is_not_believed(path: Path, change: str) -> None:
    log = LogBuilder()
    with closing(open_store(path)) as store:
        keep(store, log.run(9))
    with closing(sqlite3.connect(path)) as connection, connection, contextlib.suppress(sqlite3.IntegrityError):
        connection.execute(f"UPDATE size SET {change}")
    with closing(open_store(path)) as store:
        assert store.incident_bytes(INCIDENT) == bytes_of(log)


def test_a_log_that_lost_its_end_is_added_up_again(path: Path) -> None:
    log = LogBuilder()
    with closing(open_store(path)) as store:
        keep(store, log.run(9))
    with closing(sqlite3.connect(path)) as connection, connection:
        connection.execute("DELETE FROM entry WHERE place & 255 >= 5")
    with closing(open_store(path)) as store:
        assert store.incident_bytes(INCIDENT) == sum(entry.size_bytes for entry in log.entries[:4])
        keep(store, CommitBatch(tuple(log.entries[4:])))
        assert store.incident_bytes(INCIDENT) == bytes_of(log)


def test_a_store_closed_with_something_staged_does_not_mark_it(path: Path) -> None:
    log = LogBuilder()
    with closing(open_store(path)) as store:
        keep(store, log.run(2))
        store.stage(LogBuilder(OTHER).run(4))
    with closing(open_store(path)) as store:
        fresh = LogBuilder(IncidentId(name("third incident", 16)))
        keep(store, fresh.run(6))
        assert store.incident_bytes(fresh.incident) == bytes_of(fresh)
    with closing(open_store(path)) as store:
        assert store.incident_bytes(fresh.incident) == bytes_of(fresh)


def test_a_store_of_the_first_schema_is_brought_forward_and_none_of_it_is_dropped(path: Path) -> None:
    """It does not say which incidents were merged, so all count as merged. Its keys belong to no incident."""
    log = LogBuilder()
    with closing(open_store(path)) as store:
        keep(store, log.run(9))
    with closing(sqlite3.connect(path)) as connection, connection:
        connection.execute("DROP TABLE size")
        connection.execute("PRAGMA user_version = 1")
        for number, kind, parent, text in connection.execute("SELECT number, kind, parent, name FROM name").fetchall():
            kind, parent = {4: (MERGED, 0), KEY_NAME: (KEY_NAME, 0)}.get(kind, (kind, parent))
            row = (kind, parent, name_check(number, kind, parent, text), number)
            connection.execute('UPDATE name SET kind = ?, parent = ?, "check" = ? WHERE number = ?', row)
    with closing(open_store(path)) as store:
        assert store.read(INCIDENT, LOG, 1, 9) == log.entries
        assert store.incident_bytes(INCIDENT) == bytes_of(log)
        with pytest.raises(ValueError, match="in the journal"):
            store.stage(drop(INCIDENT))
        keep(store, log.run(2))
    with closing(open_store(path)) as store:
        assert store.read(INCIDENT, LOG, 1, 20) == log.entries
        assert store.incident_bytes(INCIDENT) == bytes_of(log)


def test_damage_in_the_names_of_what_was_dropped_costs_nothing_else(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sweep, "SLICE_ROWS", 3)
    stays = LogBuilder(OTHER)
    with closing(open_store(path)) as store:
        keep(store, LogBuilder().run(9), stays.run(3))
        keep(store, drop(INCIDENT))
        store.tidy()
    with closing(sqlite3.connect(path)) as connection, connection:
        connection.execute("UPDATE name SET parent = parent + 100 WHERE kind = 5")
    with closing(open_store(path)) as store:
        tidy_all(store)
        assert store.read(OTHER, LOG, 1, 9) == stays.entries
        again = LogBuilder()
        with contextlib.suppress(LocalFaultError):
            keep(store, again.run(2))
        assert store.read(INCIDENT, LOG, 1, 9) == again.entries
    assert os.path.getsize(path) % writer.PAGE_BYTES == 0
    with closing(sqlite3.connect(path)) as connection:
        assert connection.execute("PRAGMA user_version").fetchone() == (len(schema.MIGRATIONS),)
