"""Entries: how one change is hashed, sealed for the members, signed for everybody, and opened again.

The clear part (incident, log, position, hash of the entry before, key id, hash of the epoch package) is what a relay
checks; its bytes are also the associated data of the sealed part, so a sealed part fits exactly one place in one log.
The entry's hash covers the clear part and the hash of the sealed part. The log key signs hashes ("seals"), and through
the chain one seal vouches for every entry before it.

The nonce is synthetic: a keyed hash of the clear part and the plaintext. It needs no randomness, and a machine that is
copied while it runs (two live copies of one log key) can at worst repeat an identical ciphertext, never reuse a nonce
for two different plaintexts. The key id is compared before decryption, which makes the AEAD key-committing.

What is sealed is a canonical CBOR map, then 0x80, then zeros up to a size bucket (ISO/IEC 7816-4 padding), so that a
relay learns a bucket and not a length.

Source: protocol/protocol.md, sections "Entries" and "Content".
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import Any, NamedTuple

from meshnode.core import aead, codec, keys
from meshnode.core.ids import (
    ENTRY_HASH_BYTES,
    DeviceId,
    EntryHash,
    IncidentId,
    KeyId,
    LogId,
)
from meshnode.core.log import Entry, Seal
from meshnode.errors import UntrustedInputError

NONCE_BYTES = aead.NONCE_BYTES
TAG_BYTES = aead.TAG_BYTES
SEALED_OVERHEAD_BYTES = NONCE_BYTES + TAG_BYTES

CONTENT_BYTES_MAX = 65_535
"""Largest content of one entry before padding. Larger things (attachments, many changes) become several entries, so
that an urgent entry never waits behind more than this on a thin link."""
SEALED_BYTES_MAX = 65_536 + SEALED_OVERHEAD_BYTES
PARENTS_MAX = 16
"""Heads of other logs one entry may name. With more concurrent writers the rest follow in the next entry."""
OPERATOR_BYTES_MAX = 192
"""UTF-8 bytes of an operator: 128 from the application and what the local API appends to it."""
OPERATIONS_MAX = 256
OPENING_TAG = "log opening"
SEAL_TAG = "seal"

_NO_PACKAGE = bytes(keys.HASH_BYTES)


class LogKeys(NamedTuple):
    """The two keys that seal one log under one epoch key."""

    data: bytes
    nonce: bytes

    def __repr__(self) -> str:
        return "<LogKeys>"


@dataclass(frozen=True, slots=True)
class Opening:
    """The first content of a log: which device writes it. Members check it; relays never see it."""

    bundle: bytes
    """The device certificate bundle."""
    signature: bytes
    """The device's signature over incident and log id."""


class Content(NamedTuple):
    """What an entry says, for members only. Empty parts are absent on the wire."""

    parents: tuple[EntryHash, ...]
    time_ms: int
    """The author's wall clock when it wrote. Shown, capped for the display order, never used to decide."""
    operator: str
    operations: tuple[Any, ...] = ()
    acts: tuple[Any, ...] = ()
    opening: Opening | None = None
    epoch: Any = None
    """The plain form of an epoch body, when the entry carries an epoch package."""


def package_hash(package: bytes | None) -> bytes:
    return _NO_PACKAGE if package is None else keys.digest("mn-package", package)


def clear_bytes(
    incident: IncidentId, log: LogId, seq: int, previous: EntryHash, key_id: KeyId, package: bytes | None
) -> bytes:
    """The fixed layout of the clear part: 16 + 32 + 8 + 32 + 32 + 32 bytes."""
    return b"".join((incident, log, seq.to_bytes(8, "big"), previous, key_id, package_hash(package)))


def entry_hash(
    incident: IncidentId,
    log: LogId,
    seq: int,
    previous: EntryHash,
    key_id: KeyId,
    package: bytes | None,
    sealed: bytes,
) -> EntryHash:
    """The identity of an entry. Relays compute it without reading anything."""
    clear = clear_bytes(incident, log, seq, previous, key_id, package)
    return EntryHash(keys.digest("mn-entry", clear, keys.digest("mn-sealed", sealed)))


def log_keys(epoch_key: bytes, incident: IncidentId, log: LogId) -> LogKeys:
    data = keys.derive_key("mn-data", epoch_key, incident, log)
    return LogKeys(data, keys.derive_key("mn-nonce", data))


