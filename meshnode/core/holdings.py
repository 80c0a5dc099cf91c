"""What this node holds of every log, readable or not, and the digests two nodes compare.

The same for members and relays: chains and seals are checked without any key. A digest of one incident covers the
sealed head of each of its logs; the digest of everything covers the incidents. Equal digests mean equal logs.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from enum import Enum

from meshnode.core import keys, wire
from meshnode.core.ids import NO_HASH, EntryHash, IncidentId, LogId
from meshnode.core.log import Entry, LogHead, LogStore, Seal
from meshnode.errors import UntrustedInputError

READ_SLICE_ENTRIES = 32
"""Entries read at once to answer a request: at most 2 MiB when all are of the largest size."""


class Fit(Enum):
    """How a run relates to what is held."""

    NEW = "new"
    KNOWN = "known"
    GAP = "gap"
    """It starts behind a position that is not held yet: ask again from the height."""


@dataclass(frozen=True, slots=True)
class Taken:
    """The new entries of a run (checked, not yet stored) and the seal that ends it."""

    fit: Fit
    entries: tuple[Entry, ...] = ()
    seal: Seal | None = None


class _Logs:
    __slots__ = ("digest", "heads")

    def __init__(self) -> None:
        self.heads: dict[LogId, tuple[int, EntryHash]] = {}
        self.digest: bytes | None = None


class Holdings:
    """Heights and heads, kept in step with the log store by the node."""

    def __init__(self) -> None:
        self._incidents: dict[IncidentId, _Logs] = {}
        self._digest: bytes | None = None
        self.entries = 0
        """Entries held in all logs."""

    @classmethod
    def load(cls, store: LogStore) -> Holdings:
        held = cls()
        for incident in store.incidents():
            held._incidents[incident] = _Logs()  # also when damage left no head: what was merged is still there
            for head in store.heads(incident):
                held.advance(incident, head.log, head.height, head.hash)
        return held

    def incidents(self) -> list[IncidentId]:
        """Ascending."""
        return sorted(self._incidents)

    def holds(self, incident: IncidentId) -> bool:
        return incident in self._incidents

    def logs(self, incident: IncidentId) -> list[LogHead]:
        """Sealed heads, ascending by log id."""
        logs = self._incidents.get(incident)
        return [] if logs is None else [LogHead(log, *logs.heads[log]) for log in sorted(logs.heads)]

    def entries_of(self, incident: IncidentId) -> int:
        logs = self._incidents.get(incident)
        return 0 if logs is None else sum(height for height, _ in logs.heads.values())

    def head(self, incident: IncidentId, log: LogId) -> tuple[int, EntryHash]:
        """(height, hash of the entry there); (0, NO_HASH) when nothing is held."""
        logs = self._incidents.get(incident)
        return (0, NO_HASH) if logs is None else logs.heads.get(log, (0, NO_HASH))

    def advance(self, incident: IncidentId, log: LogId, height: int, head: EntryHash) -> None:
        """The log is now held and sealed up to ``height``."""
        logs = self._incidents.setdefault(incident, _Logs())
        self.entries += height - logs.heads.get(log, (0, NO_HASH))[0]
        logs.heads[log] = (height, head)
        logs.digest = None
        self._digest = None

    def forget(self, incident: IncidentId) -> None:
        """The incident was dropped."""
        logs = self._incidents.pop(incident, None)
        if logs is not None:
            self.entries -= sum(height for height, _ in logs.heads.values())
            self._digest = None

    def refresh(self, store: LogStore) -> None:
        """After damage was found: what the store can still give is what is held, and sync fetches the rest again."""
        for incident, logs in self._incidents.items():
            logs.heads = {head.log: (head.height, head.hash) for head in store.heads(incident)}
            logs.digest = None
        self._digest = None
        self.entries = sum(height for logs in self._incidents.values() for height, _ in logs.heads.values())

    def incident_digest(self, incident: IncidentId) -> bytes:
        """32 bytes over (log, height, head) in ascending order of logs."""
        logs = self._incidents[incident]
        if logs.digest is None:
            rows = (log + height.to_bytes(8, "big") + head for log, (height, head) in sorted(logs.heads.items()))
            logs.digest = keys.digest("mn-heads", *rows)
        return logs.digest

    def digest(self) -> bytes:
        """32 bytes over all incidents."""
        if self._digest is None:
            rows: Iterable[bytes] = (incident + self.incident_digest(incident) for incident in self.incidents())
            self._digest = keys.digest("mn-holdings", *rows)
        return self._digest

    def take_untrusted(self, run: wire.Run) -> Taken:
        """What a run adds. Checks chain and seal; nothing is changed until the node calls :meth:`advance`.

        Raises UntrustedInputError ``bad-signature``, or ``log-forked`` when the log key signed something else at a
        position that is held: the run is refused, what is held stays.
        """
        height, head = self.head(run.incident, run.log)
        if run.first > height + 1:
            return Taken(Fit.GAP)
        if run.last < height:
            return Taken(Fit.KNOWN)
        if run.last == height and wire.run_ends_in(run, head):
            return Taken(Fit.KNOWN)  # as nearly every run that comes twice: a hash in place of a signature
        entries = wire.run_entries_untrusted(run)
        before = run.previous if run.first == height + 1 else entries[height - run.first].hash
        if before != head:
            raise UntrustedInputError(
                "log-forked",
                f"a log's own key signed two different entries at position {height}",
                "the writing node may be compromised or cloned: ask its NOC",
            )
        fresh = tuple(entries[height + 1 - run.first :])
        return Taken(Fit.NEW, fresh, Seal(run.incident, run.log, run.last, run.seal))

    def serve(self, store: LogStore, want: wire.Want) -> wire.Run | wire.Lack:
        """The run that answers a request: from ``first`` to the first seal at or behind ``last``.

        It ends earlier, at a seal, when RUN_ENTRIES_MAX or RUN_BYTES_MAX is reached. Seals are never further apart
        than that, except where one batch of writes was larger: then the run is as long as that batch.
        """
        height, _ = self.head(want.incident, want.log)
        last = min(max(want.last, want.first), want.first + wire.RUN_ENTRIES_MAX - 1)
        if want.first > height:
            return wire.Lack(want.incident, want.log, want.first)
        seals = store.seals(want.incident, want.log, want.first, min(height, last + wire.RUN_ENTRIES_MAX))
        end = self._end(want.first, last, seals)
        if end is None:
            return wire.Lack(want.incident, want.log, want.first)
        entries = self._read_fitting(store, want, end.seq)
        fitting = entries[-1].seq if entries else 0
        if fitting < end.seq:
            end = self._end_within_bytes(seals, fitting)
        if end is not None and end.seq > fitting:
            entries += store.read(want.incident, want.log, fitting + 1 if entries else want.first, end.seq)
        if end is None or len(entries) < end.seq - want.first + 1:
            return wire.Lack(want.incident, want.log, want.first)
        return wire.make_run(entries[: end.seq - want.first + 1], end)

    @staticmethod
    def _read_fitting(store: LogStore, want: wire.Want, last: int) -> list[Entry]:
        """Entries up to ``last`` or RUN_BYTES_MAX, read in slices: large entries are not read to be thrown away."""
        entries: list[Entry] = []
        total = 0
        while True:
            first = entries[-1].seq + 1 if entries else want.first
            part = store.read(want.incident, want.log, first, min(last, first + READ_SLICE_ENTRIES - 1))
            for entry in part:
                total += entry.size_bytes
                if total > wire.RUN_BYTES_MAX and entries:
                    return entries
                entries.append(entry)
            if not part or entries[-1].seq >= last:
                return entries

    @staticmethod
    def _end(first: int, last: int, seals: list[Seal]) -> Seal | None:
        """The first seal at or behind ``last`` if the run then stays in bounds, else the last seal before it."""
        best: Seal | None = None
        for seal in seals:
            if seal.seq > first + wire.RUN_ENTRIES_MAX - 1 and best is not None:
                break
            best = seal
            if seal.seq >= last:
                break
        return best

    @staticmethod
    def _end_within_bytes(seals: list[Seal], fitting: int) -> Seal | None:
        """The last seal at or before ``fitting``, or the first seal at all."""
        best = seals[0] if seals else None
        for seal in seals:
            if seal.seq <= fitting:
                best = seal
        return best
