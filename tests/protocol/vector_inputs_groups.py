"""Cases of sections "Epochs", "Acts" and "Which epoch to write under"."""

from __future__ import annotations

import random
from typing import Any

from vector_book import Book, cbor
from vector_boxes import BOXES
from vector_cast import (
    BE,
    EPOCH_KEY,
    EPOCH_KEY_2,
    FR,
    INCIDENT,
    KEY_ID,
    LOG,
    LOG_2,
    LOG_3,
    NL,
    NONCE,
    Device,
    secret,
)

from meshnode.core import codec, epochs
from meshnode.core.acts import Role, add_act, ask_act, create_act
from meshnode.core.epochs import EpochBody

KEYS = {1: EPOCH_KEY, 2: EPOCH_KEY_2, 3: secret("epoch key 3"), 4: secret("epoch key 4")}
MANAGER, WRITER, READER = Role.MANAGER, Role.WRITER, Role.READER


def add(book: Book) -> None:
    _packages(book)
    _bodies(book)
    _groups(book)
    _bad_groups(book)


def _packages(book: Book) -> None:
    source = random.Random(71)
    package = epochs.make_package([BE.prekey, NL.prekey], EPOCH_KEY, INCIDENT, source.randbytes, BOXES)
    rule = ("epoch-package", "package")

    def given(data: bytes, *privates: Device, **change: Any) -> dict[str, Any]:
        opened_by = [device.private.private.hex() for device in privates]
        plain = {"package": data.hex(), "incident": INCIDENT.hex(), "key_id": KEY_ID.hex(), "privates": opened_by}
        return {**plain, **change}

    book.takes(
        "box-tag",
        "of-a-recipient",
        "how a recipient finds its box",
        ephemeral_private=secret("ephemeral").hex(),
        recipient_x25519=BE.prekey.x25519.hex(),
        incident=INCIDENT.hex(),
        key_id=KEY_ID.hex(),
    )
    book.takes("package", "opens", "two boxes for devices, two for nobody", rule, **given(package, BE))
    book.takes("package", "opens-with-an-older-prekey", "the second private part fits", rule, **given(package, FR, NL))
    book.takes("package", "not-for-this-device", "no box has its tag", rule, **given(package, FR))
    fields = codec.decode_trusted(package)
    ordered = fields[2]

    def refuses(name: str, about: str, value: Any, matches: bool = False) -> None:
        book.refuses("package", "package-malformed", name, about, rule, matches, **given(codec.encode(value), BE))

    refuses("three-boxes", "3 is no bucket", [1, fields[1], ordered[:3]])
    refuses("boxes-descending", "tags do not ascend", [1, fields[1], ordered[::-1]], matches=True)
    refuses("tag-twice", "one tag twice", [1, fields[1], [ordered[0], *ordered[:3]]], matches=True)
    refuses("version-2", "a later format", [2, *fields[1:]])
    refuses("short-tag", "15 bytes", [1, fields[1], [[row[0][:15], row[1]] for row in ordered]])
    refuses("small-order", "an ephemeral key of small order", [1, bytes(32), ordered], matches=True)
    wrong = epochs.make_package([BE.prekey], EPOCH_KEY_2, INCIDENT, source.randbytes, BOXES)
    ephemeral = secret("ephemeral")
    tag = epochs._tag(_shared(ephemeral, BE), INCIDENT, KEY_ID)
    boxes = sorted([[tag, codec.decode_trusted(wrong)[2][0][1]], *ordered[1:]])
    misled = codec.encode([1, _public(ephemeral), boxes])
    book.refuses(
        "package",
        "package-wrong-key",
        "wrong-key",
        "a box for this device that does not open",
        rule,
        True,
        **given(misled, BE),
    )


def _shared(ephemeral: bytes, device: Device) -> bytes:
    shared: bytes = epochs.bindings.crypto_scalarmult(ephemeral, device.prekey.x25519)
    return shared


def _public(ephemeral: bytes) -> bytes:
    public: bytes = epochs.bindings.crypto_scalarmult_base(ephemeral)
    return public


