"""A store in memory whose rows rot as those on SQLite do: a bit changes under a running node, and reads must notice.

``flip`` changes one stored bit behind the node's back. Every read looks whether a row is what was written (SQLite's
rows carry a hash for that; here the changed ones are known, and compared). One that is not is quarantined as there:
told once with ``store-row-damaged``, skipped from then on, counted. A lost entry leaves a hole in its log; the head is
the highest sealed position below it, what stands above is kept, and the entry may be staged again. A start finds the
end of a log anew: damaged entries there are gone. (SQLite forgets what it quarantined if the power goes before the next
commit, and tells it once more; this store does not.)

A disk that never rotted asks nothing of all this: ``is_sound`` is looked at first.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Sequence
from random import Random
from typing import Any

from meshnode.core.entry import entry_hash
from meshnode.core.ids import EntryHash, IncidentId, LogId
from meshnode.core.log import Applied, Entry, LogHead, Seal
from meshnode.storage.damage import row_damaged
from meshnode.storage.memory import FailCommit, MemoryLogStore, _Log
from meshnode.storage.rows import ENTRY, JOURNAL, SEAL, VALUE
from meshnode.storage.ticket import SCRUB_START, Scrubbed, ScrubPosition, Ticket

KINDS = (ENTRY, SEAL, JOURNAL, VALUE)
Place = tuple[Any, ...]
"""Entries and seals: (incident, log, seq). Journal: (number,). Values: (namespace, key)."""
KIND_NAMES = {ENTRY: "entry", SEAL: "seal", JOURNAL: "journal row", VALUE: "value"}


class RottingLogStore(MemoryLogStore):
    """``flip`` it only while nothing is staged or on its way: what rots is durable."""

    def __init__(self, fail_commit: FailCommit | None = None) -> None:
        super().__init__(fail_commit)
        self.is_sound = True
        """Nothing ever rotted here."""
        self._rotten: dict[int, dict[Place, object]] = {kind: {} for kind in KINDS}
        """Changed and not noticed yet -> what was written there."""
        self._gone: dict[int, set[Place]] = {kind: set() for kind in KINDS}
        """Noticed, set aside, and not written again."""
        self._heads: dict[tuple[IncidentId, LogId], LogHead | None] = {}
        """Once asked for, a head is remembered until its log changes or damage is found there."""
        self._staged: set[Place] = set()
        """Entries in no ticket yet."""
        self._damaged = 0
        self.rotted = 0
        """Bits that flipped, ever."""
        self.unnoticed = 0
        """Rows that a read handed out although they are not what was written: none may be (I11)."""

    # --- rotting --------------------------------------------------------------------------------------------------

    def rows(self) -> list[tuple[int, Place]]:
        """Every row that can rot, in an order of its own."""
        found: list[tuple[int, Place]] = []
        for incident in sorted(self._logs):
            for name in sorted(self._logs[incident]):
                log = self._logs[incident][name]
                found += [(ENTRY, (incident, name, entry.seq)) for entry in log.entries]
                found += [(SEAL, (incident, name, seq)) for seq in log.sealed if seq <= len(log.entries)]
        found += [(JOURNAL, (row.number,)) for row in self._journal]
        for namespace in sorted(self._values):
            found += [(VALUE, (namespace, key)) for key in sorted(self._values[namespace])]
        return [(kind, place) for kind, place in found if place not in self._gone[kind]]

    def is_fresh(self, kind: int, place: Place) -> bool:
        """The row did not rot yet: a second bit may bring it back to what it was."""
        return place not in self._rotten[kind]

    def flip(self, kind: int, place: Place, rng: Random) -> None:
        """One bit of this row changes."""
        if self.is_sound:  # the node has asked for all heads, and what it staged since went on from there
            self._heads = {(incident, head.log): head for incident in self._logs for head in self.heads(incident)}
        self.is_sound = False
        self.rotted += 1
        if kind == VALUE:
            namespace, key = place
            self._note_rotten(kind, place, self._values[namespace][key])
            self._values[namespace][key] = _flipped(self._values[namespace][key], rng)
        elif kind == JOURNAL:
            row = self._journal[place[0] - 1]
            self._note_rotten(kind, place, row)
            self._journal[place[0] - 1] = row._replace(seq=row.seq ^ 1 << rng.randrange(32))
        else:
            incident, name, seq = place
            log = self._logs[incident][name]
            if kind == SEAL:
                self._note_rotten(kind, place, log.signatures[seq])
                log.signatures[seq] = _flipped(log.signatures[seq], rng)
            else:
                entry = log.entries[seq - 1]
                self._note_rotten(kind, place, entry)
                # A row says all but the hash itself, which whoever reads it computes from what it says.
                log.entries[seq - 1] = _hashed_again(entry._replace(sealed=_flipped(entry.sealed, rng)))

    def _note_rotten(self, kind: int, place: Place, written: object) -> None:
        self._rotten[kind].setdefault(place, written)

    def _is_good(self, kind: int, place: Place, row: object) -> bool:
        """Is the row what was written? What the hash of a real row tells."""
        rotten = self._rotten[kind]
        return place not in rotten or rotten[place] == row

    def _checked(self, kind: int, place: Place, row: object) -> bool:
        """False when the row must not be used: it is quarantined then."""
        if not self._is_good(kind, place, row):
            self._quarantine(kind, place)
            return False
        self.unnoticed += place in self._rotten[kind] and self._rotten[kind][place] != row
        return True

    def _quarantine(self, kind: int, place: Place) -> None:
        del self._rotten[kind][place]
        self._gone[kind].add(place)
        self._damaged += 1
        if kind in (ENTRY, SEAL):
            self._heads.pop(place[:2], None)

    def reopen(self) -> None:
        """A start: damage is counted from none, and each log and the journal end at their last good row."""
        if self.is_sound:
            return
        self._damaged = 0
        self._heads.clear()
        for incident, logs in self._logs.items():
            for name, log in logs.items():
                self._find_end(incident, name, log)
        while self._journal and not self._is_there(JOURNAL, (len(self._journal),), self._journal[-1]):
            self._gone[JOURNAL].discard((len(self._journal),))
            self._journal.pop()

    def _find_end(self, incident: IncidentId, name: LogId, log: _Log) -> None:
        while log.entries:
            place = (incident, name, len(log.entries))
            if self._is_there(ENTRY, place, log.entries[-1]):
                break
            self._gone[ENTRY].discard(place)
            entry = log.entries.pop()
            self._incident_bytes[incident] -= entry.size_bytes
        above = bisect_right(log.sealed, len(log.entries))
        if log.sealed[above:]:
            self._damaged += 1  # a seal without its entry: the end of the log is gone
            for seq in log.sealed[above:]:
                del log.signatures[seq]
                self._rotten[SEAL].pop((incident, name, seq), None)
                self._gone[SEAL].discard((incident, name, seq))
            del log.sealed[above:]

    def _is_there(self, kind: int, place: Place, row: object) -> bool:
        return place not in self._gone[kind] and self._checked(kind, place, row)

    def scrub(self, start: ScrubPosition, limit: int) -> Scrubbed:
        """One table at a time, whatever ``limit`` says: nothing waits for it here."""
        kind, before = KINDS[start.table], self._damaged
        for place in list(self._rotten[kind]):
            self._checked(kind, place, self._row(kind, place))
        following = ScrubPosition(start.table + 1) if start.table + 1 < len(KINDS) else SCRUB_START
        return Scrubbed(following, self._damaged - before, self._damaged - before)

    def _row(self, kind: int, place: Place) -> object:
        if kind == VALUE:
            return self._values[place[0]][place[1]]
        if kind == JOURNAL:
            return self._journal[place[0] - 1]
        log = self._logs[place[0]][place[1]]
        return log.entries[place[2] - 1] if kind == ENTRY else log.signatures[place[2]]

    # --- reads ----------------------------------------------------------------------------------------------------

    def damaged(self) -> int:
        return self._damaged

    def is_whole(self, incident: IncidentId, name: LogId, seq: int) -> bool:
        """Nothing is wrong with this entry. For whoever looks from outside: nothing is quarantined by it."""
        place = (incident, name, seq)
        return self.is_sound or (place not in self._gone[ENTRY] and place not in self._rotten[ENTRY])

    def is_whole_value(self, namespace: str, key: bytes) -> bool:
        """As :meth:`is_whole`, of a row that is no entry."""
        place = (namespace, key)
        return place not in self._gone[VALUE] and place not in self._rotten[VALUE]

    def can_give(self, incident: IncidentId, name: LogId, seq: int) -> bool:
        """This entry is here and sealed, and nothing in its log was ever damaged and not written again."""
        log = self._logs.get(incident, {}).get(name)
        if log is None or not log.sealed or log.sealed[-1] < seq:
            return False
        kinds = () if self.is_sound else (ENTRY, SEAL)
        bad = (place for kind in kinds for rows in (self._gone, self._rotten) for place in rows[kind])
        return all(place[:2] != (incident, name) for place in bad)

    def holes(self) -> list[Place]:
        """Entries that are lost and were not fetched again."""
        return sorted(self._gone[ENTRY])

    def journal_holes(self) -> set[int]:
        return {number for (number,) in self._gone[JOURNAL]}

    def heads(self, incident: IncidentId) -> list[LogHead]:
        if self.is_sound:
            return super().heads(incident)
        logs = self._logs.get(incident, {})
        found = (self._head(incident, name, logs[name]) for name in sorted(logs))
        return [head for head in found if head is not None]

    def _head(self, incident: IncidentId, name: LogId, log: _Log) -> LogHead | None:
        while (incident, name) not in self._heads:
            self._heads[incident, name] = self._find_head(incident, name, log)
        return self._heads[incident, name]

    def _find_head(self, incident: IncidentId, name: LogId, log: _Log) -> LogHead | None:
        limit = min(self._holes_of(incident, name), default=len(log.entries) + 1) - 1
        for seq in reversed(log.sealed[: bisect_right(log.sealed, limit)]):
            if self._is_there(SEAL, (incident, name, seq), log.signatures[seq]) and self._is_there(
                ENTRY, (incident, name, seq), log.entries[seq - 1]
            ):
                return LogHead(name, seq, log.entries[seq - 1].hash)
        return None

    def _holes_of(self, incident: IncidentId, name: LogId) -> list[int]:
        return [place[2] for place in self._gone[ENTRY] if place[:2] == (incident, name)]

    def read(self, incident: IncidentId, log: LogId, first: int, last: int) -> list[Entry]:
        entries = super().read(incident, log, first, last)
        if self.is_sound:
            return entries
        whole: list[Entry] = []
        for entry in entries:
            place = (incident, log, entry.seq)
            if place in self._gone[ENTRY]:
                break
            if not self._checked(ENTRY, place, entry):
                raise row_damaged(ENTRY, f"{log.hex()}.{entry.seq}")
            whole.append(entry)
        return whole

    def seals(self, incident: IncidentId, log: LogId, first: int, last: int) -> list[Seal]:
        seals = super().seals(incident, log, first, last)
        if self.is_sound:
            return seals
        whole: list[Seal] = []
        for seal in seals:
            place = (incident, log, seal.seq)
            if place in self._gone[SEAL]:
                continue
            if not self._checked(SEAL, place, seal.signature):
                raise row_damaged(SEAL, f"position {seal.seq}")
            whole.append(seal)
        return whole

    def find(self, incident: IncidentId, entry_hash: EntryHash) -> tuple[LogId, int] | None:
        found = super().find(incident, entry_hash)
        if self.is_sound or found is None:
            return found
        place = (incident, *found)
        if place in self._gone[ENTRY]:
            return None
        log = self._logs[incident][found[0]]
        if found[1] > len(log.entries):
            return None  # it stood at the end, which a start has found damaged
        if not self._checked(ENTRY, place, log.entries[found[1] - 1]):
            raise row_damaged(ENTRY, f"{found[0].hex()}.{found[1]}")
        return found

    def applied_after(self, number: int, limit: int) -> list[Applied]:
        if self.is_sound:
            return super().applied_after(number, limit)
        found: list[Applied] = []
        for at in range(max(number, 0), len(self._journal)):
            if len(found) >= limit:
                break
            place, row = (at + 1,), self._journal[at]
            if place in self._gone[JOURNAL]:
                continue
            if not self._checked(JOURNAL, place, row):
                raise row_damaged(JOURNAL, str(at + 1))
            found.append(row)
        return found

    def get(self, namespace: str, key: bytes) -> bytes | None:
        value = super().get(namespace, key)
        return value if self.is_sound or value is None or self._is_value(namespace, key, value) else None

    def scan(self, namespace: str) -> list[tuple[bytes, bytes]]:
        rows = super().scan(namespace)
        return rows if self.is_sound else [row for row in rows if self._is_value(namespace, *row)]

    def _is_value(self, namespace: str, key: bytes, value: bytes) -> bool:
        place = (namespace, key)
        if place in self._gone[VALUE]:
            return False
        if not self._checked(VALUE, place, value):
            raise row_damaged(VALUE, f"{namespace!r}, {key!r}")
        return True

    def hash_at(self, incident: IncidentId, log: LogId, seq: int) -> EntryHash | None:
        entry = self._logs[incident][log].entries[seq - 1]
        return entry.hash if self.is_sound or self._is_there(ENTRY, (incident, log, seq), entry) else None

    def is_journal_hole(self, number: int) -> bool:
        return (number,) in self._gone[JOURNAL]

    # --- one row each, with the way back --------------------------------------------------------------------------

    def _add_entry(self, entry: Entry) -> None:
        log = self._logs.get(entry.incident, {}).get(entry.log)
        if not self.is_sound:
            self._staged.add((entry.incident, entry.log, entry.seq))
        if log is None or entry.seq > len(log.entries):
            super()._add_entry(entry)
            return
        self._heads.pop((entry.incident, entry.log), None)
        at, before = entry.seq - 1, log.entries[entry.seq - 1]
        log.entries[at] = entry
        self._undo.append(lambda: _assign(log.entries, at, before))
        self._places[entry.incident][entry.hash] = (entry.log, entry.seq)
        self._mend(ENTRY, (entry.incident, entry.log, entry.seq))

    def _add_seal(self, seal: Seal) -> None:
        super()._add_seal(seal)
        if self.is_sound:
            return
        place, key = (seal.incident, seal.log, seal.seq), (seal.incident, seal.log)
        self._mend(SEAL, place)
        if place not in self._staged or self._holes_of(*key):
            self._heads.pop(key, None)
        elif key in self._heads and ((head := self._heads[key]) is None or seal.seq > head.height):
            entry = self._logs[seal.incident][seal.log].entries[seal.seq - 1]
            self._heads[key] = LogHead(seal.log, seal.seq, entry.hash)

    def begin_commit(self) -> Ticket | None:
        self._staged.clear()
        return super().begin_commit()

    def lose_uncommitted(self) -> None:
        super().lose_uncommitted()
        self._heads.clear()
        self._staged.clear()

    def _add_applied(self, row: Applied) -> None:
        if row.number > len(self._journal):
            super()._add_applied(row)
            return
        at, before = row.number - 1, self._journal[row.number - 1]
        self._journal[at] = row
        self._undo.append(lambda: _assign(self._journal, at, before))
        self._mend(JOURNAL, (row.number,))

    def _put(self, namespace: str, key: bytes, value: bytes | None) -> None:
        super()._put(namespace, key, value)
        if not self.is_sound:
            self._mend(VALUE, (namespace, key))

    def _drop(self, incident: IncidentId) -> None:
        super()._drop(incident)
        if not self.is_sound:
            for kind in (ENTRY, SEAL):
                for place in [*self._gone[kind], *self._rotten[kind]]:
                    if place[0] == incident:
                        self._heads.pop(place[:2], None)
                        self._mend(kind, place)

    def _mend(self, kind: int, place: Place) -> None:
        """The row is written again, or dropped; until that is durable it can be taken back."""
        if place in self._gone[kind]:
            self._gone[kind].remove(place)
            self._undo.append(lambda: self._gone[kind].add(place))
        elif place in self._rotten[kind]:
            written = self._rotten[kind].pop(place)
            self._undo.append(lambda: self._rotten[kind].setdefault(place, written))

    def copy_rot_to(self, other: RottingLogStore) -> None:
        """A backup copies what is damaged as it is."""
        other.is_sound, other.rotted = self.is_sound, self.rotted
        other._rotten = {kind: dict(rows) for kind, rows in self._rotten.items()}
        other._gone = {kind: set(places) for kind, places in self._gone.items()}


def flip_one(disk: RottingLogStore, others: Sequence[RottingLogStore], rng: Random) -> str:
    """A bit of a row that chance draws; what it is of, or nothing. The last copy of an entry is spared: nobody could
    give back what only it had."""
    rows = disk.rows()
    while rows:
        kind, place = rows.pop(rng.randrange(len(rows)))
        if kind not in (ENTRY, SEAL) or any(other.can_give(*place) for other in others):
            disk.flip(kind, place, rng)
            return KIND_NAMES[kind]
    return ""


def _hashed_again(entry: Entry) -> Entry:
    parts = (entry.incident, entry.log, entry.seq, entry.previous, entry.key_id, entry.package, entry.sealed)
    return entry._replace(hash=entry_hash(*parts))


def _flipped(data: bytes, rng: Random) -> bytes:
    if not data:
        return b"\x01"  # the length of an empty value
    at = rng.randrange(len(data))
    return data[:at] + bytes([data[at] ^ 1 << rng.randrange(8)]) + data[at + 1 :]


def _assign(rows: list[Any], at: int, row: object) -> None:
    rows[at] = row
