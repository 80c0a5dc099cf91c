"""The causal graph against a brute-force oracle; order times that nobody's clock can drag (C1, B7, I13)."""

from __future__ import annotations

import json
from dataclasses import dataclass, field

import pytest
from core_support import search
from hypothesis import example, given
from hypothesis import strategies as st

from meshnode.core import causal, codec
from meshnode.core.causal import DISPLAY_LEAD_TICKS_MAX, TICKS_PER_MS, TIME_MS_MAX, CausalGraph, Position
from meshnode.core.ids import LogId

LOGS = [LogId(bytes([65 + number]) * 32) for number in range(4)]
NOW_MS = 1_780_000_000_000
YEARS_MS = 10 * 365 * 24 * 3600 * 1000
clocks = st.sampled_from([0, 1, NOW_MS, NOW_MS + 1, NOW_MS - YEARS_MS, NOW_MS + YEARS_MS, 2**53 - 1])


@dataclass
class Record:
    """Entries with their whole past written out."""

    graph: CausalGraph = field(default_factory=CausalGraph)
    past: dict[Position, set[Position]] = field(default_factory=dict)
    times: dict[Position, int] = field(default_factory=dict)
    entries: list[tuple[Position, list[Position], int]] = field(default_factory=list)

    def add(self, log: LogId, parents: list[Position], time_ms: int = NOW_MS) -> Position:
        seq = self.graph.height(log) + 1
        position = (log, seq)
        direct = [*parents, *([(log, seq - 1)] if seq > 1 else [])]
        self.times[position] = self.graph.add(log, seq, parents, time_ms)
        self.past[position] = {position}.union(*(self.past[parent] for parent in direct))
        self.entries.append((position, parents, time_ms))
        return position

    def direct(self, index: int) -> list[Position]:
        (log, seq), parents, _ = self.entries[index]
        return [*parents, *([(log, seq - 1)] if seq > 1 else [])]


@st.composite
def records(draw: st.DrawFn) -> Record:
    """Entries of four logs, each naming some earlier ones: heads mostly, and old entries as only a forger does."""
    record = Record()
    for _ in range(draw(st.integers(1, 14))):
        log = draw(st.sampled_from(LOGS))
        others = [position for position in record.past if position[0] != log]
        parents = draw(st.lists(st.sampled_from(others), max_size=3, unique=True)) if others else []
        record.add(log, parents, draw(clocks))
    return record


@given(records())
@search(150)
def test_covers_agrees_with_the_past_written_out(record: Record) -> None:
    for entry, past in record.past.items():
        for ancestor in record.past:
            assert record.graph.covers(entry, ancestor) == (ancestor in past)


@given(records())
@search(100)
def test_the_frontier_is_what_nothing_else_names_or_follows_latest_first(record: Record) -> None:
    named = set().union(*(past - {position} for position, past in record.past.items()))
    frontier = record.graph.frontier()
    assert set(frontier) == set(record.past) - named
    assert frontier == sorted(frontier, key=lambda head: (-record.times[head], head[0]))


@given(records())
@search(150)
def test_an_order_time_exceeds_all_parents_and_none_by_more_than_a_quarter_of_an_hour(record: Record) -> None:
    for index, (position, _, time_ms) in enumerate(record.entries):
        time, direct = record.times[position], record.direct(index)
        assert record.graph.order_time(*position) == time
        if direct:
            highest = max(record.times[parent] for parent in direct)
            assert highest < time <= highest + DISPLAY_LEAD_TICKS_MAX
            assert time in (highest + 1, highest + DISPLAY_LEAD_TICKS_MAX, min(time_ms, TIME_MS_MAX) * TICKS_PER_MS)
        else:
            assert time == min(time_ms, TIME_MS_MAX) * TICKS_PER_MS


@given(records(), st.randoms(use_true_random=False))
@search(80)
def test_order_times_are_the_same_in_every_causal_order(record: Record, rng: object) -> None:
    waiting = list(record.entries)
    other = CausalGraph()
    while waiting:
        able = [
            row
            for row in waiting
            if other.height(row[0][0]) == row[0][1] - 1 and all(other.height(log) >= seq for log, seq in row[1])
        ]
        row = able[rng.randrange(len(able))]
        waiting.remove(row)
        other.add(*row[0], row[1], row[2])
    assert {position: other.order_time(*position) for position in record.past} == record.times
    assert other.frontier() == record.graph.frontier()


