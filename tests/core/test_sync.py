"""Anti-entropy asks for what is missing, on one link at a time, and goes on when a link or a peer fails it."""

from __future__ import annotations

import random
from collections.abc import Iterable

from core_support import INCIDENT, search
from hypothesis import given
from hypothesis import strategies as st

from meshnode.core import sync, wire
from meshnode.core.ids import IncidentId, LogId
from meshnode.core.sync import INTERVAL_S, LOGS_TOLD_MAX, RANGE_TIMEOUT_S, RANGES_IN_FLIGHT_MAX, Sync
from meshnode.core.wire import RUN_BYTES_MAX, RUN_ENTRIES_MAX, Want

LOGS = [LogId(bytes([65 + number]) * 32) for number in range(8)]
LOG = LOGS[0]
OTHER = IncidentId(b"other incident..")


class Puller:
    """A sync machine and how far it holds each log. What it asks goes into ``asked`` per link."""

    def __init__(self, *links: int) -> None:
        self.held: dict[LogId, int] = {}
        self.sync = Sync(random.Random(1), lambda _incident, log: self.held.get(log, 0))
        self.now = 0.0
        for link in links:
            self.sync.on_link_up(link, self.now)

    def told(self, link: int, log: LogId, height: int) -> list[Want]:
        self.sync.on_told(link, INCIDENT, log, height)
        return self.plan(link)

    def plan(self, link: int) -> list[Want]:
        return self.sync.plan(link, self.now)

    def answer(self, link: int, want: Want, last: int | None = None, entry_bytes: int = 250) -> list[Want]:
        """The run of a want, up to ``last`` when the peer ends it elsewhere; then what is asked next."""
        assert self.arrive(link, want, want.last if last is None else last, entry_bytes)
        return self.plan(link)

    def arrive(self, link: int, want: Want, end: int, entry_bytes: int = 250) -> bool:
        """As the node does with a run."""
        count = end - want.first + 1
        asked = self.sync.on_answer(link, INCIDENT, want.log, want.first, count, count * entry_bytes)
        if want.first <= self.held.get(want.log, 0) + 1:
            self.held[want.log] = max(self.held.get(want.log, 0), end)
        elif asked:
            self.sync.restart_log(link, INCIDENT, want.log)
        return asked

    def lack(self, link: int, want: Want) -> list[Want]:
        self.sync.on_answer(link, INCIDENT, want.log, want.first, 0, 0)
        return self.plan(link)

    def wait(self, seconds: float) -> list[int]:
        self.now += seconds
        return self.sync.handle_timeouts(self.now)


def ranges(wants: list[Want]) -> list[tuple[int, int]]:
    return [(want.first, want.last) for want in wants]


# --- what is asked --------------------------------------------------------------------------------------------------


def test_what_is_missing_is_asked_in_ranges_of_one_run_and_a_few_at_a_time() -> None:
    puller = Puller(1)
    wants = puller.told(1, LOG, 2_000)
    assert ranges(wants) == [(1, 256), (257, 512), (513, 768), (769, 1024)]
    assert len(wants) == RANGES_IN_FLIGHT_MAX
    assert ranges(puller.answer(1, wants[0])) == [(1025, 1280)]
    assert puller.plan(1) == []
    assert puller.sync.we_lack(1) == 2_000 - 256


def test_what_is_held_already_is_not_asked() -> None:
    puller = Puller(1)
    puller.held[LOG] = 10
    assert puller.told(1, LOG, 10) == []
    assert puller.told(1, LOG, 9) == []
    assert ranges(puller.told(1, LOG, 12)) == [(11, 12)]
    puller.held[LOG] = 12
    assert puller.told(1, LOGS[1], 0) == []
    assert puller.sync.we_lack(1) == 0


def test_a_log_is_fetched_on_one_link_at_a_time() -> None:
    puller = Puller(1, 2)
    first = puller.told(1, LOG, 100)
    assert puller.told(2, LOG, 100) == []
    assert ranges(puller.told(2, LOGS[1], 5)) == [(1, 5)]
    puller.answer(1, first[0])
    assert puller.plan(2) == []


