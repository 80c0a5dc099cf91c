"""A hostile enrolled peer over QUIC at a daemon: a sample of what ``test_hostile_peer`` tries in full."""

from __future__ import annotations

import random
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import trio
from hostile import encoded
from processes import MakeMesh, log_codes, refusal_of, refusals, texts

from meshnode.core import wire
from meshnode.core.events import Channel, LinkDown, LinkUp, Received
from meshnode.core.hello import LinkAuthenticator
from meshnode.core.ids import DeviceId, IncidentId, LogId
from meshnode.storage import keyfiles
from meshnode.transport.base import FRAME_BYTES_MAX
from meshnode.transport.quic import QuicTransport
from meshnode.transport.quic_settings import QuicSettings
from simulations.mesh import Mesh, Node, wait_for

SILENCE_S = 0.5
"""Of a daemon that is left waiting for the rest of a frame."""
PROBE = wire.encode(wire.Summary(bytes([1]) * 32, bytes([1]) * 32))
"""Is answered with the incidents held, and with nothing but that: then what was sent before it has been handled."""


class Intruder:
    """XX's true identity, and frames of our own making."""

    def __init__(self, node: Node, enrolled: Mesh) -> None:
        identity = keyfiles.read_identity(enrolled["XX"].data)
        authenticator = LinkAuthenticator(
            identity.device_key, identity.certificate.bundle, identity.network_root, False, time.time
        )
        self.transport = QuicTransport(QuicSettings(listen="127.0.0.1:0"), authenticator, random.Random(1))
        self._address = node.address

    async def link(self) -> int:
        self.transport.dial(self._address)
        async for record in self.transport.receive:
            if isinstance(record, LinkUp):
                return record.link
        raise AssertionError("no link")

    async def send(self, *frames: bytes) -> str:
        """On a link of its own; the code it is closed with, or an empty text."""
        link = await self.link()
        for frame in (*frames, PROBE):
            self.transport.send(link, Channel.CONTROL, frame, False)
        async for record in self.transport.receive:
            if isinstance(record, LinkDown) and record.link == link:
                return record.code
            if isinstance(record, Received) and isinstance(wire.decode_untrusted(record.data), wire.Incidents):
                self.transport.close(link, "shutting-down")
                return ""
        raise AssertionError("the transport ended")

    async def send_raw(self, data: bytes, patience_s: float = 10.0) -> str:
        """Bytes of the stream itself, without a frame around them."""
        link = await self.link()
        self.transport._pumps[link].link._quic.send_stream_data(0, data)
        self.transport._flush_soon(self.transport._pumps[link])
        with trio.move_on_after(patience_s):
            async for record in self.transport.receive:
                if isinstance(record, LinkDown) and record.link == link:
                    return record.code
        return ""


@asynccontextmanager
async def intruded(node: Node, enrolled: Mesh) -> AsyncIterator[Intruder]:
    intruder = Intruder(node, enrolled)
    with trio.fail_after(60):
        async with trio.open_nursery() as nursery:
            await nursery.start(intruder.transport.run)
            yield intruder
            nursery.cancel_scope.cancel()


def samples() -> list[bytes]:
    incident, log = IncidentId(bytes(16)), LogId(bytes(32))
    return [
        wire.encode(message)
        for message in (
            wire.Summary(bytes(32), bytes(32)),
            wire.Incidents(((incident, bytes(32)),), True),
            wire.Heights(incident, ((log, 7),), True, False),
            wire.Want(incident, log, 1, 9),
            wire.Run(incident, log, 1, bytes(32), (bytes(32),), ((0, bytes(100), None),), bytes(64)),
            wire.Announce(((incident, log, 7),)),
            wire.Roster(((DeviceId(bytes(32)), 7, bytes(32)),), True),
            wire.RosterRecords(((bytes(100), bytes(100)),)),
            wire.Packages(incident, ((bytes(32), bytes(200)),), 0),
        )
    ]


async def test_a_daemon_serves_on_whatever_an_enrolled_peer_sends_it(make_mesh: MakeMesh, enrolled: Mesh) -> None:
    mesh = make_mesh("BE", "NL")
    mesh.start_all()
    mesh.wait_linked()
    be = mesh["BE"]
    with be.client() as client:
        incident = client.open_incident("other", {"title": "attacked"}, share_with=["NL"]).incident
    chance = random.Random(3)
    codes: list[str] = []
    async with intruded(be, enrolled) as intruder:
        for frame in samples():
            for _ in range(2):
                assert (await intruder.send(frame[: chance.randrange(1, len(frame))])).startswith("peer-cbor-")
                changed = bytearray(frame)
                changed[chance.randrange(len(frame))] ^= 1 << chance.randrange(8)
                codes.append(await intruder.send(bytes(changed)))
        assert await intruder.send(encoded(90, "from a newer version")) == ""
        assert await intruder.send(bytes(FRAME_BYTES_MAX - 2 * len(PROBE))) == "peer-cbor-trailing-bytes"
        assert await intruder.send(samples()[4]) == "peer-bad-signature"
        # Below the frames: lengths that no frame has, and a frame that never ends.
        assert await intruder.send_raw((FRAME_BYTES_MAX + 1).to_bytes(4, "big")) == "peer-frame-too-large"
        assert await intruder.send_raw(b"\xff\xff\xff\xff") == "peer-frame-too-large"
        assert await intruder.send_raw(bytes(4)) == "peer-frame-empty"
        assert await intruder.send_raw((1_000).to_bytes(4, "big") + bytes(999), SILENCE_S) == ""
        with be.client() as client:
            (xx,) = [peer for peer in client.peers() if peer.noc == "XX"]
        assert xx.last_refusal
    shown = refusals(be)
    assert shown["message-unknown"] == 1
    assert shown["bad-signature"] >= 1
    assert "internal-error" not in shown
    assert not {"peer-internal-error"} & set(codes)
    assert "bad-signature" in log_codes(be)
    assert refusal_of(be, incident, "unharmed") is None
    wait_for(lambda: texts(mesh["NL"], incident) == ["unharmed"], 20.0, "NL has what BE wrote")
    assert be.stop() == 0
