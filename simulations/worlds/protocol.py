"""The ``protocol`` world: real cores on a heap in virtual time, with virtual links and disks.

The node is ``meshnode.core`` unchanged; only HPKE's box is replaced by one that a seed decides (``cast.SeededSealer``).
A subclass may be put in place of the node, to plant a defect or a liar.
"""

from __future__ import annotations

import time
import traceback
from collections import Counter, defaultdict
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import partial
from random import Random

from meshnode.core.custody import RelaySettings
from meshnode.core.events import (
    ChangeIncident,
    Channel,
    DialFailed,
    Event,
    LinkUp,
    OpenIncident,
    PeerIdentity,
    ShareIncident,
    Tick,
    Written,
)
from meshnode.core.ids import IncidentId
from meshnode.core.node import Node, NodeSettings
from meshnode.core.peers import ConfiguredPeer, DialSettings
from meshnode.errors import MeshnodeError
from simulations.liars.stage import Stage
from simulations.scenario.plan import Heal, Lie, LinkFault, NodeFault, Open, Plan, ShareWith, Write
from simulations.scenario.records import NodeSpec
from simulations.worlds import situations, work
from simulations.worlds.asked import Asked
from simulations.worlds.cast import make_identity, peer_identity
from simulations.worlds.clockwork import Clockwork, Trace
from simulations.worlds.contract import Acknowledged, Invited, Outcome, Refused, Sealed, Sighting, Touch
from simulations.worlds.disk import Disk
from simulations.worlds.ends import is_one, is_one_in, look, sample
from simulations.worlds.frames import by_class
from simulations.worlds.host import Host, NodeMaker, Orders, SpokeTooSoonError
from simulations.worlds.membership import excuse_lost, heights, invited_nodes, inviting_entry, known_nodes
from simulations.worlds.network import CONNECT_TIMEOUT_S, End, Network
from simulations.worlds.rot import flip_one
from simulations.worlds.shared import sharing
from simulations.worlds.spread import SpreadWatch
from simulations.worlds.timeline import UP, Timeline, sample_times

POLL_S = 1.0
MEASURES = 50
"""Looks at sizes in one run, evenly spread."""
FLIP_WAIT_S, FLIP_TRIES = 0.05, 400
SCRUBBED_WITHIN_S = 60.0
"""After a bit flipped; a daemon with so few rows looks at all of them every 5 s, one with many takes longer."""
ANSWERED_WITHIN_S = 60.0
"""More than the slowest disk takes for everything that waits."""
VALID_YEARS = 15
"""Of certificates: no clock skew of a scenario leaves this."""
CLONE = "~"
"""Behind the name of a node: its copy."""


@dataclass(slots=True)
class ProtocolWorld:
    """``make`` builds the nodes named in ``odd``, or all when it is empty. With ``timeline`` what is to be seen
    meanwhile is written down."""

    name: str = "protocol"
    make: NodeMaker = Node
    odd: tuple[str, ...] = ()
    timeline: bool = False
    offsets_s: Mapping[str, float] = field(default_factory=dict)
    """By how much the wall clocks of nodes are wrong from the beginning, beside what the plan does to them."""

    def run(self, plan: Plan) -> Outcome:
        with sharing(plan.options.crypto):
            run = Run(plan, self.make, self.odd, self.timeline)
            for name, offset_s in self.offsets_s.items():
                run.hosts[name].offset_s = offset_s
            return run.perform()


@dataclass(slots=True)
class _Faults:
    """What is on at the moment, so that the end of faults can end it."""

    clones: list[Host] = field(default_factory=list)
    backups: dict[tuple[str, float], Disk] = field(default_factory=dict)


