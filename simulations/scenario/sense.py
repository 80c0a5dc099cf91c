"""What a scenario must satisfy beyond its grammar: names that exist, times that agree, verbs with what they need."""

from __future__ import annotations

import difflib
from collections import Counter
from collections.abc import Callable, Iterable, Sequence

from meshnode.core.names import is_noc_code
from simulations.checks import codes
from simulations.scenario import places, records, sense_of_lies, sense_of_work, situations
from simulations.scenario.lines import Lines
from simulations.scenario.records import Fault, RandomFaults, Scenario
from simulations.scenario.sense_of_work import before_the_end
from simulations.scenario.verbs import VERBS, Verb


class ScenarioError(Exception):
    """A scenario that is refused. ``line`` is 0 where the whole file is meant."""

    def __init__(self, code: str, where: str, line: int, reason: str, action: str) -> None:
        place = f"{where}, line {line}" if line else where
        super().__init__(f"{code}: {place}: {reason}; {action}")
        self.code, self.line, self.reason, self.action = code, line, reason, action


Refuse = Callable[[str, str, int, str, str, str], None]
"""(code, table, number, key, reason, action): raises."""

_OWN_WORDS = ("all", "members", "relays", "hubs")


def check(scenario: Scenario, where: str, lines: Lines) -> None:
    """Raises ScenarioError for the first thing that makes no sense."""

    def refuse(code: str, table: str, number: int, key: str, reason: str, action: str) -> None:
        raise ScenarioError(code, where, lines.of(table, number, key), reason, action)

    _check_nodes(scenario, refuse)
    _check_names(scenario, refuse)
    _check_topology(scenario, refuse)
    sense_of_work.check(scenario, refuse)
    for number, fault in enumerate(scenario.faults):
        _check_fault(scenario, number, fault, refuse)
    _check_order(scenario, refuse)
    sense_of_lies.check(scenario, refuse)
    for number, faults in enumerate(scenario.random):
        _check_random(number, faults, refuse)
    _check_words(scenario, refuse)


def _check_nodes(scenario: Scenario, refuse: Refuse) -> None:
    for number, group in enumerate(scenario.groups):
        if bool(group.nocs) == bool(group.count):
            reason = f"group {group.name} has {'both nocs and' if group.nocs else 'neither nocs nor'} count"
            refuse("scenario-bad-value", "group", number, "count", reason, "give one of the two")
        if group.name in _OWN_WORDS:
            reason = f"{group.name!r} stands for nodes by itself"
            refuse("scenario-bad-value", "group", number, "name", reason, "give the group another name")
        for noc in records.noc_codes(group):
            if not is_noc_code(noc):
                reason = f"{noc!r} is no NOC code"
                refuse("scenario-bad-value", "group", number, "nocs", reason, 'write 2 to 8 capitals, like "BE"')
        if group.place and group.place not in places.CITIES:
            reason = f"{group.place!r} is not on the map"
            refuse("scenario-bad-value", "group", number, "place", reason, f"known: {', '.join(places.CITIES)}")
    nodes = scenario.nodes
    if len(nodes) > records.NODES_MAX:
        refuse("scenario-out-of-range", "group", 0, "", f"{len(nodes)} nodes", f"at most {records.NODES_MAX}")
    names = Counter([node.name for node in nodes] + [group.name for group in scenario.groups])
    for name, times in names.items():
        if times > 1:
            action = "give groups names that no node has, and name each NOC once (nodes_per_noc makes more devices)"
            refuse("scenario-bad-value", "group", 0, "", f"the name {name!r} is given {times} times", action)


def _check_names(scenario: Scenario, refuse: Refuse) -> None:
    known = {*_OWN_WORDS, *(group.name for group in scenario.groups), *(node.name for node in scenario.nodes)}

    def known_or_refuse(table: str, number: int, key: str, names: Sequence[str]) -> None:
        for name in names:
            if name not in known:
                near = did_you_mean(name, known)
                shown = ", ".join(sorted(known)[:30])
                reason = f"{key} names {name!r}, which is no node and no group"
                refuse("scenario-unknown-node", table, number, key, reason, f"{near}known: {shown}")
        if names and not scenario.resolve(tuple(names)):
            reason = f"{key} stands for nobody: {', '.join(names)}"
            refuse("scenario-contradiction", table, number, key, reason, "name nodes that there are")

    for number, link in enumerate(scenario.exceptions):
        known_or_refuse("link", number, "between", link.between)
        known_or_refuse("link", number, "and", link.and_)
    for number, incident in enumerate(scenario.incidents):
        known_or_refuse("incident", number, "by", [incident.by])
        known_or_refuse("incident", number, "members", incident.members)
    for number, share in enumerate(scenario.shares):
        known_or_refuse("share", number, "by", [share.by])
        known_or_refuse("share", number, "with", share.members)
    for number, fault in enumerate(scenario.faults):
        known_or_refuse("fault", number, "nodes", fault.nodes)
        known_or_refuse("fault", number, "from", fault.from_)
        known_or_refuse("fault", number, "to", fault.to)
        for side in fault.sides:
            known_or_refuse("fault", number, "sides", side)
    for number, faults in enumerate(scenario.random):
        known_or_refuse("random", number, "nodes", faults.nodes)
    for number, liar in enumerate(scenario.liars):
        known_or_refuse("liar", number, "nodes", liar.nodes)
        known_or_refuse("liar", number, "with", liar.with_)
    known_or_refuse("workload", 0, "writers", scenario.workload.writers)
    known_or_refuse("checks", 0, "core", scenario.checks.core)
    topology = scenario.topology
    known_or_refuse("topology", 0, "centre", [topology.centre] if topology.centre else [])
    known_or_refuse("topology", 0, "bridge", [topology.bridge] if topology.bridge else [])
    for clique in topology.cliques:
        known_or_refuse("topology", 0, "cliques", clique)


