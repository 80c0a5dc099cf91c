"""What was refused or offered in vain is not said again at once, and what is remembered of it is bounded."""

from __future__ import annotations

import pytest

from meshnode.core import refusals as room
from meshnode.core.ids import IncidentId
from meshnode.core.refusals import AGAIN_S, Refusals

INCIDENT, OTHER = IncidentId(b"incident 16bytes"), IncidentId(b"other incident..")


def linked(*links: int) -> Refusals:
    refusals = Refusals()
    for link in links:
        refusals.on_link_up(link)
    return refusals


def test_a_refusal_is_reported_once_in_a_while_for_each_link_incident_and_code() -> None:
    refusals = linked(1, 2)
    assert refusals.report_due(1, INCIDENT, "relay-quota", 0.0)
    assert not refusals.report_due(1, INCIDENT, "relay-quota", AGAIN_S / 2)
    assert refusals.report_due(1, INCIDENT, "relay-expired", 1.0)
    assert refusals.report_due(1, OTHER, "relay-quota", 1.0)
    assert refusals.report_due(2, INCIDENT, "relay-quota", 1.0)
    assert refusals.report_due(1, INCIDENT, "relay-quota", AGAIN_S)


def test_an_incident_is_offered_again_when_it_grew_or_after_a_while() -> None:
    refusals = linked(1)
    assert refusals.offer_due(1, INCIDENT, b"then", 0.0)
    assert not refusals.offer_due(1, INCIDENT, b"then", 1.0)
    assert refusals.offer_due(1, INCIDENT, b"grown", 1.0)
    assert refusals.offer_due(1, INCIDENT, b"then", AGAIN_S)


def test_what_a_peer_lists_is_judged_once_for_each_digest() -> None:
    refusals = linked(1)
    assert [refusals.was_judged(1, INCIDENT, b"then") for _ in range(2)] == [False, True]
    assert [refusals.was_judged(1, INCIDENT, b"grown") for _ in range(2)] == [False, True]


def test_a_new_link_starts_anew() -> None:
    refusals = linked(1)
    refusals.was_judged(1, INCIDENT, b"then")
    refusals.on_link_down(1)
    refusals.on_link_up(1)
    assert not refusals.was_judged(1, INCIDENT, b"then")


def test_what_peers_can_make_it_remember_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(room, "INCIDENTS_MAX", 3)
    refusals = linked(1)
    for number in range(20):
        incident = IncidentId(bytes([number]) * 16)
        refusals.was_judged(1, incident, b"digest")
        refusals.offer_due(1, incident, b"digest", 0.0)
        refusals.report_due(1, incident, "relay-quota", 0.0)
    kept = refusals._links[1]
    assert max(len(kept.judged), len(kept.offered), len(kept.reported)) <= 3
