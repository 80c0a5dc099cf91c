"""A peer that sends faster than its bucket fills is noticed; an honest one never meets the limit (I7, B4, B5)."""

from __future__ import annotations

from meshnode.core import wire
from meshnode.core.budget import BURST_BYTES, BYTES_PER_S, FRAME_COST_BYTES, REPORT_COST_BYTES, Budgets


def full(now: float = 0.0) -> Budgets:
    budgets = Budgets()
    budgets.on_link_up(1, now)
    return budgets


def frames_until_refused(budgets: Budgets, size_bytes: int, now: float, frames_max: int = 1_000_000) -> int:
    count = 0
    while count < frames_max and budgets.admit(1, size_bytes, now):
        count += 1
    return count


def test_a_burst_is_admitted_up_to_the_bucket_and_each_frame_costs_more_than_its_bytes() -> None:
    assert frames_until_refused(full(), wire.FRAME_BYTES_MAX, 0.0) == BURST_BYTES // (
        wire.FRAME_BYTES_MAX + FRAME_COST_BYTES
    )
    budgets = full()
    assert frames_until_refused(budgets, 0, 0.0) == BURST_BYTES // FRAME_COST_BYTES


def test_an_empty_bucket_fills_with_time_up_to_its_size() -> None:
    budgets = full()
    size = wire.FRAME_BYTES_MAX - FRAME_COST_BYTES
    frames_until_refused(budgets, size, 10.0)
    assert not budgets.admit(1, size, 10.0)
    assert frames_until_refused(budgets, size, 11.0) == BYTES_PER_S // wire.FRAME_BYTES_MAX
    assert frames_until_refused(budgets, size, 1e9) == BURST_BYTES // wire.FRAME_BYTES_MAX


def test_a_peer_at_the_rate_two_cores_can_check_is_never_refused() -> None:
    budgets = full()
    for tick in range(2_000):
        assert budgets.admit(1, 100_000, tick * 0.01)  # 10 MB/s


def test_a_clock_that_stands_or_steps_back_gives_nothing() -> None:
    budgets = full(100.0)
    frames_until_refused(budgets, wire.FRAME_BYTES_MAX, 100.0)
    assert not budgets.admit(1, wire.FRAME_BYTES_MAX, 100.0)
    assert not budgets.admit(1, wire.FRAME_BYTES_MAX, 5.0)


def test_links_have_buckets_of_their_own_and_a_new_link_starts_full() -> None:
    budgets = full()
    budgets.on_link_up(2, 0.0)
    frames_until_refused(budgets, wire.FRAME_BYTES_MAX, 0.0)
    assert budgets.admit(2, wire.FRAME_BYTES_MAX, 0.0)
    budgets.on_link_down(1)
    budgets.on_link_down(1)
    budgets.on_link_up(1, 0.0)
    assert budgets.admit(1, wire.FRAME_BYTES_MAX, 0.0)


def test_what_a_frame_makes_the_node_say_is_charged_and_may_be_owed() -> None:
    budgets = full()
    budgets.charge(1, BURST_BYTES, 0)
    assert not budgets.admit(1, 0, 0.0)
    budgets = full()
    budgets.charge(1, 0, BURST_BYTES // REPORT_COST_BYTES)
    assert not budgets.admit(1, 0, 0.0)
    budgets.charge(1, BYTES_PER_S, 0)
    assert not budgets.admit(1, 0, 1.0)
    assert budgets.admit(1, 0, 1.1)
