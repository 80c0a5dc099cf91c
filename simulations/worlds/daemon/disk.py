"""The disk's queue of a daemon in virtual time."""

from __future__ import annotations

from collections.abc import Callable
from random import Random

import trio


class DiskQueue:
    """``meshnode.daemon.disk.Disk`` without a thread: each job takes as long as the plan drew.

    As with the thread, a job that has begun is not cancelled by anything but the end of the process (:meth:`die`); that
    comes before or after the bytes have reached the disk, by chance.
    """

    def __init__(self, rng: Random, seconds: tuple[float, float], on_written: Callable[[], None]) -> None:
        """``on_written`` is called when a job is over: then most is waiting for the next."""
        self._on_written = on_written
        self._rng = rng
        self._seconds = seconds
        self._scope: trio.CancelScope | None = None
        self._dead = False
        self._released = trio.Event()
        self._released.set()
        self.began = trio.Event()
        """For whoever waits for a job to be under way."""
        self.stage = "idle"
        """``idle``, ``writing`` (nothing has reached the disk) or ``written`` (it has, and nobody was told yet)."""
        self.jobs = 0
        self.job_s = 0.0
        """What the job under way takes."""

    def hold(self) -> None:
        self._released = trio.Event()

    def release(self) -> None:
        self._released.set()

    def die(self) -> None:
        self._dead = True
        if self._scope is not None:
            self._scope.cancel()

    async def run(self, job: Callable[[], None]) -> None:
        seconds = self.job_s = self._rng.uniform(*self._seconds)
        before_s = seconds * self._rng.random()
        self.stage = "writing"
        self.began.set()
        self.began = trio.Event()
        try:
            with trio.CancelScope(shield=True) as self._scope:
                if self._dead:
                    self._scope.cancel()
                await trio.sleep(before_s)
                await self._released.wait()
                self.jobs += 1
                job()
                self.stage = "written"
                await trio.sleep(seconds - before_s)
                self._on_written()
        finally:
            if not self._dead:
                self.stage = "idle"
            self._scope = None
        if self._dead:
            await trio.sleep_forever()
