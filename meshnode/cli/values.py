"""Values as people type them.

What is typed is text, and stays text unless the incident model says that the field holds a number, a yes/no, a geometry
or a map; then it is read as JSON. So ``--field title=112`` gives the title "112", ``injured_persons=112`` the number. A
field that this version does not know takes text, or JSON on demand. What is wrong is told by the daemon, which checks
every value; here nothing is refused that it might take.
"""

from __future__ import annotations

import json
from typing import Any, NamedTuple

import click

_JSON_STARTS = "{[-0123456789tfn"
"""How JSON begins when it is not text. Anything else is text without a look at the incident model."""


class Assignment(NamedTuple):
    """``name=value``, or ``name+=value`` for an element of a set."""

    field: str
    value: Any
    to_set: bool


def typed_value(collection: str, field: str, text: str, *, json_wanted: bool = False) -> Any:
    """The value that this text means for a field."""
    if json_wanted:
        try:
            return json.loads(text)
        except ValueError as error:
            raise click.UsageError(f"the value of {field} is not JSON: {error}") from None
    if not text or text[0] not in _JSON_STARTS:
        return text
    try:
        value = json.loads(text)
    except (ValueError, RecursionError):
        return text
    return value if _holds_json(collection, field) else text


def parse_assignment(collection: str, text: str) -> Assignment:
    """One ``name=value`` of the command line. Raises click.UsageError."""
    name, equals, value = text.partition("=")
    if not equals or not name.rstrip("+"):
        raise click.UsageError(f"{text!r} is no FIELD=VALUE (or FIELD+=VALUE for an element of a set)")
    field = name.removesuffix("+")
    return Assignment(field, typed_value(collection, field, value), field != name)


def _holds_json(collection: str, field: str) -> bool:
    from meshnode.core.field_types import Flag, Geometry, Integer, Map
    from meshnode.core.schema import known_field

    known = known_field(collection, field)
    return known is not None and isinstance(known.type, (Integer, Flag, Geometry, Map))
