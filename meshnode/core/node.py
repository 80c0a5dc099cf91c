"""The node: one object that is told what happened and what time it is, and answers with effects.

It composes the machines of this room, which do not know each other: `peers` (whom to dial), `gossip` (eager and lazy
push), `sync` (anti-entropy), `holdings` (chains and digests), `roster` (certificates and prekeys) and `incidents`
(what this node can read and write). Here their words are translated into each other, and nothing else is decided.

One task owns the node. ``step`` handles a batch of events that came in together: what they write is sealed and made
durable as one, and pushed as one.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar

from meshnode.core import attachments, codec, epochs, prekeys, vault, wire
from meshnode.core.budget import Budgets
from meshnode.core.events import (
    AddressFound,
    ChangeIncident,
    Channel,
    CloseLink,
    Dial,
    DialFailed,
    Effect,
    Event,
    JournalGrew,
    LinkDown,
    LinkUp,
    Now,
    OpenIncident,
    Received,
    Reply,
    Report,
    RoundTrip,
    Send,
    ShareIncident,
    Step,
    Tick,
    Written,
)
from meshnode.core.gossip import Gossip
from meshnode.core.holdings import Fit, Holdings
from meshnode.core.identity import Identity
from meshnode.core.ids import DeviceId, IncidentId, LogId
from meshnode.core.incidents import Incidents
from meshnode.core.keys import RandomBytes
from meshnode.core.log import CommitBatch, LogStore
from meshnode.core.peers import DialSettings, Peers
from meshnode.core.picture import Picture
from meshnode.core.prekeys import PrekeyRing
from meshnode.core.roster import Roster
from meshnode.core.sync import INTERVAL_S, Sync
from meshnode.errors import LocalFaultError, MeshnodeError, RefusedError, UntrustedInputError

PROBE_NAMESPACE = "probe"
RING_NAMESPACE = "prekey-ring"
ROSTER_NAMESPACE = "roster"
PREKEY_CHECK_S = 600.0
"""How often the node looks whether its prekey is due: small beside the 24 hours of its life."""


@dataclass(frozen=True, slots=True)
class RelaySettings:
    """What this node stores for incidents it cannot read."""

    enabled: bool = True
    incident_bytes_max: int = 256 * 1024 * 1024
    total_bytes_max: int = 4 * 1024 * 1024 * 1024


@dataclass(frozen=True, slots=True)
class NodeSettings:
    addresses: tuple[str, ...] = ()
    """Configured peers, ``host:port``."""
    advertise: tuple[str, ...] = ()
    relay: RelaySettings = field(default_factory=RelaySettings)
    dial: DialSettings = field(default_factory=DialSettings)
    anti_entropy_interval_s: float = INTERVAL_S


class Node:
    def __init__(
        self,
        identity: Identity,
        settings: NodeSettings,
        store: LogStore,
        rng: random.Random,
        random_bytes: RandomBytes,
        now: Now,
        sealer: epochs.Sealer = epochs.HPKE_SEALER,
        read_only: LocalFaultError | None = None,
    ) -> None:
        """Builds the node from what the store holds. The first step makes durable what had to be written.

        ``read_only`` is why nothing can be made durable at present: then nothing is written or taken in, and
        everything held is read and served.
        """
        self.identity = identity
        self.settings = settings
        self.store = store
        self._random_bytes = random_bytes
        self.holdings = Holdings.load(store)
        self.roster = Roster(identity.network_root)
        self._ring = self._load_ring()
        self.incidents = Incidents(identity, store, self.holdings, self.roster, self._ring, rng, random_bytes, sealer)
        self.peers = Peers(identity.device, list(settings.addresses), settings.dial, rng)
        self.gossip = Gossip()
        self.sync = Sync(rng, self._height, settings.anti_entropy_interval_s)
        self.budgets = Budgets()
        self.picture = Picture()
        self.refusals: dict[str, int] = {}
        self.read_only = read_only
        self.degraded: dict[str, tuple[str, str, int]] = {}
        """Code -> (reason, what to do, since when in wall milliseconds)."""
        self._interest: dict[int, set[IncidentId]] = {}
        """Per link, incidents the peer showed that it holds."""
        self._effects: list[Effect] = []
        self._prekey_check_at = now.monotonic_s
        self._journal_told = self.incidents.journal
        self._load_roster()
        self._now = now
        self.incidents.load(merge=read_only is None)
        if read_only is None:
            self._rotate_prekey(now)
        else:
            self.note_degraded(read_only, now)

    # --- the contract ---------------------------------------------------------------------------------------------

    def step(self, events: Sequence[Event], now: Now) -> Step:
        """Handles events in order, then whatever time made due. Never raises for anything a peer or client sent."""
        self._now = now
        for event in events:
            self._handlers[type(event)](self, event)
        self._handle_deadlines()
        self._push_own_runs()
        self._report_troubles()
        if self.incidents.journal > self._journal_told:
            self._journal_told = self.incidents.journal
            self._effects.append(JournalGrew(self._journal_told))
        commit, self.incidents.staged = self.incidents.staged, False
        effects, self._effects = tuple(self._effects), []
        return Step(commit, effects)

    def next_deadline(self) -> float:
        """Monotonic seconds at which ``step`` wants to be called again. Earlier or twice does no harm."""
        machines: list[Any] = [self.peers, self.gossip, self.sync]
        times = []
        if self.read_only is None:
            machines.append(self.incidents)
            times.append(self._prekey_check_at)
        for machine in machines:
            due = machine.next_deadline()
            if due is not None:
                times.append(due)
        return min(times, default=self._now.monotonic_s + PREKEY_CHECK_S)

    def stop(self, now: Now) -> Step:
        """The last step of a clean stop: writes checkpoints so that the next start is quick."""
        self._now = now
        self.incidents.seal_runs()
        self.incidents.checkpoint_all()
        self._effects.clear()
        return Step(self.incidents.staged, ())

    # --- time -----------------------------------------------------------------------------------------------------

    def _handle_deadlines(self) -> None:
        now = self._now.monotonic_s
        if now >= self._prekey_check_at and self.read_only is None:
            self._prekey_check_at = now + PREKEY_CHECK_S
            self._rotate_prekey(self._now)
        for address in self.peers.due_dials(now):
            self._effects.append(Dial(address))
        for link in self.sync.due_summaries(now):
            self._send(link, wire.Summary(self.holdings.digest(), self.roster.digest()))
        for link in self.sync.handle_timeouts(now):
            self._request(link)
        for link, rows in self.gossip.due_announcements(now):
            for start in range(0, len(rows), wire.LIST_MAX):
                self._send(link, wire.Announce(tuple(rows[start : start + wire.LIST_MAX])), droppable=True)
        for link, incident, log in self.gossip.due_grafts(now):
            self._send(link, wire.Graft(incident, log, self._height(incident, log)))
        for incident, why in self.incidents.handle_deadline(self._now) if self.read_only is None else ():
            self._report("epoch-not-renewed", why, incident=incident.hex())

    # --- links ----------------------------------------------------------------------------------------------------

    def _on_link_up(self, event: LinkUp) -> None:
        now = self._now
        unwanted = self.peers.on_link_up(event, now.monotonic_s, now.wall_ms)
        if unwanted is not None:
            self._effects.append(CloseLink(unwanted, "link-superseded"))
            if unwanted == event.link:
                return
            self._forget_link(unwanted)
        self._interest[event.link] = set()
        self.budgets.on_link_up(event.link, now.monotonic_s)
        self.gossip.on_link_up(event.link)
        self.sync.on_link_up(event.link, now.monotonic_s)
        if not event.dialed:
            self.peers.learn(event.address, event.peer.device, now.monotonic_s)
        mine = [(self.identity.device, address) for address in self.settings.advertise]
        self._send(event.link, wire.Addresses(tuple((mine + self.peers.reachable())[: wire.LIST_MAX])))
        self._report("link-up", f"linked with {event.peer.noc}/{event.peer.name}", event.link)

    def _on_link_down(self, event: LinkDown) -> None:
        if event.link in self._interest:
            self._forget_link(event.link)
        peer = self.peers.on_link_down(event.link, self._now.monotonic_s, self._now.wall_ms)
        if peer is not None:
            self._report("link-down", f"lost {peer.identity.noc}/{peer.identity.name}: {event.code}", event.link)
        for link in self._interest:
            self._request(link)

    def _forget_link(self, link: int) -> None:
        del self._interest[link]
        self.budgets.on_link_down(link)
        self.gossip.on_link_down(link)
        self.sync.on_link_down(link)

    def _on_dial_failed(self, event: DialFailed) -> None:
        self.peers.on_dial_failed(event.address, event.code, self._now.monotonic_s)
        self._report("dial-failed", f"{event.address}: {event.code}: {event.reason}", address=event.address)

    def _on_address_found(self, event: AddressFound) -> None:
        self.peers.learn(event.address, None, self._now.monotonic_s)

    def _on_round_trip(self, event: RoundTrip) -> None:
        peer = self.peers.by_link.get(event.link)
        if peer is not None:
            peer.round_trip_s = event.seconds

    # --- messages -------------------------------------------------------------------------------------------------

    def _on_received(self, event: Received) -> None:
        """One frame of a peer. Whatever is wrong with it is reported and costs the peer, never the node."""
        if event.link not in self._interest:
            return  # the link was closed by us; frames may still be on the way
        if not self.budgets.admit(event.link, len(event.data), self._now.monotonic_s):
            self._refuse(event.link, "peer-too-fast", "the peer sends more than its budget", close=True)
            return
        try:
            message = wire.decode_untrusted(event.data)
            self._message_handlers[type(message)](self, event.link, message)
        except UntrustedInputError as error:
            self._refuse(event.link, error.code, error.reason, close=error.code != "message-unknown")
        except LocalFaultError as error:
            self._report(error.code, error.reason, event.link)
            self.note_degraded(error, self._now)

    def _on_summary(self, link: int, message: wire.Summary) -> None:
        if message.roster_digest != self.roster.digest():
            serials = self.roster.serials()
            for start in range(0, max(1, len(serials)), wire.LIST_MAX):
                part = serials[start : start + wire.LIST_MAX]
                self._send(link, wire.Roster(tuple(part), start + wire.LIST_MAX >= len(serials)))
        if message.log_digest == self.holdings.digest():
            self.sync.on_equal(link)
            self.picture.on_equal(self._device(link), self.holdings)
            return
        digests = [(incident, self.holdings.incident_digest(incident)) for incident in self.holdings.incidents()]
        for start in range(0, max(1, len(digests)), wire.LIST_MAX):
            part_of = tuple(digests[start : start + wire.LIST_MAX])
            self._send(link, wire.Incidents(part_of, start + wire.LIST_MAX >= len(digests)))

    def _on_incidents(self, link: int, message: wire.Incidents) -> None:
        for incident, digest in message.digests:
            self._interest[link].add(incident)
            if not self.holdings.holds(incident) or self.holdings.incident_digest(incident) != digest:
                self._send_heights(link, incident, answer=False)
        if message.last:
            told = {incident for incident, _ in message.digests}
            for incident in self.holdings.incidents():
                if incident not in told and incident not in self._interest[link] and self._offers(link, incident):
                    self._send_heights(link, incident, answer=False)

    def _send_heights(self, link: int, incident: IncidentId, answer: bool) -> None:
        heads = [(head.log, head.height) for head in self.holdings.logs(incident)]
        for start in range(0, max(1, len(heads)), wire.LIST_MAX):
            part = tuple(heads[start : start + wire.LIST_MAX])
            self._send(link, wire.Heights(incident, part, start + wire.LIST_MAX >= len(heads), answer))

    def _on_heights(self, link: int, message: wire.Heights) -> None:
        self._interest[link].add(message.incident)
        self.sync.on_heights(link, message.incident, message.heights)
        for log, height in message.heights:
            self.picture.on_told(self._device(link), message.incident, log, height)
        if message.last and not message.answer:
            self._send_heights(link, message.incident, answer=True)
        self._request(link)

    def _on_want(self, link: int, message: wire.Want) -> None:
        self._interest[link].add(message.incident)
        try:
            answer = self.holdings.serve(self.store, message)
        except LocalFaultError as error:
            self.note_degraded(error, self._now)
            answer = wire.Lack(message.incident, message.log, message.first)
        self._effects.append(Send(link, Channel.BULK, wire.encode(answer), droppable=False))

    def _on_lack(self, link: int, message: wire.Lack) -> None:
        self.sync.on_answer(link, message.incident, message.log, message.first, 0, 0)
        self._request(link)

    def _on_run(self, link: int, message: wire.Run) -> None:
        size_bytes = sum(len(row[1]) + len(row[2] or b"") for row in message.rows)
        asked = self.sync.on_answer(link, message.incident, message.log, message.first, len(message.rows), size_bytes)
        if self.read_only is not None or not self._has_room(link, message.incident, size_bytes):
            return
        self._interest[link].add(message.incident)
        taken = self.holdings.take_untrusted(message)
        self.sync.on_told(link, message.incident, message.log, message.last)
        self.picture.on_told(self._device(link), message.incident, message.log, message.last)
        if taken.fit is Fit.KNOWN and not asked and self.gossip.on_duplicate(link, message.log):
            self._send(link, wire.Prune(message.incident, message.log))
        if taken.fit is Fit.GAP and asked:
            self.sync.restart_log(link, message.incident, message.log)
        if taken.fit is Fit.NEW and taken.seal is not None:
            self.incidents.accept(taken.entries, taken.seal, self._now)
            self._spread(message.incident, message.log, message.last, link, None if asked else message)
        self._request(link)

    def _spread(self, incident: IncidentId, log: LogId, height: int, source: int | None, run: wire.Run | None) -> None:
        """Pushes a run that is new here, or announces it where a push is not wanted or it came by anti-entropy."""
        links = [link for link in self._interest if self._offers(link, incident)]
        eager = self.gossip.spread(incident, log, height, source, links, self._now.monotonic_s)
        if run is None:
            rows = wire.Announce(((incident, log, height),))
            for link in eager:
                self._send(link, rows, droppable=True)
            return
        if eager:
            data = wire.encode(run)
            for link in eager:
                self._effects.append(Send(link, Channel.CONTROL, data, droppable=True))

    def _push_own_runs(self) -> None:
        for entries, seal in self.incidents.seal_runs():
            self._spread(seal.incident, seal.log, seal.seq, None, wire.make_run(entries, seal))

    def _on_announce(self, link: int, message: wire.Announce) -> None:
        for incident, log, height in message.heights:
            self._interest[link].add(incident)
            held = self._height(incident, log)
            self.sync.on_told(link, incident, log, height)
            self.picture.on_told(self._device(link), incident, log, height)
            self.gossip.on_announce(link, incident, log, height, held, self._now.monotonic_s)

    def _on_prune(self, link: int, message: wire.Prune) -> None:
        self.gossip.on_prune(link, message.log)

    def _on_graft(self, link: int, message: wire.Graft) -> None:
        self.gossip.on_graft(link, message.log)
        self._interest[link].add(message.incident)
        height = self._height(message.incident, message.log)
        if height > message.height:
            self._on_want(link, wire.Want(message.incident, message.log, message.height + 1, height))

    def _on_addresses(self, link: int, message: wire.Addresses) -> None:
        for device, address in message.addresses:
            self.peers.learn(address, device, self._now.monotonic_s)

    # --- the roster -----------------------------------------------------------------------------------------------

    def _on_roster(self, link: int, message: wire.Roster) -> None:
        newer = self.roster.newer_than_mine(message.serials)
        for start in range(0, len(newer), wire.ROSTER_RECORDS_MAX):
            self._send(link, wire.RosterWant(tuple(newer[start : start + wire.ROSTER_RECORDS_MAX])))

    def _on_roster_want(self, link: int, message: wire.RosterWant) -> None:
        found = [enrolled for enrolled in map(self.roster.get, message.devices) if enrolled is not None]
        if found:
            records = tuple((enrolled.bundle, enrolled.record) for enrolled in found)
            self._effects.append(Send(link, Channel.BULK, wire.encode(wire.RosterRecords(records)), droppable=False))

    def _on_roster_records(self, link: int, message: wire.RosterRecords) -> None:
        for bundle, record in message.records if self.read_only is None else ():
            device = self.roster.accept_untrusted(bundle, record)
            if device is None:
                continue
            self._keep_record(device)
            for other in self._interest:
                if other != link:
                    self._send(other, wire.RosterRecords(((bundle, record),)), droppable=True)
            if device == self.identity.device:
                self._on_own_record_back(device)

    def _on_own_record_back(self, device: DeviceId) -> None:
        """Peers hold a later prekey of this device than it made: it was restored from a backup, or copied."""
        enrolled = self.roster.get(device)
        if enrolled is not None:
            self._ring.on_own_record(enrolled.prekey)
            self._report("restored-or-cloned", "peers know a later prekey of this device than this node made")
            self._rotate_prekey(self._now)

    def _rotate_prekey(self, now: Now) -> None:
        wall_ms = max(0, now.wall_ms)
        changed = bool(self._ring.expire(wall_ms))
        if self._ring.rotate_due(wall_ms):
            serial = self._ring.next_serial(wall_ms)
            secret, record = prekeys.make_prekey(self.identity.device_key, serial, wall_ms, self._random_bytes)
            self._ring.add(secret, wall_ms)
            self.roster.accept_untrusted(self.identity.certificate.bundle, record)
            self._keep_record(self.identity.device)
            changed = True
            for link in self._interest:
                records = ((self.identity.certificate.bundle, record),)
                self._send(link, wire.RosterRecords(records), droppable=True)
        if changed:
            plain = codec.encode(self._ring.to_plain())
            sealed = vault.seal_at_rest(self.identity.store_key, RING_NAMESPACE, b"", plain, self._random_bytes)
            self._put(RING_NAMESPACE, b"", sealed)

    def _load_ring(self) -> PrekeyRing:
        sealed = self.store.get(RING_NAMESPACE, b"")
        if sealed is None:
            return PrekeyRing()
        plain = vault.open_at_rest(self.identity.store_key, RING_NAMESPACE, b"", sealed)
        return PrekeyRing.from_plain(codec.decode_trusted(plain))

    def _load_roster(self) -> None:
        for _, value in self.store.scan(ROSTER_NAMESPACE):
            bundle, record = codec.decode_trusted(value)
            try:
                self.roster.accept_untrusted(bundle, record)
            except UntrustedInputError as error:
                self._report(error.code, f"a stored roster record: {error.reason}")

    def _keep_record(self, device: DeviceId) -> None:
        enrolled = self.roster.get(device)
        if enrolled is not None:
            self._put(ROSTER_NAMESPACE, device, codec.encode([enrolled.bundle, enrolled.record]))

    def _put(self, namespace: str, key: bytes, value: bytes) -> None:
        self.store.stage(CommitBatch(puts=((namespace, key, value),)))
        self.incidents.staged = True

    # --- local requests -------------------------------------------------------------------------------------------

    def _on_open(self, event: OpenIncident) -> None:
        def act() -> Written:
            attached = attachments.attach(event.attachments, self._random_bytes)
            return self.incidents.open(event.kind, event.changes, attached, event.share_with, event.operator, self._now)

        self._answer(event.request, act)

    def _on_change(self, event: ChangeIncident) -> None:
        def act() -> Written:
            attached = attachments.attach(event.attachments, self._random_bytes)
            return self.incidents.change(event.incident, event.changes, attached, event.operator, self._now)

        self._answer(event.request, act)

    def _on_share(self, event: ShareIncident) -> None:
        self._answer(event.request, lambda: self.incidents.share(event.incident, event.nocs, event.operator, self._now))

    def _answer(self, request: int, act: Callable[[], Written]) -> None:
        """The reply waits for the commit like every effect: what it tells is durable then."""
        outcome: Written | MeshnodeError
        try:
            if self.read_only is not None:
                raise self.read_only
            outcome = act()
        except (RefusedError, UntrustedInputError, LocalFaultError) as error:
            outcome = error
            self.refusals[error.code] = self.refusals.get(error.code, 0) + 1
        self._effects.append(Reply(request, outcome))

    # --- who is offered what --------------------------------------------------------------------------------------

    def _offers(self, link: int, incident: IncidentId) -> bool:
        """May this peer be sent entries of this incident: it showed that it holds it, or it is for it anyway."""
        return incident in self._interest[link] or self._is_for(self.peers.by_link[link].identity.device, incident)

    def _is_for(self, device: DeviceId, incident: IncidentId) -> bool:
        """A member, or a relay; of what this node itself only stores, nothing is offered when it is no relay."""
        peer = self.peers.known.get(device)
        replica = self.incidents.replicas.get(incident)
        reads = replica is not None and bool(replica.keys)
        if replica is not None and replica.group.role(device) is not None:
            return True
        return peer is not None and peer.identity.relay and (reads or self.settings.relay.enabled)

    def _has_room(self, link: int, incident: IncidentId, size_bytes: int) -> bool:
        """Quotas for incidents this node cannot read. The neighbour that delivered is told of in the report."""
        replica = self.incidents.replicas.get(incident)
        if replica is not None and replica.keys:
            return True
        used = self.holdings.bytes_added(incident)
        total = sum(
            self.holdings.bytes_added(other) for other, held in self.incidents.replicas.items() if not held.keys
        )
        quota = self.settings.relay
        if used + size_bytes <= quota.incident_bytes_max and total + size_bytes <= quota.total_bytes_max:
            return True
        self._refuse(link, "relay-quota", f"no room for more of incident {incident.hex()[:8]}", close=False)
        return False

    def they_lack(self, device: DeviceId) -> int | None:
        """Entries held here and offered to this peer that it had not when it last told; None before it ever told."""
        if not self.picture.knows(device):
            return None
        return sum(
            self.picture.lacks(device, incident, self.holdings.logs(incident))
            for incident in self.holdings.incidents()
            if self._is_for(device, incident)
        )

    def _device(self, link: int) -> DeviceId:
        return self.peers.by_link[link].identity.device

    def _height(self, incident: IncidentId, log: LogId) -> int:
        return self.holdings.head(incident, log)[0]

    # --- sending and reporting ------------------------------------------------------------------------------------

    def _request(self, link: int) -> None:
        for want in self.sync.plan(link, self._now.monotonic_s):
            self._send(link, want)

    def _send(self, link: int, message: wire.Message, droppable: bool = False) -> None:
        self._effects.append(Send(link, Channel.CONTROL, wire.encode(message), droppable))

    def _refuse(self, link: int, code: str, reason: str, close: bool) -> None:
        peer = self.peers.by_link.get(link)
        if peer is not None:
            peer.last_refusal = code
        self._report(code, reason, link)
        if close:
            self._effects.append(CloseLink(link, code))

    def note_degraded(self, error: MeshnodeError, now: Now) -> None:
        """Shows a fault of this machine in the status until it is over."""
        self.degraded.setdefault(error.code, (error.reason, error.action, now.wall_ms))

    def stage_probe(self) -> None:
        """Something small to commit: does the disk take writes again?"""
        self._put(PROBE_NAMESPACE, b"", b"")

    def _report(self, code: str, reason: str, link: int | None = None, **detail: str) -> None:
        self.refusals[code] = self.refusals.get(code, 0) + 1
        self._effects.append(Report(code, reason, link, detail))

    def _report_troubles(self) -> None:
        for incident, replica in self.incidents.replicas.items():
            for trouble in replica.troubles:
                where = f"incident {incident.hex()[:8]}, log {trouble.log.hex()[:8]}, entry {trouble.seq}"
                self._report(trouble.code, f"{where}: {trouble.reason}", incident=incident.hex())
            replica.troubles.clear()

    def _on_tick(self, event: Tick) -> None:
        """Time alone: the deadlines of this step do the work."""

    _handlers: ClassVar[dict[type, Callable[[Any, Any], None]]] = {
        LinkUp: _on_link_up,
        LinkDown: _on_link_down,
        Received: _on_received,
        DialFailed: _on_dial_failed,
        AddressFound: _on_address_found,
        RoundTrip: _on_round_trip,
        OpenIncident: _on_open,
        ChangeIncident: _on_change,
        ShareIncident: _on_share,
        Tick: _on_tick,
    }
    _message_handlers: ClassVar[dict[type, Callable[[Any, int, Any], None]]] = {
        wire.Summary: _on_summary,
        wire.Incidents: _on_incidents,
        wire.Heights: _on_heights,
        wire.Want: _on_want,
        wire.Lack: _on_lack,
        wire.Run: _on_run,
        wire.Announce: _on_announce,
        wire.Prune: _on_prune,
        wire.Graft: _on_graft,
        wire.Addresses: _on_addresses,
        wire.Roster: _on_roster,
        wire.RosterWant: _on_roster_want,
        wire.RosterRecords: _on_roster_records,
    }
