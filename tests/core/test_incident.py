"""What people read from a document: values with their authors, conflicts, summaries; and what two members compare."""

from __future__ import annotations

from histories import LOGS, OBJECTS, author

from meshnode.core.ids import NO_HASH, ROOT_OBJECT, Dot, EntryHash
from meshnode.core.incident import Document
from meshnode.core.log import LogHead
from meshnode.core.operations import Add, Chunk, Create, Log, Operation, Remove, Set
from meshnode.core.views import AuthorView, FieldView, ObjectView, ValueView

PERSON = OBJECTS[0]


def after(*operations: Operation) -> Document:
    """A document of which the n-th operation was written by the n-th author, at n seconds."""
    document = Document()
    for number, operation in enumerate(operations):
        document.apply(Dot(LOGS[number % 3], 1 + number // 3, 0), operation, author(number % 3, 1_000 * (number + 1)))
    return document


def test_a_value_is_shown_with_its_id_and_author() -> None:
    document = after(Set("persons", PERSON, "role", "suspect"))
    who = AuthorView("61" * 32, "N0", "n0-1", "duty officer", 1_000)
    value = ValueView("41" * 32 + ".1.0", "suspect", who, well_typed=True)
    expected = ObjectView("01" * 16, "persons", {"role": FieldView([value], False)}, False, False)
    assert document.object_view("persons", PERSON) == expected
    assert document.collection_view("persons") == [expected]


def test_both_values_of_a_conflict_are_shown_in_the_order_of_their_clocks() -> None:
    document = after(Set("incident", ROOT_OBJECT, "status", "open"), Set("incident", ROOT_OBJECT, "status", "closed"))
    view = document.fields_view()["status"]
    assert view.conflict
    assert [(value.value, value.author.noc) for value in view.values] == [("open", "N0"), ("closed", "N1")]
    (conflict,) = document.conflicts()
    assert (conflict.collection, conflict.object, conflict.field) == ("incident", "00" * 16, "status")
    assert conflict.values == view.values


def test_elements_of_a_set_are_no_conflict_and_neither_are_elements_beside_a_register_value() -> None:
    document = after(
        Add("persons", PERSON, "aliases", "Fox"),
        Add("persons", PERSON, "aliases", "Wolf"),
        Set("persons", PERSON, "aliases", "from a newer version"),
        Remove("persons", PERSON, "aliases", (Dot(LOGS[0], 1, 0),)),
    )
    view = document.fields_view("persons", PERSON)["aliases"]
    assert not view.conflict
    assert [value.value for value in view.values] == ["Wolf", "from a newer version"]


def test_the_summary_shows_both_sides_of_a_conflict_the_same_everywhere() -> None:
    document = after(
        Set("incident", ROOT_OBJECT, "title", "Smoke"),
        Set("incident", ROOT_OBJECT, "title", "Fire"),
        Set("incident", ROOT_OBJECT, "severity", 7),
    )
    assert document.summary_fields() == {
        "kind": "",
        "title": "Fire | Smoke",
        "status": "",
        "severity": "7",
        "precedence": "",
        "marking": "",
    }


def test_an_empty_document_shows_nothing() -> None:
    document = Document()
    assert document.collections() == []
    assert document.collection_view("persons") == []
    assert document.object_view("persons", PERSON) is None
    assert document.fields_view() == {}
    assert set(document.summary_fields().values()) == {""}
    assert document.attachment_chunks(PERSON) == []


def test_the_incident_itself_is_in_no_collection() -> None:
    document = after(Set("incident", ROOT_OBJECT, "title", "Smoke"), Create("x-rooms", PERSON))
    assert document.collections() == ["x-rooms"]
    assert document.collection_view("incident") == []


def test_objects_that_a_stranger_put_beside_the_incident_are_shown_in_its_collection() -> None:
    document = after(Create("incident", PERSON))
    assert document.collections() == ["incident"]
    assert [view.id for view in document.collection_view("incident")] == ["01" * 16]


def test_a_value_of_another_type_is_kept_shown_and_flagged() -> None:
    document = after(Set("incident", ROOT_OBJECT, "area", b"\x01"), Set("incident", ROOT_OBJECT, "tomorrow", [b"\x02"]))
    fields = document.fields_view()
    assert [(value.value, value.well_typed) for value in fields["area"].values] == [("01", False)]
    assert [(value.value, value.well_typed) for value in fields["tomorrow"].values] == [(["02"], True)]


def test_geometry_is_shown_in_degrees() -> None:
    document = after(Set("incident", ROOT_OBJECT, "area", [1, 2, [43_500_000, 508_400_000]]))
    assert document.fields_view()["area"].values[0].value == {"type": "Point", "coordinates": [4.35, 50.84]}


def test_the_pieces_of_an_attachment_are_found_in_order() -> None:
    document = after(Chunk(PERSON, 1, b"b"), Chunk(PERSON, 0, b"a"), Chunk(PERSON, 1, b"c"))
    found = [(0, Dot(LOGS[1], 1, 0)), (1, Dot(LOGS[0], 1, 0)), (1, Dot(LOGS[2], 1, 0))]
    assert document.attachment_chunks(PERSON) == found


def test_the_digest_covers_the_state_and_the_heads_in_any_order() -> None:
    document = after(Log({"text": "smoke"}))
    heads = [LogHead(LOGS[0], 1, EntryHash(b"h" * 32)), LogHead(LOGS[1], 2, NO_HASH)]
    assert document.digest(heads) == document.digest(reversed(heads))
    others = [[], heads[:1], [LogHead(LOGS[0], 1, NO_HASH), heads[1]], [LogHead(LOGS[0], 2, heads[0].hash), heads[1]]]
    digests = {document.digest(heads), after(Log({"text": "fire"})).digest(heads)} | {
        document.digest(other) for other in others
    }
    assert len(digests) == 6
    assert {len(digest) for digest in digests} == {32}


def test_ten_thousand_records_of_the_log_book_cost_no_memory_here() -> None:
    document = Document()
    document.apply(Dot(LOGS[0], 1, 0), Log({"text": "smoke"}), author(0))
    size = len(str(document.snapshot()))
    for seq in range(2, 10_002):
        document.apply(Dot(LOGS[0], seq, 0), Log({"text": "smoke"}), author(0))
    assert document.log_count == 10_001
    assert len(str(document.snapshot())) < size + 600
