"""The in-process network under the mock clock: cuts, delays and losses, and the same trace every time."""

from __future__ import annotations

import pytest
import trio
from transport_support import KeyAuthenticator, chance, down, frame, link, wait_for

from meshnode.core.events import Channel, DialFailed, LinkDown, LinkUp, Received, RoundTrip
from meshnode.transport.base import Record
from meshnode.transport.memory import MemoryNetwork, MemoryTransport


def two(network: MemoryNetwork) -> tuple[MemoryTransport, MemoryTransport]:
    return MemoryTransport(network, "be", KeyAuthenticator(1)), MemoryTransport(network, "nl", KeyAuthenticator(2))


@pytest.fixture
def network() -> MemoryNetwork:
    return MemoryNetwork(chance(7))


async def test_a_frame_takes_as_long_as_its_path(
    network: MemoryNetwork, nursery: trio.Nursery, autojump_clock: trio.testing.MockClock
) -> None:
    be, nl = two(network)
    for transport in (be, nl):
        await nursery.start(transport.run)
    up, _ = await link(be, nl, "nl")
    network.delay("be", "nl", 0.25)
    started = trio.current_time()
    be.send(up.link, Channel.CONTROL, b"slow", False)
    await frame(nl)
    assert trio.current_time() - started == pytest.approx(0.25)
    nursery.cancel_scope.cancel()


async def test_a_cut_is_noticed_at_both_ends_by_the_idle_time_out(
    network: MemoryNetwork, nursery: trio.Nursery, autojump_clock: trio.testing.MockClock
) -> None:
    be, nl = two(network)
    for transport in (be, nl):
        await nursery.start(transport.run)
    ups = await link(be, nl, "nl")
    network.cut("be", "nl")
    started = trio.current_time()
    assert await down(be, ups[0].link) == "idle-timeout"
    assert await down(nl, ups[1].link) == "idle-timeout"
    assert 15 <= trio.current_time() - started <= 16
    be.dial("nl")
    failed = await wait_for(be, DialFailed)
    assert isinstance(failed, DialFailed)
    assert failed.code == "connect-timeout"
    network.heal("be", "nl")
    await link(be, nl, "nl")
    nursery.cancel_scope.cancel()


async def test_a_one_way_cut_ends_the_link_at_the_end_that_hears_nothing_first(
    network: MemoryNetwork, nursery: trio.Nursery, autojump_clock: trio.testing.MockClock
) -> None:
    be, nl = two(network)
    for transport in (be, nl):
        await nursery.start(transport.run)
    ups = await link(be, nl, "nl")
    network.cut("be", "nl", both_ways=False)
    assert await down(nl, ups[1].link) == "idle-timeout"
    assert await down(be, ups[0].link) == "peer-idle-timeout"
    nursery.cancel_scope.cancel()


async def test_a_short_cut_delays_what_was_sent_and_loses_nothing(
    network: MemoryNetwork, nursery: trio.Nursery, autojump_clock: trio.testing.MockClock
) -> None:
    be, nl = two(network)
    for transport in (be, nl):
        await nursery.start(transport.run)
    up, _ = await link(be, nl, "nl")
    network.cut("be", "nl")
    sent = [bytes([n + 1]) for n in range(20)]
    for data in sent:
        be.send(up.link, Channel.CONTROL, data, False)
    await trio.sleep(8)
    network.heal("be", "nl")
    assert [(await frame(nl)).data for _ in sent] == sent
    nursery.cancel_scope.cancel()


async def test_loss_delays_and_keeps_the_order(
    network: MemoryNetwork, nursery: trio.Nursery, autojump_clock: trio.testing.MockClock
) -> None:
    be, nl = two(network)
    for transport in (be, nl):
        await nursery.start(transport.run)
    up, _ = await link(be, nl, "nl")
    network.lose("be", "nl", 0.5)
    started = trio.current_time()
    sent = [bytes([n + 1]) for n in range(20)]
    for data in sent:
        be.send(up.link, Channel.CONTROL, data, False)
    assert [(await frame(nl)).data for _ in sent] == sent
    assert trio.current_time() - started > 1
    nursery.cancel_scope.cancel()


async def test_a_dropped_link_is_down_at_once_at_both_ends(
    network: MemoryNetwork, nursery: trio.Nursery, autojump_clock: trio.testing.MockClock
) -> None:
    be, nl = two(network)
    for transport in (be, nl):
        await nursery.start(transport.run)
    ups = await link(be, nl, "nl")
    network.drop("be", "nl")
    assert await down(be, ups[0].link) == await down(nl, ups[1].link) == "network-path-lost"
    nursery.cancel_scope.cancel()


async def test_a_killed_node_says_nothing_more_and_its_peers_find_out(
    network: MemoryNetwork, nursery: trio.Nursery, autojump_clock: trio.testing.MockClock
) -> None:
    be, nl = two(network)
    for transport in (be, nl):
        await nursery.start(transport.run)
    _, up = await link(be, nl, "nl")
    be.vanish()
    assert await down(nl, up.link) == "idle-timeout"
    nursery.cancel_scope.cancel()


async def test_the_round_trip_is_that_of_the_path(
    network: MemoryNetwork, nursery: trio.Nursery, autojump_clock: trio.testing.MockClock
) -> None:
    be, nl = two(network)
    for transport in (be, nl):
        await nursery.start(transport.run)
    network.delay("be", "nl", 0.1)
    network.delay("nl", "be", 0.2)
    await link(be, nl, "nl")
    report = await wait_for(be, RoundTrip)
    assert isinstance(report, RoundTrip)
    assert report.seconds == pytest.approx(0.3)
    nursery.cancel_scope.cancel()


async def story(seed: int) -> list[tuple[float, str, Record]]:
    """A stormy hour between three nodes; what each was told, and when."""
    network = MemoryNetwork(chance(seed), delay_seconds=0.01)
    nodes = [MemoryTransport(network, name, KeyAuthenticator(n)) for n, name in enumerate(("be", "nl", "de"))]
    told: list[tuple[float, str, Record]] = []

    async def listen(node: MemoryTransport) -> None:
        up: dict[int, LinkUp] = {}
        async for record in node.receive:
            told.append((trio.current_time(), node.name, record))
            if isinstance(record, LinkUp):
                up[record.link] = record
                node.send(record.link, Channel.CONTROL, b"hello", False)
            elif isinstance(record, LinkDown):
                if up.pop(record.link).dialed:
                    node.dial("nl")
            elif isinstance(record, DialFailed):
                node.dial("nl")
            elif isinstance(record, Received) and len(record.data) < 40:
                node.send(record.link, Channel.BULK, record.data + b"!", True)

    async with trio.open_nursery() as nursery:
        for node in nodes:
            await nursery.start(node.run)
            nursery.start_soon(listen, node)
        network.lose("be", "nl", 0.3)
        nodes[0].dial("nl")
        nodes[2].dial("nl")
        for _ in range(20):
            await trio.sleep(60)
            network.cut("be", "nl")
            await trio.sleep(30)
            network.heal("be", "nl")
        nursery.cancel_scope.cancel()
    return told


def test_the_same_seed_gives_the_same_trace() -> None:
    first, second = (trio.run(story, 3, clock=trio.testing.MockClock(autojump_threshold=0)) for _ in range(2))
    assert len(first) > 500
    # Nodes at the same instant are told in the order trio likes; each node's own trace is exact.
    for name in ("be", "nl", "de"):
        assert [told for told in first if told[1] == name] == [told for told in second if told[1] == name]
