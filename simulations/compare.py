"""Two of something side by side: the same plan in several worlds, or results from before and after a change.

A comparison is a table and a list of what differs, in words. Whether the verdicts are the same is the one thing that
it decides; how much of a difference in numbers is too much is for whoever reads it.
"""

from __future__ import annotations

import statistics
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

from simulations.checks.judge import Verdict
from simulations.report.records import Seed
from simulations.runs import percentile
from simulations.scenario.plan import ShareWith
from simulations.worlds.contract import Outcome

NAMED_MAX = 20
"""Differences of one kind that are named one by one: more are counted."""
NONE = "-"


@dataclass(slots=True)
class Comparison:
    title: str
    columns: tuple[str, ...]
    rows: list[tuple[str, tuple[str, ...]]] = field(default_factory=list)
    """(what, its value in each column)."""
    differences: list[str] = field(default_factory=list)
    same_verdict: bool = True

    def add(self, what: str, *values: object) -> None:
        self.rows.append((what, tuple(NONE if value is None else str(value) for value in values)))

    def text(self) -> str:
        """As it is printed: columns as wide as their widest value."""
        table = [("", self.columns), *self.rows]
        first = max(len(what) for what, _ in table)
        widths = [max(len(values[number]) for _, values in table) for number in range(len(self.columns))]
        lines = [self.title]
        for what, values in table:
            cells = "  ".join(value.rjust(width) for value, width in zip(values, widths, strict=True))
            lines.append(f"  {what:{first}}  {cells}".rstrip())
        lines += [f"differs: {what}" for what in self.differences] or ["nothing differs in kind"]
        lines.append("the verdict is the same" if self.same_verdict else "THE VERDICTS DIFFER")
        return "\n".join(lines)


# --- one plan in several worlds ---------------------------------------------------------------------------------------


def of_worlds(runs: Sequence[tuple[Outcome, Verdict]]) -> Comparison:
    """The same plan, performed and judged in two worlds or more."""
    outcomes = [outcome for outcome, _ in runs]
    verdicts = [verdict for _, verdict in runs]
    plan, names = outcomes[0].plan, tuple(outcome.world for outcome in outcomes)
    found = Comparison(f"{plan.scenario}, seed {plan.seed}: one plan in {len(runs)} worlds", names)
    violated = [sorted({row.invariant for row in verdict.violations}, key=_number) for verdict in verdicts]
    found.same_verdict = len({tuple(row) for row in violated}) == 1
    found.add("verdict", *("held" if verdict.held else "VIOLATED" for verdict in verdicts))
    found.add("violated", *(", ".join(row) or None for row in violated))
    found.add("one after the last fault, s", *(_seconds(outcome.converged_after_s) for outcome in outcomes))
    found.add("writes acknowledged", *(len(outcome.acknowledged) for outcome in outcomes))
    _refusals(found, outcomes)
    for share in (50, 99):
        found.add(f"spread p{share}, s", *(_seconds(_spread(outcome, share)) for outcome in outcomes))
    found.add("bytes sent", *(f"{sum(outcome.bytes_sent.values()):,}" for outcome in outcomes))
    found.add("conflicts at the end", *(_conflicts(outcome) for outcome in outcomes))
    for invariant in sorted({name for verdict in verdicts for name in verdict.asked}, key=_number):
        found.add(f"{invariant} asked", *(verdict.asked[invariant] for verdict in verdicts))
    for situation in sorted({name for outcome in outcomes for name in outcome.sometimes}):
        found.add(f"reached: {situation}", *(outcome.sometimes[situation] for outcome in outcomes))
    found.differences = list(_differences(runs, violated))
    return found


def _refusals(found: Comparison, outcomes: Sequence[Outcome]) -> None:
    counts = [Counter(row.code for row in outcome.refused) for outcome in outcomes]
    found.add("requests refused", *(len(outcome.refused) for outcome in outcomes))
    for code in sorted({code for count in counts for code in count}):
        found.add(f"  {code}", *(count[code] for count in counts))


def _differences(runs: Sequence[tuple[Outcome, Verdict]], violated: Sequence[Sequence[str]]) -> list[str]:
    """What is not alike in kind. Numbers that merely differ stand in the table."""
    found: list[str] = []
    names = [outcome.world for outcome, _ in runs]
    for name, (_, verdict), invariants in zip(names, runs, violated, strict=True):
        others = {row for other in violated if other is not invariants for row in other}
        for invariant in invariants:
            if invariant not in others:
                first = next(row for row in verdict.violations if row.invariant == invariant)
                found.append(f"{invariant} is violated in {name} alone: {first.node or 'mesh'}: {first.what}")
    one = [outcome.converged_after_s is not None for outcome, _ in runs]
    if len(set(one)) > 1:
        found.append(f"it becomes one in {_and(_where(names, one))}, and not in {_and(_where(names, one, False))}")
    wanted = sorted(set(runs[0][0].plan.invariants), key=_number)
    for invariant in wanted:
        asked = [bool(verdict.asked[invariant]) for _, verdict in runs]
        if len(set(asked)) > 1:
            found.append(f"{invariant} is never asked in {_and(_where(names, asked, False))}")
    for situation in sorted({name for outcome, _ in runs for name in outcome.sometimes}):
        reached = [bool(outcome.sometimes[situation]) for outcome, _ in runs]
        if len(set(reached)) > 1:
            found.append(f"reached in {_and(_where(names, reached))} alone: {situation}")
    return found + _answers([outcome for outcome, _ in runs])


