"""The node: one object that is told what happened and what time it is, and answers with effects.

It composes the machines of this room: `peers` (whom to dial), `exchange` (how entries travel), `rollcall` (who is
enrolled), `incidents` (what this node reads and writes) and `budget` (what a peer may cost). One task owns it.
``step`` handles a batch of events that came in together: what they write is sealed, made durable and pushed as one.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar

from meshnode.core import attachments, epochs, wire
from meshnode.core.archive import Archive
from meshnode.core.budget import Budgets
from meshnode.core.custody import Custody, RelaySettings
from meshnode.core.events import (
    AddressFound,
    ChangeIncident,
    Dial,
    DialFailed,
    DoorRefused,
    Event,
    JournalGrew,
    LinkDown,
    LinkUp,
    Now,
    OpenIncident,
    Received,
    Reply,
    RoundTrip,
    ShareIncident,
    Step,
    Tick,
    Written,
)
from meshnode.core.exchange import Exchange
from meshnode.core.gossip import Gossip
from meshnode.core.holdings import Holdings
from meshnode.core.identity import Identity
from meshnode.core.ids import IncidentId, LogId
from meshnode.core.incidents import Incidents
from meshnode.core.introductions import ROWS_MAX, Introductions, Row
from meshnode.core.keys import RandomBytes
from meshnode.core.log import LogStore
from meshnode.core.outbox import Outbox
from meshnode.core.peers import ConfiguredPeer, DialSettings, Peers
from meshnode.core.rollcall import Rollcall
from meshnode.core.sync import INTERVAL_S, Sync
from meshnode.errors import LocalFaultError, MeshnodeError, RefusedError, UntrustedInputError

PROBE_NAMESPACE = "probe"
ADDRESSES_TAKEN_MAX = ROWS_MAX
"""Rows of one Addresses message that are looked at: what a node of this version sends at most."""
ALONE_AFTER_S = 10.0
"""No link for so long is shown: longer than a peer needs for a restart, and a redial."""
IDLE_S = 600.0
"""How long a node without any deadline may sleep."""


@dataclass(frozen=True, slots=True)
class NodeSettings:
    peers: tuple[ConfiguredPeer, ...] = ()
    advertise: tuple[str, ...] = ()
    """Where peers are told to reach this node, beside what they see themselves."""
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
        self.read_only = read_only
        self.degraded: dict[str, tuple[str, str, int]] = {}
        """Code -> (reason, what to do, since when in wall milliseconds)."""
        self._random_bytes = random_bytes
        self._now = now
        self.outbox = Outbox()
        self.holdings = Holdings.load(store)
        self.archive = Archive(identity, store, random_bytes)
        self.rollcall = Rollcall(identity, store, self.outbox, random_bytes, self.archive.put, now)
        roster, ring = self.rollcall.roster, self.rollcall.ring
        self.incidents = Incidents(
            identity, store, self.holdings, roster, ring, rng, random_bytes, self.archive, sealer
        )
        self._journal_told = self.archive.journal
        self.incidents.load(merge=read_only is None)
        self.custody = Custody(
            settings.relay, identity.device, store, self.holdings, self.incidents, self.archive.stage, now
        )
        self.peers = Peers(identity.device, settings.peers, settings.dial, rng)
        self._introductions = Introductions()
        self._alone_since: Now | None = now
        self._gossip = Gossip()
        self._sync = Sync(rng, self._height, settings.anti_entropy_interval_s)
        self.exchange = Exchange(
            store,
            self.holdings,
            self.incidents,
            self.peers,
            self._gossip,
            self._sync,
            self.outbox,
            self.custody,
            lambda fault: self.note_degraded(fault, self._now),
        )
        self.exchange.takes_in = read_only is None
        self._machines: list[Any] = [self.peers, self._introductions, self._gossip, self._sync]
        """Those with deadlines that are met."""
        if read_only is None:
            self._machines += [self.incidents, self.custody]
        self.started_ms = now.wall_ms
        self._budgets = Budgets()
        self._damage_seen = 0
        if read_only is None:
            self.rollcall.rotate([], now)
        else:
            self.note_degraded(read_only, now)
        self._show_twins()

    # --- the contract ---------------------------------------------------------------------------------------------

    def step(self, events: Sequence[Event], now: Now) -> Step:
        """Handles events in order, then whatever time made due. Never raises for anything a peer or client sent."""
        self._now = now
        for event in events:
            self._handlers[type(event)](self, event)
        self._look_for_damage()
        self._handle_deadlines()
        self._show_twins()
        self._show_misfits()
        self._show_whether_alone()
        for entries, seal in self.incidents.own_logs.seal_runs():
            self.exchange.push(wire.make_run(entries, seal), None, now)
        self._report_troubles()
        if self.archive.journal > self._journal_told:
            self._journal_told = self.archive.journal
            self.outbox.add(JournalGrew(self._journal_told))
        commit, self.archive.staged = self.archive.staged, False
        return Step(commit, self.outbox.take())

    def next_deadline(self) -> float:
        """Monotonic seconds at which ``step`` wants to be called again. Earlier or twice does no harm."""
        earliest = self._now.monotonic_s + IDLE_S
        if self._alone_since is not None and "alone" not in self.degraded:
            earliest = min(earliest, self._alone_since.monotonic_s + ALONE_AFTER_S)
        if self.read_only is None:
            earliest = min(earliest, self.rollcall.next_deadline())
        for machine in self._machines:
            due = machine.next_deadline()
            if due is not None and due < earliest:
                earliest = due
        return earliest

    def stop(self, now: Now) -> Step:
        """The last step of a clean stop: writes checkpoints so that the next start is quick."""
        self._now = now
        if self.read_only is None:
            self.incidents.own_logs.seal_runs()
            self.incidents.checkpoint_all()
            self.custody.stop(now)
        self.outbox.clear()
        return Step(self.archive.staged, ())

    def _handle_deadlines(self) -> None:
        now = self._now
        for address in self.peers.due_dials(now.monotonic_s):
            self.outbox.add(Dial(address))
        for link, rows in self._introductions.due(self._addresses_to_tell, now.monotonic_s):
            self.outbox.send(link, wire.Addresses(rows))
        for link in self._sync.due_summaries(now.monotonic_s):
            self.outbox.send(link, wire.Summary(self.holdings.digest(), self.rollcall.roster.digest()))
        self.exchange.handle_deadline(now)
        if self.read_only is None:
            self.rollcall.handle_deadline(self.exchange.links, now)
            for incident, why in self.incidents.handle_deadline(now):
                self.outbox.report("epoch-not-renewed", why, incident=incident.hex())

    # --- links ----------------------------------------------------------------------------------------------------

    def _on_link_up(self, event: LinkUp) -> None:
        now = self._now
        if not self.peers.is_as_configured(event):
            self.peers.on_not_as_configured(event, now.monotonic_s, now.wall_ms)
            who = f"{event.peer.noc}/{event.peer.name} answers at {event.address}, which is configured for another"
            self.outbox.report("not-as-configured", who, address=event.address)
            self.outbox.close(event.link, "not-as-configured")
            return
        if self.peers.must_wait(event):
            older = self.peers.wait(event)
            if older is not None:
                self.outbox.close(older, "link-superseded")
            return
        self._take_link(event)

    def _take_link(self, event: LinkUp) -> None:
        now = self._now
        unwanted = self.peers.on_link_up(event, now.monotonic_s, now.wall_ms)
        if unwanted is not None:
            self.outbox.close(unwanted, "link-superseded")
            if unwanted == event.link:
                return
            self._forget_link(unwanted)
        self._budgets.on_link_up(event.link, now.monotonic_s)
        self.exchange.on_link_up(event.link, now)
        if not event.dialed:
            self.peers.learn_source(event.address, event.peer.device, now.monotonic_s)
        self._introductions.on_link_up(event.link, event.peer.device, now.monotonic_s)
        self.outbox.tell("link-up", f"linked with {event.peer.noc}/{event.peer.name}", event.link)

    def _addresses_to_tell(self) -> list[Row]:
        """Those that mean something at another host: a zone (RFC 4007) is a name for one of this host's interfaces."""
        own = [(self.identity.device, address) for address in self.settings.advertise]
        rows = own + self.peers.introductions()
        return [row for row in rows if wire.is_address(row[1]) and "%" not in row[1]]

    def _on_link_down(self, event: LinkDown) -> None:
        if self.exchange.has(event.link):
            self._forget_link(event.link)
        peer = self.peers.on_link_down(event.link, event.code, self._now.monotonic_s, self._now.wall_ms)
        if peer is not None:
            reason = f"lost {peer.identity.noc}/{peer.identity.name}: {event.code}"
            self.outbox.tell("link-down", reason, event.link)

    def _forget_link(self, link: int) -> None:
        self._budgets.on_link_down(link)
        self._introductions.on_link_down(link)
        self.exchange.on_link_down(link, self._now)

    def _on_dial_failed(self, event: DialFailed) -> None:
        self.peers.on_dial_failed(event.address, event.code, self._now.monotonic_s)
        reason = f"{event.address}: {event.code}: {event.reason}"
        self.outbox.report("dial-failed", reason, address=event.address)

    def _on_door_refused(self, event: DoorRefused) -> None:
        self.peers.on_refused(event.address, event.code)

    def _on_address_found(self, event: AddressFound) -> None:
        self.peers.learn(event.address, None, None, self._now.monotonic_s)

    def _on_round_trip(self, event: RoundTrip) -> None:
        peer = self.peers.by_link.get(event.link)
        if peer is not None:
            peer.round_trip_s = event.seconds

    # --- messages -------------------------------------------------------------------------------------------------

    def _on_received(self, event: Received) -> None:
        """One frame of a peer. Whatever is wrong with it is reported and costs the peer its link, never the node."""
        link = event.link
        waited = self.peers.waited(link) if not self.exchange.has(link) else None
        if waited is not None:
            self._take_link(waited)
        if not self.exchange.has(link):
            return  # the link was closed by us; frames may still be on the way
        self.peers.on_heard(link)
        if not self._budgets.admit(link, len(event.data), self._now.monotonic_s):
            action = "the peer's software must keep to what protocol/limits.md says"
            reason = "the peer sends or asks for more than its budget"
            self._refuse(link, UntrustedInputError("too-fast", reason, action))
            return
        mark = self.outbox.mark()
        try:
            message = wire.decode_untrusted(event.data)
            if self.read_only is None or type(message) in self._messages_while_read_only:
                self._message_handlers[type(message)](self, link, message)
        except UntrustedInputError as error:
            self._refuse(link, error)
        except LocalFaultError as error:
            self.note_degraded(error, self._now)
            self.outbox.report(error.code, error.reason, link)
        self._budgets.charge(link, *self.outbox.said_since(mark, link))

    def _refuse(self, link: int, error: UntrustedInputError) -> None:
        """Counts and shows a refusal. The link goes, unless the message is only newer than this node."""
        self.peers.by_link[link].last_refusal = error.code
        self.outbox.report(error.code, error.reason, link)
        if error.code != "message-unknown":
            self.outbox.close(link, error.code)

    def _on_summary(self, link: int, message: wire.Summary) -> None:
        if message.roster_digest != self.rollcall.roster.digest():
            self.rollcall.send_rows(link)
        self.exchange.on_log_digest(link, message.log_digest)

    def _on_addresses(self, link: int, message: wire.Addresses) -> None:
        peer = self.peers.by_link[link]
        teller = peer.identity.device
        for device, address in message.addresses[:ADDRESSES_TAKEN_MAX]:
            self.peers.learn(address, device, teller, self._now.monotonic_s)
            if device == teller:
                self.peers.learn_own(address, peer)
        self._introductions.handle_change(self._now.monotonic_s)

    def _on_records(self, link: int, message: wire.RosterRecords) -> None:
        self.rollcall.on_records(link, message, self.exchange.links, self._now)

    # --- local requests -------------------------------------------------------------------------------------------

    def _on_open(self, event: OpenIncident) -> None:
        def act() -> Written:
            attached = attachments.attach(event.attachments, self._random_bytes)
            return self.incidents.open(event, attached, self._now)

        self._answer(event.request, act)

    def _on_change(self, event: ChangeIncident) -> None:
        def act() -> Written:
            attached = attachments.attach(event.attachments, self._random_bytes)
            return self.incidents.change(event.incident, event.changes, attached, event.operator, self._now)

        self._answer(event.request, act)

    def _on_share(self, event: ShareIncident) -> None:
        self._answer(event.request, lambda: self.incidents.share(event, self._now))

    def _answer(self, request: int, act: Callable[[], Written]) -> None:
        """The reply waits for the commit like every effect: what it tells is durable then."""
        outcome: Written | MeshnodeError
        try:
            if self.read_only is not None:
                raise self.read_only.with_traceback(None)  # one record for many refusals
            outcome = act()
        except (RefusedError, UntrustedInputError, LocalFaultError) as error:
            outcome = error  # counted by whoever tells the client
        self.outbox.add(Reply(request, outcome))

    # --- small things ---------------------------------------------------------------------------------------------

    def note_degraded(self, error: MeshnodeError, now: Now) -> None:
        """Shows a fault of this machine in the status until it is over."""
        self.degraded.setdefault(error.code, (error.reason, error.action, now.wall_ms))

    def _look_for_damage(self) -> None:
        """Somebody read a damaged row: what it held is fetched again from peers."""
        damaged = self.store.damaged()
        if damaged > self._damage_seen:
            self.outbox.report(
                "store-row-damaged", f"{damaged - self._damage_seen} stored rows do not match their hash"
            )
            self._damage_seen = damaged
            self.holdings.refresh(self.store)
            self.archive.staged = self.read_only is None  # the next commit moves the rows out of the way

    def _show_twins(self) -> None:
        """Who two copies of a device may confuse sees it until the device has made a later prekey."""
        twins = self.rollcall.twins
        if not twins:
            self.degraded.pop("device-twin", None)
            return
        device, since_ms = next(iter(twins.items()))
        certificate = self.rollcall.roster.records(device)[0].certificate
        others = f"; so did {len(twins) - 1} other device(s)" if len(twins) > 1 else ""
        reason = f"{certificate.noc}/{certificate.name} ({device.hex()[:8]}) signed two prekeys of one serial{others}"
        action = f"ask {certificate.noc} whether that device was restored, or a copy of it runs: then one must stop"
        self.degraded["device-twin"] = (reason, action, since_ms)

    def _show_misfits(self) -> None:
        """A configured address at which another answers, until whom it is configured for answers there."""
        misfits = self.peers.misfits()
        if not misfits:
            self.degraded.pop("not-as-configured", None)
            return
        first = misfits[0]
        others = f"; so it is at {len(misfits) - 1} other address(es)" if len(misfits) > 1 else ""
        reason = f"{first.address} is configured for {first.expected}, and {first.found} answers there{others}"
        action = "put addresses, noc and device of that [[peer]] right; if they are, somebody has taken the address"
        self.degraded["not-as-configured"] = (reason, action, first.since_wall_ms)

    def _show_whether_alone(self) -> None:
        if not self.settings.peers or not self.peers.is_alone():
            self._alone_since = None
            self.degraded.pop("alone", None)
        elif self._alone_since is None:
            self._alone_since = self._now
        elif self._now.monotonic_s >= self._alone_since.monotonic_s + ALONE_AFTER_S and "alone" not in self.degraded:
            reason = "no peer is linked, and peers are configured"
            action = (
                "see 'meshnode peers': LAST DIAL says why each was not reached; what is written is kept and sent later"
            )
            self.degraded["alone"] = (reason, action, self._alone_since.wall_ms)
            self.outbox.report("alone", reason)

    def stage_probe(self) -> None:
        """Something small to commit: does the disk take writes again?"""
        self.archive.put(PROBE_NAMESPACE, b"", b"")

    def _height(self, incident: IncidentId, log: LogId) -> int:
        return self.holdings.head(incident, log)[0]

    def _report_troubles(self) -> None:
        for incident, replica in self.incidents.replicas.items():
            for trouble in replica.troubles:
                where = f"incident {incident.hex()[:8]}, log {trouble.log.hex()[:8]}, entry {trouble.seq}"
                self.outbox.report(trouble.code, f"{where}: {trouble.reason}", incident=incident.hex())
            replica.troubles.clear()

    def _on_tick(self, event: Tick) -> None:
        """Time alone: the deadlines of this step do the work."""

    _handlers: ClassVar[dict[type, Callable[[Any, Any], None]]] = {
        LinkUp: _on_link_up,
        LinkDown: _on_link_down,
        Received: _on_received,
        DialFailed: _on_dial_failed,
        DoorRefused: _on_door_refused,
        AddressFound: _on_address_found,
        RoundTrip: _on_round_trip,
        OpenIncident: _on_open,
        ChangeIncident: _on_change,
        ShareIncident: _on_share,
        Tick: _on_tick,
    }
    _message_handlers: ClassVar[dict[type, Callable[[Node, int, Any], None]]] = {
        wire.Summary: _on_summary,
        wire.Incidents: lambda self, link, message: self.exchange.on_incidents(link, message, self._now),
        wire.Heights: lambda self, link, message: self.exchange.on_heights(link, message, self._now),
        wire.Want: lambda self, link, message: self.exchange.on_want(link, message, self._now),
        wire.Lack: lambda self, link, message: self.exchange.on_lack(link, message, self._now),
        wire.Run: lambda self, link, message: self.exchange.on_run(link, message, self._now),
        wire.Announce: lambda self, link, message: self.exchange.on_announce(link, message, self._now),
        wire.Prune: lambda self, link, message: self.exchange.on_prune(link, message),
        wire.Graft: lambda self, link, message: self.exchange.on_graft(link, message, self._now),
        wire.PackagesWant: lambda self, link, message: self.exchange.on_packages_want(link, message, self._now),
        wire.Packages: lambda self, link, message: self.exchange.on_packages(link, message, self._now),
        wire.Addresses: _on_addresses,
        wire.Roster: lambda self, link, message: self.rollcall.on_roster(link, message),
        wire.RosterWant: lambda self, link, message: self.rollcall.on_roster_want(link, message),
        wire.RosterRecords: _on_records,
    }
    _messages_while_read_only: ClassVar[frozenset[type]] = frozenset(
        {
            wire.Summary,
            wire.Incidents,
            wire.Heights,
            wire.Want,
            wire.Prune,
            wire.Graft,
            wire.Addresses,
            wire.RosterWant,
            wire.PackagesWant,
        }
    )
    """What a peer needs in order to be served, and what changes nothing that must be kept."""
