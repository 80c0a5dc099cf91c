"""Entries that do not arrive."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any
from unittest.mock import patch

from meshnode.core import exchange, sync, wire
from meshnode.core.custody import Custody
from meshnode.core.events import Now
from meshnode.core.exchange import Exchange
from meshnode.core.gossip import Gossip
from meshnode.core.holdings import Holdings
from meshnode.core.ids import IncidentId, LogId
from meshnode.core.incidents import Incidents
from meshnode.core.log import Entry
from meshnode.core.peers import Peers
from meshnode.core.sync import Sync
from simulations.defects.table import defect

TIDYING = str(Path(__file__).with_name("tidying.toml"))
PARTED = str(Path(__file__).with_name("parted.toml"))
LOSSY = str(Path(__file__).with_name("lossy.toml"))


@defect("off by one in heights", "a peer is told one entry less than is held", "I9")
def _off_by_one() -> Iterator[None]:
    told = Exchange._on_told

    def less(self: Exchange, link: int, incident: Any, log: LogId, height: int, now: Now) -> None:
        told(self, link, incident, log, height - 1, now)

    with patch.object(Exchange, "_on_told", less):
        yield


@defect("drop the last batch", "an answer that would end a log is never sent", "I9")
def _drop_last() -> Iterator[None]:
    serve = Holdings.serve

    def drop(self: Holdings, store: Any, want: wire.Want) -> wire.Run | wire.Lack:
        answer = serve(self, store, want)
        last = self.head(want.incident, want.log)[0]
        if isinstance(answer, wire.Run) and answer.last == last:
            return wire.Lack(want.incident, want.log, want.first)
        return answer

    with patch.object(Holdings, "serve", drop):
        yield


@defect("no anti-entropy", "digests are never compared", "I9", scenario=PARTED)
def _no_summaries() -> Iterator[None]:
    """They are planned as ever, and none is sent: nobody hears of the prekeys of others either."""
    due = Sync.due_summaries

    def none(self: Sync, now: float) -> list[int]:
        due(self, now)
        return []

    with patch.object(Sync, "due_summaries", none):
        yield


@defect("forget peers after a split", "an address that failed ten times is not dialled again", "I9", scenario=PARTED)
def _forget_peers() -> Iterator[None]:
    failed, fails = Peers.on_dial_failed, dict[tuple[int, str], int]()
    due = Peers.due_dials

    def count(self: Peers, address: str, code: str, now: float) -> None:
        fails[id(self), address] = fails.get((id(self), address), 0) + 1
        failed(self, address, code, now)

    def less(self: Peers, now: float) -> list[str]:
        return [address for address in due(self, now) if fails.get((id(self), address), 0) < 10]

    with patch.object(Peers, "on_dial_failed", count), patch.object(Peers, "due_dials", less):
        yield


@defect("never ask again", "a request that got no answer is waited for for ever", "I9", scenario=LOSSY)
def _never_again() -> Iterator[None]:
    with patch.object(sync, "RANGE_TIMEOUT_S", float("inf")):
        yield


@defect("tell heights once", "what was told on a link is never told again, lost or not", "I9", scenario=LOSSY)
def _tell_once() -> Iterator[None]:
    with patch.object(exchange, "HEIGHTS_INTERVAL_S", 1e9):
        yield


@defect("compare names alone", "digests say which logs there are and not how long they are", "I9")
def _names_alone() -> Iterator[None]:
    advance = Holdings.advance

    def quietly(self: Holdings, incident: IncidentId, log: LogId, height: int, head: Any) -> None:
        logs = self._incidents.get(incident)
        known = logs is not None and log in logs.heads
        digest, whole = (logs.digest if logs is not None else None), self._digest
        advance(self, incident, log, height, head)
        if known:
            self._incidents[incident].digest, self._digest = digest, whole

    with patch.object(Holdings, "advance", quietly):
        yield


@defect("push to nobody else", "what a neighbour pushed is not passed on", "I9", scenario="line-of-nodes")
def _no_relaying() -> Iterator[None]:
    """Anti-entropy would bring everything, and late: so digests of logs are let be here."""
    spread = Gossip.spread

    def own_only(
        self: Gossip, incident: Any, log: Any, height: int, source: int | None, links: list[int], now: float
    ) -> list[int]:
        return spread(self, incident, log, height, source, links if source is None else [], now)

    with patch.object(Gossip, "spread", own_only), patch.object(Exchange, "on_log_digest", lambda *_: None):
        yield


@defect("a relay takes nothing", "what a relay cannot read it has no room for", "I9", scenario="island-behind-bridge")
def _no_room() -> Iterator[None]:
    def room(self: Custody, neighbour: Any, incident: IncidentId, log: LogId, size_bytes: int, *, named: bool) -> bool:
        return self.vouches_for(incident, log)

    with patch.object(Custody, "has_room", room):
        yield


@defect(
    "a relay keeps it to itself", "a relay does not offer what it cannot read", "I9", scenario="island-behind-bridge"
)
def _kept_to_itself() -> Iterator[None]:
    with patch.object(Custody, "passes_on", Custody.is_in_group):
        yield


@defect("drop what merged", "an incident of others is dropped although this node has become a member", "I8", "I9", "I1")
def _drop_members() -> Iterator[None]:
    with (
        patch.object(Custody, "_is_of_others", lambda self, incident: True),
        patch("meshnode.core.retention.Retention.expired", lambda self: list(self._held)[:1]),
    ):
        yield


@defect("store nothing of a run", "every thirtieth run of others is merged and not stored", "I8", "I9", "I3", "I1")
def _not_stored() -> Iterator[None]:
    accept, calls = Incidents.accept, iter(range(1, 1_000_000))

    def less(self: Incidents, fresh: Sequence[Entry], seal: Any, now: Now) -> None:
        if next(calls) % 30:
            accept(self, fresh, seal, now)
            return
        with patch.object(self._archive, "stage", lambda batch: None):
            accept(self, fresh, seal, now)

    with patch.object(Incidents, "accept", less):
        yield


@defect("links are never forgotten", "what was told on a link stays when the link is gone", "I7", scenario=TIDYING)
def _links_kept() -> Iterator[None]:
    down = Exchange.on_link_down

    def keep(self: Exchange, link: int, now: Now) -> None:
        told = self._told_heights.get(link, {})
        down(self, link, now)
        self._told_heights[link] = told

    with patch.object(Exchange, "on_link_down", keep):
        yield
