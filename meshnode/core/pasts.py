"""Which kept entries each entry has in its past: one number per entry that tells, and unions instead of walks.

A group keeps the few entries that decide about it (valid acts, epochs) and numbers them as they come. The **mask** of
an entry has a bit for each kept entry in its causal past, or that it is itself. The mask of an entry follows from those
of the entry before it in its log and of its parents, so it is known when the entry is merged, at a cost of its parents:
nobody walks back through the graph, however long or wide the record is.

Nearly all entries of a stretch of the record have seen the same kept entries. So a log remembers only where its mask
changes, equal masks are kept once, and a long one is kept packed: a flood of kept entries, whether in one chain or side
by side, gives masks that are nearly all ones or nearly all zeros.
"""

from __future__ import annotations

import zlib
from array import array
from bisect import bisect_right
from collections.abc import Callable, Iterable, Iterator
from typing import Any

from meshnode.core.ids import LogId

Position = tuple[LogId, int]

PLAIN_BITS_MAX = 4_096
"""Masks up to this are kept as they are: 512 bytes. No group without a hostile member has longer ones."""
UNPACKED_MAX = 64
"""Long masks that are kept at hand unpacked."""


class MaskTable:
    """Every mask that was ever given a number, once."""

    def __init__(self) -> None:
        self._rows: list[int | bytes] = []
        self._numbers: dict[int | bytes, int] = {}
        self._at_hand: dict[int, int] = {}
        self.number(0)

    def number(self, mask: int) -> int:
        """The number of this mask; 0 is that of the empty one."""
        row: int | bytes = mask
        if mask.bit_length() > PLAIN_BITS_MAX:
            row = zlib.compress(_bytes(mask), 1)
        number = self._numbers.get(row)
        if number is None:
            number = self._numbers[row] = len(self._rows)
            self._rows.append(row)
        return number

    def mask(self, number: int) -> int:
        row = self._rows[number]
        if isinstance(row, int):
            return row
        mask = self._at_hand.get(number)
        if mask is None:
            mask = int.from_bytes(zlib.decompress(row), "little")
            if len(self._at_hand) >= UNPACKED_MAX:
                del self._at_hand[next(iter(self._at_hand))]
            self._at_hand[number] = mask
        return mask

    def snapshot(self) -> list[bytes]:
        return [row if isinstance(row, bytes) else _bytes(row) for row in self._rows]

    @classmethod
    def restore(cls, rows: Iterable[bytes], packed: Iterable[int]) -> MaskTable:
        table = cls()
        long = set(packed)
        table._rows = [row if number in long else int.from_bytes(row, "little") for number, row in enumerate(rows)]
        table._numbers = {row: number for number, row in enumerate(table._rows)}
        return table

    def packed(self) -> list[int]:
        """Which rows of :meth:`snapshot` are packed."""
        return [number for number, row in enumerate(self._rows) if isinstance(row, bytes)]


class Pasts:
    """The mask of every merged entry."""

    def __init__(self) -> None:
        self.table = MaskTable()
        self._logs: dict[LogId, tuple[array[int], array[int]]] = {}
        """Positions where the mask of a log changes, ascending, and the number of the mask from there on."""

    def at(self, position: Position) -> int:
        """Kept entries that ``position``, which was merged, covers: in its past or itself."""
        return self.table.mask(self._number_at(position))

    def union(self, position: Position, parents: Iterable[Position]) -> int:
        """Kept entries in the past of the next entry of a log; its parents were added before."""
        log, seq = position
        mask = 0
        for number in {self._number_at((log, seq - 1)), *map(self._number_at, parents)}:
            mask |= self.table.mask(number)
        return mask

    def pass_on(self, position: Position, parents: Iterable[Position]) -> None:
        """The next entry of a log, which is not kept itself."""
        log, seq = position
        before = self._number_at((log, seq - 1))
        if any(self._number_at(parent) != before for parent in parents):
            self.add(position, self.union(position, parents))

    def add(self, position: Position, mask: int) -> None:
        """The mask of the next entry of a log."""
        log, seq = position
        number = self.table.number(mask)
        if number != self._number_at(position):
            seqs, numbers = self._logs.setdefault(log, (array("I"), array("I")))
            seqs.append(seq)
            numbers.append(number)

    def _number_at(self, position: Position) -> int:
        log, seq = position
        changes = self._logs.get(log)
        if changes is None:
            return 0
        seqs, numbers = changes
        if seqs[-1] <= seq:
            return numbers[-1]
        found = bisect_right(seqs, seq)
        return numbers[found - 1] if found else 0

    def snapshot(self) -> list[Any]:
        """Plain data for the codec."""
        logs = [[log, list(seqs), list(numbers)] for log, (seqs, numbers) in self._logs.items()]
        return [self.table.snapshot(), self.table.packed(), logs]

    @classmethod
    def restore(cls, data: list[Any]) -> Pasts:
        pasts = cls()
        rows, packed, logs = data
        pasts.table = MaskTable.restore(rows, packed)
        pasts._logs = {LogId(log): (array("I", seqs), array("I", numbers)) for log, seqs, numbers in logs}
        return pasts


def bits(mask: int) -> Iterator[int]:
    """The numbers in a mask, the latest first."""
    while mask:
        index = mask.bit_length() - 1
        yield index
        mask ^= 1 << index


def tops(mask: int, covered_by: Callable[[int], int]) -> Iterator[int]:
    """The numbers in a mask that no other in it covers, the latest first; looks at no other.

    Kept entries are numbered after all in their past, so the latest is never covered, and what it covers need not be
    looked at. ``covered_by`` gives the mask of what one covers, itself included.
    """
    while mask:
        index = mask.bit_length() - 1
        yield index
        mask &= ~(covered_by(index) | 1 << index)


def _bytes(mask: int) -> bytes:
    return mask.to_bytes((mask.bit_length() + 7) // 8, "little")
