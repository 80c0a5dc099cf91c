"""Secrets at rest: what the store keeps of prekeys and epoch keys is sealed under the store key.

XChaCha20-Poly1305 (draft-irtf-cfrg-xchacha-03, by libsodium) with a 24-byte random nonce. Each namespace of the store
has a key of its own, derived from the store key. The associated data is the namespace and the row's key, so that a
sealed value fits exactly one row: swapping two rows, or carrying one into another table, is noticed like any damage.
What this does not notice is an old value of the same row brought back with an old backup; the callers are built so
that this costs nothing but the newer keys (fresh logs, prekey serials that never go back).

Sealed form: nonce (24), ciphertext (as long as the plaintext), tag (16).
"""

from __future__ import annotations

from nacl import bindings
from nacl.exceptions import CryptoError

from meshnode.core.keys import RandomBytes, derive_key
from meshnode.errors import LocalFaultError

STORE_KEY_BYTES = 32
NONCE_BYTES = 24
SEALED_OVERHEAD_BYTES = NONCE_BYTES + 16

_NAMESPACE_BYTES_MAX = 255
"""Its length is written in one byte of the associated data, so that namespace and key cannot run into each other."""


def seal_at_rest(store_key: bytes, namespace: str, key: bytes, plaintext: bytes, random_bytes: RandomBytes) -> bytes:
    """The sealed value of one row."""
    bound = _associated_data(namespace, key)
    nonce = random_bytes(NONCE_BYTES)
    sealed: bytes = bindings.crypto_aead_xchacha20poly1305_ietf_encrypt(
        plaintext, bound, nonce, _namespace_key(store_key, namespace)
    )
    return nonce + sealed


def open_at_rest(store_key: bytes, namespace: str, key: bytes, sealed: bytes) -> bytes:
    """The plaintext of a row. Raises LocalFaultError ``store-secret-damaged``: wrong key, wrong row, or damage."""
    if len(sealed) >= SEALED_OVERHEAD_BYTES:
        try:
            plaintext: bytes = bindings.crypto_aead_xchacha20poly1305_ietf_decrypt(
                sealed[NONCE_BYTES:],
                _associated_data(namespace, key),
                sealed[:NONCE_BYTES],
                _namespace_key(store_key, namespace),
            )
        except CryptoError:
            pass
        else:
            return plaintext
    raise LocalFaultError(
        "store-secret-damaged",
        f"a sealed value of {namespace!r} does not open with this node's store key",
        "check that the store key belongs to this data directory; otherwise restore the directory from a backup",
    )


def _namespace_key(store_key: bytes, namespace: str) -> bytes:
    if len(store_key) != STORE_KEY_BYTES:
        raise ValueError(f"a store key has {STORE_KEY_BYTES} bytes")
    return derive_key("mn-at-rest", store_key, namespace.encode())


def _associated_data(namespace: str, key: bytes) -> bytes:
    name = namespace.encode()
    if len(name) > _NAMESPACE_BYTES_MAX:
        raise ValueError(f"a namespace has at most {_NAMESPACE_BYTES_MAX} bytes")
    return bytes([len(name)]) + name + key
