"""What this node keeps for others: incidents it stores and forwards and cannot read.

Here `retention` (what is kept, and for how long) meets the store, the holdings and the replicas. Each incident of
others has a quota, all together have one, and their number is bounded: whoever delivers beyond that is refused, whoever
wrote it. An incident that this node holds a key of is never charged and never dropped, and neither is one that it
merged once, even if the key was lost since.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from meshnode.core.archive import PACKAGE_NAMESPACE
from meshnode.core.events import Now
from meshnode.core.holdings import Holdings
from meshnode.core.ids import IncidentId, LogId
from meshnode.core.incidents import Incidents
from meshnode.core.log import CommitBatch, LogStore
from meshnode.core.retention import AGE_NAMESPACE, DROPPED_NAMESPACE, Heights, Retention

INCIDENTS_MAX = 16_384
"""Incidents of others, whatever their size: about 4 KiB of memory each. Thirty states that open eighteen a day each
fill it in a month."""
LOOK_INTERVAL_S = 600.0
"""How often the node looks what has expired: small beside the shortest time to live, one hour."""
HURRY_INTERVAL_S = 1.0
"""The same when one look left something to do."""
DROPS_MAX = 16
"""Incidents dropped in one step, at 1 to 2 ms each for the largest."""
ROWS_MAX = 1_000
"""Rows saved or deleted in one step: a few milliseconds of its commit."""

Stage = Callable[[CommitBatch], None]


@dataclass(frozen=True, slots=True)
class RelaySettings:
    """What this node stores for incidents it cannot read."""

    enabled: bool = True
    incident_bytes_max: int = 1024 * 1024 * 1024
    total_bytes_max: int = 16 * 1024 * 1024 * 1024
    time_to_live_s: float = 30 * 86_400.0
    """An incident that did not grow for so long, of the time this node was running, is dropped. Longer than the longest
    cut that a member should be able to come back from."""


class Custody:
    """``stage`` makes a batch part of the step's commit."""

    def __init__(
        self, settings: RelaySettings, store: LogStore, holdings: Holdings, incidents: Incidents, stage: Stage, now: Now
    ) -> None:
        """After ``incidents`` has been loaded: until then nobody knows what this node can read."""
        self.settings = settings
        self._store = store
        self._holdings = holdings
        self._incidents = incidents
        self._stage = stage
        self._look_at = now.monotonic_s
        others = [incident for incident in holdings.incidents() if self._is_of_others(incident)]
        self._retention = Retention.load(
            settings.time_to_live_s,
            now.monotonic_s,
            store.scan(AGE_NAMESPACE),
            store.scan(DROPPED_NAMESPACE),
            {incident: store.incident_bytes(incident) for incident in others},
        )

    def _is_of_others(self, incident: IncidentId) -> bool:
        return not (self._incidents.is_member(incident) or self._store.journaled(incident))

    @property
    def total_bytes(self) -> int:
        """Of all entries kept for others."""
        return self._retention.total_bytes

    # --- what is taken --------------------------------------------------------------------------------------------

    def has_room(self, incident: IncidentId, size_bytes: int) -> bool:
        """May so much of the incident be taken?"""
        if not self._is_of_others(incident):
            return True
        relay, kept = self.settings, self._retention
        return (
            self._store.incident_bytes(incident) + size_bytes <= relay.incident_bytes_max
            and kept.total_bytes + size_bytes <= relay.total_bytes_max
            and (self._holdings.holds(incident) or kept.count < INCIDENTS_MAX)
        )

    def on_taken(self, incident: IncidentId, log: LogId, height: int) -> None:
        """A run was stored; it may have made this node a member."""
        if self._is_of_others(incident):
            self._retention.on_grew(incident, self._store.incident_bytes(incident))
            self._retention.on_taken(incident, log, height)
        else:
            self._retention.on_readable(incident)

    # --- what was dropped -----------------------------------------------------------------------------------------

    def is_dropped(self, incident: IncidentId) -> bool:
        return not self._incidents.is_member(incident) and self._retention.is_dropped(incident)

    def on_offered(self, incident: IncidentId) -> None:
        """A peer lists what was dropped here, unchanged."""
        self._retention.on_offered(incident)

    def refuses(self, incident: IncidentId, heights: Heights, *, missed: bool = False) -> bool:
        """See :meth:`Retention.refuses`."""
        return self.is_dropped(incident) and self._retention.refuses(incident, heights, missed=missed)

    # --- what time makes due --------------------------------------------------------------------------------------

    def next_deadline(self) -> float:
        return self._look_at

    def handle_deadline(self, now: Now) -> list[IncidentId]:
        """Drops what has expired, and saves ages; the incidents dropped now."""
        if now.monotonic_s < self._look_at:
            return []
        self._retention.look(now.monotonic_s)
        expired = self._retention.expired()
        dropped: list[IncidentId] = []
        for incident in expired[:DROPS_MAX]:
            if self._is_of_others(incident):
                self._drop(incident)
                dropped.append(incident)
            else:
                self._retention.on_readable(incident)
        self._delete_packages()
        if self._retention.save_due:
            self._stage(CommitBatch(puts=self._retention.save(ROWS_MAX)))
        unfinished = len(expired) > DROPS_MAX or self._incidents.stale_packages or self._retention.save_due
        self._look_at = now.monotonic_s + (HURRY_INTERVAL_S if unfinished else LOOK_INTERVAL_S)
        return dropped

    def stop(self, now: Now) -> None:
        """At a clean stop no age is lost."""
        self._retention.look(now.monotonic_s)
        self._stage(CommitBatch(puts=self._retention.save(ROWS_MAX)))

    def _drop(self, incident: IncidentId) -> None:
        puts = self._retention.on_dropped(incident, self._holdings.logs(incident))
        self._incidents.forget(incident)
        self._holdings.forget(incident)
        self._stage(CommitBatch(puts=puts, drops=(incident,)))

    def _delete_packages(self) -> None:
        """Where packages of dropped incidents stood: there may be as many as there were entries."""
        stale = self._incidents.stale_packages
        keys = list(stale)[:ROWS_MAX]
        if keys:
            for key in keys:
                del stale[key]
            self._stage(CommitBatch(puts=tuple((PACKAGE_NAMESPACE, key, None) for key in keys)))
