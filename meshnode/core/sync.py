"""Anti-entropy: two nodes find what they lack of each other at a cost that follows the difference.

On connect and about every ten seconds each side sends a Summary. Only when it differs come the digests of incidents,
then the heights of the logs of those that differ, then requests for what is missing. Requests are driven by the side
that lacks: it keeps a few ranges in flight on a link, and asks for one log on one link at a time. So the answering
side keeps no session state, what a slow reader can make it hold is bounded by the reader's own requests, and a link
that dies costs at most the ranges in flight.

This machine keeps, per link, what the peer said it holds, and plans requests. It knows nothing of contents or keys.
"""

from __future__ import annotations

import random
from collections.abc import Callable
from heapq import heappop, heappush

from meshnode.core import wire
from meshnode.core.ids import IncidentId, LogId

INTERVAL_S = 10.0
"""Between two summaries on a link, times 0.75 to 1.25 so that links do not beat together."""
EARLY = 0.1
"""Of the interval: summaries that would be due within so long go along with one that is due. So a node with thirty
links wakes up for them once a second, and not three times."""
RANGES_IN_FLIGHT_MAX = 4
"""Unanswered requests per link. Four of 100 KiB keep a link of 4 MB/s and 100 ms busy; more only fill queues."""
RANGE_TIMEOUT_S = 8.0
"""A request not answered by then is planned again, on another link if one holds the log."""
LOGS_TOLD_MAX = 65_536
"""Heights remembered per link. What does not fit is told again at the next summary."""

LogKey = tuple[IncidentId, LogId]
HeightOf = Callable[[IncidentId, LogId], int]


class _Session:
    __slots__ = ("in_flight", "summary_at", "told", "told_count", "wanting")

    def __init__(self, now: float) -> None:
        self.told: dict[IncidentId, dict[LogId, int]] = {}
        """Heights the peer said it holds."""
        self.told_count = 0
        self.in_flight: dict[tuple[IncidentId, LogId, int], float] = {}
        """(incident, log, first) of each unanswered request, and when it times out."""
        self.wanting: dict[LogKey, None] = {}
        """Logs of which the peer holds more than we do, oldest first."""
        self.summary_at = now


