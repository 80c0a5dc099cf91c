"""The one thread that waits for the disk.

``trio.to_thread`` takes a thread from a cache, names it and copies a context for every call: 0.16 ms of CPU here,
as much as the commit itself. One thread that lives as long as the daemon, with one job at a time, costs a fifth.
"""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable
from typing import Protocol

import outcome
import trio

Job = Callable[[], None]


class Disk(Protocol):
    """What the loop needs: a place where a blocking job may take its time."""

    async def run(self, job: Job) -> None:
        """Returns when the job has, or raises what it raised. Not cancellable: a commit either happens or fails."""


class DiskThread:
    """Runs blocking jobs of the store one after the other. Use as a context manager around the trio run's body."""

    def __init__(self) -> None:
        self._jobs: queue.SimpleQueue[tuple[Job, trio.lowlevel.Task] | None] = queue.SimpleQueue()
        self._token = trio.lowlevel.current_trio_token()
        self._thread = threading.Thread(target=self._work, name="meshnode-disk", daemon=True)

    def __enter__(self) -> DiskThread:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._jobs.put(None)
        self._thread.join()

    async def run(self, job: Job) -> None:
        """Returns when the job has, or raises what it raised. Not cancellable: a commit either happens or fails."""
        self._jobs.put((job, trio.lowlevel.current_task()))

        def refuse(_: object) -> trio.lowlevel.Abort:
            return trio.lowlevel.Abort.FAILED

        await trio.lowlevel.wait_task_rescheduled(refuse)

    def _work(self) -> None:
        while (item := self._jobs.get()) is not None:
            job, task = item
            result = outcome.capture(job)
            self._token.run_sync_soon(trio.lowlevel.reschedule, task, result)
