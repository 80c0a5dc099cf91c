"""The door: what to do with a datagram that belongs to no link.

Most of them are noise, and get no answer: garbage, late packets of closed links, stateless resets. A first packet
(Initial) of somebody new passes these checks, the cheapest first:

1. It has 1,200 bytes, as RFC 9000 demands: so answering never amplifies.
2. It speaks our version of QUIC; else it is told which one (version negotiation).
3. There is room: for links, for unproven connections, for unproven connections from its address.
4. When many connections are unproven, it must bring a token that was sent to the address it claims (Retry): one round
   trip more for the honest, and nobody can open connections in another's name.

Only then is a connection made, which costs memory and milliseconds.
"""

from __future__ import annotations

import os
from collections import Counter
from dataclasses import dataclass
from typing import Any

from aioquic._buffer import Buffer
from aioquic.quic.configuration import SMALLEST_MAX_DATAGRAM_SIZE, QuicConfiguration
from aioquic.quic.connection import TRANSPORT_CLOSE_FRAME_CAPACITY
from aioquic.quic.crypto import CryptoPair
from aioquic.quic.packet import (
    QuicErrorCode,
    QuicFrameType,
    QuicHeader,
    QuicPacketType,
    encode_quic_retry,
    encode_quic_version_negotiation,
    pull_quic_header,
)
from aioquic.quic.packet_builder import QuicPacketBuilder
from aioquic.quic.retry import QuicRetryTokenHandler

from meshnode.transport.quic_settings import QuicSettings
from meshnode.transport.quic_window import BoundedConnection

CONNECTION_ID_BYTES = 8
"""Of our own connection ids: aioquic's default, and what it needs to read short headers."""

_LONG_HEADER = 0x80
_VERSION_END = 5


def connection_id_of(data: bytes) -> bytes:
    """The connection id a datagram is addressed to; empty when it has none (RFC 8999, section 5)."""
    if not data:
        return b""
    if not data[0] & _LONG_HEADER:
        return data[1 : 1 + CONNECTION_ID_BYTES]
    if len(data) <= _VERSION_END:
        return b""
    start = _VERSION_END + 1
    return data[start : start + data[_VERSION_END]]


@dataclass(frozen=True, slots=True)
class Answer:
    """What the door says: a connection to run, or a datagram to send back, or a refusal to count, or nothing."""

    quic: BoundedConnection | None = None
    connection_ids: tuple[bytes, ...] = ()
    datagram: bytes | None = None
    code: str = ""


_SILENCE = Answer()


class Door:
    """Knows how many unproven incoming connections there are, and from where."""

    def __init__(self, configuration: QuicConfiguration, settings: QuicSettings) -> None:
        self._configuration = configuration
        self._settings = settings
        self._retry = QuicRetryTokenHandler()
        self._half_open: dict[int, str] = {}
        self._hosts: Counter[str] = Counter()

    @property
    def half_open(self) -> int:
        return len(self._half_open)

    def remember(self, link: int, sockaddr: tuple[Any, ...]) -> None:
        """An incoming connection starts, unproven."""
        self._half_open[link] = sockaddr[0]
        self._hosts[sockaddr[0]] += 1

    def forget(self, link: int) -> None:
        """It was proven, or it ended."""
        host = self._half_open.pop(link, None)
        if host is not None:
            self._hosts[host] -= 1
            if not self._hosts[host]:
                del self._hosts[host]

    def knock_untrusted(self, data: bytes, sockaddr: tuple[Any, ...], links: int, now: float) -> Answer:
        """Decides on a datagram that belongs to no link. ``links``: how many are proven or being dialled."""
        if len(data) < SMALLEST_MAX_DATAGRAM_SIZE or not data[0] & _LONG_HEADER:
            return _SILENCE
        try:
            header = pull_quic_header(Buffer(data=data), host_cid_length=CONNECTION_ID_BYTES)
        except ValueError:
            return _SILENCE
        if header.packet_type is QuicPacketType.VERSION_NEGOTIATION:
            # Answering one would let two nodes be set to answer each other for ever.
            return _SILENCE
        if header.version not in self._configuration.supported_versions:
            return Answer(
                datagram=encode_quic_version_negotiation(
                    header.destination_cid, header.source_cid, self._configuration.supported_versions
                ),
                code="version-mismatch",
            )
        if header.packet_type is not QuicPacketType.INITIAL:
            return _SILENCE
        return self._admit(header, sockaddr, links, now)

    def _admit(self, header: QuicHeader, sockaddr: tuple[Any, ...], links: int, now: float) -> Answer:
        settings = self._settings
        if self.half_open >= settings.half_open_max or self._hosts[sockaddr[0]] >= settings.half_open_host_max:
            return Answer(code="too-many-half-open")
        original, retry_source = header.destination_cid, None
        if header.token:
            try:
                original = self._retry.validate_token(
                    address=sockaddr, destination_cid=header.destination_cid, token=header.token, now=now
                )
            except ValueError:
                return Answer(datagram=_refusal(header, QuicErrorCode.INVALID_TOKEN), code="bad-retry-token")
            retry_source = header.destination_cid
        elif self.half_open >= settings.half_open_retry:
            return Answer(datagram=self._retry_datagram(header, sockaddr, now), code="retry-asked")
        if links >= settings.links_max:
            return Answer(datagram=_refusal(header, QuicErrorCode.CONNECTION_REFUSED), code="too-many-links")
        quic = BoundedConnection(self._configuration, original, retry_source)
        return Answer(quic=quic, connection_ids=(header.destination_cid, quic.host_cid))

    def _retry_datagram(self, header: QuicHeader, sockaddr: tuple[Any, ...], now: float) -> bytes:
        source = os.urandom(CONNECTION_ID_BYTES)
        token = self._retry.create_token(
            address=sockaddr,
            original_destination_connection_id=header.destination_cid,
            retry_source_connection_id=source,
            now=now,
        )
        return encode_quic_retry(header.version or 0, source, header.source_cid, header.destination_cid, token)


def _refusal(header: QuicHeader, error_code: QuicErrorCode) -> bytes:
    """One Initial packet that closes a connection which was never made (RFC 9000, section 5.2.2)."""
    keys = CryptoPair()
    keys.setup_initial(cid=header.destination_cid, is_client=False, version=header.version or 0)
    builder = QuicPacketBuilder(
        host_cid=header.destination_cid,
        is_client=False,
        max_datagram_size=SMALLEST_MAX_DATAGRAM_SIZE,
        peer_cid=header.source_cid,
        version=header.version or 0,
    )
    builder.start_packet(QuicPacketType.INITIAL, keys)
    frame = builder.start_frame(QuicFrameType.TRANSPORT_CLOSE, capacity=TRANSPORT_CLOSE_FRAME_CAPACITY)
    for value in (error_code, QuicFrameType.PADDING, 0):
        frame.push_uint_var(value)
    return builder.flush()[0][0]
