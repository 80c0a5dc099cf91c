"""One incident fed entry by entry: any order of arrival gives one state; what cannot be merged yet waits."""

from __future__ import annotations

import pytest
from core_support import refused, search
from hypothesis import given
from hypothesis import strategies as st
from replica_feed import Record, RottenStore
from world import Host, World, full_mesh

from meshnode.core import codec, epochs
from meshnode.core.ids import LogId
from meshnode.core.log import CommitBatch
from meshnode.errors import LocalFaultError, UntrustedInputError


@pytest.fixture(scope="module")
def record() -> Record:
    return Record()


def whole_digest(record: Record) -> bytes:
    feed = record.fresh()
    for log, entries in record.logs.items():
        feed.feed(log, len(entries))
    assert len(feed.merged) == sum(map(len, record.logs.values()))
    return feed.digest()


RECORD = Record()


@given(st.data())
@search(40)
def test_any_order_of_arrival_in_runs_of_any_length_ends_in_the_same_state(data: st.DataObject) -> None:
    feed = RECORD.fresh()
    while left := [log for log, entries in RECORD.logs.items() if feed.heights.get(log, 0) < len(entries)]:
        feed.feed(data.draw(st.sampled_from(left)), data.draw(st.integers(1, 5)))
    assert feed.digest() == whole_digest(RECORD) == RECORD.be.reading.digest(RECORD.incident)
    assert feed.replica.graph.frontier() == RECORD.replica.graph.frontier()
    assert feed.replica.timeline() == RECORD.replica.timeline()
    assert {member.device for member in feed.replica.group.members()} == {
        member.device for member in RECORD.replica.group.members()
    }
    # Each entry was merged once, after everything it follows from.
    seen: dict[LogId, int] = {}
    for log, seq in feed.merged:
        assert seq == seen.get(log, 0) + 1
        seen[log] = seq
    assert feed.replica.waiting_entries() == 0
    assert feed.replica.troubles == []


def test_without_keys_nothing_is_merged_and_the_newest_package_opens_the_whole_record(record: Record) -> None:
    """DE was added last: its package gives the newest key, whose epoch gives the one before."""
    feed = record.fresh(keys=False)
    secrets = record.de.node.rollcall.ring.secrets()
    learned = []
    for log, entries in sorted(record.logs.items(), reverse=True):
        for entry in entries:
            feed.store.stage(CommitBatch((entry,)))
            if entry.package is not None:
                feed.replica.note_package(entry.key_id, (log, entry.seq))
                learned.append(feed.replica.discover(entry, secrets))
            else:
                assert feed.replica.discover(entry, secrets) is False
    assert True in learned
    assert feed.replica.keys == record.replica.keys
    assert set(feed.replica.packages) == set(record.replica.packages)


def test_a_package_for_others_teaches_nothing(record: Record) -> None:
    feed = record.fresh(keys=False)
    first = next(entry for entries in record.logs.values() for entry in entries if entry.package is not None)
    assert feed.replica.discover(first, ()) is False
    assert feed.replica.keys == {}


def test_keys_that_come_late_set_free_what_waited_a_bounded_piece_at_a_time(record: Record) -> None:
    feed = record.fresh(keys=False)
    for log, entries in record.logs.items():
        feed.feed(log, len(entries))
    assert feed.merged == []
    assert feed.replica.waiting_entries() == sum(map(len, record.logs.values()))
    for key_id, key in record.replica.keys.items():
        feed.replica.learn_key(key_id, key)
    feed.replica.look_for_stored()
    pieces = []
    while feed.replica.ready:
        pieces.append(feed.replica.merge_ready(2))
        assert len(pieces[-1]) <= 2
    assert feed.digest() == whole_digest(record)
    assert len(pieces) > 3


def test_positions_of_packages_are_remembered_every_one_and_once(record: Record) -> None:
    feed = record.fresh()
    key_id = next(iter(record.replica.keys))
    positions = [(LogId(bytes(32)), seq) for seq in range(100)]
    for position in positions + positions:
        feed.replica.note_package(key_id, position)
    assert feed.replica.packages == [(key_id, position) for position in positions]


# --- what waits -----------------------------------------------------------------------------------------------------


def test_a_log_waits_for_a_parent_and_others_go_on() -> None:
    world = World(4)
    be, nl, de = full_mesh(world, "BE", "NL", "DE")
    incident = world.open(be, share=("NL", "DE"))
    world.run(2.0)
    world.cut.add(frozenset(("NL", "DE")))
    missing: list[tuple[Host, Host, bytes]] = []

    def hold_back(sender: Host, receiver: Host, data: bytes) -> list[bytes]:
        if receiver is de and data[1] == 5 and sender is be and not missing:
            missing.append((sender, receiver, data))
            return []
        return [data]

    world.filter = hold_back
    world.log(be, incident, "held back")
    world.run(0.1)
    world.cut.clear()
    world.log(nl, incident, "follows it")
    world.run(0.1)
    replica = de.node.incidents.replicas[incident]
    assert missing
    assert replica.waiting_entries() == 1
    world.log(de, incident, "goes on meanwhile")
    world.run(15.0)
    assert replica.waiting_entries() == 0
    assert len({host.reading.digest(incident) for host in (be, nl, de)}) == 1