def did_you_mean(word: str, known: Iterable[str]) -> str:
    near = difflib.get_close_matches(word, list(known), n=1, cutoff=0.6)
    return f"did you mean {near[0]!r}? " if near else ""


def _check_topology(scenario: Scenario, refuse: Refuse) -> None:
    topology = scenario.topology
    for key, shape in (("centre", "star"), ("cliques", "cliques"), ("bridge", "cliques"), ("degree", "random")):
        if topology.shape != shape and getattr(topology, key) != getattr(records.Topology(), key):
            reason, action = (
                f"{key} is of shape {shape}, and this is {topology.shape}",
                f'leave {key} out, or write shape = "{shape}"',
            )
            refuse("scenario-contradiction", "topology", 0, key, reason, action)
    if topology.shape == "star" and len(scenario.resolve((topology.centre,))) != 1:
        reason, action = "a star has one node in its middle", 'add centre = "HUB", the name of a node'
        refuse("scenario-missing-key", "topology", 0, "centre", reason, action)
    if topology.shape == "cliques" and (len(topology.cliques) != 2 or len(scenario.resolve((topology.bridge,))) != 1):
        action = 'add cliques = [["BE", "NL"], ["FR"]] and bridge = "LU"'
        refuse("scenario-missing-key", "topology", 0, "cliques", "two cliques and a bridge are needed", action)
    if topology.shape == "cliques":
        inside = scenario.resolve((topology.bridge, *(name for clique in topology.cliques for name in clique)))
        for node in scenario.nodes:
            if node.name not in inside:
                reason = f"{node.name} is in no clique and is not the bridge, so it is linked with nobody else"
                refuse("scenario-contradiction", "topology", 0, "cliques", reason, "name it in one of the cliques")
    for number, link in enumerate(scenario.exceptions):
        if len({*scenario.resolve(link.between), *scenario.resolve(link.and_)}) < 2:
            reason = f"both ends are {link.between[0]}, and a node has no link to itself"
            refuse("scenario-contradiction", "link", number, "and", reason, "name another node")
    if topology.shape == "europe":
        for node in scenario.nodes:
            if places.place_of(node.noc, node.place) is None:
                number = [group.name for group in scenario.groups].index(node.group)
                reason = f"nobody knows where {node.noc} is"
                action = 'let its code begin with a country\'s two letters, or give the group place = "Strasbourg"'
                refuse("scenario-missing-key", "group", number, "nocs", reason, action)


def _check_fault(scenario: Scenario, number: int, fault: Fault, refuse: Refuse) -> None:
    verb = VERBS.get(fault.verb)
    if verb is None:
        _refuse_verb(refuse, "fault", number, fault.verb)
        return
    before_the_end(scenario, refuse, "fault", number, fault.at_s)
    for key in fault.given:
        if key not in ("at_s", "verb", *verb.keys):
            action = f"{fault.verb} takes: {', '.join(verb.keys) or 'nothing but at_s'}"
            refuse("scenario-contradiction", "fault", number, key, f"{fault.verb} has no {key}", action)
    for key in verb.needs:
        if key not in fault.given and key not in ("from", "to"):
            reason = f"{fault.verb} does not say {key}"
            refuse("scenario-missing-key", "fault", number, "verb", reason, f"add {key}; {verb.meaning}")
    for key in ("percent", "delay_ms"):
        if key in fault.given and not getattr(fault, key):
            reason = f"{key} = 0: such a {fault.verb} changes nothing"
            refuse("scenario-out-of-range", "fault", number, key, reason, "write more than 0")
    if fault.verb == "skew-clock" and not {"skew_s", "drift_percent"} & {*fault.given}:
        action = "add skew_s, drift_percent or both"
        refuse(
            "scenario-missing-key", "fault", number, "verb", "skew-clock does not say how the clock goes wrong", action
        )
    if "backup_at_s" in verb.needs and not 0 < fault.backup_at_s < fault.at_s:
        reason = f"the backup is of {fault.backup_at_s:g} s, and put back at {fault.at_s:g} s"
        refuse("scenario-contradiction", "fault", number, "backup_at_s", reason, "take it before it is put back")
    _check_ends(scenario, number, fault, verb, refuse)
    if fault.verb == "partition":
        _check_sides(scenario, number, fault, refuse)
    if fault.verb == "lose-hub" and not any(node.role == "hub" for node in scenario.nodes):
        action = 'give a [[group]] role = "hub", or crash a node'
        refuse("scenario-contradiction", "fault", number, "verb", "there is no hub to lose", action)


