"""When each member first showed each write, told from the journals of nodes, as a client that follows is told."""

from __future__ import annotations

from collections.abc import Iterable

from meshnode.core.ids import IncidentId, LogId
from simulations.scenario.plan import Plan, Write
from simulations.worlds.contract import Outcome, Spread
from simulations.worlds.disk import Disk

SAMPLES_MAX = 20_000
"""Of (write, member) in a run of a sweep, some 5 MB; of more writes a part is measured, by their place in the log."""
SAMPLES_ALL_MAX = 400_000
"""Where every write is wanted."""

Place = tuple[IncidentId, LogId, int]


class SpreadWatch:
    def __init__(self, plan: Plan, wants_all: bool) -> None:
        writes = sum(isinstance(action, Write) for action in plan.actions)
        members = sum(node.role == "member" for node in plan.nodes)
        most = SAMPLES_ALL_MAX if wants_all else SAMPLES_MAX
        self._every = max(1, -(-writes * members // most))
        self._told: dict[str, int] = {}
        """Node -> the journal number up to which it was looked at."""
        self._shown_s: dict[Place, dict[str, float]] = {}

    def start_over(self, node: str) -> None:
        """Its disk is another one."""
        self._told.pop(node, None)

    def grew(self, node: str, disk: Disk, number: int, at_s: float) -> None:
        """The node says that its journal has grown, and that what it names is durable."""
        told = self._told.get(node, 0)
        for row in disk.applied_after(told, number - told):
            if row.seq % self._every == 0:
                self._shown_s.setdefault((row.incident, row.log, row.seq), {}).setdefault(node, at_s)
        self._told[node] = max(told, number)

    def over(self, outcome: Outcome, nodes: Iterable[str], at_s: float) -> list[Spread]:
        """Of the writes that were acknowledged, at these nodes. What a member has merged at the end (``outcome.ends``)
        and not told of yet, as its disk was still at work, counts as shown at that moment, ``at_s``."""
        wanted = set(nodes)
        ends = [end for end in outcome.ends if end.name in wanted]
        found = []
        for row in outcome.acknowledged:
            log, seq, _ = row.dot.split(".")
            if int(seq) % self._every:
                continue
            place = (IncidentId(bytes.fromhex(row.touch.incident)), LogId(bytes.fromhex(log)), int(seq))
            shown_s = {name: told_s for name, told_s in self._shown_s.get(place, {}).items() if name in wanted}
            for end in ends:
                shown = end.incidents.get(row.touch.incident)
                if shown is not None and shown.heads.get(log, 0) >= int(seq):
                    shown_s.setdefault(end.name, at_s)
            found += [
                Spread(row.number, name, max(0.0, told_s - row.at_s))
                for name, told_s in shown_s.items()
                if name != row.node
            ]
        return found
