"""A request of a local client of the world ``protocol``, until it is answered or its node goes down."""

from __future__ import annotations

from dataclasses import dataclass, field

from simulations.worlds import work


@dataclass(slots=True)
class Asked:
    host: str
    at_s: float
    incident: str
    """What the plan calls it."""
    write: work.Asked | None = None
    opens: bool = False
    invites: tuple[str, ...] = ()
    """Nodes that must be members when it is answered."""
    before: dict[bytes, int] = field(default_factory=dict)
    """Heights of the logs of the incident when it was asked."""
    entry: str = ""
    """Of the log, that invites them."""
