"""Sweeps: many seeds on all cores, which can be stopped and gone on with, and lose no finished seed.

Each finished seed is one line in a file named after scenario, world and code. A sweep that starts again reads it and
runs what is missing. Of every hundred seeds one is run a second time, in a process of its own with another hash seed,
and must give the same trace (I15); of every twenty-five one is run with other wall clocks, and must go the same way
(I13).
"""

from __future__ import annotations

import hashlib
import signal
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from pathlib import Path

from simulations import proofs
from simulations.runs import RESULTS, Result, code_digest, load_scenario, result_of_line, run_seed, save_failure
from simulations.scenario.draw import draw
from simulations.scenario.records import Scenario

AHEAD = 2
"""Seeds handed to each worker before it asks: a stop waits for no more than these."""
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


def finished(path: Path) -> dict[int, Result]:
    """Seed -> result, of every whole line. A line that a stop cut short does not count."""
    found: dict[int, Result] = {}
    if path.is_file():
        for line in path.read_text(encoding="utf-8").splitlines():
            try:
                result = result_of_line(line)
            except (ValueError, TypeError, KeyError):
                continue
            found[result.seed] = result
    return found


def on_this_machine(workers: int) -> Runner:
    return lambda scenario, world, missing: _run(scenario, world, missing, workers)


def sweep(
    scenario: Path, world: str, seeds: Iterable[int], runner: Runner, progress: Progress, directory: Path = RESULTS
) -> list[Result]:
    """The results of these seeds, in their order, as far as they are finished: all, or those before Ctrl-C."""
    path = results_file(scenario, world, directory)
    path.parent.mkdir(parents=True, exist_ok=True)
    wanted = list(dict.fromkeys(seeds))
    done = {seed: result for seed, result in finished(path).items() if seed in set(wanted)}
    missing = iter([seed for seed in wanted if seed not in done])
    with path.open("a", encoding="utf-8") as file:
        if file.tell() and not path.read_bytes().endswith(b"\n"):
            file.write("\n")
        for result in runner(scenario, world, missing):
            done[result.seed] = result
            file.write(result.line + "\n")
            file.flush()
            if not result.held:
                save_failure(draw(load_scenario(str(scenario)), result.seed), result, directory / "failures")
            progress(result, len(done), len(wanted))
    return [done[seed] for seed in wanted if seed in done]


def _run(scenario: Path, world: str, missing: Iterator[int], workers: int) -> Iterator[Result]:
    if workers == 1:
        try:
            for seed in missing:
                yield one_seed(scenario, world, seed)
        except KeyboardInterrupt:
            return
        return
    pool = ProcessPoolExecutor(workers, initializer=_ignore_interrupts)
    waiting: set[Future[Result]] = set()
    try:
        more = True
        while more or waiting:
            while more and len(waiting) < AHEAD * workers:
                following = next(missing, None)
                more = following is not None
                if following is not None:
                    waiting.add(pool.submit(one_seed, scenario, world, following))
            ended, waiting = wait(waiting, return_when=FIRST_COMPLETED)
            for future in ended:
                yield future.result()
    except KeyboardInterrupt:
        # Seeds under way are finished and kept; those not begun are not begun.
        under_way = [future for future in waiting if not future.cancel()]
        for future in under_way:
            yield future.result()
    finally:
        pool.shutdown(wait=True, cancel_futures=True)


def _ignore_interrupts() -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)


def one_seed(scenario: Path, world: str, seed: int) -> Result:
    """One seed, with the proofs that are due to it."""
    outcome, result = run_seed(load_scenario(str(scenario)), seed, world)
    plan = outcome.plan
    return proofs.proved(plan, result, proofs.due(plan, world), lambda: proofs.digest_of_seed(scenario, world, seed))


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
