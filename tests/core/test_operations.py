"""Operations survive the way through bytes unchanged, and everything malformed is refused with a reason."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from meshnode.core import codec
from meshnode.core.ids import OP_INDEX_MAX, SEQ_MAX, Dot, LogId, ObjectId
from meshnode.core.operations import (
    CHUNK_BYTES_MAX,
    CHUNK_INDEX_MAX,
    CODE_MAX,
    DOTS_MAX,
    INT_MAX,
    INT_MIN,
    NAME_CHARACTERS_MAX,
    SMALL_MAP_ITEMS,
    SMALL_TEXT_CHARACTERS,
    VALUE_BYTES_MAX,
    VALUE_DEPTH_MAX,
    Add,
    Chunk,
    Create,
    Delete,
    Log,
    Operation,
    Remove,
    Set,
    Unknown,
    encode_operation,
    operation_untrusted,
    why_bad_value,
)
from meshnode.errors import UntrustedInputError

OBJECT = ObjectId(b"o" * 16)
LOG = LogId(b"l" * 32)
DOT = [LOG, 1, 0]

names = st.text("abcxyz019._-", min_size=1, max_size=64)
objects = st.binary(min_size=16, max_size=16).map(ObjectId)
logs = st.binary(min_size=32, max_size=32).map(LogId)
dots = st.sets(st.builds(Dot, logs, st.integers(1, SEQ_MAX), st.integers(0, OP_INDEX_MAX)), max_size=4).map(
    lambda found: tuple(sorted(found))
)
text = st.text(st.characters(exclude_categories=["Cs"]), max_size=8)
values = st.recursive(
    st.none() | st.booleans() | st.integers(INT_MIN, INT_MAX) | text | st.binary(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(text, inner, max_size=3),
    max_leaves=6,
).filter(lambda value: not why_bad_value(value))
extras = st.lists(values, max_size=2).map(tuple)
operations = st.one_of(
    st.builds(Set, names, objects, names, values, dots, extras),
    st.builds(Add, names, objects, names, values, extras),
    st.builds(Remove, names, objects, names, dots, extras),
    st.builds(Create, names, objects, extras),
    st.builds(Delete, names, objects, dots, extras),
    st.builds(Log, st.dictionaries(text, st.integers(0, 9), max_size=3), extras),
    st.builds(Chunk, objects, st.integers(0, CHUNK_INDEX_MAX), st.binary(min_size=1, max_size=64), extras),
    st.builds(Unknown, st.integers(8, CODE_MAX), extras),
)


@given(operations)
@settings(max_examples=200, deadline=None)
def test_an_operation_comes_back_from_its_bytes_unchanged(operation: Operation) -> None:
    data = codec.encode(encode_operation(operation))
    assert operation_untrusted(codec.decode_untrusted(data, 10**6)) == operation


@given(operations, st.data())
@settings(max_examples=200, deadline=None)
def test_a_damaged_operation_is_refused_or_is_another_operation_and_nothing_else_escapes(
    operation: Operation, data: st.DataObject
) -> None:
    encoded = encode_operation(operation)
    encoded[data.draw(st.integers(0, len(encoded) - 1))] = data.draw(values)
    refusals = []
    try:
        operation_untrusted(encoded)
    except UntrustedInputError as error:
        refusals.append(error)
    assert all(error.code.startswith("operation-") and error.action for error in refusals)


@pytest.mark.parametrize(
    ("value", "code"),
    [
        (None, "operation-bad-form"),
        ([], "operation-bad-form"),
        ({1: 2}, "operation-bad-form"),
        (["set"], "operation-bad-code"),
        ([True], "operation-bad-code"),
        ([0], "operation-bad-code"),
        ([-1], "operation-bad-code"),
        ([CODE_MAX + 1], "operation-bad-code"),
        ([1, "persons", OBJECT, "role", "x"], "operation-bad-form"),
        ([4, "persons"], "operation-bad-form"),
        ([4, "Persons", OBJECT], "operation-bad-name"),
        ([4, "", OBJECT], "operation-bad-name"),
        ([4, "a" * 65, OBJECT], "operation-bad-name"),
        ([4, "persons\n", OBJECT], "operation-bad-name"),
        ([4, b"persons", OBJECT], "operation-bad-name"),
        ([2, "persons", OBJECT, "rôle", "x"], "operation-bad-name"),
        ([4, "persons", OBJECT[1:]], "operation-bad-object"),
        ([4, "persons", "o" * 16], "operation-bad-object"),
        ([2, "persons", OBJECT, "role", 1.5], "operation-bad-value"),
        ([2, "persons", OBJECT, "role", INT_MAX + 1], "operation-bad-value"),
        ([2, "persons", OBJECT, "role", INT_MIN - 1], "operation-bad-value"),
        ([2, "persons", OBJECT, "role", {1: "x"}], "operation-bad-value"),
        ([2, "persons", OBJECT, "role", {"a\ud800": 1}], "operation-bad-value"),
        ([2, "persons", OBJECT, "role", "\udfff"], "operation-bad-value"),
        ([2, "persons", OBJECT, "role", ["é", ("tuple",)]], "operation-bad-value"),
        ([6, "text"], "operation-bad-record"),
        ([6, {"text": 0.5}], "operation-bad-value"),
        ([7, OBJECT, -1, b"x"], "operation-bad-chunk"),
        ([7, OBJECT, CHUNK_INDEX_MAX + 1, b"x"], "operation-bad-chunk"),
        ([7, OBJECT, False, b"x"], "operation-bad-chunk"),
        ([7, OBJECT, 0, b""], "operation-bad-chunk"),
        ([7, OBJECT, 0, bytes(CHUNK_BYTES_MAX + 1)], "operation-bad-chunk"),
        ([7, OBJECT, 0, "text"], "operation-bad-chunk"),
        ([3, "persons", OBJECT, "role", None], "operation-bad-dots"),
        ([3, "persons", OBJECT, "role", [None]], "operation-bad-dots"),
        ([3, "persons", OBJECT, "role", [[LOG, 1]]], "operation-bad-dots"),
        ([3, "persons", OBJECT, "role", [[LOG[1:], 1, 0]]], "operation-bad-dots"),
        ([3, "persons", OBJECT, "role", [["l" * 32, 1, 0]]], "operation-bad-dots"),
        ([3, "persons", OBJECT, "role", [[LOG, 0, 0]]], "operation-bad-dots"),
        ([3, "persons", OBJECT, "role", [[LOG, SEQ_MAX + 1, 0]]], "operation-bad-dots"),
        ([3, "persons", OBJECT, "role", [[LOG, 1, OP_INDEX_MAX + 1]]], "operation-bad-dots"),
        ([3, "persons", OBJECT, "role", [DOT, DOT]], "operation-bad-dots"),
        ([3, "persons", OBJECT, "role", [[LOG, 2, 0], DOT]], "operation-bad-dots"),
        ([5, "persons", OBJECT, [[LOG, seq, 0] for seq in range(1, DOTS_MAX + 2)]], "operation-bad-dots"),
    ],
)
def test_what_is_malformed_is_refused_with_its_reason(value: Any, code: str) -> None:
    with pytest.raises(UntrustedInputError) as refusal:
        operation_untrusted(value)
    assert refusal.value.code == code


def test_as_many_dots_as_the_limit_are_taken() -> None:
    listed = [[LOG, seq, 0] for seq in range(1, DOTS_MAX + 1)]
    operation = operation_untrusted([5, "persons", OBJECT, listed])
    assert isinstance(operation, Delete)
    assert len(operation.seen) == DOTS_MAX


def test_items_that_a_newer_version_appends_are_kept() -> None:
    operation = operation_untrusted([4, "persons", OBJECT, "why", 3])
    assert operation == Create("persons", OBJECT, ("why", 3))
    assert encode_operation(operation) == [4, "persons", OBJECT, "why", 3]


def test_an_operation_of_a_newer_version_is_kept_as_it_came() -> None:
    raw = [8, {"anything": [1, 2]}, b"x"]
    operation = operation_untrusted(raw)
    assert operation == Unknown(8, ({"anything": [1, 2]}, b"x"))
    assert encode_operation(operation) == raw


@pytest.mark.parametrize("filler", ["a", "€", b"a"])
def test_a_value_of_the_largest_encoded_size_is_taken_and_one_byte_more_is_not(filler: Any) -> None:
    unit = len(filler.encode() if isinstance(filler, str) else filler)
    room = VALUE_BYTES_MAX - 3
    whole = filler * (room // unit)
    assert len(codec.encode(whole)) == VALUE_BYTES_MAX
    assert why_bad_value(whole) == ""
    assert "at most" in why_bad_value(whole + filler)


@pytest.mark.parametrize("count", [SMALL_MAP_ITEMS, SMALL_MAP_ITEMS + 1])
@pytest.mark.parametrize("characters", [SMALL_TEXT_CHARACTERS, SMALL_TEXT_CHARACTERS + 1, 3_000])
def test_the_size_of_a_map_is_judged_alike_however_it_is_told(count: int, characters: int) -> None:
    value = {f"{number:02}".ljust(NAME_CHARACTERS_MAX, "x"): "\U0001f6a8" * characters for number in range(count)}
    assert bool(why_bad_value(value)) == (len(codec.encode(value)) > VALUE_BYTES_MAX)
    assert bool(why_bad_value(value | {"x" * 60_000: 1})) is True


def test_values_nest_as_deep_as_the_limit_and_no_deeper() -> None:
    value: Any = "leaf"
    for _ in range(VALUE_DEPTH_MAX):
        value = [value]
    assert why_bad_value(value) == ""
    assert "deep" in why_bad_value({"more": value})


def test_the_deepest_value_fits_the_depth_of_an_entry() -> None:
    value: Any = "leaf"
    for _ in range(VALUE_DEPTH_MAX):
        value = [value]
    body = [1, [encode_operation(Set("persons", OBJECT, "x-a", value))]]
    assert codec.decode_untrusted(codec.encode([body]), 10**6) == [body]
