"""Virtual links: what QUIC promises (``stream``), or less than any transport would give (``frames``).

In ``stream`` a link keeps the order of each channel and loses nothing while it lives: a lost packet is sent again and
is only late, what is sent into a cut or a hold arrives when that ends, and a link over which nothing came for the idle
time-out is dead at both ends. In ``frames`` every message has its own luck.

Who is cut off is a matter of nodes, not of links: faults name senders and receivers, and a new link meets them too.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from math import ceil
from random import Random

from meshnode.core.events import Channel
from simulations.scenario.plan import Heal, LinkFault, Plan, Quality
from simulations.worlds.clockwork import Clockwork
from simulations.worlds.frames import number_of
from simulations.worlds.work import MARK_BYTES

PACKET_BYTES = 1_200
QUEUE_BYTES_MAX = 8 * 1024 * 1024
"""On the way in one direction of one link. As the real transport: droppable frames go beyond the half, and what does
not fit costs the link."""
RESEND_MIN_S = 0.05
CONNECT_TIMEOUT_S = 5.0
BLOCKING = ("cut", "hold")


@dataclass(slots=True, eq=False)
class End:
    """One end of a link."""

    number: int
    node: str
    peer: str
    address: str
    """Of the peer, as this end was told."""
    quality: Quality
    is_even: bool
    """Everything takes the latency, and nothing else happens to it."""
    far: End | None = None
    open: bool = True
    queued_bytes: int = 0
    free_at_s: dict[int, float] = field(default_factory=dict)
    """Channel -> when what was sent last arrives (``stream``)."""
    sent_at_s: float = 0.0
    """When the line is free again (a rate is one for both channels)."""
    held: list[tuple[Channel, bytes]] = field(default_factory=list)


Arrive = Callable[[End, Channel, bytes], None]
Lost = Callable[[End, str], None]


class Network:
    """``arrive(end, channel, data)`` is called at the receiving end, ``lost(end, code)`` at each end of a dead link."""

    def __init__(self, plan: Plan, clock: Clockwork, rng: Random, arrive: Arrive, lost: Lost) -> None:
        self._plan = plan
        self._clock = clock
        self._rng = rng
        self._arrive = arrive
        self._lost = lost
        self._stream = plan.options.transport == "stream"
        self._numbers = 0
        self.ends: dict[int, End] = {}
        self._faults: list[tuple[LinkFault, frozenset[str], frozenset[str]]] = []
        self.met: set[int] = set()
        """Numbers of faults of links that something met: an order is no effect."""
        self._quality = {frozenset(pair): quality for pair, quality in plan.quality.items()}
        self.sent: dict[tuple[str, int], list[int]] = {}
        """(node, number of the message) -> [frames, bytes]."""
        self.on_link: Callable[[str, str, bool], None] | None = None
        """Told of each link that begins (True) and that ends for one of the two."""
        self.in_flight_max = 0
        self._in_flight = 0
        self.marked: list[tuple[str, str]] = []
        """(sender, receiver) of frames that held a marked word in clear."""
        self._searched: bytes = b""
        self._is_marked = False
        """Of the bytes that were searched last: a push is the same bytes to many."""

    # --- links ----------------------------------------------------------------------------------------------------

    def quality(self, a: str, b: str) -> Quality | None:
        """What there is between them when nothing is wrong; None without any network."""
        return self._quality.get(frozenset((a, b)))

    def copy_reach(self, name: str, other: str) -> None:
        """``other`` stands where ``name`` stands: the faults of the plan do not name it."""
        for pair, quality in list(self._quality.items()):
            if name in pair:
                self._quality[pair - {name} | {other}] = quality

    def connect(self, a: str, b: str, address: str, source: str) -> tuple[End, End]:
        """A link that ``a`` dialled; ``address`` is b's, ``source`` what b sees of a."""
        quality = self._quality[frozenset((a, b))]
        here = self._end(a, b, address, quality)
        there = self._end(b, a, source, quality)
        here.far, there.far = there, here
        if self.on_link is not None:
            self.on_link(a, b, True)
        return here, there

    def _end(self, node: str, peer: str, address: str, quality: Quality) -> End:
        self._numbers += 1
        is_even = not (quality.jitter_s or quality.loss or quality.rate_bytes_per_s)
        end = self.ends[self._numbers] = End(self._numbers, node, peer, address, quality, is_even)
        return end

    def close(self, end: End, code: str, *, tell_here: bool = True) -> None:
        """The link is over: at once here, after a moment there (unless the network is cut: then the time-out tells)."""
        far = end.far
        if not end.open or far is None:
            return
        self._drop(end)
        if tell_here:
            self._clock.after(0.0, self._lost, end, code)
        if self.is_blocked(end.node, far.node):
            self._clock.after(self._plan.idle_timeout_s, self._end_far, far, "idle-timeout")
        else:
            self._clock.after(end.quality.latency_s, self._end_far, far, f"peer-{code}")

    def abandon(self, end: End) -> None:
        """This end died without a word: the other notices after the idle time-out."""
        if end.open and end.far is not None:
            self._drop(end)
            self._clock.after(self._plan.idle_timeout_s, self._end_far, end.far, "idle-timeout")

    def _end_far(self, end: End, code: str) -> None:
        if end.open:
            self._drop(end)
            self._lost(end, code)

    def _drop(self, end: End) -> None:
        end.open = False
        self._in_flight -= len(end.held)
        end.held.clear()
        self.ends.pop(end.number, None)
        if self.on_link is not None and end.far is not None and end.far.open:
            self.on_link(end.node, end.peer, False)

    # --- frames ---------------------------------------------------------------------------------------------------

    def send(self, end: End, channel: Channel, data: bytes, droppable: bool) -> None:
        if not end.open:
            return
        if data is not self._searched:
            self._searched, self._is_marked = data, MARK_BYTES in data
        if self._is_marked:
            self.marked.append((end.node, end.peer))
        size = len(data)
        if end.queued_bytes + size > (QUEUE_BYTES_MAX // 2 if droppable else QUEUE_BYTES_MAX):
            if not droppable:
                self.close(end, "send-queue-full")
            return
        count = self.sent.get((end.node, number_of(data)))
        if count is None:
            count = self.sent[end.node, number_of(data)] = [0, 0]
        count[0] += 1
        count[1] += size
        end.queued_bytes += size
        self._in_flight += 1
        if self._in_flight > self.in_flight_max:
            self.in_flight_max = self._in_flight
        if self._stream:
            self._send_stream(end, channel, data)
        else:
            self._send_frame(end, channel, data)

    def _line_s(self, end: End, size: int) -> float:
        """When the last byte has left, on a line that carries so many a second."""
        now_s = self._clock.now_s
        if not end.quality.rate_bytes_per_s:
            return now_s
        end.sent_at_s = max(end.sent_at_s, now_s) + size / end.quality.rate_bytes_per_s
        return end.sent_at_s

    def _send_stream(self, end: End, channel: Channel, data: bytes) -> None:
        if end.is_even and not self._faults:
            arrive_s = self._clock.now_s + end.quality.latency_s
        else:
            arrive_s = self._arrival_s(end, data)
        free_at_s = end.free_at_s.get(channel, 0.0)
        end.free_at_s[channel] = arrive_s = free_at_s if free_at_s > arrive_s else arrive_s
        self._clock.at(arrive_s, self._arrive_stream, end, channel, data)

    def _arrival_s(self, end: End, data: bytes) -> float:
        """When it comes, with all that may happen to it on the way."""
        quality = end.quality
        effects = self._effects(end) if self._faults else {}
        arrive_s = self._line_s(end, len(data)) + quality.latency_s
        if quality.jitter_s or "delay" in effects:
            arrive_s += self._rng.random() * (quality.jitter_s + effects.get("delay", 0.0))
            self._meets(end, "delay")
        loss = 1 - (1 - quality.loss) * (1 - effects.get("drop", 0.0)) * (1 - effects.get("corrupt", 0.0))
        if loss:
            again_s = max(RESEND_MIN_S, 3 * quality.latency_s)
            sent_s = arrive_s
            for _ in range(ceil(len(data) / PACKET_BYTES)):
                while self._rng.random() < min(loss, 0.95):
                    arrive_s += again_s
            if arrive_s > sent_s:
                self._meets(end, "drop")
        return arrive_s

    def _arrive_stream(self, end: End, channel: Channel, data: bytes) -> None:
        if end.held or (self._faults and self.is_blocked(end.node, end.peer)):
            end.held.append((channel, data))
            return
        self._hand_over(end, channel, data)

    def _hand_over(self, end: End, channel: Channel, data: bytes) -> None:
        end.queued_bytes -= len(data)
        self._in_flight -= 1
        if end.far is not None and end.far.open:
            self._arrive(end.far, channel, data)

    def _send_frame(self, end: End, channel: Channel, data: bytes) -> None:
        quality, effects = end.quality, self._effects(end)
        if "cut" in effects or self._rng.random() < quality.loss or self._rng.random() < effects.get("drop", 0.0):
            self._meets(end, "cut" if "cut" in effects else "drop")
            self._forget(end, data)
            return
        copies = 1 + (self._rng.random() < max(quality.duplication, effects.get("duplicate", 0.0)))
        for copy in range(copies):
            if copy:
                self._meets(end, "duplicate")
                end.queued_bytes += len(data)
                self._in_flight += 1
            arrive_s = self._line_s(end, len(data)) + quality.latency_s
            arrive_s += self._rng.random() * (quality.jitter_s + effects.get("delay", 0.0))
            sent = data
            if "delay" in effects:
                self._meets(end, "delay")
            if self._rng.random() < effects.get("corrupt", 0.0):
                self._meets(end, "corrupt")
                at = self._rng.randrange(len(data))
                sent = data[:at] + bytes([data[at] ^ (1 << self._rng.randrange(8))]) + data[at + 1 :]
            self._clock.at(arrive_s, self._arrive_frame, end, channel, sent)

    def _arrive_frame(self, end: End, channel: Channel, data: bytes) -> None:
        effects = self._effects(end)
        if "cut" in effects:
            self._meets(end, "cut")
            self._forget(end, data)
        elif "hold" in effects:
            self._meets(end, "hold")
            end.held.append((channel, data))
        else:
            self._hand_over(end, channel, data)

    def _forget(self, end: End, data: bytes) -> None:
        end.queued_bytes -= len(data)
        self._in_flight -= 1

    # --- faults ---------------------------------------------------------------------------------------------------

    def begin(self, fault: LinkFault) -> None:
        self._faults.append((fault, frozenset(fault.senders), frozenset(fault.receivers)))
        if fault.effect in BLOCKING:
            self._clock.after(self._plan.idle_timeout_s, self._time_out)

    def end(self, fault: LinkFault) -> None:
        """Idempotent: it may have been healed before."""
        self._faults = [row for row in self._faults if row[0] is not fault]
        self._flush()

    def heal(self, heal: Heal) -> None:
        """Faults of these effects end where their senders and receivers are all named."""
        senders, receivers = set(heal.senders), set(heal.receivers)
        self._faults = [
            row
            for row in self._faults
            if not (row[0].effect in heal.effects and row[1] <= senders and row[2] <= receivers)
        ]
        self._flush()

    def heal_all(self) -> None:
        self._faults.clear()
        self._flush()

    def is_blocked(self, sender: str, receiver: str) -> bool:
        """Whoever asks has something to send, or a link to make: it meets the fault."""
        blocking = [
            fault.number
            for fault, senders, receivers in self._faults
            if fault.effect in BLOCKING and sender in senders and receiver in receivers
        ]
        self.met.update(blocking)
        return bool(blocking)

    def _meets(self, end: End, effect: str) -> None:
        """Something on the way from this end met what is done to it."""
        for fault, senders, receivers in self._faults:
            if fault.effect == effect and end.node in senders and end.peer in receivers:
                self.met.add(fault.number)

    def _effects(self, end: End) -> dict[str, float]:
        found: dict[str, float] = {}
        for fault, senders, receivers in self._faults:
            if end.node in senders and end.peer in receivers:
                found[fault.effect] = max(fault.amount, found.get(fault.effect, 0.0))
        return found

    def _flush(self) -> None:
        """What was held and is not any more arrives, in order, after the way it has to go."""
        for end in list(self.ends.values()):
            if end.held and not self.is_blocked(end.node, end.peer):
                self._clock.after(end.quality.latency_s, self._release, end)

    def _release(self, end: End) -> None:
        if self.is_blocked(end.node, end.peer):
            return
        held, end.held = end.held, []
        for channel, data in held:
            self._hand_over(end, channel, data)

    def _time_out(self) -> None:
        """Links that were blocked in either direction since the idle time-out are dead. Frames cross a hole of less."""
        cutoff_s = self._clock.now_s - self._plan.idle_timeout_s + 1e-9
        old = [row for row in self._faults if row[0].effect in BLOCKING and row[0].at_s <= cutoff_s]
        if not old:
            return
        for end in list(self.ends.values()):
            dead = [row.number for row, senders, receivers in old if end.node in senders and end.peer in receivers]
            if end.open and dead:
                self.met.update(dead)
                self.silence(end)

    def silence(self, end: End) -> None:
        """Nothing came over this link for too long: it is dead, and both ends have noticed by themselves."""
        far = end.far
        if not end.open:
            return
        self._drop(end)
        self._lost(end, "idle-timeout")
        if far is not None:
            self._end_far(far, "idle-timeout")
