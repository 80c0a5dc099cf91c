"""The first process of the lab's namespaces: builds machines and lines, performs the plan, looks at what is left.

Standard input begins with one line, the job; its end means that whoever asked is gone, and with this process the kernel
ends everything in the namespaces. The answer goes to standard output, pickled; progress to standard error.
"""

from __future__ import annotations

import heapq
import itertools
import json
import os
import pickle
import shutil
import subprocess
import sys
import threading
import time
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from random import Random

from meshnode.client import ApiError
from simulations.mesh import POLL_S, MeshError, tail
from simulations.scenario.plan import Heal, LinkFault, NodeFault, Plan, from_plain
from simulations.worlds import work
from simulations.worlds.contract import Outcome, Sighting
from simulations.worlds.lab import evidence
from simulations.worlds.lab.clients import Operator, Reader, Record, spread
from simulations.worlds.lab.looking import Looking
from simulations.worlds.lab.machines import CLONE, Machine, Machines
from simulations.worlds.lab.network import LabFaultError, Network, find_nft
from simulations.worlds.lab.state import Weather
from simulations.worlds.timeline import Timeline

LINKED_WITHIN_S = 10.0
"""From the start of the daemons until the plan's time begins, if links do not come sooner."""
CONVERGED_POLL_S = 0.25
CLOCK_SLACK_S = 5.0
"""Between asking a node for its time and looking at the clock."""
PROGRESS_S = 30.0
"""Between two words to whoever watches a long run in which nothing befalls anybody."""
CRASH_LINES = 12
"""Of a machine's log, kept for the report."""


