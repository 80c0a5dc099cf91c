"""Packages reach exactly their recipients; whatever is done to the bytes, a reader gets the right key or a refusal."""

from __future__ import annotations

import random
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from meshnode.core import codec, epochs
from meshnode.core.entry import log_keys
from meshnode.core.epochs import (
    BOX_BYTES,
    BUCKETS,
    EPOCH_PARENTS_MAX,
    HPKE_SEALER,
    PACKAGE_BYTES_MAX,
    RECIPIENTS_MAX,
    EpochBody,
    data_key,
    epoch_body_untrusted,
    key_id,
    make_epoch_key,
    make_package,
    open_package_untrusted,
)
from meshnode.core.ids import IncidentId, KeyId, LogId
from meshnode.core.keys import SigningKey
from meshnode.core.prekeys import Prekey, PrekeySecret, make_prekey, prekey_untrusted
from meshnode.errors import RefusedError, UntrustedInputError

INCIDENT = IncidentId(b"incident-handle!")
KEY = bytes(range(32))
SOURCE = random.Random(11)


def device(number: int, serial: int = 1) -> tuple[PrekeySecret, Prekey]:
    secret, record = make_prekey(SigningKey(bytes([number]) * 32), b"bundle", serial, 0, SOURCE.randbytes)
    return secret, prekey_untrusted(record)


DEVICES = [device(number) for number in range(1, 6)]
PACKAGE = make_package([prekey for _, prekey in DEVICES[:3]], KEY, INCIDENT, SOURCE.randbytes)


class CheapSealer:
    """Stands in for HPKE where only shapes are looked at, as a simulator would."""

    def seal(self, mlkem: bytes, x25519: bytes, info: bytes, plaintext: bytes) -> bytes:
        return (x25519 + plaintext).ljust(BOX_BYTES, b"\0")

    def open(self, secret: PrekeySecret, info: bytes, box: bytes) -> bytes | None:
        return box[32:64]


def opened(package: bytes, number: int = 0, identity: KeyId | None = None) -> bytes | None:
    return open_package_untrusted(package, INCIDENT, identity or key_id(KEY), [DEVICES[number][0]])


def refusal(package: bytes, **more: object) -> str:
    with pytest.raises(UntrustedInputError) as caught:
        opened(package, **more)
    return caught.value.code


def changed(index: int, value: object) -> bytes:
    fields = codec.decode_trusted(PACKAGE)
    fields[index] = value
    return codec.encode(fields)


# --- packages ---------------------------------------------------------------------------------------------------


def test_every_recipient_opens_a_package_and_nobody_else_finds_a_box():
    assert [opened(PACKAGE, number) for number in range(5)] == [KEY, KEY, KEY, None, None]


def test_a_recipient_opens_with_a_replaced_prekey_too():
    newer, _ = device(1, serial=2)
    assert open_package_untrusted(PACKAGE, INCIDENT, key_id(KEY), [newer, DEVICES[0][0]]) == KEY
    assert open_package_untrusted(PACKAGE, INCIDENT, key_id(KEY), [newer]) is None


def test_a_package_is_nothing_in_another_incident_or_under_another_key_id():
    secrets = [DEVICES[0][0]]
    assert open_package_untrusted(PACKAGE, IncidentId(bytes(16)), key_id(KEY), secrets) is None
    assert open_package_untrusted(PACKAGE, INCIDENT, key_id(bytes(32)), secrets) is None


@pytest.mark.parametrize(("count", "boxes"), [(1, 4), (4, 4), (5, 8), (65, 96), (300, 320), (400, 400)])
def test_the_number_of_recipients_shows_only_as_a_bucket(count: int, boxes: int):
    prekeys = [DEVICES[0][1]] * count
    source = random.Random(1)
    # Distinct tags need distinct X25519 keys; any 32 bytes are one.
    prekeys = [replace(p, x25519=source.randbytes(32)) for p in prekeys]
    package = make_package(prekeys, KEY, INCIDENT, source.randbytes, CheapSealer())
    assert len(codec.decode_trusted(package)[2]) == boxes
    assert len(package) <= PACKAGE_BYTES_MAX
    assert (len(package) == PACKAGE_BYTES_MAX) == (boxes == RECIPIENTS_MAX)


