"""Eager and lazy push: how a new entry reaches everybody at once, without everybody sending it to everybody.

After Plumtree (Leitao, Pereira, Rodrigues: Epidemic Broadcast Trees, SRDS 2007), with one tree per log, rooted where
the log is written:

1. A link starts **eager** for every log: new entries are pushed on it at once.
2. Who receives a push of entries it has already answers Prune; the link becomes **lazy** for that log: entries are
   only announced there, many in one message.
3. Who hears an announcement of something it still lacks ``GRAFT_DELAY`` later answers Graft: the link is eager again
   for that log, starting with what is missing.

The direct link to the writer usually delivers first and so stays eager: one hop in a full mesh. When it breaks, the
announcements of the others repair the tree within a fraction of a second; anti-entropy repairs whatever remains.

This machine knows links and logs by name only: not peers, not members, not contents.
"""

from __future__ import annotations

from dataclasses import dataclass

from meshnode.core.ids import IncidentId, LogId

ANNOUNCE_DELAY_S = 0.2
"""Announcements wait this long for company. They only matter when a tree is broken."""
ANNOUNCE_LINKS_MAX = 3
"""Links that get announcements at one time, in turn: a node that lacks an entry needs to hear of it once or twice, not
from everybody. Keeps the cost per node constant as the mesh grows."""
ANNOUNCE_ROUND_S = 0.8
"""Until the next links get theirs. Of 30 nodes all linked with all, each hears of an entry in the first round with 96 %
and in the second with 99.9 %; by then many need no announcement any more, because they sent one or a summary."""
GRAFT_DELAY_S = 0.15
"""How long an announced entry may still arrive by push before a graft asks for it. Above the flight time of a push
between European capitals (40 ms) and a slow commit at each end."""
MISSING_MAX = 4_096
"""Announced logs being waited for; further announcements are left to anti-entropy."""
LAZY_LOGS_MAX = 16_384
"""Lazy marks per link; when full the oldest goes, which costs one duplicate."""


@dataclass(slots=True)
class _Missing:
    height: int
    links: list[int]
    """Who announced it, in order: grafted one after the other."""
    deadline: float


class _Link:
    __slots__ = ("announce", "lazy", "pruned")

    def __init__(self) -> None:
        self.lazy: dict[LogId, None] = {}
        """Logs the peer asked us not to push."""
        self.pruned: dict[LogId, None] = {}
        """Logs we asked the peer not to push; asked once."""
        self.announce: dict[tuple[IncidentId, LogId], int] = {}


class Gossip:
    """One per node. Times are seconds of the monotonic clock given by the caller."""

    def __init__(self) -> None:
        self._links: dict[int, _Link] = {}
        self._missing: dict[tuple[IncidentId, LogId], _Missing] = {}
        self._announce_at: float | None = None

    def on_link_up(self, link: int) -> None:
        self._links[link] = _Link()

    def on_link_down(self, link: int) -> None:
        self._links.pop(link, None)
        for missing in self._missing.values():
            if link in missing.links:
                missing.links.remove(link)

    def spread(
        self, incident: IncidentId, log: LogId, height: int, source: int | None, links: list[int], now: float
    ) -> list[int]:
        """Of the interested ``links``, those to push new entries to; the others get an announcement soon.

        ``source`` is the link that delivered them, None for our own; it hears nothing back.
        """
        missing = self._missing.get((incident, log))
        if missing is not None and missing.height <= height:
            del self._missing[incident, log]
        eager = []
        for link in links:
            state = self._links.get(link)
            if state is None or link == source:
                continue
            if log in state.lazy:
                state.announce[incident, log] = height
                if self._announce_at is None:
                    self._announce_at = now + ANNOUNCE_DELAY_S
            else:
                eager.append(link)
        return eager

    def on_duplicate(self, link: int, log: LogId) -> bool:
        """A push brought nothing new. True when a Prune should be sent: once per log and link."""
        state = self._links.get(link)
        if state is None or log in state.pruned:
            return False
        _remember(state.pruned, log)
        return True

    def on_equal(self, link: int) -> None:
        """The peer holds what we hold: there is nothing to announce to it."""
        state = self._links.get(link)
        if state is not None:
            state.announce.clear()

    def on_prune(self, link: int, log: LogId) -> None:
        state = self._links.get(link)
        if state is not None:
            _remember(state.lazy, log)

    def on_graft(self, link: int, log: LogId) -> None:
        state = self._links.get(link)
        if state is not None:
            state.lazy.pop(log, None)

    def on_announce(self, link: int, incident: IncidentId, log: LogId, height: int, held: int, now: float) -> None:
        """The peer holds ``height``, we hold ``held``. Waits a little for the push before it asks."""
        state = self._links.get(link)
        if state is None:
            return
        if state.announce.get((incident, log), height + 1) <= height:
            del state.announce[incident, log]  # it need not be told what it told us
        if height <= held:
            return
        missing = self._missing.get((incident, log))
        if missing is None:
            if len(self._missing) < MISSING_MAX:
                self._missing[incident, log] = _Missing(height, [link], now + GRAFT_DELAY_S)
            return
        missing.height = max(missing.height, height)
        if link not in missing.links:
            missing.links.append(link)

    def next_deadline(self) -> float | None:
        if not self._missing:
            return self._announce_at
        earliest = min(missing.deadline for missing in self._missing.values())
        return earliest if self._announce_at is None else min(earliest, self._announce_at)

    def due_announcements(self, now: float) -> list[tuple[int, list[tuple[IncidentId, LogId, int]]]]:
        """(link, rows to announce there), once their delay is over."""
        if self._announce_at is None or now < self._announce_at:
            return []
        waiting = [link for link, state in self._links.items() if state.announce]
        due = []
        for link in waiting[:ANNOUNCE_LINKS_MAX]:
            state = self._links.pop(link)
            self._links[link] = state  # to the end: next time it is the others' turn
            due.append((link, [(incident, log, height) for (incident, log), height in state.announce.items()]))
            state.announce = {}
        self._announce_at = now + ANNOUNCE_ROUND_S if len(waiting) > ANNOUNCE_LINKS_MAX else None
        return due

    def due_grafts(self, now: float) -> list[tuple[int, IncidentId, LogId]]:
        """(link, incident, log) to graft now; each announcer gets a chance before the entry is given up."""
        if not self._missing:
            return []
        due = []
        for key, missing in list(self._missing.items()):
            if missing.deadline > now:
                continue
            if not missing.links:
                del self._missing[key]
                continue
            link = missing.links.pop(0)
            self._links[link].pruned.pop(key[1], None)
            missing.deadline = now + 2 * GRAFT_DELAY_S
            due.append((link, *key))
        return due


def _remember(marks: dict[LogId, None], log: LogId) -> None:
    marks[log] = None
    if len(marks) > LAZY_LOGS_MAX:
        del marks[next(iter(marks))]
