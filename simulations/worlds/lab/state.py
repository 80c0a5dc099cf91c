"""What holds on the lines between machines now: the faults of a plan come and go, the sum of them is this. Pure.

The kernel cuts (``Lines.cuts``, ``Lines.down``) and loses (``Lines.losses``); all else is the forwarder's
(``Lines.treatments``). Two faults of one effect on one direction count as the graver of them, as in the protocol world.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from simulations.scenario.plan import Heal, LinkFault, Plan, Quality
from simulations.worlds.lab.shaper import PLAIN, Direction, Treatment

SIDE_BY_SIDE = Quality(0.0, 0.0, 0.0, 0.0, 0.0)
"""Between a machine and its clone."""


@dataclass(frozen=True, slots=True)
class Lines:
    """The wanted state of all lines."""

    cuts: frozenset[Direction]
    losses: dict[Direction, float]
    treatments: dict[Direction, Treatment]
    down: frozenset[str]
    """Machines cut off from all others both ways: their interface is put down."""


class Weather:
    """The faults that hold now. ``twins`` names clones: they meet every fault that their original meets."""

    def __init__(self, plan: Plan, twins: dict[str, str], kernel_loses: bool) -> None:
        self._twins = twins
        self._kernel_loses = kernel_loses
        self._names = [*(node.name for node in plan.nodes), *twins]
        self._quality: dict[Direction, Quality] = {}
        for (a, b), quality in plan.quality.items():
            self._quality[a, b] = self._quality[b, a] = quality
        self._faults: list[LinkFault] = []

    def begin(self, fault: LinkFault) -> None:
        self._faults.append(fault)

    def end(self, fault: LinkFault) -> None:
        """Idempotent: it may have been healed before."""
        self._faults = [other for other in self._faults if other is not fault]

    def heal(self, heal: Heal) -> None:
        """Faults of these effects end where their senders and receivers are all named."""
        senders, receivers = set(heal.senders), set(heal.receivers)
        self._faults = [
            fault
            for fault in self._faults
            if not (
                fault.effect in heal.effects
                and senders.issuperset(fault.senders)
                and receivers.issuperset(fault.receivers)
            )
        ]

    def heal_all(self) -> None:
        self._faults.clear()

    def quality(self, direction: Direction) -> Quality | None:
        """With nothing wrong; None where there is no network at all."""
        a, b = (self._twins.get(name, name) for name in direction)
        return SIDE_BY_SIDE if a == b else self._quality.get((a, b))

    def lines(self) -> Lines:
        cuts: set[Direction] = set()
        losses: dict[Direction, float] = {}
        treatments: dict[Direction, Treatment] = {}
        for direction in directions(self._names):
            quality, effects = self.quality(direction), self._effects(direction)
            if quality is None or "cut" in effects:
                cuts.add(direction)
                continue
            loss = 1 - (1 - quality.loss) * (1 - effects.get("drop", 0.0))
            if loss and self._kernel_loses:
                losses[direction] = loss
            treatment = Treatment(
                quality.latency_s,
                quality.jitter_s + effects.get("delay", 0.0),
                0.0 if self._kernel_loses else loss,
                max(quality.duplication, effects.get("duplicate", 0.0)),
                effects.get("corrupt", 0.0),
                "hold" in effects,
            )
            if treatment != PLAIN:
                treatments[direction] = treatment
        alone = {name for name in self._names if all(row in cuts for row in directions(self._names) if name in row)}
        return Lines(frozenset(cuts), losses, treatments, frozenset(alone))

    def _effects(self, direction: Direction) -> dict[str, float]:
        sender, receiver = (self._twins.get(name, name) for name in direction)
        found: dict[str, float] = {}
        if sender == receiver:
            return found
        for fault in self._faults:
            if sender in fault.senders and receiver in fault.receivers:
                found[fault.effect] = max(fault.amount, found.get(fault.effect, 0.0))
        return found


def directions(names: Sequence[str]) -> list[Direction]:
    return [(a, b) for a in names for b in names if a != b]