class Lab:
    def __init__(self, plan: Plan, directory: Path, defect: str = "", timeline: bool = False) -> None:
        self.plan = plan
        self.outcome = Outcome("lab", plan)
        self.directory = directory
        clones = [action for action in plan.actions if isinstance(action, NodeFault) and action.verb == "clone"]
        # As the clone is made its network must be there: names and addresses are given out at the start.
        self._clone_names = {action.number: f"{action.node}{CLONE}{n}" for n, action in enumerate(clones, 1)}
        self._twins = {self._clone_names[action.number]: action.node for action in clones}
        names = [*(node.name for node in plan.nodes), *self._twins]
        nft = find_nft()
        self.network = Network(names, nft)
        self.weather = Weather(plan, self._twins, nft is not None)
        self.machines = Machines(plan, self.network, directory, defect)
        self._begin_s = time.monotonic()
        self.record = Record(plan, self.outcome, self.now_s)
        self._rng = Random(f"lab {plan.scenario} {plan.seed}")
        self._timeline: list[tuple[float, int, Callable[[], None]]] = []
        self._order = itertools.count()
        self._operators: dict[str, Operator] = {}
        self._wants_timeline = timeline
        self._looking: Looking | None = None
        self._ended: set[int] = set()
        """Processes whose unasked end was told."""
        self.outcome.sometimes["packets are cut by nftables" if nft else "packets are cut by routing rules"] += 1

    def now_s(self) -> float:
        """Of the plan."""
        return time.monotonic() - self._begin_s

    # --- the phases -----------------------------------------------------------------------------------------------

    def perform(self) -> Outcome:
        wall_begin_s = time.monotonic()
        self._build()
        self._begin_s = time.monotonic()
        if self._wants_timeline:
            seen = self.outcome.timeline = Timeline()
            self._looking = Looking(seen, self._originals(), self.devices, self.now_s)
        self._plan_all()
        self._run_until(self.plan.duration_s)
        _say(f"{self.plan.duration_s:.0f} s are over: all faults end")
        self._end_faults()
        self._await_convergence()
        if self._looking is not None:
            self._looking.end()
        self._finish()
        self.outcome.wall_s = time.monotonic() - wall_begin_s
        return self.outcome

    def _build(self) -> None:
        plan = self.plan
        _say(f"{len(plan.nodes)} machines are built and enrolled; then it takes {plan.duration_s:.0f} s, and as long")
        _say(f"as all need to be one again, at most {plan.converge_within_s:.0f} s; Ctrl-C ends it and leaves nothing")
        self.network.build()
        rates = {
            direction: quality.rate_bytes_per_s
            for pair, quality in plan.quality.items()
            if quality.rate_bytes_per_s
            for direction in (pair, pair[::-1])
        }
        self.network.limit(rates)
        self.machines.build()
        recorded = [node.name for node in plan.nodes if node.role != "member"]
        pcap = self.directory / "relays.pcap"
        self.network.start_forwarder(plan.seed, work.MARK, recorded, pcap)
        self.network.apply(self.weather.lines())
        everybody = list(self.machines.by_name.values())
        for machine in everybody:
            self.machines.start(machine)
        for machine in everybody:
            self.machines.mesh.wait_serving(machine.node)
        self.devices = {}
        for machine in everybody:
            with machine.node.client() as client:
                self.devices[client.node().identity.device] = machine.name
        self._await_links(everybody)
        self._operators = {machine.name: Operator(machine, self.record) for machine in everybody if not machine.relay}
        self._readers = [Reader(machine, self.now_s) for machine in everybody if not machine.relay]

    def _await_links(self, everybody: list[Machine]) -> None:
        """Until all that can be linked are, so that the plan begins as it does in the other worlds; or so long."""
        wanted = {machine.name: len(self.plan.dials_of(machine.name)) for machine in everybody}
        end_s = time.monotonic() + LINKED_WITHIN_S
        for machine in everybody:
            with machine.node.client() as client:
                while client.node().peers_connected < wanted[machine.name] and time.monotonic() < end_s:
                    time.sleep(POLL_S)

    def _plan_all(self) -> None:
        for action in self.plan.actions:
            if isinstance(action, LinkFault):
                self._at(action.at_s, self._begin_fault, action)
                if action.until_s is not None:
                    self._at(action.until_s, self._end_fault, action)
            elif isinstance(action, Heal):
                self._at(action.at_s, self._heal, action)
            elif isinstance(action, NodeFault):
                self._at(action.at_s, self._befall, action)
                if action.verb == "restore-old-backup":
                    self._at(action.backup_at_s, self._back_up, action)
            else:
                self._at(action.at_s, self._operators[action.node].ask, action)

        for number in range(1, int(self.plan.duration_s // PROGRESS_S) + 1):
            self._at(number * PROGRESS_S, self._say_progress)

    def _say_progress(self) -> None:
        done = len(self.outcome.acknowledged)
        _say(f"{self.now_s():6.1f} s of {self.plan.duration_s:.0f} s, {done} writes acknowledged")

    def _at(self, at_s: float, what: Callable[..., None], *arguments: object) -> None:
        heapq.heappush(self._timeline, (at_s, next(self._order), lambda: what(*arguments)))

    def _run_until(self, end_s: float) -> None:
        while self._timeline and self._timeline[0][0] < end_s:
            at_s, _, act = heapq.heappop(self._timeline)
            time.sleep(max(0.0, at_s - self.now_s()))
            act()
        time.sleep(max(0.0, end_s - self.now_s()))

    def _end_faults(self) -> None:
        self._timeline.clear()
        self._look_for_ended()
        for name in self._twins:
            if name in self.machines.by_name:
                self.machines.by_name[name].stop()
        self.weather.heal_all()
        self.network.apply(self.weather.lines())
        for machine in self._originals():
            machine.resume()
            machine.free_disk()
            self.machines.skew(machine, 0.0, 0.0)
            if machine in self._core():
                self.machines.start(machine)

    def _await_convergence(self) -> None:
        begin_s = time.monotonic()
        for machine in self._core():
            try:
                self.machines.mesh.wait_serving(machine.node)
            except MeshError as error:
                self._sight("I8", machine, f"it does not start again: {error}")
        for name, operator in self._operators.items():
            if not operator.finish(self.plan.converge_within_s):
                self._sight("I6", self.machines.by_name[name], "a local client waits for an answer for ever")
        while time.monotonic() - begin_s < self.plan.converge_within_s:
            if evidence.is_one(self._core(), self.devices):
                self.outcome.converged_after_s = time.monotonic() - begin_s
                _say(f"one after {self.outcome.converged_after_s:.1f} s")
                return
            time.sleep(CONVERGED_POLL_S)
        _say("NOT one in time")

    def _finish(self) -> None:
        outcome, machines = self.outcome, self.machines.by_name
        self._look_for_ended()
        evidence.hear_lines(outcome, self.network, self.now_s())
        evidence.search_memory(outcome, machines.values(), self.now_s())
        evidence.look(outcome, machines.values(), self.devices, self.record)
        outcome.spread_s = spread(outcome, self._readers)
        for machine in machines.values():
            outcome.last[machine.name] = deque(tail(machine.node.log, CRASH_LINES).splitlines())
            if "Traceback (most recent call last)" in machine.node.log.read_text(encoding="utf-8", errors="replace"):
                self._sight("I8", machine, "an exception is in its log")
        self.machines.mesh.stop_all()
        evidence.search_disks(outcome, machines.values(), self.now_s())
        self.network.close()

    def _originals(self) -> list[Machine]:
        return [machine for name, machine in self.machines.by_name.items() if name not in self._twins]

    def _core(self) -> list[Machine]:
        return [machine for machine in self._originals() if machine.name in self.plan.core and not machine.for_good]

    def _sight(self, invariant: str, machine: Machine, what: str) -> None:
        self.outcome.sightings.append(Sighting(invariant, self.now_s(), machine.name, what))

    def _look_for_ended(self) -> None:
        """A daemon that ended and was not killed by us."""
        for machine in self.machines.by_name.values():
            process = machine.node.process
            if process is not None and process.poll() is not None and process.pid not in self._ended:
                self._ended.add(process.pid)
                what = f"the daemon ended by itself with code {process.returncode}: {tail(machine.node.log, 3)}"
                self._sight("I8", machine, what)

    # --- faults of lines ------------------------------------------------------------------------------------------

    def _begin_fault(self, fault: LinkFault) -> None:
        _say(f"{self.now_s():6.1f} s  {fault.effect} {', '.join(fault.senders)} -> {', '.join(fault.receivers)}")
        self.outcome.sometimes[f"fault: {fault.effect}"] += 1
        self.weather.begin(fault)
        self.network.apply(self.weather.lines())

    def _end_fault(self, fault: LinkFault) -> None:
        self.weather.end(fault)
        self.network.apply(self.weather.lines())

    def _heal(self, heal: Heal) -> None:
        _say(f"{self.now_s():6.1f} s  heal")
        self.weather.heal(heal)
        self.network.apply(self.weather.lines())

    # --- faults of machines ---------------------------------------------------------------------------------------

    def _befall(self, fault: NodeFault) -> None:
        machine = self.machines.by_name[fault.node]
        if machine.for_good:
            self.outcome.sometimes["passed over: the node is lost for good"] += 1
            return
        _say(f"{self.now_s():6.1f} s  {fault.verb} {fault.node}")
        self.outcome.sometimes[f"fault: {fault.verb}"] += 1
        self._look_for_ended()
        befall: dict[str, Callable[[Machine, NodeFault], None]] = {
            "crash": self._crash,
            "restart": self._restart,
            "pause": self._pause,
            "wipe": self._wipe,
            "restore-old-backup": self._restore,
            "clone": self._clone,
            "skew-clock": self._skew,
            "disk-full": self._disk_full,
            "bit-flip": self._bit_flip,
        }
        befall[fault.verb](machine, fault)

    def _until(self, fault: NodeFault, what: Callable[..., None], *arguments: object) -> None:
        if fault.until_s is not None:
            self._at(fault.until_s, what, *arguments)

    def _crash(self, machine: Machine, fault: NodeFault) -> None:
        if machine.relay:
            # It may not come back: what it held is looked at while it holds it.
            evidence.search_memory(self.outcome, [machine], self.now_s())
        machine.kill()
        machine.for_good = fault.for_good
        self._until(fault, self.machines.start, machine)
        heights = machine.heights()
        for row in self.record.acknowledged_at(machine.name):
            if not _holds(heights, row.touch.incident, row.dot) and row.number not in self.outcome.excused:
                self._sight("I1", machine, f"write {row.number} was acknowledged and is not durable")

    def _restart(self, machine: Machine, _fault: NodeFault) -> None:
        machine.stop()
        self.machines.start(machine)

    def _pause(self, machine: Machine, fault: NodeFault) -> None:
        machine.pause()
        self._until(fault, machine.resume)

    def _wipe(self, machine: Machine, fault: NodeFault) -> None:
        machine.kill()
        machine.wipe()
        self._excuse(machine, fault.verb)
        self.machines.start(machine)

    def _back_up(self, fault: NodeFault) -> None:
        machine = self.machines.by_name[fault.node]
        path = machine.node.directory / f"backup-{fault.number}"
        machine.snapshot(path)
        machine.backups[fault.backup_at_s] = path

    def _restore(self, machine: Machine, fault: NodeFault) -> None:
        machine.kill()
        machine.put_back(machine.backups[fault.backup_at_s])
        self._excuse(machine, fault.verb)
        self.machines.start(machine)

    def _excuse(self, machine: Machine, why: str) -> None:
        """Its disk is another one now: what lay on the old one alone may be lost."""
        everywhere = [other.heights() for other in self._originals()]
        with self.record.lock:
            for row in self.outcome.acknowledged:
                if not any(_holds(heights, row.touch.incident, row.dot) for heights in everywhere):
                    self.outcome.excused.setdefault(row.number, f"{why} of {machine.name}")

    def _clone(self, machine: Machine, fault: NodeFault) -> None:
        if machine.up:
            clone = self.machines.clone(machine, self._clone_names[fault.number])
            self.machines.start(clone)
            self._until(fault, clone.stop)

    def _skew(self, machine: Machine, fault: NodeFault) -> None:
        self.machines.skew(machine, fault.skew_s, fault.drift)
        self._until(fault, self.machines.skew, machine, 0.0, 0.0)
        if machine.up and not machine.paused:
            with suppress(ApiError), machine.node.client(5.0) as client:
                if abs(client.node().time_ms / 1_000 - time.time() - fault.skew_s) < CLOCK_SLACK_S:
                    self.outcome.sometimes["a node was seen to have the wrong time"] += 1

    def _disk_full(self, machine: Machine, fault: NodeFault) -> None:
        machine.fill_disk()
        self._until(fault, machine.free_disk)

    def _bit_flip(self, machine: Machine, fault: NodeFault) -> None:
        flipped = machine.flip_bits(self._rng, fault.flips)
        self.outcome.sometimes["bits flipped on disk"] += flipped


def _holds(heights: dict[str, dict[str, int]], incident: str, dot: str) -> bool:
    log, seq, _ = dot.split(".")
    return heights.get(incident, {}).get(log, 0) >= int(seq)


def _say(text: str) -> None:
    sys.stderr.write(f"lab: {text}\n")
    sys.stderr.flush()


def _end_with_whoever_asked() -> None:
    while os.read(0, 4096):
        pass
    os._exit(1)


def _own_run_directory() -> Path:
    """/run becomes a file system of the lab's own: networks get their names there, machines their directories."""
    subprocess.run(["mount", "-t", "tmpfs", "tmpfs", "/run"], check=True)
    Path("/run/netns").mkdir()
    directory = Path("/run/lab")
    directory.mkdir(mode=0o700)
    return directory


def main() -> None:
    line = b""
    while not line.endswith(b"\n"):
        line += os.read(0, 65_536) or sys.exit(1)
    threading.Thread(target=_end_with_whoever_asked, name="parent", daemon=True).start()
    job = json.loads(line)
    directory = _own_run_directory()
    answer: Outcome | str
    try:
        answer = Lab(from_plain(job["plan"]), directory, job["defect"], job["timeline"]).perform()
    except (ApiError, LabFaultError, MeshError, OSError, subprocess.SubprocessError) as error:
        answer = str(error)
    if job["keep"]:
        ignored = shutil.ignore_patterns("*.sock", "*.key", "authority")
        shutil.copytree(directory, job["keep"], dirs_exist_ok=True, ignore=ignored)
    sys.stdout.buffer.write(pickle.dumps(answer))
    sys.stdout.buffer.flush()
    # No waiting for threads that follow daemons which are gone.
    os._exit(0)


if __name__ == "__main__":
    main()
