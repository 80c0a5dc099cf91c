"""One session: zeroconf on a thread and an asyncio loop of its own, which talks to trio in small records only.

Nothing here may hold up the daemon, so nothing of trio ever waits for this thread: the thread posts records, and is
told once to stop. Whatever zeroconf raises ends the session and becomes the reason in its ``Ended``.
"""

from __future__ import annotations

import asyncio
import math
import threading
from collections.abc import Callable, Coroutine, Sequence
from dataclasses import dataclass
from typing import Any

import trio
from zeroconf import ServiceListener, Zeroconf
from zeroconf.asyncio import AsyncServiceInfo, AsyncZeroconf

from meshnode.discovery.announcement import (
    NETWORK_KEY,
    addresses_untrusted,
    host_name,
    instance_untrusted,
    is_of_network,
    network_hash,
    service_name,
)
from meshnode.discovery.hints import Hints, Seldom, Verdict
from meshnode.discovery.interfaces import LocalAddress, Place, choose
from meshnode.discovery.settings import RESOLVE_TIMEOUT_MS, RESOLVES_MAX, SERVICE_TYPE, DiscoverySettings
from meshnode.errors import LocalFaultError

OpenZeroconf = Callable[[Sequence[str | int]], AsyncZeroconf]
"""Opens the sockets on these IPv4 addresses and IPv6 interface indexes; called on the session's loop."""
GOODBYE_SHARE = 0.8
"""Of ``stop_timeout_s``: the rest is for closing and for the thread's end. A goodbye takes 0.25 s."""
Scan = Callable[[], Sequence[LocalAddress]]


@dataclass(frozen=True, slots=True)
class Started:
    """The announcement is sent; ``where`` says on what."""

    where: str


@dataclass(frozen=True, slots=True)
class Alive:
    """Posted every ``beat_s``."""


@dataclass(frozen=True, slots=True)
class Hint:
    address: str


@dataclass(frozen=True, slots=True)
class Trouble:
    """Something to report; the session goes on."""

    code: str
    reason: str


@dataclass(frozen=True, slots=True)
class Ended:
    """The last record of a session: its sockets are closed and its thread is at its end."""

    code: str
    reason: str


Note = Started | Alive | Hint | Trouble | Ended
Post = Callable[[Note], None]


def open_zeroconf(interfaces: Sequence[str | int]) -> AsyncZeroconf:
    return AsyncZeroconf(interfaces=list(interfaces))


