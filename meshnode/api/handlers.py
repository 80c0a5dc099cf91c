"""The route table and its handlers: a request's records in, the service's views out.

Handlers translate and nothing else. A read is a plain call; a write builds the core's changes, waits until they are
durable, and answers with their ids.
"""

from __future__ import annotations

import secrets
from typing import Any
from urllib.parse import quote

from meshnode.api.content import check_value_untrusted
from meshnode.api.openapi import document_bytes
from meshnode.api.problems import RequestError
from meshnode.api.records import (
    CHANGES_MAX,
    AddChange,
    AttachmentRequest,
    ChangeRequest,
    ChangesRequest,
    CreateChange,
    DeleteChange,
    DigestView,
    EventsQuery,
    HistoryPage,
    HistoryQuery,
    LogChange,
    LogPage,
    LogQuery,
    LogRecord,
    OpenRequest,
    RemoveChange,
    SetChange,
    ShareRequest,
    WrittenView,
    digest_of,
)
from meshnode.api.routes import Answer, Call, Raw, Route
from meshnode.core.events import Attachment, Change, ChangeKind, Written
from meshnode.core.ids import (
    OBJECT_ID_BYTES,
    Dot,
    ObjectId,
    parse_dot_untrusted,
    parse_hex_untrusted,
)
from meshnode.core.schema import known_field
from meshnode.core.views import (
    AttachmentView,
    ConflictView,
    HistoryView,
    IncidentSummary,
    IncidentView,
    MemberView,
    NodeView,
    ObjectView,
    Page,
    PeerView,
)

INCIDENT = "incident"
"""The collection that names the incident itself."""


# --- reads --------------------------------------------------------------------------------------------------------


def read_node(call: Call) -> NodeView:
    return call.service.node_view()


def read_peers(call: Call) -> list[PeerView]:
    return call.service.peers_view()


def list_incidents(call: Call) -> list[IncidentSummary]:
    return call.service.incidents_view()


def read_incident(call: Call) -> IncidentView:
    return call.service.incident_view(call.incident)


def read_digest(call: Call) -> DigestView:
    return digest_of(call.service.incident_summary(call.incident))


def read_collection(call: Call) -> list[ObjectView]:
    return call.service.collection_view(call.incident, call.params["collection"])


def read_object(call: Call) -> ObjectView:
    return call.service.object_view(call.incident, call.params["collection"], call.object_id)


def read_log(call: Call) -> Page:
    query: LogQuery = call.query
    return call.service.log_page(call.incident, query.after, query.limit, query.order == "newest")


def read_history(call: Call) -> Page:
    query: HistoryQuery = call.query
    object_id = None if query.object is None else _object_id(query.object)
    return call.service.history_page(call.incident, query.after, query.limit, object_id, query.order == "newest")


def read_conflicts(call: Call) -> list[ConflictView]:
    return call.service.conflicts_view(call.incident)


def read_members(call: Call) -> list[MemberView]:
    return call.service.members_view(call.incident)


def list_attachments(call: Call) -> list[AttachmentView]:
    return call.service.attachments_view(call.incident)


def read_attachment(call: Call) -> Raw:
    attachment = call.service.attachment_bytes(call.incident, call.object_id)
    # The file came from anybody: a browser behind a proxy must store it, never show or run it.
    name = quote(attachment.name, safe="")
    headers = f"Content-Disposition: attachment; filename*=UTF-8''{name}\r\nContent-Security-Policy: sandbox\r\n"
    return Raw(_safe_media_type(attachment.media_type), attachment.data, headers)


def read_openapi(call: Call) -> Raw:
    return Raw("application/json", document_bytes(ROUTES))


def stream_events(call: Call) -> None:
    """Answered by ``stream.py``, which takes the connection over."""


# --- writes -------------------------------------------------------------------------------------------------------


async def open_incident(call: Call) -> WrittenView:
    request: OpenRequest = call.body
    if "kind" in request.fields:
        raise _invalid("the kind is no field here: it stands beside them", "move it", "$.fields.kind")
    changes: list[Change] = []
    places = _add_fields(changes, INCIDENT, None, request.fields, "$.fields")
    places += _add_changes(changes, request.changes)
    attachments = [_attachment(item) for item in request.attachments]
    written = await call.service.open_incident(
        request.kind, call.operator, changes, attachments, tuple(request.share_with), request.with_relays
    )
    return _written_view(written, places)