def test_a_link_that_holds_less_of_a_log_does_not_disturb_the_one_that_fetches_it() -> None:
    puller = Puller(1, 2, 3)
    puller.told(2, LOG, 4)
    wants = puller.told(1, LOG, 3)
    assert wants == []  # link 2 was asked first
    puller = Puller(1, 2, 3)
    wants = puller.told(1, LOG, 2_000)
    puller.told(2, LOG, 100)
    puller.answer(1, wants[0])
    assert puller.plan(2) == []  # link 2 has nothing more to give
    assert puller.told(3, LOG, 2_000) == []  # and link 1 still has the log


def test_large_entries_make_the_next_ranges_shorter() -> None:
    puller = Puller(1)
    wants = puller.told(1, LOG, 10_000)
    more = puller.answer(1, wants[0], entry_bytes=30_000)
    assert ranges(more) == [(1025, 1024 + RUN_BYTES_MAX * 3 // 4 // 30_000)]
    larger_than_a_run = puller.answer(1, wants[1], entry_bytes=600_000)
    assert [last - first for first, last in ranges(larger_than_a_run)] == [0]
    tiny = puller.answer(1, wants[2], entry_bytes=0)
    assert [last - first + 1 for first, last in ranges(tiny)] == [RUN_ENTRIES_MAX]


def test_equal_summaries_end_all_asking() -> None:
    puller = Puller(1)
    puller.sync.on_told(1, INCIDENT, LOG, 5)
    puller.sync.on_equal(1)
    assert (puller.plan(1), puller.sync.we_lack(1)) == ([], 0)


# --- answers that are not what was asked ----------------------------------------------------------------------------


def test_a_run_that_ends_before_the_range_does_is_followed_by_the_rest() -> None:
    """Large entries: the peer ends a run by its bytes, and nothing else is in flight."""
    puller = Puller(1)
    wants = puller.told(1, LOG, 22)
    assert ranges(wants) == [(1, 22)]
    assert ranges(puller.answer(1, wants[0], last=5, entry_bytes=48_000)) == [(6, 9), (10, 13), (14, 17), (18, 21)]


def test_ranges_behind_a_run_that_ended_early_are_asked_again_from_the_gap() -> None:
    puller = Puller(1)
    wants = puller.told(1, LOG, 512)
    assert puller.answer(1, wants[0], last=200) == []
    assert ranges(puller.answer(1, wants[1])) == [(201, 456), (457, 512)]


def test_a_run_nobody_asked_for_is_a_push() -> None:
    puller = Puller(1)
    assert not puller.sync.on_answer(1, INCIDENT, LOG, 1, 3, 900)
    wants = puller.told(1, LOG, 5)
    assert not puller.sync.on_answer(1, INCIDENT, LOG, 2, 3, 900)
    assert puller.sync.on_answer(1, INCIDENT, LOG, wants[0].first, 5, 900)
    assert not puller.sync.on_answer(1, INCIDENT, LOG, wants[0].first, 5, 900)


def test_a_gap_on_a_link_that_does_not_fetch_the_log_changes_nothing() -> None:
    puller = Puller(1, 2)
    puller.told(1, LOG, 600)
    puller.sync.restart_log(2, INCIDENT, LOG)
    puller.sync.restart_log(2, INCIDENT, LOGS[1])
    assert puller.plan(1) == []


def test_who_lied_about_a_height_is_passed_over_and_another_is_asked() -> None:
    puller = Puller(1, 2)
    wants = puller.told(1, LOG, 2**32 - 1)
    assert puller.told(2, LOG, 5) == []
    assert puller.lack(1, wants[0]) == []
    assert puller.sync.we_lack(1) == 0
    assert ranges(puller.plan(2)) == [(1, 5)]
    for want in wants[1:]:
        assert puller.lack(1, want) == []
    assert puller.plan(2) == []  # the late answers of the liar do not take the log away from link 2


# --- links and peers that fail --------------------------------------------------------------------------------------


def test_what_a_dead_link_had_in_flight_is_asked_elsewhere_and_no_more_than_that() -> None:
    puller = Puller(1, 2)
    wants = puller.told(1, LOG, 2_000)
    puller.told(2, LOG, 2_000)
    puller.answer(1, wants[0])
    puller.answer(1, wants[1])
    puller.sync.on_link_down(1)
    assert ranges(puller.plan(2))[0] == (513, 768)
    puller.sync.on_link_down(1)


def test_a_peer_that_never_answers_is_passed_over_for_one_that_does() -> None:
    puller = Puller(1, 2)
    for log in LOGS:
        puller.sync.on_told(1, INCIDENT, log, 5)
        puller.sync.on_told(2, INCIDENT, log, 5)
    silent = puller.plan(1)
    assert {want.log for want in silent} == set(LOGS[:4])
    for want in puller.plan(2):
        puller.answer(2, want)
    assert {log for log in LOGS if puller.held.get(log) == 5} == set(LOGS[4:])
    assert puller.wait(RANGE_TIMEOUT_S / 2) == []
    order = puller.wait(RANGE_TIMEOUT_S / 2)
    assert order == [2, 1]  # who answered is asked first
    asked = {link: puller.plan(link) for link in order}
    assert {want.log for want in asked[2]} == set(LOGS[:4])
    assert asked[1] == []


def test_a_peer_that_never_answers_is_asked_again_when_nobody_else_has_it() -> None:
    puller = Puller(1, 2)
    puller.sync.on_told(1, INCIDENT, LOG, 5)
    puller.sync.on_told(1, INCIDENT, LOGS[1], 2_000)
    puller.sync.on_equal(2)
    assert len(puller.plan(1)) == RANGES_IN_FLIGHT_MAX
    puller.wait(RANGE_TIMEOUT_S)
    assert ranges(puller.plan(1)) != []


def test_an_answer_after_its_time_out_counts_as_a_push() -> None:
    puller = Puller(1)
    wants = puller.told(1, LOG, 5)
    assert puller.wait(RANGE_TIMEOUT_S) == [1]
    assert not puller.sync.on_answer(1, INCIDENT, LOG, wants[0].first, 5, 900)


def test_a_log_that_cannot_be_taken_from_a_link_is_left_to_others() -> None:
    """It forked there, or there is no room: the same answer again would help nobody."""
    puller = Puller(1, 2)
    puller.told(1, LOG, 600)
    puller.told(2, LOG, 600)
    puller.sync.give_up(1, INCIDENT, LOG)
    assert puller.plan(1) == []
    assert ranges(puller.plan(2))[0] == (1, 256)
    puller.sync.give_up(1, INCIDENT, LOGS[1])


# --- time and bounds ------------------------------------------------------------------------------------------------


def test_a_summary_is_due_at_once_and_then_every_ten_seconds_with_jitter() -> None:
    puller = Puller(1, 2)
    assert puller.sync.next_deadline() == 0.0
    assert puller.sync.due_summaries(0.0) == [1, 2]
    assert puller.sync.due_summaries(0.0) == []
    due = puller.sync.next_deadline()
    assert due is not None
    assert 0.75 * INTERVAL_S <= due <= 1.25 * INTERVAL_S
    times = []
    for link in range(3, 60):
        puller.sync.on_link_up(link, 0.0)
    puller.sync.due_summaries(0.0)
    now = 0.0
    while (now := puller.sync.next_deadline() or 0.0) < 12.5:
        times.append(now)
        together = len(puller.sync.due_summaries(now))
        assert 1 <= together < 57 / 2  # links do not beat together
    assert min(times) >= 0.75 * INTERVAL_S
    assert len(times) <= 6  # and do not wake the node one by one


def test_the_deadline_is_the_earliest_of_summaries_and_time_outs() -> None:
    puller = Puller()
    assert puller.sync.next_deadline() is None
    puller.sync.on_link_up(1, 0.0)
    puller.sync.due_summaries(0.0)
    puller.sync._sessions[1].summary_at = 100.0
    puller.told(1, LOG, 5)
    assert puller.sync.next_deadline() == RANGE_TIMEOUT_S


def test_what_a_hostile_peer_tells_is_remembered_up_to_a_limit(monkeypatch: object) -> None:
    puller = Puller(1)
    session = puller.sync._sessions[1]
    session.told_count = LOGS_TOLD_MAX - 2
    for number in range(10):
        puller.sync.on_told(1, IncidentId(bytes([number]) * 16), LOG, 5)
    assert (len(session.told), len(session.wanting)) == (2, 2)
    puller.sync.on_told(1, IncidentId(bytes(16)), LOG, 9)  # what is known is still brought up to date
    assert session.told[IncidentId(bytes(16))] == {LOG: 9}
    puller.sync.on_answer(1, IncidentId(bytes(16)), LOG, 1, 0, 0)
    want = puller.plan(1)[0]
    puller.sync.on_answer(1, want.incident, LOG, 1, 0, 0)  # a lack makes room
    puller.sync.on_told(1, OTHER, LOG, 5)
    assert OTHER in session.told


# --- laws -----------------------------------------------------------------------------------------------------------


@given(st.data())
@search(40)
def test_whatever_peers_do_everything_is_fetched_once_an_honest_one_stays(data: st.DataObject) -> None:
    """Link 1 is honest and ends runs where it likes; the others lack, lie, stay silent, answer late, or die."""
    tops = {log: data.draw(st.integers(1, 900)) for log in LOGS[:3]}
    puller = Puller(1, 2, 3)
    flying: list[tuple[int, Want]] = []
    up = {1, 2, 3}

    def ask(links: Iterable[int]) -> None:
        for link in links:
            flying.extend((link, want) for want in puller.plan(link))
            assert len(puller.sync._sessions[link].in_flight) <= RANGES_IN_FLIGHT_MAX

    def reply(link: int, want: Want, shorter: int = 0) -> None:
        end = min(tops[want.log], max(want.first, want.last - shorter))
        if want.first > end:
            puller.sync.on_answer(link, INCIDENT, want.log, want.first, 0, 0)
        else:
            puller.arrive(link, want, end)

    for log, top in tops.items():
        puller.sync.on_told(1, INCIDENT, log, top)
        for link in (2, 3):
            puller.sync.on_told(link, INCIDENT, log, data.draw(st.integers(0, 2 * top)))
    ask(data.draw(st.permutations([1, 2, 3])))
    for _ in range(data.draw(st.integers(0, 25))):
        if not flying:
            break
        link, want = flying.pop(data.draw(st.integers(0, len(flying) - 1)))
        if link not in up:
            continue
        fate = "run" if link == 1 else data.draw(st.sampled_from(["run", "silence", "death"]))
        if fate == "run":
            reply(link, want, data.draw(st.integers(0, 300)))
        elif fate == "silence":
            ask(puller.wait(RANGE_TIMEOUT_S))
        else:
            puller.sync.on_link_down(link)
            up.remove(link)
        ask(sorted(up))
    for _ in range(40):  # from now on link 1 answers what it is asked; summaries that differ tell its heights again
        ask(puller.wait(RANGE_TIMEOUT_S))
        for log, top in tops.items():
            puller.sync.on_told(1, INCIDENT, log, top)
        ask([1])
        answered = [want for link, want in flying if link == 1]
        flying = []
        for want in answered:
            reply(1, want)
    assert {log: puller.held.get(log) for log in tops} == tops


def test_the_limits_agree_with_each_other() -> None:
    assert RANGE_TIMEOUT_S < INTERVAL_S
    assert RANGES_IN_FLIGHT_MAX * RUN_BYTES_MAX <= 2 * wire.FRAME_BYTES_MAX
    assert sync.LOGS_TOLD_MAX >= 10_000
