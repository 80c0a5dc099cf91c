"""The page of one run, made of its records alone."""

from __future__ import annotations

from collections.abc import Iterator

from simulations.report import colours, html, matrix, plots, strip, untested, words
from simulations.report.mesh import Mesh
from simulations.report.records import Distribution, Known, Made, RunReport, Split
from simulations.worlds.frames import CLASSES

SPLITS_MAX = 8
"""The longest are listed."""
WORLDS = {
    "protocol": "real nodes in virtual time, on virtual links and disks",
    "daemon": "real daemons in one process, in virtual time",
    "lab": "real daemons in networks of their own, in real time",
}


def of_run(report: RunReport, sha256: str, wall_s: float | None = None) -> str:
    """HTML. ``sha256`` is of the report's JSON; ``wall_s`` what the run took, which is no part of the report."""
    mesh = Mesh(report) if report.islands else None
    body = [
        _head(report),
        _timeline(report, mesh),
        _mesh(report, mesh),
        _apart(report),
        _spread(report),
        _together(report),
        _traffic(report),
        _checks(report),
        _untested(report),
        _made(report, wall_s),
        html.section("sign", "Signature", html.signature(sha256)),
    ]
    title = f"{report.title}: seed {report.seed}, {report.world}"
    return html.page(title, filter(None, body), mesh.steps() if mesh else "")


# --- the beginning ----------------------------------------------------------------------------------------------------


def _head(report: RunReport) -> str:
    asked = sum(row.asked for row in report.invariants)
    checked = sum(1 for row in report.invariants if row.asked)
    broken = [row for row in report.invariants if row.violations]
    above = (
        f"Partition simulation · {report.scenario} · seed {report.seed} · world {report.world}: {WORLDS[report.world]}"
    )
    if not broken:
        times = sum(sum(row.times.values()) for row in report.known)
        end = f", but for {words.count(times, 'time')} what is known not to hold yet" if times else ""
        said = f"{checked} invariants were asked {asked:,} times, and none of them was violated{end}."
        unwanted = [row.name for row in report.invariants if not row.wanted]
        said += f" Not wanted, so nothing is said of it: {', '.join(unwanted)}." if unwanted else ""
        headline = "It held, but for what is known not to hold yet." if times else "It held."
        verdict = f'<div class="verdict"><strong>{headline}</strong>{html.told(said)}</div>'
    else:
        items = "".join(
            f"<li>{html.told(': '.join((row.name, node or 'mesh', what)))}</li>"
            for row in broken
            for node, what in row.violations
        )
        names = words.listed([row.name for row in broken])
        verdict = f'<div class="verdict bad"><strong>It did not hold: {names}.</strong><ul>{items}</ul></div>'
    return "\n".join(
        [
            f"<header>{html.paragraph(above, 'above')}<h1>{html.told(report.title)}</h1>",
            verdict,
            *(known(row) for row in report.known),
            html.paragraph(report.story, "story"),
            html.tiles(_tiles(report)),
            "</header>",
        ]
    )


def _but_for(report: RunReport) -> str:
    holes = [row.hole for row in report.known if "I9" in row.times]
    return f", but for what a {words.listed(holes)} parted" if holes else ""


def known(row: Known) -> str:
    """A hole that showed."""
    times = ", ".join(f"{invariant} {words.count(count, 'time')}" for invariant, count in row.times.items())
    return (
        f'<div class="known"><b>Does not hold yet, and is known</b> ({html.told(row.hole)}; {html.told(times)}): '
        f"{html.told(row.what)}.</div>"
    )


