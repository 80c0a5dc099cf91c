"""Runs between two holders: whatever seals each keeps, what is served verifies, stays in bounds and closes the gap."""

from __future__ import annotations

import itertools
from dataclasses import replace

import pytest
from core_support import INCIDENT, LogWriter, refused, search
from hypothesis import given
from hypothesis import strategies as st

from meshnode.core import wire
from meshnode.core.holdings import Fit, Holdings
from meshnode.core.ids import NO_HASH, IncidentId, LogId
from meshnode.core.log import CommitBatch, LogHead
from meshnode.core.wire import RUN_BYTES_MAX, RUN_ENTRIES_MAX, Lack, Run, Want
from meshnode.storage.memory import MemoryLogStore

OTHER = IncidentId(b"other incident..")


class Holder:
    """A store and what it holds, as a node keeps them in step."""

    def __init__(self) -> None:
        self.store = MemoryLogStore()
        self.holdings = Holdings()

    def take(self, run: Run) -> Fit:
        taken = self.holdings.take_untrusted(run)
        if taken.seal is not None:
            last = taken.entries[-1]
            self.store.stage(CommitBatch(taken.entries, (taken.seal,)))
            self.holdings.advance(run.incident, run.log, last.seq, last.hash)
        return taken.fit

    def keep(self, writer: LogWriter, *seals: int) -> None:
        """Everything up to the last of these positions, sealed there."""
        before = 0
        for seq in seals:
            assert self.take(writer.run(before + 1, seq)) is Fit.NEW
            before = seq

    def height(self, log: LogId) -> int:
        return self.holdings.head(INCIDENT, log)[0]

    def serve(self, log: LogId, first: int, last: int) -> Run | Lack:
        answer = self.holdings.serve(self.store, Want(INCIDENT, log, first, last))
        return wire.decode_untrusted(wire.encode(answer))


def writer(count: int, size_bytes: int = 0, name: str = "log") -> LogWriter:
    made = LogWriter(name)
    made.grow(count, size_bytes)
    return made


TEN = writer(10)
LONG = writer(700, name="long")
LARGE = writer(40, 30_000, name="large")
"""Eight of them fill a run."""

# --- taking ---------------------------------------------------------------------------------------------------------


def test_the_first_run_of_a_log_is_new_and_what_is_held_is_known() -> None:
    holder = Holder()
    assert [holder.take(TEN.run(1, 4)), holder.take(TEN.run(1, 4)), holder.take(TEN.run(2, 3))] == [
        Fit.NEW,
        Fit.KNOWN,
        Fit.KNOWN,
    ]
    assert holder.store.read(INCIDENT, TEN.id, 1, 10) == TEN.entries[:4]
    assert holder.holdings.logs(INCIDENT) == [LogHead(TEN.id, 4, TEN.entries[3].hash)]


def test_a_run_behind_a_gap_is_not_taken() -> None:
    holder = Holder()
    assert [holder.take(TEN.run(2, 4)), holder.height(TEN.id)] == [Fit.GAP, 0]
    holder.keep(TEN, 3)
    assert [holder.take(TEN.run(5, 6)), holder.height(TEN.id)] == [Fit.GAP, 3]


@given(st.integers(1, 10), st.integers(1, 10), st.integers(1, 10))
@search(60)
def test_of_a_run_that_overlaps_only_the_new_part_is_taken(held: int, first: int, last: int) -> None:
    first, last = min(first, last), max(first, last)
    holder = Holder()
    holder.keep(TEN, held)
    taken = holder.holdings.take_untrusted(TEN.run(first, last))
    if first > held + 1:
        assert taken.fit is Fit.GAP
    elif last <= held:
        assert taken.fit is Fit.KNOWN
    else:
        assert (taken.fit, list(taken.entries)) == (Fit.NEW, TEN.entries[held:last])
        assert taken.seal == TEN.seal(last)


def test_a_run_whose_seal_is_by_another_key_or_of_another_entry_is_refused() -> None:
    other = writer(10, name="another log")
    run = TEN.run(1, 4)
    for bad in (replace(run, seal=other.seal(4).signature), replace(run, seal=TEN.seal(3).signature)):
        with refused("bad-signature"):
            Holder().holdings.take_untrusted(bad)


