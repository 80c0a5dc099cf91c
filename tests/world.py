"""A small virtual world for tests of the node: real nodes and crypto, links and time on a heap, forgetful disks.

The shell it plays obeys the contract of ``core.events``: effects of a step are performed after its commit, in order.
Nothing here decides anything; the simulator proper lives under ``simulations/``.
"""

from __future__ import annotations

import heapq
import itertools
import random
from collections.abc import Callable
from dataclasses import dataclass, field

from meshnode.core.custody import RelaySettings
from meshnode.core.events import (
    Attachment,
    Change,
    ChangeIncident,
    ChangeKind,
    Channel,
    CloseLink,
    Dial,
    DialFailed,
    Event,
    JournalGrew,
    LinkDown,
    LinkUp,
    Now,
    OpenIncident,
    PeerIdentity,
    Received,
    Reply,
    Report,
    Send,
    ShareIncident,
    Tick,
    Written,
)
from meshnode.core.identity import Identity
from meshnode.core.ids import IncidentId
from meshnode.core.node import Node, NodeSettings
from meshnode.core.peers import ConfiguredPeer
from meshnode.core.reading import Reading
from meshnode.errors import LocalFaultError, MeshnodeError
from meshnode.storage.memory import MemoryLogStore
from meshnode.storage.ticket import CommittingLogStore
from simulations.worlds.cast import START_WALL_MS, commit_all, make_identity, peer_identity
from simulations.worlds.cast import YEAR_S as YEAR_S

LATENCY_S = 0.01


@dataclass
class Host:
    """One node with its disk; ``node`` is replaced when it restarts."""

    name: str
    identity: Identity
    settings: NodeSettings
    store: CommittingLogStore
    node: Node
    reading: Reading
    links: dict[int, Link] = field(default_factory=dict)
    replies: dict[int, Written | MeshnodeError] = field(default_factory=dict)
    reports: list[Report] = field(default_factory=list)
    journal: int = 0
    up: bool = True
    wall_skew_ms: int = 0
    dies_before_commit: bool = False
    """The next step that wants a commit is its last: nothing of it becomes durable, nothing of it is said."""

    @property
    def codes(self) -> set[str]:
        """Every code reported so far."""
        return {report.code for report in self.reports}


@dataclass
class Link:
    """One direction's view of a link."""

    peer: Host
    far: int
    open: bool = True


@dataclass
class Weather:
    """What links do to frames. QUIC does none of this to a stream; the node must not depend on that."""

    loss: float = 0.0
    duplication: float = 0.0
    reordering_s: float = 0.0
    """Each frame takes up to so much longer, by its own luck."""


