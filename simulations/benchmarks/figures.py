"""What a benchmark gives back: measurements of one run, and over several runs a row with medians."""

from __future__ import annotations

import math
import statistics
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, slots=True)
class Aim:
    """A bound on a measurement's value, or on its ratio to the yardstick."""

    bound: float
    at_most: bool = True
    of_ratio: bool = False

    def holds(self, value: float, ratio: float | None) -> bool | None:
        judged = ratio if self.of_ratio else value
        if judged is None or math.isnan(judged):
            return None
        return judged <= self.bound if self.at_most else judged >= self.bound

    def __str__(self) -> str:
        sign = "<=" if self.at_most else ">="
        return f"{'ratio ' if self.of_ratio else ''}{sign} {_short(self.bound)}"


@dataclass(frozen=True, slots=True)
class Measurement:
    """One figure of one run."""

    name: str
    value: float
    unit: str
    aim: Aim | None = None
    yardstick: float | None = None
    """What the bare thing took, in the same unit."""
    yardstick_name: str = ""

    @property
    def ratio(self) -> float | None:
        return self.value / self.yardstick if self.yardstick else None


@dataclass(frozen=True, slots=True)
class Row:
    """One figure over all runs."""

    name: str
    unit: str
    median: float
    runs: tuple[float, ...]
    aim: str
    holds: bool | None
    yardstick: float | None
    yardstick_name: str
    ratio: float | None
    """Median of the ratios, each taken within one run."""

    def plain(self) -> dict[str, Any]:
        return {name: getattr(self, name) for name in self.__slots__}


def percentile(values: Sequence[float], percent: float) -> float:
    """The smallest value that ``percent`` of all do not exceed (nearest rank). NaN when there are none."""
    if not values:
        return math.nan
    return sorted(values)[max(0, math.ceil(len(values) * percent / 100) - 1)]


def summarise(runs: Sequence[Sequence[Measurement]], judge: bool) -> list[Row]:
    """Runs of one benchmark; a figure missing from some runs is summarised over those that have it. ``judge``: say
    whether aims hold, which only means something at the sizes they are stated for."""
    by_name: dict[str, list[Measurement]] = {}
    for run in runs:
        for measurement in run:
            by_name.setdefault(measurement.name, []).append(measurement)
    return [_row(measured, judge) for measured in by_name.values()]


def _row(measured: Sequence[Measurement], judge: bool) -> Row:
    first = measured[0]
    median = statistics.median(m.value for m in measured)
    ratios = [m.ratio for m in measured if m.ratio is not None]
    yardsticks = [m.yardstick for m in measured if m.yardstick is not None]
    ratio = statistics.median(ratios) if ratios else None
    return Row(
        name=first.name,
        unit=first.unit,
        median=median,
        runs=tuple(m.value for m in measured),
        aim="" if first.aim is None else str(first.aim),
        holds=None if first.aim is None or not judge else first.aim.holds(median, ratio),
        yardstick=statistics.median(yardsticks) if yardsticks else None,
        yardstick_name=first.yardstick_name,
        ratio=ratio,
    )


def table(rows: Sequence[Row]) -> str:
    """For people: one line per figure."""
    head = ("figure", "median", "range", "unit", "aim", "", "yardstick", "ratio")
    lines = [head, *(_cells(row) for row in rows)]
    widths = [max(len(line[column]) for line in lines) for column in range(len(head))]
    numeric = {1, 2, 7}
    return "\n".join(
        "  ".join(
            cell.rjust(width) if column in numeric else cell.ljust(width)
            for column, (cell, width) in enumerate(zip(line, widths, strict=True))
        ).rstrip()
        for line in lines
    )


def _cells(row: Row) -> tuple[str, ...]:
    verdict = {None: "", True: "held", False: "MISSED"}[row.holds]
    stick = "" if row.yardstick is None else f"{_short(row.yardstick)} {row.unit} {row.yardstick_name}"
    spread = f"{_short(min(row.runs))}..{_short(max(row.runs))}" if len(row.runs) > 1 else ""
    ratio = "" if row.ratio is None else _short(row.ratio)
    return (row.name, _short(row.median), spread, row.unit, row.aim, verdict, stick, ratio)


def _short(value: float) -> str:
    if value != value:
        return "none"
    if abs(value) >= 100 or value == int(value):
        return f"{value:,.0f}"
    return f"{value:.1f}" if abs(value) >= 10 else f"{value:.2f}"