def test_one_recipient_more_than_the_limit_is_refused():
    with pytest.raises(RefusedError) as caught:
        make_package([DEVICES[0][1]] * (RECIPIENTS_MAX + 1), KEY, INCIDENT, SOURCE.randbytes, CheapSealer())
    assert caught.value.code == "epoch-too-many-recipients"
    assert BUCKETS[-1] == RECIPIENTS_MAX


def test_filling_has_the_shape_of_real_boxes_down_to_the_top_bit_of_the_curve_point():
    _, _, rows = codec.decode_trusted(PACKAGE)
    assert len(rows) == 4
    for tag, box in rows:
        assert (len(tag), len(box)) == (16, BOX_BYTES)
        assert box[1088 + 31] < 0x80


def test_with_a_sealer_of_its_own_a_simulator_gets_the_same_bytes_from_the_same_seed():
    prekeys = [prekey for _, prekey in DEVICES]
    one, two = (make_package(prekeys, KEY, INCIDENT, random.Random(3).randbytes, CheapSealer()) for _ in range(2))
    assert one == two
    secrets = [DEVICES[0][0]]
    assert open_package_untrusted(one, INCIDENT, key_id(KEY), secrets, CheapSealer()) == KEY


@settings(max_examples=200, deadline=None)
@given(st.integers(0, len(PACKAGE) - 1), st.integers(0, 7), st.integers(0, 3))
def test_a_flipped_bit_anywhere_gives_the_right_key_nothing_or_a_refusal(index: int, bit: int, number: int):
    data = bytearray(PACKAGE)
    data[index] ^= 1 << bit
    try:
        result = opened(bytes(data), number)
    except UntrustedInputError:
        return
    assert result in (KEY, None)
    assert number < 3 or result is None


@settings(max_examples=50, deadline=None)
@given(st.integers(0, len(PACKAGE) - 1))
def test_every_prefix_is_refused(length: int):
    assert refusal(PACKAGE[:length])


def test_a_wrong_key_in_a_box_is_noticed_by_the_key_id():
    honest = make_package([DEVICES[0][1]], KEY, INCIDENT, random.Random(9).randbytes)
    ephemeral, rows = codec.decode_trusted(honest)[1:]
    info = b"meshnode/1 epoch box" + INCIDENT + key_id(KEY)
    wrong = HPKE_SEALER.seal(DEVICES[0][1].mlkem, DEVICES[0][1].x25519, info, bytes(32))
    forged = codec.encode([1, ephemeral, [[tag, wrong] for tag, _ in rows]])
    assert opened(honest) == KEY
    assert refusal(forged) == "package-wrong-key"


def test_a_broken_box_for_us_is_told_from_a_package_that_is_not_for_us():
    _, ephemeral, rows = codec.decode_trusted(PACKAGE)
    broken = codec.encode([1, ephemeral, [[tag, bytes(BOX_BYTES)] for tag, _ in rows]])
    assert refusal(broken) == "package-wrong-key"
    assert opened(broken, 4) is None


def test_a_box_of_the_wrong_plaintext_length_is_no_key():
    class Odd(CheapSealer):
        def open(self, secret: PrekeySecret, info: bytes, box: bytes) -> bytes | None:
            return b"short"

    with pytest.raises(UntrustedInputError):
        open_package_untrusted(PACKAGE, INCIDENT, key_id(KEY), [DEVICES[0][0]], Odd())


@pytest.mark.parametrize(
    "package",
    [
        codec.encode(1),
        codec.encode([1, bytes(32)]),
        changed(0, 2),
        changed(1, bytes(31)),
        changed(1, 5),
        changed(1, bytes(32)),
        changed(1, b"\x01" + bytes(31)),
        changed(2, 7),
        changed(2, []),
        changed(2, [[bytes(16), bytes(BOX_BYTES)]] * 3),
        changed(2, [[bytes(16), bytes(BOX_BYTES)]] * 4),
        changed(2, [[bytes([n]) * 15, bytes(BOX_BYTES)] for n in range(4)]),
        changed(2, [[bytes([n]) * 16, bytes(BOX_BYTES - 1)] for n in range(4)]),
        changed(2, [[bytes([n]) * 16] for n in range(4)]),
        changed(2, [[n, bytes(BOX_BYTES)] for n in range(4)]),
        changed(2, list(reversed(codec.decode_trusted(PACKAGE)[2]))),
    ],
)
def test_a_package_of_another_shape_is_refused(package: bytes):
    assert refusal(package) == "package-malformed"


