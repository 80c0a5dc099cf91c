from __future__ import annotations

from ipaddress import ip_address, ip_interface

import pytest

from meshnode.discovery.interfaces import LocalAddress, choose, local_addresses
from meshnode.errors import LocalFaultError

LOOPBACK = [LocalAddress("lo", 1, ip_interface("127.0.0.1/8")), LocalAddress("lo", 1, ip_interface("::1/128"))]
HOST = [
    *LOOPBACK,
    LocalAddress("eth0", 2, ip_interface("192.0.2.2/24")),
    LocalAddress("eth0", 2, ip_interface("2001:db8::2/64")),
    LocalAddress("eth0", 2, ip_interface("fe80::2/64")),
    LocalAddress("eth1", 3, ip_interface("198.51.100.2/24")),
    LocalAddress("eth1", 3, ip_interface("198.51.100.3/24")),
    LocalAddress("eth1", 3, ip_interface("fe80::3/64")),
]


def announced(listen: str, interface: str = "", host: list[LocalAddress] = HOST) -> list[str]:
    return [str(link.address.ip) for link in choose(host, listen, interface).announced]


@pytest.mark.parametrize(
    ("listen", "interface", "expected"),
    [
        ("0.0.0.0:7411", "", ["192.0.2.2", "198.51.100.2", "198.51.100.3"]),
        ("0.0.0.0:7411", "eth1", ["198.51.100.2", "198.51.100.3"]),
        ("0.0.0.0:7411", "198.51.100.3", ["198.51.100.2", "198.51.100.3"]),
        ("0.0.0.0:7411", "lo", ["127.0.0.1"]),
        ("[::]:7411", "eth0", ["192.0.2.2", "2001:db8::2"]),
        ("[::]:7411", "2001:db8::2", ["192.0.2.2", "2001:db8::2"]),
        ("192.0.2.2:7411", "", ["192.0.2.2"]),
        ("192.0.2.2:7411", "eth0", ["192.0.2.2"]),
        ("[2001:db8::2]:7411", "", ["2001:db8::2"]),
        ("[fe80::3%eth1]:7411", "", ["fe80::3"]),
        ("127.0.0.1:7411", "", ["127.0.0.1"]),
    ],
)
def test_only_addresses_at_which_the_socket_can_be_reached_are_announced(
    listen: str, interface: str, expected: list[str]
) -> None:
    assert announced(listen, interface) == expected


def test_a_host_with_nothing_but_a_loopback_uses_it() -> None:
    assert announced("0.0.0.0:7411", host=LOOPBACK) == ["127.0.0.1"]
    assert announced("[::]:7411", host=LOOPBACK) == ["127.0.0.1", "::1"]


def test_a_link_local_address_is_announced_where_there_is_no_other() -> None:
    cable = [*LOOPBACK, LocalAddress("eth0", 2, ip_interface("fe80::2/64"))]
    assert announced("[::]:7411", host=cable) == ["fe80::2"]


def test_mdns_speaks_both_families_on_the_chosen_interfaces_whatever_the_socket_does() -> None:
    assert choose(HOST, "0.0.0.0:7411", "").multicast == ("192.0.2.2", "198.51.100.2", 2, 3)
    assert choose(HOST, "[2001:db8::2]:7411", "").multicast == ("192.0.2.2", 2)
    assert choose(HOST, "[::1]:7411", "").multicast == ("127.0.0.1",)


@pytest.mark.parametrize(
    ("listen", "interface"),
    [("0.0.0.0:7411", "eth9"), ("192.0.2.2:7411", "eth1"), ("203.0.113.1:7411", ""), ("0.0.0.0:7411", "fe80::9")],
)
def test_no_such_interface_says_so(listen: str, interface: str) -> None:
    with pytest.raises(LocalFaultError) as refused:
        choose(HOST, listen, interface)
    assert refused.value.code == "mdns-no-interface"


def test_a_host_without_any_address_says_so() -> None:
    with pytest.raises(LocalFaultError, match="mdns-no-interface"):
        choose([], "0.0.0.0:7411", "")


@pytest.mark.parametrize(
    ("text", "interface"),
    [
        ("192.0.2.77", "eth0"),
        ("2001:db8::77", "eth0"),
        ("fe80::77%3", "eth1"),
        ("198.51.100.9", "eth1"),
        ("192.0.2.255", None),  # the broadcast address is no host
        ("192.0.3.1", None),
        ("127.0.0.1", None),  # another host cannot make this node dial itself
        ("8.8.8.8", None),
        ("224.0.0.251", None),
        ("0.0.0.0", None),  # noqa: S104 - the case itself
        ("ff02::fb", None),
        ("fe80::77%9", None),
        ("fe80::77", None),  # two interfaces: which one?
    ],
)
def test_only_hosts_in_a_subnet_of_this_host_are_on_link(text: str, interface: str | None) -> None:
    link = choose(HOST, "[::]:7411", "").on_link(ip_address(text))
    assert (link and link.interface) == interface


def test_the_loopback_of_this_host_is_found() -> None:
    assert "127.0.0.1" in {str(link.address.ip) for link in local_addresses()}
