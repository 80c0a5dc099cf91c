"""Prekeys: what a device publishes so that others can seal an epoch key to it while it is away.

A **record** is canonical CBOR ``[payload, signature]``; the payload, canonical CBOR again, is
``[1, device, bundle hash (32), serial, created_ms, X25519 public key (32), ML-KEM-768 public key (1,184)]`` and the
signature is the device key's over the payload as received. The hash is of the certificate bundle that the record was
published with: a device says itself which NOC it belongs to, and nobody can show its prekey under another root's
certificate. Records replicate to all enrolled nodes; which of a device's records counts is the roster's rule.

The X25519 key serves twice: as the classical half of the hybrid KEM, and for the lookup tag that lets a recipient find
its box in a package (core/epochs.py). Both hash the shared secret under labels of their own.

The **ring** holds a device's own private parts. It makes a new prekey every 24 h, keeps a replaced private part for
14 days so that packages on their way still open, then erases it: recorded packages die with it.

Wall clocks jump, so the ring does not compare dates. It keeps an *age counter* that grows by the difference between one
look at the clock and the next, never by less than zero and never by more than 24 h. A clock that jumps back counts as
no time and is simply followed from there; a jump ahead (or a machine that was off for a month) counts as one day. So no
jump erases early or stops rotation for ever. The price: a node that was off keeps replaced parts longer in wall time,
and a frozen clock never erases. The ring errs on keeping, because a key erased early is a record nobody can open.

Serials never go back either: a new one exceeds the ring's last, the wall clock in seconds, and the serial of any record
of our own device that we did not make. That last sign means that this node was restored or cloned: it rotates at once.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from cryptography.hazmat.primitives.asymmetric.mlkem import MLKEM768PrivateKey, MLKEM768PublicKey
from nacl import bindings
from nacl.exceptions import CryptoError

from meshnode.core import codec
from meshnode.core.certificates import bundle_hash
from meshnode.core.ids import DEVICE_ID_BYTES, DeviceId
from meshnode.core.keys import HASH_BYTES, SIGNATURE_BYTES, RandomBytes, SigningKey, verify_untrusted
from meshnode.errors import UntrustedInputError

FORMAT_VERSION = 1
PREKEY_TAG = "prekey"

X25519_BYTES = 32
MLKEM_PUBLIC_BYTES = 1184
MLKEM_SEED_BYTES = 64
PRIVATE_BYTES = X25519_BYTES + MLKEM_SEED_BYTES
"""The private part: the X25519 scalar, then the ML-KEM-768 seed (FIPS 203: d and z)."""

PREKEY_RECORD_BYTES_MAX = 2048
"""A record has at most 1,387 bytes; the rest is room for a later format."""
SERIAL_MAX = 2**63 - 1
TIME_MS_MAX = 2**53 - 1
"""Largest time that every JSON reader keeps exact: the year 287396."""

DAY_MS = 24 * 3600 * 1000
ROTATION_MS = DAY_MS
KEPT_AFTER_REPLACED_MS = 14 * DAY_MS
CLOCK_STEP_MS_MAX = DAY_MS
"""Most that one look at the clock may age the ring. A daemon looks at least hourly, so this only cuts jumps."""

_SMALL_ORDER_PROBE = b"\x55" * X25519_BYTES
"""Any scalar does: libsodium refuses a product of zero, which exactly the points of small order give (X5)."""


@dataclass(frozen=True, slots=True)
class PrekeySecret:
    """The private half of one prekey. Its bytes are in no repr."""

    serial: int
    created_ms: int
    private: bytes = field(repr=False)
    """The X25519 scalar (32), then the ML-KEM-768 seed (64)."""

    @property
    def x25519_private(self) -> bytes:
        return self.private[:X25519_BYTES]

    @property
    def mlkem_seed(self) -> bytes:
        return self.private[X25519_BYTES:]


@dataclass(frozen=True, slots=True)
class Prekey:
    """A device's verified public prekey. ``record`` is the signed bytes it came in, for passing on."""

    device: DeviceId
    bundle_hash: bytes
    """Of the only certificate bundle that this prekey may come with."""
    serial: int
    created_ms: int
    """What the device's clock said. Shown, never used to decide."""
    x25519: bytes
    mlkem: bytes
    record: bytes = field(repr=False)


