"""The verdict: every check, asked of one outcome.

A check is a function from an outcome to violations; it counts what it looked at, so that a report can say how often
each invariant was asked, and a check that looked at nothing does not pass for one that held.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from typing import NamedTuple

from simulations.checks.model import Model, build
from simulations.scenario.plan import ShareWith
from simulations.worlds.contract import IncidentEnd, NodeEnd, Outcome, Touch

SHOWN_MAX = 20
"""Violations of one kind that are kept: the first tell the story."""
ALLOWED_REFUSALS = frozenset(
    (
        "no-answer",  # the node was down or stood still
        "store-full",  # and it read on
        "store-row-damaged",  # until a peer has sent it again
        "noc-unknown",  # an NOC that was never heard of cannot be shared with
        "no-prekey",
        "stopping",  # asked in the moment of a stop in order
        # More clients wait for a slow disk than the node keeps waiting; they are told so at once.
        "busy",
        "too-many-clients",
        "too-many-clients-of-user",
    )
)
ALLOWED_OF_SHARES = frozenset(("already-members", "not-entitled"))
"""Two managers add one NOC, or one who is none tries: the plan cannot know."""


class Violation(NamedTuple):
    invariant: str
    node: str
    what: str


@dataclass(slots=True)
class Verdict:
    violations: list[Violation] = field(default_factory=list)
    asked: Counter[str] = field(default_factory=Counter)
    """Invariant -> how many things were looked at."""

    @property
    def held(self) -> bool:
        return not self.violations


Check = Callable[[Outcome, Counter[str]], Iterable[Violation]]


def judge(outcome: Outcome) -> Verdict:
    """Asks every check of the invariants that the plan wants."""
    wanted = set(outcome.plan.invariants)
    verdict = Verdict()
    for check in CHECKS:
        for number, violation in enumerate(check(outcome, verdict.asked)):
            if violation.invariant in wanted and number < SHOWN_MAX:
                verdict.violations.append(violation)
    return verdict


def sightings(outcome: Outcome, asked: Counter[str]) -> Iterator[Violation]:
    """What the world saw at the moment it happened."""
    asked["I8"] += outcome.events
    asked["I4"] += len(outcome.ends)
    asked["I12"] += len(outcome.ends)
    for sighting in outcome.sightings:
        yield Violation(sighting.invariant, sighting.node, f"at {sighting.at_s:.3f} s: {sighting.what}")


def converged(outcome: Outcome, asked: Counter[str]) -> Iterator[Violation]:
    asked["I9"] += 1
    if outcome.converged_after_s is None:
        yield Violation("I9", "", f"not one {outcome.plan.converge_within_s:g} s after the last fault")


def nothing_lost(outcome: Outcome, asked: Counter[str]) -> Iterator[Violation]:
    """Every acknowledged write is in the store of the node that acknowledged it, and merged by all who converged."""
    by_name = {end.name: end for end in outcome.ends}
    for row in outcome.acknowledged:
        if row.number in outcome.excused:
            continue
        asked["I1"] += 1
        log, seq = row.dot.split(".")[0], int(row.dot.split(".")[1])
        holders = [end for end in outcome.ends if end.stored.get(row.touch.incident, {}).get(log, 0) >= seq]
        own = by_name[row.node]
        if not holders:
            yield Violation("I1", row.node, f"write {row.number}, acknowledged at {row.at_s:.3f} s, is in no store")
        elif own not in holders and outcome.converged_after_s is not None:
            what = f"write {row.number}, acknowledged at {row.at_s:.3f} s, is not in the store of its own node"
            yield Violation("I1", row.node, what)
        if outcome.converged_after_s is not None:
            for end in readers(outcome, row.touch.incident):
                if end.incidents[row.touch.incident].heads.get(log, 0) < seq:
                    yield Violation("I1", end.name, f"write {row.number} of {row.node} is not merged here")


def same_state(outcome: Outcome, asked: Counter[str]) -> Iterator[Violation]:
    """Members that merged the same entries show the same; converged ones hold the same digest."""
    first: dict[tuple[str, tuple[tuple[str, int], ...]], tuple[str, IncidentEnd]] = {}
    for end in outcome.ends:
        for incident, shown in end.incidents.items():
            asked["I2"] += 1
            name, other = first.setdefault((incident, tuple(sorted(shown.heads.items()))), (end.name, shown))
            if shown.digest != other.digest:
                yield Violation("I2", end.name, f"another digest of {incident[:8]} than {name}, from the same entries")
            elif (shown.registers, shown.deleted, shown.records) != (other.registers, other.deleted, other.records):
                yield Violation("I2", end.name, f"shows {incident[:8]} unlike {name}, with the same digest")


def as_the_model(outcome: Outcome, asked: Counter[str]) -> Iterator[Violation]:
    """What members show is what clients wrote: values live until somebody who was shown them replaced them, concurrent
    ones all stay, and nothing else is there."""
    if outcome.converged_after_s is None:
        return
    unsure = {touch for _, _, touch in outcome.unanswered}
    unsure |= {row.touch for row in outcome.acknowledged if row.number in outcome.excused}
    sure = [row for row in outcome.acknowledged if row.number not in outcome.excused]
    for incident in sorted({row.touch.incident for row in sure}):
        model = build(incident, sure)
        for end in readers(outcome, incident):
            yield from _compare(end, end.incidents[incident], model, unsure, asked)


def _compare(
    end: NodeEnd, shown: IncidentEnd, model: Model, unsure: set[Touch], asked: Counter[str]
) -> Iterator[Violation]:
    for touch in sorted({*shown.registers, *model.values} - unsure):
        asked["I2"] += 1
        here, there = shown.registers.get(touch, {}), model.values.get(touch, {})
        place = f"{touch.collection} {touch.object[:8]} {touch.field}"
        for dot in sorted(there.keys() - here.keys()):
            yield Violation("I1", end.name, f"{place}: the value {there[dot][:40]!r} is gone, and nobody replaced it")
        for dot in sorted(here.keys() - there.keys()):
            yield Violation("I2", end.name, f"{place}: {here[dot][:40]!r} stands although somebody who saw it ended it")
        if any(here[dot] != there[dot] for dot in here.keys() & there.keys()):
            yield Violation("I2", end.name, f"{place}: a value is not what was written")
    if not any(not touch.field and not touch.collection for touch in unsure):
        for dot in sorted(model.records.keys() ^ shown.records.keys()):
            yield Violation("I1", end.name, f"the log book differs from what was written, at {dot[:8]}")
    objects = {(touch.collection, touch.object) for touch in unsure}
    for thing in sorted(model.deleted):
        if (thing.collection, thing.object) not in objects and shown.deleted.get(thing) != model.deleted[thing]:
            asked["I2"] += 1
            yield Violation("I2", end.name, f"person {thing.object[:8]}: deleted is {shown.deleted.get(thing)}")


def journal(outcome: Outcome, asked: Counter[str]) -> Iterator[Violation]:
    for end in outcome.ends:
        asked["I3"] += 1
        if end.journal_gaps:
            yield Violation("I3", end.name, f"{end.journal_gaps} journal rows are missing, doubled or name nothing")


def one_voice(outcome: Outcome, asked: Counter[str]) -> Iterator[Violation]:
    """No two stores hold different entries at one position (all logs here are of honest nodes)."""
    found: dict[tuple[str, str, int], tuple[str, str]] = {}
    for end in outcome.ends:
        for (incident, log), (height, entry_hash) in end.heads.items():
            asked["I14"] += 1
            name, other = found.setdefault((incident, log, height), (end.name, entry_hash))
            if other != entry_hash:
                what = f"another entry at {log[:8]}.{height} than {name}"
                yield Violation("I14", end.name, what)


def keys_of_members(outcome: Outcome, asked: Counter[str]) -> Iterator[Violation]:
    """Whoever holds a key of an incident belongs to an NOC that somebody shared it with."""
    noc_of = {spec.name: spec.noc for spec in outcome.plan.nodes}
    allowed: dict[str, set[str]] = {}
    for row in outcome.sealed:
        allowed.setdefault(row.incident, set()).update(row.nocs)
    for end in outcome.ends:
        noc = noc_of[end.name.partition("~")[0]]
        for incident in end.keys:
            asked["I4"] += 1
            if noc not in allowed.get(incident, allowed.get("", set())):
                yield Violation("I4", end.name, f"holds a key of {incident[:8]}, which nobody shared with {noc}")


def entitled(outcome: Outcome, asked: Counter[str]) -> Iterator[Violation]:
    """Honest nodes write nothing that others hold void."""
    for end in outcome.ends:
        for incident, shown in end.incidents.items():
            asked["I5"] += sum(shown.heads.values())
            for entry in shown.void:
                yield Violation("I5", end.name, f"an honest entry of {incident[:8]} is void: {entry[:100]}")


def answers(outcome: Outcome, asked: Counter[str]) -> Iterator[Violation]:
    """A node that runs answers its clients, whatever is cut off."""
    asked["I6"] += len(outcome.acknowledged) + len(outcome.refused)
    shares = {action.number for action in outcome.plan.actions if isinstance(action, ShareWith)}
    for row in outcome.refused:
        if row.code not in ALLOWED_REFUSALS and not (row.number in shares and row.code in ALLOWED_OF_SHARES):
            yield Violation("I6", row.node, f"request {row.number} at {row.at_s:.3f} s was refused: {row.code}")


def verified_reads(outcome: Outcome, asked: Counter[str]) -> Iterator[Violation]:
    """No row that rotted reached its node; what was lost with it and others hold was fetched again."""
    stored = {(incident, log): 0 for end in outcome.ends for incident, logs in end.stored.items() for log in logs}
    for end in readable_stores(outcome):
        for incident, logs in end.stored.items():
            for log, height in logs.items():
                stored[incident, log] = max(stored[incident, log], height)
    for end in outcome.ends:
        asked["I11"] += end.rotted
        if end.unnoticed:
            yield Violation("I11", end.name, f"{end.unnoticed} times a damaged row was read and taken for a good one")
    for end in readable_stores(outcome) if outcome.converged_after_s is not None else ():
        for incident, log, seq in end.holes:
            if stored.get((incident, log), 0) >= seq:
                yield Violation("I11", end.name, f"{log[:8]}.{seq} rotted, and was not fetched again from who holds it")


def readable_stores(outcome: Outcome) -> list[NodeEnd]:
    core = set(outcome.plan.core)
    return [end for end in outcome.ends if end.name in core and end.up]


def bounded(outcome: Outcome, asked: Counter[str]) -> Iterator[Violation]:
    for end in outcome.ends:
        for name, size in sorted(end.sizes.items()):
            asked["I7"] += 1
            limit = outcome.plan.queue_frames_max if name == "frames on the way" else outcome.plan.memory_rows_max
            if size > limit:
                yield Violation("I7", end.name, f"{name}: {size}, more than {limit}")


def readers(outcome: Outcome, incident: str) -> list[NodeEnd]:
    """Members of the core that can read it at the end."""
    core = set(outcome.plan.core)
    return [end for end in outcome.ends if end.name in core and end.up and incident in end.incidents]


CHECKS: tuple[Check, ...] = (
    sightings,
    converged,
    nothing_lost,
    same_state,
    as_the_model,
    journal,
    one_voice,
    keys_of_members,
    entitled,
    answers,
    verified_reads,
    bounded,
)
