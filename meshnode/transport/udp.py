"""The one UDP socket of a node: plain non-blocking calls, and one task for when the system's send buffer is full."""

from __future__ import annotations

import socket
from collections import Counter, deque
from typing import Any

import trio

from meshnode.errors import LocalFaultError
from meshnode.transport.base import format_address

DATAGRAM_BYTES_MAX = 2_048
"""Read at most. Links send 1,200; what is cut off here would not have decrypted either."""

UNSENT_DATAGRAMS_MAX = 4_096
"""Kept while the system's send buffer is full; what does not fit counts as lost on the way, as on any other hop."""

Datagram = tuple[bytes, Any]
"""Bytes, and the socket address they come from or go to."""


class UdpSocket:
    """Owns a bound socket. Sending never blocks and never raises: to QUIC a failure is one more lost packet."""

    def __init__(self, udp: socket.socket, buffer_bytes: int, counters: Counter[str]) -> None:
        udp.setblocking(False)
        for option in (socket.SO_RCVBUF, socket.SO_SNDBUF):
            udp.setsockopt(socket.SOL_SOCKET, option, buffer_bytes)
        self._udp = udp
        self._counters = counters
        self._unsent: deque[Datagram] = deque()
        self._wake = trio.Event()

    @property
    def address(self) -> str:
        return format_address(self._udp.getsockname())

    @property
    def family(self) -> socket.AddressFamily:
        return self._udp.family

    async def receive(self, datagrams_max: int) -> list[Datagram]:
        """Waits until there is something; then all that is there, up to ``datagrams_max``. May be empty."""
        udp = self._udp
        await trio.lowlevel.wait_readable(udp)
        datagrams: list[Datagram] = []
        try:
            for _ in range(datagrams_max):
                # Not recvfrom_into: aioquic needs bytes, so a reused buffer would be copied once more.
                datagrams.append(udp.recvfrom(DATAGRAM_BYTES_MAX))
        except BlockingIOError:
            pass
        except OSError:
            # The system's report about something sent earlier; the socket goes on.
            self._counters["datagram-lost"] += 1
        return datagrams

    def send(self, datagrams: list[Datagram]) -> None:
        """Sends in order, now or as soon as the system has room."""
        if self._unsent:
            self._keep(datagrams)
            return
        for index, (data, sockaddr) in enumerate(datagrams):
            try:
                self._udp.sendto(data, sockaddr)
            except BlockingIOError:
                self._keep(datagrams[index:])
                return
            except OSError:
                # No route, or a firewall said no.
                self._counters["datagram-lost"] += 1

    async def run(self) -> None:
        """Sends what was kept."""
        while True:
            await self._wake.wait()
            self._wake = trio.Event()
            while self._unsent:
                await trio.lowlevel.wait_writable(self._udp)
                datagrams = list(self._unsent)
                self._unsent.clear()
                self.send(datagrams)

    def close(self) -> None:
        self._udp.close()

    def _keep(self, datagrams: list[Datagram]) -> None:
        room = UNSENT_DATAGRAMS_MAX - len(self._unsent)
        self._counters["datagram-lost"] += max(0, len(datagrams) - room)
        self._unsent.extend(datagrams[:room])
        self._wake.set()


def bind_udp(listen: str) -> socket.socket:
    """A UDP socket on ``ip:port`` or ``[ip6]:port``; LocalFaultError ``cannot-listen``. ``[::]`` takes IPv4 too."""
    host, _, port_text = listen.rpartition(":")
    host = host.removeprefix("[").removesuffix("]")
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        udp = socket.socket(family, socket.SOCK_DGRAM)
        try:
            if family == socket.AF_INET6:
                udp.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0)
            udp.bind((host, int(port_text)))
        except BaseException:
            udp.close()
            raise
    except (OSError, ValueError, OverflowError) as error:
        raise LocalFaultError(
            "cannot-listen", f"cannot listen on {listen}: {error}", "choose a free UDP port and an address of this host"
        ) from None
    return udp


def resolve(host: str, port: int, family: socket.AddressFamily, numeric: bool = False) -> tuple[Any, ...] | None:
    """The first socket address, in the form that ``recvfrom`` reports for this family, or None. Names may block."""
    flags = socket.AI_V4MAPPED | (socket.AI_NUMERICHOST if numeric else 0)
    try:
        found = socket.getaddrinfo(host, port, family, socket.SOCK_DGRAM, flags=flags)
    except (OSError, UnicodeError):
        return None
    return found[0][4]
