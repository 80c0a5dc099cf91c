"""Hostile runs and frames at live nodes: refused with a code, and the node goes on serving."""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import replace

import pytest
from core_support import LogWriter
from forger import Forger
from hostile_mesh import Mesh
from node_stories import log_texts
from world import Host

from meshnode.core import codec, entry, epochs, wire
from meshnode.core.events import Channel, Received
from meshnode.core.ids import NO_HASH, DeviceId, EntryHash, IncidentId, LogId


@pytest.fixture
def mesh() -> Mesh:
    return Mesh()


# --- runs that do not fit -------------------------------------------------------------------------------------------


def _wrong_seal(forger: Forger) -> wire.Run:
    return replace(forger.run(), seal=bytes(64))


def _seal_of_another_entry(forger: Forger) -> wire.Run:
    return replace(forger.run(), seal=entry.sign_seal(forger.key, forger.entries[0]).signature)


def _swapped(forger: Forger) -> wire.Run:
    run = forger.run()
    return replace(run, rows=run.rows[::-1])


def _other_log(forger: Forger) -> wire.Run:
    return replace(forger.run(), log=LogId(bytes(32)))


def _other_incident(forger: Forger) -> wire.Run:
    return replace(forger.run(), incident=IncidentId(bytes(16)))


def _later_position(forger: Forger) -> wire.Run:
    return replace(forger.run(), first=1, previous=EntryHash(b"\1" * 32))


@pytest.mark.parametrize(
    "forge",
    [_wrong_seal, _seal_of_another_entry, _swapped, _other_log, _other_incident, _later_position],
    ids=lambda case: case.__name__.strip("_"),
)
def test_a_run_whose_seal_does_not_fit_costs_its_sender_the_link_and_changes_nothing(
    mesh: Mesh, forge: Callable[[Forger], wire.Run]
) -> None:
    mesh.forger.say("one")
    mesh.forger.say("two")
    before = mesh.be.node.holdings.digest()
    mesh.forger.hand(forge(mesh.forger), mesh.be)
    mesh.world.run(0.05)
    assert "bad-signature" in mesh.be.codes
    assert mesh.be.node.holdings.digest() == before
    assert {peer.noc: peer.last_refusal for peer in mesh.be.reading.peers()} == {"NL": "bad-signature", "DE": ""}
    assert not [link for link in mesh.nl.links.values() if link.peer is mesh.be]
    mesh.world.run(5.0)
    assert [link for link in mesh.nl.links.values() if link.peer is mesh.be]  # never cut for good
    mesh.check_serving()


def test_a_run_behind_a_gap_is_asked_for_from_the_height_that_is_held(mesh: Mesh) -> None:
    for number in range(4):
        mesh.forger.say(f"number {number}")
    mesh.forger.hand(mesh.forger.run(mesh.forger.entries[2:]), mesh.be)
    mesh.world.run(2.0)
    assert mesh.be.node.holdings.head(mesh.incident, mesh.forger.log) == (0, NO_HASH)
    mesh.check_serving()


def test_two_branches_of_one_log_part_nobody_and_are_shown(mesh: Mesh) -> None:
    """B1: the log key signs one thing for BE and another for DE. Each keeps the branch it has; links stay."""
    mesh.forger.say("common")
    mesh.forger.hand(mesh.forger.run(), *mesh.honest)
    mesh.world.run(15.0)
    mesh.world.cut.add(frozenset(("BE", "DE")))
    mesh.world.partition("NL")
    other = Forger(mesh.world, mesh.nl, mesh.incident)
    other.entries = list(mesh.forger.entries)
    mesh.forger.say("for BE")
    other.say("for DE")
    other.say("for DE, too")
    for forger, host in ((mesh.forger, mesh.be), (other, mesh.de)):
        run = forger.run(forger.entries[1:])
        link = next(iter(host.links), None)
        if link is None:
            mesh.world.heal()
            mesh.world.run(5.0)
            link = next(iter(host.links))
        mesh.world.step(host, [Received(link, Channel.CONTROL, wire.encode(run))])
    mesh.world.heal()
    mesh.world.run(75.0)
    assert any("log-forked" in host.codes for host in mesh.honest)
    links = {frozenset((host.name, link.peer.name)) for host in mesh.honest for link in host.links.values()}
    assert frozenset(("BE", "DE")) in links
    for host in mesh.honest:
        mesh.world.log(host, mesh.incident, f"{host.name} goes on")
    mesh.world.run(75.0)
    shown = [set(log_texts(host, mesh.incident)) for host in mesh.honest]
    assert "for BE" in shown[0]
    assert "for DE" in shown[1]


