"""rest: what a node costs while nothing happens."""

from __future__ import annotations

import statistics
import time
from collections.abc import Iterator

from simulations.benchmarks import machine, yardsticks
from simulations.benchmarks.figures import Aim, Measurement
from simulations.benchmarks.place import Place

SETTLE_S = 3.0
"""After the links are up: rosters and prekeys have gone round."""


def rest(place: Place) -> Iterator[list[Measurement]]:
    """Of all nodes of an idle mesh the median, and the dearest."""
    sizes = place.sizes
    for peers in sizes.rest_peers:
        with place.sharing(peers + 1) as (_, nodes, _incident):
            time.sleep(min(SETTLE_S, sizes.rest_s))
            for _ in range(sizes.runs):
                _, bare_mib = yardsticks.import_s_and_mib()
                before = [machine.cpu_s(node.pid) for node in nodes]
                begin = time.monotonic()
                time.sleep(sizes.rest_s)
                elapsed = time.monotonic() - begin
                percents = [
                    100 * (machine.cpu_s(node.pid) - used) / elapsed for node, used in zip(nodes, before, strict=True)
                ]
                memory = [machine.memory_mib(node.pid) for node in nodes]
                name = f"rest, {peers} idle peers"
                yield [
                    Measurement(f"{name}, CPU", statistics.median(percents), "% of a core", Aim(1.0)),
                    Measurement(f"{name}, CPU of the dearest node", max(percents), "% of a core"),
                    Measurement(
                        f"{name}, memory", statistics.median(memory), "MiB", Aim(90), bare_mib, "imports alone"
                    ),
                ]
