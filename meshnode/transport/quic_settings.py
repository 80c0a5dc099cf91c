"""The settings of QUIC links. Each says what it means, how it relates to the others and how to choose it."""

from __future__ import annotations

from dataclasses import dataclass, fields

from meshnode.errors import LocalFaultError
from meshnode.transport.base import (
    BULK_QUEUE_BYTES_MAX,
    CONTROL_QUEUE_BYTES_MAX,
    FRAME_BYTES_MAX,
    RECEIVE_RECORDS_MAX,
)


@dataclass(frozen=True, slots=True)
class QuicSettings:
    """Checked when made: LocalFaultError ``bad-setting``. The defaults suit a NOC; a lab shortens the times."""

    listen: str = "[::]:7411"
    """Where the one UDP socket is bound, ``ip:port``. ``[::]`` takes IPv4 too. Port 0 lets the system choose."""

    idle_timeout_seconds: float = 15.0
    """A link on which nothing genuine was heard for this long is down. It is how long a dead peer is believed alive,
    and how long a suspended or re-addressed one has to come back without a new handshake."""

    keepalive_seconds: float = 5.0
    """A PING goes out when this node has asked for no acknowledgement for this long. A third of the idle time-out, so
    two lost PINGs do not end a link. It also renews the round-trip time and the NAT's mapping."""

    connect_timeout_seconds: float = 5.0
    """For the QUIC handshake, on both ends: three flights, with two retransmissions even over a satellite."""

    hello_timeout_seconds: float = 3.0
    """From the end of the QUIC handshake until both hellos verified. Two KiB each way at 16 kbit/s take two seconds."""

    resolve_timeout_seconds: float = 5.0
    """For the resolver, when a name is dialled. It runs in a thread and holds nothing else up."""

    links_max: int = 256
    """Proven links and dials in progress. A hostile peer can make its link cost 2.5 MiB."""

    half_open_retry: int = 32
    """From so many unproven incoming connections on, a newcomer must first return a token to the address that it claims
    (Retry, one round trip more). More than all NOCs of a mesh dialling at once; a spoofed flood is past it at once."""

    half_open_max: int = 128
    """Unproven incoming connections at a time; more are ignored and may come again. Each may hold 64 KiB."""

    half_open_host_max: int = 48
    """Of those, how many from one IP address. Leaves room for others when one real host opens as many as it can; more
    than half_open_retry, so that it never bites while addresses are still unproven and mesh sizes are normal."""

    stream_window_bytes: int = 262_144
    """How far a peer may send ahead of what the daemon consumed, per stream. Bounds the throughput to one window per
    round trip: 256 KiB at 50 ms are 5 MB/s, more than aioquic moves."""

    connection_window_bytes: int = 1_048_576
    """The same for both streams together; more than two stream windows, so that the streams bound themselves."""

    control_queue_bytes_max: int = CONTROL_QUEUE_BYTES_MAX
    bulk_queue_bytes_max: int = BULK_QUEUE_BYTES_MAX
    receive_records_max: int = RECEIVE_RECORDS_MAX
    """See ``base``: they are the same for every transport."""

    socket_buffer_bytes: int = 4_194_304
    """Asked of the system for both directions; it may give less. Holds what arrives while the loop is busy: 4 MiB are
    3,000 packets, or 0.3 s at full speed."""

    datagrams_per_turn: int = 32
    """Read before anything is answered: acknowledgements and windows then go out once for all of them. 32 cost about
    3 ms, which is what a small frame may have to wait behind another link's bulk."""

    round_trip_report_seconds: float = 5.0
    """RoundTrip is reported at most this often."""

    def __post_init__(self) -> None:
        for item in fields(self):
            value = getattr(self, item.name)
            if not isinstance(value, str) and not value > 0:
                raise _bad_setting(f"{item.name} must be greater than 0")
        if self.keepalive_seconds * 2 > self.idle_timeout_seconds:
            raise _bad_setting("keepalive_seconds must be at most half of idle_timeout_seconds")
        if self.connection_window_bytes < 2 * self.stream_window_bytes:
            raise _bad_setting("connection_window_bytes must be at least twice stream_window_bytes")
        if self.half_open_max < self.half_open_retry:
            raise _bad_setting("half_open_max must be at least half_open_retry")
        if min(self.control_queue_bytes_max, self.bulk_queue_bytes_max) < FRAME_BYTES_MAX:
            raise _bad_setting(f"the queues must hold one frame of {FRAME_BYTES_MAX} bytes")


def _bad_setting(reason: str) -> LocalFaultError:
    return LocalFaultError("bad-setting", f"transport: {reason}", "correct the configuration")
