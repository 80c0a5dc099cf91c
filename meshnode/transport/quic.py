"""QUIC links on one UDP socket.

One socket listens and dials, so the address a peer sees is one it can dial. Three kinds of task, all in ``run``:

- **the reader** takes all datagrams that are there (up to a turn's worth), gives each to its link by connection id, in
  order, and then settles every link it touched, once: outputs, windows, acknowledgements, new data;
- **the flusher** settles, once, every link the daemon has just sent on. What the daemon sends in one go leaves in one
  go, packed together;
- **a pump per link** sleeps until the link's deadline and then settles the link. Who moves a deadline moves the
  sleeping pump's, without waking it;
- **the delivery** carries over what the daemon had no room for.

Nothing is polled and no task is started for a datagram. Whatever a datagram makes a link do, the other links and the
tasks never notice: a link catches its own errors and closes.
"""

from __future__ import annotations

import random
import socket
from collections import Counter
from dataclasses import dataclass
from typing import Any

import trio

from meshnode.core.events import Channel, DialFailed, LinkDown, LinkUp, Received
from meshnode.errors import UntrustedInputError
from meshnode.transport.base import (
    HELLO_STREAM_BYTES_MAX,
    Authenticator,
    Record,
    check_frame,
    note_refused,
    parse_address_untrusted,
    reason_of,
)
from meshnode.transport.delivery import Delivery
from meshnode.transport.quic_door import Door, connection_id_of
from meshnode.transport.quic_link import Ended, Output, QuicLink, RouteAdded, RouteRemoved, State
from meshnode.transport.quic_settings import QuicSettings
from meshnode.transport.quic_tls import make_configuration, make_tls_identity
from meshnode.transport.quic_window import BoundedConnection
from meshnode.transport.udp import UdpSocket, bind_udp, resolve

TIMER_SECONDS_MIN = 0.001
"""A deadline in the past is met this much later, so that no state of a link can keep a pump spinning."""


class _Pump:
    """The sleeping side of one link, and what the transport keeps about it."""

    __slots__ = ("connection_ids", "is_up", "link", "scope")

    def __init__(self, link: QuicLink) -> None:
        self.link = link
        self.scope: trio.CancelScope | None = None
        self.connection_ids: set[bytes] = set()
        self.is_up = False


@dataclass(frozen=True, slots=True)
class _Running:
    """What exists only while ``run`` runs."""

    udp: UdpSocket
    nursery: trio.Nursery


