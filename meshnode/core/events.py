"""Everything that can happen to a node (events, in) and everything it can ask for (effects, out).

Closed sets of small frozen records: this file is the whole outside world as the core sees it.

``node.step(events, now) -> Step``. The node stages what it wants kept in the injected log store, which makes it
readable and nothing more. When ``Step.commit`` is set, the shell first makes everything staged so far durable and only
then performs ``Step.effects``, in order; effects of a later step never overtake those of an earlier one. That is the
law "persist, then speak", stated where the fields are that must obey it. If a commit fails, none of the effects that
wait for it is performed, the node is thrown away and a new one is built from what is durable.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import Enum, IntEnum
from typing import Any, NamedTuple

from meshnode.core.ids import DeviceId, Dot, IncidentId, ObjectId
from meshnode.errors import MeshnodeError


class Now(NamedTuple):
    """What time it is. Both are arguments everywhere; the core never asks."""

    monotonic_s: float
    """Decides when to do something. Never leaves the node."""
    wall_ms: int
    """Milliseconds since 1970 by this machine's clock: stamped on what is written, shown, trusted by nobody."""


class Channel(IntEnum):
    """The two ordered streams of a link."""

    CONTROL = 0
    """Pushes, announcements, digests, requests: small and urgent."""
    BULK = 1
    """Runs that answer a request: large, never in the way of a push."""


@dataclass(frozen=True, slots=True)
class PeerIdentity:
    """Who is at the other end of a link, proven by a device-signed hello. There is no unproven identity."""

    device: DeviceId
    noc: str
    name: str
    relay: bool
    """It stores and forwards incidents it cannot read."""
    certificate: bytes
    """The device certificate bundle, verified against this network's root."""
    start: bytes = b""
    """Of the far end's process: the hash of its TLS certificate, which lives as long as the process does."""


# --- events -----------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class LinkUp:
    link: int
    """A number that the shell never reuses while it runs."""
    peer: PeerIdentity
    address: str
    """What was dialled, as it was given to ``Dial``; else ``host:port`` of the other end as this node sees it, IPv6 in
    brackets."""
    dialed: bool
    """True when this node opened the link."""


@dataclass(frozen=True, slots=True)
class LinkDown:
    link: int
    code: str


@dataclass(frozen=True, slots=True)
class Received:
    """One whole frame from an authenticated peer. Still hostile."""

    link: int
    channel: Channel
    data: bytes


@dataclass(frozen=True, slots=True)
class DialFailed:
    address: str
    code: str
    reason: str


@dataclass(frozen=True, slots=True)
class DoorRefused:
    """Who came from there was refused, or refused this node, before there was a link."""

    address: str
    code: str


@dataclass(frozen=True, slots=True)
class AddressFound:
    """A discovery source says that a node of this network may be reachable there."""

    source: str
    address: str


@dataclass(frozen=True, slots=True)
class RoundTrip:
    link: int
    seconds: float


class ChangeKind(Enum):
    SET = "set"
    ADD = "add"
    REMOVE = "remove"
    CREATE = "create"
    DELETE = "delete"
    LOG = "log"


@dataclass(frozen=True, slots=True)
class Change:
    """One change that a local client asks for; the core turns it into an operation.

    ``set``: ``value`` replaces the values named in ``replaces``; None means "those visible now".
    ``add``: ``value`` joins the set. ``remove``: the elements named in ``replaces`` leave it, or all visible ones
    equal to ``value``. ``create``: a new object; ``object`` None lets the node choose its id. ``delete``: the object.
    ``log``: ``value`` is the record (a map with ``text`` and optional ``precedence``, ``marking``, ``category``).
    """

    kind: ChangeKind
    collection: str = "incident"
    object: ObjectId | None = None
    field: str = ""
    value: Any = None
    replaces: tuple[Dot, ...] | None = None


@dataclass(frozen=True, slots=True)
class Attachment:
    """A file kept as it came: at most 1 MiB."""

    name: str
    media_type: str
    data: bytes


@dataclass(frozen=True, slots=True)
class OpenIncident:
    request: int
    operator: str
    kind: str
    changes: tuple[Change, ...]
    attachments: tuple[Attachment, ...] = ()
    share_with: tuple[str, ...] = ()
    """NOC codes; every device of them that this node has a prekey of becomes a member."""
    with_relays: bool = False
    """Devices that are certified to relay too: a hub reads nothing unless somebody wants it to."""


@dataclass(frozen=True, slots=True)
class ChangeIncident:
    request: int
    incident: IncidentId
    operator: str
    changes: tuple[Change, ...]
    attachments: tuple[Attachment, ...] = ()


@dataclass(frozen=True, slots=True)
class ShareIncident:
    request: int
    incident: IncidentId
    operator: str
    nocs: tuple[str, ...]
    with_relays: bool = False
    """As in OpenIncident."""


@dataclass(frozen=True, slots=True)
class Tick:
    """Nothing happened but time."""


Event = (
    LinkUp
    | LinkDown
    | Received
    | DialFailed
    | DoorRefused
    | AddressFound
    | RoundTrip
    | OpenIncident
    | ChangeIncident
    | ShareIncident
    | Tick
)


# --- effects ----------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Send:
    link: int
    channel: Channel
    data: bytes
    droppable: bool
    """The shell may drop it when the link's queue is full: anti-entropy repairs what was missed."""


@dataclass(frozen=True, slots=True)
class CloseLink:
    link: int
    code: str


@dataclass(frozen=True, slots=True)
class Dial:
    address: str


@dataclass(frozen=True, slots=True)
class Written:
    """A local change is durable. ``dots`` name the operations, in the order of the changes asked for."""

    incident: IncidentId
    dots: tuple[Dot, ...]
    objects: tuple[ObjectId, ...]
    """For each change the object it touched; all zero for the incident itself."""
    attachments: tuple[ObjectId, ...] = ()
    """The objects that the files became, in the order in which they were given."""


@dataclass(frozen=True, slots=True)
class Reply:
    """The answer to a local request, given once: what was made durable, or why nothing was."""

    request: int
    outcome: Written | MeshnodeError


@dataclass(frozen=True, slots=True)
class JournalGrew:
    """Entries up to this journal number are durable; streams may read on."""

    number: int


@dataclass(frozen=True, slots=True)
class Report:
    """A refusal or a degraded state, for the log, the counters and the status (I16)."""

    code: str
    reason: str
    link: int | None = None
    detail: dict[str, str] = field(default_factory=dict)


Effect = Send | CloseLink | Dial | Reply | JournalGrew | Report


@dataclass(frozen=True, slots=True)
class Step:
    """What may be said, and whether something must be made durable before it is said."""

    commit: bool
    effects: tuple[Effect, ...]
