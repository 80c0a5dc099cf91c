"""Which rows are known to be damaged, and which of them still have to be moved out of the way.

A damaged row is told to one reader, then skipped. It is moved to the table ``damaged`` by the next commit, so that
reads need no write. It stays known until somebody stages the row again and that is durable.
"""

from __future__ import annotations

from meshnode.errors import LocalFaultError
from meshnode.storage.rows import ENTRY, JOURNAL, NAME, SEAL, VALUE, Damage, Row, ValueKey

_WHAT = {ENTRY: "an entry", SEAL: "a seal", JOURNAL: "a journal row", VALUE: "a value", NAME: "a name"}


class DamageLedger:
    """Loop thread only."""

    def __init__(self) -> None:
        self.count = 0
        """Rows found damaged in this opening."""
        self.pending: list[Damage] = []
        """To be moved by the next commit."""
        self.unindexed: list[Row] = []
        """(prefix, place) of entries that the search by hash does not find, to be put back by the next commit."""
        self._known: dict[int, set[int | ValueKey]] = {kind: set() for kind in _WHAT}

    def note_earlier(self, kind: int, place: int | ValueKey) -> None:
        """A row that an earlier opening moved away."""
        self._known[kind].add(place)

    def add(self, damage: Damage) -> None:
        self.count += 1
        self._known[damage.kind].add(damage.place)
        self.pending.append(damage)

    def has(self, kind: int, place: int | ValueKey) -> bool:
        return place in self._known[kind]

    def known(self, kind: int) -> set[int | ValueKey]:
        return self._known[kind]

    def forget_log(self, low: int, high: int) -> None:
        """The rows at these places were dropped, damaged or not."""
        for kind in (ENTRY, SEAL):
            gone = {place for place in self._known[kind] if isinstance(place, int) and low <= place <= high}
            self._known[kind] -= gone

    def mended(self, kind: int, place: int | ValueKey) -> None:
        self._known[kind].discard(place)


def row_damaged(kind: int, where: str) -> LocalFaultError:
    return LocalFaultError(
        "store-row-damaged",
        f"{_WHAT[kind]} on disk is missing or does not match its hash ({where}); it is set aside",
        "nothing now: entries are fetched again from peers; examine the disk if it happens again",
    )
