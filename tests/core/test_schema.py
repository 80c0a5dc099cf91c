"""The model refuses what is misspelt here and tolerates what others wrote; its document lists exactly what it knows."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from meshnode.core.operations import NAME_CHARACTERS_MAX, is_name
from meshnode.core.schema import (
    FIELDS,
    KINDS,
    RECORD,
    Field,
    check_collection,
    check_field,
    check_local,
    check_record,
    plain_value,
    view_value,
    well_typed,
)
from meshnode.errors import RefusedError

DOCUMENT = Path(__file__).parents[2] / "docs" / "incident-model.md"

POINT = {"type": "Point", "coordinates": [4.35, 50.84]}
POINT_MESH = [1, 2, [43_500_000, 508_400_000]]


def refusal(call: Any, *arguments: Any) -> RefusedError:
    with pytest.raises(RefusedError) as caught:
        call(*arguments)
    assert caught.value.action
    return caught.value


def table(fields: dict[str, Field]) -> list[str]:
    return [
        f"| `{name}` | {'set' if field.is_set else 'register'} | {field.type.text} | {field.meaning} |"
        for name, field in fields.items()
    ]


def test_the_document_lists_exactly_the_collections_and_fields_of_the_model() -> None:
    listed: dict[str, list[str]] = {}
    section = ""
    for line in DOCUMENT.read_text(encoding="utf-8").splitlines():
        if line.startswith("### "):
            section = line.removeprefix("### ").strip("`")
        elif line.startswith("| `") and section:
            listed.setdefault(section, []).append(line)
    assert listed == {name: table(fields) for name, fields in {**FIELDS, "Record of the log book": RECORD}.items()}


def test_names_of_the_model_can_stand_in_operations() -> None:
    names = [*FIELDS, *(name for fields in FIELDS.values() for name in fields)]
    assert all(is_name(name) and not name.startswith("x-") for name in names)
    assert max(map(len, names)) <= NAME_CHARACTERS_MAX // 2


@pytest.mark.parametrize(
    ("collection", "field", "value"),
    [
        *(("incident", "kind", kind) for kind in KINDS),
        ("incident", "marking", "TLP:AMBER+STRICT"),
        ("persons", "warnings", "armed"),
        ("vehicles", "plate", "1-ABC-123"),
        ("tasks", "due", "2026-03-01T09:05:00+01:00"),
        ("reports", "source_evaluation", "B"),
        ("reports", "information_evaluation", "2"),
        ("reports", "handling", "H2"),
        ("locations", "circle", "50.8466,4.3528 1.5"),
        ("cap-infos", "resource", {"uri": "https://example.org/a.png", "embedded": False}),
        ("persons", "x-dispatch.number", 7),
        ("x-rooms", "size", {"anything": [1]}),
        ("x-rooms", "x-size", b"\x01"),
    ],
)
def test_a_local_write_of_the_right_type_passes_unchanged(collection: str, field: str, value: Any) -> None:
    assert check_local(collection, field, value) == value
    assert well_typed(collection, field, value)


def test_a_local_geometry_becomes_integers_and_is_shown_in_degrees_again() -> None:
    assert check_local("incident", "area", POINT) == POINT_MESH
    assert well_typed("incident", "area", POINT_MESH)
    assert view_value("incident", "area", POINT_MESH) == POINT
    assert refusal(check_local, "incident", "area", POINT_MESH).code == "bad-geometry"


@pytest.mark.parametrize(
    ("collection", "field", "value", "code", "words"),
    [
        ("person", "role", "suspect", "unknown-collection", "nearest is persons"),
        ("x-" + "a" * 64, "role", "suspect", "unknown-collection", "no collection"),
        ("zzz", "role", "suspect", "unknown-collection", "no collection 'zzz'"),
        ("persons", "famly_name", "x", "unknown-field", "nearest is family_name"),
        ("persons", "qqqq", "x", "unknown-field", "no field 'qqqq'"),
        ("persons", "x-UPPER", "x", "unknown-field", "no field"),
        ("x-rooms", "with space", "x", "unknown-field", "no field"),
        ("incident", "status", "finished", "bad-value", "one of open, contained, closed"),
        ("persons", "height_cm", "180", "bad-value", "an integer from 0 to 300"),
        ("persons", "x-height", 1.8, "bad-value", "floating-point"),
        ("x-rooms", "size", ("tuple",), "bad-value", "tuple"),
    ],
)
def test_a_local_write_that_is_wrong_is_refused_with_what_would_be_right(
    collection: str, field: str, value: Any, code: str, words: str
) -> None:
    error = refusal(check_local, collection, field, value)
    assert error.code == code
    assert words in error.reason


def test_what_others_wrote_is_judged_and_never_refused() -> None:
    assert not well_typed("incident", "status", "dormant")
    assert well_typed("incident", "field-of-tomorrow", 7)
    assert well_typed("collection-of-tomorrow", "status", None)


def test_values_are_shown_as_plain_data_whatever_they_are() -> None:
    assert view_value("incident", "area", [1, 2, [b"\x01"]]) == [1, 2, ["01"]]
    assert view_value("incident", "area", "here") == "here"
    assert view_value("x-rooms", "area", POINT_MESH) == POINT_MESH
    assert plain_value({1: (b"\xff", None), "a": [True]}) == {"1": ["ff", None], "a": [True]}


def test_names_can_be_checked_without_a_value() -> None:
    check_collection("x-rooms")
    check_field("x-rooms", "size")
    assert refusal(check_field, "persons", "").code == "unknown-field"


def test_a_record_of_the_log_book_may_carry_marking_precedence_category_and_free_keys() -> None:
    record = {"text": "Smoke", "precedence": "flash", "marking": "TLP:RED", "category": "fire", "x-call": 7}
    assert check_record(record) == record


@pytest.mark.parametrize(
    ("record", "code"),
    [
        ("Smoke", "bad-value"),
        ({}, "bad-value"),
        ({"text": ""}, "bad-value"),
        ({"text": 7}, "bad-value"),
        ({"text": "a" * 16_385}, "bad-value"),
        ({"text": "Smoke", "precedence": "now"}, "bad-value"),
        ({"text": "Smoke", "x-a": 0.5}, "bad-value"),
        ({"text": "Smoke", "categry": "fire"}, "unknown-field"),
        ({"text": "Smoke", "x-A": 1}, "unknown-field"),
        ({"text": "Smoke", 7: 1}, "unknown-field"),
    ],
)
def test_a_record_that_is_wrong_is_refused(record: Any, code: str) -> None:
    assert refusal(check_record, record).code == code
