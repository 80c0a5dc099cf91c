"""What the shell offers when a word is half typed: the words of the incident model. No daemon is asked.

Suggestions are no check. A newer daemon may take more words than this program knows, and says itself what it refuses.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING

import click

if TYPE_CHECKING:
    from meshnode.core.schema_fields import Field

Complete = Callable[[click.Context, click.Parameter, str], list[str]]


def kinds(_context: click.Context, _parameter: click.Parameter, incomplete: str) -> list[str]:
    """Kinds of incidents."""
    from meshnode.core.schema import KINDS

    return _begin(KINDS, incomplete)


def collections(_context: click.Context, _parameter: click.Parameter, incomplete: str) -> list[str]:
    """Collections that objects are added to."""
    from meshnode.core.schema import FIELDS

    return _begin((name for name in FIELDS if name != "incident"), incomplete)


def record_word(key: str) -> Complete:
    """The words that one key of a log-book record takes."""

    def complete(_context: click.Context, _parameter: click.Parameter, incomplete: str) -> list[str]:
        from meshnode.core.schema import RECORD

        return _begin(_words(RECORD[key]), incomplete)

    return complete


def fields(context: click.Context, _parameter: click.Parameter, incomplete: str) -> list[str]:
    """Fields of the object that --object names, if it stands before; else of the incident."""
    return _begin(_fields(context), incomplete)


def values(context: click.Context, _parameter: click.Parameter, incomplete: str) -> list[str]:
    """The words that the field named before takes."""
    field = _fields(context).get(_given(context, "field"))
    return _begin(_words(field), incomplete)


def assignments(context: click.Context, _parameter: click.Parameter, incomplete: str) -> list[str]:
    """``field=``, then the words that this field takes; ``field+=`` where it is a set."""
    known = _fields(context)
    name, equals, begun = incomplete.partition("=")
    if not equals:
        return _begin((f"{name}+=" if field.is_set else f"{name}=" for name, field in known.items()), incomplete)
    return [f"{name}={word}" for word in _begin(_words(known.get(name.removesuffix("+"))), begun)]


def _fields(context: click.Context) -> dict[str, Field]:
    from meshnode.core.schema import FIELDS

    named = _given(context, "collection") or _given(context, "object_text") or "incident"
    return FIELDS.get(named.partition("/")[0], {})


def _given(context: click.Context, name: str) -> str:
    """A parameter that stands before the cursor. Where that follows an option without its value, click has stopped
    half way and left the arguments as they are."""
    arguments = [parameter.name for parameter in context.command.params if isinstance(parameter, click.Argument)]
    given = context.params.get(name)
    if given is None and name in arguments[: len(context.args)]:
        given = context.args[arguments.index(name)]
    return given or ""


def _words(field: Field | None) -> tuple[str, ...]:
    from meshnode.core.field_types import Choice, Flag

    if field is None:
        return ()
    if isinstance(field.type, Flag):
        return ("true", "false")
    return field.type.values if isinstance(field.type, Choice) else ()


def _begin(words: Iterable[str], incomplete: str) -> list[str]:
    return [word for word in words if word.startswith(incomplete)]
