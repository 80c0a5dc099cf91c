"""Rosters grow alike; prekeys are renewed daily; a restored or copied node notices by its own record (D10, P11, O1)."""

from __future__ import annotations

import copy
import random

import pytest
from core_support import refused
from world import START_WALL_MS, make_identity

from meshnode.core import codec, prekeys, wire
from meshnode.core.events import Channel, Now, Report, Send
from meshnode.core.identity import Identity
from meshnode.core.log import CommitBatch
from meshnode.core.outbox import Outbox
from meshnode.core.rollcall import CHECK_INTERVAL_S, PUSH_INTERVAL_S, RING_NAMESPACE, ROSTER_NAMESPACE, Rollcall
from meshnode.errors import LocalFaultError
from meshnode.storage.memory import MemoryLogStore

BE, NL, DE = (make_identity(noc, "1") for noc in ("BE", "NL", "DE"))
HOUR_S = 3600.0
DAY_S = 24 * HOUR_S


def at(seconds: float) -> Now:
    return Now(seconds, START_WALL_MS + int(seconds * 1000))


class Desk:
    """A rollcall with its store; links are numbers."""

    def __init__(self, identity: Identity, store: MemoryLogStore | None = None, now: float = 0.0) -> None:
        self.identity = identity
        self.store = store or MemoryLogStore()
        self.outbox = Outbox()
        self.rng = random.Random(identity.certificate.name + str(now))
        self.links: list[int] = []

        def put(namespace: str, key: bytes, value: bytes) -> None:
            self.store.stage(CommitBatch(puts=((namespace, key, value),)))

        self.rollcall = Rollcall(identity, self.store, self.outbox, self.rng.randbytes, put, at(now))

    def tick(self, now: float) -> list[tuple[int, wire.Message]]:
        self.rollcall.handle_deadline(self.links, at(now))
        return self.said()

    def said(self) -> list[tuple[int, wire.Message]]:
        self.reports = []
        found = []
        for effect in self.outbox.take():
            if isinstance(effect, Send):
                found.append((effect.link, wire.decode_untrusted(effect.data)))
            elif isinstance(effect, Report):
                self.reports.append(effect.code)
        return found

    def serial(self, identity: Identity | None = None) -> int:
        enrolled = self.rollcall.roster.get((identity or self.identity).device)
        return 0 if enrolled is None else enrolled.prekey.serial


def meet(one: Desk, other: Desk, now: float = 0.0) -> None:
    """Two desks whose digests differ talk until they have nothing to say. Link 1 at both ends."""
    one.rollcall.send_rows(1)
    other.rollcall.send_rows(1)
    waiting = [(other, message) for _, message in one.said()] + [(one, message) for _, message in other.said()]
    while waiting:
        desk, message = waiting.pop(0)
        match message:
            case wire.Roster():
                desk.rollcall.on_roster(1, message)
            case wire.RosterWant():
                desk.rollcall.on_roster_want(1, message)
            case wire.RosterRecords():
                desk.rollcall.on_records(1, message, [1], at(now))
        other_end = other if desk is one else one
        waiting += [(other_end, said) for link, said in desk.said() if link == 1]


def signed(identity: Identity, serial: int, seed: int = 1, bundle: bytes | None = None) -> tuple[bytes, bytes]:
    """(bundle, record) of a prekey that the device's key signed somewhere else."""
    bundle = bundle or identity.certificate.bundle
    _, record = prekeys.make_prekey(identity.device_key, bundle, serial, START_WALL_MS, random.Random(seed).randbytes)
    return bundle, record


def started(identity: Identity, now: float = 0.0) -> Desk:
    desk = Desk(identity, now=now)
    desk.tick(now)
    return desk


# --- spreading ------------------------------------------------------------------------------------------------------


def test_two_rosters_that_meet_end_alike_and_durable() -> None:
    one, other = started(BE), started(NL)
    meet(one, other)
    assert one.rollcall.roster.serials() == other.rollcall.roster.serials()
    assert len(one.rollcall.roster) == 2
    assert one.rollcall.roster.digest() == other.rollcall.roster.digest()
    again = Desk(BE, one.store)
    assert again.rollcall.roster.serials() == one.rollcall.roster.serials()
    assert again.rollcall.ring.secrets() == one.rollcall.ring.secrets()


def test_a_new_record_is_pushed_on_to_every_other_link() -> None:
    one, other = started(BE), started(NL)
    record = other.rollcall.roster.get(NL.device)
    assert record is not None
    message = wire.RosterRecords(((record.bundle, record.record),))
    one.rollcall.on_records(3, message, [1, 2, 3], at(0))
    assert one.said() == [(1, message), (2, message)]
    one.rollcall.on_records(3, message, [1, 2, 3], at(0))
    assert one.said() == []


