"""What was dropped is deleted in slices by the loop: all while it is idle, one between two commits, none at a stop."""

from __future__ import annotations

import trio
import trio.testing
from one_process import Daemon, make_network, running


class Slices:
    """Stands in for a store with so many slices to delete; notes how many commits there were at each."""

    def __init__(self, daemon: Daemon, left: int) -> None:
        self.left = left
        self.commits_at: list[int] = []
        self._daemon = daemon
        daemon.store.tidy_due, daemon.store.tidy = self.due, self.tidy  # type: ignore[method-assign] - the fake

    def due(self) -> bool:
        return self.left > 0

    def tidy(self) -> None:
        self.left -= 1
        self.commits_at.append(self._daemon.store._commits)


async def test_slices_go_on_without_any_commit(autojump_clock: trio.testing.MockClock) -> None:
    be = Daemon(make_network(), "BE")
    async with running(be):
        await be.open()
        slices = Slices(be, 20)
        be.loop.tidy_soon()
        await trio.sleep(1.0)
        assert slices.left == 0
        assert len(set(slices.commits_at)) == 1


async def test_a_commit_waits_for_one_slice_at_most(autojump_clock: trio.testing.MockClock) -> None:
    be = Daemon(make_network(), "BE")
    async with running(be):
        incident = await be.open()
        slices = Slices(be, 1_000_000)
        for number in range(5):
            await be.log(incident, f"entry {number}")
        assert len(set(slices.commits_at)) >= 4  # between any two of the five commits
        await be.stop()
        assert slices.left > 0  # the rest is deleted after the next start
    assert be.texts(incident) == [f"entry {number}" for number in range(5)]
