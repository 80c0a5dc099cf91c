"""Durations and sizes as people write them: a number and its unit, ``"250ms"``, ``"24h"``, ``"64MiB"``.

A number without a unit is refused: nobody can tell whether a bare 10 was meant in seconds or milliseconds, and the
mistake shows only in an emergency. Units are exact and few; ``MB`` is not ``MiB``, so it is refused as well.
"""

from __future__ import annotations

import re

DURATION_UNITS_S = {"ms": 0.001, "s": 1.0, "min": 60.0, "h": 3600.0, "d": 86400.0}
SIZE_UNITS_BYTES = {"B": 1, "KiB": 2**10, "MiB": 2**20, "GiB": 2**30, "TiB": 2**40}

_NUMBER_AND_UNIT = re.compile(r"(?P<number>[0-9]{1,9}(?:\.[0-9]{1,3})?) ?(?P<unit>[A-Za-z]{1,4})\Z")


def parse_duration_s(text: str) -> float | None:
    """Seconds, or None when this is no duration."""
    found = _NUMBER_AND_UNIT.match(text)
    if found is None or found["unit"] not in DURATION_UNITS_S:
        return None
    return float(found["number"]) * DURATION_UNITS_S[found["unit"]]


def parse_size_bytes(text: str) -> int | None:
    """Bytes, or None when this is no size. A part of a byte is no size either."""
    found = _NUMBER_AND_UNIT.match(text)
    if found is None or found["unit"] not in SIZE_UNITS_BYTES:
        return None
    size_bytes = float(found["number"]) * SIZE_UNITS_BYTES[found["unit"]]
    return int(size_bytes) if size_bytes.is_integer() else None


def format_duration(seconds: float) -> str:
    """The shortest text that :func:`parse_duration_s` reads back as the same duration."""
    for unit, unit_s in reversed(DURATION_UNITS_S.items()):
        number = seconds / unit_s
        if number >= 1 and number == int(number):
            return f"{int(number)}{unit}"
    return f"{round(seconds * 1000)}ms"


def format_size(size_bytes: int) -> str:
    """The shortest text that :func:`parse_size_bytes` reads back as the same size."""
    for unit, unit_bytes in reversed(SIZE_UNITS_BYTES.items()):
        if size_bytes >= unit_bytes and size_bytes % unit_bytes == 0:
            return f"{size_bytes // unit_bytes}{unit}"
    return f"{size_bytes}B"
