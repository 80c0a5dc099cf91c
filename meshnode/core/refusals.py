"""What two linked nodes need not say again about incidents that one of them does not take.

A relay that dropped an incident, or has no room for it, goes on refusing it, and its neighbours go on holding it: so
each anti-entropy round would offer, ask and refuse the same again. Here is remembered, per link, what was said; it is
said again when it changed or after a while. Everything is bounded and may be forgotten: then it is said once more.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TypeVar

from meshnode.core.ids import IncidentId

AGAIN_S = 600.0
"""After this an unchanged incident is offered again, and a refusal reported again."""
INCIDENTS_MAX = 65_536
"""Remembered per link and kind."""

Key = TypeVar("Key")


@dataclass(slots=True)
class _Link:
    judged: dict[IncidentId, bytes] = field(default_factory=dict)
    offered: dict[tuple[IncidentId, bytes], float] = field(default_factory=dict)
    reported: dict[tuple[IncidentId, str], float] = field(default_factory=dict)


class Refusals:
    """Of one node. Times are monotonic seconds."""

    def __init__(self) -> None:
        self._links: dict[int, _Link] = {}

    def on_link_up(self, link: int) -> None:
        self._links[link] = _Link()

    def on_link_down(self, link: int) -> None:
        del self._links[link]

    def was_judged(self, link: int, incident: IncidentId, digest: bytes) -> bool:
        """Did the peer list this refused incident with the same digest before? From now on it did."""
        judged = self._links[link].judged
        if judged.get(incident) == digest:
            return True
        if len(judged) >= INCIDENTS_MAX:
            judged.clear()
        judged[incident] = digest
        return False

    def offer_due(self, link: int, incident: IncidentId, digest: bytes, now: float) -> bool:
        """Is this incident, which the peer does not list, to be offered to it now?"""
        return _is_due(self._links[link].offered, (incident, digest), now)

    def report_due(self, link: int, incident: IncidentId, code: str, now: float) -> bool:
        """Is this refusal to be reported now?"""
        return _is_due(self._links[link].reported, (incident, code), now)


def _is_due(again_at: dict[Key, float], key: Key, now: float) -> bool:
    if now < again_at.get(key, now):
        return False
    if len(again_at) >= INCIDENTS_MAX:
        again_at.clear()
    again_at[key] = now + AGAIN_S
    return True
