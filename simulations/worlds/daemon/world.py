"""The ``daemon`` world: real daemons in one process, under trio's mock clock, which jumps whenever all of them wait.

It is for what the protocol world has none of: cancellation at any checkpoint, back-pressure, shutdown, clients at real
sockets, the order in which rooms get their turn. That order is drawn by the seed (``order``).
"""

from __future__ import annotations

import shutil
import tempfile
import time
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from random import Random

import trio
import trio.testing

from simulations.scenario.plan import Action, Heal, LinkFault, NodeFault, Open, Plan, ShareWith, Write
from simulations.worlds.clockwork import Trace
from simulations.worlds.contract import Outcome, Sighting, WorldUnavailableError
from simulations.worlds.daemon.clients import Clients
from simulations.worlds.daemon.host import SLOW_START_S, Host, Parts
from simulations.worlds.daemon.looking import Looking
from simulations.worlds.daemon.network import PlanNetwork
from simulations.worlds.daemon.order import seeded_order
from simulations.worlds.daemon.rough import Rough
from simulations.worlds.disk import Disk
from simulations.worlds.ends import is_one, look, sample
from simulations.worlds.membership import excuse_lost
from simulations.worlds.timeline import Timeline

POLL_S = 1.0
CATCH_UP_S = 5.0
"""What followers get after the end to read their streams out: less than a heartbeat, which would wake them anyway."""
CRASH_WAIT_S = 1.0
"""At most so much later than planned comes a crash that waits for the disk to be at work."""
TASK_ROUNDS_MAX = 20
SLOW_CHANCE = 0.3
SLOW_S = (4.0, 5.0)
"""Of a seed, that one node's disk is so much slower than its peers' write (P8, D12)."""
STOP_WHILE_STARTING_CHANCE = 0.2
NODE_SECONDS_MAX = 100_000.0
"""Nodes times virtual seconds of a plan: some ten minutes of a core. Longer stories are for the protocol world."""
SETTLED_WITHIN_S = 60.0
"""A start or a stop on the slowest disk takes less."""


@dataclass(slots=True)
class DaemonWorld:
    """``parts`` are what daemons are built of: other ones plant a defect. ``slow`` are nodes whose disk takes another
    time than the plan says (P8, D12): from, to, in seconds; without it the seed draws one, or none."""

    parts: Parts = field(default_factory=Parts)
    slow: dict[str, tuple[float, float]] | None = None
    timeline: bool = False
    """What is to be seen meanwhile is written down."""
    name: str = "daemon"

    def run(self, plan: Plan) -> Outcome:
        """Raises WorldUnavailableError for a plan that would take hours."""
        node_s = len(plan.nodes) * plan.duration_s
        if node_s > NODE_SECONDS_MAX:
            what = f"{len(plan.nodes)} nodes for {plan.duration_s:,.0f} s"
            action = f"at most {NODE_SECONDS_MAX:,.0f} s of nodes together here, or use the world protocol"
            raise WorldUnavailableError(f"daemon-too-long: {what} of real daemons; {action}")
        begin_s = time.perf_counter()
        directory = Path(tempfile.mkdtemp(prefix="mn-"))
        try:
            run = Run(plan, directory, self.parts, _draw_slow(plan) if self.slow is None else self.slow)
            looking = [run.look_on()] if self.timeline else []
            with seeded_order(plan.seed):
                trio.run(run.perform, clock=trio.testing.MockClock(autojump_threshold=0), instruments=looking)
        finally:
            shutil.rmtree(directory)
        run.outcome.wall_s = time.perf_counter() - begin_s
        return run.outcome


