"""Merge laws that are almost right."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any
from unittest.mock import patch

from meshnode.core.causal import CausalGraph, Position
from meshnode.core.crdt import State, Thing
from meshnode.core.facts import FactSum
from meshnode.core.ids import Dot, ObjectId
from meshnode.core.operations import SET, Operation, Set
from meshnode.core.replica import Replica
from simulations.defects.table import defect

TIDYING = str(Path(__file__).with_name("tidying.toml"))


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


@defect("delete what was not seen", "a delete marks every value of the object", "I2", scenario=TIDYING)
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


@defect("removed for good", "a remove takes every element of the set, seen or not", "I1", "I2")
def _remove_all() -> Iterator[None]:
    end = State._end

    def all_(self: State, collection: str, obj: ObjectId, field: str, dots: Iterable[Dot]) -> None:
        thing = self.existing(collection, obj)
        there = list(thing.of_field(field)) if thing is not None else []
        is_set = any(value.code != SET for value in there)
        end(self, collection, obj, field, [value.dot for value in there] if is_set else dots)

    with patch.object(State, "_end", all_):
        yield


@defect(
    "deleted for good", "an edit that the deleter had not seen does not show the object again", "I2", scenario=TIDYING
)
def _deleted_for_good() -> Iterator[None]:
    with patch.object(Thing, "deleted", property(lambda thing: thing.deletions > 0)):
        yield


@defect("the first value stays", "a set beside a value that it does not replace is dropped", "I1", "I2")
def _first_stays() -> Iterator[None]:
    live = State._live

    def first(self: State, thing: Any, code: int, dot: Dot, field: str, value: Any, author: Any) -> None:
        if code != SET or not list(thing.of_field(field)):
            live(self, thing, code, dot, field, value, author)

    with patch.object(State, "_live", first):
        yield


@defect(
    "hide conflicts", "a register that two wrote at once is not shown as a conflict", "I2", scenario="flapping-links"
)
def _hide_conflicts() -> Iterator[None]:
    with patch.object(State, "_recount", lambda self, thing: None):
        yield


@defect("apply twice", "an operation that was applied before is applied again after a restart", "I2", "I1", "I9", "I8")
def _apply_twice() -> Iterator[None]:
    apply, calls = State.apply, iter(range(1, 1_000_000))

    def twice(self: State, dot: Dot, operation: Operation, author: Any) -> bool:
        done = apply(self, dot, operation, author)
        if next(calls) % 25 == 0 and isinstance(operation, Set):
            self.logs[dot.log].place = (dot.seq, dot.op - 1)
            apply(self, dot, operation, author)
        return done

    with patch.object(State, "apply", twice):
        yield


@defect(
    "name what was not seen", "an entry names no other log, so that what it replaces was not in its past", "I5", "I9"
)
def _names_unseen() -> Iterator[None]:
    for_ = Replica.parents_for

    def fewer(
        self: Replica, own_log: Any, key_id: Any, starts_epoch: bool, shown: Iterable[Any] = ()
    ) -> list[Position]:
        del shown
        found = for_(self, own_log, key_id, starts_epoch, ())
        return found if starts_epoch or self._log(own_log).key_id != key_id else []

    with patch.object(Replica, "parents_for", fewer):
        yield


@defect("a past of one", "of the logs that an entry names only the first is remembered as seen", "I5", "I2", "I9", "I8")
def _past_of_one() -> Iterator[None]:
    add = CausalGraph.add

    def one(self: CausalGraph, log: Any, seq: int, parents: list[Position], time_ms: int) -> int:
        return add(self, log, seq, parents[:1], time_ms)

    with patch.object(CausalGraph, "add", one):
        yield
