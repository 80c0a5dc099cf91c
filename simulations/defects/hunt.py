"""Runs seeds with a planted defect until a check finds it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from functools import partial

from simulations import runs
from simulations.checks.clocks import same_under_other_clocks
from simulations.checks.honest import Violation
from simulations.defects.table import DEFECTS
from simulations.proofs import digest_in_a_process
from simulations.scenario.draw import draw
from simulations.scenario.plan import Plan
from simulations.worlds.contract import Outcome


@dataclass(frozen=True, slots=True)
class Found:
    """How a defect was found, or that it was not (``invariants`` is empty)."""

    name: str
    seeds: int
    """Tried until one found it, from 1."""
    invariants: tuple[str, ...]
    """All that noticed it in that seed."""
    what: str = ""

    @property
    def as_said(self) -> bool:
        """One of the invariants that the table names noticed it."""
        return bool({*self.invariants} & {*DEFECTS[self.name].caught_by})


def hunt(name: str, seeds_max: int = 200, world: str = "") -> Found:
    """``world`` is the name of another than the one in the table. Raises WorldUnavailableError."""
    defect = DEFECTS[name]
    scenario = runs.load_scenario(defect.scenario)
    for seed in range(1, seeds_max + 1):
        here = runs.world_named(world) if world else defect.make_world()
        plan = draw(scenario, seed)
        outcome, verdict = runs.run_plan(plan, here, defect.plant)
        found = verdict.violations or list(_runs_that_differ(name, seed, plan, outcome))
        if found:
            invariants = tuple(dict.fromkeys(violation.invariant for violation in found))
            return Found(name, seed, invariants, found[0].what)
    return Found(name, seeds_max, ())


def _runs_that_differ(name: str, seed: int, plan: Plan, outcome: Outcome) -> Iterator[Violation]:
    """What only a second run can show; a sweep asks it of a share of its seeds."""
    defect = DEFECTS[name]
    if outcome.world != "protocol":
        return
    if "I13" in defect.caught_by:
        with defect.plant():
            yield from same_under_other_clocks(plan, lambda other: other.run(plan)) or ()
    if "I15" in defect.caught_by:
        digest = digest_in_a_process(["-m", "simulations.defects.again", name, str(seed)])
        if digest != outcome.digest:
            yield Violation("I15", "", f"another trace in another process: {outcome.digest} and {digest}")


def hunt_all(names: Sequence[str], seeds_max: int, world: str, workers: int) -> Iterator[Found]:
    """In the order of ``names``, each in one process from its first seed to the one that finds it."""
    search = partial(hunt, seeds_max=seeds_max, world=world)
    if workers == 1:
        yield from map(search, names)
        return
    with ProcessPoolExecutor(workers) as pool:
        yield from pool.map(search, names)
