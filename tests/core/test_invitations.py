"""Packages are looked through to the last, in turn and at a pace: a flood delays an invitation and hides none."""

from __future__ import annotations

import pytest

from meshnode.core import invitations as room
from meshnode.core.ids import IncidentId
from meshnode.core.invitations import AGAIN_S, LEAD_S, TRY_S, UNASKED_LEAD_S, Invitations

A, B, C = (IncidentId(bytes([number]) * 16) for number in range(3))


@pytest.fixture
def asked() -> Invitations:
    found = Invitations()
    found.on_link_up(1)
    return found


def test_what_is_shown_is_asked_about_once_in_a_while(asked: Invitations) -> None:
    for _ in range(3):
        asked.on_shown(1, A, 0.0)
    assert asked.due(1, 0.0) == [(A, 0)]
    asked.on_shown(1, A, AGAIN_S - 1)
    assert asked.due(1, AGAIN_S - 1) == []
    asked.on_shown(1, A, AGAIN_S)
    assert asked.due(1, AGAIN_S) == [(A, 0)]
    asked.on_link_down(1)
    asked.on_link_up(1)
    asked.on_shown(1, A, AGAIN_S)
    assert asked.due(1, AGAIN_S) == [(A, 0)]


def test_a_walk_goes_on_page_by_page_to_the_end_although_the_incident_is_shown_again(asked: Invitations) -> None:
    asked.on_shown(1, A, 0.0)
    for older in (0, 40, 24, 8):
        assert asked.due(1, 1.0) == [(A, older)]
        asked.on_shown(1, A, 1.0)
        assert asked.on_packages(1, A, 16, 1.0) == (16, True)
        asked.on_older(1, A, max(0, (older or 56) - 16))
        asked.on_shown(1, A, 1.0)
    assert asked.due(1, 1.0) == []


def test_incidents_take_turns_page_by_page(asked: Invitations) -> None:
    for incident in (A, B, C):
        asked.on_shown(1, incident, 0.0)
    assert asked.due(1, 0.0) == [(A, 0), (B, 0), (C, 0)]
    for incident, count, older in ((C, 1, 0), (A, 16, 1_000), (B, 16, 500)):
        assert asked.on_packages(1, incident, count, 0.0) == (count, True)
        asked.on_older(1, incident, older)
    assert asked.due(1, 0.0) == [(A, 1_000), (B, 500)]


def test_a_flood_is_tried_at_its_pace_and_the_first_of_it_at_once(asked: Invitations) -> None:
    asked.on_shown(1, A, 0.0)
    tried = [0] * 600
    for second in range(600):
        while pages := asked.due(1, second):
            for incident, _ in pages:
                tried[second] += asked.on_packages(1, incident, 16, second)[0]
                asked.on_older(1, incident, 1_000_000)
    assert abs(tried[0] - LEAD_S / TRY_S) < 40
    assert abs(sum(tried) - (600 + LEAD_S) / TRY_S) < 0.1 * 600 / TRY_S
    assert max(tried[1:]) < 2 / TRY_S


def test_what_is_remembered_is_bounded(asked: Invitations, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(room, "INCIDENTS_MAX", 2)
    for incident in (A, B, C):
        asked.on_shown(1, incident, 0.0)
    assert asked.due(1, 0.0) == [(A, 0), (B, 0)]
    asked.on_shown(1, C, 0.0)
    assert asked.due(1, 0.0) == [(C, 0)]
    assert len(asked._links[1].resting) <= 2
    assert len(asked._links[1].asked) <= 2


def test_small_pages_are_charged_as_what_they_hold(asked: Invitations) -> None:
    tried = 0
    for number in range(1_000):
        asked.on_shown(1, IncidentId(number.to_bytes(16, "big")), 0.0)
    while pages := asked.due(1, 0.0):
        tried += sum(asked.on_packages(1, incident, 2, 0.0)[0] for incident, _ in pages)
    assert abs(tried - LEAD_S / TRY_S) < 40


@pytest.mark.parametrize("size", [1, 16, 256])
def test_what_comes_unasked_is_tried_at_the_same_pace_and_asked_about_later(asked: Invitations, size: int) -> None:
    tried = [0] * 600
    for second in range(600):
        for _ in range(400 // size + 1):
            tried[second] += asked.on_unasked(1, A, size, second)
        while pages := asked.due(1, second):
            for incident, _ in pages:
                tried[second] += asked.on_packages(1, incident, 16, second)[0]
                asked.on_older(1, incident, 1_000_000)
    assert abs(tried[0] - LEAD_S / TRY_S) < 40
    assert abs(sum(tried) - 600 / TRY_S) < (LEAD_S + UNASKED_LEAD_S) / TRY_S
    assert [incident for incident, _ in asked.due(1, 601 + AGAIN_S)] == [A]


def test_what_is_shown_as_it_is_made_does_not_wait_for_the_end_of_a_flood(asked: Invitations) -> None:
    asked.on_shown(1, A, 0.0)
    while asked.due(1, 0.0):
        asked.on_packages(1, A, 16, 0.0)
        asked.on_older(1, A, 1_000_000)
    assert asked.on_packages(1, B, 1, 0.0) == (1, False)
    assert asked.on_unasked(1, B, 3, 0.0) == 3
