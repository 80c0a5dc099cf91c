"""Worker processes of a sweep. Each runs one seed at a time, so when one dies it is known which seed it had.

A process that dies (killed by hand, for want of memory, by a fault of a library) costs that one seed: it is recorded as
a failure of the harness, and another process goes on with the next. One that is recorded does not stop a resume.
"""

from __future__ import annotations

import multiprocessing
import signal
from collections.abc import Callable, Iterator
from contextlib import suppress
from itertools import islice
from multiprocessing.connection import Connection, wait
from pathlib import Path

from simulations.runs import Result
from simulations.worlds.contract import WorldUnavailableError

Attempt = Callable[[Path, str, int], Result]
"""(scenario, world, seed): runs on a worker."""
Died = Callable[[int, str], Result]
"""(seed, how its process ended) to what is recorded of it."""


def run(
    attempt: Attempt, died: Died, scenario: Path, world: str, missing: Iterator[int], workers: int
) -> Iterator[Result]:
    """Results as they come. Ctrl-C ends it after the seeds that are under way. Raises WorldUnavailableError."""
    idle: list[_Worker] = []
    busy: dict[Connection, _Worker] = {}
    try:
        while True:
            for seed in islice(missing, workers - len(busy)):
                worker = (
                    idle.pop() if idle and idle[-1].begin(seed) else _begun(_Worker(attempt, scenario, world), seed)
                )
                busy[worker.connection] = worker
            if not busy:
                return
            for connection in [found for found in wait(list(busy)) if isinstance(found, Connection)]:
                worker = busy.pop(connection)
                result = worker.result()
                if result is not None:
                    idle.append(worker)
                yield result or died(worker.seed, worker.ended())
    except KeyboardInterrupt:
        # Seeds under way are finished and kept. One whose process dies now is not: it is run again.
        for connection, worker in list(busy.items()):
            result = worker.result()
            if result is not None:
                idle.append(busy.pop(connection))
                yield result
    finally:
        for worker in idle:
            worker.stop()
        for worker in busy.values():
            worker.kill()


def _begun(worker: _Worker, seed: int) -> _Worker:
    worker.begin(seed)
    return worker


class _Worker:
    def __init__(self, attempt: Attempt, scenario: Path, world: str) -> None:
        self.connection, there = multiprocessing.Pipe()
        self.seed = 0
        self._process = multiprocessing.Process(
            target=_work, args=(self.connection, there, attempt, scenario, world), daemon=True
        )
        # Ctrl-C goes to everybody at a terminal; it must not meet a worker that does not ignore it yet.
        signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
        try:
            self._process.start()
        finally:
            signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGINT})
        there.close()

    def begin(self, seed: int) -> bool:
        """False when the process died while it had nothing to do."""
        self.seed = seed
        try:
            self.connection.send(seed)
        except OSError:
            return False
        return True

    def result(self) -> Result | None:
        """Waits for it. None when the process died first."""
        try:
            answer: Result | WorldUnavailableError = self.connection.recv()
        except (EOFError, ConnectionResetError):
            return None
        if isinstance(answer, WorldUnavailableError):
            raise answer
        return answer

    def ended(self) -> str:
        """How the process ended, in words."""
        self.stop()
        code = self._process.exitcode or 0
        return f"killed by {signal.Signals(-code).name}" if code < 0 else f"ended with exit code {code}"

    def stop(self) -> None:
        """Of one that has nothing to do."""
        with suppress(OSError):
            self.connection.send(None)
        self._process.join()
        self.connection.close()

    def kill(self) -> None:
        self._process.terminate()
        self.stop()


def _work(theirs: Connection, connection: Connection, attempt: Attempt, scenario: Path, world: str) -> None:
    theirs.close()  # else the end of the sweep's own process would never be seen here
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGINT})
    while True:
        try:
            seed = connection.recv()
        except EOFError:
            return
        if seed is None:
            return
        try:
            answer: Result | WorldUnavailableError = attempt(scenario, world, seed)
        except WorldUnavailableError as error:
            answer = error
        connection.send(answer)