def _bodies(book: Book) -> None:
    rule = ("epoch-body", "body")
    devices = sorted([bytes(BE.id), bytes(NL.id)])
    rows = [[devices[0], 5], [devices[1], 7]]
    parents = [key for _, key in sorted((epochs.key_id(KEYS[number]), KEYS[number]) for number in (1, 2, 3))]

    def refuses(name: str, about: str, body: Any, matches: bool = False) -> None:
        book.refuses("epoch-body", "body-malformed", name, about, rule, matches, body=cbor(body))

    book.takes("epoch-body", "first", "no parents", rule, body=cbor([1, rows, []]))
    book.takes("epoch-body", "parents", "three parents, ascending by key id", rule, body=cbor([1, rows, parents]))
    refuses("no-recipients", "at least one", [1, [], []])
    refuses("recipients-descending", "not ascending", [1, rows[::-1], []], matches=True)
    refuses("recipient-twice", "a device twice", [1, [rows[0], [devices[0], 9]], []], matches=True)
    refuses("parents-descending", "not ascending by key id", [1, rows, parents[::-1]], matches=True)
    refuses("parent-short", "31 bytes", [1, rows, [bytes(31)]])
    refuses("version-2", "a later format", [2, rows, []])
    refuses("extra-item", "a body is closed", [1, rows, [], None])


class _Record:
    """Entries of a group, written one after the other."""

    def __init__(self) -> None:
        self.rows: list[dict[str, Any]] = []

    def write(
        self,
        log: bytes,
        seq: int,
        author: Device,
        *,
        after: tuple[tuple[bytes, int], ...] = (),
        acts: tuple[Any, ...] = (),
        key: int = 1,
        sealed_to: tuple[Device, ...] | None = None,
        parents: tuple[int, ...] = (),
    ) -> None:
        """``sealed_to``: the entry starts an epoch under ``key``, whose body has the keys numbered ``parents``."""
        body = None
        if sealed_to is not None:
            made = EpochBody.make([device.prekey for device in sealed_to], [KEYS[number] for number in parents])
            body = cbor(made.to_plain())
        self.rows.append(
            {
                "log": log.hex(),
                "seq": seq,
                "parents": [[parent.hex(), position] for parent, position in after],
                "time_ms": 1000 * seq,
                "author": author.id.hex(),
                "acts": cbor(list(acts)),
                "epoch": body,
                "key_id": epochs.key_id(KEYS[key]).hex(),
            }
        )

    def given(self) -> dict[str, Any]:
        return {"incident": INCIDENT.hex(), "entries": self.rows}


def _line(device: Device, role: Role, noc: str = "") -> tuple[Any, str, Role]:
    return device.id, noc or device.noc, role


def _opened(*others: tuple[Any, str, Role], sealed_to: tuple[Device, ...] = (BE, NL)) -> _Record:
    record = _Record()
    record.write(LOG, 1, BE, acts=(create_act(NONCE, [_line(BE, MANAGER), *others]),), sealed_to=sealed_to)
    return record


def _groups(book: Book) -> None:
    def takes(name: str, about: str, record: _Record) -> None:
        book.takes("group", name, about, **record.given())

    first = (LOG, 1)
    takes("opened", "two members and the first epoch", _opened(_line(NL, WRITER)))

    added = _opened(_line(NL, WRITER))
    added.write(LOG, 2, BE, acts=(add_act([_line(FR, READER)]),), key=2, sealed_to=(BE, NL, FR), parents=(1,))
    takes("added", "a new member, and an epoch whose body has the key before", added)

    two = _opened(_line(NL, MANAGER))
    two.write(LOG, 2, BE, key=2, sealed_to=(BE, NL), parents=(1,))
    two.write(LOG_2, 1, NL, after=(first,), key=3, sealed_to=(BE, NL), parents=(1,))
    takes("concurrent-epochs", "both stay, the lowest key id is written under, one more is needed", two)

    joined = _opened(_line(NL, MANAGER))
    joined.rows += two.rows[1:]
    joined.write(LOG, 3, BE, after=((LOG_2, 1),), key=4, sealed_to=(BE, NL), parents=(2, 3))
    takes("joined-epochs", "an epoch above both", joined)

    lacking = _opened(_line(NL, MANAGER))
    lacking.write(
        LOG_2, 1, NL, after=(first,), acts=(add_act([_line(FR, WRITER)]),), key=2, sealed_to=(BE, NL, FR), parents=(1,)
    )
    lacking.write(LOG, 2, BE, key=3, sealed_to=(BE, NL), parents=(1,))
    takes("epoch-without-new-member", "an epoch that had not seen the addition: valid, and repaired", lacking)

    raised = _opened(_line(NL, READER))
    raised.write(LOG, 2, BE, acts=(add_act([_line(NL, MANAGER)]), add_act([_line(NL, READER)])))
    takes("role-raised", "the highest role counts, lower ones change nothing", raised)


