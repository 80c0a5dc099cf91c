"""Cases of sections "Certificates", "Hello" and "Prekeys"."""

from __future__ import annotations

from typing import Any

from vector_book import Book
from vector_cast import (
    BE,
    NETWORK,
    NL,
    NOW_MS,
    NOW_S,
    OTHER_NETWORK_ROOT,
    YEAR_S,
    Device,
    device_certificate,
    key,
    noc_certificate,
    secret,
)

from meshnode.core import certificates, codec, hello, prekeys
from meshnode.core.certificates import make_bundle
from meshnode.core.keys import PublicKey, SigningKey

DAY_S = 24 * 3600
DIALLER_TLS, ACCEPTOR_TLS, OTHER_TLS = secret("tls of be-1"), secret("tls of nl-1"), secret("tls of another link")
BUNDLE = ("bundle", "bundle")


def signed(signer: SigningKey, tag: str, payload: Any) -> bytes:
    data = codec.encode(payload)
    return codec.encode([data, signer.sign(tag, data)])


def payload_of(data: bytes) -> list[Any]:
    return list(codec.decode_trusted(codec.decode_trusted(data)[0]))


def changed(fields: list[Any], index: int, value: Any) -> list[Any]:
    return [*fields[:index], value, *fields[index + 1 :]]


def add(book: Book) -> None:
    _bundles(book)
    _requests(book)
    _hellos(book)
    _prekeys(book)
    _enrolment(book)


def _bundles(book: Book) -> None:
    def given(bundle: bytes, now_s: int = NOW_S) -> dict[str, Any]:
        return {"bundle": bundle.hex(), "network": NETWORK.hex(), "now_s": now_s}

    def refuses(code: str, name: str, about: str, bundle: bytes, *, matches: bool = False, now_s: int = NOW_S) -> None:
        book.refuses("bundle", code, name, about, BUNDLE, matches, **given(bundle, now_s))

    good, end = BE.bundle, NOW_S + YEAR_S
    noc, own = noc_certificate("BE"), device_certificate("BE", "be-1")
    book.takes("bundle", "valid", "both signatures and dates hold", BUNDLE, **given(good))
    book.takes("bundle", "last-moment", "24 h behind the last second", BUNDLE, **given(good, end + DAY_S))
    refuses("certificate-expired", "expired", "a second more", good, matches=True, now_s=end + DAY_S + 1)
    refuses(
        "certificate-not-yet-valid",
        "early",
        "24 h and a second before the first",
        good,
        matches=True,
        now_s=NOW_S - YEAR_S - DAY_S - 1,
    )
    nl_root = make_bundle(noc_certificate("NL"), device_certificate("BE", "be-1", signer="NL"))
    refuses("certificate-wrong-noc", "wrong-noc", "the root of NL certified a device of BE", nl_root, matches=True)
    not_root = make_bundle(noc, device_certificate("BE", "be-1", signer="NL"))
    refuses("bad-signature", "wrong-noc-root", "the device was not signed by the root shown", not_root, matches=True)
    foreign = make_bundle(noc_certificate("BE", OTHER_NETWORK_ROOT), own)
    refuses("certificate-foreign-network", "foreign-noc", "of another network", foreign, matches=True)
    other = PublicKey(OTHER_NETWORK_ROOT.public)
    carried = make_bundle(noc, device_certificate("BE", "be-1", network=other))
    refuses(
        "certificate-foreign-network",
        "foreign-device",
        "a device certified for another network by the same NOC root",
        carried,
        matches=True,
    )
    claimed = changed(payload_of(noc_certificate("BE", OTHER_NETWORK_ROOT)), 1, bytes(NETWORK))
    forged = make_bundle(signed(OTHER_NETWORK_ROOT, "noc-certificate", claimed), own)
    refuses("bad-signature", "forged-network", "claims this network, signed by another root", forged, matches=True)

    noc_root, fields = key("noc root BE"), payload_of(own)

    def device(index: int, value: Any) -> bytes:
        return make_bundle(noc, signed(noc_root, "device-certificate", changed(fields, index, value)))

    refuses("certificate-version", "version-2", "a certificate of a later format", device(0, 2))
    refuses("certificate-malformed", "lower-case-noc", "a NOC code is capital letters and digits", device(2, "be"))
    refuses("certificate-malformed", "bad-name", "an underscore in a device name", device(3, "be_1"))
    refuses("certificate-malformed", "relay-number", "1 in place of true", device(5, 1))
    refuses("certificate-malformed", "dates-swapped", "ends before it begins", device(6, end), matches=True)
    more = make_bundle(noc, signed(noc_root, "device-certificate", [*fields, None]))
    refuses("certificate-malformed", "extra-field", "a certificate is closed", more)
    tagged = make_bundle(noc, signed(noc_root, "noc-certificate", fields))
    refuses("bad-signature", "other-tag", "signed under the tag of a NOC certificate", tagged, matches=True)
    refuses("cbor-trailing-bytes", "trailing", "a byte behind the bundle", good + b"\0")
    refuses("certificate-malformed", "not-a-pair", "a device certificate alone", codec.encode([own]))


