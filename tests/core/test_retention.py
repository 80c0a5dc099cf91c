"""What a node keeps for others expires by its own running time, is remembered, and comes back only for a reason."""

from __future__ import annotations

import random

import pytest
from core_support import search
from hypothesis import given
from hypothesis import strategies as st

from meshnode.core import retention
from meshnode.core.ids import NO_HASH, IncidentId, LogId
from meshnode.core.log import LogHead
from meshnode.core.retention import AGE_NAMESPACE, DROPPED_NAMESPACE, Retention

TTL_S = 8 * 3600.0
HOUR_S = 3600.0
INCIDENTS = [IncidentId(bytes([number]) * 16) for number in range(4)]
A, B = INCIDENTS[:2]
LOGS = [LogId(bytes([number]) * 32) for number in range(3)]


def heads(*heights: int) -> list[LogHead]:
    return [LogHead(log, height, NO_HASH) for log, height in zip(LOGS, heights, strict=False) if height]


def told(*heights: int) -> list[tuple[LogId, int]]:
    return [(head.log, head.height) for head in heads(*heights)]


class Kept:
    """A retention with the rows it would have on disk; a crash keeps those, and monotonic time starts anew."""

    def __init__(self, time_to_live_s: float = TTL_S) -> None:
        self.time_to_live_s = time_to_live_s
        self.rows: dict[tuple[str, bytes], bytes] = {}
        self.sizes: dict[IncidentId, int] = {}
        self.now = 1_000.0
        self.room = Retention(time_to_live_s, self.now)

    def keep(self, puts: tuple[tuple[str, bytes, bytes | None], ...]) -> None:
        for namespace, key, value in puts:
            if value is None:
                self.rows.pop((namespace, key), None)
            else:
                self.rows[namespace, key] = value

    def grow(self, incident: IncidentId, size_bytes: int = 100) -> None:
        self.sizes[incident] = self.sizes.get(incident, 0) + size_bytes
        self.room.on_grew(incident, self.sizes[incident])

    def drop(self, incident: IncidentId, *heights: int) -> None:
        del self.sizes[incident]
        self.keep(self.room.on_dropped(incident, heads(*heights)))

    def pass_time(self, seconds: float, look_s: float = 600.0, save: bool = True) -> None:
        end = self.now + seconds
        while self.now < end:
            self.now = min(end, self.now + look_s)
            self.room.look(self.now)
            if save and self.room.save_due:
                self.keep(self.room.save(1_000))

    def restart(self, clean: bool = False) -> None:
        if clean:
            self.keep(self.room.save(1_000))
        self.now = 7.0
        scans = [[(k, v) for (n, k), v in self.rows.items() if n == ns] for ns in (AGE_NAMESPACE, DROPPED_NAMESPACE)]
        self.room = Retention.load(self.time_to_live_s, self.now, *scans, self.sizes)


@pytest.fixture
def kept() -> Kept:
    return Kept()


# --- expiry ---------------------------------------------------------------------------------------------------------


def test_an_incident_expires_when_it_has_not_grown_for_the_time_to_live(kept: Kept) -> None:
    kept.grow(A)
    kept.pass_time(4 * HOUR_S)
    kept.grow(B)
    kept.pass_time(4 * HOUR_S - 1)
    assert kept.room.expired() == []
    kept.pass_time(1)
    assert kept.room.expired() == [A]
    kept.grow(A)
    assert kept.room.expired() == []
    kept.pass_time(4 * HOUR_S)
    assert kept.room.expired() == [B]
    kept.pass_time(4 * HOUR_S)
    assert kept.room.expired() == [B, A]


def test_what_becomes_readable_never_expires(kept: Kept) -> None:
    kept.grow(A, 300)
    kept.grow(B, 50)
    kept.room.on_readable(A)
    kept.room.on_readable(A)
    kept.pass_time(TTL_S)
    assert kept.room.expired() == [B]
    kept.drop(B, 1)
    assert kept.room.expired() == []


