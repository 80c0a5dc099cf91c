"""What the local API asks of the node: reads answered at once, writes handed to the loop."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import replace

from meshnode import __version__
from meshnode.api.service import JournalPage
from meshnode.core.events import Attachment, Change, ChangeIncident, Now, OpenIncident, ShareIncident, Written
from meshnode.core.ids import IncidentId, ObjectId
from meshnode.core.views import (
    AttachmentView,
    ConflictView,
    IncidentSummary,
    IncidentView,
    MemberView,
    NodeView,
    ObjectView,
    Page,
    PeerView,
)
from meshnode.daemon.links import Links
from meshnode.daemon.loop import Loop
from meshnode.storage.ticket import CommittingLogStore


class Service:
    """``api.service.NodeService`` over a running loop. Reads go to the node of this moment."""

    def __init__(self, loop: Loop, store: CommittingLogStore, links: Links, clock: Callable[[], Now]) -> None:
        self._loop = loop
        self._store = store
        self._links = links
        self._clock = clock
        self._started_ms = clock().wall_ms

    def node_view(self) -> NodeView:
        view = self._loop.reading.node(
            __version__,
            self._clock().wall_ms,
            self._started_ms,
            list(self._links.addresses),
            self._store.store_bytes(),
        )
        counts = Counter(view.refusals) + self._links.refused()
        # Readers begin to stream at this number, so it must be one that a stream takes: durable.
        journal = self._loop.durable_journal
        cursor = self._loop.reading.cursor(journal)
        return replace(view, journal=journal, cursor=cursor, refusals=dict(sorted(counts.items())))

    def peers_view(self) -> list[PeerView]:
        return self._loop.reading.peers()

    def incidents_view(self) -> list[IncidentSummary]:
        return self._loop.reading.incidents()

    def incident_summary(self, incident: IncidentId) -> IncidentSummary:
        return self._loop.reading.summary(incident)

    def incident_view(self, incident: IncidentId) -> IncidentView:
        return self._loop.reading.incident(incident)

    def collection_view(self, incident: IncidentId, collection: str) -> list[ObjectView]:
        return self._loop.reading.collection(incident, collection)

    def object_view(self, incident: IncidentId, collection: str, object_id: ObjectId) -> ObjectView:
        return self._loop.reading.object(incident, collection, object_id)

    def log_page(self, incident: IncidentId, after: str, limit: int, newest_first: bool) -> Page:
        return self._loop.reading.log_page(incident, after, limit, newest_first)

    def history_page(
        self, incident: IncidentId, after: str, limit: int, object_id: ObjectId | None, newest_first: bool
    ) -> Page:
        return self._loop.reading.history_page(incident, after, limit, object_id, newest_first)

    def conflicts_view(self, incident: IncidentId) -> list[ConflictView]:
        return self._loop.reading.conflicts(incident)

    def members_view(self, incident: IncidentId) -> list[MemberView]:
        return self._loop.reading.members(incident)

    def attachments_view(self, incident: IncidentId) -> list[AttachmentView]:
        return self._loop.reading.attachments(incident)

    def attachment_bytes(self, incident: IncidentId, object_id: ObjectId) -> Attachment:
        return self._loop.reading.attachment(incident, object_id)

    def journal_last(self) -> int:
        return self._loop.durable_journal

    def journal_cursor(self, number: int) -> str:
        return self._loop.reading.cursor(number)

    def journal_page(self, after: int, limit: int, incident: IncidentId | None) -> JournalPage:
        views, looked = self._loop.reading.journal(after, self._loop.durable_journal, limit, incident)
        return JournalPage(views, looked)

    async def wait_journal(self, after: int) -> None:
        await self._loop.wait_journal(after)

    async def open_incident(
        self,
        kind: str,
        operator: str,
        changes: Sequence[Change],
        attachments: Sequence[Attachment],
        share_with: Sequence[str],
        with_relays: bool = False,
    ) -> Written:
        return await self._loop.request(
            lambda number: OpenIncident(
                number, operator, kind, tuple(changes), tuple(attachments), tuple(share_with), with_relays
            )
        )

    async def change(
        self, incident: IncidentId, operator: str, changes: Sequence[Change], attachments: Sequence[Attachment]
    ) -> Written:
        return await self._loop.request(
            lambda number: ChangeIncident(number, incident, operator, tuple(changes), tuple(attachments))
        )

    async def share(
        self, incident: IncidentId, operator: str, nocs: Sequence[str], with_relays: bool = False
    ) -> Written:
        return await self._loop.request(
            lambda number: ShareIncident(number, incident, operator, tuple(nocs), with_relays)
        )
