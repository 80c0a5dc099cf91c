"""protocol/wire.cddl takes every structure of the vectors that is well formed, and refuses what is not."""

from __future__ import annotations

import random
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from schema_support import takes
from vector_case import Case, read_cases

from meshnode.core import codec

DESCRIBED = [case for case in read_cases() if case.cddl is not None]

WHERE = {
    "bundle": ("bundle", "valid"),
    "hello": ("hello", "from-dialler"),
    "prekey-record": ("prekey", "valid"),
    "epoch-package": ("package", "opens"),
    "epoch-body": ("epoch-body", "parents"),
    "content": ("content", "epoch"),
    "set": ("operation", "set-replaces"),
    "run": ("message", "run"),
    "heights": ("message", "heights"),
    "roster-records": ("message", "roster-records"),
    "geometry": ("geometry", "polygon-with-hole"),
}
"""A valid case of each structure that is mutated below."""


def bytes_of(case: Case) -> bytes:
    assert case.cddl is not None
    return bytes.fromhex(case.input[case.cddl["of"]])


@pytest.mark.parametrize("case", DESCRIBED, ids=lambda case: case.path)
def test_the_schema_agrees_with_the_vector(case: Case):
    assert case.cddl is not None
    assert takes(case.cddl["rule"], bytes_of(case)) == case.cddl["matches"]


@pytest.mark.parametrize("case", DESCRIBED, ids=lambda case: case.path)
def test_what_the_schema_refuses_the_code_refuses_too(case: Case):
    assert case.cddl is not None
    if not case.cddl["matches"]:
        assert "refusal" in case.expect or case.expect["ok"] == {"geometry": False}


def test_every_message_has_a_case_that_the_schema_takes():
    taken = [case for case in DESCRIBED if case.kind == "message" and "ok" in case.expect]
    assert {codec.decode_trusted(bytes_of(case))[0] for case in taken} == set(range(1, 16))
    assert all(takes("message", bytes_of(case)) for case in taken)


def _case(kind: str, name: str) -> Case:
    return next(case for case in DESCRIBED if (case.kind, case.path.split("/")[1]) == (kind, f"{name}.json"))


VALID = {rule: bytes_of(_case(*where)) for rule, where in WHERE.items()}


@pytest.mark.parametrize("rule", WHERE)
def test_leaving_out_or_doubling_a_required_item_is_refused(rule: str):
    value = codec.decode_trusted(VALID[rule])
    items = list(value) if isinstance(value, list) else None
    if items is None:
        for key in (1, 2):
            assert not takes(rule, codec.encode({k: v for k, v in value.items() if k != key}))
        return
    for index in range(len(items)):
        assert not takes(rule, codec.encode(items[:index] + items[index + 1 :])) or rule == "geometry"
    assert not takes(rule, codec.encode([items[0], *items]))


_STRANGE: list[Any] = [None, True, -1, 2**64 - 1, b"", b"\x00" * 31, "", "A B", [], {}, [[]], {"a": 1}]


@settings(max_examples=150, deadline=None)
@given(rule=st.sampled_from(sorted(WHERE)), seed=st.integers(0, 2**32))
def test_an_item_of_another_type_is_refused(rule: str, seed: int):
    """Replaces one item, at any depth outside the open ends, by one that has another type or length."""
    source = random.Random(seed)
    value = codec.decode_trusted(VALID[rule])
    changed = _replace_one(value, source)
    if codec.encode(changed) != VALID[rule] and not _is_free(rule, changed):
        assert not takes(rule, codec.encode(changed)), changed


def _replace_one(value: Any, source: random.Random) -> Any:
    if isinstance(value, list) and value and source.random() < 0.8:
        index = source.randrange(len(value))
        return [*value[:index], _replace_one(value[index], source), *value[index + 1 :]]
    if isinstance(value, dict) and value and source.random() < 0.8:
        key = source.choice(sorted(value))
        return {**value, key: _replace_one(value[key], source)}
    strange = [item for item in _STRANGE if type(item) is not type(value)]
    return source.choice(strange)


def _is_free(rule: str, changed: Any) -> bool:
    """Where the protocol itself takes anything: the value of a Set, acts of any form, a missing package."""
    if type(changed) is not type(codec.decode_trusted(VALID[rule])):
        return False
    if rule == "set":
        return takes("value", codec.encode(changed[4])) and changed[4] != "Release"
    if rule == "content":
        original = codec.decode_trusted(VALID["content"])
        return bool(codec.encode(changed.get(4)) != codec.encode(original[4]) or changed.get(6) is None)
    if rule == "run":
        row = changed[6][0] if isinstance(changed[6], list) and changed[6] else None
        return isinstance(row, list) and len(row) == 3 and isinstance(row[2], bytes)
    return False
