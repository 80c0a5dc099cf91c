from __future__ import annotations

from ipaddress import ip_interface

from hypothesis import given, settings
from hypothesis import strategies as st

from meshnode.core.keys import PublicKey
from meshnode.discovery.announcement import (
    addresses_untrusted,
    instance_untrusted,
    is_of_network,
    network_hash,
    service_name,
)
from meshnode.discovery.interfaces import LocalAddress, choose
from meshnode.discovery.settings import ADDRESSES_PER_INSTANCE_MAX, INSTANCE_BYTES, DiscoverySettings
from meshnode.transport.base import parse_address_untrusted

NETWORK, OTHER = PublicKey(b"n" * 32), PublicKey(b"o" * 32)
PLACE = choose(
    [
        LocalAddress("eth0", 2, ip_interface("192.0.2.2/24")),
        LocalAddress("eth0", 2, ip_interface("2001:db8::2/64")),
        LocalAddress("eth0", 2, ip_interface("fe80::2/64")),
    ],
    "[::]:7411",
    "",
)


def test_each_process_start_has_a_name_of_its_own() -> None:
    names = {DiscoverySettings(NETWORK, "0.0.0.0:7411").instance for _ in range(10)}
    assert len(names) == 10
    assert all(instance_untrusted(service_name(name)) == name for name in names)


def test_a_network_is_recognised_by_its_own_and_looks_different_in_every_announcement() -> None:
    one, two = "00" * INSTANCE_BYTES, "11" * INSTANCE_BYTES
    assert is_of_network({b"n": network_hash(NETWORK, one)}, NETWORK, one)
    assert not is_of_network({b"n": network_hash(NETWORK, one)}, OTHER, one)
    assert not is_of_network({b"n": network_hash(NETWORK, one)}, NETWORK, two)
    assert not is_of_network({b"n": None}, NETWORK, one)
    assert not is_of_network({}, NETWORK, one)


def test_names_that_are_not_of_a_node_are_passed_over() -> None:
    name = service_name("0123456789abcdef")
    assert instance_untrusted(name) == "0123456789abcdef"
    for other in ("", name.upper(), name[1:], "x" + name, name + "x", "printer._meshnode._udp.local.", "0" * 5000):
        assert instance_untrusted(other) is None


def test_addresses_that_are_off_link_or_nonsense_are_left_out() -> None:
    texts = ["192.0.2.7", "203.0.113.9", "127.0.0.1", "224.0.0.1", "", "nonsense", "192.0.2.7%eth0", "1" * 10_000]
    assert addresses_untrusted(texts, 7411, PLACE) == ["192.0.2.7:7411"]


def test_this_nodes_own_addresses_are_left_out_and_another_node_of_this_host_is_not() -> None:
    assert addresses_untrusted(["192.0.2.2", "2001:db8::2", "fe80::2%2"], 7411, PLACE) == []
    assert addresses_untrusted(["192.0.2.2"], 7412, PLACE) == ["192.0.2.2:7412"]


def test_a_link_local_address_is_taken_when_there_is_no_other() -> None:
    assert addresses_untrusted(["fe80::7%2", "2001:db8::7"], 7411, PLACE) == ["[2001:db8::7]:7411"]
    assert addresses_untrusted(["fe80::7%2"], 7411, PLACE) == ["[fe80::7%2]:7411"]


def test_ports_that_are_none_give_nothing() -> None:
    for port in (None, 0, -1, 65_536):
        assert addresses_untrusted(["192.0.2.7"], port, PLACE) == []


@settings(max_examples=100, deadline=None)
@given(
    st.lists(st.text(max_size=50) | st.ip_addresses().map(str) | st.ip_addresses(network="192.0.2.0/24").map(str)),
    st.integers(-1, 70_000),
)
def test_whatever_is_announced_gives_at_most_four_addresses_that_can_be_dialled(texts: list[str], port: int) -> None:
    found = addresses_untrusted(texts, port, PLACE)
    assert len(found) <= ADDRESSES_PER_INSTANCE_MAX
    for address in found:
        assert parse_address_untrusted(address)[1] == port
