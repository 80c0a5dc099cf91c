"""Cases of sections "Entries", "Content", "Operations" and "Geometry"."""

from __future__ import annotations

from typing import Any

from vector_book import Book, cbor
from vector_cast import (
    BE,
    EPOCH_KEY,
    EPOCH_KEY_2,
    HASH,
    HASH_2,
    INCIDENT,
    KEY_ID,
    KEY_ID_2,
    LOG,
    LOG_2,
    LOG_KEY,
    NETWORK,
    NL,
    NOW_MS,
    PERSON,
    secret,
)

from meshnode.core import codec, entry
from meshnode.core.ids import NO_HASH, ROOT_OBJECT

PACKAGE = secret("stands for a package", 40)
PLACE: dict[str, Any] = {
    "incident": INCIDENT.hex(),
    "log": LOG.hex(),
    "seq": 7,
    "previous": HASH.hex(),
    "key_id": KEY_ID.hex(),
    "package": None,
}
DOT = [bytes(LOG_2), 3, 0]


def add(book: Book) -> None:
    _clear_parts(book)
    _sealing(book)
    _openings(book)
    _contents(book)
    _operations(book)
    _bad_operations(book)
    _geometries(book)


def _clear_parts(book: Book) -> None:
    sealed = secret("a sealed part", 104).hex()
    first = {**PLACE, "seq": 1, "previous": NO_HASH.hex()}
    book.takes("entry-hash", "first", "position 1: no hash before it", **first, sealed=sealed)
    book.takes("entry-hash", "seventh", "in the middle of a log", **PLACE, sealed=sealed)
    packed = {**PLACE, "package": PACKAGE.hex()}
    book.takes("entry-hash", "with-package", "the package's hash is in the clear part", **packed, sealed=sealed)
    good = LOG_KEY.sign("seal", HASH)
    seal = {"log": LOG.hex(), "hash": HASH.hex()}
    book.takes("seal", "right", "by the log key over the hash of the last entry", **seal, seal=good.hex())
    book.refuses(
        "seal", "bad-signature", "other-hash", "over another hash", log=LOG.hex(), hash=HASH_2.hex(), seal=good.hex()
    )
    book.refuses(
        "seal",
        "bad-signature",
        "other-tag",
        "signed for another purpose",
        **seal,
        seal=LOG_KEY.sign("log opening", HASH).hex(),
    )


def _sealing(book: Book) -> None:
    book.takes(
        "log-keys",
        "of-one-log",
        "two keys for each log and epoch",
        epoch_key=EPOCH_KEY.hex(),
        incident=INCIDENT.hex(),
        log=LOG.hex(),
    )
    ends = [1, 63, 64, 65, 1023, 1024, 1025, 1152, 1153, 2048, 2049, 4097, 32769, 65535, 65536]
    book.takes("padding", "buckets", "sizes with the 0x80 included, and their buckets", sizes=ends)

    def seal(name: str, about: str, content: bytes, **change: Any) -> str:
        given = {"epoch_key": EPOCH_KEY.hex(), **PLACE, **change, "content": content.hex()}
        book.takes("sealing", name, about, **given)
        return str(book.cases[f"sealing/{name}.json"].expect["ok"]["sealed"])

    short = codec.encode({1: NOW_MS, 2: "duty officer"})
    sealed = seal("short", "one bucket of 64 bytes", short)
    seal("bucket-full", "63 bytes and the 0x80 fill a bucket", short + bytes(63 - len(short)))
    seal("bucket-over", "one byte more takes the next", short + bytes(64 - len(short)))
    seal("other-place", "the same content elsewhere: another nonce, another ciphertext", short, seq=8)
    seal("with-package", "the package is bound to the sealed part", short, package=PACKAGE.hex())
    tail = codec.encode({1: 0, 2: "x", 9: bytes(4)})
    zeros = seal("ends-in-zeros", "the 0x80 keeps zeros at the end of a content", tail)

    def opens(name: str, about: str, sealed: str, **change: Any) -> None:
        book.takes("unsealing", name, about, epoch_key=EPOCH_KEY.hex(), **{**PLACE, **change}, sealed=sealed)

    def refuses(name: str, about: str, sealed: str, epoch_key: bytes = EPOCH_KEY, **change: Any) -> None:
        given = {"epoch_key": epoch_key.hex(), **PLACE, **change, "sealed": sealed}
        book.refuses("unsealing", "entry-unreadable", name, about, **given)

    opens("short", "back again", sealed)
    opens("ends-in-zeros", "zeros of the content stay", zeros)
    refuses("other-place", "moved to another position", sealed, seq=8)
    refuses("other-log", "moved to another log", sealed, log=LOG_2.hex())
    refuses("other-package", "a package was added", sealed, package=PACKAGE.hex())
    refuses("other-key", "a key whose id is not the entry's", sealed, epoch_key=EPOCH_KEY_2)
    refuses("other-key-named", "the key of another epoch", sealed, epoch_key=EPOCH_KEY_2, key_id=KEY_ID_2.hex())
    refuses("bit-flipped", "one bit of the ciphertext", sealed[:60] + f"{int(sealed[60], 16) ^ 1:x}" + sealed[61:])
    refuses("overhead-only", "nonce and tag, nothing between", sealed[: 2 * entry.SEALED_OVERHEAD_BYTES])
    refuses("empty", "no bytes: relays take such an entry, members break off", "")


