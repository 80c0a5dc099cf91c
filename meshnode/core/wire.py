"""The messages of a link, as frozen records, and their canonical bytes.

A frame holds one message: a CBOR array whose first item is the message's number. ``decode_untrusted`` is the one door
for what a peer sends after its hello. Messages with unknown numbers are refused softly (``message-unknown``): a newer
peer may send them, and the link goes on. Extra items behind the known ones are passed over for the same reason.

| message | answers | meaning |
|---|---|---|
| Summary | - | two digests: of everything I hold in logs, and of my roster |
| Incidents | a Summary that differs | the digest of each incident I hold |
| Heights | an incident digest that differs | how far I hold each log of one incident |
| Want | Heights | send me one log from ``first``, up to about ``last`` |
| Run | Want, or nobody (a push) | consecutive entries of one log that end in a seal |
| Lack | Want | I cannot serve that |
| Announce | - | I now hold these logs up to these heights (lazy push) |
| Prune | a push I already had | announce entries of this log to me, do not push them |
| Graft | an Announce | push entries of this log to me again, from behind this height |
| Roster | a Summary that differs | the prekey serial I hold of each device |
| RosterWant | Roster | send me these devices' records |
| RosterRecords | RosterWant, or nobody (a push) | certificate bundles and prekey records |
| Addresses | - | where nodes of this network were reached |
| PackagesWant | Incidents that name an unknown one | a node that is no relay asks whether the incident is for it |
| Packages | PackagesWant, or nobody (a push) | a page of an incident's epoch packages: who opens one is a member |

Source: protocol/wire.cddl and protocol/protocol.md.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any, cast

from meshnode.core import codec, entry
from meshnode.core.ids import (
    DEVICE_ID_BYTES,
    ENTRY_HASH_BYTES,
    INCIDENT_ID_BYTES,
    KEY_ID_BYTES,
    LOG_ID_BYTES,
    SEQ_MAX,
    DeviceId,
    EntryHash,
    IncidentId,
    KeyId,
    LogId,
)
from meshnode.core.keys import HASH_BYTES, SIGNATURE_BYTES
from meshnode.core.log import Entry, Seal
from meshnode.core.prekeys import SERIAL_MAX
from meshnode.errors import UntrustedInputError

FRAME_BYTES_MAX = 1_048_576
"""One frame. Room for a run and an epoch package of 400 recipients; a link's receive buffer is at most this."""
RUN_ENTRIES_MAX = 256
"""Entries between two kept seals, and so the smallest unit of resuming: at about 400 bytes an entry, 100 KiB."""
RUN_BYTES_MAX = 262_144
"""Size at which a run ends at the next seal. What a link that dies in the middle can cost."""
PACKAGE_BYTES_MAX = 524_288
LIST_MAX = 1_000
"""Rows of one Incidents, Heights, Announce, Roster or Addresses message; longer lists take several messages."""
ROSTER_RECORDS_MAX = 100
ROSTER_RECORD_BYTES_MAX = 6_144
ADDRESS_BYTES_MAX = 255
PACKAGES_MAX = 16
"""Packages in one message: with their boxes a fraction of a frame. Older ones are asked for page by page."""
PACKAGE_COUNT_MAX = 2**32 - 1
"""Packages of one incident at one node: more than a disk holds."""
PACKAGES_BYTES_MAX = 900_000
"""What a sender puts into one Packages message: with the rest it stays below FRAME_BYTES_MAX."""


_ADDRESS = re.compile(r"([A-Za-z0-9._-]{1,240}|\[[0-9a-fA-F:.%]{2,60}\]):[0-9]{1,5}", re.ASCII)


@dataclass(frozen=True, slots=True)
class Summary:
    log_digest: bytes
    roster_digest: bytes


@dataclass(frozen=True, slots=True)
class Incidents:
    digests: tuple[tuple[IncidentId, bytes], ...]
    last: bool
    """No further Incidents message belongs to this list."""


@dataclass(frozen=True, slots=True)
class Heights:
    incident: IncidentId
    heights: tuple[tuple[LogId, int], ...]
    last: bool
    answer: bool
    """This answers a Heights: do not answer it with another."""


@dataclass(frozen=True, slots=True)
class Want:
    incident: IncidentId
    log: LogId
    first: int
    last: int


@dataclass(frozen=True, slots=True)
class Run:
    """Entries ``first``.. of one log; ``seal`` signs the hash of the last. ``key_ids`` is a table the rows refer to."""

    incident: IncidentId
    log: LogId
    first: int
    previous: EntryHash
    key_ids: tuple[KeyId, ...]
    rows: tuple[tuple[int, bytes, bytes | None], ...]
    """(index into key_ids, sealed part, package or None) of each entry."""
    seal: bytes

    @property
    def last(self) -> int:
        return self.first + len(self.rows) - 1


@dataclass(frozen=True, slots=True)
class Lack:
    incident: IncidentId
    log: LogId
    first: int


