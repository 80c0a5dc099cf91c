"""The effect loop: events in, one step of the node, a commit, effects out. The law "persist, then speak" is kept here.

::

    links ------+                                         +--> disk thread: write(ticket)
    local API --+--> inbox --> node.step --> groups --> committer --> perform effects, in order
    discovery --+

* One task (``_decide``) owns the node. It takes whatever has come in, steps once, and never waits for the disk.
* One task (``_commit``) takes all groups that are waiting, makes what they staged durable in one transaction, and
  only then performs their effects in order. While it waits for the disk, the next group grows: a group commit that
  adapts itself to the disk.
* Effects of a step that staged nothing are performed at once when no group is waiting, else behind it: what a node says
  may rest on anything it decided before.

When a commit fails, nothing that rests on it was said. The node is thrown away and built again from what is durable;
it then only reads (``read_only``) until a commit succeeds again (disk full), or until a restart (failed sync: nobody
knows what reached the disk, so nothing may be acknowledged any more).

What is not foreseen is not caught: an exception of any other kind ends the loop, and with it the process, with its
traceback. What was acknowledged is durable; a node whose state nobody understands says nothing more.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial

import trio

from meshnode.core.events import (
    ChangeIncident,
    CloseLink,
    Dial,
    Effect,
    Event,
    JournalGrew,
    LinkUp,
    Now,
    OpenIncident,
    Received,
    Reply,
    Report,
    Send,
    ShareIncident,
    Tick,
    Written,
)
from meshnode.core.node import Node
from meshnode.core.reading import Reading
from meshnode.daemon.disk import Disk
from meshnode.daemon.links import Links
from meshnode.errors import LocalFaultError, MeshnodeError, RefusedError
from meshnode.storage.ticket import RETRY_CODES, CommittingLogStore
from meshnode.transport.base import Record

EVENTS_PER_STEP_MAX = 128
"""Events of one step: how much one commit carries when many clients write."""
STEP_BYTES_MAX = 262_144
"""Bytes of frames of one step, the last one over. Some 700 entries of a catch-up, which hold the loop for 50 ms; local
requests then have their turn."""
INBOX_MAX = 512
"""Events waiting. When full, the links wait (their windows close), hints are dropped and local requests are refused as
busy."""
GROUPS_MAX = 64
"""Steps waiting for the disk. When full, no new event is taken: a slow disk slows writers, not readers."""
GROUP_BYTES_MAX = 32 * 1024 * 1024
"""What they want said, the last step over: answers to peers may be a thousand times as long as the questions."""
COMMIT_PACE_S = 0.01
"""Between two commits that nobody here waits for. What peers push is made durable at once when it comes alone, and in
groups when it comes fast: a commit costs as much as taking in three entries. One hop adds at most this to the way of an
entry, and only under load; a local request never waits for it."""
PROBE_INTERVAL_S = 5.0
"""How often a node whose disk was full tries to commit again."""

NodeFactory = Callable[[LocalFaultError | None], Node]
"""Builds the node from what is durable; the argument says why it must not write."""
Clock = Callable[[], Now]


@dataclass(eq=False)
class _Waiting:
    """A local request on its way."""

    done: trio.Event = field(default_factory=trio.Event)
    outcome: Written | MeshnodeError | None = None


class Loop:
    """Owns the node, the store's commits and the orders to the links."""

    def __init__(
        self,
        make_node: NodeFactory,
        store: CommittingLogStore,
        disk: Disk,
        links: Links,
        clock: Clock,
        report: Callable[[Report], None],
    ) -> None:
        self._make_node = make_node
        self._store = store
        self._disk = disk
        self._links = links
        self._clock = clock
        self._report = report
        self.node = self._make_undamaged(None)
        self.reading = Reading(self.node)
        self.durable_journal = store.applied_last()
        self._inbox: deque[Event] = deque([Tick()])
        self._inbox_wake = trio.Event()
        self._inbox_room = trio.Event()
        self._groups: deque[tuple[Effect, ...]] = deque()
        self._group_bytes = 0
        self._groups_wake = trio.Event()
        self._groups_room = trio.Event()
        self._urgent = trio.Event()
        """Somebody here waits for what the waiting groups say."""
        self._commit_due = 0.0
        self._committing = False
        self._idle = trio.Event()
        self._requests: dict[int, _Waiting] = {}
        self._request_numbers = 0
        self._commits_since_tidy = 0
        self._tidy_wanted = False
        self._standing: dict[str, tuple[MeshnodeError, Now]] = {}
        """Faults that are not the node's own: a node that is built anew is told of them again."""
        self._journal_grew = trio.Event()
        self._stopping = False
        self.stopped = trio.Event()

    # --- what other tasks call ------------------------------------------------------------------------------------

    def post(self, event: Event) -> None:
        """Hands an event to the node. Never waits; callers that can flood use :meth:`take_in` or :meth:`offer`."""
        self._inbox.append(event)
        self._inbox_wake.set()

    async def take_in(self, record: Record) -> None:
        """What happened to a link; waits while the inbox is full."""
        while len(self._inbox) >= INBOX_MAX:
            await self._inbox_room.wait()
        self.post(record)

    def offer(self, event: Event) -> None:
        """A hint that comes again by itself: dropped while the inbox is full."""
        if len(self._inbox) < INBOX_MAX:
            self.post(event)

    async def request(self, make: Callable[[int], OpenIncident | ChangeIncident | ShareIncident]) -> Written:
        """Carries out a local request; returns once it is durable. Raises what it was refused with."""
        if self._stopping:
            raise RefusedError("stopping", "this node is stopping", "try again when it has started")
        if len(self._inbox) >= INBOX_MAX:
            raise RefusedError("busy", "too many requests are waiting", "try again in a moment")
        self._request_numbers += 1
        number = self._request_numbers
        waiting = self._requests[number] = _Waiting()
        self.post(make(number))
        try:
            await waiting.done.wait()
        finally:
            self._requests.pop(number, None)
        if isinstance(waiting.outcome, Written):
            return waiting.outcome
        if waiting.outcome is None:
            raise RefusedError("stopping", "this node is stopping", "look whether the change is there, then try again")
        # One fault answers many requests, for as long as it lasts: it must not collect a traceback of each.
        raise waiting.outcome.with_traceback(None)

    def count_refusal(self, code: str) -> None:
        """The local API refused something."""
        self.node.outbox.count(code)

    def note_degraded(self, fault: MeshnodeError) -> None:
        """Shows a fault of this machine in the status until :meth:`end_degraded`; said once."""
        if fault.code not in self._standing:
            self._standing[fault.code] = (fault, self._clock())
            self.node.note_degraded(*self._standing[fault.code])
            self.node.outbox.count(fault.code)
            self._report(Report(fault.code, fault.reason))

    def end_degraded(self, code: str, reason: str) -> None:
        if self._standing.pop(code, None) is not None:
            self.node.degraded.pop(code, None)
            self._report(Report(f"{code}-over", reason))

    async def wait_journal(self, after: int) -> None:
        while self.durable_journal <= after:
            await self._journal_grew.wait()

    def tidy_soon(self) -> None:
        """Makes the store tidy as soon as no commit is waiting, if there was one since it last did."""
        self._tidy_wanted = self._commits_since_tidy > 0 or self._store.tidy_due()
        self._groups_wake.set()

    # --- the tasks ------------------------------------------------------------------------------------------------

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Serves until :meth:`stop` has made everything durable."""
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._commit)
            task_status.started()
            await self._decide()
            nursery.cancel_scope.cancel()

    def stop(self) -> None:
        """Finishes what was taken in, writes checkpoints, then :meth:`run` returns. Idempotent."""
        self._stopping = True
        self._inbox_wake.set()

    async def _decide(self) -> None:
        while not self._stopping or self._inbox:
            # One scope for all waits that end before the node's deadline: a scope costs as much as a short step.
            with trio.CancelScope() as alarm:
                while not self._stopping or self._inbox:
                    await self._wait_for_events(alarm)
                    await self._take_step()
            if alarm.cancelled_caught:
                await self._take_step()
        step = self.node.stop(self._clock())
        self._submit(step.commit, step.effects)
        while self._groups or self._committing:
            self._idle = trio.Event()
            await self._idle.wait()
        self.stopped.set()

    async def _wait_for_events(self, alarm: trio.CancelScope) -> None:
        """Until something has come in, or the alarm rings: at the node's next deadline."""
        if self._inbox:
            await trio.lowlevel.checkpoint()
            return
        self._inbox_wake = trio.Event()
        # The node's clock may stand behind trio's: in a simulation of a machine that was paused.
        deadline = self.node.next_deadline() + (trio.current_time() - self._clock().monotonic_s)
        if alarm.deadline != deadline:
            alarm.deadline = deadline
        await self._inbox_wake.wait()

    async def _take_step(self) -> None:
        while len(self._groups) >= GROUPS_MAX or self._group_bytes >= GROUP_BYTES_MAX:
            await self._groups_room.wait()
        events = self._next_events()
        self._inbox_room = _announce(self._inbox_room)
        step = self.node.step(events, self._clock())
        self._submit(step.commit, step.effects)

    def _next_events(self) -> list[Event]:
        """What one step handles: everything that has come in, within the bounds of a step."""
        events: list[Event] = []
        size_bytes = 0
        while self._inbox and len(events) < EVENTS_PER_STEP_MAX and size_bytes < STEP_BYTES_MAX:
            event = self._inbox.popleft()
            size_bytes += len(event.data) if isinstance(event, Received) else 0
            events.append(event)
        return events

    def _submit(self, commit: bool, effects: tuple[Effect, ...]) -> None:
        if not commit and not self._groups and not self._committing:
            self._perform(effects)
        elif commit or effects:
            self._groups.append(effects)
            said = {id(effect.data): len(effect.data) for effect in effects if isinstance(effect, Send)}
            self._group_bytes += sum(said.values())  # what goes to many links is held once
            self._groups_wake.set()
            if self._stopping or any(isinstance(effect, Reply) for effect in effects):
                self._urgent.set()

    async def _commit(self) -> None:
        while True:
            while not self._groups and not self._tidy_wanted:
                self._committing = False
                self._idle.set()
                self._groups_wake = trio.Event()
                await self._groups_wake.wait()
            self._committing = True
            await self._keep_pace()
            groups, self._groups = self._groups, deque()
            self._group_bytes = 0
            self._groups_room = _announce(self._groups_room)
            fault = await self._write_staged()
            if fault is None:
                for effects in groups:
                    self._perform(effects)
                groups.clear()
                fault = await self._tidy()
            if fault is not None:
                self._fail(groups, fault)
                if fault.code in RETRY_CODES:
                    await self._wait_for_disk()
                else:
                    await self._perform_uncommitted()

    async def _keep_pace(self) -> None:
        """Lets entries of others gather for a moment, unless the last commit was long ago or somebody here waits."""
        if not self._urgent.is_set() and trio.current_time() < self._commit_due:
            with trio.move_on_at(self._commit_due):
                await self._urgent.wait()
        self._urgent = trio.Event()

    async def _write_staged(self) -> LocalFaultError | None:
        try:
            ticket = self._store.begin_commit()
            if ticket is not None:
                await self._disk.run(partial(self._store.write, ticket))
                self._store.end_commit(ticket)
                self._commits_since_tidy += 1
                self._commit_due = trio.current_time() + COMMIT_PACE_S
        except LocalFaultError as fault:
            return fault
        return None

    async def _tidy(self) -> LocalFaultError | None:
        """Shortens what later commits have to wait for, when that is due. None when commits can go on."""
        if self._tidy_wanted or self._store.tidy_due():
            self._tidy_wanted, self._commits_since_tidy = False, 0
            try:
                await self._disk.run(self._store.tidy)
                # What was dropped is deleted in slices: the next one at once, or behind the commit that waits.
                self._tidy_wanted = self._store.tidy_due() and not self._stopping
            except LocalFaultError as fault:
                if fault.code not in RETRY_CODES:
                    return fault
                # Commits may still find room where this did not. They say so themselves when they do not.
                self._report(Report(fault.code, fault.reason))
        return None

    # --- a disk that fails ----------------------------------------------------------------------------------------

    def _fail(self, groups: deque[tuple[Effect, ...]], fault: LocalFaultError) -> None:
        """Refuses every request that waits for what could not be made durable, and starts again from what is."""
        waiting = [effect for effects in (*groups, *self._groups) for effect in effects]
        self._groups.clear()
        self._group_bytes = 0
        self._groups_room = _announce(self._groups_room)
        for effect in waiting:
            if isinstance(effect, Reply):
                outcome = fault if isinstance(effect.outcome, Written) else effect.outcome
                self._perform((Reply(effect.request, outcome),))
            elif isinstance(effect, Report):
                self._perform((effect,))
        self._store.abandon()
        self._rebuild(fault)
        self.node.outbox.count(fault.code)
        self._report(Report(fault.code, fault.reason))

    def _rebuild(self, read_only: LocalFaultError | None) -> None:
        """A new node from what is durable, told of the links there are before anything that waits."""
        counts = self.node.outbox.counts
        self.node = self._make_undamaged(read_only)
        self.node.outbox.counts.update(counts)
        for fault, since in self._standing.values():
            self.node.note_degraded(fault, since)
        self.reading = Reading(self.node)
        waiting = [event for event in self._inbox if not isinstance(event, LinkUp)]
        self._inbox = deque([*self._links.up.values(), *waiting])
        self.post(Tick())

    def _make_undamaged(self, read_only: LocalFaultError | None) -> Node:
        """The node of what the store can still give. A damaged row is told once and then skipped, so this ends."""
        while True:
            try:
                return self._make_node(read_only)
            except LocalFaultError as fault:
                if fault.code != "store-row-damaged":
                    raise
                self._store.abandon()  # what the node had staged before it met the row
                self._report(Report(fault.code, fault.reason))

    async def _wait_for_disk(self) -> None:
        """Tries to commit something small now and then; meanwhile refusals and answers to peers go out."""
        while True:
            with trio.move_on_after(PROBE_INTERVAL_S):
                await self._perform_uncommitted()
            self.node.stage_probe()
            fault = await self._write_staged()
            if fault is None:
                self._rebuild(None)
                self._report(Report("store-recovered", "the disk takes writes again"))
                return
            self._store.abandon()

    async def _perform_uncommitted(self) -> None:
        """For a node that only reads: its steps stage nothing, so their effects wait for nothing."""
        while True:
            while self._groups:
                self._perform(self._groups.popleft())
            self._group_bytes = 0
            self._groups_room = _announce(self._groups_room)
            self._committing = False
            self._idle.set()
            self._groups_wake = trio.Event()
            await self._groups_wake.wait()

    # --- effects --------------------------------------------------------------------------------------------------

    def _perform(self, effects: tuple[Effect, ...]) -> None:
        for effect in effects:
            match effect:
                case Send(link, channel, data, droppable):
                    self._links.send(link, channel, data, droppable)
                case Reply(request, outcome):
                    waiting = self._requests.get(request)
                    if waiting is not None:
                        waiting.outcome = outcome
                        waiting.done.set()
                case JournalGrew(number):
                    self.durable_journal = max(self.durable_journal, number)
                    self._journal_grew = _announce(self._journal_grew)
                case CloseLink(link, code):
                    self._links.close(link, code)
                case Dial(address):
                    self._links.dial(address)
                case Report():
                    self._report(effect)


def _announce(happened: trio.Event) -> trio.Event:
    """Wakes everybody who waits for it to happen; returns the event for the next time."""
    happened.set()
    return trio.Event()