def _openings(book: Book) -> None:
    good = entry.sign_opening(BE.key, BE.bundle, INCIDENT, LOG)
    given = {
        "bundle": BE.bundle.hex(),
        "signature": good.signature.hex(),
        "incident": INCIDENT.hex(),
        "log": LOG.hex(),
        "network": NETWORK.hex(),
    }
    book.takes("opening", "valid", "the device says: this log is mine", **given)
    book.refuses("opening", "bad-signature", "other-log", "of another log", **{**given, "log": LOG_2.hex()})
    book.refuses(
        "opening", "bad-signature", "other-incident", "of another incident", **{**given, "incident": bytes(16).hex()}
    )
    book.refuses(
        "opening", "bad-signature", "other-device", "another device's bundle", **{**given, "bundle": NL.bundle.hex()}
    )


def _contents(book: Book) -> None:
    rule = ("content", "content")

    def takes(name: str, about: str, fields: dict[Any, Any]) -> None:
        book.takes("content", name, about, rule, content=cbor(fields))

    def refuses(name: str, about: str, fields: Any, code: str = "content-malformed", matches: bool = False) -> None:
        book.refuses("content", code, name, about, rule, matches, content=cbor(fields))

    base = {1: NOW_MS, 2: "duty officer"}
    opening = entry.sign_opening(BE.key, BE.bundle, INCIDENT, LOG)
    create = [4, "persons", bytes(PERSON)]
    takes("empty", "only what is required", base)
    takes("operations", "two operations", {**base, 3: [create, [6, {"text": "Entry made"}]]})
    takes("parents", "sixteen heads of other logs", {**base, 0: [bytes([number]) * 32 for number in range(16)]})
    takes("opening", "the first entry of a log", {**base, 5: [opening.bundle, opening.signature]})
    body = [1, [[bytes(BE.id), 1]], []]
    acts = [[1, secret("incident nonce", 16), [[bytes(BE.id), "BE", 3]]]]
    takes("epoch", "acts and an epoch body", {**base, 4: acts, 6: body})
    takes("newer-key", "a key of a newer version is passed over", {**base, 7: [1], "later": None})
    takes("empty-lists", "present and empty is as good as absent", {**base, 0: [], 3: [], 4: []})
    takes("null-opening", "null is as good as absent", {**base, 5: None, 6: None})
    takes("unknown-act", "its form is nobody's business yet", {**base, 4: ["later"]})
    refuses("time-missing", "the time is required", {2: ""})
    refuses("time-too-large", "2**53", {1: 2**53, 2: ""})
    refuses("time-negative", "-1", {1: -1, 2: ""})
    refuses("operator-missing", "the operator is required, and may be empty", {1: 0})
    refuses("operator-too-long", "193 bytes of UTF-8", {1: 0, 2: "é" * 96 + "a"})
    refuses("parents-17", "seventeen parents", {**base, 0: [bytes([number]) * 32 for number in range(17)]})
    refuses("parent-short", "a parent of 31 bytes", {**base, 0: [bytes(31)]})
    refuses("parent-twice", "a parent named twice", {**base, 0: [bytes(32), bytes(32)]}, matches=True)
    refuses("operations-257", "257 operations", {**base, 3: [create] * 257})
    refuses("opening-alone", "an opening without a signature", {**base, 5: [b""]})
    refuses("not-a-map", "an array", [0])
    book.refuses("content", "cbor-not-canonical", "keys-swapped", "key 2 before key 1", content="a202600100")


def _operations(book: Book) -> None:
    person, root = bytes(PERSON), bytes(ROOT_OBJECT)
    dots = [[bytes(LOG), 1, 0], [bytes(LOG), 2, 0]]
    dots.sort()

    def takes(name: str, rule: str, about: str, operation: list[Any]) -> None:
        book.takes("operation", name, about, (rule, "operation"), operation=cbor(operation))

    takes("set", "set", "a register, nothing replaced", [1, "incident", root, "title", "Release", []])
    takes("set-replaces", "set", "two values end", [1, "incident", root, "title", "Release", dots])
    takes("set-null", "set", "null is a value", [1, "incident", root, "title", None, []])
    takes(
        "add",
        "add",
        "an element of a set",
        [
            2,
            "persons",
            person,
            "aliases",
            "Red",
        ],
    )
    takes("remove", "remove", "an element leaves", [3, "persons", person, "aliases", [DOT]])
    takes("create", "create", "an object", [4, "persons", person])
    takes("delete", "delete", "what was seen of an object", [5, "persons", person, dots])
    takes("log", "log-record", "a record", [6, {"text": "Cordon set", "precedence": "flash"}])
    takes("chunk", "chunk", "a piece of an attachment", [7, person, 0, b"abc"])
    takes("newer-code", "unknown-operation", "kept whole", [8, "anything", {1: [b""]}])
    takes("newer-item", "create", "an item appended by a newer version", [4, "persons", person, "later"])
    takes("value-depth-4", "set", "as deep as a value goes", [1, "x-a", person, "x-b", [[[[1]]]], []])
    takes("value-map", "set", "a map with text keys", [1, "x-a", person, "x-b", {"b": 1, "aa": [True, None]}, []])
    takes("value-int-ends", "set", "64 bits and a sign", [1, "x-a", person, "x-b", [2**63 - 1, -(2**63)], []])


