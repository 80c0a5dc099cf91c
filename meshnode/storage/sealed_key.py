"""A root key under a passphrase: Argon2id makes a key of the passphrase, XChaCha20-Poly1305 seals with it.

Content: canonical CBOR [1, passes, memory in bytes, salt, nonce, ciphertext]. The costs stand in the file so that they
can rise later; they are part of the associated data, and bounded when read so that a damaged file cannot ask
for all memory.
"""

from __future__ import annotations

import secrets
from typing import NamedTuple

from nacl import bindings
from nacl.exceptions import CryptoError

from meshnode.core import codec
from meshnode.errors import LocalFaultError, UntrustedInputError

PASSES = 3
MEMORY_BYTES = 256 * 2**20
"""About 0.7 s on a small machine: nothing in a ceremony, a fortune for whoever guesses."""
PASSES_MAX = 16
MEMORY_BYTES_MAX = 2**30
SALT_BYTES = 16
NONCE_BYTES = 24
PASSPHRASE_BYTES_MAX = 1024
"""A passphrase is a sentence. A larger file is the wrong file."""
SEALED_BYTES_MAX = 1024
"""A sealed seed has about 110 bytes."""

_FORMAT = 1


class _Head(NamedTuple):
    """The clear part, in the order of the file; associated data of the seal."""

    form: int
    passes: int
    memory_bytes: int
    salt: bytes
    nonce: bytes


def label(plain_label: str) -> str:
    """The armour label of the sealed form."""
    return f"SEALED {plain_label}"


def seal(secret: bytes, passphrase: bytes, passes: int = PASSES, memory_bytes: int = MEMORY_BYTES) -> bytes:
    head = _Head(_FORMAT, passes, memory_bytes, secrets.token_bytes(SALT_BYTES), secrets.token_bytes(NONCE_BYTES))
    sealed = bindings.crypto_aead_xchacha20poly1305_ietf_encrypt(
        secret, codec.encode(list(head)), head.nonce, _stretch(passphrase, head)
    )
    return codec.encode([*head, sealed])


def open_sealed(data: bytes, passphrase: bytes) -> bytes:
    """The secret. Raises LocalFaultError ``passphrase-wrong`` or ``key-file-damaged``."""
    try:
        fields = codec.decode_untrusted(data, SEALED_BYTES_MAX)
    except UntrustedInputError:
        fields = None
    match fields:
        case [int(form), int(passes), int(memory_bytes), bytes(salt), bytes(nonce), bytes(sealed)] if (
            form == _FORMAT
            and 1 <= passes <= PASSES_MAX
            and 8192 <= memory_bytes <= MEMORY_BYTES_MAX
            and len(salt) == SALT_BYTES
            and len(nonce) == NONCE_BYTES
        ):
            head = _Head(form, passes, memory_bytes, salt, nonce)
        case _:
            raise LocalFaultError(
                "key-file-damaged", "the sealed key does not have its form", "put the file back from a backup"
            )
    try:
        secret: bytes = bindings.crypto_aead_xchacha20poly1305_ietf_decrypt(
            sealed, codec.encode(list(head)), head.nonce, _stretch(passphrase, head)
        )
    except CryptoError:
        raise LocalFaultError(
            "passphrase-wrong", "the passphrase does not open this key", "check the passphrase file and the directory"
        ) from None
    return secret


def _stretch(passphrase: bytes, head: _Head) -> bytes:
    key: bytes = bindings.crypto_pwhash_alg(
        bindings.crypto_aead_xchacha20poly1305_ietf_KEYBYTES,
        passphrase,
        head.salt,
        head.passes,
        head.memory_bytes,
        bindings.crypto_pwhash_ALG_ARGON2ID13,
    )
    return key