def _requests(book: Book) -> None:
    noc = certificates.make_noc_request(key("noc root BE"), "BE")
    own = certificates.make_device_request(BE.key, "BE", "be-1")
    book.takes("noc-request", "valid", "signed by the key it names", ("noc-request", "request"), request=noc.hex())
    book.takes(
        "device-request", "valid", "signed by the key it names", ("device-request", "request"), request=own.hex()
    )
    stolen = signed(NL.key, "device-request", [1, "BE", "be-1", bytes(BE.id)])
    book.refuses(
        "device-request",
        "bad-signature",
        "stolen-key",
        "names a key that did not sign it",
        ("device-request", "request"),
        True,
        request=stolen.hex(),
    )
    swapped = signed(BE.key, "noc-request", payload_of(own))
    book.refuses(
        "device-request",
        "bad-signature",
        "other-tag",
        "signed as a NOC request",
        ("device-request", "request"),
        True,
        request=swapped.hex(),
    )


def _hellos(book: Book) -> None:
    dialler = hello.make_hello(BE.key, BE.bundle, DIALLER_TLS, ACCEPTOR_TLS, True, True)
    answer = hello.make_hello(NL.key, NL.bundle, ACCEPTOR_TLS, DIALLER_TLS, False, False)

    def given(data: bytes, **change: Any) -> dict[str, Any]:
        plain = {
            "hello": data.hex(),
            "network": NETWORK.hex(),
            "local_tls": ACCEPTOR_TLS.hex(),
            "remote_tls": DIALLER_TLS.hex(),
            "dialed": False,
            "now_s": NOW_S,
            "revoked": [],
        }
        return {**plain, **change}

    at_dialler = {"local_tls": DIALLER_TLS.hex(), "remote_tls": ACCEPTOR_TLS.hex(), "dialed": True}
    rule = ("hello", "hello")

    def refuses(code: str, name: str, about: str, data: bytes, *, matches: bool = True, **change: Any) -> None:
        book.refuses("hello", code, name, about, rule, matches, **given(data, **change))

    book.takes("hello", "from-dialler", "as the acceptor sees it", rule, **given(dialler))
    book.takes("hello", "from-acceptor", "as the dialler sees it", rule, **given(answer, **at_dialler))
    refuses("hello-reflected", "reflected", "the dialler's own hello thrown back at it", dialler, **at_dialler)
    refuses(
        "hello-other-link",
        "replayed",
        "recorded on a link with another certificate at this end",
        dialler,
        local_tls=OTHER_TLS.hex(),
    )
    refuses(
        "hello-other-link",
        "relayed",
        "a man in the middle has another certificate",
        dialler,
        remote_tls=OTHER_TLS.hex(),
    )
    both = hello.make_hello(BE.key, BE.bundle, DIALLER_TLS, ACCEPTOR_TLS, False, True)
    refuses("hello-wrong-role", "both-accepted", "both ends claim to have accepted", both)
    refuses("device-revoked", "revoked", "the device was revoked here", dialler, revoked=[BE.id.hex()])
    refuses("certificate-expired", "expired", "two years later", dialler, now_s=NOW_S + 2 * YEAR_S)
    refuses(
        "certificate-foreign-network",
        "foreign-network",
        "judged by another network",
        dialler,
        network=OTHER_NETWORK_ROOT.public.hex(),
    )
    relaying = hello.make_hello(NL.key, NL.bundle, DIALLER_TLS, ACCEPTOR_TLS, True, True)
    refuses("hello-relay-not-allowed", "relay-not-allowed", "offers to relay without leave", relaying)
    forged = hello.make_hello(NL.key, BE.bundle, DIALLER_TLS, ACCEPTOR_TLS, True, True)
    refuses("bad-signature", "other-device", "another device's certificate, its own signature", forged)
    payload, signature, _ = codec.decode_trusted(dialler)
    swapped = codec.encode([payload, signature, NL.bundle])
    refuses("hello-other-certificate", "swapped-certificate", "the certificate was exchanged", swapped)

    def resigned(index: int, value: Any) -> bytes:
        data = codec.encode(changed(list(codec.decode_trusted(payload)), index, value))
        return codec.encode([data, BE.key.sign("hello", data), BE.bundle])

    refuses("hello-version", "version-2", "a later protocol", resigned(0, 2), matches=False)
    refuses("hello-malformed", "role-number", "1 in place of true", resigned(3, 1), matches=False)
    refuses(
        "hello-malformed", "not-a-hello", "a message in place of a hello", codec.encode([14, bytes(16)]), matches=False
    )


