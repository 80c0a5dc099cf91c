"""Bodies: choosing between JSON and MessagePack, and the door through which a body comes in.

Both encodings carry one model: null, booleans, integers of 64 bits, finite floats (geometry only; the core says where),
text, lists, and objects with text keys. MessagePack adds byte strings, which JSON writes as base64; only the fields
that hold files take them. So a body is decoded in three steps, cheapest first:

1. size and number of items, before anything is built;
2. bytes to plain data, refusing what two parsers could read differently (duplicate keys, NaN, lone surrogates);
3. plain data to the typed record of the route (msgspec), refusing unknown fields, naming the path of what is wrong.

Values that an application may choose freely are checked by :func:`check_value_untrusted` where they are used.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from typing import Any, NamedTuple, NoReturn, TypeVar

import msgpack
import msgspec

from meshnode.api.problems import RequestError

ITEMS_MAX = 65_536
"""Values in one body, as in one message of the mesh. An incident's largest area has a few thousand points of three
values each; this bounds the time to scan, build and walk a body (60 ms) and what 2 MiB can unfold into."""

NESTING_MAX = 32
"""Nesting of a MessagePack body. GeoJSON in a change in a request needs 12."""

VALUE_NESTING_MAX = 16
"""Nesting of one free value. A GeoJSON GeometryCollection needs 8."""

INT_MIN, INT_MAX = -(2**63), 2**64 - 1

T = TypeVar("T")


class Format(NamedTuple):
    """One encoding on offer."""

    media_type: str
    problem_media_type: str
    encode: Callable[[Any], bytes]
    decode_untrusted: Callable[[bytes], Any]


# --- encoding ---------------------------------------------------------------------------------------------------

_encode_json = msgspec.json.Encoder().encode


def _encode_msgpack(record: Any) -> bytes:
    data: bytes = msgpack.packb(msgspec.to_builtins(record), use_bin_type=True)
    return data


# --- decoding ---------------------------------------------------------------------------------------------------


def _malformed(reason: str) -> RequestError:
    return RequestError("malformed-body", reason, "send one well-formed JSON or MessagePack object")


def _too_many_items() -> RequestError:
    return RequestError("too-many-items", f"the body may hold more than {ITEMS_MAX} values", "split the request")


def _object_of_pairs(pairs: list[tuple[Any, Any]]) -> dict[str, Any]:
    record = dict(pairs)
    if len(record) != len(pairs):
        keys = [key for key, _ in pairs]
        twice = next(key for key in keys if keys.count(key) > 1)
        raise RequestError("duplicate-key", f"the key {str(twice)[:64]!r} occurs twice in one object", "send it once")
    return record


def _object_of_text_pairs(pairs: list[tuple[Any, Any]]) -> dict[str, Any]:
    # msgpack's strict_map_key has refused integers before it built anything; it lets byte strings pass.
    if any(type(key) is not str for key, _ in pairs):
        raise _malformed("keys are text")
    return _object_of_pairs(pairs)


def _refuse_constant(name: str) -> NoReturn:
    raise _malformed(f"{name} is not JSON")


_json_decoder = json.JSONDecoder(object_pairs_hook=_object_of_pairs, parse_constant=_refuse_constant)


def decode_json_untrusted(body: bytes) -> Any:
    """Plain data of strict JSON (RFC 8259, UTF-8, no duplicate keys). Raises RequestError only."""
    # Each value but the first stands behind one of these; text that holds them only makes the bound stricter.
    if body.count(b",") + body.count(b"[") + body.count(b"{") + body.count(b":") > ITEMS_MAX:
        raise _too_many_items()
    try:
        text = body.decode("utf-8")
        value = _json_decoder.decode(text)
        if "\\ud" in text or "\\uD" in text:
            # Escapes may spell half a character, which no encoder would take later on.
            json.dumps(value, ensure_ascii=False).encode("utf-8")
    except UnicodeError:
        raise _malformed("the text is not UTF-8") from None
    except RecursionError:
        raise _malformed("nested too deep") from None
    except ValueError as error:
        raise _malformed(str(error)) from None
    return value


def decode_msgpack_untrusted(body: bytes) -> Any:
    """Plain data of MessagePack without extensions, text keys only. Raises RequestError only."""
    _scan_msgpack(body)
    try:
        return msgpack.unpackb(body, object_pairs_hook=_object_of_text_pairs, strict_map_key=True, raw=False)
    except ValueError as error:  # UnicodeDecodeError and all errors of msgpack are ValueErrors
        raise _malformed(str(error)) from None


# First byte of a MessagePack value -> (width of the length that follows, or of the value; what it is).
_FIXED_BYTES = {0xC0: 0, 0xC2: 0, 0xC3: 0, 0xCA: 4, 0xCB: 8, 0xCC: 1, 0xCD: 2, 0xCE: 4, 0xCF: 8}
_FIXED_BYTES |= {0xD0: 1, 0xD1: 2, 0xD2: 4, 0xD3: 8}
_TEXT_LENGTH_BYTES = {0xD9: 1, 0xDA: 2, 0xDB: 4}
_BINARY_LENGTH_BYTES = {0xC4: 1, 0xC5: 2, 0xC6: 4}
_LIST_LENGTH_BYTES = {0xDC: 2, 0xDD: 4}
_MAP_LENGTH_BYTES = {0xDE: 2, 0xDF: 4}


def _scan_msgpack(body: bytes) -> None:
    """Walks the value without building it: 2 MiB of one-byte items would hold the loop for 130 ms in msgpack."""
    size, position, items = len(body), 0, 0
    open_items: list[int] = []  # items still to come in each open list or map
    while True:
        items += 1
        if items > ITEMS_MAX:
            raise _too_many_items()
        if position >= size:
            raise _malformed("the body ends early")
        head = body[position]
        position += 1
        skip = children = 0
        if head <= 0x7F or head >= 0xE0:
            pass
        elif head <= 0x8F:
            children = 2 * (head & 0x0F)
        elif head <= 0x9F:
            children = head & 0x0F
        elif head <= 0xBF:
            skip = head & 0x1F
        elif head in _FIXED_BYTES:
            skip = _FIXED_BYTES[head]
        else:
            length, position, children = _scan_length(body, position, head)
            skip = 0 if children else length
        position += skip
        if position > size or children > size - position:
            raise _malformed("the body ends early")
        if children:
            if len(open_items) >= NESTING_MAX:
                raise _malformed(f"nested deeper than {NESTING_MAX}")
            open_items.append(children)
            continue
        while open_items:
            open_items[-1] -= 1
            if open_items[-1]:
                break
            open_items.pop()
        if not open_items:
            break
    if position != size:
        raise _malformed(f"{size - position} bytes after the end of the value")


def _scan_length(body: bytes, position: int, head: int) -> tuple[int, int, int]:
    """(length in bytes, position behind the length field, number of children)."""
    width = (
        _TEXT_LENGTH_BYTES.get(head)
        or _BINARY_LENGTH_BYTES.get(head)
        or _LIST_LENGTH_BYTES.get(head)
        or _MAP_LENGTH_BYTES.get(head)
    )
    if width is None:
        raise _malformed("extension types are not used")
    length = int.from_bytes(body[position : position + width], "big")
    position += width
    if head in _LIST_LENGTH_BYTES:
        return 0, position, length
    if head in _MAP_LENGTH_BYTES:
        return 0, position, 2 * length
    return length, position, 0


def typed_untrusted(plain: Any, record_type: type[T]) -> T:
    """The route's record of plain data. Raises RequestError ``invalid-value`` with the path."""
    try:
        return msgspec.convert(plain, record_type)
    except msgspec.ValidationError as error:
        reason, path = split_path(str(error))
        raise RequestError(
            "invalid-value", reason, "see the schema of this request in /v1/openapi.json", path=path
        ) from None


