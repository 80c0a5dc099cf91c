"""The same cipher as everybody's: the draft's vector, PyNaCl's own bindings; and nothing opens that was changed."""

from __future__ import annotations

import runpy

import nacl
import pytest
from hypothesis import given
from hypothesis import strategies as st
from nacl import bindings

from meshnode.core import aead

KEY = bytes(range(0x80, 0xA0))
NONCE = bytes(range(0x40, 0x58))
CLEAR = bytes.fromhex("50515253c0c1c2c3c4c5c6c7")
PLAIN = (
    b"Ladies and Gentlemen of the class of '99: "
    b"If I could offer you only one tip for the future, sunscreen would be it."
)
SEALED = bytes.fromhex(
    "bd6d179d3e83d43b9576579493c0e939572a1700252bfaccbed2902c21396cbb731c7f1b0b4aa6440bf3a82f4eda7e39ae64c6708c54c216"
    "cb96b72e1213b4522f8c9ba40db5d945b11b69b982c1bb9e3f3fac2bc369488f76b2383565d3fff921f9664c97637da9768812f615c68b13"
    "b52ec0875924c1c7987947deafd8780acf49"
)
"""draft-irtf-cfrg-xchacha-03, appendix A.3.1."""


def test_the_vector_of_the_draft() -> None:
    assert aead.seal(PLAIN, CLEAR, NONCE, KEY) == SEALED
    assert aead.open_untrusted(SEALED, CLEAR, NONCE, KEY) == PLAIN


@given(st.binary(max_size=300), st.binary(max_size=200), st.binary(min_size=24, max_size=24))
def test_the_bindings_say_the_same(plain: bytes, clear: bytes, nonce: bytes) -> None:
    sealed = aead.seal(plain, clear, nonce, KEY)
    assert sealed == bindings.crypto_aead_xchacha20poly1305_ietf_encrypt(plain, clear, nonce, KEY)
    assert aead.open_untrusted(sealed, clear, nonce, KEY) == plain


def test_what_was_changed_or_cut_anywhere_does_not_open() -> None:
    for position in range(len(SEALED)):
        changed = bytearray(SEALED)
        changed[position] ^= 1
        assert aead.open_untrusted(bytes(changed), CLEAR, NONCE, KEY) is None
        assert aead.open_untrusted(SEALED[:position], CLEAR, NONCE, KEY) is None
    assert aead.open_untrusted(SEALED, CLEAR + b"x", NONCE, KEY) is None
    assert aead.open_untrusted(SEALED, CLEAR, bytes(24), KEY) is None


@pytest.mark.parametrize(("nonce", "key"), [(NONCE[1:], KEY), (NONCE, KEY + b"x"), (b"", KEY), (NONCE, b"")])
def test_a_nonce_or_key_of_another_size_never_reaches_the_library(nonce: bytes, key: bytes) -> None:
    with pytest.raises(ValueError, match="a nonce has 24 bytes and a key 32"):
        aead.seal(PLAIN, CLEAR, nonce, key)
    with pytest.raises(ValueError, match="a nonce has 24 bytes and a key 32"):
        aead.open_untrusted(SEALED, CLEAR, nonce, key)


def test_another_version_of_the_library_is_refused_at_import(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(nacl, "__version__", "1.6.3")
    with pytest.raises(ImportError, match="written for PyNaCl"):
        runpy.run_path(aead.__file__)
