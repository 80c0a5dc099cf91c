"""The rules of core/rights.py read aloud over plain sets: no masks, no order of arrival, nothing kept but answers.

A view is a set of entries that is closed under the past. ``Oracle.judge(view)`` says which lines of it count, by these
entries alone; everything else follows.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field

from group_record import NONCE, Position, Record

from meshnode.core.acts import Role
from meshnode.core.ids import DeviceId

View = frozenset[Position]


@dataclass(frozen=True)
class Line:
    entry: Position
    order: int
    author: DeviceId
    device: DeviceId
    role: int
    noc: str = ""
    limits: bool = False
    creates: bool = False
    depth: int = 0
    place: int = 0


@dataclass
class Judged:
    counts: set[Line] = field(default_factory=set)
    void: set[Position] = field(default_factory=set)


@dataclass
class Oracle:
    record: Record
    _lines: dict[Position, list[Line]] = field(default_factory=dict)
    _in_past: dict[Line, str] = field(default_factory=dict)
    _judged: dict[View, Judged] = field(default_factory=dict)

    # --- lines, as if rights only grew ----------------------------------------------------------------------------

    def lines(self, entry: Position) -> list[Line]:
        if entry not in self._lines:
            self._lines[entry] = list(self._read(entry))
        return self._lines[entry]

    def _read(self, entry: Position) -> Iterator[Line]:
        item = self.record.items[entry]
        ever = [line for earlier in item.past for line in self.lines(earlier) if not line.limits]
        order = 0
        for act in item.acts:
            roles = {line.device: max(x.role for x in ever if x.device == line.device) for line in ever}
            depths = {
                line.device: min((x.depth, x.place, x.entry) for x in ever if x.device == line.device) for line in ever
            }
            made: list[Line] = []
            if act[0] == 1 and item.author == self.record.creator and act[1] == NONCE and not ever:
                rows = enumerate(act[2])
                made = [
                    Line(entry, order + n, item.author, device, role, noc, creates=True, place=n)
                    for n, (device, noc, role) in rows
                ]
            elif act[0] == 2 and roles.get(item.author, 0) == Role.MANAGER:
                depth = depths[item.author][0] + 1
                made = [
                    Line(entry, order + n, item.author, device, role, noc, depth=depth)
                    for n, (device, noc, role) in enumerate(act[1])
                ]
            elif act[0] == 4 and item.author in roles:
                alone = all(device == item.author for device, _ in act[1])
                if alone or roles[item.author] == Role.MANAGER:
                    made = [
                        Line(entry, order + n, item.author, device, role, limits=True)
                        for n, (device, role) in enumerate(act[1])
                    ]
            order += len(made)
            ever += [line for line in made if not line.limits]
            yield from made

    # --- the past -------------------------------------------------------------------------------------------------

    def before(self, one: Line, other: Line) -> bool:
        """Is one in the past of the other?"""
        if one.entry == other.entry:
            return one.order < other.order
        return one.entry in self.record.items[other.entry].past

    def concurrent(self, one: Position, other: Position) -> bool:
        past = self.record.items
        return one != other and one not in past[other].past and other not in past[one].past

    # --- roles ----------------------------------------------------------------------------------------------------

    def live(self, judged: Judged, device: DeviceId, before: Line | None) -> Iterator[tuple[Line, int]]:
        """Grants that count, before a line, with the role that is left of them."""
        lines = [line for line in judged.counts if before is None or self.before(line, before)]
        for grant in lines:
            if grant.device == device and not grant.limits:
                limits = [x for x in lines if x.limits and x.device == device and not self.before(x, grant)]
                role = min([grant.role, *(limit.role for limit in limits)])
                if role:
                    yield grant, role

    def role(self, judged: Judged, device: DeviceId, before: Line | None = None) -> int:
        return max((role for _, role in self.live(judged, device, before)), default=0)

    def seniority(self, judged: Judged, device: DeviceId, before: Line | None) -> tuple[object, ...]:
        grant = min(
            (grant.depth, grant.place, *grant.entry, grant.device) for grant, _ in self.live(judged, device, before)
        )
        return grant[0], grant[1], device

    def noc(self, judged: Judged, device: DeviceId, before: Line | None) -> str:
        return min((g.depth, g.place, *g.entry, g.device, g.noc) for g, _ in self.live(judged, device, before))[-1]

    def everybody(self, judged: Judged) -> set[DeviceId]:
        return {line.device for line in judged.counts}

    # --- M1, M2 and M6 in the own past ----------------------------------------------------------------------------

    def code(self, line: Line) -> str:
        """Empty when it is right in its own past; ``majority`` when it is so only together with others."""
        if line not in self._in_past:
            past = self.judge(self.record.items[line.entry].past)
            own = {x for x in self.lines(line.entry) if x.order < line.order and self.code(x) in ("", "majority")}
            self._in_past[line] = self._code(Judged(past.counts | own, past.void), line)
        return self._in_past[line]

    def _code(self, judged: Judged, line: Line) -> str:
        mine = self.role(judged, line.author, line)
        if not line.limits:
            return "" if line.creates or mine == Role.MANAGER else "not-entitled"
        if not mine:
            return "not-entitled"
        if self.role(judged, line.device, line) <= line.role:
            return "changes-nothing"
        if line.author == line.device:
            others = [self.role(judged, one, line) for one in self.everybody(judged) - {line.device}]
            last = mine == Role.MANAGER and 0 < max([line.role, *others]) < Role.MANAGER
            return "last-manager" if last else ""
        if mine < Role.MANAGER:
            return "not-entitled"
        if self.seniority(judged, line.author, line) < self.seniority(judged, line.device, line):
            return ""
        return "majority" if self.is_majority(judged, line) else "vote"

    def is_majority(self, judged: Judged, line: Line) -> bool:
        agree = {line.author}
        for entry in {*self.record.items[line.entry].past, line.entry}:
            for other in self.lines(entry):
                if (
                    other.limits
                    and other.device == line.device != other.author
                    and other.role <= line.role
                    and self.before(other, line)
                    and self.code(other) in ("", "majority", "vote")
                    and entry not in judged.void
                ):
                    agree.add(other.author)
        managers = [one for one in self.everybody(judged) if self.role(judged, one, line) == Role.MANAGER]
        by_noc: dict[str, list[bool]] = {}
        for one in managers:
            by_noc.setdefault(self.noc(judged, one, line), []).append(one in agree)
        say_so = [noc for noc, votes in by_noc.items() if 2 * sum(votes) > len(votes)]
        return 2 * len(say_so) > len(by_noc)

    # --- M3 and M5 ------------------------------------------------------------------------------------------------

    def judge(self, view: View) -> Judged:
        if view not in self._judged:
            self._judged[view] = self._judge(view)
        return self._judged[view]

    def _judge(self, view: View) -> Judged:
        lines = [line for entry in view for line in self.lines(entry) if self.code(line) in ("", "majority")]
        lines.sort(key=lambda line: (len(self.record.items[line.entry].past), line.entry, line.order))
        judged = Judged(set(lines))
        asked: set[Line] = set()

        def grants() -> None:
            for line in lines:
                if not line.limits:
                    rests = line.creates or self.role(judged, line.author, line) == Role.MANAGER
                    judged.counts.discard(line)
                    if rests and line.entry not in judged.void:
                        judged.counts.add(line)

        grants()
        for line in sorted((line for line in lines if line.limits), key=self._place):
            if line.entry in judged.void or not self._still_right(judged, line):
                judged.counts.discard(line)
            else:
                asked.add(line)
                judged.void |= {
                    entry
                    for entry in view
                    if self.record.items[entry].author == line.device
                    and self.lines(entry)
                    and self.concurrent(entry, line.entry)
                }
                judged.counts -= {x for x in lines if x.limits and x.entry in judged.void and x not in asked}
            grants()
        return judged

    def _place(self, line: Line) -> tuple[object, ...]:
        item = self.record.items[line.entry]
        past = sum(bool(self.lines(entry)) for entry in item.past)
        causal = (past, line.entry, line.order)
        if self.code(line) == "majority":
            return (0, *causal)
        own = {x for x in self.lines(line.entry) if x.order < line.order and self.code(x) in ("", "majority")}
        judged = self.judge(item.past)
        rank = self.seniority(Judged(judged.counts | own, judged.void), line.author, line)
        return (1, *rank, *causal)

    def _still_right(self, judged: Judged, line: Line) -> bool:
        mine = self.role(judged, line.author, line)
        if line.author == line.device:
            others = [self.role(judged, one) for one in self.everybody(judged) - {line.device}]
            return not (mine == Role.MANAGER and 0 < max([line.role, *others]) < Role.MANAGER)
        return mine == Role.MANAGER and (self.code(line) != "majority" or self.is_majority(judged, line))

    # --- what comes of it -----------------------------------------------------------------------------------------

    def members(self, view: View) -> dict[DeviceId, Role]:
        judged = self.judge(view)
        roles = {device: self.role(judged, device) for device in self.everybody(judged)}
        return {device: Role(role) for device, role in roles.items() if role}

    def role_at(self, view: View, device: DeviceId, entry: Position) -> int:
        """By all of the view, of what the entry covers."""
        past = self.record.items[entry].past | {entry}
        judged = self.judge(view)
        return self.role(Judged({line for line in judged.counts if line.entry in past}, judged.void), device)
