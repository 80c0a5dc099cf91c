"""Neighbours that are enrolled and no members: what they can make others store, say and do."""

from __future__ import annotations

import random
from typing import Any

import pytest
from core_support import LogWriter
from hostile_mesh import Mesh
from node_stories import alike, log_texts
from world import Host, World

from meshnode.core import codec, custody, epochs, wire
from meshnode.core.accounts import ACCOUNT_NAMESPACE, NOBODY
from meshnode.core.budget import BURST_BYTES, REPORT_COST_BYTES
from meshnode.core.custody import LOOK_INTERVAL_S, RelaySettings
from meshnode.core.events import Change, ChangeKind
from meshnode.core.ids import IncidentId
from meshnode.core.log import CommitBatch

ROOM = RelaySettings(incident_bytes_max=450_000, total_bytes_max=900_000, time_to_live_s=3_600.0)
SHARE_OF_INCIDENT, SHARE_OF_ALL = 50_000, 100_000
"""A ninth: what one neighbour that is no relay can fill."""
STRANGE_SHARE = 450_000 // 33
"""What one can fill of an incident at a member."""


@pytest.fixture
def mesh() -> Mesh:
    return Mesh()


# --- what is said to them -------------------------------------------------------------------------------------------


def test_answers_are_charged_to_who_asks(mesh: Mesh) -> None:
    """I7: some 60 bytes of question for 256 KiB of answer."""
    world, be, nl = mesh.world, mesh.be, mesh.nl
    for number in range(10):
        value = f"{number}" + "x" * 40_000
        world.change(be, mesh.incident, Change(ChangeKind.SET, field="x-large", value=value))
    world.run(5.0)
    log = max(be.node.holdings.logs(mesh.incident), key=lambda head: head.height)
    question = wire.encode(wire.Want(mesh.incident, log.log, 1, log.height))
    asked, before = 0, world.bytes_sent
    while "too-fast" not in be.codes and asked < 5_000:
        world.say(nl, be, question)
        world.run(0.000_1)
        asked += 1
    assert asked < BURST_BYTES / 150_000
    world.run(0.1)
    assert world.bytes_sent - before < 1.1 * BURST_BYTES
    mesh.check_serving()


