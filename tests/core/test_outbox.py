"""What a step wants said comes out once, in order, and every refusal is counted."""

from __future__ import annotations

from meshnode.core import wire
from meshnode.core.events import Channel, CloseLink, Dial, Report, Send
from meshnode.core.ids import IncidentId
from meshnode.core.outbox import Outbox

MESSAGE = wire.PackagesWant(IncidentId(bytes(16)), 0)


def test_effects_come_out_once_in_the_order_in_which_they_were_put() -> None:
    outbox = Outbox()
    outbox.add(Dial("be.example:1"))
    outbox.send(1, MESSAGE)
    outbox.send(2, MESSAGE, droppable=True)
    outbox.send_encoded(3, b"frame", bulk=True)
    outbox.close(4, "bad-signature")
    assert outbox.take() == (
        Dial("be.example:1"),
        Send(1, Channel.CONTROL, wire.encode(MESSAGE), False),
        Send(2, Channel.CONTROL, wire.encode(MESSAGE), True),
        Send(3, Channel.BULK, b"frame", False),
        CloseLink(4, "bad-signature"),
    )
    assert outbox.take() == ()


def test_reports_are_counted_by_code_and_news_are_not() -> None:
    outbox = Outbox()
    outbox.report("dial-failed", "no answer", address="be.example:1")
    outbox.report("dial-failed", "no answer", 7)
    outbox.tell("link-up", "linked", 7)
    outbox.count("unknown-field")
    assert outbox.counts == {"dial-failed": 2, "unknown-field": 1}
    assert outbox.take() == (
        Report("dial-failed", "no answer", None, {"address": "be.example:1"}),
        Report("dial-failed", "no answer", 7),
        Report("link-up", "linked", 7),
    )


def test_what_was_cleared_is_not_said() -> None:
    outbox = Outbox()
    outbox.add(Dial("be.example:1"))
    outbox.clear()
    assert outbox.take() == ()


def test_what_was_said_to_one_link_since_a_mark_is_told_in_bytes_and_reports() -> None:
    outbox = Outbox()
    outbox.send(1, MESSAGE)
    mark = outbox.mark()
    assert outbox.said_since(mark, 1) == (0, 0)
    outbox.send_encoded(1, b"12345")
    outbox.send_encoded(2, b"to another")
    outbox.report("message-unknown", "message number 99", 1)
    outbox.report("message-unknown", "message number 99", 2)
    outbox.close(1, "bad-signature")
    assert outbox.said_since(mark, 1) == (5, 1)
