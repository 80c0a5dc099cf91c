"""Configured peers are dialled for ever; of two links to one peer one stays; what strangers say is bounded."""

from __future__ import annotations

import itertools
import random
from dataclasses import replace

import pytest
from core_support import search
from hypothesis import given
from hypothesis import strategies as st

from meshnode.core.events import LinkUp, PeerIdentity
from meshnode.core.ids import DeviceId
from meshnode.core.peers import (
    DIALS_AT_ONCE_MAX,
    FORGET_AFTER_S,
    FORGET_FOUND_AFTER_S,
    LEARNED_MAX,
    LEARNED_PER_DEVICE_MAX,
    LEARNED_PER_TELLER_MAX,
    ConfiguredPeer,
    DialSettings,
    Peers,
    is_refusal,
)

ME, LOW, HIGH = DeviceId(b"M" * 32), DeviceId(b"A" * 32), DeviceId(b"Z" * 32)
THIRD = DeviceId(b"T" * 32)
LOW_AT, HIGH_AT = "low.example:4433", "high.example:4433"


def identity(device: DeviceId, noc: str = "NL") -> PeerIdentity:
    return PeerIdentity(device, noc, "1", True, b"bundle")


def link_up(link: int, device: DeviceId = LOW, address: str = LOW_AT, dialed: bool = True, noc: str = "NL") -> LinkUp:
    return LinkUp(link, identity(device, noc), address, dialed)


def make(*peers: ConfiguredPeer, settings: DialSettings | None = None, me: DeviceId = ME) -> Peers:
    return Peers(me, peers, settings or DialSettings(), random.Random(1))


# --- dialling -------------------------------------------------------------------------------------------------------


def test_configured_addresses_are_dialled_at_once_and_counted_as_under_way() -> None:
    peers = make(ConfiguredPeer((LOW_AT,)), ConfiguredPeer((HIGH_AT,)))
    assert peers.next_deadline() == 0.0
    assert peers.due_dials(0.0) == [LOW_AT, HIGH_AT]
    assert peers.due_dials(100.0) == []
    assert peers.next_deadline() is None


def test_a_configured_peer_is_dialled_for_ever_with_a_back_off_that_doubles_to_a_minute_and_is_jittered() -> None:
    peers = make(ConfiguredPeer((LOW_AT,)))
    now, waits = 0.0, []
    for _ in range(3_000):  # two days
        assert peers.due_dials(now) == [LOW_AT]
        peers.on_dial_failed(LOW_AT, "connect-timeout", now)
        due = peers.next_deadline()
        assert due is not None
        assert peers.due_dials(due - 0.001) == []
        waits.append(due - now)
        now = due
    assert now > FORGET_AFTER_S
    for number, base in enumerate([1, 2, 4, 8, 16, 32, 60, 60]):
        assert base / 2 <= waits[number] <= base
    assert 30 <= min(waits[10:]) < 32
    assert 58 < max(waits[10:]) <= 60
    (unreached,) = peers.unreached()
    assert (unreached.configured.addresses, unreached.last_code) == ((LOW_AT,), "connect-timeout")


def test_the_back_off_is_a_setting() -> None:
    peers = make(ConfiguredPeer((LOW_AT,)), settings=DialSettings(0.5, 3.0))
    waits = []
    for now in range(0, 1000, 100):
        peers.due_dials(now)
        peers.on_dial_failed(LOW_AT, "refused", now)
        waits.append((peers.next_deadline() or 0) - now)
    assert 0.25 <= waits[0] <= 0.5
    assert max(waits) <= 3.0


def test_success_starts_the_back_off_anew_and_a_lost_link_is_dialled_again_within_it() -> None:
    peers = make(ConfiguredPeer((LOW_AT,)))
    for now in (0.0, 100.0, 200.0):
        peers.due_dials(now)
        peers.on_dial_failed(LOW_AT, "refused", now)
    peers.due_dials(300.0)
    assert peers.on_link_up(link_up(1), 300.0, 300_000) is None
    assert (peers.due_dials(10_000.0), peers.next_deadline()) == ([], None)
    assert peers.unreached() == []
    peers.on_heard(1)
    lost = peers.on_link_down(1, "closed", 400.0, 400_000)
    assert lost is not None
    assert (lost.link, lost.since, lost.since_wall_ms) == (None, 400.0, 400_000)
    due = peers.next_deadline()
    assert due is not None
    assert 400.5 <= due <= 401.0
    assert peers.due_dials(due) == [LOW_AT]
    peers.on_dial_failed(LOW_AT, "refused", due)
    assert (peers.next_deadline() or 0) - due <= 1.0


