"""The log store on SQLite: what the core reads, and the three calls of a commit (see ``ticket``).

Two connections. Reads run on the caller's thread on one, as plain short queries that never wait for a writer (WAL).
The other belongs to the worker thread (``writer``). What is staged and not yet durable lies in overlays that reads look
into first. Between ``write`` and ``end_commit`` a row is in both, which is harmless because it is the same row.

Every row is checked when it is read (``rows``). One that does not match is quarantined: it is skipped from then on,
counted, moved to the table ``damaged`` by the next commit, and the reader is told once with ``store-row-damaged``.
A damaged or missing entry leaves a *hole* in its log. The head of a log with a hole is the highest sealed position
below it, so that sync fetches the rest again by itself; what is stored above the hole is kept and need not match twice.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Sequence
from pathlib import Path

from meshnode.core.ids import EntryHash, IncidentId, LogId
from meshnode.core.log import Applied, CommitBatch, Entry, LogHead, Seal
from meshnode.errors import LocalFaultError
from meshnode.storage import schema
from meshnode.storage.catalog import Catalog, LogState
from meshnode.storage.faults import fault, translate
from meshnode.storage.overlay import Overlay
from meshnode.storage.rows import (
    ENTRY,
    JOURNAL,
    NAME,
    POSITION_BITS,
    POSITION_MASK,
    SEAL,
    VALUE,
    Damage,
    Row,
    ValueKey,
    content_of,
    decode_place,
    entry_of_row,
    first_place,
    hash_prefix,
    journal_check,
    last_place,
    seal_check,
    value_check,
)
from meshnode.storage.staging import check_batch
from meshnode.storage.ticket import RETRY_CODES, Ticket
from meshnode.storage.writer import FORCE_FRAMES, TIDY_FRAMES, Writer

_SELECT_ENTRIES = "SELECT place, key, prefix, previous, package, sealed FROM entry WHERE place BETWEEN ? AND ?"
_SELECT_LAST_ENTRY = f"{_SELECT_ENTRIES} ORDER BY place DESC LIMIT 1"
_SELECT_SEALS = 'SELECT place, signature, "check" FROM seal WHERE place BETWEEN ? AND ?'
_SELECT_LAST_SEAL = f"{_SELECT_SEALS} ORDER BY place DESC LIMIT 1"


class SqliteLogStore:
    """Open with :meth:`open`. Every method but ``write`` and ``tidy`` belongs to one thread."""

    def __init__(self, path: Path, reader: sqlite3.Connection, writer: Writer) -> None:
        self._path = path
        self._reader = reader
        self._writer = writer
        self._catalog = Catalog()
        self._staged = Overlay()
        self._flight: tuple[Ticket, Overlay] | None = None
        self._commits = 0
        self._failed: LocalFaultError | None = None
        self._notices: list[LocalFaultError] = []
        self._known_damage: dict[int, set[int | ValueKey]] = {
            kind: set() for kind in (ENTRY, SEAL, JOURNAL, VALUE, NAME)
        }
        """Rows quarantined and not replaced since, in this opening or an earlier one."""
        self._damaged = 0
        self._journal_last = 0

    @classmethod
    def open(cls, path: Path | str, migrations: Sequence[Sequence[str]] = schema.MIGRATIONS) -> SqliteLogStore:
        """The store in this file, created if there is none. See ``schema`` for the codes of a refusal."""
        path = Path(path)
        schema.prepare(path, migrations)
        writer = Writer(schema.connect_writer(path, migrations), path)
        try:
            store = cls(path, schema.connect_reader(path), writer)
        except BaseException:
            writer.close(failed=True)
            raise
        try:
            store._load()
        except BaseException:
            store._reader.close()
            writer.close(failed=True)
            raise
        return store

    def close(self) -> None:
        """Nothing staged is made durable. Harmless when done twice."""
        self._reader.close()
        self._writer.close(failed=self._failed is not None)

    # --- staging and commits ------------------------------------------------------------------------------------

    def stage(self, batch: CommitBatch) -> None:
        self._refuse_when_failed()
        staged, catalog = self._staged, self._catalog
        for entry in check_batch(batch, self):
            state = catalog.number_log(entry.incident, entry.log, staged.names)
            place = first_place(state.number) + entry.seq
            staged.add_entry(place, catalog.number_key(entry.key_id, staged.names), entry)
            if entry.seq > state.top:
                state.top = entry.seq
            else:
                state.holes.discard(entry.seq)
                state.head_known = False
            if place in self._known_damage[ENTRY]:
                staged.mended.append((ENTRY, place))
        for seal in batch.seals:
            self._stage_seal(seal)
        for row in batch.applied:
            state = catalog.logs[row.incident][row.log]
            staged.journal[row.number] = first_place(state.number) + row.seq
            self._journal_last = max(self._journal_last, row.number)
            if row.number in self._known_damage[JOURNAL]:
                self._known_damage[JOURNAL].discard(row.number)
                staged.mended.append((JOURNAL, row.number))
        for namespace, key, value in batch.puts:
            staged.values.setdefault(namespace, {})[key] = value
            if (namespace.encode(), key) in self._known_damage[VALUE]:
                staged.mended.append((VALUE, (namespace.encode(), key)))

    def begin_commit(self) -> Ticket | None:
        self._refuse_when_failed()
        if self._flight is not None:
            raise RuntimeError("a commit is in flight")
        if not self._staged:
            return None
        self._commits += 1
        ticket = Ticket(self._commits)
        self._flight = (ticket, self._staged)
        self._staged = Overlay()
        return ticket

    def write(self, ticket: Ticket) -> None:
        flight = self._flight
        if flight is None or flight[0] is not ticket or ticket.written:
            raise RuntimeError("this ticket is not in flight")
        self._refuse_when_failed()
        try:
            self._writer.write(flight[1])
        except LocalFaultError as error:
            self._note_failure(error)
            raise
        ticket.written = True
        if self._writer.frames >= FORCE_FRAMES:
            try:
                self._writer.tidy()
            except LocalFaultError as error:
                # The commit itself is durable; what failed is told to the next one.
                self._note_failure(error)

    def end_commit(self, ticket: Ticket) -> None:
        if self._flight is None or self._flight[0] is not ticket or not ticket.written:
            raise RuntimeError("this ticket was not written")
        for kind, place in self._flight[1].mended:
            self._known_damage[kind].discard(place)
        self._flight = None

    def abandon(self) -> None:
        if self._flight is not None and self._flight[0].written:
            self.end_commit(self._flight[0])
        kept = Overlay()
        for overlay in self._overlays()[::-1]:
            self._catalog.forget(overlay.names)
            kept.damage += overlay.damage
            for kind, place in overlay.mended:
                self._known_damage[kind].add(place)
        self._flight = None
        self._staged = kept
        self._catalog.unload()
        self._load_journal_last()

    def tidy_due(self) -> bool:
        return self._failed is None and self._writer.frames >= TIDY_FRAMES

    def tidy(self) -> None:
        self._refuse_when_failed()
        try:
            self._writer.tidy()
        except LocalFaultError as error:
            self._note_failure(error)
            raise

    # --- reads --------------------------------------------------------------------------------------------------

    def incidents(self) -> list[IncidentId]:
        return sorted(incident for incident, logs in self._catalog.logs.items() if logs)

    def heads(self, incident: IncidentId) -> list[LogHead]:
        logs = self._catalog.logs.get(incident, {})
        heads = (self._head(logs[log]) for log in sorted(logs))
        return [head for head in heads if head is not None]

    def read(self, incident: IncidentId, log: LogId, first: int, last: int) -> list[Entry]:
        state = self._state(incident, log)
        if state is None:
            return []
        first, last = max(first, 1), min(last, state.top)
        if state.holes:
            last = min([last, *(hole - 1 for hole in state.holes if hole >= first)])
        base = first_place(state.number)
        found: dict[int, Entry] = {}
        for overlay in self._overlays():
            for place in range(base + first, base + last + 1) if overlay.entries else ():
                if place in overlay.entries:
                    found[place] = overlay.entries[place]
        lacking = [place for place in range(base + first, base + last + 1) if place not in found]
        if lacking:
            rows = self._rows(_SELECT_ENTRIES, (lacking[0], lacking[-1]))
            by_place = {row[0]: row for row in rows}
            for place in lacking:
                entry = self._checked_entry(state, place, by_place.get(place))
                if entry is None:
                    raise self._row_damaged("an entry", f"{log.hex()}.{place & POSITION_MASK}")
                found[place] = entry
        return [found[place] for place in range(base + first, base + last + 1)]

    def seals(self, incident: IncidentId, log: LogId, first: int, last: int) -> list[Seal]:
        state = self._state(incident, log)
        if state is None:
            return []
        base = first_place(state.number)
        low, high = base + max(first, 1), base + min(last, state.top)
        signatures: dict[int, bytes] = {}
        for overlay in self._overlays():
            signatures.update((place, value) for place, value in overlay.seals.items() if low <= place <= high)
        for row in self._rows(_SELECT_SEALS, (low, high)):
            if row[0] not in signatures:
                signature = self._checked_signature(row)
                if signature is not None:
                    signatures[row[0]] = signature
                elif row[0] not in self._known_damage[SEAL]:
                    self._quarantine(Damage(SEAL, row[0], content_of(row)))
                    raise self._row_damaged("a seal", f"{log.hex()}.{row[0] & POSITION_MASK}")
        return [Seal(incident, log, place & POSITION_MASK, signatures[place]) for place in sorted(signatures)]

    def find(self, incident: IncidentId, entry_hash: EntryHash) -> tuple[LogId, int] | None:
        for overlay in self._overlays():
            place = overlay.places.get(entry_hash)
            if place is not None:
                staged = self._catalog.log_of_number[place >> POSITION_BITS]
                return (staged.log, place & POSITION_MASK) if staged.incident == incident else None
        rows = self._rows(
            "SELECT by_hash.place, key, entry.prefix, previous, package, sealed FROM entry_by_hash AS by_hash "
            "LEFT JOIN entry ON entry.place = by_hash.place WHERE by_hash.prefix = ?",
            (hash_prefix(entry_hash),),
        )
        for row in rows:
            state = self._catalog.state_at(row[0])
            if state is None or state.incident != incident or row[0] in self._known_damage[ENTRY]:
                continue
            entry = self._checked_entry(state, row[0], row)
            if entry is None:
                raise self._row_damaged("an entry", f"{state.log.hex()}.{row[0] & POSITION_MASK}")
            if entry.hash == entry_hash:
                return state.log, entry.seq
        return None

    def applied_after(self, number: int, limit: int) -> list[Applied]:
        holes = self._known_damage[JOURNAL]
        number = max(number, 0)
        rows = self._rows(
            'SELECT number, place, "check" FROM journal WHERE number > ? ORDER BY number LIMIT ?',
            (number, limit + len(holes)),
        )
        by_number = {row[0]: row for row in rows}
        found: list[Applied] = []
        while number < self._journal_last and len(found) < limit:
            number += 1
            if number in holes:
                continue
            place = next((o.journal[number] for o in self._overlays() if number in o.journal), None)
            row = by_number.get(number)
            if place is None and row is not None and journal_check(number, row[1]) == row[2]:
                place = row[1]
            state = self._catalog.state_at(place) if place is not None else None
            if state is None or place is None:
                self._quarantine(Damage(JOURNAL, number, content_of(row or ())))
                raise self._row_damaged("a journal row", str(number))
            found.append(Applied(number, state.incident, state.log, place & POSITION_MASK))
        return found

    def applied_last(self) -> int:
        return self._journal_last

    def get(self, namespace: str, key: bytes) -> bytes | None:
        for overlay in self._overlays():
            values = overlay.values.get(namespace)
            if values is not None and key in values:
                return values[key]
        rows = self._rows(
            'SELECT key, value, "check" FROM value WHERE namespace = ? AND key = ?', (namespace.encode(), key)
        )
        return self._checked_value(namespace, rows[0]) if rows else None

    def scan(self, namespace: str) -> list[tuple[bytes, bytes]]:
        staged: dict[bytes, bytes | None] = {}
        for overlay in reversed(self._overlays()):
            staged.update(overlay.values.get(namespace, {}))
        found = dict(staged)
        for row in self._rows('SELECT key, value, "check" FROM value WHERE namespace = ?', (namespace.encode(),)):
            if row[0] not in staged:
                found[row[0]] = self._checked_value(namespace, row)
        return sorted((key, value) for key, value in found.items() if value is not None)

    def damaged(self) -> int:
        return self._damaged

    def store_bytes(self) -> int:
        files = (self._path, schema.wal_path(self._path))
        return sum(file.stat().st_size for file in files if file.exists())

    def notices(self) -> tuple[LocalFaultError, ...]:
        return tuple(self._notices)

    # --- what check_batch asks ----------------------------------------------------------------------------------

    def top(self, incident: IncidentId, log: LogId) -> int:
        state = self._state(incident, log)
        return state.top if state is not None else 0

    def hash_at(self, incident: IncidentId, log: LogId, seq: int) -> EntryHash | None:
        state = self._state(incident, log)
        entry = self._entry_at(state, seq) if state is not None else None
        return entry.hash if entry is not None else None

    def is_journal_hole(self, number: int) -> bool:
        return number in self._known_damage[JOURNAL]

    # --- where logs end -----------------------------------------------------------------------------------------

    def _state(self, incident: IncidentId, log: LogId) -> LogState | None:
        state = self._catalog.state(incident, log)
        if state is not None and not state.loaded:
            self._load_log(state)
        return state

    def _load_log(self, state: LogState) -> None:
        """Find the last good entry. A damaged row at the end is quarantined: its position cannot be trusted."""
        low, high = first_place(state.number), last_place(state.number)
        while rows := self._rows(_SELECT_LAST_ENTRY, (low + 1, high)):
            high = rows[0][0]
            if high not in self._known_damage[ENTRY] and self._checked_entry(state, high, rows[0]) is not None:
                break
            high -= 1
        state.top = high - low if rows else 0
        state.holes = {
            place - low
            for place in self._known_damage[ENTRY]
            if isinstance(place, int) and low < place <= low + state.top
        }
        state.loaded = True
        state.head_known = False

    def _head(self, state: LogState) -> LogHead | None:
        if not state.loaded:
            self._load_log(state)
        while not state.head_known:
            limit = min(state.holes) - 1 if state.holes else state.top
            seq = self._highest_seal(state, limit)
            entry = self._entry_at(state, seq) if seq else None
            # A damaged entry made a hole and the search goes on below it.
            if entry is not None or seq == 0:
                state.head = LogHead(state.log, entry.seq, entry.hash) if entry is not None else None
                state.head_known = True
        return state.head

    def _highest_seal(self, state: LogState, limit: int) -> int:
        low = first_place(state.number)
        staged = [p for o in self._overlays() for p in o.seals if low < p <= low + limit]
        high = low + limit
        while rows := self._rows(_SELECT_LAST_SEAL, (low + 1, high)):
            high = rows[0][0]
            if self._checked_signature(rows[0]) is not None:
                staged.append(high)
                break
            if high not in self._known_damage[SEAL]:
                self._quarantine(Damage(SEAL, high, content_of(rows[0])))
            high -= 1
        return max(staged) - low if staged else 0

    def _stage_seal(self, seal: Seal) -> None:
        state = self._catalog.logs[seal.incident][seal.log]
        place = first_place(state.number) + seal.seq
        self._staged.seals[place] = seal.signature
        if place in self._known_damage[SEAL]:
            self._staged.mended.append((SEAL, place))
        if not state.head_known or state.holes:
            state.head_known = False
        elif state.head is None or seal.seq > state.head.height:
            entry = self._staged.entries.get(place)
            if entry is None:
                state.head_known = False
            else:
                state.head = LogHead(state.log, seal.seq, entry.hash)

    # --- rows ---------------------------------------------------------------------------------------------------

    def _overlays(self) -> tuple[Overlay, ...]:
        """The newest first."""
        return (self._staged,) if self._flight is None else (self._staged, self._flight[1])

    def _rows(self, query: str, parameters: Row) -> list[Row]:
        try:
            return self._reader.execute(query, parameters).fetchall()
        except sqlite3.Error as error:
            raise translate(error, "reading the store") from error

    def _entry_at(self, state: LogState, seq: int) -> Entry | None:
        place = first_place(state.number) + seq
        for overlay in self._overlays():
            if place in overlay.entries:
                return overlay.entries[place]
        if seq in state.holes:
            return None
        rows = self._rows(_SELECT_ENTRIES, (place, place))
        return self._checked_entry(state, place, rows[0] if rows else None)

    def _checked_entry(self, state: LogState, place: int, row: Row | None) -> Entry | None:
        """The entry of a row of _SELECT_ENTRIES. None when it is damaged or missing: a hole now, and counted."""
        entry = None
        if row is not None:
            key_id = self._catalog.key_of_number.get(row[1])
            entry = entry_of_row(state.incident, state.log, place & POSITION_MASK, key_id, row[2:])
        if entry is None:
            self._quarantine(Damage(ENTRY, place, content_of(row or ())))
        return entry

    def _checked_signature(self, row: Row) -> bytes | None:
        place, signature, check = row
        if isinstance(signature, bytes) and seal_check(place, signature) == check:
            return signature
        return None

    def _checked_value(self, namespace: str, row: Row) -> bytes | None:
        key, value, check = row
        place = (namespace.encode(), key)
        if isinstance(key, bytes) and isinstance(value, bytes) and value_check(place, value) == check:
            return value
        if place not in self._known_damage[VALUE]:
            self._quarantine(Damage(VALUE, place, content_of(row)))
            raise self._row_damaged("a value", f"{namespace}/{key!r}")
        return None

    def _quarantine(self, damage: Damage) -> None:
        self._damaged += 1
        self._known_damage[damage.kind].add(damage.place)
        self._staged.damage.append(damage)
        if damage.kind in (ENTRY, SEAL) and isinstance(damage.place, int):
            state = self._catalog.state_at(damage.place)
            if state is not None:
                state.head_known = False
                if damage.kind == ENTRY:
                    state.holes.add(damage.place & POSITION_MASK)

    def _row_damaged(self, what: str, where: str) -> LocalFaultError:
        return LocalFaultError(
            "store-row-damaged",
            f"{what} on disk does not match its hash ({where}); it is set aside",
            "nothing now: entries are fetched again from peers; examine the disk if it happens again",
        )

    # --- opening and failing ------------------------------------------------------------------------------------

    def _load(self) -> None:
        for kind, data in self._rows("SELECT kind, place FROM damaged", ()):
            try:
                self._known_damage[kind].add(decode_place(kind, data))
            except (KeyError, ValueError):
                self._damaged += 1
        for damage in self._catalog.load(self._rows("SELECT * FROM name", ()), len(self._known_damage[NAME])):
            self._quarantine(damage)
        self._load_journal_last()
        try:
            self._writer.mark_open()
        except LocalFaultError as error:
            # A full disk is no reason not to read.
            if error.code not in RETRY_CODES:
                raise
            self._notices.append(error)

    def _load_journal_last(self) -> None:
        query = 'SELECT number, place, "check" FROM journal WHERE number < ? ORDER BY number DESC LIMIT 1'
        below = (1 << 63) - 1
        while rows := self._rows(query, (below,)):
            number, place, check = rows[0]
            if journal_check(number, place) == check:
                self._journal_last = number
                return
            if number not in self._known_damage[JOURNAL]:
                self._quarantine(Damage(JOURNAL, number, content_of(rows[0])))
            below = number
        self._journal_last = 0

    def _refuse_when_failed(self) -> None:
        if self._failed is not None:
            raise fault("store-failed", f"no commit is accepted since this: {self._failed.reason}")

    def _note_failure(self, error: LocalFaultError) -> None:
        if error.code not in RETRY_CODES:
            self._failed = error
