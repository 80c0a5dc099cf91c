"""The effect loop: persist, then speak; group commits; a disk that is slow, full or broken; bounds; a clean stop."""

from __future__ import annotations

import pytest
import trio
import trio.testing
from one_process import FAILED, FULL, Daemon, FaultyCommits, make_network, outcome_of, running, until

from meshnode.core import wire
from meshnode.core.events import Channel, DialFailed, Received, Send, Tick, Written
from meshnode.daemon import loop
from meshnode.daemon.loop import COMMIT_PACE_S, GROUPS_MAX, INBOX_MAX, PROBE_INTERVAL_S
from meshnode.errors import LocalFaultError, RefusedError

SLOW_S = 5.0


# --- persist, then speak ---------------------------------------------------------------------------------------------


async def test_nothing_is_answered_or_sent_before_its_commit_has_ended(autojump_clock: trio.testing.MockClock) -> None:
    network = make_network()
    be, nl = Daemon(network, "BE", ("NL",)), Daemon(network, "NL")
    async with running(be, nl):
        await until(lambda: be.knows("NL") and nl.knows("BE"))
        incident = await be.open(share=("NL",))
        await until(lambda: bool(nl.service.incidents_view()))
        stream_at = be.service.journal_last()
        be.disk.hold()
        async with trio.open_nursery() as nursery:
            answered = trio.Event()

            async def write() -> None:
                await be.log(incident, "reported")
                answered.set()

            nursery.start_soon(write)
            await trio.sleep(60.0)
            assert not answered.is_set()
            assert be.service.journal_last() == stream_at
            assert nl.texts(incident) == []
            be.disk.release()
        await until(lambda: nl.texts(incident) == ["reported"])
        assert be.service.journal_last() > stream_at


async def test_what_a_crash_takes_was_never_acknowledged_and_never_sent(
    autojump_clock: trio.testing.MockClock,
) -> None:
    network = make_network()
    be, nl = Daemon(network, "BE", ("NL",)), Daemon(network, "NL", ("BE",))
    async with running(nl):
        async with running(be):
            await until(lambda: be.knows("NL") and nl.knows("BE"))
            incident = await be.open(share=("NL",))
            await be.log(incident, "acknowledged")
            be.disk.hold()
            with trio.move_on_after(10.0) as patience:
                await be.log(incident, "on its way")
            assert patience.cancelled_caught
        be.rebuild()
        be.disk.release()
        async with running(be):
            assert be.texts(incident) == ["acknowledged"]
            await be.log(incident, "after the restart")
            await until(lambda: nl.texts(incident) == ["acknowledged", "after the restart"])
            await until(lambda: be.digest(incident) == nl.digest(incident))


async def test_requests_that_come_while_the_disk_works_share_one_commit(
    autojump_clock: trio.testing.MockClock,
) -> None:
    be = Daemon(make_network(), "BE")
    async with running(be):
        incident = await be.open()
        be.disk.seconds, before = SLOW_S, be.disk.jobs
        started = trio.current_time()
        async with trio.open_nursery() as nursery:
            for number in range(40):
                nursery.start_soon(be.log, incident, f"record {number}")
                if number == 0:
                    await trio.sleep(1.0)  # the first has the disk; the others wait for it together
        assert be.disk.jobs - before == 2
        assert trio.current_time() - started < 2 * SLOW_S + 1
        assert len(be.texts(incident)) == 40


async def test_what_peers_push_fast_shares_commits_and_a_local_request_does_not_wait_for_that(
    autojump_clock: trio.testing.MockClock,
) -> None:
    network = make_network()
    be, nl = Daemon(network, "BE", ("NL",)), Daemon(network, "NL")
    async with running(be, nl):
        await until(lambda: be.knows("NL") and nl.knows("BE"))
        incident = await be.open(share=("NL",))
        await until(lambda: bool(nl.service.incidents_view()))
        await trio.sleep(1.0)
        begun, before = trio.current_time(), nl.disk.jobs
        for number in range(50):
            await be.log(incident, f"record {number}")
            await trio.sleep(COMMIT_PACE_S / 5)
        await until(lambda: len(nl.texts(incident)) == 50)
        commits = nl.disk.jobs - before
        assert commits <= (trio.current_time() - begun) / COMMIT_PACE_S + 2
        assert be.disk.jobs >= 50  # each of these was waited for

        await be.log(incident, "one more")
        await until(lambda: len(nl.texts(incident)) == 51)
        asked = trio.current_time()
        await nl.log(incident, "answered at once")
        assert trio.current_time() - asked < COMMIT_PACE_S / 2


