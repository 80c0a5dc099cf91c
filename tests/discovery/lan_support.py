"""What the tests of this room share: nodes that write down what they are told, and a hand on the loopback's wire."""

from __future__ import annotations

import random
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace

import trio
from zeroconf import DNSOutgoing, ServiceInfo

from meshnode.core.keys import PublicKey
from meshnode.discovery.announcement import host_name, network_hash, service_name
from meshnode.discovery.interfaces import local_addresses
from meshnode.discovery.mdns import discover
from meshnode.discovery.session import OpenZeroconf, Scan, open_zeroconf
from meshnode.discovery.settings import SERVICE_TYPE, DiscoverySettings

GROUP, PORT = "224.0.0.251", 5353
RESPONSE = 0x8400

QUICK = DiscoverySettings(
    PublicKey(bytes(32)),
    "127.0.0.1:0",
    retry_min_s=0.02,
    retry_max_s=0.05,
    beat_s=0.05,
    start_timeout_s=5.0,
    stop_timeout_s=1.0,
)
"""Times short enough to wait for; the time-outs are the true ones."""


class Node:
    """One daemon's mDNS on the loopback, in this process."""

    def __init__(
        self,
        network: PublicKey,
        port: int,
        *,
        settings: DiscoverySettings = QUICK,
        open_zeroconf: OpenZeroconf = open_zeroconf,
        scan: Scan = local_addresses,
    ) -> None:
        instance = DiscoverySettings(network, "").instance
        self.settings = replace(settings, network_root=network, listen=f"127.0.0.1:{port}", instance=instance)
        self.address = self.settings.listen
        self.found: list[str] = []
        self.reports: list[tuple[str, str]] = []
        self._open_zeroconf = open_zeroconf
        self._scan = scan
        self._changed = trio.Event()

    async def run(self) -> None:
        rng = random.Random(1)
        await discover(
            self.settings, self._on_found, self._on_report, rng, open_zeroconf=self._open_zeroconf, scan=self._scan
        )

    async def wait_found(self, address: str) -> None:
        await self._wait_until(lambda: address in self.found)

    async def wait_report(self, code: str, times: int = 1) -> str:
        """The reason given with the report."""
        await self._wait_until(lambda: [c for c, _ in self.reports].count(code) >= times)
        return [reason for c, reason in self.reports if c == code][times - 1]

    async def _wait_until(self, holds) -> None:
        while not holds():
            self._changed = trio.Event()
            await self._changed.wait()

    def _on_found(self, address: str) -> None:
        self.found.append(address)
        self._changed.set()

    def _on_report(self, code: str, reason: str) -> None:
        self.reports.append((code, reason))
        self._changed.set()


@contextmanager
def wire() -> Iterator[socket.socket]:
    """A socket that hears and speaks mDNS on the loopback."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as udp:
        udp.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        udp.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        udp.bind((GROUP, PORT))
        loopback = socket.inet_aton("127.0.0.1")
        udp.setsockopt(socket.IPPROTO_IP, socket.IP_ADD_MEMBERSHIP, socket.inet_aton(GROUP) + loopback)
        udp.setsockopt(socket.IPPROTO_IP, socket.IP_MULTICAST_IF, loopback)
        udp.setblocking(False)
        yield udp


def announcement(network: PublicKey, instance: str, addresses: list[str], port: int) -> bytes:
    """The packet by which a node, or whoever pretends to be one, announces itself."""
    info = ServiceInfo(
        SERVICE_TYPE,
        service_name(instance),
        port=port,
        properties={b"n": network_hash(network, instance)},
        server=host_name(instance),
        parsed_addresses=addresses,
    )
    out = DNSOutgoing(RESPONSE)
    for record in (info.dns_pointer(), info.dns_service(), info.dns_text(), *info.dns_addresses()):
        out.add_answer_at_time(record, 0)
    return out.packets()[0]
