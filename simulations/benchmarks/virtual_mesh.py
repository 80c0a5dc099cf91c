"""How quick the protocol world is: meshes of growing size, beside a bare heap loop that moves toy messages.

Two shapes. ``full`` is what the aim for 30 nodes speaks of: all linked with all, one incident that all are members of.
``random`` grows to 1,000 nodes: everybody has eight links on average, a tenth are relays, there is an incident of
at most twenty members for each fifty nodes, and anti-entropy runs every 30 s. In both, one change is written each
second in the whole mesh, always by a member, once everybody is linked and every incident was opened; so each row says
what the start cost and what came after.

The toy is the same mesh without a node in it: on the same links the same writes are flooded, what is known is dropped,
and each link carries two summaries in ten seconds. It does no work but the heap's and a look into a dictionary, so the
ratio of events is what a real node costs.
"""

from __future__ import annotations

import dataclasses
import heapq
import multiprocessing
import os
import time
from collections import Counter
from random import Random
from typing import NamedTuple

from simulations.benchmarks import machine
from simulations.checks.judge import judge
from simulations.scenario.draw import draw
from simulations.scenario.plan import Action, Open, Options, Plan, Write
from simulations.scenario.reader import parse
from simulations.worlds.protocol import Run
from simulations.worlds.shared import sharing

SHAPES = ("full", "random")
NODES_MIN = 3
DEGREE = 8
MEMBERS_MAX = 20
NODES_OF_AN_INCIDENT = 50
OPEN_S = 60.0
"""By then rosters are the same everywhere, also with 1,000 nodes."""
START_S = 90.0
"""Everything before is the start."""
ANTI_ENTROPY_S = 30
"""In the random shape: three times the interval that a node has by itself."""
KINDS = ("set", "log", "add", "create")
COMMIT_S = (0.0005, 0.005)
GATHER_S = 0.001
"""A disk with flash and a quick machine: the second of the four that seeds draw."""
SUMMARY_S = 10.0


class Measure(NamedTuple):
    """One mesh, measured in a process of its own."""

    shape: str
    nodes: int
    links: int
    crypto: str
    simulated_s: float
    cpu_s: float
    start_cpu_s: float
    """Of it, until START_S of virtual time."""
    events: int
    mib: float
    written: int
    """Writes that were acknowledged, of one each second after the start."""
    held: bool
    """Every check held, and all were one at the end."""
    toy_events_per_s: float
    toy_simulated_per_s: float

    @property
    def simulated_per_s(self) -> float:
        return self.simulated_s / self.cpu_s

    @property
    def settled_per_s(self) -> float:
        """Simulated seconds in a CPU second, once the mesh has started."""
        return (self.simulated_s - START_S) / (self.cpu_s - self.start_cpu_s)

    @property
    def events_per_s(self) -> float:
        return self.events / self.cpu_s


