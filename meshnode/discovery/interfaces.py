"""Which of this host's interfaces take part in mDNS, and which of its addresses are announced there.

mDNS speaks on whole interfaces, in both address families. What is *announced* and what is *taken* is narrower: only
addresses that the QUIC socket can use. An address from the network is taken only if it is on link: inside a subnet of
an interface that takes part. Announcements come from the same link, so nothing honest is lost, and a forged one cannot
make this node send packets anywhere but to its own LAN.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv4Interface, IPv6Address, IPv6Interface, ip_address, ip_interface

import ifaddr

from meshnode.errors import LocalFaultError


@dataclass(frozen=True, slots=True)
class LocalAddress:
    """One address of one interface of this host."""

    interface: str
    index: int
    address: IPv4Interface | IPv6Interface
    """With its subnet, without a scope."""


@dataclass(frozen=True, slots=True)
class Place:
    """Where a session works. Two places are equal when nothing that matters to a session has changed."""

    multicast: tuple[str | int, ...]
    """What zeroconf is told: one IPv4 address per interface, and the index of each interface that has IPv6."""
    links: tuple[LocalAddress, ...]
    """The addresses at which this node can be reached on those interfaces."""
    port: int

    @property
    def announced(self) -> tuple[LocalAddress, ...]:
        """Link-local addresses only of interfaces that have no other: two hosts and a cable still find each other."""
        full = {link.interface for link in self.links if not link.address.ip.is_link_local}
        return tuple(link for link in self.links if not (link.address.ip.is_link_local and link.interface in full))

    @property
    def text(self) -> str:
        return ", ".join(f"{link.address.ip} ({link.interface})" for link in self.announced)

    def on_link(self, ip: IPv4Address | IPv6Address) -> LocalAddress | None:
        """The local address in whose subnet ``ip`` is; None when it is in none, or is no single host.

        A link-local address must carry its scope, or there must be only one interface it can mean.
        """
        if ip.is_multicast or ip.is_unspecified:
            return None
        if isinstance(ip, IPv6Address) and ip.is_link_local:
            found = [link for link in self.links if link.address.ip.version == 6 and link.address.ip.is_link_local]
            if ip.scope_id is not None:
                found = [link for link in found if str(link.index) == ip.scope_id]
            return found[0] if len(found) == 1 else None
        for link in self.links:
            subnet = link.address.network
            if ip in subnet and not (subnet.num_addresses > 2 and ip == subnet.broadcast_address and ip.version == 4):
                return link
        return None


def local_addresses() -> list[LocalAddress]:
    """What the host has now."""
    return [
        LocalAddress(
            adapter.name.split(":")[0],  # eth0:1 is a second address of eth0
            adapter.index or 0,
            ip_interface(f"{ip.ip if isinstance(ip.ip, str) else ip.ip[0]}/{ip.network_prefix}"),
        )
        for adapter in ifaddr.get_adapters()
        for ip in adapter.ips
    ]


def choose(local: Sequence[LocalAddress], listen: str, interface: str) -> Place:
    """The place for this configuration. LocalFaultError ``mdns-no-interface`` when there is none.

    * bound to one address: the interface that has it;
    * bound to all: the interface asked for by name or address, or all; the loopback only when there is no other.
    """
    host, _, port = listen.rpartition(":")
    bound = ip_address(host.strip("[]").split("%")[0])
    links = [link for link in local if _usable(link, bound) and (not interface or _is(link, interface, local))]
    if bound.is_unspecified and not interface:
        links = [link for link in links if not link.address.is_loopback] or links
    if not links:
        where = f"interface {interface!r}" if interface else "any interface"
        raise LocalFaultError(
            "mdns-no-interface",
            f"no address on {where} at which {listen} can be reached",
            "check `discovery.interface` and `listen.address` against the addresses of this host",
        )
    return Place(_multicast(local, {link.interface for link in links}), tuple(links), int(port))


def _usable(link: LocalAddress, bound: IPv4Address | IPv6Address) -> bool:
    if bound.is_unspecified:
        return bound.version == 6 or link.address.version == 4
    return link.address.ip == bound


def _is(link: LocalAddress, interface: str, local: Sequence[LocalAddress]) -> bool:
    """By name, or by any of its addresses."""
    names = {other.interface for other in local if str(other.address.ip) == interface.split("%")[0]}
    return link.interface == interface or link.interface in names


def _multicast(local: Sequence[LocalAddress], interfaces: set[str]) -> tuple[str | int, ...]:
    ipv4: dict[str, str] = {}
    ipv6: dict[str, int] = {}
    for link in local:
        if link.interface not in interfaces:
            continue
        if link.address.version == 4:
            ipv4.setdefault(link.interface, str(link.address.ip))
        elif not link.address.is_loopback:
            # The kernel has no IPv6 multicast route on the loopback.
            ipv6.setdefault(link.interface, link.index)
    return (*ipv4.values(), *ipv6.values())
