"""Sweeps: many seeds on all cores, which can be stopped and gone on with, and lose no finished seed.

Each finished seed is one line in a file named after scenario, world and code. A sweep that starts again reads it and
runs what is missing, whatever else stands in that file. A seed whose process dies, or that the harness itself fails at,
is recorded as a failure of the harness (under I8), and the others go on.

Of every hundred seeds one is run a second time, in a process of its own with another hash seed, and must give the same
trace (I15); of every twenty-five one is run with other wall clocks, and must go the same way (I13).
"""

from __future__ import annotations

import hashlib
import json
import traceback
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import suppress
from functools import partial
from pathlib import Path

from simulations import pool, proofs, provenance
from simulations.runs import (
    LAST_LINES,
    RESULTS,
    Result,
    code_digest,
    load_scenario,
    result_of_line,
    run_seed,
    save_failure,
)
from simulations.scenario.draw import draw
from simulations.scenario.records import INVARIANTS, Scenario
from simulations.worlds.contract import WorldUnavailableError

BEGUN = b'{"begun"'
"""How a line begins that says which seeds a sweep was to run."""
SOMETIMES_SEEDS_MIN = 100
"""A sweep of fewer seeds need not have reached everything."""

Runner = Callable[[Path, str, Iterator[int]], Iterator[Result]]
"""(scenario, world, missing seeds) to results, as they come. Ctrl-C ends it after the seeds that are under way."""
Progress = Callable[[Result, int, int], None]
"""(result, finished, wanted)."""


def results_file(scenario: Path, world: str, directory: Path = RESULTS) -> Path:
    """Where results of this scenario with this code are kept."""
    text = hashlib.blake2b(scenario.read_bytes(), digest_size=4).hexdigest()
    return directory / f"{scenario.stem}-{world}-{text}-{code_digest()}.jsonl"


Place = tuple[str, str, str]
"""(scenario, world, digest of the code)."""


def finished(path: Path, place: Place | None = None) -> dict[int, Result]:
    """Seed -> result, of every whole line, or of those of this place alone. A line that a stop cut short does not
    count, nor one that something else has damaged."""
    found: dict[int, Result] = {}
    for line in _lines(path):
        try:
            result = result_of_line(line)
            if place is None or place_of(result) == place:
                found[result.seed] = result
        except (ValueError, TypeError, KeyError):
            continue
    return found


def begun(path: Path) -> dict[Place, set[int]]:
    """The seeds that sweeps into this file were to run, whether or not they did."""
    found: dict[Place, set[int]] = {}
    for line in _lines(path):
        if line.startswith(BEGUN):
            with suppress(ValueError, TypeError, KeyError):
                row = json.loads(line)["begun"]
                seeds = found.setdefault((row["scenario"], row["world"], row["code"]), set())
                seeds.update(seed for first, last in row["seeds"] for seed in range(first, last + 1))
    return found


def place_of(result: Result) -> Place:
    return result.scenario, result.world, result.code


def _lines(path: Path) -> list[bytes]:
    return path.read_bytes().split(b"\n") if path.is_file() else []


def _begun_line(place: Place, seeds: Sequence[int]) -> str:
    """What is wanted, before anything of it is run: a report can tell a sweep that was stopped from a whole one."""
    spans: list[list[int]] = []
    for seed in sorted(seeds):
        if spans and seed == spans[-1][1] + 1:
            spans[-1][1] = seed
        else:
            spans.append([seed, seed])
    scenario, world, code = place
    return json.dumps({"begun": {"scenario": scenario, "world": world, "code": code, "seeds": spans}})


def on_this_machine(workers: int) -> Runner:
    def runner(scenario: Path, world: str, missing: Iterator[int]) -> Iterator[Result]:
        died = partial(_died, scenario, world)
        return pool.run(attempt, died, scenario, world, missing, workers)

    return runner


