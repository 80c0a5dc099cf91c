"""Cases of sections "Messages", "Runs", "Digests" and "Roster"."""

from __future__ import annotations

from typing import Any

from vector_book import Book, cbor
from vector_cast import BE, HASH, HASH_2, INCIDENT, KEY_ID, KEY_ID_2, LOG, LOG_2, LOG_KEY, NL, secret

from meshnode.core import entry, wire
from meshnode.core.ids import NO_HASH, EntryHash, IncidentId
from meshnode.core.log import Entry

INC, L, H = bytes(INCIDENT), bytes(LOG), bytes(HASH)
FRAME = "frame"
RULES = {1: "summary", 2: "incidents", 3: "heights", 4: "want", 5: "run", 7: "announce", 12: "roster-records"}
RULES |= {13: "addresses", 15: "packages"}
"""Of wire.cddl: a refusal by the exact rule is quicker found than one by all of them."""


def add(book: Book) -> None:
    _messages(book)
    _bad_messages(book)
    _runs(book)
    _digests(book)


def _messages(book: Book) -> None:
    def takes(name: str, about: str, items: list[Any], rule: str = "") -> None:
        book.takes("message", name, about, (rule or name, FRAME), frame=cbor(items))

    takes("summary", "two digests", [1, H, bytes(HASH_2)])
    takes("incidents", "one of several parts", [2, [[INC, H]], False])
    takes("incidents-empty", "a node that holds nothing says so", [2, [], True], "incidents")
    takes("heights", "how far one log is held", [3, INC, [[L, 41], [bytes(LOG_2), 0]], True, False])
    takes("want", "from 42 up to about 97", [4, INC, L, 42, 97])
    takes("want-backwards", "a last before the first asks for one run", [4, INC, L, 42, 1], "want")
    takes("lack", "cannot serve from 42", [6, INC, L, 42])
    takes("announce", "lazy push", [7, [[INC, L, 97]]])
    takes("prune", "announce this log, do not push it", [8, INC, L])
    takes("graft", "push it again, from behind 41", [9, INC, L, 41])
    takes("roster", "serials and hashes of records", [10, [[bytes(BE.id), 1_790_000_000, H]], True])
    takes("roster-serial", "the largest serial of a prekey", [10, [[bytes(BE.id), 2**63 - 1, H]], True], "roster")
    takes("roster-want", "records wanted", [11, [bytes(BE.id)]])
    takes("roster-records", "bundle and record as they were signed", [12, [[BE.bundle, BE.prekey.record]]])
    takes(
        "addresses",
        "name, IPv4, IPv6",
        [
            13,
            [
                [bytes(BE.id), "be-1.example:7411"],
                [bytes(NL.id), "192.0.2.7:7411"],
                [bytes(NL.id), "[2001:db8::7]:7411"],
            ],
        ],
    )
    takes("packages-want", "is this incident for me?", [14, INC, 0])
    takes("packages-want-older", "and the packages before those shown?", [14, INC, 33], "packages-want")
    takes("packages", "an epoch package; relays do not look inside", [15, INC, [[bytes(KEY_ID), b"a package"]], 0])
    takes("packages-more", "and seventeen older ones", [15, INC, [[bytes(KEY_ID), b"a package"]], 17], "packages")
    takes("run", "one entry", [5, INC, L, 1, bytes(32), [bytes(KEY_ID)], [[0, b"sealed", None]], bytes(64)])
    takes("newer-items", "items a newer version appended are passed over", [8, INC, L, "later", {1: 2}], "prune")


def _bad_messages(book: Book) -> None:
    def refuses(name: str, about: str, items: Any, code: str = "message-malformed", matches: bool = False) -> None:
        rule = RULES.get(items[0], "message") if isinstance(items, list) and items else "message"
        book.refuses("message", code, name, about, (rule, FRAME), matches, frame=cbor(items))

    row = [0, b"sealed", None]
    refuses("newer-number", "the link goes on", [16, 1, 2], "message-unknown")
    refuses("number-zero", "no message", [0], "message-unknown")
    refuses("number-negative", "no message", [-1], "message-unknown")
    refuses("not-an-array", "a map", {1: 2})
    refuses("empty-array", "no number", [])
    refuses("number-boolean", "true is not 1", [True, H, H])
    refuses("summary-short", "one digest", [1, H])
    refuses("summary-digest-31", "a digest of 31 bytes", [1, H, H[:31]])
    refuses("incidents-1001", "1,001 rows", [2, [[INC, H]] * 1001, True])
    refuses("incidents-row-longer", "rows are closed", [2, [[INC, H, 0]], True])
    refuses("heights-flag-number", "1 in place of true", [3, INC, [], 1, False])
    refuses("heights-too-high", "2**32", [3, INC, [[L, 2**32]], True, False])
    refuses("want-position-zero", "positions start at 1", [4, INC, L, 0, 1])
    refuses("announce-empty", "an announcement of nothing", [7, []])
    refuses("run-no-rows", "a run of nothing", [5, INC, L, 1, bytes(32), [bytes(KEY_ID)], [], bytes(64)])
    refuses("run-257-rows", "too many entries", [5, INC, L, 1, bytes(32), [bytes(KEY_ID)], [row] * 257, bytes(64)])
    refuses(
        "run-key-index",
        "a row points behind the table of keys",
        [5, INC, L, 1, bytes(32), [bytes(KEY_ID)], [[1, b"sealed", None]], bytes(64)],
        matches=True,
    )
    refuses(
        "run-behind-last-position",
        "ends behind 2**32 - 1",
        [5, INC, L, 2**32 - 1, bytes(32), [bytes(KEY_ID)], [row, row], bytes(64)],
        matches=True,
    )
    refuses(
        "run-sealed-too-large",
        "65,577 bytes sealed",
        [5, INC, L, 1, bytes(32), [bytes(KEY_ID)], [[0, bytes(65_577), None]], bytes(64)],
    )
    refuses("run-seal-63", "a seal of 63 bytes", [5, INC, L, 1, bytes(32), [bytes(KEY_ID)], [row], bytes(63)])
    refuses("roster-records-empty", "no records", [12, []])
    refuses("address-blank", "a blank in an address", [13, [[bytes(BE.id), "be-1 .example:7411"]]])
    refuses("address-no-port", "no port", [13, [[bytes(BE.id), "be-1.example"]]])
    refuses("address-ipv6-bare", "IPv6 without brackets", [13, [[bytes(BE.id), "2001:db8::7:7411"]]])
    refuses("packages-17", "seventeen packages", [15, INC, [[bytes(KEY_ID), b""]] * 17, 0])
    refuses("packages-want-negative", "fewer than no packages", [14, INC, -1])
    refuses("packages-2-to-the-32", "more packages than can be", [15, INC, [[bytes(KEY_ID), b""]], 2**32])
    book.refuses("message", "cbor-forbidden-type", "tag-inside", "a tag anywhere", frame="8308c140f6")
    book.refuses(
        "message", "cbor-not-canonical", "long-number", "the number in two bytes", frame="82180850" + INC.hex()
    )


