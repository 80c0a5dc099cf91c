"""Epoch packages that strangers and hostile members send: who is added later finds every key, at a bounded cost."""

from __future__ import annotations

import heapq
import random
from collections.abc import Sequence

import pytest
from forger import Forger
from hostile_mesh import Mesh
from node_stories import log_texts
from world import Host, World, full_mesh

from meshnode.core import entry as entries
from meshnode.core import epochs, replica, wire
from meshnode.core.epochs import EpochBody
from meshnode.core.ids import NO_HASH, IncidentId, KeyId, LogId
from meshnode.core.invitations import TRY_S, UNASKED_LEAD_S
from meshnode.core.keys import SigningKey
from meshnode.core.log import Entry
from meshnode.core.prekeys import Prekey

K1, K2 = b"1" * 32, b"2" * 32


def prekey(host: Host) -> Prekey:
    enrolled = host.node.rollcall.roster.get(host.identity.device)
    assert enrolled is not None
    return enrolled.prekey


def start(forger: Forger, key: bytes, hosts: Sequence[Host], parents: Sequence[bytes]) -> None:
    """An epoch or a re-seal."""
    recipients = [prekey(host) for host in hosts]
    package = epochs.make_package(recipients, key, forger.incident, random.Random(1).randbytes)
    content = forger.content(
        epoch=EpochBody.make(recipients, parents).to_plain(), parents=() if forger.entries else forger.heads()
    )
    forger.write(content, package=package, key_id=epochs.key_id(key), epoch_key=key)


def name_a_key(world: World, stranger: Host, victim: Host, incident: IncidentId, key_id: KeyId, count: int) -> None:
    """Well-formed packages with a key id seen in clear, each in a log of its own; none is readable."""
    package = epochs.make_package([prekey(stranger)], b"?" * 32, incident, world.rng.randbytes)
    for number in range(count):
        key = SigningKey(random.Random(f"{stranger.name} {number}").randbytes(32))
        log, sealed = LogId(key.public), world.rng.randbytes(300)
        digest = entries.entry_hash(incident, log, 1, NO_HASH, key_id, package, sealed)
        made = Entry(incident, log, 1, NO_HASH, key_id, package, sealed, digest)
        world.say(stranger, victim, wire.encode(wire.make_run([made], entries.sign_seal(key, made))))


def late(seed: int = 5) -> tuple[World, Host, Host, Host, IncidentId, KeyId]:
    """An incident of two keys, of which the second is told, and FR, a relay that stores it and is not yet a member."""
    world = World(seed)
    be, _, _, fr, xx = full_mesh(world, "BE", "DE", "NL", "FR", "XX")
    incident = world.open(be, share=("DE",))
    world.run(2.0)
    for text, noc in (("first", "NL"), ("second", "")):
        world.log(be, incident, text)
        world.run(2.0)
        if noc:
            world.share(be, incident, noc)
            world.run(2.0)
    second = be.node.incidents.replicas[incident].group.write_key()
    assert second is not None
    return world, be, fr, xx, incident, second


# --- who is added later ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("restart", [False, True])
def test_a_stranger_that_names_a_key_keeps_no_late_member_from_the_keys_before(
    monkeypatch: pytest.MonkeyPatch, restart: bool
) -> None:
    """The walk back takes several pieces."""
    monkeypatch.setattr(replica, "WALK_STEP_ENTRIES", 7)
    world, be, fr, xx, incident, second = late()
    name_a_key(world, xx, fr, incident, second, 40)
    world.run(5.0)
    if restart:
        world.crash(fr)
        world.restart(fr)
        world.run(70.0)
    world.share(be, incident, "FR")
    world.run(10.0)
    of_fr, of_be = fr.node.incidents.replicas[incident], be.node.incidents.replicas[incident]
    assert of_fr.keys == of_be.keys
    assert (of_fr.merged, of_fr.ready) == (of_be.merged, False)
    assert log_texts(fr, incident) == ["first", "second"]
    assert len(of_fr.packages) == 40 + 3
    assert len({position for _, position in of_fr.packages}) == 40 + 3


