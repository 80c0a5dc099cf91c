"""Where nodes stand in a picture of the mesh, and where their names fit beside them."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from simulations.report.records import Node

Point = tuple[float, float]
GRATICULE_DEGREES = 5
APART_PX = 9.0
"""Nodes at one place stand so far from it, in a ring."""
LINE_COSTS = 6.0
"""A line behind a name is as bad as so many square pixels of another name."""
LETTER_PX = 0.62
"""Of the size of the letters: a capital of the fonts that the page asks for."""


@dataclass(frozen=True, slots=True)
class Box:
    """To draw in."""

    width: float
    height: float
    margin: float


def positions(nodes: Sequence[Node], reach: Iterable[tuple[str, str]], box: Box) -> dict[str, Point]:
    """On the map where every node has a place; else in a ring, or around what holds a star or two cliques together."""
    if not is_map(nodes):
        return _in_rings([node.name for node in nodes], set(reach), box)
    projection = _Projection(nodes, box)
    return _apart(nodes, {node.name: projection.point(node.latitude, node.longitude) for node in nodes})


def is_map(nodes: Sequence[Node]) -> bool:
    return all(node.city for node in nodes) and len({node.city for node in nodes}) > 1


def graticule(nodes: Sequence[Node], box: Box) -> Iterator[tuple[float, float, float, float]]:
    """Meridians and parallels, for a map to look like one: (x1, y1, x2, y2)."""
    if not is_map(nodes):
        return
    projection = _Projection(nodes, box)
    for degrees in range(-180, 181, GRATICULE_DEGREES):
        x, y = projection.point(degrees, degrees)
        if 0 < x < box.width:
            yield x, 0, x, box.height
        if 0 < y < box.height:
            yield 0, y, box.width, y


class _Projection:
    """Longitudes as narrow as they are in the middle of what is shown; scaled alike in both directions, centred."""

    def __init__(self, nodes: Sequence[Node], box: Box) -> None:
        latitudes, longitudes = [node.latitude for node in nodes], [node.longitude for node in nodes]
        self._north, self._west = max(latitudes), min(longitudes)
        self._narrow = math.cos(math.radians((self._north + min(latitudes)) / 2))
        wide, high = (max(longitudes) - self._west) * self._narrow, self._north - min(latitudes)
        inner_x, inner_y = box.width - 2 * box.margin, box.height - 2 * box.margin
        self._scale = min(inner_x / wide if wide else math.inf, inner_y / high if high else math.inf)
        self._left, self._top = (box.width - wide * self._scale) / 2, (box.height - high * self._scale) / 2

    def point(self, latitude: float, longitude: float) -> Point:
        x = self._left + (longitude - self._west) * self._narrow * self._scale
        return x, self._top + (self._north - latitude) * self._scale


def _apart(nodes: Sequence[Node], points: dict[str, Point]) -> dict[str, Point]:
    at: dict[str, list[str]] = defaultdict(list)
    for node in nodes:
        at[node.city].append(node.name)
    for names in at.values():
        if len(names) > 1:
            for number, name in enumerate(names):
                angle = 2 * math.pi * number / len(names)
                x, y = points[name]
                points[name] = (x + APART_PX * math.cos(angle), y + APART_PX * math.sin(angle))
    return points


# --- without a map ----------------------------------------------------------------------------------------------------


def _in_rings(names: Sequence[str], reach: set[tuple[str, str]], box: Box) -> dict[str, Point]:
    linked: dict[str, set[str]] = {name: set() for name in names}
    for a, b in reach:
        linked[a].add(b)
        linked[b].add(a)
    middle = (box.width / 2, box.height / 2)
    radius = min(box.width, box.height) / 2 - box.margin
    for hub in names:
        if len(names) > 3 and len(linked[hub]) == len(names) - 1:
            parts = _parts([name for name in names if name != hub], linked)
            if len(parts) == len(names) - 1:
                return {hub: middle, **_ring([part[0] for part in parts], middle, radius)}
            if len(parts) > 1:
                return {hub: middle, **_cliques(parts, box)}
    return _ring(names, middle, radius)


def _cliques(parts: Sequence[Sequence[str]], box: Box) -> dict[str, Point]:
    """Side by side, with the bridge between them."""
    found: dict[str, Point] = {}
    radius = min(box.height / 2, box.width / 2 / len(parts)) - box.margin
    for number, part in enumerate(parts):
        middle = (box.width * (2 * number + 1) / (2 * len(parts)), box.height / 2)
        found.update(_ring(part, middle, radius))
    return found


def _ring(names: Sequence[str], middle: Point, radius: float) -> dict[str, Point]:
    """Clockwise from above."""
    found = {}
    for number, name in enumerate(names):
        angle = 2 * math.pi * number / len(names) - math.pi / 2
        found[name] = (middle[0] + radius * math.cos(angle), middle[1] + radius * math.sin(angle))
    return found


def _parts(names: Sequence[str], linked: Mapping[str, set[str]]) -> list[list[str]]:
    """Nodes that reach each other without the one that is left out."""
    left, found = dict.fromkeys(names), []
    while left:
        part, edge = [], [next(iter(left))]
        while edge:
            name = edge.pop()
            if name in left:
                del left[name]
                part.append(name)
                edge += linked[name]
        found.append([name for name in names if name in part])
    return found


# --- names ------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Label:
    x: float
    y: float
    anchor: str


def labels(
    points: Mapping[str, Point],
    texts: Mapping[str, str],
    lines: Sequence[tuple[Point, Point]],
    box: Box,
    letter_px: float,
    gap_px: float = 9.0,
) -> dict[str, Label]:
    """Beside each node, at least ``gap_px`` from its middle, where it covers the least of other nodes, of names that
    stand already, and of lines."""
    taken: list[tuple[float, float, float, float]] = [(x - 6, y - 6, x + 6, y + 6) for x, y in points.values()]
    found = {}
    near_px = gap_px - 3
    for name, (x, y) in points.items():
        wide = len(texts[name]) * letter_px * LETTER_PX
        options = (
            (Label(x + gap_px, y + letter_px * 0.36, "start"), (x + gap_px, x + gap_px + wide)),
            (Label(x - gap_px, y + letter_px * 0.36, "end"), (x - gap_px - wide, x - gap_px)),
            (Label(x, y - gap_px, "middle"), (x - wide / 2, x + wide / 2)),
            (Label(x, y + gap_px + letter_px * 0.8, "middle"), (x - wide / 2, x + wide / 2)),
            (Label(x + near_px, y - near_px, "start"), (x + near_px, x + near_px + wide)),
            (Label(x - near_px, y - near_px, "end"), (x - near_px - wide, x - near_px)),
            (Label(x + near_px, y + near_px + letter_px * 0.7, "start"), (x + near_px, x + near_px + wide)),
            (Label(x - near_px, y + near_px + letter_px * 0.7, "end"), (x - near_px - wide, x - near_px)),
        )
        best, where = min(
            (
                (label, (left, label.y - letter_px * 0.8, right, label.y + letter_px * 0.2))
                for label, (left, right) in options
            ),
            key=lambda option: _covered(option[1], taken, box) + LINE_COSTS * _crossed(option[1], lines),
        )
        taken.append(where)
        found[name] = best
    return found


def _covered(
    where: tuple[float, float, float, float], taken: Iterable[tuple[float, float, float, float]], box: Box
) -> float:
    left, top, right, bottom = where
    covered = sum(
        max(0.0, min(right, other[2]) - max(left, other[0])) * max(0.0, min(bottom, other[3]) - max(top, other[1]))
        for other in taken
    )
    outside = max(0.0, -left) + max(0.0, right - box.width) + max(0.0, -top) + max(0.0, bottom - box.height)
    return covered + 100 * outside


def _crossed(where: tuple[float, float, float, float], lines: Iterable[tuple[Point, Point]]) -> int:
    """Lines that go through the box: its corners lie on both sides of them."""
    left, top, right, bottom = where
    found = 0
    for (x1, y1), (x2, y2) in lines:
        if max(x1, x2) < left or min(x1, x2) > right or max(y1, y2) < top or min(y1, y2) > bottom:
            continue
        corners = [(x2 - x1) * (y - y1) - (y2 - y1) * (x - x1) for x in (left, right) for y in (top, bottom)]
        found += min(corners) < 0 < max(corners)
    return found
