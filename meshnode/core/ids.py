"""Identifiers. All are bytes inside, lowercase hexadecimal at every border where people or JSON see them.

| name | bytes | what it is |
|---|---|---|
| DeviceId | 32 | the Ed25519 public key of a node's device key |
| IncidentId | 16 | random handle of an incident; relays see it |
| LogId | 32 | the Ed25519 public key that signs one log: one device, one incident, one process start |
| EntryHash | 32 | BLAKE2b-256 of an entry's clear part (protocol, section "Entries") |
| KeyId | 32 | hash of an epoch key |
| ObjectId | 16 | random name of an object inside an incident; all zero names the incident itself |
| Dot | - | (log, seq, op): the op-th operation of an entry; names a value, an element, a record |
"""

from __future__ import annotations

from typing import NamedTuple, NewType

from meshnode.errors import UntrustedInputError

DeviceId = NewType("DeviceId", bytes)
IncidentId = NewType("IncidentId", bytes)
LogId = NewType("LogId", bytes)
EntryHash = NewType("EntryHash", bytes)
KeyId = NewType("KeyId", bytes)
ObjectId = NewType("ObjectId", bytes)

DEVICE_ID_BYTES = 32
INCIDENT_ID_BYTES = 16
LOG_ID_BYTES = 32
ENTRY_HASH_BYTES = 32
KEY_ID_BYTES = 32
OBJECT_ID_BYTES = 16

ROOT_OBJECT = ObjectId(bytes(OBJECT_ID_BYTES))
NO_HASH = EntryHash(bytes(ENTRY_HASH_BYTES))

SEQ_MAX = 2**32 - 1
"""Entries in one log. A log lives for one process start: 2**32 is a century at one entry a second."""
OP_INDEX_MAX = 2**16 - 1


class Dot(NamedTuple):
    """The name of one operation: unique because a log never reuses a position."""

    log: LogId
    seq: int
    op: int

    @property
    def text(self) -> str:
        """``<log hex>.<seq>.<op>``, the form used in the local API."""
        return f"{self.log.hex()}.{self.seq}.{self.op}"


def parse_hex_untrusted(text: str, length_bytes: int, what: str) -> bytes:
    """The bytes of a lowercase hexadecimal identifier, or UntrustedInputError ``bad-identifier``."""
    if len(text) == 2 * length_bytes and text == text.lower():
        try:
            raw = bytes.fromhex(text)
        except ValueError:
            raw = b""
        if len(raw) == length_bytes:
            return raw
    raise UntrustedInputError(
        "bad-identifier",
        f"{what} must be {2 * length_bytes} lowercase hexadecimal digits",
        "copy the identifier from a listing",
    )


def parse_dot_untrusted(text: str) -> Dot:
    """The Dot written by :attr:`Dot.text`, or UntrustedInputError ``bad-identifier``."""
    parts = text.split(".")
    if len(parts) == 3 and all(_is_canonical_decimal(part) for part in parts[1:]):
        log = LogId(parse_hex_untrusted(parts[0], LOG_ID_BYTES, "the log of a value id"))
        seq, op = int(parts[1]), int(parts[2])
        if 1 <= seq <= SEQ_MAX and op <= OP_INDEX_MAX:
            return Dot(log, seq, op)
    raise UntrustedInputError(
        "bad-identifier", "a value id looks like <64 hex digits>.<seq>.<op>", "copy the value id from a listing"
    )


def _is_canonical_decimal(text: str) -> bool:
    return text.isascii() and text.isdigit() and len(text) <= 10 and (text == "0" or text[0] != "0")
