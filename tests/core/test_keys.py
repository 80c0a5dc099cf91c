"""Signatures and hashes are bound to one purpose, and weak or bent ones are refused (X5)."""

from __future__ import annotations

import pickle

import pytest
from core_support import refused, search
from hypothesis import given
from hypothesis import strategies as st

from meshnode.core.keys import SIGNATURE_BYTES, SigningKey, derive_key, digest, verify_untrusted

KEY = SigningKey(bytes(range(32)))
ORDER = 2**252 + 27742317777372353535851937790883648493
"""Of the Ed25519 group."""
LOW_ORDER_POINTS = [
    bytes(32),
    b"\x01" + bytes(31),
    b"\xec" + b"\xff" * 30 + b"\x7f",
    bytes.fromhex("26e8958fc2b227b045c3f489f2ef98f0d5dfac05d3c63339b13802886d53fc05"),
    bytes.fromhex("c7176a703d4dd84fba3c0b760d10670f2a2053fa2c39ccc64ec7fd7792ac037a"),
]


@given(st.binary(max_size=100))
@search(20)
def test_what_was_signed_verifies_and_under_another_purpose_key_or_message_it_does_not(message: bytes) -> None:
    signature = KEY.sign("seal", message)
    assert len(signature) == SIGNATURE_BYTES
    verify_untrusted(KEY.public, "seal", message, signature, "a run")
    for public, tag, said in (
        (KEY.public, "log opening", message),
        (SigningKey(bytes(32)).public, "seal", message),
        (KEY.public, "seal", message + b"!"),
    ):
        with refused("bad-signature"):
            verify_untrusted(public, tag, said, signature, "a run")


def test_every_changed_or_missing_byte_of_a_signature_is_noticed() -> None:
    signature = KEY.sign("seal", b"message")
    for place in range(SIGNATURE_BYTES):
        bent = bytearray(signature)
        bent[place] ^= 1
        for bad in (bytes(bent), signature[:place]):
            with refused("bad-signature"):
                verify_untrusted(KEY.public, "seal", b"message", bad, "a run")


def test_a_signature_with_the_same_meaning_and_other_bytes_is_refused() -> None:
    signature = KEY.sign("seal", b"message")
    scalar = int.from_bytes(signature[32:], "little") + ORDER
    with refused("bad-signature"):
        verify_untrusted(KEY.public, "seal", b"message", signature[:32] + scalar.to_bytes(32, "little"), "a run")


@pytest.mark.parametrize("public", [*LOW_ORDER_POINTS, b"", bytes(31), bytes(33), b"\xff" * 32])
def test_a_key_of_low_order_or_of_a_wrong_length_verifies_nothing(public: bytes) -> None:
    identity_and_zero = b"\x01" + bytes(63)  # a signature that such a key would accept for everything
    for signature in (identity_and_zero, bytes(64), KEY.sign("seal", b"message")):
        with refused("bad-signature"):
            verify_untrusted(public, "seal", b"message", signature, "a run")


def test_a_key_shows_its_public_half_only_and_is_not_pickled() -> None:
    assert repr(KEY) == f"<SigningKey of {KEY.public.hex()[:8]}>"
    assert KEY.device_id == KEY.public
    assert KEY.seed == bytes(range(32))
    with pytest.raises(TypeError, match="not pickled"):
        pickle.dumps(KEY)
    with pytest.raises(ValueError, match="32 bytes"):
        SigningKey(b"short")


def test_hashes_and_derived_keys_differ_by_purpose_secret_and_context() -> None:
    assert len({digest("mn-entry", b"a"), digest("mn-sealed", b"a"), digest("mn-entry", b"b")}) == 3
    assert digest("mn-entry", b"a", b"b") == digest("mn-entry", b"ab")
    derived = {
        derive_key("mn-data", bytes(32), b"c"),
        derive_key("mn-nonce", bytes(32), b"c"),
        derive_key("mn-data", b"\x01" * 32, b"c"),
        derive_key("mn-data", bytes(32), b"d"),
        derive_key("mn-data", bytes(32)),
    }
    assert len(derived) == 5
    assert {len(key) for key in derived} == {32}
