"""TLS for links: which parts of TLS 1.3 are used, and what they prove.

Both ends present a self-signed Ed25519 certificate made at process start. It names nobody and no authority is asked
about it. What TLS proves is narrow and enough: the other end of *this* connection holds the private key of the
certificate whose SHA-256 is C (CertificateVerify is checked by aioquic also with ``CERT_NONE``; a test holds it to
that). The hello, signed with a device key, then says "C is mine", over both ends' C, so it is worth nothing elsewhere.

aioquic's server can ask for the client's certificate only through a private attribute. Every such reach into
``aioquic.tls`` is in this file.
"""

from __future__ import annotations

import datetime
import hashlib
import ssl
from dataclasses import dataclass, field

from aioquic import tls
from aioquic.quic.configuration import QuicConfiguration
from aioquic.quic.packet import QuicProtocolVersion
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding

ALPN = "meshnode/1"
"""The protocol on top. Another major version is another name, so the two refuse each other in the handshake."""

_NOT_BEFORE = datetime.datetime(2000, 1, 1, tzinfo=datetime.UTC)
_NOT_AFTER = datetime.datetime(9999, 12, 31, tzinfo=datetime.UTC)


@dataclass(frozen=True, slots=True)
class TlsIdentity:
    """An ephemeral key and its certificate. It lives as long as the process and is never written down."""

    key: Ed25519PrivateKey = field(repr=False)
    certificate: x509.Certificate
    sha256: bytes
    """SHA-256 of the DER certificate: what hellos are bound to."""


def make_tls_identity() -> TlsIdentity:
    """A fresh identity. Its dates say "always": nobody checks them, so a wrong clock cannot break a link (C1)."""
    key = Ed25519PrivateKey.generate()
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "meshnode link")])
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(_NOT_BEFORE)
        .not_valid_after(_NOT_AFTER)
        .sign(key, None)
    )
    return TlsIdentity(key, certificate, hashlib.sha256(certificate.public_bytes(Encoding.DER)).digest())


def make_configuration(
    identity: TlsIdentity, is_client: bool, idle_timeout_seconds: float, stream_bytes_max: int
) -> QuicConfiguration:
    """What both ends say in the handshake. ``stream_bytes_max`` is the window of a peer that has proven nothing."""
    return QuicConfiguration(
        alpn_protocols=[ALPN],
        is_client=is_client,
        idle_timeout=idle_timeout_seconds,
        max_data=stream_bytes_max,
        max_stream_data=stream_bytes_max,
        # 1,200 is what every path must carry; larger packets vanish on some (N12), so nothing is probed.
        max_datagram_size=1_200,
        certificate=identity.certificate,
        private_key=identity.key,
        supported_versions=[QuicProtocolVersion.VERSION_1],
        verify_mode=ssl.CERT_NONE,
    )


def narrow(context: tls.Context, is_client: bool) -> None:
    """One key exchange and one signature algorithm, and the server asks for the client's certificate.

    aioquic offers four key shares and nine signature algorithms: on each dial that is two NIST curves' worth of work
    and three times the bytes, and a hostile peer could choose the oldest of them.
    """
    context._supported_groups = [tls.Group.X25519]
    context._signature_algorithms = [tls.SignatureAlgorithm.ED25519]
    if not is_client:
        context._request_client_certificate = True


def peer_certificate_sha256(context: tls.Context) -> bytes | None:
    """SHA-256 of the certificate whose key the peer proved to hold, or None when it proved none.

    Only to be asked once the handshake is complete: before that the certificate is merely claimed.
    """
    if context.state not in (tls.State.CLIENT_POST_HANDSHAKE, tls.State.SERVER_POST_HANDSHAKE):
        return None
    certificate = context._peer_certificate
    if certificate is None:
        return None
    return hashlib.sha256(certificate.public_bytes(Encoding.DER)).digest()
