"""Deleting what was dropped, a little at a time.

Dropping an incident is one row (see ``catalog``); its entries may be a gigabyte. They are deleted here by the worker
thread between commits, in slices small enough that a commit which comes meanwhile does not notice. A number becomes
free in the same transaction that deletes its last row, so a crash leaves rows that are still to be deleted, and never
rows of an old log under a new name.

Deleted pages are not overwritten (the caller sets ``secure_delete`` to FAST): they hold ciphertext that this node never
had a key for, and overwriting would write every byte of it once more. Names are overwritten: a row that becomes free
loses its name.
"""

from __future__ import annotations

import sqlite3
from collections import deque
from collections.abc import Iterable
from dataclasses import dataclass, field

from meshnode.core.log import ENTRY_OVERHEAD_BYTES
from meshnode.storage.catalog import FREE, Dropped, name_row
from meshnode.storage.rows import ENTRY, SEAL, Row, encode_place, first_place, last_place

SLICE_ROWS = 500
"""Entries deleted in one transaction. In a large store each touches a page of the search by hash of its own, so this is
2 MiB of WAL and 20 to 30 ms on a busy two-core machine, of the 100 ms that a commit may have to wait."""
SLICE_BYTES = 4 << 20
"""The same in bytes. Long entries lie in chains of pages that are walked one by one: 10 ms."""
_LOG_COST = 4
"""A log costs its statements even when it is empty: so many rows, measured with logs of one entry."""

_SELECT = (
    "SELECT place, prefix, ? + LENGTH(sealed) + IFNULL(LENGTH(package), 0) FROM entry "
    "WHERE place BETWEEN ? AND ? ORDER BY place LIMIT ?"
)


@dataclass(slots=True)
class _Slice:
    rows: int = 0
    bytes: int = 0
    freed: list[int] = field(default_factory=list)

    @property
    def full(self) -> bool:
        return self.rows >= SLICE_ROWS or self.bytes >= SLICE_BYTES


class Sweep:
    """Worker thread only, but for ``due``."""

    def __init__(self, connection: sqlite3.Connection) -> None:
        self._connection = connection
        self._dropped: deque[Dropped] = deque()

    @property
    def due(self) -> bool:
        return bool(self._dropped)

    def add(self, dropped: Iterable[Dropped]) -> None:
        """These are durably marked as dropped."""
        self._dropped.extend(dropped)

    def slice(self) -> tuple[list[int], int]:
        """Delete some rows of the oldest, in one transaction: the numbers that are free now, and pages written, about.

        Raises sqlite3.Error; then the caller rolls back, and the same slice is tried again later.
        """
        connection, dropped = self._connection, self._dropped[0]
        done = _Slice()
        connection.execute("BEGIN IMMEDIATE")
        logs = 0
        while logs < len(dropped.logs) and not done.full and self._empty_log(dropped.logs[-1 - logs], done):
            logs += 1
        over = logs == len(dropped.logs) and not done.full
        keys = dropped.keys[: SLICE_ROWS - done.rows] if over else []
        self._free([*keys, *dropped.logs[len(dropped.logs) - logs :]], done)
        over = over and len(keys) == len(dropped.keys)
        if over:
            self._free([dropped.number], done)
        connection.execute("COMMIT")
        # Only now: a slice that failed is tried again from where it stood.
        del dropped.logs[len(dropped.logs) - logs :]
        del dropped.keys[: len(keys)]
        if over:
            self._dropped.popleft()
        return done.freed, 4 + done.rows + done.bytes // 4_096

    def _empty_log(self, number: int, done: _Slice) -> bool:
        """Delete entries of one log in order, and their seals. True when nothing of it is left."""
        connection = self._connection
        low, high = first_place(number), last_place(number)
        limit = SLICE_ROWS - done.rows
        rows = connection.execute(_SELECT, (ENTRY_OVERHEAD_BYTES, low, high, limit)).fetchall()
        fitting: list[Row] = []
        for row in rows:
            if done.full:
                break
            fitting.append(row)
            done.rows += 1
            done.bytes += row[2] or 0
        empty = len(fitting) < limit and len(fitting) == len(rows)
        end = high if empty else fitting[-1][0]
        # A flipped bit can change a column's type; the search by hash then keeps a row that finds nothing.
        by_hash = sorted((row[1], row[0]) for row in fitting if isinstance(row[1], int))
        connection.executemany("DELETE FROM entry_by_hash WHERE prefix = ? AND place = ?", by_hash)
        connection.execute("DELETE FROM entry WHERE place BETWEEN ? AND ?", (low, end))
        connection.execute("DELETE FROM seal WHERE place BETWEEN ? AND ?", (low, end))
        if empty:
            done.rows += _LOG_COST
            connection.execute("DELETE FROM size WHERE log = ?", (number,))
            connection.execute(
                "DELETE FROM damaged WHERE kind IN (?, ?) AND place BETWEEN ? AND ?",
                (ENTRY, SEAL, encode_place(low), encode_place(high)),
            )
        return empty

    def _free(self, numbers: list[int], done: _Slice) -> None:
        self._connection.executemany(
            "INSERT OR REPLACE INTO name VALUES (?, ?, ?, ?, ?, ?)", [name_row(n, FREE, 0, b"") for n in numbers]
        )
        done.rows += len(numbers)
        done.freed += numbers
