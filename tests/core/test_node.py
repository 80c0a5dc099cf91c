"""The contract of the node: a batch of events in, one step out; links that come, go, and double."""

from __future__ import annotations

import random

import pytest
from node_stories import alike, log_texts
from world import Host, World, full_mesh, make_identity

from meshnode.core import wire
from meshnode.core.events import (
    AddressFound,
    Channel,
    CloseLink,
    Dial,
    DialFailed,
    LinkDown,
    LinkUp,
    Now,
    PeerIdentity,
    Received,
    Report,
    RoundTrip,
    Send,
    Tick,
)
from meshnode.core.identity import Identity
from meshnode.core.node import ADDRESSES_TAKEN_MAX, IDLE_S, Node, NodeSettings
from meshnode.core.peers import ConfiguredPeer
from meshnode.errors import LocalFaultError
from meshnode.storage.memory import MemoryLogStore

START = Now(0.0, 1_780_000_000_000)


def make(noc: str = "BE", **settings: object) -> Node:
    rng = random.Random(1)
    node = Node(make_identity(noc, "1"), NodeSettings(**settings), MemoryLogStore(), rng, rng.randbytes, START)
    node.step([], START)
    return node


def known_as(identity: Identity, relay: bool = True) -> PeerIdentity:
    return PeerIdentity(identity.device, identity.certificate.noc, "1", relay, identity.certificate.bundle)


NL = known_as(make_identity("NL", "1"))


def effects(node: Node, *events: object, now: float = 0.0) -> tuple[object, ...]:
    return node.step(list(events), Now(now, START.wall_ms)).effects


def messages(found: tuple[object, ...]) -> list[wire.Message]:
    return [wire.decode_untrusted(effect.data) for effect in found if isinstance(effect, Send)]


# --- the contract ---------------------------------------------------------------------------------------------------


def test_a_step_without_events_before_the_deadline_does_nothing() -> None:
    node = make()
    deadline = node.next_deadline()
    assert 0 < deadline <= IDLE_S
    assert node.step([], Now(deadline / 2, START.wall_ms)) == node.step([Tick(), Tick()], Now(deadline / 2, 0))


def test_a_step_asks_for_a_commit_exactly_when_it_staged_something() -> None:
    world = World(1)
    be, nl = full_mesh(world, "BE", "NL")
    incident = world.open(be, share=("NL",))
    world.run(1.0)
    staged: list[bool] = []
    stage = be.store.stage

    def note(batch: object) -> None:
        staged.append(True)
        stage(batch)

    be.store.stage = note
    commits = []
    step = be.node.step

    def counted(events: object, now: Now) -> object:
        staged.clear()
        done = step(events, now)
        commits.append(done.commit)
        assert done.commit == bool(staged)
        return done

    be.node.step = counted
    world.log(be, incident, "own")
    world.log(nl, incident, "other's")
    world.run(30.0)
    assert True in commits
    assert False in commits


def test_a_stopped_node_says_nothing_more_and_leaves_a_checkpoint() -> None:
    world = World(2)
    be = world.add("BE")
    incident = world.open(be)
    step = be.node.stop(world.time_of(0))
    assert (step.commit, step.effects) == (True, ())
    assert be.store.get("checkpoint", incident) is not None
    again = be.node.stop(world.time_of(0))
    assert again.effects == ()


def test_events_of_one_batch_are_handled_in_order() -> None:
    node = make()
    found = effects(
        node,
        LinkUp(1, NL, "NL:1", dialed=False),
        Received(1, Channel.CONTROL, wire.encode(wire.PackagesWant(bytes(16), 0))),
        LinkDown(1, "closed"),
        Received(1, Channel.CONTROL, b"after the end: not looked at"),
        RoundTrip(1, 0.1),
    )
    codes = [effect.code for effect in found if isinstance(effect, Report)]
    assert codes == ["link-up", "link-down"]
    assert node.outbox.counts == {}


# --- links ----------------------------------------------------------------------------------------------------------


def test_a_new_link_is_told_addresses_that_can_be_told() -> None:
    node = make(advertise=("be.example:4433", "[fe80::1%eth0]:4433"), peers=(ConfiguredPeer(("de.example:1",)),))
    de = known_as(make_identity("DE", "1"))
    effects(node, LinkUp(1, de, "de.example:1", dialed=True))
    found = messages(effects(node, LinkUp(2, NL, "[fe80::2%eth0]:4433", dialed=True)))
    assert wire.Addresses(((node.identity.device, "be.example:4433"), (de.device, "de.example:1"))) in found


