"""What each peer was last known to hold: what it said, kept when its link goes, and never guessed."""

from __future__ import annotations

import pytest

from meshnode.core import picture
from meshnode.core.holdings import Holdings
from meshnode.core.ids import DeviceId, EntryHash, IncidentId, LogId
from meshnode.core.log import LogHead
from meshnode.core.picture import Picture

INCIDENT, OTHER = IncidentId(b"incident 16bytes"), IncidentId(b"other incident..")
LOG, SECOND = LogId(b"A" * 32), LogId(b"B" * 32)
HEAD = EntryHash(b"h" * 32)
PEER = DeviceId(b"P" * 32)


def held(height: int) -> list[LogHead]:
    return [LogHead(LOG, height, HEAD), LogHead(SECOND, 2, HEAD)]


def test_a_peer_that_never_told_anything_is_not_known_and_lacks_everything() -> None:
    shown = Picture()
    assert not shown.knows(PEER)
    assert shown.lacks(PEER, INCIDENT, held(5)) == 7


def test_what_a_peer_lacks_is_what_is_held_here_above_what_it_told() -> None:
    shown = Picture()
    shown.on_told(PEER, INCIDENT, LOG, 3)
    assert shown.knows(PEER)
    assert shown.lacks(PEER, INCIDENT, held(5)) == 4
    shown.on_told(PEER, INCIDENT, LOG, 2)  # an older message
    shown.on_told(PEER, INCIDENT, SECOND, 9)
    assert shown.lacks(PEER, INCIDENT, held(5)) == 2
    assert shown.lacks(PEER, OTHER, held(5)) == 7


def test_a_peer_with_the_same_digest_lacks_nothing_of_what_was_held_then() -> None:
    holdings = Holdings()
    holdings.advance(INCIDENT, LOG, 5, HEAD)
    shown = Picture()
    shown.on_told(PEER, OTHER, LOG, 3)
    shown.on_equal(PEER, holdings)
    assert shown.lacks(PEER, INCIDENT, holdings.logs(INCIDENT)) == 0
    holdings.advance(INCIDENT, LOG, 8, HEAD)
    assert shown.lacks(PEER, INCIDENT, holdings.logs(INCIDENT)) == 3
    assert shown.lacks(PEER, OTHER, held(1)) == 3


def test_a_peer_with_the_same_digest_of_one_incident_lacks_nothing_of_it() -> None:
    shown = Picture()
    shown.on_equal_incident(PEER, INCIDENT, held(5))
    assert (shown.lacks(PEER, INCIDENT, held(5)), shown.lacks(PEER, OTHER, held(5))) == (0, 7)


def test_what_a_peer_can_make_it_remember_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(picture, "LOGS_MAX", 4)
    shown = Picture()
    for number in range(10):
        shown.on_told(PEER, IncidentId(bytes([number]) * 16), LOG, 5)
    told = shown._told[PEER]
    assert len(told.heights) == told.logs == 4
    shown.on_told(PEER, IncidentId(bytes(16)), LOG, 9)  # what is known is still brought up to date
    assert told.heights[IncidentId(bytes(16))][LOG] == 9
    shown.on_equal(PEER, Holdings())
    shown.on_told(PEER, INCIDENT, LOG, 5)
    assert shown.lacks(PEER, INCIDENT, held(5)) == 2
