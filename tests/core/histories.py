"""Histories of several replicas, and the merge laws read aloud.

``histories()`` draws what a few authors write, honest and hostile, each on top of what it holds, together with the
causal past of every entry; a hostile one names anything in that past. (What names more never gets as far as the
document: test_names_seen.py.) ``Oracle`` computes the state from the plain *set* of operations, without order, indexes
or increments: the document must agree with it after every causal order.
"""

from __future__ import annotations

import random
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any

from hypothesis import strategies as st

from meshnode.core.facts import FactSum, extra_fact, object_fact, operation_fact
from meshnode.core.ids import ROOT_OBJECT, DeviceId, Dot, LogId, ObjectId
from meshnode.core.incident import Author, Document
from meshnode.core.operations import (
    ADD,
    CHUNK,
    CREATE,
    DELETE,
    LOG,
    SET,
    Add,
    Chunk,
    Create,
    Delete,
    Log,
    Operation,
    Remove,
    Set,
    Unknown,
    encode_dots,
)

LOGS = [LogId(bytes([65 + number]) * 32) for number in range(3)]
STRANGE_LOG = LogId(b"?" * 32)
"""A log that no entry ever comes from."""
OBJECTS = [ObjectId(bytes([number]) * 16) for number in (1, 2)]
PLACES = [
    ("incident", ROOT_OBJECT, "status"),
    ("persons", OBJECTS[0], "role"),
    ("persons", OBJECTS[0], "aliases"),
    ("persons", OBJECTS[1], "role"),
    ("x-rooms", OBJECTS[0], "x-size"),
]
VALUES: list[Any] = ["a", "b", True, 1, None, [1], [True]]


@dataclass(frozen=True)
class Written:
    """One entry: its operations, who wrote it, and the entries that its author held."""

    log: LogId
    seq: int
    operations: tuple[Operation, ...]
    author: Author
    past: frozenset[tuple[LogId, int]]

    @property
    def name(self) -> tuple[LogId, int]:
        return self.log, self.seq

    def dots(self) -> Iterator[tuple[Dot, Operation]]:
        for index, operation in enumerate(self.operations):
            yield Dot(self.log, self.seq, index), operation


def author(number: int, time_ms: int = 1_000, operator: str = "duty officer") -> Author:
    return Author(DeviceId(bytes([97 + number]) * 32), f"N{number}", f"n{number}-1", operator, time_ms)


class World:
    """Replicas that write and hand each other everything they hold."""

    def __init__(self) -> None:
        self.entries: dict[tuple[LogId, int], Written] = {}
        self.held: list[set[tuple[LogId, int]]] = [set() for _ in LOGS]

    def write(self, number: int, operations: Iterable[Operation], time_ms: int = 1_000) -> Written:
        log = LOGS[number]
        seq = 1 + max((seq for held, seq in self.held[number] if held == log), default=0)
        past = frozenset(self.held[number])
        entry = Written(log, seq, tuple(operations), author(number, time_ms), past)
        self.entries[entry.name] = entry
        self.held[number].add(entry.name)
        return entry

    def sync(self, source: int, target: int) -> None:
        self.held[target] |= self.held[source]

    def holding(self, number: int) -> list[Written]:
        return [self.entries[name] for name in self.held[number]]


def merge(document: Document, entries: Iterable[Written]) -> None:
    """Applies each entry whose past allows it, over and over, in the order given."""
    waiting = list(entries)
    for entry in in_causal_order(waiting):
        for dot, operation in entry.dots():
            document.apply(dot, operation, entry.author)


def in_causal_order(entries: Iterable[Written]) -> list[Written]:
    """The first causal order that the given order allows."""
    waiting = list(entries)
    names = {entry.name for entry in waiting}
    done: set[tuple[LogId, int]] = set()
    ordered = []
    while waiting:
        entry = next(entry for entry in waiting if entry.past & names <= done)
        waiting.remove(entry)
        done.add(entry.name)
        ordered.append(entry)
    return ordered


def merged(entries: Iterable[Written]) -> Document:
    document = Document()
    merge(document, entries)
    return document


@st.composite
def histories(draw: st.DrawFn) -> list[Written]:
    """Up to twelve entries of three replicas."""
    world = World()
    for _ in range(draw(st.integers(1, 12))):
        number = draw(st.integers(0, len(LOGS) - 1))
        if draw(st.booleans()):
            world.sync(draw(st.integers(0, len(LOGS) - 1)), number)
        state = Oracle(world.holding(number))
        held = [Dot(*name, op) for name in sorted(world.held[number]) for op in range(4)]
        operations = draw(st.lists(_operations(state, held), min_size=1, max_size=3))
        world.write(number, operations, draw(st.integers(0, 3)))
    return list(world.entries.values())


def causal_orders(entries: list[Written]) -> st.SearchStrategy[list[Written]]:
    """Drawn by a seed: a permutation drawn item by item would take most of a test's time."""
    return st.integers(0, 2**32).map(lambda seed: in_causal_order(shuffled(entries, seed)))


def shuffled(entries: list[Written], seed: int) -> list[Written]:
    return random.Random(seed).sample(entries, len(entries))


