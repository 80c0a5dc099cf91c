"""What a scenario must satisfy beyond its grammar: names that exist, times that agree, verbs with what they need."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable

from meshnode.core.names import is_noc_code
from simulations.scenario import places, records, sense_of_lies
from simulations.scenario.lines import Lines
from simulations.scenario.records import Fault, Scenario
from simulations.scenario.verbs import VERBS


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
    _check_work(scenario, refuse)
    for number, fault in enumerate(scenario.faults):
        _check_fault(scenario, number, fault, refuse)
    _check_order(scenario, refuse)
    sense_of_lies.check(scenario, refuse)
    for number, faults in enumerate(scenario.random):
        verb = VERBS.get(faults.verb)
        if verb is None:
            _refuse_verb(refuse, "random", number, faults.verb)
        elif not verb.random:
            reason = f"{faults.verb} is no fault that chance can draw"
            refuse("scenario-bad-value", "random", number, "verb", reason, "give it a time in a [[fault]]")


def _check_nodes(scenario: Scenario, refuse: Refuse) -> None:
    for number, group in enumerate(scenario.groups):
        if bool(group.nocs) == bool(group.count):
            reason = f"group {group.name} has {'both' if group.nocs else 'neither'} nocs and count"
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

    def known_or_refuse(table: str, number: int, key: str, names: Iterable[str]) -> None:
        for name in names:
            if name not in known:
                shown = ", ".join(sorted(known)[:30])
                reason = f"{key} names {name!r}, which is no node and no group"
                refuse("scenario-unknown-node", table, number, key, reason, f"known: {shown}")

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
        known_or_refuse("fault", number, "sides", [name for side in fault.sides for name in side])
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
    known_or_refuse("topology", 0, "cliques", [name for clique in topology.cliques for name in clique])


def _check_topology(scenario: Scenario, refuse: Refuse) -> None:
    topology = scenario.topology
    if topology.shape == "star" and len(scenario.resolve((topology.centre,))) != 1:
        reason, action = "a star has one node in its middle", 'add centre = "HUB", the name of a node'
        refuse("scenario-missing-key", "topology", 0, "centre", reason, action)
    if topology.shape == "cliques" and (len(topology.cliques) != 2 or len(scenario.resolve((topology.bridge,))) != 1):
        action = 'add cliques = [["BE", "NL"], ["FR"]] and bridge = "LU"'
        refuse("scenario-missing-key", "topology", 0, "cliques", "two cliques and a bridge are needed", action)
    if topology.shape == "europe":
        for node in scenario.nodes:
            if places.place_of(node.noc, node.place) is None:
                number = [group.name for group in scenario.groups].index(node.group)
                reason = f"nobody knows where {node.noc} is"
                action = 'let its code begin with a country\'s two letters, or give the group place = "Strasbourg"'
                refuse("scenario-missing-key", "group", number, "nocs", reason, action)


def _check_work(scenario: Scenario, refuse: Refuse) -> None:
    members = {node.name for node in scenario.nodes if node.role == "member"}
    named = {incident.name: incident for incident in scenario.incidents}
    for number, incident in enumerate(scenario.incidents):
        if incident.by not in members:
            reason = f"{incident.by} opens an incident and is no member node"
            refuse("scenario-bad-value", "incident", number, "by", reason, "let a node of role member open it")
        _before_the_end(scenario, refuse, "incident", number, incident.at_s)
    if len(named) < len(scenario.incidents):
        refuse("scenario-bad-value", "incident", 0, "name", "two incidents have one name", "name each once")
    for number, share in enumerate(scenario.shares):
        if share.incident not in named:
            reason = f"there is no incident {share.incident!r}"
            refuse("scenario-bad-value", "share", number, "incident", reason, f"known: {', '.join(named)}")
        if share.at_s <= named[share.incident].at_s:
            reason = f"it is shared at {share.at_s:g} s and opened at {named[share.incident].at_s:g} s"
            refuse("scenario-contradiction", "share", number, "at_s", reason, "share it after it is opened")
        _before_the_end(scenario, refuse, "share", number, share.at_s)
    work = scenario.workload
    if work.stop_s and work.stop_s <= work.start_s:
        reason = f"work stops at {work.stop_s:g} s and starts at {work.start_s:g} s"
        refuse("scenario-contradiction", "workload", 0, "stop_s", reason, "stop after the start")
    _before_the_end(scenario, refuse, "workload", 0, work.start_s, "start_s")


def _before_the_end(
    scenario: Scenario, refuse: Refuse, table: str, number: int, at_s: float, key: str = "at_s"
) -> None:
    if at_s >= scenario.duration_s:
        reason = f"{at_s:g} s is not before the end at duration_s = {scenario.duration_s:g}"
        refuse("scenario-contradiction", table, number, key, reason, "put it earlier, or make duration_s longer")


def _check_fault(scenario: Scenario, number: int, fault: Fault, refuse: Refuse) -> None:
    verb = VERBS.get(fault.verb)
    if verb is None:
        _refuse_verb(refuse, "fault", number, fault.verb)
        return
    _before_the_end(scenario, refuse, "fault", number, fault.at_s)
    plain = Fault(at_s=0, verb="")
    fields = {"from": "from_"}
    for key in ("nodes", "sides", "from", "to", "for_s", "percent", "delay_ms", "skew_s", "drift_percent", "count"):
        field = fields.get(key, key)
        given = getattr(fault, field) != getattr(plain, field)
        if given and key not in verb.keys:
            action = f"{fault.verb} takes: {', '.join(verb.keys) or 'nothing but at_s'}"
            refuse("scenario-contradiction", "fault", number, key, f"{fault.verb} has no {key}", action)
        if not given and key in verb.needs and key not in ("from", "to"):
            reason = f"{fault.verb} does not say {key}"
            refuse("scenario-missing-key", "fault", number, "verb", reason, f"add {key}; {verb.meaning}")
    if "backup_at_s" in verb.needs and not 0 < fault.backup_at_s < fault.at_s:
        reason = f"the backup is of {fault.backup_at_s:g} s, and put back at {fault.at_s:g} s"
        refuse("scenario-contradiction", "fault", number, "backup_at_s", reason, "take it before it is put back")
    if fault.verb == "partition":
        _check_sides(scenario, number, fault, refuse)
    if fault.verb == "lose-hub" and not any(node.role == "hub" for node in scenario.nodes):
        action = 'give a [[group]] role = "hub", or crash a node'
        refuse("scenario-contradiction", "fault", number, "verb", "there is no hub to lose", action)


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
        if fault.verb in ("crash", "pause", "wipe", "clone", "disk-full") or hubs:
            for name in names:
                if fault.at_s < down_until.get(name, 0.0):
                    reason = f"at {fault.at_s:g} s {name} is already down"
                    action = "let it come back first (for_s of the fault before, or a restart)"
                    refuse("scenario-contradiction", "fault", number, "at_s", reason, action)
                if fault.verb == "crash" or hubs:
                    down_until[name] = float("inf") if fault.for_s is None else fault.at_s + fault.for_s


def _refuse_verb(refuse: Refuse, table: str, number: int, verb: str) -> None:
    refuse("scenario-unknown-verb", table, number, "verb", f"there is no fault {verb!r}", f"known: {', '.join(VERBS)}")
