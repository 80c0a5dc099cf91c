"""From a local change to the operation that carries it out.

Planning looks at the state and changes nothing. The changes of one request are planned one after another on the same
state, before any of them is applied: so an object id may be given by the caller, and a field of an object that a
CREATE of the same request makes can be set although the object does not exist yet. It also means that two SETs of one
register in one request would both name what was visible before and stand against each other afterwards, and that a
DELETE would leave standing what the same request writes to its object: ``plan_all`` refuses both.

RefusedError codes: those of core/schema (``unknown-collection``, ``unknown-field``, ``bad-value``,
``bad-geometry``), and ``not-a-set``, ``not-a-register``, ``unknown-object``, ``object-exists``, ``unknown-value``,
``too-many-values``, ``root-not-deletable``, ``repeated-field``, ``changed-and-deleted``.

Whoever is refused typed a command (``aliases+=Joe``) or sent a change of some kind to the local API: what to do is said
in the words of both.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable

from meshnode.core.crdt import ROOT_COLLECTION, State, Thing, Value, same_value
from meshnode.core.events import Change, ChangeKind
from meshnode.core.ids import OBJECT_ID_BYTES, ROOT_OBJECT, Dot, ObjectId
from meshnode.core.operations import (
    ADD,
    DOTS_MAX,
    SET,
    Add,
    Create,
    Delete,
    Log,
    Operation,
    Remove,
    Set,
)
from meshnode.core.schema import check_collection, check_field, check_local, check_record, known_field
from meshnode.errors import RefusedError


def plan(state: State, change: Change, new_id: Callable[[int], bytes]) -> tuple[Operation, ObjectId]:
    """The operation, and the object it touches (all zero for the incident itself and its log book)."""
    if change.kind is ChangeKind.LOG:
        return Log(check_record(change.value)), ROOT_OBJECT
    check_collection(change.collection)
    if change.kind is ChangeKind.CREATE:
        return _create(state, change, new_id)
    obj = _object_of(change)
    if change.kind is ChangeKind.DELETE:
        return _delete(state, change.collection, obj), obj
    check_field(change.collection, change.field)
    if change.kind is ChangeKind.SET:
        return _set(state, change, obj), obj
    if change.kind is ChangeKind.ADD:
        _require_set(change, True)
        value = check_local(change.collection, change.field, change.value)
        return Add(change.collection, obj, change.field, value), obj
    return _remove(state, change, obj), obj


def plan_all(
    state: State, changes: Iterable[Change], new_id: Callable[[int], bytes]
) -> list[tuple[Operation, ObjectId]]:
    """The operations of one request, all or none."""
    planned: list[tuple[Operation, ObjectId]] = []
    written: set[tuple[str, ObjectId, str]] = set()
    touched: set[tuple[str, ObjectId]] = set()
    deleted: set[tuple[str, ObjectId]] = set()
    for change in changes:
        operation, obj = plan(state, change, new_id)
        if isinstance(operation, Set):
            register = (operation.collection, obj, operation.field)
            if register in written:
                raise RefusedError(
                    "repeated-field",
                    f"one request sets {operation.field} of {operation.collection} {obj.hex()} twice",
                    "send the last value only",
                )
            written.add(register)
        place = (change.collection, obj)
        if place in deleted or (place in touched and isinstance(operation, Delete)):
            raise RefusedError(
                "changed-and-deleted",
                f"one request deletes {change.collection} {obj.hex()} and does something else with it",
                "send the deletion in a request of its own",
            )
        (deleted if isinstance(operation, Delete) else touched).add(place)
        planned.append((operation, obj))
    return planned


def _create(state: State, change: Change, new_id: Callable[[int], bytes]) -> tuple[Operation, ObjectId]:
    obj = change.object if change.object is not None else ObjectId(new_id(OBJECT_ID_BYTES))
    existing = state.existing(change.collection, obj)
    if change.collection == ROOT_COLLECTION or (existing is not None and not existing.deleted):
        raise RefusedError(
            "object-exists",
            f"{change.collection} {obj.hex()} exists already",
            "set its fields, or leave out the object id to get a new one",
        )
    return Create(change.collection, obj), obj


def _set(state: State, change: Change, obj: ObjectId) -> Operation:
    _require_set(change, False)
    value = check_local(change.collection, change.field, change.value)
    thing = state.existing(change.collection, obj)
    if change.replaces is None:
        replaces = [found.dot for found in _of_field(thing, change.field) if found.code == SET]
    else:
        replaces = _named(state, thing, change)
    return Set(change.collection, obj, change.field, value, _listed(replaces))


def _remove(state: State, change: Change, obj: ObjectId) -> Operation:
    _require_set(change, True)
    thing = _existing(state, change.collection, obj)
    if change.replaces is not None:
        dots = _named(state, thing, change)
    else:
        wanted = check_local(change.collection, change.field, change.value)
        elements = (found for found in _of_field(thing, change.field) if found.code == ADD)
        dots = [found.dot for found in elements if same_value(found.value, wanted)]
        if not dots:
            raise _unknown_value(f"{change.field} has no such element")
    return Remove(change.collection, obj, change.field, _listed(dots))


def _delete(state: State, collection: str, obj: ObjectId) -> Operation:
    if collection == ROOT_COLLECTION:
        raise RefusedError("root-not-deletable", "the incident itself is not deleted", "set its status to closed")
    thing = _existing(state, collection, obj)
    # Values that an earlier deletion marked need no second mark: so a large object is deleted in several changes.
    unmarked = sorted(value.dot for value in thing.values.values() if not value.marked)
    return Delete(collection, obj, tuple(unmarked[:DOTS_MAX]))


def _object_of(change: Change) -> ObjectId:
    if change.collection == ROOT_COLLECTION:
        if change.object is None or change.object == ROOT_OBJECT:
            return ROOT_OBJECT
        raise RefusedError(
            "unknown-object", "the incident collection has one object, the incident itself", "leave out the object id"
        )
    if change.object is None:
        raise RefusedError(
            "unknown-object", f"a change in {change.collection} needs the id of an object", "name the object"
        )
    return change.object


def _existing(state: State, collection: str, obj: ObjectId) -> Thing:
    thing = state.existing(collection, obj)
    if thing is None and collection == ROOT_COLLECTION:
        return Thing(collection, obj)
    if thing is None:
        raise RefusedError(
            "unknown-object", f"{collection} has no object {obj.hex()}", f"list the objects of {collection}"
        )
    return thing


def _require_set(change: Change, is_set: bool) -> None:
    known = known_field(change.collection, change.field)
    if known is None or known.is_set == is_set:
        return
    field = f"{change.field} of {change.collection}"
    if is_set:
        raise RefusedError(
            "not-a-set",
            f"{field} holds one value, and no elements that are added or removed",
            f"give it a value: {change.field}=VALUE or meshnode incident set; a change of kind set in the API",
        )
    raise RefusedError(
        "not-a-register",
        f"{field} is a set of elements, and is not given one value",
        f"add elements: {change.field}+=VALUE or meshnode incident add-to; take them out: meshnode incident "
        "remove-from; changes of kind add and remove in the API",
    )


def _of_field(thing: Thing | None, field: str) -> Iterable[Value]:
    return thing.of_field(field) if thing is not None else ()


def _named(state: State, thing: Thing | None, change: Change) -> list[Dot]:
    """The values a client named that still live in the field. Those that were replaced since are no mistake."""
    living = {found.dot for found in _of_field(thing, change.field)}
    named = change.replaces or ()
    for dot in named:
        if dot not in living and (not state.passed(dot) or _lives_elsewhere(thing, dot)):
            raise _unknown_value(f"{change.field} never had the value {dot.text}")
    return [dot for dot in named if dot in living]


def _lives_elsewhere(thing: Thing | None, dot: Dot) -> bool:
    return thing is not None and dot in thing.values


def _listed(dots: Iterable[Dot]) -> tuple[Dot, ...]:
    ascending = tuple(sorted(set(dots)))
    if len(ascending) > DOTS_MAX:
        raise RefusedError(
            "too-many-values",
            f"one change names at most {DOTS_MAX} values, this one {len(ascending)}",
            "name the values in several changes",
        )
    return ascending


def _unknown_value(reason: str) -> RefusedError:
    return RefusedError("unknown-value", reason, "read the object again and use the value ids shown there")