def _answers(outcomes: Sequence[Outcome]) -> list[str]:
    """Requests that were answered in another way: each is one number in the plan of both."""
    told: list[dict[int, str]] = []
    for outcome in outcomes:
        answers = {row.number: row.code for row in outcome.refused}
        answers.update((row.number, "acknowledged") for row in outcome.acknowledged)
        told.append(answers)
    actions = {action.number: action for action in outcomes[0].plan.actions}
    lines = []
    for number in sorted({number for answers in told for number in answers}):
        action = actions[number]
        otherwise = "not refused" if isinstance(action, ShareWith) else "passed over"
        said = [answers.get(number, otherwise) for answers in told]
        if len(set(said)) > 1:
            how = ", ".join(f"{what} in {outcome.world}" for what, outcome in zip(said, outcomes, strict=True))
            lines.append(f"request {number} at {getattr(action, 'node', '')}, {action.at_s:.1f} s: {how}")
    more = len(lines) - NAMED_MAX
    return lines[:NAMED_MAX] + ([f"and {more} requests more that were answered in another way"] if more > 0 else [])


def _conflicts(outcome: Outcome) -> int | None:
    """The most that any member shows."""
    shown = [sum(row.conflicts for row in end.incidents.values()) for end in outcome.ends if end.incidents]
    return max(shown, default=None)


def _spread(outcome: Outcome, share: int) -> float | None:
    return percentile([row.after_s for row in outcome.spread_s], share)


def _where(names: Sequence[str], flags: Sequence[bool], wanted: bool = True) -> list[str]:
    return [name for name, flag in zip(names, flags, strict=True) if flag is wanted]


def _and(names: Sequence[str]) -> str:
    return " and ".join(names)


def _number(invariant: str) -> int:
    return int(invariant[1:])


def _seconds(value: float | None) -> str | None:
    return None if value is None else f"{value:.3g}" if value < 100 else f"{value:,.0f}"


# --- before and after a change ----------------------------------------------------------------------------------------


Place = tuple[str, str, int]
"""(scenario, world, seed)."""


def of_seeds(names: tuple[str, str], before: Mapping[Place, Seed], after: Mapping[Place, Seed]) -> Comparison:
    """Two sets of results, seed by seed. Numbers are compared over the seeds that both have. Raises ValueError when
    there is none."""
    both = sorted(before.keys() & after.keys())
    if not both:
        raise ValueError(f"nothing to compare: {names[0]} and {names[1]} have no scenario, world and seed in common")
    pairs = [(before[place], after[place]) for place in both]
    found = Comparison(f"{names[0]} and {names[1]}", ("before", "after", "ratio"))
    found.add("seeds", len(before), len(after), None)
    found.add("seeds that both have", len(both), len(both), None)
    found.add("failed, of those", sum(not a.held for a, _ in pairs), sum(not b.held for _, b in pairs), None)
    for what, value in _MEASURES.items():
        measured = [(value(a), value(b)) for a, b in pairs]
        _measure(found, what, [(a, b) for a, b in measured if a is not None and b is not None])
    changed = [(place, a, b) for place, (a, b) in zip(both, pairs, strict=True) if a.held != b.held]
    for (scenario, world, seed), a, b in changed:
        what = "held and is violated" if a.held else "was violated and holds"
        found.differences.append(f"{scenario} in {world}, seed {seed} {what}: {', '.join(a.violated or b.violated)}")
    traces = sum(a.trace != b.trace for a, b in pairs)
    if traces:
        found.differences.append(f"another trace in {traces} of {len(pairs)} seeds")
    alone = len(before) + len(after) - 2 * len(both)
    if alone:
        found.differences.append(f"{alone} seeds stand in one of the two alone, and are not compared")
    found.same_verdict = not changed
    return found


_MEASURES: dict[str, Callable[[Seed], float | None]] = {
    "one after the last fault, s": lambda row: row.converged_after_s,
    "spread p50, s": lambda row: row.spread_p50_s,
    "spread p99, s": lambda row: row.spread_p99_s,
    "bytes sent": lambda row: float(row.bytes_sent),
    "writes acknowledged": lambda row: float(row.acknowledged),
    "events": lambda row: float(row.events),
}


def _measure(found: Comparison, what: str, pairs: Sequence[tuple[float, float]]) -> None:
    """The median and the worst of both, and the median of the ratios seed by seed, which no single seed moves."""
    if not pairs:
        return
    ratios = [b / a for a, b in pairs if a > 0]
    ratio = f"{statistics.median(ratios):.2f}" if ratios else None
    before, after = ([row[side] for row in pairs] for side in (0, 1))
    found.add(f"{what}: median", _seconds(statistics.median(before)), _seconds(statistics.median(after)), ratio)
    if len(pairs) > 1:
        worst = f"{max(after) / max(before):.2f}" if max(before) > 0 else None
        found.add(f"{what}: most", _seconds(max(before)), _seconds(max(after)), worst)