def test_a_clock_ten_years_ahead_moves_the_display_by_a_quarter_of_an_hour_once() -> None:
    record = Record()
    record.add(LOGS[0], [], NOW_MS)
    ahead = record.add(LOGS[1], [(LOGS[0], 1)], NOW_MS + YEARS_MS)
    assert record.times[ahead] == record.times[LOGS[0], 1] + DISPLAY_LEAD_TICKS_MAX
    after = record.add(LOGS[0], [ahead], NOW_MS + 1)
    assert record.times[after] == record.times[ahead] + 1


def test_a_clock_that_stands_at_the_beginning_of_time_still_gives_ascending_times() -> None:
    record = Record()
    positions = [record.add(LOGS[0], [], 0) for _ in range(3)]
    assert [record.times[position] for position in positions] == [0, 1, 2]


def test_the_latest_time_a_content_can_name_does_no_harm() -> None:
    record = Record()
    first = record.add(LOGS[0], [], 2**53 - 1)
    assert record.times[first] == TIME_MS_MAX * TICKS_PER_MS
    assert record.times[record.add(LOGS[1], [first], 2**53 - 1)] == record.times[first] + 1


@given(records())
@search(100)
def test_a_log_has_seen_of_another_what_the_parents_it_names_reach(record: Record) -> None:
    restored = CausalGraph.restore(codec.decode_trusted(codec.encode(record.graph.snapshot())))
    for log in LOGS:
        for other in LOGS:
            named = [seq for (own, _), parents, _ in record.entries for at, seq in parents if (own, at) == (log, other)]
            assert record.graph.seen(log, other) == restored.seen(log, other) == max(named, default=0)


def test_what_was_not_added_covers_and_is_covered_by_nothing() -> None:
    record = Record()
    record.add(LOGS[0], [])
    graph = record.graph
    assert graph.covers((LOGS[0], 1), (LOGS[0], 1))
    assert not graph.covers((LOGS[0], 1), (LOGS[0], 2))
    assert not graph.covers((LOGS[0], 1), (LOGS[1], 1))
    assert not graph.covers((LOGS[1], 1), (LOGS[0], 1))
    assert not graph.covers((LOGS[0], 2), (LOGS[0], 1))
    assert graph.height(LOGS[1]) == 0


def test_an_entry_is_added_after_its_predecessor_and_its_parents() -> None:
    graph = CausalGraph()
    with pytest.raises(ValueError, match="does not follow"):
        graph.add(LOGS[0], 2, [], NOW_MS)
    graph.add(LOGS[0], 1, [], NOW_MS)
    with pytest.raises(KeyError):
        graph.add(LOGS[0], 2, [(LOGS[1], 1)], NOW_MS)


@given(records())
@search(60)
@example(Record())
def test_a_graph_comes_back_from_its_snapshot_and_goes_on_alike(record: Record) -> None:
    restored = CausalGraph.restore(codec.decode_trusted(codec.encode(record.graph.snapshot())))
    assert restored.snapshot() == record.graph.snapshot()
    assert restored.frontier() == record.graph.frontier()
    for graph in (restored, record.graph):
        graph.add(LOGS[0], graph.height(LOGS[0]) + 1, [], NOW_MS)
    assert restored.snapshot() == record.graph.snapshot()
    for entry in record.past:
        for ancestor in record.past:
            assert restored.covers(entry, ancestor) == record.graph.covers(entry, ancestor)


def test_a_snapshot_is_the_same_on_a_machine_of_the_other_byte_order(monkeypatch: pytest.MonkeyPatch) -> None:
    record = Record()
    first = record.add(LOGS[0], [])
    record.add(LOGS[1], [first])
    plain = record.graph.snapshot()
    assert json.dumps(plain, default=bytes.hex).count((NOW_MS * TICKS_PER_MS).to_bytes(8, "little").hex()) == 1
    # As if this machine were the other one: what it holds in memory is then written with every number turned round.
    monkeypatch.setattr(causal, "_BIG_ENDIAN", not causal._BIG_ENDIAN)
    turned = record.graph.snapshot()
    assert turned != plain
    restored = CausalGraph.restore(turned)
    assert restored.order_time(*first) == record.times[first]
    assert restored.snapshot() == turned
