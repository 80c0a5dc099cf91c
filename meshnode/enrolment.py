"""How a data directory becomes a node: ``init`` makes its keys and a request, ``enrol`` takes in the certificate.

Between the two, a person carries ``device.request`` to the NOC authority and the certificate back. The first
enrolment fixes the network root of this node for good: later certificates must be of the same network. Nothing is
written unless everything about the certificate is right.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from meshnode.core import certificates
from meshnode.core.certificates import Certificate
from meshnode.core.ids import DeviceId
from meshnode.core.keys import PublicKey
from meshnode.core.names import is_device_name, is_noc_code
from meshnode.errors import RefusedError, UntrustedInputError
from meshnode.storage import keyfiles


@dataclass(frozen=True, slots=True)
class Enrolment:
    """What a data directory says of itself; the certificate is None until the node is enrolled."""

    device: DeviceId
    network: PublicKey | None
    certificate: Certificate | None


def init_node(data_dir: Path, noc: str, name: str) -> DeviceId:
    """Make the keys and ``device.request``. Refuses a directory that has keys already."""
    if not is_noc_code(noc):
        raise RefusedError(
            "bad-name", f"{noc!r} is no NOC code: 2 to 8 capital letters and digits", "write a code like BE or EU"
        )
    if not is_device_name(name):
        raise RefusedError(
            "bad-name", f"{name!r} is no device name: a-z, 0-9 and hyphen, at most 63", "write a name like be-1"
        )
    device_key = keyfiles.create_node_keys(data_dir)
    request = certificates.make_device_request(device_key, noc, name)
    keyfiles.replace(data_dir / keyfiles.REQUEST_FILE, keyfiles.REQUEST_LABEL, request)
    return device_key.device_id


def enrol(data_dir: Path, bundle_file: Path, network_root: PublicKey | None, now_s: float) -> Enrolment:
    """Check the certificate against this device, its chain and the clock, and only then keep it.

    Without ``network_root`` a first enrolment believes the network that the certificate names, and a person must
    compare its fingerprint.
    """
    device_key = keyfiles.read_device_key(data_dir)
    bundle = keyfiles.read_handed_in(bundle_file, keyfiles.CERTIFICATE_LABEL)
    known = keyfiles.read_network_root(data_dir) if (data_dir / keyfiles.NETWORK_ROOT_FILE).exists() else None
    if network_root is not None and known is not None and network_root != known:
        raise RefusedError(
            "certificate-foreign-network",
            "this node is enrolled in another network already",
            "make a new node for the other network: meshnode init with another --data",
        )
    anchor = known or network_root or certificates.claimed_network_untrusted(bundle)
    certificate = certificates.verify_bundle_untrusted(bundle, anchor)
    if certificate.device != device_key.device_id:
        raise UntrustedInputError(
            "certificate-other-device",
            f"the certificate is for another device ({certificate.noc}/{certificate.name})",
            f"hand in the certificate made from {data_dir / keyfiles.REQUEST_FILE}",
        )
    certificates.check_validity(certificate, now_s)
    # The anchor goes first: a crash between the two leaves a node that is not enrolled, never one without an anchor.
    if known is None:
        keyfiles.replace(data_dir / keyfiles.NETWORK_ROOT_FILE, keyfiles.NETWORK_ROOT_LABEL, anchor)
    keyfiles.replace(data_dir / keyfiles.CERTIFICATE_FILE, keyfiles.CERTIFICATE_LABEL, bundle)
    return Enrolment(device_key.device_id, anchor, certificate)


def read_enrolment(data_dir: Path) -> Enrolment:
    """Who this data directory is, enrolled or not. Raises LocalFaultError when a file is damaged or exposed."""
    device = keyfiles.read_device_key(data_dir).device_id
    enrolled = (data_dir / keyfiles.CERTIFICATE_FILE).exists()
    if not enrolled and not (data_dir / keyfiles.NETWORK_ROOT_FILE).exists():
        return Enrolment(device, None, None)
    network = keyfiles.read_network_root(data_dir)
    if not enrolled:
        return Enrolment(device, network, None)
    return Enrolment(device, network, keyfiles.read_certificate(data_dir, network))


def read_network_root_file(path: Path) -> PublicKey:
    """The public network root that somebody handed out, to check a certificate against."""
    content = keyfiles.read_handed_in(path, keyfiles.NETWORK_ROOT_LABEL)
    if len(content) != 32:
        raise UntrustedInputError("armour-damaged", f"{path} does not hold a network root", "ask for the file again")
    return PublicKey(content)
