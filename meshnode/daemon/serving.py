"""The rooms of a daemon that is built: started in order, stopped in order.

Apart from the composition root, so that whoever brings other rooms (a transport inside one process, a disk in memory)
starts and stops them as the daemon does.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass

import trio

from meshnode.api.server import ApiServer
from meshnode.api.sockets import Listener
from meshnode.core.certificates import Certificate
from meshnode.core.events import Report
from meshnode.daemon.links import Links
from meshnode.daemon.loop import Loop
from meshnode.daemon.upkeep import look_after
from meshnode.storage.ticket import CommittingLogStore

STOP_GRACE_S = 5.0
"""From the signal to the end of the process. systemd waits longer before it kills."""


@dataclass(frozen=True, slots=True)
class Rooms:
    loop: Loop
    store: CommittingLogStore
    links: Links
    server: ApiServer
    listeners: Sequence[Listener]
    certificate: Certificate
    wall_s: Callable[[], float]
    report: Callable[[Report], None]


async def serve(
    rooms: Rooms,
    on_serving: Callable[[trio.Nursery, str], None],
    wait_told_to_stop: Callable[[], Awaitable[object]],
    on_stopping: Callable[[], None],
) -> bool:
    """Serves until told to stop, then stops in order; False when not everybody was answered within ``STOP_GRACE_S``.

    ``on_serving`` is given the nursery, for what runs beside, and the address of the links.
    """
    loop = rooms.loop
    async with trio.open_nursery() as nursery:
        try:
            address: str = await nursery.start(rooms.links.run, loop.take_in, loop.note_degraded, loop.end_degraded)
        except BaseException:
            for listener in rooms.listeners:
                listener.close()
            raise
        await nursery.start(loop.run)
        nursery.start_soon(look_after, loop, rooms.store, rooms.links, rooms.certificate, rooms.wall_s, rooms.report)
        served = trio.Event()
        nursery.start_soon(_serve_api, rooms.server, rooms.listeners, served)
        on_serving(nursery, address)
        await wait_told_to_stop()
        on_stopping()
        with trio.move_on_after(STOP_GRACE_S) as grace:
            rooms.server.stop()
            loop.stop()
            await loop.stopped.wait()
            await served.wait()
        nursery.cancel_scope.cancel()
    return not grace.cancelled_caught


async def _serve_api(server: ApiServer, listeners: Sequence[Listener], served: trio.Event) -> None:
    await server.serve(listeners)
    served.set()
