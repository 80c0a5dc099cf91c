"""Sweeps on a Dask cluster: the same seeds, the same results, on as many machines as there are.

::

    dask scheduler                                            # on one machine
    dask worker tcp://SCHEDULER:8786 --nthreads 1             # in this tree, on each, once for each core
    python -m simulations run everything-goes-wrong --seeds 1..100000 --dask tcp://SCHEDULER:8786

A worker is sent the scenario as text and a seed, and answers with the line that is kept of it; so it needs this tree at
the same state and nothing else. One with other code is refused: its results would be those of another node.

What the scheduler makes sure of: a seed whose worker dies is begun again on another one. What it does not, and is done
here: a seed that was under way on several workers that died is asked for again by name, a scheduler that has lost a
seed (a known fault of it) is asked again, and nobody is waited for in silence.
"""

from __future__ import annotations

import contextlib
import tempfile
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from simulations.runs import Result, code_digest, result_of_line
from simulations.sweep import attempt, harness_failed
from simulations.worlds.contract import WorldUnavailableError

INSTALL = "pip install 'meshnode[cluster]'"
AHEAD = 2
"""Seeds handed to each thread of the cluster before it asks, as on one machine."""
CONNECT_TIMEOUT_S = 20.0
POLL_S = 2.0
"""Between two looks at a cluster from which nothing comes."""
IDLE_POLLS_MAX = 5
"""Looks at a cluster that does nothing while seeds are wanted, before they are handed to it anew."""
DEATHS_MAX = 3
"""How often a seed that ended its workers is handed out again (each time after the scheduler's own attempts), before it
is recorded as a failure of the harness."""

_one_at_a_time = threading.Lock()
"""Worlds change things that a process has one of: a worker with several threads takes turns."""

Say = Callable[[str], None]


class ClusterError(WorldUnavailableError):
    """This cluster cannot run the sweep; says why, and what to do."""


def seed_there(name: str, text: str, world: str, seed: int, code: str) -> str:
    """Runs on a worker: one seed of this scenario. The line of its result; empty where the code is another."""
    if code_digest() != code:
        return ""
    with _one_at_a_time, tempfile.TemporaryDirectory() as directory:
        scenario = Path(directory) / name
        scenario.write_text(text, encoding="utf-8")
        line = attempt(scenario, world, seed).line
    print(f"simulations ran a seed: {name} {seed}", flush=True)
    return line


def run(scenario: Path, world: str, missing: Iterator[int], address: str, say: Say) -> Iterator[Result]:
    """Results as they come. Ctrl-C ends it after the seeds that are under way. Raises ClusterError."""
    try:
        import distributed
    except ModuleNotFoundError as error:
        raise ClusterError(f"--dask needs {error.name}, which is not installed: {INSTALL}") from None
    try:
        client = distributed.Client(address, timeout=CONNECT_TIMEOUT_S)
    except (OSError, ValueError) as error:
        raise ClusterError(f"no scheduler answers at {address}: {error}") from None
    with contextlib.closing(client):
        _refuse_other_code(client)
        yield from _Sweep(distributed, client, scenario, world, say).run(missing)


def _refuse_other_code(client: Any) -> None:
    """Every worker that is there is asked; one that comes later finds out by itself."""
    mine, found = code_digest(), client.run(_code_or_error)
    for worker, code in sorted(found.items()):
        if code != mine:
            raise ClusterError(_other_code(worker, code))


def _other_code(worker: str, code: str) -> str:
    return f"worker {worker} has other code ({code}) than this tree ({code_digest()}): give it this state of the tree"


def _code_or_error() -> str:
    """Runs on a worker."""
    try:
        from simulations.runs import code_digest as code_there
    except ImportError as error:
        return f"none: {error}"
    return code_there()


class _Sweep:
    def __init__(self, distributed: Any, client: Any, scenario: Path, world: str, say: Say) -> None:
        self._distributed = distributed
        self._client = client
        self._name, self._text = scenario.name, scenario.read_text(encoding="utf-8")
        self._world = world
        self._say = say
        self._seed_of: dict[Any, int] = {}
        """Future -> seed, of what was handed out."""
        self._times: dict[int, int] = {}
        """How often a seed was handed out again."""

    def run(self, missing: Iterator[int]) -> Iterator[Result]:
        try:
            yield from self._all(missing)
        except KeyboardInterrupt:
            yield from self._under_way()

    def _all(self, missing: Iterator[int]) -> Iterator[Result]:
        more, idle = True, 0
        while more or self._seed_of:
            room = AHEAD * max(1, sum(self._client.nthreads().values())) - len(self._seed_of)
            while more and room > 0:
                seed = next(missing, None)
                more, room = seed is not None, room - 1
                if seed is not None:
                    self._hand_out(seed)
            if not self._seed_of:
                return
            results = list(self._ended(POLL_S))
            idle = 0 if results or any(self._client.processing().values()) else idle + 1
            yield from results
            if idle >= IDLE_POLLS_MAX:
                idle = 0
                self._ask_again()

    def _hand_out(self, seed: int) -> None:
        arguments = (self._name, self._text, self._world, seed, code_digest())
        self._seed_of[self._client.submit(seed_there, *arguments, pure=False)] = seed

    def _ended(self, timeout_s: float) -> Iterator[Result]:
        """Results of seeds that ended; waits for one as long as that."""
        with contextlib.suppress(TimeoutError):
            self._distributed.wait(list(self._seed_of), timeout=timeout_s, return_when="FIRST_COMPLETED")
        for future in [future for future in self._seed_of if future.done()]:
            seed = self._seed_of.pop(future)
            try:
                line = future.result()
            except self._distributed.KilledWorker as error:
                yield from self._again(seed, f"workers that ran seed {seed} died: {error.last_worker}")
            except (OSError, self._distributed.CancelledError) as error:
                yield from self._again(seed, f"seed {seed} was lost: {error}")
            else:
                if not line:
                    self._refuse_worker(future)
                yield result_of_line(line)

    def _again(self, seed: int, why: str) -> Iterator[Result]:
        """It is handed out again; or given up, so that one seed does not stop the others."""
        times = self._times[seed] = self._times.get(seed, 0) + 1
        if times > DEATHS_MAX:
            yield harness_failed(Path(self._name), self._world, seed, f"{why}; it was handed out {times} times")
            return
        self._say(f"{why}; it is handed out again")
        self._hand_out(seed)

    def _refuse_worker(self, future: Any) -> None:
        """One that came after the others were asked."""
        found = self._client.run(_code_or_error)
        for worker, code in sorted(found.items()):
            if code != code_digest():
                raise ClusterError(_other_code(worker, code))
        raise ClusterError(f"a worker with other code answered {future.key}, and is gone")

    def _ask_again(self) -> None:
        """Nothing is done, and seeds are wanted."""
        if not self._client.nthreads():
            self._say("the cluster has no workers; waiting for one")
            return
        self._say(f"the cluster is idle and owes {len(self._seed_of)} seeds; they are handed out again")
        owed, self._seed_of = self._seed_of, {}
        self._client.cancel(list(owed))
        for seed in owed.values():
            self._hand_out(seed)

    def _under_way(self) -> Iterator[Result]:
        """After Ctrl-C: what has begun is finished and kept; the rest is not begun."""
        busy = {key for keys in self._client.processing().values() for key in keys}
        waiting = [future for future in self._seed_of if not future.done() and future.key not in busy]
        self._client.cancel(waiting)
        for future in waiting:
            del self._seed_of[future]
        self._say(f"stopping: {len(self._seed_of)} seeds under way are finished")
        while self._seed_of:
            yield from self._ended(POLL_S)
