"""The codes that docs/reason-codes.md explains, each with its meaning and what to do about it."""

from __future__ import annotations

import re
from functools import lru_cache
from pathlib import Path

MANUAL = Path(__file__).resolve().parent.parent.parent / "docs" / "reason-codes.md"
_ROW = re.compile(r"\| (`[^|]+) \| [^|]+ \| [^|]+ \| [^|]+ \|")
"""Codes, who says them, meaning, what to do: none empty."""


@lru_cache(maxsize=1)
def explained() -> frozenset[str]:
    """Empty where the manual is not beside the program: then nobody can tell."""
    if not MANUAL.is_file():
        return frozenset()
    rows = (_ROW.match(line) for line in MANUAL.read_text("utf-8").splitlines())
    return frozenset(code for row in rows if row for code in re.findall(r"`([^`]+)`", row[1]))


def is_explained(code: str) -> bool:
    """What the other end said is looked up without its first word."""
    return code.removeprefix("peer-") in explained()