def test_time_that_the_node_did_not_run_does_not_count(kept: Kept) -> None:
    """Whatever the wall clock says meanwhile: it is not asked. A monotonic clock that goes back counts as none."""
    kept.grow(A)
    for _start in range(10):
        kept.pass_time(TTL_S / 10)
        kept.restart(clean=True)
    assert kept.room.expired() == [A]
    kept.grow(A)
    kept.room.look(-1e9)
    assert kept.room.expired() == []


def test_a_crash_loses_at_most_the_age_of_an_hour(kept: Kept) -> None:
    kept.grow(A)
    kept.pass_time(TTL_S - HOUR_S)
    kept.pass_time(HOUR_S / 2)
    kept.restart()
    kept.pass_time(HOUR_S / 2)
    assert kept.room.expired() == []
    kept.pass_time(HOUR_S)
    assert kept.room.expired() == [A]


def test_growth_that_was_not_saved_before_a_crash_is_known_by_the_size(kept: Kept) -> None:
    kept.grow(A)
    kept.grow(B)
    kept.pass_time(TTL_S - HOUR_S)
    kept.grow(A)
    kept.restart()
    kept.pass_time(HOUR_S)
    assert kept.room.expired() == [B]


def test_it_is_written_once_an_hour_and_only_what_changed(kept: Kept) -> None:
    for incident in INCIDENTS:
        kept.grow(incident)
    kept.pass_time(HOUR_S - 1, save=False)
    assert not kept.room.save_due
    kept.pass_time(1, save=False)
    assert kept.room.save_due
    assert len(kept.room.save(3)) == 3
    assert kept.room.save_due
    rest = kept.room.save(3)
    assert [key for _, key, _ in rest] == [INCIDENTS[3], b""]
    assert not kept.room.save_due
    kept.pass_time(HOUR_S, save=False)
    kept.grow(B)
    assert [key for _, key, _ in kept.room.save(3)] == [B, b""]


def test_rows_of_incidents_that_are_held_no_longer_are_deleted(kept: Kept) -> None:
    kept.grow(A)
    kept.pass_time(HOUR_S)
    del kept.sizes[A]
    kept.restart()
    kept.restart(clean=True)
    assert [key for _, key in kept.rows] == [b""]


def test_a_longer_time_to_live_is_obeyed_from_the_next_start(kept: Kept) -> None:
    kept.grow(A)
    kept.pass_time(TTL_S)
    kept.time_to_live_s *= 2
    kept.restart(clean=True)
    assert kept.room.expired() == []


# --- what was dropped -----------------------------------------------------------------------------------------------


def dropped_at(kept: Kept, *heights: int) -> None:
    kept.grow(A)
    kept.pass_time(TTL_S)
    kept.drop(A, *heights)


@pytest.mark.parametrize("restarted", [False, True])
def test_the_heights_it_was_dropped_at_are_refused_and_anything_beyond_brings_it_back(
    kept: Kept, restarted: bool
) -> None:
    dropped_at(kept, 5, 3)
    if restarted:
        kept.restart()
    assert not kept.room.refuses(A, [])
    for old in ((5, 3), (2, 0), (0, 3)):
        assert kept.room.refuses(A, told(*old))
    assert not kept.room.refuses(B, told(5, 3))
    assert kept.room.is_dropped(A)
    assert not kept.room.refuses(A, told(5, 4))
    assert not kept.room.is_dropped(A)
    assert not kept.room.refuses(A, told(5, 3))


def test_a_log_that_was_unknown_is_growth(kept: Kept) -> None:
    dropped_at(kept, 5)
    assert not kept.room.refuses(A, told(0, 1))


@pytest.mark.parametrize("heights", [(), (4, 3), (5,)])
def test_a_member_that_lacks_some_of_it_brings_it_back(kept: Kept, heights: tuple[int, ...]) -> None:
    dropped_at(kept, 5, 3)
    assert kept.room.refuses(A, told(5, 3), missed=True)
    assert not kept.room.refuses(A, told(*heights), missed=True)
    assert not kept.room.is_dropped(A)


