"""Every link is told of whom its peer does not know, once, and one message at a time."""

from __future__ import annotations

from meshnode.core.ids import DeviceId
from meshnode.core.introductions import INTERVAL_S, ROWS_MAX, Introductions, Row

BE, NL, DE = (DeviceId(letter * 32) for letter in (b"B", b"N", b"D"))
BE_ROW, NL_ROW, DE_ROW = (BE, "be:1"), (NL, "nl:1"), (DE, "de:1")


def test_a_new_link_is_told_at_once_and_the_others_are_told_of_it_a_little_later() -> None:
    introductions = Introductions()
    rows: list[Row] = [BE_ROW]
    assert introductions.next_deadline() is None
    introductions.on_link_up(1, BE, 0.0)
    assert introductions.next_deadline() == 0.0
    assert introductions.due(lambda: rows, 0.0) == []  # nobody is told its own address
    rows.append(NL_ROW)
    introductions.on_link_up(2, NL, 5.0)
    assert introductions.due(lambda: rows, 5.0) == [(2, (BE_ROW,))]
    assert introductions.next_deadline() == 5.0 + INTERVAL_S
    rows.append(DE_ROW)
    introductions.handle_change(5.5)
    assert introductions.due(lambda: rows, 5.9) == []
    assert introductions.due(lambda: rows, 6.5) == [(1, (NL_ROW, DE_ROW)), (2, (DE_ROW,))]
    introductions.handle_change(7.0)
    assert introductions.due(lambda: rows, 8.0) == []  # nothing is told twice
    assert introductions.next_deadline() is None


def test_whoever_left_and_came_back_is_told_again_for_it_may_have_been_forgotten() -> None:
    introductions = Introductions()
    introductions.on_link_up(1, BE, 0.0)
    assert introductions.due(lambda: [NL_ROW], 0.0) == [(1, (NL_ROW,))]
    introductions.handle_change(10.0)
    assert introductions.due(lambda: [], 11.0) == []
    introductions.handle_change(20.0)
    assert introductions.due(lambda: [NL_ROW], 21.0) == [(1, (NL_ROW,))]


def test_long_lists_go_in_parts_and_a_link_that_ended_is_told_nothing() -> None:
    introductions = Introductions()
    rows = [(DeviceId(number.to_bytes(32, "big")), f"n{number}:1") for number in range(ROWS_MAX + 3)]
    introductions.on_link_up(1, BE, 0.0)
    introductions.on_link_up(2, NL, 0.0)
    introductions.on_link_down(2)
    introductions.on_link_down(2)
    assert introductions.due(lambda: rows, 0.0) == [(1, tuple(rows[:ROWS_MAX]))]
    assert introductions.next_deadline() == INTERVAL_S
    assert introductions.due(lambda: rows, INTERVAL_S) == [(1, tuple(rows[ROWS_MAX:]))]
    assert introductions.next_deadline() is None