def _chain(count: int, first: int = 1, previous: EntryHash = NO_HASH, mark: str = "") -> list[Entry]:
    made = []
    for seq in range(first, first + count):
        key_id = KEY_ID if seq % 2 else KEY_ID_2
        sealed = secret(f"sealed {seq} {mark}", 104)
        identity = entry.entry_hash(INCIDENT, LOG, seq, previous, key_id, None, sealed)
        made.append(Entry(INCIDENT, LOG, seq, previous, key_id, None, sealed, identity))
        previous = identity
    return made


def _runs(book: Book) -> None:
    chain = _chain(5)

    def run(entries: list[Entry]) -> bytes:
        return wire.encode(wire.make_run(entries, entry.sign_seal(LOG_KEY, entries[-1])))

    def held(height: int) -> list[Any]:
        return [height, chain[height - 1].hash.hex() if height else NO_HASH.hex()]

    rule = ("run", FRAME)

    def takes(name: str, about: str, entries: list[Entry], height: int) -> None:
        book.takes("run", name, about, rule, frame=run(entries).hex(), held=held(height))

    def refuses(code: str, name: str, about: str, data: bytes, height: int) -> None:
        book.refuses("run", code, name, about, rule, True, frame=data.hex(), held=held(height))

    takes("from-nothing", "three new entries under two keys", chain[:3], 0)
    takes("continues", "entries 4 and 5 behind 3", chain[3:], 3)
    takes("overlaps", "entries 2 to 5, of which 3 are held", chain[1:], 3)
    takes("known", "all of it is held", chain[:3], 3)
    takes("known-below", "all of it lies below the height: not even looked at", chain[:2], 3)
    takes("gap", "starts behind a position that is not held", chain[3:], 1)
    good = run(chain[:3])
    refuses("bad-signature", "wrong-seal", "the seal is of another entry", good[:-64] + run(chain[:2])[-64:], 0)
    other_key = wire.encode(wire.make_run(chain[:3], entry.sign_seal(BE.key, chain[2])))
    refuses("bad-signature", "other-key", "sealed by another key than the log's", other_key, 0)
    rows = list(wire.make_run(chain[:3], entry.sign_seal(LOG_KEY, chain[2])).rows)
    rows[0], rows[1] = rows[1], rows[0]
    swapped = [
        5,
        INC,
        L,
        1,
        bytes(32),
        [bytes(KEY_ID), bytes(KEY_ID_2)],
        [list(row) for row in rows],
        LOG_KEY.sign("seal", chain[2].hash),
    ]
    refuses("bad-signature", "broken-chain", "two entries exchanged", bytes.fromhex(cbor(swapped)), 0)
    cut = bytearray(good)
    cut[good.index(chain[1].sealed)] ^= 1
    refuses("bad-signature", "changed-byte", "one byte of a sealed part", bytes(cut), 0)
    branch = _chain(2, 3, chain[1].hash, "other")
    refuses("log-forked", "forked", "signed by the log key, but entry 3 is not the one held", run(branch), 3)
    behind = _chain(1, 4, EntryHash(secret("no such hash")), "other")
    refuses("log-forked", "forked-behind", "entry 4 does not follow the entry 3 that is held", run(behind), 3)


def _digests(book: Book) -> None:
    other = IncidentId(secret("another incident", 16))
    one = [[L.hex(), 3, H.hex()]]
    two = [[L.hex(), 2**32 - 1, H.hex()], [bytes(LOG_2).hex(), 1, bytes(HASH_2).hex()]]
    book.takes("heads", "nothing", "a node that holds nothing", incidents=[])
    book.takes("heads", "one-log", "one incident, one log", incidents=[[INC.hex(), one]])
    book.takes(
        "heads",
        "two-incidents",
        "rows ascend, whatever the order here",
        incidents=[[INC.hex(), two], [other.hex(), one]],
    )
    low, high = sorted([BE.id.hex(), NL.id.hex()])
    hashes = sorted([H.hex(), bytes(HASH_2).hex()])
    book.takes("roster", "empty", "an empty list", rows=[])
    rows = [[low, 7, H.hex()], [high, 1_790_000_000, bytes(HASH_2).hex()]]
    book.takes("roster", "two-devices", "ascending by device", rows=rows)
    rows = [[low, 7, hashes[0]], [low, 7, hashes[1]]]
    book.takes("roster", "twins", "two records of one serial, ascending by hash", rows=rows)