class World:
    def __init__(self, seed: int = 0) -> None:
        self.rng = random.Random(seed)
        self.now = 0.0
        self.hosts: dict[str, Host] = {}
        self._heap: list[tuple[float, int, Callable[[], None]]] = []
        self._order = itertools.count()
        self._numbers = itertools.count(1)
        self.cut: set[frozenset[str]] = set()
        self._apart: set[frozenset[str]] = set()
        self.filter: Callable[[Host, Host, bytes], list[bytes]] = lambda _a, _b, data: [data]
        """Sees every frame: drop, change or multiply it."""
        self.weather = Weather()
        self.bytes_sent = 0

    # --- hosts ----------------------------------------------------------------------------------------------------

    def add(
        self,
        noc: str,
        name: str = "1",
        relay: bool | RelaySettings = True,
        peers: tuple[str, ...] = (),
        store: CommittingLogStore | None = None,
        make: Callable[..., Node] = Node,
    ) -> Host:
        """``peers`` are addresses: a host is reached at its name with ``:1``. ``make`` builds the node: a subclass that
        misbehaves, in place of an honest one."""
        if isinstance(relay, bool):
            relay = RelaySettings(enabled=relay)
        identity = make_identity(noc, name, relay.enabled)
        configured = tuple(ConfiguredPeer((address,)) for address in peers)
        settings = NodeSettings(peers=configured, relay=relay)
        store = store or MemoryLogStore()
        host_name = noc if name == "1" else f"{noc}-{name}"
        node = self._make_node(identity, settings, store, make)
        host = Host(host_name, identity, settings, store, node, Reading(node))
        self.hosts[host_name] = host
        self.step(host, [Tick()])
        return host

    def _make_node(
        self,
        identity: Identity,
        settings: NodeSettings,
        store: CommittingLogStore,
        make: Callable[..., Node] = Node,
        read_only: LocalFaultError | None = None,
        skew_ms: int = 0,
    ) -> Node:
        rng = random.Random(self.rng.random())
        while True:
            try:
                return make(identity, settings, store, rng, rng.randbytes, self.time_of(skew_ms), read_only=read_only)
            except LocalFaultError as fault:  # a damaged row is told once, then left out
                if fault.code != "store-row-damaged":
                    raise

    def time_of(self, skew_ms: int) -> Now:
        return Now(self.now, START_WALL_MS + int(self.now * 1000) + skew_ms)

    def crash(self, host: Host) -> None:
        """Loses what was not committed, and every link."""
        host.up = False
        host.store.abandon()
        for number in list(host.links):
            self.drop_link(host, number)

    def stop(self, host: Host) -> None:
        """A clean stop, with checkpoints."""
        if host.node.stop(self.time_of(host.wall_skew_ms)).commit:
            commit_all(host.store)
        self.crash(host)

    def restart(self, host: Host, read_only: LocalFaultError | None = None) -> None:
        host.node = self._make_node(
            host.identity, host.settings, host.store, read_only=read_only, skew_ms=host.wall_skew_ms
        )
        host.reading = Reading(host.node)
        host.up = True
        self.step(host, [Tick()])

    # --- the shell ------------------------------------------------------------------------------------------------

    def step(self, host: Host, events: list[Event]) -> None:
        if not host.up:
            return
        step = host.node.step(events, self.time_of(host.wall_skew_ms))
        if step.commit:
            if host.dies_before_commit:
                host.dies_before_commit = False
                self.crash(host)
                return
            commit_all(host.store)
        for effect in step.effects:
            match effect:
                case Send(link, channel, data, _):
                    self._carry(host, link, channel, data)
                case CloseLink(link, _):
                    self.drop_link(host, link)
                case Dial(address):
                    self.after(LATENCY_S, lambda address=address: self._dial(host, address))
                case Reply(request, outcome):
                    host.replies[request] = outcome
                case JournalGrew(number):
                    host.journal = number
                case Report():
                    host.reports.append(effect)
        self.at(host.node.next_deadline(), lambda: self._wake(host, host.node))

    def _wake(self, host: Host, node: Node) -> None:
        if host.node is node and host.up and node.next_deadline() <= self.now:
            self.step(host, [Tick()])

    def _carry(self, host: Host, number: int, channel: Channel, data: bytes) -> None:
        link = host.links.get(number)
        if link is None or frozenset((host.name, link.peer.name)) in self.cut:
            return
        self.bytes_sent += len(data)
        for frame in self.filter(host, link.peer, data):
            for _ in range(1 + (self.rng.random() < self.weather.duplication)):
                if self.rng.random() >= self.weather.loss:
                    delay_s = LATENCY_S + self.rng.random() * self.weather.reordering_s
                    self.after(delay_s, lambda frame=frame: self._arrive(link, channel, frame))

    def say(self, sender: Host, receiver: Host, data: bytes, channel: Channel = Channel.CONTROL) -> None:
        """A frame that the sender's node never thought of, on the link between the two. AssertionError without one."""
        links = [number for number, link in sender.links.items() if link.peer is receiver]
        assert links, f"{sender.name} has no link to {receiver.name}"
        self._carry(sender, links[0], channel, data)

    def _arrive(self, link: Link, channel: Channel, data: bytes) -> None:
        if link.far in link.peer.links:
            self.step(link.peer, [Received(link.far, channel, data)])

    def _dial(self, host: Host, address: str) -> None:
        name = address.removesuffix(":1")
        peer = self.hosts.get(name)
        if peer is None or not peer.up or frozenset((host.name, name)) in self.cut:
            self.step(host, [DialFailed(address, "connect-timeout", "no answer")])
        else:
            self.connect(host, peer)

    def connect(self, a: Host, b: Host) -> None:
        here, there = next(self._numbers), next(self._numbers)
        a.links[here], b.links[there] = Link(b, there), Link(a, here)
        self.step(a, [LinkUp(here, _identity_of(b), f"{b.name}:1", dialed=True)])
        if there in b.links:
            self.step(b, [LinkUp(there, _identity_of(a), f"{a.name}:1", dialed=False)])

    def drop_link(self, host: Host, number: int) -> None:
        link = host.links.pop(number, None)
        if link is None:
            return
        link.peer.links.pop(link.far, None)
        self.after(0.0, lambda: self.step(host, [LinkDown(number, "closed")]))
        self.after(0.0, lambda: self.step(link.peer, [LinkDown(link.far, "closed")]))

    def partition(self, *names: str) -> None:
        """Cuts these hosts off from all others; links die as by an idle time-out."""
        for name in names:
            for other in self.hosts:
                if other not in names:
                    self.cut.add(frozenset((name, other)))
            for number, link in list(self.hosts[name].links.items()):
                if link.peer.name not in names:
                    self.drop_link(self.hosts[name], number)

    def keep_apart(self, *names: str) -> None:
        """None of these ever reaches another of them, whatever heals: each is behind a firewall of its own."""
        self._apart |= {frozenset(pair) for pair in itertools.combinations(names, 2)}
        self.cut |= self._apart

    def heal(self) -> None:
        self.cut = set(self._apart)
        self.weather = Weather()

    # --- time -----------------------------------------------------------------------------------------------------

    def at(self, when: float, action: Callable[[], None]) -> None:
        heapq.heappush(self._heap, (max(when, self.now), next(self._order), action))

    def after(self, delay_s: float, action: Callable[[], None]) -> None:
        self.at(self.now + delay_s, action)

    def run(self, seconds: float) -> None:
        end = self.now + seconds
        while self._heap and self._heap[0][0] <= end:
            self.now, _, action = heapq.heappop(self._heap)
            action()
        self.now = end

    # --- local clients --------------------------------------------------------------------------------------------

    def ask(self, host: Host, event: Event) -> Written:
        """The outcome of a local request. Raises what it was refused with."""
        self.step(host, [event])
        outcome = host.replies.pop(event.request)
        if isinstance(outcome, MeshnodeError):
            raise outcome
        return outcome

    def open(
        self, host: Host, share: tuple[str, ...] = (), title: str = "Release", attached: tuple[Attachment, ...] = ()
    ) -> IncidentId:
        changes = (Change(ChangeKind.SET, field="title", value=title),)
        request = next(self._numbers)
        event = OpenIncident(request, "duty officer", "cbrn-e", changes, attached, share_with=share, with_relays=True)
        return self.ask(host, event).incident

    def set(self, host: Host, incident: IncidentId, name: str, value: object) -> Written:
        return self.change(host, incident, Change(ChangeKind.SET, field=name, value=value))

    def log(self, host: Host, incident: IncidentId, text: str) -> Written:
        return self.change(host, incident, Change(ChangeKind.LOG, value={"text": text}))

    def change(self, host: Host, incident: IncidentId, *changes: Change) -> Written:
        return self.ask(host, ChangeIncident(next(self._numbers), incident, f"officer at {host.name}", changes))

    def share(self, host: Host, incident: IncidentId, *nocs: str) -> Written:
        return self.ask(host, ShareIncident(next(self._numbers), incident, "manager", nocs, with_relays=True))


def _identity_of(host: Host) -> PeerIdentity:
    return peer_identity(host.identity, host.settings.relay.enabled)


def full_mesh(world: World, *nocs: str) -> list[Host]:
    """Hosts that all know each other's addresses; links are up after a second."""
    hosts = [world.add(noc, peers=tuple(f"{other}:1" for other in nocs if other != noc)) for noc in nocs]
    world.run(3.0)
    return hosts
