"""Local changes become the operations that people mean, or are refused with what to do instead."""

from __future__ import annotations

from collections.abc import Iterable

import pytest
from histories import LOGS, OBJECTS, STRANGE_LOG, author

from meshnode.core.events import Change, ChangeKind
from meshnode.core.ids import ROOT_OBJECT, Dot, ObjectId
from meshnode.core.incident import Document
from meshnode.core.operations import DOTS_MAX, Add, Create, Delete, Log, Operation, Remove, Set
from meshnode.errors import RefusedError

SET, ADD, REMOVE = ChangeKind.SET, ChangeKind.ADD, ChangeKind.REMOVE
CREATE, DELETE, LOG = ChangeKind.CREATE, ChangeKind.DELETE, ChangeKind.LOG
PERSON, OTHER = OBJECTS


def dot(seq: int) -> Dot:
    return Dot(LOGS[0], seq, 0)


def after(*operations: Operation) -> Document:
    """A document in which the n-th operation has ``dot(n)``."""
    document = Document()
    for seq, operation in enumerate(operations, 1):
        document.apply(dot(seq), operation, author(0))
    return document


def plan(document: Document, change: Change) -> Operation:
    before = document.snapshot()
    operation, _ = document.plan(change, lambda length: b"n" * length)
    assert document.snapshot() == before
    return operation


def refused(document: Document, change: Change) -> str:
    with pytest.raises(RefusedError) as refusal:
        plan(document, change)
    assert refusal.value.action
    return refusal.value.code


def numbers(operations: Iterable[int]) -> tuple[Dot, ...]:
    return tuple(dot(seq) for seq in operations)


def test_a_set_replaces_the_register_values_visible_now() -> None:
    document = after(
        Set("persons", PERSON, "role", "suspect"),
        Set("persons", PERSON, "role", "witness"),
        Set("persons", PERSON, "hair", "red"),
        Add("persons", PERSON, "role", "not a register value"),
    )
    change = Change(SET, "persons", PERSON, "role", "victim")
    assert plan(document, change) == Set("persons", PERSON, "role", "victim", numbers([1, 2]))


def test_a_set_of_the_incident_needs_no_object_id() -> None:
    area = {"type": "Point", "coordinates": [4.35, 50.84]}
    expected = Set("incident", ROOT_OBJECT, "area", [1, 2, [43_500_000, 508_400_000]])
    for obj in (None, ROOT_OBJECT):
        assert plan(Document(), Change(SET, "incident", obj, "area", area)) == expected


def test_a_set_may_name_what_it_replaces_and_a_value_replaced_since_is_no_mistake() -> None:
    document = after(
        Set("persons", PERSON, "role", "suspect"),
        Set("persons", PERSON, "role", "witness", numbers([1])),
        Set("persons", PERSON, "role", "hostage"),
    )
    change = Change(SET, "persons", PERSON, "role", "victim", numbers([2, 1, 2]))
    assert plan(document, change) == Set("persons", PERSON, "role", "victim", numbers([2]))


@pytest.mark.parametrize("named", [dot(3), dot(9), Dot(STRANGE_LOG, 1, 0)])
def test_a_value_that_the_field_never_had_is_refused(named: Dot) -> None:
    document = after(
        Set("persons", PERSON, "role", "suspect"),
        Set("persons", PERSON, "role", "witness", numbers([1])),
        Set("persons", PERSON, "hair", "red"),
    )
    assert refused(document, Change(SET, "persons", PERSON, "role", "victim", (named,))) == "unknown-value"
    assert refused(document, Change(REMOVE, "persons", PERSON, "aliases", None, (named,))) == "unknown-value"


def test_an_object_of_the_same_request_can_be_written_before_it_exists() -> None:
    document = Document()
    planned = document.plan_all(
        [
            Change(CREATE, "persons", PERSON),
            Change(SET, "persons", PERSON, "role", "suspect"),
            Change(ADD, "persons", PERSON, "aliases", "Fox"),
        ],
        lambda length: b"n" * length,
    )
    assert planned == [
        (Create("persons", PERSON), PERSON),
        (Set("persons", PERSON, "role", "suspect"), PERSON),
        (Add("persons", PERSON, "aliases", "Fox"), PERSON),
    ]


