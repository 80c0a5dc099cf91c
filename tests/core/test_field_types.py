"""What has a type and what has not, at the edges of each type."""

from __future__ import annotations

from typing import Any

import pytest

from meshnode.core import field_types as types
from meshnode.core.operations import VALUE_BYTES_MAX


@pytest.mark.parametrize(
    ("kind", "good", "bad"),
    [
        (types.LINE, ["", "Smoke", "é" * 512, "a" * 1024], [1, None, b"x", "é" * 513, "a" * 1025, "\ud800"]),
        (types.PROSE, ["a" * 16_384], ["a" * 16_385]),
        (types.Choice(("a", "b")), ["a"], ["A", "", 1, ["a"]]),
        (types.Integer(0, 359), [0, 359], [-1, 360, True, "7", None]),
        (
            types.TIMESTAMP,
            ["2026-03-01T09:05:00+01:00", "2026-03-01T09:05:00Z", "2026-03-01T09:05:00.25-00:00"],
            ["2026-03-01", "2026-03-01T09:05:00", "2026-02-30T09:05:00Z", "2026-03-01T09:05:61Z", 5, "now"],
        ),
        (types.FLAG, [True, False], [0, 1, "true", None]),
        (types.GEOMETRY, [[1, 2, [0, 0]]], [{"type": "Point", "coordinates": [0, 0]}, [1, 2, [0.0, 0]]]),
        (types.PLAIN_MAP, [{}, {"a": [1]}], [[], "a", {"a": 1.5}, {"a": "b" * VALUE_BYTES_MAX}]),
        (types.NAMED, ["SAME=CAE", "a=", "a=b=c", "a=two\nlines"], ["=b", "a", 5]),
        (types.REFERENCE, ["0" * 32, "ab" * 16], ["0" * 31, "AB" * 16, b"0" * 16, "0" * 32 + "\n"]),
        (types.SHA256, ["0" * 64], ["0" * 63]),
        (types.DECIMAL, ["12", "-12.5", "+.5", "7."], ["", ".", "1e3", "١", 5]),
        (types.PARTIAL_DATE, ["1980", "1980-07", "1980-07-14"], ["80", "1980-7", "14.07.1980"]),
        (types.LANGUAGE, ["nl", "fr-BE", "zh-Hant-TW"], ["", "fr_BE", "n" * 9]),
        (types.COUNTRY, ["BE", "DEU"], ["be", "B", "BEEF"]),
        (types.CIRCLE, ["50.8466,4.3528 1.5", "-0,0 20037.6"], ["50.8 4.3 1", "50.8,4.3", "91x,4 1"]),
    ],
    ids=lambda value: value.text[:20] if hasattr(value, "text") else "",
)
def test_a_type_takes_what_is_good_and_says_what_it_wants_of_the_rest(
    kind: types.FieldType, good: list[Any], bad: list[Any]
) -> None:
    assert [value for value in good if kind.why_bad(value)] == []
    assert [value for value in bad if not kind.why_bad(value)] == []
    assert kind.text
