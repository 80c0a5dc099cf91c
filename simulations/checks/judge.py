"""The verdict: every check, asked of one outcome.

A check is a function from an outcome to violations; it counts what it looked at, so that a report can say how often
each invariant was asked, and a check that looked at nothing does not pass for one that held.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field

from meshnode.core.prekeys import DAY_MS, KEPT_AFTER_REPLACED_MS, ROTATION_MS
from simulations.checks import codes
from simulations.checks.honest import (
    Violation,
    base_name,
    hole_of,
    honest,
    nocs,
    readable_stores,
    readers,
    shared_with,
)
from simulations.checks.membership import members_due_now, members_read
from simulations.checks.model import Model, build
from simulations.checks.refusals import answers
from simulations.scenario.plan import NodeFault
from simulations.worlds.contract import Acknowledged, IncidentEnd, NodeEnd, Outcome, Touch, Uttered

SHOWN_MAX = 20
"""Violations that one check may tell of each invariant and hole: the first tell the story."""
LOOKED_AT = frozenset(("I2", "I5"))
"""Invariants of what members show: where members are due and none shows anything, that is no verdict."""
PREKEY_AGE_MS_MAX = ROTATION_MS + KEPT_AFTER_REPLACED_MS + DAY_MS
"""Current for a day, kept for fourteen; looked at every ten minutes, and a day for a node that was down."""


@dataclass(slots=True)
class Verdict:
    violations: list[Violation] = field(default_factory=list)
    known: list[Violation] = field(default_factory=list)
    """What does not hold yet, and is documented: told with every run, and no failure."""
    asked: Counter[str] = field(default_factory=Counter)
    """Invariant -> how many things were looked at."""

    @property
    def held(self) -> bool:
        return not self.violations


ANSWERS_MAX = 4
"""Frames that one frame of a liar may draw from a node on average: heights are answered, and asked for in turn."""
REPORTS_MAX = 2
"""Times that one frame of a liar may be reported."""
USUAL_MIN = 200
"""What a node says in any run, whoever is there."""
BY_CLOCK = ("back-date", "future-date")
"""Lies of which nothing but the clock is wrong."""
NEWS = frozenset(("link-up", "link-down", "dial-failed", "alone"))
"""Reports of what happens to links by itself."""
HOLES = {
    "fork": "a member that signs two entries at one position parts the record: honest members keep the branch that "
    "came first, what is built on the other waits for ever, and no proof travels",
    "locked-out": "a member that found a wrong key in its box asks for the right one only when a log that it knows "
    "goes on behind it: what honest members write in new logs it cannot read before the next epoch",
}
"""What the node cannot do yet, so that violations of it are known. Each is shown by a test that fails when it is
mended."""

Check = Callable[[Outcome, Counter[str]], Iterable[Violation]]


def judge(outcome: Outcome) -> Verdict:
    """Asks every check of the invariants that the plan wants."""
    wanted = set(outcome.plan.invariants)
    verdict = Verdict()
    for check in CHECKS:
        shown: Counter[tuple[str, str]] = Counter()
        for violation in check(outcome, verdict.asked):
            if violation.invariant not in wanted:
                continue
            shown[violation.invariant, violation.hole] += 1
            if shown[violation.invariant, violation.hole] <= SHOWN_MAX:
                (verdict.known if violation.hole else verdict.violations).append(violation)
    if members_due_now(outcome):
        for invariant in sorted(LOOKED_AT & wanted):
            if not verdict.asked[invariant]:
                what = "clients were told of writes, and nobody shows anything that could be looked at"
                verdict.violations.append(Violation(invariant, "", what))
    return verdict


def sightings(outcome: Outcome, asked: Counter[str]) -> Iterator[Violation]:
    """What the world saw at the moment it happened."""
    asked["I8"] += outcome.events
    asked["I4"] += len(outcome.ends)
    asked["I12"] += len(outcome.ends)
    liars = outcome.plan.liars
    for sighting in outcome.sightings:
        if sighting.invariant in ("I4", "I12") and base_name(sighting.node) in liars:
            continue  # a liar may give away what it reads; the node in its hands keeps the other laws all the same
        yield Violation(sighting.invariant, sighting.node, f"at {sighting.at_s:.3f} s: {sighting.what}")


def converged(outcome: Outcome, asked: Counter[str]) -> Iterator[Violation]:
    asked["I9"] += 1
    if outcome.converged_after_s is None:
        yield Violation("I9", "", f"not one {outcome.plan.converge_within_s:g} s after the last fault")
    for incident in outcome.apart:
        yield Violation("I9", "", f"incident {incident[:8]} is not one", hole_of(outcome, incident))


def nothing_lost(outcome: Outcome, asked: Counter[str]) -> Iterator[Violation]:
    """Every acknowledged write is in the store of the node that acknowledged it, and merged by all who converged."""
    ends = honest(outcome)
    by_name = {end.name: end for end in ends}
    for row in outcome.acknowledged:
        if row.number in outcome.excused or row.node in outcome.plan.liars:
            continue
        asked["I1"] += 1
        log, seq = row.dot.split(".")[0], int(row.dot.split(".")[1])
        holders = [end for end in ends if end.stored.get(row.touch.incident, {}).get(log, 0) >= seq]
        own = by_name[row.node]
        if not holders:
            yield Violation("I1", row.node, f"write {row.number}, acknowledged at {row.at_s:.3f} s, is in no store")
        elif own not in holders and outcome.converged_after_s is not None and row.touch.incident not in outcome.closed:
            what = f"write {row.number}, acknowledged at {row.at_s:.3f} s, is not in the store of its own node"
            yield Violation("I1", row.node, what)
        if outcome.converged_after_s is not None:
            for end in readers(outcome, row.touch.incident):
                if end.incidents[row.touch.incident].heads.get(log, 0) < seq:
                    what = f"write {row.number} of {row.node} is not merged here"
                    yield Violation("I1", end.name, what, hole_of(outcome, row.touch.incident))


def same_state(outcome: Outcome, asked: Counter[str]) -> Iterator[Violation]:
    """Members that merged the same entries show the same; converged ones hold the same digest."""
    first: dict[tuple[str, tuple[tuple[str, int], ...], tuple[int, ...]], tuple[str, IncidentEnd]] = {}
    for end in honest(outcome):
        for incident, shown in end.incidents.items():
            asked["I2"] += 1
            entries = (incident, tuple(sorted(shown.heads.items())), shown.uttered)
            name, other = first.setdefault(entries, (end.name, shown))
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
    liars = outcome.plan.liars
    # A newer version writes fields that the workload knows nothing of.
    newer = any(isinstance(action, NodeFault) and action.verb == "upgrade" for action in outcome.plan.actions)
    rows = [row for row in outcome.acknowledged if row.number not in outcome.excused]
    sure = [row for row in rows if row.node not in liars]
    of_liars = [row for row in rows if row.node in liars]
    for incident in sorted({row.touch.incident for row in sure}):
        hole = hole_of(outcome, incident)
        for end in readers(outcome, incident):
            shown = end.incidents[incident]
            # Where a record is known to be parted, each is held to what it merged: that it is not all is the hole.
            due = [row for row in sure if is_merged(shown, row)] if hole else sure
            doubtful = {touch for touch in unsure if touch.incident == incident}
            if hole:  # of a log with two branches a height does not say which was merged
                doubtful |= {row.touch for row in of_liars}
                doubtful |= {write.touch for row in outcome.uttered for write in row.writes}
            model = build(incident, [*due, *_may_have_written(outcome, shown, of_liars)])
            yield from _compare(end, shown, model, doubtful, asked)
            if not liars and not newer and not any(touch.collection for touch in doubtful):
                asked["I2"] += 1
                if shown.conflicts != model.conflicts():
                    what = f"shows {shown.conflicts} conflicts where {model.conflicts()} registers disagree"
                    yield Violation("I2", end.name, what)


def is_merged(shown: IncidentEnd, row: Acknowledged) -> bool:
    log, seq, _ = row.dot.split(".")
    return shown.heads.get(log, 0) >= int(seq)


def _may_have_written(outcome: Outcome, shown: IncidentEnd, of_liars: list[Acknowledged]) -> list[Acknowledged]:
    """What liars wrote and this member merged, as far as it may act: nobody is promised that it is there."""
    void = {entry.split(":")[0] for entry in shown.void}
    uttered = [outcome.uttered[number] for number in shown.uttered]
    acting = [row for row in uttered if row.expect in ("stands", "acts") and f"{row.log}.{row.seq}" not in void]
    merged = [row for row in of_liars if is_merged(shown, row)]
    return [*merged, *(write for row in acting for write in row.writes)]


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
        asked["I1"] += len(model.records)
        for dot in sorted(model.records.keys() ^ shown.records.keys()):
            yield Violation("I1", end.name, f"the log book differs from what was written, at {dot[:8]}")
    objects = {(touch.collection, touch.object) for touch in unsure}
    for thing in sorted(model.deleted):
        if (thing.collection, thing.object) not in objects and shown.deleted.get(thing) != model.deleted[thing]:
            asked["I2"] += 1
            yield Violation("I2", end.name, f"person {thing.object[:8]}: deleted is {shown.deleted.get(thing)}")


def journal(outcome: Outcome, asked: Counter[str]) -> Iterator[Violation]:
    for end in honest(outcome):
        asked["I3"] += 1
        if end.journal_gaps:
            yield Violation("I3", end.name, f"{end.journal_gaps} journal rows are missing, doubled or name nothing")


def one_voice(outcome: Outcome, asked: Counter[str]) -> Iterator[Violation]:
    """No two stores hold different entries at one position of an honest node's log."""
    found: dict[tuple[str, str, int], tuple[str, str]] = {}
    forged = {row.log for row in outcome.uttered if row.expect != "refused"}
    for end in honest(outcome):
        for (incident, log), (height, entry_hash) in end.heads.items():
            if log in forged:
                continue
            asked["I14"] += 1
            name, other = found.setdefault((incident, log, height), (end.name, entry_hash))
            if other != entry_hash:
                what = f"another entry at {log[:8]}.{height} than {name}"
                yield Violation("I14", end.name, what)