@st.composite
def _operations(draw: st.DrawFn, state: Oracle, held: list[Dot]) -> Operation:
    collection, obj, field = draw(st.sampled_from(PLACES))
    # Honest dots are those visible in the place; hostile ones are of other places, gone, or never were.
    seen = sorted(dot for dot, (place, _, _) in state.live.items() if place == (collection, obj, field))
    of_object = sorted(dot for dot, (place, _, _) in state.live.items() if place[:2] == (collection, obj))
    hostile = tuple(sorted(draw(st.sets(st.sampled_from(held), max_size=3)))) if held else ()
    lie = draw(st.integers(0, 3)) == 0
    extra = draw(st.sampled_from([(), (), (), ("later", 1)]))
    match draw(st.integers(0, 9)):
        case 0 | 1 | 2:
            return Set(collection, obj, field, draw(_VALUE), hostile if lie else tuple(seen), extra)
        case 3 | 4:
            return Add(collection, obj, field, draw(_VALUE), extra)
        case 5:
            return Remove(collection, obj, field, hostile if lie else tuple(seen), extra)
        case 6:
            return Create(collection, obj, extra)
        case 7:
            return Delete(collection, obj, hostile if lie else tuple(of_object), extra)
        case 8:
            return Log({"text": "smoke"}, extra)
        case _:
            return draw(st.sampled_from([Chunk(obj, 0, b"piece", extra), Unknown(99, ("later", 7))]))


_VALUE = st.sampled_from(VALUES)

Place = tuple[str, ObjectId, str]


class Oracle:
    """The state as the laws say it, from the set of operations alone."""

    def __init__(self, entries: Iterable[Written]) -> None:
        entries = list(entries)
        self.writers = {dot: entry.author for entry in entries for dot, _ in entry.dots()}
        self.operations = {dot: operation for entry in entries for dot, operation in entry.dots()}
        self.said = {(named, target) for op in self.operations.values() for named, target in _says(op)}
        self.live: dict[Dot, tuple[Place, int, Any]] = {}
        self.existing: set[tuple[str, ObjectId]] = set()
        for dot, operation in self.operations.items():
            left = _leaves(operation)
            if left is not None:
                place, _, _ = left
                self.existing.add(place[:2])
                if place[2] == "" or (dot, place) not in self.said:
                    self.live[dot] = left
        self.deletions = [op for op in self.operations.values() if isinstance(op, Delete)]

    def deleted(self, collection: str, obj: ObjectId) -> bool:
        return self._was_deleted(collection, obj) and not self._unmarked(collection, obj)

    def edited_after_delete(self, collection: str, obj: ObjectId) -> bool:
        return self._was_deleted(collection, obj) and self._unmarked(collection, obj)

    def conflicts(self) -> set[Place]:
        registers: dict[Place, set[str]] = {}
        for place, code, value in self.live.values():
            if code == SET and not self.deleted(*place[:2]):
                registers.setdefault(place, set()).add(repr(value))
        return {place for place, values in registers.items() if len(values) > 1}

    def facts(self) -> set[bytes]:
        facts = {object_fact(*thing) for thing in self.existing}
        for dot, operation in self.operations.items():
            who = self.writers[dot]
            left = _leaves(operation)
            if left is None:
                kept = _kept(operation)
                if kept is not None:
                    facts.add(operation_fact(kept[0], dot, who.operator, who.time_ms, *kept[1]))
            elif dot in self.live:
                place, code, value = left
                facts.add(operation_fact(code, dot, who.operator, who.time_ms, *place, value))
            if not isinstance(operation, Unknown) and operation.extra:
                facts.add(extra_fact(dot, operation.extra))
        return facts

    def facts_sum(self) -> bytes:
        summed = FactSum()
        for fact in self.facts():
            summed.add(fact)
        return summed.to_bytes()

    def _was_deleted(self, collection: str, obj: ObjectId) -> bool:
        if (collection, obj) == ("incident", ROOT_OBJECT):
            return False
        return any((op.collection, op.object) == (collection, obj) for op in self.deletions)

    def _unmarked(self, collection: str, obj: ObjectId) -> bool:
        return any(
            place[:2] == (collection, obj) and (dot, (collection, obj, "")) not in self.said
            for dot, (place, _, _) in self.live.items()
        )


def _says(operation: Operation) -> Iterator[tuple[Dot, Place]]:
    """What an operation says of other dots: that a value ends, or that it is marked by a deletion."""
    match operation:
        case Set(collection, obj, field, _, dots) | Remove(collection, obj, field, dots):
            yield from ((named, (collection, obj, field)) for named in dots)
        case Delete(collection, obj, dots) if (collection, obj) != ("incident", ROOT_OBJECT):
            yield from ((named, (collection, obj, "")) for named in dots)


def _leaves(operation: Operation) -> tuple[Place, int, Any] | None:
    match operation:
        case Set(collection, obj, field, value):
            return (collection, obj, field), SET, value
        case Add(collection, obj, field, value):
            return (collection, obj, field), ADD, value
        case Create(collection, obj):
            return (collection, obj, ""), CREATE, None
    return None


def _kept(operation: Operation) -> tuple[int, list[Any]] | None:
    match operation:
        case Log(record):
            return LOG, [record]
        case Delete(collection, obj, seen):
            return DELETE, [collection, obj, encode_dots(seen)]
        case Chunk(obj, index, data):
            return CHUNK, [obj, index, data]
        case Unknown(code, arguments):
            return code, [list(arguments)]
    return None
