"""Conflicts, told from what clients were answered: a register with several living values has one."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator

from simulations.report.records import Conflict
from simulations.worlds.contract import Acknowledged, Touch


def of_record(acknowledged: Iterable[Acknowledged]) -> Iterator[Conflict]:
    """In the order of answers. ``made``: a write left a second value beside the first; it was made in ignorance of it,
    whoever first sees both. Not ``made``: a write that was shown all values left one, or none.

    Objects that are deleted count on: the nodes do not show their conflicts any more.
    """
    living: dict[Touch, set[str]] = defaultdict(set)
    for row in sorted(acknowledged, key=lambda row: (row.at_s, row.number)):
        if row.kind != "set":
            continue
        values = living[row.touch]
        before = len(values)
        values.difference_update(row.seen)
        values.add(row.dot)
        if before < 2 <= len(values):
            yield Conflict(row.at_s, True, row.node)
        elif len(values) < 2 <= before:
            yield Conflict(row.at_s, False, row.node)
