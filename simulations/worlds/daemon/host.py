"""One machine: a real daemon with its rooms, on a virtual disk and virtual links, and what may befall it.

All rooms are the product's: effect loop, links, upkeep, service, HTTP server on a Unix socket, started and stopped by
``meshnode.daemon.serving``. In place of QUIC stands the transport inside one process, in place of SQLite the store in
memory, in place of the disk's thread a queue that sleeps by the virtual clock.
"""

from __future__ import annotations

import socket
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, replace
from random import Random

import trio

from meshnode.api.access import Access
from meshnode.api.server import ApiServer
from meshnode.api.settings import ApiLimits, SocketSettings
from meshnode.api.sockets import open_listener
from meshnode.core.custody import RelaySettings
from meshnode.core.events import Now, Report, Tick
from meshnode.core.hello import LinkAuthenticator
from meshnode.core.ids import IncidentId, LogId
from meshnode.core.node import Node, NodeSettings
from meshnode.core.peers import ConfiguredPeer, DialSettings
from meshnode.core.reading import Reading
from meshnode.daemon.links import CountingTransport
from meshnode.daemon.loop import EVENTS_PER_STEP_MAX, GROUPS_MAX, INBOX_MAX, Loop
from meshnode.daemon.service import Service
from meshnode.daemon.serving import STOP_GRACE_S, Rooms, serve
from meshnode.errors import LocalFaultError
from meshnode.transport.memory import MemorySettings
from meshnode.transport.memory_link import Message
from simulations.scenario.plan import Plan
from simulations.scenario.records import NodeSpec
from simulations.worlds.cast import START_WALL_MS, SeededSealer, make_identity
from simulations.worlds.clockwork import Trace
from simulations.worlds.daemon.disk import DiskQueue
from simulations.worlds.daemon.network import PlanNetwork, SlowLinks, Watch, WatchedTransport, address_of
from simulations.worlds.disk import Disk
from simulations.worlds.host import note_report, sizes_of

VALID_YEARS = 15
"""Of certificates: no clock skew of a scenario leaves this."""
DEFECTS = frozenset(("transport-failed", "internal-error"))
"""Reports and counts that only a defect of the program makes."""
SMALL_BUFFER_BYTES = 4_096
"""What the kernel takes for a client that does not read, before the daemon has to wait for it."""
SLOW_START_S = 3.0
SLOW_START_CHANCE = 0.3
"""Of a life: links come up to so long before the node is there to hear of them, as where a large store is loaded."""
NARROW_CHANCE = 0.3
NARROW = {"window_bytes": 4_096, "control_queue_bytes_max": 4_096, "bulk_queue_bytes_max": 8_192}
"""Links of a seed that meets full windows and full queues within a minute: what happens then does not depend on how
much they hold. A daemon's own hold a thousand times as much."""


@dataclass(frozen=True, slots=True)
class Parts:
    """What the daemons are built of. Another class in place of one of these plants a defect."""

    node: type[Node] = Node
    loop: type[Loop] = Loop
    service: type[Service] = Service
    server: type[ApiServer] = ApiServer
    queues_end: bool = True
    """Without it links queue whatever they are given."""


class TrioClock:
    """The time of the run, where the other worlds have a heap."""

    @property
    def now_s(self) -> float:
        return trio.current_time()


