"""Canonical CBOR: the one encoding of everything that is signed, hashed, stored or sent to a peer.

RFC 8949 section 4.2.3 (deterministic encoding, length-first map keys), narrowed to what the protocol uses: unsigned
and negative integers of at most 64 bits, byte and text strings, arrays, maps with integer or text keys, ``false``,
``true`` and ``null``. No tags, no floating point numbers, no indefinite lengths, no other simple values.

``decode_untrusted`` is the door: the size is checked before anything is parsed, a scanner written for this subset
walks the bytes without building anything (so colliding keys, shared references and deep nesting cost nothing), and
only bytes that passed it reach cbor2. The scanner demands shortest-form integers and strictly ascending keys, which
makes "the re-encoding equals the input" a property of the scan; a test proves that with hypothesis.
"""

from __future__ import annotations

from typing import Any

import cbor2

from meshnode.errors import UntrustedInputError

DEPTH_MAX = 8
"""Nesting of arrays and maps. The deepest message of the protocol (a GeoJSON MultiPolygon in an operation in a
batch) needs 8; see protocol/limits.md."""

ITEMS_MAX = 65_536
"""Data items in one message. Bounds the memory a small message can unfold into (a list of one-byte items)."""

_UINT_ARGUMENT_BYTES = {24: 1, 25: 2, 26: 4, 27: 8}
_UINT_ARGUMENT_MIN = {24: 24, 25: 1 << 8, 26: 1 << 16, 27: 1 << 32}


def encode(value: Any) -> bytes:
    """Canonical bytes of a value built from the types named above. Raises TypeError for any other type."""
    data: bytes = cbor2.dumps(value, canonical=True)
    return data


def decode_untrusted(data: bytes, size_max: int) -> Any:
    """The value of canonical CBOR bytes. Raises UntrustedInputError ``cbor-*``; nothing else escapes."""
    if len(data) > size_max:
        raise _refuse("cbor-too-large", f"{len(data)} bytes where at most {size_max} are allowed")
    end = _scan(data)
    if end != len(data):
        raise _refuse("cbor-trailing-bytes", f"{len(data) - end} bytes after the end of the value")
    return cbor2.loads(data)


def decode_trusted(data: bytes) -> Any:
    """The value of bytes that this process encoded itself and whose hash was checked."""
    return cbor2.loads(data)


def _refuse(code: str, reason: str) -> UntrustedInputError:
    return UntrustedInputError(code, reason, "the sender must use the canonical CBOR of the protocol")


def _scan(data: bytes) -> int:
    """Checks one value that starts at offset 0 and returns the offset behind it.

    An explicit stack in place of recursion: each frame is [items left, is a map, key span or None].
    """
    size = len(data)
    position = 0
    items = 0
    stack: list[list[Any]] = []
    while True:
        items += 1
        if items > ITEMS_MAX:
            raise _refuse("cbor-too-many-items", f"more than {ITEMS_MAX} data items")
        start = position
        if position >= size:
            raise _refuse("cbor-truncated", "the value ends early")
        head = data[position]
        major, info = head >> 5, head & 31
        position += 1
        argument = info
        if major == 7:
            if info not in (20, 21, 22):
                raise _refuse("cbor-forbidden-type", "floats, undefined and simple values are not used")
        elif info > 23:
            argument, position = _read_argument(data, position, info)
        if major == 6:
            raise _refuse("cbor-forbidden-type", "tags are not used")
        opened = 0
        if major in (2, 3):
            if argument > size - position:
                raise _refuse("cbor-truncated", "a string is longer than the message")
            if major == 3:
                _check_utf8(data, position, argument)
            position += argument
        elif major in (4, 5):
            opened = argument if major == 4 else 2 * argument
            if opened > size - position:
                raise _refuse("cbor-truncated", "an array or map has more items than the message has bytes")
            if len(stack) + 1 > DEPTH_MAX:
                raise _refuse("cbor-too-deep", f"nested deeper than {DEPTH_MAX}")
        if stack and stack[-1][1] and stack[-1][0] % 2 == 0:
            _check_key(stack[-1], data, start, position, major)
        if opened:
            stack.append([opened, major == 5, None])
            continue
        while stack:
            stack[-1][0] -= 1
            if stack[-1][0]:
                break
            stack.pop()
        if not stack:
            return position


def _read_argument(data: bytes, position: int, info: int) -> tuple[int, int]:
    width = _UINT_ARGUMENT_BYTES.get(info)
    if width is None:
        raise _refuse("cbor-forbidden-type", "indefinite lengths and reserved values are not used")
    if position + width > len(data):
        raise _refuse("cbor-truncated", "the value ends early")
    argument = int.from_bytes(data[position : position + width], "big")
    if argument < _UINT_ARGUMENT_MIN[info]:
        raise _refuse("cbor-not-canonical", "an integer or length is not in its shortest form")
    return argument, position + width


def _check_utf8(data: bytes, position: int, length: int) -> None:
    try:
        data[position : position + length].decode("utf-8")
    except UnicodeDecodeError:
        raise _refuse("cbor-bad-utf8", "a text string is not UTF-8") from None


def _check_key(frame: list[Any], data: bytes, start: int, end: int, major: int) -> None:
    """Keys are integers or text and strictly ascend: the shorter encoding first, then bytewise."""
    if major not in (0, 1, 3):
        raise _refuse("cbor-forbidden-type", "map keys are integers or text")
    key = data[start:end]
    if frame[2] is not None and (len(key), key) <= (len(frame[2]), frame[2]):
        raise _refuse("cbor-not-canonical", "map keys are duplicate or out of order")
    frame[2] = key
