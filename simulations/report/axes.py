"""Axes: from seconds to pixels, with marks where a person expects them."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass

from simulations.report.svg import Drawing
from simulations.report.words import DAY_S, HOUR_S, MINUTE_S

STEPS_S = (
    *(0.1, 0.2, 0.5, 1, 2, 5, 10, 15, 30),
    *(n * MINUTE_S for n in (1, 2, 5, 10, 15, 30)),
    *(n * HOUR_S for n in (1, 2, 3, 6, 12)),
    *(n * DAY_S for n in (1, 2, 5, 10, 20, 50, 100)),
)
MARK_PX_MIN = 70.0
DECADES = (
    *((0.001, "1 ms"), (0.01, "10 ms"), (0.1, "0.1 s"), (1.0, "1 s"), (10.0, "10 s"), (MINUTE_S, "1 min")),
    *((10 * MINUTE_S, "10 min"), (HOUR_S, "1 h"), (10 * HOUR_S, "10 h"), (DAY_S, "1 d"), (10 * DAY_S, "10 d")),
    (100 * DAY_S, "100 d"),
)
"""Marks of an axis that spans milliseconds and months."""
CROWDED_PX = 12.0


@dataclass(frozen=True, slots=True)
class TimeAxis:
    """From 0 to ``end_s``, between ``left`` and ``right``."""

    end_s: float
    left: float
    right: float

    def x(self, at_s: float) -> float:
        return self.left + (self.right - self.left) * min(max(at_s / self.end_s, 0.0), 1.0)

    def marks(self) -> Iterator[tuple[float, str]]:
        wanted_s = self.end_s * MARK_PX_MIN / (self.right - self.left)
        step_s = next((step for step in STEPS_S if step >= wanted_s), STEPS_S[-1])
        unit_s, unit = _unit(step_s)
        for number in range(int(self.end_s / step_s + 1e-9) + 1):
            yield number * step_s, f"{number * step_s / unit_s:g} {unit}" if number else "0"

    def draw(self, drawing: Drawing, top: float, bottom: float) -> None:
        """Lines from top to bottom, and what they mean above."""
        for at_s, text in self.marks():
            x = self.x(at_s)
            drawing.line(x, top, x, bottom, "grid")
            anchor = "start" if x - self.left < 15 else "end" if self.right - x < 15 else "middle"
            drawing.text(x, top - 6, text, "mark", anchor)


def _unit(step_s: float) -> tuple[float, str]:
    if step_s >= DAY_S:
        return DAY_S, "d"
    if step_s >= HOUR_S:
        return HOUR_S, "h"
    return (MINUTE_S, "min") if step_s >= MINUTE_S else (1.0, "s")


@dataclass(frozen=True, slots=True)
class LogAxis:
    """Seconds upwards, a decade as high as the next one."""

    least_s: float
    most_s: float
    top: float
    bottom: float

    def y(self, value_s: float) -> float:
        least, most = math.log10(self.least_s), math.log10(self.most_s)
        share = (math.log10(max(value_s, self.least_s)) - least) / (most - least)
        return self.bottom - (self.bottom - self.top) * min(share, 1.0)

    def marks(self) -> Iterator[tuple[float, str]]:
        """Where they do not crowd."""
        last = math.inf
        for value_s, text in DECADES:
            y = self.y(value_s)
            if self.least_s * 0.999 <= value_s <= self.most_s and last - y >= CROWDED_PX:
                last = y
                yield value_s, text