def make_prekey(
    device_key: SigningKey, bundle: bytes, serial: int, now_ms: int, random_bytes: RandomBytes
) -> tuple[PrekeySecret, bytes]:
    """A new prekey of the device certified by ``bundle``: the private part for the ring, the signed record for the
    mesh."""
    secret = PrekeySecret(serial, now_ms, random_bytes(PRIVATE_BYTES))
    x25519, mlkem = public_halves(secret)
    payload = codec.encode([FORMAT_VERSION, device_key.device_id, bundle_hash(bundle), serial, now_ms, x25519, mlkem])
    return secret, codec.encode([payload, device_key.sign(PREKEY_TAG, payload)])


def public_halves(secret: PrekeySecret) -> tuple[bytes, bytes]:
    """The X25519 and the ML-KEM-768 public key of a private part."""
    x25519: bytes = bindings.crypto_scalarmult_base(secret.x25519_private)
    return x25519, MLKEM768PrivateKey.from_seed_bytes(secret.mlkem_seed).public_key().public_bytes_raw()


def make_throwaway(device: DeviceId, random_bytes: RandomBytes) -> Prekey:
    """In place of a device's prekey that is not known: what is sealed to it opens for nobody, and looks like a box."""
    x25519, mlkem = public_halves(PrekeySecret(0, 0, random_bytes(PRIVATE_BYTES)))
    return Prekey(device, bytes(HASH_BYTES), 0, 0, x25519, mlkem, b"")


def claimed_device_untrusted(data: bytes) -> DeviceId:
    """The device that a record *claims* to be of; proves nothing. For looking up whether the record is known already,
    which costs a twentieth of verifying it. Raises as :func:`prekey_untrusted` does."""
    return DeviceId(_open(data)[2][1])


def prekey_untrusted(data: bytes) -> Prekey:
    """The verified prekey of a record. Raises UntrustedInputError ``cbor-*``, ``prekey-malformed``,
    ``prekey-version``, ``prekey-weak`` or ``bad-signature``. That the bundle it came with is the one it names
    (``bundle_hash``) is for the caller to check."""
    payload, signature, fields = _open(data)
    _, device, bundle, serial, created_ms, x25519, mlkem = fields
    verify_untrusted(device, PREKEY_TAG, payload, signature, "a prekey")
    _check_strength(x25519, mlkem)
    return Prekey(DeviceId(device), bundle, serial, created_ms, x25519, mlkem, data)


def _open(data: bytes) -> tuple[bytes, bytes, list[Any]]:
    """Payload, signature and the seven fields of the payload, of the right form and not verified."""
    outer = codec.decode_untrusted(data, PREKEY_RECORD_BYTES_MAX)
    if not (isinstance(outer, list) and len(outer) == 2 and all(isinstance(part, bytes) for part in outer)):
        raise _malformed("a record is a payload and a signature")
    payload, signature = outer
    fields = codec.decode_untrusted(payload, PREKEY_RECORD_BYTES_MAX)
    if not isinstance(fields, list) or not fields or type(fields[0]) is not int:
        raise _malformed("a payload is a list that starts with its version")
    if fields[0] != FORMAT_VERSION:
        raise UntrustedInputError(
            "prekey-version", f"prekey format {fields[0]} is not known here", "upgrade this node, or wait for its owner"
        )
    if len(fields) != 7:
        raise _malformed("a payload of format 1 has seven fields")
    _, device, bundle, serial, created_ms, x25519, mlkem = fields
    if not (_is_bytes(device, DEVICE_ID_BYTES) and _is_bytes(bundle, HASH_BYTES) and len(signature) == SIGNATURE_BYTES):
        raise _malformed("device id, bundle hash and signature have 32, 32 and 64 bytes")
    if not (_is_uint(serial, SERIAL_MAX) and _is_uint(created_ms, TIME_MS_MAX)):
        raise _malformed("serial and time are unsigned integers within their limits")
    if not (_is_bytes(x25519, X25519_BYTES) and _is_bytes(mlkem, MLKEM_PUBLIC_BYTES)):
        raise _malformed("the public keys have 32 and 1,184 bytes")
    return payload, signature, fields


def _check_strength(x25519: bytes, mlkem: bytes) -> None:
    """Keys under which every shared secret is known, or that no sender could use, are refused before they spread."""
    try:
        bindings.crypto_scalarmult(_SMALL_ORDER_PROBE, x25519)
        MLKEM768PublicKey.from_public_bytes(mlkem)
    except (CryptoError, ValueError):
        raise UntrustedInputError(
            "prekey-weak", "a public key is of small order or out of range", "the device must make a new prekey"
        ) from None


def _is_bytes(value: object, length: int) -> bool:
    return isinstance(value, bytes) and len(value) == length


def _is_uint(value: object, highest: int) -> bool:
    return type(value) is int and 0 <= value <= highest


