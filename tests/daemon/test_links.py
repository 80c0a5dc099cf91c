"""Links that outlive their transport: a defect in it costs the links for a moment, never the local service."""

from __future__ import annotations

import itertools

import trio
import trio.testing
from one_process import Daemon, make_network, running, until

from meshnode.core.events import Channel
from meshnode.daemon.links import FAILED, NUMBERS_PER_TRANSPORT, RESTART_MIN_S
from meshnode.transport.memory import MemoryTransport


class Breakable(MemoryTransport):
    """Its reader meets a defect when it is told to."""

    def __init__(self, daemon: Daemon) -> None:
        super().__init__(daemon.network, f"{daemon.noc}:1", daemon.authenticator)
        self.defect = trio.Event()

    async def run(self, task_status: trio.TaskStatus[str] = trio.TASK_STATUS_IGNORED) -> None:
        async with trio.open_nursery() as nursery:
            task_status.started(await nursery.start(super().run))
            await self.defect.wait()
            raise IndexError("bytes that nobody foresaw")


def breakable(made: list[Breakable]) -> object:
    def make(daemon: Daemon) -> Breakable:
        made.append(Breakable(daemon))
        return made[-1]

    return make


async def test_when_the_transport_fails_the_local_service_goes_on_and_the_links_come_back(
    autojump_clock: trio.testing.MockClock,
) -> None:
    network = make_network()
    made: list[Breakable] = []
    be = Daemon(network, "BE", ("NL",), make_transport=breakable(made))
    nl = Daemon(network, "NL", ("BE",))
    async with running(be, nl):
        await until(lambda: be.knows("NL") and nl.knows("BE"))
        incident = await be.open(share=("NL",))
        made[0].defect.set()
        await until(lambda: FAILED in be.degraded)
        await be.log(incident, "written while there were no links")
        assert be.texts(incident) == ["written while there were no links"]
        assert not be.is_linked("NL")
        await until(lambda: be.is_linked("NL") and nl.is_linked("BE"))
        await until(lambda: nl.texts(incident) == ["written while there were no links"])
        assert FAILED not in be.degraded
        assert len(made) == 2
        assert {"link-down", FAILED, f"{FAILED}-over"} <= set(be.reported)
        assert be.refusals[FAILED] == 1


async def test_a_transport_that_fails_again_and_again_is_made_anew_at_growing_intervals(
    autojump_clock: trio.testing.MockClock,
) -> None:
    made: list[Breakable] = []
    be = Daemon(make_network(), "BE", make_transport=breakable(made))
    async with running(be):
        incident = await be.open()
        starts: list[float] = []
        for number in range(6):
            await until(lambda number=number: len(made) == number + 1 and bool(made[-1].addresses))
            starts.append(trio.current_time())
            made[-1].defect.set()
        pauses = [later - earlier for earlier, later in itertools.pairwise(starts)]
        assert all(RESTART_MIN_S <= pause < 40.0 for pause in pauses)
        assert all(later > 1.5 * earlier for earlier, later in itertools.pairwise(pauses))
        await be.log(incident, "still served")


async def test_numbers_of_links_are_not_used_twice_and_orders_for_old_links_go_nowhere(
    autojump_clock: trio.testing.MockClock,
) -> None:
    network = make_network()
    made: list[Breakable] = []
    be = Daemon(network, "BE", ("NL",), make_transport=breakable(made))
    nl = Daemon(network, "NL")
    async with running(be, nl):
        await until(lambda: be.is_linked("NL"))
        (before,) = be.links.up
        made[0].defect.set()
        await until(lambda: FAILED in be.degraded)
        await until(lambda: be.is_linked("NL"))
        (after,) = be.links.up
        assert before < NUMBERS_PER_TRANSPORT < after
        be.links.send(before, Channel.CONTROL, b"for somebody else", False)
        be.links.close(before, "shutting-down")
        await trio.sleep(1.0)
        assert list(be.links.up) == [after]
        assert nl.is_linked("BE")


async def test_a_dial_under_way_when_the_transport_fails_is_tried_again(
    autojump_clock: trio.testing.MockClock,
) -> None:
    network = make_network()
    made: list[Breakable] = []
    be = Daemon(network, "BE", ("NL",), make_transport=breakable(made))
    nl = Daemon(network, "NL")
    async with running(be):
        await trio.sleep(1.0)  # it dials somebody who is not there yet
        made[0].defect.set()
        async with running(nl):
            await until(lambda: be.is_linked("NL"))
