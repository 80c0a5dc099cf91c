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

_ARGUMENT_BYTES = {25: 2, 26: 4, 27: 8}


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

    An explicit stack in place of recursion, and everything in local names: this runs for every entry of a catch-up.
    ``promised`` counts the data items that heads seen so far announced, so a huge message is refused at its head.
    ``left`` counts the items still missing from the innermost container, ``key`` is the encoding of the last key when
    that container is a map (``b""`` before the first) and None when it is an array; the stack keeps both of the others.
    """
    size = len(data)
    position = 0
    promised = 1
    left = 1
    key: bytes | None = None
    stack: list[tuple[int, bytes | None]] = []
    while True:
        if position >= size:
            raise _refuse("cbor-truncated", "the value ends early")
        start = position
        head = data[position]
        major = head >> 5
        argument = head & 31
        position += 1
        if argument > 23 and major != 7:
            argument, position = _read_argument(data, position, argument)
        if 2 <= major <= 3:
            position += argument
            if position > size:
                raise _refuse("cbor-truncated", "a string is longer than the message")
            if major == 3:
                _check_utf8(data[position - argument : position])
        elif major > 5:
            _check_simple(major, argument)
        if key is not None and not left & 1:
            key = _next_key(key, data[start:position], major)
        left -= 1
        if 4 <= major <= 5:
            missing = argument if major == 4 else 2 * argument
            promised += missing
            if promised > ITEMS_MAX:
                raise _refuse("cbor-too-many-items", f"more than {ITEMS_MAX} data items")
            if missing > size - position:
                raise _refuse("cbor-truncated", "an array or map has more items than the message has bytes")
            if len(stack) >= DEPTH_MAX:
                raise _refuse("cbor-too-deep", f"nested deeper than {DEPTH_MAX}")
            if missing:
                stack.append((left, key))
                left = missing
                key = b"" if major == 5 else None
                continue
        while not left:
            if not stack:
                return position
            left, key = stack.pop()


def _read_argument(data: bytes, position: int, info: int) -> tuple[int, int]:
    """(argument, offset behind it) of a head whose argument does not fit into its first byte."""
    if info == 24:
        if position < len(data):
            argument = data[position]
            if argument > 23:
                return argument, position + 1
            raise _refuse("cbor-not-canonical", "an integer or length is not in its shortest form")
        raise _refuse("cbor-truncated", "the value ends early")
    width = _ARGUMENT_BYTES.get(info)
    if width is None:
        raise _refuse("cbor-forbidden-type", "indefinite lengths and reserved values are not used")
    end = position + width
    if end > len(data):
        raise _refuse("cbor-truncated", "the value ends early")
    argument = int.from_bytes(data[position:end], "big")
    if not argument >> (4 * width):
        raise _refuse("cbor-not-canonical", "an integer or length is not in its shortest form")
    return argument, end


def _check_simple(major: int, argument: int) -> None:
    if major == 6:
        raise _refuse("cbor-forbidden-type", "tags are not used")
    if argument not in (20, 21, 22):
        raise _refuse("cbor-forbidden-type", "floats, undefined and simple values are not used")


def _check_utf8(text: bytes) -> None:
    if text.isascii():
        return
    try:
        text.decode("utf-8")
    except UnicodeDecodeError:
        raise _refuse("cbor-bad-utf8", "a text string is not UTF-8") from None


def _next_key(before: bytes, key: bytes, major: int) -> bytes:
    """Keys are integers or text and strictly ascend: the shorter encoding first, then bytewise."""
    if major not in (0, 1, 3):
        raise _refuse("cbor-forbidden-type", "map keys are integers or text")
    if len(key) < len(before) or (len(key) == len(before) and key <= before):
        raise _refuse("cbor-not-canonical", "map keys are duplicate or out of order")
    return key