@dataclass(frozen=True, slots=True)
class Announce:
    heights: tuple[tuple[IncidentId, LogId, int], ...]


@dataclass(frozen=True, slots=True)
class Prune:
    incident: IncidentId
    log: LogId


@dataclass(frozen=True, slots=True)
class Graft:
    incident: IncidentId
    log: LogId
    height: int


@dataclass(frozen=True, slots=True)
class Roster:
    rows: tuple[tuple[DeviceId, int, bytes], ...]
    """(device, prekey serial, hash of the record)"""
    last: bool


@dataclass(frozen=True, slots=True)
class RosterWant:
    devices: tuple[DeviceId, ...]


@dataclass(frozen=True, slots=True)
class RosterRecords:
    records: tuple[tuple[bytes, bytes], ...]
    """(certificate bundle, prekey record), both as they were signed."""


@dataclass(frozen=True, slots=True)
class Addresses:
    addresses: tuple[tuple[DeviceId, str], ...]


@dataclass(frozen=True, slots=True)
class PackagesWant:
    incident: IncidentId
    older: int
    """Start with the newest of so many that the answering node stored first; 0 for the newest of all."""


@dataclass(frozen=True, slots=True)
class Packages:
    incident: IncidentId
    packages: tuple[tuple[KeyId, bytes], ...]
    older: int
    """So many older ones are left to be asked for; 0 in a push."""


Message = (
    Summary
    | Incidents
    | Heights
    | Want
    | Run
    | Lack
    | Announce
    | Prune
    | Graft
    | Roster
    | RosterWant
    | RosterRecords
    | Addresses
    | PackagesWant
    | Packages
)

_NUMBERS: dict[type[Message], int] = {
    Summary: 1,
    Incidents: 2,
    Heights: 3,
    Want: 4,
    Run: 5,
    Lack: 6,
    Announce: 7,
    Prune: 8,
    Graft: 9,
    Roster: 10,
    RosterWant: 11,
    RosterRecords: 12,
    Addresses: 13,
    PackagesWant: 14,
    Packages: 15,
}


def encode(message: Message) -> bytes:
    """The canonical bytes of a message: its number, then its fields in the order of the record."""
    number = _NUMBERS[type(message)]
    return codec.encode([number, *(_plain(getattr(message, name)) for name in type(message).__slots__)])


def _plain(value: Any) -> Any:
    return [_plain(item) for item in value] if isinstance(value, tuple) else value


def decode_untrusted(data: bytes) -> Message:
    """The message in a frame. Raises UntrustedInputError ``cbor-*``, ``message-malformed`` or ``message-unknown``."""
    items = codec.decode_untrusted(data, FRAME_BYTES_MAX)
    if not isinstance(items, list) or not items or type(items[0]) is not int:
        raise _malformed("a message is an array that starts with its number")
    reader = _READERS.get(items[0])
    if reader is None:
        raise UntrustedInputError("message-unknown", f"message number {items[0]}", "one of the two nodes is older")
    fields, build = reader
    if len(items) - 1 < len(fields):
        raise _malformed(f"message {items[0]} has {len(fields)} fields, not {len(items) - 1}")
    return cast(Message, build(*(check(item) for check, item in zip(fields, items[1:], strict=False))))


def _malformed(reason: str) -> UntrustedInputError:
    return UntrustedInputError("message-malformed", reason, "the peer's software must follow the protocol")


def _bytes_of(length: int, what: str) -> Any:
    def check(value: object) -> bytes:
        if isinstance(value, bytes) and len(value) == length:
            return value
        raise _malformed(f"{what} has {length} bytes")

    return check


def _bytes_up_to(length: int, what: str) -> Any:
    def check(value: object) -> bytes:
        if isinstance(value, bytes) and len(value) <= length:
            return value
        raise _malformed(f"{what} has at most {length} bytes")

    return check


def _integer(low: int, high: int, what: str) -> Any:
    def check(value: object) -> int:
        if type(value) is int and low <= value <= high:
            return value
        raise _malformed(f"{what} is a number from {low} to {high}")

    return check


def _boolean(value: object) -> bool:
    if isinstance(value, bool):
        return value
    raise _malformed("a flag is true or false")


def is_address(text: str) -> bool:
    """Can this be told to peers? A node may know of an address that it cannot: one with the name of an interface."""
    return len(text.encode()) <= ADDRESS_BYTES_MAX and _ADDRESS.fullmatch(text) is not None


def _address(value: object) -> str:
    if isinstance(value, str) and is_address(value):
        return value
    raise _malformed("an address is a short text host:port")


def _optional_package(value: object) -> bytes | None:
    return None if value is None else cast(bytes, _package(value))


def _rows(low: int, high: int, *columns: Any) -> Any:
    """A list of ``low`` to ``high`` arrays with exactly these columns, or of bare values when there is one column."""

    def check(value: object) -> tuple[Any, ...]:
        if not isinstance(value, list) or not low <= len(value) <= high:
            raise _malformed(f"a list has {low} to {high} rows")
        if len(columns) == 1:
            return tuple(columns[0](item) for item in value)
        for item in value:
            if not isinstance(item, list) or len(item) != len(columns):
                raise _malformed(f"a row has {len(columns)} columns")
        return tuple(tuple(column(cell) for column, cell in zip(columns, item, strict=True)) for item in value)

    return check


