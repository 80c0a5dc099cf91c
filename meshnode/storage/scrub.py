"""Looking at rows that nobody has read for long.

A background task asks for one slice after the other, table by table in key order, and rests in between. What it finds
is quarantined like damage found by a reader, so that it is fetched again while some peer still has it. It also finds
entries that the search by hash has lost, which no read can notice, and puts them back.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence

from meshnode.storage.catalog import Catalog
from meshnode.storage.damage import DamageLedger
from meshnode.storage.overlay import Overlay
from meshnode.storage.reader import Reader, is_seal, is_value
from meshnode.storage.rows import ENTRY, JOURNAL, SEAL, VALUE, Damage, Row, ValueKey, content_of, journal_check
from meshnode.storage.ticket import SCRUB_START, Scrubbed, ScrubPosition

_KINDS = (ENTRY, SEAL, JOURNAL, VALUE)
_SELECT = {
    ENTRY: "SELECT entry.place, key, entry.prefix, previous, package, sealed, by_hash.place FROM entry "
    "LEFT JOIN entry_by_hash AS by_hash ON by_hash.prefix = entry.prefix AND by_hash.place = entry.place "
    "WHERE entry.place > ? ORDER BY entry.place LIMIT ?",
    SEAL: 'SELECT place, signature, "check" FROM seal WHERE place > ? ORDER BY place LIMIT ?',
    JOURNAL: 'SELECT number, place, "check" FROM journal WHERE number > ? ORDER BY number LIMIT ?',
    VALUE: 'SELECT namespace, key, value, "check" FROM value WHERE (namespace, key) > (?, ?) '
    "ORDER BY namespace, key LIMIT ?",
}
_FIRST: dict[int, tuple[int] | ValueKey] = {ENTRY: (0,), SEAL: (0,), JOURNAL: (0,), VALUE: (b"", b"")}


def scrub_slice(
    reader: Reader,
    catalog: Catalog,
    ledger: DamageLedger,
    overlays: Sequence[Overlay],
    start: ScrubPosition,
    limit: int,
) -> Scrubbed:
    """Check up to ``limit`` rows of one table. Raises LocalFaultError ``store-damaged`` and the like."""
    kind = _KINDS[start.table]
    after = start.after if start.after is not None else _FIRST[kind]
    rows = reader.rows(_SELECT[kind], *after, limit)
    before = ledger.count
    for row in rows:
        place: int | ValueKey = row[0] if kind != VALUE else (row[0], row[1])
        if ledger.has(kind, place) or any(_replaces(overlay, kind, place) for overlay in overlays):
            continue
        if kind == ENTRY:
            _scrub_entry(reader, catalog, ledger, row)
        elif kind == SEAL and catalog.state_at(row[0]) is None:
            continue  # of a log whose name was lost, or that was dropped: nobody can ask for it
        elif not _IS_GOOD[kind](row):
            reader.quarantine(Damage(kind, place, content_of(row)))
    if len(rows) == limit:
        last = rows[-1]
        following = ScrubPosition(start.table, (last[0],) if kind != VALUE else (last[0], last[1]))
    else:
        following = ScrubPosition(start.table + 1) if start.table + 1 < len(_KINDS) else SCRUB_START
    return Scrubbed(following, len(rows), ledger.count - before)


def _scrub_entry(reader: Reader, catalog: Catalog, ledger: DamageLedger, row: Row) -> None:
    state = catalog.state_at(row[0])
    if state is None:
        # The name of this log was lost, or it was dropped: nobody can ask for the entry, and what comes again comes
        # under a new number.
        return
    entry = reader.checked_entry(state, row[0], row[:-1])
    if entry is not None and row[-1] is None:
        ledger.count += 1
        ledger.unindexed.append((row[2], row[0]))


def _replaces(overlay: Overlay, kind: int, place: int | ValueKey) -> bool:
    if isinstance(place, tuple):
        namespace, key = place
        return any(name.encode() == namespace and key in values for name, values in overlay.values.items())
    rows: dict[int, Collection[int]] = {ENTRY: overlay.entries, SEAL: overlay.seals, JOURNAL: overlay.journal}
    return place in rows[kind]


def _is_journal_row(row: Row) -> bool:
    number, place, check = row
    return bool(journal_check(number, place) == check)


_IS_GOOD: dict[int, Callable[[Row], bool]] = {SEAL: is_seal, JOURNAL: _is_journal_row, VALUE: is_value}