def keys_of_members(outcome: Outcome, asked: Counter[str]) -> Iterator[Violation]:
    """Whoever holds a key of an incident belongs to an NOC that somebody shared it with."""
    noc_of = nocs(outcome)
    allowed = shared_with(outcome)
    leaked = {(row.incident, noc) for row in outcome.leaked for noc in row.nocs}
    for end in honest(outcome):
        noc = noc_of[base_name(end.name)]
        for incident in end.keys:
            asked["I4"] += 1
            if (incident, noc) not in leaked and noc not in allowed.get(incident, allowed.get("", set())):
                yield Violation("I4", end.name, f"holds a key of {incident[:8]}, which nobody shared with {noc}")


def entitled(outcome: Outcome, asked: Counter[str]) -> Iterator[Violation]:
    """Honest nodes write nothing that others hold void; what a liar had no right to is never more than kept; and
    members are those that somebody entitled added."""
    noc_of, allowed = nocs(outcome), shared_with(outcome)
    forged = {row.log for row in outcome.uttered}
    core = set(outcome.plan.core) if outcome.converged_after_s is not None else ()
    able = [end for end in honest(outcome) if end.name in core and end.up]
    for end in honest(outcome):
        for number in end.uttered:
            row = outcome.uttered[number]
            asked["I5"] += 1
            if row.expect == "refused":
                yield Violation("I5", end.name, f"stored what nobody signed: {row.kind} of {row.node}, {row.hash[:8]}")
        for incident, shown in end.incidents.items():
            asked["I5"] += sum(shown.heads.values())
            void = {entry.split(":")[0] for entry in shown.void}
            for entry in shown.void:
                if entry.split(".")[0] not in forged:
                    yield Violation("I5", end.name, f"an honest entry of {incident[:8]} is void: {entry[:100]}")
            for row in (outcome.uttered[number] for number in shown.uttered):
                if row.expect == "unmerged" or (row.expect == "void" and f"{row.log}.{row.seq}" not in void):
                    what = f"{row.kind} of {row.node} at {row.at_s:.3f} s took effect in {incident[:8]}"
                    yield Violation("I5", end.name, what)
                if row.expect == "stands":
                    by_clock = "I13" if row.kind in BY_CLOCK else "I5"
                    asked[by_clock] += 1
                    if f"{row.log}.{row.seq}" in void:
                        what = f"holds for void what {row.node} was free to write at {row.at_s:.3f} s ({row.kind})"
                        yield Violation(by_clock, end.name, what)
            if end in able and incident not in outcome.apart:
                for number in set(end.uttered) - set(shown.uttered):
                    row = outcome.uttered[number]
                    if row.incident == incident and row.expect == "stands":
                        what = f"keeps out what {row.node} was free to write at {row.at_s:.3f} s ({row.kind})"
                        yield Violation("I13" if row.kind in BY_CLOCK else "I5", end.name, what)
            for member in shown.members:
                if noc_of[member] not in allowed.get(incident, allowed.get("", set())):
                    yield Violation("I5", end.name, f"holds {member} for a member of {incident[:8]}: nobody added it")


