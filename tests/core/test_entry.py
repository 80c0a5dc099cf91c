"""Entries open in one place, with one key, for members only, and their bytes tell a bucket and not a length."""

from __future__ import annotations

import random
from contextlib import suppress
from dataclasses import replace
from typing import Any

import pytest
from core_support import EPOCH_KEY, INCIDENT, KEY_ID, LogWriter, refused, search
from hypothesis import given
from hypothesis import strategies as st
from nacl import bindings
from world import make_identity

from meshnode.core import codec, entry, epochs
from meshnode.core.entry import (
    CONTENT_BYTES_MAX,
    NONCE_BYTES,
    OPERATIONS_MAX,
    OPERATOR_BYTES_MAX,
    PARENTS_MAX,
    SEALED_BYTES_MAX,
    Content,
    Opening,
)
from meshnode.core.ids import NO_HASH, SEQ_MAX, EntryHash, IncidentId, LogId
from meshnode.core.keys import SigningKey
from meshnode.errors import UntrustedInputError

LOG = LogWriter("one").id
KEYS = entry.log_keys(EPOCH_KEY, INCIDENT, LOG)
CLEAR = entry.clear_bytes(INCIDENT, LOG, 1, NO_HASH, KEY_ID, None)

hashes = st.binary(min_size=32, max_size=32).map(EntryHash)
plain_items = st.lists(st.integers(0, 100) | st.text(max_size=5), max_size=3)
contents = st.builds(
    Content,
    parents=st.lists(hashes, max_size=PARENTS_MAX, unique=True).map(tuple),
    time_ms=st.integers(0, 2**53 - 1),
    operator=st.text(max_size=40),
    operations=st.lists(plain_items, max_size=4).map(tuple),
    acts=st.lists(plain_items, max_size=2).map(tuple),
    opening=st.none() | st.builds(Opening, st.binary(max_size=30), st.binary(max_size=64)),
    epoch=st.none() | plain_items,
)


def seal(content: bytes) -> bytes:
    return entry.seal_content(content, KEYS, CLEAR)


def seal_plain(plain: bytes) -> bytes:
    """A sealed part with any plaintext, as a hostile member could make it."""
    nonce = bytes(NONCE_BYTES)
    return nonce + bindings.crypto_aead_xchacha20poly1305_ietf_encrypt(plain, CLEAR, nonce, KEYS.data)


# --- content --------------------------------------------------------------------------------------------------------


@given(contents)
@search(80)
def test_a_content_comes_back_from_its_bytes(content: Content) -> None:
    assert entry.content_untrusted(entry.encode_content(content)) == content


@given(contents, st.data())
@search(80)
def test_a_damaged_content_is_refused_or_is_another_content_and_nothing_else_escapes(
    content: Content, data: st.DataObject
) -> None:
    whole = entry.encode_content(content)
    place = data.draw(st.integers(0, len(whole) - 1))
    bent = whole[:place] + bytes([whole[place] ^ data.draw(st.integers(1, 255))]) + whole[place + 1 :]
    with pytest.raises(UntrustedInputError):
        entry.content_untrusted(whole[:place])
    with suppress(UntrustedInputError):
        assert entry.content_untrusted(bent) != content