def test_only_so_many_dials_are_under_way_at_once() -> None:
    peers = make(*(ConfiguredPeer((f"n{number}:1",)) for number in range(DIALS_AT_ONCE_MAX + 5)))
    first = peers.due_dials(0.0)
    assert len(first) == DIALS_AT_ONCE_MAX
    assert peers.due_dials(0.0) == []
    assert peers.next_deadline() is None  # nobody is to wake up for what cannot be dialled yet
    peers.on_dial_failed(first[0], "refused", 0.0)
    assert peers.next_deadline() == 0.0
    (next_one,) = peers.due_dials(0.0)
    assert next_one not in first


def test_many_dead_addresses_do_not_hold_a_living_one_up_and_configured_ones_come_first() -> None:
    """The dead ones are always due again before all of them were tried."""
    peers = make(ConfiguredPeer((HIGH_AT,)))
    peers.on_link_up(link_up(1, HIGH, HIGH_AT), 0.0, 0)
    for number in range(LEARNED_PER_TELLER_MAX):
        peers.learn(f"dead{number}:1", DeviceId(number.to_bytes(32, "big")), HIGH, 0.0)
    peers.learn(LOW_AT, LOW, THIRD, 1.0)
    tried: list[str] = []
    for round_trip in range(2 * LEARNED_PER_TELLER_MAX // DIALS_AT_ONCE_MAX):
        now = round_trip * 5.0
        if round_trip == 3:
            peers.on_link_down(1, "closed", now - 1.0, 0)
        dialled = peers.due_dials(now)
        assert round_trip != 3 or dialled[0] == HIGH_AT
        tried += dialled
        for address in dialled:
            peers.on_dial_failed(address, "connect-timeout", now + 4.0)
    assert LOW_AT in tried


def test_a_failure_of_an_address_nobody_knows_changes_nothing() -> None:
    peers = make()
    peers.on_dial_failed("nobody:1", "refused", 0.0)
    assert (peers.next_deadline(), peers.addresses_of(LOW)) == (None, [])


# --- pins -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("configured", "fits"),
    [
        (ConfiguredPeer((LOW_AT,)), True),
        (ConfiguredPeer((LOW_AT,), noc="NL"), True),
        (ConfiguredPeer((LOW_AT,), noc="DE"), False),
        (ConfiguredPeer((LOW_AT,), device=LOW), True),
        (ConfiguredPeer((LOW_AT,), device=HIGH), False),
        (ConfiguredPeer((LOW_AT,), noc="NL", device=HIGH), False),
        (ConfiguredPeer((HIGH_AT,), device=HIGH), True),  # another address: nothing is configured for this one
    ],
)
def test_who_answers_at_a_configured_address_must_be_whom_it_is_configured_for(
    configured: ConfiguredPeer, fits: bool
) -> None:
    peers = make(configured)
    assert peers.is_as_configured(link_up(1)) is fits
    assert peers.is_as_configured(link_up(1, dialed=False))


# --- two links to one peer ------------------------------------------------------------------------------------------


class Pair:
    """Two nodes and the links between them; what one closes goes down at the other in time."""

    def __init__(self) -> None:
        self.ends = {LOW: make(me=LOW), HIGH: make(me=HIGH)}
        self.open: dict[int, DeviceId] = {}
        """Link -> who dialled it."""
        self.closed: set[int] = set()

    def up(self, me: DeviceId, link: int, dialer: DeviceId) -> None:
        if link in self.closed:
            return
        self.open[link] = dialer
        other = HIGH if me == LOW else LOW
        event = link_up(link, other, f"{other[:1].decode()}:1", dialed=dialer == me)
        if self.ends[me].must_wait(event):
            older = self.ends[me].wait(event)
            if older is not None:
                self.close(older)
        else:
            self.take(me, event)
        self.say(link)

    def say(self, link: int) -> None:
        """What the dialler says as soon as it has taken the link arrives."""
        dialer = self.open.get(link)
        if dialer is not None and link in self.ends[dialer].by_link:
            other = HIGH if dialer == LOW else LOW
            waited = self.ends[other].waited(link)
            if waited is not None:
                self.take(other, waited)

    def take(self, me: DeviceId, event: LinkUp) -> None:
        unwanted = self.ends[me].on_link_up(event, 0.0, 0)
        if unwanted is not None:
            self.close(unwanted)

    def close(self, link: int) -> None:
        del self.open[link]
        self.closed.add(link)
        for end in self.ends.values():
            end.on_link_down(link, "closed", 0.0, 0)


