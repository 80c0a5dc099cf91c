"""Who is no member has no place in the record: its logs are broken from their first entry on, and hold up nobody."""

from __future__ import annotations

import random

import group_record
import pytest
from core_support import search
from forger import Forger
from group_record import NONCE, A, B, X, lines
from hostile_mesh import Mesh
from hypothesis import given
from hypothesis import strategies as st
from node_stories import log_texts
from replica_feed import Feed, Record
from world import Host, World, full_mesh

from meshnode.core import epochs
from meshnode.core.acts import Role, add_act, create_act
from meshnode.core.causal import Position
from meshnode.core.custody import RelaySettings
from meshnode.core.ids import EntryHash, IncidentId, KeyId, LogId
from meshnode.core.keys import SigningKey
from meshnode.core.log import Entry
from meshnode.core.replica import Replica, Writer
from meshnode.core.reseal import AskFor, SealAgain

RECORD = Record()


class Stranger(Forger):
    """One log of an enrolled device that is no member and was given no key. It knows the handle and the roster."""

    def __init__(self, world: World, host: Host, incident: IncidentId, name: str) -> None:
        self.world, self.host, self.incident, self.identity = world, host, incident, host.identity
        self.wall_ms = lambda: world.time_of(0).wall_ms
        self.key = SigningKey(random.Random(name).randbytes(32))
        self.log = LogId(self.key.public)
        self.entries: list[Entry] = []
        self.made_up = random.Random(f"key of {name}").randbytes(32)

    def heads(self) -> tuple[EntryHash, ...]:
        return ()

    def lure(self, *victims: Host) -> Entry:
        """A made-up key, sealed to these."""
        enrolled = [self.host.node.rollcall.roster.get(victim.identity.device) for victim in victims]
        prekeys = [one.prekey for one in enrolled if one is not None]
        package = epochs.make_package(prekeys, self.made_up, self.incident, self.world.rng.randbytes)
        content = self.content(epoch=epochs.EpochBody.make(prekeys, ()).to_plain())
        entry = self.write(content, package=package, key_id=epochs.key_id(self.made_up), epoch_key=self.made_up)
        self.hand(self.run(), *victims)
        return entry

    def follow(self, epoch_key: bytes, *parents: EntryHash) -> Entry:
        """A first entry under a key that the victim was made to know."""
        content = self.content(parents=parents)
        return self.write(content, key_id=epochs.key_id(epoch_key), epoch_key=epoch_key)


def replica(host: Host, incident: IncidentId) -> Replica:
    return host.node.incidents.replicas[incident]


# --- what strangers cannot do any more ------------------------------------------------------------------------------


def test_keys_that_a_stranger_makes_up_delay_nothing_that_a_member_writes_and_make_it_write_nothing() -> None:
    world = World(7)
    be, de, nl, xx = full_mesh(world, "BE", "DE", "NL", "XX")
    incident = world.open(be, share=("DE", "NL"))
    world.run(5.0)
    merged = replica(be, incident).merged
    for number in range(20):
        Stranger(world, xx, incident, f"lure {number}").lure(be)
        world.run(0.5)
        world.log(be, incident, f"BE {number}")
        world.run(1.0)
        assert f"BE {number}" in log_texts(de, incident)
    world.run(130.0)  # twice the time after which a node may repair an epoch
    assert "log-of-stranger" in be.codes
    for host in (be, de, nl):
        assert replica(host, incident).merged == merged + 20  # nobody was made to write an epoch, or to ask
        assert {code for _, code in replica(host, incident).broken_logs()} <= {"log-of-stranger"}


def test_a_member_behind_a_hub_reads_on_though_there_is_no_room_for_what_strangers_wrote() -> None:
    room = RelaySettings(enabled=False, incident_bytes_max=450_000, total_bytes_max=900_000)
    world = World(6)
    world.add("EU")
    be, de = (world.add(noc, relay=room, peers=("EU:1",)) for noc in ("BE", "DE"))
    strangers = [world.add(f"X{letter}", relay=False, peers=("BE:1", "EU:1")) for letter in "ABCD"]
    world.run(5.0)
    incident = world.open(be, share=("DE",))
    world.run(5.0)
    for number, host in enumerate(strangers):
        for part in range(2):
            Stranger(world, host, incident, f"{number} {part}").lure(be)
    world.run(1.0)
    for number in range(4):
        world.log(be, incident, f"urgent {number}")
        world.run(2.0)
    assert len(replica(be, incident).broken_logs()) > 2
    for log, _ in replica(be, incident).broken_logs():
        assert not be.node.custody.vouches_for(incident, log)  # charged to who brought it, and passed on as such
    assert log_texts(de, incident) == [f"urgent {number}" for number in range(4)]


