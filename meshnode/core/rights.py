"""Who holds which role once rights can be taken away: a function of the set of acts, whatever split made them.

The group (core/groups.py) judges each act as if rights only grew, and hands over the **lines** that hold so far: grants
and limits (core/acts.py). A limit leaves its target at most a role, 0 for none: that is a removal. Here it is decided
which lines count. *Past* is the causal past, and of two lines of one entry the earlier is in the past of the later.

* M1. A line must be right in its own past, judged by these rules over that past alone: so this verdict is final when
  given. Granting, and limiting others, needs a manager; any member may limit itself.
* M2. Who limits somebody else is **more senior** (depth of the adding chain, then order in the creating act, then
  device), or is joined by so many that now more than half of the NOCs with managers have said the same of the target (a
  **majority**); a NOC says what more than half of its managers say. A line that is only short of others is a vote.
* M3. A limit that counts voids every act of its target that is concurrent with it. It is asked of one limit after the
  other: majorities first; then by seniority of their author, those of one author in causal order, then by position. A
  limit that was found to count is not undone by one that is asked later.
* M4. A limit beats a concurrent grant: a grant gives a role again only when it follows the limit.
* M5. What rests on a void act is void: M1 and M2 are asked again without it.
* M6. Nobody leaves, or steps down, as the last manager while others are members; of two that do so at once the less
  senior one goes.

Time and arrival play no part. All of this is one :class:`Judgement` of a set of entries; M1 asks for that of a past.

Cost: a group without limits pays nothing. A grant, and a limit whose target has no act outside the limit's past, costs
its own size. Any other limit has all lines looked at again, once for each limit that voids something; so has an entry
whose past lacks lines that are known, if limits are in that past.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import TypeVar

from meshnode.core.acts import Grant, Limit, Role, Standing, Standings, seniority
from meshnode.core.ids import DeviceId, LogId
from meshnode.core.pasts import Position, bits

EVERYTHING = -1
"""The mask of all kept entries."""
JUDGEMENTS_KEPT = 64
"""Pasts whose judgement is remembered."""
VOTE = "act-needs-majority"


@dataclass(slots=True, eq=False)
class GrantLine:
    number: int
    """Of all lines here."""
    index: int
    """Of the kept entry."""
    order: int
    """Among the lines of its entry."""
    author: DeviceId
    grant: Grant
    code: str = ""
    """M1: why it is void in its own past."""


@dataclass(slots=True, eq=False)
class LimitLine:
    number: int
    index: int
    order: int
    author: DeviceId
    limit: Limit
    position: Position
    code: str = ""
    by_majority: bool = False
    place: tuple[int, int, DeviceId, int, Position, int] = (0, 0, DeviceId(b""), 0, (LogId(b""), 0), 0)
    """In the order of M3, of a line that is right in its own past: seniority of its author there, entries in its past,
    position, order."""


Line = GrantLine | LimitLine
_Line = TypeVar("_Line", GrantLine, LimitLine)


class Judgement:
    """Which lines of a set of entries count, by these entries alone."""

    __slots__ = ("counts", "held_back", "limits", "void", "why")

    def __init__(self, lines: Iterable[Line] = ()) -> None:
        self.counts: set[int] = set()
        """Numbers of lines."""
        self.limits: dict[tuple[DeviceId, int], int] = {}
        """(device, role) -> entries with a counting limit that leaves the device this role."""
        self.void: dict[int, LimitLine] = {}
        """Entry -> the limit that its author had not seen and that makes its acts void; the first that was asked."""
        self.why: dict[int, str] = {}
        """Number of a line that is right in its own past and does not count -> code."""
        self.held_back = False
        """Some limit does not count because of M6, which another manager would change."""
        for line in lines:
            self.take(line)

    def take(self, line: Line) -> None:
        self.counts.add(line.number)
        self.why.pop(line.number, None)
        if isinstance(line, LimitLine):
            key = line.limit.device, line.limit.role
            self.limits[key] = self.limits.get(key, 0) | 1 << line.index

    def leave(self, line: Line, code: str) -> None:
        self.counts.discard(line.number)
        self.why[line.number] = code
        if isinstance(line, LimitLine):
            # Two lines of one entry that leave a device the same role: the later one changes nothing, so it is void.
            self.limits[line.limit.device, line.limit.role] &= ~(1 << line.index)

    def with_lines(self, lines: Iterable[Line]) -> Judgement:
        """A copy in which these count too."""
        other = Judgement()
        other.counts, other.limits, other.void = set(self.counts), dict(self.limits), self.void
        for line in lines:
            other.take(line)
        return other


class Rights:
    """Told every kept entry that has lines, in an order that respects causality."""

    def __init__(self, past_of: Callable[[int], int]) -> None:
        """``past_of(index)``: the mask of kept entries in the past of a kept entry, itself included."""
        self._past_of = past_of
        self._lines: list[Line] = []
        """In the order of entries, then of lines."""
        self._grants: dict[DeviceId, list[GrantLine]] = {}
        self._limits: dict[DeviceId, list[LimitLine]] = {}
        """By target."""
        self._acts_of: dict[DeviceId, int] = {}
        """By author: entries with lines."""
        self._acts = self._limiting = 0
        self._now = Judgement()
        self._judged: dict[int, Judgement] = {}

    @property
    def active(self) -> bool:
        """Is there any limit, right or wrong?"""
        return bool(self._limits)

    # --- what follows ---------------------------------------------------------------------------------------------

    def role(self, device: DeviceId, past: int = EVERYTHING) -> int:
        """By all that is known, of what is in this past: 0 for a device that is no member there."""
        return self._role(self._now, device, past, -1, 0)

    def standings(self, past: int = EVERYTHING) -> Standings:
        """By all that is known, of what is in this past: all members there."""
        found = ((device, self._standing(self._now, device, past, -1, 0)) for device in self._grants)
        return {device: standing for device, standing in found if standing is not None}

    def standings_in_past(self, past: int, lines: Iterable[Line]) -> Standings:
        """M1: all members in the past of an entry by that past alone, and by what is right in it of the entry's own
        lines."""
        own = [line for line in lines if not line.code]
        index = next((line.index for line in lines), None)
        judged = self._of_past(past, self._acts if index is None else self._acts & ~(1 << index))
        if own:
            judged = judged.with_lines(own)
            past |= 1 << own[0].index
        found = ((device, self._standing(judged, device, past, -1, 0)) for device in self._grants)
        return {device: standing for device, standing in found if standing is not None}

    def granting(self, device: DeviceId) -> int:
        """Entries whose grants make the device a member now."""
        lines = self._grants.get(device, ())
        return sum({1 << line.index for line in lines if self._left_of(self._now, line, EVERYTHING, -1, 0)})

    def limits_on(self, device: DeviceId) -> list[LimitLine]:
        """Those that count."""
        return [line for line in self._limits.get(device, ()) if line.number in self._now.counts]

    def votes(self, device: DeviceId) -> set[DeviceId]:
        """Managers who want this device removed or lowered and are too few as yet."""
        return {line.author for line in self._limits.get(device, ()) if line.code == VOTE}

    def removals(self) -> int:
        """Entries with a removal that counts."""
        found = 0
        for (_, role), entries in self._now.limits.items():
            found |= 0 if role else entries
        return found

    # --- growing --------------------------------------------------------------------------------------------------

    def enter(
        self, index: int, position: Position, author: DeviceId, grants: Mapping[int, Grant], limits: Mapping[int, Limit]
    ) -> list[Line]:
        """The lines of the next kept entry, by their order in it. Returns them in order, with their codes of M1. They
        count once they are given to :meth:`take`; whoever has another reason against one sets its code before."""
        new = self._enter(index, position, author, grants, limits)
        if new and self.active:
            self._judge_in_past(new, self._past_of(index) & ~(1 << index))
        return new

    def forget(self, lines: list[Line]) -> None:
        """Lines that were just entered are none after all."""
        for line in lines:
            if isinstance(line, GrantLine):
                _remove(self._grants, line.grant.device, line)
            else:
                _remove(self._limits, line.limit.device, line)
        if lines:
            del self._lines[-len(lines) :]
            bit = 1 << lines[0].index
            self._acts &= ~bit
            self._limiting &= ~bit
            self._acts_of[lines[0].author] &= ~bit

    def take(self, new: list[Line]) -> bool:
        """True when what was judged before may be other now."""
        if any(not line.code and self._reaches_back(line) for line in new):
            self._now = self._judge(EVERYTHING)
            return True
        for line in new:
            fault = line.code or self._fault(self._now, line)
            if not fault:
                self._now.take(line)
            elif not line.code:
                self._now.why[line.number] = fault
        return False

    def _enter(
        self, index: int, position: Position, author: DeviceId, grants: Mapping[int, Grant], limits: Mapping[int, Limit]
    ) -> list[Line]:
        new: list[Line] = []
        for order in sorted({*grants, *limits}):
            number = len(self._lines)
            if order in grants:
                grant = GrantLine(number, index, order, author, grants[order])
                self._grants.setdefault(grant.grant.device, []).append(grant)
                new.append(grant)
            else:
                limit = LimitLine(number, index, order, author, limits[order], position)
                self._limits.setdefault(limit.limit.device, []).append(limit)
                self._limiting |= 1 << index
                new.append(limit)
            self._lines.append(new[-1])
        if new:
            self._acts_of[author] = self._acts_of.get(author, 0) | 1 << index
            self._acts |= 1 << index
        return new

    def _judge_in_past(self, lines: list[Line], past: int) -> None:
        """M1 and M2. Nothing in the past of an entry is concurrent with it, so its lines are judged one by one."""
        base = self._of_past(past, self._acts & ~(1 << lines[0].index))
        judged = base.with_lines(()) if len(lines) > 1 else base
        for line in lines:
            line.code = self._fault_in_past(judged, line)
            if not line.code and len(lines) > 1:
                judged.take(line)

    def _of_past(self, past: int, known: int) -> Judgement:
        """``known``: entries with lines that the judgement of now is about."""
        mask = past & known
        if mask == known:
            return self._now
        if not mask & self._limiting:
            return self._grants_alone(mask)
        judged = self._judged.get(mask)
        if judged is None:
            if len(self._judged) >= JUDGEMENTS_KEPT:
                del self._judged[next(iter(self._judged))]
            judged = self._judged[mask] = self._judge(mask)
        return judged

    def _grants_alone(self, mask: int) -> Judgement:
        return Judgement(line for line in self._lines if mask >> line.index & 1 and not line.code)

    def _fault_in_past(self, judged: Judgement, line: Line) -> str:
        if isinstance(line, GrantLine):
            return "" if self._may_grant(judged, line) else "act-not-entitled"
        past = self._past_of(line.index)
        mine = self._standing(judged, line.author, past, line.index, line.order)
        target = self._standing(judged, line.limit.device, past, line.index, line.order)
        if mine is None:
            return "act-not-entitled"
        if target is None or target.role <= line.limit.role:
            return "act-changes-nothing"
        if line.author == line.limit.device:
            if self._leaves_nobody(judged, line, past):
                return "act-last-manager"
        elif mine.role < Role.MANAGER:
            return "act-not-entitled"
        elif seniority((line.author, mine)) > seniority((line.limit.device, target)):
            line.by_majority = self._is_majority(judged, line)
            if not line.by_majority:
                return VOTE
        depth, order, device = seniority((line.author, mine))
        line.place = (depth, order, device, past.bit_count(), line.position, line.order)
        return ""

    def _reaches_back(self, line: Line) -> bool:
        """May it change what was judged before, or its place among the limits decide about it?"""
        judged = self._now
        if isinstance(line, GrantLine):
            if judged.held_back and line.grant.role == Role.MANAGER:
                return True
        elif line.by_majority or judged.held_back or line.author == line.limit.device or self._concurrent_acts(line):
            return True
        return any(
            limit.number in judged.counts and self._is_concurrent(line.index, limit)
            for limit in self._limits.get(line.author, ())
        )

    # --- a judgement ----------------------------------------------------------------------------------------------

    def _judge(self, mask: int) -> Judgement:
        """The lines of these entries, by these alone."""
        lines = [line for line in self._lines if mask >> line.index & 1 and not line.code]
        judged = Judgement(lines)
        self._ask_grants(judged, lines)
        limits = [line for line in lines if isinstance(line, LimitLine)]
        asked: set[int] = set()
        for line in sorted(limits, key=_order_of_m3):
            fault = self._fault(judged, line)
            if fault:
                judged.leave(line, fault)
                self._ask_grants(judged, lines)
                continue
            asked.add(line.number)
            fresh = [index for index in self._concurrent_acts(line) if mask >> index & 1 and index not in judged.void]
            for index in fresh:
                judged.void[index] = line
            if fresh:
                for other in limits:
                    if other.index in judged.void and other.number not in asked:
                        judged.leave(other, "act-author-limited")
                self._ask_grants(judged, lines)
        return judged

    def _ask_grants(self, judged: Judgement, lines: Iterable[Line]) -> None:
        """M5: which grants count while limits count as they do. Each rests on earlier lines only."""
        for line in lines:
            if isinstance(line, GrantLine):
                if line.index in judged.void:
                    code = "act-author-limited"
                else:
                    code = "" if self._may_grant(judged, line) else "act-rests-on-void"
                if code:
                    judged.leave(line, code)
                else:
                    judged.take(line)

    def _fault(self, judged: Judgement, line: Line) -> str:
        """Of a line that is right in its own past: why it does not count all the same."""
        if line.index in judged.void:
            return "act-author-limited"
        if isinstance(line, GrantLine):
            return "" if self._may_grant(judged, line) else "act-rests-on-void"
        past = self._past_of(line.index)
        if line.author == line.limit.device:
            if self._leaves_nobody(judged, line, EVERYTHING):
                judged.held_back = True
                return "act-last-manager"
            return ""
        if self._role(judged, line.author, past, line.index, line.order) < Role.MANAGER:
            return "act-rests-on-void"
        if line.by_majority and not self._is_majority(judged, line):
            return "act-rests-on-void"
        return ""

    # --- the rules ------------------------------------------------------------------------------------------------

    def _concurrent_acts(self, line: LimitLine) -> list[int]:
        """Entries with acts of the target that have not seen this limit, nor it them."""
        rest = self._acts_of.get(line.limit.device, 0) & ~self._past_of(line.index)
        return [index for index in bits(rest) if self._is_concurrent(index, line)]

    def _is_concurrent(self, index: int, line: LimitLine) -> bool:
        """An entry is not concurrent with itself."""
        return not self._past_of(line.index) >> index & 1 and not self._past_of(index) >> line.index & 1

    def _may_grant(self, judged: Judgement, line: GrantLine) -> bool:
        if line.grant.depth == 0:
            return True  # it creates the incident
        return self._role(judged, line.author, self._past_of(line.index), line.index, line.order) >= Role.MANAGER

    def _is_majority(self, judged: Judgement, line: LimitLine) -> bool:
        """M2, with this line."""
        past = self._past_of(line.index)
        agree = {line.author} | {
            other.author
            for other in self._limits[line.limit.device]
            if other.code in ("", VOTE)
            and other.limit.role <= line.limit.role
            and other.author != line.limit.device
            and _is_before(other, past, line.index, line.order)
            and other.index not in judged.void
        }
        balance: dict[str, int] = {}
        for device in self._grants:
            standing = self._standing(judged, device, past, line.index, line.order)
            if standing is not None and standing.role == Role.MANAGER:
                noc = standing.grant.noc
                balance[noc] = balance.get(noc, 0) + (1 if device in agree else -1)
        return 2 * sum(votes > 0 for votes in balance.values()) > len(balance)

    def _leaves_nobody(self, judged: Judgement, line: LimitLine, past: int) -> bool:
        """M6. ``past`` is the line's own, or everything: two managers that leave at once must not leave nobody."""
        index, order = (-1, 0) if past == EVERYTHING else (line.index, line.order)
        if self._role(judged, line.author, self._past_of(line.index), line.index, line.order) < Role.MANAGER:
            return False
        others = (
            self._role(judged, device, past, index, order) for device in self._grants if device != line.limit.device
        )
        return Role.READER <= max(line.limit.role, *others, 0) < Role.MANAGER

    def _role(self, judged: Judgement, device: DeviceId, past: int, index: int, order: int) -> int:
        return max((role for _, role in self._live(judged, device, past, index, order)), default=0)

    def _standing(self, judged: Judgement, device: DeviceId, past: int, index: int, order: int) -> Standing | None:
        live = list(self._live(judged, device, past, index, order))
        return Standing(min(grant for grant, _ in live), Role(max(role for _, role in live))) if live else None

    def _live(
        self, judged: Judgement, device: DeviceId, past: int, index: int, order: int
    ) -> Iterator[tuple[Grant, int]]:
        """Grants that count in a past, each with the role that limits leave of it (M4). The past is that of line
        ``order`` of entry ``index``; index -1 is that of no line."""
        for line in self._grants.get(device, ()):
            role = self._left_of(judged, line, past, index, order)
            if role:
                yield line.grant, role

    def _left_of(self, judged: Judgement, line: GrantLine, past: int, index: int, order: int) -> int:
        """The role that a grant gives there; 0 when it gives none."""
        if line.number not in judged.counts or not _is_before(line, past, index, order):
            return 0
        seen = self._past_of(line.index)
        for role in range(line.grant.role):
            entries = judged.limits.get((line.grant.device, role), 0)
            if index >= 0 and entries >> index & 1 and not self._stands_before(judged, line, role, index, order):
                entries &= ~(1 << index)
            if entries & past & ~seen:
                return role
            if entries >> line.index & 1 and not self._stands_before(judged, line, role, line.index, line.order):
                return role
        return line.grant.role

    def _stands_before(self, judged: Judgement, line: GrantLine, role: int, index: int, order: int) -> bool:
        """Is there a limit of this role on the same device before line ``order`` of entry ``index``, in that entry?"""
        return any(
            limit.index == index and limit.order < order and limit.limit.role == role and limit.number in judged.counts
            for limit in reversed(self._limits[line.grant.device])
        )


def _remove(lines: dict[DeviceId, list[_Line]], device: DeviceId, line: _Line) -> None:
    lines[device].remove(line)
    if not lines[device]:
        del lines[device]


def _is_before(line: Line, past: int, index: int, order: int) -> bool:
    """Is the line in this past of line ``order`` of entry ``index``?"""
    if line.index == index:
        return line.order < order
    return bool(past >> line.index & 1)


def _order_of_m3(line: LimitLine) -> tuple[bool, tuple[object, ...]]:
    return (False, line.place[3:]) if line.by_majority else (True, line.place)
