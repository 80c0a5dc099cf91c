"""Prekey records pass one door; the ring neither erases early nor stops, whatever the clock does."""

from __future__ import annotations

import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from meshnode.core import codec
from meshnode.core.certificates import bundle_hash
from meshnode.core.keys import SigningKey
from meshnode.core.prekeys import (
    CLOCK_STEP_MS_MAX,
    DAY_MS,
    PREKEY_RECORD_BYTES_MAX,
    PREKEY_TAG,
    SERIAL_MAX,
    PrekeyRing,
    PrekeySecret,
    claimed_device_untrusted,
    make_prekey,
    prekey_untrusted,
)
from meshnode.errors import UntrustedInputError

NOW_MS = 1_790_000_000_000
HOUR_MS = 3600 * 1000
DEVICE = SigningKey(b"\x01" * 32)
BUNDLE = b"a bundle"
SECRET, RECORD = make_prekey(DEVICE, BUNDLE, 7, NOW_MS, random.Random(1).randbytes)


def signed(payload: object, key: SigningKey = DEVICE) -> bytes:
    data = codec.encode(payload)
    return codec.encode([data, key.sign(PREKEY_TAG, data)])


def fields() -> list[object]:
    return list(codec.decode_trusted(codec.decode_trusted(RECORD)[0]))


def refusal(data: bytes) -> str:
    with pytest.raises(UntrustedInputError) as caught:
        prekey_untrusted(data)
    return caught.value.code


# --- records ----------------------------------------------------------------------------------------------------


def test_a_record_gives_back_what_its_device_signed():
    prekey = prekey_untrusted(RECORD)
    assert (prekey.device, prekey.serial, prekey.created_ms) == (DEVICE.device_id, 7, NOW_MS)
    assert (len(prekey.x25519), len(prekey.mlkem), prekey.record) == (32, 1184, RECORD)
    assert prekey.bundle_hash == bundle_hash(BUNDLE)
    assert claimed_device_untrusted(RECORD) == DEVICE.device_id


def test_the_same_randomness_gives_the_same_record():
    assert make_prekey(DEVICE, BUNDLE, 7, NOW_MS, random.Random(1).randbytes) == (SECRET, RECORD)


def test_private_bytes_are_in_no_repr():
    ring = PrekeyRing()
    ring.add(SECRET, NOW_MS)
    for text in (repr(SECRET), repr(ring), repr(ring.secrets()), str(SECRET)):
        assert repr(SECRET.private)[2:20] not in text
        assert SECRET.private.hex()[:16] not in text


def test_the_largest_record_is_within_the_limit_and_one_byte_more_than_the_limit_is_refused():
    _, largest = make_prekey(DEVICE, BUNDLE, SERIAL_MAX, 2**53 - 1, random.Random(1).randbytes)
    assert len(largest) <= 1387 < PREKEY_RECORD_BYTES_MAX
    assert prekey_untrusted(largest).serial == SERIAL_MAX
    assert refusal(bytes(PREKEY_RECORD_BYTES_MAX + 1)) == "cbor-too-large"


@settings(max_examples=150)
@given(st.integers(0, len(RECORD) - 1), st.integers(1, 255))
def test_every_changed_byte_is_refused(index: int, change: int):
    data = bytearray(RECORD)
    data[index] ^= change
    assert refusal(bytes(data))


@pytest.mark.parametrize("length", [0, 1, 3, 100, len(RECORD) - 1])
def test_every_prefix_is_refused(length: int):
    assert refusal(RECORD[:length])


@settings(max_examples=100)
@given(st.binary(max_size=100))
def test_noise_is_refused_and_raises_nothing_else(data: bytes):
    assert refusal(data)


