"""Real zeroconf on the multicast of the loopback; each test has a network of its own, so tests do not meet."""

from __future__ import annotations

import asyncio
import gc
import os
import random
import socket
import threading
import weakref
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import replace
from ipaddress import ip_interface

import pytest
import trio
import trio.testing
from lan_support import GROUP, PORT, QUICK, Node, announcement, wire
from zeroconf.asyncio import AsyncZeroconf

from meshnode.core.keys import PublicKey
from meshnode.discovery.interfaces import LocalAddress, local_addresses
from meshnode.discovery.session import open_zeroconf
from meshnode.discovery.settings import CODES, HINTS_PER_MINUTE_MAX

MOST_S = 30
"""For any wait of these tests, on a machine with much else to do."""


@pytest.fixture
def network() -> PublicKey:
    return PublicKey(os.urandom(32))


@pytest.fixture(autouse=True)
def nothing_is_left() -> Iterator[None]:
    """No thread; and a socket that was not closed is noticed here, not in whichever test the collector next runs."""
    yield
    for thread in threading.enumerate():
        if thread.name == "mdns":
            thread.join(MOST_S)
            assert not thread.is_alive()
    gc.collect()


@pytest.fixture
def hang() -> Iterator[threading.Event]:
    """What a thread hangs on; set at the end in any case, so a test that fails leaves no thread behind."""
    event = threading.Event()
    yield event
    event.set()


@asynccontextmanager
async def running(*nodes: Node) -> AsyncIterator[trio.Nursery]:
    """Runs the nodes; no wait inside is without end, and every code they reported is a listed one."""
    with trio.fail_after(MOST_S):
        async with trio.open_nursery() as nursery:
            for node in nodes:
                nursery.start_soon(node.run)
            yield nursery
            nursery.cancel_scope.cancel()
    assert {code for node in nodes for code, _ in node.reports} <= set(CODES)


async def test_two_nodes_of_a_network_find_each_other(network: PublicKey) -> None:
    one, two = Node(network, 5001), Node(network, 5002)
    async with running(one, two):
        await one.wait_found(two.address)
        await two.wait_found(one.address)


async def test_a_node_of_a_foreign_network_and_the_own_announcement_are_passed_over(network: PublicKey) -> None:
    node, foreigner, last = Node(network, 5011), Node(PublicKey(os.urandom(32)), 5012), Node(network, 5013)
    async with running(node) as nursery:
        await node.wait_report("mdns-ready")
        nursery.start_soon(foreigner.run)
        await foreigner.wait_report("mdns-ready")
        nursery.start_soon(last.run)
        await node.wait_found(last.address)  # the wire keeps the order: what came before was heard before
        await last.wait_found(node.address)
    assert node.found == [last.address]
    assert last.found == [node.address]
    assert foreigner.found == []


async def test_a_node_found_before_is_found_again_when_the_network_is_asked_again(network: PublicKey) -> None:
    """The second session of a node meets records that are already known to everybody."""
    here = [LocalAddress("lo", 1, ip_interface("127.0.0.1/8"))]
    places = [here] * 3 + [[*here, LocalAddress("lo", 1, ip_interface("127.0.0.1/16"))]] * 1000
    one, two = Node(network, 5021, scan=lambda: places.pop(0)), Node(network, 5022)
    async with running(one, two):
        assert "changed" in await one.wait_report("mdns-interfaces-changed")
        await one.wait_report("mdns-ready", times=2)
        await one.wait_found(two.address)


async def test_the_wire_shows_no_host_name_and_nothing_of_the_network_root(network: PublicKey) -> None:
    one, two = Node(network, 5031), Node(network, 5032)
    heard = b""
    with wire() as udp:
        async with running(one, two):
            await one.wait_found(two.address)
            while one.settings.instance.encode() not in heard or two.settings.instance.encode() not in heard:
                await trio.lowlevel.wait_readable(udp)
                heard += udp.recv(9000)
    assert socket.gethostname().encode() not in heard
    assert network[:4] not in heard
    assert network.hex()[:8].encode() not in heard


# --- faults of this machine -------------------------------------------------------------------------------------------


