"""The log store on SQLite: what the core reads, and the three calls of a commit (see ``ticket``).

Two connections. Reads run on the caller's thread on one (``reader``), as plain short queries that never wait for a
writer. The other belongs to the worker thread (``writer``). What is staged and not yet durable lies in overlays that
reads look into first. Between ``write`` and ``end_commit`` a row is in both, which is harmless: it is the same row.

Every row is checked when it is read. One that does not match is quarantined: it is skipped from then on, counted,
moved to the table ``damaged`` by the next commit, and the reader is told once with ``store-row-damaged``. A damaged or
missing entry leaves a *hole* in its log. The head of a log with a hole is the highest sealed position below it, so
that sync fetches the rest again by itself; what is stored above the hole is kept and may be staged again.

A dropped incident is gone for readers at once. Its rows are deleted by ``tidy``, in slices (see ``sweep``).
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from meshnode.core.ids import EntryHash, IncidentId, LogId
from meshnode.core.log import Applied, CommitBatch, Entry, LogHead, Seal
from meshnode.errors import LocalFaultError
from meshnode.storage import schema
from meshnode.storage.catalog import Catalog, LogState
from meshnode.storage.damage import DamageLedger, row_damaged
from meshnode.storage.faults import fault
from meshnode.storage.overlay import Overlay
from meshnode.storage.reader import Reader, is_journal_row
from meshnode.storage.rows import (
    ENTRY,
    JOURNAL,
    POSITION_MASK,
    SEAL,
    VALUE,
    Damage,
    content_of,
    first_place,
    last_place,
)
from meshnode.storage.scrub import scrub_slice
from meshnode.storage.staging import check_batch
from meshnode.storage.ticket import RETRY_CODES, Scrubbed, ScrubPosition, Ticket
from meshnode.storage.writer import FORCE_FRAMES, WAL_RESERVE_BYTES, Writer

MARK_ENTRIES = 4_096
"""Entries since the table ``size`` was written: what is added up again after a crash, in about 10 ms."""


class SqliteLogStore:
    """Open with :meth:`open`. Every method but ``write`` and ``tidy`` belongs to one thread."""

    def __init__(self, path: Path, catalog: Catalog, ledger: DamageLedger, reader: Reader, writer: Writer) -> None:
        self._path = path
        self._catalog = catalog
        self._ledger = ledger
        self._reader = reader
        self._writer = writer
        self._staged = Overlay()
        self._flight: tuple[Ticket, Overlay] | None = None
        self._commits = 0
        self._failed: LocalFaultError | None = None
        self._journal_last = 0

    @classmethod
    def open(
        cls,
        path: Path | str,
        *,
        migrations: Sequence[Sequence[str]] = schema.MIGRATIONS,
        wal_reserve_bytes: int = WAL_RESERVE_BYTES,
    ) -> SqliteLogStore:
        """The store in this file, created if there is none. See ``schema`` for the codes of a refusal."""
        path = Path(path)
        schema.prepare(path, migrations)
        writer = Writer(path, migrations, wal_reserve_bytes)
        try:
            catalog, ledger = Catalog(), DamageLedger()
            reader = Reader(schema.connect_reader(path), catalog, ledger)
            try:
                store = cls(path, catalog, ledger, reader, writer)
                writer.sweep.add(reader.load())
                store._journal_last = reader.journal_last()
            except BaseException:
                reader.close()
                raise
        except BaseException:
            if not writer.notices:  # what was found is told again at the next start
                writer.mark_closed(())
            writer.close()
            raise
        return store

    def close(self) -> None:
        """Nothing staged is made durable. Harmless when done twice."""
        durable = self._flight is None and not self._staged
        sizes = self._catalog.take_marks() if durable else []
        # SQLite deletes the WAL when the last connection to a store closes, if that one may write. Under a store that
        # says it is open, that would look like a WAL that was removed: then the reader, which may not, closes last.
        if self._failed is None and self._writer.mark_closed(sizes):
            self._reader.close()
            self._writer.close()
        else:
            self._writer.close()
            self._reader.close()

    # --- staging and commits ------------------------------------------------------------------------------------

    def stage(self, batch: CommitBatch) -> None:
        self._refuse_when_failed()
        staged, catalog = self._staged, self._catalog
        fresh = check_batch(batch, self)
        for incident in batch.drops:
            dropped = catalog.drop(incident, staged.names)
            if dropped is not None:
                staged.drops.append(dropped)
        for entry in fresh:
            state = catalog.number_log(entry.incident, entry.log, staged.names)
            place = first_place(state.number) + entry.seq
            staged.add_entry(place, catalog.number_key(state.parent, entry.key_id, staged.names), entry)
            if entry.seq > state.top:
                state.top = entry.seq
                catalog.note_size(state, 1, entry.size_bytes)
            else:
                state.holes.discard(entry.seq)
                state.head_known = False
            if self._ledger.has(ENTRY, place):
                staged.mended.append((ENTRY, place))
        for seal in batch.seals:
            self._stage_seal(seal)
        for row in batch.applied:
            catalog.note_journaled(row.incident, staged.names)
            staged.journal[row.number] = first_place(catalog.logs[row.incident][row.log].number) + row.seq
            self._journal_last = max(self._journal_last, row.number)
            if self._ledger.has(JOURNAL, row.number):
                staged.mended.append((JOURNAL, row.number))
        for namespace, key, value in batch.puts:
            staged.values.setdefault(namespace, {})[key] = value
            if self._ledger.has(VALUE, (namespace.encode(), key)):
                staged.mended.append((VALUE, (namespace.encode(), key)))

    def begin_commit(self) -> Ticket | None:
        self._refuse_when_failed()
        if self._flight is not None:
            raise RuntimeError("a commit is in flight")
        for number in self._writer.take_freed():
            self._catalog.free(number)
        ledger = self._ledger
        if not (self._staged or ledger.pending or ledger.unindexed):
            return None
        self._staged.damage, ledger.pending = ledger.pending, []
        self._staged.unindexed, ledger.unindexed = ledger.unindexed, []
        if self._catalog.unmarked_entries >= MARK_ENTRIES:
            self._staged.sizes = self._catalog.take_marks()
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
                self._writer.checkpoint()
            except LocalFaultError as error:
                # The commit itself is durable; what failed is told to the next one.
                self._note_failure(error)

    def end_commit(self, ticket: Ticket) -> None:
        if self._flight is None or self._flight[0] is not ticket or not ticket.written:
            raise RuntimeError("this ticket was not written")
        for kind, place in self._flight[1].mended:
            self._ledger.mended(kind, place)
        for dropped in self._flight[1].drops:
            for number in dropped.logs:
                self._ledger.forget_log(first_place(number), last_place(number))
        self._flight = None

    def abandon(self) -> None:
        if self._flight is not None and self._flight[0].written:
            self.end_commit(self._flight[0])
        for overlay in self._overlays():
            self._ledger.pending[:0] = overlay.damage
            self._ledger.unindexed[:0] = overlay.unindexed
        self._flight = None
        self._staged = Overlay()
        self._writer.take_freed()  # the tables say the same
        self._reader.load_names()
        self._journal_last = self._reader.journal_last()

    def tidy_due(self) -> bool:
        return self._failed is None and self._writer.tidy_due()

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
        places = range(first_place(state.number) + first, first_place(state.number) + last + 1)
        staged = self._staged_entries(places)
        rows: dict[int, tuple[object, ...]] = {}
        if len(staged) < len(places):
            lacking = [place for place in places if place not in staged] if staged else places
            rows = self._reader.entries(lacking[0], lacking[-1])
        entries: list[Entry] = []
        for place in places:
            entry = staged.get(place) or self._reader.checked_entry(state, place, rows.get(place))
            if entry is None:
                raise row_damaged(ENTRY, f"{log.hex()}.{place & POSITION_MASK}")
            entries.append(entry)
        return entries

    def seals(self, incident: IncidentId, log: LogId, first: int, last: int) -> list[Seal]:
        state = self._state(incident, log)
        if state is None:
            return []
        low, high = first_place(state.number) + max(first, 1), first_place(state.number) + min(last, state.top)
        signatures: dict[int, bytes] = {}
        for overlay in reversed(self._overlays()):
            signatures.update((place, value) for place, value in overlay.seals.items() if low <= place <= high)
        signatures.update(self._reader.seals(low, high, signatures))
        return [Seal(incident, log, place & POSITION_MASK, signatures[place]) for place in sorted(signatures)]

    def find(self, incident: IncidentId, entry_hash: EntryHash) -> tuple[LogId, int] | None:
        for overlay in self._overlays():
            place = overlay.places.get(entry_hash)
            state = self._catalog.state_at(place) if place is not None else None
            if place is not None and state is not None:
                return (state.log, place & POSITION_MASK) if state.incident == incident else None
        entry = self._reader.find(incident, entry_hash)
        return (entry.log, entry.seq) if entry is not None else None

    def incident_bytes(self, incident: IncidentId) -> int:
        known = self._catalog.bytes
        if incident in known or incident not in self._catalog.logs:
            return known.get(incident, 0)
        states = [self._loaded(state) for state in self._catalog.logs[incident].values()]
        known[incident] = sum(state.bytes for state in states)
        return known[incident]

    def journaled(self, incident: IncidentId) -> bool:
        return self._catalog.journaled(incident)

    def applied_after(self, number: int, limit: int) -> list[Applied]:
        number = max(number, 0)
        overlays = self._overlays()
        rows = self._reader.journal(number, limit + len(self._ledger.known(JOURNAL)))
        found: list[Applied] = []
        while number < self._journal_last and len(found) < limit:
            number += 1
            place = next((overlay.journal[number] for overlay in overlays if number in overlay.journal), None)
            if place is None:
                if self._ledger.has(JOURNAL, number):
                    continue
                row = rows.get(number)
                if row is not None and is_journal_row(row):
                    place = int(row[1])
            state = self._catalog.state_at(place) if place is not None else None
            if state is None or place is None:
                self._reader.quarantine(Damage(JOURNAL, number, content_of(rows.get(number, ()))))
                raise row_damaged(JOURNAL, str(number))
            found.append(Applied(number, state.incident, state.log, place & POSITION_MASK))
        return found

    def applied_last(self) -> int:
        return self._journal_last

    def get(self, namespace: str, key: bytes) -> bytes | None:
        for overlay in self._overlays():
            values = overlay.values.get(namespace)
            if values is not None and key in values:
                return values[key]
        return self._reader.value(namespace.encode(), key)

    def scan(self, namespace: str) -> list[tuple[bytes, bytes]]:
        staged: dict[bytes, bytes | None] = {}
        for overlay in reversed(self._overlays()):
            staged.update(overlay.values.get(namespace, {}))
        found = self._reader.values(namespace.encode(), staged)
        found.update((key, value) for key, value in staged.items() if value is not None)
        return sorted(found.items())

    def damaged(self) -> int:
        return self._ledger.count

    def scrub(self, start: ScrubPosition, limit: int) -> Scrubbed:
        return scrub_slice(self._reader, self._catalog, self._ledger, self._overlays(), start, limit)

    def store_bytes(self) -> int:
        files = (self._path, schema.wal_path(self._path))
        return sum(file.stat().st_size for file in files if file.exists())

    def notices(self) -> tuple[LocalFaultError, ...]:
        return tuple(self._writer.notices)

    # --- what check_batch asks ----------------------------------------------------------------------------------

    def top(self, incident: IncidentId, log: LogId) -> int:
        state = self._state(incident, log)
        return state.top if state is not None else 0

    def hash_at(self, incident: IncidentId, log: LogId, seq: int) -> EntryHash | None:
        state = self._state(incident, log)
        entry = self._entry_at(state, seq) if state is not None else None
        return entry.hash if entry is not None else None

    def is_journal_hole(self, number: int) -> bool:
        return self._ledger.has(JOURNAL, number) and number < self._journal_last

    # --- where logs end -----------------------------------------------------------------------------------------

    def _state(self, incident: IncidentId, log: LogId) -> LogState | None:
        state = self._catalog.state(incident, log)
        return self._loaded(state) if state is not None else None

    def _loaded(self, state: LogState) -> LogState:
        if not state.loaded:
            self._reader.load_log(state)
        return state

    def _head(self, state: LogState) -> LogHead | None:
        while not self._loaded(state).head_known:
            low = first_place(state.number)
            high = low + (min(state.holes) - 1 if state.holes else state.top)
            staged = [place for overlay in self._overlays() for place in overlay.seals if low < place <= high]
            # Below the highest staged seal nothing on disk matters, and no row an overlay replaces is looked at.
            above = max(staged, default=low)
            seq = self._reader.last_seal(above, high) - low
            entry = self._entry_at(state, seq) if seq else None
            # A damaged entry has just become a hole: the search goes on below it.
            if entry is not None or seq == 0:
                state.head = LogHead(state.log, entry.seq, entry.hash) if entry is not None else None
                state.head_known = True
        return state.head

    def _stage_seal(self, seal: Seal) -> None:
        state = self._catalog.logs[seal.incident][seal.log]
        place = first_place(state.number) + seal.seq
        self._staged.seals[place] = seal.signature
        if self._ledger.has(SEAL, place):
            self._staged.mended.append((SEAL, place))
        entry = self._staged.entries.get(place)
        if entry is None or state.holes:
            state.head_known = False
        elif state.head_known and (state.head is None or seal.seq > state.head.height):
            state.head = LogHead(state.log, seal.seq, entry.hash)

    def _entry_at(self, state: LogState, seq: int) -> Entry | None:
        """None where there is a hole, or is one from now on."""
        if seq in state.holes:
            return None
        place = first_place(state.number) + seq
        for overlay in self._overlays():
            if place in overlay.entries:
                return overlay.entries[place]
        return self._reader.entry(state, place)

    # --- overlays and failing -----------------------------------------------------------------------------------

    def _overlays(self) -> tuple[Overlay, ...]:
        """The newest first."""
        return (self._staged,) if self._flight is None else (self._staged, self._flight[1])

    def _staged_entries(self, places: range) -> dict[int, Entry]:
        found: dict[int, Entry] = {}
        for overlay in self._overlays():
            if overlay.entries:
                found.update((place, overlay.entries[place]) for place in places if place in overlay.entries)
        return found

    def _refuse_when_failed(self) -> None:
        if self._failed is not None:
            raise fault("store-failed", f"no commit is accepted since this: {self._failed.reason}")

    def _note_failure(self, error: LocalFaultError) -> None:
        if error.code not in RETRY_CODES:
            self._failed = error