def test_records_that_come_in_a_burst_are_passed_on_together() -> None:
    desk = started(BE)
    desk.links = [1, 2, 3]
    devices = [make_identity("NL", str(number)) for number in range(4)]
    pairs = [signed(device, 5) for device in devices]

    def bring(link: int, number: int, now: float) -> list[tuple[int, wire.Message]]:
        desk.rollcall.on_records(link, wire.RosterRecords((pairs[number],)), desk.links, at(now))
        return desk.said()

    assert bring(1, 0, 1.0) == [(link, wire.RosterRecords((pairs[0],))) for link in (2, 3)]
    assert bring(1, 1, 1.0) == []
    assert bring(2, 2, 1.0 + PUSH_INTERVAL_S / 2) == []
    assert desk.rollcall.next_deadline() == 1.0 + PUSH_INTERVAL_S
    together = wire.RosterRecords((pairs[1], pairs[2]))
    assert desk.tick(1.0 + PUSH_INTERVAL_S) == [(link, together) for link in desk.links]
    assert desk.tick(1.0 + 2 * PUSH_INTERVAL_S) == []
    assert desk.rollcall.next_deadline() == CHECK_INTERVAL_S
    assert len(bring(3, 3, 5.0)) == 2  # alone again: at once


def test_long_rosters_take_several_messages(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(wire, "LIST_MAX", 2)
    monkeypatch.setattr(wire, "ROSTER_RECORDS_MAX", 2)
    one, other = started(BE), started(NL)
    for desk in (started(DE), started(make_identity("FR", "1")), started(make_identity("AT", "1"))):
        meet(other, desk)
    other.rollcall.send_rows(1)
    parts = [message for _, message in other.said() if isinstance(message, wire.Roster)]
    assert [(len(part.rows), part.last) for part in parts] == [(2, False), (2, True)]
    for part in parts:
        one.rollcall.on_roster(1, part)
    assert [len(want.devices) for _, want in one.said() if isinstance(want, wire.RosterWant)] == [2, 2]
    meet(one, other)
    assert one.rollcall.roster.digest() == other.rollcall.roster.digest()


def test_an_empty_roster_says_so_and_who_is_unknown_is_not_answered_for() -> None:
    desk = Desk(BE)
    desk.rollcall.send_rows(1)
    assert desk.said() == [(1, wire.Roster((), True))]
    desk.rollcall.on_roster_want(1, wire.RosterWant((NL.device,)))
    assert desk.said() == []


def test_records_travel_beside_what_is_urgent() -> None:
    desk = started(BE)
    desk.rollcall.on_roster_want(1, wire.RosterWant((BE.device, NL.device)))
    effects = desk.outbox.take()
    assert [(effect.link, effect.channel) for effect in effects if isinstance(effect, Send)] == [(1, Channel.BULK)]


def test_a_forged_record_costs_its_sender_the_link_and_one_of_a_newer_version_does_not() -> None:
    desk, other = started(BE), started(NL)
    enrolled = other.rollcall.roster.get(NL.device)
    assert enrolled is not None
    forged = enrolled.record[:-1] + bytes([enrolled.record[-1] ^ 1])
    with refused("bad-signature"):
        desk.rollcall.on_records(1, wire.RosterRecords(((enrolled.bundle, forged),)), [1], at(0))
    payload = codec.encode([prekeys.FORMAT_VERSION + 1, "of a newer version"])
    newer = codec.encode([payload, NL.device_key.sign(prekeys.PREKEY_TAG, payload)])
    records = ((enrolled.bundle, newer), (enrolled.bundle, enrolled.record))
    desk.rollcall.on_records(1, wire.RosterRecords(records), [1], at(0))
    desk.said()
    assert desk.reports == ["prekey-version"]
    assert desk.serial(NL) == other.serial()


# --- the own prekey -------------------------------------------------------------------------------------------------


def test_the_first_prekey_is_made_at_start_and_the_next_after_a_day() -> None:
    desk = Desk(BE)
    desk.links = [1, 2]
    said = desk.tick(0.0)
    assert [link for link, _ in said] == [1, 2]
    first = desk.serial()
    now = 0.0
    while now < DAY_S - CHECK_INTERVAL_S:
        now = desk.rollcall.check_at
        assert desk.tick(now) == []
    assert desk.serial() == first
    now = desk.rollcall.check_at
    assert now - (DAY_S - CHECK_INTERVAL_S) <= CHECK_INTERVAL_S
    desk.tick(now + CHECK_INTERVAL_S)
    assert desk.serial() > first
    assert len(desk.rollcall.ring.secrets()) == 2


def test_between_checks_nothing_is_done() -> None:
    desk = started(BE)
    before = desk.store.get(RING_NAMESPACE, b"")
    assert desk.tick(CHECK_INTERVAL_S / 2) == []
    assert desk.store.get(RING_NAMESPACE, b"") == before


def test_a_private_part_replaced_a_fortnight_ago_is_erased_on_disk_too() -> None:
    desk = started(BE)
    first = desk.rollcall.ring.secrets()[-1]
    for hour in range(24 * 16):
        desk.tick(hour * HOUR_S)
    assert first not in desk.rollcall.ring.secrets()
    assert Desk(BE, desk.store).rollcall.ring.secrets() == desk.rollcall.ring.secrets()
    assert len(desk.rollcall.ring.secrets()) == 15


def test_secrets_are_sealed_at_rest() -> None:
    desk = started(BE)
    stored = b"".join(
        value for namespace in (RING_NAMESPACE, ROSTER_NAMESPACE) for _, value in desk.store.scan(namespace)
    )
    for secret in desk.rollcall.ring.secrets():
        assert secret.x25519_private not in stored
        assert secret.mlkem_seed not in stored
    with refused("store-secret-damaged", error=LocalFaultError):
        Desk(NL, desk.store)  # another node's store key


# --- restored and copied nodes --------------------------------------------------------------------------------------


def test_a_node_restored_from_a_backup_notices_at_peers_and_makes_a_prekey_above_all_it_ever_had() -> None:
    desk = started(BE)
    backup = copy.deepcopy(desk.store)
    peer = started(NL)
    for day in range(3):
        desk.tick(day * DAY_S + CHECK_INTERVAL_S)
    meet(desk, peer)
    known = peer.serial(BE)
    restored = Desk(BE, backup)
    assert restored.serial() < known
    meet(restored, peer, now=3 * DAY_S)
    restored.rollcall.send_rows(1)
    assert restored.outbox.counts == {"restored-or-cloned": 1}
    assert restored.serial() > known
    assert peer.serial(BE) == restored.serial()
    current = restored.rollcall.ring.current
    assert current is not None
    assert current.serial == restored.serial()


def test_a_thief_of_the_device_key_who_took_the_last_serial_does_not_stop_the_node() -> None:
    desk, thief = started(BE), Desk(BE)
    stolen = signed(BE, prekeys.SERIAL_MAX)
    desk.rollcall.on_records(1, wire.RosterRecords((stolen,)), [1], at(10))
    assert desk.outbox.counts["restored-or-cloned"] == 1
    current = desk.rollcall.ring.current
    assert current is not None
    assert current.serial == prekeys.SERIAL_MAX
    meet(desk, thief, now=20)
    assert desk.serial() == prekeys.SERIAL_MAX


def test_a_thief_who_took_the_last_serial_twice_has_won_the_roster_and_the_node_goes_on() -> None:
    """Nothing is above the last serial, and two records with lower hashes leave no room: the key must be replaced."""
    desk = started(BE)
    stolen = [signed(BE, prekeys.SERIAL_MAX, seed) for seed in range(40)]
    desk.rollcall.on_records(1, wire.RosterRecords((signed(BE, desk.serial() + 1),)), [], at(10))
    desk.rollcall.on_records(1, wire.RosterRecords(tuple(stolen)), [], at(20))
    assert list(desk.rollcall.twins) == [BE.device]
    desk.tick(2 * HOUR_S)
    assert {(held.bundle, held.record) for held in desk.rollcall.roster.records(BE.device)} <= set(stolen)
    current = desk.rollcall.ring.current
    assert current is not None
    assert current.serial == prekeys.SERIAL_MAX
    assert desk.outbox.counts.keys() == {"restored-or-cloned"}


def test_a_stored_record_that_does_not_verify_is_reported_and_left_out() -> None:
    desk = started(BE)
    desk.store.stage(CommitBatch(puts=((ROSTER_NAMESPACE, NL.device, codec.encode([[b"bundle", b"record"]])),)))
    again = Desk(BE, desk.store)
    again.said()
    assert again.reports == ["cbor-truncated"]
    assert len(again.rollcall.roster) == 1


def test_a_prekey_of_the_same_serial_that_this_node_did_not_make_is_outbid_too() -> None:
    desk, peer = started(BE), started(NL)
    meet(desk, peer)
    before = desk.serial()
    twin = signed(BE, before)
    peer.rollcall.on_records(2, wire.RosterRecords((twin,)), [], at(0))
    peer.said()
    assert peer.outbox.counts == {"device-twin": 1}
    meet(desk, peer, now=1)
    assert desk.outbox.counts == {"restored-or-cloned": 1}
    assert desk.serial() == peer.serial(BE) == before + 1
    assert (desk.rollcall.twins, peer.rollcall.twins) == ({}, {})
    assert desk.rollcall.roster.digest() == peer.rollcall.roster.digest()


def test_the_rivalry_with_a_live_copy_is_bounded_to_one_prekey_an_hour() -> None:
    desk = started(BE)
    made = len(desk.rollcall.ring.secrets())
    for second in range(50):
        rival = signed(BE, desk.serial() + 1, seed=second)
        desk.rollcall.on_records(1, wire.RosterRecords((rival,)), [1], at(10 + second))
    assert len(desk.rollcall.ring.secrets()) == made + 1
    for minute in range(10, 80, 10):
        desk.tick(minute * 60.0)
    assert len(desk.rollcall.ring.secrets()) == made + 2
    assert desk.rollcall.twins == {}


def test_a_certificate_that_was_renewed_is_published_at_the_next_start() -> None:
    desk = started(BE)
    before = desk.serial()
    renewed = make_identity("BE", "1", relay=False)
    assert renewed.device == BE.device
    again = Desk(renewed, desk.store, now=1)
    again.tick(1)
    enrolled = again.rollcall.roster.get(BE.device)
    assert enrolled is not None
    assert (enrolled.bundle, enrolled.prekey.serial) == (renewed.certificate.bundle, before + 1)
    once_more = Desk(renewed, desk.store, now=2)
    assert once_more.tick(2) == []
    assert once_more.serial() == before + 1


@pytest.mark.parametrize("lost", [RING_NAMESPACE, ROSTER_NAMESPACE])
def test_a_ring_or_a_roster_that_was_lost_leads_to_a_prekey_above_what_is_left(lost: str) -> None:
    desk = started(BE)
    before = desk.serial()
    desk.store._values[lost].clear()
    again = Desk(BE, desk.store)
    again.tick(0)
    assert again.serial() == before + 1
    assert again.outbox.counts == {}


# --- twins of other devices -----------------------------------------------------------------------------------------


def test_twins_spread_so_that_every_node_holds_and_shows_both_until_the_device_ends_them() -> None:
    one, two, three = (started(identity) for identity in (NL, DE, make_identity("FR", "1")))
    first, second = signed(BE, 7, seed=1), signed(BE, 7, seed=2)
    one.rollcall.on_records(9, wire.RosterRecords((first,)), [], at(0))
    two.rollcall.on_records(9, wire.RosterRecords((second,)), [], at(0))
    for pair in ((one, two), (two, three)):
        meet(*pair, now=5)
    for desk in (one, two, three):
        assert desk.outbox.counts == {"device-twin": 1}
        assert desk.rollcall.twins == {BE.device: at(5).wall_ms}
        assert {held.record for held in desk.rollcall.roster.records(BE.device)} == {first[1], second[1]}
    meet(one, two, now=6)
    assert one.outbox.counts == {"device-twin": 1}
    again = Desk(NL, one.store, now=7)
    assert again.rollcall.twins == {BE.device: at(7).wall_ms}
    assert again.outbox.counts == {"device-twin": 1}
    again.rollcall.on_records(9, wire.RosterRecords((signed(BE, 8),)), [], at(8))
    assert again.rollcall.twins == {}


def test_of_a_device_that_makes_twins_for_ever_is_told_once_an_hour() -> None:
    desk = started(NL)
    for serial in range(1, 40):
        pair = (signed(BE, serial, seed=1), signed(BE, serial, seed=2))
        desk.rollcall.on_records(1, wire.RosterRecords(pair), [], at(serial))
    assert desk.outbox.counts == {"device-twin": 1}
    pair = (signed(BE, 41, seed=1), signed(BE, 41, seed=2))
    desk.rollcall.on_records(1, wire.RosterRecords(pair), [], at(HOUR_S + 2))
    assert desk.outbox.counts == {"device-twin": 2}


def test_twins_that_are_wanted_take_as_many_messages_as_they_need(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(wire, "ROSTER_RECORDS_MAX", 2)
    desk = started(NL)
    desk.rollcall.on_records(1, wire.RosterRecords((signed(BE, 7, 1), signed(BE, 7, 2))), [], at(0))
    desk.said()
    desk.rollcall.on_roster_want(1, wire.RosterWant((BE.device, NL.device)))
    assert [len(message.records) for _, message in desk.said() if isinstance(message, wire.RosterRecords)] == [2, 1]


def test_a_device_shown_under_another_noc_costs_the_peer_its_link() -> None:
    desk, other = started(DE), started(BE)
    enrolled = other.rollcall.roster.get(BE.device)
    assert enrolled is not None
    with refused("prekey-other-certificate"):
        desk.rollcall.on_records(1, wire.RosterRecords(((NL.certificate.bundle, enrolled.record),)), [1], at(0))
