"""Situations that a sweep must have reached, seen from outside: a check of what never happened proves nothing.

What a host meets while it runs is counted there (``Host.sometimes``); here is what the end of a run shows, and what is
cut off in the middle. Nothing of this is part of a verdict, or of the trace.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence, Set
from itertools import combinations

from meshnode.core.ids import IncidentId
from meshnode.core.node import Node
from meshnode.core.replica import Replica
from simulations.scenario.plan import LinkFault, NodeFault
from simulations.worlds.contract import Outcome
from simulations.worlds.host import Host

LATE_MEMBER = "a late member reads the past"
CONCURRENT_EPOCHS = "two epochs that do not know of each other"
RESOLVED = "a conflict made and resolved"
CONFLICT = "a conflict stands at the end"
CARRIED = "a relay keeps what it cannot read"
RESEALED = "a re-seal granted"
ASKED = "a key asked for"
TOLD_OF_COPY = "a restored or copied node told its operator"
CUT_CATCH_UP = "a link lost in the middle of a catch-up"
RESUMED = "a sync resumed in the middle"

EPOCHS_LOOKED_AT_MAX = 40
"""Of one incident: pairs of them are compared."""
NO_STREAM = ("duplicate", "corrupt")
"""What a stream lets nobody see: QUIC drops the second copy, and sends again what came damaged."""
_OF_REPORTS = {"key-resealed": RESEALED, "key-missing": ASKED, "restored-or-cloned": TOLD_OF_COPY}


class CatchUps:
    """Of one node: incidents of which it was fetching entries when a link went, until that goes on."""

    def __init__(self) -> None:
        self._cut: dict[IncidentId, int] = {}

    def on_link_lost(self, node: Node, link: int) -> int:
        """How many logs were being fetched on it."""
        session = node._sync._sessions.get(link)
        asked = list(session.in_flight) if session is not None else []
        for incident, _, _ in asked:
            self._cut[incident] = node.holdings.entries_of(incident)
        return len(asked)

    def take_resumed(self, node: Node) -> int:
        """Incidents that have grown since: what was asked for in vain came over another link."""
        grown = [incident for incident, held in self._cut.items() if node.holdings.entries_of(incident) > held]
        for incident in grown:
            del self._cut[incident]
        return len(grown)


def befallen(action: NodeFault, host: Host) -> str:
    """How a fault of this node is counted, before it is done: an order that changes nothing is passed over."""
    if action.verb in ("crash", "pause", "clone") and host.node is None and not action.for_good:
        return f"passed over: {action.verb} of a node that is down"
    if action.verb == "pause" and host.paused:
        return "passed over: pause of a node that stands still"
    return f"fault: {action.verb}"


def count_links(outcome: Outcome, met: Set[int]) -> None:
    """Faults of links, by their effect: done when something on the way met them (``Network.met``)."""
    for action in outcome.plan.actions:
        if isinstance(action, LinkFault):
            is_none = action.effect in NO_STREAM and outcome.plan.options.transport == "stream"
            why = "that a stream repairs" if is_none else "that met nothing"
            told = f"fault: {action.effect}" if action.number in met else f"passed over: {action.effect} {why}"
            outcome.sometimes[told] += 1


def look(outcome: Outcome, hosts: Sequence[Host]) -> None:
    """Counts what the end of a run shows."""
    found = outcome.sometimes
    for host in hosts:
        for code, name in _OF_REPORTS.items():
            _count(found, name, host.reports[code])
        if host.role != "member":
            _count(found, CARRIED, len(host.disk.incidents()))
        if host.node is not None:
            for incident, replica in host.node.incidents.replicas.items():
                if replica.merged and host.node.incidents.is_member(incident):
                    _count(found, LATE_MEMBER, _is_late(replica, host))
    for replica in _one_of_each(hosts):
        _count(found, CONCURRENT_EPOCHS, _concurrent_epochs(replica))
        _count(found, CONFLICT, replica.document.conflict_count)
    _count(found, RESOLVED, sum(row.kind == "set" and len(row.seen) > 1 for row in outcome.acknowledged))


def _count(found: Counter[str], name: str, times: int) -> None:
    """Nothing is noted of what did not happen."""
    if times:
        found[name] += times


def _one_of_each(hosts: Sequence[Host]) -> list[Replica]:
    replicas: dict[IncidentId, Replica] = {}
    for host in hosts:
        if host.node is not None:
            for incident, replica in host.node.incidents.replicas.items():
                if replica.merged:
                    replicas.setdefault(incident, replica)
    return list(replicas.values())


def _is_late(replica: Replica, host: Host) -> bool:
    """It was added when the incident had been opened, and reads what was written before."""
    for member in replica.group.members():
        if member.device == host.identity.device:
            log, seq = member.position
            return seq > 1 and all(other != log or height >= seq for other, height in replica.merged_heads())
    return False


def _concurrent_epochs(replica: Replica) -> int:
    epochs = [epoch for epoch in replica.group.lineage._epochs.values() if epoch.valid][:EPOCHS_LOOKED_AT_MAX]
    covers = replica.graph.covers
    return sum(
        not covers(one.position, other.position) and not covers(other.position, one.position)
        for one, other in combinations(epochs, 2)
    )
