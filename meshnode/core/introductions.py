"""Who was told of whose addresses: so that any two nodes that share a neighbour find each other, and need it no more.

A new link is told everything at once; the others are told what is new to them. News are gathered for ``INTERVAL_S``, so
however many nodes come at once, a link carries one message in that time. What is told is the same for all links but for
the peer's own addresses; where it comes from is decided elsewhere (`peers`).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from meshnode.core.ids import DeviceId

Row = tuple[DeviceId, str]

INTERVAL_S = 1.0
"""A link carries one message about addresses in this time: of 30 nodes that start together, most come in the first."""
ROWS_MAX = 256
"""Rows of one message, which is what a reader looks at: four addresses of each of 60 nodes, about 16 KiB."""


class Introductions:
    """One per node. Times are monotonic seconds."""

    def __init__(self) -> None:
        self._told: dict[int, tuple[DeviceId, set[Row]]] = {}
        """Per link, who is there and what of the present rows it was told."""
        self._due_at: dict[int, float] = {}
        """Of the links for which there may be news."""

    def on_link_up(self, link: int, device: DeviceId, now: float) -> None:
        self.handle_change(now)
        self._told[link] = (device, set())
        self._due_at[link] = now

    def on_link_down(self, link: int) -> None:
        self._told.pop(link, None)
        self._due_at.pop(link, None)

    def handle_change(self, now: float) -> None:
        """There may be something to tell."""
        for link in self._told:
            self._due_at.setdefault(link, now + INTERVAL_S)

    def due(self, rows: Callable[[], Sequence[Row]], now: float) -> list[tuple[int, tuple[Row, ...]]]:
        """(link, rows to tell). ``rows`` gives all there are at present; a row that left and came back is told again,
        because whoever was told may have forgotten it."""
        if not self._due_at:
            return []
        links = [link for link, due_at in self._due_at.items() if due_at <= now]
        if not links:
            return []
        present = list(rows())
        messages = []
        for link in links:
            del self._due_at[link]
            device, told = self._told[link]
            fresh = [row for row in present if row not in told and row[0] != device]
            now_told = fresh[:ROWS_MAX]
            self._told[link] = (device, told.intersection(present).union(now_told))
            if len(fresh) > ROWS_MAX:
                self._due_at[link] = now + INTERVAL_S
            if now_told:
                messages.append((link, tuple(now_told)))
        return messages

    def next_deadline(self) -> float | None:
        return min(self._due_at.values()) if self._due_at else None
