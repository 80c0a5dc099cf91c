"""Which signatures a virtual mesh uses: Ed25519, or a keyed hash that is forty times cheaper.

A mesh in virtual time spends most of a run on checking signatures. With ``cheap`` a signature is BLAKE2b over the same
bytes, keyed with the public key: it is still wrong when a byte, the key or the purpose is another, so every check on
authenticity keeps its meaning. What it cannot show is that nobody else could have signed: that is Ed25519's to prove.

The sealed part of entries stays XChaCha20-Poly1305: a stand-in in Python costs more than libsodium takes. So does what
an epoch's key is sealed with, which is rare.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from contextlib import contextmanager
from functools import lru_cache
from typing import Protocol
from unittest.mock import patch

from nacl import bindings
from nacl.exceptions import BadSignatureError

from meshnode.core import keys

REAL, CHEAP = "real", "cheap"
KINDS = (REAL, CHEAP)
VERIFIED_MAX = 65_536
"""Signatures remembered as right, in one run: those of an hour of 1,000 nodes, at about 300 bytes each."""


class Signatures(Protocol):
    """What ``meshnode.core.keys`` calls of libsodium's bindings."""

    def crypto_sign_seed_keypair(self, seed: bytes) -> tuple[bytes, bytes]: ...

    def crypto_sign(self, message: bytes, secret: bytes) -> bytes: ...

    def crypto_sign_open(self, signed: bytes, public: bytes) -> bytes:
        """The message. Raises BadSignatureError."""


class Ed25519:
    """The real ones."""

    crypto_sign_seed_keypair = staticmethod(bindings.crypto_sign_seed_keypair)
    crypto_sign = staticmethod(bindings.crypto_sign)
    crypto_sign_open = staticmethod(bindings.crypto_sign_open)


class KeyedHash:
    """Keys and signatures have the sizes of Ed25519."""

    @staticmethod
    def crypto_sign_seed_keypair(seed: bytes) -> tuple[bytes, bytes]:
        public = hashlib.blake2b(seed, digest_size=keys.PUBLIC_KEY_BYTES, person=b"sim public").digest()
        return public, seed + public

    @staticmethod
    def crypto_sign(message: bytes, secret: bytes) -> bytes:
        return _tag(message, secret[keys.SEED_BYTES :]) + message

    @staticmethod
    def crypto_sign_open(signed: bytes, public: bytes) -> bytes:
        message = signed[keys.SIGNATURE_BYTES :]
        if signed[: keys.SIGNATURE_BYTES] != _tag(message, public):
            raise BadSignatureError("Signature was forged or corrupt")
        return message


_SIGNATURES: dict[str, Signatures] = {REAL: Ed25519(), CHEAP: KeyedHash()}


def _tag(message: bytes, public: bytes) -> bytes:
    return hashlib.blake2b(message, digest_size=keys.SIGNATURE_BYTES, key=public).digest()


class VerifiedOnce:
    """Remembers what was verified: the same signature over the same bytes is right for every node of a mesh.

    What is wrong is raised each time, and not remembered.
    """

    def __init__(self, signatures: Signatures) -> None:
        self.crypto_sign_seed_keypair = signatures.crypto_sign_seed_keypair
        self.crypto_sign = signatures.crypto_sign
        self.crypto_sign_open = lru_cache(maxsize=VERIFIED_MAX)(signatures.crypto_sign_open)


@contextmanager
def signing(kind: str, *, once: bool = False) -> Iterator[None]:
    """The core signs and verifies this way; ``once`` remembers what was verified."""
    signatures: Signatures = _SIGNATURES[kind]
    with patch.object(keys, "bindings", VerifiedOnce(signatures) if once else signatures):
        yield