# --- damaged rows ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("nth", range(4))
def test_a_damaged_row_is_waited_for_wherever_it_is_met(record: Record, nth: int) -> None:
    """As a stored entry to merge, and as a parent that is looked up; once it is back all is as if nothing was."""
    store = RottenStore()
    feed = record.fresh(keys=False, store=store)
    logs = sorted(record.logs, key=lambda log: -len(record.logs[log]))
    lost = (logs[nth % 2], 1 + nth)
    for log in logs:
        feed.feed(log, 100)
    store.rotten.add(lost)
    for key_id, key in record.replica.keys.items():
        feed.replica.learn_key(key_id, key)
    feed.replica.look_for_stored()
    feed.go_on()
    assert feed.replica.waiting_entries() > 0
    assert feed.replica.troubles == []
    store.rotten.clear()
    feed.merged += feed.replica.merge(record.logs[lost[0]][lost[1] - 1 :])  # as after the repair
    feed.go_on()
    assert feed.digest() == whole_digest(record)


def test_a_parent_that_cannot_be_looked_up_is_waited_for(record: Record) -> None:
    store = RottenStore()
    feed = record.fresh(store=store)
    opened = next(log for log, entries in record.logs.items() if entries[0].package is not None)
    feed.feed(opened, 2)
    store.rotten.add((opened, 1))
    store.rotten.add((opened, 2))
    others = [log for log in record.logs if log != opened]
    for log in others:
        feed.feed(log, 1)
    assert [position[0] for position in feed.merged] == [opened, opened]
    store.rotten.clear()
    feed.merged += feed.replica.merge(record.logs[opened][:2])  # as after the repair
    feed.feed(opened, 100)
    for log in others:
        feed.feed(log, 100)
    assert feed.digest() == whole_digest(record)


def test_a_log_that_waits_for_a_key_goes_on_waiting_for_it_when_its_row_is_found_damaged(record: Record) -> None:
    store = RottenStore()
    feed = record.fresh(keys=False, store=store)
    log = next(iter(record.logs))
    feed.feed(log, 1)
    waiting = feed.replica._log(log).waiting
    assert waiting is not None
    assert waiting.key_id is not None
    store.rotten.add((log, 1))
    assert feed.replica._read(log, 1, 1) == []  # as when its package is looked up
    assert feed.replica._log(log).waiting is waiting


def test_a_hash_is_found_in_the_row_or_in_the_one_behind_it(record: Record) -> None:
    store = RottenStore()
    feed = record.fresh(store=store)
    for log in record.logs:
        feed.feed(log, 100)
    log, entries = max(record.logs.items(), key=lambda item: len(item[1]))
    last = len(entries)
    for seq in range(1, last + 1):
        assert feed.replica.hash_at(log, seq) == entries[seq - 1].hash
    store.rotten |= {(log, 1), (log, last)}
    assert feed.replica.hash_at(log, 1) == entries[0].hash
    for _ in range(2):
        with refused("store-row-damaged", error=LocalFaultError):
            feed.replica.hash_at(log, last)
        with refused("store-row-damaged", error=LocalFaultError):
            feed.replica.read_content(log, last)


def test_parents_lead_to_what_must_be_in_the_past_or_do_not(record: Record) -> None:
    replica, own = record.replica, LogId(b"o" * 32)
    key_id = replica.group.write_key()
    assert key_id is not None
    frontier = replica.graph.frontier()
    assert replica.parents_for(own, key_id, starts_epoch=False)[0] == replica.group.epoch_starts(key_id)[0]
    for starts_epoch in (False, True):
        assert replica.is_past_whole(own, key_id, starts_epoch, frontier)
        assert not replica.is_past_whole(own, key_id, starts_epoch, [])
    written = next(log for log, _ in replica.merged_heads() if replica._logs[log].key_id == key_id)
    assert replica.is_past_whole(written, key_id, False, [])  # it used the key before


# --- small things ---------------------------------------------------------------------------------------------------


def test_an_entry_is_applied_after_its_opening_or_not_at_all(record: Record) -> None:
    feed = record.fresh()
    entry = next(iter(record.logs.values()))[0]
    with pytest.raises(ValueError, match="after its opening"):
        feed.replica.apply(entry, record.replica.read_content(entry.log, entry.seq), [], [], None)


def test_a_replay_takes_what_follows_and_nothing_else(record: Record) -> None:
    feed = record.fresh()
    log, entries = max(record.logs.items(), key=lambda item: len(item[1]))
    feed.store.stage(CommitBatch(tuple(entries)))
    feed.replica.replay(entries[1:])
    assert feed.replica.merged == 0
    feed.replica.replay(entries[:1])
    feed.replica.replay(entries[:1])
    assert feed.replica.merged <= 1
    assert feed.replica.graph.height(log) == feed.replica.merged


def test_a_snapshot_holds_no_key_and_comes_back_whole(record: Record) -> None:
    data = codec.encode(record.replica.snapshot())
    for key in record.replica.keys.values():
        assert key not in data
    feed = record.fresh()
    for log, entries in record.logs.items():
        feed.store.stage(CommitBatch(tuple(entries)))
        feed.heights[log] = len(entries)
    assert feed.replica.restore(codec.decode_trusted(data))
    assert feed.digest() == whole_digest(record)
    assert feed.replica.timeline() == record.replica.timeline()
    assert feed.replica.merged_heads() == record.replica.merged_heads()


def test_a_body_that_breaks_the_chain_of_keys_is_told_once_and_the_key_it_is_under_is_kept(
    record: Record, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(_data: object) -> object:
        raise UntrustedInputError("body-malformed", "bent")

    monkeypatch.setattr(epochs, "epoch_body_untrusted", broken)
    feed = record.fresh(keys=False)
    secrets = record.de.node.rollcall.ring.secrets()
    packages = [entry for entries in record.logs.values() for entry in entries if entry.package is not None]
    learned = [feed.replica.discover(entry, secrets) for entry in packages]
    assert learned.count(True) == 1
    assert len(feed.replica.keys) == 1
    assert [trouble.code for trouble in feed.replica.troubles] == ["body-malformed"]
