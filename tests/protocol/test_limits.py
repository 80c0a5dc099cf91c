"""protocol/limits.md names every limit with the number that the code enforces."""

from __future__ import annotations

import dataclasses
import importlib
import inspect
import re
from types import ModuleType
from typing import Any

import pytest
from vector_case import VECTORS

from meshnode.core.epochs import BUCKETS

LIMITS = (VECTORS.parent / "limits.md").read_text(encoding="utf-8")
_ROW = r"^\| ([^|]+) \| ([0-9][^|]*) \| [^|]+ \| `([a-z0-9_.]+):([A-Za-z_.0-9]+)` \| (agreed|own) \|$"
ROWS = re.findall(_ROW, LIMITS, re.M)

AGREED_ROOMS = (
    *("acts", "attachments", "causal", "certificates", "codec", "crdt", "entry", "epochs", "geometry", "gossip"),
    *("hello", "ids", "operations", "prekeys", "roster", "sync", "wire"),
)
ELSEWHERE = {
    "hello.HELLO_BYTES_MAX": "the transport cuts a hello off at 8,188 bytes before this is asked",
    "prekeys.CLOCK_STEP_MS_MAX": "how a node counts its own time",
}


def number(text: str) -> float:
    """``1,048,576 bytes``, ``2^53 - 1 ms`` or ``0.25 s`` without the unit."""
    match = re.match(r"(?:(\d+)\^(\d+)(?: - (\d+))?|([\d,.]+))(?= |$)", text)
    assert match is not None, text
    base, exponent, less, plain = match.groups()
    return float(plain.replace(",", "")) if plain else int(base) ** int(exponent) - int(less or 0)


def constant(module: ModuleType, path: str) -> Any:
    name, _, setting = path.partition(".")
    found = getattr(module, name)
    if not setting:
        return found
    return next(field.default for field in dataclasses.fields(found) if field.name == setting)


@pytest.mark.parametrize("row", ROWS, ids=lambda row: f"{row[2]}:{row[3]}")
def test_the_number_is_the_one_that_the_code_enforces(row: tuple[str, str, str, str, str]):
    _, text, module, path, _ = row
    assert constant(importlib.import_module(f"meshnode.{module}"), path) == number(text)


def test_every_line_of_the_tables_was_understood():
    lines = [line for line in LIMITS.splitlines() if line.startswith("|") and not line.startswith(("| limit", "|---"))]
    assert len(lines) == len(ROWS)
    assert len({row[2:4] for row in ROWS}) == len(ROWS)


@pytest.mark.parametrize("room", AGREED_ROOMS)
def test_no_maximum_of_a_room_that_speaks_with_peers_is_left_out(room: str):
    module = importlib.import_module(f"meshnode.core.{room}")
    named = {path for _, _, where, path, _ in ROWS if where == f"core.{room}"}
    own = {name for name in vars(module) if re.fullmatch(r"[A-Z][A-Z0-9_]*_MAX", name) and _is_defined_in(module, name)}
    assert own - named - {name.split(".")[1] for name in ELSEWHERE if name.startswith(f"{room}.")} == set()


def _is_defined_in(module: ModuleType, name: str) -> bool:
    return re.search(rf"^{name}\b[^=]*=", inspect.getsource(module), re.M) is not None


def test_the_buckets_of_boxes_are_the_ones_in_the_text():
    assert f"Buckets of boxes: {', '.join(map(str, BUCKETS))} (" in LIMITS
