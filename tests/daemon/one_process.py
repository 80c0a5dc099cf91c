"""Daemons inside one process and virtual time: all of the daemon but HTTP, QUIC and SQLite, which others prove.

The loop, the group commit, the links, the upkeep and the service are the real ones. The disk sleeps by the mock clock,
so that a sync may take five seconds; the store in memory forgets what was not committed when its daemon crashes.
"""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

import trio
from world import START_WALL_MS, make_identity

from meshnode.core.custody import RelaySettings
from meshnode.core.events import Change, ChangeKind, Now, Report, Written
from meshnode.core.hello import LinkAuthenticator
from meshnode.core.ids import IncidentId
from meshnode.core.node import Node, NodeSettings
from meshnode.core.peers import ConfiguredPeer
from meshnode.daemon.links import CountingTransport, Links
from meshnode.daemon.loop import Loop
from meshnode.daemon.service import Service
from meshnode.daemon.upkeep import look_after
from meshnode.errors import LocalFaultError
from meshnode.storage.memory import FailCommit, MemoryLogStore
from meshnode.transport.memory import MemoryNetwork, MemoryTransport

FULL = LocalFaultError("store-full", "no space left on device", "free space")
FAILED = LocalFaultError("store-failed", "the sync failed", "check the disk, restart the node")


class VirtualDisk:
    """Each job takes ``seconds``, and longer while ``hold`` is set. One that is cancelled never reached the disk: that
    is how a daemon crashes here."""

    def __init__(self, seconds: float = 0.001) -> None:
        self.seconds = seconds
        self.jobs = 0
        self._released = trio.Event()
        self._released.set()

    def hold(self) -> None:
        self._released = trio.Event()

    def release(self) -> None:
        self._released.set()

    async def run(self, job: Callable[[], None]) -> None:
        await trio.sleep(self.seconds)
        await self._released.wait()
        self.jobs += 1
        job()


class FaultyCommits:
    """``fail_commit`` of a store: fails with whatever ``fault`` is at the time."""

    def __init__(self) -> None:
        self.fault: LocalFaultError | None = None

    def __call__(self, _number: int) -> LocalFaultError | None:
        return self.fault


class Daemon:
    """One node, named by its NOC; its address on the network is that name with a port, as everywhere."""

    def __init__(
        self,
        network: MemoryNetwork,
        noc: str,
        peers: tuple[str, ...] = (),
        *,
        fail_commit: FailCommit | None = None,
        make_transport: Callable[[Daemon], CountingTransport] | None = None,
    ) -> None:
        self.noc = noc
        self.network = network
        self.identity = make_identity(noc, "1")
        self.disk = VirtualDisk()
        self.store = MemoryLogStore(fail_commit)
        self.skew_ms = 0
        self.reports: list[Report] = []
        self._starts = 0
        self._settings = NodeSettings(
            peers=tuple(ConfiguredPeer((f"{peer}:1",)) for peer in peers), relay=RelaySettings(enabled=True)
        )
        self._make_transport = make_transport or (lambda daemon: daemon.memory_transport())
        self._build()

    @property
    def authenticator(self) -> LinkAuthenticator:
        identity = self.identity
        return LinkAuthenticator(
            identity.device_key, identity.certificate.bundle, identity.network_root, True, lambda: self.wall_ms / 1000
        )

    def memory_transport(self) -> MemoryTransport:
        return MemoryTransport(self.network, f"{self.noc}:1", self.authenticator)

    @property
    def wall_ms(self) -> int:
        return START_WALL_MS + int(trio.current_time() * 1000) + self.skew_ms

    def now(self) -> Now:
        return Now(trio.current_time(), self.wall_ms)

    def _build(self) -> None:
        self._starts += 1
        rng = random.Random(f"{self.noc} {self._starts}")
        self.links = Links(lambda: self._make_transport(self))

        def make_node(read_only: LocalFaultError | None) -> Node:
            return Node(self.identity, self._settings, self.store, rng, rng.randbytes, self.now(), read_only=read_only)

        self.loop = Loop(make_node, self.store, self.disk, self.links, self.now, self.reports.append)
        self.service = Service(self.loop, self.store, self.links, self.now)

    # --- life -----------------------------------------------------------------------------------------------------

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Until :meth:`stop`, in the order of the composition root."""
        loop = self.loop
        async with trio.open_nursery() as nursery:
            await nursery.start(self.links.run, loop.take_in, loop.note_degraded, loop.end_degraded)
            await nursery.start(loop.run)
            nursery.start_soon(
                look_after,
                loop,
                self.store,
                self.links,
                self.identity.certificate,
                lambda: self.wall_ms / 1000,
                self.reports.append,
            )
            task_status.started()
            await loop.stopped.wait()
            nursery.cancel_scope.cancel()

    async def stop(self) -> None:
        self.loop.stop()
        await self.loop.stopped.wait()

    def rebuild(self) -> None:
        """What a crash leaves: the store without what was not committed, and a process that starts."""
        self.store.lose_uncommitted()
        self._build()

    # --- local clients --------------------------------------------------------------------------------------------

    async def open(self, title: str = "Release", share: tuple[str, ...] = ()) -> IncidentId:
        change = Change(ChangeKind.SET, field="title", value=title)
        return (await self.service.open_incident("cbrn-e", "duty", [change], [], share, with_relays=True)).incident

    async def log(self, incident: IncidentId, text: str) -> Written:
        return await self.service.change(incident, "duty", [Change(ChangeKind.LOG, value={"text": text})], [])

    def texts(self, incident: IncidentId) -> list[str]:
        """Texts of the log book, in display order."""
        return [record.record["text"] for record in self.service.log_page(incident, "", 10_000, False).items]

    def digest(self, incident: IncidentId) -> str:
        return self.service.incident_summary(incident).digest

    @property
    def degraded(self) -> list[str]:
        return [shown.code for shown in self.service.node_view().degraded]

    @property
    def refusals(self) -> Counter[str]:
        return Counter(self.service.node_view().refusals)

    @property
    def reported(self) -> list[str]:
        return [report.code for report in self.reports]

    def is_linked(self, *nocs: str) -> bool:
        return {peer.noc for peer in self.service.peers_view() if peer.state == "connected"} >= set(nocs)

    def knows(self, *nocs: str) -> bool:
        return {peer.noc for peer in self.service.peers_view() if peer.prekey_known} >= set(nocs)


def make_network() -> MemoryNetwork:
    return MemoryNetwork(random.Random(1))


async def until(holds: Callable[[], bool], timeout_s: float = 120.0) -> None:
    """Looks every 20 ms of virtual time."""
    with trio.fail_after(timeout_s):
        while not holds():  # noqa: ASYNC110 - what it asks about has no event
            await trio.sleep(0.02)


@asynccontextmanager
async def running(*daemons: Daemon) -> AsyncIterator[None]:
    """Runs them; at the end they crash, unless they were stopped."""
    async with trio.open_nursery() as nursery:
        for daemon in daemons:
            await nursery.start(daemon.run)
        yield
        nursery.cancel_scope.cancel()


async def outcome_of(call: Any, *arguments: Any) -> Any:
    """What an awaited call returns, or the MeshnodeError it raises."""
    from meshnode.errors import MeshnodeError

    try:
        return await call(*arguments)
    except MeshnodeError as error:
        return error
