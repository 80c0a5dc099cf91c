"""What a batch must satisfy before a store takes it. Pure; both stores obey it.

A batch is checked whole before anything changes, so a ValueError leaves the store as it was. These are errors of the
core and never of a peer: what a peer sent was checked before it became a batch.

Entries extend their log by one, or fill a hole that damage left, or repeat what is stored (then they are dropped: a
peer that repairs a hole sends whole runs). A seal and a journal row name a position that their log has. What the
journal names is never dropped.
"""

from __future__ import annotations

from typing import Protocol

from meshnode.core.ids import EntryHash, IncidentId, LogId
from meshnode.core.log import CommitBatch, Entry


class StagedView(Protocol):
    """What is stored or staged already."""

    def top(self, incident: IncidentId, log: LogId) -> int:
        """The highest position of the log, sealed or not; 0 when there is none."""

    def hash_at(self, incident: IncidentId, log: LogId, seq: int) -> EntryHash | None:
        """The hash of the entry at a position up to the top; None when damage left a hole there."""

    def applied_last(self) -> int:
        """The highest journal number."""

    def is_journal_hole(self, number: int) -> bool:
        """Damage took the journal row of this number."""

    def journaled(self, incident: IncidentId) -> bool:
        """A journal row names this incident."""


def check_batch(batch: CommitBatch, view: StagedView) -> list[Entry]:
    """The entries of the batch that are new to the store, in order. Raises ValueError; changes nothing."""
    if batch.drops:
        _check_drops(batch, view)
    tops: dict[tuple[IncidentId, LogId], int] = {}
    fresh: list[Entry] = []
    filled: dict[tuple[IncidentId, LogId, int], EntryHash] = {}
    for entry in batch.entries:
        place = (entry.incident, entry.log)
        top = tops.get(place)
        if top is None:
            top = view.top(*place)
        if entry.seq == top + 1:
            tops[place] = entry.seq
        else:
            tops[place] = top
            if not 1 <= entry.seq <= top:
                raise ValueError(f"entry {entry.seq} of a log whose last entry is {top}")
            stored = filled.get((*place, entry.seq)) or _hash_at(batch, view, entry)
            if stored is not None:
                if stored != entry.hash:
                    raise ValueError(f"another entry is stored at position {entry.seq}")
                continue
            filled[*place, entry.seq] = entry.hash
        fresh.append(entry)
    _check_references(batch, view, tops)
    return fresh


def _check_drops(batch: CommitBatch, view: StagedView) -> None:
    named = {row.incident for rows in (batch.entries, batch.seals, batch.applied) for row in rows}
    for incident in batch.drops:
        if incident in named:
            raise ValueError("an incident is dropped and written in one batch")
        if view.journaled(incident):
            raise ValueError("an incident in the journal is never dropped")


def _hash_at(batch: CommitBatch, view: StagedView, entry: Entry) -> EntryHash | None:
    """The hash at the position of an entry that does not extend its log: stored, or earlier in the same batch."""
    if entry.seq <= view.top(entry.incident, entry.log):
        return view.hash_at(entry.incident, entry.log, entry.seq)
    return next(
        other.hash
        for other in batch.entries
        if (other.incident, other.log, other.seq) == (entry.incident, entry.log, entry.seq)
    )


def _check_references(batch: CommitBatch, view: StagedView, tops: dict[tuple[IncidentId, LogId], int]) -> None:
    def check(what: str, incident: IncidentId, log: LogId, seq: int) -> None:
        top = tops.get((incident, log))
        if top is None:
            top = tops[incident, log] = view.top(incident, log)
        if not 1 <= seq <= top:
            raise ValueError(f"{what} names entry {seq} of a log whose last entry is {top}")

    for seal in batch.seals:
        check("a seal", seal.incident, seal.log, seal.seq)
    last = view.applied_last()
    for row in batch.applied:
        check("a journal row", row.incident, row.log, row.seq)
        if row.number == last + 1:
            last = row.number
        elif not view.is_journal_hole(row.number):
            raise ValueError(f"journal number {row.number} after {last}")
