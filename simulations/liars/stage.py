"""Liars and mixed versions on the stage of the protocol world: who builds which node, what is noted, what is told."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence

from meshnode.core.events import Tick
from meshnode.core.ids import Dot, IncidentId
from simulations.liars.lying import begin
from simulations.liars.mind import Mind
from simulations.liars.newer import NewerNode
from simulations.liars.ring import Ring
from simulations.scenario.plan import Lie, Plan
from simulations.worlds.contract import NodeEnd, Outcome, Sighting
from simulations.worlds.host import Host, NodeMaker


class Stage:
    def __init__(self, plan: Plan, outcome: Outcome) -> None:
        self.ring = Ring(plan, {}, self._wake)
        self.ring.minds.update({name: Mind(name, self.ring) for name in sorted(plan.liars)})
        self._outcome = outcome
        self._hosts: dict[str, Host] = {}
        self._frames: Counter[tuple[str, str]] = Counter()
        """(sender, receiver) -> frames that arrived, where there are liars."""
        self._versions = False
        """Is there a node of a later version?"""

    def take(self, hosts: dict[str, Host]) -> None:
        """These are all nodes of the plan."""
        self._hosts = hosts
        self.ring.names.update({host.identity.device: name for name, host in hosts.items()})

    def maker(self, name: str, other: NodeMaker) -> NodeMaker:
        """What builds this node: a liar, and its copy, are in the hands of a mind; any other is built by ``other``."""
        mind = self.ring.minds.get(name.partition("~")[0])
        return other if mind is None else mind.embody

    def honest(self, hosts: Iterable[Host]) -> list[Host]:
        return [host for host in hosts if not self.ring.is_liar(host.name)]

    def lie(self, action: Lie) -> None:
        """It is time for this lie."""
        host = self._hosts[action.node]
        if host.node is None or host.paused:
            self._outcome.sometimes["passed over: the liar is down"] += 1
            return
        host.trace.note(host.clock.now_s, host.name, "lies", action.number, action.kind)
        begin(self.ring.minds[action.node], action)
        host.tell_now(Tick())

    def _wake(self, name: str) -> None:
        host = self._hosts[name]
        host.clock.after(0.0, host.tell, Tick())

    def upgrade(self, host: Host) -> None:
        """From its next start it is a node of a later version."""
        self._versions = True
        host.make = NewerNode

    def note_arrival(self, host: Host, sender: str, data: bytes) -> None:
        """A frame reached this node."""
        if self.ring.minds:
            self.ring.note_arrival(host.name, data)
            self._frames[sender, host.name] += 1
        if self._versions and host.make is not NewerNode and sender in self._hosts:
            is_later = self._hosts[sender].make is NewerNode
            self._outcome.sometimes["a later version was heard by an earlier one"] += is_later

    def look_for_leak(self, host: Host, number: int, incident: IncidentId, dot: Dot) -> None:
        """Did an honest node write under a key that it knew to be in the hands of an outsider (I4)?"""
        if not self.ring.leaks or self.ring.is_liar(host.name) or host.node is None:
            return
        replica = host.node.incidents.replicas[incident]
        for entry in host.disk.read(incident, dot.log, dot.seq, dot.seq):
            for outsider in self.ring.known_leaks(replica, (dot.log, dot.seq), entry.key_id):
                what = f"wrote {number} under a key that {outsider}, no member, was given, and knew it"
                self._outcome.sightings.append(Sighting("I4", host.clock.now_s, host.name, what))

    def known_holes(self, core: Sequence[Host], is_late: bool) -> list[IncidentId]:
        """Incidents in which these nodes may not become one; who is locked out may be let in until it is late."""
        forked = self.ring.forked([host.disk for host in core])
        locked_out = self.ring.locked_out(core) if is_late else set[IncidentId]()
        self._outcome.forked = tuple(sorted(incident.hex() for incident in forked))
        self._outcome.locked_out = tuple(sorted(incident.hex() for incident in locked_out))
        return sorted(forked | locked_out)

    def finish(self) -> None:
        """Tells the outcome what was said, and what became of it."""
        outcome, ring = self._outcome, self.ring
        outcome.uttered, outcome.leaked = ring.uttered, ring.leaked
        counts = Counter(
            {
                "an operator was told of a fork": _reports(self.honest(self._hosts.values()), "log-forked"),
                "honest members took different branches": len(outcome.forked),
                "an earlier version merged what only a later one knows": _reports(
                    [host for host in self._hosts.values() if host.make is not NewerNode], "act-unknown"
                ),
            }
        )
        for what, kinds in (("told", ring.told), ("heard", ring.heard), ("passed over", ring.passed_over)):
            counts.update({f"lie {what}: {kind}": count for kind, count in sorted(kinds.items())})
        outcome.sometimes += counts
        for end in outcome.ends:
            self._tell_frames(end)

    def _tell_frames(self, end: NodeEnd) -> None:
        sent = {receiver: count for (sender, receiver), count in self._frames.items() if sender == end.name}
        came = {sender: count for (sender, receiver), count in self._frames.items() if receiver == end.name}
        end.from_liars = {name: count for name, count in sorted(came.items()) if self.ring.is_liar(name)}
        end.to_liars = {name: count for name, count in sorted(sent.items()) if self.ring.is_liar(name)}
        honest = [count for name, count in sent.items() if not self.ring.is_liar(name)]
        end.to_honest_most = max(honest, default=0)


def _reports(hosts: Iterable[Host], code: str) -> int:
    return sum(host.reports[code] for host in hosts)