def _bad_operations(book: Book) -> None:
    person = bytes(PERSON)

    def refuses(
        code: str, name: str, about: str, operation: Any, rule: str = "operation", matches: bool = False
    ) -> None:
        book.refuses("operation", code, name, about, (rule, "operation"), matches, operation=cbor(operation))

    ordered = sorted([[bytes(LOG), 1, 0], [bytes(LOG_2), 1, 0]])
    refuses("operation-bad-form", "not-an-array", "text", "set")
    refuses("operation-bad-form", "too-short", "a Set without dots", [1, "incident", person, "title", "x"])
    refuses("operation-bad-code", "code-zero", "code 0", [0])
    refuses("operation-bad-code", "code-text", "a code in words", ["set"])
    refuses("operation-bad-code", "code-too-large", "2**32", [2**32])
    refuses("operation-bad-name", "name-capital", "a capital letter", [4, "Persons", person])
    refuses("operation-bad-name", "name-empty", "an empty name", [4, "", person])
    refuses("operation-bad-name", "name-65", "65 characters", [4, "a" * 65, person])
    refuses("operation-bad-object", "object-short", "15 bytes", [4, "persons", person[:15]])
    refuses(
        "operation-bad-dots",
        "dots-descending",
        "dots not ascending",
        [5, "persons", person, ordered[::-1]],
        matches=True,
    )
    refuses("operation-bad-dots", "dots-twice", "a dot twice", [5, "persons", person, [DOT, DOT]], matches=True)
    refuses("operation-bad-dots", "dot-position-zero", "positions start at 1", [5, "persons", person, [[DOT[0], 0, 0]]])
    many = [[bytes(LOG), number, 0] for number in range(1, 258)]
    refuses("operation-bad-dots", "dots-257", "257 dots", [5, "persons", person, many], "delete")
    refuses("operation-bad-value", "value-depth-5", "too deep", [1, "x-a", person, "x-b", [[[[[1]]]]], []])
    refuses(
        "operation-bad-value", "value-key-number", "a map with a number as key", [1, "x-a", person, "x-b", {1: 1}, []]
    )
    refuses("operation-bad-value", "value-2-63", "an integer of 64 bits without sign", [2, "x-a", person, "x-b", 2**63])
    refuses(
        "operation-bad-value",
        "value-too-large",
        "49,153 bytes encoded",
        [2, "x-a", person, "x-b", bytes(49_150)],
        matches=True,
    )
    refuses("operation-bad-record", "record-text", "a record is a map", [6, "text"])
    refuses("operation-bad-chunk", "chunk-empty", "no bytes", [7, person, 0, b""])
    refuses("operation-bad-chunk", "chunk-index", "65,536", [7, person, 65_536, b"a"])


def _geometries(book: Book) -> None:
    ring = [43_700_000, 508_500_000, 43_800_000, 508_500_000, 43_800_000, 508_600_000, 43_700_000, 508_500_000]

    def add_one(name: str, about: str, value: Any, good: bool, matches: bool | None = None) -> None:
        described = good if matches is None else matches
        book.takes("geometry", name, about, ("geometry", "geometry"), described, geometry=cbor(value))
        assert book.cases[f"geometry/{name}.json"].expect["ok"]["geometry"] is good

    add_one("point", "longitude first, 1e-7 degree", [1, 2, ring[:2]], True)
    add_one("point-altitude", "and millimetres", [1, 3, [*ring[:2], -1_500]], True)
    add_one("line", "a LineString", [3, 2, ring[:4]], True)
    add_one("polygon-with-hole", "two rings", [5, 2, ring, ring], True)
    add_one("multi-polygon", "an array of rings each", [6, 2, [ring], [ring]], True)
    add_one("collection", "different dimensions inside", [7, 0, [1, 2, ring[:2]], [1, 3, [0, 0, 0]]], True)
    add_one("ring-open", "a ring that does not close", [5, 2, [*ring[:6], 0, 0]], False, matches=True)
    add_one("ring-short", "three positions", [5, 2, [0, 0, 1, 1, 0, 0]], False)
    add_one("latitude-91", "beyond the pole", [1, 2, [0, 910_000_000]], False)
    add_one("odd-numbers", "half a position", [3, 2, [0, 0, 1]], False)
    add_one("collection-inside", "a collection in a collection", [7, 0, [7, 0, [1, 2, [0, 0]]]], False)
    add_one("unknown-type", "code 8", [8, 2, [0, 0]], False)
    add_one("empty", "no parts", [5, 2], False)