def _bad_groups(book: Book) -> None:
    def takes(name: str, about: str, record: _Record) -> None:
        book.takes("group", name, about, **record.given())

    first = (LOG, 1)
    base = [_line(NL, WRITER)]

    stranger = _opened(*base)
    stranger.write(
        LOG_3, 1, FR, after=(first,), acts=(add_act([_line(FR, MANAGER)]),), key=2, sealed_to=(BE, NL, FR), parents=(1,)
    )
    takes("stranger-adds-itself", "no right in its own past: act and epoch are void", stranger)

    writer = _opened(*base)
    writer.write(LOG_2, 1, NL, after=(first,), acts=(add_act([_line(FR, WRITER)]),))
    takes("writer-adds", "a writer is no manager", writer)

    short = _opened(*base)
    short.write(LOG, 2, BE, key=2, sealed_to=(BE,), parents=(1,))
    takes("recipients-short", "E1: sealed to fewer than the members", short)

    outsider = _opened(*base)
    outsider.write(LOG, 2, BE, key=2, sealed_to=(BE, NL, FR), parents=(1,))
    takes("recipients-outsider", "E1 and E2: an outsider holds it, and through it the key before", outsider)

    reused = _opened(*base)
    reused.write(LOG, 2, BE, key=1, sealed_to=(BE, NL, FR), parents=())
    takes("key-reused", "E8: a key id of its own past, given to an outsider", reused)

    resealed = _opened(*base)
    resealed.write(LOG, 2, BE, key=2, sealed_to=(BE, NL), parents=(1,))
    resealed.write(LOG_2, 1, NL, after=(first,), acts=(ask_act(1, [epochs.key_id(KEYS[2])]),))
    resealed.write(LOG, 3, BE, after=((LOG_2, 1),), key=2, sealed_to=(NL,), parents=(1,))
    takes("asked-and-sealed-again", "a re-seal: it starts no epoch, and nothing is to be repaired", resealed)

    foreign = _opened(*base)
    foreign.write(LOG_3, 1, FR, after=(first,), key=1, sealed_to=(BE,))
    takes("stranger-seals-again", "who is no member re-seals nothing", foreign)

    asks = _opened(_line(NL, READER))
    keys = [epochs.key_id(KEYS[2])]
    acts = [ask_act(8, keys * 16), [3, 1, []], [3, 1, keys * 17], [3, 9, keys], [3, 0, keys], [3, True, keys], [3, 1]]
    asks.write(LOG_2, 1, NL, after=(first,), acts=(*acts, [3, 1, keys, 0], [3, 1, [bytes(31)]], [3, 1, ["text"]]))
    asks.write(LOG_3, 1, FR, after=(first,), acts=(ask_act(1, keys),))
    takes("asks", "any member asks, a stranger does not; forms that are none", asks)

    broken = _opened(*base)
    broken.write(LOG, 2, BE, key=2, sealed_to=(BE, NL), parents=())
    takes("chain-broken", "E10: the key before cannot be reached", broken)
    hidden = _opened(*base)
    for seq, key, to, carried in ((2, 2, (BE, NL), ()), (3, 2, (NL,), (1,)), (4, 3, (BE, NL), (2,))):
        hidden.write(LOG, seq, BE, key=key, sealed_to=to, parents=carried)
    takes("chain-through-a-re-seal", "E10: the key before is in the body of a re-seal, which leads nowhere", hidden)

    again = _opened(*base)
    again.write(LOG, 2, BE, acts=(create_act(NONCE, [_line(BE, MANAGER), _line(FR, MANAGER)]),))
    takes("created-again", "the second creation has seen the first", again)

    handle = _Record()
    handle.write(LOG, 1, NL, acts=(create_act(NONCE, [_line(NL, MANAGER)]),), sealed_to=(NL,))
    takes("wrong-handle", "the handle is another author's", handle)

    newer = _opened(*base)
    newer.write(
        LOG,
        2,
        BE,
        acts=([9, "later"], "later", [2, [[bytes(FR.id), "FR", 4]]], [2, [], 0], add_act([_line(FR, WRITER)])),
    )
    takes("newer-acts", "an unknown code, no array, an unknown role, a wrong form; the last act holds", newer)
