"""Frames on a byte stream: a 4-byte big-endian length, then that many bytes.

The reader keeps one unfinished frame. It never allocates for a length it was only told: memory grows with the bytes
that came. A wrong length ends the stream; there is no way to find the next frame after one.
"""

from __future__ import annotations

from meshnode.errors import UntrustedInputError
from meshnode.transport.base import CODES, FRAME_HEADER_BYTES


class FrameReader:
    """Cuts one stream into frames. ``frame_bytes_max`` may be raised once the peer is proven."""

    __slots__ = ("_partial", "_too_large_code", "_wanted", "frame_bytes_max")

    def __init__(self, frame_bytes_max: int, too_large_code: str = "frame-too-large") -> None:
        self.frame_bytes_max = frame_bytes_max
        self._too_large_code = too_large_code
        self._partial = bytearray()
        self._wanted = FRAME_HEADER_BYTES
        """Bytes of header, or of header and body, that ``_partial`` must reach."""

    @property
    def partial_bytes(self) -> int:
        """Bytes of the unfinished frame, its header included."""
        return len(self._partial)

    def allow(self, frame_bytes_max: int) -> None:
        """From now on frames may be this large: the hello has been verified."""
        self.frame_bytes_max = frame_bytes_max
        self._too_large_code = "frame-too-large"

    def feed_untrusted(self, data: bytes) -> tuple[bytes | None, bytes]:
        """The first frame that ``data`` completes, or None, and the bytes that come after it.

        UntrustedInputError ``frame-empty`` or ``frame-too-large``, as soon as the length is known.
        """
        partial = self._partial
        if not partial and len(data) >= FRAME_HEADER_BYTES:
            # The common case: a whole small frame in one piece, cut out without passing through the buffer.
            end = FRAME_HEADER_BYTES + self._length(data)
            if len(data) >= end:
                return data[FRAME_HEADER_BYTES:end], data[end:]
        while True:
            missing = self._wanted - len(partial)
            partial += data[:missing]
            data = data[missing:]
            if len(partial) < self._wanted:
                return None, b""
            if self._wanted > FRAME_HEADER_BYTES:
                frame = bytes(memoryview(partial)[FRAME_HEADER_BYTES:])
                self._partial = bytearray()
                self._wanted = FRAME_HEADER_BYTES
                return frame, data
            self._wanted = FRAME_HEADER_BYTES + self._length(partial)

    def _length(self, data: bytes | bytearray) -> int:
        length = int.from_bytes(data[:FRAME_HEADER_BYTES], "big")
        if length == 0:
            raise UntrustedInputError("frame-empty", CODES["frame-empty"].reason, CODES["frame-empty"].action)
        if length > self.frame_bytes_max:
            entry = CODES[self._too_large_code]
            raise UntrustedInputError(self._too_large_code, entry.reason, entry.action)
        return length


def frame_header(data: bytes) -> bytes:
    return len(data).to_bytes(FRAME_HEADER_BYTES, "big")
