"""A peer that speaks QUIC and does as it likes: a bare aioquic client, without bounds and without manners."""

from __future__ import annotations

import ssl
from collections.abc import AsyncIterator, Callable
from typing import Any, TypeVar

import pytest
import trio
from aioquic.quic import events
from aioquic.quic.configuration import QuicConfiguration
from aioquic.quic.connection import QuicConnection

from meshnode.transport.quic_tls import ALPN, TlsIdentity, make_tls_identity, peer_certificate_sha256

EventT = TypeVar("EventT", bound=events.QuicEvent)

_open_sockets: list[trio.socket.SocketType] = []


@pytest.fixture(autouse=True)
async def close_raw_peers() -> AsyncIterator[None]:
    """To be imported by tests that make raw peers: closes their sockets."""
    yield
    while _open_sockets:
        _open_sockets.pop().close()


class RawPeer:
    """Dials ``address``. Every method that waits also sends and receives whatever is to be sent and received."""

    def __init__(
        self,
        address: str,
        identity: TlsIdentity | None = None,
        with_certificate: bool = True,
        alpn: str = ALPN,
        **configuration: Any,
    ) -> None:
        self.identity = identity or make_tls_identity()
        self.configuration = QuicConfiguration(
            is_client=True, alpn_protocols=[alpn], verify_mode=ssl.CERT_NONE, **configuration
        )
        if with_certificate:
            self.configuration.certificate = self.identity.certificate
            self.configuration.private_key = self.identity.key
        self.quic = QuicConnection(configuration=self.configuration)
        host, _, port = address.rpartition(":")
        self.sockaddr = (host, int(port))
        self.udp = trio.socket.socket(trio.socket.AF_INET, trio.socket.SOCK_DGRAM)
        _open_sockets.append(self.udp)
        self.seen: list[events.QuicEvent] = []

    @property
    def server_tls_sha256(self) -> bytes:
        return peer_certificate_sha256(self.quic.tls) or b""

    async def handshake(self) -> None:
        self.quic.connect(self.sockaddr, trio.current_time())
        await self.until(events.HandshakeCompleted)

    async def flush(self) -> None:
        for data, sockaddr in self.quic.datagrams_to_send(trio.current_time()):
            await self.udp.sendto(data, sockaddr)

    async def until(self, kind: type[EventT], accept: Callable[[EventT], bool] = lambda _: True) -> EventT:
        """Runs until aioquic reports an event of this kind."""
        while True:
            await self.flush()
            event = self.quic.next_event()
            while event is not None:
                self.seen.append(event)
                if isinstance(event, kind) and accept(event):
                    return event
                event = self.quic.next_event()
            timer = self.quic.get_timer()
            with trio.move_on_at(timer if timer is not None else trio.current_time() + 1) as scope:
                data, sockaddr = await self.udp.recvfrom(2_048)
                self.quic.receive_datagram(data, sockaddr, trio.current_time())
            if scope.cancelled_caught:
                self.quic.handle_timer(trio.current_time())

    async def closed(self) -> str:
        """Runs until the other end closed the connection; the code it gave, or the name of QUIC's error."""
        ended = await self.until(events.ConnectionTerminated)
        return ended.reason_phrase if ended.frame_type is None else f"quic-{ended.error_code:#x}"

    async def stream_data(self, stream_id: int, size: int) -> bytes:
        """Runs until ``size`` bytes came on a stream."""
        data = b""
        while len(data) < size:
            event = await self.until(events.StreamDataReceived, lambda event: event.stream_id == stream_id)
            data += event.data
        return data

    def send(self, stream_id: int, data: bytes, end_stream: bool = False) -> None:
        self.quic.send_stream_data(stream_id, data, end_stream)


def framed(data: bytes) -> bytes:
    return len(data).to_bytes(4, "big") + data
