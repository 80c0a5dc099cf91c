"""Links inside one process: the same behaviour as QUIC's, on a network that a test can cut, slow down and make lossy.

A ``MemoryNetwork`` knows its transports by name; the name is the address. What one end sends travels as a message and
arrives after the path's delay. A message that is lost, or meets a cut, is repeated with growing pauses, as QUIC would,
and what follows it on the same stream waits. A path is directed: cut one direction to have a one-way cut (N2).

Everything that can happen to a link here happens in the same order and with the same codes as over QUIC: the dialler's
hello first, windows that follow what the daemon consumed, bounded queues, keep-alives, the idle time-out.

Deterministic under trio's mock clock: each transport has one task that works off its messages by time of arrival, then
sender, then the sender's count. Chance (loss) comes from the network's ``rng``, apart for each path.
"""

from __future__ import annotations

import hashlib
import heapq
import math
import random
from collections import Counter, defaultdict, deque
from dataclasses import dataclass
from typing import NamedTuple

import trio

from meshnode.core.events import Channel, DialFailed, LinkDown, LinkUp, Received, RoundTrip
from meshnode.transport.base import (
    BULK_QUEUE_BYTES_MAX,
    CONTROL_QUEUE_BYTES_MAX,
    RECEIVE_RECORDS_MAX,
    Authenticator,
    Record,
    check_frame,
    note_refused,
    reason_of,
)
from meshnode.transport.delivery import Delivery
from meshnode.transport.memory_link import Kind, MemoryLink, Message

REPEAT_SECONDS = 0.2
"""Pause before the first repetition of a lost message; it doubles up to REPEAT_SECONDS_MAX."""

REPEAT_SECONDS_MAX = 2.0


@dataclass(frozen=True, slots=True)
class MemorySettings:
    """As in QuicSettings, with the same meanings and defaults."""

    idle_timeout_seconds: float = 15.0
    keepalive_seconds: float = 5.0
    connect_timeout_seconds: float = 5.0
    hello_timeout_seconds: float = 3.0
    links_max: int = 256
    window_bytes: int = 262_144
    """Sent on a stream and not yet consumed at the other end; while less than an eighth is, one more frame may always
    be."""
    control_queue_bytes_max: int = CONTROL_QUEUE_BYTES_MAX
    bulk_queue_bytes_max: int = BULK_QUEUE_BYTES_MAX
    receive_records_max: int = RECEIVE_RECORDS_MAX
    round_trip_report_seconds: float = 5.0


class MemoryNetwork:
    """The paths between named transports."""

    def __init__(self, rng: random.Random, delay_seconds: float = 0.001) -> None:
        self.seed = rng.getrandbits(64)
        self._starts = 0
        self.transports: dict[str, MemoryTransport] = {}
        self._delay_seconds: defaultdict[tuple[str, str], float] = defaultdict(lambda: delay_seconds)
        self._loss: defaultdict[tuple[str, str], float] = defaultdict(float)
        self._cuts: set[tuple[str, str]] = set()
        self._rngs: dict[tuple[str, str], random.Random] = {}
        """One per path: tasks that run at the same instant, in any order, do not take each other's chances."""

    def cut(self, sender: str, receiver: str, both_ways: bool = True) -> None:
        """Nothing passes any more. The links on the path find out by their time-outs."""
        self._cuts.add((sender, receiver))
        if both_ways:
            self._cuts.add((receiver, sender))

    def heal(self, sender: str, receiver: str, both_ways: bool = True) -> None:
        self._cuts.discard((sender, receiver))
        if both_ways:
            self._cuts.discard((receiver, sender))

    def delay(self, sender: str, receiver: str, seconds: float) -> None:
        """One way, from now on."""
        self._delay_seconds[sender, receiver] = seconds

    def lose(self, sender: str, receiver: str, probability: float) -> None:
        """Each transmission is lost with this probability and repeated later."""
        self._loss[sender, receiver] = probability

    def drop(self, one: str, other: str, code: str = "network-path-lost") -> None:
        """Breaks the links between two transports at once, at both ends."""
        for name, peer in ((one, other), (other, one)):
            transport = self.transports.get(name)
            if transport is not None:
                transport.break_links(peer, code)

    def count_starts(self) -> int:
        self._starts += 1
        return self._starts

    def delay_seconds(self, sender: str, receiver: str) -> float:
        return self._delay_seconds[sender, receiver]

    def passes(self, sender: str, receiver: str) -> bool:
        """Whether one transmission gets through now."""
        path = (sender, receiver)
        if path in self._cuts:
            return False
        if not self._loss[path]:
            return True
        if path not in self._rngs:
            self._rngs[path] = random.Random(f"{self.seed} {sender} {receiver}")  # noqa: S311  (loss, not a secret)
        return self._rngs[path].random() >= self._loss[path]


