"""What a store remembers of its logs between reads: the numbers that stand for long names, and where each log ends.

Everything here can be found again from the tables. Names are loaded when the store is opened (a few hundred bytes for
each incident, log and key, so memory follows these and not the entries); where a log ends is found when it is first
asked for.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

from meshnode.core.ids import IncidentId, KeyId, LogId
from meshnode.core.log import LogHead
from meshnode.storage.rows import NAME, POSITION_BITS, Damage, Row, content_of, name_check

INCIDENT, LOG, KEY = 1, 2, 3
"""Kinds of names."""


@dataclass(slots=True)
class LogState:
    number: int
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


class Catalog:
    """Numbers of incidents, logs and keys, both ways."""

    def __init__(self) -> None:
        self.incidents: dict[IncidentId, int] = {}
        self.logs: dict[IncidentId, dict[LogId, LogState]] = {}
        self.log_of_number: dict[int, LogState] = {}
        self.keys: dict[KeyId, int] = {}
        self.key_of_number: dict[int, KeyId] = {}
        self._number_last = 0

    def load(self, rows: Sequence[Row], lost: int) -> list[Damage]:
        """Take the rows of the table ``name``; return those of which both copies are damaged.

        Numbers are given without a gap, so the number of rows and of names lost before (``lost``) bounds those in
        use: the number of a lost name is not used again, and a damaged number is not believed.
        """
        damage: list[Damage] = []
        self._number_last = len(rows) + lost
        incident_of_number: dict[int, IncidentId] = {}
        for number, kind, parent, name, twin, check in sorted(rows):
            good = next(
                (n for n in (name, twin) if isinstance(n, bytes) and name_check(number, kind, parent, n) == check), None
            )
            if good is None:
                damage.append(Damage(NAME, number, content_of((kind, parent, name, twin, check))))
                continue
            self._number_last = max(self._number_last, number)
            if kind == INCIDENT:
                incident_of_number[number] = IncidentId(good)
                self.incidents[IncidentId(good)] = number
                self.logs[IncidentId(good)] = {}
            elif kind == KEY:
                self._add_key(number, KeyId(good))
            elif parent in incident_of_number:
                self._add_log(LogState(number, incident_of_number[parent], LogId(good)))
        return damage

    def state(self, incident: IncidentId, log: LogId) -> LogState | None:
        logs = self.logs.get(incident)
        return logs.get(log) if logs is not None else None

    def state_at(self, place: int) -> LogState | None:
        """The log of a place; None when the name of that log was lost."""
        return self.log_of_number.get(place >> POSITION_BITS)

    def number_log(self, incident: IncidentId, log: LogId, names: list[Row]) -> LogState:
        """The state of a log, new if need be; rows for new names are appended to ``names``."""
        state = self.state(incident, log)
        if state is None:
            parent = self.incidents.get(incident)
            if parent is None:
                parent = self._next(INCIDENT, 0, incident, names)
                self.incidents[incident] = parent
                self.logs[incident] = {}
            state = LogState(self._next(LOG, parent, log, names), incident, log, loaded=True, head_known=True)
            self._add_log(state)
        return state

    def number_key(self, key_id: KeyId, names: list[Row]) -> int:
        number = self.keys.get(key_id)
        if number is None:
            number = self._next(KEY, 0, key_id, names)
            self._add_key(number, key_id)
        return number

    def forget(self, names: Iterable[Row]) -> None:
        """Take back names that did not become durable."""
        for number, kind, _parent, name, _twin, _check in names:
            self._number_last = min(self._number_last, number - 1)
            if kind == KEY:
                del self.keys[name]
                del self.key_of_number[number]
            elif kind == LOG:
                state = self.log_of_number.pop(number)
                del self.logs[state.incident][state.log]
            else:
                del self.incidents[name]
        for incident in [incident for incident in self.logs if incident not in self.incidents]:
            del self.logs[incident]

    def unload(self) -> None:
        """Find out again where logs end."""
        for state in self.log_of_number.values():
            state.loaded = state.head_known = False
            state.top, state.head = 0, None
            state.holes.clear()

    def _next(self, kind: int, parent: int, name: bytes, names: list[Row]) -> int:
        self._number_last += 1
        number = self._number_last
        names.append((number, kind, parent, name, name, name_check(number, kind, parent, name)))
        return number

    def _add_log(self, state: LogState) -> None:
        self.logs[state.incident][state.log] = state
        self.log_of_number[state.number] = state

    def _add_key(self, number: int, key_id: KeyId) -> None:
        self.keys[key_id] = number
        self.key_of_number[number] = key_id