async def test_a_start_that_fails_is_reported_and_tried_again(network: PublicKey) -> None:
    failures = [OSError(98, "Address already in use"), PermissionError("not allowed"), RuntimeError("defect")]

    def failing(interfaces: Sequence[str | int]) -> AsyncZeroconf:
        if failures:
            raise failures.pop(0)
        return open_zeroconf(interfaces)

    one, two = Node(network, 5041, open_zeroconf=failing), Node(network, 5042)
    async with running(one, two):
        await one.wait_found(two.address)
    assert [code for code, _ in one.reports] == ["mdns-unavailable"] * 3 + ["mdns-ready"]
    assert "Address already in use" in one.reports[0][1]


async def test_what_a_failed_start_held_is_let_go_without_the_collector(network: PublicKey) -> None:
    """zeroconf, when it fails half way through opening, leaves its sockets to whoever holds the traceback."""
    held: list[weakref.ref[threading.Event]] = []

    def failing(interfaces: Sequence[str | int]) -> AsyncZeroconf:
        socket_left_open = threading.Event()
        held.append(weakref.ref(socket_left_open))
        raise OSError(12, "Cannot allocate memory")

    gc.disable()
    try:
        node = Node(network, 5044, open_zeroconf=failing)
        async with running(node):
            await node.wait_report("mdns-unavailable", times=3)
        assert [ref() for ref in held[:2]] == [None, None]
    finally:
        gc.enable()


async def test_waits_between_starts_double_up_to_the_most_and_are_halved_at_random(
    network: PublicKey, mock_clock: trio.testing.MockClock
) -> None:
    """The clock stands still unless the test moves it, so a thread takes no time at all."""
    node = Node(network, 5043, settings=replace(QUICK, retry_min_s=1.0, retry_max_s=20.0), scan=list)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(node.run)
        for start, most_s in enumerate([1, 2, 4, 8, 16, 20, 20], start=1):
            await node.wait_report("mdns-no-interface", times=start)
            await trio.testing.wait_all_tasks_blocked()
            mock_clock.jump(most_s / 2 - 0.01)
            await trio.testing.wait_all_tasks_blocked()
            assert len(node.reports) == start
            mock_clock.jump(most_s / 2 + 0.02)
        nursery.cancel_scope.cancel()


async def test_a_start_that_hangs_is_reported_and_holds_up_nothing(network: PublicKey, hang: threading.Event) -> None:
    opened = threading.Semaphore(0)

    def hanging(interfaces: Sequence[str | int]) -> AsyncZeroconf:
        opened.release()
        hang.wait()
        return open_zeroconf(interfaces)

    one = Node(network, 5051, settings=replace(QUICK, start_timeout_s=0.1, stop_timeout_s=0.1), open_zeroconf=hanging)
    two, three = Node(network, 5052), Node(network, 5053)
    async with running(one, two, three):
        await two.wait_found(three.address)
        await one.wait_report("mdns-timeout")
        await one.wait_report("mdns-stuck", times=3)
        assert [opened.acquire(blocking=False) for _ in range(2)] == [True, False]  # never a second thread
        one.settings = replace(one.settings, start_timeout_s=5.0)
        hang.set()
    assert "mdns-ready" not in {code for code, _ in one.reports}


async def test_a_thread_that_hung_is_followed_by_a_new_session_once_it_ends(
    network: PublicKey, hang: threading.Event
) -> None:

    def hanging_once(interfaces: Sequence[str | int]) -> AsyncZeroconf:
        hang.wait()
        return open_zeroconf(interfaces)

    one = Node(
        network, 5054, settings=replace(QUICK, start_timeout_s=1.0, stop_timeout_s=0.1), open_zeroconf=hanging_once
    )
    async with running(one):
        await one.wait_report("mdns-stuck")
        hang.set()
        await one.wait_report("mdns-ready")


async def test_stopping_does_not_wait_for_a_thread_that_hangs(network: PublicKey, hang: threading.Event) -> None:

    def hanging(interfaces: Sequence[str | int]) -> AsyncZeroconf:
        hang.wait()
        raise OSError("never mind")

    node = Node(network, 5055, settings=replace(QUICK, stop_timeout_s=0.1), open_zeroconf=hanging)
    with trio.fail_after(MOST_S):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(node.run)
            await trio.testing.wait_all_tasks_blocked()
            nursery.cancel_scope.cancel()
    assert not hang.is_set()


async def test_a_running_node_says_goodbye_and_stops_without_using_up_its_time(network: PublicKey) -> None:
    node = Node(network, 5056, settings=replace(QUICK, stop_timeout_s=MOST_S / 2))
    async with running(node) as nursery:
        await node.wait_report("mdns-ready")
        asked_at = trio.current_time()
        nursery.cancel_scope.cancel()
    assert trio.current_time() - asked_at < MOST_S / 2