async def test_reads_answer_at_once_while_every_sync_takes_five_seconds(
    autojump_clock: trio.testing.MockClock,
) -> None:
    network = make_network()
    be, nl = Daemon(network, "BE", ("NL",)), Daemon(network, "NL")
    async with running(be, nl):
        await until(lambda: be.knows("NL") and nl.knows("BE"))
        incident = await be.open(share=("NL",))
        await be.log(incident, "before")
        be.disk.seconds = SLOW_S
        async with trio.open_nursery() as nursery:
            for number in range(20):
                nursery.start_soon(be.log, incident, f"record {number}")
            await trio.sleep(1.0)
            asked = trio.current_time()
            assert be.service.incident_view(incident).summary.title == "Release"
            assert be.service.node_view().peers_connected == 1
            assert be.texts(incident)[0] == "before"
            assert trio.current_time() == asked
        await until(lambda: len(nl.texts(incident)) == 21)
        assert "link-down" not in be.reported  # five seconds on the disk are no silence on the line


async def test_whoever_reads_after_an_event_finds_at_least_what_it_said(
    autojump_clock: trio.testing.MockClock,
) -> None:
    """Reads show the node of this moment, events what is durable: never less, sometimes more."""
    network, commits = make_network(), FaultyCommits()
    be, nl = Daemon(network, "BE", ("NL",), fail_commit=commits), Daemon(network, "NL")
    async with running(be, nl):
        await until(lambda: be.knows("NL") and nl.knows("BE"))
        incident = await be.open(share=("NL",))
        await until(lambda: bool(nl.service.incidents_view()))
        be.disk.seconds = 0.3
        told: set[str] = set()
        ahead: set[str] = set()

        async def follow() -> None:
            cursor = 0
            while True:
                await be.service.wait_journal(cursor)
                page = be.service.journal_page(cursor, 3, None)
                cursor = page.next
                told.update(
                    operation.value["text"]
                    for entry in page.entries
                    for operation in entry.operations
                    if operation.kind == "log"
                )
                shown = set(be.texts(incident))
                assert told <= shown
                assert be.service.node_view().journal >= cursor
                ahead.update(shown - told)

        async with trio.open_nursery() as nursery:
            nursery.start_soon(follow)
            for number in range(30):
                nursery.start_soon(be.log, incident, f"BE {number}")
                nursery.start_soon(nl.log, incident, f"NL {number}")
                await trio.sleep(0.1)
            await until(lambda: len(told) == 60)
            assert ahead  # it was not the same by chance

            commits.fault = FULL
            nursery.start_soon(outcome_of, be.log, incident, "never durable")
            await until(lambda: "never durable" in be.texts(incident))
            await until(lambda: be.degraded == ["store-full"])
            assert set(be.texts(incident)) == told  # shown for a moment; neither told nor acknowledged
            commits.fault = None
            await trio.sleep(2 * PROBE_INTERVAL_S)
            await be.log(incident, "room again")
            await until(lambda: "room again" in told)
            assert "never durable" not in told
            nursery.cancel_scope.cancel()


# --- a disk that refuses ---------------------------------------------------------------------------------------------


async def test_a_failing_commit_refuses_exactly_what_waited_for_it(autojump_clock: trio.testing.MockClock) -> None:
    commits = FaultyCommits()
    be = Daemon(make_network(), "BE", fail_commit=commits)
    async with running(be):
        incident = await be.open()
        await be.log(incident, "before")
        be.disk.seconds = SLOW_S
        outcomes: list[object] = []
        async with trio.open_nursery() as nursery:

            async def write(text: str) -> None:
                outcomes.append(await outcome_of(be.log, incident, text))

            nursery.start_soon(write, "written before it broke")
            await trio.sleep(1.0)
            for number in range(5):
                nursery.start_soon(write, f"waiting {number}")
            await until(lambda: len(outcomes) == 1)
            commits.fault = FULL
        assert isinstance(outcomes[0], Written)
        assert [getattr(outcome, "code", None) for outcome in outcomes[1:]] == ["store-full"] * 5
        assert be.texts(incident) == ["before", "written before it broke"]
        assert be.refusals["store-full"] >= 1


async def test_on_a_full_disk_writes_are_refused_reads_and_peers_are_served_and_it_heals_by_itself(
    autojump_clock: trio.testing.MockClock,
) -> None:
    network, commits = make_network(), FaultyCommits()
    be, nl = Daemon(network, "BE", ("NL",), fail_commit=commits), Daemon(network, "NL")
    de = Daemon(network, "DE", ("BE",))
    network.cut("DE:1", "NL:1")
    async with running(be, nl):
        await until(lambda: be.knows("NL") and nl.knows("BE"))
        async with running(de):
            await until(lambda: be.knows("DE"))
            incident = await be.open(share=("NL", "DE"))
        await until(lambda: bool(nl.service.incidents_view()))
        await be.log(incident, "before")
        commits.fault = FULL
        for _ in range(3):
            assert (await outcome_of(be.log, incident, "no room")).code == "store-full"
        assert be.degraded == ["store-full"]
        assert be.texts(incident) == ["before"]
        # What others write is not taken in, and not lost: it comes once there is room.
        await nl.log(incident, "from NL meanwhile")
        # A member that comes now is served what is held.
        de.rebuild()
        async with running(de):
            await until(lambda: bool(de.service.incidents_view()) and de.texts(incident) == ["before"])
            commits.fault = None
            await trio.sleep(2 * PROBE_INTERVAL_S)
            assert be.degraded == []
            assert "store-recovered" in be.reported
            await be.log(incident, "room again")
            everything = {"before", "from NL meanwhile", "room again"}
            for daemon in (be, nl, de):
                await until(lambda daemon=daemon: set(daemon.texts(incident)) == everything)
        assert be.digest(incident) == nl.digest(incident)
        assert be.refusals["store-full"] >= 1  # counters outlive the node that was built anew


