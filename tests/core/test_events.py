"""Events and effects are closed sets: every event has a handler, every effect a performer, and none can be changed."""

from __future__ import annotations

import dataclasses
from typing import get_args

import pytest

from meshnode.core import events, wire
from meshnode.core.node import Node


def test_the_node_handles_exactly_the_events_there_are() -> None:
    assert set(Node._handlers) == set(get_args(events.Event))


def test_the_node_handles_exactly_the_messages_there_are() -> None:
    assert set(Node._message_handlers) == set(get_args(wire.Message))
    assert set(Node._message_handlers) > Node._messages_while_read_only


@pytest.mark.parametrize(
    "record", [*get_args(events.Event), *get_args(events.Effect), events.Step, events.PeerIdentity]
)
def test_no_event_and_no_effect_can_be_changed(record: type) -> None:
    assert dataclasses.is_dataclass(record)
    assert record.__dataclass_params__.frozen
