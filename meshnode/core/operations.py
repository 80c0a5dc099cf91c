"""What an entry can ask a document to do: the closed set of operations, and their plain form.

An operation travels as an array, its code first, so that a newer version can append items and add codes:

| code | operation | items behind the code |
|---|---|---|
| 1 | Set | collection, object, field, value, dots it replaces |
| 2 | Add | collection, object, field, value |
| 3 | Remove | collection, object, field, dots that leave the set |
| 4 | Create | collection, object |
| 5 | Delete | collection, object, dots of the object that the author saw |
| 6 | Log | record (a map) |
| 7 | Chunk | object (an attachment), index, bytes |

An operation is named by its place, the dot (log, seq, op), and never names itself. A dot inside an operation is the
array [log, seq, op]; lists of dots strictly ascend, so one list has one form.

Newer versions: a code this version does not know is kept whole as :class:`Unknown`. A known code with more items than
this version knows keeps them in ``extra``: they count in the digest, and mean nothing here. So a newer version may
append only what an older one can ignore without showing a false picture; anything else takes a new code.
"""

from __future__ import annotations

import itertools
import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from meshnode.core import codec
from meshnode.core.ids import LOG_ID_BYTES, OBJECT_ID_BYTES, OP_INDEX_MAX, SEQ_MAX, Dot, LogId, ObjectId
from meshnode.errors import UntrustedInputError

NAME_CHARACTERS_MAX = 64
"""Collection and field names: ours need 20 characters; free ``x-`` names of applications want a prefix."""
VALUE_BYTES_MAX = 48 * 1024
"""Encoded size of one value: a geometry of 2,000 positions with altitude needs 30 KiB, and an entry holds 64 KiB."""
VALUE_DEPTH_MAX = 4
"""Arrays and maps inside each other in one value: a GeometryCollection with a MultiPolygon (mesh form) needs 4; an
entry's body, its list of operations and the operation are 3 more, and core/codec.py stops at 8."""
SMALL_MAP_ITEMS = 16
SMALL_TEXT_CHARACTERS = 512
"""A map of so many names and such texts has at most 37 KiB: see ``_is_small``."""
DOTS_MAX = 256
"""Dots in one list: 10 KiB. A set with more elements is emptied, and a larger object is deleted, in several changes."""
CHUNK_BYTES_MAX = 32 * 1024
"""One piece of an attachment: two fit an entry, and a 16 kbit/s link carries one in 16 s."""
CHUNK_INDEX_MAX = 65_535
CODE_MAX = 2**32 - 1
INT_MIN, INT_MAX = -(2**63), 2**63 - 1
"""Integers that every language can hold."""

_NAME = re.compile(r"[a-z0-9._-]{1,64}", re.ASCII)


@dataclass(frozen=True, slots=True)
class Set:
    """Write a register: ``value`` takes the place of the values named in ``replaces``."""

    collection: str
    object: ObjectId
    field: str
    value: Any
    replaces: tuple[Dot, ...] = ()
    extra: tuple[Any, ...] = ()


@dataclass(frozen=True, slots=True)
class Add:
    """Put ``value`` into a set, as an element named by this operation's dot."""

    collection: str
    object: ObjectId
    field: str
    value: Any
    extra: tuple[Any, ...] = ()


@dataclass(frozen=True, slots=True)
class Remove:
    """Take the named elements out of a set."""

    collection: str
    object: ObjectId
    field: str
    dots: tuple[Dot, ...]
    extra: tuple[Any, ...] = ()


@dataclass(frozen=True, slots=True)
class Create:
    """Bring an object into being before it has fields."""

    collection: str
    object: ObjectId
    extra: tuple[Any, ...] = ()


@dataclass(frozen=True, slots=True)
class Delete:
    """Delete what the author saw of an object; what the author did not see shows it again."""

    collection: str
    object: ObjectId
    seen: tuple[Dot, ...]
    extra: tuple[Any, ...] = ()


@dataclass(frozen=True, slots=True)
class Log:
    """Append a record to the log book."""

    record: dict[str, Any]
    extra: tuple[Any, ...] = ()


@dataclass(frozen=True, slots=True)
class Chunk:
    """One piece of an attachment's bytes."""

    object: ObjectId
    index: int
    data: bytes
    extra: tuple[Any, ...] = ()


@dataclass(frozen=True, slots=True)
class Unknown:
    """An operation of a newer version, as it came."""

    code: int
    arguments: tuple[Any, ...]