@pytest.mark.parametrize(
    "fields",
    [
        [],
        "text",
        {},
        {1: 5},  # no operator
        {2: "o"},  # no time
        {1: -1, 2: "o"},
        {1: 2**53, 2: "o"},
        {1: True, 2: "o"},
        {1: "5", 2: "o"},
        {1: 5, 2: b"o"},
        {1: 5, 2: "o" * (OPERATOR_BYTES_MAX + 1)},
        {1: 5, 2: "ö" * (OPERATOR_BYTES_MAX // 2 + 1)},
        {0: 7, 1: 5, 2: "o"},
        {0: [b"short"], 1: 5, 2: "o"},
        {0: ["x" * 32], 1: 5, 2: "o"},
        {0: [bytes(32)] * 2, 1: 5, 2: "o"},  # a parent named twice
        {0: [bytes([n]) * 32 for n in range(PARENTS_MAX + 1)], 1: 5, 2: "o"},
        {1: 5, 2: "o", 3: {}},
        {1: 5, 2: "o", 3: [[]] * (OPERATIONS_MAX + 1)},
        {1: 5, 2: "o", 4: "acts"},
        {1: 5, 2: "o", 5: [b"bundle"]},
        {1: 5, 2: "o", 5: [b"bundle", "signature"]},
        {1: 5, 2: "o", 5: b"bundle"},
    ],
)
def test_a_content_of_another_shape_is_refused(fields: Any) -> None:
    with refused("content-malformed"):
        entry.content_untrusted(codec.encode(fields))


def test_a_content_at_its_limits_is_taken() -> None:
    content = Content(
        parents=tuple(EntryHash(bytes([n]) * 32) for n in range(PARENTS_MAX)),
        time_ms=2**53 - 1,
        operator="o" * OPERATOR_BYTES_MAX,
        operations=(0,) * OPERATIONS_MAX,
    )
    assert entry.content_untrusted(entry.encode_content(content)) == content


def test_what_a_newer_version_adds_to_a_content_is_passed_over() -> None:
    fields = {1: 5, 2: "o", 7: "newer", 900: [1], -1: None, "x": {}}
    assert entry.content_untrusted(codec.encode(fields)) == Content((), 5, "o")


def test_a_content_that_is_too_large_is_the_writer_s_mistake() -> None:
    entry.encode_content(Content((), 5, "", (bytes(CONTENT_BYTES_MAX - 20),)))
    with pytest.raises(ValueError, match="bytes"):
        entry.encode_content(Content((), 5, "", (bytes(CONTENT_BYTES_MAX),)))
    with refused("cbor-too-large"):
        entry.content_untrusted(codec.encode({1: 5, 2: "", 3: [bytes(CONTENT_BYTES_MAX)]}))


# --- sealing --------------------------------------------------------------------------------------------------------


@given(st.binary(max_size=3_000))
@search(60)
def test_what_was_sealed_opens_again(content: bytes) -> None:
    assert entry.open_content_untrusted(seal(content), KEYS, CLEAR) == content


@given(st.binary(max_size=200), st.binary(max_size=200))
@search(60)
def test_the_nonce_follows_from_place_and_content(one: bytes, other: bytes) -> None:
    assert seal(one) == seal(one)
    assert (seal(one)[:NONCE_BYTES] == seal(other)[:NONCE_BYTES]) == (one == other)
    elsewhere = entry.clear_bytes(INCIDENT, LOG, 2, NO_HASH, KEY_ID, None)
    assert entry.seal_content(one, KEYS, elsewhere)[:NONCE_BYTES] != seal(one)[:NONCE_BYTES]


@given(st.integers(1, 65_536))
@search(200)
def test_a_bucket_is_large_enough_not_larger_than_an_eighth_more_and_buckets_ascend(size_bytes: int) -> None:
    padded = entry.padded_size(size_bytes)
    assert size_bytes <= padded <= max(size_bytes + 63, size_bytes * 9 // 8 + 1)
    assert entry.padded_size(padded) == padded
    assert entry.padded_size(size_bytes - 1) <= padded


def test_lengths_fall_into_few_buckets() -> None:
    assert len({entry.padded_size(size) for size in range(1, 65_537)}) == 16 + 8 * 6
    assert len({len(seal(bytes(size))) for size in range(63)}) == 1
    largest = seal(bytes(CONTENT_BYTES_MAX))
    assert len(largest) == SEALED_BYTES_MAX
    assert entry.open_content_untrusted(largest, KEYS, CLEAR) == bytes(CONTENT_BYTES_MAX)


@pytest.mark.parametrize(
    "clear",
    [
        entry.clear_bytes(IncidentId(bytes(16)), LOG, 1, NO_HASH, KEY_ID, None),
        entry.clear_bytes(INCIDENT, LogId(bytes(32)), 1, NO_HASH, KEY_ID, None),
        entry.clear_bytes(INCIDENT, LOG, 2, NO_HASH, KEY_ID, None),
        entry.clear_bytes(INCIDENT, LOG, 1, EntryHash(b"\1" * 32), KEY_ID, None),
        entry.clear_bytes(INCIDENT, LOG, 1, NO_HASH, epochs.key_id(bytes(32)), None),
        entry.clear_bytes(INCIDENT, LOG, 1, NO_HASH, KEY_ID, b""),
    ],
    ids=["incident", "log", "position", "previous", "key id", "package"],
)
def test_a_sealed_part_opens_in_no_other_place(clear: bytes) -> None:
    assert entry.open_content_untrusted(seal(b"secret"), KEYS, CLEAR) == b"secret"
    with refused("entry-unreadable"):
        entry.open_content_untrusted(seal(b"secret"), KEYS, clear)


def test_a_sealed_part_opens_with_no_other_epoch_key_incident_or_log() -> None:
    for others in (
        entry.log_keys(bytes(32), INCIDENT, LOG),
        entry.log_keys(EPOCH_KEY, IncidentId(bytes(16)), LOG),
        entry.log_keys(EPOCH_KEY, INCIDENT, LogId(bytes(32))),
    ):
        with refused("entry-unreadable"):
            entry.open_content_untrusted(seal(b"secret"), others, CLEAR)


def test_every_changed_or_missing_byte_of_a_sealed_part_is_noticed() -> None:
    sealed = seal(b"secret")
    for place in range(len(sealed)):
        bent = sealed[:place] + bytes([sealed[place] ^ 0x40]) + sealed[place + 1 :]
        for bad in (bent, sealed[:place]):
            with refused("entry-unreadable"):
                entry.open_content_untrusted(bad, KEYS, CLEAR)


@pytest.mark.parametrize("plain", [b"", b"\0" * 64, b"no mark", b"no mark" + bytes(57)])
def test_a_plaintext_without_the_mark_that_ends_a_content_is_refused(plain: bytes) -> None:
    with refused("entry-unreadable"):
        entry.open_content_untrusted(seal_plain(plain), KEYS, CLEAR)


def test_a_sealed_part_above_the_limit_is_refused_unopened() -> None:
    with refused("entry-unreadable"):
        entry.open_content_untrusted(seal_plain(b"\x80" + bytes(65_536)), KEYS, CLEAR)


# --- identity, seals, openings --------------------------------------------------------------------------------------


def test_the_hash_of_an_entry_covers_every_part_of_it() -> None:
    parts: dict[str, Any] = {
        "incident": INCIDENT,
        "log": LOG,
        "seq": 1,
        "previous": NO_HASH,
        "key_id": KEY_ID,
        "package": None,
        "sealed": b"sealed",
    }
    changed: list[dict[str, Any]] = [
        {"incident": IncidentId(bytes(16))},
        {"log": LogId(bytes(32))},
        {"seq": SEQ_MAX},
        {"previous": EntryHash(b"\1" * 32)},
        {"key_id": epochs.key_id(bytes(32))},
        {"package": b""},
        {"package": b"package"},
        {"sealed": b"sealeD"},
        {},
    ]
    assert len({entry.entry_hash(**{**parts, **change}) for change in changed}) == len(changed)


def test_a_written_entry_carries_its_own_hash_and_opens() -> None:
    writer = LogWriter("one")
    first, second = writer.write("one"), writer.write("two", package=b"package")
    assert second.previous == first.hash
    for made in (first, second):
        fields = (made.incident, made.log, made.seq, made.previous, made.key_id, made.package)
        assert made.hash == entry.entry_hash(*fields, made.sealed)
        opened = entry.open_content_untrusted(made.sealed, KEYS, entry.clear_bytes(*fields))
        assert entry.content_untrusted(opened).operator in ("one", "two")


def test_a_seal_is_for_one_hash_by_one_log() -> None:
    writer = LogWriter("one")
    writer.grow(2)
    seal = writer.seal(2)
    entry.verify_seal_untrusted(writer.id, writer.entries[1].hash, seal.signature)
    with refused("bad-signature"):
        entry.verify_seal_untrusted(writer.id, writer.entries[0].hash, seal.signature)
    with refused("bad-signature"):
        entry.verify_seal_untrusted(LogWriter("two").id, writer.entries[1].hash, seal.signature)


def test_an_opening_is_by_one_device_for_one_log_of_one_incident() -> None:
    identity = make_identity("BE", "1")
    opening = entry.sign_opening(identity.device_key, identity.certificate.bundle, INCIDENT, LOG)
    entry.verify_opening_untrusted(opening, identity.device, INCIDENT, LOG)
    stranger = SigningKey(random.Random(9).randbytes(32)).device_id
    for device, incident, log, said in (
        (stranger, INCIDENT, LOG, opening),
        (identity.device, IncidentId(bytes(16)), LOG, opening),
        (identity.device, INCIDENT, LogId(bytes(32)), opening),
        (identity.device, INCIDENT, LOG, replace(opening, signature=bytes(64))),
    ):
        with refused("bad-signature"):
            entry.verify_opening_untrusted(said, device, incident, log)
