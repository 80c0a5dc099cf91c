"""What a node's colour says: on whose side it is. The same in every picture of a page.

The largest side has one colour all the time, the others theirs by size; whoever reaches nobody is alone.
"""

from __future__ import annotations

from collections.abc import Sequence

from simulations.report.records import RunReport
from simulations.worlds.timeline import DOWN, PAUSED

MAIN, ALONE = "s0", "alone"
SIDES = ("s0", "s1", "s2", "s3")
"""Fourth sides and those behind them look alike."""
GRAVE = ("", *SIDES, ALONE, PAUSED, DOWN)
"""From nothing to the worst: of what happens within one pixel, the worst is drawn."""
MEANINGS = {
    "s0": "with the largest side",
    "s1": "on the second side",
    "s2": "on a third side",
    "s3": "on a further side",
    ALONE: "alone: reaches nobody, runs on",
    PAUSED: "stands still",
    DOWN: "down",
}


def of_sides(sides: Sequence[Sequence[str]], nodes: int) -> dict[str, str]:
    """Node -> class, of those that run."""
    found: dict[str, str] = {}
    for number, side in enumerate(sides):
        colour = ALONE if len(side) == 1 and nodes > 1 else SIDES[min(number, len(SIDES) - 1)]
        found.update(dict.fromkeys(side, colour))
    return found


def used(report: RunReport) -> list[str]:
    """Those that occur once somebody has written something, in the order of ``MEANINGS``."""
    first_s = report.writes[0].at_s if report.writes else 0.0
    islands = [row for row in report.islands if row.end_s > first_s]
    found = {colour for row in islands for colour in of_sides(row.sides, len(report.nodes)).values()}
    found |= {spell.state for spell in report.spells if spell.end_s > first_s}
    return [colour for colour in MEANINGS if colour in found]
