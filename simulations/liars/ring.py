"""What all liars of one run have in common: who they are, what they said, what of it reached an honest node."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from typing import TYPE_CHECKING, NamedTuple

from meshnode.core.ids import DeviceId, EntryHash, IncidentId, KeyId, LogId
from meshnode.core.log import Entry, LogStore
from meshnode.core.replica import Replica
from simulations.scenario.plan import Plan
from simulations.worlds.contract import Acknowledged, Sealed, Uttered

if TYPE_CHECKING:
    from simulations.liars.mind import Mind
    from simulations.worlds.host import Host

STANDS, ACTS, VOID, UNMERGED, REFUSED = "stands", "acts", "void", "unmerged", "refused"
"""What an honest node may make of an entry: a member is free to write it, so where it is merged it acts; it may act; it
may be merged and does nothing; it may be stored and is never merged; it is not even stored."""


KEEP_KEYS = ("seal-to-itself", "seal-wrong-key", "two-keys")
"""Lies that give a key to some members, and none or another to the rest."""


class Leak(NamedTuple):
    """An epoch that gave the keys of an incident to somebody who is no member."""

    incident: IncidentId
    position: tuple[LogId, int]
    outsider: DeviceId
    keys: frozenset[KeyId]
    """All that the outsider can have from it."""


class Ring:
    """``names``: of all nodes, by device. ``wake(name)`` lets that node take a step."""

    def __init__(self, plan: Plan, names: dict[DeviceId, str], wake: Callable[[str], None]) -> None:
        self.plan = plan
        self.liars = plan.liars
        self.names = names
        self.wake = wake
        self.minds: dict[str, Mind] = {}
        self.uttered: list[Uttered] = []
        self.logs: set[LogId] = set()
        """All logs that were forged."""
        self.own_logs: set[LogId] = set()
        """All that the nodes of liars wrote by themselves."""
        self.leaks: list[Leak] = []
        self.leaked: list[Sealed] = []
        self.told: Counter[str] = Counter()
        self.heard: Counter[str] = Counter()
        """Kind of lie -> how often something of it reached an honest node, or was kept from one."""
        self.passed_over: Counter[str] = Counter()
        self.handed: dict[str, set[int]] = {}
        """Honest node -> numbers of what was uttered and arrived there."""
        self._frames: dict[bytes, tuple[str, tuple[int, ...]]] = {}
        self._numbers: dict[EntryHash, int] = {}

    def is_liar(self, name: str) -> bool:
        """Also of the copy of a node."""
        return name.partition("~")[0] in self.liars

    # --- what is said ---------------------------------------------------------------------------------------------

    def utter(
        self, at_s: float, node: str, kind: str, entry: Entry, expect: str, writes: Sequence[Acknowledged] = ()
    ) -> None:
        """An entry that a liar made. The first time counts."""
        if entry.hash not in self._numbers:
            number = self._numbers[entry.hash] = len(self.uttered)
            place = (entry.incident.hex(), entry.log.hex(), entry.seq, entry.hash.hex())
            self.uttered.append(Uttered(number, at_s, node, kind, *place, expect, tuple(writes)))

    def leak(self, at_s: float, node: str, entry: Entry, noc: str, outsider: DeviceId, keys: Iterable[KeyId]) -> None:
        self.leaks.append(Leak(entry.incident, (entry.log, entry.seq), outsider, frozenset(keys)))
        self.leaked.append(Sealed(at_s, node, entry.incident.hex(), (noc,)))

    def note_told(self, kind: str, data: bytes, entries: Iterable[Entry] = ()) -> None:
        self.told[kind] += 1
        numbers = tuple(self._numbers[entry.hash] for entry in entries if entry.hash in self._numbers)
        self._frames[data] = (kind, numbers)

    def note_kept(self, kind: str) -> None:
        """Something was not said to an honest node: that is the lie."""
        self.told[kind] += 1
        self.heard[kind] += 1

    def note_arrival(self, receiver: str, data: bytes) -> None:
        found = self._frames.get(data)
        if found is not None and not self.is_liar(receiver):
            kind, numbers = found
            self.heard[kind] += 1
            self.handed.setdefault(receiver, set()).update(numbers)

    # --- what became of it ----------------------------------------------------------------------------------------

    def kept_by(self, store: LogStore) -> tuple[int, ...]:
        """Numbers of what was uttered and lies in this store."""
        return tuple(
            row.number
            for row in self.uttered
            if store.find(IncidentId(bytes.fromhex(row.incident)), EntryHash(bytes.fromhex(row.hash))) is not None
        )

    def forked(self, stores: Sequence[LogStore]) -> set[IncidentId]:
        """Incidents in which these stores hold different entries at one position of a forged log."""
        places: dict[tuple[str, str, int], list[int]] = {}
        for row in self.uttered:
            places.setdefault((row.incident, row.log, row.seq), []).append(row.number)
        twice = {number for numbers in places.values() if len(numbers) > 1 for number in numbers}
        found: dict[tuple[str, str, int], set[int]] = {}
        for row in (self.uttered[number] for number in sorted(twice)):
            incident, entry = IncidentId(bytes.fromhex(row.incident)), EntryHash(bytes.fromhex(row.hash))
            if any(store.find(incident, entry) is not None for store in stores):
                found.setdefault((row.incident, row.log, row.seq), set()).add(row.number)
        return {IncidentId(bytes.fromhex(place[0])) for place, numbers in found.items() if len(numbers) > 1}

    def locked_out(self, core: Iterable[Host]) -> set[IncidentId]:
        """Incidents in which these wait for nothing but keys that liars kept from them (B9, B14), at logs that begin
        behind such a key: a member does not ask for those, because anybody can send them (core/replica.py)."""
        lies = {row.incident for row in self.uttered if row.kind in KEEP_KEYS}
        found, other = set[IncidentId](), set[IncidentId]()
        for host in core:
            for incident, replica in host.node.incidents.replicas.items() if host.node is not None else ():
                waiting = [head for head in host.disk.heads(incident) if replica.graph.height(head.log) < head.height]
                honest = [head.log for head in waiting if not self.is_of_liar(head.log)]
                if replica.keys and honest:
                    begins = all(replica.graph.height(log) == 0 for log in honest)
                    (found if begins and incident.hex() in lies else other).add(incident)
        return found - other

    def is_of_liar(self, log: LogId) -> bool:
        """Forged, or written by the node that is in the hands of a liar."""
        return log in self.logs or log in self.own_logs

    def outsiders(self, incident: IncidentId) -> set[DeviceId]:
        return {leak.outsider for leak in self.leaks if leak.incident == incident}

    def known_leaks(self, replica: Replica, position: tuple[LogId, int], key_id: KeyId) -> list[str]:
        """Names of outsiders who hold the key of this entry, as its author knew when it wrote it (I4)."""
        return [
            self.names[leak.outsider]
            for leak in self.leaks
            if leak.incident == replica.incident
            and key_id in leak.keys
            and replica.graph.covers(position, leak.position)
        ]
