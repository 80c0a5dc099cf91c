"""What each peer was last known to hold: the honest picture of a partition.

A peer tells its heights when it differs from us, and nothing when it is equal; both are remembered per device, and
stay when the link goes. So the operator sees what a NOC that is cut off has not yet seen. It is what the peer said,
which is durable at the peer; nothing here is guessed from what was sent.
"""

from __future__ import annotations

from collections.abc import Sequence

from meshnode.core.holdings import Holdings
from meshnode.core.ids import DeviceId, IncidentId, LogId
from meshnode.core.log import LogHead

LOGS_MAX = 65_536
"""Logs remembered of one device: a log is one process start of one member in one incident. What a hostile peer tells
beyond this is not shown."""


class _Told:
    __slots__ = ("equal", "heights", "logs")

    def __init__(self) -> None:
        self.heights: dict[IncidentId, dict[LogId, int]] = {}
        self.logs = 0
        """In all incidents."""
        self.equal: bytes | None = None
        """The digest of what both held, as long as the peer told nothing else since."""


class Picture:
    def __init__(self) -> None:
        self._told: dict[DeviceId, _Told] = {}

    def knows(self, device: DeviceId) -> bool:
        return device in self._told

    def on_equal(self, device: DeviceId, holdings: Holdings) -> None:
        """The peer holds exactly what we hold."""
        told = self._told.get(device)
        if told is not None and told.equal == holdings.digest():
            return  # as at the last summary: most are
        told = self._told[device] = _Told()
        for incident in holdings.incidents():
            self.on_equal_incident(device, incident, holdings.logs(incident))
        told.equal = holdings.digest()

    def on_equal_incident(self, device: DeviceId, incident: IncidentId, heads: Sequence[LogHead]) -> None:
        """The peer holds exactly these logs of the incident."""
        told = self._told.setdefault(device, _Told())
        told.equal = None
        told.logs += len(heads) - len(told.heights.get(incident, ()))
        told.heights[incident] = {head.log: head.height for head in heads}

    def on_told(self, device: DeviceId, incident: IncidentId, log: LogId, height: int) -> None:
        """The peer holds this log up to ``height``."""
        told = self._told.get(device)
        if told is None:
            told = self._told[device] = _Told()
        heights = told.heights.get(incident, {})
        before = heights.get(log)
        if before is not None and before >= height:
            return
        if before is None:
            if told.logs >= LOGS_MAX:
                return
            told.logs += 1
        told.heights.setdefault(incident, heights)[log] = height
        told.equal = None

    def lacks(self, device: DeviceId, incident: IncidentId, heads: Sequence[LogHead]) -> int:
        """Entries of these heads that the peer had not when it last told."""
        told = self._told.get(device)
        logs = told.heights.get(incident, {}) if told is not None else {}
        return sum(max(0, head.height - logs.get(head.log, 0)) for head in heads)
