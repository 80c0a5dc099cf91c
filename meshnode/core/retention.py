"""How long a node keeps what it stores for others, and how it keeps from taking it straight back.

An incident that this node cannot read is **held** until it has not grown for a time to live; then it **expires** and is
dropped, and its handle is remembered with the heights it had. A neighbour that still offers those heights is refused.
Two things bring the incident back: a height beyond the remembered ones (it lives), and a member that lacks some of it
(it is waited for). ::

    held --not grown for a time to live--> dropped --beyond its heights, or missed--> returning --grown--> held
                                              |
                                              +--not offered for a time to live--> forgotten

Why two relays cannot hand an expired incident to and fro: what a relay remembers when it drops again covers what it
remembered before, so without new entries the heights that bring it back are used up; see decision 0016.

**Time** is the time this node was running, by the monotonic clock. A wall clock that jumps, by a step or over a
restart, changes nothing; while the node is off, or its machine asleep, nothing ages. The age is saved at most once an
hour and at a clean stop, so a crash loses up to an hour: everything errs on keeping. An incident that grew within a
lost hour is known by its size, which is saved with its age.

This room knows no keys, links or stores: rows come in at the start, and rows to be kept go out.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from meshnode.core import codec
from meshnode.core.ids import IncidentId, LogId
from meshnode.core.log import LogHead

AGE_NAMESPACE = "relay-age"
DROPPED_NAMESPACE = "relay-dropped"

SAVE_INTERVAL_MS = 3_600_000
"""What a crash can lose of the ages: small beside the shortest time to live that makes sense, and one write an hour."""
DROPPED_LOGS_MAX = 4_096
"""Heights remembered of one incident. One of more logs (process starts of its members) may be taken back once for each
time to live, which its quota bounds; remembering less would let a stranger keep a living incident out."""
DROPPED_COST_MAX = 131_072
"""Heights remembered in all, about 20 MB. Beyond that the incident that was offered longest ago is forgotten."""
DROPPED_COST_MIN = 16
"""An incident counts as this many heights at least: so at most 8,192 are remembered."""

Put = tuple[str, bytes, bytes | None]
Heights = Sequence[tuple[LogId, int]]


@dataclass(slots=True)
class _Held:
    grew_ms: int
    """Age of this node when the incident last grew."""
    bytes: int


@dataclass(slots=True)
class _Dropped:
    offered_ms: int
    """Age of this node when somebody last offered it."""
    heights: dict[LogId, int] = field(default_factory=dict)
    returning: bool = False

    @property
    def cost(self) -> int:
        return max(DROPPED_COST_MIN, len(self.heights))


class Retention:
    """Of one node. Ages are milliseconds that it was running; ``now`` is monotonic seconds."""

    def __init__(self, time_to_live_s: float, now: float) -> None:
        self._ttl_ms = int(time_to_live_s * 1000)
        self._looked = now
        self._age_ms = 0.0
        self._saved_ms = 0.0
        self._held: dict[IncidentId, _Held] = {}
        self._dropped: dict[IncidentId, _Dropped] = {}
        """The one offered longest ago first."""
        self._cost = 0
        self._unsaved: dict[tuple[str, IncidentId], None] = {}

    @classmethod
    def load(
        cls,
        time_to_live_s: float,
        now: float,
        ages: Iterable[tuple[bytes, bytes]],
        dropped: Iterable[tuple[bytes, bytes]],
        held: Mapping[IncidentId, int],
    ) -> Retention:
        """From the rows of both namespaces and the sizes of the unreadable incidents that the store holds."""
        found = cls(time_to_live_s, now)
        rows = {key: codec.decode_trusted(value) for key, value in ages}
        found._age_ms = found._saved_ms = rows.pop(b"", 0)
        for incident, size_bytes in held.items():
            grew_ms, size_then = rows.pop(incident, (None, None))
            if size_then == size_bytes:
                found._held[incident] = _Held(min(grew_ms, int(found._age_ms)), size_bytes)
            else:
                found.on_grew(incident, size_bytes)
        found._unsaved.update(((AGE_NAMESPACE, IncidentId(key)), None) for key in rows)
        remembered = [(IncidentId(key), *codec.decode_trusted(value)) for key, value in dropped]
        for incident, offered_ms, heights in sorted(remembered, key=lambda row: (row[1], row[0])):
            known = _Dropped(offered_ms, {LogId(log): height for log, height in heights}, incident in held)
            found._dropped[incident] = known
            found._cost += known.cost
        return found

    # --- what is held ---------------------------------------------------------------------------------------------

    def on_grew(self, incident: IncidentId, size_bytes: int) -> None:
        """Something was added; it now takes ``size_bytes`` in all."""
        self._held[incident] = _Held(int(self._age_ms), size_bytes)
        self._unsaved[AGE_NAMESPACE, incident] = None

    def on_readable(self, incident: IncidentId) -> None:
        """This node holds a key of it: it never expires."""
        if self._held.pop(incident, None) is not None:
            self._unsaved[AGE_NAMESPACE, incident] = None
        self._forget(incident)

    def look(self, now: float) -> None:
        """Counts the time since the last look, and forgets dropped incidents that nobody offers any more."""
        self._age_ms += max(0.0, now - self._looked) * 1000
        self._looked = now
        for incident, known in list(self._dropped.items()):
            if self._age_ms - known.offered_ms < self._ttl_ms:
                break
            if incident not in self._held:  # else it came back and did not grow yet
                self._forget(incident)

    def expired(self) -> list[IncidentId]:
        """Held and not grown for the time to live, in the order in which they stopped growing."""
        over = [(held.grew_ms, incident) for incident, held in self._held.items() if self._is_over(held)]
        return [incident for _, incident in sorted(over)]

    def _is_over(self, held: _Held) -> bool:
        return self._age_ms - held.grew_ms >= self._ttl_ms

    # --- what was dropped -----------------------------------------------------------------------------------------

    def on_dropped(self, incident: IncidentId, heads: Iterable[LogHead]) -> tuple[Put, ...]:
        """An incident is dropped with these heads; the rows to be kept in the same commit.

        What it was dropped at before is remembered too: a neighbour may have promised more and never delivered.
        """
        del self._held[incident]
        before = self._dropped.get(incident)
        heights = dict(before.heights) if before is not None else {}
        for head in heads:
            heights[head.log] = max(head.height, heights.get(head.log, 0))
        self._forget(incident)
        known = _Dropped(int(self._age_ms), dict(sorted(heights.items())[:DROPPED_LOGS_MAX]))
        self._dropped[incident] = known
        self._cost += known.cost
        while self._cost > DROPPED_COST_MAX:
            self._forget(next(iter(self._dropped)))
        return (self._put(AGE_NAMESPACE, incident), self._put(DROPPED_NAMESPACE, incident))

    def is_dropped(self, incident: IncidentId) -> bool:
        """Remembered as dropped, and nothing brought it back yet."""
        known = self._dropped.get(incident)
        return known is not None and not known.returning

    def on_offered(self, incident: IncidentId) -> None:
        """Somebody still holds what was dropped here: it goes on being remembered."""
        known = self._dropped.pop(incident)
        if self._age_ms - known.offered_ms >= self._ttl_ms // 8:
            # Saved now and then only: it may be forgotten an eighth of a time to live early.
            self._unsaved[DROPPED_NAMESPACE, incident] = None
            known.offered_ms = int(self._age_ms)
        self._dropped[incident] = known

    def refuses(self, incident: IncidentId, heights: Heights, *, missed: bool = False) -> bool:
        """Is all that a peer says it holds of an incident what was dropped here? If not, it may come back from now on.

        ``missed``: these are all the heights of a member, so what they lack is missed there.
        """
        if not self.is_dropped(incident):
            return False
        known = self._dropped[incident]
        told = dict(heights)
        beyond = any(height > known.heights.get(log, 0) for log, height in heights)
        if beyond or (missed and any(height > told.get(log, 0) for log, height in known.heights.items())):
            known.returning = True
            return False
        if heights:
            self.on_offered(incident)
        return bool(heights)

    def on_taken(self, incident: IncidentId, log: LogId, height: int) -> None:
        """Entries of the log up to this height are held again. What grew beyond its heights has come back."""
        known = self._dropped.get(incident)
        if known is not None and height > known.heights.get(log, 0):
            self._forget(incident)

    def _forget(self, incident: IncidentId) -> None:
        known = self._dropped.pop(incident, None)
        if known is not None:
            self._cost -= known.cost
            self._unsaved[DROPPED_NAMESPACE, incident] = None

    # --- what is kept ---------------------------------------------------------------------------------------------

    @property
    def save_due(self) -> bool:
        return self._age_ms - self._saved_ms >= SAVE_INTERVAL_MS

    def save(self, rows_max: int) -> tuple[Put, ...]:
        """Rows that changed, at most so many. The age comes with the last of them: an older age errs on keeping."""
        keys = list(self._unsaved)[:rows_max]
        rows = [self._put(*key) for key in keys]
        if not self._unsaved:
            self._saved_ms = self._age_ms
            rows.append((AGE_NAMESPACE, b"", codec.encode(int(self._age_ms))))
        return tuple(rows)

    def _put(self, namespace: str, incident: IncidentId) -> Put:
        self._unsaved.pop((namespace, incident), None)
        value: bytes | None = None
        if namespace == AGE_NAMESPACE and incident in self._held:
            held = self._held[incident]
            value = codec.encode([held.grew_ms, held.bytes])
        elif namespace == DROPPED_NAMESPACE and incident in self._dropped:
            known = self._dropped[incident]
            value = codec.encode([known.offered_ms, [[log, height] for log, height in known.heights.items()]])
        return (namespace, incident, value)
