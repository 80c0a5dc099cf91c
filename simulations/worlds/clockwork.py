"""Virtual time: a heap of what is due. Equal times run in the order in which they were asked for."""

from __future__ import annotations

import hashlib
import heapq
from collections import defaultdict, deque
from collections.abc import Callable
from struct import Struct
from typing import Any

_RECEIVED = Struct("<dQBI").pack
LINES_KEPT = 40
"""Of each node's trace, for whoever looks at a failure."""


class Clockwork:
    def __init__(self) -> None:
        self.now_s = 0.0
        self._heap: list[tuple[float, int, Callable[..., None], tuple[Any, ...]]] = []
        self._order = 0
        self.events = 0

    def at(self, when_s: float, action: Callable[..., None], *arguments: Any) -> None:
        self._order += 1
        heapq.heappush(self._heap, (max(when_s, self.now_s), self._order, action, arguments))

    def after(self, delay_s: float, action: Callable[..., None], *arguments: Any) -> None:
        self.at(self.now_s + delay_s, action, *arguments)

    def run_until(self, end_s: float) -> None:
        heap = self._heap
        while heap and heap[0][0] <= end_s:
            self.now_s, _, action, arguments = heapq.heappop(heap)
            self.events += 1
            action(*arguments)
        self.now_s = max(self.now_s, end_s)


class Trace:
    """Everything that happened, in order, as one digest, and the last lines of each node.

    Lines are formatted only when they are looked at. What arrives at a node, which is most of what happens, is hashed
    as it stands behind a head of fixed size.
    """

    def __init__(self) -> None:
        self._hash = hashlib.blake2b(digest_size=16)
        self._last: defaultdict[str, deque[tuple[float, str, tuple[Any, ...]]]] = defaultdict(
            lambda: deque(maxlen=LINES_KEPT)
        )
        self.lines = 0

    def note(self, now_s: float, node: str, what: str, *details: Any) -> None:
        """``details`` are numbers and text that do not change from process to process."""
        self.lines += 1
        self._hash.update(f"{now_s!r} {node} {what} {details!r}\n".encode())
        self._last[node].append((now_s, what, details))

    def note_received(self, now_s: float, node: str, link: int, channel: int, data: bytes) -> None:
        """``link`` is a number that no other end of a link ever has, so it says who received it."""
        self.lines += 1
        size = len(data)
        self._hash.update(_RECEIVED(now_s, link, channel, size) + data)
        self._last[node].append((now_s, "received", (link, channel, size)))

    def note_bytes(self, data: bytes) -> None:
        self._hash.update(data)

    def digest(self) -> str:
        return self._hash.hexdigest()

    def last(self) -> dict[str, deque[str]]:
        return {
            name: deque(f"{at_s:12.3f} s  {node_line(what, details)}" for at_s, what, details in lines)
            for name, lines in self._last.items()
        }


def node_line(what: str, details: tuple[Any, ...]) -> str:
    return " ".join([what, *map(str, details)])
