"""The hello: the first frame each way on a link, and the only proof of who is there.

TLS certificates are made at process start and signed by nobody; TLS gives secrecy towards *some* key. The hello says
whose key it is. Each side sends

    hello   = [ payload (bytes), device signature over the payload as received, bundle (bytes) ]
    payload = [ version, hash of my TLS certificate, hash of yours, I dialled, I relay, hash of my bundle ]

The signature binds the device to this pair of TLS certificates and to its role in them. So a recorded hello is worth
nothing on another link (other certificates), a hello thrown back at its sender is refused (its roles are swapped),
and a man in the middle cannot carry one across (each side of him has a different certificate). There is no nonce: a
replay between the same two processes needs their TLS private keys, which never leave memory.

Verification returns a :class:`PeerIdentity` or raises; there is nothing in between. Cheap comparisons come before
signatures, and nothing is believed until the last signature has been checked.
"""

from __future__ import annotations

from collections.abc import Callable, Container
from dataclasses import dataclass
from typing import Any

from meshnode.core import certificates, codec, keys
from meshnode.core.events import PeerIdentity
from meshnode.core.ids import DeviceId
from meshnode.core.keys import PublicKey, SigningKey
from meshnode.errors import UntrustedInputError

PROTOCOL_VERSION = 1

HELLO_BYTES_MAX = 8188
"""All that an unproven peer may send (security design, "Links"). A hello has about 700 bytes."""

TLS_HASH_BYTES = 32
HELLO_TAG = "hello"


@dataclass(frozen=True, slots=True)
class _Claims:
    sender_tls: bytes
    receiver_tls: bytes
    dialed: bool
    relay: bool
    bundle_hash: bytes


def make_hello(
    device_key: SigningKey,
    bundle: bytes,
    local_tls_sha256: bytes,
    remote_tls_sha256: bytes,
    dialed: bool,
    relay: bool,
) -> bytes:
    """The hello of this device on one link. ``dialed``: this side opened the link."""
    if len(local_tls_sha256) != TLS_HASH_BYTES or len(remote_tls_sha256) != TLS_HASH_BYTES:
        raise ValueError("a TLS certificate hash has 32 bytes")
    payload = codec.encode(
        [PROTOCOL_VERSION, local_tls_sha256, remote_tls_sha256, dialed, relay, certificates.bundle_hash(bundle)]
    )
    return codec.encode([payload, device_key.sign(HELLO_TAG, payload), bundle])


def verify_hello_untrusted(
    data: bytes,
    network_root: PublicKey,
    local_tls_sha256: bytes,
    remote_tls_sha256: bytes,
    dialed: bool,
    now_s: float,
    revoked: Container[DeviceId],
) -> PeerIdentity:
    """Who is at the other end. Local, remote and ``dialed`` are as *this* side sees the link.

    Raises UntrustedInputError ``cbor-*``, ``hello-malformed``, ``hello-version``, ``hello-reflected``,
    ``hello-other-link``, ``hello-wrong-role``, ``hello-other-certificate``, ``hello-relay-not-allowed``,
    ``device-revoked``, ``bad-signature`` or a ``certificate-*`` code.
    """
    payload, signature, bundle = _open(data)
    claims = _parse(payload)
    _check_link(claims, local_tls_sha256, remote_tls_sha256, dialed)
    if claims.bundle_hash != certificates.bundle_hash(bundle):
        raise _refuse("hello-other-certificate", "the hello was signed for another device certificate")
    certificate = certificates.verify_bundle_untrusted(bundle, network_root)
    if certificate.device in revoked:
        raise UntrustedInputError(
            "device-revoked",
            f"device {certificate.name} of {certificate.noc} was revoked",
            "if it was revoked by mistake, its NOC must certify a new device key for it",
        )
    certificates.check_validity(certificate, now_s)
    keys.verify_untrusted(certificate.device, HELLO_TAG, payload, signature, "the hello")
    if claims.relay and not certificate.relay:
        raise UntrustedInputError(
            "hello-relay-not-allowed",
            f"device {certificate.name} of {certificate.noc} offers to relay, but its certificate does not allow it",
            "set node.relay = false there, or have its NOC authority certify it with --relay",
        )
    return PeerIdentity(
        device=certificate.device,
        noc=certificate.noc,
        name=certificate.name,
        relay=claims.relay,
        certificate=bundle,
        start=remote_tls_sha256,
    )


