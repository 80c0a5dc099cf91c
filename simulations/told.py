"""What is printed of results: a line, what was checked, what was violated and how to see it again."""

from __future__ import annotations

import io
import json
import os
import shlex
import sys
import time
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import TextIO

from simulations.checks.judge import HOLES
from simulations.runs import Result
from simulations.sweep import totals, unwanted

PROGRESS_INTERVAL_S = 60.0
"""Between two lines about how far a sweep is, where nobody looks at a terminal."""


class Unheard(io.TextIOBase):
    """Standard output whose reader may go away, as ``head`` does: what is said then is lost, and the verdict is not."""

    def __init__(self, out: TextIO) -> None:
        self._out = out

    def write(self, text: str) -> int:
        try:
            self._out.write(text)
            self._out.flush()
        except BrokenPipeError:
            os.dup2(os.open(os.devnull, os.O_WRONLY), self._out.fileno())  # nothing more is said at exit either
        return len(text)

    def isatty(self) -> bool:
        return self._out.isatty()


class Counted:
    """How far a sweep is: on a terminal at every seed, in a file now and then."""

    def __init__(self) -> None:
        self._said_at = time.monotonic()

    def __call__(self, done: int, wanted: int, failed: int) -> None:
        said = f"{done} of {wanted} seeds, {failed} failed"
        if sys.stderr.isatty():
            print(f"\r{said}", end="", file=sys.stderr, flush=True)
        elif time.monotonic() - self._said_at >= PROGRESS_INTERVAL_S or done == wanted:
            self._said_at = time.monotonic()
            print(said, file=sys.stderr, flush=True)


def clear() -> None:
    if sys.stderr.isatty():
        print("\r" + " " * 60 + "\r", end="", file=sys.stderr)


def one_line(result: Result) -> str:
    after_s = result.converged_after_s
    end = "never one" if after_s is None else f"one {after_s:g} s after the last fault"
    return (
        f"{result.scenario} in {result.world}, seed {result.seed}: {'held' if result.held else 'VIOLATED'}; "
        f"{result.acknowledged} writes acknowledged, {end}; trace {result.digest}; "
        f"{result.simulated_s:,.0f} s in {result.wall_s:.1f} s"
    )


def print_asked(results: Sequence[Result]) -> None:
    asked, sometimes = totals(results)
    print("checked: " + ", ".join(f"{name} {asked[name]}" for name in sorted(asked, key=lambda name: int(name[1:]))))
    for line in sorted(
        {f"NOT WANTED, so nothing is said of it: {', '.join(row)}" for row in map(unwanted, results) if row}
    ):
        print(line)
    print("reached: " + ", ".join(f"{name} {count}" for name, count in sorted(sometimes.items())))
    known = sum((Counter(result.known) for result in results), Counter[str]())
    for hole in sorted({name.split()[0] for name in known}):
        times = ", ".join(
            f"{name.split()[1]} {count}" for name, count in sorted(known.items()) if name.startswith(hole)
        )
        seeds = sum(any(name.startswith(hole) for name in result.known) for result in results)
        print(f"DOES NOT HOLD YET ({hole}, in {seeds} of {len(results)} seeds; {times}): {HOLES[hole]}")


def print_failure(result: Result, scenario: str, results: Path) -> None:
    """Of a seed of a scenario."""
    print_violations(result)
    command = f"run {shlex.quote(scenario)} --world {result.world} --seed {result.seed}"
    if "crypto" in result.options and result.world == "protocol":
        command += f" --crypto {result.options['crypto']}"
    print(f"  see it again: python -m simulations {command}")
    if result.has_run:
        print_replay(results / "failures" / f"{result.scenario}-{result.world}-{result.seed}.json")


def print_replay(saved: Path) -> None:
    print(f"  with this plan: python -m simulations replay {shlex.quote(str(saved))}")


def print_violations(result: Result) -> None:
    print(one_line(result))
    for invariant, node, what in result.violations:
        print(f"  {invariant} {node or 'mesh'}: {what}")
    print(f"  drawn: {json.dumps(result.options)}")
    for name, lines in result.last.items():
        print(f"  last events at {name or 'the mesh'}:")
        for line in lines:
            print(f"    {line[:160]}")
