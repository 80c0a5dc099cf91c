"""The table of planted defects, and how a row is put into it.

A row names an error that a developer could make, plants it in this process only while a plan is performed, and says
which invariants may notice it. Rows are added by the files beside this one; another file that adds some is named in
``__init__``.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass

from simulations.worlds.contract import World
from simulations.worlds.protocol import ProtocolWorld

Plant = Callable[[], AbstractContextManager[None]]
EVERYTHING = "everything-goes-wrong"


@dataclass(frozen=True, slots=True)
class Defect:
    meaning: str
    plant: Plant
    caught_by: tuple[str, ...]
    """Invariants, any of which may notice first."""
    scenario: str = EVERYTHING
    """Where it is hunted: the name of a shipped one, or a file."""
    make_world: Callable[[], World] = ProtocolWorld
    """The world it is hunted in: one with a liar in it, or that of the daemon's shell."""


DEFECTS: dict[str, Defect] = {}


def defect(
    name: str,
    meaning: str,
    *caught_by: str,
    scenario: str = EVERYTHING,
    make_world: Callable[[], World] = ProtocolWorld,
) -> Callable[[Callable[[], Iterator[None]]], None]:
    """Puts a generator that plants the error, yields once and takes it out again, into the table."""

    def keep(plant: Callable[[], Iterator[None]]) -> None:
        if name in DEFECTS:
            raise ValueError(f"there are two defects {name!r}")
        DEFECTS[name] = Defect(meaning, contextmanager(plant), caught_by, scenario, make_world)

    return keep
