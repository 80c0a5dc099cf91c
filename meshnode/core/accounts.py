"""Who brought what this node stores without anybody here vouching for it, and how much more each may bring.

A relay cannot tell junk from an incident. So what it stores is charged, log by log, to the neighbour that delivered
it first; what a member stores of logs that no member is known to have written is charged the same way. One rule
shares out the room of each incident, all room, and the number of incidents::

    brought + more <= (room - taken - more) / divisor

A neighbour goes on until it brought as much as is left free for everybody (divisor 1), or one eighth of that (8). Then:

* one that takes all it can gets a half, or a ninth;
* something is always left for one that brought nothing, and nothing that was taken gives way to anything;
* nobody needs to know how many neighbours there will be.

After the dynamic thresholds of switches with shared memory (Choudhury and Hahne, IEEE/ACM Transactions on Networking
6(2), 1998); why shares and no eviction: decision 0017.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field

from meshnode.core import codec
from meshnode.core.ids import DEVICE_ID_BYTES, INCIDENT_ID_BYTES, LOG_ID_BYTES, DeviceId, IncidentId, LogId

ACCOUNT_NAMESPACE = "brought"
NOBODY = DeviceId(bytes(DEVICE_ID_BYTES))
"""Who is charged where the row that named the neighbour was damaged."""

Put = tuple[str, bytes, bytes | None]


@dataclass(frozen=True, slots=True)
class Room:
    """What there is to be shared out."""

    incident_bytes: int
    total_bytes: int
    incidents: int


@dataclass(slots=True)
class _Account:
    """Of one incident."""

    bytes: int = 0
    logs: dict[LogId, dict[DeviceId, int]] = field(default_factory=dict)
    brought: Counter[DeviceId] = field(default_factory=Counter)
    opener: tuple[LogId, DeviceId] | None = None
    """Whose charge was the first: the incident counts for that neighbour while the charge stands."""


class Accounts:
    """Of one node; about 300 bytes of memory for each log that is charged."""

    def __init__(self) -> None:
        self._incidents: dict[IncidentId, _Account] = {}
        self._brought: Counter[DeviceId] = Counter()
        self._opened: Counter[DeviceId] = Counter()
        self.bytes = 0
        """Charged in all."""
        self.stale: dict[bytes, None] = {}
        """Rows of what is charged no more, to be deleted by and by."""

    def load(self, rows: Iterable[tuple[bytes, bytes]]) -> None:
        """From the rows of ACCOUNT_NAMESPACE."""
        for key, value in rows:
            size_bytes, is_opener = codec.decode_trusted(value)
            log_at, device_at = INCIDENT_ID_BYTES, INCIDENT_ID_BYTES + LOG_ID_BYTES
            incident, log = IncidentId(key[:log_at]), LogId(key[log_at:device_at])
            self._add(incident, log, DeviceId(key[device_at:]), size_bytes, is_opener)

    # --- what is asked --------------------------------------------------------------------------------------------

    def incidents(self) -> list[IncidentId]:
        """Those with charges."""
        return list(self._incidents)

    def logs(self, incident: IncidentId) -> list[LogId]:
        """Charged logs of an incident."""
        account = self._incidents.get(incident)
        return [] if account is None else list(account.logs)

    def has(self, incident: IncidentId) -> bool:
        return incident in self._incidents

    def bytes_of(self, incident: IncidentId) -> int:
        account = self._incidents.get(incident)
        return 0 if account is None else account.bytes

    def brought(self, device: DeviceId) -> int:
        """Bytes charged to this neighbour."""
        return self._brought[device]

    def has_room(self, incident: IncidentId, device: DeviceId, more_bytes: int, room: Room, divisor: int) -> bool:
        """May this neighbour bring so much more of an incident that is held already?"""
        account = self._incidents.get(incident, _Account())
        in_incident = room.incident_bytes - account.bytes - more_bytes
        in_all = room.total_bytes - self.bytes - more_bytes
        return (
            divisor * (account.brought[device] + more_bytes) <= in_incident
            and divisor * (self._brought[device] + more_bytes) <= in_all
        )

    def may_open(self, device: DeviceId, room: Room, divisor: int) -> bool:
        """May this neighbour bring an incident that is not held yet?"""
        return divisor * self._opened[device] < room.incidents - self._opened.total()

    # --- what changes ---------------------------------------------------------------------------------------------

    def charge(self, incident: IncidentId, log: LogId, device: DeviceId, more_bytes: int) -> Put:
        """The neighbour brought this much of a log. The row to be kept in the same commit."""
        account = self._add(incident, log, device, more_bytes, incident not in self._incidents)
        key = incident + log + device
        self.stale.pop(key, None)
        row = [account.logs[log][device], account.opener == (log, device)]
        return (ACCOUNT_NAMESPACE, key, codec.encode(row))

    def charge_nobody(self, incident: IncidentId, more_bytes: int) -> None:
        """What is stored and no row tells who brought it. No row is kept: the next start finds it again."""
        self._add(incident, LogId(bytes(LOG_ID_BYTES)), NOBODY, more_bytes, incident not in self._incidents)

    def _add(self, incident: IncidentId, log: LogId, device: DeviceId, more_bytes: int, is_opener: bool) -> _Account:
        account = self._incidents.setdefault(incident, _Account())
        of_log = account.logs.setdefault(log, {})
        of_log[device] = of_log.get(device, 0) + more_bytes
        account.bytes += more_bytes
        account.brought[device] += more_bytes
        self.bytes += more_bytes
        self._brought[device] += more_bytes
        if is_opener:
            account.opener = (log, device)
            self._opened[device] += 1
        return account

    def release(self, incident: IncidentId, log: LogId) -> None:
        """Somebody vouches for the log: nobody is charged for it any more."""
        account = self._incidents.get(incident)
        if account is None or log not in account.logs:
            return
        for device, size_bytes in account.logs.pop(log).items():
            account.bytes -= size_bytes
            account.brought[device] -= size_bytes
            self.bytes -= size_bytes
            self._brought[device] -= size_bytes
            if account.opener == (log, device):
                account.opener = None
                self._opened[device] -= 1
            self.stale[incident + log + device] = None
        if not account.logs:
            del self._incidents[incident]

    def forget(self, incident: IncidentId) -> None:
        """The incident was dropped."""
        for log in self.logs(incident):
            self.release(incident, log)

    def delete_stale(self, rows_max: int) -> tuple[Put, ...]:
        """Rows to delete, at most so many."""
        keys = list(self.stale)[:rows_max]
        for key in keys:
            del self.stale[key]
        return tuple((ACCOUNT_NAMESPACE, key, None) for key in keys)