def verified_reads(outcome: Outcome, asked: Counter[str]) -> Iterator[Violation]:
    """No row that rotted reached its node; what was lost with it and others hold was fetched again."""
    stored = {(incident, log): 0 for end in outcome.ends for incident, logs in end.stored.items() for log in logs}
    for end in readable_stores(outcome):
        for incident, logs in end.stored.items():
            for log, height in logs.items():
                stored[incident, log] = max(stored[incident, log], height)
    for end in honest(outcome):
        asked["I11"] += end.rotted
        if end.unnoticed:
            yield Violation("I11", end.name, f"{end.unnoticed} times a damaged row was read and taken for a good one")
    for end in readable_stores(outcome) if outcome.converged_after_s is not None else ():
        for incident, log, seq in end.holes:
            if stored.get((incident, log), 0) >= seq:
                yield Violation("I11", end.name, f"{log[:8]}.{seq} rotted, and was not fetched again from who holds it")


def reasons(outcome: Outcome, asked: Counter[str]) -> Iterator[Violation]:
    """Whatever was refused, reported or shown as degraded has a code that the manual explains, and a reason."""
    for end in honest(outcome):
        asked["I16"] += len(end.codes) if codes.explained() else 0
        for what in end.unreasoned:
            yield Violation("I16", end.name, f"{what} does not say why, or what to do")
        for code, reason in end.codes.items():
            if codes.explained() and not codes.is_explained(code):
                yield Violation("I16", end.name, f"{code!r} ({reason[:60]}) is not in docs/reason-codes.md")