def _tiles(report: RunReport) -> Iterator[tuple[str, str]]:
    yield f"{report.answers.acknowledged:,}", "writes acknowledged"
    refused = sum(report.answers.refused.values())
    codes = ", ".join(f"{code} {number}" for code, number in report.answers.refused.items())
    yield f"{refused:,}", f"requests refused{f': {codes}' if codes else ''}"
    near, spread = "those in reach" if report.islands else "the others", report.spread.reachable
    if spread.count:
        said = f"until half of {near} showed a write; p99 {words.seconds(spread.p99_s)}"
        yield words.seconds(spread.p50_s), said
    after_s = report.converged_after_s
    if after_s is None:
        yield "never", f"all one; {words.seconds(report.converge_within_s)} were allowed"
    else:
        yield words.seconds(after_s), f"after the last fault all were one{_but_for(report)}"
    ended = [split for split in report.splits if split.writes]
    if ended:
        longest = max(ended, key=lambda split: split.end_s - split.begin_s)
        yield (
            _caught_up(report, longest),
            (f"to catch up after the longest split, of {words.seconds(longest.end_s - longest.begin_s)}"),
        )
    yield words.size(sum(row.bytes for row in report.sent)), "sent by all nodes"


def _caught_up(report: RunReport, split: Split) -> str:
    """No finer than links were looked at: only so well is it known when a split ended."""
    after_s, every_s = split.caught_up_after_s, report.links_every_s
    if after_s is not None and every_s and after_s < every_s:
        return f"under {words.seconds(every_s)}"
    return words.seconds(after_s)


# --- what happened ----------------------------------------------------------------------------------------------------


def _timeline(report: RunReport, mesh: Mesh | None) -> str:
    moments = [(moment.letter, moment.at_s) for moment in mesh.moments] if mesh else []
    said = (
        f"{words.seconds(report.duration_s)} with {words.count(len(report.faults), 'planned fault')}; then all faults "
        "end and the core is healed."
    )
    if report.islands:
        said += " The colour of a node says whom it could reach, by links that let both directions pass."
    seen = _seen(report)
    return html.section(
        "timeline",
        "What happened",
        html.paragraph(said),
        html.figure(strip.drawing(report, moments)),
        html.legend((colour, colours.MEANINGS[colour]) for colour in colours.used(report)) if report.islands else "",
        html.paragraph(seen, "note"),
    )


def _seen(report: RunReport) -> str:
    if report.links_every_s is None:
        return "In this world nobody looked at nodes and links meanwhile: only planned faults are shown."
    often = "as they changed" if report.links_every_s == 0 else f"every {words.seconds(report.links_every_s)}"
    letters = " Letters are the moments of the pictures below." if report.islands else ""
    return f"Links were looked at {often}. What is shorter than half a pixel is drawn as thin as one can see.{letters}"


def _mesh(report: RunReport, mesh: Mesh | None) -> str:
    if mesh is None:
        return html.section("mesh", "The mesh over time", html.paragraph(_no_mesh(report)))
    figures = "".join(
        f"<figure>{mesh.small(moment)}<figcaption><b>{moment.letter} · {html.told(words.moment(moment.at_s))}</b>"
        f"<br>{html.told(moment.caption)}</figcaption></figure>"
        for moment in mesh.moments
    )
    start = html.told(words.moment(mesh.start_s()))
    slider = (
        f'<figure class="slider"><div class="wide">{mesh.large()}</div><label hidden>time'
        f'<input type="range" id="slider" min="0" step="1"><output id="told">{start}</output></label></figure>'
    )
    return html.section(
        "mesh",
        "The mesh over time",
        html.paragraph(
            "A line is a link that lets both directions pass; dashes pass in one direction; dots are a link over which "
            "nothing passes. A relay has a dark rim; a node that is down is hollow."
        ),
        f'<div class="moments">{figures}</div>',
        slider,
    )


def _no_mesh(report: RunReport) -> str:
    if report.links_every_s is None:
        return "In this world nobody looked at nodes and links meanwhile, so there is no picture of them."
    return "There are too many nodes for a picture that anybody could read."


