"""Nodes that share a neighbour find each other and need it no more; a wrong pin harms no link that works."""

from __future__ import annotations

import itertools
from collections import Counter
from collections.abc import Callable
from dataclasses import replace

import pytest
from node_stories import alike
from world import Host, World

from meshnode.core import wire
from meshnode.core.events import DoorRefused, LinkUp, Tick
from meshnode.core.introductions import INTERVAL_S
from meshnode.core.node import ALONE_AFTER_S, Node
from meshnode.core.peers import ConfiguredPeer
from simulations.worlds.cast import START_WALL_MS


def linked(*hosts: Host) -> bool:
    """Everybody with everybody."""
    return all(
        any(link.peer is b for link in a.links.values()) and a.node.peers.known[b.identity.device].link is not None
        for a, b in itertools.permutations(hosts, 2)
    )


def configured_as(*peers: ConfiguredPeer, advertise: tuple[str, ...] = ()) -> Callable[..., Node]:
    def make(identity: object, settings: object, *rest: object, **more: object) -> Node:
        return Node(identity, replace(settings, peers=peers, advertise=advertise), *rest, **more)

    return make


@pytest.mark.parametrize("advertised", [True, False])
def test_nodes_that_know_the_hub_alone_find_each_other_and_go_on_when_it_dies(advertised: bool) -> None:
    """What a node says of itself is passed on; of one that says nothing, where it dialled from."""
    world = World(1)
    hub = world.add("EU")
    members = []
    for noc in ("BE", "NL", "DE"):
        advertise = (f"{noc}:1",) if advertised else ()
        members.append(world.add(noc, relay=False, make=configured_as(ConfiguredPeer(("EU:1",)), advertise=advertise)))
        world.run(5.0)  # each comes when the others are linked already
    assert linked(hub, *members)
    world.crash(hub)
    world.run(1.0)
    incident = world.open(members[0], share=("NL", "DE"))
    world.run(1.0)
    alike(members, incident)
    world.partition("BE")
    world.run(120.0)
    world.heal()
    world.run(70.0)
    assert linked(*members)


def test_an_address_that_a_device_says_it_has_is_passed_on_in_place_of_where_it_dialled_from() -> None:
    world = World(2)
    hub = world.add("EU")
    world.keep_apart("BE", "NL")
    be = world.add("BE", make=configured_as(ConfiguredPeer(("EU:1",)), advertise=("be.example:7",)))
    world.run(1.0)
    nl = world.add("NL", peers=("EU:1",))
    world.run(5.0)
    assert nl.node.peers.addresses_of(be.identity.device) == ["be.example:7"]
    assert be.node.peers.addresses_of(nl.identity.device) == ["NL:1"]
    # A new address while all are linked is told on.
    (link,) = be.links
    world.say(be, hub, wire.encode(wire.Addresses(((be.identity.device, "be.example:8"),))))
    world.run(INTERVAL_S + 0.1)
    assert nl.node.peers.addresses_of(be.identity.device) == ["be.example:7", "be.example:8"]
    assert link in be.links


def test_thirty_nodes_that_know_one_hub_are_all_linked_after_few_messages() -> None:
    world = World(3)
    nocs = [f"N{number:02}" for number in range(29)]
    messages: Counter[tuple[str, str]] = Counter()
    rows: Counter[tuple[str, str]] = Counter()

    def count(sender: Host, receiver: Host, data: bytes) -> list[bytes]:
        message = wire.decode_untrusted(data)
        if isinstance(message, wire.Addresses):
            messages[sender.name, receiver.name] += 1
            rows[sender.name, receiver.name] += len(message.addresses)
        return (
            [] if isinstance(message, wire.RosterWant | wire.RosterRecords) else [data]
        )  # most of the work, and not meant

    world.filter = count
    hub = world.add("EU")
    hosts = [hub, *(world.add(noc, relay=False, peers=("EU:1",)) for noc in nocs)]
    world.run(10.0)
    assert linked(*hosts)
    assert max(messages.values()) <= 10 / INTERVAL_S
    assert messages.total() <= 4 * 30 * 29
    assert max(rows.values()) <= 2 * 30
    before = messages.total()
    world.run(30.0)
    assert messages.total() == before  # silence


