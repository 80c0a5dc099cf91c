"""The links of daemons: the transport inside one process, on a network that obeys a plan.

Links are streams, as QUIC's are. So what is lost, corrupted or held comes again after pauses that grow, and what
follows waits behind it; what the network doubles, a stream takes once. A ``hold`` differs from a ``cut`` in nothing
that a stream could tell: both end when they end, or with the idle time-out of the link.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from random import Random
from typing import NamedTuple

import trio

from meshnode.core import wire
from meshnode.core.events import Channel
from meshnode.core.hello import LinkAuthenticator
from meshnode.core.ids import IncidentId, LogId
from meshnode.daemon.links import CountingTransport, Deliver, Links
from meshnode.errors import MeshnodeError, UntrustedInputError
from meshnode.transport.memory import MemoryNetwork, MemorySettings, MemoryTransport
from meshnode.transport.memory_link import Kind, Message, State
from simulations.scenario.plan import Heal, LinkFault, Plan
from simulations.worlds import frames
from simulations.worlds.work import MARK_BYTES

MESSAGE_OVERHEAD_BYTES = 60
"""What a datagram costs on the line beside what it carries."""
LOSS_MAX = 0.95


def address_of(name: str) -> str:
    return f"{name}:1"


class _State(NamedTuple):
    """Of one direction at this moment."""

    blocked: bool
    loss: float
    delay_s: float
    """Each message takes up to so much longer."""


class PlanNetwork(MemoryNetwork):
    def __init__(self, plan: Plan) -> None:
        super().__init__(Random(f"network {plan.scenario} {plan.seed}"))
        self._quality = {}
        for (a, b), quality in plan.quality.items():
            self._quality[address_of(a), address_of(b)] = self._quality[address_of(b), address_of(a)] = quality
        self._faults: list[tuple[LinkFault, frozenset[str], frozenset[str]]] = []
        self._paused: set[str] = set()
        self._states: dict[tuple[str, str], _State] = {}
        self._line_free_s: dict[tuple[str, str], float] = {}
        self._luck: dict[tuple[str, str], Random] = {}
        self.bytes_sent: Counter[str] = Counter()
        self.sent: dict[tuple[str, str], list[int]] = {}
        """(node, class of message) -> [messages, bytes]."""
        self.repeated = 0

    # --- what transports ask --------------------------------------------------------------------------------------

    def passes(self, sender: str, receiver: str) -> bool:
        state = self._state(sender, receiver)
        passes = not state.blocked and (not state.loss or self._rng(sender, receiver).random() >= state.loss)
        self.repeated += not passes
        return passes

    def delay_seconds(self, sender: str, receiver: str) -> float:
        quality = self._quality.get((sender, receiver))
        if quality is None:
            return 0.0
        jitter_s = quality.jitter_s + self._state(sender, receiver).delay_s
        delay_s = quality.latency_s + (self._rng(sender, receiver).random() * jitter_s if jitter_s else 0.0)
        return delay_s + max(0.0, self._line_free_s.get((sender, receiver), 0.0) - trio.current_time())

    def carry(self, sender: str, receiver: str, size: int, kind: str) -> None:
        """So many bytes are put on the line, for a message of this class."""
        quality = self._quality.get((sender, receiver))
        if quality is not None:
            name = sender.removesuffix(":1")
            self.bytes_sent[name] += size
            count = self.sent.setdefault((name, kind), [0, 0])
            count[0] += 1
            count[1] += size
            if quality.rate_bytes_per_s:
                begin_s = max(self._line_free_s.get((sender, receiver), 0.0), trio.current_time())
                self._line_free_s[sender, receiver] = begin_s + size / quality.rate_bytes_per_s

    # --- faults ---------------------------------------------------------------------------------------------------

    def begin(self, fault: LinkFault) -> None:
        senders, receivers = (frozenset(map(address_of, names)) for names in (fault.senders, fault.receivers))
        self._faults.append((fault, senders, receivers))
        self._states.clear()

    def end(self, fault: LinkFault) -> None:
        """Idempotent: it may have been healed before."""
        self._faults = [row for row in self._faults if row[0] is not fault]
        self._states.clear()

    def heal_some(self, heal: Heal) -> None:
        """Faults of these effects end where their senders and receivers are all named."""
        senders, receivers = set(map(address_of, heal.senders)), set(map(address_of, heal.receivers))
        self._faults = [
            row
            for row in self._faults
            if not (row[0].effect in heal.effects and row[1] <= senders and row[2] <= receivers)
        ]
        self._states.clear()

    def heal_all(self) -> None:
        self._faults.clear()
        self._paused.clear()
        self._states.clear()

    def pause(self, name: str) -> None:
        """Nothing goes out of this machine or is taken by it."""
        self._paused.add(address_of(name))
        self._states.clear()

    def resume(self, name: str) -> None:
        self._paused.discard(address_of(name))
        self._states.clear()

    # --- inside ---------------------------------------------------------------------------------------------------

    def _rng(self, sender: str, receiver: str) -> Random:
        path = (sender, receiver)
        if path not in self._luck:
            self._luck[path] = Random(f"{self.seed} {sender} {receiver}")
        return self._luck[path]

    def _state(self, sender: str, receiver: str) -> _State:
        path = (sender, receiver)
        state = self._states.get(path)
        if state is None:
            state = self._states[path] = self._work_out(sender, receiver)
        return state

    def _work_out(self, sender: str, receiver: str) -> _State:
        quality = self._quality.get((sender, receiver))
        if quality is None or sender in self._paused or receiver in self._paused:
            return _State(True, 0.0, 0.0)
        blocked, kept, delay_s = False, 1 - quality.loss, 0.0
        for fault, senders, receivers in self._faults:
            if sender in senders and receiver in receivers:
                blocked = blocked or fault.effect in ("cut", "hold")
                if fault.effect in ("drop", "corrupt"):
                    kept *= 1 - fault.amount
                elif fault.effect == "delay":
                    delay_s = max(delay_s, fault.amount)
        return _State(blocked, min(1 - kept, LOSS_MAX), delay_s)


class Watch(NamedTuple):
    """What a transport tells the world of what it is asked to send."""

    said: Callable[[IncidentId, LogId, int], None]
    """The node tells a peer that it holds this entry."""
    sent: Callable[[str, Message], None]
    """A message leaves for an address."""
    marked: Callable[[str], None]
    """A marked word is about to leave for an address."""


class WatchedTransport(MemoryTransport):
    def __init__(
        self,
        network: PlanNetwork,
        name: str,
        authenticator: LinkAuthenticator,
        settings: MemorySettings,
        watch: Watch,
    ) -> None:
        super().__init__(network, name, authenticator, settings)
        self._plan_network = network
        self._watch = watch
        self._checked = b""
        self.frame_bytes_max = 0
        """The longest frame that a link was given: one may wait whatever the limit of a queue is."""

    def queued_bytes(self) -> tuple[int, int]:
        """The most that waits for any link: control, bulk."""
        queued = [link._queued_bytes for link in self._links.values()] or [[0, 0]]
        return max(row[0] for row in queued), max(row[1] for row in queued)

    def links_up(self) -> int:
        return sum(link.state is State.UP for link in self._links.values())

    def send(self, link: int, channel: Channel, data: bytes, droppable: bool) -> None:
        if data is not self._checked:  # the same bytes go to many links, one after the other
            self._checked = data
            self.frame_bytes_max = max(self.frame_bytes_max, len(data))
            for incident, log, seq in _claims(data):
                self._watch.said(incident, log, seq)
        super().send(link, channel, data, droppable)

    def post(self, message: Message) -> None:
        if self._is_running:
            if MARK_BYTES in message.data:
                self._watch.marked(message.receiver)
            self._plan_network.carry(
                self.name, message.receiver, MESSAGE_OVERHEAD_BYTES + len(message.data), _class(message)
            )
            if message.kind is not Kind.CONSUMED:
                self._watch.sent(message.receiver, message)
        super().post(message)


def _class(message: Message) -> str:
    if message.kind is Kind.FRAME:
        return frames.CLASS_OF_NUMBER.get(frames.number_of(message.data), frames.OTHER)
    return frames.HELLO if message.kind in (Kind.OPEN, Kind.ACCEPT, Kind.HELLO) else frames.TRANSPORT


class SlowLinks(Links):
    """Links are taken for so long before the node is there to hear of them."""

    def __init__(self, make: Callable[[], CountingTransport], start_s: float) -> None:
        super().__init__(make)
        self._start_s = start_s

    async def run(
        self,
        deliver: Deliver,
        on_failed: Callable[[MeshnodeError], None],
        on_restored: Callable[[str, str], None],
        *,
        task_status: trio.TaskStatus[str] = trio.TASK_STATUS_IGNORED,
    ) -> None:
        async with trio.open_nursery() as nursery:
            address: str = await nursery.start(super().run, deliver, on_failed, on_restored)
            await trio.sleep(self._start_s)
            task_status.started(address)


def _claims(data: bytes) -> list[tuple[IncidentId, LogId, int]]:
    """What a frame says its sender holds: (incident, log, height)."""
    try:
        message = wire.decode_untrusted(data)
    except UntrustedInputError:
        return []
    match message:
        case wire.Run(incident, log, first, _, _, rows):
            return [(incident, log, first + len(rows) - 1)]
        case wire.Heights(incident, heights):
            return [(incident, log, height) for log, height in heights]
        case wire.Announce(heights):
            return list(heights)
        case _:
            return []
