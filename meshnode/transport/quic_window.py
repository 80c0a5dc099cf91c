"""aioquic's QuicConnection with bounds: windows that follow what was consumed, and limits on what a peer may pile up.

aioquic 1.7.2 doubles its receive windows whenever the *highest offset seen* passes half of them. So a peer that sends
single bytes at offsets 0.5, 1, 2, ... MiB makes the receiver allocate a buffer up to the last of them: eleven one-byte
frames cost a gigabyte. It also grants space for bytes that the application has not taken, so there is no back-pressure.

Here a window moves only when the application says what it has consumed (``consume``): a stream's limit is consumed + W,
the connection's is the sum of consumed + C. Nothing else moves it. Two further piles are bounded: the separate pieces
of one stream (aioquic searches them linearly for every frame), and the bytes of the TLS handshake (aioquic collects up
to 16 MiB for one claimed message, and copies them for every packet).

This file overrides private methods, so the version is pinned and asserted, and every use of a private name of
``aioquic.quic`` is in this file.
"""

from __future__ import annotations

import logging
from typing import Any

import aioquic
from aioquic import tls
from aioquic._buffer import Buffer
from aioquic.quic.configuration import QuicConfiguration
from aioquic.quic.connection import (
    CONNECTION_LIMIT_FRAME_CAPACITY,
    MAX_STREAM_DATA_FRAME_CAPACITY,
    QuicConnection,
    QuicConnectionError,
    QuicConnectionState,
    QuicReceiveContext,
)
from aioquic.quic.events import ConnectionTerminated
from aioquic.quic.packet import QuicErrorCode, QuicFrameType
from aioquic.quic.packet_builder import QuicPacketBuilder
from aioquic.quic.recovery import QuicPacketSpace
from aioquic.quic.stream import QuicStream

from meshnode.transport import quic_tls

AIOQUIC_VERSION = "1.7.2"
if aioquic.__version__ != AIOQUIC_VERSION:
    raise ImportError(f"quic_window.py is written for aioquic {AIOQUIC_VERSION}, not {aioquic.__version__}")

STREAM_PIECES_MAX = 512
"""Separate pieces of one stream waiting for the bytes between them. A lost packet makes one; a window of 256 KiB in
1,200-byte packets has 218, so only a peer that cuts its data into crumbs gets near. A frame costs a search of all."""

CRYPTO_BYTES_MAX = 16_384
"""Handshake bytes of one direction and encryption level. Ours are about 1,200; a certificate chain of somebody else's
stack would still fit."""

PACKETS_PER_KEY = 2**21
"""After so many packets in either direction the dialler asks for new keys: AES-GCM may protect 2**23 with one key
(RFC 9001, section 6.6), which a busy link reaches after nine gigabytes, and aioquic does not count them."""

ACK_DELAY_SECONDS = 0.015
"""How long an acknowledgement waits for something to travel with: a datagram that says nothing else costs both ends as
much as one that does. Below the 25 ms that aioquic promises the peer (max_ack_delay), with room for a late timer."""
ACK_PACKETS_MAX = 8
"""An acknowledgement does not wait for more packets than this: a sender learns of room and loss while it sends. RFC
9000, section 13.2.2, recommends two and allows more; ten packets are the smallest window a sender starts with."""

PIECES_EXCEEDED = 0x4D01
"""Our own error code, for a close that aioquic carries out; outside the range that QUIC itself uses."""

_SILENT = logging.LoggerAdapter(logging.Logger("meshnode.transport.aioquic", logging.CRITICAL + 1), {})
"""aioquic logs a warning for each broken packet, so a hostile peer could write our log. What matters comes out as
codes. Not registered with the logging module, so nothing global changes."""