def test_logs_that_wait_cost_nothing_when_something_else_is_merged(monkeypatch: pytest.MonkeyPatch) -> None:
    world = World(9)
    be, de, xx = full_mesh(world, "BE", "DE", "XX")
    incident = world.open(be, share=("DE",))
    world.run(5.0)
    lure = Stranger(world, xx, incident, "lure")
    lure.lure(be)
    world.run(1.0)
    never = EntryHash(bytes(32))
    for number in range(50):
        waiting = Stranger(world, xx, incident, f"waits {number}")
        waiting.follow(lure.made_up, never)
        waiting.hand(waiting.run(), be)
        world.run(0.02)
    held = replica(be, incident)
    assert sum(log.waiting is not None for log in held._logs.values()) == 50
    looked: list[EntryHash] = []
    find = held._store.find

    def counted(of: IncidentId, parent: EntryHash) -> Position | None:
        looked.append(parent)
        return find(of, parent)

    monkeypatch.setattr(held._store, "find", counted)
    world.log(de, incident, "goes on")
    world.run(1.0)
    assert "goes on" in log_texts(be, incident)
    assert len(looked) < 5
    assert never not in looked


# --- the rule -------------------------------------------------------------------------------------------------------


def test_a_log_of_a_device_that_is_added_later_stays_broken_and_a_later_log_of_it_counts() -> None:
    """No honest node writes before it has merged what makes it a member."""
    mesh = Mesh()
    fr = mesh.world.add("FR", peers=("BE:1",))
    mesh.world.run(5.0)
    early = Forger(mesh.world, mesh.nl, mesh.incident, "early")
    opening = early.opening(fr.identity)
    early.write(early.content(opening=opening))
    early.hand(early.run(), *mesh.honest)
    mesh.world.run(5.0)
    mesh.world.share(mesh.be, mesh.incident, "FR")
    mesh.world.run(20.0)
    early.say("too early")
    early.hand(early.run(early.entries[1:]), *mesh.honest)
    mesh.world.log(fr, mesh.incident, "in time")
    mesh.world.run(20.0)
    for host in (*mesh.everybody, fr):
        assert mesh.broken(host) == [(early.log, "log-of-stranger")]
        assert "in time" in log_texts(host, mesh.incident)
        assert "too early" not in log_texts(host, mesh.incident)
    mesh.check_serving()


def test_only_its_creation_opens_a_log_with_nothing_before_it() -> None:
    record = group_record.Record()
    first = record.create(B)
    group, _ = record.group()
    creation = create_act(NONCE, lines((A, Role.MANAGER)))
    position = (LogId(b"n" * 32), 1)
    assert group.may_open(A, position, (), ["no act", creation])  # a copy of the creator that had not seen the first
    assert not group.may_open(B, position, (), [creation])
    assert not group.may_open(A, position, (), [add_act(lines((A, Role.MANAGER)))])
    assert not group.may_open(A, position, (), [])
    assert [group.may_open(one, position, (first,), []) for one in (A, B, X)] == [True, True, False]
    assert [group.added(one, ()) for one in (B, X)] == [(first,), ()]
    assert group.added(B, (first,)) == ()


def _with_a_stranger() -> tuple[dict[LogId, list[Entry]], LogId]:
    """The logs of the record, and one by somebody who is no member and was given the newest key."""
    forger = Forger(RECORD.world, RECORD.be, RECORD.incident, "one that was given the key")
    outsider = RECORD.world.add("XX")
    forger.write(forger.content(opening=forger.opening(outsider.identity)))
    forger.say("not in this group")
    return {**RECORD.logs, forger.log: forger.entries}, forger.log


LOGS, OF_STRANGER = _with_a_stranger()


