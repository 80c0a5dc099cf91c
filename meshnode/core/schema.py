"""The incident model: which collections and fields this version knows, and what may stand in them.

An incident is one root object and collections of objects with typed fields. A field is a *register* (one value;
concurrent writes all stay until somebody resolves them) or a *set*.

The model binds local writes only: a misspelt field is refused where it is typed, with the nearest known name. What
other members wrote is never refused for its type: a newer version may know more. It is kept, merged, passed on and
shown, and flagged when it does not have the type known here. Names that begin with ``x-`` are free for any use, in
any collection; so are whole collections whose name begins so.
"""

from __future__ import annotations

import difflib
from typing import Any

from meshnode.core.field_types import GEOMETRY
from meshnode.core.geometry import geometry_from_mesh, geometry_to_mesh
from meshnode.core.operations import is_name, why_bad_value
from meshnode.core.schema_fields import FIELDS, KINDS, RECORD, Field
from meshnode.errors import RefusedError

__all__ = [
    "FIELDS",
    "FREE_PREFIX",
    "KINDS",
    "RECORD",
    "Field",
    "check_collection",
    "check_field",
    "check_local",
    "check_record",
    "known_field",
    "plain_value",
    "view_value",
    "well_typed",
]

FREE_PREFIX = "x-"


def known_field(collection: str, field: str) -> Field | None:
    """What this version knows of a field; None for free and for unknown ones."""
    return FIELDS.get(collection, {}).get(field)


def well_typed(collection: str, field: str, value: Any) -> bool:
    """Whether a value in mesh form has the type known here. What is not known here cannot be wrong."""
    known = known_field(collection, field)
    return known is None or not known.type.why_bad(value)


def check_collection(collection: str) -> None:
    """Refuses a local write to a collection that is neither known nor free: RefusedError ``unknown-collection``."""
    if collection in FIELDS or (collection.startswith(FREE_PREFIX) and is_name(collection)):
        return
    raise RefusedError(
        "unknown-collection",
        f"there is no collection {_shown(collection)}{_nearest(collection, list(FIELDS))}",
        "choose one of docs/incident-model.md, or a name of your own that begins with x-",
    )


def check_local(collection: str, field: str, value: Any) -> Any:
    """The value of a local write in mesh form.

    Raises RefusedError ``unknown-collection``, ``unknown-field``, ``bad-value`` or ``bad-geometry``.
    """
    check_field(collection, field)
    known = known_field(collection, field)
    if known is not None and known.type == GEOMETRY:
        return geometry_to_mesh(value)
    why = known.type.why_bad(value) if known is not None else why_bad_value(value)
    if why:
        raise RefusedError("bad-value", f"{field}: {why}", "correct the value; docs/incident-model.md lists the types")
    return value


def check_field(collection: str, field: str) -> None:
    """Refuses a field that is neither known nor free: RefusedError ``unknown-collection`` or ``unknown-field``."""
    check_collection(collection)
    known = FIELDS.get(collection)
    free = field.startswith(FREE_PREFIX) or known is None
    if (known is not None and field in known) or (free and is_name(field)):
        return
    raise RefusedError(
        "unknown-field",
        f"{collection} has no field {_shown(field)}{_nearest(field, list(known or ()))}",
        "choose a field of docs/incident-model.md, or a name of your own that begins with x-",
    )


def check_record(record: Any) -> dict[str, Any]:
    """The record of a local log operation. Raises RefusedError ``unknown-field`` or ``bad-value``."""
    if not isinstance(record, dict) or not isinstance(record.get("text"), str) or not record["text"]:
        raise RefusedError("bad-value", "a record of the log book is a map with text", "send {'text': ...}")
    for key, value in record.items():
        known = RECORD.get(key)
        if known is None and not (isinstance(key, str) and key.startswith(FREE_PREFIX) and is_name(key)):
            raise RefusedError(
                "unknown-field",
                f"a record of the log book has no key {_shown(key)}{_nearest(str(key), list(RECORD))}",
                "use text, precedence, marking, category, or keys of your own that begin with x-",
            )
        why = known.type.why_bad(value) if known is not None else ""
        if why:
            raise RefusedError("bad-value", f"{key}: {why}", "correct the record")
    why = why_bad_value(record)
    if why:
        raise RefusedError("bad-value", why, "correct the record")
    return record


def view_value(collection: str, field: str, value: Any) -> Any:
    """A value as views show it: geometry in degrees, bytes as hexadecimal text."""
    if isinstance(value, str):
        return value
    if isinstance(value, list):
        known = known_field(collection, field)
        if known is not None and known.type == GEOMETRY and not known.type.why_bad(value):
            return geometry_from_mesh(value)
    return plain_value(value)


def plain_value(value: Any) -> Any:
    """The value with bytes as hexadecimal text, for JSON. Of maps with other keys than text: the keys as text."""
    if isinstance(value, bytes):
        return value.hex()
    if isinstance(value, (list, tuple)):
        return [plain_value(item) for item in value]
    if isinstance(value, dict):
        return {str(key): plain_value(item) for key, item in value.items()}
    return value


def _nearest(name: str, known: list[str]) -> str:
    near = difflib.get_close_matches(name, known, n=1)
    return f"; the nearest is {near[0]}" if near else ""


def _shown(name: object) -> str:
    return repr(str(name)[:64])