async def change_incident(call: Call) -> WrittenView:
    request: ChangesRequest = call.body
    if not request.changes and not request.attachments:
        raise _invalid("nothing is to be changed", "send changes or attachments", "$")
    changes: list[Change] = []
    places = _add_changes(changes, request.changes)
    attachments = [_attachment(item) for item in request.attachments]
    return _written_view(await call.service.change(call.incident, call.operator, changes, attachments), places)


async def append_log(call: Call) -> WrittenView:
    change = Change(ChangeKind.LOG, value=_log_value(call.body))
    return _written_view(await call.service.change(call.incident, call.operator, [change], ()), [0])


async def share_incident(call: Call) -> WrittenView:
    request: ShareRequest = call.body
    written = await call.service.share(call.incident, call.operator, tuple(request.nocs), request.with_relays)
    return _written_view(written, list(range(len(written.dots))))


def _add_changes(changes: list[Change], requests: list[ChangeRequest]) -> list[int]:
    """Appends the core's changes; returns where the first of each request landed."""
    places: list[int] = []
    registers: set[tuple[str, str | None, str]] = set()
    for index, request in enumerate(requests):
        path = f"$.changes[{index}]"
        if isinstance(request, SetChange):
            register = (request.collection, request.object, request.field)
            if register in registers:
                # Both would replace what was there before, and stand against each other as a conflict.
                raise _invalid("one request sets this field twice", "keep one of the two", path)
            registers.add(register)
        places.append(len(changes))
        _add_change(changes, request, path)
    if len(changes) > CHANGES_MAX:
        raise _invalid(
            f"with the fields of new objects these are {len(changes)} changes; at most {CHANGES_MAX} go together",
            "split the request",
            "$.changes",
        )
    return places


def _add_change(changes: list[Change], request: ChangeRequest, path: str) -> None:
    if isinstance(request, LogChange):
        changes.append(Change(ChangeKind.LOG, value=_log_value(request.record)))
    elif isinstance(request, CreateChange):
        # The fields must name their object, so its id is chosen here when the client leaves it open.
        object_id = _object_id(request.object) if request.object else ObjectId(secrets.token_bytes(OBJECT_ID_BYTES))
        changes.append(Change(ChangeKind.CREATE, request.collection, object_id))
        _add_fields(changes, request.collection, object_id, request.fields, f"{path}.fields")
    elif isinstance(request, DeleteChange):
        changes.append(Change(ChangeKind.DELETE, request.collection, _object_id(request.object)))
    else:
        changes.append(_field_change(request, path))


def _add_fields(
    changes: list[Change], collection: str, object_id: ObjectId | None, fields: dict[str, Any], path: str
) -> list[int]:
    """First values of something new: a register takes the value, a set each element of the list given."""
    places: list[int] = []
    for name, value in fields.items():
        check_value_untrusted(value, f"{path}.{name}")
        places.append(len(changes))
        known = known_field(collection, name)
        if known is None or not known.is_set:
            changes.append(Change(ChangeKind.SET, collection, object_id, name, value))
        elif isinstance(value, list) and value:
            changes += [Change(ChangeKind.ADD, collection, object_id, name, element) for element in value]
        else:
            raise _invalid(
                f"{name} of {collection} is a set of elements, and is not given one value",
                f"on the command line write {name}+=VALUE; in the API give a list of its elements",
                f"{path}.{name}",
            )
    return places


def _field_change(request: SetChange | AddChange | RemoveChange, path: str) -> Change:
    if request.object is None and request.collection != INCIDENT:
        raise _invalid(f"an object of {request.collection} must be named", "add object", f"{path}.object")
    object_id = None if request.object is None else _object_id(request.object)
    check_value_untrusted(request.value, f"{path}.value")
    if isinstance(request, AddChange):
        return Change(ChangeKind.ADD, request.collection, object_id, request.field, request.value)
    replaces = None if request.replaces is None else _dots(request.replaces)
    if isinstance(request, RemoveChange):
        if replaces is None and request.value is None:
            raise _invalid("nothing says what to remove", "add value or replaces", path)
        return Change(ChangeKind.REMOVE, request.collection, object_id, request.field, request.value, replaces)
    return Change(ChangeKind.SET, request.collection, object_id, request.field, request.value, replaces)


