"""Runs seeds with a planted defect until a check finds it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from functools import partial

from simulations import runs
from simulations.defects.table import DEFECTS
from simulations.scenario.draw import draw


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
        _, verdict = runs.run_plan(draw(scenario, seed), here, defect.plant)
        if not verdict.held:
            invariants = tuple(dict.fromkeys(violation.invariant for violation in verdict.violations))
            return Found(name, seed, invariants, verdict.violations[0].what)
    return Found(name, seeds_max, ())


def hunt_all(names: Sequence[str], seeds_max: int, world: str, workers: int) -> Iterator[Found]:
    """In the order of ``names``, each in one process from its first seed to the one that finds it."""
    search = partial(hunt, seeds_max=seeds_max, world=world)
    if workers == 1:
        yield from map(search, names)
        return
    with ProcessPoolExecutor(workers) as pool:
        yield from pool.map(search, names)