def test_what_comes_back_without_its_promised_growth_is_dropped_at_the_old_heights_again(kept: Kept) -> None:
    dropped_at(kept, 5, 3)
    assert not kept.room.refuses(A, told(9, 9))
    kept.grow(A)
    kept.room.on_taken(A, LOGS[0], 2)
    kept.restart(clean=True)
    assert not kept.room.refuses(A, told(5, 3))
    kept.pass_time(TTL_S)
    kept.drop(A, 2)
    assert kept.room.refuses(A, told(5, 3))


def test_what_grew_is_forgotten_as_dropped(kept: Kept) -> None:
    dropped_at(kept, 5, 3)
    kept.room.refuses(A, told(6))
    kept.grow(A)
    kept.room.on_taken(A, LOGS[0], 6)
    kept.restart(clean=True)
    assert not any(namespace == DROPPED_NAMESPACE for namespace, _ in kept.rows)


def test_it_is_remembered_while_somebody_offers_it_and_a_time_to_live_longer(kept: Kept) -> None:
    dropped_at(kept, 5)
    for _month in range(5):
        kept.pass_time(TTL_S * 0.9)
        assert kept.room.refuses(A, told(5))
        kept.pass_time(1)
        kept.restart(clean=True)
    kept.pass_time(TTL_S - 3)
    assert kept.room.is_dropped(A)
    kept.pass_time(5)
    assert not kept.room.is_dropped(A)
    assert not kept.room.refuses(A, told(5))


def test_to_become_a_member_is_reason_enough(kept: Kept) -> None:
    dropped_at(kept, 5)
    kept.room.on_readable(A)
    assert not kept.room.refuses(A, told(5))


def test_what_is_remembered_is_bounded_and_the_one_offered_longest_ago_goes_first(
    kept: Kept, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(retention, "DROPPED_COST_MAX", 3 * retention.DROPPED_COST_MIN)
    for incident in INCIDENTS[:3]:
        kept.grow(incident)
        kept.drop(incident, 1)
    assert kept.room.refuses(INCIDENTS[0], told(1))
    kept.grow(INCIDENTS[3])
    kept.drop(INCIDENTS[3], 1)
    assert [kept.room.is_dropped(incident) for incident in INCIDENTS] == [True, False, True, True]
    kept.restart(clean=True)
    assert [kept.room.is_dropped(incident) for incident in INCIDENTS] == [True, False, True, True]


def test_the_heights_remembered_of_one_incident_are_bounded(kept: Kept, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(retention, "DROPPED_LOGS_MAX", 2)
    dropped_at(kept, 1, 1, 1)
    assert kept.room.refuses(A, told(1, 1))
    assert not kept.room.refuses(A, told(1, 1, 1))


# --- no ping-pong ---------------------------------------------------------------------------------------------------


@search(150)
@given(st.data(), st.integers(0, 2**32))
def test_without_new_entries_relays_stop_handing_an_incident_to_and_fro(data: st.DataObject, seed: int) -> None:
    """Any relays with any parts of an incident, that meet in any order and run at any pace. Each takes what it lacks
    from whoever is not refused. In the end nobody holds it, and the number of times it came back is bounded by what
    there was to learn."""
    chance = random.Random(seed)
    relays: list[tuple[Kept, dict[LogId, int]]] = []
    for _relay in range(data.draw(st.integers(2, 4))):
        start = [data.draw(st.integers(0, 3)) for _log in LOGS]
        relay, held = Kept(), dict(told(*start))
        if held:
            relay.grow(A)
        relays.append((relay, held))
    returns = 0
    for _round in range(400):
        for relay, held in relays:
            relay.pass_time(chance.choice((0.1, 0.3)) * TTL_S, look_s=TTL_S)
            if relay.room.expired():
                relay.drop(A, *(held.get(log, 0) for log in LOGS))
                held.clear()
        (_, here), (there, theirs) = chance.sample(relays, 2)
        heights = sorted(here.items())
        if here and not there.room.refuses(A, heights):
            news = [(log, height) for log, height in heights if height > theirs.get(log, 0)]
            returns += not theirs
            for log, height in news:
                theirs[log] = height
                there.grow(A)
                there.room.on_taken(A, log, height)
        if not any(held for _, held in relays):
            break
    assert not any(held for _, held in relays)
    assert returns <= len(relays) * (1 + sum(3 for _log in LOGS))
