"""The timeline: every fault a band, every node a row whose colour says whom it could reach, every link a line."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from itertools import groupby

from simulations.report import colours, words
from simulations.report.axes import TimeAxis
from simulations.report.reach import RUNNING
from simulations.report.records import Fault, LinkSpell, Node, RunReport
from simulations.report.svg import Drawing, number
from simulations.worlds.timeline import DOWN, PAUSED

WIDTH, LEFT, RIGHT = 1080.0, 112.0, 1058.0
LANE_PX, GAP_PX, HEAD_PX = 18.0, 26.0, 34.0
BINS_PER_PX = 2
"""What happens within half a pixel is one thing."""
COUNT_PX = 40.0
PAIRS_MAX = 28
"""More links (of more than eight nodes that all know each other) are counted, not drawn one by one."""
BANDS_MAX = 1_500
"""In one lane, that say their times when pointed at: more are drawn as one."""
LETTER_GAP_PX = 13.0
LABEL_PX = 6.2
"""A letter of a label, about."""

LANES = {
    "cut": "cut",
    "hold": "held",
    "drop": "loss",
    "duplicate": "doubled",
    "delay": "delay",
    "corrupt": "damaged",
    "lost for good": "lost for good",
    "crash": "crash",
    "restart": "restart",
    "pause": "pause",
    "wipe": "wipe",
    "restore-old-backup": "old backup",
    "clone": "clone",
    "skew-clock": "wrong clock",
    "disk-full": "disk full",
    "bit-flip": "bit flip",
    "upgrade": "upgrade",
    "downgrade": "downgrade",
    "lie": "lies",
}
"""Kind of fault -> what its lane is called, in the order of lanes."""
LIE = "lie"
LINK_KINDS = ("cut", "hold", "drop", "duplicate", "delay", "corrupt")


def drawing(report: RunReport, moments: Sequence[tuple[str, float]] = ()) -> Drawing:
    """``moments``: (letter, time) of the pictures that are shown elsewhere."""
    lanes = list(_lanes(report.faults))
    nodes = report.nodes if report.islands else ()
    row_px = 20.0 if len(report.nodes) <= 12 else 15.0 if len(report.nodes) <= 40 else 9.0
    links = _link_rows(report)
    height = HEAD_PX + 14
    height += len(lanes) * LANE_PX + (GAP_PX if lanes else 0)
    height += len(nodes) * row_px + (GAP_PX + len(links) * 12 if links else 0)
    counted = list(_counted(report, bool(nodes), bool(links)))
    height += len(counted) * (GAP_PX + COUNT_PX)
    found = Drawing(WIDTH, height, "Timeline of faults, nodes and links", "strip")
    axis = TimeAxis(report.end_s, LEFT, RIGHT)
    axis.draw(found, HEAD_PX - 12, height - 8)
    _faults_end(found, axis, report, height)
    y = HEAD_PX
    for label, faults in lanes:
        _lane(found, axis, label, faults, y)
        y += LANE_PX
    if lanes:
        y += GAP_PX
    labelled = {node.name: _name(node) for node in report.nodes}
    beside = LEFT - LETTER_GAP_PX
    for letter, at_s in moments:
        x = axis.x(at_s)
        beside = max(x, beside + LETTER_GAP_PX)
        found.line(x, y - 6, x, y + len(nodes) * row_px, "moment")
        found.text(beside, y - 9, letter, "letter", "middle")
    for name, bins in _bins(report, axis) if nodes else ():
        _row(found, labelled[name], bins, y, row_px)
        y += row_px
    y += GAP_PX if nodes else 0
    for what, most, spans in counted:
        _count(found, axis, (what, most, spans), y)
        y += COUNT_PX + GAP_PX
    for label, spells in links:
        found.text(LEFT - 10, y + 4, label, "small", "end")
        found.line(LEFT, y, RIGHT, y, "unlinked")
        found.runs(y, _merged((axis.x(row.begin_s), axis.x(row.end_s)) for row in spells), "linked", 3)
        y += 12
    return found


def _faults_end(found: Drawing, axis: TimeAxis, report: RunReport, height: float) -> None:
    x = axis.x(report.duration_s)
    found.line(x, HEAD_PX - 12, x, height - 8, "end")
    found.text(min(x, RIGHT - 4), height - 1, "faults end", "mark", "end" if x > RIGHT - 80 else "middle")


# --- faults -----------------------------------------------------------------------------------------------------------


def bands(faults: Iterable[Fault]) -> Iterator[tuple[float, float, str]]:
    """(begin, end, who): what begins and ends together is one band, as a partition is made of cuts from each side."""
    for (begin_s, end_s), group in groupby(sorted(faults, key=_span), _span):
        members = list(group)
        if members[0].receivers:
            who = _ways(members)
        else:
            who = words.listed([name for fault in members for name in fault.nodes])
        if members[0].kind == LIE:
            helped = members[0].nodes[1:2]
            who = " with ".join([words.listed(list(dict.fromkeys(fault.detail for fault in members))), *helped])
        yield begin_s, end_s, who


def _span(fault: Fault) -> tuple[float, float]:
    return fault.begin_s, fault.end_s


def _ways(faults: Sequence[Fault]) -> str:
    one = faults[0]
    if len(faults) == 2 and set(one.nodes) < set(faults[1].nodes):
        return words.listed(one.nodes, 4)  # to and from these
    if len(faults) > 1:
        return words.sides((fault.nodes for fault in faults), 4)
    return f"{words.listed(one.nodes, 4)} → {words.listed(one.receivers, 4)}"


def _lanes(faults: Sequence[Fault]) -> Iterator[tuple[str, list[Fault]]]:
    """(what it is called, its faults): a lane for each kind, and one for each who lies, which may do much at once."""
    kinds = [*LANES, *sorted({fault.kind for fault in faults} - set(LANES))]
    for kind in kinds:
        found = [fault for fault in faults if fault.kind == kind]
        if kind == LIE:
            for name in dict.fromkeys(fault.nodes[0] for fault in found):
                yield f"{name} lies", [fault for fault in found if fault.nodes[0] == name]
        elif found:
            yield LANES.get(kind, kind), found


def _lane(found: Drawing, axis: TimeAxis, label: str, faults: Sequence[Fault], y: float) -> None:
    found.text(LEFT - 10, y + 11, label, "small", "end")
    colour = "network" if faults[0].kind in LINK_KINDS else "machine"
    drawn = list(bands(faults))
    if len(drawn) > BANDS_MAX:
        spans = _merged((axis.x(begin_s), axis.x(end_s)) for begin_s, end_s, _ in drawn)
        found.runs(y + 7, spans, f"run-{colour}", 12)
        return
    covered = LEFT
    for place, (begin_s, end_s, who) in enumerate(drawn):
        x1, x2 = axis.x(begin_s), axis.x(end_s)
        x2 = max(x2, x1 + 2)
        when = words.moment(begin_s) if begin_s == end_s else f"{words.moment(begin_s)} to {words.moment(end_s)}"
        found.rect(x1, y + 1, x2 - x1, 12, colour, f"{label}: {who}, {when}")
        following = axis.x(drawn[place + 1][0]) if place + 1 < len(drawn) else RIGHT
        wide = len(who) * LABEL_PX + 10
        inside = max(x1, covered)
        if wide < min(x2, following) - inside:
            found.text(inside + 5, y + 11, who, "inside")
            covered = inside + wide
        elif wide < following - x2 and x2 >= covered:
            found.text(x2 + 4, y + 11, who, "small")
            covered = x2 + wide
        covered = max(covered, x2)


# --- nodes ------------------------------------------------------------------------------------------------------------


def _name(node: Node) -> str:
    said = [node.role] if node.role != "member" else []
    said += ["lies"] if node.lies else []
    return f"{node.name} ({', '.join(said)})" if said else node.name


def _bins(report: RunReport, axis: TimeAxis) -> Iterator[tuple[str, list[int]]]:
    """Of each node, how grave it is in each half pixel."""
    wide = int((RIGHT - LEFT) * BINS_PER_PX)
    rows = {node.name: [0] * wide for node in report.nodes}

    def paint(name: str, begin_s: float, end_s: float, colour: str) -> None:
        grave, row = colours.GRAVE.index(colour), rows[name]
        first = int((axis.x(begin_s) - LEFT) * BINS_PER_PX)
        last = math.ceil((axis.x(end_s) - LEFT) * BINS_PER_PX)
        for place in range(first, min(max(last, first + 1), wide)):
            row[place] = max(row[place], grave)

    for stretch in report.islands:
        for name, colour in colours.of_sides(stretch.sides, len(report.nodes)).items():
            paint(name, stretch.begin_s, stretch.end_s, colour)
    for spell in report.spells:
        if spell.state in (DOWN, PAUSED):
            paint(spell.node, spell.begin_s, spell.end_s, spell.state)
    yield from rows.items()


def _row(found: Drawing, name: str, bins: Sequence[int], y: float, row_px: float) -> None:
    middle = y + row_px / 2
    if row_px > 10:
        found.text(LEFT - 10, middle + 4, name, "name", "end")
    spans: dict[str, list[tuple[float, float]]] = defaultdict(list)
    x = LEFT
    said = []
    for grave, run in groupby(bins):
        wide = len(list(run)) / BINS_PER_PX
        colour = colours.GRAVE[grave]
        if colour:
            spans[colour].append((x, x + wide))
        if colour in (colours.ALONE, DOWN, PAUSED) and wide > 60 and row_px > 12:
            said.append((x + wide / 2, {colours.ALONE: "alone", PAUSED: "stands still"}.get(colour, colour), colour))
        x += wide
    for colour, found_spans in spans.items():
        found.runs(middle, found_spans, f"run-{colour}", row_px - 4)
    for at_x, text, colour in said:
        found.text(at_x, middle + 3.5, text, f"on-{colour}", "middle")


# --- links ------------------------------------------------------------------------------------------------------------


def _link_rows(report: RunReport) -> list[tuple[str, list[LinkSpell]]]:
    if report.links_every_s is None or len(report.reach) > PAIRS_MAX:
        return []
    spells: dict[tuple[str, str], list[LinkSpell]] = defaultdict(list)
    for spell in report.links:
        spells[spell.a, spell.b].append(spell)
        spells[spell.b, spell.a].append(spell)
    return [(f"{a} – {b}", spells[a, b]) for a, b in report.reach]


def _counted(
    report: RunReport, has_nodes: bool, has_links: bool
) -> Iterator[tuple[str, int, list[tuple[float, float]]]]:
    """(what, how many there can be, from and to of each): of what is too much to be drawn one by one."""
    if not has_nodes and report.spells:
        running = [(row.begin_s, row.end_s) for row in report.spells if row.state in RUNNING]
        yield "nodes run", len(report.nodes), running
    if not has_links and report.links:
        yield "links", len(report.reach), [(row.begin_s, row.end_s) for row in report.links]


def _count(found: Drawing, axis: TimeAxis, counted: tuple[str, int, Sequence[tuple[float, float]]], top: float) -> None:
    what, most, spans = counted
    changes = sorted([(begin_s, 1) for begin_s, _ in spans] + [(end_s, -1) for _, end_s in spans])
    bottom, there, data, x = top + COUNT_PX, 0, f"M{number(LEFT)} {number(top + COUNT_PX)}", LEFT
    for at_s, by in changes:
        if axis.x(at_s) - x >= 1 / BINS_PER_PX:
            x = axis.x(at_s)
            data += f"V{number(bottom - there / most * COUNT_PX)}H{number(x)}"
        there += by
    found.path(f"{data}V{number(bottom)}z", "link-count")
    for value, y in ((most, top), (0, bottom)):
        found.line(LEFT, y, RIGHT, y, "grid")
        found.text(LEFT - 10, y + 4, f"{value} {what}" if value else "0", "small", "end")


def _merged(spans: Iterable[tuple[float, float]]) -> list[tuple[float, float]]:
    """Spans that touch within half a pixel are one; none is thinner than one pixel."""
    found: list[tuple[float, float]] = []
    for x1, x2 in sorted(spans):
        if found and x1 - found[-1][1] < 1 / BINS_PER_PX:
            found[-1] = (found[-1][0], max(found[-1][1], x2))
        else:
            found.append((x1, max(x2, x1 + 1)))
    return found
