"""The roster: who is enrolled in the network, and the newest prekey of each device.

Certificate bundles and prekey records replicate in clear to every enrolled node and verify offline against the
network root. Per device the record with the highest serial counts (of one serial the greater bytes); a device numbers
its own prekeys, so nobody's clock decides. A new record is pushed to all links at once and compared on every link by
digest.
"""

from __future__ import annotations

from dataclasses import dataclass

from meshnode.core import codec, keys
from meshnode.core.certificates import Certificate, verify_bundle_untrusted
from meshnode.core.ids import DeviceId
from meshnode.core.keys import PublicKey
from meshnode.core.prekeys import Prekey, prekey_untrusted
from meshnode.errors import UntrustedInputError

DEVICES_MAX = 4_096
"""27 states, tens of NOCs each, a few devices: bounds what enrolled but hostile NOC roots can make everybody keep."""


@dataclass(frozen=True, slots=True)
class Enrolled:
    """One device of the network."""

    certificate: Certificate
    prekey: Prekey
    bundle: bytes
    record: bytes


class Roster:
    def __init__(self, network_root: PublicKey) -> None:
        self._network_root = network_root
        self._devices: dict[DeviceId, Enrolled] = {}
        self._digest: bytes | None = None

    def __len__(self) -> int:
        return len(self._devices)

    def get(self, device: DeviceId) -> Enrolled | None:
        return self._devices.get(device)

    def devices_of(self, noc: str) -> list[Enrolled]:
        """All devices of a NOC, ascending by id."""
        return [self._devices[d] for d in sorted(self._devices) if self._devices[d].certificate.noc == noc]

    def nocs(self) -> list[str]:
        return sorted({enrolled.certificate.noc for enrolled in self._devices.values()})

    def accept_untrusted(self, bundle: bytes, record: bytes) -> Enrolled | None:
        """Takes a newer record and returns it, or None when it is known already or older.

        Raises UntrustedInputError ``certificate-*``, ``prekey-*``, ``bad-signature`` or ``roster-full``. A device that
        is known stays with its NOC (``prekey-other-noc``): the record does not name the NOC, and another NOC's root
        could certify the same key.
        """
        prekey = prekey_untrusted(record)
        known = self._devices.get(prekey.device)
        if known is not None and not prekey.supersedes(known.prekey):
            return None
        if known is None and len(self._devices) >= DEVICES_MAX:
            raise UntrustedInputError(
                "roster-full", f"more than {DEVICES_MAX} devices", "find out which NOC root certified so many"
            )
        certificate = verify_bundle_untrusted(bundle, self._network_root)
        if certificate.device != prekey.device:
            raise UntrustedInputError("prekey-wrong-device", "a prekey came with another device's certificate")
        if known is not None and certificate.noc != known.certificate.noc:
            raise UntrustedInputError(
                "prekey-other-noc",
                f"{certificate.noc} certified a device of {known.certificate.noc}",
                f"ask {certificate.noc} why; the device stays with {known.certificate.noc} here",
            )
        enrolled = self._devices[prekey.device] = Enrolled(certificate, prekey, bundle, record)
        self._digest = None
        return enrolled

    def serials(self) -> list[tuple[DeviceId, int]]:
        """(device, prekey serial), ascending by device."""
        return [(device, self._devices[device].prekey.serial) for device in sorted(self._devices)]

    def newer_than_mine(self, serials: tuple[tuple[DeviceId, int], ...]) -> list[DeviceId]:
        """Devices whose record the other side holds in a newer version than this roster, and for which it has room."""
        newer = []
        room = DEVICES_MAX - len(self._devices)
        for device, serial in serials:
            known = self._devices.get(device)
            if known is None and room > 0:
                room -= 1
                newer.append(device)
            elif known is not None and known.prekey.serial < serial:
                newer.append(device)
        return newer

    def digest(self) -> bytes:
        """32 bytes, equal when two rosters list the same serials."""
        if self._digest is None:
            self._digest = keys.digest("mn-roster", codec.encode([list(row) for row in self.serials()]))
        return self._digest