def test_addresses_that_peers_tell_are_dialled_up_to_a_limit() -> None:
    node = make()
    effects(node, LinkUp(1, NL, "NL:1", dialed=False))
    rows = tuple(
        (make_identity("DE", "1").device if number == 0 else bytes([number // 256, number % 256]) * 16, f"h{number}:1")
        for number in range(ADDRESSES_TAKEN_MAX + 50)
    )
    found = effects(node, Received(1, Channel.CONTROL, wire.encode(wire.Addresses(rows))), now=1.0)
    dials = [effect.address for effect in found if isinstance(effect, Dial)]
    assert dials[0] == "h0:1"
    assert len(node.peers._targets) <= ADDRESSES_TAKEN_MAX + 1


def test_an_address_that_discovery_found_is_dialled() -> None:
    assert Dial("found.example:1") in effects(make(), AddressFound("mdns", "found.example:1"))


@pytest.mark.parametrize(
    "configured", [ConfiguredPeer(("NL:1",), noc="DE"), ConfiguredPeer(("NL:1",), device=bytes(32))]
)
def test_who_is_not_as_configured_is_closed_told_and_dialled_again_later(configured: ConfiguredPeer) -> None:
    node = make(peers=(configured,))
    found = effects(node, LinkUp(1, NL, "NL:1", dialed=True))
    assert CloseLink(1, "not-as-configured") in found
    assert node.outbox.counts == {"not-as-configured": 1}
    assert not node.peers.by_link
    assert effects(node, LinkDown(1, "closed"), Received(1, Channel.CONTROL, b"x")) == ()
    assert Dial("NL:1") in effects(node, Tick(), now=5.0)


def test_a_dial_that_fails_is_told_with_its_address_and_tried_again() -> None:
    node = make(peers=(ConfiguredPeer(("NL:1",)),))
    (report,) = effects(node, DialFailed("NL:1", "connect-timeout", "no answer"))
    assert report == Report("dial-failed", "NL:1: connect-timeout: no answer", None, {"address": "NL:1"})
    assert node.next_deadline() <= 1.0
    assert Dial("NL:1") in effects(node, Tick(), now=1.0)


@pytest.mark.parametrize("first", ["BE", "NL"])
def test_two_nodes_that_dial_each_other_at_once_end_with_one_link(first: str) -> None:
    """Both orders of arrival; whatever is on the way on the link that goes is not missed."""
    world = World(3)
    be, nl = world.add("BE"), world.add("NL")
    one, other = (be, nl) if first == "BE" else (nl, be)
    world.connect(one, other)
    world.connect(other, one)
    world.run(5.0)
    for host in (be, nl):
        assert len(host.links) == len(host.node.peers.by_link) == 1
    incident = world.open(be, share=("NL",))
    world.run(1.0)
    alike([be, nl], incident)


def test_a_restarted_peer_is_linked_again_at_once_although_the_old_link_does_not_know_it_is_dead() -> None:
    world = World(4)
    be, nl = full_mesh(world, "BE", "NL")
    incident = world.open(be, share=("NL",))
    world.run(1.0)
    # NL's process is killed and started within the idle time-out: nobody tells BE.
    old = next(iter(be.links))
    nl.up = False
    nl.links.clear()
    nl.store.abandon()
    world.restart(nl)
    world.run(5.0)
    assert old not in be.node.peers.by_link
    world.log(be, incident, "after the restart")
    world.run(1.0)
    assert log_texts(nl, incident) == ["after the restart"]
    alike([be, nl], incident)


def test_a_peer_at_a_new_address_is_found_through_others() -> None:
    world = World(5)
    be = world.add("BE")
    nl = world.add("NL", peers=("BE:1",))
    de = world.add("DE", peers=("BE:1",))
    world.run(5.0)

    def linked(a: Host, b: Host) -> bool:
        return any(link.peer is b for link in a.links.values())

    assert linked(nl, be)
    assert linked(de, be)
    # BE tells each of the other; they dial and need BE no more.
    be.node.peers.learn("DE:1", de.identity.device, None, world.now)
    for host in (nl, de):
        other = de if host is nl else nl
        addresses = wire.Addresses(((other.identity.device, f"{other.name}:1"),))
        world.say(be, host, wire.encode(addresses))
    world.run(2.0)
    assert linked(nl, de)
    world.crash(be)
    incident = world.open(nl, share=("DE",))
    world.run(2.0)
    alike([nl, de], incident)


@pytest.mark.parametrize("period_s", [1.5, 4.0])
def test_a_link_that_flaps_still_carries_everything(period_s: float) -> None:
    """N10."""
    world = World(6)
    be, nl = full_mesh(world, "BE", "NL")
    incident = world.open(be, share=("NL",))
    world.run(1.0)
    for number in range(12):
        world.log(be, incident, f"entry {number}")
        world.run(period_s)
        for link in list(be.links):
            world.drop_link(be, link)
    world.run(5.0)
    alike([be, nl], incident)


def test_a_long_silence_and_a_long_split_are_survived() -> None:
    """N3, C6: thirty days apart, then together again within the back-off."""
    world = World(7)
    be, nl = full_mesh(world, "BE", "NL")
    incident = world.open(be, share=("NL",))
    world.run(1.0)
    world.partition("NL")
    world.crash(nl)  # switched off: its clock does not run
    world.log(be, incident, "in between")
    world.run(6 * 3600.0)
    world.crash(be)
    world.run(30 * 24 * 3600.0)
    world.restart(be)
    world.restart(nl)
    world.log(nl, incident, "NL is back")
    world.heal()
    world.run(70.0)
    alike([be, nl], incident)
    second = world.open(nl, share=("BE",))
    world.run(1.0)
    alike([be, nl], second)


# --- faults of this machine -----------------------------------------------------------------------------------------


def test_a_fault_of_this_machine_is_shown_until_it_is_over_and_counted_each_time() -> None:
    node = make()
    fault = LocalFaultError("store-full", "no room", "free some")
    node.note_degraded(fault, START)
    node.note_degraded(LocalFaultError("store-full", "later", ""), Now(9.0, START.wall_ms + 9_000))
    assert node.degraded == {"store-full": ("no room", "free some", START.wall_ms)}


def test_damage_that_somebody_found_is_told_and_holdings_follow_the_store() -> None:
    node = make()

    class Found(MemoryLogStore):
        def damaged(self) -> int:
            return 3

    node.store = Found()
    found = effects(node, Tick())
    assert [effect.reason for effect in found if isinstance(effect, Report)] == [
        "3 stored rows do not match their hash"
    ]
    assert effects(node, Tick()) == ()