def test_anything_recorded_and_played_again_changes_nothing(mesh: Mesh) -> None:
    """B3: every frame of a while, again, twice and in another order."""
    recorded: list[tuple[Host, Host, bytes]] = []
    mesh.world.filter = lambda sender, receiver, data: recorded.append((sender, receiver, data)) or [data]
    for number in range(3):
        mesh.world.log(mesh.be, mesh.incident, f"entry {number}")
        mesh.world.set(mesh.nl, mesh.incident, "title", f"title {number}")
        mesh.world.run(12.0)
    mesh.world.filter = lambda _a, _b, data: [data]
    state = mesh.be.reading.digest(mesh.incident)
    again = recorded * 2
    mesh.world.rng.shuffle(again)
    for sender, receiver, data in again:
        if any(link.peer is receiver for link in sender.links.values()):
            mesh.world.say(sender, receiver, data)
    mesh.world.run(30.0)
    assert mesh.be.reading.digest(mesh.incident) == state
    assert {code for host in mesh.everybody for code in host.codes} <= {"link-up", "link-down"}
    mesh.check_serving()


# --- frames ---------------------------------------------------------------------------------------------------------


def _frames(mesh: Mesh) -> list[bytes]:
    """One real frame of each kind that crosses this mesh."""
    seen: dict[int, bytes] = {}

    def note(_sender: Host, _receiver: Host, data: bytes) -> list[bytes]:
        seen.setdefault(data[1], data)
        return [data]

    mesh.world.filter = note
    for number in range(3):
        mesh.world.log(mesh.be, mesh.incident, f"entry {number}")
        mesh.world.run(0.5)
    mesh.world.crash(mesh.de)
    mesh.world.log(mesh.nl, mesh.incident, "while DE is away")
    mesh.world.restart(mesh.de)
    mesh.world.run(75.0)
    mesh.world.log(mesh.de, mesh.incident, "in a new log")
    mesh.world.run(2.0)
    mesh.world.filter = lambda _a, _b, data: [data]
    assert {1, 2, 3, 4, 5, 7, 8, 13} <= set(seen), sorted(seen)
    return [seen[number] for number in sorted(seen)]


def test_frames_cut_or_changed_at_any_byte_leave_the_node_serving(mesh: Mesh) -> None:
    """X1, sampled; the whole sweep over the decoder is in test_wire.py."""
    rng = random.Random(1)
    digest = mesh.be.reading.digest(mesh.incident)
    frames = _frames(mesh)
    digest = mesh.be.reading.digest(mesh.incident)
    for frame in frames:
        places = range(len(frame)) if len(frame) < 60 else sorted(rng.sample(range(len(frame)), 60))
        for place in places:
            flipped = frame[:place] + bytes([frame[place] ^ (1 << rng.randrange(8))]) + frame[place + 1 :]
            for damaged in (frame[:place], flipped):
                if not any(link.peer is mesh.be for link in mesh.nl.links.values()):
                    mesh.world.run(3.0)  # it dials again, for ever
                mesh.world.say(mesh.nl, mesh.be, damaged)
                mesh.world.run(0.02)
    mesh.world.run(75.0)
    assert mesh.be.reading.digest(mesh.incident) == digest
    assert {"cbor-truncated", "message-malformed"} <= mesh.be.codes
    mesh.check_serving()


@pytest.mark.parametrize(
    ("frame", "code", "link_goes"),
    [
        (b"", "cbor-truncated", True),
        (bytes(wire.FRAME_BYTES_MAX + 1), "cbor-too-large", True),
        (codec.encode([99, "of a newer version"]), "message-unknown", False),
        (codec.encode(["text"]), "message-malformed", True),
        (b"\xfb" + bytes(8), "cbor-forbidden-type", True),
        (b"\xd8\x1c\x80", "cbor-forbidden-type", True),
    ],
)
def test_a_frame_that_is_no_message_is_refused_with_a_code(
    mesh: Mesh, frame: bytes, code: str, link_goes: bool
) -> None:
    mesh.world.say(mesh.nl, mesh.be, frame)
    mesh.world.run(0.05)
    assert code in mesh.be.codes
    assert any(link.peer is mesh.be for link in mesh.nl.links.values()) is not link_goes
    mesh.check_serving()


