"""Cases of sections "Encoding", "Hashes", "Signatures", "Identifiers" and "Links" (framing)."""

from __future__ import annotations

from vector_book import Book, cbor
from vector_cast import BE, EPOCH_KEY, INCIDENT, LOG, NETWORK, NONCE, secret

from meshnode.core.keys import SigningKey

ORDER = 2**252 + 27742317777372353535851937790883648493
"""Of the Ed25519 base point."""

_MIXED_R = {
    "public": "73fe54d718767dd1235da045c98ac5d68a1e5533b6f737d7103e6cc6c1a06231",
    "signature": "c2ecc2af9bfefd06ee0f9cbb9adf4abda71f6a01db3f1a78458754856f6bd5c4"
    "d2ee5f7f128eaf70066e9635e235c7928266629f92abeba834c0e11337fc7207",
}
_MIXED_KEY = {
    "public": "ac91ade844b0f496f125fabb6e1ba0563556b4e260d962c414c43ad71e54a040",
    "signature": "293edd8280006be5689fb61310528499c05aede28963442865ac2cbb1b88c167"
    "8b83434f6756a25aee6a1ba2af87620a5e982ac700d0b966b735ab83bb417007",
}
"""Made outside the usual way of signing: implementations of Ed25519 differ on these (section "Signatures")."""


def add(book: Book) -> None:
    _encoding(book)
    _hashes(book)
    _signatures(book)
    _identifiers(book)
    _frames(book)


def _encoding(book: Book) -> None:
    def takes(name: str, about: str, data: str, size_max: int = 1024) -> None:
        book.takes("cbor", name, about, ("item", "bytes"), bytes=data, size_max=size_max)

    def refuses(code: str, name: str, about: str, data: str, size_max: int = 1024) -> None:
        book.refuses("cbor", code, name, about, bytes=data, size_max=size_max)

    takes("integers", "the ends of each width", cbor([0, 23, 24, 255, 256, 65535, 65536, 2**32 - 1, 2**32, 2**64 - 1]))
    takes("negative-integers", "the ends of each width", cbor([-1, -24, -25, -256, -257, -(2**32), -(2**63), -(2**64)]))
    takes("strings", "bytes and text, empty ones included", cbor([b"", b"\x00\xff", "", "été", "\U0001f692"]))
    takes("simple-values", "false, true, null", "83f4f5f6")
    takes("empty-containers", "an empty array and an empty map", "8280a0")
    takes("keys-shorter-first", "the shorter encoded key first, then bytewise", "a4000117022003616104")
    takes("depth-eight", "eight containers inside each other", "81" * 7 + "80")
    takes("size-at-limit", "as many bytes as allowed", "4401020304", 5)
    refuses("cbor-too-large", "size-beyond-limit", "one byte more than allowed", "4401020304", 4)
    refuses("cbor-trailing-bytes", "trailing-bytes", "a byte behind the value", "0000")
    refuses("cbor-truncated", "empty-input", "no bytes at all", "")
    refuses("cbor-truncated", "truncated-argument", "an integer whose argument is cut", "19ff")
    refuses("cbor-truncated", "truncated-string", "a string longer than what follows", "44010203")
    refuses("cbor-truncated", "array-longer-than-input", "an array that claims 64 items", "9840")
    refuses("cbor-truncated", "map-half-entry", "a key without its value", "a100")
    refuses("cbor-not-canonical", "long-integer", "23 in two bytes", "1817")
    refuses("cbor-not-canonical", "long-integer-8", "1 in nine bytes", "1b0000000000000001")
    refuses("cbor-not-canonical", "long-length", "a string of one byte with a length of two", "5801ff")
    refuses("cbor-not-canonical", "keys-descending", "key 1 before key 0", "a201000000")
    refuses("cbor-not-canonical", "keys-longer-first", "a longer key before a shorter one", "a2190100000000")
    refuses("cbor-not-canonical", "keys-duplicate", "one key twice", "a200000001")
    refuses("cbor-not-canonical", "keys-bytewise-only", "RFC 8949 section 4.2.1 order: 24 before -1", "a21818002000")
    refuses("cbor-forbidden-type", "float-16", "a half-precision float", "f93c00")
    refuses("cbor-forbidden-type", "float-64", "a double", "fb3ff0000000000000")
    refuses("cbor-forbidden-type", "not-a-number", "NaN", "f97e00")
    refuses("cbor-forbidden-type", "undefined", "undefined", "f7")
    refuses("cbor-forbidden-type", "simple-value", "simple value 32", "f820")
    refuses("cbor-forbidden-type", "tag", "a tagged integer", "c100")
    refuses("cbor-forbidden-type", "bignum", "an integer of 65 bits", "c249010000000000000000")
    refuses("cbor-forbidden-type", "shared-reference", "tag 28 and 29", "821c81d81d00")
    refuses("cbor-forbidden-type", "indefinite-array", "an array of indefinite length", "9f00ff")
    refuses("cbor-forbidden-type", "indefinite-string", "bytes of indefinite length", "5f4100ff")
    refuses("cbor-forbidden-type", "reserved-argument", "additional information 28", "1c")
    refuses("cbor-forbidden-type", "key-bytes", "a byte string as a key", "a1410000")
    refuses("cbor-forbidden-type", "key-boolean", "true as a key", "a1f500")
    refuses("cbor-forbidden-type", "key-array", "an array as a key", "a18000")
    refuses("cbor-bad-utf8", "overlong-utf8", "an overlong encoding in text", "62c080")
    refuses("cbor-bad-utf8", "surrogate", "a lone surrogate in text", "63eda080")
    refuses("cbor-too-deep", "depth-nine", "nine containers inside each other", "81" * 8 + "80")
    refuses("cbor-too-deep", "depth-nine-empty-map", "the ninth is an empty map", "81" * 8 + "a0")


