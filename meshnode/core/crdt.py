"""The merge laws: what a set of operations means, in whatever causal order they arrive.

**Values.** Every Set, Add and Create leaves a value named by its dot. A value lives until an operation names its dot:
a Set names those it replaces, a Remove those that leave. Nothing else ends it, so concurrent writes to one register
all stay, an element added concurrently to a removal stays, and no clock ever decides. A dot counts only where it
names a value of the same collection, object and field.

**Objects.** An object comes into being by a Create, Set or Add on it, and never goes out of memory. A Delete *marks*
the values it names (creations included). An object is deleted while it has been deleted at least once and every
live value of it is marked; a value its deleters had not seen shows it again, with everything it had. The incident
itself (the root) is never deleted.

**Order.** Operations of one log arrive in ascending order (its hash chain sees to that), so one place per log tells
what was applied; applying again changes nothing. An operation names only dots that its entry shows its author had
seen (:func:`unseen`; the entry is void otherwise), and causal order brings those first. So a named dot is a living
value here, or never will be one, and nothing needs to be remembered of it.
"""

from __future__ import annotations

import sys
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from meshnode.core.causal import CausalGraph, Position
from meshnode.core.codec import encode
from meshnode.core.facts import FactSum, extra_fact, object_fact, operation_fact
from meshnode.core.ids import ROOT_OBJECT, DeviceId, Dot, LogId, ObjectId
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
    named_dots,
)

ROOT_COLLECTION = "incident"

Place = tuple[int, int]
"""(seq, op) in a log."""


@dataclass(frozen=True, slots=True)
class Author:
    """Who wrote an entry: what the log's opening says, and the operator and clock that the entry names."""

    device: DeviceId
    noc: str
    name: str
    operator: str
    time_ms: int


class Value:
    """A live value: a register's, a set's element, or an object's creation (``field`` is empty then)."""

    __slots__ = ("code", "dot", "field", "marked", "operator", "time_ms", "value")

    def __init__(self, code: int, dot: Dot, field: str, value: Any, operator: str, time_ms: int, marked: bool) -> None:
        self.code = code
        self.dot = dot
        self.field = field
        self.value = value
        self.operator = operator
        self.time_ms = time_ms
        self.marked = marked


Cell = Value | dict[Dot, Value]
"""The live values of a field. Nearly always one, and then without a dict around it."""


class Thing:
    """One object: its live values, by dot and by field, and its deletions."""

    __slots__ = ("collection", "conflicts", "counted", "deletions", "exists", "fields", "id", "unmarked", "values")

    def __init__(self, collection: str, id_: ObjectId) -> None:
        self.collection = collection
        self.id = id_
        self.exists = False
        self.deletions = 0
        self.unmarked = 0
        self.values: dict[Dot, Value] = {}
        self.fields: dict[str, Cell] = {}
        self.conflicts: set[str] = set()
        self.counted = 0
        """Conflicts of this object that the document counts now."""

    @property
    def deleted(self) -> bool:
        return self.deletions > 0 and self.unmarked == 0

    @property
    def edited_after_delete(self) -> bool:
        return self.deletions > 0 and self.unmarked > 0

    def of_field(self, field: str) -> Iterable[Value]:
        cell = self.fields.get(field)
        if cell is None:
            return ()
        return cell.values() if isinstance(cell, dict) else (cell,)

    def insert(self, value: Value) -> None:
        self.values[value.dot] = value
        if not value.marked:
            self.unmarked += 1
        if value.code == CREATE:
            return
        cell = self.fields.get(value.field)
        if cell is None:
            self.fields[value.field] = value
        elif isinstance(cell, dict):
            cell[value.dot] = value
        else:
            self.fields[value.field] = {cell.dot: cell, value.dot: value}

    def discard(self, value: Value) -> None:
        del self.values[value.dot]
        if not value.marked:
            self.unmarked -= 1
        cell = self.fields[value.field]
        if isinstance(cell, dict):
            del cell[value.dot]
            if len(cell) == 1:
                self.fields[value.field] = next(iter(cell.values()))
        else:
            del self.fields[value.field]

    def recheck_conflict(self, field: str) -> None:
        """Call after a register value of the field came or went."""
        conflict = isinstance(self.fields.get(field), dict) and in_conflict(self.of_field(field))
        if conflict:
            self.conflicts.add(field)
        else:
            self.conflicts.discard(field)


def in_conflict(values: Iterable[Value]) -> bool:
    """Whether the register values among these differ. Two NOCs that write the same do not disagree."""
    registers = (value.value for value in values if value.code == SET)
    first = next(registers, None)
    return any(not same_value(first, other) for other in registers)


def same_value(one: Any, other: Any) -> bool:
    # In Python True == 1, also inside containers: equal values count only with equal encodings.
    return bool(one == other) and (isinstance(one, str) or encode(one) == encode(other))


def unseen(graph: CausalGraph, position: Position, operations: Iterable[Operation]) -> dict[LogId, int]:
    """How far in which logs these operations name what their entry does not show its author had seen: empty for an
    entry that stands. An operation has seen those before it in its entry.

    Cost: one look-up for each dot. Asked of an entry that is still to be written, it tells which parents that needs.
    """
    own, seq = position
    found: dict[LogId, int] = {}
    for index, operation in enumerate(operations):
        for dot in named_dots(operation):
            seen = (dot.seq, dot.op) < (seq, index) if dot.log == own else dot.seq <= graph.seen(own, dot.log)
            if not seen:
                found[dot.log] = max(dot.seq, found.get(dot.log, 0))
    return found


