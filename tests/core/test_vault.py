"""Secrets at rest fit one row of one store, and nothing else opens them."""

from __future__ import annotations

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from meshnode.core.vault import SEALED_OVERHEAD_BYTES, open_at_rest, seal_at_rest
from meshnode.errors import LocalFaultError

STORE_KEY = bytes(range(32))


def seal(plaintext: bytes, namespace: str = "epoch-keys", key: bytes = b"row") -> bytes:
    return seal_at_rest(STORE_KEY, namespace, key, plaintext, random.Random(1).randbytes)


@given(st.binary(max_size=200), st.text(max_size=20), st.binary(max_size=40))
def test_what_was_sealed_opens_again_and_grows_by_the_stated_overhead(plain: bytes, namespace: str, key: bytes):
    sealed = seal(plain, namespace, key)
    assert len(sealed) == len(plain) + SEALED_OVERHEAD_BYTES
    assert open_at_rest(STORE_KEY, namespace, key, sealed) == plain


@given(st.data())
def test_any_changed_or_missing_byte_is_noticed(data: st.DataObject):
    sealed = bytearray(seal(b"secret"))
    if data.draw(st.booleans()):
        sealed = sealed[: data.draw(st.integers(0, len(sealed) - 1))]
    else:
        sealed[data.draw(st.integers(0, len(sealed) - 1))] ^= 1 << data.draw(st.integers(0, 7))
    with pytest.raises(LocalFaultError) as caught:
        open_at_rest(STORE_KEY, "epoch-keys", b"row", bytes(sealed))
    assert caught.value.code == "store-secret-damaged"


@pytest.mark.parametrize(
    ("store_key", "namespace", "key"),
    [
        (bytes(32), "epoch-keys", b"row"),
        (STORE_KEY, "epoch-key", b"srow"),  # the same bytes, split elsewhere
        (STORE_KEY, "prekeys", b"row"),
        (STORE_KEY, "epoch-keys", b"other"),
    ],
)
def test_a_value_opens_with_no_other_store_key_in_no_other_namespace_and_in_no_other_row(
    store_key: bytes, namespace: str, key: bytes
):
    with pytest.raises(LocalFaultError):
        open_at_rest(store_key, namespace, key, seal(b"secret"))


def test_the_error_tells_the_namespace_and_nothing_of_the_secret():
    with pytest.raises(LocalFaultError) as caught:
        open_at_rest(bytes(32), "epoch-keys", b"row", seal(b"hidden"))
    assert "epoch-keys" in str(caught.value)
    assert "hidden" not in str(caught.value)


def test_a_store_key_of_another_length_or_an_endless_namespace_is_a_mistake_of_the_caller():
    with pytest.raises(ValueError, match="32 bytes"):
        seal_at_rest(b"short", "n", b"", b"", random.Random(1).randbytes)
    with pytest.raises(ValueError, match="255 bytes"):
        seal_at_rest(STORE_KEY, "n" * 256, b"", b"", random.Random(1).randbytes)
