"""The write-ahead log as a file: room for it in advance, and signs that it was removed or damaged.

SQLite opens a store whose WAL is gone or damaged at an earlier clean state without a word (it cannot tell a damaged
frame from one that a power cut left half written). Two facts about this store tell more:

* a mark in the database file itself says that a node has it open. Found with no WAL beside it, the WAL was removed.
* a commit begins only after the one before is synced. So behind the last frame SQLite accepts there can be frames of
  one commit that was never acknowledged; the ends of two commits there prove that an acknowledged one is damaged.

Neither can say that nothing is lost. Both only raise a notice: what is lost is fetched again from peers, and a node
never reuses a position of its own logs, because it opens new ones at every start.

Source: sqlite.org/fileformat2.html, section "The Write-Ahead Log".
"""

from __future__ import annotations

import os
import struct
from dataclasses import dataclass
from pathlib import Path

HEADER_BYTES = 32
FRAME_HEADER_BYTES = 24
_RESERVE_STEP_BYTES = 1 << 18
"""Zeros written at once: little memory, few calls."""
_HEADER = struct.Struct(">8I")
_FRAME = struct.Struct(">4I")
_MAGIC_LITTLE, _MAGIC_BIG = 0x377F0682, 0x377F0683


@dataclass(frozen=True, slots=True)
class WalSurvey:
    """A WAL as it was found before SQLite opened it."""

    bytes: int
    header_good: bool
    commit_ends: tuple[int, ...]
    """Numbers (from 1) of the frames that end a commit of the current round of the WAL."""

    def has_lost_commits(self, frames: int) -> bool:
        """``frames``: how many SQLite accepted."""
        if self.bytes > HEADER_BYTES and not self.header_good:
            return True
        return sum(end > frames for end in self.commit_ends) >= 2


def survey(path: Path) -> WalSurvey:
    """Reads the headers only. Raises OSError."""
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except FileNotFoundError:
        return WalSurvey(0, True, ())
    try:
        size = os.fstat(descriptor).st_size
        header = os.pread(descriptor, HEADER_BYTES, 0)
        if len(header) < HEADER_BYTES or not _is_header(header):
            return WalSurvey(size, False, ())
        page_bytes, salts = _HEADER.unpack(header)[2], _HEADER.unpack(header)[4:6]
        ends = []
        step = FRAME_HEADER_BYTES + page_bytes
        for number in range(1, (size - HEADER_BYTES) // step + 1):
            frame = os.pread(descriptor, _FRAME.size, HEADER_BYTES + (number - 1) * step)
            _page, pages_after_commit, *frame_salts = _FRAME.unpack(frame)
            if pages_after_commit and tuple(frame_salts) == salts:
                ends.append(number)
        return WalSurvey(size, True, tuple(ends))
    finally:
        os.close(descriptor)


def _is_header(header: bytes) -> bool:
    magic, _version, page_bytes = _HEADER.unpack(header)[:3]
    if magic not in (_MAGIC_LITTLE, _MAGIC_BIG) or not 512 <= page_bytes <= 65_536:
        return False
    words = struct.unpack(">8I" if magic == _MAGIC_BIG else "<8I", header)
    first = second = 0
    for index in range(0, 6, 2):
        first = (first + words[index] + second) & 0xFFFFFFFF
        second = (second + words[index + 1] + first) & 0xFFFFFFFF
    return (first, second) == _HEADER.unpack(header)[6:]


def reserve(path: Path, size_bytes: int) -> None:
    """Write zeros behind the end of the WAL up to a size, so that commits overwrite blocks and do not add any.

    SQLite takes them for the unused rest of a WAL. A disk without room for it is no fault: commits grow the file.
    """
    try:
        descriptor = os.open(path, os.O_WRONLY | os.O_CLOEXEC)
        try:
            for offset in range(os.fstat(descriptor).st_size, size_bytes, _RESERVE_STEP_BYTES):
                os.pwrite(descriptor, bytes(min(_RESERVE_STEP_BYTES, size_bytes - offset)), offset)
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
    except OSError:
        return
