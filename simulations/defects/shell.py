"""Defects of the daemon's shell, which only its own world can show: those of ``worlds/daemon/defects``."""

from __future__ import annotations

from contextlib import nullcontext
from functools import partial
from pathlib import Path

from simulations.defects.table import DEFECTS, Defect
from simulations.worlds.daemon import DaemonWorld
from simulations.worlds.daemon.defects import DEFECTS as OF_THE_SHELL

FLOOD = str(Path(__file__).with_name("flood.toml"))
SLOW_HUB = {"EU": (4.0, 5.0)}
"""A disk that is far slower than what comes in: what has no bound grows."""

for _name, _defect in OF_THE_SHELL.items():
    _flooded = _name == "no-back-pressure"
    DEFECTS[_name] = Defect(
        _defect.meaning,
        nullcontext,
        _defect.invariants,
        FLOOD if _flooded else _defect.scenario,
        partial(DaemonWorld, _defect.parts, SLOW_HUB if _flooded else None),
    )