def _malformed(reason: str) -> UntrustedInputError:
    return UntrustedInputError("prekey-malformed", reason, "the device's software must follow the protocol")


@dataclass(slots=True)
class _Held:
    secret: PrekeySecret
    born_age_ms: int
    replaced_age_ms: int | None
    """Ages are values of the ring's age counter, not dates."""


class PrekeyRing:
    """A device's own private parts: when to make a new one, which still open packages, which are erased.

    What it holds must be durable (sealed, core/vault.py) before the record of a new prekey is spoken.
    """

    def __init__(self) -> None:
        self._held: list[_Held] = []
        """Ascending serials; the last one is current, the others are replaced."""
        self._age_ms = 0
        self._looked_ms: int | None = None
        """Wall clock at the last look; None before the first."""
        self._serial_foreign = 0
        """The highest serial of a record of our own device that this ring did not make."""

    def __repr__(self) -> str:
        return f"<PrekeyRing of {len(self._held)}>"

    @property
    def current(self) -> PrekeySecret | None:
        return self._held[-1].secret if self._held else None

    def secrets(self) -> tuple[PrekeySecret, ...]:
        """All private parts that still open packages, the current one first."""
        return tuple(held.secret for held in reversed(self._held))

    def rotate_due(self, now_ms: int) -> bool:
        """Is it time for a new prekey? True when there is none, after 24 h, and when ours :attr:`is_outdated`."""
        self._look(now_ms)
        if not self._held:
            return True
        if self._held[-1].secret.serial >= SERIAL_MAX:
            return False  # only a thief of the device key can have driven it here; there is no later serial to take
        if self.is_outdated:
            return True
        return self._age_ms - self._held[-1].born_age_ms >= ROTATION_MS

    @property
    def is_outdated(self) -> bool:
        """Must another prekey follow because of a record that this ring did not make: was an old copy of this device
        brought back, or are there two?"""
        return bool(self._held) and self._serial_foreign >= self._held[-1].secret.serial

    def next_serial(self, now_ms: int) -> int:
        """The serial for the next prekey: above everything this device is known to have used."""
        last = self._held[-1].secret.serial if self._held else 0
        return min(max(last + 1, self._serial_foreign + 1, now_ms // 1000), SERIAL_MAX)

    def add(self, secret: PrekeySecret, now_ms: int) -> None:
        """A prekey just made with :meth:`next_serial` becomes the current one."""
        self._look(now_ms)
        if self._held:
            if secret.serial <= self._held[-1].secret.serial:
                raise ValueError("a new prekey has a higher serial")
            self._held[-1].replaced_age_ms = self._age_ms
        self._held.append(_Held(secret, self._age_ms, None))

    def rise_above(self, serial: int) -> None:
        """There is a record of our own device with this serial that this ring did not make, or ours of that serial
        must be replaced: the next prekey gets a higher one."""
        self._serial_foreign = max(self._serial_foreign, serial)

    def expire(self, now_ms: int) -> tuple[int, ...]:
        """Erases private parts replaced 14 days ago and returns their serials. The caller erases them on disk."""
        self._look(now_ms)
        kept = [held for held in self._held if not self._is_over(held)]
        erased = tuple(held.secret.serial for held in self._held if self._is_over(held))
        self._held = kept
        return erased

    def _is_over(self, held: _Held) -> bool:
        return held.replaced_age_ms is not None and self._age_ms - held.replaced_age_ms >= KEPT_AFTER_REPLACED_MS

    def _look(self, now_ms: int) -> None:
        if self._looked_ms is not None:
            self._age_ms += min(max(now_ms - self._looked_ms, 0), CLOCK_STEP_MS_MAX)
        self._looked_ms = now_ms

    def to_plain(self) -> list[Any]:
        """Plain data with the secrets in clear: seal it (core/vault.py) before it touches a disk."""
        rows = [
            [held.secret.serial, held.secret.created_ms, held.secret.private, held.born_age_ms, held.replaced_age_ms]
            for held in self._held
        ]
        return [FORMAT_VERSION, self._age_ms, self._looked_ms, self._serial_foreign, rows]

    @classmethod
    def from_plain(cls, data: list[Any]) -> PrekeyRing:
        """The ring of :meth:`to_plain`, whose bytes were opened and so authenticated."""
        ring = cls()
        _, ring._age_ms, ring._looked_ms, ring._serial_foreign, rows = data
        ring._held = [
            _Held(PrekeySecret(serial, created_ms, private), born, replaced)
            for serial, created_ms, private, born, replaced in rows
        ]
        return ring