async def test_links_stay_up_while_the_node_is_built_anew(autojump_clock: trio.testing.MockClock) -> None:
    network, commits = make_network(), FaultyCommits()
    be, nl = Daemon(network, "BE", ("NL",), fail_commit=commits), Daemon(network, "NL")
    async with running(be, nl):
        await until(lambda: be.knows("NL") and nl.knows("BE"))
        incident = await be.open(share=("NL",))
        links = set(be.links.up)
        commits.fault = FULL
        await outcome_of(be.log, incident, "no room")
        commits.fault = None
        await trio.sleep(2 * PROBE_INTERVAL_S)
        assert set(be.links.up) == links
        assert be.is_linked("NL")
        assert "link-down" not in nl.reported


async def test_after_a_failed_sync_nothing_is_acknowledged_until_a_restart(
    autojump_clock: trio.testing.MockClock,
) -> None:
    commits = FaultyCommits()
    be = Daemon(make_network(), "BE", fail_commit=commits)
    async with running(be):
        incident = await be.open()
        await be.log(incident, "before")
        commits.fault = FAILED
        assert (await outcome_of(be.log, incident, "lost")).code == "store-failed"
        commits.fault = None
        await trio.sleep(20 * PROBE_INTERVAL_S)
        assert (await outcome_of(be.log, incident, "still refused")).code == "store-failed"
        assert be.degraded == ["store-failed"]
        assert be.texts(incident) == ["before"]
        await be.stop()
    be.rebuild()
    async with running(be):
        assert be.degraded == []
        await be.log(incident, "after the restart")
        assert be.texts(incident) == ["before", "after the restart"]


async def test_a_disk_too_full_to_tidy_goes_on_committing(autojump_clock: trio.testing.MockClock) -> None:
    be = Daemon(make_network(), "BE")
    faults = [FULL]

    def tidy() -> None:
        raise faults.pop()

    be.store.tidy_due, be.store.tidy = lambda: bool(faults), tidy
    async with running(be):
        incident = await be.open()
        await be.log(incident, "goes on")
        assert "store-full" in be.reported
        assert be.degraded == []


async def test_a_disk_that_breaks_while_tidying_only_reads_from_then_on(
    autojump_clock: trio.testing.MockClock,
) -> None:
    be = Daemon(make_network(), "BE")
    breaks: list[LocalFaultError] = []

    def tidy() -> None:
        if breaks:
            be.store._failed = breaks[0]
            raise breaks[0]

    be.store.tidy_due, be.store.tidy = lambda: bool(breaks), tidy
    async with running(be):
        incident = await be.open()
        await trio.sleep(1.0)
        breaks.append(FAILED)
        # This one was durable before the tidying; it is acknowledged.
        await be.log(incident, "durable")
        assert (await outcome_of(be.log, incident, "refused")).code == "store-failed"
        assert be.texts(incident) == ["durable"]


# --- bounds ----------------------------------------------------------------------------------------------------------


async def test_with_a_disk_that_hangs_everything_that_waits_is_bounded(autojump_clock: trio.testing.MockClock) -> None:
    be = Daemon(make_network(), "BE")
    async with running(be):
        incident = await be.open()
        be.disk.hold()
        refused: list[str] = []
        admitted = 0

        async def write(number: int) -> None:
            nonlocal admitted
            try:
                await be.log(incident, f"record {number}")
                admitted += 1
            except RefusedError as error:
                refused.append(error.code)

        async with trio.open_nursery() as nursery:
            for number in range(GROUPS_MAX + INBOX_MAX + 100):
                nursery.start_soon(write, number)
                await trio.sleep(0.01)  # one step each: the worst for the number of groups
            assert len(be.loop._groups) <= GROUPS_MAX
            assert len(be.loop._inbox) <= INBOX_MAX
            assert set(refused) == {"busy"}
            # Links wait, hints are dropped, reads answer.
            with trio.move_on_after(60.0) as waited:
                await be.loop.take_in(DialFailed("192.0.2.1:1", "connect-timeout", "no answer"))
            assert waited.cancelled_caught
            be.loop.offer(Tick())
            assert len(be.loop._inbox) <= INBOX_MAX
            assert be.service.incident_view(incident).summary.title == "Release"
            be.disk.release()
        assert admitted + len(refused) == GROUPS_MAX + INBOX_MAX + 100
        assert len(be.texts(incident)) == admitted


