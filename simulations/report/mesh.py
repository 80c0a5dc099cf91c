"""The mesh over time: pictures of chosen moments, and a large one that a reader may move through time."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from simulations.report import colours, words
from simulations.report.layout import Box, graticule, is_map, labels, positions
from simulations.report.reach import Reach
from simulations.report.records import Node, RunReport
from simulations.report.svg import Drawing
from simulations.worlds.timeline import DOWN

SMALL = Box(260, 200, 34)
LARGE = Box(1080, 520, 60)
MOMENTS_MAX = 6
STEPS_MAX = 400
"""Of the slider: more states than this are thinned out, and the page stays small."""
LABELLED_MAX = 14
"""Nodes with names in a small picture."""
CITIES_MAX = 16
"""Nodes with the names of their cities in the large picture."""
NONE, ONE_WAY, BLOCKED, BOTH = range(4)
"""What a link is: not there; passes in one direction; there, and nothing passes; passes."""
LEAST_S = 1e-6
"""Before the end, where everything still is."""
LINK_CLASSES = ("none", "oneway", "blocked", "both")


@dataclass(frozen=True, slots=True)
class Moment:
    letter: str
    at_s: float
    caption: str


class Mesh:
    """All that pictures of one report share."""

    def __init__(self, report: RunReport) -> None:
        self._report = report
        self._names = [node.name for node in report.nodes]
        self._place = {name: number for number, name in enumerate(self._names)}
        self._reach = Reach(self._names, report.spells, report.links, report.faults, report.end_s)
        self._links: dict[tuple[str, str], list[tuple[float, float]]] = {}
        for row in report.links:
            self._links.setdefault((row.a, row.b), []).append((row.begin_s, row.end_s))
            self._links.setdefault((row.b, row.a), []).append((row.begin_s, row.end_s))
        self._last_s = report.end_s - LEAST_S
        self.moments = list(self._choose())

    def _choose(self) -> Iterator[Moment]:
        """The mesh when it is first whole, its longest pictures of another kind, and the end: in the order of time."""
        report = self._report
        longest: dict[tuple[tuple[str, ...], ...], tuple[float, float]] = {}
        first_s = report.writes[0].at_s if report.writes else 0.0
        whole: list[float] = []
        for row in report.islands:
            if row.end_s > first_s:
                begin_s = max(row.begin_s, first_s)
                middle_s = (begin_s + row.end_s) / 2
                if len(row.sides) == 1 and len(row.sides[0]) == len(self._names):
                    whole.append(middle_s)
                    continue
                kept = longest.get(row.sides, (0.0, 0.0))
                longest[row.sides] = max(kept, (row.end_s - begin_s, middle_s))
        others = sorted(longest.values(), reverse=True)
        times = [*whole[:1], *(at_s for _, at_s in others[: MOMENTS_MAX - 2])]
        times = sorted({round(at_s, 6) for at_s in times})
        if not times or self._node_states(times[-1]) != self._node_states(self._last_s):
            times.append(self._last_s)
        for number, at_s in enumerate(times[:MOMENTS_MAX]):
            yield Moment(chr(ord("A") + number), at_s, self._caption(at_s))

    def _caption(self, at_s: float) -> str:
        sides = self._reach.sides(self._reach.at(at_s))
        running = {name for side in sides for name in side}
        down = [name for name in self._names if name not in running]
        said = f"{words.listed(down, 3)} not running" if down else ""
        if len(sides) > 1:
            alone = [side[0] for side in sides if len(side) == 1]
            split = words.sides(sides, 4) if len(alone) < len(sides) - 1 or len(sides) == 2 else ""
            said = "; ".join(filter(None, [split or f"{words.listed(alone, 4)} alone", said]))
        return said or "whole"

    # --- what is there at one moment ------------------------------------------------------------------------------

    def _link_states(self, at_s: float) -> dict[tuple[str, str], int]:
        linked = self._reach.linked[self._reach.at(at_s)]
        found = {}
        for a, b in self._report.reach:
            ways = ((self._place[a], self._place[b]) in linked) + ((self._place[b], self._place[a]) in linked)
            there = any(begin_s <= at_s < end_s for begin_s, end_s in self._links.get((a, b), ()))
            found[a, b] = BOTH if ways == 2 else ONE_WAY if ways else BLOCKED if there else NONE
        return found

    def _node_states(self, at_s: float) -> dict[str, str]:
        found = dict.fromkeys(self._names, DOWN)
        for spell in self._report.spells:
            if spell.begin_s <= at_s < spell.end_s:
                found[spell.node] = spell.state
        found.update(colours.of_sides(self._reach.sides(self._reach.at(at_s)), len(self._names)))
        return found

    # --- pictures -------------------------------------------------------------------------------------------------

    def small(self, moment: Moment) -> Drawing:
        found = Drawing(SMALL.width, SMALL.height, f"The mesh at {words.moment(moment.at_s)}: {moment.caption}", "mesh")
        self._draw(found, SMALL, moment.at_s, 10.5, named=len(self._names) <= LABELLED_MAX)
        return found

    def large(self) -> Drawing:
        """At the moment of the most sides, for paper; elsewhere for whoever moves the slider."""
        at_s = self.start_s()
        found = Drawing(LARGE.width, LARGE.height, f"The mesh at {words.moment(at_s)}", "mesh large")
        self._draw(found, LARGE, at_s, 14, named=True, ids=True)
        return found

    def start_s(self) -> float:
        return max(self.moments, key=lambda moment: self._worth(moment.at_s)).at_s

    def _worth(self, at_s: float) -> tuple[int, int, int]:
        """Sides of several nodes, sides at all, nodes that do not run."""
        sides = self._reach.sides(self._reach.at(at_s))
        several = sum(len(side) > 1 for side in sides) if len(sides) > 1 else 0
        return several, len(sides), len(self._names) - sum(map(len, sides))

    def _draw(self, found: Drawing, box: Box, at_s: float, letter_px: float, *, named: bool, ids: bool = False) -> None:
        points = positions(self._report.nodes, self._report.reach, box)
        for x1, y1, x2, y2 in graticule(self._report.nodes, box) if box is LARGE else ():
            found.line(x1, y1, x2, y2, "grid")
        states = self._node_states(at_s)
        many = " many" if len(self._report.reach) > 60 else ""
        for number, ((a, b), state) in enumerate(self._link_states(at_s).items()):
            if state or ids:
                name = f"l{number}" if ids else ""
                found.line(*points[a], *points[b], f"link {LINK_CLASSES[state]}{many}", name)
        radius = 7.0 if box is LARGE else 5.0 if len(self._names) <= LABELLED_MAX else 3.6
        for number, node in enumerate(self._report.nodes):
            kind = f"node {states[node.name]}{'' if node.role == 'member' else ' relay'}"
            title = " ".join(filter(None, [node.name, node.city, f"({node.role})"]))
            found.circle(*points[node.name], radius, kind, title, f"n{number}" if ids else "")
        if named:
            lines = [(points[a], points[b]) for a, b in self._report.reach]
            texts = {node.name: self._label(node, box) for node in self._report.nodes}
            for name, label in labels(points, texts, lines, box, letter_px, radius + 4).items():
                found.text(label.x, label.y, texts[name], "big" if box is LARGE else "name", label.anchor)

    def _label(self, node: Node, box: Box) -> str:
        has_room = box is LARGE and len(self._names) <= CITIES_MAX and is_map(self._report.nodes)
        return f"{node.name} {node.city}" if has_room else node.name

    # --- through time ---------------------------------------------------------------------------------------------

    def steps(self) -> str:
        """JSON for the slider: at which times, and the state of each link and node then, a letter each."""
        times = self._thinned()
        codes = list(colours.MEANINGS)
        states = [self._node_states(at_s) for at_s in times]
        return json.dumps(
            {
                "times": [round(at_s, 3) for at_s in times],
                "said": [words.moment(at_s) for at_s in times],
                "links": ["".join(map(str, self._link_states(at_s).values())) for at_s in times],
                "nodes": ["".join(str(_code(codes, state[name])) for name in self._names) for state in states],
                "linkClasses": LINK_CLASSES,
                "nodeClasses": codes,
                "start": _nearest(times, self.start_s()),
            }
        )

    def _thinned(self) -> list[float]:
        """Where something changes, and an even beat between, so that the slider moves as time does."""
        end_s = self._report.end_s
        beat = [end_s * number / STEPS_MAX for number in range(STEPS_MAX)]
        changes = [at_s + LEAST_S for at_s in self._reach.begins_s]
        if len(changes) > STEPS_MAX:
            return beat
        kept = changes + beat[:: max(1, len(changes) // 40)]
        return sorted({min(at_s, self._last_s) for at_s in kept})


def _code(codes: Sequence[str], state: str) -> int:
    return codes.index(state) if state in codes else 0


def _nearest(times: Sequence[float], at_s: float) -> int:
    return max((number for number, time_s in enumerate(times) if time_s <= at_s), default=0)