def test_a_walk_back_that_was_cut_short_goes_on_at_the_next_start(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(replica, "WALK_STEP_ENTRIES", 1)
    world, be, fr, xx, incident, second = late()
    name_a_key(world, xx, fr, incident, second, 40)
    world.run(5.0)
    world.share(be, incident, "FR")
    while not fr.node.incidents.is_member(incident):
        world.now, _, action = heapq.heappop(world._heap)
        action()
    of_fr = fr.node.incidents.replicas[incident]
    assert of_fr.ready
    assert of_fr.merged == 0
    world.crash(fr)
    world.restart(fr)
    world.run(10.0)
    assert log_texts(fr, incident) == ["first", "second"]


def test_packages_of_one_key_in_one_log_are_all_remembered_after_a_start() -> None:
    mesh = Mesh(3)
    start(mesh.forger, K1, mesh.everybody, [mesh.forger.epoch_key])
    for _ in range(3):
        start(mesh.forger, K1, [mesh.nl], [])
    mesh.forger.hand(mesh.forger.run(), *mesh.honest)
    mesh.world.run(2.0)
    before = set(mesh.be.node.incidents.replicas[mesh.incident].packages)
    assert len(before) == 5
    mesh.world.crash(mesh.be)
    mesh.world.restart(mesh.be)
    assert set(mesh.be.node.incidents.replicas[mesh.incident].packages) == before


def test_a_key_carried_by_one_of_many_re_seals_makes_no_valid_chain_and_late_members_read_all() -> None:
    mesh = Mesh(3)
    world = mesh.world
    fr = world.add("FR", peers=("BE:1", "DE:1"))
    world.run(5.0)
    forger = mesh.forger
    start(forger, K1, mesh.everybody, [])
    for number in range(20):
        start(forger, K1, [mesh.nl], [forger.epoch_key] if number == 9 else [])
    start(forger, K2, mesh.everybody, [K1])
    forger.hand(forger.run(), *mesh.honest)
    world.run(15.0)
    assert mesh.be.node.outbox.counts["epoch-past-unreachable"] == 2
    assert mesh.be.node.incidents.replicas[mesh.incident].group.write_key() != epochs.key_id(K2)
    world.share(mesh.be, mesh.incident, "FR")
    world.run(60.0)
    assert "before" in log_texts(fr, mesh.incident)


def test_the_start_of_an_epoch_is_found_among_junk_that_names_its_key() -> None:
    mesh = Mesh(3)
    world = mesh.world
    fr = world.add("FR", peers=("BE:1", "DE:1"))
    world.run(5.0)
    forger, short = mesh.forger, Forger(world, mesh.nl, mesh.incident, "short")
    for _ in range(9):
        package = epochs.make_package([prekey(mesh.nl)], K1, mesh.incident, world.rng.randbytes)
        short.write(b"", package=package, key_id=epochs.key_id(K1), sealed=world.rng.randbytes(600))
    start(forger, K1, mesh.everybody, [forger.epoch_key])
    for _ in range(9):
        start(forger, K1, [mesh.nl], [])
    start(forger, K2, mesh.everybody, [K1])
    for made in (short, forger):
        made.hand(made.run(), *mesh.honest)
        world.run(15.0)
    assert mesh.be.node.incidents.replicas[mesh.incident].group.write_key() == epochs.key_id(K2)
    world.share(mesh.be, mesh.incident, "FR")
    world.run(60.0)
    assert "before" in log_texts(fr, mesh.incident)


# --- what they cost -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("as_runs", [False, True])
def test_packages_that_nobody_asked_for_are_tried_at_a_pace(monkeypatch: pytest.MonkeyPatch, as_runs: bool) -> None:
    world = World(3)
    be = world.add("BE", relay=False)
    xx = world.add("XX", peers=("BE:1",), relay=False)
    world.run(5.0)
    package = epochs.make_package([prekey(xx)], K1, IncidentId(bytes(16)), world.rng.randbytes)
    tried = []
    monkeypatch.setattr(be.node.incidents, "try_package", lambda *_: tried.append(1))
    for number in range(60):
        incident = IncidentId(number.to_bytes(16, "big"))
        if as_runs:
            name_packages(world, xx, be, incident, package)
        else:
            world.say(xx, be, wire.encode(wire.Packages(incident, ((epochs.key_id(K1), package),) * 16, 1_000)))
    world.run(0.5)
    assert UNASKED_LEAD_S / TRY_S <= len(tried) <= (UNASKED_LEAD_S + 1.0) / TRY_S
    tried.clear()
    world.run(60.0)
    world.say(xx, be, wire.encode(wire.Packages(IncidentId(bytes(16)), ((epochs.key_id(K1), package),), 0)))
    world.run(0.1)
    assert len(tried) == 1  # what comes at an honest pace is tried at once


def name_packages(world: World, stranger: Host, victim: Host, incident: IncidentId, package: bytes) -> None:
    key = SigningKey(world.rng.randbytes(32))
    log, made = LogId(key.public), list[Entry]()
    for seq in range(1, 17):
        before = made[-1].hash if made else NO_HASH
        digest = entries.entry_hash(incident, log, seq, before, epochs.key_id(K1), package, b"sealed")
        made.append(Entry(incident, log, seq, before, epochs.key_id(K1), package, b"sealed", digest))
    world.say(stranger, victim, wire.encode(wire.make_run(made, entries.sign_seal(key, made[-1]))))


def test_an_invitation_shown_as_it_is_made_is_found_although_its_way_is_flooded() -> None:
    """What is ahead of the pace is asked about at once where the rest of the schedule has room."""
    world = World(4)
    be = world.add("BE")
    nl = world.add("NL", peers=("BE:1",), relay=False)
    world.run(5.0)
    package = epochs.make_package([prekey(be)], K1, IncidentId(bytes(16)), world.rng.randbytes)
    junk = wire.encode(wire.Packages(IncidentId(b"j" * 16), ((epochs.key_id(K1), package),) * 16, 0))
    for number in range(120):
        world.say(be, nl, junk)
        if number == 40:
            incident = world.open(be, share=("NL",))
        world.run(0.005)
    assert nl.node.incidents.is_member(incident)


def test_a_member_that_says_in_turn_that_it_has_a_key_and_that_it_has_none_is_answered_seldom() -> None:
    mesh = Mesh(3)
    ask = wire.encode(wire.PackagesWant(mesh.incident, 0))
    reads = wire.encode(wire.Heights(mesh.incident, (), True, True))
    for _ in range(100):
        for data, seconds in ((ask, 6.0), (reads, 0.1)):
            for host in mesh.honest:
                mesh.world.say(mesh.nl, host, data)
            mesh.world.run(seconds)
    group = mesh.be.node.incidents.replicas[mesh.incident].group
    assert 1 <= len(group.reseals_to(mesh.nl.identity.device)) <= 6
