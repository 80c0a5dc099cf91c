"""Runs the benchmarks: ``python -m simulations.benchmarks [--only NAME] [--quick] [--runs N] [--output FILE]``."""

from __future__ import annotations

import argparse
import contextlib
import dataclasses
import json
import os
import shutil
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from meshnode.errors import MeshnodeError
from simulations.benchmarks import machine, resting, serving, spreading, syncing
from simulations.benchmarks.figures import Measurement, Row, summarise, table
from simulations.benchmarks.place import FULL, QUICK, TINY, Place, Sizes
from simulations.mesh import MeshError

Benchmark = Callable[[Place], Iterator[list[Measurement]]]

BENCHMARKS: dict[str, Benchmark] = {
    "spread": spreading.spread,
    "catch-up": syncing.catch_up,
    "difference": syncing.difference,
    "write": serving.write,
    "query": serving.query,
    "start": syncing.start,
    "rest": resting.rest,
}
BUILD = Path("build")


def measure(names: Sequence[str], sizes: Sizes, directory: Path) -> tuple[list[Row], dict[str, str]]:
    """Runs these benchmarks in a directory, which must be on the disk in question.

    Returns the rows, and why for each that failed: what it had measured until then is in the rows all the same.
    """
    place = Place(directory, sizes)
    rows: list[Row] = []
    failed: dict[str, str] = {}
    for name in names:
        begin = time.monotonic()
        runs: list[list[Measurement]] = []
        try:
            for run in BENCHMARKS[name](place):
                runs.append(run)  # one at a time: the next may fail
        except (MeshError, MeshnodeError, RuntimeError, OSError) as error:
            failed[name] = f"{type(error).__name__}: {error}"
        except KeyboardInterrupt:
            failed.update(dict.fromkeys(names[names.index(name) :], "interrupted"))
        rows += summarise(runs, judge=is_full(sizes))
        _say(f"{name}: {time.monotonic() - begin:.0f} s{', FAILED: ' + failed[name] if name in failed else ''}")
        if failed.get(names[-1]) == "interrupted":
            break
    return rows, failed


def is_full(sizes: Sizes) -> bool:
    return sizes == dataclasses.replace(FULL, runs=sizes.runs)


def main(arguments: Sequence[str] | None = None) -> int:
    given = _parser().parse_args(arguments)
    sizes = TINY if given.tiny else QUICK if given.quick else FULL
    if given.runs is not None:
        sizes = dataclasses.replace(sizes, runs=given.runs)
    BUILD.mkdir(exist_ok=True)
    described = machine.describe(BUILD)
    with _directory(given.directory, given.keep) as directory:
        rows, failed = measure(given.only or list(BENCHMARKS), sizes, directory)
    result = {
        "machine": described,
        "time": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
        "load_average_after": os.getloadavg()[0],
        "sizes": dataclasses.asdict(sizes),
        "full": is_full(sizes),
        "failed": failed,
        "figures": [row.plain() for row in rows],
    }
    given.output.parent.mkdir(parents=True, exist_ok=True)
    given.output.write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")
    print(", ".join(f"{name} {value}" for name, value in described.items()))
    if not result["full"]:
        print("Small sizes: these figures show that the benchmarks work; aims are judged at full sizes only.")
    print(table(rows))
    _say(f"written to {given.output}")
    return 1 if failed else 0


@contextlib.contextmanager
def _directory(given: Path | None, keep: bool) -> Iterator[Path]:
    """A short path: the name of a Unix socket has at most 107 bytes."""
    directory = Path(tempfile.mkdtemp(prefix="bench-", dir=given or BUILD)).resolve()
    try:
        yield directory
    finally:
        if keep:
            _say(f"kept {directory}")
        else:
            shutil.rmtree(directory, ignore_errors=True)


def _say(line: str) -> None:
    print(line, file=sys.stderr, flush=True)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m simulations.benchmarks", description="Benchmarks of real daemons.")
    parser.add_argument("--only", action="append", choices=sorted(BENCHMARKS), help="this one; may be given again")
    size = parser.add_mutually_exclusive_group()
    size.add_argument("--quick", action="store_true", help="small sizes, one run: a look, not a result")
    size.add_argument("--tiny", action="store_true", help="as small as can be: do the benchmarks work at all")
    parser.add_argument("--runs", type=int, help="runs of each benchmark whose medians are shown")
    parser.add_argument("--output", type=Path, default=BUILD / "benchmarks.json", help="where the JSON goes")
    parser.add_argument("--directory", type=Path, help="put the stores on this disk instead of build/")
    parser.add_argument("--keep", action="store_true", help="leave stores and logs for a look")
    return parser


if __name__ == "__main__":
    sys.exit(main())
