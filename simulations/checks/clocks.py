"""I13: the same plan with other wall clocks must go the same way.

Each node's clock is set wrong by up to 300 days, for the whole run, beside what the plan does to clocks. No member,
no key to write under, no winner and no void entry may be another one.

What is stamped differs, and with it every hash. Where two entries come in one moment, hashes may decide which is merged
first, a client may be shown one more or less, and the run takes another course. So where something differs there is a
third run, with all clocks wrong by the same second: hashes change, and what clocks say of each other does not. Only
what differs with other clocks alone is held against the node; else the seed says nothing.

Sees: every decision by a wall clock that this plan leads to. Does not see: what only a clock that jumps or drifts
otherwise would decide, for those of the plan are the same in all runs.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from random import Random
from typing import NamedTuple

from simulations.checks.honest import Violation
from simulations.scenario.plan import Plan
from simulations.worlds.contract import IncidentEnd, Outcome
from simulations.worlds.protocol import ProtocolWorld

OFFSET_S_MAX = 300 * 86_400
"""Far more than any window of time in the protocol, and inside the certificates of these worlds."""

Perform = Callable[[ProtocolWorld], Outcome]


class _Decided(NamedTuple):
    """What one node decided about one incident, without anything that a clock stamped."""

    members: tuple[str, ...]
    key: str
    merged: dict[str, int]
    registers: object
    deleted: object
    records: object
    conflicts: int
    void: tuple[str, ...]


def same_under_other_clocks(plan: Plan, perform: Perform) -> list[Violation] | None:
    """``perform`` runs the plan in the world that it is given. None where the seed says nothing."""
    rng = Random(f"clocks {plan.scenario} {plan.seed}")
    here = perform(ProtocolWorld())
    there = perform(ProtocolWorld(offsets_s=_offsets(plan, lambda: round(rng.uniform(-OFFSET_S_MAX, OFFSET_S_MAX)))))
    found = list(_differences(here, there))
    if found and list(_differences(here, perform(ProtocolWorld(offsets_s=_offsets(plan, lambda: 1))))):
        return None
    return found


def _offsets(plan: Plan, draw_s: Callable[[], float]) -> dict[str, float]:
    return {node.name: draw_s() for node in plan.nodes}


def _differences(here: Outcome, there: Outcome) -> Iterator[Violation]:
    for one, other in zip(here.ends, there.ends, strict=True):
        for incident in sorted({*one.incidents, *other.incidents}):
            shown, elsewhere = one.incidents.get(incident), other.incidents.get(incident)
            if shown is None or elsewhere is None:
                yield Violation("I13", one.name, f"reads {incident[:8]} only with these wall clocks")
                continue
            mine, theirs = _decided(shown), _decided(elsewhere)
            for what in _Decided._fields:
                if getattr(mine, what) != getattr(theirs, what):
                    yield Violation("I13", one.name, f"{incident[:8]}: with other wall clocks, other {what}")


def _decided(end: IncidentEnd) -> _Decided:
    shown = (end.registers, end.deleted, end.records, end.conflicts, end.void)
    return _Decided(end.members, end.write_key, end.heads, *shown)
