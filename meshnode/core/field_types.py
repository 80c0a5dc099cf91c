"""The types a field of the incident model can have.

Each type is a small frozen record that answers two questions: ``why_bad(value)``, empty when the value has the type,
and ``text``, its description for people, for refusals and for docs/incident-model.md. Values are in mesh form: no
floating-point numbers, geometry as integers.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from meshnode.core.geometry import is_mesh_geometry
from meshnode.core.operations import why_bad_value

TEXT_BYTES_MAX = 1024
"""A name, a title, a headline: what is shown in one line or table cell."""
PROSE_BYTES_MAX = 16 * 1024
"""A description: CAP instructions in use reach 6 KiB, and three of these still fit one entry."""


@dataclass(frozen=True, slots=True)
class Text:
    bytes_max: int = TEXT_BYTES_MAX
    form: str = "text"

    @property
    def text(self) -> str:
        return f"{self.form} of at most {self.bytes_max} bytes"

    def why_bad(self, value: Any) -> str:
        fits = isinstance(value, str) and len(value) <= self.bytes_max
        if fits and not value.isascii():
            fits = not why_bad_value(value) and len(value.encode()) <= self.bytes_max
        return "" if fits else f"must be {self.text}"


@dataclass(frozen=True, slots=True)
class Pattern:
    """Text of a fixed form."""

    form: str
    """What it looks like, for people."""
    expression: str

    @property
    def text(self) -> str:
        return f"text, {self.form}"

    def why_bad(self, value: Any) -> str:
        fits = isinstance(value, str) and re.fullmatch(self.expression, value, re.ASCII) is not None
        return "" if fits else f"must be {self.text}"


@dataclass(frozen=True, slots=True)
class Choice:
    values: tuple[str, ...]

    @property
    def text(self) -> str:
        return "one of " + ", ".join(self.values)

    def why_bad(self, value: Any) -> str:
        return "" if isinstance(value, str) and value in self.values else f"must be {self.text}"


@dataclass(frozen=True, slots=True)
class Integer:
    """Its unit is in the field's name."""

    low: int
    high: int

    @property
    def text(self) -> str:
        return f"an integer from {self.low} to {self.high}"

    def why_bad(self, value: Any) -> str:
        return "" if type(value) is int and self.low <= value <= self.high else f"must be {self.text}"


@dataclass(frozen=True, slots=True)
class Timestamp:
    """RFC 3339, as CAP writes it: ``2026-03-01T09:05:00+01:00``. Leap seconds are not accepted."""

    text = "a time with date and offset (RFC 3339)"

    def why_bad(self, value: Any) -> str:
        if isinstance(value, str) and _RFC3339.fullmatch(value):
            try:
                datetime.fromisoformat(value)
            except ValueError:
                return f"must be {self.text}"
            return ""
        return f"must be {self.text}"


_RFC3339 = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d{1,6})?(Z|[+-]\d\d:\d\d)", re.ASCII)


@dataclass(frozen=True, slots=True)
class Flag:
    text = "true or false"

    def why_bad(self, value: Any) -> str:
        return "" if isinstance(value, bool) else f"must be {self.text}"


@dataclass(frozen=True, slots=True)
class Geometry:
    text = "a GeoJSON geometry"

    def why_bad(self, value: Any) -> str:
        return "" if is_mesh_geometry(value) else f"must be {self.text}"


@dataclass(frozen=True, slots=True)
class Map:
    """A small record of somebody else's format, kept whole."""

    text = "a map of plain values"

    def why_bad(self, value: Any) -> str:
        return why_bad_value(value) if isinstance(value, dict) else f"must be {self.text}"


FieldType = Text | Pattern | Choice | Integer | Timestamp | Flag | Geometry | Map

LINE = Text()
PROSE = Text(PROSE_BYTES_MAX)
CODE = Text(64)
TIMESTAMP = Timestamp()
FLAG = Flag()
GEOMETRY = Geometry()
NAMED = Pattern("name=value", r"[^=]{1,1024}=(?s:.{0,16384})")
PLAIN_MAP = Map()
REFERENCE = Pattern("the id of an object (32 lowercase hexadecimal digits)", r"[0-9a-f]{32}")
SHA256 = Pattern("64 lowercase hexadecimal digits", r"[0-9a-f]{64}")
DECIMAL = Pattern("a decimal number such as 12.5", r"[+-]?(\d{1,20}(\.\d{0,30})?|\.\d{1,30})")
PARTIAL_DATE = Pattern("a date YYYY-MM-DD, or as much of it as is known", r"\d{4}(-\d\d(-\d\d)?)?")
LANGUAGE = Pattern("a language tag such as nl or fr-BE", r"[A-Za-z]{1,8}(-[A-Za-z0-9]{1,8}){0,15}")
COUNTRY = Pattern("an ISO 3166 country code of 2 or 3 capitals", r"[A-Z]{2,3}")
CIRCLE = Pattern(
    "latitude,longitude radius_km as in CAP",
    r"-?\d{1,2}(\.\d{1,15})?,-?\d{1,3}(\.\d{1,15})? \d{1,5}(\.\d{1,15})?",
)


def count(high: int = 100_000_000) -> Integer:
    return Integer(0, high)