def split_path(message: str) -> tuple[str, str]:
    """msgspec says "Expected `int`, got `str` - at `$.a[0]`"; the path goes into a member of its own."""
    reason, separator, path = message.rpartition(" - at `")
    return (reason, path.rstrip("`")) if separator else (message, "$")


def check_value_untrusted(value: Any, path: str) -> None:
    """Refuses a free value outside the model. Raises RequestError ``invalid-value`` with the path."""
    bad = _find_bad(value, 0)
    if bad is not None:
        reason, steps = bad
        raise RequestError("invalid-value", reason, "mend the value named in path", path=path + steps)


def _find_bad(value: Any, nesting: int) -> tuple[str, str] | None:
    """What is wrong inside a value and where. The path is put together on the way out, so good values cost nothing."""
    kind = type(value)
    if kind is str or kind is bool or value is None:
        return None
    if kind is int:
        return None if INT_MIN <= value <= INT_MAX else ("integers have at most 64 bits", "")
    if kind is float:
        return None if math.isfinite(value) else ("the number is not finite", "")
    if kind is not list and kind is not dict:
        return "only null, booleans, numbers, text, lists and objects are values", ""
    if nesting >= VALUE_NESTING_MAX:
        return f"nested deeper than {VALUE_NESTING_MAX}", ""
    for key, item in value.items() if kind is dict else enumerate(value):
        bad = _find_bad(item, nesting + 1)
        if bad is not None:
            reason, steps = bad
            return reason, (f".{str(key)[:64]}" if kind is dict else f"[{key}]") + steps
    return None