@pytest.mark.parametrize("order", list(itertools.permutations([(LOW, 1), (LOW, 2), (HIGH, 1), (HIGH, 2)])))
def test_two_nodes_that_dial_each_other_keep_the_link_that_the_lower_one_dialled(
    order: tuple[tuple[DeviceId, int], ...],
) -> None:
    pair = Pair()
    dialers = {1: LOW, 2: HIGH}
    for me, link in order:
        pair.up(me, link, dialers[link])
    kept = {me: end.known[LOW if me == HIGH else HIGH].link for me, end in pair.ends.items()}
    assert kept == {LOW: 1, HIGH: 1}
    assert pair.open == {1: LOW}


def test_when_one_side_dials_again_the_newer_link_stays() -> None:
    """It restarted, or its address changed; the old link does not know it is dead yet."""
    for dialed in (True, False):
        peers = make()
        assert peers.on_link_up(link_up(1, dialed=dialed), 1.0, 1_000) is None
        assert peers.on_link_up(link_up(2, address="new.example:1", dialed=dialed), 5.0, 5_000) == 1
        peer = peers.known[LOW]
        assert (peer.link, peer.since, peer.address) == (2, 1.0, "new.example:1")
        assert peers.on_link_down(1, "closed", 6.0, 6_000) is None
        assert peer.link == 2
        assert list(peers.by_link) == [2]


@pytest.mark.parametrize("device", [LOW, HIGH])
@pytest.mark.parametrize("dialed", [True, False])
def test_a_link_of_a_process_that_was_started_again_takes_the_place_of_the_old_one_whoever_dialled(
    device: DeviceId, dialed: bool
) -> None:
    peers = make()
    assert peers.on_link_up(link_up(1, device, dialed=dialed), 1.0, 1_000) is None
    again = link_up(2, device, dialed=not dialed)
    again = replace(again, peer=replace(again.peer, start=b"another"))
    assert peers.must_wait(again) is (not again.dialed)
    assert peers.on_link_up(again, 5.0, 5_000) == 1
    assert list(peers.by_link) == [2]


def test_a_refused_link_s_address_counts_as_reached() -> None:
    peers = make(ConfiguredPeer((HIGH_AT,)), me=LOW)
    peers.due_dials(0.0)
    assert peers.on_link_up(link_up(1, HIGH, HIGH_AT, dialed=True), 0.0, 0) is None
    assert peers.on_link_up(link_up(2, HIGH, "10.0.0.9:7", dialed=False), 0.0, 0) == 2
    assert peers.known[HIGH].link == 1
    peers = make(ConfiguredPeer((LOW_AT,)), me=HIGH)
    peers.due_dials(0.0)
    assert peers.on_link_up(link_up(1, LOW, "10.0.0.9:7", dialed=False), 0.0, 0) is None
    assert peers.on_link_up(link_up(2, LOW, LOW_AT, dialed=True), 0.0, 0) == 2
    assert peers.due_dials(100.0) == []
    assert peers.addresses_of(LOW) == [LOW_AT, "10.0.0.9:7"]


def test_two_links_that_come_up_in_different_orders_at_both_ends_do_not_cost_both() -> None:
    """One side dialled twice: each end may see another link as the newer one."""
    pair = Pair()
    pair.up(LOW, 1, LOW)
    pair.up(LOW, 2, LOW)
    pair.up(HIGH, 2, LOW)
    assert pair.open == {2: LOW}


# --- addresses of strangers -----------------------------------------------------------------------------------------


