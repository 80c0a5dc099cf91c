"""What a row is, and the hash it carries.

SQLite notices a damaged page structure and does not notice a damaged row, so every row is checked here when it is read
(I11). Positions are one integer, ``place = log number << 32 | position``: the rows of a log lie together in the order
they are read in, and no second index is needed.

An entry row carries the first 8 bytes of the entry's hash; the hash itself is computed again from what the row says,
so one damaged bit anywhere in it, or a row in the wrong place, passes with probability 2**-64. That number is also the
key of the search by hash. Other rows carry 8 bytes of a hash over all their columns, the key included.
"""

from __future__ import annotations

import hashlib
import struct
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from meshnode.core.entry import entry_hash
from meshnode.core.ids import ENTRY_HASH_BYTES, EntryHash, IncidentId, KeyId, LogId
from meshnode.core.log import Entry

Row = tuple[Any, ...]
ValueKey = tuple[bytes, bytes]
"""(namespace as UTF-8, key)."""

POSITION_BITS = 32
"""``ids.SEQ_MAX`` is 2**32 - 1: a position fits, and log numbers may grow to 2**31."""
POSITION_MASK = (1 << POSITION_BITS) - 1

ENTRY, SEAL, JOURNAL, VALUE, NAME, SIZE = 1, 2, 3, 4, 5, 6
"""Kinds of rows: part of each row's hash, and the ``kind`` column of the table of damage."""

DAMAGE_BYTES_MAX = 1 << 18
"""Kept of one damaged row: the largest entry, written as text."""

_INT64 = struct.Struct(">q")
_TWO_INT64 = struct.Struct(">qq")
_THREE_INT64 = struct.Struct(">qqq")
_PREPARED = {
    kind: hashlib.blake2b(bytes((kind,)), digest_size=8, person=b"mn-row")
    for kind in (SEAL, JOURNAL, VALUE, NAME, SIZE)
}
"""Hashes that have taken in their kind, copied for each row: half the cost of making one."""


@dataclass(frozen=True, slots=True)
class Damage:
    """One row to be moved out of the way: where it stands and what it said."""

    kind: int
    place: int | ValueKey
    content: bytes


def first_place(log_number: int) -> int:
    """The place of position 0, which no entry has."""
    return log_number << POSITION_BITS


def last_place(log_number: int) -> int:
    return (log_number << POSITION_BITS) | POSITION_MASK


def hash_prefix(entry_hash_bytes: bytes) -> int:
    """The first 8 bytes as SQLite's signed 64-bit integer."""
    prefix: int = _INT64.unpack_from(entry_hash_bytes)[0]
    return prefix


def _check(kind: int, *parts: bytes) -> int:
    state = _PREPARED[kind].copy()
    for part in parts:
        state.update(part)
    value: int = _INT64.unpack(state.digest())[0]
    return value


def journal_check(number: int, place: int) -> int:
    return _check(JOURNAL, _TWO_INT64.pack(number, place))


def seal_check(place: int, signature: bytes) -> int:
    return _check(SEAL, _INT64.pack(place), signature)


def value_check(key: ValueKey, value: bytes) -> int:
    return _check(VALUE, encode_place(key), value)


def name_check(number: int, kind: int, parent: int, name: bytes) -> int:
    return _check(NAME, _THREE_INT64.pack(number, kind, parent), name)


def size_check(log_number: int, seq: int, size_bytes: int) -> int:
    return _check(SIZE, _THREE_INT64.pack(log_number, seq, size_bytes))


def encode_place(place: int | ValueKey) -> bytes:
    if isinstance(place, int):
        return _INT64.pack(place)
    return len(place[0]).to_bytes(4, "big") + place[0] + place[1]


def decode_place(kind: int, data: bytes) -> int | ValueKey:
    """Raises ValueError when the row that recorded the damage is damaged itself."""
    if kind != VALUE:
        if len(data) != _INT64.size:
            raise ValueError("a place has 8 bytes")
        place: int = _INT64.unpack(data)[0]
        return place
    end = 4 + int.from_bytes(data[:4], "big")
    if len(data) < max(end, 4):
        raise ValueError("a namespace is cut short")
    return data[4:end], data[end:]


def entry_of_row(incident: IncidentId, log: LogId, seq: int, key_id: KeyId | None, row: Row) -> Entry | None:
    """The entry that a row (prefix, previous, package, sealed) holds, or None when it does not match its hash.

    A flipped bit can change a column's type, so types are looked at before the hash is.
    """
    prefix, previous, package, sealed = row
    if (
        key_id is None
        or not isinstance(previous, bytes)
        or len(previous) != ENTRY_HASH_BYTES
        or not isinstance(sealed, bytes)
        or not (package is None or isinstance(package, bytes))
    ):
        return None
    identity = entry_hash(incident, log, seq, EntryHash(previous), key_id, package, sealed)
    if _INT64.unpack_from(identity)[0] != prefix:
        return None
    return Entry(incident, log, seq, EntryHash(previous), key_id, package, sealed, identity)


def content_of(columns: Iterable[object]) -> bytes:
    """What a damaged row said, for a person who examines it."""
    return repr(tuple(columns)).encode()[:DAMAGE_BYTES_MAX]