def _apart(report: RunReport) -> str:
    if not report.apart:
        return html.section("apart", "Who was cut off from whom", html.paragraph(_no_mesh(report)))
    figure = html.figure(matrix.drawing(report)) if any(row.share for row in report.apart) else ""
    said = (
        "The share of the time that both ran, from the first write on, in which two nodes could not reach each other, "
        "not even over others."
        if figure
        else "Whenever two nodes ran they could reach each other, over others at least."
    )
    longest = sorted(report.splits, key=lambda split: split.begin_s - split.end_s)[:SPLITS_MAX]
    rows = [
        (
            words.moment(split.begin_s),
            words.seconds(split.end_s - split.begin_s),
            words.sides(split.sides),
            f"{split.writes:,}",
            _caught_up(report, split) if split.writes else "nothing to catch up",
        )
        for split in sorted(longest, key=lambda split: split.begin_s)
    ]
    more = len(report.splits) - len(rows)
    return html.section(
        "apart",
        "Who was cut off from whom",
        html.paragraph(said),
        figure,
        f"<h3>{html.told(words.count(len(report.splits), 'split'))} of the members</h3>" if report.splits else "",
        html.table(("from", "for", "sides", "writes meanwhile", "caught up after its end"), rows, (1, 3, 4))
        if rows
        else html.paragraph("The members were never split."),
        html.paragraph(f"The {len(rows)} longest; {more} shorter ones are in the JSON.", "note") if more > 0 else "",
    )


# --- what came of it --------------------------------------------------------------------------------------------------


def _spread(report: RunReport) -> str:
    if not report.spread.everybody.count and not report.spread.never:
        return html.section("spread", "Spread of each write", html.paragraph("Nothing was written, or nobody looked."))
    rows = [_distribution("all", report.spread.everybody)]
    if report.islands:
        rows.append(_distribution("members that the writer could reach", report.spread.reachable))
        rows.append(_distribution("members that were cut off from it", report.spread.cut_off))
    never = report.spread.never
    return html.section(
        "spread",
        "Spread of each write",
        html.paragraph(
            "A point is one write at one other member of its incident: across, when the writer's client was answered; "
            "upwards, how long until a client of that member was told of it."
        ),
        html.figure(plots.spread(report)),
        html.legend(
            [
                ("near", "the writer could reach the member when it was answered" if report.islands else "a member"),
                *([("far", "the member was cut off from the writer, or down")] if report.spread.cut_off.count else []),
                *([("split", "members were split")] if report.splits else []),
                *([("bad", "a member never showed it")] if never else []),
            ],
            dots=True,
        ),
        html.table(("time until shown at", "measured", "p50", "p90", "p99", "longest"), rows, (1, 2, 3, 4, 5)),
        html.paragraph(f"Never shown before the run was over: {words.count(never, 'time')}.") if never else "",
    )


def _distribution(name: str, row: Distribution) -> tuple[str, ...]:
    values = (row.p50_s, row.p90_s, row.p99_s, row.max_s)
    return name, f"{row.count:,}", *("–" if value is None else words.seconds(value) for value in values)


def _together(report: RunReport) -> str:
    made = sum(row.made for row in report.conflicts)
    resolved = len(report.conflicts) - made
    after_s = report.converged_after_s
    end = (
        f"After the last fault all of the core held the same within {words.seconds(after_s)}{_but_for(report)}; "
        f"{words.seconds(report.converge_within_s)} were allowed."
        if after_s is not None
        else f"The core did not become one within {words.seconds(report.converge_within_s)} after the last fault."
    )
    said = (
        f"{words.count(made, 'conflict')} made by writes in ignorance of each other, {resolved} resolved by a write "
        f"that was shown all values, {report.conflicts_left} open at the end."
    )
    shown = bool(report.looks)
    unlike = [(row.node, row.incident, row.what) for row in report.unlike]
    return html.section(
        "together",
        "Coming together",
        html.paragraph(end),
        html.table(("node", "incident", "what still differed"), unlike) if unlike else "",
        html.paragraph(said),
        html.figure(plots.together(report))
        if shown
        else html.paragraph("In this world nobody looked meanwhile.", "note"),
        html.legend([("alone", "▲ conflict made"), ("good", "▼ conflict resolved"), ("split", "members were split")])
        if shown
        else "",
    )


