"""Request and response records of the local API.

What a client sends is a msgspec record that refuses unknown fields: a misspelt ``replaces`` must not turn into "replace
everything". What it gets are the views of ``meshnode.core.views``, and the few records below for pages and receipts.
Sizes given here are part of the OpenAPI document.
"""

from __future__ import annotations

from typing import Annotated, Any

import msgspec
from msgspec import Meta

from meshnode.core.views import HistoryView, IncidentSummary, RecordView

CHANGES_MAX = 256
"""Changes in one request, all or none. They become one entry; more would not fit the largest entry of the mesh."""
PAGE_LIMIT_MAX = 1000
"""Items in one page: about 1 MB of JSON and 10 ms of encoding."""
PAGE_LIMIT_DEFAULT = 100
ATTACHMENT_BYTES_MAX = 1024 * 1024
"""One file, the same bound as in the core."""
ATTACHMENTS_MAX = 16
NOCS_MAX = 64
"""The member states, eu-LISA, Europol and room to grow."""

Name = Annotated[str, Meta(min_length=1, max_length=64)]
"""Collections, fields and kinds. The core says which are known; unknown ones are kept."""
ObjectText = Annotated[str, Meta(pattern="^[0-9a-f]{32}$", description="Object id")]
DotText = Annotated[str, Meta(max_length=86, description="Value id, as <64 hex digits>.<seq>.<op>")]
Noc = Annotated[str, Meta(min_length=1, max_length=32, description="NOC code")]


class SetChange(msgspec.Struct, tag="set", tag_field="kind", frozen=True, forbid_unknown_fields=True):
    """Gives a field a value, in place of the values named in ``replaces`` (absent: of all visible now)."""

    field: Name
    value: Any
    collection: Name = "incident"
    object: ObjectText | None = None
    replaces: list[DotText] | None = None


class AddChange(msgspec.Struct, tag="add", tag_field="kind", frozen=True, forbid_unknown_fields=True):
    """Adds an element to a set."""

    field: Name
    value: Any
    collection: Name = "incident"
    object: ObjectText | None = None


class RemoveChange(msgspec.Struct, tag="remove", tag_field="kind", frozen=True, forbid_unknown_fields=True):
    """Takes the elements named in ``replaces`` out of a set, or (absent) all visible ones equal to ``value``."""

    field: Name
    value: Any = None
    collection: Name = "incident"
    object: ObjectText | None = None
    replaces: list[DotText] | None = None


class CreateChange(msgspec.Struct, tag="create", tag_field="kind", frozen=True, forbid_unknown_fields=True):
    """Makes an object, with its first values (a set takes a list). Without ``object`` the node chooses the id."""

    collection: Name
    object: ObjectText | None = None
    fields: dict[Name, Any] = {}


class DeleteChange(msgspec.Struct, tag="delete", tag_field="kind", frozen=True, forbid_unknown_fields=True):
    """Deletes an object; it stays readable in the history."""

    collection: Name
    object: ObjectText


class LogRecord(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One record for the log book. Precedence: flash, immediate, priority, routine. Marking: TLP 2.0."""

    text: Annotated[str, Meta(min_length=1)]
    precedence: Name | None = None
    marking: Name | None = None
    category: Name | None = None


class LogChange(msgspec.Struct, tag="log", tag_field="kind", frozen=True, forbid_unknown_fields=True):
    """Appends to the log book."""

    record: LogRecord


ChangeRequest = SetChange | AddChange | RemoveChange | CreateChange | DeleteChange | LogChange


class AttachmentRequest(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A file kept as it came."""

    name: Annotated[str, Meta(min_length=1, max_length=255)]
    media_type: Annotated[str, Meta(max_length=127, pattern="^[A-Za-z0-9!#$&^_.+-]+/[A-Za-z0-9!#$&^_.+-]+$")]
    data: Annotated[bytes, Meta(max_length=ATTACHMENT_BYTES_MAX)]
    """base64 in JSON, a byte string in MessagePack."""


Changes = Annotated[list[ChangeRequest], Meta(max_length=CHANGES_MAX)]
Attachments = Annotated[list[AttachmentRequest], Meta(max_length=ATTACHMENTS_MAX)]
Nocs = Annotated[list[Noc], Meta(max_length=NOCS_MAX)]


class OpenRequest(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Opens an incident. ``fields`` are first values of the incident itself; a set takes a list."""

    kind: Name
    fields: dict[Name, Any] = {}
    changes: Changes = []
    attachments: Attachments = []
    share_with: Nocs = []
    with_relays: bool = False
    """Devices of these NOCs that are relays become readers too, for good; without it they are left out."""


class ChangesRequest(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    changes: Changes = []
    attachments: Attachments = []


class ShareRequest(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    nocs: Annotated[list[Noc], Meta(min_length=1, max_length=NOCS_MAX)]
    with_relays: bool = False
    """As when an incident is opened."""


# --- query parameters: text, converted to these types -------------------------------------------------------------

Limit = Annotated[int, Meta(ge=1, le=PAGE_LIMIT_MAX)]
Cursor = Annotated[str, Meta(max_length=256)]
EVENT_ID_PATTERN = "^(0|[1-9][0-9]{0,18}-[0-9a-f]{8})$"
"""An id of the event stream: a journal number, and the name of the stretch of the journal in which it was given."""
EventId = Annotated[str, Meta(pattern=EVENT_ID_PATTERN, description="An id of this stream; 0 for the beginning")]


class NoQuery(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    pass


class LogQuery(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    after: Cursor = ""
    limit: Limit = PAGE_LIMIT_DEFAULT
    order: Annotated[str, Meta(pattern="^(oldest|newest)$")] = "oldest"


class HistoryQuery(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    after: Cursor = ""
    limit: Limit = PAGE_LIMIT_DEFAULT
    object: ObjectText | None = None
    order: Annotated[str, Meta(pattern="^(oldest|newest)$")] = "oldest"


class EventsQuery(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    incident: Annotated[str, Meta(pattern="^[0-9a-f]{32}$", description="Incident id")] | None = None
    after: EventId | None = None


# --- responses ----------------------------------------------------------------------------------------------------


class WrittenView(msgspec.Struct, frozen=True):
    """A change is durable at this node. ``ids[i]`` and ``objects[i]`` belong to the i-th change asked for; when an
    incident is opened, one for each of ``fields`` comes first. Of several that one became, it is the first."""

    incident: str
    ids: list[str]
    """Value ids, for a later ``replaces``."""
    objects: list[str]
    attachments: list[str]
    """Object ids of the files, in the order in which they were sent."""


class DigestView(msgspec.Struct, frozen=True):
    """Equal digests: two members hold the same state."""

    incident: str
    digest: str
    entries: int
    waiting: int


class LogPage(msgspec.Struct, frozen=True):
    items: list[RecordView]
    next: str
    """``after`` of the next page; empty at the end."""


class HistoryPage(msgspec.Struct, frozen=True):
    items: list[HistoryView]
    next: str


def digest_of(summary: IncidentSummary) -> DigestView:
    return DigestView(summary.id, summary.digest, summary.entries, summary.waiting)
