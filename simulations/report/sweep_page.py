"""The page of sweeps, made of its records alone."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence

from simulations.report import html, untested, words
from simulations.report.page import WORLDS, known, made_by
from simulations.report.records import SweepReport, Swept
from simulations.report.svg import Drawing
from simulations.report.untested import MEANINGS
from simulations.runs import percentile

WIDTH, LEFT, RIGHT = 1080.0, 60.0, 1060.0
BINS = 40
SQUARES_MAX = 5_000
"""Seeds that get a square each."""


def of_sweep(report: SweepReport, sha256: str) -> str:
    """HTML. ``sha256`` is of the report's JSON."""
    body = [_head(report), _summary(report)]
    for number, swept in enumerate(report.swept):
        body.append(_swept(swept, number))
    body.append(html.section("made", "How it was made", made_by(report.made, None)))
    body.append(html.section("sign", "Signature", html.signature(sha256)))
    return html.page(_title(report), body)


def _title(report: SweepReport) -> str:
    one = report.swept[0].title if len({row.scenario for row in report.swept}) == 1 else ""
    return f"Sweep: {one}" if one else f"Sweeps of {words.count(len(report.swept), 'scenario')}"


def _head(report: SweepReport) -> str:
    seeds = sum(len(row.seeds) for row in report.swept)
    failed = sum(not seed.held for row in report.swept for seed in row.seeds)
    never = sum(len(row.never_reached) for row in report.swept)
    asked = sum(sum(row.asked.values()) for row in report.swept)
    simulated_s = sum(row.simulated_s for row in report.swept)
    end = f" {_stopped(report)}{_unwanted(report)}".rstrip()
    if report.held:
        said = f"{words.count(seeds, 'seed')}: what was wanted was asked {asked:,} times, and was not violated."
        headline = "Stopped before its end: what was run held." if report.is_stopped else "All seeds held."
        verdict = f'<div class="verdict"><strong>{headline}</strong>{html.told(said + end)}</div>'
    else:
        said = f"{words.count(failed, 'seed')} of {seeds:,} failed"
        said += f"; {words.count(never, 'situation')} that had to be reached never was." if never else "."
        verdict = f'<div class="verdict bad"><strong>It did not hold.</strong>{html.told(said + end)}</div>'
    tiles = [
        (f"{seeds:,}", "seeds"),
        (f"{failed:,}", "failed"),
        (f"{asked:,}", "times an invariant was asked"),
        (words.seconds(simulated_s), "of simulated time"),
    ]
    return "\n".join(
        [
            f"<header>{html.paragraph('Partition simulations · sweep', 'above')}<h1>{html.told(_title(report))}</h1>",
            verdict,
            html.tiles(tiles),
            "</header>",
        ]
    )


def _stopped(report: SweepReport) -> str:
    stopped = [row for row in report.swept if row.is_stopped]
    run, wanted = sum(len(row.seeds) for row in stopped), sum(row.seeds_wanted for row in stopped)
    return f"Stopped: {run:,} of {wanted:,} seeds that were wanted were run. " if stopped else ""


def _unwanted(report: SweepReport) -> str:
    rows = {row.scenario: row.unwanted for row in report.swept if row.unwanted}
    told = "; ".join(f"{name}: {', '.join(unwanted)}" for name, unwanted in rows.items())
    return f"Not wanted by the scenario, so nothing is said of it: {told}." if told else ""


def _summary(report: SweepReport) -> str:
    rows = [
        (
            row.title,
            row.world,
            f"{len(row.seeds):,} of {row.seeds_wanted:,}" if row.is_stopped else f"{len(row.seeds):,}",
            *(_seconds(percentile(_after_s(row), share)) for share in (50, 99)),
            f"failed {_failed(row)}" if _failed(row) else "not all reached" if row.never_reached else _held(row),
        )
        for row in report.swept
    ]
    head = ("scenario", "world", "seeds", "one after, p50", "p99", "verdict")
    return html.section("summary", "All scenarios", html.table(head, rows, (2, 3, 4), marks="verdict"))


def _held(swept: Swept) -> str:
    return "held, as far as it was run" if swept.is_stopped else "held"


def _failed(swept: Swept) -> int:
    return sum(not seed.held for seed in swept.seeds)


def _after_s(swept: Swept) -> list[float]:
    return [seed.converged_after_s for seed in swept.seeds if seed.converged_after_s is not None]


def _seconds(value: float | None) -> str:
    return "–" if value is None else words.seconds(value)


