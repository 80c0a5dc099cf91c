"""The merge laws: any causal order of the same operations ends in the same state, and that state is the lawful one."""

from __future__ import annotations

import pytest
from histories import LOGS, OBJECTS, Oracle, World, Written, author, causal_orders, histories, merged
from histories import merge as merge_into
from hypothesis import given, settings
from hypothesis import strategies as st

from meshnode.core import codec, crdt
from meshnode.core.ids import ROOT_OBJECT, Dot
from meshnode.core.incident import Document
from meshnode.core.operations import Add, Chunk, Create, Delete, Log, Remove, Set, Unknown

PERSON = OBJECTS[0]


def shown(document: Document, field: str = "role") -> list[object]:
    view = document.object_view("persons", PERSON)
    assert view is not None
    return [value.value for value in view.fields[field].values] if field in view.fields else []


def whole(document: Document) -> bytes:
    return codec.encode(document.snapshot())


# --- laws -----------------------------------------------------------------------------------------------------------


@given(st.data())
@settings(max_examples=60, deadline=None)
def test_every_causal_order_ends_in_the_same_state(data: st.DataObject) -> None:
    entries = data.draw(histories())
    one = merged(data.draw(causal_orders(entries)))
    other = merged(data.draw(causal_orders(entries)))
    assert whole(one) == whole(other)
    assert one.digest([]) == other.digest([])
    assert one.conflicts() == other.conflicts()
    assert [one.collection_view(name) for name in one.collections()] == [
        other.collection_view(name) for name in other.collections()
    ]


@given(st.data())
@settings(max_examples=100, deadline=None)
def test_the_state_is_the_one_that_the_laws_read_aloud_give(data: st.DataObject) -> None:
    entries = data.draw(histories())
    document = merged(data.draw(causal_orders(entries)))
    oracle = Oracle(entries)
    assert document.facts_sum == oracle.facts_sum()
    views = {
        (view.collection, view.id): view for name in document.collections() for view in document.collection_view(name)
    }
    objects = {(name, obj.hex()) for name, obj in oracle.existing if obj != ROOT_OBJECT}
    assert set(views) == objects
    for name, obj in oracle.existing:
        view = document.object_view(name, obj)
        assert view is not None
        assert view.deleted == oracle.deleted(name, obj)
        assert view.edited_after_delete == oracle.edited_after_delete(name, obj)
        visible = {(field, value.id) for field, values in view.fields.items() for value in values.values}
        lawful = {(place[2], dot.text) for dot, (place, _, _) in oracle.live.items() if place[:2] == (name, obj)}
        assert visible == {(field, dot) for field, dot in lawful if field}
    conflicts = {(conflict.collection, conflict.object, conflict.field) for conflict in document.conflicts()}
    assert conflicts == {(name, obj.hex(), field) for name, obj, field in oracle.conflicts()}
    assert document.conflict_count == len(conflicts)


@given(st.data())
@settings(max_examples=50, deadline=None)
def test_merging_is_associative(data: st.DataObject) -> None:
    entries = data.draw(histories())
    parts = [past_closed(entries, data.draw(st.lists(st.sampled_from(entries)))) for _ in range(3)]
    left, right = merged(parts[0]), merged(parts[1])
    merge_into(left, parts[1])
    merge_into(left, parts[2])
    merge_into(right, parts[2])
    merge_into(right, parts[0])
    assert whole(left) == whole(right)


@given(st.data())
@settings(max_examples=40, deadline=None)
def test_what_was_applied_before_changes_nothing(data: st.DataObject) -> None:
    entries = data.draw(histories())
    document = merged(entries)
    before = whole(document)
    for entry in data.draw(st.permutations(entries)):
        for dot, operation in entry.dots():
            assert not document.apply(dot, operation, entry.author)
    assert whole(document) == before


@given(histories(), histories())
@settings(max_examples=60, deadline=None)
def test_sums_are_equal_exactly_when_the_facts_are(first: list[Written], second: list[Written]) -> None:
    for pair in ((first, second), (first, first[:-1])):
        facts = [Oracle(entries).facts() for entries in pair]
        sums = [merged(entries).facts_sum for entries in pair]
        assert (facts[0] == facts[1]) == (sums[0] == sums[1])


