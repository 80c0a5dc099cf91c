"""One value has one encoding, and no other bytes are taken (security design, "Hostile input"; X2, X3)."""

from __future__ import annotations

import time
from contextlib import suppress
from typing import Any

import cbor2
import pytest
from core_support import measuring_coverage, refused, search
from hypothesis import example, given
from hypothesis import strategies as st

from meshnode.core.codec import DEPTH_MAX, ITEMS_MAX, decode_trusted, decode_untrusted, encode
from meshnode.errors import UntrustedInputError

SIZE_MAX = 1_048_576
CPU_S_MAX = 1.0 if measuring_coverage() else 0.1
"""No input may hold the loop for longer (I8). Measuring coverage makes everything slower."""

integers = st.integers(-(2**64), 2**64 - 1)
scalars = st.none() | st.booleans() | integers | st.binary(max_size=40) | st.text(max_size=20)
keys = integers | st.text(max_size=8)
values = st.recursive(
    scalars,
    lambda inner: st.lists(inner, max_size=5) | st.dictionaries(keys, inner, max_size=5),
    max_leaves=20,
)


def depth(value: Any) -> int:
    if isinstance(value, dict):
        return 1 + max(map(depth, value.values()), default=0)
    return 1 + max(map(depth, value), default=0) if isinstance(value, list) else 0


def cpu_s(data: bytes) -> float:
    """The least of five tries: other processes must not count."""
    times = []
    for _ in range(5):
        start = time.process_time()
        with suppress(UntrustedInputError):
            decode_untrusted(data, SIZE_MAX)
        times.append(time.process_time() - start)
    return min(times)


def nested(levels: int) -> bytes:
    return b"\x81" * levels + b"\x00"


@given(values.filter(lambda value: depth(value) <= DEPTH_MAX))
@search(150)
@example({"b": 1, "aa": 2, 3: 4, -1: 5, "": 6})
def test_a_value_comes_back_from_its_bytes(value: Any) -> None:
    data = encode(value)
    assert decode_untrusted(data, len(data)) == value
    assert decode_trusted(data) == value


@given(st.binary(max_size=60))
@search(300)
def test_bytes_that_are_taken_are_the_encoding_of_what_they_say(data: bytes) -> None:
    try:
        value = decode_untrusted(data, SIZE_MAX)
    except UntrustedInputError:
        return
    assert encode(value) == data


@given(values.filter(lambda value: depth(value) <= DEPTH_MAX), st.data())
@search(150)
def test_every_prefix_is_refused_and_a_changed_byte_is_refused_or_says_something_else_canonically(
    value: Any, data: st.DataObject
) -> None:
    whole = encode(value)
    with refused("cbor-truncated", "cbor-forbidden-type", "cbor-not-canonical", "cbor-bad-utf8"):
        decode_untrusted(whole[: data.draw(st.integers(0, len(whole) - 1))], SIZE_MAX)
    place = data.draw(st.integers(0, len(whole) - 1))
    changed = bytearray(whole)
    changed[place] ^= data.draw(st.integers(1, 255))
    try:
        other = decode_untrusted(bytes(changed), SIZE_MAX)
    except UntrustedInputError:
        return
    assert encode(other) == bytes(changed)
    assert encode(other) != whole


@given(values.filter(lambda value: depth(value) <= DEPTH_MAX), st.binary(min_size=1, max_size=5))
@search(50)
def test_nothing_may_follow_the_value(value: Any, more: bytes) -> None:
    with refused("cbor-trailing-bytes"):
        decode_untrusted(encode(value) + more, SIZE_MAX)


@pytest.mark.parametrize(
    ("data", "code"),
    [
        (b"", "cbor-truncated"),
        (b"\x18", "cbor-truncated"),
        (b"\x19\x01", "cbor-truncated"),
        (b"\x44abc", "cbor-truncated"),
        (b"\x82\x00", "cbor-truncated"),
        (b"\xa1\x00", "cbor-truncated"),
        (b"\x00\x00", "cbor-trailing-bytes"),
        (b"\x18\x17", "cbor-not-canonical"),  # 23 in two bytes
        (b"\x19\x00\xff", "cbor-not-canonical"),
        (b"\x1a\x00\x00\xff\xff", "cbor-not-canonical"),
        (b"\x1b\x00\x00\x00\x00\xff\xff\xff\xff", "cbor-not-canonical"),
        (b"\x38\x17", "cbor-not-canonical"),  # -24 in two bytes
        (b"\x58\x01a", "cbor-not-canonical"),  # over-long length of a string
        (b"\x98\x01\x00", "cbor-not-canonical"),  # and of an array
        (b"\xb8\x01\x00\x00", "cbor-not-canonical"),  # and of a map
        (b"\xa2\x00\x00\x00\x00", "cbor-not-canonical"),  # duplicate key
        (b"\xa2\x61a\x00\x61a\x00", "cbor-not-canonical"),
        (b"\xa2\x01\x00\x00\x00", "cbor-not-canonical"),  # keys out of order
        (b"\xa2\x18\x18\x00\x00\x00", "cbor-not-canonical"),  # the shorter encoding goes first
        (b"\xa1\x41a\x00", "cbor-forbidden-type"),  # a byte string as a key
        (b"\xa1\x80\x00", "cbor-forbidden-type"),  # an array as a key
        (b"\xa1\xf6\x00", "cbor-forbidden-type"),  # null as a key
        (b"\x9f\xff", "cbor-forbidden-type"),  # indefinite array
        (b"\xbf\xff", "cbor-forbidden-type"),
        (b"\x5f\x41a\xff", "cbor-forbidden-type"),
        (b"\x7f\x61a\xff", "cbor-forbidden-type"),
        (b"\x1c", "cbor-forbidden-type"),  # reserved
        (b"\xc0\x00", "cbor-forbidden-type"),  # a tag
        (b"\xd8\x1c\x80", "cbor-forbidden-type"),  # shareable
        (b"\xd8\x1d\x00", "cbor-forbidden-type"),  # a shared reference
        (b"\xd9\x01\x00\x80", "cbor-forbidden-type"),  # string references
        (b"\xc2\x49\x01\x00\x00\x00\x00\x00\x00\x00\x00", "cbor-forbidden-type"),  # a bignum
        (b"\xf7", "cbor-forbidden-type"),  # undefined
        (b"\xe0", "cbor-forbidden-type"),  # a simple value
        (b"\xf8\xff", "cbor-forbidden-type"),
        (b"\xf9\x7e\x00", "cbor-forbidden-type"),  # NaN
        (b"\xfa\x7f\xc0\x00\x00", "cbor-forbidden-type"),
        (b"\xfb\x3f\xf0\x00\x00\x00\x00\x00\x00", "cbor-forbidden-type"),  # 1.0
        (b"\xff", "cbor-forbidden-type"),
        (b"\x61\xff", "cbor-bad-utf8"),
        (b"\x63\xed\xa0\x80", "cbor-bad-utf8"),  # a surrogate
        (b"\x62\xc0\x80", "cbor-bad-utf8"),  # over-long NUL
        (nested(DEPTH_MAX + 1), "cbor-too-deep"),
        (b"\xa1\x00" * (DEPTH_MAX + 1) + b"\x00", "cbor-too-deep"),
    ],
)
def test_what_the_protocol_does_not_use_is_refused_with_its_code(data: bytes, code: str) -> None:
    with refused(code):
        decode_untrusted(data, SIZE_MAX)