class LinkAuthenticator:
    """What a transport needs to prove this node and to check a peer; it never sees the device key.

    ``revoked`` is read at each check, so that a container which grows cuts off new links at once.
    """

    def __init__(
        self,
        device_key: SigningKey,
        bundle: bytes,
        network_root: PublicKey,
        relay: bool,
        now_s: Callable[[], float],
        revoked: Container[DeviceId] = frozenset(),
    ) -> None:
        self._device_key = device_key
        self._bundle = bundle
        self._network_root = network_root
        self._relay = relay
        self._now_s = now_s
        self._revoked = revoked

    def __repr__(self) -> str:
        return f"<LinkAuthenticator of {self._device_key.public.hex()[:8]}>"

    def hello(self, local_tls_sha256: bytes, remote_tls_sha256: bytes, dialed: bool) -> bytes:
        """The frame to send first."""
        return make_hello(self._device_key, self._bundle, local_tls_sha256, remote_tls_sha256, dialed, self._relay)

    def verify_untrusted(
        self, data: bytes, local_tls_sha256: bytes, remote_tls_sha256: bytes, dialed: bool
    ) -> PeerIdentity:
        """As :func:`verify_hello_untrusted`, and ``hello-own-device`` when the peer has this very device key: the node
        dialled itself, or its key file is in use on a second machine."""
        peer = verify_hello_untrusted(
            data,
            self._network_root,
            local_tls_sha256,
            remote_tls_sha256,
            dialed,
            self._now_s(),
            self._revoked,
        )
        if peer.device == self._device_key.device_id:
            raise UntrustedInputError(
                "hello-own-device",
                "the other end has this node's own device key",
                "remove this node's own address from its peers; if it is another machine, a key file was copied: "
                "stop one of them and give it a new device key",
            )
        return peer


def _open(data: bytes) -> tuple[bytes, bytes, bytes]:
    match codec.decode_untrusted(data, HELLO_BYTES_MAX):
        case [bytes(payload), bytes(signature), bytes(bundle)]:
            return payload, signature, bundle
    raise _refuse("hello-malformed", "the first frame is not a hello")


def _parse(payload: bytes) -> _Claims:
    fields: Any = codec.decode_untrusted(payload, HELLO_BYTES_MAX)
    if isinstance(fields, list) and fields and type(fields[0]) is int and fields[0] != PROTOCOL_VERSION:
        raise UntrustedInputError(
            "hello-version",
            f"the peer speaks protocol {fields[0]}, this node speaks {PROTOCOL_VERSION}",
            "upgrade the older of the two nodes",
        )
    match fields:
        case [int(version), bytes(sender), bytes(receiver), bool(dialed), bool(relay), bytes(bundle_hash)] if (
            type(version) is int and len(sender) == len(receiver) == TLS_HASH_BYTES
        ):
            return _Claims(sender, receiver, dialed, relay, bundle_hash)
    raise _refuse("hello-malformed", "the hello does not have the form of the protocol")


def _check_link(claims: _Claims, local: bytes, remote: bytes, dialed: bool) -> None:
    if (claims.sender_tls, claims.receiver_tls, claims.dialed) == (local, remote, dialed):
        raise _refuse("hello-reflected", "the peer sent this node's own hello back")
    if (claims.sender_tls, claims.receiver_tls) != (remote, local):
        raise _refuse("hello-other-link", "the hello was made for another link")
    if claims.dialed == dialed:
        raise _refuse("hello-wrong-role", "both ends claim to have opened, or to have accepted, this link")


def _refuse(code: str, reason: str) -> UntrustedInputError:
    return UntrustedInputError(
        code, reason, "if it happens again, somebody interferes with this link: look at the peer"
    )