class Run:
    """One plan, performed once."""

    def __init__(self, plan: Plan, make: NodeMaker = Node, odd: tuple[str, ...] = (), timeline: bool = False) -> None:
        self.plan = plan
        self.clock = Clockwork()
        self.trace = Trace()
        self.outcome = Outcome("protocol", plan)
        self._make = make
        self._odd = odd
        self._rng = Random(f"world {plan.scenario} {plan.seed}")
        self.network = Network(plan, self.clock, self._part("network"), self._arrive, self._lost)
        self.timeline = Timeline() if timeline else None
        self.network.on_link = self._link_changed if timeline else None
        self._spread = SpreadWatch(plan, wants_all=timeline)
        self._orders = Orders(
            self.network.send, self._dial, self.network.close, self._reply, self._failed, self._changed, self._grew
        )
        self.stage = Stage(plan, self.outcome)
        self.hosts = {spec.name: self._host(spec, spec.name, Disk()) for spec in plan.nodes}
        self.stage.take(self.hosts)
        self._specs = {spec.name: spec for spec in plan.nodes}
        self._devices = {host.identity.device: self._specs[name] for name, host in self.hosts.items()}
        self._asked: dict[int, Asked] = {}
        self._catch_ups: defaultdict[str, situations.CatchUps] = defaultdict(situations.CatchUps)
        self._faults = _Faults()
        self.ids: dict[str, IncidentId] = {}

    def _part(self, purpose: str) -> Random:
        return Random(f"{self.plan.scenario} {self.plan.seed} {purpose}")

    def _host(self, spec: NodeSpec, name: str, disk: Disk) -> Host:
        relay, kind = spec.role != "member", self.plan.options.crypto
        settings = NodeSettings(
            peers=tuple(ConfiguredPeer((f"{peer}:1",)) for peer in self.plan.dials_of(spec.name)),
            relay=RelaySettings(enabled=relay),
            dial=DialSettings(redial_max_s=self.plan.redial_max_s),
            anti_entropy_interval_s=self.plan.anti_entropy_interval_s,
        )
        return Host(
            name=name,
            role=spec.role,
            identity=make_identity(spec.noc, str(spec.device), relay, valid_years=VALID_YEARS, kind=kind),
            settings=settings,
            disk=disk,
            clock=self.clock,
            trace=self.trace,
            rng=self._part(f"host {name}"),
            orders=self._orders,
            commit_s=self.plan.options.commit_s,
            gather_s=self.plan.options.gather_s,
            make=self._maker(name),
        )

    def _maker(self, name: str) -> NodeMaker:
        """What builds this node: a liar's is in the hands of its mind."""
        return self.stage.maker(name, self._make if not self._odd or name in self._odd else Node)

    # --- the two phases -------------------------------------------------------------------------------------------

    def perform(self) -> Outcome:
        begin_s = time.perf_counter()
        plan, clock = self.plan, self.clock
        for host in self.hosts.values():
            clock.at(self._rng.random(), self._start, host)
        doers: dict[type, Callable[..., None]] = {
            Open: self._open,
            ShareWith: self._share,
            Write: self._write,
            LinkFault: self._link_fault,
            Heal: self._heal,
            NodeFault: self._node_fault,
            Lie: self.stage.lie,
        }
        for action in plan.actions:
            clock.at(action.at_s, doers[type(action)], action)
            if isinstance(action, NodeFault) and action.verb == "restore-old-backup":
                clock.at(action.backup_at_s, self._back_up, action)
        clock.after(plan.duration_s / MEASURES, self._measure)
        for at_s in sample_times(plan) if self.timeline is not None else ():
            clock.run_until(at_s)
            self._sample()
        clock.run_until(plan.duration_s)
        self._end_faults()
        self._await_convergence()
        self._finish()
        self.outcome.wall_s = time.perf_counter() - begin_s
        return self.outcome

    def _start(self, host: Host) -> None:
        if host.node is None:
            host.start()

    def _end_faults(self) -> None:
        self.trace.note(self.clock.now_s, "", "faults end")
        for clone in self._faults.clones:
            self._kill(clone, in_order=True)
        self.network.heal_all()
        for host in self.hosts.values():
            host.disk.full = False
            host.skew_s = host.drift = 0.0
            if host.paused:
                self._resume(host)
            if host.name in self.plan.core and not host.for_good:
                self._start(host)
            host.scrub()

    def _await_convergence(self) -> None:
        begin_s = self.clock.now_s
        honest, ring = self.stage.honest(self.hosts.values()), self.stage.ring
        core = [host for host in honest if host.name in self.plan.core and not host.for_good]
        is_late, due = False, self.outcome.members_due()
        while not is_late and self.outcome.converged_after_s is None:
            self.clock.run_until(self.clock.now_s + POLL_S)
            self._sample()
            is_late = self.clock.now_s >= begin_s + self.plan.converge_within_s
            due = self.outcome.members_due()
            if is_one(core, due, ring, without=self.stage.known_holes(core, is_late)):
                self.outcome.converged_after_s = self.clock.now_s - begin_s
        self.outcome.apart = tuple(
            incident.hex()
            for incident in self.stage.known_holes(core, is_late)
            if not is_one_in(core, incident, due.get(incident.hex(), set()), ring)
        )

    def _measure(self) -> None:
        for host in self.hosts.values():
            host.measure()
            if host.node is not None and self._catch_ups[host.name].take_resumed(host.node):
                self.outcome.sometimes[situations.RESUMED] += 1
        self.clock.after(self.plan.duration_s / MEASURES, self._measure)

    def _finish(self) -> None:
        outcome = self.outcome
        outcome.incidents = {name: found.hex() for name, found in self.ids.items()}
        for number, asked in sorted(self._asked.items()):
            if self.clock.now_s - asked.at_s > ANSWERED_WITHIN_S:
                what = f"request {number} of {asked.at_s:.3f} s was never answered, and the node did not stop"
                outcome.sightings.append(Sighting("I6", self.clock.now_s, asked.host, what))
            self._unanswered(number)
        for sender, receiver in dict.fromkeys(self.network.marked):
            what = f"a marked word went to {receiver} in clear"
            outcome.sightings.append(Sighting("I4", self.clock.now_s, sender, what))
        look(outcome, [*self.hosts.values(), *self._faults.clones], self.stage.ring)
        situations.count_links(outcome, self.network.met)
        situations.look(outcome, [*self.hosts.values(), *self._faults.clones])
        self.stage.finish()
        outcome.sent = by_class(self.network.sent)
        for (name, _), (_, size) in outcome.sent.items():
            outcome.bytes_sent[name] += size
        outcome.spread_s = self._spread.over(outcome, self.hosts, self.clock.now_s)
        outcome.timeline = self.timeline
        outcome.frames_max = self.network.in_flight_max
        outcome.digest = self.trace.digest()
        outcome.last = self.trace.last()
        outcome.lines = self.trace.lines
        outcome.events = self.clock.events

    # --- what is to be seen meanwhile -----------------------------------------------------------------------------

    def _changed(self, host: Host) -> None:
        if host.state == UP:
            # What it had written and never said before it went down: whoever follows reads it now.
            self._grew(host, host.disk.applied_last())
        if self.timeline is not None and host.name in self.hosts:
            self.timeline.note_node(self.clock.now_s, host.name, host.state)

    def _link_changed(self, a: str, b: str, up: bool) -> None:
        if self.timeline is not None and a in self.hosts and b in self.hosts:
            self.timeline.note_link(self.clock.now_s, a, b, up)

    def _grew(self, host: Host, number: int) -> None:
        self._spread.grew(host.name, host.disk, number, self.clock.now_s)

    def _sample(self) -> None:
        """Looks and changes nothing: the trace is the same with it."""
        if self.timeline is not None:
            sent: Counter[str] = Counter()
            for (_, kind), (_, size) in by_class(self.network.sent).items():
                sent[kind] += size
            sample(self.timeline, self.clock.now_s, list(self.hosts.values()), dict(sorted(sent.items())))

    # --- links ----------------------------------------------------------------------------------------------------

    def _by_name(self, name: str) -> Host | None:
        host = self.hosts.get(name)
        if host is None:
            host = next((clone for clone in self._faults.clones if clone.name == name), None)
        return host

    def _arrive(self, end: End, channel: Channel, data: bytes) -> None:
        host = self._by_name(end.node)
        if host is not None:
            self.stage.note_arrival(host, end.peer, data)
            host.receive(end, channel, data)

    def _lost(self, end: End, code: str) -> None:
        host = self._by_name(end.node)
        if host is not None:
            if host.node is not None and self._catch_ups[host.name].on_link_lost(host.node, end.number):
                self.outcome.sometimes[situations.CUT_CATCH_UP] += 1
            host.link_down(end, code)

    def _dial(self, host: Host, address: str) -> None:
        name = address.removesuffix(":1")
        quality = self.network.quality(host.name, name)
        if quality is None or not self._answers(host, name):
            self.clock.after(CONNECT_TIMEOUT_S, self._not_connected, host, host.life, address)
        else:
            self.clock.after(3 * quality.latency_s, self._connect, host, host.life, address, name)

    def _answers(self, host: Host, name: str) -> bool:
        peer = self._by_name(name)
        if peer is None or peer.node is None or peer.paused:
            return False
        return not (self.network.is_blocked(host.name, name) or self.network.is_blocked(name, host.name))

    def _not_connected(self, host: Host, life: int, address: str) -> None:
        if host.life == life:
            host.tell(DialFailed(address, "connect-timeout", "no answer"))

    def _connect(self, host: Host, life: int, address: str, name: str) -> None:
        peer = self._by_name(name)
        if host.life != life or peer is None:
            return
        if not self._answers(host, name):
            self._not_connected(host, life, address)
            return
        here, there = self.network.connect(host.name, name, address, f"{host.name}:1")
        host.link_up(here, LinkUp(here.number, _who(peer), address, dialed=True))
        if there.open:
            peer.link_up(there, LinkUp(there.number, _who(host), f"{host.name}:1", dialed=False))

    # --- local clients --------------------------------------------------------------------------------------------

    def _ask(self, host: Host, event: Event, number: int, asked: Asked) -> None:
        self._asked[number] = asked
        self.trace.note(self.clock.now_s, host.name, "asked", number)
        host.tell_now(event)

    def _ready(self, action: Open | ShareWith | Write) -> Host | None:
        """The node, when a client could reach it."""
        host = self.hosts[action.node]
        if host.node is None or host.paused:
            self.outcome.refused.append(Refused(action.number, self.clock.now_s, host.name, "no-answer"))
            return None
        host.catch_up()
        return host if host.node is not None else None

    def _open(self, action: Open) -> None:
        host = self._ready(action)
        if host is not None and host.node is not None:
            nodes = known_nodes(host.disk, self._devices)
            known = {spec.noc for spec in nodes}
            share_with = tuple(noc for noc in action.nocs if noc in known and noc != host.identity.certificate.noc)
            if len(share_with) + 1 < len({*action.nocs, host.identity.certificate.noc}):
                self.outcome.sometimes["opened before all were known"] += 1
            changes = (work.opening(self.plan.seed, action.number),)
            event = OpenIncident(action.number, work.OPERATOR, work.KIND, changes, (), share_with)
            asked = Asked(host.name, self.clock.now_s, action.incident, opens=True)
            asked.invites = invited_nodes(host.name, share_with, nodes)
            self._ask(host, event, action.number, asked)

    def _share(self, action: ShareWith) -> None:
        incident = self.ids.get(action.incident)
        host = self._ready(action)
        if host is not None and host.node is not None and incident is not None:
            if not host.node.incidents.is_member(incident):
                self.outcome.sometimes["passed over: cannot read the incident"] += 1
                return
            event = ShareIncident(action.number, incident, work.OPERATOR, action.nocs)
            nocs = (*action.nocs, host.identity.certificate.noc)
            self.outcome.sealed.append(Sealed(self.clock.now_s, host.name, incident.hex(), nocs))
            asked = Asked(host.name, self.clock.now_s, action.incident)
            asked.invites = invited_nodes(host.name, action.nocs, known_nodes(host.disk, self._devices))
            asked.before = heights(host.disk, incident)
            self._ask(host, event, action.number, asked)
            asked.entry = inviting_entry(host.disk, incident, asked.before)

    def _write(self, action: Write) -> None:
        incident = self.ids.get(action.incident)
        host = self._ready(action)
        if host is None or incident is None:
            return
        view = host.shows(incident)
        if view is None:
            self.outcome.sometimes["passed over: cannot read the incident"] += 1
            return
        if all(member.device != host.identity.device.hex() for member in view.members):
            self.outcome.sometimes["passed over: reads it, and its admission is still on the way"] += 1
            return
        write = work.ask(action, self.plan.seed, incident.hex(), view)
        event = ChangeIncident(action.number, incident, work.OPERATOR, (write.change,))
        asked = Asked(host.name, self.clock.now_s, action.incident, write)
        self._ask(host, event, action.number, asked)

    def _reply(self, host: Host, number: int, outcome: Written | MeshnodeError) -> None:
        asked = self._asked.pop(number)
        now_s = self.clock.now_s
        if isinstance(outcome, MeshnodeError):
            host.on_refused(outcome)
            self.trace.note(now_s, host.name, "refused", number, outcome.code)
            self.outcome.refused.append(Refused(number, now_s, host.name, outcome.code))
            return
        self.trace.note(now_s, host.name, "answered", number, *(dot.text for dot in outcome.dots))
        if asked.opens:
            self.ids[asked.incident] = outcome.incident
            action = next(row for row in self.plan.actions if row.number == number)
            nocs = (*getattr(action, "nocs", ()), host.identity.certificate.noc)
            self.outcome.sealed.append(Sealed(now_s, host.name, outcome.incident.hex(), nocs))
            touch = Touch(outcome.incident.hex(), "incident", work.ROOT_HEX, "title")
            text = work.canary(self.plan.seed, number)
            write: work.Asked | None = work.Asked(work.opening(0, 0), "set", touch, text, ())
            asked.entry = outcome.dots[0].text.rpartition(".")[0]
        else:
            write = asked.write
        if asked.invites:
            entry = asked.entry or inviting_entry(host.disk, outcome.incident, asked.before)
            invited = Invited(number, now_s, host.name, outcome.incident.hex(), asked.invites, entry)
            self.outcome.invited.append(invited)
        if write is None:
            return
        dot = outcome.dots[0]
        row = (write.kind, write.touch, dot.text, write.text, write.seen)
        self.outcome.acknowledged.append(Acknowledged(number, asked.at_s, now_s, host.name, *row))
        self.stage.look_for_leak(host, number, outcome.incident, dot)
        if not host.disk.has(outcome.incident, dot.log, dot.seq):
            what = f"write {number} was acknowledged and is not durable"
            self.outcome.sightings.append(Sighting("I1", now_s, host.name, what))

    def _unanswered(self, number: int) -> None:
        asked = self._asked.pop(number)
        if asked.opens:
            action = next(row for row in self.plan.actions if row.number == number)
            nocs = (*getattr(action, "nocs", ()), self.hosts[asked.host].identity.certificate.noc)
            self.outcome.sealed.append(Sealed(asked.at_s, asked.host, "", nocs))
        if asked.write is not None:
            self.outcome.unanswered.append((number, asked.host, asked.write.touch))

    # --- faults ---------------------------------------------------------------------------------------------------

    def _link_fault(self, action: LinkFault) -> None:
        self.trace.note(self.clock.now_s, "", "fault", action.number, action.effect)
        self.network.begin(action)
        if action.until_s is not None:
            self.clock.at(action.until_s, self.network.end, action)

    def _heal(self, action: Heal) -> None:
        self.trace.note(self.clock.now_s, "", "heal", action.number)
        self.network.heal(action)

    def _node_fault(self, action: NodeFault) -> None:
        host = self.hosts[action.node]
        self.trace.note(self.clock.now_s, host.name, "fault", action.number, action.verb)
        befall = {
            "crash": self._crash,
            "restart": self._restart,
            "pause": self._pause,
            "wipe": self._wipe,
            "restore-old-backup": self._restore,
            "clone": self._clone,
            "skew-clock": self._skew,
            "disk-full": self._disk_full,
            "bit-flip": self._bit_flip,
            "upgrade": self._upgrade,
            "downgrade": self._downgrade,
        }.get(action.verb)
        if befall is None:
            self.outcome.sometimes[f"not done in this world: {action.verb}"] += 1
        elif host.for_good:
            self.outcome.sometimes["passed over: the node is lost for good"] += 1
        else:
            self.outcome.sometimes[situations.befallen(action, host)] += 1
            befall(host, action)

    def _kill(self, host: Host, in_order: bool = False) -> None:
        ends = list(host.ends.values())
        if in_order:
            host.stop()
        elif host.node is not None:
            host.crash()
        for end in ends:
            self.network.close(end, "shutting-down", tell_here=False) if in_order else self.network.abandon(end)
        for number in [number for number, asked in self._asked.items() if asked.host == host.name]:
            self._unanswered(number)

    def _crash(self, host: Host, action: NodeFault) -> None:
        self._kill(host)
        host.for_good = action.for_good
        if action.until_s is not None:
            self.clock.at(action.until_s, self._start, host)

    def _restart(self, host: Host, _action: NodeFault) -> None:
        if host.node is not None:
            self._kill(host, in_order=True)
        self._start(host)

    def _upgrade(self, host: Host, action: NodeFault) -> None:
        self.stage.upgrade(host)
        self._restart(host, action)

    def _downgrade(self, host: Host, action: NodeFault) -> None:
        host.make = self._maker(host.name)
        self._restart(host, action)

    def _pause(self, host: Host, action: NodeFault) -> None:
        if host.node is not None and not host.paused:
            host.paused = True
            self._changed(host)
            life = host.life
            self.clock.at(action.until_s or self.clock.now_s, partial(self._resume, host, life))
            self.clock.after(self.plan.idle_timeout_s, self._silence, host, life, self.clock.now_s)
            host.paused_s = self.clock.now_s

    def _silence(self, host: Host, life: int, since_s: float) -> None:
        """Peers notice that a paused node says nothing."""
        if host.life == life and host.paused and host.paused_s == since_s:
            for end in list(host.ends.values()):
                self.network.silence(end)

    def _resume(self, host: Host, life: int | None = None) -> None:
        if host.paused and life in (None, host.life):
            host.paused = False
            self._changed(host)
            host.tell(Tick())

    def _wipe(self, host: Host, _action: NodeFault) -> None:
        self._kill(host)
        self._lose_disk(host, Disk(), "wipe")

    def _back_up(self, action: NodeFault) -> None:
        self._faults.backups[action.node, action.backup_at_s] = self.hosts[action.node].backup()

    def _restore(self, host: Host, action: NodeFault) -> None:
        self._kill(host)
        self._lose_disk(host, self._faults.backups[host.name, action.backup_at_s].copied(), "restore-old-backup")

    def _lose_disk(self, host: Host, disk: Disk, why: str) -> None:
        """The node goes on with another disk. What lay durable on the old one alone may be lost, and is excused."""
        disks = {other.name: other.disk for other in self.stage.honest(self.hosts.values())} | {host.name: host.disk}
        excuse_lost(self.outcome, host.name, disks, disk, why)
        self._spread.start_over(host.name)
        full, host.disk = host.disk.full, disk
        disk.full = full
        self._start(host)

    def _clone(self, host: Host, action: NodeFault) -> None:
        if host.node is None:
            return
        name = f"{host.name}{CLONE}{len(self._faults.clones) + 1}"
        clone = self._host(self._specs[host.name], name, host.backup())
        clone.offset_s = host.offset_s
        self._faults.clones.append(clone)
        self.network.copy_reach(host.name, name)
        clone.start()
        if action.until_s is not None:
            self.clock.at(action.until_s, partial(self._kill, clone, in_order=True))

    def _skew(self, host: Host, action: NodeFault) -> None:
        host.skew_s += action.skew_s
        host.drift, host.drift_from_s = action.drift, self.clock.now_s
        if action.until_s is not None:
            self.clock.at(action.until_s, self._unskew, host)

    def _unskew(self, host: Host) -> None:
        host.skew_s = host.drift = 0.0

    def _disk_full(self, host: Host, action: NodeFault) -> None:
        host.disk.full = True
        self.clock.at(action.until_s or self.clock.now_s, self._disk_free, host)

    def _bit_flip(self, host: Host, action: NodeFault, tries: int = 0) -> None:
        """What rots is durable, so it waits for a moment in which nothing is on its way."""
        disk, rng = host.disk, self._part(f"flip {action.number}")
        if not disk.is_clean():
            if tries < FLIP_TRIES:
                self.clock.after(FLIP_WAIT_S, self._bit_flip, host, action, tries + 1)
            else:
                self.outcome.sometimes["passed over: bit-flip, the disk never rested"] += 1
            return
        others = [other.disk for other in self.hosts.values() if other is not host]
        for _ in range(action.flips):
            kind = flip_one(disk, others, rng)
            self.trace.note(self.clock.now_s, host.name, "flipped", kind)
            self.outcome.sometimes[f"a bit flipped: {kind or 'nothing there'}"] += 1
        self.clock.after(rng.uniform(1.0, SCRUBBED_WITHIN_S), host.scrub)

    def _disk_free(self, host: Host) -> None:
        host.disk.full = False

    def _failed(self, host: Host, error: BaseException) -> None:
        """The node raised, which it never may."""
        where = traceback.extract_tb(error.__traceback__)[-1:]
        place = f" in {where[0].name} ({where[0].filename.rpartition('/')[2]}:{where[0].lineno})" if where else ""
        what = f"{type(error).__name__}: {error}{place}"
        invariant = "I1" if isinstance(error, SpokeTooSoonError) else "I8"
        self.outcome.sightings.append(Sighting(invariant, self.clock.now_s, host.name, what))
        self._kill(host)
        host.for_good = True


def _who(host: Host) -> PeerIdentity:
    return peer_identity(host.identity, host.settings.relay.enabled, f"{host.name} {host.life}")
