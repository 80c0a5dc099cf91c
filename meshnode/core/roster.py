"""The roster: who is enrolled in the network, and the newest prekey of each device.

Certificate bundles and prekey records replicate in clear to every enrolled node and verify offline against the
network root. What is kept of a device follows from the set of its records alone, never from who brought one, or when,
or what was known before, so all nodes come to the same:

- the highest serial counts; a device numbers its own prekeys, so nobody's clock decides;
- of one serial the record with the lowest hash counts. A device that made another is restored, cloned or hostile: they
  are **twins**. The one with the next hash is kept beside it as the proof, until a later serial ends both.

A new record is pushed to all links, and all are compared on every link by a digest over their hashes.
"""

from __future__ import annotations

from dataclasses import dataclass

from meshnode.core import codec, keys
from meshnode.core.certificates import Certificate, bundle_hash, verify_bundle_untrusted
from meshnode.core.ids import DeviceId
from meshnode.core.keys import PublicKey
from meshnode.core.prekeys import Prekey, claimed_device_untrusted, prekey_untrusted
from meshnode.errors import UntrustedInputError

DEVICES_MAX = 4_096
"""27 states, tens of NOCs each, a few devices: bounds what enrolled but hostile NOC roots can make everybody keep."""
RECORDS_OF_DEVICE_MAX = 2
"""The record that counts and one twin: two are proof, and a hostile device could make any number."""

Row = tuple[DeviceId, int, bytes]
"""Device, prekey serial, hash of the record."""


@dataclass(frozen=True, slots=True)
class Enrolled:
    """One record of one device of the network."""

    certificate: Certificate
    prekey: Prekey
    bundle: bytes
    record: bytes
    hash: bytes
    """Of the record, which names the hash of the bundle: so of both."""


class Roster:
    def __init__(self, network_root: PublicKey) -> None:
        self._network_root = network_root
        self._devices: dict[DeviceId, tuple[Enrolled, ...]] = {}
        """The record that counts, then its twin if there is one: of one serial, ascending by hash."""
        self._digest: bytes | None = None

    def __len__(self) -> int:
        return len(self._devices)

    def get(self, device: DeviceId) -> Enrolled | None:
        """The record that counts."""
        held = self._devices.get(device)
        return held[0] if held else None

    def records(self, device: DeviceId) -> tuple[Enrolled, ...]:
        """The record that counts, and its twin if there is one."""
        return self._devices.get(device, ())

    def serials(self) -> list[tuple[DeviceId, int]]:
        """(device, serial of the prekey that counts), ascending by device."""
        return [(device, self._devices[device][0].prekey.serial) for device in sorted(self._devices)]

    def devices_of(self, noc: str) -> list[Enrolled]:
        """All devices of a NOC, ascending by id."""
        return [self._devices[d][0] for d in sorted(self._devices) if self._devices[d][0].certificate.noc == noc]

    def nocs(self) -> list[str]:
        return sorted({held[0].certificate.noc for held in self._devices.values()})

    def accept_untrusted(self, bundle: bytes, record: bytes) -> Enrolled | None:
        """Takes a record that counts, or that is the twin of the one that does, and returns it; None when it is known
        already, older, or one twin too many.

        Raises UntrustedInputError ``certificate-*``, ``prekey-*``, ``bad-signature`` or ``roster-full``. All but the
        last are judged by the bytes alone, so a pair that is refused here is refused everywhere.
        """
        device = claimed_device_untrusted(record)
        held = self._devices.get(device, ())
        if any(record == known.record and bundle == known.bundle for known in held):
            return None
        found = self._verify_untrusted(bundle, record, held)
        if not held and len(self._devices) >= DEVICES_MAX:
            raise UntrustedInputError(
                "roster-full", f"more than {DEVICES_MAX} devices", "find out which NOC root certified so many"
            )
        serial = found.prekey.serial
        if held and not _is_news(held, serial, found.hash):
            return None
        twins = [known for known in held if known.prekey.serial == serial]
        kept = sorted([*twins, found], key=lambda enrolled: enrolled.hash)
        self._devices[device] = tuple(kept[:RECORDS_OF_DEVICE_MAX])
        self._digest = None
        return found

    def _verify_untrusted(self, bundle: bytes, record: bytes, held: tuple[Enrolled, ...]) -> Enrolled:
        """Three signatures, or one when the device's bundle was verified before, as each day when it renews its
        prekey."""
        prekey = prekey_untrusted(record)
        if prekey.bundle_hash != bundle_hash(bundle):
            raise UntrustedInputError(
                "prekey-other-certificate",
                "a prekey came with a certificate that its device did not publish it with",
                "somebody claims a foreign device: look at the peer, and at the NOC of that certificate",
            )
        known = next((known.certificate for known in held if known.bundle == bundle), None)
        certificate = known or verify_bundle_untrusted(bundle, self._network_root)
        if certificate.device != prekey.device:
            raise UntrustedInputError("prekey-wrong-device", "a prekey came with another device's certificate")
        return Enrolled(certificate, prekey, bundle, record, record_hash(record))

    def rows(self) -> list[Row]:
        """Every record held, ascending by device, then by hash."""
        return [
            (device, held.prekey.serial, held.hash)
            for device in sorted(self._devices)
            for held in self._devices[device]
        ]

    def wanted(self, rows: tuple[Row, ...]) -> list[DeviceId]:
        """Devices of which the other side holds a record that this roster would keep, and for which it has room."""
        found: dict[DeviceId, None] = {}
        room = DEVICES_MAX - len(self._devices)
        for device, serial, hashed in rows:
            held = self._devices.get(device)
            if held is None and device not in found and room > 0:
                room -= 1
                found[device] = None
            elif held is not None and _is_news(held, serial, hashed):
                found[device] = None
        return list(found)

    def digest(self) -> bytes:
        """32 bytes, equal exactly when two rosters hold the same records."""
        if self._digest is None:
            self._digest = keys.digest("mn-roster", codec.encode([list(row) for row in self.rows()]))
        return self._digest


def record_hash(record: bytes) -> bytes:
    return keys.digest("mn-prekey", record)


def _is_news(held: tuple[Enrolled, ...], serial: int, hashed: bytes) -> bool:
    """Would a record with this serial and hash be kept beside, or in place of, those held of its device?"""
    if serial != held[0].prekey.serial:
        return serial > held[0].prekey.serial
    if any(hashed == known.hash for known in held):
        return False
    return len(held) < RECORDS_OF_DEVICE_MAX or hashed < held[-1].hash
