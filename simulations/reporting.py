"""The commands ``report`` and ``compare``: what their arguments mean, and what they print."""

from __future__ import annotations

import argparse
import shlex
from collections.abc import Callable, Mapping, Sequence, Set
from pathlib import Path

from simulations import compare, proofs, runs
from simulations.report import facts, files, swept
from simulations.report.made import made, made_of
from simulations.report.records import Seed, SweepReport
from simulations.runs import Result
from simulations.scenario.draw import draw
from simulations.scenario.records import Scenario
from simulations.sweep import Place, begun, finished
from simulations.worlds import crypto
from simulations.worlds.contract import Outcome

Command = Callable[[str, Callable[[argparse.Namespace], int], str], argparse.ArgumentParser]
"""(name, what it does, help) -> its parser."""
REPORTS = runs.RESULTS / "reports"


def add_commands(command: Command) -> None:
    told = command("report", _report, "run one seed, or take results of sweeps, and write a report to look at and sign")
    told.add_argument(
        "what",
        nargs="+",
        metavar="SCENARIO | FILE",
        help="a scenario, .jsonl results, or the .json of a report or failure",
    )
    told.add_argument("--world", choices=sorted(runs.WORLDS), default="protocol", help="of a scenario")
    told.add_argument("--seed", type=int, default=1, help="of a scenario (default 1)")
    told.add_argument("--crypto", choices=crypto.KINDS, help="signatures, in place of those that the seed draws")
    told.add_argument("--out", type=Path, help=f"the HTML; the JSON stands beside it (default: in {REPORTS})")

    two = command("compare", _compare, "one plan in several worlds, or results before and after a change, side by side")
    two.add_argument(
        "what", nargs="+", metavar="SCENARIO | BEFORE AFTER", help="a scenario, or two .jsonl or .json files"
    )
    two.add_argument("--worlds", default="protocol,daemon", help="of a scenario (default: protocol,daemon)")
    two.add_argument("--seed", type=int, default=1, help="of a scenario (default 1)")


# --- report -----------------------------------------------------------------------------------------------------------


def _report(options: argparse.Namespace) -> int:
    """0 when it held, 1 when not, 4 when a sweep was stopped before all its seeds were run."""
    paths = [Path(name) for name in options.what]
    if all(path.suffix == ".jsonl" for path in paths):
        return _report_files(paths, options.out)
    if len(paths) > 1:
        raise ValueError("report takes one scenario, one report in JSON, or any number of .jsonl results")
    if paths[0].suffix == ".json":
        return _report_json(paths[0], options.out)
    scenario = runs.load_scenario(options.what[0])
    runs.check_world(scenario, options.world, options.crypto)
    outcome, result = runs.run_seed(scenario, options.seed, options.world, options.crypto, timeline=True)
    print("held" if result.held else "VIOLATED")
    out = options.out or REPORTS / f"{scenario.name}-{options.world}-{options.seed}.html"
    report_run(outcome, result, scenario, options.what[0], out, options.crypto)
    return 0 if result.held else 1


def _report_json(path: Path, out: Path | None) -> int:
    """A saved failure is run again; a report is made again."""
    try:
        saved = runs.load_failure(path)
    except ValueError:
        report = files.read(path)
        _say(files.write(report, out or path.with_suffix(".html")))
        return 0 if report.held else 1
    outcome, result = proofs.run_saved(saved, timeline=True)
    print("held" if result.held else "VIOLATED")
    made_by = made(f"python -m simulations report {shlex.quote(str(path))}")
    report = facts.of_run(outcome, result, swept.shipped(result.scenario), made_by)
    _say(files.write(report, out or REPORTS / path.with_suffix(".html").name, outcome.wall_s))
    return 0 if result.held else 1


def report_run(
    outcome: Outcome, result: Result, scenario: Scenario, name: str, out: Path, signatures: str | None = None
) -> None:
    """Of one seed. ``name`` is what the scenario was called by, ``signatures`` what was asked for in place of those
    that the seed draws."""
    command = f"python -m simulations report {shlex.quote(name)} --world {result.world} --seed {result.seed}"
    command += f" --crypto {signatures}" if signatures else ""
    report = facts.of_run(outcome, result, scenario, made(command))
    _say(files.write(report, out, outcome.wall_s))


def report_results(results: Sequence[Result], command: str, out: Path, wanted: Mapping[Place, Set[int]]) -> SweepReport:
    """Of seeds of any scenarios. ``command`` is what led to them, ``wanted`` the seeds that were to be run."""
    report = swept.of_results(results, made_of(results, f"python -m simulations {command}"), wanted)
    _say(files.write(report, out))
    return report


def _report_files(paths: list[Path], out: Path | None) -> int:
    results = [result for path in paths for result in _results(path)]
    wanted: dict[Place, set[int]] = {}
    for path in paths:
        for place, seeds in begun(path).items():
            wanted.setdefault(place, set()).update(seeds)
    command = "report " + " ".join(shlex.quote(str(path)) for path in paths)
    name = paths[0].with_suffix(".html").name if len(paths) == 1 else "sweeps.html"
    report = report_results(results, command, out or REPORTS / name, wanted)
    return (4 if report.is_stopped else 0) if report.held else 1


def _say(written: files.Written) -> None:
    print(f"report: {written.html}")
    print(f"JSON:   {written.json}")
    print(f"SHA-256 of the JSON: {written.sha256}")


# --- compare ----------------------------------------------------------------------------------------------------------


def _compare(options: argparse.Namespace) -> int:
    """0 when the verdicts are the same, 1 when not."""
    if len(options.what) == 1:
        found = _compare_worlds(options.what[0], options.worlds.split(","), options.seed)
    elif len(options.what) == 2:
        before, after = (Path(name) for name in options.what)
        found = compare.of_seeds((str(before), str(after)), _seeds(before), _seeds(after))
    else:
        raise ValueError("compare takes one scenario, or two files: .jsonl results, or a report's .json")
    print(found.text())
    return 0 if found.same_verdict else 1


def _compare_worlds(name: str, worlds: list[str], seed: int) -> compare.Comparison:
    scenario = runs.load_scenario(name)
    if len(worlds) < 2 or len(set(worlds)) < len(worlds):
        raise ValueError("--worlds takes two different worlds or more, like protocol,lab")
    for world in worlds:
        runs.check_world(scenario, world)
    plan = draw(scenario, seed)
    return compare.of_worlds([runs.run_plan(plan, runs.world_named(world)) for world in worlds])


def _seeds(path: Path) -> dict[tuple[str, str, int], Seed]:
    """Of a report, or of results."""
    is_report = path.suffix == ".json" and path.is_file()
    return swept.places(files.read(path) if is_report else swept.of_results(_results(path), made(""), {}))


def _results(path: Path) -> list[Result]:
    """Of a file of results that a sweep left. Raises ValueError when there is none in it."""
    if not path.is_file():
        raise ValueError(f"there is no file {path}")
    found = list(finished(path).values())
    if not found:
        raise ValueError(f"{path} holds no results: give a .jsonl file that `run --seeds` left")
    return found