def test_a_run_that_fits_in_length_but_not_in_hash_shows_a_fork() -> None:
    """A log's own key signed two entries at one position: what is held stays."""
    fork = LogWriter("log")
    fork.entries = TEN.entries[:3]
    fork.write("another fourth entry")
    fork.write("another fifth entry")
    holder = Holder()
    holder.keep(TEN, 4)
    for first, last in ((5, 5), (4, 5), (1, 5), (1, 4)):
        with refused("log-forked"):
            holder.take(fork.run(first, last))
    assert holder.store.read(INCIDENT, TEN.id, 1, 10) == TEN.entries[:4]


def test_a_log_that_does_not_start_from_nothing_is_refused() -> None:
    stray = LogWriter("stray")
    stray.entries = TEN.entries[:1]
    stray.write()
    stray.entries = [stray.entries[1]._replace(seq=1)]
    with refused("log-forked", "bad-signature"):
        Holder().take(stray.run(1, 1))


# --- serving --------------------------------------------------------------------------------------------------------


def check_run(holder: Holder, made: LogWriter, first: int, last: int) -> int:
    """Serves to an empty-handed reader who holds everything before ``first``; returns how far the answer goes."""
    answer = holder.serve(made.id, first, last)
    assert isinstance(answer, Run)
    assert answer.first == first
    assert wire.run_entries_untrusted(answer) == made.entries[first - 1 : answer.last]
    assert len(answer.rows) <= RUN_ENTRIES_MAX
    sizes = [entry.size_bytes for entry in made.entries[first - 1 : answer.last]]
    assert sum(sizes) <= RUN_BYTES_MAX + max(sizes) or len(sizes) <= 8
    return answer.last


@given(st.lists(st.integers(1, 256), min_size=1, max_size=12), st.integers(1, 700), st.integers(1, 700))
@search(60)
def test_a_served_run_verifies_ends_at_a_seal_and_stays_in_bounds(gaps: list[int], first: int, last: int) -> None:
    seals = sorted({min(700, sum(gaps[: count + 1])) for count in range(len(gaps))})
    holder = Holder()
    holder.keep(LONG, *seals)
    first = min(first, seals[-1])
    end = check_run(holder, LONG, first, last)
    assert end in seals
    if last <= end < seals[-1]:
        assert not any(max(first, last) <= seal < end for seal in seals)


def test_what_is_not_held_is_answered_with_a_lack() -> None:
    holder = Holder()
    holder.keep(TEN, 4)
    assert holder.serve(TEN.id, 5, 9) == Lack(INCIDENT, TEN.id, 5)
    assert holder.serve(LONG.id, 1, 9) == Lack(INCIDENT, LONG.id, 1)
    assert holder.holdings.serve(holder.store, Want(OTHER, TEN.id, 1, 4)) == Lack(OTHER, TEN.id, 1)


def test_a_request_that_ends_before_it_starts_gets_one_run() -> None:
    holder = Holder()
    holder.keep(TEN, 4, 8)
    assert check_run(holder, TEN, 6, 1) == 8


def test_a_request_for_a_part_of_a_sealed_stretch_gets_the_stretch() -> None:
    holder = Holder()
    holder.keep(TEN, 4, 8)
    assert [check_run(holder, TEN, 1, 1), check_run(holder, TEN, 2, 3), check_run(holder, TEN, 4, 5)] == [4, 4, 8]


def test_large_entries_end_a_run_at_the_last_seal_that_fits() -> None:
    holder = Holder()
    holder.keep(LARGE, *range(1, 41))
    end = check_run(holder, LARGE, 1, 40)
    assert 5 < end < 10
    sparse = Holder()
    sparse.keep(LARGE, 3, 9, 20, 40)
    assert check_run(sparse, LARGE, 1, 40) == 3
    assert check_run(sparse, LARGE, 4, 40) == 9  # no seal fits: the first there is


def test_a_store_that_cannot_give_what_is_held_any_more_lacks_it() -> None:
    holder = Holder()
    holder.keep(TEN, 4)
    holder.holdings.advance(INCIDENT, TEN.id, 9, TEN.entries[8].hash)
    assert holder.serve(TEN.id, 1, 9) == wire.make_run(TEN.entries[:4], TEN.seal(4))
    assert holder.serve(TEN.id, 5, 9) == Lack(INCIDENT, TEN.id, 5)
    holder.store._logs[INCIDENT][TEN.id].entries[2:] = []
    assert holder.serve(TEN.id, 1, 4) == Lack(INCIDENT, TEN.id, 1)


