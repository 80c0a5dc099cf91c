"""One end of a link inside one process. See ``memory``.

States as in ``quic_link``: HANDSHAKE until the other end answers, HELLO until its hello verifies, UP, ENDED.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass
from enum import Enum
from typing import TYPE_CHECKING

import trio

from meshnode.core.events import Channel, LinkUp, Received, RoundTrip
from meshnode.errors import UntrustedInputError
from meshnode.transport.base import HELLO_BYTES_MAX, peer_code_untrusted, reason_of

if TYPE_CHECKING:
    from meshnode.transport.memory import MemoryTransport

CREDIT_SHARE = 8
"""What the daemon took is told to the sender once it is an eighth of the window, as QUIC does, not frame by frame: that
would be as many messages again. So a sender with less than this under way may always send one more frame: else a large
frame could wait for a word that only more frames would bring."""


class State(Enum):
    HANDSHAKE = "handshake"
    HELLO = "hello"
    UP = "up"
    ENDED = "ended"


class Kind(Enum):
    OPEN = "open"
    """data: the TLS hash of the dialler."""
    ACCEPT = "accept"
    """data: the TLS hash of the acceptor."""
    HELLO = "hello"
    FRAME = "frame"
    CONSUMED = "consumed"
    """count: bytes on the channel that the daemon took."""
    PING = "ping"
    PONG = "pong"
    CLOSE = "close"
    """data: the code."""


@dataclass(frozen=True, slots=True)
class Message:
    kind: Kind
    receiver: str
    link: int
    """Of the receiver; 0 in OPEN, which makes it."""
    sender_link: int
    channel: Channel = Channel.CONTROL
    data: bytes = b""
    count: int = 0
    sent_at: float = 0.0


class MemoryLink:
    """One end. The transport brings messages and calls ``handle_deadline``; calls back come through ``transport``."""

    def __init__(self, transport: MemoryTransport, number: int, address: str, peer_link: int, dialed: bool) -> None:
        now = trio.current_time()
        self.number = number
        self.address = address
        self.dialed = dialed
        self.state = State.HANDSHAKE
        self.was_up = False
        self.dropped_frames = 0
        self._transport = transport
        self._settings = transport.settings
        self._peer_link = peer_link
        self._peer_tls_sha256 = b""
        self._state_deadline = now + self._settings.connect_timeout_seconds
        self._heard_at = self._asked_at = now
        self._credit_bytes = max(1, transport.settings.window_bytes // CREDIT_SHARE)
        self._owed_bytes = [0, 0]
        """Taken by the daemon and not yet told to the peer."""
        self._reported_at = float("-inf")
        self._queues: tuple[deque[bytes], deque[bytes]] = (deque(), deque())
        self._queued_bytes = [0, 0]
        self._in_flight_bytes = [0, 0]

    # --- what the transport asks ---

    def open(self) -> None:
        self._post(Kind.OPEN, data=self._transport.tls_sha256)

    def send(self, channel: Channel, data: bytes, droppable: bool) -> None:
        if self.state is not State.UP:
            return
        settings = self._settings
        queued_max = settings.bulk_queue_bytes_max if channel else settings.control_queue_bytes_max
        queued = self._queued_bytes[channel]
        if droppable and queued > queued_max // 2:
            self.dropped_frames += 1
        elif queued and queued + len(data) > queued_max:
            self.close("send-queue-full")
        else:
            self._queues[channel].append(data)
            self._queued_bytes[channel] += len(data)
            self._send_queued(channel)

    def close(self, code: str) -> None:
        """Ends the link for a reason of ours, and tells the peer."""
        if self.state is not State.ENDED:
            self._post(Kind.CLOSE, data=code.encode())
            self.end(code)

    def end(self, code: str, reason: str = "") -> None:
        if self.state is not State.ENDED:
            self.state = State.ENDED
            self._transport.on_end(self, code, reason or reason_of(code))

    def deadline(self) -> float:
        """Until the next call only moves on, but where the state changes: then the transport is told."""
        if self.state is not State.UP:
            return self._state_deadline
        settings = self._settings
        return min(self._heard_at + settings.idle_timeout_seconds, self._keepalive_at())

    def handle_deadline(self, now: float) -> None:
        if self.state is State.UP:
            if now >= self._heard_at + self._settings.idle_timeout_seconds:
                self.close("idle-timeout")
            elif now >= self._keepalive_at():
                self._ping()
        elif now >= self._state_deadline:
            self.close("connect-timeout" if self.state is State.HANDSHAKE else "hello-timeout")

    def on_consumed(self, frame: Received) -> None:
        """The daemon took a frame."""
        owed = self._owed_bytes[frame.channel] + len(frame.data)
        if owed >= self._credit_bytes:
            self._post(Kind.CONSUMED, channel=frame.channel, count=owed)
            owed = 0
        self._owed_bytes[frame.channel] = owed

    def on_message(self, message: Message) -> None:
        self._heard_at = trio.current_time()
        if message.kind is Kind.FRAME:
            if self.state is State.UP:
                frame = Received(self.number, message.channel, message.data)
                if self._transport.on_frame(frame):
                    self.on_consumed(frame)
        elif message.kind is Kind.CONSUMED:
            self._in_flight_bytes[message.channel] -= message.count
            self._send_queued(message.channel)
        elif message.kind is Kind.PING:
            self._post(Kind.PONG, sent_at=message.sent_at)
        elif message.kind is Kind.PONG:
            self._report_round_trip(message.sent_at)
        elif message.kind is Kind.CLOSE:
            code = message.data.decode()
            self.end("connection-refused" if code == "connection-refused" else peer_code_untrusted(code))
        elif self.state is not State.UP:
            self._on_handshake(message)

    # --- inside ---

    def _on_handshake(self, message: Message) -> None:
        if message.kind is Kind.HELLO:
            self._on_hello(message.data)
            return
        self._peer_link = message.sender_link
        self._peer_tls_sha256 = message.data
        self.state = State.HELLO
        self._state_deadline = self._heard_at + self._settings.hello_timeout_seconds
        self._transport.note_deadline(self._state_deadline)
        if self.dialed:
            self._send_hello()
        else:
            self._post(Kind.ACCEPT, data=self._transport.tls_sha256)

    def _send_hello(self) -> None:
        authenticator = self._transport.authenticator
        self._post(Kind.HELLO, data=authenticator.hello(self._transport.tls_sha256, self._peer_tls_sha256, self.dialed))

    def _on_hello(self, data: bytes) -> None:
        if len(data) > HELLO_BYTES_MAX:
            self.close("hello-too-large")
            return
        try:
            peer = self._transport.authenticator.verify_untrusted(
                data, self._transport.tls_sha256, self._peer_tls_sha256, self.dialed
            )
        except UntrustedInputError as error:
            self._post(Kind.CLOSE, data=error.code.encode())
            self.end(error.code, error.reason)
            return
        if not self.dialed:
            self._send_hello()
        self.state = State.UP
        self.was_up = True
        self._transport.on_up(LinkUp(self.number, peer, self.address, self.dialed))
        self._ping()
        self._transport.note_deadline(self.deadline())

    def _report_round_trip(self, sent_at: float) -> None:
        if self._heard_at >= self._reported_at + self._settings.round_trip_report_seconds:
            self._reported_at = self._heard_at
            self._transport.on_round_trip(RoundTrip(self.number, self._heard_at - sent_at))

    def _send_queued(self, channel: Channel) -> None:
        queue, window = self._queues[channel], self._settings.window_bytes
        while queue:
            in_flight = self._in_flight_bytes[channel]
            if in_flight >= self._credit_bytes and in_flight + len(queue[0]) > window:
                return
            data = queue.popleft()
            self._queued_bytes[channel] -= len(data)
            self._in_flight_bytes[channel] += len(data)
            self._post(Kind.FRAME, channel=channel, data=data)

    def _keepalive_at(self) -> float:
        """Whoever has not heard anything for so long asks."""
        return max(self._heard_at, self._asked_at) + self._settings.keepalive_seconds

    def _ping(self) -> None:
        self._asked_at = trio.current_time()
        self._post(Kind.PING)

    def _post(
        self,
        kind: Kind,
        channel: Channel = Channel.CONTROL,
        data: bytes = b"",
        count: int = 0,
        sent_at: float | None = None,
    ) -> None:
        if sent_at is None:
            sent_at = trio.current_time()
        self._transport.post(Message(kind, self.address, self._peer_link, self.number, channel, data, count, sent_at))
