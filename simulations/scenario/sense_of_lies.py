"""What makes sense of liars and of mixed versions: lies that exist and can be told, in a world that can tell them, and
a mesh of the honest that holds together without the liars: else nothing could be demanded of it."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from simulations.scenario.lies import ANY, LIES
from simulations.scenario.records import Fault, Liar, RandomFaults, Scenario
from simulations.scenario.shape import reach

Refuse = Callable[[str, str, int, str, str, str], None]
"""(code, table, number, key, reason, action): raises."""

WORLDS_OF_LIARS = ("protocol",)
VERSIONS = ("upgrade", "downgrade")


def check(scenario: Scenario, refuse: Refuse) -> None:
    _check_worlds(scenario, refuse)
    for number, liar in enumerate(scenario.liars):
        if any((row.nodes, row.does) == (liar.nodes, liar.does) for row in scenario.liars[:number]):
            reason = f"another [[liar]] has the same nodes and lies: {', '.join(liar.nodes)}"
            refuse("scenario-contradiction", "liar", number, "nodes", reason, "write it once, with a higher per_hour")
        _check_kinds(scenario, number, liar, refuse)
        if liar.at_s.high >= scenario.duration_s:
            reason = f"it begins to lie at {liar.at_s.high:g} s, and the faults end at {scenario.duration_s:g} s"
            refuse("scenario-contradiction", "liar", number, "at_s", reason, "let it begin earlier")
    if scenario.liars:
        _check_honest(scenario, refuse)


def _check_worlds(scenario: Scenario, refuse: Refuse) -> None:
    others = [world for world in scenario.worlds if world not in WORLDS_OF_LIARS]
    action = 'write at the top: worlds = ["protocol"]'
    if others and scenario.liars:
        refuse("scenario-contradiction", "liar", 0, "", f"nobody can lie in the world {others[0]}", action)
    liars = {name for liar in scenario.liars for name in scenario.resolve((*liar.nodes, *liar.with_))}
    rows: dict[str, Sequence[Fault | RandomFaults]] = {"fault": scenario.faults, "random": scenario.random}
    for table, faults in rows.items():
        for number, row in enumerate(faults):
            if row.verb in VERSIONS and others:
                reason = f"there is no later version in the world {others[0]}"
                refuse("scenario-contradiction", table, number, "verb", reason, action)
            both = [name for name in scenario.resolve(row.nodes) if name in liars]
            if row.verb in VERSIONS and both:
                reason = f"{both[0]} may be a liar, and is not of another version too"
                refuse("scenario-contradiction", table, number, "nodes", reason, "name others")


def _check_kinds(scenario: Scenario, number: int, liar: Liar, refuse: Refuse) -> None:
    roles = {node.name: node.role for node in scenario.nodes}
    names = scenario.resolve(liar.nodes)
    for kind in liar.does:
        lie = LIES.get(kind)
        if lie is None:
            if kind != ANY:
                reason = f"there is no lie {kind!r}"
                refuse("scenario-unknown-lie", "liar", number, "does", reason, f"known: {ANY}, {', '.join(LIES)}")
            continue
        relays = [name for name in names if roles[name] != "member"]
        if lie.member and relays:
            reason = f"{kind} needs the keys of a member, and {relays[0]} is a {roles[relays[0]]}"
            action = "let a member tell it, or let the relay tell another: replay, silent, relay-drops, relay-invents"
            refuse("scenario-contradiction", "liar", number, "does", reason, action)
        lonely = [name for name in names if not set(scenario.resolve(liar.with_)) - {name}]
        if lie.accomplice and lonely:
            reason = f"{kind} needs an accomplice of {lonely[0]}"
            refuse("scenario-missing-key", "liar", number, "does", reason, 'add: with = ["DE"]')
        if liar.amount is not None and not lie.counts:
            reason = f"there is no more or less of {kind}"
            refuse("scenario-contradiction", "liar", number, "amount", reason, "leave amount out")
        if lie.counts == "%" and liar.amount is not None and liar.amount.high > 100:
            reason = f"amount is percent of what {kind} would say, at most 100"
            refuse("scenario-out-of-range", "liar", number, "amount", reason, "write 1 to 100")


def _check_honest(scenario: Scenario, refuse: Refuse) -> None:
    """Whoever may lie is left out: the others must be linked with each other."""
    liars = {name for liar in scenario.liars for name in scenario.resolve((*liar.nodes, *liar.with_))}
    honest = [node.name for node in scenario.nodes if node.name not in liars]
    if not honest:
        action = "leave at least one node honest"
        refuse("scenario-contradiction", "liar", 0, "nodes", "everybody may lie: nothing is left to check", action)
    reached, waiting = {honest[0]}, [honest[0]]
    pairs = reach(scenario)
    while waiting:
        name = waiting.pop()
        for a, b in pairs:
            other = b if a == name else a if b == name else ""
            if other and other not in liars and other not in reached:
                reached.add(other)
                waiting.append(other)
    apart = [name for name in honest if name not in reached]
    if apart:
        reason = f"{apart[0]} and {honest[0]} are linked only by way of nodes that may lie"
        action = "link the honest with each other, or let another node lie"
        refuse("scenario-contradiction", "liar", 0, "nodes", reason, action)
