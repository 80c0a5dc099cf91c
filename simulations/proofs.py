"""What one run cannot show by itself, asked of a share of the seeds: the same trace again (I15), and that no wall clock
decides (I13).

A sweep, ``run --seed``, ``replay`` and ``shrink`` all ask here, so what a sweep found can be seen again.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Callable, Collection, Sequence
from dataclasses import replace
from pathlib import Path

from simulations.checks.clocks import same_under_other_clocks
from simulations.runs import ROOT, Result, Saved, code_digest, plan_file, result_of, run_plan, world_named
from simulations.scenario.plan import Plan
from simulations.worlds.contract import Outcome
from simulations.worlds.shared import APART

TWICE_EVERY = 100
OTHER_CLOCKS_EVERY = 25
"""Of so many seeds one is run with other wall clocks too (I13): that takes two or three more runs."""
TIMES = 3
"""Fresh processes that a saved failure is run in: what is ordered by hashes is in one of them in the same order by
luck."""
AGAIN_TIMEOUT_S = 3_600.0

Again = Callable[[], str]
"""The digest of the same run, from a process with another hash seed."""
Violations = Sequence[tuple[str, str, str]]


def due(plan: Plan, world: str) -> frozenset[str]:
    """What a sweep asks of this seed beside its own verdict, as far as the scenario wants it."""
    if world != "protocol":
        return frozenset()
    every = {"I15": TWICE_EVERY, "I13": OTHER_CLOCKS_EVERY}
    return frozenset(name for name, number in every.items() if plan.seed % number == 0 and name in plan.invariants)


def proved(plan: Plan, result: Result, asked: Collection[str], again: Again, times: int = 1) -> Result:
    """``result`` with what the second runs showed of it."""
    if "I15" in asked:
        digests = (again() for _ in range(times))
        result = _asked_also(result, "I15", next(filter(None, (_another(result, digest) for digest in digests)), []))
    if "I13" in asked:
        found = same_under_other_clocks(plan, lambda other: other.run(plan))
        if found is not None:
            result = _asked_also(result, "I13", [(row.invariant, row.node, row.what) for row in found])
    return result


def _another(result: Result, digest: str) -> Violations:
    what = f"the same seed gave another trace in another process: {result.digest} and {digest}"
    return [] if digest == result.digest else [("I15", "", what)]


def _asked_also(result: Result, invariant: str, violations: Violations) -> Result:
    asked = {**result.asked, invariant: result.asked.get(invariant, 0) + 1}
    return replace(result, asked=dict(sorted(asked.items())), violations=(*result.violations, *violations))


def run_saved(saved: Saved, timeline: bool = False) -> tuple[Outcome, Result]:
    """A saved failure once more, with every check that it failed or that its seed is due. Under the same code another
    trace than it left is a violation too."""
    outcome, verdict = run_plan(saved.plan, world_named(saved.world, timeline))
    asked = due(saved.plan, saved.world) | {row[0] for row in saved.violations}
    result = of_plan(saved.plan, result_of(outcome, verdict), asked, saved.world)
    if saved.code == code_digest() and saved.world == "protocol" and result.digest != saved.digest:
        what = f"the same code and plan left another trace when this was saved: {saved.digest}, and {result.digest} now"
        result = _asked_also(result, "I15", [("I15", "", what)])
    return outcome, result


def of_plan(plan: Plan, result: Result, asked: Collection[str], world: str) -> Result:
    """As ``proved``, of a plan that no seed of a scenario need draw any more."""
    if world != "protocol":
        return result
    return proved(plan, result, asked, lambda: digest_of_plan(plan, world), TIMES)


def digest_of_plan(plan: Plan, world: str) -> str:
    """The digest of the trace of this plan, from a fresh process."""
    with tempfile.TemporaryDirectory() as directory:
        path = Path(directory) / "plan.json"
        path.write_text(json.dumps(plan_file(plan, world)), encoding="utf-8")
        return digest_in_a_process(["-m", "simulations", "replay", str(path), "--digest"])


def digest_of_seed(scenario: Path, world: str, seed: int, crypto: str | None = None) -> str:
    """The digest of the trace of this seed, drawn and run in a fresh process."""
    command = ["-m", "simulations", "run", str(scenario.resolve()), "--world", world, "--seed", str(seed), "--digest"]
    return digest_in_a_process([*command, *(["--crypto", crypto] if crypto else [])])


def digest_in_a_process(arguments: Sequence[str]) -> str:
    """What a Python prints that has a hash seed of its own, and shares no work between nodes."""
    done = subprocess.run(
        [sys.executable, *arguments],
        capture_output=True,
        text=True,
        check=False,
        cwd=ROOT,
        timeout=AGAIN_TIMEOUT_S,
        env={**os.environ, "PYTHONHASHSEED": "random", APART: "1"},
    )
    return done.stdout.strip() or done.stderr.strip()[-200:]
