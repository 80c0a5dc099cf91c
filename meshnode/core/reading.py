"""What the local API shows of a node: plain reads, built from its machines, changing nothing.

Pages of the log book and of the history follow the display order (the capped hybrid clock); what they show is opened
from the store when it is asked for, so memory does not grow with the record.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Iterable
from typing import Any, cast

from meshnode.core import attachments
from meshnode.core.causal import TICKS_PER_MS, Position
from meshnode.core.entry import Content
from meshnode.core.events import Attachment
from meshnode.core.ids import DeviceId, Dot, IncidentId, LogId, ObjectId, parse_hex_untrusted
from meshnode.core.log import LogHead
from meshnode.core.node import Node
from meshnode.core.operations import (
    Add,
    Chunk,
    Create,
    Delete,
    Log,
    Operation,
    Remove,
    Set,
    operation_untrusted,
)
from meshnode.core.peers import Peer, Unreached
from meshnode.core.replica import FLAG_LOG, Replica
from meshnode.core.schema import view_value
from meshnode.core.views import (
    AttachmentView,
    AuthorView,
    ConflictView,
    DegradedView,
    FieldView,
    HistoryView,
    IdentityView,
    IncidentSummary,
    IncidentView,
    MemberView,
    NodeView,
    ObjectView,
    OperationView,
    Page,
    PeerView,
    RecordView,
)
from meshnode.errors import RefusedError, UntrustedInputError

JOURNAL_SCAN_MAX = 2_000
"""Rows looked at for one page: bounds how long a reader of a quiet incident holds the loop (about 20 ms)."""


BUILT_MAX = 4
"""Incidents whose views are kept: 1,000 objects are some megabytes, and displays ask for few incidents, often."""


class Reading:
    """Reads one node. Keeps nothing that it could not build again."""

    def __init__(self, node: Node) -> None:
        self._node = node
        self._built: dict[IncidentId, tuple[int, dict[str, FieldView], dict[str, list[ObjectView]]]] = {}
        """(merged entries then, fields, collections) of the incidents read last, the oldest first."""

    # --- incidents ------------------------------------------------------------------------------------------------

    def incidents(self) -> list[IncidentSummary]:
        """Those this node can read, ascending by id."""
        replicas = self._node.incidents.replicas
        return [self.summary(incident) for incident in sorted(replicas) if replicas[incident].merged]

    def summary(self, incident: IncidentId) -> IncidentSummary:
        replica = self._replica(incident)
        shown = replica.document.summary_fields()
        return IncidentSummary(
            id=incident.hex(),
            kind=shown["kind"],
            title=shown["title"],
            status=shown["status"],
            severity=shown["severity"],
            precedence=shown["precedence"],
            marking=shown["marking"],
            conflicts=replica.document.conflict_count,
            entries=replica.merged,
            digest=self.digest(incident).hex(),
            waiting=replica.waiting_entries(),
            # Everything builds on the entry that created the incident, so no order time is below its own.
            opened_ms=min(replica.graph.order_time(log, 1) for log, _ in replica.merged_heads()) // TICKS_PER_MS,
        )

    def digest(self, incident: IncidentId) -> bytes:
        """32 bytes: equal exactly when two members have merged the same entries."""
        replica = self._replica(incident)
        return replica.document.digest(self._merged_heads(incident, replica))

    def _merged_heads(self, incident: IncidentId, replica: Replica) -> Iterable[LogHead]:
        for log, merged in replica.merged_heads():
            height, head = self._node.holdings.head(incident, log)
            if height != merged:
                head = replica.hash_at(log, merged)
            yield LogHead(log, merged, head)

    def incident(self, incident: IncidentId) -> IncidentView:
        """The whole state. What only merged entries can change is built once for as many reads as they leave it."""
        replica = self._replica(incident)
        built = self._built.pop(incident, None)
        if built is None or built[0] != replica.merged:
            document = replica.document
            collections = {name: document.collection_view(name) for name in document.collections()}
            built = (replica.merged, document.fields_view(), collections)
        self._built[incident] = built
        if len(self._built) > BUILT_MAX:
            del self._built[next(iter(self._built))]
        return IncidentView(self.summary(incident), built[1], built[2], self.members(incident))

    def collection(self, incident: IncidentId, collection: str) -> list[ObjectView]:
        return self._replica(incident).document.collection_view(collection)

    def object(self, incident: IncidentId, collection: str, obj: ObjectId) -> ObjectView:
        view = self._replica(incident).document.object_view(collection, obj)
        if view is None:
            raise RefusedError("unknown-object", f"no such object in {collection}", "list the collection")
        return view

    def fields(self, incident: IncidentId) -> dict[str, FieldView]:
        return self._replica(incident).document.fields_view()

    def conflicts(self, incident: IncidentId) -> list[ConflictView]:
        return self._replica(incident).document.conflicts()

    def members(self, incident: IncidentId) -> list[MemberView]:
        replica = self._replica(incident)
        current = replica.group.write_key()
        holders = replica.group.holders(current) if current is not None else frozenset()
        members = replica.group.members()
        # Many are added by one entry: it is opened once.
        places = dict.fromkeys(member.position for member in members)
        times_ms = {place: replica.read_content(*place).time_ms for place in places}
        return [
            MemberView(
                device=member.device.hex(),
                noc=member.noc,
                name=self._name_of(member.device),
                role=member.role.name.lower(),
                holds_current_key=member.device in holders,
                added_by=member.added_by.hex(),
                added_at_ms=times_ms[member.position],
            )
            for member in members
        ]

    def _name_of(self, device: Any) -> str:
        enrolled = self._node.rollcall.roster.get(device)
        return enrolled.certificate.name if enrolled is not None else ""

    def _replica(self, incident: IncidentId) -> Replica:
        return self._node.incidents.readable(incident)

    # --- log book and history -------------------------------------------------------------------------------------

    def log_page(self, incident: IncidentId, after: str, limit: int, newest_first: bool) -> Page:
        replica = self._replica(incident)
        records: list[RecordView] = []
        cursor = ""
        for row in self._walk(replica, after, newest_first):
            if len(records) >= limit:
                return Page(records, cursor)
            cursor = _cursor(row)
            _, log, seq = row
            if replica.flags(log, seq) & FLAG_LOG:
                content = replica.read_content(log, seq)
                records += self._records(replica, (log, seq), content)
        return Page(records, "")

    def _records(self, replica: Replica, position: Position, content: Content) -> list[RecordView]:
        author = self._author(replica, position[0], content)
        return [
            RecordView(Dot(*position, index).text, operation.record, author)
            for index, operation in enumerate(map(operation_untrusted, content.operations))
            if isinstance(operation, Log)
        ]

    def history_page(
        self, incident: IncidentId, after: str, limit: int, obj: ObjectId | None, newest_first: bool = False
    ) -> Page:
        replica = self._replica(incident)
        items: list[HistoryView] = []
        cursor = ""
        for looked, row in enumerate(self._walk(replica, after, newest_first)):
            if len(items) >= limit or looked >= JOURNAL_SCAN_MAX:
                return Page(items, cursor)
            cursor = _cursor(row)
            view = self._history(replica, (row[1], row[2]), 0)
            if obj is None or any(operation.object == obj.hex() for operation in view.operations):
                items.append(view)
        return Page(items, "")

    def journal(
        self, after: int, durable: int, limit: int, incident: IncidentId | None
    ) -> tuple[list[HistoryView], int]:
        """Durable journal entries above ``after`` and the number up to which it looked."""
        views: list[HistoryView] = []
        looked = after
        for row in self._node.store.applied_after(after, JOURNAL_SCAN_MAX):
            if row.number > durable or len(views) >= limit:
                break
            looked = row.number
            if incident is None or row.incident == incident:
                replica = self._node.incidents.replicas[row.incident]
                views.append(self._history(replica, (row.log, row.seq), row.number))
        return views, looked

    def cursor(self, number: int) -> str:
        """The text that names this place of the journal."""
        return self._node.archive.cursor(number)

    def _history(self, replica: Replica, position: Position, journal: int) -> HistoryView:
        content = replica.read_content(*position)
        operations = [
            _operation_view(Dot(*position, index), operation_untrusted(operation))
            for index, operation in enumerate(content.operations)
        ]
        void, void_reason = replica.void(*position)
        return HistoryView(
            journal=journal,
            cursor=self.cursor(journal) if journal else "",
            entry=f"{position[0].hex()}.{position[1]}",
            incident=replica.incident.hex(),
            author=self._author(replica, position[0], content),
            operations=operations,
            void=void,
            void_reason=void_reason,
        )

    def _author(self, replica: Replica, log: LogId, content: Content) -> AuthorView:
        writer = replica.writer(log)
        device, noc, name = (writer.device.hex(), writer.noc, writer.name) if writer else ("", "", "")
        return AuthorView(device, noc, name, content.operator, content.time_ms)

    @staticmethod
    def _walk(replica: Replica, after: str, newest_first: bool) -> Iterable[tuple[int, LogId, int]]:
        rows = replica.timeline()
        if newest_first:
            end = bisect_left(rows, _parse_cursor_untrusted(after)) if after else len(rows)
            return (rows[index] for index in range(end - 1, -1, -1))
        start = bisect_right(rows, _parse_cursor_untrusted(after)) if after else 0
        return (rows[index] for index in range(start, len(rows)))

    # --- attachments ----------------------------------------------------------------------------------------------

    def attachments(self, incident: IncidentId) -> list[AttachmentView]:
        found = []
        for view in self._replica(incident).document.collection_view(attachments.COLLECTION):
            if view.deleted or "name" not in view.fields:
                continue
            first = {name: field.values[0].value for name, field in view.fields.items() if field.values}
            size = first.get("size_bytes")
            found.append(
                AttachmentView(
                    id=view.id,
                    name=str(first.get("name", "")),
                    media_type=str(first.get("media_type", "application/octet-stream")),
                    size_bytes=size if isinstance(size, int) else 0,
                    author=view.fields["name"].values[0].author,
                )
            )
        return found

    def attachment(self, incident: IncidentId, obj: ObjectId) -> Attachment:
        replica = self._replica(incident)

        def read_chunk(dot: Dot) -> Chunk:
            return cast(Chunk, operation_untrusted(replica.read_content(dot.log, dot.seq).operations[dot.op]))

        data = attachments.assemble(replica.document, obj, read_chunk)
        for view in self.attachments(incident):
            if view.id == obj.hex():
                return Attachment(view.name, view.media_type, data)
        raise RefusedError("unknown-object", "there is no such attachment", "list the attachments of the incident")

    # --- node and peers -------------------------------------------------------------------------------------------

    def peers(self) -> list[PeerView]:
        node = self._node
        devices = self._known_devices()
        shown = [self._peer(device) for device in devices]
        unreached = [peer for peer in node.peers.unreached() if peer.configured.device not in devices]
        return shown + [self._unreached(peer) for peer in unreached]

    def _known_devices(self) -> list[DeviceId]:
        node = self._node
        devices = set(node.peers.known) | {device for device, _ in node.rollcall.roster.serials()}
        return sorted(devices - {node.identity.device})

    def _unreached(self, peer: Unreached) -> PeerView:
        device = peer.configured.device
        return PeerView(
            device="" if device is None else device.hex(),
            noc=peer.configured.noc,
            name="",
            addresses=list(peer.configured.addresses),
            state="connecting" if peer.dialing else "never-reached",
            since_ms=self._node.started_ms,
            round_trip_ms=None,
            they_lack=None,
            we_lack=None,
            relay=False,
            prekey_known=False,
            last_refusal=peer.last_refusal,
            last_dial_error=peer.last_code,
        )

    def _peer(self, device: Any) -> PeerView:
        node = self._node
        peer: Peer | None = node.peers.known.get(device)
        enrolled = node.rollcall.roster.get(device)
        link = None if peer is None else peer.link
        was_linked = peer is not None and peer.since_wall_ms > 0
        dialing = not was_linked and node.peers.is_dialing(device)
        state = "connected" if link is not None else "connecting" if dialing else "cut-off"
        if peer is not None:
            noc, name, relay = peer.identity.noc, peer.identity.name, peer.identity.relay
        else:
            certificate = enrolled.certificate if enrolled is not None else None
            noc, name, relay = (
                (certificate.noc, certificate.name, certificate.relay) if certificate else ("", "", False)
            )
        return PeerView(
            device=device.hex(),
            noc=noc,
            name=name,
            addresses=node.peers.addresses_of(device),
            state=state,
            since_ms=peer.since_wall_ms if peer is not None and was_linked else node.started_ms,
            round_trip_ms=peer.round_trip_s * 1000 if peer is not None and peer.round_trip_s is not None else None,
            they_lack=node.exchange.they_lack(device),
            we_lack=node.exchange.we_lack(device),
            relay=relay,
            prekey_known=enrolled is not None,
            last_refusal=node.peers.refusal(device),
            last_dial_error=node.peers.dial_error(device),
        )

    def node(self, version: str, wall_ms: int, started_ms: int, addresses: list[str], store_bytes: int) -> NodeView:
        node = self._node
        certificate = node.identity.certificate
        return NodeView(
            identity=IdentityView(
                device=node.identity.device.hex(),
                noc=certificate.noc,
                name=certificate.name,
                network=node.identity.network_root.hex(),
                valid_until_ms=certificate.not_after_s * 1000,
            ),
            version=version,
            time_ms=wall_ms,
            started_ms=started_ms,
            addresses=addresses,
            relay=node.settings.relay.enabled,
            peers_connected=len(node.peers.by_link),
            peers_known=len(self._known_devices()),
            incidents=len(node.holdings.incidents()),
            entries=node.holdings.entries,
            journal=node.archive.journal,
            cursor=self.cursor(node.archive.journal),
            store_bytes=store_bytes,
            degraded=[DegradedView(code, *rest) for code, rest in sorted(node.degraded.items())],
            refusals=dict(sorted(node.outbox.counts.items())),
        )


def _operation_view(dot: Dot, operation: Operation) -> OperationView:
    collection = getattr(operation, "collection", "")
    obj = getattr(operation, "object", None)
    field = getattr(operation, "field", "")
    kind, value = "", None
    replaces: tuple[Dot, ...] = ()
    match operation:
        case Set():
            kind, replaces = "set", operation.replaces
            value = view_value(collection, field, operation.value)
        case Add():
            kind, value = "add", view_value(collection, field, operation.value)
        case Remove():
            kind, replaces = "remove", operation.dots
        case Create():
            kind = "create"
        case Delete():
            kind, replaces = "delete", operation.seen
        case Log():
            kind, value = "log", operation.record
        case Chunk():
            kind, collection, value = "chunk", attachments.COLLECTION, {"index": operation.index}
        case _:
            kind = f"unknown-{operation.code}"
    return OperationView(
        id=dot.text,
        kind=kind,
        collection=collection,
        object=obj.hex() if obj is not None else "",
        field=field,
        value=value,
        replaces=[replaced.text for replaced in replaces],
    )


def _cursor(row: tuple[int, LogId, int]) -> str:
    return f"{row[0]}.{row[1].hex()}.{row[2]}"


def _parse_cursor_untrusted(text: str) -> tuple[int, LogId, int]:
    """Where a page ended. Raises UntrustedInputError ``bad-cursor``."""
    parts = text.split(".")
    if len(parts) == 3 and all(part.isascii() and part.isdigit() and len(part) <= 20 for part in parts[::2]):
        return int(parts[0]), LogId(parse_hex_untrusted(parts[1], 32, "a cursor")), int(parts[2])
    raise UntrustedInputError("bad-cursor", "a cursor is the 'next' of an earlier page", "start again without it")