_incident = _bytes_of(INCIDENT_ID_BYTES, "an incident")
_log = _bytes_of(LOG_ID_BYTES, "a log")
_hash = _bytes_of(ENTRY_HASH_BYTES, "a hash")
_digest = _bytes_of(HASH_BYTES, "a digest")
_device = _bytes_of(DEVICE_ID_BYTES, "a device")
_package = _bytes_up_to(PACKAGE_BYTES_MAX, "an epoch package")
_record = _bytes_up_to(ROSTER_RECORD_BYTES_MAX, "a roster record")
_position = _integer(1, SEQ_MAX, "a position")
_height = _integer(0, SEQ_MAX, "a height")
_count = _integer(0, PACKAGE_COUNT_MAX, "a number of packages")
_serial = _integer(0, SERIAL_MAX, "a serial")
_key_id = _bytes_of(KEY_ID_BYTES, "a key id")
_key_ids = _rows(1, RUN_ENTRIES_MAX, _key_id)
_entry_rows = _rows(
    1,
    RUN_ENTRIES_MAX,
    _integer(0, RUN_ENTRIES_MAX - 1, "a key index"),
    _bytes_up_to(entry.SEALED_BYTES_MAX, "a sealed part"),
    _optional_package,
)


def _run(
    incident: IncidentId,
    log: LogId,
    first: int,
    previous: EntryHash,
    key_ids: tuple[KeyId, ...],
    rows: tuple[tuple[int, bytes, bytes | None], ...],
    seal: bytes,
) -> Run:
    if any(row[0] >= len(key_ids) for row in rows):
        raise _malformed("a row refers to a key id that the run does not list")
    if first + len(rows) - 1 > SEQ_MAX:
        raise _malformed("a run ends behind the last position of a log")
    return Run(incident, log, first, previous, key_ids, rows, seal)


_READERS: dict[int, tuple[tuple[Any, ...], Any]] = {
    1: ((_digest, _digest), Summary),
    2: ((_rows(0, LIST_MAX, _incident, _digest), _boolean), Incidents),
    3: ((_incident, _rows(0, LIST_MAX, _log, _height), _boolean, _boolean), Heights),
    4: ((_incident, _log, _position, _position), Want),
    5: ((_incident, _log, _position, _hash, _key_ids, _entry_rows, _bytes_of(SIGNATURE_BYTES, "a seal")), _run),
    6: ((_incident, _log, _position), Lack),
    7: ((_rows(1, LIST_MAX, _incident, _log, _position),), Announce),
    8: ((_incident, _log), Prune),
    9: ((_incident, _log, _height), Graft),
    10: ((_rows(0, LIST_MAX, _device, _serial, _digest), _boolean), Roster),
    11: ((_rows(1, ROSTER_RECORDS_MAX, _device),), RosterWant),
    12: ((_rows(1, ROSTER_RECORDS_MAX, _record, _record),), RosterRecords),
    13: ((_rows(0, LIST_MAX, _device, _address),), Addresses),
    14: ((_incident, _count), PackagesWant),
    15: ((_incident, _rows(1, PACKAGES_MAX, _key_id, _package), _count), Packages),
}


def make_run(entries: list[Entry], seal: Seal) -> Run:
    """The run that carries these consecutive entries; ``seal`` is of the last."""
    first = entries[0]
    table: dict[KeyId, int] = {}
    rows = tuple((table.setdefault(e.key_id, len(table)), e.sealed, e.package) for e in entries)
    return Run(first.incident, first.log, first.seq, first.previous, tuple(table), rows, seal.signature)


def run_entries_untrusted(run: Run) -> list[Entry]:
    """The entries of a run with their hashes computed along the chain, once the seal of the last verified.

    Raises UntrustedInputError ``bad-signature``. Whether ``previous`` is the head we hold is the caller's question.
    """
    entries: list[Entry] = []
    previous = run.previous
    for seq, (index, sealed, package) in enumerate(run.rows, run.first):
        key_id = run.key_ids[index]
        identity = entry.entry_hash(run.incident, run.log, seq, previous, key_id, package, sealed)
        entries.append(Entry(run.incident, run.log, seq, previous, key_id, package, sealed, identity))
        previous = identity
    entry.verify_seal_untrusted(run.log, previous, run.seal)
    return entries


def run_ends_in(run: Run, head: EntryHash) -> bool:
    """Does the chain of a run end in this hash? Its seal is not looked at: who holds the hash has verified one."""
    previous = run.previous
    for seq, (index, sealed, package) in enumerate(run.rows, run.first):
        previous = entry.entry_hash(run.incident, run.log, seq, previous, run.key_ids[index], package, sealed)
    return previous == head
