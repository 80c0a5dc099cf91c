"""Epoch keys: how a new key reaches exactly the members, and how who holds the newest key reads the whole record.

An **epoch** is a span of an incident written under one random 32-byte key K_e. The entry that starts it carries a
**package** in clear and an **epoch body** sealed under K_e itself.

The package is ``[1, ephemeral X25519 public key, [[tag, box], ...]]``. A *box* is K_e sealed to one recipient's prekey
with HPKE (RFC 9180; ML-KEM-768 + X25519, HKDF-SHA256, ChaCha20-Poly1305), so what is recorded today stays closed to a
quantum computer. A *tag* is a hash of the Diffie-Hellman value of the ephemeral key and the recipient's X25519 prekey:
a recipient finds its box with one X25519 per private part, and nobody else can tell whose a box is. (A quantum computer
that has the prekey records could: the tag's privacy is classical, the key's is not.) Tags, and with them boxes, are
bound to incident and key id. Boxes stand in tag order and are filled up to a size bucket.

The filling is sealed too, to a throwaway prekey. Random bytes would not do: the X25519 part of a real box is always a
curve point below 2**255, and the compressed ML-KEM coefficients of a real box are measurably not uniform.

A box proves nothing about who sealed it; the entry around it does. A wrong key in a box is noticed by the key id.
How many boxes there are everybody sees. A package cannot show that they are for the devices the body names; the body is
judged (core/groups.py), and a member that finds no box is the one who notices, and asks (core/reseal.py).

The **body** names the exact recipients and carries the keys of the parent epochs. The chain is: the newest key opens
the newest epoch entry, whose body holds its parents' keys, which open theirs, and so on; concurrent epochs are simply
several parents. A body need not list every older key, only enough that all are reached (``Group.parent_keys``); a
body that breaks the chain makes its epoch invalid (rule E10), so no insider can take the past from a late member.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any, Protocol

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.asymmetric.mlkem import MLKEM768PrivateKey, MLKEM768PublicKey
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey, X25519PublicKey
from cryptography.hazmat.primitives.hpke import (
    AEAD,
    KDF,
    KEM,
    MLKEM768X25519PrivateKey,
    MLKEM768X25519PublicKey,
    Suite,
)
from nacl import bindings
from nacl.exceptions import CryptoError

from meshnode.core import codec
from meshnode.core.ids import DEVICE_ID_BYTES, DeviceId, IncidentId, KeyId, LogId
from meshnode.core.keys import RandomBytes, derive_key, digest
from meshnode.core.prekeys import PRIVATE_BYTES, SERIAL_MAX, X25519_BYTES, Prekey, PrekeySecret, public_halves
from meshnode.errors import RefusedError, UntrustedInputError

FORMAT_VERSION = 1
EPOCH_KEY_BYTES = 32
TAG_BYTES = 16
BOX_BYTES = 1168
"""ML-KEM-768 ciphertext 1,088, X25519 public key 32, sealed key 32, Poly1305 tag 16."""

RECIPIENTS_MAX = 400
"""Devices one epoch can be sealed to: 27 states with a dozen devices each, and some. Bounds the package to 465 KiB."""
BUCKETS = (4, 8, 16, 32, 64, 96, 128, 192, 256, 320, 400)
"""Boxes in a package. Doubling at first, where a number tells much; finer later, where bytes cost much."""

_BOX_ROW_BYTES = 1 + (1 + TAG_BYTES) + (3 + BOX_BYTES)
PACKAGE_BYTES_MAX = 1 + 1 + (2 + X25519_BYTES) + 3 + RECIPIENTS_MAX * _BOX_ROW_BYTES

EPOCH_PARENTS_MAX = 256
"""Parent keys in one body: 17 KiB. Members, acts and body of the largest group then still fit into one entry. More
are only ever needed after as many concurrent epochs; the rest follow in a next epoch, which lists the first."""

_INFO = b"meshnode/1 epoch box"


class Sealer(Protocol):
    """The one place where randomness cannot be injected: HPKE draws its encapsulation inside ``cryptography``.

    The daemon uses :class:`HpkeSealer`. A simulator that needs one seed to give one trace puts its own here.
    """

    def seal(self, mlkem: bytes, x25519: bytes, info: bytes, plaintext: bytes) -> bytes:
        """A box of BOX_BYTES for a 32-byte plaintext."""

    def open(self, secret: PrekeySecret, info: bytes, box: bytes) -> bytes | None:
        """The plaintext, or None when the box does not open."""


class HpkeSealer:
    """RFC 9180 base mode, single shot."""

    def __init__(self) -> None:
        self._suite = Suite(KEM.MLKEM768_X25519, KDF.HKDF_SHA256, AEAD.CHACHA20_POLY1305)

    def seal(self, mlkem: bytes, x25519: bytes, info: bytes, plaintext: bytes) -> bytes:
        public = MLKEM768X25519PublicKey(
            MLKEM768PublicKey.from_public_bytes(mlkem), X25519PublicKey.from_public_bytes(x25519)
        )
        return self._suite.encrypt(plaintext, public, info)

    def open(self, secret: PrekeySecret, info: bytes, box: bytes) -> bytes | None:
        private = MLKEM768X25519PrivateKey(
            MLKEM768PrivateKey.from_seed_bytes(secret.mlkem_seed),
            X25519PrivateKey.from_private_bytes(secret.x25519_private),
        )
        try:
            return self._suite.decrypt(box, private, info)
        except InvalidTag:
            return None


HPKE_SEALER = HpkeSealer()


def make_epoch_key(random_bytes: RandomBytes) -> bytes:
    return random_bytes(EPOCH_KEY_BYTES)


def key_id(epoch_key: bytes) -> KeyId:
    """The public name of an epoch key."""
    return KeyId(digest("mn-key-id", epoch_key))


def data_key(epoch_key: bytes, incident: IncidentId, log: LogId) -> bytes:
    """The key that seals the entries of one log of one incident under this epoch."""
    return derive_key("mn-data", epoch_key, incident, log)


# --- packages ---------------------------------------------------------------------------------------------------


def make_package(
    recipients: Sequence[Prekey],
    epoch_key: bytes,
    incident: IncidentId,
    random_bytes: RandomBytes,
    sealer: Sealer = HPKE_SEALER,
) -> bytes:
    """Canonical bytes of a package: one box per recipient (0.3 ms each), and filling.

    Raises RefusedError ``epoch-too-many-recipients``.
    """
    if len(recipients) > RECIPIENTS_MAX:
        raise RefusedError(
            "epoch-too-many-recipients",
            f"{len(recipients)} devices where an incident has at most {RECIPIENTS_MAX}",
            "share with fewer devices of each NOC",
        )
    identity = key_id(epoch_key)
    ephemeral = random_bytes(X25519_BYTES)
    info = _info(incident, identity)
    rows = [
        [
            _tag(bindings.crypto_scalarmult(ephemeral, prekey.x25519), incident, identity),
            sealer.seal(prekey.mlkem, prekey.x25519, info, epoch_key),
        ]
        for prekey in recipients
    ]
    bucket = _bucket(len(rows))
    if len(rows) < bucket:
        x25519, mlkem = public_halves(PrekeySecret(0, 0, random_bytes(PRIVATE_BYTES)))
        for _ in range(bucket - len(rows)):
            rows.append([random_bytes(TAG_BYTES), sealer.seal(mlkem, x25519, info, random_bytes(EPOCH_KEY_BYTES))])
    rows.sort(key=lambda row: row[0])
    return codec.encode([FORMAT_VERSION, bindings.crypto_scalarmult_base(ephemeral), rows])


def open_package_untrusted(
    package: bytes,
    incident: IncidentId,
    identity: KeyId,
    secrets: Sequence[PrekeySecret],
    sealer: Sealer = HPKE_SEALER,
) -> bytes | None:
    """The epoch key whose id is ``identity``, or None when no box here is for us.

    Raises UntrustedInputError ``cbor-*``, ``package-malformed``, or ``package-wrong-key`` when a box that is for us
    does not hold the key that the entry names.
    """
    ephemeral, rows = _package_untrusted(package)
    info = _info(incident, identity)
    wrong = False
    for secret in secrets:
        try:
            shared = bindings.crypto_scalarmult(secret.x25519_private, ephemeral)
        except CryptoError:
            raise _malformed("package", "the ephemeral key is of small order") from None
        tag = _tag(shared, incident, identity)
        for box in [box for row_tag, box in rows if row_tag == tag]:
            opened = sealer.open(secret, info, box)
            if opened is not None and len(opened) == EPOCH_KEY_BYTES and key_id(opened) == identity:
                return opened
            wrong = True
    if wrong:
        raise UntrustedInputError(
            "package-wrong-key", "a box for this device does not hold the key of its epoch", "a member must start anew"
        )
    return None


def check_boxes_untrusted(package: bytes, recipients: int) -> None:
    """What everybody can see of a package beside its body: its form, and that so many recipients have a box each.

    Raises UntrustedInputError ``package-malformed``, ``package-boxes-missing`` or ``cbor-*``.
    """
    _, rows = _package_untrusted(package)
    if len(rows) != _bucket(recipients):
        raise UntrustedInputError(
            "package-boxes-missing",
            f"a package for {recipients} recipients has {len(rows)} boxes, not {_bucket(recipients)}",
            "its author must follow the protocol",
        )


def _bucket(recipients: int) -> int:
    return next(size for size in BUCKETS if size >= recipients)


def _package_untrusted(package: bytes) -> tuple[bytes, list[list[bytes]]]:
    fields = codec.decode_untrusted(package, PACKAGE_BYTES_MAX)
    if not (isinstance(fields, list) and len(fields) == 3 and _is_version(fields[0])):
        raise _malformed("package", "it is a version 1, a key and boxes")
    _, ephemeral, rows = fields
    if not (isinstance(ephemeral, bytes) and len(ephemeral) == X25519_BYTES and isinstance(rows, list)):
        raise _malformed("package", "the ephemeral key has 32 bytes, and boxes are a list")
    if len(rows) not in BUCKETS:
        raise _malformed("package", "the number of boxes is no bucket")
    for row in rows:
        if not (isinstance(row, list) and len(row) == 2 and all(isinstance(part, bytes) for part in row)):
            raise _malformed("package", "a row is a tag and a box")
        if len(row[0]) != TAG_BYTES or len(row[1]) != BOX_BYTES:
            raise _malformed("package", "a tag or box has the wrong length")
    tags = [row[0] for row in rows]
    # Strictly ascending: a tag is unique, so a hostile package costs each private part one decapsulation at most.
    if any(first >= second for first, second in pairwise(tags)):
        raise _malformed("package", "tags are not ascending")
    return ephemeral, rows


def _is_version(value: object) -> bool:
    """``true`` equals 1 in Python, and nowhere else."""
    return type(value) is int and value == FORMAT_VERSION


def _info(incident: IncidentId, identity: KeyId) -> bytes:
    """Not bound to the recipient by name: the KEM already binds its public keys."""
    return _INFO + incident + identity


def _tag(shared: bytes, incident: IncidentId, identity: KeyId) -> bytes:
    return derive_key("mn-box-tag", shared, incident, identity)[:TAG_BYTES]


def _malformed(what: str, reason: str) -> UntrustedInputError:
    return UntrustedInputError(
        f"{what}-malformed", f"an epoch {what} is not well formed: {reason}", "its author must follow the protocol"
    )


# --- bodies -----------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class EpochBody:
    """The sealed part of an epoch: for whom it is, and the keys that lead to the epochs before it."""

    recipients: tuple[tuple[DeviceId, int], ...]
    """(device, serial of the prekey sealed to), each device once, ascending."""
    parents: tuple[tuple[KeyId, bytes], ...] = field(default=(), repr=False)
    """(key id, epoch key), ascending. Each key was checked against its id."""

    @classmethod
    def make(cls, recipients: Sequence[Prekey], parent_keys: Sequence[bytes]) -> EpochBody:
        """The body for these recipients and parent keys."""
        return cls(
            tuple(sorted((prekey.device, prekey.serial) for prekey in recipients)),
            tuple(sorted((key_id(parent), parent) for parent in parent_keys)),
        )

    @property
    def devices(self) -> tuple[DeviceId, ...]:
        return tuple(device for device, _ in self.recipients)

    @property
    def parent_ids(self) -> tuple[KeyId, ...]:
        return tuple(identity for identity, _ in self.parents)

    def to_plain(self) -> list[Any]:
        """``[1, [[device, serial], ...], [parent key, ...]]``; the key ids are computed, so none can be wrong."""
        return [
            FORMAT_VERSION,
            [[device, serial] for device, serial in self.recipients],
            [key for _, key in self.parents],
        ]


def epoch_body_untrusted(plain: Any) -> EpochBody:
    """The body of decoded canonical CBOR. Raises UntrustedInputError ``body-malformed``."""
    if not (isinstance(plain, list) and len(plain) == 3 and _is_version(plain[0])):
        raise _malformed("body", "it is a version 1, recipients and parent keys")
    _, recipients, parents = plain
    if not isinstance(recipients, list) or not isinstance(parents, list):
        raise _malformed("body", "recipients and parent keys are lists")
    if not 1 <= len(recipients) <= RECIPIENTS_MAX or len(parents) > EPOCH_PARENTS_MAX:
        raise _malformed("body", f"1 to {RECIPIENTS_MAX} recipients and at most {EPOCH_PARENTS_MAX} parent keys")
    if not all(_is_recipient(row) for row in recipients):
        raise _malformed("body", "a recipient is a device and the serial of its prekey")
    if any(first[0] >= second[0] for first, second in pairwise(recipients)):
        raise _malformed("body", "recipients are not ascending")
    if not all(isinstance(key, bytes) and len(key) == EPOCH_KEY_BYTES for key in parents):
        raise _malformed("body", "a parent key has 32 bytes")
    named = [(key_id(key), key) for key in parents]
    if any(first >= second for first, second in pairwise(named)):
        raise _malformed("body", "parent keys are not ascending by key id")
    return EpochBody(tuple((DeviceId(device), serial) for device, serial in recipients), tuple(named))


def _is_recipient(row: object) -> bool:
    return (
        isinstance(row, list)
        and len(row) == 2
        and isinstance(row[0], bytes)
        and len(row[0]) == DEVICE_ID_BYTES
        and type(row[1]) is int
        and 0 <= row[1] <= SERIAL_MAX
    )
