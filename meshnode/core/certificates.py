"""Certificates: who may speak for which NOC in this network, provable without asking anybody.

Two signatures, one chain. The **network root** signs each NOC's root key once (a *NOC certificate*). A **NOC root**
signs the devices of its own NOC (a *device certificate*). A device shows both together as a *bundle*; whoever knows
the network root's public key, which is also the network's id, can check it offline.

    bundle      = [ signed NOC certificate (bytes), signed device certificate (bytes) ]
    signed      = [ payload (bytes), Ed25519 signature over the payload as received ]
    NOC payload = [ 1, network, noc, NOC root key, not before, not after ]
    device payload = [ 1, network, noc, name, device key, may relay, not before, not after, serial ]

Payloads are checked as the bytes that came, never re-encoded. The device certificate repeats the network, so that a NOC
root that serves two networks (one for exercises, say) cannot have its devices carried from one into the other.
The chain is a matter of signatures alone; time is judged apart, in :func:`check_validity`, by whoever has a clock.

A *request* has the same signed form and proves that the requester holds the private key it wants certified. It gives
no right to anything: a person compares its fingerprint by voice before the authority signs.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from meshnode.core import codec, keys
from meshnode.core.ids import DeviceId
from meshnode.core.keys import PublicKey, SigningKey
from meshnode.core.names import is_device_name, is_noc_code
from meshnode.errors import UntrustedInputError

FORMAT_VERSION = 1

BUNDLE_BYTES_MAX = 4096
"""A bundle has about 450 bytes. Bundles ride in every hello and every log opening, so room is kept small."""
REQUEST_BYTES_MAX = 1024
"""A request has about 200 bytes."""

VALIDITY_SLACK_S = 24 * 3600
"""A certificate is honoured this long before and after its dates: clocks of cut-off nodes drift, and a node that
falls silent in an attack because a certificate ended at midnight helps nobody."""

TIME_S_MAX = 2**40
"""Seconds since 1970 in a certificate: far beyond any life of a key, well inside 64 bits."""
SERIAL_MAX = 2**64 - 1

NOC_TAG = "noc-certificate"
DEVICE_TAG = "device-certificate"
NOC_REQUEST_TAG = "noc-request"
DEVICE_REQUEST_TAG = "device-request"


@dataclass(frozen=True, slots=True)
class NocCertificate:
    """The network root says: this key is the root of that NOC."""

    network: PublicKey
    noc: str
    noc_root: PublicKey
    not_before_s: int
    not_after_s: int


@dataclass(frozen=True, slots=True)
class DeviceCertificate:
    """A NOC root says: this key is a device of ours, and it may or may not serve as a relay."""

    network: PublicKey
    noc: str
    name: str
    device: DeviceId
    relay: bool
    not_before_s: int
    not_after_s: int
    serial: int


@dataclass(frozen=True, slots=True)
class Certificate:
    """A device whose chain was verified. Valid while both links of the chain are: the dates are their intersection."""

    device: DeviceId
    noc: str
    name: str
    relay: bool
    not_before_s: int
    not_after_s: int
    bundle: bytes


@dataclass(frozen=True, slots=True)
class NocRequest:
    noc: str
    noc_root: PublicKey


@dataclass(frozen=True, slots=True)
class DeviceRequest:
    noc: str
    name: str
    device: DeviceId


# --- making -----------------------------------------------------------------------------------------------------


def make_noc_certificate(network_root: SigningKey, request: NocRequest, not_before_s: int, not_after_s: int) -> bytes:
    """The signed NOC certificate. Raises ValueError for dates or names no verifier would accept."""
    _check_made(is_noc_code(request.noc), not_before_s, not_after_s)
    payload = [FORMAT_VERSION, network_root.public, request.noc, request.noc_root, not_before_s, not_after_s]
    return _sign(network_root, NOC_TAG, payload)


def make_device_certificate(
    noc_root: SigningKey,
    network: PublicKey,
    request: DeviceRequest,
    *,
    relay: bool,
    not_before_s: int,
    not_after_s: int,
    serial: int,
) -> bytes:
    """The signed device certificate. Whether the request is of the signer's own NOC is for the caller to check."""
    _check_made(is_noc_code(request.noc) and is_device_name(request.name), not_before_s, not_after_s)
    payload = [FORMAT_VERSION, network, request.noc, request.name, request.device]
    payload += [relay, not_before_s, not_after_s, serial]
    return _sign(noc_root, DEVICE_TAG, payload)


def make_bundle(noc_certificate: bytes, device_certificate: bytes) -> bytes:
    return codec.encode([noc_certificate, device_certificate])


