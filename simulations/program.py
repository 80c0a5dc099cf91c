"""``meshnode-sim``: arguments in, runs and what they say out. Printing is done here and in ``reporting`` and ``told``,
exiting here.

Exit codes: 0 everything held; 1 something was violated; 2 the request makes no sense; 3 this world cannot run here;
4 it was stopped by hand before its end, and what was run until then held.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import shlex
import sys
import time
from collections.abc import Callable, Sequence
from contextlib import redirect_stdout
from functools import partial
from pathlib import Path

from simulations import cluster, explain, proofs, reporting, runs, told
from simulations.benchmarks import virtual_mesh
from simulations.defects import DEFECTS, hunt_all
from simulations.runs import Result
from simulations.scenario.draw import draw
from simulations.scenario.plan import Plan, to_plain
from simulations.scenario.sense import ScenarioError
from simulations.shrink import shrink
from simulations.sweep import Place, Runner, never_reached, on_this_machine, place_of, results_file, sweep
from simulations.worlds import crypto
from simulations.worlds.contract import WorldUnavailableError

HELD, VIOLATED, SENSELESS, UNAVAILABLE, STOPPED = range(5)
SOAK_SEEDS = 10
"""Of one scenario, before a soak turns to the next."""
HOURS_MAX = 24 * 366
_SEEDS = re.compile(r"(\d+)(?:\.\.(\d+))?")


def main(arguments: Sequence[str] | None = None) -> None:
    sys.exit(run(arguments))


def run(arguments: Sequence[str] | None = None) -> int:
    """The exit code."""
    options = _parser().parse_args(arguments)
    act: Callable[[argparse.Namespace], int] = options.act
    try:
        with redirect_stdout(told.Unheard(sys.stdout)):
            return act(options)
    except ScenarioError as error:
        _complain(f"{error.args[0].partition('; ')[0]}", error.action)
        return SENSELESS
    except (FileNotFoundError, PermissionError, IsADirectoryError, ValueError) as error:
        _complain(str(error), "")
        return SENSELESS
    except WorldUnavailableError as error:
        _complain(str(error), "")
        return UNAVAILABLE
    except KeyboardInterrupt:
        _complain("stopped", "")
        return STOPPED


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser("meshnode-sim", description="Partition simulations of a mesh of nodes.")
    commands = parser.add_subparsers(required=True, metavar="COMMAND")

    def command(name: str, act: Callable[[argparse.Namespace], int], help_: str) -> argparse.ArgumentParser:
        found = commands.add_parser(name, help=help_, description=help_)
        found.set_defaults(act=act)
        return found

    one = command("run", _run, "run a scenario with one seed or many")
    one.add_argument("scenario", help="a file, or the name of a scenario that is shipped")
    one.add_argument("--world", choices=sorted(runs.WORLDS), default="protocol")
    seeds = one.add_mutually_exclusive_group()
    seeds.add_argument("--seed", type=int, help="one seed (default 1)")
    seeds.add_argument("--seeds", type=_seeds, metavar="A..B", help="all seeds from A to B")
    one.add_argument("--crypto", choices=crypto.KINDS, help="signatures of a single seed (default: as it draws)")
    where = one.add_mutually_exclusive_group()
    where.add_argument("--workers", type=int, default=os.cpu_count() or 1, help="processes (default: one a core)")
    where.add_argument("--dask", metavar="ADDRESS", help="of the scheduler of a Dask cluster that runs the seeds")
    one.add_argument("--digest", action="store_true", help="print the digest of the trace, and nothing else")
    one.add_argument("--report", type=Path, metavar="FILE", help="write a report too: HTML, and JSON beside it")
    one.add_argument("--results", type=Path, default=runs.RESULTS, help="directory for results and failures")

    long = command(
        "soak", _soak, "run all shipped scenarios in the protocol world, with ever new seeds, for some hours"
    )
    long.add_argument("--hours", type=float, default=1.0)
    long.add_argument("--workers", type=int, default=os.cpu_count() or 1, help="processes (default: one a core)")
    long.add_argument("--results", type=Path, default=runs.RESULTS, help="directory for results and failures")

    again = command("replay", _replay, "run a saved failure again")
    again.add_argument("file", type=Path)
    again.add_argument("--digest", action="store_true", help="print the digest of the trace, and nothing else")
    smaller = command("shrink", _shrink, "make a saved failure smaller while it still fails")
    smaller.add_argument("file", type=Path)
    smaller.add_argument("--tries", type=int, default=300, help="plans to try at most")
    planted = command("defects", _defects, "plant errors in the core, and print how soon the checks find each")
    planted.add_argument("names", nargs="*", help="which (default: all)")
    planted.add_argument("--seeds", type=int, default=200, help="seeds to try at most")
    planted.add_argument("--world", choices=sorted(runs.WORLDS), default="", help="another than the one in the table")
    planted.add_argument("--workers", type=int, default=os.cpu_count() or 1, help="processes (default: one a core)")
    reporting.add_commands(command)
    quick = command("speed", _speed, "measure how quick the protocol world is, beside a bare heap loop")
    quick.add_argument("--shape", choices=virtual_mesh.SHAPES, default="random")
    quick.add_argument("--nodes", type=int, nargs="+", default=[10, 30, 100, 300, 1_000], help="sizes of the mesh")
    quick.add_argument("--seconds", type=float, default=190.0, help="virtual time; the first 90 s are the start")
    quick.add_argument("--crypto", choices=crypto.KINDS, nargs="+", default=list(crypto.KINDS), help="signatures")
    quick.add_argument("--json", type=Path, help="write the figures to this file too")
    command("list", _list, "name the scenarios that are shipped")
    told = command("explain", _explain, "tell what a scenario does, and what a seed makes of it")
    told.add_argument("scenario")
    told.add_argument("--seed", type=int, help="show the plan of this seed too")
    return parser


def _seeds(text: str) -> range:
    found = _SEEDS.fullmatch(text)
    if found is None or (found[2] and int(found[2]) < int(found[1])):
        raise argparse.ArgumentTypeError(f"{text!r} is no range of seeds: write A..B, like 1..1000")
    return range(int(found[1]), int(found[2] or found[1]) + 1)


# --- run --------------------------------------------------------------------------------------------------------------


def _run(options: argparse.Namespace) -> int:
    if options.workers < 1:
        raise ValueError("--workers must be at least 1")
    path = runs.find_scenario(options.scenario)
    scenario = runs.load_scenario(options.scenario)
    runs.check_world(scenario, options.world, options.crypto)
    if options.dask and options.seeds is None:
        raise ValueError("--dask is for many seeds: add --seeds A..B")
    if options.seeds is not None:
        if options.crypto is not None:
            raise ValueError("--crypto is for a single seed: in a sweep each seed draws its own")
        return _sweep(options, path)
    seed = 1 if options.seed is None else options.seed
    wants_report = options.report is not None
    outcome, result = runs.run_seed(scenario, seed, options.world, options.crypto, timeline=wants_report)
    if options.digest:
        print(outcome.digest)
        return HELD if result.held else VIOLATED
    due = proofs.due(outcome.plan, options.world)
    again = partial(proofs.digest_of_seed, path, options.world, seed, options.crypto)
    result = proofs.proved(outcome.plan, result, due, again)
    print(told.one_line(result))
    told.print_asked([result])
    if not result.held:
        runs.save_failure(outcome.plan, result, options.results / "failures")
        told.print_failure(result, options.scenario, options.results)
    if wants_report:
        reporting.report_run(outcome, result, scenario, options.scenario, options.report, options.crypto)
    return HELD if result.held else VIOLATED


def _sweep(options: argparse.Namespace, path: Path) -> int:
    failed: list[Result] = []

    def progress(result: Result, done: int, wanted: int) -> None:
        if not result.held:
            failed.append(result)
            told.clear()
            told.print_failure(result, options.scenario, options.results)
        show(done, wanted, len(failed))

    show = told.Counted()
    results = sweep(path, options.world, options.seeds, _runner(options), progress, options.results)
    told.clear()
    bad = [result for result in results if not result.held]
    simulated_s, wall_s = sum(row.simulated_s for row in results), sum(row.wall_s for row in results)
    print(f"{len(results)} of {len(options.seeds)} seeds: {len(results) - len(bad)} held, {len(bad)} failed")
    if bad:
        print("failed seeds: " + " ".join(str(row.seed) for row in bad[:50]))
    if wall_s:
        print(f"{simulated_s:,.0f} s simulated, {simulated_s / wall_s:,.0f} s in a second of a core")
    told.print_asked(results)
    never = _never_reached(path, results)
    if never:
        print("NEVER REACHED, so this sweep proves nothing of it: " + ", ".join(never))
    print(f"results: {results_file(path, options.world, options.results)}")
    if options.report is not None and results:
        command = f"run {shlex.quote(options.scenario)} --world {options.world}"
        seeds = f"--seeds {options.seeds[0]}..{options.seeds[-1]}"
        wanted = {place_of(results[0]): set(options.seeds)}
        reporting.report_results(results, f"{command} {seeds}", options.report, wanted)
    is_stopped = len(results) < len(options.seeds)
    if is_stopped:
        print("stopped; the same command goes on where it was")
    return VIOLATED if bad or never else STOPPED if is_stopped else HELD


def _runner(options: argparse.Namespace) -> Runner:
    if options.dask:
        return partial(cluster.run, address=options.dask, say=lambda news: _complain(news, ""))
    return on_this_machine(options.workers)


def _soak(options: argparse.Namespace) -> int:
    """Results are kept as those of sweeps: a later soak with the same code goes on where this one ended."""
    if not 0 < options.hours <= HOURS_MAX:
        raise ValueError(f"--hours must be more than 0, and at most {HOURS_MAX}")
    end_s, is_stopped = time.monotonic() + options.hours * 3600, False
    counts: dict[str, list[int]] = {}
    wanted: dict[Place, set[int]] = {}
    soaked: list[Result] = []
    scenarios = [path for path in sorted(runs.SCENARIOS.glob("*.toml")) if _is_for_protocol(path)]
    for begin in range(1, sys.maxsize, SOAK_SEEDS):
        for path in scenarios:
            if time.monotonic() >= end_s:
                break

            def progress(result: Result, _done: int, _wanted: int, path: Path = path) -> None:
                if not result.held:
                    told.print_failure(result, path.stem, options.results)

            seeds = range(begin, begin + SOAK_SEEDS)
            results = sweep(path, "protocol", seeds, on_this_machine(options.workers), progress, options.results)
            soaked += results
            wanted.setdefault((path.stem, "protocol", runs.code_digest()), set()).update(seeds)
            found = counts.setdefault(path.stem, [0, 0])
            found[0] += len(results)
            found[1] += sum(not result.held for result in results)
            if len(results) < SOAK_SEEDS:
                end_s, is_stopped = 0.0, True
        if time.monotonic() >= end_s:
            break
    for name, (seeds_run, failed) in counts.items():
        print(f"{name:28} {seeds_run:6} seeds, {failed} failed")
    if soaked:
        report = reporting.report_results(soaked, "soak", options.results / "reports" / "soak.html", wanted)
        if not report.held:
            return VIOLATED
    return STOPPED if is_stopped else HELD


def _is_for_protocol(path: Path) -> bool:
    return "protocol" in runs.load_scenario(str(path)).worlds


def _never_reached(path: Path, results: Sequence[Result]) -> list[str]:
    """Situations that the scenario says a sweep of some size must have seen."""
    return never_reached(runs.load_scenario(str(path)), results)


# --- the others -------------------------------------------------------------------------------------------------------


def _replay(options: argparse.Namespace) -> int:
    saved = runs.load_failure(options.file)
    if options.digest:
        print(runs.run_plan(saved.plan, runs.world_named(saved.world))[0].digest)
        return HELD
    _, result = proofs.run_saved(saved)
    if result.held:
        print(told.one_line(result))
    else:
        told.print_violations(result)
        told.print_replay(options.file)
    if result.digest == saved.digest:
        print("the same trace as when it was saved")
    elif saved.world == "protocol":
        print(
            "another trace than when it was saved"
            + ("" if saved.code == runs.code_digest() else ": the code is another")
        )
    return HELD if result.held else VIOLATED


def _shrink(options: argparse.Namespace) -> int:
    saved = runs.load_failure(options.file)
    _, first = proofs.run_saved(saved)
    invariants = {row[0] for row in first.violations}
    if not invariants:
        print("it holds: there is nothing to shrink")
        return HELD
    world = runs.world_named(saved.world)

    def tried(plan: Plan) -> Result:
        """The second runs are made only for what nothing else shows."""
        outcome, verdict = runs.run_plan(plan, world)
        result = runs.result_of(outcome, verdict)
        shown = any(row[0] in invariants for row in result.violations)
        return result if shown else proofs.of_plan(plan, result, invariants, saved.world)

    def fails(plan: Plan) -> bool:
        return any(row[0] in invariants for row in tried(plan).violations)

    plan, tries = shrink(saved.plan, fails, options.tries)
    result = tried(plan)
    path = runs.save_failure(plan, result, options.file.parent / "shrunk")
    print(f"{len(saved.plan.actions)} actions shrunk to {len(plan.actions)} in {tries} tries: {path}")
    for action in to_plain(plan)["actions"]:
        print("  " + " ".join(map(str, action)))
    told.print_violations(result)
    told.print_replay(path)
    return VIOLATED


def _list(_options: argparse.Namespace) -> int:
    for name, path in runs.shipped_scenarios().items():
        print(f"{name:28} {runs.load_scenario(str(path)).title}")
    return HELD


def _defects(options: argparse.Namespace) -> int:
    if options.workers < 1:
        raise ValueError("--workers must be at least 1")
    names = options.names or list(DEFECTS)
    for name in names:
        if name not in DEFECTS:
            raise ValueError(f"there is no defect {name!r}; known: {', '.join(DEFECTS)}")
    missed = 0
    print("| defect | seeds | found by | what it means | first words |\n|---|---|---|---|---|")
    for found in hunt_all(names, options.seeds, options.world, options.workers):
        missed += not found.as_said
        by = ", ".join(found.invariants) or "NOT FOUND"
        if found.invariants and not found.as_said:
            by += f" (not {' or '.join(DEFECTS[found.name].caught_by)})"
        row = (found.name, str(found.seeds), by, DEFECTS[found.name].meaning, found.what[:90].replace("|", "/"))
        print(f"| {' | '.join(row)} |", flush=True)
    return VIOLATED if missed else HELD


def _speed(options: argparse.Namespace) -> int:
    if min(options.nodes) < virtual_mesh.NODES_MIN:
        raise ValueError(f"--nodes must be at least {virtual_mesh.NODES_MIN}")
    rows = []
    for kind in options.crypto:
        for nodes in options.nodes:
            rows.append(virtual_mesh.measure(options.shape, nodes, options.seconds, kind))
            print(virtual_mesh.table(rows).splitlines()[-1], file=sys.stderr, flush=True)
    print(f"load average {os.getloadavg()[0]:.1f} on {os.cpu_count()} cores")
    print(virtual_mesh.table(rows))
    if options.json is not None:
        options.json.write_text(json.dumps([row._asdict() for row in rows], indent=1) + "\n", encoding="utf-8")
    return HELD if all(row.held for row in rows) else VIOLATED


def _explain(options: argparse.Namespace) -> int:
    scenario = runs.load_scenario(options.scenario)
    print(explain.scenario(scenario))
    if options.seed is not None:
        print(explain.plan(draw(scenario, options.seed)))
    return HELD


def _complain(reason: str, action: str) -> None:
    print(f"meshnode-sim: {reason}" + (f"\n  {action}" if action else ""), file=sys.stderr)
