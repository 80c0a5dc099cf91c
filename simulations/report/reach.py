"""Who could reach whom, over time: nodes that run, links that are up and faults that let nothing pass, taken together.

A direction passes when the two are linked, both run, and no cut or hold names it. Losses and delays only slow it. A
node reaches another when directions that pass lead there, through relays too: they carry what they cannot read.
"""

from __future__ import annotations

from bisect import bisect_right
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from itertools import combinations

from simulations.report.records import Apart, Fault, Islands, LinkSpell, Spell
from simulations.worlds.timeline import READ_ONLY, UP

BLOCKING = ("cut", "hold")
RUNNING = (UP, READ_ONLY)
NODES_MAX = 120
"""More nodes make no picture that anybody can read, and this takes the cube of them."""


class Reach:
    """From ``begins_s[n]`` on until the next, node ``i`` reached the nodes whose bits are in ``masks[n][i]``."""

    def __init__(
        self,
        names: Sequence[str],
        spells: Iterable[Spell],
        links: Iterable[LinkSpell],
        faults: Iterable[Fault],
        end_s: float,
    ) -> None:
        self.names = tuple(names)
        self.end_s = end_s
        self._bit = {name: number for number, name in enumerate(names)}
        self._running = 0
        self._links: Counter[tuple[int, int]] = Counter()
        self._blocks: Counter[tuple[int, int]] = Counter()
        self.begins_s: list[float] = []
        self.masks: list[tuple[int, ...]] = []
        self.running: list[int] = []
        self.linked: list[frozenset[tuple[int, int]]] = []
        """Directions that pass."""
        for at_s, changes in _in_order(self._changes(spells, links, faults)):
            for kind, place, by in changes:
                self._change(kind, place, by)
            passing = frozenset(
                (a, b)
                for (a, b), count in self._links.items()
                if count > 0 and self._blocks[a, b] <= 0 and self._running >> a & 1 and self._running >> b & 1
            )
            if not self.begins_s or passing != self.linked[-1] or self._running != self.running[-1]:
                self.begins_s.append(at_s)
                self.running.append(self._running)
                self.linked.append(passing)
                self.masks.append(_closure(len(self.names), passing, self._running))

    def _changes(
        self, spells: Iterable[Spell], links: Iterable[LinkSpell], faults: Iterable[Fault]
    ) -> Iterator[tuple[float, str, tuple[int, int], int]]:
        yield 0.0, "node", (0, 0), 0
        for spell in spells:
            if spell.state in RUNNING:
                node = self._bit[spell.node]
                yield spell.begin_s, "node", (node, node), 1
                yield spell.end_s, "node", (node, node), -1
        for link in links:
            pair = (self._bit[link.a], self._bit[link.b])
            for way in (pair, pair[::-1]):
                yield link.begin_s, "link", way, 1
                yield link.end_s, "link", way, -1
        for fault in faults:
            if fault.kind in BLOCKING:
                for sender in fault.nodes:
                    for receiver in fault.receivers:
                        if sender != receiver:
                            way = (self._bit[sender], self._bit[receiver])
                            yield fault.begin_s, "block", way, 1
                            yield fault.end_s, "block", way, -1

    def _change(self, kind: str, place: tuple[int, int], by: int) -> None:
        if kind == "node" and by:
            bit = 1 << place[0]
            self._running = self._running | bit if by > 0 else self._running & ~bit
        elif kind == "link":
            self._links[place] += by
        else:
            self._blocks[place] += by

    # --- what is asked of it --------------------------------------------------------------------------------------

    def at(self, at_s: float) -> int:
        """The number of the stretch that this moment is in."""
        return max(0, bisect_right(self.begins_s, at_s) - 1)

    def stretches(self) -> Iterator[tuple[int, float, float]]:
        """(number, begin, end) of each."""
        for number, begin_s in enumerate(self.begins_s):
            end_s = self.begins_s[number + 1] if number + 1 < len(self.begins_s) else self.end_s
            if end_s > begin_s:
                yield number, begin_s, end_s

    def reaches(self, number: int, a: str, b: str) -> bool:
        return bool(self.masks[number][self._bit[a]] >> self._bit[b] & 1)

    def sides(self, number: int) -> tuple[tuple[str, ...], ...]:
        """Nodes that run, in groups that reach each other both ways: the largest first, then by the order of nodes."""
        masks, left, found = self.masks[number], self.running[number], []
        for node in range(len(self.names)):
            if left >> node & 1:
                side = [other for other in _bits(masks[node] & left) if masks[other] >> node & 1]
                left &= ~sum(1 << other for other in side)
                found.append(tuple(self.names[other] for other in side))
        return tuple(sorted(found, key=lambda side: -len(side)))

    def islands(self) -> Iterator[Islands]:
        """Stretches in which the sides stay the same are one."""
        last: Islands | None = None
        for number, begin_s, end_s in self.stretches():
            sides = self.sides(number)
            if last is not None and last.sides == sides:
                last = Islands(last.begin_s, end_s, sides)
                continue
            if last is not None:
                yield last
            last = Islands(begin_s, end_s, sides)
        if last is not None:
            yield last

    def apart(self, from_s: float = 0.0) -> Iterator[Apart]:
        """Of every pair that ever ran at one time. What was before ``from_s``, as the mesh came up, does not count."""
        seconds: dict[tuple[str, str], list[float]] = {pair: [0.0, 0.0] for pair in combinations(self.names, 2)}
        for number, begin_s, end_s in self.stretches():
            begin_s = max(begin_s, from_s)
            if begin_s >= end_s:
                continue
            running = {self.names[node] for node in _bits(self.running[number])}
            for pair, found in seconds.items():
                if running.issuperset(pair):
                    found[0] += end_s - begin_s
                    if not (self.reaches(number, *pair) and self.reaches(number, *pair[::-1])):
                        found[1] += end_s - begin_s
        for (a, b), (together_s, apart_s) in seconds.items():
            if together_s > 0:
                yield Apart(a, b, round(apart_s / together_s, 6))


def _in_order(
    changes: Iterable[tuple[float, str, tuple[int, int], int]],
) -> Iterator[tuple[float, list[tuple[str, tuple[int, int], int]]]]:
    """All changes of one moment together. A node that ends one spell and begins another in one moment runs on."""
    at_s, gathered = -1.0, list[tuple[str, tuple[int, int], int]]()
    for when_s, kind, place, by in sorted(changes, key=lambda row: (row[0], row[3])):
        if when_s != at_s and gathered:
            yield at_s, gathered
            gathered = []
        at_s = when_s
        gathered.append((kind, place, by))
    if gathered:
        yield at_s, gathered


def _closure(nodes: int, passing: Iterable[tuple[int, int]], running: int) -> tuple[int, ...]:
    """Of each node the nodes that it reaches, itself included while it runs."""
    next_to = [0] * nodes
    for a, b in passing:
        next_to[a] |= 1 << b
    found = []
    for node in range(nodes):
        seen = edge = (1 << node) & running
        while edge:
            new = 0
            for other in _bits(edge):
                new |= next_to[other]
            edge = new & ~seen
            seen |= new
        found.append(seen)
    return tuple(found)


def _bits(mask: int) -> Iterator[int]:
    while mask:
        low = mask & -mask
        yield low.bit_length() - 1
        mask ^= low
