"""What the local API needs from the daemon: the one interface between HTTP and the node.

Reads are plain calls. They answer from memory or from the store without waiting, so a reader never sees a half-made
step and never needs a lock; each must stay short, because nothing else runs meanwhile. Writes are awaited: they
return when the change is durable (persist, then speak) and not before.

Every method raises only MeshnodeError: RefusedError (``unknown-incident``, ``not-a-member``, ...), LocalFaultError
(``store-full``, ...) or UntrustedInputError (a value the core cannot take). ``problems.py`` gives each its status.

The journal is the numbered list of entries in the order in which this node merged them, over all incidents. Only its
durable part is visible here. A subscriber of the event stream is nothing but a cursor into it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from meshnode.core.events import Attachment, Change, Written
from meshnode.core.ids import IncidentId, ObjectId
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


@dataclass(frozen=True, slots=True)
class JournalPage:
    """A page of the durable journal."""

    entries: list[HistoryView]
    """Ascending by journal number; only those of the incident asked for."""
    next: int
    """Every number up to this one has been looked at, matching or not: where to read on. Never below ``after``."""


class NodeService(Protocol):
    def node_view(self) -> NodeView: ...

    def peers_view(self) -> list[PeerView]: ...

    def incidents_view(self) -> list[IncidentSummary]: ...

    def incident_summary(self, incident: IncidentId) -> IncidentSummary: ...

    def incident_view(self, incident: IncidentId) -> IncidentView: ...

    def collection_view(self, incident: IncidentId, collection: str) -> list[ObjectView]: ...

    def object_view(self, incident: IncidentId, collection: str, object_id: ObjectId) -> ObjectView: ...

    def log_page(self, incident: IncidentId, after: str, limit: int, newest_first: bool) -> Page:
        """Records of the log book (RecordView). ``after`` is empty or the ``next`` of an earlier page."""

    def history_page(
        self, incident: IncidentId, after: str, limit: int, object_id: ObjectId | None, newest_first: bool
    ) -> Page:
        """Merged entries (HistoryView), oldest first; with ``object_id`` only those that touched it."""

    def conflicts_view(self, incident: IncidentId) -> list[ConflictView]: ...

    def members_view(self, incident: IncidentId) -> list[MemberView]: ...

    def attachments_view(self, incident: IncidentId) -> list[AttachmentView]: ...

    def attachment_bytes(self, incident: IncidentId, object_id: ObjectId) -> Attachment: ...

    def journal_last(self) -> int:
        """The highest durable journal number, 0 when there is none."""

    def journal_cursor(self, number: int) -> str:
        """The text that a reader who has seen the journal up to ``number`` comes back with. The same as long as the
        journal up to there is the same, another one when an older copy of the store came back and grew."""

    def journal_page(self, after: int, limit: int, incident: IncidentId | None) -> JournalPage:
        """Durable entries above ``after``, at most ``limit``. May stop early; ``next`` says how far it looked, and
        is above ``after`` whenever the durable journal is."""

    async def wait_journal(self, after: int) -> None:
        """Returns once the durable journal goes beyond ``after``; at once when it already does."""

    async def open_incident(
        self,
        kind: str,
        operator: str,
        changes: Sequence[Change],
        attachments: Sequence[Attachment],
        share_with: Sequence[str],
        with_relays: bool = False,
    ) -> Written:
        """``with_relays``: relays among the devices of these NOCs become members too."""

    async def change(
        self, incident: IncidentId, operator: str, changes: Sequence[Change], attachments: Sequence[Attachment]
    ) -> Written:
        """All changes or none. ``Written.dots`` and ``.objects`` follow the order of ``changes``."""

    async def share(
        self, incident: IncidentId, operator: str, nocs: Sequence[str], with_relays: bool = False
    ) -> Written: ...
