"""Merge laws that are almost right."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any
from unittest.mock import patch

from meshnode.core.crdt import State
from meshnode.core.facts import FactSum
from meshnode.core.ids import Dot, ObjectId
from meshnode.core.operations import Operation, Set
from meshnode.core.replica import Replica
from simulations.defects.table import defect


@defect("last writer wins", "a set replaces every value that is there, seen or not", "I1", "I2")
def _last_writer_wins() -> Iterator[None]:
    apply = State.apply

    def win(self: State, dot: Dot, operation: Operation, author: Any) -> bool:
        if isinstance(operation, Set):
            thing = self.existing(operation.collection, operation.object)
            there = tuple(value.dot for value in thing.of_field(operation.field)) if thing is not None else ()
            operation = Set(operation.collection, operation.object, operation.field, operation.value, there)
        return apply(self, dot, operation, author)

    with patch.object(State, "apply", win):
        yield


@defect("later clock wins", "of two concurrent values the one with the earlier wall clock goes", "I1", "I2")
def _later_clock_wins() -> Iterator[None]:
    live = State._live

    def win(self: State, thing: Any, code: int, dot: Dot, field: str, value: Any, author: Any) -> None:
        live(self, thing, code, dot, field, value, author)
        there = list(thing.of_field(field)) if field else []
        for other in there:
            if other.time_ms < max(found.time_ms for found in there):
                thing.discard(other)

    with patch.object(State, "_live", win):
        yield


@defect("forget removed values", "what a set replaces or a remove names stays", "I2")
def _forget_removed() -> Iterator[None]:
    def end(self: State, collection: str, obj: ObjectId, field: str, dots: Iterable[Dot]) -> None:
        """Nothing ends."""

    with patch.object(State, "_end", end):
        yield


@defect("delete what was not seen", "a delete marks every value of the object", "I2")
def _delete_all() -> Iterator[None]:
    mark = State._mark

    def all_(self: State, collection: str, obj: ObjectId, seen: Iterable[Dot]) -> None:
        thing = self.existing(collection, obj)
        mark(self, collection, obj, list(thing.values) if thing is not None else seen)

    with patch.object(State, "_mark", all_):
        yield


@defect("skip the parent check", "entries are merged whether or not their parents were", "I2", "I1", "I5", "I8", "I9")
def _skip_parents() -> Iterator[None]:
    find = Replica._find_merged

    def skip(self: Replica, entry_hash: Any) -> Any:
        found = find(self, entry_hash)
        heads = self.merged_heads()
        return found if found is not None or not heads else heads[0]

    with patch.object(Replica, "_find_merged", skip):
        yield


@defect("count the order", "the digest depends on the order of arrival", "I2", "I9")
def _order_in_digest() -> Iterator[None]:
    add = FactSum.add

    def ordered(self: FactSum, fact: bytes) -> None:
        add(self, self.to_bytes()[-1:] + fact)

    with patch.object(FactSum, "add", ordered):
        yield