async def test_what_waits_for_the_disk_is_bounded_in_bytes_too(
    autojump_clock: trio.testing.MockClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Short questions with long answers while the disk hangs."""
    room_bytes = 1024 * 1024
    monkeypatch.setattr(loop, "GROUP_BYTES_MAX", room_bytes)
    network = make_network()
    be, nl = Daemon(network, "BE", ("NL",)), Daemon(network, "NL")
    async with running(be, nl):
        await until(lambda: be.knows("NL") and nl.knows("BE"))
        incident = await be.open(share=("NL",))
        for _ in range(10):
            await be.log(incident, "x" * 15_000)
        await until(lambda: len(nl.texts(incident)) == 10)
        (link,) = be.loop.node.peers.by_link
        head = max(be.loop.node.holdings.logs(incident), key=lambda log: log.height)
        question = wire.encode(wire.Want(incident, head.log, 1, head.height))
        be.disk.hold()
        async with trio.open_nursery() as nursery:
            nursery.start_soon(be.log, incident, "waits for the disk")
            await trio.sleep(0.01)
            for _ in range(GROUPS_MAX // 2):
                be.loop.post(Received(link, Channel.CONTROL, question))
                await trio.sleep(0.01)
            held = [effect for effects in be.loop._groups for effect in effects if isinstance(effect, Send)]
            size_bytes = sum(len(effect.data) for effect in held)
            assert room_bytes <= size_bytes < 1.3 * room_bytes
            assert be.loop._inbox
            be.disk.release()
        await until(lambda: not be.loop._inbox)
        await until(lambda: len(nl.texts(incident)) == 11)


async def test_many_who_wait_for_room_in_the_inbox_all_get_it(autojump_clock: trio.testing.MockClock) -> None:
    be = Daemon(make_network(), "BE")
    async with running(be):
        be.disk.hold()
        for _ in range(INBOX_MAX):
            be.loop.post(Tick())
        done = 0

        async def deliver() -> None:
            nonlocal done
            await be.loop.take_in(DialFailed("192.0.2.1:1", "connect-timeout", "no answer"))
            done += 1

        async with trio.open_nursery() as nursery:
            for _ in range(50):
                nursery.start_soon(deliver)
            await trio.sleep(1.0)
            be.disk.release()
        assert done == 50


# --- ends ------------------------------------------------------------------------------------------------------------


async def test_a_stop_finishes_what_was_taken_in_and_refuses_what_comes_later(
    autojump_clock: trio.testing.MockClock,
) -> None:
    be = Daemon(make_network(), "BE")
    async with running(be):
        incident = await be.open()
        be.disk.seconds = 1.0
        outcomes: list[object] = []
        async with trio.open_nursery() as nursery:

            async def write(number: int) -> None:
                outcomes.append(await outcome_of(be.log, incident, f"record {number}"))

            for number in range(300):
                nursery.start_soon(write, number)
            await trio.sleep(0.5)
            started = trio.current_time()
            await be.stop()
            assert trio.current_time() - started < 5.0
            assert (await outcome_of(be.log, incident, "too late")).code == "stopping"
        assert all(isinstance(outcome, Written) for outcome in outcomes)
    be.rebuild()
    async with running(be):
        assert len(be.texts(incident)) == 300


async def test_a_stop_on_a_full_disk_ends_at_once(autojump_clock: trio.testing.MockClock) -> None:
    commits = FaultyCommits()
    be = Daemon(make_network(), "BE", fail_commit=commits)
    async with running(be):
        incident = await be.open()
        commits.fault = FULL
        await outcome_of(be.log, incident, "no room")
        started = trio.current_time()
        await be.stop()
        assert trio.current_time() - started < 1.0


async def test_an_exception_nobody_foresaw_ends_the_loop_and_leaves_nobody_waiting(
    autojump_clock: trio.testing.MockClock,
) -> None:
    be = Daemon(make_network(), "BE")
    waiting = trio.Event()

    async def client() -> None:
        try:
            await be.log(incident, "never answered")
        finally:
            waiting.set()

    def broken(*_: object) -> None:
        raise ZeroDivisionError("a defect")

    with pytest.raises(BaseExceptionGroup) as raised:  # noqa: PT012 - where in it the exception comes out is not told
        async with running(be):
            incident = await be.open()
            be.loop.node.step = broken
            await client()
    assert raised.value.split(ZeroDivisionError)[1] is None
    assert waiting.is_set()
