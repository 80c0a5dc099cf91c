"""What is staged and not yet seen by SQLite reads: rows on their way to the disk, and how reads find them.

There are at most two: one in the ticket being written, which nobody changes any more (so the worker thread may walk
it), and one that the loop thread still adds to. Rows are keyed as in the tables (see ``rows``).
"""

from __future__ import annotations

from dataclasses import dataclass, field

from meshnode.core.ids import EntryHash
from meshnode.core.log import Entry
from meshnode.storage.catalog import Dropped
from meshnode.storage.rows import Damage, Row, ValueKey, hash_prefix


@dataclass(slots=True)
class Overlay:
    names: list[Row] = field(default_factory=list)
    """Rows of the table ``name`` as they are written, in order: a later one replaces an earlier of its number."""
    sizes: list[Row] = field(default_factory=list)
    """Rows of the table ``size``."""
    drops: list[Dropped] = field(default_factory=list)
    """Their rows here are written and then deleted like the rest: a row of a dropped log is in nobody's way."""
    entries: dict[int, Entry] = field(default_factory=dict)
    entry_rows: list[Row] = field(default_factory=list)
    places: dict[EntryHash, int] = field(default_factory=dict)
    seals: dict[int, bytes] = field(default_factory=dict)
    journal: dict[int, int] = field(default_factory=dict)
    """Number -> place of the entry."""
    values: dict[str, dict[bytes, bytes | None]] = field(default_factory=dict)
    damage: list[Damage] = field(default_factory=list)
    """Rows found damaged, moved away by the same transaction before it writes anything."""
    mended: list[tuple[int, int | ValueKey]] = field(default_factory=list)
    """(kind, place) of damage that this overlay replaces."""
    unindexed: list[Row] = field(default_factory=list)
    """(prefix, place) that the search by hash has lost."""
    bytes: int = 0

    def __bool__(self) -> bool:
        return bool(self.entries or self.seals or self.journal or self.values or self.drops)

    def add_entry(self, place: int, key_number: int, entry: Entry) -> None:
        self.entries[place] = entry
        self.places[entry.hash] = place
        self.entry_rows.append(
            (place, hash_prefix(entry.hash), entry.previous, key_number, entry.package, entry.sealed)
        )
        self.bytes += entry.size_bytes
