"""What makes sense of incidents, shares and a workload: somebody opens them, somebody is in them, somebody writes."""

from __future__ import annotations

from collections.abc import Callable

from simulations.scenario.records import Scenario, Share

Refuse = Callable[[str, str, int, str, str, str], None]
"""(code, table, number, key, reason, action): raises."""


def check(scenario: Scenario, refuse: Refuse) -> None:
    if not scenario.incidents and not scenario.workload.incidents_per_hour.high:
        action = 'add a table [[incident]] with name = "attack" and by = "BE"'
        refuse("scenario-missing-key", "", 0, "", "there is no incident, so nobody can write anything", action)
    _check_incidents(scenario, refuse)
    _check_shares(scenario, refuse)
    _check_writers(scenario, refuse)
    work, duration_s = scenario.workload, scenario.duration_s
    if work.stop_s and work.stop_s <= work.start_s:
        reason = f"work stops at {work.stop_s:g} s and starts at {work.start_s:g} s"
        refuse("scenario-contradiction", "workload", 0, "stop_s", reason, "stop after the start")
    if work.stop_s > duration_s:
        reason = f"work stops at {work.stop_s:g} s, after the end at duration_s = {duration_s:g}"
        refuse("scenario-contradiction", "workload", 0, "stop_s", reason, "leave stop_s out: then it stops at the end")
    before_the_end(scenario, refuse, "workload", 0, work.start_s, "start_s")


def before_the_end(scenario: Scenario, refuse: Refuse, table: str, number: int, at_s: float, key: str = "at_s") -> None:
    if at_s >= scenario.duration_s:
        reason = f"{at_s:g} s is not before the end at duration_s = {scenario.duration_s:g}"
        refuse("scenario-contradiction", table, number, key, reason, "put it earlier, or make duration_s longer")


def _member_nocs(scenario: Scenario, names: tuple[str, ...]) -> set[str]:
    wanted = set(scenario.resolve(names))
    return {node.noc for node in scenario.nodes if node.name in wanted and node.role == "member"}


def _check_incidents(scenario: Scenario, refuse: Refuse) -> None:
    members = {node.name for node in scenario.nodes if node.role == "member"}
    names: set[str] = set()
    for number, incident in enumerate(scenario.incidents):
        if incident.by not in members:
            reason = f"{incident.by} opens an incident and is no member node"
            refuse("scenario-bad-value", "incident", number, "by", reason, "let a node of role member open it")
        if not _member_nocs(scenario, incident.members):
            reason = f"incident {incident.name!r} is shared with no node of role member"
            refuse(
                "scenario-bad-value", "incident", number, "members", reason, "name a member: hubs and relays see none"
            )
        if incident.name in names:
            reason = f"two incidents have the name {incident.name!r}"
            refuse("scenario-bad-value", "incident", number, "name", reason, "name each once")
        names.add(incident.name)
        before_the_end(scenario, refuse, "incident", number, incident.at_s)


def _check_shares(scenario: Scenario, refuse: Refuse) -> None:
    named = {incident.name: incident for incident in scenario.incidents}
    nocs = {node.name: node.noc for node in scenario.nodes}
    for number, share in enumerate(scenario.shares):
        if share.incident not in named:
            reason = f"there is no incident {share.incident!r}"
            refuse("scenario-bad-value", "share", number, "incident", reason, f"known: {', '.join(named)}")
        if share.at_s <= named[share.incident].at_s:
            reason = f"it is shared at {share.at_s:g} s and opened at {named[share.incident].at_s:g} s"
            refuse("scenario-contradiction", "share", number, "at_s", reason, "share it after it is opened")
        before_the_end(scenario, refuse, "share", number, share.at_s)
        if not _member_nocs(scenario, share.members):
            reason = f"incident {share.incident!r} is shared with no node of role member"
            refuse("scenario-bad-value", "share", number, "with", reason, "name a member: hubs and relays see none")
        if nocs.get(share.by) not in _in_by_then(scenario, share) and not scenario.workload.shares_per_hour.high:
            reason = f"{share.by} is no member of {share.incident!r} at {share.at_s:g} s"
            refuse("scenario-contradiction", "share", number, "by", reason, "let a member share it, or add it before")


def _in_by_then(scenario: Scenario, share: Share) -> set[str]:
    """NOCs that the file makes members before this share."""
    first = next(incident for incident in scenario.incidents if incident.name == share.incident)
    before = [row for row in scenario.shares if row.incident == share.incident and row.at_s < share.at_s]
    names = (first.by, *first.members, *(name for row in before for name in row.members))
    return _member_nocs(scenario, names)


def _check_writers(scenario: Scenario, refuse: Refuse) -> None:
    work = scenario.workload
    writers = _member_nocs(scenario, work.writers)
    if not writers:
        reason = "none of the writers is a node of role member"
        refuse("scenario-bad-value", "workload", 0, "writers", reason, "name a member: hubs and relays cannot write")
    if work.incidents_per_hour.high or work.shares_per_hour.high:
        return  # who is a member is then drawn by each seed
    inside = {name for incident in scenario.incidents for name in (incident.by, *incident.members)}
    inside |= {name for share in scenario.shares for name in share.members}
    if not writers & _member_nocs(scenario, tuple(inside)):
        reason = "none of the writers is a member of an incident, so nothing is written"
        refuse("scenario-contradiction", "workload", 0, "writers", reason, "name a member of an incident")
