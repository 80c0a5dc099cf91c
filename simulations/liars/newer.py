"""A node of a later version, as far as version 1 of the protocol leaves room for one (protocol.md, "Extension").

It is honest. It says more than this version knows: messages of unknown numbers, items behind the known ones of every
message, parts of a content under unknown keys, operations and acts of unknown codes, items behind the known ones of
operations, fields and collections of its own; its checkpoints have a format that this version refuses to read.

What version 1 does not allow is not done: a certificate, prekey record, hello or epoch of another version is refused by
this one, so a later version must go on writing those as they are until all are upgraded. The hello has no minor number.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from typing import Any
from unittest.mock import patch

from meshnode.core import codec, entry, replica
from meshnode.core.entry import Content
from meshnode.core.events import Channel, Effect, Event, Now, Send, Step
from meshnode.core.ids import ROOT_OBJECT, Dot
from meshnode.core.node import Node
from meshnode.core.operations import Log, Operation, Set, Unknown
from meshnode.core.own_logs import OwnLogs

MESSAGE_INTERVAL_S = 7.0
"""How often it says something that this version does not know."""
MESSAGE = codec.encode([40, {"of": "a later version"}, [1, 2, 3]])
ITEM = "an item of a later version"
CONTENT_KEYS = {40: "a part of a later version", 41: [1, {"a": b"b"}]}
OPERATION = Unknown(77, ("an operation of a later version", {"1": [2]}))
FIELD = "later_version"
ACT = [99, "an act of a later version"]
ACT_EVERY = 10
"""Of its entries: an act counts for a long time in every group."""


class NewerNode(Node):
    def __init__(self, *arguments: Any) -> None:
        with _formats():
            super().__init__(*arguments)
        self.incidents.own_logs.__class__ = _NewerOwnLogs  # there is no place where another could be put in
        self._message_at: float = arguments[5].monotonic_s + MESSAGE_INTERVAL_S

    def step(self, events: Sequence[Event], now: Now) -> Step:
        with _formats():
            step = super().step(events, now)
        effects: list[Effect] = [_longer(effect) for effect in step.effects]
        if now.monotonic_s >= self._message_at:
            self._message_at = now.monotonic_s + MESSAGE_INTERVAL_S
            effects += [Send(link, Channel.CONTROL, MESSAGE, True) for link in self.exchange.links]
        return Step(step.commit, tuple(effects))

    def stop(self, now: Now) -> Step:
        with _formats():
            return super().stop(now)

    def next_deadline(self) -> float:
        return min(super().next_deadline(), self._message_at)


class _NewerOwnLogs(OwnLogs):
    """Every entry of its own says more; what was asked for comes first, so its names stay."""

    def append(self, replica: Any, operations: Sequence[Operation], *rest: Any, **more: Any) -> list[Any]:
        own = self.of(replica)
        longer = [_with_item(operation) for operation in operations]
        if operations:
            before = self.__dict__.setdefault("_fields", {})
            field = Set("incident", ROOT_OBJECT, FIELD, own.seq, tuple(before.get(own.id, ())))
            before[own.id] = [Dot(own.id, own.seq + 1, len(longer) + 1)]
            longer += [OPERATION, field]
            if own.seq % ACT_EVERY == 0:
                more["membership"] = [*more.get("membership", ()), ACT]
        return super().append(replica, longer, *rest, **more)[: len(operations)]


def _with_item(operation: Operation) -> Operation:
    return replace(operation, extra=(ITEM,)) if isinstance(operation, (Log, Set)) else operation


def _longer(effect: Effect) -> Effect:
    """The same message with an item more."""
    if not isinstance(effect, Send):
        return effect
    return replace(effect, data=codec.encode([*codec.decode_trusted(effect.data), ITEM]))


@contextmanager
def _formats() -> Iterator[None]:
    """Contents have more parts, checkpoints another version. The product has no hook for it, so the code is changed
    while this node is at work."""
    encode_content = entry.encode_content

    def more(content: Content) -> bytes:
        return codec.encode({**codec.decode_trusted(encode_content(content)), **CONTENT_KEYS})

    with (
        patch.object(entry, "encode_content", more),
        patch.object(replica, "SNAPSHOT_VERSION", replica.SNAPSHOT_VERSION + 1),
    ):
        yield
