"""From an outcome and its result to the records of a report. Pure."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator

from simulations.checks.judge import HOLES
from simulations.report import conflicts, reach, spells, untested, writes
from simulations.report.records import RUN_FORMAT, Answers, Invariant, Known, Look, Made, Node, RunReport, Sent, Unlike
from simulations.runs import Result
from simulations.scenario.places import CITIES, place_of
from simulations.scenario.plan import Plan
from simulations.scenario.records import INVARIANTS, Scenario
from simulations.worlds.contract import Outcome
from simulations.worlds.frames import CLASSES, OTHER
from simulations.worlds.timeline import Timeline

DIGITS = 6
"""Of a second: a microsecond is less than anything here takes."""


def of_run(outcome: Outcome, result: Result, scenario: Scenario | None, made: Made) -> RunReport:
    """``result`` is of the same run; ``scenario`` None where only its plan was kept."""
    plan = outcome.plan
    seen = outcome.timeline or Timeline()
    end_s = round(plan.duration_s + _settling_s(outcome), DIGITS)
    names = tuple(node.name for node in plan.nodes)
    node_spells = tuple(spells.of_nodes(names, seen.nodes, end_s)) if outcome.timeline else ()
    links = tuple(spells.of_links(seen.links, end_s))
    faults = tuple(spells.of_faults(plan))
    reached = None
    if outcome.timeline is not None and len(names) <= reach.NODES_MAX:
        reached = reach.Reach(names, node_spells, links, faults, end_s)
    written = tuple(writes.of_outcome(outcome, reached))
    islands = tuple(reached.islands()) if reached else ()
    first_s = written[0].at_s if written else 0.0
    members = [node.name for node in plan.nodes if node.role == "member"]
    return RunReport(
        format=RUN_FORMAT,
        made=made,
        scenario=plan.scenario,
        title=scenario.title if scenario else plan.scenario,
        story=" ".join(scenario.story.split()) if scenario else "",
        world=outcome.world,
        seed=plan.seed,
        held=result.held,
        trace=outcome.digest,
        events=outcome.events,
        duration_s=plan.duration_s,
        converge_within_s=plan.converge_within_s,
        converged_after_s=outcome.converged_after_s,
        end_s=end_s,
        transport=plan.options.transport,
        signatures=untested.signatures_of(outcome.world, plan),
        commit_s=plan.options.commit_s,
        gather_s=plan.options.gather_s,
        switched_off=plan.options.switched_off,
        drawn=dict(plan.options.drawn),
        nodes=tuple(_nodes(plan)),
        reach=plan.reach,
        links_every_s=seen.links_every_s if outcome.timeline else None,
        spells=node_spells,
        links=links,
        faults=faults,
        islands=islands,
        apart=tuple(reached.apart(first_s)) if reached else (),
        splits=tuple(writes.splits(islands, written, members)),
        answers=_answers(outcome),
        writes=written,
        spread=writes.spreads(written),
        looks=tuple(_looks(seen)),
        conflicts=tuple(conflicts.of_record(outcome.acknowledged)),
        conflicts_left=max((sum(row.conflicts for row in end.incidents.values()) for end in outcome.ends), default=0),
        sent=tuple(_sent(outcome)),
        unlike=tuple(_unlike(outcome)) if outcome.converged_after_s is None else (),
        invariants=tuple(_invariants(plan, result)),
        known=known([result]),
        situations=dict(sorted(outcome.sometimes.items())),
        untested=tuple(untested.of_run(scenario, plan, outcome.world, result.asked, outcome.sometimes)),
    )


def _settling_s(outcome: Outcome) -> float:
    after_s = outcome.converged_after_s
    return outcome.plan.converge_within_s if after_s is None else after_s


def _nodes(plan: Plan) -> Iterator[Node]:
    core = set(plan.core)
    for node in plan.nodes:
        city = place_of(node.noc, node.place) or ""
        latitude, longitude = CITIES.get(city, (0.0, 0.0))
        in_core, lies = node.name in core, node.name in plan.liars
        yield Node(node.name, node.noc, node.role, node.group, city, latitude, longitude, in_core, lies)


def _answers(outcome: Outcome) -> Answers:
    refused: dict[str, int] = {}
    for row in outcome.refused:
        refused[row.code] = refused.get(row.code, 0) + 1
    return Answers(
        len(outcome.acknowledged), dict(sorted(refused.items())), len(outcome.unanswered), len(outcome.excused)
    )


def _looks(seen: Timeline) -> Iterator[Look]:
    for sample in seen.samples:
        shown: dict[str, set[int]] = {}
        for pictures in sample.pictures.values():
            for incident, picture in pictures.items():
                shown.setdefault(incident, set()).add(picture)
        different = max(map(len, shown.values()), default=0)
        most = max(sample.conflicts.values(), default=0)
        yield Look(round(sample.at_s, DIGITS), different, most, sample.bytes_by_class)


def _sent(outcome: Outcome) -> Iterator[Sent]:
    names = [node.name for node in outcome.plan.nodes]
    if not outcome.sent:
        for name in [*names, *sorted(outcome.bytes_sent.keys() - set(names))]:
            yield Sent(name, OTHER, 0, outcome.bytes_sent[name])
        return
    extra = sorted({name for name, _ in outcome.sent} - set(names))
    for name in [*names, *extra]:
        for kind in CLASSES:
            if (name, kind) in outcome.sent:
                yield Sent(name, kind, *outcome.sent[name, kind])


def _unlike(outcome: Outcome) -> Iterator[Unlike]:
    """Of each incident: members that do not read it, and those whose picture is not the most common one."""
    names = {incident: name for name, incident in outcome.incidents.items()}
    core = [end for end in outcome.ends if end.name in outcome.plan.core and end.name not in outcome.plan.liars]
    for incident in sorted({incident for end in core for incident in end.stored}):
        name = names.get(incident, incident[:8])
        shown = {end.name: end.incidents[incident] for end in core if incident in end.incidents}
        members = {member for row in shown.values() for member in row.members}
        common = Counter(row.digest for row in shown.values()).most_common(1)
        for end in core:
            if not end.up:
                yield Unlike(end.name, name, "is down")
            elif end.name in members and end.name not in shown:
                yield Unlike(end.name, name, "is a member and does not read it")
            elif end.name in shown and shown[end.name].digest != common[0][0]:
                yield Unlike(end.name, name, "shows another picture than most")
            elif end.name in shown and shown[end.name].waiting:
                yield Unlike(end.name, name, f"holds {shown[end.name].waiting} entries that it cannot merge yet")


def known(results: Iterable[Result]) -> tuple[Known, ...]:
    """Summed over results."""
    times: dict[str, Counter[str]] = {}
    for result in results:
        for name, count in result.known.items():
            hole, invariant = name.split()
            times.setdefault(hole, Counter())[invariant] += count
    return tuple(
        Known(hole, HOLES.get(hole, hole), dict(sorted(found.items()))) for hole, found in sorted(times.items())
    )


def _invariants(plan: Plan, result: Result) -> Iterator[Invariant]:
    for name in INVARIANTS:
        found = tuple((node, what) for invariant, node, what in result.violations if invariant == name)
        yield Invariant(name, untested.MEANINGS[name], name in plan.invariants, result.asked.get(name, 0), found)