def test_the_size_is_looked_at_first():
    assert refusal(bytes(PACKAGE_BYTES_MAX + 1)) == "cbor-too-large"


# --- keys and bodies --------------------------------------------------------------------------------------------


def test_the_data_key_is_the_one_entries_are_sealed_with_and_differs_by_incident_and_log():
    log, other = LogId(bytes(32)), LogId(bytes([1]) * 32)
    assert data_key(KEY, INCIDENT, log) == log_keys(KEY, INCIDENT, log).data
    keys = {data_key(KEY, i, j) for i in (INCIDENT, IncidentId(bytes(16))) for j in (log, other)}
    assert len(keys) == 4
    assert len(make_epoch_key(SOURCE.randbytes)) == 32


def body(parents: int = 2) -> EpochBody:
    return EpochBody.make([prekey for _, prekey in DEVICES], [bytes([n]) * 32 for n in range(parents)])


def test_a_body_comes_back_from_its_plain_form_with_its_key_ids_computed():
    plain = codec.decode_trusted(codec.encode(body().to_plain()))
    assert epoch_body_untrusted(plain) == body()
    assert all(key_id(key) == identity for identity, key in epoch_body_untrusted(plain).parents)
    assert body().parent_ids == tuple(sorted(key_id(bytes([n]) * 32) for n in range(2)))
    assert list(body().devices) == sorted(prekey.device for _, prekey in DEVICES)


def test_parent_keys_are_in_no_repr():
    assert "parents" not in repr(body())
    assert repr(bytes([1]) * 32)[2:20] not in repr(body())


def plain_with(index: int, value: object) -> list[object]:
    plain = body().to_plain()
    plain[index] = value
    return plain


SMALL = [bytes([1]) * 32, 0]
LARGE = [bytes([2]) * 32, 0]


@pytest.mark.parametrize(
    "plain",
    [
        None,
        [],
        plain_with(0, 2),
        plain_with(1, {}),
        plain_with(2, {}),
        plain_with(1, []),
        plain_with(1, [1]),
        plain_with(1, [[bytes(32)]]),
        plain_with(1, [[bytes(31), 1]]),
        plain_with(1, [[1, 1]]),
        plain_with(1, [[bytes(32), -1]]),
        plain_with(1, [[bytes(32), True]]),
        plain_with(1, [[bytes(32), 2**63]]),
        plain_with(1, [LARGE, SMALL]),
        plain_with(1, [SMALL, SMALL]),
        plain_with(1, [[n.to_bytes(32, "big"), 0] for n in range(RECIPIENTS_MAX + 1)]),
        plain_with(2, [b"short"]),
        plain_with(2, [1]),
        plain_with(2, list(reversed(body().to_plain()[2]))),
        plain_with(2, [bytes(32), bytes(32)]),
        plain_with(2, [bytes(32)] * (EPOCH_PARENTS_MAX + 1)),
    ],
)
def test_a_body_of_another_shape_is_refused(plain: object):
    with pytest.raises(UntrustedInputError) as caught:
        epoch_body_untrusted(plain)
    assert caught.value.code == "body-malformed"


def test_the_largest_group_fits_into_one_entry_with_acts_body_and_every_parent_key():
    from meshnode.core.acts import Role, create_act
    from meshnode.core.entry import Content, encode_content
    from meshnode.core.ids import DeviceId

    devices = [DeviceId(n.to_bytes(32, "big")) for n in range(RECIPIENTS_MAX)]
    acts = (create_act(bytes(16), [(d, "WWWWWWWW", Role.WRITER) for d in devices]),)
    largest = EpochBody(
        tuple((d, 2**63 - 1) for d in devices),
        tuple((KeyId(b""), n.to_bytes(32, "big")) for n in range(EPOCH_PARENTS_MAX)),
    )
    assert len(encode_content(Content((), 2**53 - 1, "o" * 192, acts=acts, epoch=largest.to_plain()))) < 64_000


def test_the_hpke_sealer_answers_none_for_a_box_that_does_not_open():
    assert epochs.HpkeSealer().open(DEVICES[0][0], b"info", bytes(BOX_BYTES)) is None