class BoundedConnection(QuicConnection):
    """One QUIC connection. Starts with one stream and small windows; ``open_windows`` once the peer is proven."""

    def __init__(
        self,
        configuration: QuicConfiguration,
        original_destination_connection_id: bytes | None = None,
        retry_source_connection_id: bytes | None = None,
    ) -> None:
        super().__init__(
            configuration=configuration,
            original_destination_connection_id=original_destination_connection_id,
            retry_source_connection_id=retry_source_connection_id,
        )
        # aioquic types them as its own adapter; a silent one has the same methods.
        self._logger = self._loss._logger = _SILENT  # type: ignore[assignment]  # see the line above
        # Only the dialler opens streams, one before it is proven, and never unidirectional ones.
        streams_max = 0 if configuration.is_client else 1
        for limit, value in ((self._local_max_streams_bidi, streams_max), (self._local_max_streams_uni, 0)):
            limit.value = limit.sent = value
        self._stream_window = configuration.max_stream_data
        self._connection_window = configuration.max_data
        self._consumed: dict[int, int] = {}
        self._keys_renewed_at = 0
        self._unacknowledged = 0
        """Packets received since an acknowledgement was last sent."""

    # --- what the link asks ---

    @property
    def handshake_complete(self) -> bool:
        return self._handshake_complete

    @property
    def terminated(self) -> ConnectionTerminated | None:
        """Why the connection ended or is about to, as soon as that is known."""
        return self._close_event

    @property
    def closed_by_peer(self) -> bool:
        return self._state is QuicConnectionState.DRAINING

    @property
    def timed_out(self) -> bool:
        return self._state is QuicConnectionState.TERMINATED

    @property
    def peer_tls_sha256(self) -> bytes | None:
        return quic_tls.peer_certificate_sha256(self.tls)

    @property
    def last_received_at(self) -> float:
        """When the newest genuine packet came; 0 before the first."""
        space = self._spaces.get(tls.Epoch.ONE_RTT)
        return (space.largest_received_time if space is not None else None) or 0.0

    @property
    def last_asked_at(self) -> float:
        """When a packet was last sent that the peer must acknowledge."""
        return self._loss._time_of_last_sent_ack_eliciting_packet

    @property
    def round_trip_seconds(self) -> float | None:
        return self._loss._rtt_smoothed if self._loss._rtt_initialized else None

    @property
    def streams_allowed(self) -> int:
        """How many bidirectional streams the peer lets us open."""
        return self._remote_max_streams_bidi

    @property
    def flight_room_bytes(self) -> int:
        """What the congestion window still admits."""
        return self._loss.congestion_window - self._loss.bytes_in_flight

    def has_stream(self, stream_id: int) -> bool:
        return stream_id in self._streams

    def unsent_bytes(self, stream_id: int) -> int:
        """Bytes given to ``send_stream_data`` that have never been in a packet."""
        stream = self._streams.get(stream_id)
        return stream.sender._buffer_stop - stream.sender.highest_offset if stream is not None else 0

    def has_nothing_to_send(self, now: float) -> bool:
        """True when ``datagrams_to_send`` would surely return nothing: one microsecond in place of fifty.

        After most turns a link has nothing to say, and the daemon waits behind the question. When in doubt, False.
        """
        if not self._handshake_confirmed or self._close_pending or self._pacing_at is not None:
            return False
        if len(self._network_paths) != 1 or not self._network_paths[0].is_validated:
            return False
        space = self._spaces[tls.Epoch.ONE_RTT]
        if (space.ack_at is not None and space.ack_at <= now) or self._network_paths[0].remote_challenges:
            return False
        if (
            self._probe_pending
            or self._ping_pending
            or self._handshake_done_pending
            or self._retire_connection_ids
            or self._streams_blocked_pending
            or self._local_max_data.sent != self._local_max_data.value
            or self._local_max_streams_bidi.sent != self._local_max_streams_bidi.value
            or not self._crypto_streams[tls.Epoch.ONE_RTT].sender.buffer_is_empty
        ):
            return False
        for connection_id in self._host_cids:
            if not connection_id.was_sent:
                return False
        for stream in self._streams.values():
            sender = stream.sender
            if (
                # Not buffer_is_empty, which is only updated by the next attempt to send.
                len(sender._pending)
                or sender._pending_eof
                or sender.reset_pending
                or stream.receiver.stop_pending
                or stream.max_stream_data_local_sent != stream.max_stream_data_local
            ):
                return False
        return True

    def renew_keys(self) -> None:
        """Changes the keys when they have protected enough. Only the dialler does, so that updates do not cross."""
        packets = max(self._packet_number, self._spaces[tls.Epoch.ONE_RTT].largest_received_packet)
        if self._is_client and packets - self._keys_renewed_at >= PACKETS_PER_KEY:
            self._keys_renewed_at = packets
            self.request_key_update()

    def hurry_acknowledgement(self, now: float) -> None:
        """Lets an acknowledgement that is waiting for company travel in the packet about to be sent."""
        space = self._spaces.get(tls.Epoch.ONE_RTT)
        if space is not None and space.ack_at is not None and space.ack_at > now:
            space.ack_at = now

    def receive_datagram(self, data: bytes, addr: Any, now: float) -> None:
        super().receive_datagram(data, addr, now)
        if self._handshake_confirmed:
            self._ack_delay = ACK_DELAY_SECONDS
            self._unacknowledged += 1
            if self._unacknowledged >= ACK_PACKETS_MAX:
                self.hurry_acknowledgement(now)

    # --- windows ---

    def open_windows(self, stream_window_bytes: int, connection_window_bytes: int, streams_max: int) -> None:
        """The peer is proven: from now on these windows and, at the acceptor, this many streams."""
        self._stream_window = stream_window_bytes
        self._connection_window = connection_window_bytes
        if not self._is_client:
            self._local_max_streams_bidi.value = streams_max
        self.refresh_windows()

    def consume(self, stream_id: int, consumed_total: int) -> None:
        """The application has taken the first ``consumed_total`` bytes of a stream."""
        self._consumed[stream_id] = consumed_total

    def refresh_windows(self) -> None:
        """Moves the limits after what was consumed, when that gives at least a quarter of a window: so one frame of
        ours grants about 64 KiB, and a peer that has used its window up always gets the rest."""
        for stream_id, stream in self._streams.items():
            limit = self._consumed.get(stream_id, 0) + self._stream_window
            if limit - stream.max_stream_data_local >= self._stream_window // 4:
                stream.max_stream_data_local = limit
        limit = sum(self._consumed.values()) + self._connection_window
        if limit - self._local_max_data.value >= self._connection_window // 4:
            self._local_max_data.value = limit

    def _write_connection_limits(self, builder: QuicPacketBuilder, space: QuicPacketSpace) -> None:
        for limit in (self._local_max_data, self._local_max_streams_bidi):
            if limit.sent != limit.value:
                buffer = builder.start_frame(
                    limit.frame_type,
                    capacity=CONNECTION_LIMIT_FRAME_CAPACITY,
                    handler=self._on_connection_limit_delivery,
                    handler_args=(limit,),
                )
                buffer.push_uint_var(limit.value)
                limit.sent = limit.value

    def _write_stream_limits(self, builder: QuicPacketBuilder, space: QuicPacketSpace, stream: QuicStream) -> None:
        if stream.max_stream_data_local_sent != stream.max_stream_data_local:
            buffer = builder.start_frame(
                QuicFrameType.MAX_STREAM_DATA,
                capacity=MAX_STREAM_DATA_FRAME_CAPACITY,
                handler=self._on_max_stream_data_delivery,
                handler_args=(stream,),
            )
            buffer.push_uint_var(stream.stream_id or 0)
            buffer.push_uint_var(stream.max_stream_data_local)
            stream.max_stream_data_local_sent = stream.max_stream_data_local

    # --- what aioquic calls ---

    def _write_ack_frame(self, builder: QuicPacketBuilder, space: QuicPacketSpace, now: float) -> None:
        super()._write_ack_frame(builder, space, now)
        self._unacknowledged = 0

    def _initialize(self, peer_cid: bytes) -> None:
        super()._initialize(peer_cid)
        quic_tls.narrow(self.tls, self._is_client)

    def _handle_stream_frame(self, context: QuicReceiveContext, frame_type: int, buf: Buffer) -> None:
        stream_id = _peek(buf)[0]
        super()._handle_stream_frame(context, frame_type, buf)
        stream = self._streams.get(stream_id)
        if stream is not None and len(stream.receiver._ranges) > STREAM_PIECES_MAX:
            raise QuicConnectionError(PIECES_EXCEEDED, frame_type, "stream-fragmented")

    def _handle_crypto_frame(self, context: QuicReceiveContext, frame_type: int, buf: Buffer) -> None:
        offset, length = _peek(buf, 2)
        receiver = self._crypto_streams[context.epoch].receiver
        if offset + length > CRYPTO_BYTES_MAX or len(receiver._ranges) > STREAM_PIECES_MAX:
            raise QuicConnectionError(QuicErrorCode.CRYPTO_BUFFER_EXCEEDED, frame_type, "handshake too large")
        super()._handle_crypto_frame(context, frame_type, buf)


def _peek(buf: Buffer, count: int = 1) -> list[int]:
    """The next variable-length integers, without moving. BufferReadError when cut short, as aioquic expects."""
    position = buf.tell()
    values: list[Any] = [buf.pull_uint_var() for _ in range(count)]
    buf.seek(position)
    return values