def copies_told(outcome: Outcome, asked: Counter[str]) -> Iterator[Violation]:
    """A node that was put back to a backup, and wrote since what others hold, has told its operator."""
    by_name = {end.name: end for end in honest(outcome)}
    for action in outcome.plan.actions:
        if not isinstance(action, NodeFault) or action.verb != "restore-old-backup" or action.node not in by_name:
            continue
        end = by_name[action.node]
        wrote = [
            row
            for row in outcome.acknowledged
            if row.node == action.node and action.backup_at_s < row.asked_s and row.at_s < action.at_s
        ]
        lost = [row for row in wrote if row.number in outcome.excused]
        if end.up and end.codes and outcome.converged_after_s is not None and len(lost) < len(wrote):
            asked["I16"] += 1
            if "restored-or-cloned" not in end.codes:
                yield Violation("I16", end.name, "was put back to a backup, and its operator is not told")


def never_said(outcome: Outcome, asked: Counter[str]) -> Iterator[Violation]:
    """What the scenario rules out: a mesh to which this happens is not as live as it must be."""
    for situation in outcome.plan.never:
        if outcome.sometimes[situation]:
            times = outcome.sometimes[situation]
            yield Violation("I9", "", f"{situation!r}, which this scenario rules out: {times} times")
    for end in honest(outcome):
        asked["I9"] += len(outcome.plan.never)
        for code in outcome.plan.never:
            if code in end.codes:
                yield Violation("I9", end.name, f"{code}, which this scenario rules out: {end.codes[code][:80]}")