# --- negotiation ------------------------------------------------------------------------------------------------

JSON = Format("application/json", "application/problem+json", _encode_json, decode_json_untrusted)
MSGPACK = Format("application/msgpack", "application/problem+msgpack", _encode_msgpack, decode_msgpack_untrusted)
_FORMATS = {
    "application/json": JSON,
    "application/msgpack": MSGPACK,
    "application/x-msgpack": MSGPACK,
    "application/vnd.msgpack": MSGPACK,
}
_USUAL_CONTENT_TYPES: dict[bytes | None, Format] = {b"application/json": JSON, b"application/msgpack": MSGPACK}
_USUAL_ACCEPTS = {None: JSON, b"*/*": JSON, b"application/json": JSON, b"application/msgpack": MSGPACK}


def accepted_format(accept: bytes | None) -> Format | None:
    """The format to answer in (RFC 9110 section 12.5.1), or None when neither is acceptable."""
    usual = _USUAL_ACCEPTS.get(accept)
    if usual is not None or accept is None:
        return usual
    best: tuple[float, Format] | None = None
    for candidate in (JSON, MSGPACK):
        quality = max(accept_quality(accept, name) for name, offered in _FORMATS.items() if offered is candidate)
        if quality > 0 and (best is None or quality > best[0]):
            best = (quality, candidate)
    return best[1] if best is not None else None


def accept_quality(accept: bytes, media_type: str) -> float:
    """How much the client wants a media type: the quality of the most specific range that matches, 0 for none."""
    wanted_type = media_type.partition("/")[0]
    found: tuple[int, float] = (-1, 0.0)
    for part in accept.decode("latin-1").split(","):
        name, *parameters = (piece.strip().lower() for piece in part.split(";"))
        specificity = {"*/*": 0, f"{wanted_type}/*": 1, media_type: 2}.get(name, -1)
        if specificity > found[0]:
            found = (specificity, _quality(parameters))
    return found[1]


def _quality(parameters: list[str]) -> float:
    for parameter in parameters:
        if parameter.startswith("q="):
            try:
                quality = float(parameter[2:])
            except ValueError:
                return 0.0
            return quality if 0 <= quality <= 1 else 0.0
    return 1.0


def body_format(content_type: bytes | None) -> Format:
    """The format of a body. RequestError ``unsupported-media-type``."""
    usual = _USUAL_CONTENT_TYPES.get(content_type)
    if usual is not None:
        return usual
    name, *parameters = (content_type or b"").decode("latin-1").lower().split(";")
    found = _FORMATS.get(name.strip())
    if found is None or any(
        parameter.strip().startswith("charset=") and parameter.strip(' "')[8:].strip('"') not in ("utf-8", "utf8")
        for parameter in parameters
    ):
        raise RequestError(
            "unsupported-media-type",
            f"the body is {name.strip()[:64] or 'of no stated type'}",
            "send Content-Type: application/json (UTF-8) or application/msgpack",
        )
    return found