def _hashes(book: Book) -> None:
    for tag, about, parts in (
        ("mn-key-id", "one part", [EPOCH_KEY]),
        ("mn-entry", "two parts, simply joined", [bytes(152), secret("a hash")]),
        ("mn-holdings", "no parts: what a node that holds nothing sends", []),
        ("meshnode state", "a tag with a space; 14 of at most 16 bytes", [b"abc"]),
    ):
        book.takes("hash", tag.replace(" ", "-"), about, tag=tag, parts=[part.hex() for part in parts])
    context = [bytes(INCIDENT).hex(), bytes(LOG).hex()]
    book.takes("derive", "data-key", "keyed with a secret", tag="mn-data", secret=EPOCH_KEY.hex(), context=context)
    book.takes("derive", "nonce-key", "no context", tag="mn-nonce", secret=secret("data").hex(), context=[])


def _signatures(book: Book) -> None:
    key, message = SigningKey(secret("a signer")), b"a message"
    good = key.sign("seal", message)
    book.takes("sign", "deterministic", "RFC 8032", seed=secret("a signer").hex(), tag="seal", message=message.hex())

    def given(**change: object) -> dict[str, object]:
        plain = {"public": key.public.hex(), "tag": "seal", "message": message.hex(), "signature": good.hex()}
        return {**plain, **change}

    def refuses(name: str, about: str, **change: object) -> None:
        book.refuses("signature", "bad-signature", name, about, **given(**change))

    book.takes("signature", "right", "tag, zero byte and message are signed", **given())
    refuses("other-tag", "signed for another purpose", tag="hello")
    refuses("other-message", "signed for another message", message=b"a massage".hex())
    refuses("other-key", "signed by another key", public=SigningKey(secret("another signer")).public.hex())
    refuses("short", "63 bytes", signature=good[:63].hex())
    grown = int.from_bytes(good[32:], "little") + ORDER
    refuses("s-not-reduced", "S + L in place of S", signature=(good[:32] + grown.to_bytes(32, "little")).hex())
    low_order = bytes([1]) + bytes(31)
    refuses(
        "low-order-key",
        "the neutral point as key and as R, S = 0",
        public=low_order.hex(),
        signature=(low_order + bytes(32)).hex(),
    )
    refuses(
        "r-of-mixed-order", "a point of order 8 was added to R: only a check with the cofactor takes it", **_MIXED_R
    )
    book.takes(
        "signature",
        "key-of-mixed-order",
        "a point of order 8 was added to the key, and the equation holds all the same",
        **given(**_MIXED_KEY),
    )
    refuses("zero-key", "a key of zero bytes, of order 4", public=bytes(32).hex(), signature=bytes(64).hex())


def _identifiers(book: Book) -> None:
    book.takes("incident-id", "of-author-and-nonce", "the first 16 bytes", author=BE.id.hex(), nonce=NONCE.hex())
    book.takes("key-id", "of-an-epoch-key", "the hash of the key", epoch_key=EPOCH_KEY.hex())
    book.takes("fingerprint", "of-the-network-root", "to compare by voice", key=NETWORK.hex())


def _frames(book: Book) -> None:
    def takes(name: str, about: str, stream: str, frame_bytes_max: int = 16) -> None:
        book.takes("frames", name, about, stream=stream, frame_bytes_max=frame_bytes_max)

    takes("one", "a frame of three bytes", "00000003aabbcc")
    takes("two", "two frames, one behind the other", "00000001aa00000002bbcc")
    takes("unfinished", "the second frame has not come whole", "00000001aa00000002bb")
    takes("unfinished-header", "less than a length", "000000")
    takes("at-limit", "as long as allowed", "00000010" + "ab" * 16)
    book.refuses("frames", "frame-empty", "empty", "a length of zero", stream="00000000", frame_bytes_max=16)
    book.refuses(
        "frames", "frame-too-large", "too-large", "refused by its length alone", stream="00000011", frame_bytes_max=16
    )