def secrets_kept(outcome: Outcome, asked: Counter[str]) -> Iterator[Violation]:
    """No key in what a node reports; no private prekey that should have been erased, where its clock was never wrong:
    a node that believed in another year made and erased its prekeys by that."""
    faults = [action for action in outcome.plan.actions if isinstance(action, NodeFault)]
    skewed = {action.node for action in faults if action.verb == "skew-clock"}
    for end in honest(outcome):
        asked["I12"] += 1
        if end.leaked:
            yield Violation("I12", end.name, f"{end.leaked} epoch keys stand in its reports")
        if end.name in skewed or not end.up or end.name not in outcome.plan.core:
            continue
        asked["I12"] += 1
        if end.old_prekeys_ms > PREKEY_AGE_MS_MAX:
            days = end.old_prekeys_ms / DAY_MS
            yield Violation("I12", end.name, f"a private prekey of {days:.1f} days ago is not erased")


def bounded(outcome: Outcome, asked: Counter[str]) -> Iterator[Violation]:
    if outcome.frames_max is not None:
        asked["I7"] += 1
        if outcome.frames_max > outcome.plan.queue_frames_max:
            what = f"frames on the way: {outcome.frames_max}, more than {outcome.plan.queue_frames_max}"
            yield Violation("I7", "", what)
    for end in honest(outcome):
        for name, size in sorted(end.sizes.items()):
            asked["I7"] += 1
            if size > outcome.plan.memory_rows_max:
                yield Violation("I7", end.name, f"{name}: {size}, more than {outcome.plan.memory_rows_max}")
        yield from _worth_its_questions(end, asked)


def _worth_its_questions(end: NodeEnd, asked: Counter[str]) -> Iterator[Violation]:
    """What liars sent made a node say and report no more than it is worth."""
    asked["I7"] += 2 * bool(end.from_liars)
    usual = USUAL_MIN + 2 * end.to_honest_most * len(end.to_liars)
    for liar, frames in end.to_liars.items():
        limit = usual + ANSWERS_MAX * end.from_liars.get(liar, 0)
        if frames > limit:
            yield Violation("I7", end.name, f"sent {frames} frames to {liar}, more than {limit} for what that one sent")
    refusals = sum(times for code, times in end.reports.items() if code not in NEWS)
    limit = USUAL_MIN + REPORTS_MAX * sum(end.from_liars.values())
    if end.from_liars and refusals > limit:
        yield Violation("I7", end.name, f"told its operator {refusals} times, more than {limit} for what liars sent")


def forks_are_shown(outcome: Outcome, asked: Counter[str]) -> Iterator[Violation]:
    """Who was handed two branches of one log says so (what the node can do today); that all honest members of a forked
    incident know, by a proof that travels, is asked too (I10)."""
    places: dict[tuple[str, str, int], set[int]] = {}
    for row in outcome.uttered:
        if row.expect != "refused":
            places.setdefault((row.incident, row.log, row.seq), set()).add(row.number)
    forks = [numbers for numbers in places.values() if len(numbers) > 1]
    for end in honest(outcome):
        told = end.reports.get("log-forked", 0)
        handed, kept = set(end.handed), set(end.uttered)
        for fork in forks if end.lives == 1 else ():
            other = [outcome.uttered[number] for number in fork & handed - kept]
            if other and fork & kept:
                asked["I10"] += 1
                if not told:
                    # A run that ends before what is held is known by its place: nobody looks at it (protocol.md, Runs).
                    is_short = not _reaches(outcome, end, other[0])
                    what = f"was handed both branches of log {other[0].log[:8]}, and its operator is not told"
                    yield Violation("I10", end.name, what, "fork" if is_short else "")
        for incident in outcome.forked:
            if incident in end.incidents and end.up:
                asked["I10"] += 1
                if not told:
                    what = f"reads {incident[:8]}, of which a log forked, and does not know it"
                    yield Violation("I10", end.name, what, "fork")


def _reaches(outcome: Outcome, end: NodeEnd, other: Uttered) -> bool:
    """Is the branch of this entry, as it was handed over, at least as long as the one that this node holds?"""
    height = end.heads.get((other.incident, other.log), (0, ""))[0]
    handed = [outcome.uttered[number] for number in set(end.handed) - set(end.uttered)]
    return max(row.seq for row in handed if row.log == other.log) >= height


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
    members_read,
    answers,
    verified_reads,
    reasons,
    copies_told,
    never_said,
    secrets_kept,
    bounded,
    forks_are_shown,
)
