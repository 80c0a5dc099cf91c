"""Who was cut off from whom: a square for each pair, as full as the time they could not reach each other."""

from __future__ import annotations

from simulations.report import words
from simulations.report.records import RunReport
from simulations.report.svg import Drawing

SAID_MAX = 14
"""Nodes, with numbers in the squares."""


def drawing(report: RunReport) -> Drawing:
    names = [node.name for node in report.nodes]
    cell = 44.0 if len(names) <= SAID_MAX else 22.0 if len(names) <= 40 else 10.0
    left = 14 + max(len(name) for name in names) * 8.0
    size = len(names) * cell
    found = Drawing(left + size + 60, size + 30, "Share of time that each pair was cut off from each other", "matrix")
    place = {name: number for number, name in enumerate(names)}
    for name, number in place.items():
        if cell > 10:
            found.text(left - 8, number * cell + cell / 2 + 4, name, "name", "end")
            found.text(left + number * cell + cell / 2, size + 16, name, "name" if cell > 30 else "small", "middle")
    for row in report.apart:
        a, b = sorted((place[row.a], place[row.b]))
        x, y = left + a * cell, b * cell
        title = f"{row.a} and {row.b}: {words.share(row.share)} of the time that both ran"
        found.rect(x + 1, y + 1, cell - 2, cell - 2, f"cell c{_step(row.share)}", title)
        if cell > 30:
            kind = "on-dark" if row.share > 0.5 else "on-light"
            found.text(x + cell / 2, y + cell / 2 + 4, words.share(row.share), kind, "middle")
    return found


def _step(share: float) -> int:
    """0 for never, 1 to 5 for fifths."""
    return 0 if share == 0 else min(5, int(share * 5) + 1)
