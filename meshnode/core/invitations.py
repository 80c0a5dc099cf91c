"""Which incidents a neighbour holds that may be for this node, and how their packages are looked through.

A node that is no relay is shown incidents of which it holds no key. It asks for their epoch packages, newest first,
page by page back to the oldest: who floods an incident with packages delays an invitation and cannot hide it. The
incidents take turns, page by page, so a flood in some of them holds the others up little.

A package that is not for this node costs about 2 ms (a Diffie-Hellman for each of its prekeys). So looking through is
paced, per link: what an honest mesh has is asked for at once, and a flood costs a tenth of a core.

The pace is a virtual schedule (generic cell rate): each package takes its place ``TRY_S`` after the one before, and a
page is asked for while the schedule is at most ``LEAD_S`` ahead of the clock. A page counts in full as soon as it is
asked for; what it had less is given back when it comes. What comes unasked (a relay shows a new package, or somebody
sends junk) has a schedule of its own, at most ``UNASKED_LEAD_S`` ahead, and counts in the other too. What is ahead
of it is not tried, and the incident is asked about in its turn. So an invitation that is shown as it is made does not
wait for the end of a flood, and both together are tried at one pace.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from meshnode.core.ids import IncidentId
from meshnode.core.wire import PACKAGES_MAX

AGAIN_S = 600.0
"""How often one neighbour is asked again whether an incident is for this node: it shows new packages as they come."""
TRY_S = 0.02
"""Between two packages of a flood: a tenth of a core, and 180,000 packages an hour."""
LEAD_S = 12.0
"""How far ahead of that: 600 packages at once. The next summary on the link comes before they would be over."""
UNASKED_LEAD_S = 2.0
"""100 packages at once that nobody asked for: more than an honest mesh makes in a moment."""
INCIDENTS_MAX = 65_536
"""Remembered per link, of each kind."""


@dataclass(slots=True)
class _Link:
    waiting: dict[IncidentId, int] = field(default_factory=dict)
    """Incidents to ask about, in turn, and how many of the oldest packages are left to see; 0 for all."""
    resting: dict[IncidentId, float] = field(default_factory=dict)
    """Incidents that were asked about, and when to ask again."""
    asked: dict[IncidentId, None] = field(default_factory=dict)
    """Incidents of which a page was asked for and has not come: there may be none."""
    schedule: float = 0.0
    unasked: float = 0.0
    """Where the schedule is of what comes unasked."""


class Invitations:
    """Of one node. Times are monotonic seconds."""

    def __init__(self) -> None:
        self._links: dict[int, _Link] = {}
        self._waiting: dict[int, None] = {}
        """Links on which there is something to ask: usually none, so that a step does not look at every link."""

    def on_link_up(self, link: int) -> None:
        self._links[link] = _Link()

    def on_link_down(self, link: int) -> None:
        del self._links[link]
        self._waiting.pop(link, None)

    def on_shown(self, link: int, incident: IncidentId, now: float) -> None:
        """The peer holds this incident, and this node no key of it."""
        state = self._links[link]
        if now >= state.resting.get(incident, now):
            self._wait(link, incident, state.waiting.get(incident, 0))

    def on_packages(self, link: int, incident: IncidentId, count: int, now: float) -> tuple[int, bool]:
        """So many packages came: how many of them may be tried, and whether they are a page that was asked for."""
        state = self._links[link]
        if incident in state.asked:
            del state.asked[incident]
            state.schedule -= (PACKAGES_MAX - count) * TRY_S
            return count, True
        return self.on_unasked(link, incident, count, now), False

    def on_unasked(self, link: int, incident: IncidentId, count: int, now: float) -> int:
        """So many packages came that nobody asked for: how many of them may be tried, the first ones."""
        state = self._links[link]
        state.unasked = max(now, state.unasked)
        tried = min(count, max(0, round((now + UNASKED_LEAD_S - state.unasked) / TRY_S)))
        state.unasked += tried * TRY_S
        state.schedule = max(now, state.schedule) + tried * TRY_S
        if tried < count:
            self.on_shown(link, incident, now)
        return tried

    def on_older(self, link: int, incident: IncidentId, older: int) -> None:
        """None of a page was for this node; so many older packages are left."""
        if older:
            self._wait(link, incident, older)

    def _wait(self, link: int, incident: IncidentId, older: int) -> None:
        waiting = self._links[link].waiting
        if len(waiting) < INCIDENTS_MAX:
            waiting[incident] = older
            self._waiting[link] = None

    def waiting(self) -> list[int]:
        """Links on which there may be something to ask about."""
        return list(self._waiting)

    def due(self, link: int, now: float) -> list[tuple[IncidentId, int]]:
        """(incident, how many of the oldest packages to start from; 0 for all) to ask about now."""
        state = self._links[link]
        due = []
        while state.waiting and state.schedule <= now + LEAD_S:
            incident = next(iter(state.waiting))
            due.append((incident, state.waiting.pop(incident)))
            state.schedule = max(now, state.schedule) + PACKAGES_MAX * TRY_S
            if len(state.asked) >= INCIDENTS_MAX:
                state.asked.clear()
            state.asked[incident] = None
            if len(state.resting) >= INCIDENTS_MAX:
                state.resting.clear()
            state.resting[incident] = now + AGAIN_S
        if not state.waiting:
            self._waiting.pop(link, None)
        return due
