"""How a store makes staged batches durable without the event loop ever waiting for a disk.

::

    loop thread      stage  stage  begin_commit ->      stage  stage      end_commit  (effects)  begin_commit ->
    worker thread                               write ------------------>                                     write ...

``begin_commit`` takes everything staged so far into a :class:`Ticket`; ``write`` makes that ticket durable in one
transaction and is the only call that blocks; ``end_commit`` tells the store that reads need no longer remember it.
What is staged meanwhile waits for the next ticket: that is the group of the group commit, and it grows by itself when
the disk is slow. One ticket is in flight at a time. Reads see staged batches at every moment.

When ``write`` raises, nothing of the ticket is durable. After ``store-full`` or ``store-busy`` the same ticket may be
written again, or everything not durable is dropped with ``abandon``. After any other code no commit is accepted until
the store is opened again: a failed sync says nothing about which pages reached the disk, so nothing more may be
acknowledged (fault D6).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

from meshnode.core.log import LogStore
from meshnode.errors import LocalFaultError

RETRY_CODES = frozenset({"store-full", "store-busy"})
"""Faults of ``write`` that leave the store in order: the ticket can be written again later, or abandoned."""


@dataclass(slots=True, eq=False)
class Ticket:
    """One group of staged batches on its way to the disk. Compared by identity."""

    number: int
    """Commits begun since the store was opened, from 1."""
    written: bool = False


@dataclass(frozen=True, slots=True)
class ScrubPosition:
    """Where a scrub goes on: a table, and the key of the last row looked at in it."""

    table: int = 0
    after: tuple[int] | tuple[bytes, bytes] | None = None


@dataclass(frozen=True, slots=True)
class Scrubbed:
    """What one slice of a scrub looked at, and where the next one starts; ``SCRUB_START`` after the last row."""

    following: ScrubPosition
    rows: int
    damaged: int


SCRUB_START = ScrubPosition()


class CommittingLogStore(LogStore, Protocol):
    """What a shell needs beside the reads of the core. See the module for the rules of the three commit calls."""

    def begin_commit(self) -> Ticket | None:
        """Loop thread. None when nothing is staged. Raises RuntimeError while another ticket is in flight."""

    def write(self, ticket: Ticket) -> None:
        """Worker thread; blocks. Raises LocalFaultError ``store-full``, ``store-busy``, ``store-failed``, ..."""

    def end_commit(self, ticket: Ticket) -> None:
        """Loop thread, after ``write`` returned."""

    def abandon(self) -> None:
        """Loop thread, no write running: drop everything staged that is not durable, in a ticket or not."""

    def tidy_due(self) -> bool:
        """True when a call of ``tidy`` would shorten what a later commit has to wait for."""

    def tidy(self) -> None:
        """Worker thread; blocks; never at the same time as ``write``."""

    def scrub(self, start: ScrubPosition, limit: int) -> Scrubbed:
        """Loop thread: check up to ``limit`` rows that nobody may have read for long. Damage is quarantined."""

    def store_bytes(self) -> int:
        """Bytes the store takes on disk."""

    def notices(self) -> tuple[LocalFaultError, ...]:
        """What was found wrong while opening that did not prevent opening."""

    def close(self) -> None:
        """Nothing staged is made durable by this."""