# --- pins -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("wrong", "right"), [("NL", "BE"), ("BE", "NL")])
def test_a_wrong_pin_is_shown_at_both_ends_and_harms_no_link_that_works(wrong: str, right: str) -> None:
    world = World(4)
    mistaken = world.add(wrong, make=configured_as(ConfiguredPeer((f"{right}:1",), noc="EU")))
    other = world.add(right, peers=(f"{wrong}:1",))
    world.run(1.0)
    (shown,) = [peer for peer in other.reading.peers() if peer.noc == wrong]
    assert (shown.state, linked(mistaken, other)) == ("connected", True)
    numbers = set(other.links)
    world.run(600.0)
    assert numbers <= set(other.links)
    (again,) = [peer for peer in other.reading.peers() if peer.noc == wrong]
    assert (again.state, again.since_ms) == ("connected", shown.since_ms)
    assert [report.code for report in other.reports].count("link-up") <= 2
    assert [report.code for report in mistaken.reports].count("not-as-configured") < 25  # it backs off
    reason, action, since_ms = mistaken.node.degraded["not-as-configured"]
    device = other.identity.device.hex()[:8]
    assert reason == f"{right}:1 is configured for EU, and {right}/1 ({device}) answers there"
    assert "[[peer]]" in action
    assert START_WALL_MS <= since_ms <= START_WALL_MS + 1_000
    peer, unreached = mistaken.reading.peers()
    assert (peer.noc, peer.state, peer.last_refusal) == (right, "connected", "not-as-configured")
    assert (unreached.device, unreached.noc, unreached.addresses) == ("", "EU", [f"{right}:1"])
    assert (unreached.state, unreached.last_dial_error) == ("never-reached", "not-as-configured")
    assert again.last_refusal in ("peer-not-as-configured", "")


def test_many_wrong_pins_are_one_line() -> None:
    world = World(5)
    world.add("BE")
    world.add("DE")
    pins = [ConfiguredPeer((f"{noc}:1",), noc="EU") for noc in ("BE", "DE")]
    nl = world.add("NL", make=configured_as(*pins))
    world.run(1.0)
    assert nl.node.degraded["not-as-configured"][0].endswith("; so it is at 1 other address(es)")
    assert linked() is True
    # Whoever is refused so is listed as never linked, since the start.
    assert {peer.since_ms for peer in nl.reading.peers()} == {nl.node.started_ms}


def test_a_silent_second_link_of_a_peer_waits_and_gives_way_to_a_third() -> None:
    world = World(6)
    be = world.add("BE")
    nl = world.add("NL", peers=("BE:1",))
    world.run(1.0)
    (first,) = be.links
    identity = be.node.peers.by_link[first].identity
    closed: list[int] = []
    drop = world.drop_link
    world.drop_link = lambda host, number: (closed.append(number), drop(host, number))
    for number in (901, 902):
        world.step(be, [LinkUp(number, identity, "NL:1", dialed=False)])
    assert closed == [901]
    assert list(be.node.peers.by_link) == [first]
    assert linked(be, nl)


# --- isolation --------------------------------------------------------------------------------------------------------


def test_a_node_without_links_though_peers_are_configured_says_so_and_since_when() -> None:
    world = World(7)
    be = world.add("BE", peers=("NL:1", "DE:1"))
    world.run(ALONE_AFTER_S - 0.1)
    assert be.node.degraded == {}
    world.run(0.2)
    reason, action, since_ms = be.node.degraded["alone"]
    assert (since_ms, "LAST DIAL" in action, "configured" in reason) == (START_WALL_MS, True, True)
    first, second = be.reading.peers()
    assert (first.addresses, first.last_dial_error, first.since_ms) == (["NL:1"], "connect-timeout", START_WALL_MS)
    assert (second.addresses, second.state) == (["DE:1"], "never-reached")
    nl = world.add("NL")
    world.run(20.0)
    assert (linked(be, nl), be.node.degraded) == (True, {})
    assert [peer.addresses for peer in be.reading.peers()] == [["NL:1"], ["DE:1"]]
    lost_at = world.now
    world.crash(nl)
    world.run(ALONE_AFTER_S + 1.0)
    assert be.node.degraded["alone"][2] == START_WALL_MS + int(lost_at * 1000)
    assert [report.code for report in be.reports].count("alone") == 2
    assert {peer.state for peer in be.reading.peers()} <= {"cut-off", "never-reached", "connecting"}


def test_a_node_that_waits_to_be_dialled_is_not_alone() -> None:
    world = World(8)
    hub = world.add("EU")
    world.run(60.0)
    assert (hub.node.degraded, hub.reading.peers()) == ({}, [])


def test_a_refusal_at_the_door_is_shown_for_whose_address_it_is() -> None:
    world = World(9)
    be = world.add("BE", peers=("NL:1",))
    world.step(be, [DoorRefused("NL:1", "certificate-expired"), Tick()])
    (shown,) = be.reading.peers()
    assert (shown.state, shown.last_refusal) == ("connecting", "certificate-expired")
