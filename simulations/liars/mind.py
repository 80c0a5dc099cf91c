"""A mind: what a liar remembers, is up to, and does with the node in its hands. It outlives restarts of the node."""

from __future__ import annotations

import heapq
from collections import deque
from collections.abc import Callable, Sequence
from typing import Any, Protocol

from meshnode.core.events import Channel, Effect, Event, Now, Received, Send, Step
from meshnode.core.node import Node
from simulations.liars.ring import Ring
from simulations.scenario.plan import Lie

REMEMBERED_FRAMES = 2_000
"""Of what was heard and said, for replays: the latest."""


class Bending(Protocol):
    """A lie that lasts: it changes what the node says."""

    lie: Lie

    def bend(self, node: LyingNode, send: Send, now: Now) -> Sequence[Send]:
        """What is said in place of this."""


Tell = Callable[["LyingNode", "Mind", Lie, Now], None]


class CannotTellError(Exception):
    """What this lie needs is not there at the moment."""


class Mind:
    def __init__(self, name: str, ring: Ring) -> None:
        self.name = name
        self.ring = ring
        self.frames: deque[bytes] = deque(maxlen=REMEMBERED_FRAMES)
        self.lasting: list[Bending] = []
        self._to_tell: list[tuple[Lie, Tell]] = []
        self._errands: list[tuple[float, int, str, bytes, Channel]] = []
        self._sends: list[Send] = []
        self._order = 0

    def embody(self, *arguments: Any) -> LyingNode:
        """A node in the hands of this mind; the arguments are those of the node."""
        return LyingNode(self, *arguments)

    # --- lies -----------------------------------------------------------------------------------------------------

    def will_tell(self, lie: Lie, tell: Tell) -> None:
        """At the next step of the node."""
        self._to_tell.append((lie, tell))

    def say(self, link: int, data: bytes, channel: Channel = Channel.CONTROL) -> None:
        self._sends.append(Send(link, channel, data, droppable=False))

    def run_errand(self, due_s: float, name: str, data: bytes, channel: Channel = Channel.CONTROL) -> None:
        """Says this to the node of that name when it is time, on whatever link there is then."""
        self._order += 1
        heapq.heappush(self._errands, (due_s, self._order, name, data, channel))

    def next_deadline(self) -> float:
        return self._errands[0][0] if self._errands else float("inf")

    # --- the node in its hands ------------------------------------------------------------------------------------

    def listen(self, events: Sequence[Event]) -> None:
        self.frames.extend(event.data for event in events if isinstance(event, Received))

    def speak(self, node: LyingNode, effects: Sequence[Effect], now: Now) -> tuple[Effect, ...]:
        self.lasting = [
            bending for bending in self.lasting if (bending.lie.until_s or now.monotonic_s + 1) > now.monotonic_s
        ]
        said: list[Effect] = []
        for effect in effects:
            if isinstance(effect, Send):
                self.frames.append(effect.data)
                said += self._bent(node, effect, now)
            else:
                said.append(effect)
        to_tell, self._to_tell = self._to_tell, []
        for lie, tell in to_tell:
            try:
                tell(node, self, lie, now)
            except CannotTellError:
                self.ring.passed_over[lie.kind] += 1
        while self._errands and self._errands[0][0] <= now.monotonic_s:
            _, _, name, data, channel = heapq.heappop(self._errands)
            self._sends += [Send(link, channel, data, False) for link, peer in node.links() if peer == name][:1]
        sends, self._sends = self._sends, []
        return (*said, *sends)

    def _bent(self, node: LyingNode, send: Send, now: Now) -> Sequence[Send]:
        sends: Sequence[Send] = (send,)
        for bending in self.lasting:
            sends = [other for one in sends for other in bending.bend(node, one, now)]
        return sends


class LyingNode(Node):
    """The real node with a mind beside it."""

    def __init__(self, mind: Mind, *arguments: Any) -> None:
        self.mind = mind
        super().__init__(*arguments)
        self.sealer = arguments[6]

    def step(self, events: Sequence[Event], now: Now) -> Step:
        self.mind.listen(events)
        step = super().step(events, now)
        self.mind.ring.own_logs.update(own.id for own in self.incidents.own_logs._own.values())
        return Step(step.commit, self.mind.speak(self, step.effects, now))

    def next_deadline(self) -> float:
        return min(super().next_deadline(), self.mind.next_deadline())

    def links(self) -> list[tuple[int, str]]:
        """(link, name of the node at its far end) of links that are in use."""
        names = self.mind.ring.names
        return [(link, names[self.peers.by_link[link].identity.device]) for link in self.exchange.links]

    def honest_links(self) -> list[tuple[int, str]]:
        return [(link, name) for link, name in self.links() if not self.mind.ring.is_liar(name)]
