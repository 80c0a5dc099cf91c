"""Rows that are durable, each checked against its hash before anybody sees it (I11).

One connection, short queries, on the caller's thread. A row that does not match is entered in the ledger of damage and
answered as None; whether that is told to a reader at once is for the store to say. Rows that an overlay replaces must
not be looked at here: the old row on disk may be damaged while the new one is on its way.
"""

from __future__ import annotations

import sqlite3

from meshnode.core.ids import EntryHash, IncidentId
from meshnode.core.log import ENTRY_OVERHEAD_BYTES, Entry
from meshnode.storage.catalog import Catalog, Dropped, LogState
from meshnode.storage.damage import DamageLedger, row_damaged
from meshnode.storage.faults import translate
from meshnode.storage.rows import (
    ENTRY,
    JOURNAL,
    NAME,
    POSITION_MASK,
    SEAL,
    VALUE,
    Damage,
    Row,
    content_of,
    decode_place,
    entry_of_row,
    first_place,
    hash_prefix,
    journal_check,
    last_place,
    seal_check,
    size_check,
    value_check,
)

_SELECT_ENTRIES = "SELECT place, key, prefix, previous, package, sealed FROM entry WHERE place BETWEEN ? AND ?"
_SELECT_LAST_ENTRY = f"{_SELECT_ENTRIES} ORDER BY place DESC LIMIT 1"
_SELECT_BY_HASH = (
    "SELECT by_hash.place, key, entry.prefix, previous, package, sealed FROM entry_by_hash AS by_hash "
    "LEFT JOIN entry ON entry.place = by_hash.place WHERE by_hash.prefix = ?"
)
_SELECT_SEALS = 'SELECT place, signature, "check" FROM seal WHERE place BETWEEN ? AND ?'
_SELECT_LAST_SEAL = f"{_SELECT_SEALS} ORDER BY place DESC LIMIT 1"
_SELECT_JOURNAL = 'SELECT number, place, "check" FROM journal WHERE number > ? ORDER BY number LIMIT ?'
_SELECT_LAST_JOURNAL = 'SELECT number, place, "check" FROM journal WHERE number <= ? ORDER BY number DESC LIMIT 1'
_SELECT_VALUE = 'SELECT key, value, "check" FROM value WHERE namespace = ? AND key = ?'
_SELECT_VALUES = 'SELECT key, value, "check" FROM value WHERE namespace = ?'

_SELECT_SIZE = "SELECT SUM(? + LENGTH(sealed) + IFNULL(LENGTH(package), 0)) FROM entry WHERE place BETWEEN ? AND ?"

_INT64_MAX = (1 << 63) - 1


