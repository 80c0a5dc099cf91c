"""A hostile enrolled peer at the link of a daemon: whatever it sends is refused with a code, or changes nothing.

In one process and virtual time, so that thousands of frames take seconds; ``test_hostile_quic`` shows the same over
QUIC to a daemon's process.
"""

from __future__ import annotations

import random
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

import cbor2
import pytest
import trio
import trio.testing
from hostile import Forger, HostilePeer, encoded
from one_process import Daemon, make_network, running, until
from world import make_identity

from meshnode.core import wire
from meshnode.core.entry import Content
from meshnode.core.events import Channel
from meshnode.core.ids import EntryHash, IncidentId, KeyId
from meshnode.core.operations import Log, encode_operation
from meshnode.core.wire import FRAME_BYTES_MAX
from meshnode.transport.memory import MemoryTransport

POSITIONS_MAX = 80
"""Of a frame that are cut or changed; evenly spread where it has more bytes. Both ends are always among them."""
STALL_S_MAX = 0.1
"""One frame holds the loop for no longer (I8)."""


@dataclass
class Stage:
    """BE and NL, honest members; XX, a member too, whose daemon is gone and whose key is in a stranger's hands."""

    be: Daemon
    nl: Daemon
    xx: Daemon
    incident: IncidentId
    hostile: HostilePeer
    frames: dict[type, bytes]
    """The shortest frame of each kind that the three sent each other."""

    def samples(self) -> dict[type, bytes]:
        """One frame of every kind there is."""
        (head, *_) = self.be.loop.node.holdings.logs(self.incident)
        made: list[wire.Message] = [
            wire.Incidents(((self.incident, bytes(32)),), True),
            wire.Heights(self.incident, ((head.log, head.height),), True, False),
            wire.Want(self.incident, head.log, 1, 1),
            wire.Lack(self.incident, head.log, 1),
            wire.Announce(((self.incident, head.log, head.height),)),
            wire.Prune(self.incident, head.log),
            wire.Graft(self.incident, head.log, 0),
            wire.Roster(((self.be.identity.device, 7, bytes(32)),), True),
            wire.RosterWant((self.be.identity.device,)),
            wire.PackagesWant(self.incident, 0),
            wire.Packages(self.incident, tuple(self.be.loop.node.incidents.packages(self.incident)[0]), 0),
        ]
        samples = {type(message): wire.encode(message) for message in made} | self.frames
        assert set(samples) == set(wire._NUMBERS), set(wire._NUMBERS) - set(samples)
        return samples

    async def assert_unharmed(self) -> None:
        """The state is what it was, it is the same at both, and what is written still spreads."""
        texts = self.be.texts(self.incident)
        assert "forged" not in texts
        await self.be.log(self.incident, f"unharmed {len(texts)}")
        await until(lambda: self.nl.texts(self.incident) == [*texts, f"unharmed {len(texts)}"])
        await until(lambda: self.be.digest(self.incident) == self.nl.digest(self.incident))


@asynccontextmanager
async def stage() -> AsyncIterator[Stage]:
    network = make_network()
    be, nl = Daemon(network, "BE", ("NL",)), Daemon(network, "NL")
    xx = Daemon(network, "XX", ("BE",))
    frames: dict[type, bytes] = {}
    for daemon in (be, nl, xx):
        record_frames(daemon, frames)
    async with running(be, nl):
        await until(lambda: be.knows("NL") and nl.knows("BE"))
        async with running(xx):
            await until(lambda: be.knows("XX"))
            incident = await be.open(share=("NL", "XX"))
            await be.log(incident, "from BE")
            await until(lambda: bool(xx.service.incidents_view()) and "from BE" in xx.texts(incident))
            await until(lambda: "from BE" in nl.texts(incident))
        await until(lambda: not be.is_linked("XX"))
        await trio.sleep(30.0)  # the rest of what they had to say
        yield Stage(be, nl, xx, incident, HostilePeer(network, "XX", "BE"), frames)


