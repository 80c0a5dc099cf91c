"""Looking at rows that nobody has read for long.

A background task asks for one slice after the other, table by table in key order, and rests in between. What it finds
is quarantined like damage found by a reader, so that it is fetched again while some peer still has it. It also finds
entries that the search by hash has lost, which no read can notice, and puts them back; and it finds entries that are
not there at all, by the gap they leave in their log or by the journal, which names them.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Sequence
from itertools import islice

from meshnode.storage.catalog import Catalog
from meshnode.storage.damage import DamageLedger
from meshnode.storage.overlay import Overlay
from meshnode.storage.reader import Reader, is_journal_row, is_seal, is_value
from meshnode.storage.rows import (
    ENTRY,
    JOURNAL,
    POSITION_MASK,
    SEAL,
    VALUE,
    Damage,
    Row,
    ValueKey,
    content_of,
    first_place,
    last_place,
)
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
_PLACE_END = 1 << 63
"""Behind every place."""
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
        if ledger.has(kind, place) or _is_staged(overlays, kind, place):
            continue
        if kind == ENTRY:
            _scrub_entry(reader, catalog, ledger, row)
        elif kind == SEAL and catalog.state_at(row[0]) is None:
            continue  # of a log whose name was lost, or that was dropped: nobody can ask for it
        elif not _IS_GOOD[kind](row):
            reader.quarantine(Damage(kind, place, content_of(row)))
        elif kind == JOURNAL:
            _scrub_named(reader, catalog, ledger, row[1])
    following = ScrubPosition(start.table + 1) if start.table + 1 < len(_KINDS) else SCRUB_START
    if len(rows) == limit:
        last = rows[-1]
        following = ScrubPosition(start.table, (last[0],) if kind != VALUE else (last[0], last[1]))
    if kind in (ENTRY, JOURNAL):
        span = range(int(after[0]) + 1, rows[-1][0] if len(rows) == limit else _PLACE_END)
        present = {row[0] for row in rows if not ledger.has(kind, row[0])}  # a damaged place or number is no place
        if kind == ENTRY:
            lost = _missing(reader, catalog, ledger, overlays, span, present)
        else:
            lost = _missing_numbers(ledger, overlays, span, present)
        for at in islice(lost, limit):
            reader.quarantine(Damage(kind, at, content_of(())))
        if next(lost, None) is not None:
            following = ScrubPosition(start.table, (at,))  # the rest is for the next slice
    return Scrubbed(following, len(rows), ledger.count - before)


def _missing(
    reader: Reader,
    catalog: Catalog,
    ledger: DamageLedger,
    overlays: Sequence[Overlay],
    span: range,
    present: Collection[int],
) -> Iterator[int]:
    """Places within ``span`` where an entry must stand and no row does, ascending.

    A flipped bit in the structure of a page can take rows away, one or a page of them, without SQLite's noticing: there
    is nothing left whose hash could be wrong. But logs have no gaps.
    """
    logs = catalog.log_of_number
    for number in sorted(
        number for number in logs if first_place(number) < span.stop and last_place(number) >= span.start
    ):
        state = logs[number]
        if not state.loaded:
            reader.load_log(state)
        low = first_place(number)
        for place in range(max(low + 1, span.start), min(low + state.top + 1, span.stop)):
            if not (place in present or ledger.has(ENTRY, place) or _is_staged(overlays, ENTRY, place)):
                yield place


def _missing_numbers(
    ledger: DamageLedger, overlays: Sequence[Overlay], span: range, present: Collection[int]
) -> Iterator[int]:
    """The same of the journal, up to its last row that is left."""
    for number in range(span.start, max(present, default=0)):
        if not (number in present or ledger.has(JOURNAL, number) or _is_staged(overlays, JOURNAL, number)):
            yield number


def _scrub_named(reader: Reader, catalog: Catalog, ledger: DamageLedger, place: int) -> None:
    """An entry that the journal names was stored once. Behind the end of its log it was lost with the end, seals
    included: what is left looks like a shorter log, and only the journal knows better."""
    state = catalog.state_at(place)
    if state is None:
        return  # the name of its log was lost: counted then
    if not state.loaded:
        reader.load_log(state)
    if place & POSITION_MASK > state.top and not ledger.has(ENTRY, place):
        reader.quarantine(Damage(ENTRY, place, content_of(())))


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


def _is_staged(overlays: Sequence[Overlay], kind: int, place: int | ValueKey) -> bool:
    return any(_replaces(overlay, kind, place) for overlay in overlays)


def _replaces(overlay: Overlay, kind: int, place: int | ValueKey) -> bool:
    if isinstance(place, tuple):
        namespace, key = place
        return any(name.encode() == namespace and key in values for name, values in overlay.values.items())
    rows: dict[int, Collection[int]] = {ENTRY: overlay.entries, SEAL: overlay.seals, JOURNAL: overlay.journal}
    return place in rows[kind]


_IS_GOOD: dict[int, Callable[[Row], bool]] = {SEAL: is_seal, JOURNAL: is_journal_row, VALUE: is_value}
