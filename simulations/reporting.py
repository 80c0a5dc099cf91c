"""The commands ``report`` and ``compare``: what their arguments mean, and what they print."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from pathlib import Path

from simulations import compare, runs
from simulations.runs import Result
from simulations.scenario.draw import draw
from simulations.sweep import finished

Command = Callable[[str, Callable[[argparse.Namespace], int], str], argparse.ArgumentParser]
"""(name, what it does, help) -> its parser."""


def add_commands(command: Command) -> None:
    two = command("compare", _compare, "one plan in several worlds, or results before and after a change, side by side")
    two.add_argument("what", nargs="+", metavar="SCENARIO | BEFORE AFTER", help="a scenario, or two files of results")
    two.add_argument("--worlds", default="protocol,daemon", help="of a scenario (default: protocol,daemon)")
    two.add_argument("--seed", type=int, default=1, help="of a scenario (default 1)")


def _compare(options: argparse.Namespace) -> int:
    """0 when the verdicts are the same, 1 when not."""
    if len(options.what) == 1:
        found = _compare_worlds(options.what[0], options.worlds.split(","), options.seed)
    elif len(options.what) == 2:
        before, after = (Path(name) for name in options.what)
        found = compare.of_results((str(before), str(after)), _results(before), _results(after))
    else:
        raise ValueError("compare takes one scenario, or two files of results")
    print(found.text())
    return 0 if found.same_verdict else 1


def _compare_worlds(name: str, worlds: list[str], seed: int) -> compare.Comparison:
    scenario = runs.load_scenario(name)
    if len(worlds) < 2 or len(set(worlds)) < len(worlds):
        raise ValueError("--worlds takes two different worlds or more, like protocol,lab")
    for world in worlds:
        if world not in runs.WORLDS:
            raise ValueError(f"there is no world {world!r}; known: {', '.join(runs.WORLDS)}")
        if world not in scenario.worlds:
            raise ValueError(f"{scenario.name} is for {', '.join(scenario.worlds)}, not for {world}")
    plan = draw(scenario, seed)
    return compare.of_worlds([runs.run_plan(plan, runs.world_named(world)) for world in worlds])


def _results(path: Path) -> list[Result]:
    """Of a file of results that a sweep left. Raises ValueError when there is none in it."""
    found = list(finished(path).values())
    if not found:
        raise ValueError(f"{path} holds no results: give a .jsonl file that `run --seeds` left")
    return found
