"""The two streams of a link: frames in and out, what counts as consumed, and what goes first.

Sending: CONTROL goes to aioquic at once. BULK stays here, and aioquic gets only as much as the congestion window
admits at this moment and only while no CONTROL is waiting: it serves its streams in turn and has no priorities, so
what it does not hold cannot be in the way.

Receiving: bytes are consumed when the frame they belong to was handed to the daemon, or while they fill a frame that
is not complete and no earlier frame of the stream waits. Only consumed bytes move the window. So one link holds at
most, per stream, one unfinished frame and one window: together 2.5 MiB.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from enum import Enum

from meshnode.core.events import Channel
from meshnode.errors import UntrustedInputError
from meshnode.transport.base import CODES, FRAME_BYTES_MAX, FRAME_HEADER_BYTES, HELLO_BYTES_MAX
from meshnode.transport.framing import FrameReader, frame_header
from meshnode.transport.quic_settings import QuicSettings
from meshnode.transport.quic_window import BoundedConnection

STREAMS = (0, 4)
"""Stream ids of CONTROL and BULK: the first two bidirectional streams of the dialler (RFC 9000, section 2.1)."""


class Admission(Enum):
    QUEUED = "queued"
    DROPPED = "dropped"
    OVERFLOW = "overflow"


class LinkStreams:
    def __init__(self, quic: BoundedConnection, settings: QuicSettings, dialed: bool) -> None:
        self._quic = quic
        self._settings = settings
        self._dialed = dialed
        self._readers = (FrameReader(HELLO_BYTES_MAX, "hello-too-large"), FrameReader(FRAME_BYTES_MAX))
        self._handed_bytes = [0, 0]
        """Per stream: bytes of frames that were handed over."""
        self._waiting_frames = [0, 0]
        """Per stream: frames that were cut out and not handed over yet."""
        self._bulk: deque[memoryview] = deque()
        self._bulk_bytes = 0

    # --- in ---

    def cut_frames_untrusted(self, stream_id: int, data: bytes) -> Iterator[tuple[Channel, bytes]]:
        """The frames that these bytes complete, one by one. UntrustedInputError with the code to close the link with.

        Each frame waits, and is not consumed, until ``note_handed_over``.
        """
        if stream_id not in STREAMS:
            entry = CODES["unexpected-stream"]
            raise UntrustedInputError("unexpected-stream", entry.reason, entry.action)
        channel = Channel(STREAMS.index(stream_id))
        reader = self._readers[channel]
        while data:
            frame, data = reader.feed_untrusted(data)
            if frame is not None:
                self._waiting_frames[channel] += 1
                yield channel, frame

    def note_handed_over(self, channel: Channel, frame: bytes) -> None:
        self._handed_bytes[channel] += FRAME_HEADER_BYTES + len(frame)
        self._waiting_frames[channel] -= 1

    def open(self) -> None:
        """The peer is proven: frames instead of hellos, both streams, full windows."""
        self._readers[Channel.CONTROL].allow(FRAME_BYTES_MAX)
        self._quic.open_windows(
            self._settings.stream_window_bytes, self._settings.connection_window_bytes, len(STREAMS)
        )

    # --- out ---

    def send_at_once(self, data: bytes) -> None:
        """A frame on CONTROL, whatever is queued: for the hello."""
        self._quic.send_stream_data(STREAMS[0], frame_header(data) + data)

    def send(self, channel: Channel, data: bytes, droppable: bool) -> Admission:
        if channel is Channel.CONTROL:
            queued, queued_max = self._quic.unsent_bytes(STREAMS[0]), self._settings.control_queue_bytes_max
        else:
            queued, queued_max = self._bulk_bytes, self._settings.bulk_queue_bytes_max
        if droppable and queued > queued_max // 2:
            return Admission.DROPPED
        if queued and queued + len(data) > queued_max:
            return Admission.OVERFLOW
        if channel is Channel.CONTROL:
            self.send_at_once(data)
        else:
            self._bulk.append(memoryview(frame_header(data)))
            self._bulk.append(memoryview(data))
            self._bulk_bytes += FRAME_HEADER_BYTES + len(data)
        return Admission.QUEUED

    def prepare(self, now: float) -> None:
        """Gives aioquic what it shall send now: windows, the opening of BULK, bytes of BULK."""
        quic = self._quic
        if self._dialed and not quic.has_stream(STREAMS[1]) and quic.streams_allowed >= len(STREAMS):
            # No bytes: the grant of its window, which refresh_windows adds, is what opens it at the peer.
            quic.send_stream_data(STREAMS[1], b"")
        for channel, stream_id in enumerate(STREAMS):
            consumed = self._handed_bytes[channel]
            if not self._waiting_frames[channel]:
                consumed += self._readers[channel].partial_bytes
            quic.consume(stream_id, consumed)
        quic.refresh_windows()
        self._feed_bulk(now)

    def discard(self) -> None:
        """The link ended."""
        self._bulk.clear()
        self._bulk_bytes = 0

    def _feed_bulk(self, now: float) -> None:
        quic = self._quic
        control_unsent = quic.unsent_bytes(STREAMS[0])
        if control_unsent or self._bulk:
            quic.hurry_acknowledgement(now)
        if not self._bulk or not quic.has_stream(STREAMS[1]):
            return
        room = quic.flight_room_bytes - control_unsent - quic.unsent_bytes(STREAMS[1])
        while room > 0 and self._bulk:
            piece = self._bulk[0]
            if len(piece) <= room:
                self._bulk.popleft()
            else:
                self._bulk[0] = piece[room:]
                piece = piece[:room]
            quic.send_stream_data(STREAMS[1], piece)  # type: ignore[arg-type]  # only its length and bytes are used
            self._bulk_bytes -= len(piece)
            room -= len(piece)
