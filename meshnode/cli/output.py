"""Printing: tables for people, JSON for programs, errors for both.

Titles, log records and names come from other organisations, some of them hostile. Whatever goes to a terminal is made
harmless first: control characters (which could clear the screen or set its title) and marks that reverse the direction
of writing are shown as escapes, never sent.
"""

from __future__ import annotations

import json
import unicodedata
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from types import NoneType
from typing import Any

import click

SHORT_ID = 8
"""Hexadecimal digits of an id in a table: enough that a NOC's open incidents rarely share a prefix."""
CELL_WIDTH_MAX = 60
"""Columns of a table cell; longer text is cut there, and whole with --json."""

_BIDI = "\u061c\u200e\u200f\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069"
_HARMFUL = {code: f"\\x{code:02x}" for code in [*range(0x20), *range(0x7F, 0xA0)]}
_HARMFUL |= {ord(mark): f"\\u{ord(mark):04x}" for mark in _BIDI + "\u2028\u2029"}
_JSON_HARMFUL = {code: f"\\u{code:04x}" for code in _HARMFUL if code >= 0x7F}


def harmless(text: str, keep: str = "") -> str:
    """Text that cannot steer a terminal. ``keep`` names control characters that may stay (newline, in a log record)."""
    return text.translate({code: escape for code, escape in _HARMFUL.items() if chr(code) not in keep})


def line(text: str) -> None:
    """One line on standard output; what is between the words of our own is harmless already or made so here."""
    click.echo(harmless(text))


def as_json(value: Any) -> None:
    """One JSON value, on one line. Records become objects."""
    click.echo(json_text(value))


def json_text(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False, default=_plain).translate(_JSON_HARMFUL)


def error(code: str, reason: str, action: str, json_wanted: bool, path: str = "") -> None:
    """The one form of every error, on standard error. ``path`` says which value of a request it is about."""
    if json_wanted:
        said = {"code": code, "reason": reason, "action": action} | ({"path": path} if path else {})
        click.echo(json_text({"error": said}), err=True)
        return
    click.echo(f"error: {code}: {harmless(reason)}", err=True)
    if action:
        click.echo(f"  what to do: {harmless(action)}", err=True)


def warning(text: str) -> None:
    """Something the person should know although the command went on."""
    click.echo(f"note: {harmless(text)}", err=True)


def table(heads: Sequence[str], rows: Sequence[Sequence[Any]]) -> None:
    """Aligned columns. Numbers stand on the right; the last column is not cut."""
    texts = [[_cell(value, last=at == len(heads) - 1) for at, value in enumerate(row)] for row in rows]
    right = [all(type(row[at]) in (int, float, NoneType) for row in rows) for at in range(len(heads))]
    widths = [max([_width(head), *(_width(row[at]) for row in texts)]) for at, head in enumerate(heads)]
    for row in [list(heads), *texts]:
        cells = [_pad(cell, widths[at], right[at] and bool(rows)) for at, cell in enumerate(row)]
        click.echo("  ".join(cells).rstrip())


def fields(pairs: Mapping[str, Any]) -> None:
    """``name  value`` lines, values aligned."""
    width = max(map(len, pairs), default=0)
    for name, value in pairs.items():
        click.echo(f"{name:<{width}}  {_cell(value, last=True)}".rstrip())


def short(identifier: str) -> str:
    """An id as tables show it; a value id (log.seq.op) keeps its position."""
    log, *position = identifier.split(".")
    return ".".join([log[:SHORT_ID], *position])


def time_utc(milliseconds: int | None) -> str:
    """``2026-03-01 12:00:05Z``. A hostile time that no calendar has is shown as its number."""
    if milliseconds is None:
        return "-"
    try:
        moment = datetime.fromtimestamp(milliseconds / 1000, tz=UTC)
    except (OverflowError, ValueError, OSError):
        return f"{milliseconds} ms"
    return moment.strftime("%Y-%m-%d %H:%M:%SZ")


def value_text(value: Any) -> str:
    """A field's value on one line: text as it is, everything else as JSON."""
    return value if isinstance(value, str) else json_text(value)


def _plain(value: Any) -> Any:
    import dataclasses

    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {item.name: getattr(value, item.name) for item in dataclasses.fields(value)}
    if hasattr(value, "__struct_fields__"):
        return {name: getattr(value, name) for name in value.__struct_fields__}
    if isinstance(value, bytes):
        return value.hex()
    raise TypeError(f"{type(value).__name__} is not printed")


def _cell(value: Any, *, last: bool) -> str:
    if value is None:
        return "-"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, float):
        return f"{value:.1f}"
    text = harmless(str(value))
    return text if last else cut(text)


def cut(text: str) -> str:
    """Text that fits a cell."""
    if _width(text) <= CELL_WIDTH_MAX:
        return text
    kept = ""
    for character in text:
        if _width(kept + character) >= CELL_WIDTH_MAX:
            break
        kept += character
    return kept + "…"


def _width(text: str) -> int:
    """Columns on a terminal: Greek and Cyrillic take one, a combining accent none, Chinese two."""
    if text.isascii():
        return len(text)
    return sum(
        0 if unicodedata.combining(character) else 2 if unicodedata.east_asian_width(character) in "WF" else 1
        for character in text
    )


def _pad(text: str, width: int, right: bool) -> str:
    space = " " * (width - _width(text))
    return space + text if right else text + space