@given(st.data())
@search(30)
def test_in_any_order_of_arrival_the_log_of_a_stranger_is_broken_and_all_else_is_merged(data: st.DataObject) -> None:
    fresh = RECORD.fresh()
    feed = Feed(RECORD.incident, fresh.network_root, RECORD.replica.keys, LOGS, fresh.store)
    while left := [log for log, entries in LOGS.items() if feed.heights.get(log, 0) < len(entries)]:
        feed.feed(data.draw(st.sampled_from(left)), data.draw(st.integers(1, 5)))
    assert feed.replica.broken_logs() == [(OF_STRANGER, "log-of-stranger")]
    assert feed.replica.waiting_entries() == 0
    assert feed.digest() == RECORD.be.reading.digest(RECORD.incident)
    assert feed.replica.graph.frontier() == RECORD.replica.graph.frontier()
    assert feed.replica.writer(OF_STRANGER) is None
    feed.restart()
    assert feed.replica.broken_logs() == [(OF_STRANGER, "log-of-stranger")]
    assert feed.digest() == RECORD.be.reading.digest(RECORD.incident)


# --- what honest nodes write ----------------------------------------------------------------------------------------


def _keys_by_age(held: Replica) -> tuple[KeyId, KeyId]:
    """The key of before DE was added, and that of now."""
    now = held.group.write_key()
    assert now is not None
    (start,) = held.group.epoch_starts(now)
    first = next(key for key in held.keys if key != now and held.graph.covers(start, held.group.epoch_starts(key)[0]))
    return first, now


@pytest.mark.parametrize("restored", [False, True])
def test_the_first_entry_of_a_log_leads_to_what_made_its_author_a_member(restored: bool) -> None:
    feed = RECORD.fresh()
    for log in RECORD.logs:
        feed.feed(log, 100)
    if restored:
        feed.restart()
    held, own = feed.replica, LogId(b"o" * 32)
    device = RECORD.de.identity.device
    old, now = _keys_by_age(held)
    grant = held.group.added(device, ())
    assert len(grant) == 1
    assert held.group.may_open(device, (own, 1), grant, [])
    start = held.group.epoch_starts(old)
    assert not held.group.may_open(device, (own, 1), start, [])
    held.open_own_log(own, Writer(device, "DE", "DE"), b"bundle")
    assert held.parents_for(own, old, starts_epoch=False)[:2] == [*grant, *start]
    assert not held.is_past_whole(own, old, False, start)
    assert held.is_past_whole(own, old, False, [*grant, *start])
    # The epoch that was made when it was added leads there.
    assert held.parents_for(own, now, starts_epoch=False)[0] == held.group.epoch_starts(now)[0]
    assert held.group.added(device, held.group.epoch_starts(now)) == ()
    assert held.parents_for(own, now, starts_epoch=True)[: len(held.group.heads())] == list(held.group.heads())


def test_a_member_that_writes_its_first_entry_with_more_heads_than_fit_is_read_by_all() -> None:
    mesh = Mesh(4)
    for number in range(40):
        forger = Forger(mesh.world, mesh.nl, mesh.incident, f"head {number}")
        first = mesh.forger.replica.group.epoch_starts(forger.key_id)[0]
        forger.write(forger.content(parents=(mesh.forger.replica.hash_at(*first),)))
        forger.hand(forger.run(), mesh.be, mesh.de)
        mesh.world.run(0.1)
    mesh.world.crash(mesh.de)
    mesh.world.restart(mesh.de)
    assert len(replica(mesh.de, mesh.incident).graph.frontier()) > 16
    mesh.world.log(mesh.de, mesh.incident, "the first in a new log")
    mesh.world.run(20.0)
    for host in mesh.everybody:
        assert "the first in a new log" in log_texts(host, mesh.incident)
        assert mesh.broken(host) == []


def test_who_has_a_key_and_has_not_merged_that_it_is_a_member_writes_nothing() -> None:
    """Its log would be broken for good: it would have begun before it was added."""
    mesh = Mesh(5)
    de = replica(mesh.de, mesh.incident)
    before = de.merged
    key_id = de.group.write_key()
    assert key_id is not None
    de.group.is_member = lambda device: False  # type: ignore[method-assign] - what made it one is on its way
    for due in (AskFor(mesh.incident, 1, (key_id,)), SealAgain(mesh.incident, mesh.be.identity.device, ())):
        mesh.de.node.incidents._get_back_in(due, mesh.world.time_of(0))
    assert de.merged == before
