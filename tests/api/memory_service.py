"""A NodeService in memory: a small true implementation that the API's tests run against.

One device, no peers, no encryption: a change is merged when it is asked for. Multi-value registers, sets, objects,
the log book, the journal and refusals behave as in the node; what the core alone decides (concurrency, membership) is
not here, except that a value can be planted beside another to make a conflict.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import trio

from meshnode.api.service import JournalPage
from meshnode.core.events import Attachment, Change, ChangeKind, Written
from meshnode.core.ids import ROOT_OBJECT, Dot, IncidentId, LogId, ObjectId
from meshnode.core.views import (
    AttachmentView,
    AuthorView,
    ConflictView,
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
    ValueView,
)
from meshnode.errors import LocalFaultError, RefusedError, UntrustedInputError

DEVICE = "d0" * 32
LOG = LogId(b"\x10" * 32)
NOCS = ("BE", "NL", "DE", "FR", "EU")
RELAY_NOC = "EU"


@dataclass
class _Incident:
    id: IncidentId
    kind: str
    objects: dict[tuple[str, ObjectId], dict[str, list[ValueView]]] = field(default_factory=dict)
    deleted: set[ObjectId] = field(default_factory=set)
    brought_back: set[ObjectId] = field(default_factory=set)
    records: list[RecordView] = field(default_factory=list)
    history: list[HistoryView] = field(default_factory=list)
    nocs: list[str] = field(default_factory=lambda: ["BE"])
    attachments: list[tuple[AttachmentView, Attachment]] = field(default_factory=list)


class MemoryService:
    def __init__(self) -> None:
        self.incidents: dict[IncidentId, _Incident] = {}
        self.journal: list[HistoryView] = []
        self.stretch = "5eed0001"
        """Names the ids of what is merged from now on; a restored back-up gets another."""
        self.stored_for_others = 0
        self.disk_is_full = False
        self.defect: Exception | None = None
        self.gate: trio.Event | None = None
        """When set, a change waits for it before it is durable: a slow disk."""
        self.changes_waiting = 0
        self._grew = trio.Event()

    # --- reads

    def node_view(self) -> NodeView:
        return NodeView(
            identity=IdentityView(DEVICE, "BE", "be-1", "n" * 8, 2_000_000_000_000),
            version="0.1.0",
            time_ms=1_700_000_000_000,
            started_ms=1_700_000_000_000,
            addresses=["127.0.0.1:7000"],
            relay=False,
            peers_connected=0,
            peers_known=1,
            incidents=len(self.incidents) + self.stored_for_others,
            entries=len(self.journal),
            journal=len(self.journal),
            cursor=self.journal_cursor(len(self.journal)),
            store_bytes=4096,
            degraded=[],
            refusals={},
        )

    def peers_view(self) -> list[PeerView]:
        return [
            PeerView(
                device="a1" * 32,
                noc="NL",
                name="nl-1",
                addresses=["127.0.0.1:7001"],
                state="cut-off",
                since_ms=5,
                round_trip_ms=None,
                they_lack=None,
                we_lack=3,
                relay=False,
                prekey_known=True,
                last_refusal="",
                last_dial_error="connect-timeout",
            )
        ]

    def incidents_view(self) -> list[IncidentSummary]:
        return [self.incident_summary(incident) for incident in self.incidents]

    def incident_summary(self, incident: IncidentId) -> IncidentSummary:
        found = self._incident(incident)
        state = repr(sorted((key, value) for key, value in found.objects.items())) + repr(found.records)
        return IncidentSummary(
            id=incident.hex(),
            kind=found.kind,
            title=self._text(found, "title"),
            status=self._text(found, "status"),
            severity=self._text(found, "severity"),
            precedence=self._text(found, "precedence"),
            marking=self._text(found, "marking"),
            conflicts=len(self.conflicts_view(incident)),
            entries=len(found.history),
            digest=hashlib.blake2b(state.encode(), digest_size=32).hexdigest(),
            waiting=0,
            opened_ms=found.history[0].author.time_ms,
        )

    def incident_view(self, incident: IncidentId) -> IncidentView:
        found = self._incident(incident)
        names = sorted({collection for collection, _ in found.objects if collection != "incident"})
        return IncidentView(
            summary=self.incident_summary(incident),
            fields=_fields(found.objects[("incident", ROOT_OBJECT)]),
            collections={name: self.collection_view(incident, name) for name in names},
            members=self.members_view(incident),
        )

    def collection_view(self, incident: IncidentId, collection: str) -> list[ObjectView]:
        found = self._incident(incident)
        return [
            self.object_view(incident, collection, object_id)
            for name, object_id in found.objects
            if name == collection and object_id not in found.deleted
        ]

    def object_view(self, incident: IncidentId, collection: str, object_id: ObjectId) -> ObjectView:
        found = self._incident(incident)
        values = found.objects.get((collection, object_id))
        if values is None:
            raise RefusedError("unknown-object", "there is no such object", "list the collection")
        return ObjectView(
            object_id.hex(), collection, _fields(values), object_id in found.deleted, object_id in found.brought_back
        )

    def log_page(self, incident: IncidentId, after: str, limit: int, newest_first: bool) -> Page:
        records = self._incident(incident).records
        return _page(records[::-1] if newest_first else records, after, limit)

    def history_page(
        self, incident: IncidentId, after: str, limit: int, object_id: ObjectId | None, newest_first: bool
    ) -> Page:
        history = self._incident(incident).history[:: -1 if newest_first else 1]
        if object_id is not None:
            history = [item for item in history if any(op.object == object_id.hex() for op in item.operations)]
        return _page(history, after, limit)

    def conflicts_view(self, incident: IncidentId) -> list[ConflictView]:
        return [
            ConflictView(collection, object_id.hex(), name, values)
            for (collection, object_id), record in self._incident(incident).objects.items()
            for name, values in record.items()
            if len(values) > 1
        ]

    def members_view(self, incident: IncidentId) -> list[MemberView]:
        return [
            MemberView(DEVICE, noc, f"{noc.lower()}-1", "manager", True, DEVICE, 7)
            for noc in self._incident(incident).nocs
        ]

    def attachments_view(self, incident: IncidentId) -> list[AttachmentView]:
        return [view for view, _ in self._incident(incident).attachments]

    def attachment_bytes(self, incident: IncidentId, object_id: ObjectId) -> Attachment:
        for view, attachment in self._incident(incident).attachments:
            if view.id == object_id.hex():
                return attachment
        raise RefusedError("unknown-object", "there is no such attachment", "list the attachments")

    def journal_last(self) -> int:
        return len(self.journal)

    def journal_cursor(self, number: int) -> str:
        return self.journal[number - 1].cursor if number else "0"

    def journal_page(self, after: int, limit: int, incident: IncidentId | None) -> JournalPage:
        looked_at = self.journal[after : after + limit]
        wanted = [item for item in looked_at if incident is None or item.incident == incident.hex()]
        return JournalPage(wanted, max(after, min(after + limit, len(self.journal))))

    async def wait_journal(self, after: int) -> None:
        while len(self.journal) <= after:
            await self._grew.wait()

    # --- writes

    async def open_incident(
        self,
        kind: str,
        operator: str,
        changes: Sequence[Change],
        attachments: Sequence[Attachment],
        share_with: Sequence[str],
        with_relays: bool = False,
    ) -> Written:
        self._check_nocs(share_with, with_relays)
        incident = IncidentId(len(self.incidents).to_bytes(16, "big"))
        self.incidents[incident] = _Incident(incident, kind, {("incident", ROOT_OBJECT): {}})
        self.incidents[incident].nocs += share_with
        return await self.change(incident, operator, changes, attachments)

    async def change(
        self, incident: IncidentId, operator: str, changes: Sequence[Change], attachments: Sequence[Attachment]
    ) -> Written:
        if self.defect is not None:
            raise self.defect
        if self.disk_is_full:
            raise LocalFaultError("store-full", "no space is left", "free space on the disk")
        found = self._incident(incident)
        self.changes_waiting += 1
        if self.gate is not None:
            await self.gate.wait()
        self.changes_waiting -= 1
        number = len(self.journal) + 1
        author = AuthorView(DEVICE, "BE", "be-1", operator, 1_700_000_000_000 + number)
        operations, dots, objects = [], [], []
        for index, change in enumerate(changes):
            dot = Dot(LOG, number, index)
            object_id = self._apply(found, change, dot, author)
            dots.append(dot)
            objects.append(object_id)
            replaces = [item.text for item in change.replaces or ()]
            operations.append(
                OperationView(
                    dot.text,
                    change.kind.value,
                    change.collection,
                    object_id.hex(),
                    change.field,
                    change.value,
                    replaces,
                )
            )
        files = []
        for index, attachment in enumerate(attachments):
            files.append(ObjectId(hashlib.blake2b(f"{number}.{index}".encode(), digest_size=16).digest()))
            view = AttachmentView(files[-1].hex(), attachment.name, attachment.media_type, len(attachment.data), author)
            found.attachments.append((view, attachment))
        cursor, name = f"{number}-{self.stretch}", f"{LOG.hex()}.{number}"
        entry = HistoryView(number, cursor, name, incident.hex(), author, operations, "", "")
        found.history.append(entry)
        self.journal.append(entry)
        self._grew.set()
        self._grew = trio.Event()
        return Written(incident, tuple(dots), tuple(objects), tuple(files))

    async def share(
        self, incident: IncidentId, operator: str, nocs: Sequence[str], with_relays: bool = False
    ) -> Written:
        self._check_nocs(nocs, with_relays)
        self._incident(incident).nocs += nocs
        return Written(incident, (), ())

    def plant_conflict(
        self,
        incident: IncidentId,
        name: str,
        value: Any,
        collection: str = "incident",
        object_id: ObjectId = ROOT_OBJECT,
    ) -> None:
        """Another NOC gave the field another value at the same time."""
        author = AuthorView("f0" * 32, "FR", "fr-1", "uid:1", 1_700_000_000_000)
        dot = Dot(LogId(b"\xf0" * 32), 1, 0)
        values = self.incidents[incident].objects[(collection, object_id)].setdefault(name, [])
        values.append(ValueView(dot.text, value, author, True))

    def _incident(self, incident: IncidentId) -> _Incident:
        found = self.incidents.get(incident)
        if found is None:
            raise RefusedError("unknown-incident", "this node holds no such incident", "list the incidents")
        return found

    def _check_nocs(self, nocs: Sequence[str], with_relays: bool) -> None:
        for noc in nocs:
            if noc == RELAY_NOC and not with_relays:
                raise RefusedError("relays-only", f"the devices of {noc} are relays", "give --with-relays")
            if noc not in NOCS:
                raise RefusedError("noc-unknown", f"no device of {noc} is known", "see the peers")

    def _apply(self, found: _Incident, change: Change, dot: Dot, author: AuthorView) -> ObjectId:
        object_id = change.object or ROOT_OBJECT
        if change.kind is ChangeKind.LOG:
            found.records.append(RecordView(dot.text, change.value, author))
            return object_id
        if change.kind is ChangeKind.CREATE:
            found.objects[(change.collection, object_id)] = {}
            return object_id
        record = found.objects.get((change.collection, object_id))
        if record is None:
            raise RefusedError("unknown-object", "there is no such object", "create it first")
        if change.kind is not ChangeKind.DELETE and object_id in found.deleted:
            found.deleted.remove(object_id)
            found.brought_back.add(object_id)
        if change.kind is ChangeKind.DELETE:
            found.deleted.add(object_id)
            return object_id
        if change.field == "severity" and not isinstance(change.value, str):
            raise UntrustedInputError("bad-value", "severity is text", "send text")
        replaced = None if change.replaces is None else {item.text for item in change.replaces}
        old = record.get(change.field, [])
        view = ValueView(dot.text, change.value, author, True)
        if change.kind is ChangeKind.SET:
            kept = [] if replaced is None else [value for value in old if value.id not in replaced]
            record[change.field] = [*kept, view]
        elif change.kind is ChangeKind.ADD:
            record[change.field] = [*old, view]
        elif replaced is not None:
            record[change.field] = [value for value in old if value.id not in replaced]
        else:
            record[change.field] = [value for value in old if value.value != change.value]
        return object_id

    @staticmethod
    def _text(found: _Incident, name: str) -> str:
        values = found.objects[("incident", ROOT_OBJECT)].get(name, [])
        return str(values[0].value) if values else ""


def _fields(record: dict[str, list[ValueView]]) -> dict[str, FieldView]:
    return {name: FieldView(values, len(values) > 1) for name, values in record.items()}


def _page(items: list[Any], after: str, limit: int) -> Page:
    start = int(after or "0")
    end = start + limit
    return Page(items[start:end], str(end) if end < len(items) else "")