class Run:
    """One plan, performed once."""

    def __init__(self, plan: Plan, directory: Path, parts: Parts, slow: dict[str, tuple[float, float]]) -> None:
        self.plan = plan
        self.outcome = Outcome("daemon", plan)
        self.trace = Trace()
        self._rng = Random(f"world {plan.scenario} {plan.seed}")
        self.network = PlanNetwork(plan)
        self.hosts = {
            spec.name: Host(
                plan,
                spec,
                f"{directory}/{number}",
                self.network,
                self.trace,
                self._sight,
                parts,
                slow.get(spec.name, plan.options.commit_s),
            )
            for number, spec in enumerate(plan.nodes)
        }
        self.clients = Clients(self.outcome, self.hosts, self.trace)
        self.rough = Rough(self.outcome, self.trace)
        self._lives: trio.Nursery
        self._backups: dict[tuple[str, float], Disk] = {}

    def look_on(self) -> Looking:
        """Whoever runs the plan hands it to trio."""
        seen = self.outcome.timeline = Timeline()

        def look_at_all(now_s: float) -> None:
            sent: Counter[str] = Counter()
            for (_, kind), (_, size) in self.network.sent.items():
                sent[kind] += size
            sample(seen, now_s, list(self.hosts.values()), dict(sorted(sent.items())))

        return Looking(self.plan, seen, self.hosts.values(), look_at_all)

    # --- the two phases -------------------------------------------------------------------------------------------

    async def perform(self) -> None:
        async with trio.open_nursery() as self._lives:
            for host in self.hosts.values():
                self._lives.start_soon(self._start_at, self._rng.random(), host)
                self._lives.start_soon(self.clients.follow, host)
                self._lives.start_soon(self.clients.read, host)
            async with trio.open_nursery() as faults:
                for action in self.plan.actions:
                    nursery = faults if isinstance(action, (LinkFault, Heal, NodeFault)) else self._lives
                    nursery.start_soon(self._act, action)
                for host in self.hosts.values():
                    faults.start_soon(self.rough.trouble, host)
                await trio.sleep_until(self.plan.duration_s)
                faults.cancel_scope.cancel()
            await self._end_faults()
            await self._await_convergence()
            await self._let_followers_finish()
            self._finish()
            self._lives.cancel_scope.cancel()

    async def _act(self, action: Action) -> None:
        match action:
            case LinkFault():
                await trio.sleep_until(action.at_s)
                await self._link_fault(action)
            case Heal():
                await trio.sleep_until(action.at_s)
                self.trace.note(action.at_s, "", "heal", action.number)
                self.network.heal_some(action)
            case NodeFault():
                await self._node_fault(action)
            case Open() | ShareWith() | Write():
                await trio.sleep_until(action.at_s)
                await self.clients.ask(action)

    async def _end_faults(self) -> None:
        self.trace.note(trio.current_time(), "", "faults end")
        self.network.heal_all()
        for host in self.hosts.values():
            host.disk.full = False
            host.skew_s = host.drift = 0.0
            if host.paused:
                host.resume()
        for host in self.hosts.values():
            if host.name in self.plan.core and not host.for_good:
                await self._settled(host)
                await self._start(host)

    async def _await_convergence(self) -> None:
        begin_s = trio.current_time()
        core = [host for host in self.hosts.values() if host.name in self.plan.core]
        while trio.current_time() < begin_s + self.plan.converge_within_s:
            await trio.sleep(POLL_S)
            hosts = [host for host in core if not host.for_good]
            if not self.clients.waiting and is_one(hosts, self.outcome.members_due()):
                self.outcome.converged_after_s = trio.current_time() - begin_s
                return

    async def _let_followers_finish(self) -> None:
        """Every stream must tell what its node has made durable."""
        end_s = trio.current_time() + CATCH_UP_S
        for name, host in self.hosts.items():
            follower = self.clients.followers[name]
            while host.loop is not None and follower.number < host.loop.durable_journal:
                if trio.current_time() >= end_s:
                    self._sight("I3", name, f"the event stream stopped at {follower.number}")
                    break
                await trio.sleep(POLL_S)

    def _finish(self) -> None:
        outcome = self.outcome
        for number, name in sorted(self.clients.waiting.items()):
            self._sight("I6", name, f"request {number} was never answered")
        for host in self.hosts.values():
            for what in host.left_behind():
                self._sight("I7", host.name, f"still kept at the end: {what}")
            if host.reading is not None and host.queue.stage != "idle":
                outcome.sometimes["looked at while the disk was writing"] += 1
        look(outcome, list(self.hosts.values()))
        for end in outcome.ends:
            end.journal_gaps += self.clients.followers[end.name].gaps
        outcome.bytes_sent.update(self.network.bytes_sent)
        outcome.sent = {place: (frames, size) for place, (frames, size) in self.network.sent.items()}
        outcome.digest = self.trace.digest()
        outcome.last = self.trace.last()
        outcome.lines = outcome.events = self.trace.lines

    # --- lives ----------------------------------------------------------------------------------------------------

    async def _start_at(self, at_s: float, host: Host) -> None:
        await trio.sleep_until(at_s)
        await self._start(host)

    async def _start(self, host: Host) -> None:
        """Returns when it serves. Does nothing where it runs, or is lost for good."""
        if host.over.is_set() and not host.for_good:
            host.over = trio.Event()
            self._lives.start_soon(host.run)
            await self._settled(host)

    async def _settled(self, host: Host) -> None:
        """It serves, or it is over: neither about to start nor about to stop."""
        with trio.move_on_after(SETTLED_WITHIN_S):
            while not host.serving and not host.over.is_set():
                await host.changed.wait()

    # --- faults ---------------------------------------------------------------------------------------------------

    async def _link_fault(self, action: LinkFault) -> None:
        self.trace.note(trio.current_time(), "", "fault", action.number, action.effect)
        self.outcome.sometimes[f"fault: {action.effect}"] += 1
        self.network.begin(action)
        if action.until_s is not None:
            await trio.sleep_until(action.until_s)
            self.network.end(action)

    async def _node_fault(self, action: NodeFault) -> None:
        host = self.hosts[action.node]
        if action.verb == "restore-old-backup":
            await trio.sleep_until(action.backup_at_s)
            while not host.disk.is_clean():  # noqa: ASYNC110 - a store has no event for it
                await trio.sleep(0.001)
            self._backups[action.node, action.backup_at_s] = host.disk.copied()
        await trio.sleep_until(action.at_s)
        self.trace.note(trio.current_time(), host.name, "fault", action.number, action.verb)
        befall = {
            "crash": self._crash,
            "restart": self._restart,
            "pause": self._pause,
            "wipe": self._lose_disk,
            "restore-old-backup": self._lose_disk,
            "skew-clock": self._skew,
            "disk-full": self._disk_full,
        }.get(action.verb)
        if befall is None:
            self.outcome.sometimes[f"not done in this world: {action.verb}"] += 1
        elif host.for_good:
            self.outcome.sometimes["passed over: the node is lost for good"] += 1
        else:
            self.outcome.sometimes[f"fault: {action.verb}"] += 1
            await befall(host, action)

    async def _crash(self, host: Host, action: NodeFault) -> None:
        await self._bad_moment(host, action)
        host.for_good = action.for_good
        await host.kill()
        if action.until_s is not None:
            await trio.sleep_until(action.until_s)
            await self._start(host)

    async def _bad_moment(self, host: Host, action: NodeFault) -> None:
        """As planned, or while the disk is at work soon after; then so many more turns of all tasks."""
        rng = Random(f"{self.plan.scenario} {self.plan.seed} moment {action.number}")
        if rng.random() < 0.7:
            with trio.move_on_after(CRASH_WAIT_S):
                await host.queue.began.wait()
                await trio.sleep(rng.uniform(0, host.queue.job_s))
        for _ in range(rng.randrange(TASK_ROUNDS_MAX)):
            await trio.lowlevel.checkpoint()

    async def _restart(self, host: Host, action: NodeFault) -> None:
        rng = Random(f"{self.plan.scenario} {self.plan.seed} stop {action.number}")
        if not host.over.is_set():
            if host.paused:
                host.resume()
            await self._bad_moment(host, action)
            await host.stop()
            if rng.random() < STOP_WHILE_STARTING_CHANCE:
                life = host.life
                self._lives.start_soon(self._start, host)
                while host.life == life:
                    await trio.lowlevel.checkpoint()
                await trio.sleep(rng.choice((0.0, rng.random() * SLOW_START_S)))
                self.outcome.sometimes["stopped while it started"] += not host.serving
                await host.stop()
        await self._start(host)

    async def _pause(self, host: Host, action: NodeFault) -> None:
        if host.answers:
            host.pause()
            life = host.life
            await trio.sleep_until(action.until_s or trio.current_time())
            if host.life == life and host.paused:
                host.resume()

    async def _lose_disk(self, host: Host, action: NodeFault) -> None:
        """A wipe, or an old backup in place of what there was. What lay on that disk alone is lost, and excused."""
        await host.kill()
        backup = self._backups.get((action.node, action.backup_at_s))
        disk = Disk() if action.verb == "wipe" or backup is None else backup.copied()
        disks: dict[str, Disk] = {name: other.disk for name, other in self.hosts.items()}
        excuse_lost(self.outcome, host.name, disks, disk, action.verb)
        disk.full, host.disk = host.disk.full, disk
        self.clients.start_over(host.name)
        await self._start(host)

    async def _skew(self, host: Host, action: NodeFault) -> None:
        host.skew_s += action.skew_s
        host.drift, host.drift_from_s = action.drift, trio.current_time()
        if action.until_s is not None:
            await trio.sleep_until(action.until_s)
            host.skew_s = host.drift = 0.0

    async def _disk_full(self, host: Host, action: NodeFault) -> None:
        host.disk.full = True
        await trio.sleep_until(action.until_s or trio.current_time())
        host.disk.full = False

    # --- inside ---------------------------------------------------------------------------------------------------

    def _sight(self, invariant: str, node: str, what: str) -> None:
        self.outcome.sightings.append(Sighting(invariant, trio.current_time(), node, what))


def _draw_slow(plan: Plan) -> dict[str, tuple[float, float]]:
    rng = Random(f"slow disk {plan.seed}")
    return {rng.choice(plan.nodes).name: SLOW_S} if rng.random() < SLOW_CHANCE else {}