def _traffic(report: RunReport) -> str:
    total = sum(row.bytes for row in report.sent)
    senders = {row.node for row in report.sent}
    kinds = [kind for kind in CLASSES if any(row.kind == kind and row.bytes for row in report.sent)]
    rows = []
    for kind in kinds:
        size = sum(row.bytes for row in report.sent if row.kind == kind)
        frames = sum(row.frames for row in report.sent if row.kind == kind)
        rows.append(
            (kind, CLASSES[kind], f"{frames:,}" if frames else "–", words.size(size), words.share(size / total))
        )
    over_time = any(look.bytes_by_class for look in report.looks)
    return html.section(
        "traffic",
        "What was sent",
        html.figure(plots.traffic(report)),
        html.paragraph(f"The {plots.SENDERS_MAX} that sent the most of {len(senders)} nodes.", "note")
        if len(senders) > plots.SENDERS_MAX
        else "",
        html.legend((f"k-{kind}", kind) for kind in kinds),
        html.figure(plots.traffic_over_time(report)) if over_time else "",
        html.table(("class", "what it is for", "frames", "bytes", "share"), rows, (2, 3, 4)),
        html.paragraph("Frames as nodes hand them to their links, without what a transport adds.", "note")
        if report.world == "protocol"
        else "",
    )


# --- checks -----------------------------------------------------------------------------------------------------------


def _checks(report: RunReport) -> str:
    rows = []
    holes = {invariant for row in report.known for invariant in row.times}
    for row in report.invariants:
        if row.violations:
            verdict = f"VIOLATED {len(row.violations)} times"
        elif not row.wanted:
            verdict = "not asked for"
        else:
            verdict = ("held, but for what is known" if row.name in holes else "held") if row.asked else "never asked"
        rows.append((row.name, row.meaning, f"{row.asked:,}", verdict))
    return html.section(
        "checks",
        "What was checked",
        html.paragraph("From outside, against a record of every answer that a client was given."),
        html.table(("", "what must hold", "asked", "verdict"), rows, (2,), marks="verdict"),
        "<h3>Situations that were reached</h3>",
        html.counts(report.situations.items()) if report.situations else html.paragraph("None that has a name."),
    )


def _untested(report: RunReport) -> str:
    return html.section(
        "untested",
        "What was not tested",
        html.paragraph("This run says nothing about the following."),
        html.untested(untested.topics(report.untested).items()),
    )


def _made(report: RunReport, wall_s: float | None) -> str:
    drawn = [(name, f"{value:g}") for name, value in report.drawn.items()]
    low_s, high_s = report.commit_s
    rows = [
        ("seed", str(report.seed)),
        ("links as", report.transport),
        ("signatures", report.signatures),
        ("a commit takes", f"{words.seconds(low_s)} to {words.seconds(high_s)}"),
        ("steps gather for", words.seconds(report.gather_s)),
        ("switched off", ", ".join(report.switched_off) or "nothing"),
        *drawn,
        ("things that happened", f"{report.events:,}"),
        ("digest of the trace", report.trace or "none: in this world no two runs are the same"),
    ]
    return html.section(
        "made",
        "How it was made",
        html.paragraph("The seed drew all of this; with the same code the command below gives the same again."),
        html.pairs(rows, ("digest of the trace",)),
        made_by(report.made, wall_s),
    )


def made_by(made: Made, wall_s: float | None) -> str:
    rows = [
        ("command", made.command),
        ("code digest", made.code),
        ("commit", made.commit or "not under git"),
        *made.versions.items(),
        *([("time the run took", words.seconds(wall_s))] if wall_s is not None else []),
    ]
    return "<h3>By what</h3>" + html.pairs(rows, ("command", "code digest", "commit"))