def test_a_learned_address_is_dialled_at_once_and_for_a_day_of_failures() -> None:
    peers = make()
    assert peers.learn(LOW_AT, LOW, THIRD, 10.0)
    assert not peers.learn(LOW_AT, LOW, THIRD, 10.0)
    now, tries = 10.0, 0
    while (due := peers.next_deadline()) is not None:
        now = max(now, due)
        assert peers.due_dials(now) == [LOW_AT]
        peers.on_dial_failed(LOW_AT, "connect-timeout", now)
        tries += 1
    assert FORGET_AFTER_S < now - 10.0 < FORGET_AFTER_S + 120
    assert tries > 1_000
    assert peers.learn(LOW_AT, LOW, THIRD, now)


def test_an_address_that_links_now_and_then_is_not_forgotten() -> None:
    peers = make()
    peers.learn(LOW_AT, LOW, THIRD, 0.0)
    for day in range(5):
        now = day * FORGET_AFTER_S * 0.9
        peers.due_dials(now)
        peers.on_link_up(link_up(day), now, 0)
        peers.on_link_down(day, "closed", now + 1, 0)
        peers.due_dials(now + 2)
        peers.on_dial_failed(LOW_AT, "connect-timeout", now + 2)
    assert peers.addresses_of(LOW) == [LOW_AT]


def test_addresses_of_this_node_and_of_linked_peers_are_not_dialled() -> None:
    peers = make()
    assert not peers.learn("me.example:1", ME, THIRD, 0.0)
    peers.learn("second.example:1", LOW, THIRD, 0.0)
    assert peers.due_dials(0.0) == ["second.example:1"]
    peers.on_link_up(link_up(1, address="second.example:1"), 0.0, 0)
    peers.on_link_up(link_up(2, address="third.example:1"), 0.0, 0)
    assert peers.due_dials(0.0) == []
    assert peers.next_deadline() is None
    peers.on_link_down(2, "closed", 5.0, 0)
    assert peers.due_dials(6.0) == ["second.example:1"]
    assert peers.is_dialing(LOW)
    assert not peers.is_dialing(HIGH)


def test_who_claims_the_address_of_another_keeps_nobody_from_dialling_it() -> None:
    peers = make()
    peers.on_link_up(link_up(1, HIGH, HIGH_AT), 0.0, 0)
    assert peers.learn(LOW_AT, HIGH, HIGH, 1.0)
    assert not peers.learn(LOW_AT, LOW, LOW, 2.0)  # it is dialled already, whatever is said of it
    assert peers.addresses_of(HIGH) == [LOW_AT, HIGH_AT]
    assert peers.due_dials(2.0) == [LOW_AT]
    peers.on_dial_failed(LOW_AT, "connect-timeout", 7.0)
    assert peers.due_dials(9.0) == [LOW_AT]
    peers.on_link_up(link_up(2, LOW, LOW_AT), 9.0, 0)
    assert (peers.addresses_of(HIGH), peers.addresses_of(LOW)) == ([HIGH_AT], [LOW_AT])
    peers.on_link_down(2, "closed", 10.0, 0)
    assert peers.due_dials(20.0) == [LOW_AT]  # though who claimed it is still linked


def test_what_is_proven_to_be_of_a_linked_peer_is_dialled_once_and_not_again() -> None:
    peers = make()
    peers.on_link_up(link_up(1, address="1.2.3.4:5", dialed=False), 0.0, 0)
    peers.learn_source("1.2.3.4:5", LOW, 0.0)
    assert peers.due_dials(1.0) == []  # its hello came from there
    peers.learn(LOW_AT, LOW, LOW, 1.0)
    assert peers.due_dials(1.0) == [LOW_AT]
    peers.on_link_up(link_up(2), 2.0, 0)
    assert peers.due_dials(100.0) == []
    assert peers.addresses_of(LOW) == ["1.2.3.4:5", LOW_AT]


def test_a_link_from_an_address_that_another_claims_shows_whose_it_is() -> None:
    peers = make()
    peers.on_link_up(link_up(1, HIGH, HIGH_AT), 0.0, 0)
    peers.learn(LOW_AT, HIGH, HIGH, 1.0)
    peers.on_link_up(link_up(2, LOW, LOW_AT, dialed=False), 2.0, 0)
    peers.learn_source(LOW_AT, LOW, 2.0)
    assert peers.addresses_of(LOW) == [LOW_AT]
    assert peers.due_dials(3.0) == []
    peers.on_link_down(2, "closed", 4.0, 0)
    assert peers.due_dials(10.0) == [LOW_AT]


