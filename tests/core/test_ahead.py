"""What was said of a dot is due once, when its log reaches it, and forgotten when its log has passed."""

from __future__ import annotations

from histories import LOGS, OBJECTS

from meshnode.core.ahead import Ahead
from meshnode.core.ids import Dot

ROLE = ("persons", OBJECTS[0], "role")
MARK = ("persons", OBJECTS[0], "")


def dot(seq: int, log: int = 0) -> Dot:
    return Dot(LOGS[log], seq, 0)


def test_what_is_said_twice_is_kept_once() -> None:
    ahead = Ahead()
    assert [ahead.add(dot(1), ROLE), ahead.add(dot(1), ROLE), ahead.add(dot(1), MARK)] == [True, False, True]
    assert ahead.count == 2


def test_a_log_that_moves_takes_out_everything_up_to_its_place_and_nothing_of_other_logs() -> None:
    ahead = Ahead()
    for named in (dot(5), dot(1), dot(3), dot(2, log=1)):
        ahead.add(named, ROLE)
    assert ahead.pass_to(dot(3)) == [(dot(1), ROLE), (dot(3), ROLE)]
    assert ahead.pass_to(dot(4)) == []
    assert ahead.pass_to(dot(9)) == [(dot(5), ROLE)]
    assert ahead.pass_to(dot(9)) == []
    assert list(ahead) == [(dot(2, log=1), ROLE)]
    assert ahead.count == 1


def test_it_is_listed_in_one_order_whatever_the_order_of_arrival() -> None:
    said = [(dot(2, log=1), ROLE), (dot(2), ROLE), (dot(2), MARK), (dot(1), ROLE)]
    listed = []
    for order in (said, said[::-1]):
        ahead = Ahead()
        for named, target in order:
            ahead.add(named, target)
        listed.append(list(ahead))
    assert listed[0] == listed[1] == sorted(said)
