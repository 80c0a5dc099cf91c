"""Figures of a report: names that do not cover each other, marks that do not crowd, numbers as people read them."""

from __future__ import annotations

from itertools import combinations, pairwise

import pytest

from simulations.report import words
from simulations.report.axes import LogAxis, TimeAxis
from simulations.report.layout import LETTER_PX, Box, labels, positions
from simulations.report.mesh import LARGE, SMALL
from simulations.report.records import Fault, Node
from simulations.report.strip import bands
from simulations.report.svg import Drawing
from simulations.report.sweep_page import histogram
from simulations.scenario.places import CAPITALS, CITIES

DAY_S = 86_400.0


def node(name: str, city: str = "", role: str = "member") -> Node:
    latitude, longitude = CITIES.get(city, (0.0, 0.0))
    return Node(name, name, role, "nocs", city, latitude, longitude, True, False)


EUROPE = [node(code, city) for code, city in sorted(CAPITALS.items()) if code not in ("EL",)]
EUROPE += [node("EUS", "Strasbourg", "hub"), node("EUT", "Tallinn", "hub")]


@pytest.mark.parametrize(("box", "letter_px"), [(LARGE, 14.0)])
def test_names_of_all_capitals_cover_neither_each_other_nor_a_node(box: Box, letter_px: float) -> None:
    points = positions(EUROPE, [], box)
    assert len(points) == 29
    assert all(0 <= x <= box.width and 0 <= y <= box.height for x, y in points.values())
    assert min(abs(a[0] - b[0]) + abs(a[1] - b[1]) for a, b in combinations(points.values(), 2)) > 6
    found = labels(points, {name: name for name in points}, [], box, letter_px)
    boxes = []
    for name, label in found.items():
        wide = len(name) * letter_px * LETTER_PX
        left = label.x - {"start": 0.0, "middle": wide / 2, "end": wide}[label.anchor]
        boxes.append((left, label.y - letter_px * 0.75, left + wide, label.y))
    for a, b in combinations(boxes, 2):
        assert a[2] <= b[0] + 1 or b[2] <= a[0] + 1 or a[3] <= b[1] + 1 or b[3] <= a[1] + 1
    for (left, top, right, bottom), (x, y) in ((place, point) for place in boxes for point in points.values()):
        assert not (left < x < right and top < y < bottom)


def test_north_is_above_and_west_is_left() -> None:
    points = positions([node("FI", "Helsinki"), node("GR", "Athens"), node("IE", "Dublin")], [], SMALL)
    assert points["FI"][1] < points["IE"][1] < points["GR"][1]
    assert points["IE"][0] < points["GR"][0] < points["FI"][0]


def test_without_places_a_star_has_its_centre_in_the_middle_and_cliques_stand_side_by_side() -> None:
    star = positions([node(name) for name in "ABCDE"], [("C", name) for name in "ABDE"], SMALL)
    assert star["C"] == (SMALL.width / 2, SMALL.height / 2)
    reach = [*combinations("ABX", 2), *combinations("CDX", 2)]
    cliques = positions([node(name) for name in "ABCDX"], reach, SMALL)
    assert cliques["X"] == (SMALL.width / 2, SMALL.height / 2)
    assert max(cliques["A"][0], cliques["B"][0]) < cliques["X"][0] < min(cliques["C"][0], cliques["D"][0])


@pytest.mark.parametrize("end_s", [1.0, 15.0, 61.0, 400.0, 900.0, 7_200.0, DAY_S, 30 * DAY_S, 400 * DAY_S])
def test_marks_of_time_are_round_few_and_apart(end_s: float) -> None:
    axis = TimeAxis(end_s, 100, 1000)
    marks = list(axis.marks())
    assert 2 <= len(marks) <= 14
    assert all(axis.x(b) - axis.x(a) >= 60 for (a, _), (b, _) in pairwise(marks))
    assert len({text for _, text in marks}) == len(marks)


def test_a_scale_from_a_millisecond_to_a_month_goes_up_and_keeps_its_marks_apart() -> None:
    axis = LogAxis(0.001, 40 * DAY_S, 20, 300)
    heights = [axis.y(value_s) for value_s, _ in axis.marks()]
    assert len(heights) >= 8
    assert all(a - b >= 12 for a, b in pairwise(heights))
    assert axis.y(0.0) == axis.y(0.001) == 300


def test_cuts_from_both_sides_are_one_band_and_a_clog_is_whom_it_befalls() -> None:
    everybody = ("A", "B", "C")
    faults = [
        Fault("cut", 1, 2, ("A",), ("B", "C"), 0.0),
        Fault("cut", 1, 2, ("B", "C"), ("A",), 0.0),
        Fault("cut", 5, 9, ("A",), ("B",), 0.0),
    ]
    assert list(bands(faults)) == [(1, 2, "A | B, C"), (5, 9, "A → B")]
    clog = [Fault("hold", 1, 2, ("A",), everybody, 0.0), Fault("hold", 1, 2, everybody, ("A",), 0.0)]
    assert list(bands(clog)) == [(1, 2, "A")]
    assert list(bands([Fault("lie", 1, 2, ("A", "B"), (), 0.0, "equivocate")])) == [(1, 2, "equivocate with B")]


@pytest.mark.parametrize(
    ("value", "told"),
    [
        (None, "never"),
        (0, "0 s"),
        (0.0004, "0.4 ms"),
        (0.0457, "46 ms"),
        (0.0999, "0.1 s"),
        (3.26, "3.3 s"),
        (47.4, "47 s"),
        (400, "6.7 min"),
        (7_200, "2 h"),
        (88_000, "24.4 h"),
        (2_700_000, "31.2 d"),
    ],
)
def test_durations_have_the_unit_that_fits(value: float | None, told: str) -> None:
    assert words.seconds(value) == told


def test_moments_sizes_and_lists() -> None:
    assert [words.moment(at_s) for at_s in (0.5, 59, 380, 7_400, 3 * DAY_S + 4 * 3_600)] == [
        *("0.5 s", "59 s", "6:20", "2:03:20", "day 3, 04:00"),
    ]
    assert [words.size(size) for size in (0, 999, 1_500, 2_700_000)] == ["0 B", "999 B", "1.5 kB", "2.7 MB"]
    assert words.listed(["A", "B", "C"]) == "A, B and C"
    assert words.listed([str(n) for n in range(12)], 3) == "0, 1, 2 and 9 more"
    assert (words.share(0), words.share(0.004), words.share(0.98)) == ("0", "<1 %", "98 %")


def test_what_is_drawn_is_escaped() -> None:
    drawing = Drawing(10, 10, 'a "label" <b>')
    drawing.text(1, 1, "<script>")
    drawing.rect(0, 0, 1, 1, "kind", "AT & <T>")
    text = str(drawing)
    assert "<script>" not in text
    assert "&lt;script&gt;" in text
    assert "AT &amp; &lt;T&gt;" in text
    assert "a &quot;label&quot; &lt;b&gt;" in text


def test_a_histogram_holds_every_value() -> None:
    text = str(histogram([1.0, 1.0, 2.0, 120.0]))
    assert "0 s to 5 s: 3 seeds" in text
    assert "2 min to 2.1 min: 1 seed<" in text
    assert text.count("<rect") == 2