class Host:
    def __init__(
        self,
        plan: Plan,
        spec: NodeSpec,
        path: str,
        network: PlanNetwork,
        trace: Trace,
        sight: Callable[[str, str, str], None],
        parts: Parts,
        commit_s: tuple[float, float],
    ) -> None:
        """``path`` is that of its API's socket; ``sight(invariant, node, what)`` is told what must not be."""
        self.name = spec.name
        self.role = spec.role
        relay = spec.role != "member"
        self.identity = make_identity(spec.noc, str(spec.device), relay, valid_years=VALID_YEARS)
        self.settings = NodeSettings(
            peers=tuple(ConfiguredPeer((address_of(peer),)) for peer in plan.dials_of(spec.name)),
            relay=RelaySettings(enabled=relay),
            dial=DialSettings(redial_max_s=plan.redial_max_s),
            anti_entropy_interval_s=plan.anti_entropy_interval_s,
        )
        self.socket = path
        self.socket_of_the_deaf = f"{path}-"
        """The same, with a small buffer to each client."""
        self.deaf = 0
        """Clients who do not read what they asked for: a stop may have to leave them without it."""
        self.clock = TrioClock()
        self.disk = Disk()
        self.for_good = False
        self.paused = False
        self.resumed_s = 0.0
        self.skew_s = self.drift = self.drift_from_s = 0.0
        self.sometimes: Counter[str] = Counter()
        self.peaks: Counter[str] = Counter()
        self.reports: Counter[str] = Counter()
        """What its node and its rooms reported, over all its lives, by code."""
        self.codes: dict[str, str] = {}
        self.unreasoned: list[str] = []
        self.said: set[str] = set()
        self.changed = trio.Event()
        """Set and made anew whenever it starts to serve or ends."""
        self._network = network
        self._trace = trace
        self._sight = sight
        self._parts = parts
        self._commit_s = commit_s
        self._rng = Random(f"{plan.scenario} {plan.seed} host {spec.name}")
        self._link_settings = MemorySettings(
            idle_timeout_seconds=plan.idle_timeout_s, keepalive_seconds=plan.idle_timeout_s / 3
        )
        if Random(f"links {plan.seed}").random() < NARROW_CHANCE:
            self._link_settings = replace(self._link_settings, **NARROW)
        self._paused_now: Now | None = None
        self._scope: trio.CancelScope | None = None
        self._stop = trio.Event()
        self._stop_s = 0.0
        self.stopped: dict[int, float] = {}
        """Lives that ended in order and in time -> when they were told to."""
        self.over = trio.Event()
        self.over.set()
        self.loop: Loop | None = None
        self.service: Service | None = None
        self.server: ApiServer | None = None
        self._transport_now: WatchedTransport | None = None
        self.queue = self._queue()
        self.serving = False
        self.life = 0

    # --- what others look at --------------------------------------------------------------------------------------

    @property
    def node(self) -> Node | None:
        return self.loop.node if self.loop is not None else None

    @property
    def reading(self) -> Reading | None:
        return self.loop.reading if self.loop is not None else None

    @property
    def answers(self) -> bool:
        """A client that asks now would be heard."""
        return self.serving and not self.paused

    def measure(self) -> None:
        """Notes the most that anything ever was."""
        if self.node is not None:
            for name, size in sizes_of(self.node).items():
                self.peaks[name] = max(self.peaks[name], size)
        self._measure_links()

    def _measure_loop(self) -> None:
        """Its queues have limits of their own."""
        if self.loop is not None:
            for what, size, size_max in (
                ("inbox", len(self.loop._inbox), INBOX_MAX + EVENTS_PER_STEP_MAX),
                ("steps waiting for the disk", len(self.loop._groups), GROUPS_MAX),
            ):
                self.peaks[what] = max(self.peaks[what], size)
                if size > size_max:
                    self._sight("I7", self.name, f"{what}: {size}, more than {size_max}")

    def _measure_links(self) -> None:
        transport, settings = self._transport_now, self._link_settings
        if transport is None:
            return
        sizes = (settings.control_queue_bytes_max, settings.bulk_queue_bytes_max)
        for what, size_max, size in zip(("control", "bulk"), sizes, transport.queued_bytes(), strict=True):
            if size > max(size_max, transport.frame_bytes_max):
                self._sight("I7", self.name, f"{size} bytes are queued for one link ({what}), more than {size_max}")

    def left_behind(self) -> list[str]:
        """What it keeps of clients that are gone, at a moment when a display is connected, and at most one reader."""
        if self.loop is None or self.server is None:
            return []
        connections, requests = len(self.server._connections), len(self.loop._requests)
        found = [f"{connections} connections of clients, and at most 2 are there"] if connections > 2 else []
        return found + ([f"{requests} requests that nobody waits for"] if requests else [])

    def now(self) -> Now:
        return self._paused_now or self._clock()

    def _clock(self) -> Now:
        now_s = trio.current_time()
        ahead_s = self.skew_s + (now_s - self.drift_from_s) * self.drift
        return Now(now_s, START_WALL_MS + int((now_s + ahead_s) * 1000))

    def _wall_s(self) -> float:
        return self.now().wall_ms / 1000

    # --- life -----------------------------------------------------------------------------------------------------

    def _queue(self) -> DiskQueue:
        return DiskQueue(Random(self._rng.random()), self._commit_s, self._measure_loop)

    async def run(self) -> None:
        """One life: until it is told to stop, killed, or met a defect."""
        self.over = trio.Event()
        self._stop = trio.Event()
        self.life += 1
        self.queue = self._queue()
        self._note("started", self.disk.applied_last())
        in_time = True
        try:
            with trio.CancelScope() as scope:
                self._scope = scope
                in_time = await serve(self._build(), self._on_serving, self._stop.wait, self._on_stopping)
        except (LocalFaultError, ExceptionGroup) as error:
            self._sight("I8", self.name, f"the daemon ended: {_leaf(error)!r}")
            self.for_good = True
        if not in_time:
            self.sometimes["a stop that was cut short"] += 1
            if not self.disk.full and not self.deaf and 3 * self._commit_s[1] < STOP_GRACE_S:
                what = "a stop was cut short although the disk was quick: somebody was never answered"
                self._sight("I6", self.name, what)
        elif self._stop.is_set() and not scope.cancel_called and not self.for_good:
            self.stopped[self.life] = self._stop_s
            self.sometimes["a stop in order"] += 1
        self._end_links()
        self.disk.abandon()
        self.loop = self.service = self.server = None
        self._network.resume(self.name)
        self.paused, self._paused_now = False, None
        self._note("down")
        self.over.set()
        self._announce(False)

    def _end_links(self) -> None:
        transport, self._transport_now = self._transport_now, None
        if transport is not None:
            self.sometimes["a link ended for a full send queue"] += transport.counters["send-queue-full"]
            self.sometimes["frames left out for a full send queue"] += transport.counters["frame-dropped"]
        self._network.transports.pop(address_of(self.name), None)

    def _build(self) -> Rooms:
        rng = Random(self._rng.random())
        links = SlowLinks(self._transport, rng.random() * SLOW_START_S if rng.random() < SLOW_START_CHANCE else 0.0)
        sealer = SeededSealer()

        def make_node(read_only: LocalFaultError | None) -> Node:
            return self._parts.node(
                self.identity, self.settings, self.disk, rng, rng.randbytes, self.now(), sealer, read_only
            )

        self.loop = self._parts.loop(make_node, self.disk, self.queue, links, self.now, self._report)
        self.service = self._parts.service(self.loop, self.disk, links, self.now)
        self.server = self._parts.server(self.service, ApiLimits(), self._count, uid_of=self._uid_of)
        paths = (self.socket, self.socket_of_the_deaf)
        listeners = [open_listener(SocketSettings(path, 0o600), Access.CHANGE) for path in paths]
        certificate = self.identity.certificate
        return Rooms(self.loop, self.disk, links, self.server, listeners, certificate, self._wall_s, self._report)

    def _uid_of(self, client: socket.socket) -> int:
        if client.getsockname() == self.socket_of_the_deaf:
            client.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, SMALL_BUFFER_BYTES)
        return 0

    def _transport(self) -> CountingTransport:
        authenticator = LinkAuthenticator(
            self.identity.device_key,
            self.identity.certificate.bundle,
            self.identity.network_root,
            self.settings.relay.enabled,
            self._wall_s,
        )
        watch = Watch(self._on_said, self._on_sent, self._on_marked)
        settings = self._link_settings
        if not self._parts.queues_end:
            settings = replace(settings, control_queue_bytes_max=1 << 60, bulk_queue_bytes_max=1 << 60)
        transport = WatchedTransport(self._network, address_of(self.name), authenticator, settings, watch)
        self._transport_now = transport
        return transport

    def _on_serving(self, _nursery: trio.Nursery, _address: str) -> None:
        if self._transport_now is not None and self._transport_now.links_up():
            self.sometimes["links came while it started"] += 1
        self._announce(True)

    def _on_stopping(self) -> None:
        self._announce(False)

    def _announce(self, serving: bool) -> None:
        self.serving = serving
        self.changed.set()
        self.changed = trio.Event()

    # --- what befalls it ------------------------------------------------------------------------------------------

    async def stop(self) -> None:
        """In order, as by SIGTERM."""
        self._stop_s = trio.current_time()
        self._stop.set()
        await self.over.wait()

    async def kill(self) -> None:
        """As by SIGKILL: nothing more is sent or written, whatever was under way."""
        if self._scope is None or self.over.is_set():
            return
        transport = self._network.transports.get(address_of(self.name))
        if transport is not None:
            transport.vanish()
        if self.queue.stage == "written":
            self.sometimes["crash between commit and send"] += 1
        elif self.queue.stage == "writing":
            self.sometimes["crash while writing"] += 1
        self._note("killed", self.queue.stage)
        self.queue.die()
        self._scope.cancel()
        await self.over.wait()

    def pause(self) -> None:
        """As by SIGSTOP, as far as tasks can stand still: its clock stands, nothing goes in or out, the disk waits."""
        self.paused = True
        self._paused_now = self._clock()
        self._network.pause(self.name)
        self.queue.hold()

    def resume(self) -> None:
        self.paused = False
        self.resumed_s = trio.current_time()
        self._paused_now = None
        self._network.resume(self.name)
        self.queue.release()
        if self.loop is not None:
            self.loop.post(Tick())

    # --- what it does ---------------------------------------------------------------------------------------------

    def _report(self, report: Report) -> None:
        self.reports[report.code] += 1
        self._note("reports", report.code, report.reason)
        note_report(report, self.codes, self.unreasoned, self.said)
        if report.code in DEFECTS:
            self._sight("I8", self.name, f"{report.code}: {report.reason}")

    def _count(self, code: str) -> None:
        if code in DEFECTS:
            self._sight("I8", self.name, f"{code}: a client's connection failed")
        if self.loop is not None:
            self.loop.count_refusal(code)

    def _on_said(self, incident: IncidentId, log: LogId, seq: int) -> None:
        if seq <= self.disk.top(incident, log) and not self.disk.has(incident, log, seq):
            what = f"said to a peer that it holds {log.hex()[:8]}.{seq}, which is not durable"
            self._sight("I1", self.name, what)

    def _on_sent(self, address: str, message: Message) -> None:
        self._note("sends", address, message.kind.value, len(message.data))
        self._trace.note_bytes(message.data)

    def _note(self, what: str, *details: object) -> None:
        self._trace.note(trio.current_time(), self.name, what, *details)

    def _on_marked(self, address: str) -> None:
        self._sight("I4", self.name, f"a marked word went to {address} in clear")


def _leaf(error: BaseException) -> BaseException:
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    return error
