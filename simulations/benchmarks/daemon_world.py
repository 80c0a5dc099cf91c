"""``python -m simulations.benchmarks.daemon_world``: how fast the world ``daemon`` is, beside a bare trio mock clock.

Both run in turn, in this process, and are told as simulated seconds in a second of CPU. Machines differ and are shared,
so the number to compare is the ratio. The yardstick is the same mesh of toy nodes: one task each, the same number of
messages, each of which takes as long on its way and is looked up in a dictionary when it comes, and nothing else: no
content, no links, no disk, no clients.
"""

from __future__ import annotations

import argparse
import heapq
import statistics
import time
from collections.abc import Sequence
from dataclasses import replace
from random import Random
from typing import NamedTuple

import trio
import trio.testing

from simulations.checks.judge import judge
from simulations.scenario.draw import draw
from simulations.scenario.plan import Plan
from simulations.scenario.reader import parse
from simulations.worlds.daemon import DaemonWorld

AIM_PER_CPU_S = 15.0
LATENCY_S = 0.01
COMMIT_S = (0.001, 0.01)
"""A disk of today; by the plan's luck a commit may take 5 s, and then little happens."""
MESH = """
title = "A mesh to be timed"
story = "Control rooms that write, and nothing goes wrong."
duration_s = {duration_s}
[[group]]
name = "nocs"
count = {nodes}
[links]
latency_ms = 10
[[incident]]
name = "hunt"
by = "NO1"
at_s = 5
[workload]
writes_per_s = 1
"""


class Speed(NamedTuple):
    """Of one run."""

    simulated_s: float
    cpu_s: float
    events: int

    @property
    def per_cpu_s(self) -> float:
        return self.simulated_s / self.cpu_s


def make_plan(nodes: int, duration_s: float) -> Plan:
    plan = draw(parse(MESH.format(nodes=nodes, duration_s=duration_s), "daemon-world"), 1)
    return replace(plan, options=replace(plan.options, commit_s=COMMIT_S))


def time_world(plan: Plan) -> Speed:
    """Raises RuntimeError when it does not hold: then it is not what is meant to be timed."""
    begin = time.process_time()
    outcome = DaemonWorld().run(plan)
    cpu_s = time.process_time() - begin
    violations = judge(outcome).violations
    if violations or outcome.converged_after_s is None:
        raise RuntimeError(f"the mesh does not hold: {violations}")
    return Speed(plan.duration_s + outcome.converged_after_s, cpu_s, outcome.events)


class Toy:
    """A node of the yardstick: sends so many messages a second to others, and remembers those that come."""

    def __init__(self, rng: Random, others: list[Toy], interval_s: float) -> None:
        self._rng = rng
        self._others = others
        self._interval_s = interval_s
        self._due: list[tuple[float, int]] = []
        self._wake = trio.Event()
        self.seen: dict[int, float] = {}

    def take(self, at_s: float, number: int) -> None:
        heapq.heappush(self._due, (at_s, number))
        self._wake.set()

    async def run(self, end_s: float) -> None:
        next_s = self._rng.random() * self._interval_s
        while True:
            now_s = trio.current_time()
            while self._due and self._due[0][0] <= now_s:
                _, number = heapq.heappop(self._due)
                self.seen[number] = now_s
            if next_s <= now_s:
                next_s += self._interval_s
                self._rng.choice(self._others).take(now_s + LATENCY_S, self._rng.getrandbits(64))
            if now_s >= end_s:
                return
            self._wake = trio.Event()
            with trio.move_on_at(min(next_s, self._due[0][0]) if self._due else next_s):
                await self._wake.wait()


def time_toys(nodes: int, simulated_s: float, events: int) -> Speed:
    async def perform() -> None:
        toys: list[Toy] = []
        interval_s = nodes * simulated_s / events
        toys += [Toy(Random(number), toys, interval_s) for number in range(nodes)]
        async with trio.open_nursery() as nursery:
            for toy in toys:
                nursery.start_soon(toy.run, simulated_s)

    begin = time.process_time()
    trio.run(perform, clock=trio.testing.MockClock(autojump_threshold=0))
    return Speed(simulated_s, time.process_time() - begin, events)


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser("python -m simulations.benchmarks.daemon_world", description=__doc__)
    parser.add_argument("--nodes", type=int, nargs="*", default=[3, 10, 20], help="sizes of the mesh (default 3 10 20)")
    parser.add_argument("--seconds", type=float, default=120.0, help="of virtual time (default 120)")
    parser.add_argument("--runs", type=int, default=3, help="of each, in turn; medians are shown (default 3)")
    given = parser.parse_args(arguments)
    print(f"{'nodes':>5} {'events/s':>10} {'world':>8} {'toys':>8} {'ratio':>7}   simulated seconds in a CPU second")
    for nodes in given.nodes:
        worlds, toys = [], []
        for _ in range(given.runs):
            world = time_world(make_plan(nodes, given.seconds))
            worlds.append(world.per_cpu_s)
            toys.append(time_toys(nodes, world.simulated_s, world.events).per_cpu_s)
        ratio = statistics.median(toy / one for one, toy in zip(worlds, toys, strict=True))
        print(
            f"{nodes:5} {world.events / world.simulated_s:10.0f} {statistics.median(worlds):8.1f} "
            f"{statistics.median(toys):8.1f} {ratio:7.1f}" + (f"   aim {AIM_PER_CPU_S:g}" if nodes == 10 else ""),
            flush=True,
        )


if __name__ == "__main__":
    main()
