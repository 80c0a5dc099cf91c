"""A virtual disk: the store in memory, which loses what was not written and rots, made to fail and to be copied.

What is staged is searched for marked words as it comes: whatever lies on a disk came this way.
"""

from __future__ import annotations

from functools import lru_cache

from meshnode.core.ids import IncidentId, LogId
from meshnode.core.log import CommitBatch
from meshnode.core.rollcall import ROSTER_NAMESPACE
from meshnode.errors import LocalFaultError
from meshnode.storage.memory import _Log
from meshnode.storage.ticket import Ticket
from simulations.worlds.rot import RottingLogStore
from simulations.worlds.work import MARK_BYTES


@lru_cache(maxsize=8_192)
def _one_copy(value: bytes) -> bytes:
    """Every disk of a mesh holds the same roster: 1,000 nodes would need 2.4 GB for a million rows."""
    return value


FULL = LocalFaultError("store-full", "the virtual disk is full", "wait until it is not")


class Disk(RottingLogStore):
    def __init__(self) -> None:
        super().__init__(lambda _number: FULL.with_traceback(None) if self.full else None)
        self.full = False
        self.marked = 0
        """Rows that held a marked word in clear."""
        self.durable: dict[tuple[IncidentId, LogId], int] = {}
        """How far each log is durable."""
        self._staged_tops: dict[tuple[IncidentId, LogId], int] = {}
        self._flying_tops: dict[tuple[IncidentId, LogId], int] = {}

    def stage(self, batch: CommitBatch) -> None:
        for entry in batch.entries:
            if MARK_BYTES in entry.sealed or (entry.package is not None and MARK_BYTES in entry.package):
                self.marked += 1
        for _, key, value in batch.puts:
            if MARK_BYTES in key or (value is not None and MARK_BYTES in value):
                self.marked += 1
        if batch.puts and batch.puts[0][0] == ROSTER_NAMESPACE:
            puts = tuple((space, key, value and _one_copy(value)) for space, key, value in batch.puts)
            batch = CommitBatch(batch.entries, batch.seals, batch.applied, puts, batch.drops)
        super().stage(batch)
        for entry in batch.entries:
            self._staged_tops[entry.incident, entry.log] = self.top(entry.incident, entry.log)
        for incident in batch.drops:
            for place in [place for place in self.durable if place[0] == incident]:
                del self.durable[place]

    def begin_commit(self) -> Ticket | None:
        ticket = super().begin_commit()
        if ticket is not None:
            self._flying_tops, self._staged_tops = self._staged_tops, {}
        return ticket

    def end_commit(self, ticket: Ticket) -> None:
        super().end_commit(ticket)
        self.durable.update(self._flying_tops)
        self._flying_tops = {}

    def abandon(self) -> None:
        if self._flight is not None and self._flight[0].written:
            self.durable.update(self._flying_tops)
        self._flying_tops, self._staged_tops = {}, {}
        super().abandon()

    def has(self, incident: IncidentId, log: LogId, seq: int) -> bool:
        """Is the entry durable here?"""
        return self.durable.get((incident, log), 0) >= seq and self.is_whole(incident, log, seq)

    def devices(self) -> frozenset[bytes]:
        """Ids of the devices of which a whole row lies in the roster."""
        rows = self._values.get(ROSTER_NAMESPACE, {})
        if self.is_sound:
            return frozenset(rows)
        return frozenset(key for key in rows if self.is_whole_value(ROSTER_NAMESPACE, key))

    def journals(self, incident: IncidentId) -> bool:
        """Was anything of this incident ever merged here?"""
        return any(row.incident == incident for row in self._journal)

    def reopen(self) -> None:
        super().reopen()
        for place, durable in self.durable.items() if not self.is_sound else ():
            self.durable[place] = min(durable, self.top(*place))

    def is_clean(self) -> bool:
        """Nothing is staged that is not durable."""
        return not self._undo and self._flight is None

    def copied(self) -> Disk:
        """A copy of what lies on it. RuntimeError while something is on its way: a backup is of one moment."""
        if not self.is_clean():
            raise RuntimeError("something is on its way to this disk")
        other = Disk()
        for incident, logs in self._logs.items():
            other._logs[incident] = {
                name: _Log(list(log.entries), dict(log.signatures), list(log.sealed)) for name, log in logs.items()
            }
        other._places = {incident: dict(places) for incident, places in self._places.items()}
        other._incident_bytes = dict(self._incident_bytes)
        other._journal = list(self._journal)
        other._journaled = dict(self._journaled)
        other._values = {namespace: dict(values) for namespace, values in self._values.items()}
        other.durable = dict(self.durable)
        self.copy_rot_to(other)
        return other

    def holds_bytes(self, words: list[bytes]) -> bool:
        """Does any of these stand in clear in any row?"""
        for logs in self._logs.values():
            for log in logs.values():
                if any(
                    word in entry.sealed or word in (entry.package or b"") for entry in log.entries for word in words
                ):
                    return True
        values = [row for found in self._values.values() for pair in found.items() for row in pair]
        return any(word in value for value in values for word in words)