Operation = Set | Add | Remove | Create | Delete | Log | Chunk | Unknown

SET, ADD, REMOVE, CREATE, DELETE, LOG, CHUNK = range(1, 8)


def encode_operation(operation: Operation) -> list[Any]:
    """The plain form for core/codec."""
    match operation:
        case Set(collection, obj, field, value, replaces, extra):
            return [SET, collection, obj, field, value, encode_dots(replaces), *extra]
        case Add(collection, obj, field, value, extra):
            return [ADD, collection, obj, field, value, *extra]
        case Remove(collection, obj, field, dots, extra):
            return [REMOVE, collection, obj, field, encode_dots(dots), *extra]
        case Create(collection, obj, extra):
            return [CREATE, collection, obj, *extra]
        case Delete(collection, obj, seen, extra):
            return [DELETE, collection, obj, encode_dots(seen), *extra]
        case Log(record, extra):
            return [LOG, record, *extra]
        case Chunk(obj, index, data, extra):
            return [CHUNK, obj, index, data, *extra]
        case _:
            return [operation.code, *operation.arguments]


def encode_dots(dots: tuple[Dot, ...]) -> list[list[Any]]:
    return [[log, seq, op] for log, seq, op in dots]


def named_dots(operation: Operation) -> tuple[Dot, ...]:
    """The values that the operation replaces, removes or deletes."""
    match operation:
        case Set(replaces=dots) | Remove(dots=dots) | Delete(seen=dots):
            return dots
    return ()


def operation_untrusted(value: Any) -> Operation:
    """The operation in a decoded array. Raises UntrustedInputError ``operation-*``; nothing else escapes.

    ``value`` has passed ``codec.decode_untrusted``: its size and nesting are bounded, and it holds no floats.
    """
    if not isinstance(value, list) or not value:
        raise _refuse("operation-bad-form", "an operation is an array that begins with its code")
    code = value[0]
    if not _is_int(code, 1, CODE_MAX):
        raise _refuse("operation-bad-code", "the code of an operation is a positive integer of at most 32 bits")
    known = _KNOWN.get(code)
    if known is None:
        return Unknown(code, tuple(value[1:]))
    items, build = known
    if len(value) <= items:
        raise _refuse("operation-bad-form", f"operation {code} needs {items} items behind its code")
    return build(value[1 : items + 1], tuple(value[items + 1 :]))


def _set(items: list[Any], extra: tuple[Any, ...]) -> Operation:
    return Set(*_field_of(items), checked_value(items[3]), _dots(items[4]), extra)


def _add(items: list[Any], extra: tuple[Any, ...]) -> Operation:
    return Add(*_field_of(items), checked_value(items[3]), extra)


def _remove(items: list[Any], extra: tuple[Any, ...]) -> Operation:
    return Remove(*_field_of(items), _dots(items[3]), extra)


def _create(items: list[Any], extra: tuple[Any, ...]) -> Operation:
    return Create(_name(items[0]), _object(items[1]), extra)


def _delete(items: list[Any], extra: tuple[Any, ...]) -> Operation:
    return Delete(_name(items[0]), _object(items[1]), _dots(items[2]), extra)


def _log(items: list[Any], extra: tuple[Any, ...]) -> Operation:
    if not isinstance(items[0], dict):
        raise _refuse("operation-bad-record", "a record of the log book is a map")
    return Log(checked_value(items[0]), extra)


def _chunk(items: list[Any], extra: tuple[Any, ...]) -> Operation:
    obj, index, data = _object(items[0]), items[1], items[2]
    if not _is_int(index, 0, CHUNK_INDEX_MAX):
        raise _refuse("operation-bad-chunk", f"the index of a chunk is an integer from 0 to {CHUNK_INDEX_MAX}")
    if not isinstance(data, bytes) or not 1 <= len(data) <= CHUNK_BYTES_MAX:
        raise _refuse("operation-bad-chunk", f"a chunk has 1 to {CHUNK_BYTES_MAX} bytes")
    return Chunk(obj, index, data, extra)


_KNOWN: dict[int, tuple[int, Callable[[list[Any], tuple[Any, ...]], Operation]]] = {
    SET: (5, _set),
    ADD: (4, _add),
    REMOVE: (4, _remove),
    CREATE: (2, _create),
    DELETE: (3, _delete),
    LOG: (1, _log),
    CHUNK: (3, _chunk),
}