class LogState:
    """What is known of a log: whose it is (its opening says, so it never changes), and how far it was applied."""

    __slots__ = ("device", "name", "noc", "place")

    def __init__(self, device: DeviceId, noc: str, name: str, place: Place) -> None:
        self.device = device
        self.noc = noc
        self.name = name
        self.place = place


class State:
    """The merged operations of one incident."""

    def __init__(self) -> None:
        self.facts = FactSum()
        self.logs: dict[LogId, LogState] = {}
        self.things: dict[str, dict[ObjectId, Thing]] = {}
        self.chunks: dict[ObjectId, list[tuple[int, Dot]]] = {}
        self.conflict_count = 0
        self.log_count = 0
        self.unknown_count = 0

    # --- in ---

    def apply(self, dot: Dot, operation: Operation, author: Author) -> bool:
        """Merges one operation; False when it was applied before."""
        place = (dot.seq, dot.op)
        log = self.logs.get(dot.log)
        if log is None:
            self.logs[dot.log] = LogState(author.device, author.noc, author.name, place)
        elif place <= log.place:
            return False
        else:
            log.place = place
        match operation:
            case Log(record):
                self.log_count += 1
                self._keep(LOG, dot, author, record)
            case Set(collection, obj, field, value, replaces):
                thing = self._touch(collection, obj)
                self._end(collection, obj, field, replaces)
                self._live(thing, SET, dot, field, value, author)
            case Add(collection, obj, field, value):
                self._live(self._touch(collection, obj), ADD, dot, field, value, author)
            case Remove(collection, obj, field, dots):
                self._end(collection, obj, field, dots)
            case Create(collection, obj):
                self._live(self._touch(collection, obj), CREATE, dot, "", None, author)
            case Delete(collection, obj, seen):
                self._keep(DELETE, dot, author, collection, obj, encode_dots(seen))
                self._mark(collection, obj, seen)
            case Chunk(obj, index, data):
                self.chunks.setdefault(obj, []).append((index, dot))
                self._keep(CHUNK, dot, author, obj, index, data)
            case _:
                self.unknown_count += 1
                self._keep(operation.code, dot, author, list(operation.arguments))
        if not isinstance(operation, Unknown) and operation.extra:
            self.facts.add(extra_fact(dot, operation.extra))
        return True

    # --- out ---

    def existing(self, collection: str, obj: ObjectId) -> Thing | None:
        """The object, if any operation made it."""
        thing = self.things.get(collection, {}).get(obj)
        return thing if thing is not None and thing.exists else None

    def passed(self, dot: Dot) -> bool:
        """Whether this dot was applied, or can never come because a later one of its log was."""
        log = self.logs.get(dot.log)
        return log is not None and (dot.seq, dot.op) <= log.place

    def adopt(self, thing: Thing) -> None:
        """Takes in an object of a snapshot, whose facts are in the sum already."""
        self.things.setdefault(thing.collection, {})[thing.id] = thing
        self._recount(thing)

    # --- the laws ---

    def _keep(self, code: int, dot: Dot, author: Author, *items: Any) -> None:
        """A fact that never dies."""
        self.facts.add(operation_fact(code, dot, author.operator, author.time_ms, *items))

    def _thing(self, collection: str, obj: ObjectId) -> Thing | None:
        return self.things.get(collection, {}).get(obj)

    def _make(self, collection: str, obj: ObjectId) -> Thing:
        thing = Thing(sys.intern(collection), obj)
        self.things.setdefault(thing.collection, {})[obj] = thing
        return thing

    def _touch(self, collection: str, obj: ObjectId) -> Thing:
        """The object, brought into being if need be."""
        thing = self._thing(collection, obj)
        if thing is None:
            thing = self._make(collection, obj)
        if not thing.exists:
            thing.exists = True
            self.facts.add(object_fact(collection, obj))
        return thing

    def _live(self, thing: Thing, code: int, dot: Dot, field: str, value: Any, author: Author) -> None:
        live = Value(code, dot, sys.intern(field), value, author.operator, author.time_ms, marked=False)
        thing.insert(live)
        self.facts.add(_fact(thing, live))
        if code == SET and len(thing.values) > 1:
            thing.recheck_conflict(field)
        self._recount(thing)

    def _end(self, collection: str, obj: ObjectId, field: str, dots: Iterable[Dot]) -> None:
        """Ends the named values. Those that live no more, or elsewhere, are passed over."""
        thing = self._thing(collection, obj)
        if thing is None:
            return
        register_ended = False
        for dot in dots:
            value = thing.values.get(dot)
            if value is not None and value.field == field:
                thing.discard(value)
                self.facts.subtract(_fact(thing, value))
                register_ended = register_ended or value.code == SET
        if register_ended:
            thing.recheck_conflict(field)
        self._recount(thing)

    def _mark(self, collection: str, obj: ObjectId, seen: Iterable[Dot]) -> None:
        if collection == ROOT_COLLECTION and obj == ROOT_OBJECT:
            return
        thing = self._thing(collection, obj) or self._make(collection, obj)
        thing.deletions += 1
        for dot in seen:
            value = thing.values.get(dot)
            if value is not None and not value.marked:
                value.marked = True
                thing.unmarked -= 1
        self._recount(thing)

    def _recount(self, thing: Thing) -> None:
        """Conflicts of a deleted object ask nobody for a decision."""
        counted = 0 if thing.deleted else len(thing.conflicts)
        self.conflict_count += counted - thing.counted
        thing.counted = counted


def _fact(thing: Thing, value: Value) -> bytes:
    return operation_fact(
        value.code, value.dot, value.operator, value.time_ms, thing.collection, thing.id, value.field, value.value
    )