class Worker:
    """The thread. Its channel is unbounded and does not grow: all that is posted is few a minute by its own limits."""

    def __init__(self, session: Callable[[Post], Coroutine[Any, Any, None]]) -> None:
        self._session = session
        self._send, self._receive = trio.open_memory_channel[Note](math.inf)
        self._token = trio.lowlevel.current_trio_token()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._task: asyncio.Task[None] | None = None
        self._stopping = False
        self.ended = False
        """The session's last record was received."""

    async def next_note(self) -> Note:
        note = await self._receive.receive()
        self.ended = isinstance(note, Ended)
        return note

    def start(self) -> None:
        try:
            # A daemon thread: one that hangs in a system call does not keep the process from ending.
            threading.Thread(target=self._main, name="mdns", daemon=True).start()
        except RuntimeError as error:
            self._send.send_nowait(Ended("mdns-unavailable", str(error)))

    def stop(self) -> None:
        """Asks the session to say goodbye and end; does not wait. Once is enough."""
        self._stopping = True  # before the loop is looked at: the thread does it the other way round
        loop = self._loop
        if loop is not None:
            try:
                loop.call_soon_threadsafe(self._cancel)
            except RuntimeError:
                # The loop is closed: the session has ended by itself.
                return

    # --- on the thread --------------------------------------------------------------------------------------------

    def _main(self) -> None:
        end = Ended("mdns-stopped", "told to stop")
        try:
            with asyncio.Runner() as runner:
                self._loop = runner.get_loop()
                self._loop.set_exception_handler(self._on_stray_exception)
                self._stray_report_due = Seldom()
                end = runner.run(self._run()) or end
        except Exception as error:  # noqa: BLE001 - the thread's outer edge: there may be no loop to be had, or no end
            end = _reason(error)
        finally:
            self._post(end)

    async def _run(self) -> Ended | None:
        """Raises nothing: on the way out of the runner an exception and its task would come to keep each other, and
        with them the sockets that zeroconf drops unclosed when it fails half way through opening."""
        self._task = asyncio.current_task()
        try:
            if not self._stopping:
                await self._session(self._post)
        except asyncio.CancelledError:
            return None
        except Exception as error:  # noqa: BLE001 - the session's outer edge: whatever the library raises is the reason
            return _reason(error)
        return None

    def _cancel(self) -> None:
        if self._task is not None:
            self._task.cancel()

    def _on_stray_exception(self, loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
        if self._stray_report_due(loop.time()):
            what = context.get("exception") or context.get("message")
            self._post(Trouble("mdns-defect", f"{type(what).__name__}: {what}"[:200]))

    def _post(self, note: Note) -> None:
        try:
            self._token.run_sync_soon(self._send.send_nowait, note)
        except trio.RunFinishedError:
            # The daemon has gone without waiting for this thread.
            return


def _reason(error: Exception) -> Ended:
    if isinstance(error, LocalFaultError):
        return Ended(error.code, error.reason)
    return Ended("mdns-unavailable", f"{type(error).__name__}: {error}")


async def run_session(
    settings: DiscoverySettings, hints: Hints, post: Post, open_sockets: OpenZeroconf, scan: Scan
) -> None:
    """Announces and listens until cancelled. Raises when it cannot go on, or when the interfaces have changed."""
    place = choose(scan(), settings.listen, settings.interface)
    zeroconf = open_sockets(place.multicast)
    try:
        await _wait_ready(zeroconf)
        if not zeroconf.zeroconf.engine.senders:
            # zeroconf leaves out an interface that it cannot use without a word.
            raise LocalFaultError("mdns-unavailable", f"multicast is not possible on {place.text}")
        session = _Session(settings, place, zeroconf, hints, post)
        await session.announce()
        post(Started(place.text))
        await session.attend(scan)
    finally:
        try:
            async with asyncio.timeout(GOODBYE_SHARE * settings.stop_timeout_s):
                await zeroconf.async_close()
        except TimeoutError:
            pass  # the goodbye was not said in full: the network forgets this node when its records expire
        finally:
            # Also when the library raised, or when the order to stop came while a session that had failed was saying
            # goodbye: async_close ends in the middle then, and closes nothing.
            _close_sockets(zeroconf)


async def _wait_ready(zeroconf: AsyncZeroconf) -> None:
    """Cancelled, it leaves the set-up alone: awaited directly, it would be cancelled with the wait, half way."""
    ready = asyncio.create_task(zeroconf.zeroconf.async_wait_for_start())
    ready.add_done_callback(lambda done: done.cancelled() or done.exception())  # nobody may be left to look at it
    await asyncio.wait({ready})
    ready.result()


def _close_sockets(zeroconf: AsyncZeroconf) -> None:
    """Every socket is closed within the next turns of the loop, which the runner makes in any case before it ends it.

    A set-up still under way is cancelled, and closes what it has in hand. May be called on what is closed already.
    """
    if not zeroconf.zeroconf.done:
        zeroconf.zeroconf.close()
    engine = zeroconf.zeroconf.engine
    engine.close()
    for wrapped in (*engine.readers, *engine.senders):
        wrapped.transport.abort()  # close() would first wait for packets that the kernel does not take


class _Session(ServiceListener):
    """The three methods of a ``ServiceListener`` are called on the session's loop."""

    def __init__(
        self, settings: DiscoverySettings, place: Place, zeroconf: AsyncZeroconf, hints: Hints, post: Post
    ) -> None:
        self._settings = settings
        self._place = place
        self._zeroconf = zeroconf
        self._hints = hints
        self._post = post
        self._flood_report_due = Seldom()
        self._resolving: set[asyncio.Task[None]] = set()

    async def announce(self) -> None:
        instance = self._settings.instance
        info = AsyncServiceInfo(
            SERVICE_TYPE,
            service_name(instance),
            port=self._place.port,
            properties={NETWORK_KEY: network_hash(self._settings.network_root, instance)},
            server=host_name(instance),
            parsed_addresses=[str(link.address.ip) for link in self._place.announced],
        )
        # "Cooperating responders" leaves out the probing for a taken name: ours is random, and whoever would answer a
        # probe could keep this node from announcing itself at all.
        await (await self._zeroconf.async_register_service(info, cooperating_responders=True))

    async def attend(self, scan: Scan) -> None:
        settings = self._settings
        loop = asyncio.get_running_loop()
        ask_at = loop.time()
        while True:
            if loop.time() >= ask_at:
                # A new browser asks the network anew, and hears again of all that is known.
                await self._zeroconf.async_add_service_listener(SERVICE_TYPE, self)
                await self._zeroconf.async_update_interfaces()  # one that was not ready at the start may be now
                ask_at = loop.time() + settings.ask_again_s
            await asyncio.sleep(settings.beat_s)
            if not self._zeroconf.zeroconf.started:
                raise LocalFaultError("mdns-unavailable", "the mDNS engine has stopped by itself")
            if choose(scan(), settings.listen, settings.interface) != self._place:
                raise LocalFaultError("mdns-interfaces-changed", "the addresses of this host have changed")
            self._post(Alive())

    def add_service(self, zc: Zeroconf, type_: str, name: str) -> None:
        instance = instance_untrusted(name)
        if instance is None or instance == self._settings.instance:
            return
        info = AsyncServiceInfo(type_, name)
        if info.load_from_cache(zc):
            self._take(instance, info)
        elif len(self._resolving) < RESOLVES_MAX:
            task = asyncio.create_task(self._resolve(zc, instance, info))
            self._resolving.add(task)
            task.add_done_callback(self._resolving.discard)

    def update_service(self, zc: Zeroconf, type_: str, name: str) -> None:
        self.add_service(zc, type_, name)

    def remove_service(self, zc: Zeroconf, type_: str, name: str) -> None:
        """Nothing: a goodbye can be forged, and core.peers forgets by itself what does not answer."""

    async def _resolve(self, zc: Zeroconf, instance: str, info: AsyncServiceInfo) -> None:
        if await info.async_request(zc, RESOLVE_TIMEOUT_MS):
            self._take(instance, info)

    def _take(self, instance: str, info: AsyncServiceInfo) -> None:
        if not is_of_network(info.properties, self._settings.network_root, instance):
            return
        now = asyncio.get_running_loop().time()
        for address in addresses_untrusted(info.parsed_scoped_addresses(), info.port, self._place):
            verdict = self._hints.admit(address, now)
            if verdict is Verdict.PASS:
                self._post(Hint(address))
            elif verdict is Verdict.TOO_MANY and self._flood_report_due(now):
                self._post(Trouble("mdns-flood", "more nodes are announced on this LAN than are taken"))