def _prekeys(book: Book) -> None:
    good, fields = BE.prekey.record, payload_of(BE.prekey.record)
    rule = ("prekey-record", "record")

    def refuses(code: str, name: str, about: str, data: bytes, *, matches: bool = False) -> None:
        book.refuses("prekey", code, name, about, rule, matches, record=data.hex())

    def resigned(index: int, value: Any) -> bytes:
        return signed(BE.key, "prekey", changed(fields, index, value))

    book.takes("prekey", "valid", "signed by its device", rule, record=good.hex())
    book.takes("prekey", "largest-serial", "2**63 - 1", rule, record=resigned(3, prekeys.SERIAL_MAX).hex())
    refuses("prekey-malformed", "serial-too-large", "2**63", resigned(3, prekeys.SERIAL_MAX + 1))
    refuses("prekey-malformed", "serial-negative", "-1", resigned(3, -1))
    refuses("prekey-malformed", "short-bundle-hash", "31 bytes", resigned(2, bytes(31)))
    refuses("prekey-malformed", "short-x25519", "31 bytes", resigned(5, bytes(31)))
    refuses("prekey-malformed", "extra-field", "a record of format 1 is closed", signed(BE.key, "prekey", [*fields, 0]))
    refuses("prekey-version", "version-2", "a later format", resigned(0, 2))
    refuses("prekey-weak", "x25519-small-order", "a point of small order", resigned(5, bytes(32)), matches=True)
    refuses("prekey-weak", "mlkem-out-of-range", "coefficients of 4095", resigned(6, b"\xff" * 1184), matches=True)
    other = signed(NL.key, "prekey", fields)
    refuses("bad-signature", "other-signer", "not signed by the device it names", other, matches=True)
    refuses("cbor-too-large", "too-large", "2049 bytes", bytes(2049))
    book.takes(
        "prekey-halves", "from-private", "X25519 scalar, then ML-KEM-768 seed (d, z)", private=BE.private.private.hex()
    )


def _enrolment(book: Book) -> None:
    def takes(name: str, about: str, *pairs: tuple[bytes, bytes]) -> None:
        listed = [[bundle.hex(), record.hex()] for bundle, record in pairs]
        book.takes("enrolment", name, about, pairs=listed, network=NETWORK.hex())

    def refuses(code: str, name: str, about: str, bundle: bytes, record: bytes) -> None:
        book.refuses("enrolment", code, name, about, pairs=[[bundle.hex(), record.hex()]], network=NETWORK.hex())

    def again(who: Device, serial: int, name: str, bundle: bytes | None = None) -> tuple[bytes, bytes]:
        bundle = bundle or who.bundle
        _, record = prekeys.make_prekey(who.key, bundle, serial, NOW_MS, lambda size: secret(f"prekey {name}", size))
        return bundle, record

    claimed = make_bundle(noc_certificate("NL"), device_certificate("NL", BE.name))
    first, second, third = (again(BE, 7, f"twin {number}") for number in range(3))
    newer = again(BE, 8, "newer")
    takes("two-devices", "each as it was published", (BE.bundle, BE.prekey.record), (NL.bundle, NL.prekey.record))
    takes("newer", "the higher serial counts", first, newer)
    takes("older", "whatever comes last", newer, first)
    takes("twins", "of one serial two are kept, the lowest hashes", first, second, third)
    takes("twins-other-order", "the same roster", third, second, first)
    takes("twins-ended", "a higher serial ends them", first, second, newer)
    takes("moved", "a device says itself that it went to another NOC", first, again(BE, 8, "moved", claimed))
    about = "a valid certificate, of another NOC's root, that the device did not publish its prekey with"
    refuses("prekey-other-certificate", "claimed", about, claimed, BE.prekey.record)
    refuses("prekey-wrong-device", "other-device", "published with NL's", *again(BE, 7, "other device", NL.bundle))
