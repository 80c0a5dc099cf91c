"""Plots over time: how long each write took to be shown, how many pictures there were, what was sent."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from itertools import pairwise

from simulations.report import words
from simulations.report.axes import LogAxis, TimeAxis
from simulations.report.records import RunReport
from simulations.report.svg import Drawing, number
from simulations.worlds.frames import CLASSES

WIDTH, LEFT, RIGHT = 1080.0, 70.0, 1070.0
SPREAD_HEIGHT, SPREAD_TOP = 360.0, 34.0
HISTOGRAM_PX = 120.0
NEVER_PX = 22.0
"""Above the plot: a row for what never came."""
BIN_PX = 6.0
CLOSE_PX = 16.0
PANEL_PX = 90.0
SENDERS_MAX = 40
"""Nodes whose traffic is drawn."""


# --- spread -----------------------------------------------------------------------------------------------------------


def spread(report: RunReport) -> Drawing:
    """Each point is a write at one member: when it was answered, and how long until that member showed it."""
    found = Drawing(WIDTH, SPREAD_HEIGHT, "Spread of each write over time", "spread")
    right = RIGHT - HISTOGRAM_PX - 20
    never = report.spread.never > 0
    top, bottom = SPREAD_TOP + (NEVER_PX if never else 0), SPREAD_HEIGHT - 12
    axis = TimeAxis(report.end_s, LEFT, right)
    values = [after_s for write in report.writes for after_s in write.shown_after_s.values()]
    least_s = max(0.001, min(values) * 0.7) if values else 0.001
    scale = LogAxis(least_s, max([*values, least_s * 10]) * 1.4, top, bottom)
    _shade(found, axis, report, SPREAD_TOP, bottom)
    axis.draw(found, SPREAD_TOP, bottom)
    for value_s, text in scale.marks():
        y = scale.y(value_s)
        found.line(LEFT, y, RIGHT, y, "grid")
        found.text(LEFT - 8, y + 4, text, "mark", "end")
    groups: dict[str, list[tuple[float, float]]] = {"near": [], "far": []}
    for write in report.writes:
        for name, after_s in write.shown_after_s.items():
            groups["far" if name in write.cut_off else "near"].append((axis.x(write.at_s), scale.y(after_s)))
    for kind, points in groups.items():
        _dots(found, points, f"dot-{kind}")
    if never:
        found.text(LEFT - 8, SPREAD_TOP + 14, "never", "mark", "end")
        lost = [(axis.x(write.at_s), SPREAD_TOP + 10) for write in report.writes if write.never]
        _dots(found, lost, "dot-never")
    _percentiles(found, report, scale, right)
    _histogram(found, groups, right + 20, top, bottom)
    return found


def _percentiles(found: Drawing, report: RunReport, scale: LogAxis, right: float) -> None:
    """Of members in reach; said in one breath where the lines are close."""
    shares = (("p50", report.spread.reachable.p50_s), ("p99", report.spread.reachable.p99_s))
    said: list[tuple[float, str]] = []
    for share, value in shares:
        if value is not None:
            y, text = scale.y(value), f"{share} {words.seconds(value)}"
            found.line(LEFT, y, right, y, "median")
            is_close = said and abs(said[-1][0] - y) < CLOSE_PX
            said[-1:] = [(min(y, said[-1][0]), f"{said[-1][1]}, {text}")] if is_close else [*said[-1:], (y, text)]
    for y, text in said:
        found.text(right - 4, y - 5, text, "over", "end")


def _dots(found: Drawing, points: Iterable[tuple[float, float]], kind: str) -> None:
    """One for each pixel, however many fall there."""
    places = dict.fromkeys((round(x), round(y)) for x, y in points)
    found.path("".join(f"M{x} {y}h0" for x, y in places), kind)


def _histogram(
    found: Drawing, groups: dict[str, list[tuple[float, float]]], left: float, top: float, bottom: float
) -> None:
    """How many took how long, beside the plot and at its scale."""
    counts = {kind: Counter(int((y - top) // BIN_PX) for _, y in points) for kind, points in groups.items()}
    both = Counter[int]()
    for count in counts.values():
        both.update(count)
    most = max(both.values(), default=0)
    if not most:
        return
    found.line(left, top, left, bottom, "grid")
    before: Counter[int] = Counter()
    for kind, count in counts.items():
        for place, amount in sorted(count.items()):
            x = left + before[place] / most * HISTOGRAM_PX
            found.rect(x, top + place * BIN_PX + 0.5, amount / most * HISTOGRAM_PX, BIN_PX - 1, f"bar-{kind}")
        before.update(count)


# --- coming together --------------------------------------------------------------------------------------------------


def together(report: RunReport) -> Drawing:
    """How many different pictures members showed, and how many conflicts were open."""
    height = 2 * PANEL_PX + 106
    found = Drawing(WIDTH, height, "Different pictures and open conflicts over time", "together")
    axis = TimeAxis(report.end_s, LEFT, RIGHT)
    top = 34.0
    _shade(found, axis, report, top, height - 14)
    axis.draw(found, top, height - 14)
    pictures = [(look.at_s, float(look.pictures)) for look in report.looks]
    _panel(found, axis, pictures, top, "different pictures of one incident", "pictures", least=1.0)
    shown = [(look.at_s, float(look.conflicts)) for look in report.looks]
    top += PANEL_PX + 36
    _panel(found, axis, shown, top, "open conflicts, as the member with the most shows them", "conflicts", least=0.0)
    for row in report.conflicts:
        x, y = axis.x(row.at_s), top + PANEL_PX + 12
        if row.made:
            found.path(
                f"M{number(x)} {number(y - 6)}l3.5 6h-7z", "made", f"made by {row.node}, {words.moment(row.at_s)}"
            )
        else:
            told = f"resolved by {row.node}, {words.moment(row.at_s)}"
            found.path(f"M{number(x)} {number(y + 9)}l3.5 -6h-7z", "resolved", told)
    return found


def _panel(
    found: Drawing,
    axis: TimeAxis,
    values: Sequence[tuple[float, float]],
    top: float,
    title: str,
    kind: str,
    least: float,
) -> None:
    bottom = top + PANEL_PX
    most = max([least + 1, *(value for _, value in values)])
    found.text(LEFT + 4, top + 12, title, "said")
    for value in dict.fromkeys((least, most)):
        y = bottom - (value - least) / (most - least) * (PANEL_PX - 20)
        found.line(LEFT, y, RIGHT, y, "grid")
        found.text(LEFT - 8, y + 4, f"{value:g}", "mark", "end")
    _steps(found, axis, values, lambda value: bottom - max(0.0, value - least) / (most - least) * (PANEL_PX - 20), kind)


def _steps(
    found: Drawing,
    axis: TimeAxis,
    values: Sequence[tuple[float, float]],
    height: Callable[[float], float],
    kind: str,
) -> None:
    """A filled step from each value to the next; what changes nothing is not drawn."""
    if not values:
        return
    base = height(-1e9)
    data = f"M{number(axis.x(values[0][0]))} {number(base)}"
    last = ""
    for at_s, value in values:
        y = number(height(value))
        if y != last:
            data += f"H{number(axis.x(at_s))}V{y}"
            last = y
    found.path(f"{data}H{number(axis.x(values[-1][0]))}V{number(base)}z", kind)


def _shade(found: Drawing, axis: TimeAxis, report: RunReport, top: float, bottom: float) -> None:
    """The times in which members were split, behind everything."""
    for split in report.splits:
        x1, x2 = axis.x(split.begin_s), axis.x(split.end_s)
        found.rect(x1, top, max(x2 - x1, 0.6), bottom - top, "split")


# --- traffic ----------------------------------------------------------------------------------------------------------


def traffic(report: RunReport) -> Drawing:
    """Bytes of each node by class of message; of very many nodes those who sent the most."""
    totals: Counter[str] = Counter()
    for row in report.sent:
        totals[row.node] += row.bytes
    names = list(totals) if len(totals) <= SENDERS_MAX else [name for name, _ in totals.most_common(SENDERS_MAX)]
    row_px = 22.0 if len(names) <= 16 else 14.0
    found = Drawing(WIDTH, len(names) * row_px + 8, "Bytes sent by each node", "traffic")
    most = max([1, *totals.values()])
    for place, name in enumerate(names):
        y, x = place * row_px + 4, LEFT + 20
        found.text(x - 10, y + row_px / 2 + 3, name, "name", "end")
        for row in (row for row in report.sent if row.node == name):
            wide = row.bytes / most * (RIGHT - LEFT - 110)
            title = f"{name}, {row.kind}: {words.size(row.bytes)}"
            title += f" in {words.count(row.frames, 'frame')}" if row.frames else ""
            found.rect(x, y, wide, row_px - 5, f"k-{row.kind}", title)
            x += wide
        found.text(x + 6, y + row_px / 2 + 3, words.size(totals[name]), "small")
    return found


def traffic_over_time(report: RunReport) -> Drawing:
    """Bytes a second in the whole mesh, from look to look, classes on top of each other."""
    height, top = 150.0, 34.0
    bottom = height - 10
    found = Drawing(WIDTH, height, "Bytes a second over time, by class", "traffic")
    axis = TimeAxis(report.end_s, LEFT + 20, RIGHT)
    axis.draw(found, top, bottom)
    looks = [look for look in report.looks if look.bytes_by_class]
    rates: list[tuple[float, float, dict[str, float]]] = []
    for before, after in pairwise(looks):
        took_s = after.at_s - before.at_s
        if took_s > 0:
            sent = {kind: after.bytes_by_class.get(kind, 0) - before.bytes_by_class.get(kind, 0) for kind in CLASSES}
            rates.append((before.at_s, after.at_s, {kind: size / took_s for kind, size in sent.items()}))
    most = max([1.0, *(sum(rate.values()) for _, _, rate in rates)])
    for value in (0.0, most):
        y = bottom - value / most * (bottom - top)
        found.text(LEFT + 12, y + 4, f"{words.size(value)}/s" if value else "0", "mark", "end")
    base = [0.0] * len(rates)
    for kind in CLASSES:
        if any(rate[kind] for _, _, rate in rates):
            _band(found, axis, rates, base, kind, most, (top, bottom))
    return found


def _band(
    found: Drawing,
    axis: TimeAxis,
    rates: Sequence[tuple[float, float, dict[str, float]]],
    base: list[float],
    kind: str,
    most: float,
    span: tuple[float, float],
) -> None:
    """One class, on top of those before it; ``base`` is raised by it."""
    top, bottom = span
    scale = (bottom - top) / most
    lower = [bottom - value * scale for value in base]
    for place, (_, _, rate) in enumerate(rates):
        base[place] += rate[kind]
    upper = [bottom - value * scale for value in base]
    there = "".join(
        f"L{number(axis.x(begin_s))} {number(y)}H{number(axis.x(end_s))}"
        for (begin_s, end_s, _), y in zip(rates, upper, strict=True)
    )
    back = "".join(
        f"L{number(axis.x(end_s))} {number(y)}H{number(axis.x(begin_s))}"
        for (begin_s, end_s, _), y in reversed(list(zip(rates, lower, strict=True)))
    )
    found.path(f"M{there[1:]}{back}z", f"k-{kind}")
