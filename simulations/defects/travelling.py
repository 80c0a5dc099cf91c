"""Entries that do not arrive."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any
from unittest.mock import patch

from meshnode.core import wire
from meshnode.core.events import Now
from meshnode.core.exchange import Exchange
from meshnode.core.holdings import Holdings
from meshnode.core.ids import LogId
from meshnode.core.peers import Peers
from meshnode.core.sync import Sync
from simulations.defects.table import defect


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


@defect("no anti-entropy", "digests are never compared", "I8", "I9")
def _no_summaries() -> Iterator[None]:
    with patch.object(Sync, "due_summaries", lambda self, now: []):
        yield


@defect("forget peers after a split", "an address that failed ten times is not dialled again", "I9")
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