def test_random_messages_of_a_hostile_peer_never_raise(mesh: Mesh) -> None:
    """Well-formed, senseless: about logs, incidents and devices that exist and that do not."""
    rng = random.Random(2)
    known_logs = [head.log for head in mesh.be.node.holdings.logs(mesh.incident)]

    def incident() -> IncidentId:
        return rng.choice([mesh.incident, IncidentId(rng.randbytes(16))])

    def log() -> LogId:
        return rng.choice([*known_logs, LogId(rng.randbytes(32))])

    def number() -> int:
        return rng.choice([1, 2, 3, 300, 2**32 - 1])

    stranger = LogWriter("stranger", IncidentId(bytes(16)))
    stranger.grow(3)
    own = LogWriter("own", mesh.incident)
    own.grow(3)
    makers: list[Callable[[], wire.Message]] = [
        lambda: wire.Summary(rng.randbytes(32), rng.randbytes(32)),
        lambda: wire.Incidents(((incident(), rng.randbytes(32)),), rng.random() < 0.5),
        lambda: wire.Heights(incident(), ((log(), number()),), rng.random() < 0.5, rng.random() < 0.5),
        lambda: wire.Want(incident(), log(), number(), number()),
        lambda: rng.choice([stranger, own]).run(rng.randint(1, 3)),
        lambda: wire.Lack(incident(), log(), number()),
        lambda: wire.Announce(((incident(), log(), number()),)),
        lambda: wire.Prune(incident(), log()),
        lambda: wire.Graft(incident(), log(), number()),
        lambda: wire.Roster(((DeviceId(rng.randbytes(32)), number(), rng.randbytes(32)),), True),
        lambda: wire.RosterWant((mesh.be.identity.device, DeviceId(rng.randbytes(32)))),
        lambda: wire.RosterRecords(((rng.randbytes(50), rng.randbytes(50)),)),
        lambda: wire.Addresses(((DeviceId(rng.randbytes(32)), f"h{number()}:1"),)),
        lambda: wire.PackagesWant(incident(), 0),
        lambda: wire.Packages(incident(), ((epochs.key_id(rng.randbytes(32)), rng.randbytes(60)),), 0),
    ]
    for _ in range(600):
        if not any(link.peer is mesh.be for link in mesh.nl.links.values()):
            mesh.world.run(3.0)
        mesh.world.say(mesh.nl, mesh.be, wire.encode(rng.choice(makers)()))
        mesh.world.run(rng.choice([0.0, 0.02, 0.3]))
    mesh.world.run(75.0)
    for host in mesh.honest:
        mesh.world.log(host, mesh.incident, f"{host.name} goes on")
    mesh.world.run(30.0)
    assert len({host.reading.digest(mesh.incident) for host in mesh.honest}) == 1
    assert {"BE goes on", "DE goes on"} <= set(log_texts(mesh.de, mesh.incident))


def test_a_peer_that_floods_loses_its_link_and_may_come_back(mesh: Mesh) -> None:
    """B5: far more bytes in a moment than two cores could check."""
    (link,) = [number for number, link in mesh.be.links.items() if link.peer is mesh.nl]
    frame = wire.encode(wire.Packages(mesh.incident, ((mesh.forger.key_id, bytes(500_000)),), 0))
    for _ in range(300):
        if link in mesh.be.links:
            mesh.world.step(mesh.be, [Received(link, Channel.BULK, frame)])
    assert link not in mesh.be.links
    assert "too-fast" in mesh.be.codes
    mesh.world.step(mesh.be, [Received(link, Channel.BULK, frame)])  # still on its way: not looked at
    mesh.check_serving()


def test_a_hostile_enrolled_device_cannot_make_a_node_remember_without_bound(
    mesh: Mesh, monkeypatch: pytest.MonkeyPatch
) -> None:
    from meshnode.core import exchange

    monkeypatch.setattr(exchange, "INTEREST_MAX", 50)
    rng = random.Random(3)
    for _ in range(3):
        rows = tuple((IncidentId(rng.randbytes(16)), rng.randbytes(32)) for _ in range(100))
        mesh.world.say(mesh.nl, mesh.be, wire.encode(wire.Incidents(rows, False)))
        mesh.world.run(0.05)
    (link,) = [number for number, link in mesh.be.links.items() if link.peer is mesh.nl]
    assert len(mesh.be.node.exchange._interest[link]) == 50
    mesh.check_serving()
