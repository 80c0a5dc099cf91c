"""From results of sweeps to the records of a report. Pure, but for reading scenarios that are still there."""

from __future__ import annotations

import shlex
from collections.abc import Iterable, Iterator, Mapping, Sequence, Set

from simulations.report import facts, untested
from simulations.report.records import SWEEP_FORMAT, Failure, Made, Report, Seed, SweepReport, Swept
from simulations.runs import SCENARIOS, Result, load_scenario
from simulations.scenario.records import Scenario
from simulations.sweep import Place, never_reached, place_of, totals, unwanted
from simulations.worlds import crypto

FAILURES_MAX = 100
"""Told one by one."""


def of_results(results: Iterable[Result], made: Made, wanted: Mapping[Place, Set[int]]) -> SweepReport:
    """``results`` of any scenarios and worlds, each seed counted once; ``wanted`` are seeds that were to be run."""
    by_place: dict[Place, dict[int, Result]] = {}
    for result in results:
        by_place.setdefault(place_of(result), {})[result.seed] = result
    swept = tuple(
        _swept(place, list(rows.values()), wanted.get(place, frozenset())) for place, rows in sorted(by_place.items())
    )
    held = all(not row.failures and not row.never_reached for row in swept)
    return SweepReport(SWEEP_FORMAT, made, held, swept)


def _swept(place: Place, results: Sequence[Result], wanted: Set[int]) -> Swept:
    name, world, code = place
    scenario = shipped(name)
    asked, situations = totals(results)
    never = tuple(never_reached(scenario, results)) if scenario else ()
    return Swept(
        scenario=name,
        title=scenario.title if scenario else name,
        story=" ".join(scenario.story.split()) if scenario else "",
        world=world,
        seeds=tuple(_seed(result) for result in sorted(results, key=lambda row: row.seed)),
        simulated_s=round(sum(result.simulated_s for result in results), 3),
        real_signatures=sum(result.options.get("crypto", crypto.REAL) == crypto.REAL for result in results),
        failures=tuple(_failures(results)),
        known=facts.known(results),
        asked=dict(sorted(asked.items(), key=lambda row: _number(row[0]))),
        situations=dict(sorted(situations.items())),
        never_reached=never,
        untested=tuple(untested.of_sweep(scenario, world, len(results), asked, never)),
        code=code,
        seeds_wanted=len(wanted | {result.seed for result in results}) if wanted else 0,
        unwanted=tuple(sorted({name for result in results for name in unwanted(result)}, key=_number)),
    )


def shipped(name: str) -> Scenario | None:
    """Results know a scenario by its name alone: only those that are shipped can be found again."""
    path = SCENARIOS / f"{name}.toml"
    return load_scenario(str(path)) if path.is_file() else None


def places(report: Report) -> dict[tuple[str, str, int], Seed]:
    """(scenario, world, seed) -> what is kept of it, of a report of any kind."""
    if isinstance(report, SweepReport):
        return {(row.scenario, row.world, seed.seed): seed for row in report.swept for seed in row.seeds}
    violated = tuple(row.name for row in report.invariants if row.violations)
    spread = report.spread.everybody
    seed = Seed(
        seed=report.seed,
        violated=violated,
        trace=report.trace,
        events=report.events,
        converged_after_s=report.converged_after_s,
        spread_p50_s=spread.p50_s,
        spread_p99_s=spread.p99_s,
        bytes_sent=sum(row.bytes for row in report.sent),
        acknowledged=report.answers.acknowledged,
    )
    return {(report.scenario, report.world, report.seed): seed}


def _seed(result: Result) -> Seed:
    violated = tuple(sorted({row[0] for row in result.violations}, key=_number))
    numbers = (result.converged_after_s, result.spread_p50_s, result.spread_p99_s)
    return Seed(result.seed, violated, result.digest, result.events, *numbers, result.bytes_sent, result.acknowledged)


def _number(invariant: str) -> int:
    return int(invariant[1:])


def _failures(results: Sequence[Result]) -> Iterator[Failure]:
    failed = sorted((result for result in results if not result.held), key=lambda row: row.seed)
    for result in failed[:FAILURES_MAX]:
        where = f"{shlex.quote(result.scenario)} --world {result.world} --seed {result.seed}"
        yield Failure(result.seed, result.violations, f"python -m simulations run {where}")