class _Line(NamedTuple):
    """One stream of one link, as seen by the receiver."""

    sender: str
    sender_link: int
    channel: Channel


class MemoryTransport:
    """See ``base.Transport``. ``name`` is its address on the network."""

    def __init__(
        self,
        network: MemoryNetwork,
        name: str,
        authenticator: Authenticator,
        settings: MemorySettings | None = None,
    ) -> None:
        self.counters: Counter[str] = Counter()
        self.refused_from: dict[str, str] = {}
        self.name = name
        self.authenticator = authenticator
        self.settings = settings or MemorySettings()
        self._network = network
        self._delivery = Delivery(self.settings.receive_records_max, self._on_consumed)
        self._links: dict[int, MemoryLink] = {}
        self._links_made = 0
        self._sent = 0
        self._lines: dict[_Line, deque[tuple[float, int, Message]]] = {}
        """Messages on their way here, in the order they were sent on their stream, with their times of arrival."""
        self._due: list[tuple[float, str, int, _Line]] = []
        """When the first message of each line arrives. A heap."""
        self._repeats: dict[_Line, int] = {}
        self._wake = trio.Event()
        self._links_due = math.inf
        """No link has a deadline before this: each may have moved on since it was looked at."""
        self._is_running = False
        # Stands for the certificate of a process start: a restarted transport has another.
        self.tls_sha256 = hashlib.sha256(f"{network.seed} {network.count_starts()} {name}".encode()).digest()

    # --- Transport ---

    @property
    def receive(self) -> trio.MemoryReceiveChannel[Record]:
        return self._delivery.receive

    @property
    def addresses(self) -> tuple[str, ...]:
        return (self.name,) if self._is_running else ()

    async def run(self, task_status: trio.TaskStatus[str] = trio.TASK_STATUS_IGNORED) -> None:
        self._network.transports[self.name] = self
        self._is_running = True
        try:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(self._delivery.run)
                nursery.start_soon(self._work)
                task_status.started(self.name)
        finally:
            for link in list(self._links.values()):
                link.close("shutting-down")
            self.vanish()
            self._delivery.close()

    def dial(self, address: str) -> None:
        if not self._is_running:
            self._delivery.put(DialFailed(address, "shutting-down", reason_of("shutting-down")))
        elif len(self._links) >= self.settings.links_max:
            self._delivery.put(DialFailed(address, "too-many-links", reason_of("too-many-links")))
        else:
            self._add_link(address, 0, dialed=True).open()

    def send(self, link: int, channel: Channel, data: bytes, droppable: bool) -> None:
        check_frame(data)
        if link in self._links:
            self._links[link].send(channel, data, droppable)

    def close(self, link: int, code: str) -> None:
        if link in self._links:
            self._links[link].close(code)

    # --- for tests ---

    def vanish(self) -> None:
        """The process is killed: no goodbye, nothing more is sent or received."""
        self._is_running = False
        self._links.clear()
        self._lines.clear()
        if self._network.transports.get(self.name) is self:
            del self._network.transports[self.name]

    def break_links(self, peer: str, code: str) -> None:
        for link in list(self._links.values()):
            if link.address == peer:
                link.end(code)

    # --- for links ---

    def post(self, message: Message) -> None:
        """Sends a message on its way. Nobody of that name: it is lost, and time-outs tell."""
        receiver = self._network.transports.get(message.receiver)
        if receiver is not None and self._is_running:
            self._sent += 1
            arrival = trio.current_time() + self._network.delay_seconds(self.name, message.receiver)
            receiver._enqueue(_Line(self.name, message.sender_link, message.channel), arrival, self._sent, message)

    def note_deadline(self, deadline: float) -> None:
        """A link has one that may be earlier than before."""
        if deadline < self._links_due:
            self._links_due = deadline
            self._wake.set()

    def on_up(self, record: LinkUp) -> None:
        self._delivery.put(record)

    def on_frame(self, record: Received) -> bool:
        return self._delivery.put_frame(record)

    def on_round_trip(self, record: RoundTrip) -> None:
        self._delivery.put_if_room(record)

    def on_end(self, link: MemoryLink, code: str, reason: str) -> None:
        self.counters[code] += 1
        self.counters["frame-dropped"] += link.dropped_frames
        self._links.pop(link.number, None)
        self._delivery.drop_frames(link.number)
        if link.was_up:
            self._delivery.put(LinkDown(link.number, code))
        elif link.dialed:
            self._delivery.put(DialFailed(link.address, code, reason))
        else:
            note_refused(self.refused_from, link.address, code)

    # --- inside ---

    def _add_link(self, peer: str, peer_link: int, dialed: bool) -> MemoryLink:
        self._links_made += 1
        link = self._links[self._links_made] = MemoryLink(self, self._links_made, peer, peer_link, dialed)
        self.note_deadline(link.deadline())
        return link

    def _on_consumed(self, record: Received) -> None:
        if record.link in self._links:
            self._links[record.link].on_consumed(record)

    def _enqueue(self, key: _Line, arrival: float, count: int, message: Message) -> None:
        line = self._lines.setdefault(key, deque())
        line.append((arrival, count, message))
        if len(line) == 1:
            heapq.heappush(self._due, (arrival, key.sender, count, key))
            self._wake.set()

    async def _work(self) -> None:
        while True:
            # One scope for all waits that end before their deadline: a scope costs as much as handing on a message.
            with trio.CancelScope() as scope:
                while True:
                    deadline = min(self._links_due, self._due[0][0] if self._due else math.inf)
                    if scope.deadline != deadline:
                        scope.deadline = deadline
                    await self._wake.wait()
                    self._wake = trio.Event()
                    self._handle_due(trio.current_time())
            self._handle_due(trio.current_time())

    def _handle_due(self, now: float) -> None:
        while self._due and self._due[0][0] <= now:
            self._work_off(heapq.heappop(self._due)[3], now)
        if now >= self._links_due:
            self._links_due = math.inf
            for link in list(self._links.values()):
                if now >= link.deadline():
                    link.handle_deadline(now)
            self._links_due = min((link.deadline() for link in self._links.values()), default=math.inf)

    def _work_off(self, key: _Line, now: float) -> None:
        """The first message of a line arrives, or is lost and comes again; then the next one is due."""
        line = self._lines.get(key)
        if not line:
            return
        arrival, count, message = line[0]
        if self._network.passes(key.sender, self.name):
            line.popleft()
            self._repeats.pop(key, None)
            self._arrive(key.sender, message)
        else:
            repeats = self._repeats[key] = self._repeats.get(key, 0) + 1
            line[0] = (now + min(REPEAT_SECONDS * 2 ** (repeats - 1), REPEAT_SECONDS_MAX), count, message)
            if message.kind is not Kind.OPEN and message.link not in self._links:
                line.clear()  # nobody waits for it any more
        if line:
            arrival, count, _ = line[0]
            heapq.heappush(self._due, (max(arrival, now), key.sender, count, key))
        else:
            self._lines.pop(key, None)
            self._repeats.pop(key, None)

    def _arrive(self, sender: str, message: Message) -> None:
        if message.kind is not Kind.OPEN:
            link = self._links.get(message.link)
            if link is not None:
                link.on_message(message)
        elif len(self._links) < self.settings.links_max:
            self._add_link(sender, message.sender_link, dialed=False).on_message(message)
        else:
            self.counters["too-many-links"] += 1
            self.post(Message(Kind.CLOSE, sender, message.sender_link, 0, data=b"connection-refused"))