def past_closed(entries: list[Written], chosen: list[Written]) -> list[Written]:
    names = {entry.name for entry in chosen} | {name for entry in chosen for name in entry.past}
    return [entry for entry in entries if entry.name in names]


# --- registers ------------------------------------------------------------------------------------------------------


def test_concurrent_writes_to_a_register_all_stay_until_one_names_them() -> None:
    world = World()
    first = world.write(0, [Set("persons", PERSON, "role", "suspect")], time_ms=9_000)
    second = world.write(1, [Set("persons", PERSON, "role", "witness")], time_ms=1)
    document = merged([first, second])
    assert shown(document) == ["witness", "suspect"]
    assert document.conflict_count == 1
    resolving = Set("persons", PERSON, "role", "victim", (Dot(LOGS[0], 1, 0), Dot(LOGS[1], 1, 0)))
    document.apply(Dot(LOGS[2], 1, 0), resolving, author(2))
    assert shown(document) == ["victim"]
    assert document.conflict_count == 0


def test_concurrent_writes_of_one_value_stay_both_and_are_no_conflict() -> None:
    document = merged_operations([Set("persons", PERSON, "role", "suspect"), Set("persons", PERSON, "role", "suspect")])
    assert shown(document) == ["suspect", "suspect"]
    assert document.conflict_count == 0


@pytest.mark.parametrize(("one", "other"), [(True, 1), ([True], [1]), (None, False)])
def test_values_that_python_calls_equal_and_the_mesh_does_not_are_a_conflict(one: object, other: object) -> None:
    document = merged_operations([Set("persons", PERSON, "x-a", one), Set("persons", PERSON, "x-a", other)])
    assert document.conflict_count == int(codec.encode(one) != codec.encode(other)) == 1


def test_no_clock_decides_between_values() -> None:
    world = World()
    late = world.write(0, [Set("persons", PERSON, "role", "suspect")], time_ms=2**60)
    world.sync(0, 1)
    early = world.write(1, [Set("persons", PERSON, "role", "witness", (Dot(LOGS[0], 1, 0),))], time_ms=-5)
    assert shown(merged([late, early])) == ["witness"]


def test_a_dot_counts_only_where_it_names_a_value_of_the_same_field() -> None:
    target = Dot(LOGS[0], 1, 0)
    document = merged_operations(
        [
            Set("persons", PERSON, "role", "suspect"),
            Remove("persons", PERSON, "aliases", (target,)),
            Set("persons", OBJECTS[1], "role", "witness", (target,)),
            Remove("x-rooms", PERSON, "role", (target,)),
        ]
    )
    assert shown(document) == ["suspect"]


# --- sets -----------------------------------------------------------------------------------------------------------


def test_an_element_added_concurrently_to_a_removal_stays() -> None:
    world = World()
    world.write(0, [Add("persons", PERSON, "aliases", "Fox")])
    world.sync(0, 1)
    world.write(1, [Remove("persons", PERSON, "aliases", (Dot(LOGS[0], 1, 0),))])
    world.write(0, [Add("persons", PERSON, "aliases", "Fox")])
    document = merged(world.entries.values())
    assert shown(document, "aliases") == ["Fox"]


def test_an_object_whose_values_all_went_exists_without_fields() -> None:
    document = merged_operations(
        [Add("persons", PERSON, "aliases", "Fox"), Remove("persons", PERSON, "aliases", (Dot(LOGS[0], 1, 0),))]
    )
    view = document.object_view("persons", PERSON)
    assert view is not None
    assert (view.fields, view.deleted) == ({}, False)


# --- deletion -------------------------------------------------------------------------------------------------------


def deleted_person() -> World:
    """Replica 1 has deleted the person that replica 0 wrote."""
    world = World()
    world.write(0, [Create("persons", PERSON), Set("persons", PERSON, "role", "suspect")])
    world.sync(0, 1)
    world.write(1, [Delete("persons", PERSON, (Dot(LOGS[0], 1, 0), Dot(LOGS[0], 1, 1)))])
    return world