async def test_an_engine_that_dies_is_replaced(network: PublicKey) -> None:
    engines: list[AsyncZeroconf] = []

    def remembering(interfaces: Sequence[str | int]) -> AsyncZeroconf:
        engines.append(open_zeroconf(interfaces))
        return engines[-1]

    one, two = Node(network, 5061, open_zeroconf=remembering), Node(network, 5062)
    async with running(one) as nursery:
        await one.wait_report("mdns-ready")
        loop = engines[0].zeroconf.loop
        assert loop is not None
        await trio.to_thread.run_sync(asyncio.run_coroutine_threadsafe(engines[0].async_close(), loop).result)
        await one.wait_report("mdns-unavailable")
        await one.wait_report("mdns-ready", times=2)
        nursery.start_soon(two.run)
        await one.wait_found(two.address)


async def test_an_engine_that_falls_silent_is_reported(network: PublicKey, hang: threading.Event) -> None:
    scans = 0

    def scan() -> Sequence[LocalAddress]:
        nonlocal scans
        scans += 1
        if scans == 2:  # the first is for the start
            hang.wait()
        return local_addresses()

    node = Node(network, 5063, settings=replace(QUICK, silence_max_s=0.3, stop_timeout_s=0.1), scan=scan)
    async with running(node):
        await node.wait_report("mdns-ready")
        assert "no life" in await node.wait_report("mdns-timeout")
        await node.wait_report("mdns-stuck")
        hang.set()
        await node.wait_report("mdns-ready", times=2)


async def test_a_host_without_a_fitting_interface_says_so_until_it_has_one(network: PublicKey) -> None:
    scans: list[list[LocalAddress]] = [[], []]
    here = [LocalAddress("lo", 1, ip_interface("127.0.0.1/8"))]
    node = Node(network, 5064, scan=lambda: scans.pop(0) if scans else here)
    async with running(node):
        await node.wait_report("mdns-ready")
    assert [code for code, _ in node.reports] == ["mdns-no-interface"] * 2 + ["mdns-ready"]


# --- faults of the network --------------------------------------------------------------------------------------------


async def test_a_flood_of_announcements_is_cut_off_and_reported(network: PublicKey) -> None:
    node = Node(network, 5071)
    async with running(node):
        await node.wait_report("mdns-ready")
        with wire() as udp:
            for number in range(HINTS_PER_MINUTE_MAX + 20):
                packet = announcement(network, f"{number:016x}", [f"127.1.0.{number + 1}"], 6000)
                udp.sendto(packet, (GROUP, PORT))
            await node.wait_report("mdns-flood")
    assert len(node.found) == HINTS_PER_MINUTE_MAX


async def test_a_forged_announcement_cannot_send_a_node_beyond_its_own_link(network: PublicKey) -> None:
    """Whoever has heard an announcement can repeat it with other addresses; only those on link are taken."""
    node, other = Node(network, 5081), Node(network, 5082)
    async with running(node, other):
        await node.wait_found(other.address)
        with wire() as udp:
            forged = ["8.8.8.8", "192.0.2.1", "2001:4860:4860::8888", "224.0.0.1", "255.255.255.255", "127.9.9.9"]
            udp.sendto(announcement(network, other.settings.instance, forged, 53), (GROUP, PORT))
            await node.wait_found("127.9.9.9:53")
    assert {address.split(":")[0] for address in node.found} == {"127.0.0.1", "127.9.9.9"}


async def test_hostile_packets_do_not_end_a_session(network: PublicKey) -> None:
    chance = random.Random(7)
    node, other = Node(network, 5091), Node(network, 5092)
    good = announcement(network, "00000000000000aa", ["127.0.0.77"], 6000)
    async with running(node) as nursery:
        await node.wait_report("mdns-ready")
        with wire() as udp:
            for length in range(len(good)):
                udp.sendto(good[:length], (GROUP, PORT))
            for position in range(len(good)):
                damaged = bytearray(good)
                damaged[position] ^= 1 << chance.randrange(8)
                udp.sendto(bytes(damaged), (GROUP, PORT))
            for _ in range(200):
                udp.sendto(chance.randbytes(chance.randrange(1, 1400)), (GROUP, PORT))
        nursery.start_soon(other.run)
        await node.wait_found(other.address)
    assert "mdns-unavailable" not in {code for code, _ in node.reports}