def test_who_dials_from_a_configured_address_does_not_take_it_over() -> None:
    peers = make(ConfiguredPeer((LOW_AT,), device=LOW))
    peers.on_link_up(link_up(1, HIGH, LOW_AT, dialed=False), 0.0, 0)
    assert peers.due_dials(0.0) == [LOW_AT]


def test_what_others_say_is_bounded_for_each_teller_and_device_and_in_all() -> None:
    peers = make(ConfiguredPeer((LOW_AT,)))
    kept = [peers.learn(f"x{number}:1", HIGH, THIRD, 0.0) for number in range(10)]
    assert kept.count(True) == LEARNED_PER_DEVICE_MAX
    assert peers.learn("x:1", HIGH, HIGH, 0.0)  # what one says of it leaves room for what others say
    kept = [
        peers.learn(f"y{number}:1", DeviceId(number.to_bytes(32, "big")), THIRD, 0.0) for number in range(LEARNED_MAX)
    ]
    assert kept.count(True) == LEARNED_PER_TELLER_MAX - LEARNED_PER_DEVICE_MAX
    kept = [peers.learn(f"z{number}:1", None, None, 0.0) for number in range(LEARNED_MAX)]
    assert kept.count(True) == LEARNED_PER_TELLER_MAX
    for teller in range(10):
        for number in range(LEARNED_MAX):
            device = DeviceId(number.to_bytes(32, "big"))
            peers.learn(f"{teller}-{number}:1", device, DeviceId(teller.to_bytes(32, "little")), 0.0)
    assert len(peers._targets) == LEARNED_MAX + 1
    assert peers.due_dials(0.0)[0] == LOW_AT


def test_what_is_forgotten_makes_room_for_its_teller() -> None:
    peers = make()
    kept = [peers.learn(f"x{number}:1", HIGH, THIRD, 0.0) for number in range(LEARNED_PER_DEVICE_MAX + 1)]
    assert kept == [True] * LEARNED_PER_DEVICE_MAX + [False]
    now = 0.0
    while (due := peers.next_deadline()) is not None:
        now = max(now, due)
        for address in peers.due_dials(now):
            peers.on_dial_failed(address, "connect-timeout", now)
    assert peers.learn("x:1", HIGH, THIRD, now)


def test_linked_peers_are_told_to_others_by_what_they_say_where_they_were_dialled_or_where_they_dialled_from() -> None:
    peers = make()
    peers.on_link_up(link_up(0, HIGH, HIGH_AT), 0.0, 0)
    peers.on_link_up(link_up(1, LOW, LOW_AT), 0.0, 0)
    peers.on_link_up(link_up(2, DeviceId(b"C" * 32), "1.2.3.4:5", dialed=False), 0.0, 0)
    third = (DeviceId(b"C" * 32), "1.2.3.4:5")  # said nothing of itself: where it dialled from is the second choice
    assert peers.introductions() == [(LOW, LOW_AT), third, (HIGH, HIGH_AT)]
    peers.on_link_down(1, "closed", 1.0, 0)
    assert peers.introductions() == [third, (HIGH, HIGH_AT)]
    for address in ("c.example:1", "c.example:1", *(f"c{number}.example:1" for number in range(9))):
        peers.learn_own(address, peers.known[third[0]])
    own = [(third[0], address) for address in ("c.example:1", "c0.example:1", "c1.example:1", "c2.example:1")]
    assert peers.introductions() == [*own, (HIGH, HIGH_AT)]
    peers.learn_own("high.example:2", peers.known[HIGH])
    assert peers.introductions()[-2:] == [(HIGH, "high.example:2"), (HIGH, HIGH_AT)]


def test_a_peer_that_moves_often_makes_room_for_its_new_address_by_what_fails_longest() -> None:
    peers = make()
    old = [f"old{number}:1" for number in range(LEARNED_PER_DEVICE_MAX)]
    for number, address in enumerate(old):
        assert peers.learn(address, LOW, THIRD, float(number))
    assert peers.due_dials(5.0) == old
    assert not peers.learn("new:1", LOW, THIRD, 6.0)  # all of them are being dialled
    for address in (old[2], old[0], old[1]):
        peers.on_dial_failed(address, "connect-timeout", 10.0 + old.index(address) % 2)
    assert peers.learn("new:1", LOW, THIRD, 20.0)
    assert peers.addresses_of(LOW) == [old[1], old[2], old[3], "new:1"]


