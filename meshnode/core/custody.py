"""What this node stores without knowing whether anybody needs it: incidents of others, and strange logs in its own.

Here two machines meet the store, the holdings and the replicas: `retention` (for how long something is kept) and
`accounts` (who brought it, and how much more each may bring).

* Of a log that this node **vouches for** it stores whatever there is: the node is a member of the incident, and so is
  the log's writer, as far as was merged. A key alone makes nobody a member: anybody can seal one to anybody.
* Everything else is charged to the neighbour that delivered it, whoever wrote it, and refused beyond its share.
* An incident of which this node holds a key, or that it merged once, is never dropped: the invitation would be lost.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass

from meshnode.core.accounts import ACCOUNT_NAMESPACE, Accounts, Room
from meshnode.core.archive import PACKAGE_NAMESPACE
from meshnode.core.events import Now, PeerIdentity
from meshnode.core.holdings import Holdings
from meshnode.core.ids import DeviceId, IncidentId, LogId
from meshnode.core.incidents import Incidents
from meshnode.core.log import CommitBatch, LogStore
from meshnode.core.retention import AGE_NAMESPACE, DROPPED_NAMESPACE, Heights, Retention

INCIDENTS_MAX = 16_384
"""Incidents of others, whatever their size: about 4 KiB of memory each. Thirty states that open fourteen a day each
bring as many in a month as their shares let them."""
SHARE_DIVISOR = 8
"""At a relay a neighbour brings at most an eighth of what is left free; a relay that the operator of this one named, as
much as is left: behind it are many, and what one of them could bring there it must be able to pass on here, with as
much again left for the others. That it may relay is what its own NOC certifies, so that alone gives it no more."""
STRANGE_DIVISOR = 32
"""In an incident of its own a node takes at most a thirty-second of what is left free of logs that no member is known
to have written: it passes them on, and must not use up its own share at a relay for them. An honest log is one of
these until its first entry was merged, which waits only while a key is on its way."""
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
        self,
        settings: RelaySettings,
        me: DeviceId,
        store: LogStore,
        holdings: Holdings,
        incidents: Incidents,
        stage: Stage,
        now: Now,
    ) -> None:
        """After ``incidents`` has been loaded: until then nobody knows what this node can read."""
        self.settings = settings
        self._me = me
        self._room = Room(settings.incident_bytes_max, settings.total_bytes_max, INCIDENTS_MAX)
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
        self._accounts = Accounts()
        self._members: dict[IncidentId, int] = {}
        """How many members an incident with charges had when all of these were looked at."""
        self._load_accounts(others)
        incidents.on_merged = self.on_merged

    def _load_accounts(self, others: list[IncidentId]) -> None:
        self._accounts.load(self._store.scan(ACCOUNT_NAMESPACE))
        for incident in self._accounts.incidents():
            if not self._holdings.holds(incident):
                self._accounts.forget(incident)
            else:
                self.on_merged(incident, ())
        for incident in others:
            unknown_bytes = self._store.incident_bytes(incident) - self._accounts.bytes_of(incident)
            if unknown_bytes > 0:
                self._accounts.charge_nobody(incident, unknown_bytes)

    def _is_of_others(self, incident: IncidentId) -> bool:
        return not (self._incidents.is_member(incident) or self._store.journaled(incident))

    @property
    def total_bytes(self) -> int:
        """Of all that is charged to neighbours."""
        return self._accounts.bytes

    def brought(self, device: DeviceId) -> int:
        """Bytes charged to one of them."""
        return self._accounts.brought(device)

    # --- what is taken --------------------------------------------------------------------------------------------

    def is_in_group(self, incident: IncidentId) -> bool:
        """Is this node a member, as far as was merged?"""
        replica = self._incidents.replicas.get(incident)
        return replica is not None and replica.group.is_member(self._me)

    def passes_on(self, incident: IncidentId) -> bool:
        """May others be told of it and served? A node that is no relay does not hand on what a key was sealed to it
        for: somebody may have made it up, and what it brings is charged to this node."""
        return self.settings.enabled or self.is_in_group(incident)

    def vouches_for(self, incident: IncidentId, log: LogId) -> bool:
        """Is it known that a member wrote the log, for an incident that this node is a member of?"""
        replica = self._incidents.replicas.get(incident)
        return replica is not None and replica.vouches_for(log, self._me)

    def has_room(
        self, neighbour: PeerIdentity, incident: IncidentId, log: LogId, size_bytes: int, *, named: bool
    ) -> bool:
        """May this neighbour bring so much of the log? ``named``: the operator of this node named it."""
        if self.vouches_for(incident, log):
            return True
        divisor = 1 if (named and neighbour.relay) or not self.settings.enabled else SHARE_DIVISOR
        if self.is_in_group(incident):
            divisor = STRANGE_DIVISOR
        kept, device = self._accounts, neighbour.device
        return kept.has_room(incident, device, size_bytes, self._room, divisor) and (
            self._holdings.holds(incident) or kept.may_open(device, self._room, divisor)
        )

    def on_taken(
        self, neighbour: PeerIdentity, incident: IncidentId, log: LogId, height: int, stored_bytes: int
    ) -> None:
        """A run was stored, which took this much; it may have made this node a member."""
        if not self.vouches_for(incident, log):
            put = self._accounts.charge(incident, log, neighbour.device, stored_bytes)
            self._stage(CommitBatch(puts=(put,)))
        if self._is_of_others(incident):
            self._retention.on_grew(incident, self._store.incident_bytes(incident))
            self._retention.on_taken(incident, log, height)
        else:
            self._retention.on_readable(incident)

    def on_merged(self, incident: IncidentId, logs: Iterable[LogId]) -> None:
        """Entries of these logs were merged: it may be known now who wrote them, or that somebody became a member."""
        if not self._accounts.has(incident):
            return
        members = len(self._incidents.replicas[incident].group.members())
        if members != self._members.get(incident):
            self._members[incident] = members
            logs = self._accounts.logs(incident)
        for log in logs:
            if self.vouches_for(incident, log):
                self._accounts.release(incident, log)
        if not self._accounts.has(incident):
            del self._members[incident]

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
        gone = self._accounts.delete_stale(ROWS_MAX)
        if gone:
            self._stage(CommitBatch(puts=gone))
        if self._retention.save_due:
            self._stage(CommitBatch(puts=self._retention.save(ROWS_MAX)))
        stale = self._incidents.stale_packages or self._accounts.stale
        unfinished = len(expired) > DROPS_MAX or stale or self._retention.save_due
        self._look_at = now.monotonic_s + (HURRY_INTERVAL_S if unfinished else LOOK_INTERVAL_S)
        return dropped

    def stop(self, now: Now) -> None:
        """At a clean stop no age is lost."""
        self._retention.look(now.monotonic_s)
        self._stage(CommitBatch(puts=self._retention.save(ROWS_MAX)))

    def _drop(self, incident: IncidentId) -> None:
        puts = self._retention.on_dropped(incident, self._holdings.logs(incident))
        self._accounts.forget(incident)
        self._members.pop(incident, None)
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