@given(st.data())
@search(25)
def test_pulling_over_any_pattern_of_seals_ends_with_equal_digests(data: st.DataObject) -> None:
    """A chain of holders, each pulling from the one before with ranges of its own: seals differ, heads agree."""
    made, least, most = data.draw(st.sampled_from([(LONG, 30, 256), (LARGE, 1, 8)]))
    gaps = data.draw(st.lists(st.integers(least, most), min_size=25, max_size=25))
    ranges = itertools.cycle(data.draw(st.lists(st.integers(1, 400), min_size=1, max_size=5)))
    top = len(made.entries)
    seals = [seq for seq in itertools.accumulate(gaps) if seq < top]
    holders = [Holder() for _ in range(3)]
    holders[0].keep(made, *seals, top if not seals or top - seals[-1] <= most else seals[-1] + most)
    for source, reader in itertools.pairwise(holders):
        while (height := reader.height(made.id)) < source.height(made.id):
            answer = source.serve(made.id, height + 1, height + next(ranges))
            assert isinstance(answer, Run)
            assert reader.take(answer) is Fit.NEW
    assert len({holder.holdings.digest() for holder in holders}) == 1


# --- digests --------------------------------------------------------------------------------------------------------


def test_digests_are_equal_exactly_when_the_heads_are() -> None:
    one, other = Holder(), Holder()
    assert one.holdings.digest() == other.holdings.digest()
    second = writer(4, name="second")
    one.keep(TEN, 2, 4)
    one.keep(second, 4)
    other.keep(second, 1, 4)
    assert one.holdings.digest() != other.holdings.digest()
    other.keep(TEN, 4)  # in another order, with other seals
    assert one.holdings.incident_digest(INCIDENT) == other.holdings.incident_digest(INCIDENT)
    assert one.holdings.digest() == other.holdings.digest()
    one.take(TEN.run(5, 5))
    assert one.holdings.digest() != other.holdings.digest()
    fork = LogWriter("log")
    fork.entries = TEN.entries[:4]
    fork.write("another fifth")
    other.take(fork.run(5, 5))
    assert one.holdings.digest() != other.holdings.digest()


def test_entries_are_counted_and_what_was_dropped_is_forgotten() -> None:
    holder = Holder()
    holder.keep(TEN, 2, 4)
    assert (holder.holdings.entries, holder.holdings.entries_of(INCIDENT)) == (4, 4)
    assert holder.holdings.entries_of(OTHER) == 0
    assert (holder.holdings.logs(OTHER), holder.holdings.head(OTHER, TEN.id)) == ([], (0, NO_HASH))
    assert (holder.holdings.holds(INCIDENT), holder.holdings.holds(OTHER)) == (True, False)
    assert holder.holdings.incidents() == [INCIDENT]
    holder.holdings.forget(OTHER)
    holder.holdings.forget(INCIDENT)
    assert (holder.holdings.entries, holder.holdings.incidents()) == (0, [])
    assert holder.holdings.digest() == Holder().holdings.digest()


def test_what_a_store_holds_is_found_again_at_start() -> None:
    holder = Holder()
    holder.keep(TEN, 2, 4)
    loaded = Holdings.load(holder.store)
    assert (loaded.digest(), loaded.entries) == (holder.holdings.digest(), 4)


def test_after_damage_what_the_store_can_still_give_counts() -> None:
    holder = Holder()
    holder.keep(TEN, 2, 4)
    before = holder.holdings.digest()
    log = holder.store._logs[INCIDENT][TEN.id]
    del log.signatures[4], log.sealed[1]
    holder.holdings.refresh(holder.store)
    assert (holder.height(TEN.id), holder.holdings.entries) == (2, 2)
    assert holder.holdings.digest() != before
    assert holder.take(TEN.run(3, 4)) is Fit.NEW
    assert holder.holdings.digest() == before


@pytest.mark.parametrize("seals", [(1,), (2, 3)])
def test_taking_changes_nothing_until_the_node_says_so(seals: tuple[int, ...]) -> None:
    holder = Holder()
    holder.keep(TEN, *seals)
    before = holder.holdings.digest()
    assert holder.holdings.take_untrusted(TEN.run(1, 9)).fit is Fit.NEW
    assert holder.holdings.digest() == before