def test_messages_that_nobody_knows_are_charged_as_what_they_cost_to_write_down(mesh: Mesh) -> None:
    world, be, nl = mesh.world, mesh.be, mesh.nl
    spam = codec.encode([999])
    for _ in range(BURST_BYTES // REPORT_COST_BYTES // 2):
        world.say(nl, be, spam)
    world.run(0.1)
    assert "too-fast" not in be.codes  # a newer peer sends some
    for _ in range(BURST_BYTES // REPORT_COST_BYTES):
        world.say(nl, be, spam)
    world.run(0.1)
    assert "too-fast" in be.codes
    mesh.check_serving()


# --- what they hide ---------------------------------------------------------------------------------------------------


def test_an_invitation_is_found_behind_any_number_of_packages_that_strangers_made() -> None:
    """NL was away when it was invited, and comes back when the hub holds hundreds of newer packages."""
    world = World(4)
    hub = world.add("EU")
    be, nl, x = (world.add(noc, relay=False, peers=("EU:1",)) for noc in ("BE", "NL", "XX"))
    world.run(5.0)
    world.partition("NL")
    incident = world.open(be, share=("NL",))
    world.run(2.0)
    enrolled = x.node.rollcall.roster.get(x.identity.device)
    assert enrolled is not None
    for number in range(25):
        key = number.to_bytes(32, "big")
        writer = LogWriter(f"packages {number}", incident, key)
        package = epochs.make_package([enrolled.prekey], key, incident, world.rng.randbytes)
        for _ in range(40):
            writer.write(package=package)
        world.say(x, hub, wire.encode(writer.run()))
    world.run(1.0)
    assert hub.node.incidents.packages(incident)[1] > 300
    world.heal()
    world.run(60.0)
    assert nl.node.incidents.is_member(incident)
    assert same([be, nl], incident)


# --- what they make others store ------------------------------------------------------------------------------------


def flood(world: World, x: Host, victim: Host, incident: IncidentId | None, megabytes: float = 1.5) -> None:
    """Junk under fresh logs, of one incident or each of another."""
    rng = random.Random(1)
    for number in range(int(megabytes * 100)):
        writer = LogWriter(f"junk {number}", incident or IncidentId(rng.randbytes(16)))
        writer.grow(4, 2_200)
        world.say(x, victim, wire.encode(writer.run()))
        world.run(0.02)


def same(hosts: list[Host], incident: IncidentId) -> bool:
    """All show the same state. Junk waits for keys that nobody has, which is part of no state."""
    return len({host.reading.digest(incident) for host in hosts}) == 1


def around_a_hub(*nocs: str, room: RelaySettings = ROOM, seed: int = 1) -> tuple[World, Host, list[Host]]:
    world = World(seed)
    hub = world.add("EU", relay=room)
    hosts = [world.add(noc, relay=False, peers=("EU:1",)) for noc in nocs]
    world.run(5.0)
    return world, hub, hosts


def say_much(world: World, host: Host, incident: IncidentId, count: int = 12) -> None:
    for number in range(count):
        world.log(host, incident, f"{host.name} {number} " + "x" * 1_000)
        world.run(0.5)


@pytest.mark.parametrize("restart", [False, True])
def test_a_stranger_fills_its_share_of_an_incident_s_room_and_the_members_have_the_rest(restart: bool) -> None:
    world, hub, (be, nl, x) = around_a_hub("BE", "NL", "XX")
    incident = world.open(be, share=("NL",))
    world.run(2.0)
    flood(world, x, hub, incident)
    if restart:
        world.crash(hub)
        world.restart(hub)
        world.run(65.0)
        flood(world, x, hub, incident)
    brought = hub.node.custody.brought(x.identity.device)
    assert 0.7 * SHARE_OF_INCIDENT < brought <= SHARE_OF_INCIDENT
    for host in (be, nl):
        say_much(world, host, incident)
    world.run(30.0)
    assert same([be, nl], incident)
    assert len(log_texts(nl, incident)) == 24
    honest = {head.log: head.height for head in be.node.holdings.logs(incident)}
    stored = {head.log: head.height for head in hub.node.holdings.logs(incident)}
    members = [log for log in honest if be.node.custody.vouches_for(incident, log)]
    assert len(members) == 2
    assert all(stored[log] == honest[log] for log in members)
    (told,) = [peer for peer in hub.reading.peers() if peer.noc == "XX"]
    assert told.last_refusal == "relay-quota"
    assert "relay-quota" not in {peer.last_refusal for peer in hub.reading.peers() if peer.noc != "XX"}


def test_a_stranger_fills_its_share_of_all_room_and_what_others_bring_finds_room() -> None:
    world, hub, (be, nl, x) = around_a_hub("BE", "NL", "XX")
    old = world.open(be, share=("NL",))
    world.run(2.0)
    flood(world, x, hub, None)
    brought = hub.node.custody.brought(x.identity.device)
    assert 0.8 * SHARE_OF_ALL < brought <= SHARE_OF_ALL
    assert hub.node.holdings.holds(old)
    new = world.open(nl, share=("BE",))
    say_much(world, nl, new)
    world.run(30.0)
    alike([be, nl], new)
    assert hub.node.holdings.logs(new) == nl.node.holdings.logs(new)


def test_a_stranger_opens_its_share_of_incidents(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(custody, "INCIDENTS_MAX", 45)
    world, hub, (be, nl, x) = around_a_hub("BE", "NL", "XX")
    for number in range(30):
        writer = LogWriter(f"tiny {number}", IncidentId(number.to_bytes(16, "big")))
        writer.grow(1)
        world.say(x, hub, wire.encode(writer.run()))
    world.run(2.0)
    assert len(hub.node.holdings.incidents()) == 5
    incident = world.open(be, share=("NL",))
    world.run(15.0)
    assert hub.node.holdings.holds(incident)
    alike([be, nl], incident)


def test_a_relay_that_passes_junk_on_still_brings_what_the_members_behind_it_write() -> None:
    """BE and the stranger at one hub, NL at the other: all that NL sees of BE the two hubs hand over."""
    world = World(2)
    near = world.add("EU", relay=ROOM)
    far = world.add("EU", "2", relay=ROOM, peers=("EU:1",))
    be, x = (world.add(noc, relay=False, peers=("EU:1",)) for noc in ("BE", "XX"))
    nl = world.add("NL", relay=False, peers=("EU-2:1",))
    world.run(15.0)
    incident = world.open(be, share=("NL",))
    world.run(2.0)
    flood(world, x, near, incident)
    flood(world, x, near, None)
    world.run(30.0)
    assert far.node.custody.brought(near.identity.device) > 0.8 * SHARE_OF_ALL
    say_much(world, be, incident)
    new = world.open(be, share=("NL",))
    say_much(world, be, new)
    world.run(60.0)
    for shared in (incident, new):
        assert same([be, nl], shared)
        assert len(log_texts(nl, shared)) == 12


def test_strangers_that_their_own_noc_certifies_as_relays_have_no_larger_shares() -> None:
    """Four in one hand, against a hub whose operator named none of them."""
    world = World(1)
    hub = world.add("EU", relay=ROOM)
    strangers = [world.add(noc, peers=("EU:1",)) for noc in ("XA", "XB", "XC", "XD")]
    be, nl = (world.add(noc, relay=False, peers=("EU:1",)) for noc in ("BE", "NL"))
    world.run(5.0)
    for x in strangers:
        flood(world, x, hub, None)
        assert hub.node.custody.brought(x.identity.device) <= SHARE_OF_ALL
        assert {peer.relay for peer in hub.reading.peers() if peer.noc == x.identity.certificate.noc} == {True}
    assert hub.node.custody.total_bytes < (1 - (8 / 9) ** 4) * ROOM.total_bytes_max
    incident = world.open(be, share=("NL",))
    say_much(world, be, incident)
    world.run(30.0)
    assert len(log_texts(nl, incident)) == 12


def test_a_member_stores_a_share_of_strange_logs_and_all_that_members_write() -> None:
    world = World(3)
    be = world.add("BE", relay=ROOM)
    nl = world.add("NL", relay=ROOM, peers=("BE:1",))
    x = world.add("XX", relay=False, peers=("BE:1",))
    world.run(5.0)
    incident = world.open(be, share=("NL",))
    world.run(2.0)
    say_much(world, nl, incident, 60)
    assert be.store.incident_bytes(incident) > SHARE_OF_INCIDENT
    assert be.node.custody.total_bytes == nl.node.custody.total_bytes == 0
    flood(world, x, be, incident)
    brought = be.node.custody.brought(x.identity.device)
    assert 0.7 * STRANGE_SHARE < brought <= STRANGE_SHARE
    for host in (be, nl):
        say_much(world, host, incident)
        world.stop(host)
        world.restart(host)
        world.run(65.0)
    say_much(world, nl, incident)
    world.run(65.0)
    assert same([be, nl], incident)
    assert len(log_texts(be, incident)) == 96
    assert be.node.custody.brought(x.identity.device) == be.node.custody.total_bytes == brought
    assert nl.node.custody.brought(be.identity.device) == brought


def test_a_key_makes_nobody_a_member_and_what_it_opens_counts() -> None:
    """Made-up incidents whose epochs are sealed to the hub: it reads them, and is in none of their groups."""
    world, hub, (be, nl, x) = around_a_hub("BE", "NL", "XX")
    seem_to_invite(world, x, hub, 100)
    assert sum(hub.node.incidents.is_member(incident) for incident in hub.node.holdings.incidents()) > 3
    brought = hub.node.custody.brought(x.identity.device)
    assert brought == hub.node.custody.total_bytes == sum(map(hub.store.incident_bytes, hub.store.incidents()))
    assert 0.7 * SHARE_OF_ALL < brought <= SHARE_OF_ALL
    incident = world.open(be, share=("NL",))
    say_much(world, be, incident)
    world.run(30.0)
    alike([be, nl], incident)


def seem_to_invite(world: World, x: Host, victim: Host, count: int) -> list[IncidentId]:
    """Made-up incidents whose keys are sealed to the victim."""
    enrolled = x.node.rollcall.roster.get(victim.identity.device)
    assert enrolled is not None
    made_up = []
    for number in range(count):
        incident, key = IncidentId(number.to_bytes(16, "big")), bytes([number]) * 32
        writer = LogWriter(f"seeming {number}", incident, key)
        package = epochs.make_package([enrolled.prekey], key, incident, world.rng.randbytes)
        writer.write(package=package)
        writer.grow(3, 2_200)
        world.say(x, victim, wire.encode(writer.run()))
        world.run(0.1)
        made_up.append(incident)
    return made_up


def test_what_a_key_was_sealed_for_is_not_passed_on_at_the_cost_of_who_was_tricked() -> None:
    """BE knows the stranger too. What BE is made to hold would be charged to BE at the hub."""
    world, hub, (be, nl) = around_a_hub("BE", "NL")
    x = world.add("XX", relay=False, peers=("BE:1", "EU:1"))
    world.run(5.0)
    made_up = seem_to_invite(world, x, be, 30)
    assert sum(map(be.node.holdings.holds, made_up)) > 20
    for incident in made_up:  # and the hub is told of them, so that it might ask
        world.say(x, hub, wire.encode(wire.Heights(incident, (), True, False)))
    world.run(30.0)
    assert hub.node.holdings.incidents() == []
    (head,) = be.node.holdings.logs(made_up[0])
    world.say(hub, be, wire.encode(wire.Want(made_up[0], head.log, 1, 4)))
    world.say(hub, be, wire.encode(wire.Graft(made_up[0], head.log, 0)))
    world.run(30.0)
    assert hub.node.custody.brought(be.identity.device) == 0
    incident = world.open(be, share=("NL",))
    say_much(world, be, incident)
    world.run(15.0)
    alike([be, nl], incident)


def test_what_a_late_member_fetches_is_charged_until_it_is_known_who_wrote_it(monkeypatch: pytest.MonkeyPatch) -> None:
    """What NL wrote waits for the key, which stands in the last entry of BE's log."""
    world, _hub, (be, nl, de) = around_a_hub("BE", "NL", "DE")
    incident = world.open(be, share=("NL",))
    world.run(2.0)
    for host in (be, nl):
        say_much(world, host, incident, 20)
    charged: list[int] = []
    plain = de.node.custody.on_taken

    def watched(*arguments: Any) -> None:
        plain(*arguments)
        charged.append(de.node.custody.total_bytes)

    monkeypatch.setattr(de.node.custody, "on_taken", watched)
    world.share(be, incident, "DE")
    world.run(60.0)
    alike([be, nl, de], incident)
    assert max(charged) > 20_000
    assert de.node.custody.total_bytes == 0
    world.run(LOOK_INTERVAL_S + 1.0)
    assert de.store.scan(ACCOUNT_NAMESPACE) == []


def test_what_is_dropped_is_charged_to_nobody_and_its_rows_go_also_after_a_crash(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(custody, "ROWS_MAX", 2)
    world, hub, (_be, x) = around_a_hub("BE", "XX")
    flood(world, x, hub, None, 0.3)
    assert hub.node.custody.brought(x.identity.device) > 0
    assert len(hub.store.scan(ACCOUNT_NAMESPACE)) > 5
    while hub.node.holdings.incidents():
        world.run(1.0)
    assert (hub.node.custody.total_bytes, hub.node.custody.brought(x.identity.device)) == (0, 0)
    assert len(hub.store.scan(ACCOUNT_NAMESPACE)) > 2
    world.crash(hub)
    world.restart(hub)
    assert hub.node.custody.total_bytes == 0
    world.run(60.0)
    assert hub.store.scan(ACCOUNT_NAMESPACE) == []


def test_a_run_of_what_was_dropped_is_refused_however_it_comes() -> None:
    world, hub, (_be, x) = around_a_hub("BE", "XX")
    writer = LogWriter()
    writer.grow(3)
    world.say(x, hub, wire.encode(writer.run()))
    world.run(ROOM.time_to_live_s + 2 * LOOK_INTERVAL_S)
    world.say(x, hub, wire.encode(writer.run()))
    world.run(1.0)
    assert not hub.node.holdings.holds(writer.incident)
    assert "relay-expired" in hub.codes


def test_what_is_stored_and_no_row_tells_who_brought_it_counts_as_nobody_s() -> None:
    world, hub, (_be, x) = around_a_hub("BE", "XX")
    flood(world, x, hub, None, 0.3)
    world.stop(hub)
    (key, value), *_ = hub.store.scan(ACCOUNT_NAMESPACE)
    lost_bytes = codec.decode_trusted(value)[0]
    brought = hub.node.custody.brought(x.identity.device)
    hub.store.stage(CommitBatch(puts=((ACCOUNT_NAMESPACE, key, None),)))
    hub.store.commit_all()
    world.restart(hub)
    assert hub.node.custody.brought(x.identity.device) == brought - lost_bytes
    assert hub.node.custody.brought(NOBODY) == lost_bytes