class Sync:
    """One per node. ``height_of`` answers how far this node holds a log."""

    def __init__(self, rng: random.Random, height_of: HeightOf, interval_s: float = INTERVAL_S) -> None:
        self._rng = rng
        self._height_of = height_of
        self._interval_s = interval_s
        self._sessions: dict[int, _Session] = {}
        self._busy: dict[int, _Session] = {}
        """Those with unanswered requests: usually none, so that a step does not look at every link."""
        self._summaries: list[tuple[float, int]] = []
        """A heap of (when, link) of the next summaries. A row counts while the link's session names the same time."""
        self._claims: dict[LogKey, tuple[int, int, int]] = {}
        """(link, highest position asked for, entries per range) of each log being fetched. It keeps other links off
        the log only while something is in flight there."""

    def on_link_up(self, link: int, now: float) -> None:
        self._sessions[link] = _Session(now)
        heappush(self._summaries, (now, link))

    def on_link_down(self, link: int) -> None:
        self._sessions.pop(link, None)
        self._busy.pop(link, None)
        for key in [key for key, claim in self._claims.items() if claim[0] == link]:
            del self._claims[key]

    # --- what the peer tells --------------------------------------------------------------------------------------

    def on_equal(self, link: int) -> None:
        """The summaries were equal: the peer lacks nothing and neither do we."""
        session = self._sessions[link]
        session.told.clear()
        session.told_count = 0
        session.wanting.clear()

    def on_equal_incident(self, link: int, incident: IncidentId) -> None:
        """Of this incident the peer lacks nothing and neither do we."""
        session = self._sessions[link]
        logs = session.told.pop(incident, {})
        session.told_count -= len(logs)
        for log in logs:
            session.wanting.pop((incident, log), None)

    def on_refused(self, link: int, incident: IncidentId, is_taken: Callable[[LogId], bool]) -> None:
        """Of this incident the peer is asked for nothing more, but for the logs that are taken all the same."""
        session = self._sessions[link]
        told = session.told.get(incident, {})
        for log in [log for log in told if not is_taken(log)]:
            del told[log]
            session.told_count -= 1
            session.wanting.pop((incident, log), None)

    def give_up(self, link: int, incident: IncidentId, log: LogId) -> None:
        """What the peer offers of this log cannot be taken now; its next heights put it back on the list."""
        self._sessions[link].wanting.pop((incident, log), None)
        self._release(link, (incident, log))

    def _release(self, link: int, key: LogKey) -> None:
        """This link does not fetch the log any more; another that does is not disturbed."""
        claim = self._claims.get(key)
        if claim is not None and claim[0] == link:
            del self._claims[key]

    def on_told(self, link: int, incident: IncidentId, log: LogId, height: int) -> None:
        """The peer holds this log up to ``height``: it said so, or it sent the entries."""
        session = self._sessions[link]
        before = session.told.get(incident, {}).get(log)
        if before is None:
            if session.told_count >= LOGS_TOLD_MAX:
                return
            session.told_count += 1
        session.told.setdefault(incident, {})[log] = max(height, before or 0)
        if height > self._height_of(incident, log):
            session.wanting[incident, log] = None

    def on_answer(self, link: int, incident: IncidentId, log: LogId, first: int, entries: int, bytes_: int) -> bool:
        """A Run or Lack (no entries) came. True when it answers a request of ours, False for a push.

        The size of the run tunes the next ranges of this log to stay below what one run may carry.
        """
        session = self._sessions[link]
        if session.in_flight.pop((incident, log, first), None) is None:
            return False
        if not session.in_flight:
            del self._busy[link]
        key = (incident, log)
        claim = self._claims.get(key)
        if not entries:
            session.wanting.pop(key, None)
            if session.told.get(incident, {}).pop(log, None) is not None:
                session.told_count -= 1
            self._release(link, key)
        elif claim is not None and claim[0] == link:
            mean = max(1, bytes_ // entries)
            fitting = max(1, min(wire.RUN_ENTRIES_MAX, wire.RUN_BYTES_MAX * 3 // 4 // mean))
            self._claims[key] = (link, claim[1], fitting)
        return True

    def restart_log(self, link: int, incident: IncidentId, log: LogId) -> None:
        """A range arrived behind a gap: plan again from the height we hold."""
        claim = self._claims.get((incident, log))
        if claim is not None and claim[0] == link:
            self._claims[incident, log] = (link, self._height_of(incident, log), claim[2])

    # --- what we ask ----------------------------------------------------------------------------------------------

    def plan(self, link: int, now: float) -> list[wire.Want]:
        """The requests to send on this link now: fills up the ranges in flight."""
        session = self._sessions[link]
        wants: list[wire.Want] = []
        for key in list(session.wanting):
            if len(session.in_flight) >= RANGES_IN_FLIGHT_MAX:
                break
            incident, log = key
            told = session.told.get(incident, {}).get(log, 0)
            held = self._height_of(incident, log)
            if told <= held:
                session.wanting.pop(key)
                self._release(link, key)
                continue
            fetching, asked, size = self._claims.get(key, (link, held, wire.RUN_ENTRIES_MAX))
            if not self._is_in_flight(fetching, key):
                asked = held  # a run that ended early, or was not taken: what is missing is asked again
            elif fetching != link:
                continue
            asked = max(asked, held)
            while asked < told and len(session.in_flight) < RANGES_IN_FLIGHT_MAX:
                last = min(told, asked + size)
                if (incident, log, asked + 1) in session.in_flight:
                    break
                session.in_flight[incident, log, asked + 1] = now + RANGE_TIMEOUT_S
                self._busy[link] = session
                wants.append(wire.Want(incident, log, asked + 1, last))
                asked = last
            self._claims[key] = (link, asked, size)
        return wants

    def _is_in_flight(self, link: int, key: LogKey) -> bool:
        session = self._sessions.get(link)
        return session is not None and any(request[:2] == key for request in session.in_flight)

    def handle_timeouts(self, now: float) -> list[int]:
        """Gives up requests that were not answered; returns links on which something can be planned again: those that
        answer first, so that a peer that never does cannot keep a log to itself."""
        if not self._busy:
            return []
        late = []
        for link, session in list(self._busy.items()):
            expired = [request for request, deadline in session.in_flight.items() if deadline <= now]
            for incident, log, first in expired:
                del session.in_flight[incident, log, first]
                key = (incident, log)
                self._release(link, key)
                if key in session.wanting:  # at the end of the queue: another log may be answered
                    del session.wanting[key]
                    session.wanting[key] = None
            if not session.in_flight:
                del self._busy[link]
            if expired:
                late.append(link)
        return [link for link in self._sessions if link not in late] + late if late else []

    def due_summaries(self, now: float) -> list[int]:
        """Links on which a Summary is due, or nearly; the next is planned with jitter."""
        due: list[int] = []
        heap = self._summaries
        if not heap or heap[0][0] > now:
            return due
        while heap and heap[0][0] <= now + self._interval_s * EARLY:
            planned, link = heappop(heap)
            session = self._sessions.get(link)
            if session is not None and session.summary_at == planned:
                session.summary_at = now + self._interval_s * self._rng.uniform(0.75 + EARLY, 1.25)
                heappush(heap, (session.summary_at, link))
                due.append(link)
        return due

    def next_deadline(self) -> float | None:
        heap = self._summaries
        while heap:
            planned, link = heap[0]
            session = self._sessions.get(link)
            if session is not None and session.summary_at == planned:
                break
            heappop(heap)
        earliest = heap[0][0] if heap else None
        if not self._busy:
            return earliest
        timeout = min(deadline for session in self._busy.values() for deadline in session.in_flight.values())
        return timeout if earliest is None else min(earliest, timeout)

    # --- the picture ----------------------------------------------------------------------------------------------

    def we_lack(self, link: int) -> int:
        """Entries the peer said it holds and we do not."""
        return sum(
            max(0, height - self._height_of(incident, log))
            for incident, logs in self._sessions[link].told.items()
            for log, height in logs.items()
        )
