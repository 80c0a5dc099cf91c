"""The links of the daemon: a transport that is made anew when it fails.

A peer can end nothing but its own link: that is the transport's promise. Should it break it (a defect met by bytes
nobody foresaw), the local service must go on all the same: a control room that reads and writes alone is worth more
than a process that dies whenever a certain packet comes. So the failure is written down with its traceback, shown in
the status as ``transport-failed``, every link and dial is told to be over, and a new transport takes its place after
a pause that doubles up to a minute.

A link's number is never used twice: each new transport counts from a base of its own.
"""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Awaitable, Callable
from dataclasses import replace
from typing import Protocol

import trio

from meshnode.core.events import Channel, DialFailed, DoorRefused, LinkDown, LinkUp, Received, Report, RoundTrip
from meshnode.errors import LocalFaultError, MeshnodeError
from meshnode.transport.base import Record, Transport, reason_of

RESTART_MIN_S = 1.0
RESTART_MAX_S = 60.0
"""Pause before a failed transport is made anew. It starts over with one that held longer than this."""
NUMBERS_PER_TRANSPORT = 1 << 32
"""Link numbers of one transport: more links than a process can ever have."""
FAILED = "transport-failed"

_NO_REFUSAL = frozenset({"frame-dropped", "datagram-lost", "retry-asked", "shutting-down"})
"""Counted by transports for the status, and no refusal of anybody."""

_log = logging.getLogger("meshnode")

Deliver = Callable[[Record], Awaitable[None]]


class CountingTransport(Transport, Protocol):
    @property
    def counters(self) -> Counter[str]:
        """How often what was refused, dropped or ended, by code."""

    @property
    def refused_from(self) -> dict[str, str]:
        """Address of who dialled and never became a link -> why. Whoever reads it clears it."""


class Links:
    """Sends and dials on the transport of the moment; what happens on it goes to ``deliver``."""

    def __init__(self, make: Callable[[], CountingTransport]) -> None:
        self._make = make
        self._transport = make()
        self._base = 0
        self._dialing: set[str] = set()
        self._counted_before: Counter[str] = Counter()
        self._told: Counter[str] = Counter()
        """Ends of links and dials, by code, that the node was told of."""
        self._reported: Counter[str] = Counter()
        self.up: dict[int, LinkUp] = {}
        """Links there are, oldest first."""

    async def run(
        self,
        deliver: Deliver,
        on_failed: Callable[[MeshnodeError], None],
        on_restored: Callable[[str, str], None],
        *,
        task_status: trio.TaskStatus[str] = trio.TASK_STATUS_IGNORED,
    ) -> None:
        """Serves until cancelled. Raises only when the first transport cannot start (LocalFaultError)."""
        pause_s = RESTART_MIN_S
        serving = False
        while True:
            started_at = trio.current_time()
            try:
                async with trio.open_nursery() as nursery:
                    address = await nursery.start(self._transport.run)
                    if not serving:
                        serving = True
                        task_status.started(address)
                    on_restored(FAILED, f"links are served on {address} again")
                    async for record in self._transport.receive:
                        await deliver(self._note(record))
                    raise RuntimeError("the transport ended by itself")
            except Exception as error:  # its outer edge: a defect must not end the local service
                if not serving:
                    raise
                _log.exception("the transport failed", extra={"code": FAILED})
                on_failed(_failure(error))
            if trio.current_time() - started_at > RESTART_MAX_S:
                pause_s = RESTART_MIN_S
            await self._replace(deliver)
            await trio.sleep(pause_s)
            pause_s = min(2 * pause_s, RESTART_MAX_S)

    async def _replace(self, deliver: Deliver) -> None:
        gone = [LinkDown(link, FAILED) for link in self.up]
        failed = [DialFailed(address, FAILED, "the transport failed") for address in self._dialing]
        self.up.clear()
        self._dialing.clear()
        self._counted_before += self._transport.counters
        self._transport = self._make()
        self._base += NUMBERS_PER_TRANSPORT
        for down in gone:
            await deliver(down)
        for failure in failed:
            await deliver(failure)

    def _note(self, record: Record) -> Record:
        """Keeps the books about a record, and gives its link the number it has here."""
        if self._base and isinstance(record, LinkUp | LinkDown | Received | RoundTrip):
            record = replace(record, link=record.link + self._base)
        match record:
            case LinkUp():
                self.up[record.link] = record
                if record.dialed:
                    self._dialing.discard(record.address)
            case LinkDown():
                self.up.pop(record.link, None)
                self._told[record.code] += 1
            case DialFailed():
                self._dialing.discard(record.address)
                self._told[record.code] += 1
        return record

    # --- orders of the loop ---------------------------------------------------------------------------------------

    def dial(self, address: str) -> None:
        self._dialing.add(address)
        self._transport.dial(address)

    def send(self, link: int, channel: Channel, data: bytes, droppable: bool) -> None:
        if link > self._base:
            self._transport.send(link - self._base, channel, data, droppable)

    def close(self, link: int, code: str) -> None:
        if link > self._base:
            self._transport.close(link - self._base, code)

    # --- the picture ----------------------------------------------------------------------------------------------

    @property
    def addresses(self) -> tuple[str, ...]:
        return self._transport.addresses

    def refused(self) -> Counter[str]:
        """Who was refused before there was a link, by code, since the start: the node is not told of them."""
        counted = self._counted_before + self._transport.counters - self._told
        return Counter({code: number for code, number in counted.items() if code not in _NO_REFUSAL})

    def refused_from(self) -> list[DoorRefused]:
        """Where those came from who were refused before there was a link, since the last call: bounded by the
        transport."""
        found = [DoorRefused(address, code) for address, code in self._transport.refused_from.items()]
        self._transport.refused_from.clear()
        return found

    def news(self) -> list[Report]:
        """The same since the last call."""
        refused = self.refused()
        fresh = refused - self._reported
        self._reported = refused
        return [
            Report(code, f"refused at the door: {reason_of(code)}" + (f" ({number} times)" if number > 1 else ""))
            for code, number in sorted(fresh.items())
        ]


def _failure(error: Exception) -> LocalFaultError:
    leaf: BaseException = error
    while isinstance(leaf, BaseExceptionGroup):
        leaf = leaf.exceptions[0]
    what = leaf.reason if isinstance(leaf, MeshnodeError) else type(leaf).__name__
    return LocalFaultError(FAILED, f"links to peers failed: {what}", "none: they are made anew; report the traceback")
