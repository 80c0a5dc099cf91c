"""What is looked after while nothing happens: certificate, scrub, refusals at the door."""

from __future__ import annotations

import trio
import trio.testing
from one_process import Daemon, make_network, running, until
from world import YEAR_S, make_identity

from meshnode.daemon.upkeep import CERTIFICATE_INTERVAL_S, DOOR_INTERVAL_S, SCRUB_INTERVAL_S, SCRUB_ROWS
from meshnode.errors import LocalFaultError
from meshnode.storage.ticket import SCRUB_START, Scrubbed, ScrubPosition

TEN_YEARS_MS = 10 * YEAR_S * 1000


async def test_with_an_expired_certificate_the_local_service_goes_on_and_says_why_nobody_answers(
    autojump_clock: trio.testing.MockClock,
) -> None:
    network = make_network()
    be, nl = Daemon(network, "BE", ("NL",)), Daemon(network, "NL")
    be.skew_ms = TEN_YEARS_MS
    async with running(be, nl):
        await until(lambda: be.degraded == ["certificate-expired"])
        incident = await be.open()
        await be.log(incident, "written alone")
        assert be.texts(incident) == ["written alone"]
        await until(lambda: be.refusals["dial-failed"] > 0)
        assert not be.is_linked("NL")
        assert nl.degraded == []


async def test_a_clock_that_is_put_right_ends_it_and_the_links_come_back(
    autojump_clock: trio.testing.MockClock,
) -> None:
    network = make_network()
    be, nl = Daemon(network, "BE", ("NL",)), Daemon(network, "NL")
    be.skew_ms = -TEN_YEARS_MS
    async with running(be, nl):
        await until(lambda: be.degraded == ["certificate-not-yet-valid"])
        incident = await be.open()
        be.skew_ms = 0
        await until(lambda: be.knows("NL"))
        await trio.sleep(CERTIFICATE_INTERVAL_S)
        assert be.degraded == []
        assert be.reported.count("certificate-not-yet-valid") == 1
        await be.service.share(incident, "duty", ["NL"], with_relays=True)
        await until(lambda: bool(nl.service.incidents_view()))
        await until(lambda: be.digest(incident) == nl.digest(incident))


async def test_who_is_refused_at_the_door_is_written_down_and_counted(
    autojump_clock: trio.testing.MockClock,
) -> None:
    network = make_network()
    be, foreigner = Daemon(network, "BE"), Daemon(network, "NL", ("BE",))
    foreigner.identity = make_identity("NL", "1", network=7)
    foreigner.rebuild()
    async with running(be, foreigner):
        await until(lambda: be.refusals["certificate-foreign-network"] > 0)
        await trio.sleep(2 * DOOR_INTERVAL_S)
        assert "certificate-foreign-network" in be.reported
        assert not be.is_linked("NL")
        await be.open()


class RottingStore:
    """A scrub that is told what to find."""

    def __init__(self, rows: int) -> None:
        self.rows = rows
        self.rotten: set[int] = set()
        self.damage = 0
        self.slices: list[tuple[float, int]] = []
        self.unreadable = False

    def scrub(self, start: ScrubPosition, limit: int) -> Scrubbed:
        if self.unreadable:
            raise LocalFaultError("store-damaged", "the file cannot be read", "restore it")
        first = 0 if start.after is None else int.from_bytes(bytes(start.after), "big")
        looked = range(first, min(first + limit, self.rows))
        found = self.rotten & set(looked)
        self.rotten -= found
        self.damage += len(found)
        self.slices.append((trio.current_time(), len(looked)))
        following = SCRUB_START if looked.stop == self.rows else ScrubPosition(0, tuple(looked.stop.to_bytes(4, "big")))
        return Scrubbed(following, len(looked), len(found))


async def test_every_row_is_looked_at_slice_by_slice_and_then_from_the_start_again(
    autojump_clock: trio.testing.MockClock,
) -> None:
    be = Daemon(make_network(), "BE")
    rotting = RottingStore(5 * SCRUB_ROWS + 1)
    rotting.rotten = {3 * SCRUB_ROWS}
    be.store.scrub, be.store.damaged = rotting.scrub, lambda: rotting.damage
    async with running(be):
        await trio.sleep(3.5 * SCRUB_INTERVAL_S)
        assert "store-row-damaged" not in be.reported
        await trio.sleep(SCRUB_INTERVAL_S)
        assert be.reported.count("store-row-damaged") == 1  # within its slice, without anybody reading the row
        await trio.sleep(9 * SCRUB_INTERVAL_S)
        assert [rows for _, rows in rotting.slices] == [*[SCRUB_ROWS] * 5, 1] * 2 + [SCRUB_ROWS]


async def test_a_store_that_cannot_be_scrubbed_is_shown_and_does_not_end_the_daemon(
    autojump_clock: trio.testing.MockClock,
) -> None:
    be = Daemon(make_network(), "BE")
    rotting = RottingStore(10)
    rotting.unreadable = True
    be.store.scrub = rotting.scrub
    async with running(be):
        await trio.sleep(10 * SCRUB_INTERVAL_S)
        assert be.degraded == ["store-damaged"]
        assert be.reported.count("store-damaged") == 1
        await be.open()