def test_what_discovery_found_and_nobody_answers_at_is_forgotten_sooner() -> None:
    peers = make()
    assert peers.learn(LOW_AT, None, None, 0.0)
    for now in (0.0, FORGET_FOUND_AFTER_S + 1.0):
        assert peers.due_dials(now) == [LOW_AT]
        peers.on_dial_failed(LOW_AT, "connect-timeout", now)
    assert peers.next_deadline() is None


# --- what is shown --------------------------------------------------------------------------------------------------


def test_who_answers_where_another_is_configured_is_shown_until_the_right_one_does() -> None:
    peers = make(ConfiguredPeer((LOW_AT,), noc="EU", device=HIGH), ConfiguredPeer((HIGH_AT,), noc="EU"))
    peers.due_dials(0.0)
    assert peers.misfits() == []
    peers.on_not_as_configured(link_up(1), 1.0, 1_000)
    peers.due_dials(5.0)
    peers.on_not_as_configured(link_up(2), 5.0, 5_000)
    (misfit,) = peers.misfits()
    assert (misfit.address, misfit.expected) == (LOW_AT, "EU/device 5a5a5a5a")
    assert (misfit.found, misfit.since_wall_ms) == ("NL/1 (41414141)", 1_000)
    assert peers.known[LOW].last_refusal == "not-as-configured"
    assert peers.refusal(HIGH) == "not-as-configured"
    due = min(target.next_dial_at for target in peers._targets.values() if not target.dialing)
    assert 6.0 <= due <= 7.0  # the second wait is twice as long
    peers.on_not_as_configured(link_up(3, address=HIGH_AT), 6.0, 6_000)
    assert [misfit.expected for misfit in peers.misfits()] == ["EU/device 5a5a5a5a", "EU"]
    peers.on_link_up(link_up(4, HIGH, LOW_AT, noc="EU"), 8.0, 8_000)
    assert [misfit.address for misfit in peers.misfits()] == [HIGH_AT]


def test_beside_a_link_that_works_one_that_is_accepted_waits_until_it_is_heard_of() -> None:
    peers = make()
    assert not peers.must_wait(link_up(1, HIGH))
    peers.on_link_up(link_up(1, HIGH, dialed=False), 0.0, 0)
    second, third = link_up(2, HIGH, dialed=False), link_up(3, HIGH, dialed=False)
    assert peers.must_wait(second)
    assert not peers.must_wait(link_up(9, HIGH))  # what this node dialled, it wants
    assert peers.wait(second) is None
    assert peers.wait(third) == 2  # one of each device waits
    assert peers.waited(2) is None
    assert peers.on_link_down(3, "peer-not-as-configured", 1.0, 1_000) is None
    assert (peers.known[HIGH].link, peers.known[HIGH].last_refusal) == (1, "peer-not-as-configured")
    peers.wait(third)
    assert peers.waited(3) == third
    assert peers.waited(3) is None


def test_a_link_that_the_peer_refuses_at_once_does_not_move_since_when_nothing_is_known_of_it() -> None:
    peers = make()
    for at in (10.0, 20.0):
        peers.on_link_up(link_up(1, dialed=False), at, int(at) * 1_000)
        assert peers.is_alone()
        peers.on_link_down(1, "peer-not-as-configured", at + 1, int(at) * 1_000 + 1_000)
        assert (peers.known[LOW].since_wall_ms, peers.known[LOW].last_refusal) == (0, "peer-not-as-configured")
    peers.on_link_up(link_up(2, dialed=False), 30.0, 30_000)
    peers.on_heard(2)
    assert not peers.is_alone()
    peers.on_link_down(2, "idle-timeout", 40.0, 40_000)
    peers.on_link_up(link_up(3, dialed=False), 50.0, 50_000)
    peers.on_link_down(3, "peer-certificate-expired", 51.0, 51_000)
    assert peers.known[LOW].since_wall_ms == 40_000


