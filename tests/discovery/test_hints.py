from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st

from meshnode.core.peers import FORGET_AFTER_S, LEARNED_MAX
from meshnode.discovery.hints import Hints, Seldom, Verdict
from meshnode.discovery.settings import HINT_REPEAT_S, HINTS_KEPT_S, HINTS_MAX, HINTS_PER_MINUTE_MAX


def address(number: int) -> str:
    return f"10.0.{number // 250}.{number % 250 + 1}:7411"


def test_an_address_is_passed_on_once_and_again_after_ten_minutes() -> None:
    hints = Hints()
    assert hints.admit("10.0.0.1:7411", 0.0) is Verdict.PASS
    assert hints.admit("10.0.0.1:7411", HINT_REPEAT_S - 1) is Verdict.KNOWN
    assert hints.admit("10.0.0.1:7411", HINT_REPEAT_S) is Verdict.PASS


def test_no_more_than_the_limit_are_passed_on_in_a_minute() -> None:
    hints = Hints()
    verdicts = [hints.admit(address(number), 0.0) for number in range(HINTS_PER_MINUTE_MAX + 10)]
    assert verdicts.count(Verdict.PASS) == HINTS_PER_MINUTE_MAX
    assert hints.admit(address(1000), 59.9) is Verdict.TOO_MANY
    assert hints.admit(address(1000), 60.0) is Verdict.PASS


def test_what_came_first_stays_when_there_are_too_many_in_all() -> None:
    hints = Hints()
    for number in range(HINTS_MAX):
        assert hints.admit(address(number), number * 10.0) is Verdict.PASS
    now = HINTS_MAX * 10.0
    assert hints.admit(address(HINTS_MAX), now) is Verdict.TOO_MANY
    assert hints.admit(address(0), now) is Verdict.PASS  # long enough ago to be repeated


def test_after_a_day_the_oldest_gives_way() -> None:
    hints = Hints()
    for number in range(HINTS_MAX):
        hints.admit(address(number), number * 10.0)
    assert hints.admit(address(HINTS_MAX), HINTS_KEPT_S - 1) is Verdict.TOO_MANY
    assert hints.admit(address(HINTS_MAX), HINTS_KEPT_S) is Verdict.PASS
    assert hints.admit(address(HINTS_MAX + 1), HINTS_KEPT_S) is Verdict.TOO_MANY


def test_a_poisoned_lan_leaves_room_in_the_address_book_for_what_peers_tell() -> None:
    """The address book keeps an unreachable address for FORGET_AFTER_S; no more than a quarter of it is ours."""
    assert HINTS_KEPT_S >= FORGET_AFTER_S
    assert HINTS_MAX <= LEARNED_MAX / 4


@settings(max_examples=50, deadline=None)  # a law of numbers; how long it takes is no part of it
@given(st.lists(st.tuples(st.integers(0, 400), st.floats(0, 30)), max_size=150))
def test_whatever_is_announced_any_minute_passes_on_at_most_the_limit(announced: list[tuple[int, float]]) -> None:
    hints, now, passed = Hints(), 0.0, []
    for number, pause_s in announced:
        now += pause_s / 10
        if hints.admit(address(number), now) is Verdict.PASS:
            passed.append(now)
    for start in passed:
        assert sum(1 for at in passed if start <= at < start + 60) <= HINTS_PER_MINUTE_MAX


def test_seldom_is_once_a_minute() -> None:
    due = Seldom()
    assert [due(now) for now in (0.0, 1.0, 59.0, 60.0, 61.0)] == [True, False, False, True, False]