@pytest.mark.parametrize(
    ("index", "value", "code"),
    [
        (0, 2, "prekey-version"),
        (0, "1", "prekey-malformed"),
        (1, b"short", "prekey-malformed"),
        (2, bytes(31), "prekey-malformed"),
        (3, -1, "prekey-malformed"),
        (3, SERIAL_MAX + 1, "prekey-malformed"),
        (3, True, "prekey-malformed"),
        (4, 2**53, "prekey-malformed"),
        (5, bytes(31), "prekey-malformed"),
        (6, bytes(1183), "prekey-malformed"),
        (5, bytes(32), "prekey-weak"),
        (5, b"\x01" + bytes(31), "prekey-weak"),
        (5, (2**255 - 19).to_bytes(32, "little"), "prekey-weak"),
        (5, bytes.fromhex("e0eb7a7c3b41b8ae1656e3faf19fc46ada098deb9c32b1fd866205165f49b800"), "prekey-weak"),
        (6, b"\xff" * 1184, "prekey-weak"),
    ],
)
def test_a_signed_record_with_a_wrong_field_is_refused(index: int, value: object, code: str):
    payload = fields()
    payload[index] = value
    assert refusal(signed(payload)) == code


@pytest.mark.parametrize("payload", [[], {}, 1, [1], [1, 2, 3, 4, 5, 6, 7, 8]])
def test_a_signed_record_of_another_shape_is_refused(payload: object):
    assert refusal(signed(payload)) == "prekey-malformed"


@pytest.mark.parametrize("outer", [1, [], [b"a"], [1, b"b"], [b"a", b"b", b"c"]])
def test_a_record_that_is_no_payload_and_signature_is_refused(outer: object):
    assert refusal(codec.encode(outer)) == "prekey-malformed"


def test_a_record_in_another_devices_name_is_refused():
    assert refusal(signed(fields(), SigningKey(b"\x02" * 32))) == "bad-signature"


def test_a_signature_of_another_length_is_refused():
    assert refusal(codec.encode([codec.encode(fields()), b"short"])) == "prekey-malformed"


def test_a_valid_signature_over_a_non_canonical_encoding_is_refused():
    payload = codec.encode(fields())
    padded = bytes([payload[0]]) + b"\x18\x01" + payload[2:]  # the version 1 in two bytes
    assert refusal(codec.encode([padded, DEVICE.sign(PREKEY_TAG, padded)])) == "cbor-not-canonical"


# --- the ring ---------------------------------------------------------------------------------------------------


def secret(serial: int, created_ms: int = NOW_MS) -> PrekeySecret:
    return PrekeySecret(serial, created_ms, bytes(96))


def serials(ring: PrekeyRing) -> list[int]:
    return [held.serial for held in ring.secrets()]


def ring_of(*ages_h: int) -> PrekeyRing:
    """A ring that got prekey 1, 2, ... at these hours."""
    ring = PrekeyRing()
    for serial, age_h in enumerate(ages_h, 1):
        ring.add(secret(serial), NOW_MS + age_h * HOUR_MS)
    return ring


def test_an_empty_ring_wants_a_prekey():
    ring = PrekeyRing()
    assert ring.rotate_due(NOW_MS)
    assert ring.current is None
    assert ring.next_serial(NOW_MS) == NOW_MS // 1000


def test_a_new_prekey_is_due_every_24_hours():
    ring = ring_of(0)
    assert not ring.rotate_due(NOW_MS + DAY_MS - 1)
    assert ring.rotate_due(NOW_MS + DAY_MS)
    ring.add(secret(2), NOW_MS + DAY_MS)
    assert not ring.rotate_due(NOW_MS + DAY_MS + HOUR_MS)
    assert ring.current == secret(2)


def test_a_replaced_private_part_opens_packages_for_14_days_and_is_then_erased():
    ring = ring_of(0, 24)
    for day in range(1, 15):
        assert ring.expire(NOW_MS + day * DAY_MS) == ()
        assert serials(ring) == [2, 1]
    assert ring.expire(NOW_MS + 15 * DAY_MS) == (1,)
    assert serials(ring) == [2]


