"""What became of each write: who it was for, who was cut off when it was made, when each of them showed it."""

from __future__ import annotations

from bisect import bisect_left
from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence

from simulations.report.reach import Reach
from simulations.report.records import Distribution, Islands, Split, Spreads, Write
from simulations.runs import percentile
from simulations.worlds.contract import Outcome


def of_outcome(outcome: Outcome, reach: Reach | None) -> Iterator[Write]:
    """In the order in which clients were answered. Without ``reach`` nobody is said to be cut off.

    A write is for the members whom the incident was shared with before it was answered, as far as they are members in
    the end: who comes later reads all of it too, but had nothing to wait for.
    """
    shown: dict[int, dict[str, float]] = defaultdict(dict)
    for seen in outcome.spread_s:
        shown[seen.number][seen.node] = seen.after_s
    names = {incident: name for name, incident in outcome.incidents.items()}
    due = _Due(outcome)
    for row in sorted(outcome.acknowledged, key=lambda row: (row.at_s, row.number)):
        if row.number in outcome.excused:
            continue
        members = due.members(row.touch.incident, row.at_s, row.node)
        at = None if reach is None else reach.at(row.at_s)
        yield Write(
            number=row.number,
            at_s=row.at_s,
            node=row.node,
            incident=names.get(row.touch.incident, row.touch.incident[:8]),
            kind=row.kind,
            shown_after_s={name: shown[row.number][name] for name in members if name in shown[row.number]},
            cut_off=tuple(name for name in members if at is not None and not _reaches(reach, at, row.node, name)),
            never=tuple(name for name in members if name not in shown[row.number]),
        )


def _reaches(reach: Reach | None, at: int, a: str, b: str) -> bool:
    return reach is not None and reach.reaches(at, a, b)


class _Due:
    """Whom an incident had been shared with by when."""

    def __init__(self, outcome: Outcome) -> None:
        self._shared: dict[str, list[tuple[float, str]]] = defaultdict(list)
        for row in outcome.sealed:
            self._shared[row.incident] += [(row.at_s, noc) for noc in row.nocs]
        self._nodes = [node for node in outcome.plan.nodes if node.role == "member"]
        self._listed: dict[str, set[str]] = defaultdict(set)
        for end in outcome.ends:
            for incident, shown in end.incidents.items():
                self._listed[incident].update(shown.members)

    def members(self, incident: str, at_s: float, writer: str) -> list[str]:
        nocs = {noc for shared_s, noc in self._shared[incident] if shared_s <= at_s}
        listed = self._listed[incident]
        return [node.name for node in self._nodes if node.noc in nocs and node.name in listed and node.name != writer]


# --- how long it took -------------------------------------------------------------------------------------------------


def spreads(writes: Iterable[Write]) -> Spreads:
    reachable: list[float] = []
    cut_off: list[float] = []
    never = 0
    for write in writes:
        never += len(write.never)
        for name, after_s in write.shown_after_s.items():
            (cut_off if name in write.cut_off else reachable).append(after_s)
    return Spreads(distribution(reachable + cut_off), distribution(reachable), distribution(cut_off), never)


def distribution(values: Sequence[float]) -> Distribution:
    p50, p90, p99 = (percentile(values, share) for share in (50, 90, 99))
    return Distribution(len(values), p50, p90, p99, max(values, default=None))


# --- splits -----------------------------------------------------------------------------------------------------------


def splits(islands: Iterable[Islands], writes: Sequence[Write], members: Iterable[str]) -> Iterator[Split]:
    """Each time in which members that ran were on several sides, and how long catching up took after it.

    Sides are named with their relays; a relay alone is no split, and neither is a mesh that comes up before anybody has
    written anything."""
    wanted = set(members)
    times_s = [write.at_s for write in writes]
    episode: list[Islands] = []
    for stretch in [*islands, None]:
        if stretch is not None and sum(not wanted.isdisjoint(side) for side in stretch.sides) > 1:
            episode.append(stretch)
        elif episode:
            begin_s, end_s = episode[0].begin_s, episode[-1].end_s
            before = writes[: bisect_left(times_s, end_s)]
            if before:
                yield Split(
                    begin_s=begin_s,
                    end_s=end_s,
                    sides=_longest(episode),
                    writes=len(before) - bisect_left(times_s, begin_s),
                    caught_up_after_s=_caught_up(before, end_s),
                )
            episode = []


def _longest(episode: Iterable[Islands]) -> tuple[tuple[str, ...], ...]:
    seconds: dict[tuple[tuple[str, ...], ...], float] = defaultdict(float)
    for stretch in episode:
        seconds[stretch.sides] += stretch.end_s - stretch.begin_s
    return max(seconds, key=lambda sides: seconds[sides])


def _caught_up(writes: Iterable[Write], end_s: float) -> float | None:
    last_s = end_s
    for write in writes:
        if write.never:
            return None
        last_s = max([last_s, *(write.at_s + after_s for after_s in write.shown_after_s.values())])
    return round(last_s - end_s, 6)
