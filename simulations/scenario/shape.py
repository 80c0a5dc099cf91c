"""Who has a network with whom: the shape of a scenario's topology as pairs of nodes."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import combinations, pairwise
from random import Random

from simulations.scenario.records import Scenario


def reach(scenario: Scenario, rng: Random | None = None) -> tuple[tuple[str, str], ...]:
    """Pairs of nodes, each once, in the order of ``nodes``. Two cliques may have nodes in common.

    ``rng`` decides the shape ``random``; before there is a seed it counts as ``full``.
    """
    return tuple(dict.fromkeys(_reach(scenario, rng)))


def _reach(scenario: Scenario, rng: Random | None) -> Iterator[tuple[str, str]]:
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
        case "random" if rng is not None:
            yield from _random(scenario, names, rng)
        case _:
            yield from combinations(names, 2)


def _random(scenario: Scenario, names: tuple[str, ...], rng: Random) -> list[tuple[str, str]]:
    """Who forwards (relays and hubs, or all where there are none) is joined by a random tree, everybody else hangs on a
    random one of them, and random pairs are added until the average is reached. So whatever is shared can reach
    everybody, and nothing else is arranged."""
    order = {name: number for number, name in enumerate(names)}
    forwards = [node.name for node in scenario.nodes if node.role != "member"] or list(names)
    others = [name for name in names if name not in set(forwards)]
    pairs = {(rng.choice(forwards[:number]), name) for number, name in enumerate(forwards) if number}
    pairs |= {(rng.choice(forwards), name) for name in others}
    found = {(a, b) if order[a] < order[b] else (b, a) for a, b in pairs}
    most = len(order) * (len(order) - 1) // 2
    while len(found) < min(most, len(order) * scenario.topology.degree // 2):
        a, b = sorted(rng.sample(names, 2), key=order.__getitem__)
        found.add((a, b))
    return sorted(found, key=lambda pair: (order[pair[0]], order[pair[1]]))
