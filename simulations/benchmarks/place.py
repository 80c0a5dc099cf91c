"""Where benchmarks happen: devices enrolled once, and for each run daemons on fresh copies of data directories."""

from __future__ import annotations

import contextlib
import shutil
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

from simulations.mesh import Mesh, MeshError, Node, tail

T = TypeVar("T")

NOCS = ("BE", "NL", "DE", "FR", "AT", "CZ", "DK", "ES", "FI", "IT")
SETTINGS = "[discovery]\nmdns = false"
"""Peers are configured. What else is on this network must not join, nor find a way around the counting relay."""
LINK_TIMEOUT_S = 90.0
POLL_S = 0.02
STANDSTILL_S = 60.0


@dataclass(frozen=True, slots=True)
class Sizes:
    """How much of everything. The aims are stated for FULL; smaller sizes only show that the benchmarks work."""

    runs: int
    spread_nodes: tuple[int, ...]
    spread_writes: int
    catch_up_entries: tuple[int, ...]
    shared_entries: int
    differences: tuple[int, ...]
    write_clients: tuple[int, ...]
    write_s: float
    write_peers: int
    query_objects: int
    query_reads: int
    rest_peers: tuple[int, ...]
    rest_s: float

    @property
    def nodes(self) -> int:
        return max(*self.spread_nodes, self.write_peers + 1, *(peers + 1 for peers in self.rest_peers), 2)


FULL = Sizes(3, (3, 5, 10), 200, (10_000, 100_000), 100_000, (10, 1_000), (1, 32), 8.0, 3, 1_000, 200, (4, 9), 20.0)
QUICK = Sizes(1, (3,), 50, (2_000,), 2_000, (10,), (1, 32), 2.0, 3, 100, 50, (2,), 4.0)
TINY = Sizes(1, (2,), 5, (150,), 150, (3,), (2,), 0.3, 1, 5, 3, (1,), 0.3)


@dataclass
class Place:
    """A directory with enrolled devices. Everything is measured on the disk it is on."""

    directory: Path
    sizes: Sizes
    _enrolled: Mesh | None = field(default=None, repr=False)
    _made: dict[str, Any] = field(default_factory=dict, repr=False)

    def once(self, name: str, make: Callable[[], T]) -> T:
        """What several benchmarks need and takes long to make."""
        if name not in self._made:
            self._made[name] = make()
        made: T = self._made[name]
        return made

    def mesh(self, count: int) -> Mesh:
        """The first ``count`` nodes, none running, with data directories as after enrolment, configured in full."""
        enrolled = self._enrol()
        mesh = Mesh(enrolled.directory, {noc: enrolled[noc] for noc in NOCS[:count]}, idle_timeout="15s")
        for node in mesh.nodes.values():
            self.restore(node, self.fresh(node))
        mesh.configure_all()
        return mesh

    def _enrol(self) -> Mesh:
        if self._enrolled is None:
            mesh = Mesh(self.directory / "mesh")
            mesh.enrol(NOCS[: self.sizes.nodes])
            for node in mesh.nodes.values():
                node.extra = SETTINGS
                self.keep(node, self.fresh(node))
            self._enrolled = mesh
        return self._enrolled

    def fresh(self, node: Node) -> Path:
        return self.directory / "kept" / f"{node.noc}-enrolled"

    def keep(self, node: Node, to: Path) -> Path:
        """A copy of the data directory of a node that does not run."""
        shutil.rmtree(to, ignore_errors=True)
        shutil.copytree(node.data, to)
        return to

    def restore(self, node: Node, kept: Path) -> None:
        if node.process is not None:
            raise MeshError(f"{node.noc} still runs")
        shutil.rmtree(node.data, ignore_errors=True)
        shutil.copytree(kept, node.data)

    @contextlib.contextmanager
    def running(self, count: int) -> Iterator[Mesh]:
        """So many fresh daemons, each linked with every other, stopped at the end."""
        mesh = self.mesh(count)
        try:
            mesh.start_all()
            mesh.wait_linked(timeout_s=LINK_TIMEOUT_S)
            yield mesh
        finally:
            mesh.stop_all()

    @contextlib.contextmanager
    def sharing(self, count: int) -> Iterator[tuple[Mesh, list[Node], str]]:
        """The same with an incident opened at the first and held by all of them."""
        with self.running(count) as mesh:
            nodes = list(mesh.nodes.values())
            with nodes[0].client() as client:
                incident = client.open_incident("other", {"title": "Benchmark"}, share_with=[n.noc for n in nodes[1:]])
            for node in nodes:
                self.wait_merged(node, incident.incident)
            yield mesh, nodes, incident.incident

    def wait_merged(self, node: Node, incident: str) -> None:
        with node.client() as client:
            deadline = time.monotonic() + LINK_TIMEOUT_S
            while not any(i.id == incident and i.title for i in client.incidents()):
                if time.monotonic() > deadline:
                    raise MeshError(f"{node.noc} does not show the incident")
                time.sleep(POLL_S)


@dataclass(frozen=True, slots=True)
class Waited:
    at_s: float
    """Monotonic time at which everything was seen to be there."""
    slowest_answer_s: float
    """Of the questions asked meanwhile: how long the daemon had no time for a local application."""


def wait_journal(node: Node, journal: int, poll_s: float = POLL_S) -> Waited:
    """Waits until so many entries are merged and durable at a node.

    Raises MeshError when nothing was merged for ``STANDSTILL_S``, however long the whole takes.
    """
    with node.client(timeout_s=STANDSTILL_S) as client:
        held, moved_at, slowest_s = -1, time.monotonic(), 0.0
        while True:
            asked_at = time.monotonic()
            before, held, now = held, client.node().journal, time.monotonic()
            slowest_s = max(slowest_s, now - asked_at)
            if held >= journal:
                return Waited(now, slowest_s)
            if held != before:
                moved_at = now
            elif now - moved_at > STANDSTILL_S:
                raise MeshError(f"{node.noc} stands still at {held} of {journal} entries:\n{tail(node.log)}")
            time.sleep(poll_s)