def test_one_request_does_not_set_a_register_twice() -> None:
    changes = [Change(SET, field="title", value=title) for title in ("Smoke", "Fire")]
    with pytest.raises(RefusedError) as refusal:
        Document().plan_all(changes, lambda length: b"n" * length)
    assert refusal.value.code == "repeated-field"


@pytest.mark.parametrize(
    "others",
    [
        [Change(SET, "persons", PERSON, "hair", "red")],
        [Change(ADD, "persons", PERSON, "aliases", "Hound")],
        [Change(REMOVE, "persons", PERSON, "aliases", "Fox")],
        [Change(DELETE, "persons", PERSON)],
    ],
    ids=["set", "add", "remove", "delete again"],
)
def test_one_request_does_not_delete_an_object_and_do_something_else_with_it(others: list[Change]) -> None:
    """The deletion would name what was there before, and what the request writes would show the object again."""
    document = after(Create("persons", PERSON), Add("persons", PERSON, "aliases", "Fox"), Create("persons", OTHER))
    deletion = Change(DELETE, "persons", PERSON)
    for changes in ([deletion, *others], [*others, deletion]):
        with pytest.raises(RefusedError) as refusal:
            document.plan_all(changes, lambda length: b"n" * length)
        assert refusal.value.code == "changed-and-deleted"
        assert PERSON.hex() in refusal.value.reason
    elsewhere = [deletion, Change(SET, "persons", OTHER, "hair", "red"), Change(SET, "locations", PERSON, "name", "x")]
    assert len(document.plan_all(elsewhere, lambda length: b"n" * length)) == 3


@pytest.mark.parametrize("kind", [ADD, REMOVE])
def test_who_adds_to_a_field_of_one_value_reads_what_to_do_at_the_command_line_and_in_the_api(kind: ChangeKind) -> None:
    with pytest.raises(RefusedError) as refusal:
        plan(after(Create("persons", PERSON)), Change(kind, "persons", PERSON, "role", "suspect"))
    assert refusal.value.reason == "role of persons holds one value, and no elements that are added or removed"
    assert "role=VALUE or meshnode incident set; a change of kind set in the API" in refusal.value.action


def test_who_sets_a_set_reads_what_to_do_at_the_command_line_and_in_the_api() -> None:
    with pytest.raises(RefusedError) as refusal:
        plan(after(Create("persons", PERSON)), Change(SET, "persons", PERSON, "aliases", "Joe"))
    assert refusal.value.reason == "aliases of persons is a set of elements, and is not given one value"
    for words in ("aliases+=VALUE", "incident add-to", "incident remove-from", "changes of kind add and remove in the"):
        assert words in refusal.value.action


def test_a_new_object_gets_an_id_unless_it_brings_one() -> None:
    assert plan(Document(), Change(CREATE, "persons")) == Create("persons", ObjectId(b"n" * 16))
    assert plan(Document(), Change(CREATE, "x-rooms", PERSON)) == Create("x-rooms", PERSON)


def test_a_deleted_object_can_be_created_again_and_a_living_one_cannot() -> None:
    document = after(Create("persons", PERSON))
    assert refused(document, Change(CREATE, "persons", PERSON)) == "object-exists"
    assert refused(document, Change(CREATE, "incident")) == "object-exists"
    document.apply(dot(2), Delete("persons", PERSON, numbers([1])), author(0))
    assert plan(document, Change(CREATE, "persons", PERSON)) == Create("persons", PERSON)


def test_a_removal_by_value_names_every_element_that_is_equal_on_the_mesh() -> None:
    document = after(
        Add("persons", PERSON, "x-tags", 1),
        Add("persons", PERSON, "x-tags", True),
        Add("persons", PERSON, "x-tags", 1),
        Set("persons", PERSON, "x-tags", 1),
    )
    change = Change(REMOVE, "persons", PERSON, "x-tags", 1)
    assert plan(document, change) == Remove("persons", PERSON, "x-tags", numbers([1, 3]))
    assert refused(document, Change(REMOVE, "persons", PERSON, "x-tags", 2)) == "unknown-value"