def is_name(value: Any) -> bool:
    """Whether this can name a collection or a field."""
    return isinstance(value, str) and _NAME.fullmatch(value) is not None


def checked_value(value: Any) -> Any:
    """The value itself if it may stand in an operation, else UntrustedInputError ``operation-bad-value``."""
    why = why_bad_value(value)
    if why:
        raise _refuse("operation-bad-value", why)
    return value


def why_bad_value(value: Any) -> str:
    """What forbids this value in an operation; empty when nothing does."""
    why = _why_bad(value, 0)
    if why:
        return why
    if _is_small(value):
        return ""
    if isinstance(value, (str, bytes, list, dict)) and len(codec.encode(value)) > VALUE_BYTES_MAX:
        return f"a value has at most {VALUE_BYTES_MAX} bytes when encoded"
    return ""


def _is_small(value: Any) -> bool:
    """Surely within VALUE_BYTES_MAX, told without encoding it: a short text, as most values, or a small map of short
    texts and integers, as most records. UTF-8 and CBOR need at most four bytes a character and nine of head."""
    if isinstance(value, str):
        return 4 * len(value) + 9 <= VALUE_BYTES_MAX
    if isinstance(value, dict) and len(value) <= SMALL_MAP_ITEMS:
        return all(
            len(key) <= NAME_CHARACTERS_MAX
            and (isinstance(item, int) or (isinstance(item, str) and len(item) <= SMALL_TEXT_CHARACTERS))
            for key, item in value.items()
        )
    return False


def _why_bad(value: Any, depth: int) -> str:
    if value is None or isinstance(value, (bool, bytes)):
        return ""
    if isinstance(value, str):
        return "" if _is_unicode(value) else "text must not hold lone surrogates"
    if isinstance(value, int):
        return "" if INT_MIN <= value <= INT_MAX else "integers have at most 64 bits and a sign"
    if isinstance(value, (list, dict)):
        if depth >= VALUE_DEPTH_MAX:
            return f"lists and maps nest at most {VALUE_DEPTH_MAX} deep"
        if isinstance(value, dict):
            if not all(isinstance(key, str) and _is_unicode(key) for key in value):
                return "the keys of a map are text"
            value = value.values()
        return next((why for why in (_why_bad(item, depth + 1) for item in value) if why), "")
    if isinstance(value, float):
        return "floating-point numbers are not signed: use an integer with a unit, or decimal text"
    return f"values of type {type(value).__name__} cannot be stored"


def _is_unicode(text: str) -> bool:
    if text.isascii():
        return True
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def _field_of(items: list[Any]) -> tuple[str, ObjectId, str]:
    return _name(items[0]), _object(items[1]), _name(items[2])


def _name(value: Any) -> str:
    if not is_name(value):
        raise _refuse("operation-bad-name", f"names have 1 to {NAME_CHARACTERS_MAX} characters of a-z 0-9 . _ -")
    name: str = value
    return name


def _object(value: Any) -> ObjectId:
    if not isinstance(value, bytes) or len(value) != OBJECT_ID_BYTES:
        raise _refuse("operation-bad-object", f"an object id has {OBJECT_ID_BYTES} bytes")
    return ObjectId(value)


def _dots(value: Any) -> tuple[Dot, ...]:
    if not isinstance(value, list) or len(value) > DOTS_MAX:
        raise _refuse("operation-bad-dots", f"a list of at most {DOTS_MAX} dots is needed")
    dots = tuple(_dot(item) for item in value)
    if any(first >= second for first, second in itertools.pairwise(dots)):
        raise _refuse("operation-bad-dots", "the dots of a list strictly ascend")
    return dots


def _dot(value: Any) -> Dot:
    if isinstance(value, list) and len(value) == 3:
        log, seq, op = value
        if (
            isinstance(log, bytes)
            and len(log) == LOG_ID_BYTES
            and _is_int(seq, 1, SEQ_MAX)
            and _is_int(op, 0, OP_INDEX_MAX)
        ):
            return Dot(LogId(log), seq, op)
    raise _refuse("operation-bad-dots", "a dot is [log, seq, op]")


def _is_int(value: Any, low: int, high: int) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and low <= value <= high


def _refuse(code: str, reason: str) -> UntrustedInputError:
    return UntrustedInputError(code, reason, "the sender must use the operations of the protocol")
