"""XChaCha20-Poly1305 (draft-irtf-cfrg-xchacha-03) of libsodium, without the wrapper of PyNaCl's bindings.

The wrapper formats its error messages before it knows of an error: 11 of the 16 us that opening an entry of a catch-up
took. This makes the same call into the same library, with the same checks. Every use of a private name of PyNaCl is in
this file, so the version is pinned and asserted.
"""

from __future__ import annotations

import nacl
from nacl._sodium import ffi, lib

PYNACL_VERSION = "1.6.2"
if nacl.__version__ != PYNACL_VERSION:
    raise ImportError(f"aead.py is written for PyNaCl {PYNACL_VERSION}, not {nacl.__version__}")

KEY_BYTES = 32
NONCE_BYTES = 24
TAG_BYTES = 16

_BYTES = ffi.typeof("unsigned char[]")


def seal(plain: bytes, clear: bytes, nonce: bytes, key: bytes) -> bytes:
    """Ciphertext and tag; ``clear`` is authenticated with it. ValueError for a nonce or key of another size."""
    _check(nonce, key)
    size = len(plain) + TAG_BYTES
    out = ffi.new(_BYTES, size)
    lib.crypto_aead_xchacha20poly1305_ietf_encrypt(
        out, ffi.NULL, plain, len(plain), clear, len(clear), ffi.NULL, nonce, key
    )
    return bytes(ffi.buffer(out, size))


def open_untrusted(sealed: bytes, clear: bytes, nonce: bytes, key: bytes) -> bytes | None:
    """The plaintext; None when anything of it was changed. ValueError for a nonce or key of another size."""
    _check(nonce, key)
    size = len(sealed) - TAG_BYTES
    if size < 0:
        return None
    out = ffi.new(_BYTES, size)
    if lib.crypto_aead_xchacha20poly1305_ietf_decrypt(
        out, ffi.NULL, ffi.NULL, sealed, len(sealed), clear, len(clear), nonce, key
    ):
        return None
    return bytes(ffi.buffer(out, size))


def _check(nonce: bytes, key: bytes) -> None:
    # libsodium reads this many bytes, whatever there is.
    if len(nonce) != NONCE_BYTES or len(key) != KEY_BYTES:
        raise ValueError(f"a nonce has {NONCE_BYTES} bytes and a key {KEY_BYTES}")
