"""What a store remembers of its logs between reads: the numbers that stand for long names, and where each log ends.

Everything here can be found again from the tables. Names are loaded when the store is opened (a few hundred bytes for
each incident, log and key, so memory follows these and not the entries); where a log ends is found when it is first
asked for.

A name's row lives as long as its rows elsewhere, and its number is used again afterwards::

    UNREAD --first journal row--> INCIDENT
       |
     dropped --> DROPPED --the last row of it was deleted--> FREE --> (any other name)

So numbers are without a gap at all times, and dropping an incident is one row written, however large it is.
"""

from __future__ import annotations

import heapq
from collections.abc import Sequence
from dataclasses import dataclass, field

from meshnode.core.ids import IncidentId, KeyId, LogId
from meshnode.core.log import LogHead
from meshnode.storage.rows import NAME, POSITION_BITS, Damage, Row, content_of, name_check, size_check

INCIDENT, LOG, KEY, UNREAD, DROPPED, FREE = 1, 2, 3, 4, 5, 6
"""Kinds of names. Logs and keys have their incident as ``parent``; keys of schema 1 have none."""


@dataclass(slots=True)
class LogState:
    number: int
    parent: int
    """The number of its incident."""
    incident: IncidentId
    log: LogId
    loaded: bool = False
    """The fields below are known."""
    top: int = 0
    """The highest position stored or staged."""
    holes: set[int] = field(default_factory=set)
    """Positions below the top that damage took and nobody staged again."""
    head: LogHead | None = None
    head_known: bool = False
    bytes: int = 0
    """Of all entries up to the top."""
    marked_seq: int = 0
    """The table ``size`` says that the entries up to here have ``marked_bytes``."""
    marked_bytes: int = 0


@dataclass(slots=True)
class Dropped:
    """An incident whose rows are still to be deleted, and the numbers that become free then."""

    number: int
    logs: list[int] = field(default_factory=list)
    keys: list[int] = field(default_factory=list)