def test_a_removal_by_id_names_what_still_lives() -> None:
    document = after(Add("incident", ROOT_OBJECT, "hazards", "chemical"), Add("incident", ROOT_OBJECT, "hazards", "x"))
    change = Change(REMOVE, "incident", None, "hazards", None, numbers([1]))
    assert plan(document, change) == Remove("incident", ROOT_OBJECT, "hazards", numbers([1]))


def test_a_removal_from_an_empty_incident_finds_no_such_element() -> None:
    assert refused(Document(), Change(REMOVE, "incident", None, "hazards", "chemical")) == "unknown-value"


def test_a_deletion_names_every_value_the_object_has() -> None:
    document = after(
        Create("persons", PERSON),
        Set("persons", PERSON, "role", "suspect"),
        Add("persons", PERSON, "aliases", "Fox"),
        Create("persons", OTHER),
    )
    assert plan(document, Change(DELETE, "persons", PERSON)) == Delete("persons", PERSON, numbers([1, 2, 3]))


def test_an_object_of_more_values_than_one_deletion_can_name_is_deleted_in_several() -> None:
    document = after(*(Add("locations", PERSON, "geocode", f"SAME={number}") for number in range(DOTS_MAX + 5)))
    for seq, left in ((1_001, DOTS_MAX), (1_002, 5)):
        operation = plan(document, Change(DELETE, "locations", PERSON))
        assert isinstance(operation, Delete)
        assert len(operation.seen) == left
        document.apply(dot(seq), operation, author(0))
    view = document.object_view("locations", PERSON)
    assert view is not None
    assert view.deleted


def test_a_record_of_the_log_book_is_planned_for_the_incident_itself() -> None:
    change = Change(LOG, value={"text": "Smoke", "precedence": "flash"})
    operation, obj = Document().plan(change, lambda length: b"n" * length)
    assert (operation, obj) == (Log({"text": "Smoke", "precedence": "flash"}), ROOT_OBJECT)


@pytest.mark.parametrize(
    ("change", "code"),
    [
        (Change(SET, "persons", None, "role", "suspect"), "unknown-object"),
        (Change(SET, "incident", PERSON, "title", "Smoke"), "unknown-object"),
        (Change(REMOVE, "persons", PERSON, "aliases", "Fox"), "unknown-object"),
        (Change(DELETE, "persons", PERSON), "unknown-object"),
        (Change(DELETE, "persons"), "unknown-object"),
        (Change(DELETE, "incident"), "root-not-deletable"),
        (Change(SET, "persons", PERSON, "aliases", "Fox"), "not-a-register"),
        (Change(ADD, "persons", PERSON, "role", "suspect"), "not-a-set"),
        (Change(REMOVE, "incident", None, "title", "Smoke"), "not-a-set"),
        (Change(CREATE, "person"), "unknown-collection"),
        (Change(SET, "persons", PERSON, "rôle", "suspect"), "unknown-field"),
        (Change(SET, "persons", PERSON, "role", "villain"), "bad-value"),
        (Change(ADD, "persons", PERSON, "warnings", "nasty"), "bad-value"),
        (Change(SET, "incident", None, "area", {"type": "Circle"}), "bad-geometry"),
        (Change(LOG, value={"text": ""}), "bad-value"),
    ],
)
def test_a_change_that_cannot_be_meant_is_refused(change: Change, code: str) -> None:
    assert refused(Document(), change) == code


def test_more_values_than_one_change_can_name_are_refused() -> None:
    document = after(*(Set("incident", ROOT_OBJECT, "x-a", number) for number in range(DOTS_MAX + 1)))
    assert refused(document, Change(SET, "incident", None, "x-a", 7)) == "too-many-values"
