"""Who plays: enrolled devices whose keys come from their names, and what seals epoch keys to them.

Used by the protocol world and by the tests' own small world.
"""

from __future__ import annotations

import hashlib
import random
from functools import lru_cache

from meshnode.core import certificates, epochs
from meshnode.core.events import PeerIdentity
from meshnode.core.identity import Identity
from meshnode.core.keys import PublicKey, SigningKey
from meshnode.core.prekeys import PrekeySecret, public_halves
from meshnode.storage.ticket import CommittingLogStore
from simulations.worlds import crypto

START_WALL_MS = 1_780_000_000_000
"""Wall time when a virtual world begins."""
YEAR_S = 365 * 24 * 3600


@lru_cache(maxsize=4_096)
def make_identity(
    noc: str, name: str, relay: bool = True, network: int = 0, valid_years: int = 1, kind: str = crypto.REAL
) -> Identity:
    """An enrolled device, the same for the same names: key material comes from the names."""
    with crypto.signing(kind):
        return _make_identity(noc, name, relay, network, valid_years)


def _make_identity(noc: str, name: str, relay: bool, network: int, valid_years: int) -> Identity:
    network_root = SigningKey(bytes([network]) * 32)
    noc_root = SigningKey(_seed(f"noc {noc} {network}"))
    device_key = SigningKey(_seed(f"device {noc} {name} {network}"))
    middle_s, half_s = START_WALL_MS // 1000, valid_years * YEAR_S
    start, end = middle_s - half_s, middle_s + half_s
    noc_request = certificates.read_noc_request_untrusted(certificates.make_noc_request(noc_root, noc))
    noc_certificate = certificates.make_noc_certificate(network_root, noc_request, start, end)
    request = certificates.read_device_request_untrusted(certificates.make_device_request(device_key, noc, name))
    device_certificate = certificates.make_device_certificate(
        noc_root,
        PublicKey(network_root.public),
        request,
        relay=relay,
        not_before_s=start,
        not_after_s=end,
        serial=1,
    )
    bundle = certificates.make_bundle(noc_certificate, device_certificate)
    certificate = certificates.verify_bundle_untrusted(bundle, PublicKey(network_root.public))
    return Identity(device_key, _seed(f"store {noc} {name}"), certificate, PublicKey(network_root.public))


def peer_identity(identity: Identity, relay: bool, start: str = "") -> PeerIdentity:
    """What the far end of a link is told. ``start`` names the process."""
    certificate = identity.certificate
    return PeerIdentity(identity.device, certificate.noc, certificate.name, relay, certificate.bundle, start.encode())


def commit_all(store: CommittingLogStore) -> None:
    """Everything staged becomes durable now."""
    while (ticket := store.begin_commit()) is not None:
        store.write(ticket)
        store.end_commit(ticket)


def _seed(text: str) -> bytes:
    return random.Random(text).randbytes(32)


class SeededSealer:
    """Stands in for HPKE, whose encapsulation draws its randomness where nobody can inject it: the same arguments give
    the same box. Only the recipient's private part opens it here; that nobody else could is HPKE's to prove, not this.
    """

    def seal(self, mlkem: bytes, x25519: bytes, info: bytes, plaintext: bytes) -> bytes:
        pad, tag = _pads(mlkem, x25519, info)
        body = bytes(a ^ b for a, b in zip(plaintext, pad, strict=True))
        return (tag + body).ljust(epochs.BOX_BYTES, b"\0")

    def open(self, secret: PrekeySecret, info: bytes, box: bytes) -> bytes | None:
        x25519, mlkem = _public(secret)
        pad, tag = _pads(mlkem, x25519, info)
        if box[:32] != tag:
            return None
        return bytes(a ^ b for a, b in zip(box[32:64], pad, strict=True))


def _public(secret: PrekeySecret) -> tuple[bytes, bytes]:
    return _halves(secret.serial, secret.created_ms, secret.private)


@lru_cache(maxsize=20_000)
def _halves(serial: int, created_ms: int, private: bytes) -> tuple[bytes, bytes]:
    return public_halves(PrekeySecret(serial, created_ms, private))


def _pads(mlkem: bytes, x25519: bytes, info: bytes) -> tuple[bytes, bytes]:
    public = mlkem + x25519 + info
    return hashlib.blake2b(public, digest_size=32, person=b"pad").digest(), hashlib.blake2b(
        public, digest_size=32, person=b"tag"
    ).digest()
