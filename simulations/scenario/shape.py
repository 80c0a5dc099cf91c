"""Who has a network with whom: the shape of a scenario's topology as pairs of nodes."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import combinations, pairwise

from simulations.scenario.records import Scenario


def reach(scenario: Scenario) -> tuple[tuple[str, str], ...]:
    """Pairs of nodes, each once, in the order of ``nodes``. Two cliques may have nodes in common."""
    return tuple(dict.fromkeys(_reach(scenario)))


def _reach(scenario: Scenario) -> Iterator[tuple[str, str]]:
    names, topology = tuple(node.name for node in scenario.nodes), scenario.topology
    match topology.shape:
        case "star":
            yield from ((topology.centre, name) for name in names if name != topology.centre)
        case "line":
            yield from pairwise(names)
        case "ring":
            yield from pairwise(names)
            if len(names) > 2:
                yield names[-1], names[0]
        case "cliques":
            for clique in topology.cliques:
                yield from combinations([*scenario.resolve(clique), topology.bridge], 2)
        case _:
            yield from combinations(names, 2)