def test_a_deleted_object_stays_readable() -> None:
    view = merged(deleted_person().entries.values()).object_view("persons", PERSON)
    assert view is not None
    assert (view.deleted, view.edited_after_delete) == (True, False)
    assert [value.value for value in view.fields["role"].values] == ["suspect"]


def test_a_change_that_a_deletion_had_not_seen_shows_the_object_with_everything_it_had() -> None:
    world = deleted_person()
    world.write(0, [Set("persons", PERSON, "hair", "red")])
    view = merged(world.entries.values()).object_view("persons", PERSON)
    assert view is not None
    assert (view.deleted, view.edited_after_delete) == (False, True)
    assert set(view.fields) == {"role", "hair"}


def test_deletions_that_saw_different_halves_delete_the_object_together() -> None:
    world = World()
    world.write(0, [Create("persons", PERSON)])
    world.write(1, [Set("persons", PERSON, "role", "suspect")])
    world.write(0, [Delete("persons", PERSON, (Dot(LOGS[0], 1, 0),))])
    world.write(1, [Delete("persons", PERSON, (Dot(LOGS[1], 1, 0),))])
    view = merged(world.entries.values()).object_view("persons", PERSON)
    assert view is not None
    assert view.deleted


def test_conflicts_of_a_deleted_object_are_not_counted_until_it_is_shown_again() -> None:
    dots = (Dot(LOGS[0], 1, 0), Dot(LOGS[0], 2, 0))
    document = merged_operations(
        [
            Set("persons", PERSON, "role", "suspect"),
            Set("persons", PERSON, "role", "witness"),
            Delete("persons", PERSON, dots),
        ]
    )
    assert document.conflict_count == 0
    assert document.conflicts() == []
    document.apply(Dot(LOGS[1], 1, 0), Set("persons", PERSON, "hair", "red"), author(1))
    assert document.conflict_count == 1
    assert [conflict.field for conflict in document.conflicts()] == ["role"]


def test_the_incident_itself_is_never_deleted() -> None:
    document = merged_operations(
        [Set("incident", ROOT_OBJECT, "title", "Smoke"), Delete("incident", ROOT_OBJECT, (Dot(LOGS[0], 1, 0),))]
    )
    view = document.object_view("incident", ROOT_OBJECT)
    assert view is not None
    assert (view.deleted, view.edited_after_delete) == (False, False)


def test_dots_that_never_were_values_end_and_mark_nothing() -> None:
    """Of an object that is there, and of one that nobody made: a hostile author may have seen the entry they name."""
    never = (Dot(LOGS[0], 1, 7),)
    document = merged_operations(
        [
            Set("persons", PERSON, "role", "suspect"),
            Remove("persons", PERSON, "role", never),
            Remove("persons", OBJECTS[1], "role", never),
            Delete("persons", PERSON, never),
            Delete("persons", OBJECTS[1], never),
        ]
    )
    assert shown(document) == ["suspect"]
    assert document.object_view("persons", OBJECTS[1]) is None


# --- what is only counted -------------------------------------------------------------------------------------------


def test_records_and_unknown_operations_are_counted_and_change_the_digest() -> None:
    document = Document()
    sums = {document.facts_sum}
    operations = [Log({"text": "smoke"}), Log({"text": "smoke"}), Unknown(99, (1,)), Chunk(PERSON, 0, b"x")]
    for seq, operation in enumerate(operations, 1):
        document.apply(Dot(LOGS[0], seq, 0), operation, author(0))
        sums.add(document.facts_sum)
    assert len(sums) == 5
    assert (document.log_count, document.unknown_count) == (2, 1)


@pytest.mark.parametrize("other", [author(0, operator="relief"), author(0, time_ms=2)])
def test_the_digest_tells_apart_who_wrote_and_when(other: crdt.Author) -> None:
    documents = [Document(), Document()]
    for document, who in zip(documents, (author(0), other), strict=True):
        document.apply(Dot(LOGS[0], 1, 0), Log({"text": "smoke"}), who)
    assert documents[0].facts_sum != documents[1].facts_sum


def merged_operations(operations: list[crdt.Operation]) -> Document:
    """One operation an entry, all of one log."""
    document = Document()
    for seq, operation in enumerate(operations, 1):
        document.apply(Dot(LOGS[0], seq, 0), operation, author(0))
    return document