class Catalog:
    """Numbers of incidents, logs and keys, both ways."""

    def __init__(self) -> None:
        self.incidents: dict[IncidentId, int] = {}
        self.logs: dict[IncidentId, dict[LogId, LogState]] = {}
        self.log_of_number: dict[int, LogState] = {}
        self.key_of_number: dict[int, KeyId] = {}
        self.bytes: dict[IncidentId, int] = {}
        """Of incidents all of whose logs are loaded."""
        self.unmarked_entries = 0
        """Entries that a restart would have to look at for their sizes."""
        self._unmarked: dict[int, LogState] = {}
        self._keys: dict[int, dict[KeyId, int]] = {}
        """By number of the incident: one key in two incidents has two numbers."""
        self._unread: set[IncidentId] = set()
        """Without a journal row."""
        self._free: list[int] = []
        """A heap: the lowest is used first, so what is on disk stays without a gap."""
        self._number_last = 0

    def load(self, rows: Sequence[Row], lost: int) -> tuple[list[Damage], list[Dropped]]:
        """Become what the rows of the table ``name`` say; return those of which both copies are damaged, and what was
        dropped.

        Numbers are given without a gap, so the number of rows and of names lost before (``lost``) bounds those in
        use: the number of a lost name is not used again, and a damaged number is not believed.
        """
        self._clear()
        damage: list[Damage] = []
        good: list[tuple[int, int, int, bytes]] = []
        for row in rows:
            name = _good_name(row)
            if name is None:
                damage.append(Damage(NAME, row[0], content_of(row[1:])))
            else:
                good.append((*row[:3], name))
        self._number_last = max([len(rows) + lost, *(number for number, *_ in good)])
        dropped = self._load_incidents(good)
        incident_of_number = {number: incident for incident, number in self.incidents.items()}
        for number, kind, parent, name in good:
            if parent in dropped:
                (dropped[parent].logs if kind == LOG else dropped[parent].keys).append(number)
            elif kind == KEY:
                self._add_key(number, parent, KeyId(name))
            elif kind == LOG and parent in incident_of_number:
                self._add_log(LogState(number, parent, incident_of_number[parent], LogId(name)))
        return damage, list(dropped.values())

    def _clear(self) -> None:
        for names in (self.incidents, self.logs, self.log_of_number, self.key_of_number, self.bytes):
            names.clear()
        self._unmarked.clear()
        self._keys.clear()
        self._unread.clear()
        self._free.clear()
        self.unmarked_entries = 0

    def _load_incidents(self, rows: Sequence[tuple[int, int, int, bytes]]) -> dict[int, Dropped]:
        dropped: dict[int, Dropped] = {}
        for number, kind, _parent, name in rows:
            if kind in (INCIDENT, UNREAD):
                self._add_incident(number, IncidentId(name))
                if kind == INCIDENT:
                    self._unread.discard(IncidentId(name))
            elif kind == DROPPED:
                dropped[number] = Dropped(number)
            elif kind == FREE:
                heapq.heappush(self._free, number)
        return dropped

    # --- logs and keys ------------------------------------------------------------------------------------------

    def state(self, incident: IncidentId, log: LogId) -> LogState | None:
        logs = self.logs.get(incident)
        return logs.get(log) if logs is not None else None

    def state_at(self, place: int) -> LogState | None:
        """The log of a place; None when the name of that log was lost, or its incident dropped."""
        return self.log_of_number.get(place >> POSITION_BITS)

    def number_log(self, incident: IncidentId, log: LogId, names: list[Row]) -> LogState:
        """The state of a log, new if need be; rows for new names are appended to ``names``."""
        state = self.state(incident, log)
        if state is None:
            parent = self.incidents.get(incident)
            if parent is None:
                parent = self._next(UNREAD, 0, incident, names)
                self._add_incident(parent, incident)
                self.bytes[incident] = 0
            number = self._next(LOG, parent, log, names)
            state = LogState(number, parent, incident, log, loaded=True, head_known=True)
            self._add_log(state)
        return state

    def number_key(self, parent: int, key_id: KeyId, names: list[Row]) -> int:
        number = self._keys[parent].get(key_id)
        if number is None:
            number = self._next(KEY, parent, key_id, names)
            self._add_key(number, parent, key_id)
        return number

    def journaled(self, incident: IncidentId) -> bool:
        return incident in self.incidents and incident not in self._unread

    def note_journaled(self, incident: IncidentId, names: list[Row]) -> None:
        """The first journal row of an incident says so in the row of its name."""
        if incident in self._unread:
            self._unread.discard(incident)
            names.append(name_row(self.incidents[incident], INCIDENT, 0, incident))

    def drop(self, incident: IncidentId, names: list[Row]) -> Dropped | None:
        """Forget an incident; its row in ``names`` says so. None when it is not held."""
        number = self.incidents.pop(incident, None)
        if number is None:
            return None
        states = self.logs.pop(incident).values()
        keys = self._keys.pop(number)
        for state in states:
            del self.log_of_number[state.number]
            if self._unmarked.pop(state.number, None) is not None:
                self.unmarked_entries -= state.top - state.marked_seq
        for key_number in keys.values():
            del self.key_of_number[key_number]
        self._unread.discard(incident)
        self.bytes.pop(incident, None)
        names.append(name_row(number, DROPPED, 0, incident))
        return Dropped(number, [state.number for state in states], list(keys.values()))

    def free(self, number: int) -> None:
        """Nothing stored has this number any more, and its row on disk says so."""
        heapq.heappush(self._free, number)

    # --- sizes --------------------------------------------------------------------------------------------------

    def note_size(self, state: LogState, entries: int, size_bytes: int) -> None:
        """Entries behind the top of a log were staged, or found when it was loaded."""
        state.bytes += size_bytes
        if entries:
            self._unmarked[state.number] = state
            self.unmarked_entries += entries
        if state.incident in self.bytes:
            self.bytes[state.incident] += size_bytes

    def take_marks(self) -> list[Row]:
        """Rows of the table ``size`` for the logs that grew; after the commit that writes them nothing is unmarked."""
        marks = []
        for state in self._unmarked.values():
            state.marked_seq, state.marked_bytes = state.top, state.bytes
            marks.append((state.number, state.top, state.bytes, size_check(state.number, state.top, state.bytes)))
        self._unmarked.clear()
        self.unmarked_entries = 0
        return marks

    # --- numbers ------------------------------------------------------------------------------------------------

    def _next(self, kind: int, parent: int, name: bytes, names: list[Row]) -> int:
        if self._free:
            number = heapq.heappop(self._free)
        else:
            self._number_last += 1
            number = self._number_last
        names.append(name_row(number, kind, parent, name))
        return number

    def _add_incident(self, number: int, incident: IncidentId) -> None:
        self.incidents[incident] = number
        self.logs[incident] = {}
        self._keys[number] = {}
        self._unread.add(incident)

    def _add_log(self, state: LogState) -> None:
        self.logs[state.incident][state.log] = state
        self.log_of_number[state.number] = state

    def _add_key(self, number: int, parent: int, key_id: KeyId) -> None:
        self.key_of_number[number] = key_id
        if parent in self._keys:
            self._keys[parent][key_id] = number


def _good_name(row: Row) -> bytes | None:
    """The name, from whichever copy is whole. A flipped bit can change a column's type."""
    number, kind, parent, *copies, check = row
    if isinstance(kind, int) and isinstance(parent, int):
        for name in copies:
            if isinstance(name, bytes) and name_check(number, kind, parent, name) == check:
                return name
    return None


def name_row(number: int, kind: int, parent: int, name: bytes) -> Row:
    """As it is inserted: the name twice."""
    return (number, kind, parent, name, name, name_check(number, kind, parent, name))