def padded_size(size_bytes: int) -> int:
    """The bucket of a plaintext: multiples of 64 up to 1 KiB, then an eighth of the power of two below."""
    step = 64
    if size_bytes > 1024:
        step = 1 << ((size_bytes - 1).bit_length() - 4)
    return -(-size_bytes // step) * step


def seal_content(content: bytes, keys_of_log: LogKeys, clear: bytes) -> bytes:
    """Nonce, ciphertext and tag of a content's canonical bytes (at most CONTENT_BYTES_MAX)."""
    plain = content + b"\x80"
    plain += bytes(padded_size(len(plain)) - len(plain))
    nonce = hashlib.blake2b(clear + plain, digest_size=NONCE_BYTES, key=keys_of_log.nonce).digest()
    sealed = aead.seal(plain, clear, nonce, keys_of_log.data)
    return nonce + sealed


def open_content_untrusted(sealed: bytes, keys_of_log: LogKeys, clear: bytes) -> bytes:
    """The content bytes a member wrote, or UntrustedInputError ``entry-unreadable``. The key id was compared before."""
    if SEALED_OVERHEAD_BYTES < len(sealed) <= SEALED_BYTES_MAX:
        plain = aead.open_untrusted(sealed[NONCE_BYTES:], clear, sealed[:NONCE_BYTES], keys_of_log.data)
        if plain is not None:
            content = plain.rstrip(b"\0")
            if content.endswith(b"\x80"):
                return content[:-1]
    raise UntrustedInputError("entry-unreadable", "the sealed part does not open with the key the entry names")


def encode_content(content: Content) -> bytes:
    """Canonical bytes. Raises ValueError when they exceed CONTENT_BYTES_MAX: the caller splits its operations."""
    fields: dict[int, Any] = {1: content.time_ms, 2: content.operator}
    if content.parents:
        fields[0] = list(content.parents)
    if content.operations:
        fields[3] = list(content.operations)
    if content.acts:
        fields[4] = list(content.acts)
    if content.opening is not None:
        fields[5] = [content.opening.bundle, content.opening.signature]
    if content.epoch is not None:
        fields[6] = content.epoch
    data = codec.encode(fields)
    if len(data) > CONTENT_BYTES_MAX:
        raise ValueError(f"a content of {len(data)} bytes")
    return data


def content_untrusted(data: bytes) -> Content:
    """The content a member wrote, checked in shape. Unknown integer keys are a newer version's and are passed over.

    Raises UntrustedInputError ``cbor-*`` or ``content-malformed``.
    """
    fields = codec.decode_untrusted(data, CONTENT_BYTES_MAX)
    if not isinstance(fields, dict):
        raise _malformed("it is not a map")
    parents = fields.get(0, [])
    time_ms, operator = fields.get(1), fields.get(2)
    operations, acts = fields.get(3, []), fields.get(4, [])
    if not isinstance(parents, list) or len(parents) > PARENTS_MAX or not all(map(_is_hash, parents)):
        raise _malformed("parents are at most 16 hashes")
    if len(set(parents)) != len(parents):
        raise _malformed("a parent is named twice")
    if type(time_ms) is not int or not 0 <= time_ms < 1 << 53:
        raise _malformed("the time is milliseconds since 1970")
    if not isinstance(operator, str) or len(operator.encode()) > OPERATOR_BYTES_MAX:
        raise _malformed(f"the operator is a text of at most {OPERATOR_BYTES_MAX} bytes")
    if not isinstance(operations, list) or not isinstance(acts, list) or len(operations) > OPERATIONS_MAX:
        raise _malformed(f"operations and acts are lists, of at most {OPERATIONS_MAX} operations")
    return Content(
        parents=tuple(parents),
        time_ms=time_ms,
        operator=operator,
        operations=tuple(operations),
        acts=tuple(acts),
        opening=_opening(fields.get(5)),
        epoch=fields.get(6),
    )


def _is_hash(value: object) -> bool:
    return isinstance(value, bytes) and len(value) == ENTRY_HASH_BYTES


def _opening(value: object) -> Opening | None:
    if value is None:
        return None
    if isinstance(value, list) and len(value) == 2 and all(isinstance(part, bytes) for part in value):
        return Opening(value[0], value[1])
    raise _malformed("an opening is a certificate bundle and a signature")


def _malformed(reason: str) -> UntrustedInputError:
    return UntrustedInputError("content-malformed", reason, "the author's software must follow the protocol")


def sign_opening(device_key: keys.SigningKey, bundle: bytes, incident: IncidentId, log: LogId) -> Opening:
    return Opening(bundle, device_key.sign(OPENING_TAG, incident + log))


def verify_opening_untrusted(opening: Opening, device: DeviceId, incident: IncidentId, log: LogId) -> None:
    """Raises ``bad-signature`` unless the device named by the (already verified) bundle opened this log."""
    keys.verify_untrusted(device, OPENING_TAG, incident + log, opening.signature, "a log opening")


def sign_seal(log_key: keys.SigningKey, entry: Entry) -> Seal:
    return Seal(entry.incident, entry.log, entry.seq, log_key.sign(SEAL_TAG, entry.hash))


def verify_seal_untrusted(log: LogId, last_hash: EntryHash, signature: bytes) -> None:
    """Raises ``bad-signature`` unless the log key signed this hash."""
    keys.verify_untrusted(log, SEAL_TAG, last_hash, signature, "a run of entries")


def write_entry(
    incident: IncidentId,
    log: LogId,
    seq: int,
    previous: EntryHash,
    epoch_key: bytes,
    key_id: KeyId,
    package: bytes | None,
    content: Content,
) -> Entry:
    """A new entry: encoded, padded, sealed and hashed. It is worth nothing to others before a seal covers it."""
    clear = clear_bytes(incident, log, seq, previous, key_id, package)
    sealed = seal_content(encode_content(content), log_keys(epoch_key, incident, log), clear)
    identity = EntryHash(keys.digest("mn-entry", clear, keys.digest("mn-sealed", sealed)))
    return Entry(incident, log, seq, previous, key_id, package, sealed, identity)