def plan_of(shape: str, nodes: int, seconds: float, crypto: str) -> Plan:
    """The mesh, with writes by members alone. Raises ValueError for what makes no mesh."""
    if seconds <= START_S:
        raise ValueError(f"a mesh starts for {START_S:g} s: measure more than these")
    relays = nodes // 10 if shape == "random" else 0
    names = [f"NO{number}" for number in range(1, nodes - relays + 1)]
    often = f"anti_entropy_interval_s = {ANTI_ENTROPY_S}\n" if shape == "random" else ""
    size = len(names) if shape == "full" else min(MEMBERS_MAX, len(names))
    count = 1 if shape == "full" else max(1, nodes // NODES_OF_AN_INCIDENT)
    of = [[names[(number * size + place) % len(names)] for place in range(size)] for number in range(count)]
    text = [
        f'title = "{shape}"\nstory = "Measured."\nduration_s = {seconds}\n[workload]\nwrites_per_s = 0\n',
        f'[topology]\nshape = "{shape}"\n[node]\nredial_max_s = 600\n{often}',
        f'[[group]]\nname = "nocs"\ncount = {len(names)}\n',
        f'[[group]]\nname = "stores"\nrole = "relay"\ncount = {relays}\n' if relays else "",
        "[checks]\nqueue_frames_max = 10000000\nmemory_rows_max = 100000000\n",
        *(
            f'[[incident]]\nname = "i{number}"\nby = "{members[0]}"\nat_s = {OPEN_S + number / count * 10}\n'
            f"members = [{', '.join(map(_quoted, members))}]\n"
            for number, members in enumerate(of)
        ),
    ]
    plan = draw(parse("".join(text), f"{shape}-{nodes}"), 1)
    rng = Random(f"writes of {nodes}")
    first = len(plan.actions) + 1
    writes = []
    for second in range(int(START_S), int(seconds)):
        number = rng.randrange(count)
        node, kind = rng.choice(of[number]), rng.choice(KINDS)
        writes.append(Write(first + second, second + rng.random(), node, f"i{number}", kind, 60))
    opens: list[Action] = [action for action in plan.actions if isinstance(action, Open)]
    options = Options(commit_s=COMMIT_S, gather_s=GATHER_S, crypto=crypto)
    actions = tuple(sorted([*opens, *writes], key=lambda action: action.at_s))
    return dataclasses.replace(plan, options=options, actions=actions)


def _quoted(name: str) -> str:
    return f'"{name}"'


def measure(shape: str, nodes: int, seconds: float, crypto: str) -> Measure:
    """In a fresh process, so that the memory is this mesh's alone."""
    context = multiprocessing.get_context("spawn")
    with context.Pool(1) as pool:
        return pool.apply(measure_here, (shape, nodes, seconds, crypto))


def measure_here(shape: str, nodes: int, seconds: float, crypto: str) -> Measure:
    plan = plan_of(shape, nodes, seconds, crypto)
    writes = {action.number for action in plan.actions if isinstance(action, Write)}
    toy_seconds = min(seconds, START_S + 100)
    begin = time.process_time()
    toy_events = toy(plan, toy_seconds)
    toy_s = time.process_time() - begin
    started: list[float] = []
    begin = time.process_time()
    with sharing(crypto):
        run = Run(plan)
        run.clock.at(START_S, lambda: started.append(time.process_time() - begin))
        outcome = run.perform()
    cpu_s = time.process_time() - begin
    return Measure(
        shape=shape,
        nodes=nodes,
        links=len(plan.reach),
        crypto=crypto,
        simulated_s=seconds + (outcome.converged_after_s or plan.converge_within_s),
        cpu_s=cpu_s,
        start_cpu_s=started[0],
        events=outcome.events,
        mib=machine.peak_memory_mib(os.getpid()),
        written=sum(row.number in writes for row in outcome.acknowledged),
        held=judge(outcome).held,
        toy_events_per_s=toy_events / toy_s,
        toy_simulated_per_s=toy_seconds / toy_s,
    )


def toy(plan: Plan, seconds: float) -> int:
    """The heap alone. How many events it had."""
    neighbours: dict[str, list[str]] = {spec.name: [] for spec in plan.nodes}
    for a, b in plan.reach:
        neighbours[a].append(b)
        neighbours[b].append(a)
    rng = Random("toy")
    known: dict[str, set[int]] = {name: set() for name in neighbours}
    summaries: Counter[str] = Counter()
    heap: list[tuple[float, int, str, str, int]] = []
    order = events = 0
    for action in plan.actions:
        if isinstance(action, Write) and action.at_s < seconds:
            heap.append((action.at_s, order := order + 1, action.node, "", action.number))
    for name, others in neighbours.items():
        heap.extend((rng.random() * SUMMARY_S, order := order + 1, name, other, 0) for other in others)
    heapq.heapify(heap)
    while heap and heap[0][0] <= seconds:
        now, _, name, source, number = heapq.heappop(heap)
        events += 1
        if number < 0:
            summaries[name] += 1
        elif number == 0:
            heapq.heappush(heap, (now + 0.01, order := order + 1, source, name, -1))
            heapq.heappush(heap, (now + SUMMARY_S * rng.uniform(0.75, 1.25), order := order + 1, name, source, 0))
        elif number not in known[name]:
            known[name].add(number)
            for other in neighbours[name]:
                if other != source:
                    heapq.heappush(heap, (now + 0.01, order := order + 1, other, name, number))
    return events


def table(rows: list[Measure]) -> str:
    """For people: figures of one machine, and the ratio to the toy, which can be compared between machines."""
    titles = (
        *("shape", "nodes", "links", "signatures", "simulated s", "CPU s", "of it start", "events", "events/CPU s"),
        *("simulated s/CPU s", "after the start", "MiB", "toy events/CPU s", "toy/node", "writes", "held"),
    )
    cells = [
        [
            *(
                row.shape,
                f"{row.nodes:,}",
                f"{row.links:,}",
                row.crypto,
                f"{row.simulated_s:,.0f}",
                f"{row.cpu_s:,.1f}",
            ),
            *(f"{row.start_cpu_s:,.1f}", f"{row.events:,}", f"{row.events_per_s:,.0f}", f"{row.simulated_per_s:,.1f}"),
            *(f"{row.settled_per_s:,.1f}", f"{row.mib:,.0f}", f"{row.toy_events_per_s:,.0f}"),
            *(f"{row.toy_events_per_s / row.events_per_s:,.0f}", f"{row.written}", "yes" if row.held else "NO"),
        ]
        for row in rows
    ]
    widths = [max(map(len, column)) for column in zip(titles, *cells, strict=True)]
    return "\n".join(
        "  ".join(cell.rjust(width) for cell, width in zip(line, widths, strict=True)) for line in [titles, *cells]
    )
