"""Who was cut off from whom: a square for each pair, as full as the time they could not reach each other."""

from __future__ import annotations

from simulations.report import words
from simulations.report.records import RunReport
from simulations.report.svg import Drawing

SAID_MAX = 14
"""Nodes, with numbers in the squares."""
DARK_SHARE = 0.6
"""From here on a square is so dark that what stands in it is white."""


def drawing(report: RunReport) -> Drawing:
    """The first node has no row and the last no column: each pair has one square."""
    names = [node.name for node in report.nodes]
    cell = 46.0 if len(names) <= SAID_MAX else 22.0 if len(names) <= 40 else 10.0
    high = 26.0 if cell > 30 else cell
    left = 14 + max(len(name) for name in names) * 8.0
    wide, bottom = (len(names) - 1) * cell, (len(names) - 1) * high
    label = "Share of time that each pair was cut off from each other"
    found = Drawing(left + wide + 10, bottom + 24, label, "matrix", is_as_drawn=True)
    place = {name: number for number, name in enumerate(names)}
    if cell > 10:
        for name, number in place.items():
            if number:
                found.text(left - 8, (number - 1) * high + high / 2 + 4, name, "name", "end")
            if number < len(names) - 1:
                found.text(left + number * cell + cell / 2, bottom + 16, name, "name", "middle")
    for row in report.apart:
        a, b = sorted((place[row.a], place[row.b]))
        x, y = left + a * cell, (b - 1) * high
        title = f"{row.a} and {row.b}: {words.share(row.share)} of the time that both ran"
        found.rect(x + 1, y + 1, cell - 2, high - 2, f"cell c{_step(row.share)}", title)
        if cell > 30:
            kind = "on-dark" if row.share > DARK_SHARE else "on-light"
            found.text(x + cell / 2, y + high / 2 + 4, words.share(row.share), kind, "middle")
    return found


def _step(share: float) -> int:
    """0 for never, 1 to 5 for fifths."""
    return 0 if share == 0 else min(5, int(share * 5) + 1)