def test_the_size_is_looked_at_before_anything_else() -> None:
    with refused("cbor-too-large"):
        decode_untrusted(b"\xff" * 11, 10)


def test_nesting_up_to_the_limit_is_taken() -> None:
    assert depth(decode_untrusted(nested(DEPTH_MAX), SIZE_MAX)) == DEPTH_MAX


def test_as_many_items_as_the_limit_allows_are_taken_and_one_more_is_not() -> None:
    def items(count: int) -> bytes:
        return b"\x9a" + (count - 1).to_bytes(4, "big") + bytes(count - 1)

    with refused("cbor-too-many-items"):
        decode_untrusted(items(ITEMS_MAX + 1), SIZE_MAX)

    def halves(count: int) -> bytes:  # three items are the arrays themselves
        half = (count - 3) // 2
        return b"\x82" + 2 * (b"\x99" + half.to_bytes(2, "big") + bytes(half))

    assert len(decode_untrusted(halves(ITEMS_MAX), SIZE_MAX)) == 2
    with refused("cbor-too-many-items"):
        decode_untrusted(halves(ITEMS_MAX + 2), SIZE_MAX)


def colliding_keys() -> bytes:
    """Ascending integer keys that are equal modulo 2**61 - 1, and so are their hashes in Python."""
    rows = b"".join(b"\x1b" + (number * (2**61 - 1)).to_bytes(8, "big") + b"\x00" for number in range(1, 9))
    return b"\xa8" + rows


def many_keys(count: int) -> bytes:
    """Distinct ascending 64-bit keys whose low bits are all alike."""
    rows = b"".join(b"\x1b" + ((1 << 40) + (number << 24)).to_bytes(8, "big") + b"\x00" for number in range(count))
    return b"\xb9" + count.to_bytes(2, "big") + rows


@pytest.mark.parametrize(
    "data",
    [
        b"\x9a" + (SIZE_MAX - 5).to_bytes(4, "big") + bytes(SIZE_MAX - 5),  # 1 MiB of one-byte items
        b"\x81" * SIZE_MAX,  # a tower of arrays
        b"\xa1\x00" * (SIZE_MAX // 2),
        b"\xd8\x1c" * (SIZE_MAX // 2),  # shared references
        b"\x99\xff\xf0" + bytes(SIZE_MAX - 3),
        b"\x9a\x00\x00\x80\x00" + b"\x80" * (SIZE_MAX - 5),  # empty arrays
        b"\x9a\x00\x00\x80\x00" + b"\x81\x00" * 32_768,
        many_keys(32_000),
        colliding_keys(),
        b"\x5a\x00\x0f\xff\xf0" + bytes(SIZE_MAX - 16),
        b"\x7a\x00\x0f\xff\xf0" + b"\xc3\xa4" * 524_280,
        b"\x1b\xff\xff\xff\xff\xff\xff\xff\xff" * 100_000,
        b"\x9b\xff\xff\xff\xff\xff\xff\xff\xff",  # an array of 2**64 - 1 items
        b"\xbb\xff\xff\xff\xff\xff\xff\xff\xff",
        b"\x5b\xff\xff\xff\xff\xff\xff\xff\xff",
    ],
)
def test_no_input_of_a_frame_s_size_holds_the_loop(data: bytes) -> None:
    assert cpu_s(data[:SIZE_MAX]) < CPU_S_MAX


def test_keys_that_collide_in_python_s_hash_table_cannot_be_many() -> None:
    """Bignums would give any number of them (300 KB stop cbor2 for 5 s); 64 bits hold eight to a hash."""
    value = decode_untrusted(colliding_keys(), SIZE_MAX)
    assert (len(value), len({hash(key) for key in value})) == (8, 1)
    assert 9 * (2**61 - 1) >= 2**64


def test_what_this_process_encodes_has_the_length_first_order_of_keys() -> None:
    assert encode({"aa": 1, "b": 2, 256: 3, 1: 4, -1: 5}) == cbor2.dumps(
        {1: 4, -1: 5, "b": 2, 256: 3, "aa": 1}, canonical=False
    )
