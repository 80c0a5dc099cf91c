"""How entries travel: the conversation of two nodes about the logs they hold.

This room translates between machines that do not know each other: `holdings` (what we have), `sync` (what to ask),
`gossip` (what to push), `picture` (what they have), and `incidents` (what we can read). It also decides who is
offered what:

* a **member** is offered everything of its incident, and so is a **relay**;
* a node that is neither is offered nothing but epoch packages: who can open one is a member, and asks for the rest.
  So a member behind a hub finds its incidents although the hub cannot know whom they are for;
* a node that is no relay takes only incidents it holds a key of, and passes on those in whose group it is;
* what `custody` has no room for, or dropped because it did not grow for long, is refused.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from meshnode.core import wire
from meshnode.core.custody import Custody, RelaySettings
from meshnode.core.events import Now
from meshnode.core.gossip import Gossip
from meshnode.core.holdings import Fit, Holdings
from meshnode.core.ids import DeviceId, IncidentId, KeyId, LogId
from meshnode.core.incidents import Incidents
from meshnode.core.invitations import Invitations
from meshnode.core.log import ENTRY_OVERHEAD_BYTES, LogStore
from meshnode.core.outbox import Outbox
from meshnode.core.peers import Peers
from meshnode.core.picture import Picture
from meshnode.core.refusals import Refusals
from meshnode.core.retention import Heights
from meshnode.core.sync import Sync
from meshnode.errors import LocalFaultError, UntrustedInputError

QUOTA_RETRY_S = 600.0
"""How long a neighbour is asked for nothing more of an incident once its share of the room is used up."""
INTEREST_MAX = 65_536
"""Incidents remembered per link, of those the peer showed that it holds and those it has no room for."""


HEIGHTS_INTERVAL_S = 2.0
"""The same heights are told on one link at most this often: well below the anti-entropy interval."""


class Exchange:
    """Handlers for messages about logs. The node calls them while it can write; times are in ``now``."""

    def __init__(
        self,
        store: LogStore,
        holdings: Holdings,
        incidents: Incidents,
        peers: Peers,
        gossip: Gossip,
        sync: Sync,
        outbox: Outbox,
        custody: Custody,
        on_local_fault: Callable[[LocalFaultError], None],
    ) -> None:
        self._store = store
        self._holdings = holdings
        self._incidents = incidents
        self._peers = peers
        self._gossip = gossip
        self._sync = sync
        self._outbox = outbox
        self._custody = custody
        self._relay: RelaySettings = custody.settings
        self._on_local_fault = on_local_fault
        self.takes_in = True
        """False while nothing can be made durable: then this node serves what it holds and asks for nothing."""
        self._picture = Picture()
        self._told_heights: dict[int, dict[tuple[IncidentId, bool], tuple[bytes, float]]] = {}
        """Per link, the digest for which the heights of an incident were told last, and until when not again; asking
        and answering apart: who was told before it was a member asks once more as soon as it is one."""
        self._interest: dict[int, set[IncidentId]] = {}
        """Per link, incidents the peer showed that it holds."""
        self._invitations = Invitations()
        self._refusals = Refusals()
        self._full: dict[int, dict[IncidentId, float]] = {}
        """Per link, incidents for which the peer has no room left, and when to ask for them again."""

    # --- links ----------------------------------------------------------------------------------------------------

    @property
    def links(self) -> list[int]:
        return list(self._interest)

    def has(self, link: int) -> bool:
        return link in self._interest

    def on_link_up(self, link: int, now: Now) -> None:
        self._interest[link] = set()
        self._refusals.on_link_up(link)
        self._invitations.on_link_up(link)
        self._gossip.on_link_up(link)
        self._sync.on_link_up(link, now.monotonic_s)

    def on_link_down(self, link: int, now: Now) -> None:
        del self._interest[link]
        self._told_heights.pop(link, None)
        self._invitations.on_link_down(link)
        self._full.pop(link, None)
        self._refusals.on_link_down(link)
        self._gossip.on_link_down(link)
        self._sync.on_link_down(link)
        for other in self._interest:  # what was asked there is asked elsewhere
            self.request(other, now)

    def handle_deadline(self, now: Now) -> None:
        for link in self._sync.handle_timeouts(now.monotonic_s):
            self.request(link, now)
        for link, rows in self._gossip.due_announcements(now.monotonic_s):
            for start in range(0, len(rows), wire.LIST_MAX):
                self._outbox.send(link, wire.Announce(tuple(rows[start : start + wire.LIST_MAX])), droppable=True)
        for link in self._invitations.waiting() if self.takes_in else ():
            self._ask_for_packages(link, now)
        for link, incident, log in self._gossip.due_grafts(now.monotonic_s):
            self._outbox.send(link, wire.Graft(incident, log, self._height(incident, log)))
        for incident in self._custody.handle_deadline(now) if self.takes_in else ():
            self._outbox.tell("relay-dropped", f"incident {incident.hex()[:8]} did not grow for long and was dropped")
            self._full.clear()
            for link in self._interest:  # nothing of it is wanted any more
                self._sync.on_equal_incident(link, incident)

    # --- anti-entropy ---------------------------------------------------------------------------------------------

    def on_log_digest(self, link: int, digest: bytes) -> None:
        """The peer's summary: equal means that nobody lacks anything."""
        if digest == self._holdings.digest():
            self._sync.on_equal(link)
            self._gossip.on_equal(link)
            self._picture.on_equal(self._device(link), self._holdings)
            return
        digests = [(incident, self._holdings.incident_digest(incident)) for incident in self._holdings.incidents()]
        for start in range(0, max(1, len(digests)), wire.LIST_MAX):
            part = tuple(digests[start : start + wire.LIST_MAX])
            self._outbox.send(link, wire.Incidents(part, start + wire.LIST_MAX >= len(digests)))

    def on_incidents(self, link: int, message: wire.Incidents, now: Now) -> None:
        for incident, digest in message.digests:
            self._note_interest(link, incident)
            if not self._takes(incident):
                self._invitations.on_shown(link, incident, now.monotonic_s)
            elif not self._holdings.holds(incident) or self._holdings.incident_digest(incident) != digest:
                if not self._was_judged(link, incident, digest):
                    self._send_heights(link, incident, now, answer=False)
            else:
                self._sync.on_equal_incident(link, incident)
                self._picture.on_equal_incident(self._device(link), incident, self._holdings.logs(incident))
        if message.last:
            for incident in self._holdings.incidents():
                if incident not in self._interest[link] and self._offers(link, incident):
                    digest = self._holdings.incident_digest(incident)
                    if self._refusals.offer_due(link, incident, digest, now.monotonic_s):
                        self._send_heights(link, incident, now, answer=False)

    def _send_heights(self, link: int, incident: IncidentId, now: Now, answer: bool) -> None:
        """Unless the same was told on this link a moment ago: a short question must not get a long answer each time."""
        digest = self._holdings.incident_digest(incident) if self._holdings.holds(incident) else b""
        told = self._told_heights.setdefault(link, {})
        before, until = told.get((incident, answer), (None, 0.0))
        if before == digest and now.monotonic_s < until:
            return
        if len(told) >= INTEREST_MAX:
            told.clear()
        told[incident, answer] = (digest, now.monotonic_s + HEIGHTS_INTERVAL_S)
        held = self._holdings.logs(incident) if self._custody.passes_on(incident) else []
        heads = [(head.log, head.height) for head in held]
        for start in range(0, max(1, len(heads)), wire.LIST_MAX):
            part = tuple(heads[start : start + wire.LIST_MAX])
            self._outbox.send(link, wire.Heights(incident, part, start + wire.LIST_MAX >= len(heads), answer))

    def on_heights(self, link: int, message: wire.Heights, now: Now) -> None:
        if not self._takes(message.incident):
            self._invitations.on_shown(link, message.incident, now.monotonic_s)
            return
        lacks_of_member = message.last and not self._peers.by_link[link].identity.relay
        if self._is_expired(link, message.incident, message.heights, now, missed=lacks_of_member):
            return
        self._note_interest(link, message.incident)
        self._incidents.reseals.on_reads(message.incident, self._device(link))
        # What lacks least comes first: a short log often holds the epoch that a long one needs to be read.
        incident = message.incident
        for log, height in sorted(message.heights, key=lambda row: row[1] - self._height(incident, row[0])):
            self._on_told(link, incident, log, height, now)
        if message.last and not message.answer:
            self._send_heights(link, message.incident, now, answer=True)
        self.request(link, now)

    def _on_told(self, link: int, incident: IncidentId, log: LogId, height: int, now: Now) -> None:
        full_until = self._full.get(link, {}).get(incident, now.monotonic_s)
        if now.monotonic_s >= full_until or self._custody.vouches_for(incident, log):
            self._sync.on_told(link, incident, log, height)
        self._picture.on_told(self._device(link), incident, log, height)

    def request(self, link: int, now: Now) -> None:
        if not self.takes_in:
            return
        for want in self._sync.plan(link, now.monotonic_s):
            self._outbox.send(link, want)

    def on_want(self, link: int, message: wire.Want, now: Now) -> None:
        self._note_interest(link, message.incident)
        answer: wire.Run | wire.Lack = wire.Lack(message.incident, message.log, message.first)
        try:
            if self._custody.passes_on(message.incident):
                answer = self._holdings.serve(self._store, message)
        except LocalFaultError as error:
            self._on_local_fault(error)
        self._outbox.send(link, answer, bulk=True)

    def on_lack(self, link: int, message: wire.Lack, now: Now) -> None:
        self._sync.on_answer(link, message.incident, message.log, message.first, 0, 0)
        self.request(link, now)

    # --- entries --------------------------------------------------------------------------------------------------

    def on_run(self, link: int, message: wire.Run, now: Now) -> None:
        """Entries by push or as an answer. Raises UntrustedInputError ``bad-signature``."""
        incident, log = message.incident, message.log
        size_bytes = sum(ENTRY_OVERHEAD_BYTES + len(row[1]) + len(row[2] or b"") for row in message.rows)
        asked = self._sync.on_answer(link, incident, log, message.first, len(message.rows), size_bytes)
        if not self._takes(incident) and not self._is_invitation(link, message, now):
            self._invitations.on_shown(link, incident, now.monotonic_s)
            return
        if self._is_expired(link, incident, ((log, message.last),), now):
            self._sync.on_equal_incident(link, incident)  # nothing more of it is asked there
            self._sync.give_up(link, incident, log)
            self.request(link, now)
            return
        if not self._has_room(link, incident, log, size_bytes, now):
            self._sync.give_up(link, incident, log)
            self.request(link, now)
            return
        self._note_interest(link, incident)
        try:
            self._take_untrusted(link, message, asked, now)
        except UntrustedInputError as error:
            if error.code != "log-forked":
                raise
            # The log's writer is at fault. The peer may hold the other branch in good faith, and keeps its link.
            self._report_refusal(link, error)
            self._sync.give_up(link, incident, log)
        self.request(link, now)

    def _take_untrusted(self, link: int, message: wire.Run, asked: bool, now: Now) -> None:
        """Raises UntrustedInputError ``bad-signature`` or ``log-forked``."""
        incident, log = message.incident, message.log
        taken = self._holdings.take_untrusted(message)
        if taken.seal is not None:
            before_bytes = self._store.incident_bytes(incident)
            self._incidents.accept(taken.entries, taken.seal, now)
            stored_bytes = self._store.incident_bytes(incident) - before_bytes
            self._custody.on_taken(self._peers.by_link[link].identity, incident, log, message.last, stored_bytes)
        self._on_told(link, incident, log, message.last, now)
        if taken.fit is Fit.NEW and asked:
            self._announce(message, link, now)
        elif taken.fit is Fit.NEW:
            self.push(message, link, now)
        elif taken.fit is Fit.GAP and asked:
            self._sync.restart_log(link, incident, log)
        elif taken.fit is Fit.KNOWN and not asked and self._gossip.on_duplicate(link, log):
            self._outbox.send(link, wire.Prune(incident, log))

    def push(self, run: wire.Run, source: int | None, now: Now) -> None:
        """Spreads a run that is new here; ``source`` delivered it, None for an own one."""
        links = self._spread(run, source, now)
        data = wire.encode(run) if links else b""
        for link in links:
            self._outbox.send_encoded(link, data, droppable=True)
        self._invite(run)

    def _announce(self, run: wire.Run, source: int, now: Now) -> None:
        """What came by anti-entropy is many entries: others are told of it, and ask."""
        for link in self._spread(run, source, now):
            self._outbox.send(link, wire.Announce(((run.incident, run.log, run.last),)), droppable=True)
        self._invite(run)

    def _spread(self, run: wire.Run, source: int | None, now: Now) -> list[int]:
        incident = run.incident
        if not self._custody.passes_on(incident):
            return []
        links = [
            link
            for link, interest in self._interest.items()
            if incident in interest or self._is_for(self._device(link), incident)
        ]
        return self._gossip.spread(run.incident, run.log, run.last, source, links, now.monotonic_s)

    def on_announce(self, link: int, message: wire.Announce, now: Now) -> None:
        for incident, log, height in message.heights:
            self._note_interest(link, incident)
            if self._takes(incident) and not self._is_expired(link, incident, ((log, height),), now):
                # Not a reason to ask at once: the push is usually on its way. Gossip waits a moment, then grafts.
                self._picture.on_told(self._device(link), incident, log, height)
                held = self._height(incident, log)
                self._gossip.on_announce(link, incident, log, height, held, now.monotonic_s)

    def on_prune(self, link: int, message: wire.Prune) -> None:
        self._gossip.on_prune(link, message.log)

    def on_graft(self, link: int, message: wire.Graft, now: Now) -> None:
        self._gossip.on_graft(link, message.log)
        height = self._height(message.incident, message.log)
        if height > message.height:
            self.on_want(link, wire.Want(message.incident, message.log, message.height + 1, height), now)

    # --- invitations ----------------------------------------------------------------------------------------------

    def _is_invitation(self, link: int, run: wire.Run, now: Now) -> bool:
        packages = [(run.key_ids[index], package) for index, _, package in run.rows if package is not None]
        count = self._invitations.on_unasked(link, run.incident, len(packages), now.monotonic_s)
        return self._try_packages(link, run.incident, packages[:count])

    def _try_packages(self, link: int, incident: IncidentId, packages: Sequence[tuple[KeyId, bytes]]) -> bool:
        """True when one is for this node. What is wrong with one is not the fault of the relay that passes it on."""
        for key_id, package in packages:
            try:
                if self._incidents.try_package(incident, key_id, package):
                    return True
            except UntrustedInputError as error:
                self._report_refusal(link, error)
        return False

    def _ask_for_packages(self, link: int, now: Now) -> None:
        for incident, older in self._invitations.due(link, now.monotonic_s):
            self._outbox.send(link, wire.PackagesWant(incident, older))

    def _invite(self, run: wire.Run) -> None:
        """Shows new packages to peers that are no relays and may be members without this node knowing it."""
        if not self._relay.enabled:
            return
        for index, _, package in run.rows:
            if package is not None:
                message = wire.Packages(run.incident, ((run.key_ids[index], package),), 0)
                for link in self._interest:
                    if not self._offers(link, run.incident):
                        self._outbox.send(link, message, droppable=True)

    def on_packages_want(self, link: int, message: wire.PackagesWant, now: Now) -> None:
        replica = self._incidents.replicas.get(message.incident)
        if replica is not None and message.older == 0:
            self._incidents.reseals.on_keyless(replica, self._device(link), now.monotonic_s)
        packages, older = self._incidents.packages(message.incident, message.older)
        if packages:
            self._outbox.send(link, wire.Packages(message.incident, tuple(packages), older), bulk=True)

    def on_packages(self, link: int, message: wire.Packages, now: Now) -> None:
        """Whoever can open one is a member, and asks for the incident; others look at what came before."""
        incident = message.incident
        if self._takes(incident):
            return
        count, asked = self._invitations.on_packages(link, incident, len(message.packages), now.monotonic_s)
        if self._try_packages(link, incident, message.packages[:count]):
            self._note_interest(link, incident)
            self._send_heights(link, incident, now, answer=False)
        elif asked:
            self._invitations.on_older(link, incident, message.older)

    # --- who is offered what --------------------------------------------------------------------------------------

    def _takes(self, incident: IncidentId) -> bool:
        return self._relay.enabled or self._incidents.is_member(incident)

    def _note_interest(self, link: int, incident: IncidentId) -> None:
        if len(self._interest[link]) < INTEREST_MAX:
            self._interest[link].add(incident)

    def _offers(self, link: int, incident: IncidentId) -> bool:
        """May this peer be sent entries: it showed that it holds the incident, or it is for it anyway."""
        wanted = incident in self._interest[link] or self._is_for(self._device(link), incident)
        return wanted and self._custody.passes_on(incident)

    def _is_for(self, device: DeviceId, incident: IncidentId) -> bool:
        replica = self._incidents.replicas.get(incident)
        if replica is not None and replica.group.role(device) is not None:
            return True
        peer = self._peers.known.get(device)
        return peer is not None and peer.identity.relay and self._custody.passes_on(incident)

    # --- what custody refuses -------------------------------------------------------------------------------------

    def _has_room(self, link: int, incident: IncidentId, log: LogId, size_bytes: int, now: Now) -> bool:
        """Charged to the neighbour that delivers, whoever wrote it."""
        neighbour = self._peers.by_link[link].identity
        named = self._peers.is_named(neighbour.device)
        if self._custody.has_room(neighbour, incident, log, size_bytes, named=named):
            return True
        self._note_full(link, incident, now)
        full = f"this neighbour's share of the room is used up: no more of incident {incident.hex()[:8]}"
        self._refuse(link, incident, UntrustedInputError("relay-quota", full), now)
        return False

    def _is_expired(self, link: int, incident: IncidentId, heights: Heights, now: Now, *, missed: bool = False) -> bool:
        """Dropped here, and the peer holds nothing newer of it. ``missed``: a member told all it holds."""
        if not self._custody.refuses(incident, heights, missed=missed):
            return False
        old = f"incident {incident.hex()[:8]} was dropped here and has not grown since"
        self._refuse(link, incident, UntrustedInputError("relay-expired", old), now)
        return True

    def _was_judged(self, link: int, incident: IncidentId, digest: bytes) -> bool:
        """The peer lists what was dropped here as it did when its heights were asked: they are not asked again."""
        if not self._custody.is_dropped(incident) or not self._refusals.was_judged(link, incident, digest):
            return False
        self._custody.on_offered(incident)
        return True

    def _refuse(self, link: int, incident: IncidentId, error: UntrustedInputError, now: Now) -> None:
        """Reported once in a while: what is refused is offered again and again."""
        if self._refusals.report_due(link, incident, error.code, now.monotonic_s):
            self._report_refusal(link, error)
        self._peers.by_link[link].last_refusal = error.code

    def _note_full(self, link: int, incident: IncidentId, now: Now) -> None:
        full = self._full.setdefault(link, {})
        if len(full) >= INTEREST_MAX:
            full.clear()
        full[incident] = now.monotonic_s + QUOTA_RETRY_S
        self._sync.on_refused(link, incident, lambda log: self._custody.vouches_for(incident, log))

    def _report_refusal(self, link: int, error: UntrustedInputError) -> None:
        """Counted and shown; the link stays."""
        self._peers.by_link[link].last_refusal = error.code
        self._outbox.report(error.code, error.reason, link)

    def _device(self, link: int) -> DeviceId:
        return self._peers.by_link[link].identity.device

    def _height(self, incident: IncidentId, log: LogId) -> int:
        return self._holdings.head(incident, log)[0]

    # --- the picture ----------------------------------------------------------------------------------------------

    def they_lack(self, device: DeviceId) -> int | None:
        """Entries held here and offered to this peer that it had not when it last told; None before it ever told."""
        if not self._picture.knows(device):
            return None
        return sum(
            self._picture.lacks(device, incident, self._holdings.logs(incident))
            for incident in self._holdings.incidents()
            if self._is_for(device, incident)
        )

    def we_lack(self, device: DeviceId) -> int | None:
        """Entries the linked peer said it holds and we do not; None when it is not linked."""
        peer = self._peers.known.get(device)
        return None if peer is None or peer.link is None else self._sync.we_lack(peer.link)
