"""One virtual machine: a real node, its virtual disk and the shell between them, which keeps "persist, then speak".

The shell does in virtual time what ``meshnode.daemon.loop`` does in real time: it steps the node, makes what was staged
durable in groups while further steps go on, and performs effects in order, none before the commit it rests on.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from random import Random

from meshnode.core.events import (
    Channel,
    CloseLink,
    Dial,
    Effect,
    Event,
    JournalGrew,
    LinkDown,
    LinkUp,
    Now,
    Received,
    Reply,
    Report,
    Send,
    Tick,
    Written,
)
from meshnode.core.identity import Identity
from meshnode.core.ids import IncidentId
from meshnode.core.node import Node, NodeSettings
from meshnode.core.reading import Reading
from meshnode.core.views import IncidentView
from meshnode.errors import LocalFaultError, MeshnodeError
from meshnode.storage.ticket import SCRUB_START, Ticket
from simulations.worlds import timeline
from simulations.worlds.cast import START_WALL_MS, SeededSealer
from simulations.worlds.clockwork import Clockwork, Trace
from simulations.worlds.disk import Disk
from simulations.worlds.network import End

PROBE_S = 5.0
"""How often a node whose disk was full tries again, as the daemon does."""
SCRUB_ROWS = 1_000
SAID_MAX = 10_000
"""Different sentences kept of one node."""
WRITTEN_AT_CRASH_CHANCE = 0.5
"""That what was being written when the power went is on the disk all the same."""

WAKES_MAX = 1_000
"""Wake-ups of one node in one moment: a deadline that stays in the past would hold a real loop for ever (I8)."""

DEFECTS = (
    *(ArithmeticError, AssertionError, AttributeError, LookupError, MeshnodeError, RuntimeError),
    *(TypeError, ValueError),
)
"""What a node that does wrong may raise (I8). Anything else is a mistake of the simulation, and ends it."""

NodeMaker = Callable[..., Node]
OnReply = Callable[["Host", int, Written | MeshnodeError], None]


class SpokeTooSoonError(Exception):
    """What a node said would not have rested on the disk."""


@dataclass(slots=True)
class Orders:
    """What a host asks of the world around it."""

    send: Callable[[End, Channel, bytes, bool], None]
    """End, channel, data, may it be dropped."""
    dial: Callable[[Host, str], None]
    close: Callable[[End, str], None]
    reply: OnReply
    failed: Callable[[Host, BaseException], None]
    """The node raised: it is dead, and that is a defect."""
    changed: Callable[[Host], None]
    """It runs, stands still or is down: ``state`` says which."""
    grew: Callable[[Host, int], None]
    """Its journal reaches this number, durably."""


@dataclass(slots=True, eq=False)
class Host:
    name: str
    role: str
    identity: Identity
    settings: NodeSettings
    disk: Disk
    clock: Clockwork
    trace: Trace
    rng: Random
    orders: Orders
    commit_s: tuple[float, float]
    gather_s: float = 0.0
    gathering: bool = False
    make: NodeMaker = Node
    node: Node | None = None
    """None while it is down."""
    reading: Reading | None = None
    ends: dict[int, End] = field(default_factory=dict)
    ups: dict[int, LinkUp] = field(default_factory=dict)
    inbox: list[Event] = field(default_factory=list)
    groups: list[tuple[Effect, ...]] = field(default_factory=list)
    flight: Ticket | None = None
    flying: list[tuple[Effect, ...]] = field(default_factory=list)
    paused: bool = False
    paused_s: float = 0.0
    read_only: bool = False
    for_good: bool = False
    skew_s: float = 0.0
    drift: float = 0.0
    drift_from_s: float = 0.0
    woken: int = 0
    woken_s: float = -1.0
    life: int = 0
    """Which start this is; what was planned for an earlier one is void."""
    waking_s: float = float("inf")
    """When it is woken next, at the latest."""
    due_s: float = float("inf")
    """When the node wants to be woken: as it said after its last step, for nothing else changes it."""
    offset_s: float = 0.0
    """What the wall clock is wrong by all the time, whatever the plan does to it."""
    reports: Counter[str] = field(default_factory=Counter)
    codes: dict[str, str] = field(default_factory=dict)
    unreasoned: list[str] = field(default_factory=list)
    said: set[str] = field(default_factory=set)
    """Everything that was reported, for a search through it."""
    peaks: Counter[str] = field(default_factory=Counter)
    sometimes: Counter[str] = field(default_factory=Counter)

    # --- life -----------------------------------------------------------------------------------------------------

    @property
    def state(self) -> str:
        if self.node is None:
            return timeline.DOWN
        if self.paused:
            return timeline.PAUSED
        return timeline.READ_ONLY if self.read_only else timeline.UP

    def now(self) -> Now:
        now_s = self.clock.now_s
        ahead_s = self.offset_s + self.skew_s + (now_s - self.drift_from_s) * self.drift
        return Now(now_s, START_WALL_MS + int((now_s + ahead_s) * 1000))

    def start(self) -> None:
        """A node from what is durable."""
        self.life += 1
        self.read_only = False
        self.disk.reopen()
        self._build(None)
        self.trace.note(self.clock.now_s, self.name, "started", self.disk.applied_last())
        self.tell(Tick())

    def _build(self, read_only: LocalFaultError | None) -> None:
        rng = Random(self.rng.random())
        self.read_only = read_only is not None
        self.waking_s = self.due_s = float("inf")
        try:
            self.node = self._make_undamaged(rng, read_only)
        except LocalFaultError as fault:  # a daemon would end here, with this code
            self.orders.failed(self, fault)
            return
        self.reading = Reading(self.node)
        self.orders.changed(self)

    def _make_undamaged(self, rng: Random, read_only: LocalFaultError | None) -> Node:
        """As the daemon: a damaged row is told once and then skipped, so this ends."""
        while True:
            try:
                return self.make(
                    self.identity, self.settings, self.disk, rng, rng.randbytes, self.now(), SeededSealer(), read_only
                )
            except LocalFaultError as fault:
                if fault.code != "store-row-damaged":
                    raise
                self.disk.abandon()  # what the node had staged before it met the row
                self.reports[fault.code] += 1

    def crash(self) -> None:
        """The power goes. Links are lost in silence; whoever calls tells their other ends."""
        if self.flight is not None:
            self.sometimes["crash between commit and send"] += 1
            if self.rng.random() < WRITTEN_AT_CRASH_CHANCE and not self.disk.full:
                self.disk.write(self.flight)
                self.sometimes["written and never said"] += 1
        elif self.groups:
            self.sometimes["crash with staged writes"] += 1
        self.disk.abandon()
        self.down()

    def down(self) -> None:
        self.life += 1
        self.node = self.reading = self.flight = None
        self.paused = self.gathering = False
        self.inbox.clear()
        self.groups.clear()
        self.flying.clear()
        self.ends.clear()
        self.ups.clear()
        self.trace.note(self.clock.now_s, self.name, "down")
        self.orders.changed(self)

    def stop(self) -> None:
        """In order: everything is made durable, with checkpoints."""
        if self.node is not None and not self.read_only and not self.disk.full:
            self._settle()
            if self.node is not None:
                self.node.stop(self.now())
                self.disk.commit_all()
        self.disk.abandon()
        self.down()

    def _settle(self) -> None:
        """Ends the commit that is under way, and those that wait, at once: durable or, on a full disk, failed."""
        paused, self.paused = self.paused, False
        while self.flight is not None or self.groups:
            self._end_commit(self.life, self.flight) if self.flight is not None else self._begin_commit()
        self.paused = paused

    def backup(self) -> Disk:
        """A copy of the disk; what is on its way is made durable first."""
        self._settle()
        return self.disk.copied()

    # --- steps ----------------------------------------------------------------------------------------------------

    def tell(self, event: Event) -> None:
        """Something happened to this machine: now, or together with what else comes within ``gather_s``."""
        if self.node is None:
            return
        self.inbox.append(event)
        if not self.gathering and not self.paused:
            self._gather()

    def _gather(self) -> None:
        if self.gather_s == 0.0:
            self.step()
        else:
            self.gathering = True
            self.clock.after(self.gather_s, self._gathered, self.life)

    def _gathered(self, life: int) -> None:
        if life == self.life:
            self.gathering = False
            self.catch_up()

    def tell_now(self, event: Event) -> None:
        """A local client's request: it acts on what it was shown a moment ago."""
        if self.node is not None:
            self.inbox.append(event)
            self.step()

    def catch_up(self) -> None:
        """Steps through what waits, so that a client is shown all that has come."""
        if self.inbox and not self.paused:
            self.step()

    def link_up(self, end: End, event: LinkUp) -> None:
        self.ends[end.number] = end
        self.ups[end.number] = event
        self.tell(event)

    def link_down(self, end: End, code: str) -> None:
        if self.ends.pop(end.number, None) is not None:
            self.ups.pop(end.number, None)
            self.tell(LinkDown(end.number, code))

    def receive(self, end: End, channel: Channel, data: bytes) -> None:
        if end.number not in self.ends:
            return
        self.inbox.append(Received(end.number, channel, data))
        if not self.gathering and not self.paused:
            self._gather()

    def step(self) -> None:
        node = self.node
        if node is None:
            return
        events, self.inbox = self.inbox, []
        now_s = self.clock.now_s
        for event in events:
            if type(event) is Received:
                self.trace.note_received(now_s, self.name, event.link, event.channel, event.data)
            elif type(event) is not Tick:
                self._note(now_s, event)
        try:
            step = node.step(events, self.now())
        except DEFECTS as error:
            self.orders.failed(self, error)
            return
        if not step.commit and self.flight is None and not self.groups:
            if not self.disk.is_clean():
                self.orders.failed(self, SpokeTooSoonError("a step staged something and did not ask for a commit"))
                return
            self._perform(step.effects)
        elif step.commit or step.effects:
            self.groups.append(step.effects)
            if self.flight is None:
                self._begin_commit()
        if self.node is node:
            self._plan_waking(node)

    def _plan_waking(self, node: Node) -> None:
        self.due_s = due_s = node.next_deadline()
        now_s = self.clock.now_s
        if due_s < self.waking_s or self.waking_s <= now_s:
            self.waking_s = max(due_s, now_s)
            self.clock.at(self.waking_s, self._wake, self.life, node)

    def _wake(self, life: int, node: Node) -> None:
        if life != self.life or self.node is not node or self.paused:
            return
        now_s = self.clock.now_s
        if self.due_s <= now_s:
            self.woken = self.woken + 1 if self.woken_s == now_s else 1
            self.woken_s = now_s
            if self.woken > WAKES_MAX:
                self.orders.failed(self, RuntimeError(f"woke {WAKES_MAX} times in one moment and wants to again"))
                return
            self.tell(Tick())
        elif self.waking_s <= now_s:
            self.waking_s = self.due_s
            self.clock.at(self.waking_s, self._wake, life, node)

    def _note(self, now_s: float, event: Event) -> None:
        self.trace.note(now_s, self.name, type(event).__name__, getattr(event, "link", ""), getattr(event, "code", ""))

    # --- commits --------------------------------------------------------------------------------------------------

    def _begin_commit(self) -> None:
        self.flying, self.groups = self.groups, []
        try:
            self.flight = self.disk.begin_commit()
        except LocalFaultError as fault:
            self._fail(fault)
            return
        if self.flight is None:
            flying, self.flying = self.flying, []
            self._perform_all(flying)
            return
        low_s, high_s = self.commit_s
        if high_s == 0.0:
            self._end_commit(self.life, self.flight)
        else:
            self.clock.after(self.rng.uniform(low_s, high_s), self._end_commit, self.life, self.flight)

    def _end_commit(self, life: int, ticket: Ticket) -> None:
        if life != self.life or self.flight is not ticket:
            return
        if self.paused:
            self.clock.after(0.1, self._end_commit, life, ticket)
            return
        try:
            self.disk.write(ticket)
        except LocalFaultError as fault:
            self._fail(fault)
            return
        self.disk.end_commit(ticket)
        flying, self.flying, self.flight = self.flying, [], None
        self._perform_all(flying)
        if life == self.life and self.groups and self.flight is None:
            self._begin_commit()

    def _perform_all(self, groups: list[tuple[Effect, ...]]) -> None:
        life = self.life
        for effects in groups:
            if life == self.life:
                self._perform(effects)

    def _fail(self, fault: LocalFaultError) -> None:
        """As the daemon: nothing that rests on it is said; the node is built anew from what is durable, and reads."""
        for effect in (effect for effects in (*self.flying, *self.groups) for effect in effects):
            if isinstance(effect, Reply):
                outcome = fault if isinstance(effect.outcome, Written) else effect.outcome
                self.orders.reply(self, effect.request, outcome)
        self.flight = None
        self.flying.clear()
        self.groups.clear()
        self.disk.abandon()
        self.sometimes["disk full"] += 1
        self._rebuild(fault)
        self.clock.after(PROBE_S, self._probe, self.life)

    def _rebuild(self, fault: LocalFaultError | None) -> None:
        self._build(fault)
        self.inbox = [*self.ups.values(), *(event for event in self.inbox if not isinstance(event, LinkUp))]
        self.tell(Tick())

    def _probe(self, life: int) -> None:
        if life != self.life or self.node is None or not self.read_only:
            return
        if self.disk.full or self.paused:
            self.clock.after(PROBE_S, self._probe, life)
            return
        self.disk.abandon()
        self._rebuild(None)

    # --- effects --------------------------------------------------------------------------------------------------

    def _perform(self, effects: tuple[Effect, ...]) -> None:
        for effect in effects:
            if type(effect) is Send:
                end = self.ends.get(effect.link)
                if end is not None:
                    self.orders.send(end, effect.channel, effect.data, effect.droppable)
            elif isinstance(effect, Reply):
                self.orders.reply(self, effect.request, effect.outcome)
            elif isinstance(effect, Dial):
                self.orders.dial(self, effect.address)
            elif isinstance(effect, CloseLink):
                self._close(effect)
            elif isinstance(effect, Report):
                self._on_report(effect)
                self.trace.note(self.clock.now_s, self.name, "reports", effect.code, effect.reason)
            elif isinstance(effect, JournalGrew):
                self.trace.note(self.clock.now_s, self.name, "journal", effect.number)
                self.orders.grew(self, effect.number)

    def _on_report(self, report: Report) -> None:
        self.reports[report.code] += 1
        note_report(report, self.codes, self.unreasoned, self.said)

    def on_refused(self, error: MeshnodeError) -> None:
        """A local client was told."""
        self.codes.setdefault(error.code, error.reason)
        if not (error.code and error.reason and error.action):
            self.unreasoned.append(f"a refusal ({error.code or 'no code'}: {error.reason or 'no reason'})")

    def _close(self, effect: CloseLink) -> None:
        """The node is told that it is over, as by every transport: until then it counts the link as one it has."""
        self.codes.setdefault(effect.code, "a link was closed")
        end = self.ends.get(effect.link)
        if end is not None:
            self.orders.close(end, effect.code)

    def shows(self, incident: IncidentId) -> IncidentView | None:
        """What a local client is shown; None when it is refused, or the node raised."""
        if self.reading is None:
            return None
        try:
            return self.reading.incident(incident)
        except MeshnodeError:
            return None
        except DEFECTS as error:
            self.orders.failed(self, error)
            return None

    def scrub(self) -> None:
        """As the daemon does all the time: rows that nobody reads are looked at too."""
        before, position = self.disk.damaged(), SCRUB_START
        while True:
            position = self.disk.scrub(position, SCRUB_ROWS).following
            if position == SCRUB_START:
                break
        if self.disk.damaged() > before:
            self.sometimes["a scrub found damage"] += 1
            self.tell(Tick())

    # --- looks from outside ---------------------------------------------------------------------------------------

    def measure(self) -> None:
        """Notes the most that anything ever was."""
        if self.node is not None:
            for name, size in sizes_of(self.node).items():
                self.peaks[name] = max(self.peaks[name], size)


def note_report(report: Report, codes: dict[str, str], unreasoned: list[str], said: set[str]) -> None:
    """What the checks of codes and of what must not be said want to know of it."""
    codes.setdefault(report.code, report.reason)
    if not report.code or not report.reason:
        unreasoned.append(f"a report ({report.code or 'no code'}: {report.reason or 'no reason'})")
    if len(said) < SAID_MAX:
        said.add(" ".join((report.reason, *report.detail.values())))


def sizes_of(node: Node) -> dict[str, int]:
    """Rows of every collection in the node's machines, by machine: whatever grows without bound shows here."""
    machines = ("peers", "exchange", "rollcall", "custody", "_gossip", "_sync", "_budgets", "outbox")
    return {name.strip("_"): _rows(getattr(node, name)) for name in machines}


def _rows(machine: object) -> int:
    return sum(len(value) for value in vars(machine).values() if isinstance(value, (dict, list, set, frozenset)))
