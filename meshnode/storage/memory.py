"""A log store in memory, for the simulator and for tests: same answers as the one on SQLite, and it can crash.

Every staged batch is written into the one set of dictionaries at once, and how to take it back is pushed on an undo
list. What is durable is therefore "everything, less the undo list": ``end_commit`` forgets the undo steps of its
ticket, and a crash (``lose_uncommitted``) or ``abandon`` plays them back from the newest to the oldest.

No time, no chance, no file: equal calls give equal answers.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right, insort
from collections.abc import Callable
from dataclasses import dataclass, field

from meshnode.core.ids import EntryHash, IncidentId, LogId
from meshnode.core.log import Applied, CommitBatch, Entry, LogHead, Seal
from meshnode.errors import LocalFaultError
from meshnode.storage.staging import check_batch
from meshnode.storage.ticket import RETRY_CODES, SCRUB_START, Scrubbed, ScrubPosition, Ticket

FailCommit = Callable[[int], LocalFaultError | None]
"""Given the number of a commit: the fault its ``write`` raises, or None. Called once per attempt."""

_Undo = Callable[[], object]


@dataclass(slots=True)
class _Log:
    entries: list[Entry] = field(default_factory=list)
    """Position s at index s - 1."""
    signatures: dict[int, bytes] = field(default_factory=dict)
    sealed: list[int] = field(default_factory=list)
    """The keys of ``signatures``, ascending."""


class MemoryLogStore:
    """``LogStore`` in memory. ``fail_commit`` injects faults of ``write``."""

    def __init__(self, fail_commit: FailCommit | None = None) -> None:
        self._fail_commit = fail_commit
        self._logs: dict[IncidentId, dict[LogId, _Log]] = {}
        self._places: dict[IncidentId, dict[EntryHash, tuple[LogId, int]]] = {}
        self._incident_bytes: dict[IncidentId, int] = {}
        self._journal: list[Applied] = []
        self._journaled: dict[IncidentId, int] = {}
        """How many journal rows name an incident."""
        self._values: dict[str, dict[bytes, bytes]] = {}
        self._undo: list[_Undo] = []
        """Steps back for what is staged and in no ticket."""
        self._flight: tuple[Ticket, list[_Undo]] | None = None
        self._commits = 0
        self._failed: LocalFaultError | None = None

    # --- staging and commits ------------------------------------------------------------------------------------

    def stage(self, batch: CommitBatch) -> None:
        if self._failed is not None:
            raise self._failed
        fresh = check_batch(batch, self)
        for incident in batch.drops:
            self._drop(incident)
        for entry in fresh:
            self._add_entry(entry)
        for seal in batch.seals:
            self._add_seal(seal)
        for row in batch.applied:
            self._add_applied(row)
        for namespace, key, value in batch.puts:
            self._put(namespace, key, value)

    def begin_commit(self) -> Ticket | None:
        if self._failed is not None:
            raise self._failed
        if self._flight is not None:
            raise RuntimeError("a commit is in flight")
        if not self._undo:
            return None
        self._commits += 1
        ticket = Ticket(self._commits)
        self._flight = (ticket, self._undo)
        self._undo = []
        return ticket

    def write(self, ticket: Ticket) -> None:
        self._check_flight(ticket)
        if self._failed is not None:
            raise self._failed
        fault = self._fail_commit(ticket.number) if self._fail_commit is not None else None
        if fault is not None:
            if fault.code not in RETRY_CODES:
                self._failed = fault
            raise fault
        ticket.written = True

    def end_commit(self, ticket: Ticket) -> None:
        self._check_flight(ticket)
        if not ticket.written:
            raise RuntimeError("this ticket was not written")
        self._flight = None

    def abandon(self) -> None:
        if self._flight is not None and self._flight[0].written:
            self._flight = None
        self.lose_uncommitted()

    def commit_all(self) -> None:
        """Make everything staged durable now. Raises what ``write`` raises."""
        ticket = self._flight[0] if self._flight is not None else self.begin_commit()
        while ticket is not None:
            if not ticket.written:
                self.write(ticket)
            self.end_commit(ticket)
            ticket = self.begin_commit()

    def lose_uncommitted(self) -> None:
        """A crash and a restart: what no ``end_commit`` has confirmed is gone, and commits are accepted again."""
        for step in reversed(self._undo):
            step()
        self._undo = []
        if self._flight is not None:
            for step in reversed(self._flight[1]):
                step()
            self._flight = None
        self._failed = None

    def tidy_due(self) -> bool:
        return False

    def tidy(self) -> None:
        """Nothing to tidy in memory."""

    def close(self) -> None:
        """Nothing to close; what was staged is lost."""
        self.lose_uncommitted()

    # --- reads --------------------------------------------------------------------------------------------------

    def incidents(self) -> list[IncidentId]:
        return sorted(self._logs)

    def heads(self, incident: IncidentId) -> list[LogHead]:
        logs = self._logs.get(incident, {})
        return [
            LogHead(name, logs[name].sealed[-1], logs[name].entries[logs[name].sealed[-1] - 1].hash)
            for name in sorted(logs)
            if logs[name].sealed
        ]

    def read(self, incident: IncidentId, log: LogId, first: int, last: int) -> list[Entry]:
        found = self._logs.get(incident, {}).get(log)
        return found.entries[max(first, 1) - 1 : max(last, 0)] if found is not None else []

    def seals(self, incident: IncidentId, log: LogId, first: int, last: int) -> list[Seal]:
        found = self._logs.get(incident, {}).get(log)
        if found is None:
            return []
        positions = found.sealed[bisect_left(found.sealed, first) : bisect_right(found.sealed, last)]
        return [Seal(incident, log, seq, found.signatures[seq]) for seq in positions]

    def find(self, incident: IncidentId, entry_hash: EntryHash) -> tuple[LogId, int] | None:
        return self._places.get(incident, {}).get(entry_hash)

    def incident_bytes(self, incident: IncidentId) -> int:
        return self._incident_bytes.get(incident, 0)

    def journaled(self, incident: IncidentId) -> bool:
        return self._journaled.get(incident, 0) > 0

    def applied_after(self, number: int, limit: int) -> list[Applied]:
        return self._journal[max(number, 0) : max(number, 0) + limit]

    def applied_last(self) -> int:
        return len(self._journal)

    def get(self, namespace: str, key: bytes) -> bytes | None:
        return self._values.get(namespace, {}).get(key)

    def scan(self, namespace: str) -> list[tuple[bytes, bytes]]:
        return sorted(self._values.get(namespace, {}).items())

    def damaged(self) -> int:
        return 0

    def scrub(self, start: ScrubPosition, limit: int) -> Scrubbed:
        """Memory does not rot."""
        return Scrubbed(SCRUB_START, 0, 0)

    def store_bytes(self) -> int:
        return sum(self._incident_bytes.values())

    def notices(self) -> tuple[LocalFaultError, ...]:
        return ()

    # --- what check_batch asks ----------------------------------------------------------------------------------

    def top(self, incident: IncidentId, log: LogId) -> int:
        found = self._logs.get(incident, {}).get(log)
        return len(found.entries) if found is not None else 0

    def hash_at(self, incident: IncidentId, log: LogId, seq: int) -> EntryHash | None:
        return self._logs[incident][log].entries[seq - 1].hash

    def is_journal_hole(self, number: int) -> bool:
        return False

    # --- one row each, with the way back ------------------------------------------------------------------------

    def _add_entry(self, entry: Entry) -> None:
        logs = self._logs.setdefault(entry.incident, {})
        log = logs.setdefault(entry.log, _Log())
        log.entries.append(entry)
        places = self._places.setdefault(entry.incident, {})
        places[entry.hash] = (entry.log, entry.seq)
        self._incident_bytes[entry.incident] = self.incident_bytes(entry.incident) + entry.size_bytes

        def undo() -> None:
            log.entries.pop()
            del places[entry.hash]
            self._incident_bytes[entry.incident] -= entry.size_bytes
            if not log.entries:
                del logs[entry.log]
                if not logs:
                    del self._logs[entry.incident], self._places[entry.incident], self._incident_bytes[entry.incident]

        self._undo.append(undo)

    def _add_applied(self, row: Applied) -> None:
        self._journal.append(row)
        self._journaled[row.incident] = self._journaled.get(row.incident, 0) + 1

        def undo() -> None:
            self._journal.pop()
            self._journaled[row.incident] -= 1

        self._undo.append(undo)

    def _drop(self, incident: IncidentId) -> None:
        if incident not in self._logs:
            return
        logs, places = self._logs.pop(incident), self._places.pop(incident)
        size_bytes = self._incident_bytes.pop(incident)

        def undo() -> None:
            self._logs[incident], self._places[incident] = logs, places
            self._incident_bytes[incident] = size_bytes

        self._undo.append(undo)

    def _add_seal(self, seal: Seal) -> None:
        log = self._logs[seal.incident][seal.log]
        before = log.signatures.get(seal.seq)
        if before is None:
            insort(log.sealed, seal.seq)
        log.signatures[seal.seq] = seal.signature

        def undo() -> None:
            if before is None:
                log.sealed.remove(seal.seq)
                del log.signatures[seal.seq]
            else:
                log.signatures[seal.seq] = before

        self._undo.append(undo)

    def _put(self, namespace: str, key: bytes, value: bytes | None) -> None:
        values = self._values.setdefault(namespace, {})
        before = values.get(key)
        _assign(values, key, value)
        self._undo.append(lambda: _assign(values, key, before))

    def _check_flight(self, ticket: Ticket) -> None:
        if self._flight is None or self._flight[0] is not ticket:
            raise RuntimeError("this ticket is not in flight")


def _assign(values: dict[bytes, bytes], key: bytes, value: bytes | None) -> None:
    if value is None:
        values.pop(key, None)
    else:
        values[key] = value
