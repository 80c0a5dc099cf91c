"""From single changes to spells: when each node was in which state, each pair linked, each fault there."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from simulations.report.records import Fault, LinkSpell, Spell
from simulations.scenario.lies import LIES
from simulations.scenario.plan import Heal, Lie, LinkFault, NodeFault, Plan
from simulations.worlds.timeline import DOWN, LinkChange, NodeChange

MOMENTARY = ("restart", "wipe", "restore-old-backup", "bit-flip")
"""Faults that are over as they happen."""


def of_nodes(names: Iterable[str], changes: Iterable[NodeChange], end_s: float) -> Iterator[Spell]:
    for name in names:
        state, begin_s = DOWN, 0.0
        for change in changes:
            if change.node == name:
                if change.at_s > begin_s:
                    yield Spell(name, state, begin_s, change.at_s)
                state, begin_s = change.state, change.at_s
        if end_s > begin_s:
            yield Spell(name, state, begin_s, end_s)


def of_links(changes: Iterable[LinkChange], end_s: float) -> Iterator[LinkSpell]:
    """In the order in which they begin."""
    begun: dict[tuple[str, str], float] = {}
    found = []
    for change in changes:
        pair = (change.a, change.b)
        if change.up:
            begun.setdefault(pair, change.at_s)
        elif pair in begun:
            found.append(LinkSpell(*pair, begun.pop(pair), change.at_s))
    found += [LinkSpell(*pair, begin_s, end_s) for pair, begin_s in begun.items()]
    return iter(sorted(found, key=lambda spell: (spell.begin_s, spell.a, spell.b)))


def of_faults(plan: Plan) -> Iterator[Fault]:
    """In the order in which they are planned. What lasts until healed ends with the heal that names it, or with all."""
    heals = [action for action in plan.actions if isinstance(action, Heal)]
    for action in plan.actions:
        if isinstance(action, LinkFault):
            yield Fault(
                action.effect,
                action.at_s,
                _end_s(action, heals, plan.duration_s),
                action.senders,
                action.receivers,
                action.amount,
            )
        elif isinstance(action, NodeFault):
            kind = "lost for good" if action.for_good else action.verb
            end_s = plan.duration_s if action.until_s is None else min(action.until_s, plan.duration_s)
            if action.verb in MOMENTARY:
                end_s = action.at_s
            yield Fault(kind, action.at_s, end_s, (action.node,), (), action.skew_s)
        elif isinstance(action, Lie):
            end_s = plan.duration_s if action.until_s is None else min(action.until_s, plan.duration_s)
            end_s = end_s if LIES[action.kind].lasts else action.at_s
            nodes = (action.node, action.accomplice) if action.accomplice else (action.node,)
            yield Fault("lie", action.at_s, end_s, nodes, (), action.amount, action.kind)


def _end_s(fault: LinkFault, heals: Iterable[Heal], faults_end_s: float) -> float:
    ends = [faults_end_s] if fault.until_s is None else [fault.until_s, faults_end_s]
    for heal in heals:
        names_all = set(fault.senders) <= set(heal.senders) and set(fault.receivers) <= set(heal.receivers)
        if heal.at_s >= fault.at_s and fault.effect in heal.effects and names_all:
            ends.append(heal.at_s)
    return min(ends)
