"""write and query: what local applications of one NOC get out of its daemon."""

from __future__ import annotations

import time
from collections.abc import Iterator

from meshnode.api.records import CreateChange
from simulations.benchmarks import load, machine, raw_http, yardsticks
from simulations.benchmarks.figures import Aim, Measurement, percentile
from simulations.benchmarks.place import Place, wait_journal
from simulations.mesh import Node

WRITE_AIMS = {1: Aim(400, at_most=False), 32: Aim(1_500, at_most=False)}
OBJECTS_PER_REQUEST = 50
"""Times four fields and the creation: below the 256 changes of one request."""


def write(place: Place) -> Iterator[list[Measurement]]:
    """Acknowledged writes per second, and how far behind the peers are when the clients stop."""
    sizes = place.sizes
    with place.sharing(sizes.write_peers + 1) as (_, nodes, incident):
        load.write(nodes[0].socket, incident, 1, min(1.0, sizes.write_s))
        for clients in sizes.write_clients:
            for _ in range(sizes.runs):
                commits_s = 1 / yardsticks.commit_s(place.directory)
                yield _write_once(nodes, incident, clients, sizes.write_s, commits_s)


def _write_once(nodes: list[Node], incident: str, clients: int, seconds: float, commits_s: float) -> list[Measurement]:
    used = [machine.cpu_s(node.pid) for node in nodes]
    wrote = load.write(nodes[0].socket, incident, clients, seconds)
    end = time.monotonic()
    with nodes[0].client() as client:
        journal = client.node().journal
    behind_s = max(wait_journal(node, journal).at_s for node in nodes[1:]) - end
    cpu = [machine.cpu_s(node.pid) - before for node, before in zip(nodes, used, strict=True)]
    per_write_ms = [1e3 * spent / wrote.acknowledged for spent in cpu]
    name = f"write, {clients} clients, {len(nodes) - 1} peers"
    rate = wrote.acknowledged / wrote.seconds
    return [
        Measurement(f"{name}, rate", rate, "writes/s", WRITE_AIMS.get(clients), commits_s, "bare commits"),
        Measurement(f"{name}, acknowledged, p50", wrote.p50_ms, "ms", None, 1e3 / commits_s, "bare commit"),
        Measurement(f"{name}, acknowledged, p99", wrote.p99_ms, "ms", None, 1e3 / commits_s, "bare commit"),
        Measurement(f"{name}, last peer has all", behind_s, "s after", Aim(1.0)),
        Measurement(f"{name}, CPU of the writer per write", per_write_ms[0], "ms"),
        Measurement(f"{name}, CPU of a peer per write", sum(per_write_ms[1:]) / len(per_write_ms[1:]), "ms"),
        Measurement(f"{name}, CPU of the clients", wrote.cpu_s / wrote.seconds * 100, "% of a core"),
    ]


def query(place: Place) -> Iterator[list[Measurement]]:
    """GET of an incident with many objects, with and without a change before each."""
    sizes = place.sizes
    with place.sharing(1) as (_, nodes, incident):
        _add_objects(nodes[0], incident, sizes.query_objects)
        sock = raw_http.connect(nodes[0].socket)
        request = raw_http.get_request(f"/v1/incidents/{incident}")
        change = raw_http.log_request(incident, raw_http.text())
        size_bytes = raw_http.ask(sock, request)
        for _ in range(sizes.runs):
            bare_ms = yardsticks.socket_answer_s(size_bytes) * 1e3
            measured: dict[str, list[float]] = {"unchanged": [], "changed before each": []}
            for what, seconds in measured.items():
                for _ in range(sizes.query_reads):
                    if what != "unchanged":
                        raw_http.ask(sock, change)
                    begin = time.monotonic()
                    raw_http.ask(sock, request)
                    seconds.append(time.monotonic() - begin)
            yield [
                Measurement(
                    f"query, {sizes.query_objects:,} objects, {what}, p{percent}",
                    percentile(seconds, percent) * 1e3,
                    "ms",
                    None,
                    bare_ms,
                    f"{size_bytes:,} B over a socket",
                )
                for what, seconds in measured.items()
                for percent in (50, 99)
            ]
        sock.close()


def _add_objects(node: Node, incident: str, count: int) -> None:
    with node.client() as client:
        for first in range(0, count, OBJECTS_PER_REQUEST):
            numbers = range(first, min(count, first + OBJECTS_PER_REQUEST))
            client.change(
                incident,
                [
                    CreateChange(
                        "vehicles",
                        fields={
                            "plate": f"1-ABC-{number}",
                            "make": "Volkswagen",
                            "colour": "red",
                            "x-note": raw_http.text(number, 60),
                        },
                    )
                    for number in numbers
                ],
            )