def bundle_hash(bundle: bytes) -> bytes:
    """What a device signs to say which chain it shows: in a hello, and with a prekey."""
    return keys.digest("bundle", bundle)


def make_noc_request(noc_root: SigningKey, noc: str) -> bytes:
    return _sign(noc_root, NOC_REQUEST_TAG, [FORMAT_VERSION, noc, noc_root.public])


def make_device_request(device_key: SigningKey, noc: str, name: str) -> bytes:
    return _sign(device_key, DEVICE_REQUEST_TAG, [FORMAT_VERSION, noc, name, device_key.public])


# --- verifying --------------------------------------------------------------------------------------------------


def verify_bundle_untrusted(data: bytes, network_root: PublicKey) -> Certificate:
    """The device this bundle proves, by signatures alone; call :func:`check_validity` for the dates.

    Raises UntrustedInputError ``cbor-*``, ``certificate-malformed``, ``certificate-version``,
    ``certificate-foreign-network``, ``certificate-wrong-noc`` or ``bad-signature``.
    """
    noc_signed, device_signed = _split_bundle(data)
    noc = verify_noc_certificate_untrusted(noc_signed, network_root)
    payload, signature = _open(device_signed, BUNDLE_BYTES_MAX)
    device = _parse_device(payload)
    if device.network != network_root:
        raise _foreign_network()
    keys.verify_untrusted(noc.noc_root, DEVICE_TAG, payload, signature, "the device certificate")
    if device.noc != noc.noc:
        raise UntrustedInputError(
            "certificate-wrong-noc",
            f"the root of {noc.noc} certified a device of {device.noc}",
            "a device is certified by the root of its own NOC only; report this to both NOCs",
        )
    return Certificate(
        device=device.device,
        noc=device.noc,
        name=device.name,
        relay=device.relay,
        not_before_s=max(device.not_before_s, noc.not_before_s),
        not_after_s=min(device.not_after_s, noc.not_after_s),
        bundle=data,
    )


def verify_noc_certificate_untrusted(data: bytes, network_root: PublicKey) -> NocCertificate:
    """The NOC root that this network's root certified. Raises as :func:`verify_bundle_untrusted` does."""
    payload, signature = _open(data, BUNDLE_BYTES_MAX)
    certificate = _parse_noc(payload)
    if certificate.network != network_root:
        raise _foreign_network()
    keys.verify_untrusted(network_root, NOC_TAG, payload, signature, "the NOC certificate")
    return certificate


def check_validity(certificate: Certificate | NocCertificate, now_s: float) -> None:
    """Returns inside the dates, with 24 h of slack each way; else UntrustedInputError ``certificate-expired`` or
    ``certificate-not-yet-valid``. The last second named in a certificate still counts."""
    if now_s < certificate.not_before_s - VALIDITY_SLACK_S:
        raise UntrustedInputError(
            "certificate-not-yet-valid",
            f"the certificate of {_subject(certificate)} starts later than this node's clock",
            "compare the clocks of both nodes with a trusted time source",
        )
    if now_s > certificate.not_after_s + VALIDITY_SLACK_S:
        raise UntrustedInputError(
            "certificate-expired",
            f"the certificate of {_subject(certificate)} has ended by this node's clock",
            "compare the clocks of both nodes; if they are right, have the NOC authority certify the device again",
        )


def claimed_network_untrusted(data: bytes) -> PublicKey:
    """The network a bundle or a signed NOC certificate *claims* to be of. Proves nothing: a first enrolment shows it to
    a person and then verifies against it."""
    noc_signed = _split_bundle(data)[0] if _is_bundle(data) else data
    payload, _ = _open(noc_signed, BUNDLE_BYTES_MAX)
    return _parse_noc(payload).network


def read_noc_request_untrusted(data: bytes) -> NocRequest:
    """The request, signed by the key it names. Raises UntrustedInputError."""
    payload, signature = _open(data, REQUEST_BYTES_MAX)
    match _versioned(payload):
        case [_, str(noc), bytes(key)] if is_noc_code(noc) and len(key) == keys.PUBLIC_KEY_BYTES:
            keys.verify_untrusted(key, NOC_REQUEST_TAG, payload, signature, "the NOC request")
            return NocRequest(noc, PublicKey(key))
    raise _malformed("a NOC request")


