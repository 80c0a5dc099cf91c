"""What the tests of the lab share: is there a lab here, and plans for it that take seconds."""

from __future__ import annotations

import pytest

from simulations.scenario.draw import draw
from simulations.scenario.plan import Plan
from simulations.scenario.reader import parse
from simulations.worlds.lab.world import why_not_here

WHY_NOT = why_not_here()
needs_lab = pytest.mark.skipif(bool(WHY_NOT), reason=WHY_NOT or "it runs here")

BEGINNING = """
title = "A test of the lab"
story = "Three NOCs and a hub that is no member share an incident."
duration_s = {duration_s}
[[group]]
name = "nocs"
nocs = ["BE", "NL", "FR"]
[[group]]
name = "hub"
role = "hub"
nocs = ["EU"]
[links]
latency_ms = 3
jitter_ms = 2
idle_timeout_s = 3
[node]
anti_entropy_interval_s = 1
redial_max_s = 1
[[incident]]
name = "hunt"
by = "BE"
at_s = 1.5
[workload]
start_s = 2
writes_per_s = 8
[checks]
converge_within_s = 20
"""


def lab_plan(duration_s: float, rest: str = "", seed: int = 1) -> Plan:
    """``rest``: more tables, as in a scenario's file."""
    return draw(parse(BEGINNING.format(duration_s=duration_s) + rest, "lab-test"), seed)