def test_the_current_prekey_is_never_erased():
    ring = ring_of(0)
    for day in range(100):
        assert ring.expire(NOW_MS + day * DAY_MS) == ()


def test_a_clock_that_jumps_ten_years_ahead_erases_nothing_and_back_again_stops_nothing():
    ring = ring_of(0, 24)
    ahead = NOW_MS + 3650 * DAY_MS
    assert ring.expire(ahead) == ()
    assert ring.rotate_due(ahead)
    ring.add(secret(3), ahead)
    back = NOW_MS + 2 * DAY_MS
    assert ring.expire(back) == ()
    assert not ring.rotate_due(back + DAY_MS - 1)
    assert ring.rotate_due(back + DAY_MS)
    assert serials(ring) == [3, 2, 1]


def test_a_frozen_clock_erases_nothing():
    ring = ring_of(0, 24)
    for _ in range(100):
        assert ring.expire(NOW_MS + DAY_MS) == ()


def test_serials_go_on_upwards_when_the_clock_goes_back():
    ring = PrekeyRing()
    ring.add(secret(ring.next_serial(NOW_MS)), NOW_MS)
    assert ring.next_serial(0) == NOW_MS // 1000 + 1
    with pytest.raises(ValueError, match="higher serial"):
        ring.add(secret(NOW_MS // 1000), NOW_MS)


@pytest.mark.parametrize("serial", [NOW_MS, 1], ids=["later", "the-same"])
def test_a_node_that_meets_a_prekey_of_its_own_that_it_did_not_make_makes_one_above_it_at_once(serial: int):
    ring = ring_of(0)
    assert not ring.rotate_due(NOW_MS)
    assert not ring.is_outdated
    ring.rise_above(serial)
    assert ring.rotate_due(NOW_MS)
    assert ring.is_outdated
    made = ring.next_serial(NOW_MS)
    assert made == max(serial + 1, NOW_MS // 1000)
    ring.add(secret(made), NOW_MS)
    assert not ring.rotate_due(NOW_MS)


def test_an_older_prekey_of_its_own_does_not_matter():
    ring = ring_of(0, 24)
    ring.rise_above(1)
    assert not ring.rotate_due(NOW_MS + DAY_MS)


def test_serials_and_with_them_rotation_end_at_their_limit_and_nothing_breaks():
    ring = ring_of(0)
    ring.rise_above(SERIAL_MAX)
    assert ring.rotate_due(NOW_MS)
    assert ring.next_serial(NOW_MS) == SERIAL_MAX
    ring.add(secret(SERIAL_MAX), NOW_MS)
    assert not ring.rotate_due(NOW_MS + 2 * DAY_MS)


steps = st.lists(st.integers(-20 * DAY_MS, 20 * DAY_MS), max_size=40)


@given(steps, st.data())
def test_whatever_the_clock_does_a_private_part_outlives_14_looks_and_never_outlives_15_honest_days(
    jumps: list[int], data: st.DataObject
):
    ring = ring_of(0, 24)
    now = NOW_MS + DAY_MS
    honest_ms = 0
    for looks, jump in enumerate(jumps, 1):
        now += jump
        honest_ms += min(max(jump, 0), CLOCK_STEP_MS_MAX)
        erased = ring.expire(now)
        if erased:
            assert looks >= 14
        assert (1 in serials(ring)) == (honest_ms < 14 * DAY_MS)
        if data.draw(st.booleans()):
            ring = PrekeyRing.from_plain(codec.decode_trusted(codec.encode(ring.to_plain())))


def test_a_ring_comes_back_from_its_plain_form_as_it_was():
    ring = ring_of(0, 24, 48)
    again = PrekeyRing.from_plain(codec.decode_trusted(codec.encode(ring.to_plain())))
    assert again.to_plain() == ring.to_plain()
    assert serials(again) == [3, 2, 1]
    assert again.expire(NOW_MS + 2 * DAY_MS) == ()