class Reader:
    def __init__(self, connection: sqlite3.Connection, catalog: Catalog, ledger: DamageLedger) -> None:
        self._connection = connection
        self._catalog = catalog
        self._ledger = ledger

    def load(self) -> list[Dropped]:
        """Fill the ledger with damage found earlier, and the catalog with names; what is still to be deleted."""
        for kind, data in self.rows("SELECT kind, place FROM damaged"):
            try:
                self._ledger.note_earlier(kind, decode_place(kind, data))
            except (KeyError, TypeError, ValueError):
                self._ledger.count += 1
        dropped = self.load_names()
        for number in (number for incident in dropped for number in incident.logs):
            self._ledger.forget_log(first_place(number), last_place(number))
        return dropped

    def load_names(self) -> list[Dropped]:
        """The catalog as the tables have it."""
        pending = sum(damage.kind == NAME for damage in self._ledger.pending)
        lost = len(self._ledger.known(NAME)) - pending
        found, dropped = self._catalog.load(self.rows("SELECT * FROM name"), lost)
        for damage in found:
            if not self._ledger.has(NAME, damage.place):
                self.quarantine(damage)
        for number, seq, size_bytes, check in self.rows("SELECT * FROM size"):
            state = self._catalog.log_of_number.get(number)
            # Not believed when damaged: then the entries themselves are added up.
            if state is not None and is_size((number, seq, size_bytes, check)):
                state.marked_seq, state.marked_bytes = seq, size_bytes
        return dropped

    def close(self) -> None:
        self._connection.close()

    def rows(self, query: str, *parameters: object) -> list[Row]:
        try:
            return self._connection.execute(query, parameters).fetchall()
        except sqlite3.Error as error:
            raise translate(error, "reading the store") from error

    def quarantine(self, damage: Damage) -> None:
        self._ledger.add(damage)
        if damage.kind in (ENTRY, SEAL) and isinstance(damage.place, int):
            state = self._catalog.state_at(damage.place)
            if state is not None:
                state.head_known = False
                # Behind the top is no hole: the log ends before it, and grows over it again.
                if damage.kind == ENTRY and damage.place & POSITION_MASK <= state.top:
                    state.holes.add(damage.place & POSITION_MASK)

    # --- entries ------------------------------------------------------------------------------------------------

    def entry(self, state: LogState, place: int) -> Entry | None:
        """The entry that must stand there; None when it is damaged or missing, which is a hole from now on."""
        rows = self.rows(_SELECT_ENTRIES, place, place)
        return self.checked_entry(state, place, rows[0] if rows else None)

    def entries(self, low: int, high: int) -> dict[int, Row]:
        """Rows by place, not checked yet: some may be replaced by an overlay."""
        return {row[0]: row for row in self.rows(_SELECT_ENTRIES, low, high)}

    def checked_entry(self, state: LogState, place: int, row: Row | None) -> Entry | None:
        """The same as ``entry``, of a row already read."""
        entry = None
        if row is not None:
            key_id = self._catalog.key_of_number.get(row[1])
            entry = entry_of_row(state.incident, state.log, place & POSITION_MASK, key_id, row[2:])
        if entry is None:
            self.quarantine(Damage(ENTRY, place, content_of(row or ())))
        return entry

    def find(self, incident: IncidentId, entry_hash: EntryHash) -> Entry | None:
        """The entry with this hash. Raises ``store-row-damaged`` when it may be one that is damaged."""
        for row in self.rows(_SELECT_BY_HASH, hash_prefix(entry_hash)):
            state = self._catalog.state_at(row[0])
            if state is None or state.incident != incident or self._ledger.has(ENTRY, row[0]):
                continue
            if not state.loaded:
                self.load_log(state)
            if row[0] & POSITION_MASK > state.top:
                continue  # left by an entry that damage took, before its log was dropped and this number used again
            entry = self.checked_entry(state, row[0], row)
            if entry is None:
                raise row_damaged(ENTRY, f"{state.log.hex()}.{row[0] & POSITION_MASK}")
            if entry.hash == entry_hash:
                return entry
        return None

    def load_log(self, state: LogState) -> None:
        """Find the last good entry. A damaged row at the end is quarantined: its position cannot be trusted."""
        low, high = first_place(state.number), last_place(state.number)
        while rows := self.rows(_SELECT_LAST_ENTRY, low + 1, high):
            high = rows[0][0]
            if not self._ledger.has(ENTRY, high) and self.checked_entry(state, high, rows[0]) is not None:
                break
            high -= 1
        state.top = high - low if rows else 0
        known = self._ledger.known(ENTRY)
        state.holes = {place - low for place in known if isinstance(place, int) and low < place <= low + state.top}
        state.loaded = True
        state.head_known = False
        if self.last_seal(low + state.top, last_place(state.number)) > low + state.top:
            # A seal without its entry: the end of the log is gone, and nothing stands there that could be set aside.
            self._ledger.count += 1
        self._add_up(state)

    def _add_up(self, state: LogState) -> None:
        """The size of a log: what its mark says, and what came behind it. A mark beyond the top is of a longer log."""
        if state.marked_seq > state.top:
            state.marked_seq = state.marked_bytes = 0
        size_bytes = state.marked_bytes
        if state.marked_seq < state.top:
            low = first_place(state.number)
            rows = self.rows(_SELECT_SIZE, ENTRY_OVERHEAD_BYTES, low + state.marked_seq + 1, low + state.top)
            size_bytes += rows[0][0] or 0
        state.bytes = 0
        self._catalog.note_size(state, state.top - state.marked_seq, size_bytes)

    # --- seals, journal, values -----------------------------------------------------------------------------------

    def seals(self, low: int, high: int, overlaid: dict[int, bytes]) -> dict[int, bytes]:
        """Signatures by place, without those overlaid. Raises ``store-row-damaged``."""
        found: dict[int, bytes] = {}
        for row in self.rows(_SELECT_SEALS, low, high):
            if row[0] in overlaid:
                continue
            if is_seal(row):
                found[row[0]] = row[1]
            elif not self._ledger.has(SEAL, row[0]):
                self.quarantine(Damage(SEAL, row[0], content_of(row)))
                raise row_damaged(SEAL, f"position {row[0] & POSITION_MASK}")
        return found

    def last_seal(self, low: int, high: int) -> int:
        """The highest place above ``low`` and up to ``high`` with a good seal; ``low`` when there is none."""
        while rows := self.rows(_SELECT_LAST_SEAL, low + 1, high):
            high = rows[0][0]
            if is_seal(rows[0]):
                return high
            if not self._ledger.has(SEAL, high):
                self.quarantine(Damage(SEAL, high, content_of(rows[0])))
            high -= 1
        return low

    def journal(self, number: int, limit: int) -> dict[int, Row]:
        """Rows above a number, not checked yet."""
        return {row[0]: row for row in self.rows(_SELECT_JOURNAL, number, limit)}

    def journal_last(self) -> int:
        below = _INT64_MAX
        while rows := self.rows(_SELECT_LAST_JOURNAL, below):
            number = rows[0][0]
            if is_journal_row(rows[0]):
                return int(number)
            if not self._ledger.has(JOURNAL, number):
                self.quarantine(Damage(JOURNAL, number, content_of(rows[0])))
            below = number - 1
        return 0

    def value(self, namespace: bytes, key: bytes) -> bytes | None:
        """Raises ``store-row-damaged``, once."""
        rows = self.rows(_SELECT_VALUE, namespace, key)
        return self._checked_value(namespace, rows[0]) if rows else None

    def values(self, namespace: bytes, overlaid: dict[bytes, bytes | None]) -> dict[bytes, bytes]:
        """Values by key, without those overlaid. Raises ``store-row-damaged``, once for each damaged row."""
        found: dict[bytes, bytes] = {}
        for row in self.rows(_SELECT_VALUES, namespace):
            if row[0] not in overlaid:
                value = self._checked_value(namespace, row)
                if value is not None:
                    found[row[0]] = value
        return found

    def _checked_value(self, namespace: bytes, row: Row) -> bytes | None:
        key, value, check = row
        if is_value((namespace, key, value, check)):
            return bytes(value)
        if not self._ledger.has(VALUE, (namespace, key)):
            self.quarantine(Damage(VALUE, (namespace, key), content_of(row)))
            raise row_damaged(VALUE, f"{namespace!r}, {key!r}")
        return None


def is_seal(row: Row) -> bool:
    """A row of _SELECT_SEALS is what was written. A flipped bit can change a column's type."""
    place, signature, check = row
    return isinstance(signature, bytes) and seal_check(place, signature) == check


def is_journal_row(row: Row) -> bool:
    """A row of the table ``journal`` is what was written."""
    number, place, check = row
    return isinstance(place, int) and journal_check(number, place) == check


def is_size(row: Row) -> bool:
    """A row of the table ``size`` is what was written."""
    return all(isinstance(column, int) for column in row) and size_check(*row[:3]) == row[3]


def is_value(row: Row) -> bool:
    """A row (namespace, key, value, check) is what was written."""
    namespace, key, value, check = row
    return (
        isinstance(namespace, bytes)
        and isinstance(key, bytes)
        and isinstance(value, bytes)
        and value_check((namespace, key), value) == check
    )
