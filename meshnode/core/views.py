"""Read views: what the local API shows. Frozen records of text, numbers and lists, built by pure functions.

Ids are lowercase hexadecimal, times are milliseconds since 1970-01-01 UTC, geometry is GeoJSON (RFC 7946) in degrees.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, slots=True)
class AuthorView:
    device: str
    noc: str
    name: str
    operator: str
    time_ms: int
    """What the author's clock said. Shown, never used to decide."""


@dataclass(frozen=True, slots=True)
class ValueView:
    """One visible value of a field, or one element of a set. ``id`` is what a later change names to replace it."""

    id: str
    value: Any
    author: AuthorView
    well_typed: bool
    """False when the value does not have the type this version knows for the field: kept and shown as it came."""


@dataclass(frozen=True, slots=True)
class FieldView:
    values: list[ValueView]
    """More than one in a register is a conflict: all stay until somebody resolves it."""
    conflict: bool


@dataclass(frozen=True, slots=True)
class ObjectView:
    id: str
    collection: str
    fields: dict[str, FieldView]
    deleted: bool
    edited_after_delete: bool
    """Somebody changed it without having seen its deletion: it is shown again, with everything it had."""


@dataclass(frozen=True, slots=True)
class ConflictView:
    collection: str
    object: str
    field: str
    values: list[ValueView]


@dataclass(frozen=True, slots=True)
class IncidentSummary:
    id: str
    kind: str
    title: str
    status: str
    severity: str
    precedence: str
    marking: str
    conflicts: int
    entries: int
    digest: str
    waiting: int
    """Entries held that cannot be merged yet because something they build on has not arrived."""
    opened_ms: int
    """When it was opened, by the clock of who opened it."""


@dataclass(frozen=True, slots=True)
class IncidentView:
    summary: IncidentSummary
    fields: dict[str, FieldView]
    collections: dict[str, list[ObjectView]]
    members: list[MemberView]


@dataclass(frozen=True, slots=True)
class MemberView:
    device: str
    noc: str
    name: str
    role: str
    holds_current_key: bool
    added_by: str
    """Device that added it."""
    added_at_ms: int


@dataclass(frozen=True, slots=True)
class AttachmentView:
    """A file kept with the incident. Its bytes are read one at a time, by ``id``."""

    id: str
    name: str
    media_type: str
    size_bytes: int
    author: AuthorView


@dataclass(frozen=True, slots=True)
class RecordView:
    """One record of the log book."""

    id: str
    record: dict[str, Any]
    author: AuthorView


@dataclass(frozen=True, slots=True)
class OperationView:
    id: str
    kind: str
    """The operation's name, or ``unknown-<number>`` from a newer version."""
    collection: str
    object: str
    field: str
    value: Any
    replaces: list[str]


@dataclass(frozen=True, slots=True)
class HistoryView:
    """One merged entry in the incident's history."""

    journal: int
    cursor: str
    """The id of its event: what a reader of the event stream that has seen it comes back with. ``journal`` and this are
    0 and empty in pages of the history, which follow another order."""
    entry: str
    """``<log hex>.<seq>``."""
    incident: str
    author: AuthorView
    operations: list[OperationView]
    void: str
    """Code of what made the entry void: then its operations did nothing. Empty when it stands."""
    void_reason: str


@dataclass(frozen=True, slots=True)
class Page:
    """A page of RecordView or HistoryView and the cursor that continues it; empty when there is no more."""

    items: list[Any]
    next: str


@dataclass(frozen=True, slots=True)
class PeerView:
    device: str
    """Empty for a configured peer that was never reached and of which no device is configured."""
    noc: str
    name: str
    addresses: list[str]
    state: str
    """``connected``; ``connecting`` when it was never linked since the start and is being dialled; ``never-reached`` of
    a configured peer between two attempts, when nobody is known that it may be; else ``cut-off``."""
    since_ms: int
    """Since when it is in this state; for a peer not linked since the start, the start."""
    round_trip_ms: float | None
    they_lack: int | None
    """Entries this node holds that the peer had not when it last told; None before it ever told."""
    we_lack: int | None
    relay: bool
    prekey_known: bool
    """Incidents can be shared with it."""
    last_refusal: str
    """Code of the newest refusal between this peer and this node, empty when there is none. One that starts with
    ``peer-`` was the peer's."""
    last_dial_error: str
    """Why the last dial of an address of it failed; empty when it is connected or no dial failed."""


@dataclass(frozen=True, slots=True)
class IdentityView:
    device: str
    noc: str
    name: str
    network: str
    valid_until_ms: int


@dataclass(frozen=True, slots=True)
class NodeView:
    identity: IdentityView
    version: str
    time_ms: int
    started_ms: int
    addresses: list[str]
    relay: bool
    peers_connected: int
    peers_known: int
    incidents: int
    entries: int
    journal: int
    cursor: str
    """Where a reader of the event stream begins that has read the incidents just after this."""
    store_bytes: int
    degraded: list[DegradedView]
    refusals: dict[str, int]
    """How often each reason code was given since the start."""


@dataclass(frozen=True, slots=True)
class DegradedView:
    code: str
    reason: str
    action: str
    since_ms: int