def _invalid(reason: str, action: str, path: str) -> RequestError:
    return RequestError("invalid-value", reason, action, path=path)


def _log_value(record: LogRecord) -> dict[str, Any]:
    value: dict[str, Any] = {"text": record.text}
    for name, given in (
        ("precedence", record.precedence),
        ("marking", record.marking),
        ("category", record.category),
    ):
        if given is not None:
            value[name] = given
    return value


def _attachment(request: AttachmentRequest) -> Attachment:
    return Attachment(request.name, request.media_type, request.data)


def _object_id(text: str) -> ObjectId:
    return ObjectId(parse_hex_untrusted(text, OBJECT_ID_BYTES, "the object id"))


def _dots(texts: list[str]) -> tuple[Dot, ...]:
    return tuple(parse_dot_untrusted(text) for text in texts)


def _written_view(written: Written, places: list[int]) -> WrittenView:
    dots, objects = written.dots, written.objects
    return WrittenView(
        written.incident.hex(),
        [dots[place].text for place in places],
        [objects[place].hex() for place in places],
        [file.hex() for file in written.attachments],
    )


def _safe_media_type(media_type: str) -> str:
    """A media type from a peer goes into a header line: only its plain form does."""
    kind, _, subtype = media_type.partition("/")
    plain = all(part and part.isascii() and part.replace("-", "a").replace(".", "a").replace("+", "a").isalnum()
                for part in (kind, subtype))  # fmt: skip
    return media_type if plain else "application/octet-stream"


_INCIDENTS = "/v1/incidents"
_ONE = "/v1/incidents/{incident}"

ROUTES: tuple[Route, ...] = (
    Route("GET", "/v1/node", "node", "This node: identity, counts, degraded states", read_node, NodeView),
    Route("GET", "/v1/peers", "peers", "Peers: state, since when, who lacks what", read_peers, list[PeerView]),
    Route("GET", _INCIDENTS, "incidents", "All incidents held here", list_incidents, list[IncidentSummary]),
    Route("POST", _INCIDENTS, "open_incident", "Open an incident", open_incident, WrittenView, OpenRequest,
          status=201, waits=True),
    Route("GET", _ONE, "incident", "One incident, whole", read_incident, IncidentView),
    Route("GET", _ONE + "/digest", "digest", "What two members compare", read_digest, DigestView),
    Route("GET", _ONE + "/log", "log", "The log book, by pages", read_log, LogPage, query=LogQuery),
    Route("POST", _ONE + "/log", "append_log", "Append to the log book", append_log, WrittenView, LogRecord,
          waits=True),
    Route("GET", _ONE + "/collections/{collection}", "collection", "All objects of a collection", read_collection,
          list[ObjectView]),
    Route("GET", _ONE + "/collections/{collection}/{object}", "object", "One object", read_object, ObjectView),
    Route("POST", _ONE + "/changes", "change", "Change the incident: all changes or none", change_incident,
          WrittenView, ChangesRequest, waits=True),
    Route("GET", _ONE + "/history", "history", "Merged entries, by pages", read_history, HistoryPage,
          query=HistoryQuery),
    Route("GET", _ONE + "/conflicts", "conflicts", "Fields with more than one value", read_conflicts,
          list[ConflictView]),
    Route("GET", _ONE + "/members", "members", "Who can read and write", read_members, list[MemberView]),
    Route("POST", _ONE + "/members", "share", "Share with NOCs", share_incident, WrittenView, ShareRequest,
          waits=True),
    Route("GET", _ONE + "/attachments", "attachments", "Files kept with the incident", list_attachments,
          list[AttachmentView]),
    Route("GET", _ONE + "/attachments/{object}", "attachment", "One file as it came", read_attachment,
          answer=Answer.FILE),
    Route("GET", "/v1/events", "events", "Merged entries as they become durable (server-sent events)",
          stream_events, HistoryView, query=EventsQuery, answer=Answer.STREAM),
    Route("GET", "/v1/openapi.json", "openapi", "This interface as OpenAPI 3.1", read_openapi,
          answer=Answer.FILE),
)  # fmt: skip