def _swept(swept: Swept, number: int) -> str:
    what = f"{swept.scenario} · world {swept.world}: {WORLDS[swept.world]}"
    what += f" · code {swept.code}" if swept.code else ""
    return html.section(
        f"scenario-{number}",
        swept.title,
        html.paragraph(what, "above"),
        html.paragraph(swept.story, "story") if swept.story else "",
        *(known(row) for row in swept.known),
        _squares(swept),
        _failures(swept),
        "<h3>Until all were one, after the last fault</h3>",
        html.figure(histogram(_after_s(swept))) if _after_s(swept) else html.paragraph("They never were."),
        html.table(("of all seeds", "p50", "p90", "p99", "most"), list(_numbers(swept)), (1, 2, 3, 4)),
        html.paragraph(
            f"{words.count(swept.real_signatures, 'seed')} of {len(swept.seeds):,} had real signatures, the others a "
            "keyed hash in their place.",
            "note",
        ),
        "<h3>How often each invariant was asked</h3>",
        html.counts(
            (f"{name}, {meaning}", swept.asked[name]) for name, meaning in MEANINGS.items() if name in swept.asked
        ),
        "<h3>Situations that were reached</h3>",
        html.counts(swept.situations.items()),
        "<h3>What was not tested</h3>",
        html.untested(untested.topics(swept.untested).items()),
    )


def _squares(swept: Swept) -> str:
    first, last = swept.seeds[0].seed, swept.seeds[-1].seed
    said = html.paragraph(f"Seeds {first} to {last}, a square each." if first != last else f"Seed {first}.", "note")
    if len(swept.seeds) > SQUARES_MAX:
        return ""
    squares = "".join(
        f'<i title="seed {seed.seed}"></i>' if seed.held else f'<i class="bad" title="seed {seed.seed} failed"></i>'
        for seed in swept.seeds
    )
    return f'{said}<div class="seeds">{squares}</div>'


def _failures(swept: Swept) -> str:
    if not swept.failures:
        return ""
    rows = [
        (str(failure.seed), invariant, node or "mesh", what, failure.command if not place else "")
        for failure in swept.failures
        for place, (invariant, node, what) in enumerate(failure.violations[:3])
    ]
    return "<h3>Failures</h3>" + html.table(("seed", "", "at", "what", "see it again with"), rows, (0,))


def _numbers(swept: Swept) -> Iterator[tuple[str, ...]]:
    measures: dict[str, list[float]] = {
        "one after the last fault": _after_s(swept),
        "spread, the median of each seed": [seed.spread_p50_s for seed in swept.seeds if seed.spread_p50_s is not None],
        "spread, the p99 of each seed": [seed.spread_p99_s for seed in swept.seeds if seed.spread_p99_s is not None],
    }
    for what, values in measures.items():
        if values:
            shares = (percentile(values, share) for share in (50, 90, 99, 100))
            yield what, *(_seconds(value) for value in shares)
    sent = [float(seed.bytes_sent) for seed in swept.seeds]
    yield "bytes sent", *(words.size(percentile(sent, share) or 0.0) for share in (50, 90, 99, 100))


def histogram(values: Sequence[float]) -> Drawing:
    """How many seeds took how long."""
    height, top, bottom = 150.0, 14.0, 120.0
    found = Drawing(WIDTH, height, "How many seeds took how long until all were one", "histogram")
    most_s = max(values)
    step_s = _step(most_s / BINS)
    counts = [0] * (int(most_s / step_s) + 1)
    for value in values:
        counts[int(value / step_s)] += 1
    wide = min((RIGHT - LEFT) / len(counts), 60.0)
    highest = max(counts)
    found.line(LEFT, bottom, RIGHT, bottom, "grid")
    for place, count in enumerate(counts):
        if count:
            high = count / highest * (bottom - top - 12)
            x = LEFT + place * wide
            span = f"{words.seconds(place * step_s)} to {words.seconds((place + 1) * step_s)}"
            found.rect(x + 0.5, bottom - high, wide - 1, high, "bar-near", f"{span}: {words.count(count, 'seed')}")
            if count == highest:
                found.text(x + wide / 2, bottom - high - 4, f"{count:,}", "small", "middle")
    every = max(1, math.ceil(len(counts) * 60 / (RIGHT - LEFT)))
    for place in range(0, len(counts) + 1, every):
        found.text(LEFT + place * wide, bottom + 16, words.seconds(place * step_s), "mark", "middle")
    return found


def _step(least_s: float) -> float:
    """1, 2 or 5 of some unit of ten."""
    ten = 10.0 ** math.floor(math.log10(max(least_s, 1e-3)))
    return next(step for step in (ten, 2 * ten, 5 * ten, 10 * ten) if step >= least_s)
