"""spread: from the acknowledgement of a write at one daemon until the last of the others shows it on its API."""

from __future__ import annotations

from collections.abc import Iterator

from simulations.benchmarks import yardsticks
from simulations.benchmarks.figures import Aim, Measurement, percentile
from simulations.benchmarks.place import Place
from simulations.benchmarks.watch import Spread, measure_spread

WARM_UP = 10
P50_AIMS = {3: Aim(3.0, of_ratio=True), 10: Aim(25.0)}
YARDSTICK = "(commit + round trip)"


def spread(place: Place) -> Iterator[list[Measurement]]:
    """One list per run and number of nodes."""
    sizes = place.sizes
    for count in sizes.spread_nodes:
        with place.sharing(count) as (_, nodes, incident):
            for _ in range(sizes.runs):
                bare_ms = (yardsticks.commit_s(place.directory) + yardsticks.round_trip_s()) * 1e3
                others = [node.socket for node in nodes[1:]]
                measured = measure_spread(nodes[0].socket, others, incident, sizes.spread_writes, WARM_UP)
                yield _measurements(count, measured, bare_ms)


def _measurements(count: int, measured: list[Spread], bare_ms: float) -> list[Measurement]:
    def row(what: str, values: list[float], percent: float, aim: Aim | None = None) -> Measurement:
        name = f"spread {count} nodes, {what}, p{percent:g}"
        return Measurement(name, percentile(values, percent), "ms", aim, bare_ms, YARDSTICK)

    after = [one.spread_ms for one in measured]
    total = [one.total_ms for one in measured]
    return [
        row("from acknowledgement", after, 50, P50_AIMS.get(count)),
        row("from acknowledgement", after, 99),
        row("from request", total, 50),
        row("from request", total, 99),
    ]
