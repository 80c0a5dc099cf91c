"""What was said of operations that have not been applied yet.

An operation can name a dot before it arrives; only a hostile one does (see core/crdt). What it said is kept here until
the dot's log reaches or passes it: a heap for each log tells in constant time that nothing is due, however much a
stranger has said.
"""

from __future__ import annotations

import heapq
from collections.abc import Iterator

from meshnode.core.ids import Dot, LogId, ObjectId

Place = tuple[int, int]
"""(seq, op) in a log."""
Target = tuple[str, ObjectId, str]
"""(collection, object, field) whose value a dot ahead ends; an empty field: the deletion mark of the object."""


class Ahead:
    """What operations said of dots that have not been applied yet, per log in ascending places."""

    __slots__ = ("_heaps", "_targets", "count")

    def __init__(self) -> None:
        self._targets: dict[LogId, dict[Place, set[Target]]] = {}
        self._heaps: dict[LogId, list[Place]] = {}
        self.count = 0

    def add(self, dot: Dot, target: Target) -> bool:
        """True when this was not known yet."""
        place = (dot.seq, dot.op)
        places = self._targets.setdefault(dot.log, {})
        if place not in places:
            places[place] = set()
            heapq.heappush(self._heaps.setdefault(dot.log, []), place)
        if target in places[place]:
            return False
        places[place].add(target)
        self.count += 1
        return True

    def pass_to(self, dot: Dot) -> list[tuple[Dot, Target]]:
        """Takes out everything said of this dot and of those before it in its log."""
        heap = self._heaps.get(dot.log)
        passed: list[tuple[Dot, Target]] = []
        while heap and heap[0] <= (dot.seq, dot.op):
            place = heapq.heappop(heap)
            passed += [(Dot(dot.log, *place), target) for target in self._targets[dot.log].pop(place)]
        if heap is not None and not heap:
            del self._heaps[dot.log], self._targets[dot.log]
        self.count -= len(passed)
        return passed

    def __iter__(self) -> Iterator[tuple[Dot, Target]]:
        for log, places in sorted(self._targets.items()):
            for place, targets in sorted(places.items()):
                yield from ((Dot(log, *place), target) for target in sorted(targets))