def record_frames(daemon: Daemon, frames: dict[type, bytes]) -> None:
    send = daemon.links.send

    def recording(link: int, channel: Channel, data: bytes, droppable: bool) -> None:
        kind = type(wire.decode_untrusted(data))
        if kind not in frames or len(data) < len(frames[kind]):
            frames[kind] = data
        send(link, channel, data, droppable)

    daemon.links.send = recording


@asynccontextmanager
async def attacked() -> AsyncIterator[Stage]:
    async with stage() as scene, trio.open_nursery() as nursery:
        await nursery.start(scene.hostile.transport.run)
        yield scene
        await scene.assert_unharmed()
        nursery.cancel_scope.cancel()


def positions(data: bytes) -> list[int]:
    step = max(1, len(data) // POSITIONS_MAX)
    return sorted({*range(0, len(data), step), len(data) - 1})


# --- frames ----------------------------------------------------------------------------------------------------------


async def test_frames_cut_at_any_byte_cost_the_link_and_nothing_else(autojump_clock: trio.testing.MockClock) -> None:
    async with attacked() as scene:
        for kind, frame in scene.samples().items():
            for at in positions(frame)[1:]:
                code = await scene.hostile.send(frame[:at])
                assert code.startswith("peer-cbor-"), (kind, at, code)


async def test_frames_with_any_byte_changed_are_refused_or_change_nothing(
    autojump_clock: trio.testing.MockClock,
) -> None:
    chance = random.Random(7)
    codes: set[str] = set()
    async with attacked() as scene:
        for frame in scene.samples().values():
            for at in positions(frame):
                changed = bytearray(frame)
                changed[at] ^= 1 << chance.randrange(8)
                codes.add(await scene.hostile.send(bytes(changed)))
    assert {"", "peer-cbor-truncated", "peer-message-malformed", "peer-bad-signature"} <= codes
    assert "peer-internal-error" not in codes


def test_kinds_of_messages_have_not_outgrown_this_file() -> None:
    assert max(wire._NUMBERS.values()) < 90, "90 must stay an unknown number here"


async def test_a_message_of_an_unknown_kind_is_passed_over_and_the_link_stays(
    autojump_clock: trio.testing.MockClock,
) -> None:
    async with attacked() as scene:
        assert await scene.hostile.send(encoded(90, b"from a newer version")) == ""
        assert scene.be.refusals["message-unknown"] == 1
        assert scene.be.is_linked("XX")


def colliding_keys() -> bytes:
    """300 KB of integer keys that all fall into one place of Python's hash table."""
    modulus = (1 << 61) - 1
    count = 30_000
    head = bytes([0x80 + 2, 0x01, 0xB9]) + count.to_bytes(2, "big")
    return head + b"".join(b"\x1b" + (1 + number % 8 * modulus).to_bytes(8, "big") + b"\x00" for number in range(count))


HOSTILE_CBOR = {
    "nested": b"\x81" * 1_000 + b"\x00",
    "nested maps": b"\xa1\x00" * 1_000 + b"\x00",
    "a claim of 2**64 items": b"\x9b" + b"\xff" * 8,
    "a claim of 2**63 bytes": b"\x5b\x7f" + b"\xff" * 7,
    "an indefinite array": b"\x9f\x01\xff",
    "an indefinite string": b"\x5f\x41a\xff",
    "a duplicate key": b"\x82\x01\xa2\x00\x00\x00\x01",
    "keys out of order": b"\x82\x01\xa2\x01\x00\x00\x01",
    "colliding keys": colliding_keys(),
    "trailing bytes": encoded(1, bytes(32), bytes(32)) + b"\x00",
    "an over-long integer": b"\x82\x18\x01\x00",
    "a tag that builds an object": cbor2.dumps(cbor2.CBORTag(35, "(a+)+$")),
    "a shared reference to itself": bytes.fromhex("d81c81d81d00"),
    "a huge bignum": cbor2.dumps(1 << 100_000),
    "not a number": b"\x81\xf9\x7e\x00",
    "a float": b"\x81\xfb" + bytes(8),
    "undefined": b"\x81\xf7",
    "a surrogate": b"\x82\x01\x63\xed\xa0\x80",
    "a list of a million small things": b"\x9a\x00\x0f\x00\x00" + bytes(0xF0000),
    "the largest frame, of nothing": bytes(FRAME_BYTES_MAX),
    "a map in place of a message": b"\xa0",
    "a text in place of a number": encoded("1", bytes(32), bytes(32)),
    "true in place of a number": encoded(True, bytes(32), bytes(32)),
    "a negative number": encoded(-1, bytes(32), bytes(32)),
}


async def test_hostile_cbor_is_refused_at_once(autojump_clock: trio.testing.MockClock) -> None:
    async with attacked() as scene:
        for what, frame in HOSTILE_CBOR.items():
            if not scene.hostile._link:
                await scene.hostile.send()
            begun = time.process_time()
            code = await scene.hostile.send(frame)
            assert time.process_time() - begun < STALL_S_MAX, what
            expected = ("peer-cbor-", "peer-message-malformed") if what != "a negative number" else ("",)
            assert code.startswith(expected), (what, code)


async def test_everything_that_was_ever_said_said_again_changes_nothing(
    autojump_clock: trio.testing.MockClock,
) -> None:
    said: list[bytes] = []
    async with attacked() as scene:
        send = scene.be.links.send
        scene.be.links.send = lambda link, channel, data, droppable: (
            said.append(data),
            send(link, channel, data, droppable),
        )[0]
        for number in range(5):
            await scene.be.log(scene.incident, f"record {number}")
        await trio.sleep(30.0)
        before = scene.be.digest(scene.incident)
        for frame in [*said, *reversed(said)]:
            await scene.hostile.send(frame)
        assert scene.be.digest(scene.incident) == before


# --- entries ---------------------------------------------------------------------------------------------------------

FORGED = (encode_operation(Log({"text": "forged"})),)


def write_forged(forger: Forger, *parents: EntryHash, **fields: Any) -> None:
    forger.write(forger.content(*parents, operations=FORGED, **fields))


def wrong_seal(forger: Forger, _: Stage) -> bytes:
    write_forged(forger)
    return forger.run(seal=bytes(64))


def seal_of_another_log(forger: Forger, _: Stage) -> bytes:
    write_forged(forger)
    return forger.run(log=make_identity("DE", "1").device)


def changed_after_it_was_sealed(forger: Forger, _: Stage) -> bytes:
    write_forged(forger)
    entry = forger.entries[0]
    return forger.run(rows=((0, entry.sealed[:-1] + bytes([entry.sealed[-1] ^ 1]), None),))


def wrong_previous(forger: Forger, _: Stage) -> bytes:
    write_forged(forger)
    return forger.run(previous=bytes([1]) * 32)


def moved_to_another_incident(forger: Forger, _: Stage) -> bytes:
    write_forged(forger)
    return forger.run(incident=bytes(16))


def another_key_id(forger: Forger, _: Stage) -> bytes:
    write_forged(forger)
    return forger.run(key_ids=(bytes(32),))


@pytest.mark.parametrize(
    ("forge", "code"),
    [
        (wrong_seal, "bad-signature"),
        (seal_of_another_log, "bad-signature"),
        (changed_after_it_was_sealed, "bad-signature"),
        (wrong_previous, "bad-signature"),
        (moved_to_another_incident, "bad-signature"),
        (another_key_id, "bad-signature"),
    ],
)
async def test_a_run_that_its_log_key_did_not_sign_costs_the_link(
    autojump_clock: trio.testing.MockClock, forge: Callable[[Forger, Stage], bytes], code: str
) -> None:
    async with attacked() as scene:
        before = scene.be.digest(scene.incident)
        held = scene.be.service.node_view().entries
        assert await scene.hostile.send(forge(Forger.of(scene.xx, scene.incident, 1), scene)) == f"peer-{code}"
        assert scene.be.refusals[code] == 1
        assert scene.be.digest(scene.incident) == before
        assert scene.be.service.node_view().entries == held


async def test_a_run_behind_a_gap_is_not_taken_and_asked_for_from_where_it_is_known(
    autojump_clock: trio.testing.MockClock,
) -> None:
    async with attacked() as scene:
        held = scene.be.service.node_view().entries
        forger = Forger.of(scene.xx, scene.incident, 1)
        write_forged(forger)
        assert await scene.hostile.send(forger.run(first=2)) == ""
        assert scene.be.service.node_view().entries == held


async def test_a_run_that_builds_on_a_history_that_nobody_has_is_refused(
    autojump_clock: trio.testing.MockClock,
) -> None:
    async with attacked() as scene:
        forger = Forger.of(scene.xx, scene.incident, 1)
        forger.write(forger.content(operations=FORGED), EntryHash(bytes([1]) * 32))
        await scene.hostile.send(forger.run())
        assert scene.be.refusals["log-forked"] == 1


async def test_a_second_entry_at_one_position_is_refused_and_the_first_stays(
    autojump_clock: trio.testing.MockClock,
) -> None:
    async with attacked() as scene:
        forger = Forger.of(scene.xx, scene.incident, 1)
        forger.write(forger.content(operations=(encode_operation(Log({"text": "the first"})),)))
        assert await scene.hostile.send(forger.run()) == ""
        await until(lambda: "the first" in scene.be.texts(scene.incident))
        forger.entries.clear()
        write_forged(forger)
        # Refused, and no reason to drop the link: whoever passes it on may have done so in good faith.
        assert await scene.hostile.send(forger.run()) == ""
        assert scene.be.refusals["log-forked"] == 1
        assert "the first" in scene.be.texts(scene.incident)


def without_an_opening(forger: Forger, _: Stage) -> None:
    forger.write(Content((), 1, "intruder", FORGED))


def opened_by_a_device_that_is_not_asked(forger: Forger, _: Stage) -> None:
    """The signature of one device under the certificate of another."""
    bundle = make_identity("NL", "1").certificate.bundle
    write_forged(forger, opening=forger.opening(bundle=bundle))


def opened_for_another_log(forger: Forger, _: Stage) -> None:
    write_forged(forger, opening=forger.opening(log=make_identity("DE", "1").device))


def opened_by_a_foreign_network(forger: Forger, _: Stage) -> None:
    write_forged(forger, opening=forger.opening(identity=make_identity("XX", "1", network=7)))


def opened_by_a_device_that_is_no_member(forger: Forger, _: Stage) -> None:
    write_forged(forger, opening=forger.opening(identity=make_identity("DE", "1")))


def sealed_with_another_key(forger: Forger, _: Stage) -> None:
    forger.key = bytes(32)
    write_forged(forger)


def a_parent_named_twice(forger: Forger, _: Stage) -> None:
    write_forged(forger, forger.epoch)


def too_many_parents(forger: Forger, _: Stage) -> None:
    write_forged(forger, *(EntryHash(bytes([number]) * 32) for number in range(17)))


def an_epoch_without_a_package(forger: Forger, _: Stage) -> None:
    write_forged(forger, epoch=[1, 2, 3])


def no_content_at_all(forger: Forger, _: Stage) -> None:
    forger.write_plain(b"")


def content_that_is_no_map(forger: Forger, _: Stage) -> None:
    forger.write_plain(encoded(1, 2, 3))


def content_with_colliding_keys(forger: Forger, _: Stage) -> None:
    count = 5_000
    pairs = b"".join(
        b"\x1b" + (1 + number % 8 * ((1 << 61) - 1)).to_bytes(8, "big") + b"\x00" for number in range(count)
    )
    forger.write_plain(b"\xb9" + count.to_bytes(2, "big") + pairs)


def operations_that_are_none(forger: Forger, _: Stage) -> None:
    forger.write(forger.content(operations=([], ["set"], [1])))


@pytest.mark.parametrize(
    ("forge", "code"),
    [
        (without_an_opening, "opening-missing"),
        (opened_by_a_device_that_is_not_asked, "bad-signature"),
        (opened_for_another_log, "bad-signature"),
        (opened_by_a_foreign_network, "certificate-foreign-network"),
        (opened_by_a_device_that_is_no_member, "log-of-stranger"),
        (sealed_with_another_key, "entry-unreadable"),
        (a_parent_named_twice, "content-malformed"),
        (too_many_parents, "content-malformed"),
        (an_epoch_without_a_package, "epoch-incomplete"),
        (no_content_at_all, "cbor-truncated"),
        (content_that_is_no_map, "content-malformed"),
        (content_with_colliding_keys, "cbor-not-canonical"),
        (operations_that_are_none, "operation-bad-form"),
    ],
)
async def test_an_entry_that_a_member_must_not_write_is_shown_and_never_merged_at_any_member(
    autojump_clock: trio.testing.MockClock, forge: Callable[[Forger, Stage], None], code: str
) -> None:
    async with attacked() as scene:
        forger = Forger.of(scene.xx, scene.incident, 1)
        forge(forger, scene)
        # What follows in a log that is broken is never merged either.
        forger.write(Content((), 1, "intruder", FORGED))
        await scene.hostile.send(forger.run())
        assert scene.be.refusals[code] >= 1, scene.be.refusals
        # The neighbour that passed it on in good faith keeps its link: any member judges the same bytes alike.
        await until(lambda: scene.nl.refusals[code] >= 1)
        assert scene.be.is_linked("NL")


async def test_entries_that_name_what_nobody_has_wait_and_hold_up_nobody(
    autojump_clock: trio.testing.MockClock,
) -> None:
    async with attacked() as scene:
        unknown_parent = Forger.of(scene.xx, scene.incident, 1)
        write_forged(unknown_parent, EntryHash(bytes([9]) * 32))
        unknown_key = Forger.of(scene.xx, scene.incident, 2)
        unknown_key.write_sealed(bytes(200), KeyId(bytes([9]) * 32))
        for forger in (unknown_parent, unknown_key):
            assert await scene.hostile.send(forger.run()) == ""
        assert scene.be.service.incident_summary(scene.incident).waiting == 2


# --- delivery --------------------------------------------------------------------------------------------------------


class Muddled(MemoryTransport):
    """Sends everything later, in any order, and some of it twice."""

    def __init__(self, daemon: Daemon) -> None:
        super().__init__(daemon.network, f"{daemon.noc}:1", daemon.authenticator)
        self._chance = random.Random(daemon.noc)
        self._held: list[tuple[int, Channel, bytes, bool]] = []

    def send(self, link: int, channel: Channel, data: bytes, droppable: bool) -> None:
        self._held.append((link, channel, data, droppable))

    async def run(self, task_status: trio.TaskStatus[str] = trio.TASK_STATUS_IGNORED) -> None:
        async with trio.open_nursery() as nursery:
            task_status.started(await nursery.start(super().run))
            while True:
                await trio.sleep(self._chance.uniform(0.0, 0.5))
                frames = self._held + [frame for frame in self._held if self._chance.random() < 0.3]
                self._held = []
                self._chance.shuffle(frames)
                for frame in frames:
                    super().send(*frame)


async def test_duplicate_and_reordered_frames_end_in_the_same_state(autojump_clock: trio.testing.MockClock) -> None:
    network = make_network()
    be = Daemon(network, "BE", ("NL", "DE"), make_transport=Muddled)
    nl = Daemon(network, "NL", ("DE",), make_transport=Muddled)
    de = Daemon(network, "DE", make_transport=Muddled)
    nodes = (be, nl, de)
    async with running(*nodes):
        await until(lambda: be.knows("NL", "DE") and nl.knows("BE", "DE"), 600.0)
        incident = await be.open(share=("NL", "DE"))
        await until(lambda: all(node.service.incidents_view() for node in nodes), 600.0)
        expected: set[str] = set()
        for number in range(60):
            node = nodes[number % 3]
            expected.add(f"{node.noc} {number}")
            await node.log(incident, f"{node.noc} {number}")
            await trio.sleep(0.1)
        for node in nodes:
            await until(lambda node=node: set(node.texts(incident)) == expected, 600.0)
            assert len(node.texts(incident)) == len(expected)
        assert len({node.digest(incident) for node in nodes}) == 1
