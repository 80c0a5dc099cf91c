"""One QUIC link, without I/O: datagrams and the time go in; datagrams, a deadline and outputs come out.

States, and what each waits for:

| state | ends when | else |
|---|---|---|
| HANDSHAKE | TLS completes | ``connect-timeout`` |
| HELLO | dialler: the acceptor's hello verifies; acceptor: the dialler's | ``hello-timeout`` |
| UP | either end closes, or ``idle-timeout`` | |
| CLOSING | three probe time-outs pass; the close is repeated to a peer that still sends | |
| GONE | | |

The dialler speaks first. The acceptor answers with its own hello only after it verified the dialler's; so an acceptor
tells an unproven peer nothing, and a dialler that holds a verified hello knows that it was accepted. The answer is
followed by the grant of the second stream. The dialler then opens it, by its grant of a window for it: there is
nothing to say on it yet.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum
from typing import Any

from aioquic import tls
from aioquic.quic import events
from aioquic.quic.connection import QuicConnectionError
from aioquic.quic.packet import QuicErrorCode
from cryptography.exceptions import UnsupportedAlgorithm

from meshnode.core.events import Channel, LinkUp, PeerIdentity, Received, RoundTrip
from meshnode.errors import UntrustedInputError
from meshnode.transport.base import (
    CODES,
    HELLO_BYTES_MAX,
    Authenticator,
    format_address,
    peer_code_untrusted,
    reason_of,
)
from meshnode.transport.quic_settings import QuicSettings
from meshnode.transport.quic_streams import Admission, LinkStreams
from meshnode.transport.quic_tls import TlsIdentity
from meshnode.transport.quic_window import PIECES_EXCEEDED, BoundedConnection

QUIC_INPUT_ERRORS = (
    QuicConnectionError,
    tls.Alert,
    UnsupportedAlgorithm,
    ArithmeticError,
    AssertionError,
    AttributeError,
    LookupError,
    MemoryError,
    RuntimeError,
    TypeError,
    ValueError,
)
"""What aioquic has been seen to raise, or by its source can raise, for bytes it did not foresee: besides its own, an
assertion, an index into an empty list of connection ids, a value that does not fit a buffer. The link that sent them is
closed; the state of its connection is not trusted any more, and nothing else shares it."""

CLOSED_ON_PURPOSE = 0
"""The one application error code; the reason phrase carries the code for people and machines."""

LOCAL_CODES = {
    QuicErrorCode.STREAM_LIMIT_ERROR: "unexpected-stream",
    QuicErrorCode.STREAM_STATE_ERROR: "unexpected-stream",
    QuicErrorCode.FLOW_CONTROL_ERROR: "window-exceeded",
    QuicErrorCode.NO_VIABLE_PATH: "network-path-lost",
    PIECES_EXCEEDED: "stream-fragmented",
}


class State(Enum):
    HANDSHAKE = "handshake"
    HELLO = "hello"
    UP = "up"
    CLOSING = "closing"
    GONE = "gone"


@dataclass(frozen=True, slots=True)
class RouteAdded:
    """From now on the peer may address the link by this connection id."""

    connection_id: bytes


@dataclass(frozen=True, slots=True)
class RouteRemoved:
    connection_id: bytes


@dataclass(frozen=True, slots=True)
class Ended:
    """The link is over, whether it was ever up or not."""

    code: str
    reason: str


Output = LinkUp | Received | RouteAdded | RouteRemoved | Ended


class QuicLink:
    """One connection and its two streams. The transport moves datagrams, and calls ``settle`` after each turn."""

    def __init__(
        self,
        number: int,
        quic: BoundedConnection,
        peer_sockaddr: tuple[Any, ...],
        dialed_address: str | None,
        identity: TlsIdentity,
        authenticator: Authenticator,
        settings: QuicSettings,
        keepalive_seconds: float,
        now: float,
    ) -> None:
        self.number = number
        self.state = State.HANDSHAKE
        self.peer_sockaddr = peer_sockaddr
        self.dialed_address = dialed_address
        """What was given to ``dial``, or None when the peer opened the link."""
        self.dropped_frames = 0
        self._quic = quic
        self._identity = identity
        self._authenticator = authenticator
        self._settings = settings
        self._keepalive_seconds = keepalive_seconds
        self._deadline = now + settings.connect_timeout_seconds
        """Of the present state; unused in UP."""
        self._peer_tls_sha256 = b""
        self._streams = LinkStreams(quic, settings, self.dialed)
        self._outputs: list[Output] = []
        self._last_words: list[tuple[bytes, Any]] = []
        self._repeat_at_count = 1
        self._late_datagrams = 0
        self._round_trip_at = 0.0
        self._pinged_at = 0.0
        self._pings = 0

    @property
    def dialed(self) -> bool:
        return self.dialed_address is not None

    @property
    def address(self) -> str:
        return format_address(self.peer_sockaddr)

    # --- in ---

    def receive_datagram(self, data: bytes, sockaddr: tuple[Any, ...], now: float) -> None:
        """Takes one datagram. What it means comes with ``settle``."""
        if self.state is State.CLOSING:
            self._late_datagrams += 1
            return
        try:
            self._quic.receive_datagram(data, sockaddr, now)
        except QUIC_INPUT_ERRORS:
            self.close("internal-error", now)

    def handle_deadline(self, now: float) -> None:
        """Does what is due. Harmless when nothing is."""
        if self.state is State.CLOSING:
            if now >= self._deadline:
                self.state = State.GONE
            return
        try:
            due = self._quic.get_timer()
            if due is not None and now >= due:
                self._quic.handle_timer(now)
        except QUIC_INPUT_ERRORS:
            self.close("internal-error", now)
        if self.state is State.UP:
            self._handle_liveness(now)
        elif self.state is not State.GONE and now >= self._deadline:
            self.close("connect-timeout" if self.state is State.HANDSHAKE else "hello-timeout", now)

    def send(self, channel: Channel, data: bytes, droppable: bool, now: float) -> None:
        """Queues a frame; see Transport.send."""
        if self.state is not State.UP:
            return
        admission = self._streams.send(channel, data, droppable)
        if admission is Admission.DROPPED:
            self.dropped_frames += 1
        elif admission is Admission.OVERFLOW:
            self.close("send-queue-full", now)

    def frame_handed_over(self, frame: Received) -> None:
        """The daemon took a frame; its bytes are consumed."""
        self._streams.note_handed_over(frame.channel, frame.data)

    def close(self, code: str, now: float, reason: str = "") -> None:
        """Ends the link for a reason of ours, and tells the peer."""
        if self.state in (State.CLOSING, State.GONE):
            return
        self._quic.close(error_code=CLOSED_ON_PURPOSE, reason_phrase=code)
        self._end(code, reason or reason_of(code), now)

    # --- out ---

    def settle(self, now: float) -> list[Output]:
        """What came of everything since the last call. Call ``transmit`` once these are dealt with."""
        if self.state not in (State.CLOSING, State.GONE):
            while (event := self._quic.next_event()) is not None:
                self._on_event(event, now)
            ended = self._quic.terminated
            if ended is not None and self.state not in (State.CLOSING, State.GONE):
                self._on_quic_ended(ended, now)
        outputs, self._outputs = self._outputs, []
        return outputs

    def transmit(self, now: float) -> list[tuple[bytes, Any]]:
        """Datagrams to send now, each with its address."""
        if self.state is State.CLOSING:
            return self._repeat_last_words()
        if self.state is State.GONE:
            return []
        try:
            if self.state is State.UP:
                self._quic.renew_keys()
                self._streams.prepare(now)
                if self._quic.has_nothing_to_send(now):
                    return []
            datagrams = self._quic.datagrams_to_send(now)
        except QUIC_INPUT_ERRORS:
            self.close("internal-error", now)
            return []
        while (event := self._quic.next_event()) is not None:
            self._on_event(event, now)
        return datagrams

    def deadline(self) -> float:
        """When ``handle_deadline`` must be called, if nothing happens before."""
        if self.state is State.CLOSING:
            return self._deadline
        try:
            timer = self._quic.get_timer()
        except QUIC_INPUT_ERRORS:
            return 0.0  # at once: handle_deadline meets the same error and closes the link
        if self.state is State.UP:
            quic = self._quic
            due = min(
                quic.last_received_at + self._settings.idle_timeout_seconds,
                max(quic.last_asked_at, self._pinged_at) + self._keepalive_seconds,
            )
        else:
            due = self._deadline
        return due if timer is None else min(due, timer)

    # --- what happens inside ---

    def _on_event(self, event: events.QuicEvent, now: float) -> None:
        if isinstance(event, events.StreamDataReceived):
            self._on_stream_data(event, now)
        elif isinstance(event, events.ConnectionIdIssued):
            self._outputs.append(RouteAdded(event.connection_id))
        elif isinstance(event, events.ConnectionIdRetired):
            self._outputs.append(RouteRemoved(event.connection_id))
        elif isinstance(event, events.HandshakeCompleted):
            self._on_handshake_completed(now)
        elif isinstance(event, events.StreamReset | events.StopSendingReceived):
            self.close("stream-closed", now)

    def _on_handshake_completed(self, now: float) -> None:
        sha256 = self._quic.peer_tls_sha256
        if sha256 is None:
            self.close("no-client-certificate", now)
            return
        self._peer_tls_sha256 = sha256
        self.state = State.HELLO
        self._deadline = now + self._settings.hello_timeout_seconds
        if self.dialed:
            self._send_hello()

    def _send_hello(self) -> None:
        hello = self._authenticator.hello(self._identity.sha256, self._peer_tls_sha256, self.dialed)
        if not 0 < len(hello) <= HELLO_BYTES_MAX:
            raise ValueError(f"a hello has 1 to {HELLO_BYTES_MAX} bytes, not {len(hello)}")
        self._streams.send_at_once(hello)

    def _on_stream_data(self, event: events.StreamDataReceived, now: float) -> None:
        if self.state not in (State.HELLO, State.UP):
            return
        try:
            for channel, frame in self._streams.cut_frames_untrusted(event.stream_id, event.data):
                if self.state is State.UP:
                    self._outputs.append(Received(self.number, channel, frame))
                else:
                    self._on_hello_untrusted(frame)
        except UntrustedInputError as error:
            self.close(error.code, now, error.reason)
            return
        if event.end_stream:
            self.close("stream-closed", now)

    def _on_hello_untrusted(self, frame: bytes) -> None:
        # On CONTROL: until the link is up the peer has no other stream.
        peer = self._authenticator.verify_untrusted(frame, self._identity.sha256, self._peer_tls_sha256, self.dialed)
        self._streams.note_handed_over(Channel.CONTROL, frame)
        self._on_proven(peer)

    def _on_proven(self, peer: PeerIdentity) -> None:
        if not self.dialed:
            self._send_hello()
        self.state = State.UP
        self._streams.open()
        self._outputs.append(LinkUp(self.number, peer, self.dialed_address or self.address, self.dialed))

    def _on_quic_ended(self, ended: events.ConnectionTerminated, now: float) -> None:
        """aioquic ended the connection: because of the peer's close, of the peer's error, or of silence."""
        if self._quic.timed_out:
            if self.state is State.HANDSHAKE:
                no_version = "protocol version" in ended.reason_phrase
                code = "version-mismatch" if no_version else "connect-timeout"
            else:
                code = LOCAL_CODES.get(ended.error_code, "idle-timeout")
        elif self._quic.closed_by_peer:
            code = _code_of_peers_close(ended)
        elif 0x100 <= ended.error_code < 0x200:
            code = "version-mismatch" if ended.error_code == _NO_ALPN else "tls-refused"
        else:
            code = LOCAL_CODES.get(ended.error_code, "protocol-violation")
        self._end(code, reason_of(code), now)

    def _end(self, code: str, reason: str, now: float) -> None:
        try:
            self._last_words = self._quic.datagrams_to_send(now)
        except QUIC_INPUT_ERRORS:
            self._last_words = []
        timer = self._quic.get_timer() if self._last_words else None
        self._deadline = now if timer is None else min(timer, now + self._settings.hello_timeout_seconds)
        self._late_datagrams = 1
        self.state = State.CLOSING
        self._streams.discard()
        self._outputs.append(Ended(code, reason))

    def _repeat_last_words(self) -> list[tuple[bytes, Any]]:
        """The close, once, and again for every doubling of datagrams that still come (RFC 9000, section 10.2.1)."""
        if self._late_datagrams < self._repeat_at_count:
            return []
        self._repeat_at_count *= 2
        return self._last_words

    def _handle_liveness(self, now: float) -> None:
        quic = self._quic
        if now >= quic.last_received_at + self._settings.idle_timeout_seconds:
            self.close("idle-timeout", now)
            return
        if now >= max(quic.last_asked_at, self._pinged_at) + self._keepalive_seconds:
            self._pinged_at = now
            self._pings += 1
            quic.send_ping(self._pings)

    def report_round_trip(self, now: float) -> RoundTrip | None:
        """The smoothed round-trip time, when a report is due."""
        if self.state is not State.UP or now < self._round_trip_at:
            return None
        seconds = self._quic.round_trip_seconds
        if seconds is None:
            return None
        self._round_trip_at = now + self._settings.round_trip_report_seconds
        return RoundTrip(self.number, seconds)


_NO_ALPN = 0x100 + tls.AlertDescription.no_application_protocol


def _code_of_peers_close(ended: events.ConnectionTerminated) -> str:
    if ended.frame_type is None:
        return peer_code_untrusted(ended.reason_phrase)
    if ended.error_code == QuicErrorCode.CONNECTION_REFUSED:
        return "connection-refused"
    if ended.error_code == _NO_ALPN:
        return "version-mismatch"
    if 0x100 <= ended.error_code < 0x200:
        return "peer-tls-refused"
    own = LOCAL_CODES.get(ended.error_code)
    return f"peer-{own}" if own in CODES else "peer-protocol-violation"