def sweep(
    scenario: Path, world: str, seeds: Iterable[int], runner: Runner, progress: Progress, directory: Path = RESULTS
) -> list[Result]:
    """The results of these seeds, in their order, as far as they are finished: all, or those before Ctrl-C."""
    path = results_file(scenario, world, directory)
    path.parent.mkdir(parents=True, exist_ok=True)
    wanted = list(dict.fromkeys(seeds))
    place = (scenario.stem, world, code_digest())
    kept = finished(path, place)
    done = {seed: kept[seed] for seed in wanted if seed in kept}
    missing = [seed for seed in wanted if seed not in done]
    is_torn = path.is_file() and _lines(path)[-1] != b""
    with path.open("a", encoding="utf-8") as file:
        if missing:
            file.write("\n" * is_torn + _begun_line(place, wanted) + "\n")
            file.flush()
        for result in runner(scenario, world, iter(missing)):
            done[result.seed] = result
            file.write(result.line + "\n")
            file.flush()
            if not result.held and result.has_run:
                save_failure(draw(load_scenario(str(scenario)), result.seed), result, directory / "failures")
            progress(result, len(done), len(wanted))
    return [done[seed] for seed in wanted if seed in done]


# --- one seed ---------------------------------------------------------------------------------------------------------


def one_seed(scenario: Path, world: str, seed: int) -> Result:
    """One seed, with the proofs that are due to it."""
    outcome, result = run_seed(load_scenario(str(scenario)), seed, world)
    plan = outcome.plan
    return proofs.proved(plan, result, proofs.due(plan, world), lambda: proofs.digest_of_seed(scenario, world, seed))


def attempt(scenario: Path, world: str, seed: int) -> Result:
    """As ``one_seed``. An exception out of the harness is a failure of this seed, and the sweep goes on.

    Raises WorldUnavailableError: that is so of every seed."""
    try:
        return one_seed(scenario, world, seed)
    except WorldUnavailableError:
        raise
    except Exception as error:  # noqa: BLE001 - a seed's outer edge: a defect of the harness must not end the sweep
        lines = traceback.format_exception(error)[-LAST_LINES:]
        return harness_failed(scenario, world, seed, f"{type(error).__name__}: {error}", lines)


def harness_failed(scenario: Path, world: str, seed: int, what: str, lines: Sequence[str] = ()) -> Result:
    """What is recorded of a seed that has no verdict. It counts as failed, under I8, whatever the scenario wants."""
    told = f"the harness failed, so this seed says nothing of any node: {what}"
    last = {"": [line for text in lines for line in text.splitlines()]}
    return Result(
        scenario=scenario.stem,
        world=world,
        seed=seed,
        violations=(("I8", "", told),),
        digest="",
        converged_after_s=None,
        simulated_s=0.0,
        wall_s=0.0,
        events=0,
        acknowledged=0,
        last=last if lines else {},
        code=code_digest(),
        commit=provenance.commit(),
        versions=provenance.versions(),
    )


def _died(scenario: Path, world: str, seed: int, how: str) -> Result:
    return harness_failed(scenario, world, seed, f"its process was {how}")


# --- what all of them say ---------------------------------------------------------------------------------------------


def never_reached(scenario: Scenario, results: Sequence[Result]) -> list[str]:
    """Situations that a sweep of some size must have seen, as the scenario says; of the world that counts them all."""
    if any(result.world != "protocol" for result in results):
        return []
    _, sometimes = totals(results)
    return [name for name in scenario.checks.sometimes if len(results) >= SOMETIMES_SEEDS_MIN and not sometimes[name]]


def totals(results: Iterable[Result]) -> tuple[Counter[str], Counter[str]]:
    """(how often each invariant was asked, how often each situation was reached)."""
    asked: Counter[str] = Counter()
    sometimes: Counter[str] = Counter()
    for result in results:
        asked.update(result.asked)
        sometimes.update(result.sometimes)
    return asked, sometimes


def unwanted(result: Result) -> tuple[str, ...]:
    """Invariants that the scenario does not ask for. Nothing where that was not kept."""
    return tuple(name for name in INVARIANTS if result.wanted and name not in result.wanted)