class QuicTransport:
    """Transport over QUIC; see ``base.Transport``. ``socket``, when given, is a bound UDP socket that it now owns."""

    def __init__(
        self,
        settings: QuicSettings,
        authenticator: Authenticator,
        rng: random.Random,
        socket: socket.socket | None = None,
    ) -> None:
        self.counters: Counter[str] = Counter()
        """How often what was refused, dropped or ended, by code; for the status."""
        self.refused_from: dict[str, str] = {}
        """Address of who dialled and never became a link -> why; whoever reads it clears it."""
        self._settings = settings
        self._authenticator = authenticator
        self._rng = rng
        self._given_socket = socket
        self._identity = make_tls_identity()
        self._client_configuration = make_configuration(
            self._identity, True, settings.idle_timeout_seconds, HELLO_STREAM_BYTES_MAX
        )
        self._door = Door(
            make_configuration(self._identity, False, settings.idle_timeout_seconds, HELLO_STREAM_BYTES_MAX), settings
        )
        self._delivery = Delivery(settings.receive_records_max, self._on_consumed)
        self._pumps: dict[int, _Pump] = {}
        self._routes: dict[bytes, _Pump] = {}
        self._links_made = 0
        self._resolving = 0
        self._links = 0
        """Proven, or being dialled: what links_max counts."""
        self._unflushed: dict[_Pump, None] = {}
        self._flush_wanted = trio.Event()
        self._running: _Running | None = None

    # --- Transport ---

    @property
    def receive(self) -> trio.MemoryReceiveChannel[Record]:
        return self._delivery.receive

    @property
    def addresses(self) -> tuple[str, ...]:
        return (self._running.udp.address,) if self._running is not None else ()

    async def run(self, task_status: trio.TaskStatus[str] = trio.TASK_STATUS_IGNORED) -> None:
        bound = self._given_socket or bind_udp(self._settings.listen)
        udp = UdpSocket(bound, self._settings.socket_buffer_bytes, self.counters)
        try:
            async with trio.open_nursery() as nursery:
                self._running = _Running(udp, nursery)
                nursery.start_soon(self._delivery.run)
                nursery.start_soon(udp.run)
                nursery.start_soon(self._read, self._running)
                nursery.start_soon(self._flush, self._running)
                task_status.started(udp.address)
        finally:
            now = trio.current_time()
            for pump in self._pumps.values():
                pump.link.close("shutting-down", now)
                udp.send(pump.link.transmit(now))
            self._running = None
            udp.close()
            self._delivery.close()

    def dial(self, address: str) -> None:
        try:
            host, port = parse_address_untrusted(address)
        except UntrustedInputError as error:
            self._fail_dial(address, error.code, error.reason)
            return
        running = self._running
        if running is None:
            self._fail_dial(address, "shutting-down")
        elif self._resolving + self._links >= self._settings.links_max:
            self._fail_dial(address, "too-many-links")
        elif (sockaddr := resolve(host, port, running.udp.family, numeric=True)) is not None:
            self._connect(running, address, sockaddr)
        elif resolve(host, port, socket.AF_INET6, numeric=True) is not None:
            self._fail_dial(address, "address-family")
        else:
            self._resolving += 1
            running.nursery.start_soon(self._resolve_and_connect, running, address, host, port)

    def send(self, link: int, channel: Channel, data: bytes, droppable: bool) -> None:
        check_frame(data)
        pump = self._pumps.get(link)
        if pump is not None:
            pump.link.send(channel, data, droppable, trio.current_time())
            self._flush_soon(pump)

    def close(self, link: int, code: str) -> None:
        pump = self._pumps.get(link)
        if pump is not None and self._running is not None:
            # At once, and not when the pump wakes: of a revoked device not one more frame is handed over.
            now = trio.current_time()
            pump.link.close(code, now)
            self._settle(self._running, pump, now)

    # --- dialling ---

    async def _resolve_and_connect(self, running: _Running, address: str, host: str, port: int) -> None:
        code, sockaddr = "name-timeout", None
        with trio.move_on_after(self._settings.resolve_timeout_seconds):
            sockaddr = await trio.to_thread.run_sync(resolve, host, port, running.udp.family, abandon_on_cancel=True)
            code = "name-not-found"
        self._resolving -= 1
        if sockaddr is None:
            self._fail_dial(address, code)
        else:
            self._connect(running, address, sockaddr)

    def _connect(self, running: _Running, address: str, sockaddr: tuple[Any, ...]) -> None:
        now = trio.current_time()
        quic = BoundedConnection(self._client_configuration)
        quic.connect(sockaddr, now)
        pump = self._add_link(running, quic, sockaddr, address, now)
        self._links += 1
        self._add_route(pump, quic.host_cid)
        self._settle(running, pump, now)

    def _fail_dial(self, address: str, code: str, reason: str = "") -> None:
        self.counters[code] += 1
        self._delivery.put(DialFailed(address, code, reason or reason_of(code)))

    # --- links ---

    def _add_link(
        self,
        running: _Running,
        quic: BoundedConnection,
        sockaddr: tuple[Any, ...],
        dialed_address: str | None,
        now: float,
    ) -> _Pump:
        self._links_made += 1
        # A tenth of jitter, so that links made in the same moment do not all ping in the same moment for ever.
        keepalive_seconds = self._settings.keepalive_seconds * self._rng.uniform(0.9, 1.0)
        link = QuicLink(
            self._links_made,
            quic,
            sockaddr,
            dialed_address,
            self._identity,
            self._authenticator,
            self._settings,
            keepalive_seconds,
            now,
        )
        pump = self._pumps[link.number] = _Pump(link)
        running.nursery.start_soon(self._run_pump, running, pump)
        return pump

    def _accept(self, running: _Running, data: bytes, sockaddr: tuple[Any, ...], now: float) -> _Pump | None:
        """The link for a datagram that belongs to none: a new one, or None when the door answered or kept quiet."""
        answer = self._door.knock_untrusted(data, sockaddr, self._resolving + self._links, now)
        if answer.code:
            self.counters[answer.code] += 1
        if answer.datagram is not None:
            running.udp.send([(answer.datagram, sockaddr)])
        if answer.quic is None:
            return None
        pump = self._add_link(running, answer.quic, sockaddr, None, now)
        self._door.remember(pump.link.number, sockaddr)
        for connection_id in answer.connection_ids:
            self._add_route(pump, connection_id)
        return pump

    def _add_route(self, pump: _Pump, connection_id: bytes) -> None:
        self._routes[connection_id] = pump
        pump.connection_ids.add(connection_id)

    async def _run_pump(self, running: _Running, pump: _Pump) -> None:
        link = pump.link
        while link.state is not State.GONE:
            with trio.CancelScope(deadline=_deadline(link, trio.current_time())) as pump.scope:
                await trio.sleep_forever()
            pump.scope = None
            now = trio.current_time()
            link.handle_deadline(now)
            self._settle(running, pump, now)
        del self._pumps[link.number]
        for connection_id in pump.connection_ids:
            self._routes.pop(connection_id, None)

    def _flush_soon(self, pump: _Pump) -> None:
        self._unflushed[pump] = None
        self._flush_wanted.set()

    async def _flush(self, running: _Running) -> None:
        while True:
            await self._flush_wanted.wait()
            self._flush_wanted = trio.Event()
            unflushed, self._unflushed = self._unflushed, {}
            now = trio.current_time()
            for pump in unflushed:
                self._settle(running, pump, now)

    def _settle(self, running: _Running, pump: _Pump, now: float) -> None:
        """Everything that follows from what the link was told: records, then datagrams, then its next deadline."""
        link = pump.link
        self._on_outputs(pump, link.settle(now))
        running.udp.send(link.transmit(now))
        # Sending issues connection ids, and may meet an error of the link's.
        self._on_outputs(pump, link.settle(now))
        round_trip = link.report_round_trip(now)
        if round_trip is not None:
            self._delivery.put_if_room(round_trip)
        if pump.scope is not None:
            pump.scope.deadline = _deadline(link, now)

    def _on_outputs(self, pump: _Pump, outputs: list[Output]) -> None:
        link = pump.link
        for output in outputs:
            if isinstance(output, Received):
                if self._delivery.put_frame(output):
                    link.frame_handed_over(output)
            elif isinstance(output, RouteAdded):
                self._add_route(pump, output.connection_id)
            elif isinstance(output, RouteRemoved):
                self._routes.pop(output.connection_id, None)
                pump.connection_ids.discard(output.connection_id)
            elif isinstance(output, LinkUp):
                pump.is_up = True
                self._door.forget(link.number)
                self._links += not link.dialed
                self._delivery.put(output)
            else:
                self._on_ended(pump, output)

    def _on_ended(self, pump: _Pump, ended: Ended) -> None:
        link = pump.link
        self.counters[ended.code] += 1
        self.counters["frame-dropped"] += link.dropped_frames
        self._door.forget(link.number)
        self._delivery.drop_frames(link.number)
        self._links -= pump.is_up or link.dialed
        if pump.is_up:
            self._delivery.put(LinkDown(link.number, ended.code))
        elif link.dialed_address is not None:
            self._delivery.put(DialFailed(link.dialed_address, ended.code, ended.reason))
        else:
            note_refused(self.refused_from, link.address, ended.code)

    def _on_consumed(self, frame: Received) -> None:
        pump = self._pumps.get(frame.link)
        if pump is not None:
            pump.link.frame_handed_over(frame)
            self._flush_soon(pump)

    async def _read(self, running: _Running) -> None:
        while True:
            datagrams = await running.udp.receive(self._settings.datagrams_per_turn)
            now = trio.current_time()
            touched: dict[_Pump, None] = {}
            for data, sockaddr in datagrams:
                pump = self._routes.get(connection_id_of(data)) or self._accept(running, data, sockaddr, now)
                if pump is not None:
                    pump.link.receive_datagram(data, sockaddr, now)
                    touched[pump] = None
            for pump in touched:
                self._settle(running, pump, now)


def _deadline(link: QuicLink, now: float) -> float:
    return max(link.deadline(), now + TIMER_SECONDS_MIN)