def test_a_refusal_before_there_is_a_link_is_shown_for_whom_the_address_is_known_to_be() -> None:
    peers = make(ConfiguredPeer((LOW_AT,), device=LOW), ConfiguredPeer((HIGH_AT,)))
    peers.on_refused("nobody:1", "certificate-expired")
    assert peers.refusal(LOW) == ""
    peers.on_dial_failed(LOW_AT, "connect-timeout", 0.0)
    assert (peers.refusal(LOW), peers.dial_error(LOW)) == ("", "connect-timeout")
    peers.on_dial_failed(LOW_AT, "peer-certificate-expired", 0.0)
    assert (peers.refusal(LOW), peers.dial_error(LOW)) == ("peer-certificate-expired", "peer-certificate-expired")
    peers.on_refused(HIGH_AT, "certificate-foreign")
    first, second = peers.unreached()
    assert (first.configured.device, first.last_refusal) == (LOW, "peer-certificate-expired")
    assert (second.last_refusal, second.last_code, second.dialing) == ("certificate-foreign", "", False)
    peers.on_link_up(link_up(1), 1.0, 1_000)
    assert (peers.refusal(LOW), peers.dial_error(LOW), peers.refusal(HIGH)) == ("", "", "")
    peers.on_refused(LOW_AT, "certificate-expired")
    assert peers.refusal(LOW) == "certificate-expired"


@pytest.mark.parametrize(
    ("code", "is_one"),
    [
        ("connect-timeout", False),
        ("peer-shutting-down", False),
        ("peer-link-superseded", False),
        ("closed-by-peer", False),
        ("", False),
        ("certificate-expired", True),
        ("peer-not-as-configured", True),
        ("frame-too-large", True),
    ],
)
def test_which_ends_of_links_and_dials_are_refusals(code: str, is_one: bool) -> None:
    assert is_refusal(code) is is_one


# --- laws -----------------------------------------------------------------------------------------------------------

actions = st.lists(
    st.tuples(
        st.sampled_from(["up-dialed", "up-accepted", "down", "fail", "learn", "time"]),
        st.integers(0, 3),
        st.integers(0, 5),
    ),
    max_size=30,
)


@given(actions)
@search(100)
def test_whatever_happens_every_configured_peer_is_linked_dialled_or_due(script: list[tuple[str, int, int]]) -> None:
    devices = [DeviceId(bytes([66 + number]) * 32) for number in range(4)]
    addresses = [f"p{number}:1" for number in range(4)]
    peers = make(*(ConfiguredPeer((address,)) for address in addresses))
    now, links = 0.0, itertools.count()
    for what, number, amount in script:
        device, address = devices[number], addresses[number]
        if what == "up-dialed":
            peers.on_link_up(link_up(next(links), device, address), now, 0)
        elif what == "up-accepted":
            peers.on_link_up(link_up(next(links), device, f"x{amount}:1", dialed=False), now, 0)
        elif what == "down" and peers.by_link:
            peers.on_link_down(sorted(peers.by_link)[amount % len(peers.by_link)], "closed", now, 0)
        elif what == "fail":
            peers.on_dial_failed(address, "refused", now)
        elif what == "learn":
            peers.learn(f"l{amount}:1", device, THIRD, now)
        else:
            now += amount * 10
            peers.due_dials(now)
        for known in peers.known.values():
            assert known.link is None or peers.by_link[known.link] is known
        for configured in addresses:
            target = peers._targets[configured]
            peer = peers.known.get(target.device) if target.device else None
            assert target.dialing or (peer and peer.link is not None) or target.next_dial_at <= now + 60
        wanted = [target.next_dial_at for target in peers._targets.values() if peers._wanted(target)]
        under_way = sum(target.dialing for target in peers._targets.values())
        assert peers.next_deadline() == (None if under_way >= DIALS_AT_ONCE_MAX else min(wanted, default=None))


def test_named_is_who_is_configured_or_proved_itself_at_a_configured_address() -> None:
    pinned = ConfiguredPeer((HIGH_AT,), device=HIGH)
    peers = make(pinned, ConfiguredPeer((LOW_AT,)))
    assert peers.is_named(HIGH)
    assert not peers.is_named(LOW)
    peers.on_link_up(link_up(1, dialed=False), 0.0, 0)  # it dialled from there
    assert not peers.is_named(LOW)
    peers.on_link_up(link_up(2), 1.0, 0)
    assert peers.is_named(LOW)
    peers.learn("NL:7", DeviceId(b"\x33" * 32), LOW, 2.0)
    peers.on_link_up(link_up(3, DeviceId(b"\x33" * 32), "NL:7"), 3.0, 0)
    assert not peers.is_named(DeviceId(b"\x33" * 32))