def read_device_request_untrusted(data: bytes) -> DeviceRequest:
    """The request, signed by the key it names. Raises UntrustedInputError."""
    payload, signature = _open(data, REQUEST_BYTES_MAX)
    match _versioned(payload):
        case [_, str(noc), str(name), bytes(key)] if (
            is_noc_code(noc) and is_device_name(name) and len(key) == keys.PUBLIC_KEY_BYTES
        ):
            keys.verify_untrusted(key, DEVICE_REQUEST_TAG, payload, signature, "the device request")
            return DeviceRequest(noc, name, DeviceId(key))
    raise _malformed("a device request")


# --- fingerprints -----------------------------------------------------------------------------------------------


def fingerprint(public_key: bytes) -> str:
    """Eight groups of four hexadecimal digits to compare by voice: 128 bits of a hash of the key."""
    text = keys.digest("fingerprint", public_key)[:16].hex()
    return " ".join(text[at : at + 4] for at in range(0, 32, 4))


# --- inside -----------------------------------------------------------------------------------------------------


def _sign(key: SigningKey, tag: str, fields: list[Any]) -> bytes:
    payload = codec.encode(fields)
    return codec.encode([payload, key.sign(tag, payload)])


def _check_made(names_ok: bool, not_before_s: int, not_after_s: int) -> None:
    if not names_ok or not 0 <= not_before_s < not_after_s <= TIME_S_MAX:
        raise ValueError("a certificate needs a valid name and 0 <= not_before_s < not_after_s")


def _open(signed: bytes, size_max: int) -> tuple[bytes, bytes]:
    match codec.decode_untrusted(signed, size_max):
        case [bytes(payload), bytes(signature)]:
            return payload, signature
    raise _malformed("a signed certificate or request")


def _is_bundle(data: bytes) -> bool:
    """A bundle's second item is a signed thing, a signature has exactly 64 bytes and a signed thing has more."""
    match codec.decode_untrusted(data, BUNDLE_BYTES_MAX):
        case [bytes(), bytes(second)]:
            return len(second) != keys.SIGNATURE_BYTES
    return False


def _split_bundle(data: bytes) -> tuple[bytes, bytes]:
    match codec.decode_untrusted(data, BUNDLE_BYTES_MAX):
        case [bytes(noc_signed), bytes(device_signed)]:
            return noc_signed, device_signed
    raise _malformed("a certificate bundle")


def _versioned(payload: bytes) -> list[Any]:
    fields = codec.decode_untrusted(payload, BUNDLE_BYTES_MAX)
    if not isinstance(fields, list) or not fields:
        raise _malformed("a certificate or request")
    if type(fields[0]) is not int or fields[0] != FORMAT_VERSION:
        raise UntrustedInputError(
            "certificate-version",
            f"the certificate or request is not of version {FORMAT_VERSION}",
            "use the same meshnode release on both sides, or have it issued again",
        )
    return fields


def _parse_noc(payload: bytes) -> NocCertificate:
    match _versioned(payload):
        case [_, bytes(network), str(noc), bytes(root), int(not_before_s), int(not_after_s)] if (
            len(network) == len(root) == keys.PUBLIC_KEY_BYTES
            and is_noc_code(noc)
            and _are_dates(not_before_s, not_after_s)
        ):
            return NocCertificate(PublicKey(network), noc, PublicKey(root), not_before_s, not_after_s)
    raise _malformed("a NOC certificate")


def _parse_device(payload: bytes) -> DeviceCertificate:
    match _versioned(payload):
        case [_, bytes(network), str(noc), str(name), bytes(key), bool(relay), int(nb_s), int(na_s), int(serial)] if (
            len(network) == len(key) == keys.PUBLIC_KEY_BYTES
            and is_noc_code(noc)
            and is_device_name(name)
            and _are_dates(nb_s, na_s)
            and type(serial) is int
            and 0 <= serial <= SERIAL_MAX
        ):
            return DeviceCertificate(PublicKey(network), noc, name, DeviceId(key), relay, nb_s, na_s, serial)
    raise _malformed("a device certificate")


def _are_dates(not_before_s: int, not_after_s: int) -> bool:
    """``bool`` is an ``int`` in Python; a date is not one."""
    return type(not_before_s) is type(not_after_s) is int and 0 <= not_before_s < not_after_s <= TIME_S_MAX


def _subject(certificate: Certificate | NocCertificate) -> str:
    if isinstance(certificate, Certificate):
        return f"device {certificate.name} of {certificate.noc}"
    return f"NOC {certificate.noc}"


def _malformed(what: str) -> UntrustedInputError:
    return UntrustedInputError("certificate-malformed", f"this is not {what}", "have it issued again")


def _foreign_network() -> UntrustedInputError:
    return UntrustedInputError(
        "certificate-foreign-network",
        "the certificate is of another network",
        "compare the network fingerprints of both nodes; a node belongs to one network",
    )