def _check_ends(scenario: Scenario, number: int, fault: Fault, verb: Verb, refuse: Refuse) -> None:
    if "from" not in verb.keys:
        return
    if len({*scenario.resolve(fault.from_), *scenario.resolve(fault.to)}) < 2:
        reason = f"from and to are both {fault.from_[0]}, and a node has no link to itself"
        refuse("scenario-contradiction", "fault", number, "to", reason, "name another node")
    if fault.verb == "release":
        holds = ("hold", "clog", "swizzle-clog")
        timed = any(row.verb in holds and row.at_s <= fault.at_s for row in scenario.faults)
        if not timed and not any(row.verb in holds for row in scenario.random):
            reason = f"nothing was held before {fault.at_s:g} s"
            refuse("scenario-contradiction", "fault", number, "verb", reason, f"put one before it: {', '.join(holds)}")


def _check_random(number: int, faults: RandomFaults, refuse: Refuse) -> None:
    verb = VERBS.get(faults.verb)
    if verb is None:
        _refuse_verb(refuse, "random", number, faults.verb)
        return
    if not verb.random:
        reason = f"{faults.verb} is no fault that chance can draw"
        refuse("scenario-bad-value", "random", number, "verb", reason, "give it a time in a [[fault]]")
    for key in faults.given:
        if key not in ("verb", "per_hour", "nodes", *verb.keys):
            takes = [key for key in ("for_s", "percent", "delay_ms", "skew_s") if key in verb.keys]
            action = f"{faults.verb} takes here: {', '.join(['per_hour', 'nodes', *takes])}"
            refuse("scenario-contradiction", "random", number, key, f"{faults.verb} has no {key}", action)


def _check_words(scenario: Scenario, refuse: Refuse) -> None:
    """Codes that are documented and situations that a world counts: of others nothing would ever be found."""
    known = codes.explained()
    for code in scenario.checks.never:
        if known and not codes.is_explained(code) and code not in situations.KNOWN:
            reason = f"{code!r} is no code that a node can give, and no situation that a world counts"
            action = f"{did_you_mean(code, known | situations.KNOWN)}codes are in docs/reason-codes.md"
            refuse("scenario-bad-value", "checks", 0, "never", reason, action)
    for situation in scenario.checks.sometimes:
        if situation not in situations.KNOWN:
            reason = f"no world counts {situation!r}"
            action = f"{did_you_mean(situation, situations.KNOWN)}the names are in docs/simulating.md"
            refuse("scenario-bad-value", "checks", 0, "sometimes", reason, action)


def _check_sides(scenario: Scenario, number: int, fault: Fault, refuse: Refuse) -> None:
    times = Counter(name for side in fault.sides for name in scenario.resolve(side))
    twice = [name for name, count in times.items() if count > 1]
    if twice:
        reason = f"{twice[0]} is on two sides of the partition"
        refuse("scenario-contradiction", "fault", number, "sides", reason, "name each node on one side")
    if len(fault.sides) < 2 and len(times) == len(scenario.nodes):
        reason = "one side with everybody parts nobody"
        refuse("scenario-contradiction", "fault", number, "sides", reason, "name at least two sides")


def _check_order(scenario: Scenario, refuse: Refuse) -> None:
    """A node that a fault of this file has taken down is not crashed again before it is back."""
    down_until: dict[str, float] = {}
    for number, fault in sorted(enumerate(scenario.faults), key=lambda row: (row[1].at_s, row[0])):
        hubs = fault.verb == "lose-hub"
        names = scenario.resolve(fault.nodes or (("hubs",) if hubs else ()))
        if fault.verb == "restart":
            down_until.update(dict.fromkeys(names, 0.0))
        if fault.verb in ("crash", "pause", "wipe", "clone", "disk-full", "restore-old-backup") or hubs:
            for name in names:
                if fault.at_s < down_until.get(name, 0.0):
                    reason = f"at {fault.at_s:g} s {name} is already down"
                    action = "let it come back first (for_s of the fault before, or a restart)"
                    refuse("scenario-contradiction", "fault", number, "at_s", reason, action)
                if fault.verb == "crash" or hubs:
                    down_until[name] = float("inf") if fault.for_s is None else fault.at_s + fault.for_s


def _refuse_verb(refuse: Refuse, table: str, number: int, verb: str) -> None:
    action = f"{did_you_mean(verb, VERBS)}known: {', '.join(VERBS)}"
    refuse("scenario-unknown-verb", table, number, "verb", f"there is no fault {verb!r}", action)
