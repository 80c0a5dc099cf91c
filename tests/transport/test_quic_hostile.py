"""What a peer without proof, and a peer with proof but without manners, can do to a node: nothing but lose its link."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest
import trio
from aioquic.quic import events
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from raw_peer import RawPeer, close_raw_peers, framed
from transport_support import QUICK, KeyAuthenticator, down, frame, link, quic, running, wait_for

from meshnode.core.events import Channel, LinkUp, Received
from meshnode.transport.base import FRAME_BYTES_MAX, HELLO_BYTES_MAX
from meshnode.transport.quic import QuicTransport
from meshnode.transport.quic_tls import TlsIdentity, make_tls_identity

__all__ = ["close_raw_peers"]


def nothing_was_said(node: QuicTransport) -> bool:
    return node.receive.statistics().current_buffer_used == 0


def say_hello(peer: RawPeer, seed: int = 9) -> None:
    hello = KeyAuthenticator(seed).hello(peer.identity.sha256, peer.server_tls_sha256, True)
    peer.send(0, framed(hello))


@asynccontextmanager
async def proven_peer(node: QuicTransport) -> AsyncIterator[tuple[RawPeer, int]]:
    """A raw peer with a link that is up at the node."""
    peer = RawPeer(node.addresses[0])
    await peer.handshake()
    say_hello(peer)
    await peer.stream_data(0, 4 + 96)
    up = await wait_for(node, LinkUp)
    assert isinstance(up, LinkUp)
    yield peer, up.link


# --- before proof -----------------------------------------------------------------------------------------------


async def test_a_peer_without_a_certificate_gets_nothing() -> None:
    node = quic(1)
    async with running(node) as (address,):
        peer = RawPeer(address, with_certificate=False)
        await peer.handshake()
        peer.send(0, framed(KeyAuthenticator(9).hello(bytes(32), peer.server_tls_sha256, True)))
        assert await peer.closed() == "no-client-certificate"
        assert not [event for event in peer.seen if isinstance(event, events.StreamDataReceived)]
        assert nothing_was_said(node)
        assert node.counters["no-client-certificate"] == 1


async def test_a_certificate_whose_key_the_dialler_does_not_hold_is_refused_in_tls() -> None:
    stolen = make_tls_identity()
    node = quic(1)
    async with running(node) as (address,):
        identity = TlsIdentity(Ed25519PrivateKey.generate(), stolen.certificate, stolen.sha256)
        peer = RawPeer(address, identity)
        peer.quic.connect(peer.sockaddr, trio.current_time())
        assert await peer.closed() == "quic-0x133"  # TLS alert decrypt_error
        assert nothing_was_said(node)
        assert node.counters["tls-refused"] == 1


async def test_a_certificate_whose_key_the_acceptor_does_not_hold_is_refused_by_the_dialler() -> None:
    node, other = quic(1), quic(2)
    stolen = make_tls_identity()
    other._door._configuration.certificate = stolen.certificate
    async with running(node, other) as (_, address):
        node.dial(address)
        failed = await node.receive.receive()
        assert failed.code == "tls-refused"


async def test_a_hello_bound_to_other_certificates_is_refused() -> None:
    # A man in the middle relays an honest hello, or replays one that it saw: it names two certificates, and at least
    # one of them is not the one that this connection proved.
    node = quic(1)
    async with running(node) as (address,):
        for local, remote, dialed in (
            (make_tls_identity().sha256, None, True),
            (None, make_tls_identity().sha256, True),
            (None, None, False),
        ):
            peer = RawPeer(address)
            await peer.handshake()
            hello = KeyAuthenticator(9).hello(local or peer.identity.sha256, remote or peer.server_tls_sha256, dialed)
            peer.send(0, framed(hello))
            assert await peer.closed() == "bad-signature"
        assert nothing_was_said(node)
        assert node.counters["bad-signature"] == 3


async def test_silence_after_the_handshake_ends_it_in_time() -> None:
    node = quic(1, QUICK)
    async with running(node) as (address,):
        peer = RawPeer(address)
        await peer.handshake()
        started = trio.current_time()
        assert await peer.closed() == "hello-timeout"
        assert 0.4 < trio.current_time() - started < 1.0
        assert nothing_was_said(node)


async def test_half_a_hello_is_silence() -> None:
    node = quic(1, QUICK)
    async with running(node) as (address,):
        peer = RawPeer(address)
        await peer.handshake()
        peer.send(0, framed(bytes(96))[:50])
        assert await peer.closed() == "hello-timeout"


async def test_a_hello_larger_than_a_hello_may_be_ends_it_at_its_length() -> None:
    node = quic(1)
    async with running(node) as (address,):
        peer = RawPeer(address)
        await peer.handshake()
        peer.send(0, (HELLO_BYTES_MAX + 1).to_bytes(4, "big"))
        assert await peer.closed() == "hello-too-large"


async def test_an_unproven_peer_is_granted_eight_kibibytes_and_one_stream() -> None:
    node = quic(1)
    async with running(node) as (address,):
        peer = RawPeer(address)
        await peer.handshake()
        assert peer.quic._remote_max_data == 8_192
        assert peer.quic._remote_max_stream_data_bidi_remote == 8_192
        assert (peer.quic._remote_max_streams_bidi, peer.quic._remote_max_streams_uni) == (1, 0)


@pytest.mark.parametrize("stream_id", [4, 2, 6])
async def test_a_second_stream_before_proof_ends_it(stream_id: int) -> None:
    node = quic(1)
    async with running(node) as (address,):
        peer = RawPeer(address)
        await peer.handshake()
        peer.quic._remote_max_streams_bidi = peer.quic._remote_max_streams_uni = 100
        peer.quic._remote_max_stream_data_uni = 100
        peer.send(stream_id, b"x")
        assert await peer.closed() == "quic-0x4"  # STREAM_LIMIT_ERROR
        assert node.counters["unexpected-stream"] == 1


async def test_more_bytes_than_granted_before_proof_end_it() -> None:
    node = quic(1)
    async with running(node) as (address,):
        peer = RawPeer(address)
        await peer.handshake()
        peer.quic._remote_max_data = peer.quic._remote_max_stream_data_bidi_remote = 1 << 30
        peer.send(0, HELLO_BYTES_MAX.to_bytes(4, "big") + bytes(20_000))
        peer.quic._streams[0].max_stream_data_remote = 1 << 30
        assert await peer.closed() == "quic-0x3"  # FLOW_CONTROL_ERROR
        assert node.counters["window-exceeded"] == 1


async def test_another_protocol_is_refused_in_the_handshake() -> None:
    node = quic(1)
    async with running(node) as (address,):
        peer = RawPeer(address, alpn="h3")
        peer.quic.connect(peer.sockaddr, trio.current_time())
        assert await peer.closed() == "quic-0x178"  # TLS alert no_application_protocol
        assert node.counters["version-mismatch"] == 1


# --- with proof -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("sent", "code"),
    [
        (bytes(4), "frame-empty"),
        ((FRAME_BYTES_MAX + 1).to_bytes(4, "big"), "frame-too-large"),
        (b"\xff\xff\xff\xff", "frame-too-large"),
    ],
)
async def test_a_wrong_length_ends_the_link_at_once(sent: bytes, code: str) -> None:
    node = quic(1)
    async with running(node), proven_peer(node) as (peer, number):
        peer.send(0, framed(b"good") + sent)
        assert await peer.closed() == code
        assert (await frame(node)).data == b"good"
        assert await down(node, number) == code


async def test_frames_cut_at_every_byte_arrive_whole() -> None:
    node = quic(1)
    async with running(node), proven_peer(node) as (peer, number):
        stream = framed(b"one") + framed(b"two") + framed(b"three")
        for position in range(len(stream)):
            peer.send(0, stream[position : position + 1])
            await peer.flush()
        got = [await frame(node) for _ in range(3)]
        assert got == [Received(number, Channel.CONTROL, data) for data in (b"one", b"two", b"three")]


@pytest.mark.parametrize("stream_id", [8, 2])
async def test_a_third_stream_ends_the_link(stream_id: int) -> None:
    node = quic(1)
    async with running(node), proven_peer(node) as (peer, number):
        peer.quic._remote_max_streams_bidi = peer.quic._remote_max_streams_uni = 100
        peer.quic._remote_max_stream_data_uni = 100
        peer.send(stream_id, b"x")
        await peer.flush()
        assert await down(node, number) == "unexpected-stream"


async def test_a_stream_opened_by_the_acceptors_side_ends_the_link_at_the_dialler() -> None:
    one, two = quic(1), quic(2)
    async with running(one, two) as (_, address):
        dialer, acceptor = await link(one, two, address)
        hostile = two._pumps[acceptor.link].link._quic
        hostile._remote_max_streams_bidi = 9
        hostile.send_stream_data(1, b"x")
        two.send(acceptor.link, Channel.CONTROL, b"flush", False)
        assert await down(one, dialer.link) == "unexpected-stream"


async def test_a_datagram_frame_ends_the_link() -> None:
    node = quic(1)
    async with running(node), proven_peer(node) as (peer, number):
        peer.quic._remote_max_datagram_frame_size = 1_000
        peer.quic.send_datagram_frame(b"x")
        await peer.flush()
        assert await down(node, number) == "protocol-violation"


@pytest.mark.parametrize("how", ["fin", "reset", "stop"])
async def test_ending_a_stream_ends_the_link(how: str) -> None:
    node = quic(1)
    async with running(node), proven_peer(node) as (peer, number):
        if how == "fin":
            peer.send(0, b"", end_stream=True)
        elif how == "reset":
            peer.quic.reset_stream(0, 1)
        else:
            peer.quic.stop_stream(0, 1)
        await peer.flush()
        assert await down(node, number) == "stream-closed"


async def test_a_stream_in_crumbs_ends_the_link() -> None:
    node = quic(1)
    async with running(node), proven_peer(node) as (peer, number):
        stream = peer.quic._streams[0].sender
        peer.send(0, framed(bytes(4_000)))
        # Every other byte, each as a frame of its own.
        start = stream._pending[0].start
        stream._pending.shift()
        for offset in range(start, start + 4_000, 2):
            stream._pending.add(offset, offset + 1)
        with trio.CancelScope() as scope:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(peer.closed)
                assert await down(node, number) == "stream-fragmented"
                scope.cancel()


async def test_a_close_phrase_that_is_no_code_is_not_repeated() -> None:
    node = quic(1)
    async with running(node), proven_peer(node) as (peer, number):
        peer.quic.close(error_code=0, reason_phrase="<script>" + "x" * 500)
        await peer.flush()
        assert await down(node, number) == "closed-by-peer"


async def test_an_error_that_nobody_foresaw_ends_that_link_and_no_other(monkeypatch: pytest.MonkeyPatch) -> None:
    node, other = quic(1), quic(2)
    async with running(node, other) as (address, _):
        good, _ = await link(other, node, address)
        async with proven_peer(node) as (peer, number):
            victim = node._pumps[number].link._quic

            def fail(*_: object) -> None:
                raise IndexError("pop from empty list")

            monkeypatch.setattr(victim, "receive_datagram", fail)
            peer.quic.send_ping(1)
            assert await peer.closed() == "internal-error"
            assert await down(node, number) == "internal-error"
        other.send(good.link, Channel.CONTROL, b"still here", False)
        assert (await frame(node)).data == b"still here"
