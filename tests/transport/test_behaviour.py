"""What every transport does: the same tests against QUIC on a real socket and against the in-process network."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import pytest
import trio
from transport_support import PATIENT, KeyAuthenticator, chance, down, frame, link, running, wait_for
from trio.testing import wait_all_tasks_blocked

from meshnode.core.events import Channel, DialFailed, LinkDown, LinkUp, Received, RoundTrip
from meshnode.transport.base import FRAME_BYTES_MAX, Transport
from meshnode.transport.memory import MemoryNetwork, MemorySettings, MemoryTransport
from meshnode.transport.quic import QuicTransport

Make = Callable[..., Transport]


@pytest.fixture(params=["quic", "memory"])
def make(request: pytest.FixtureRequest) -> Make:
    network = MemoryNetwork(chance(1))

    def make_quic(seed: int, authenticator: KeyAuthenticator | None = None, **settings: object) -> Transport:
        return QuicTransport(replace(PATIENT, **settings), authenticator or KeyAuthenticator(seed), chance(seed))

    def make_memory(seed: int, authenticator: KeyAuthenticator | None = None, **settings: object) -> Transport:
        return MemoryTransport(
            network, f"node{seed}", authenticator or KeyAuthenticator(seed), replace(MemorySettings(), **settings)
        )

    return make_quic if request.param == "quic" else make_memory


async def test_both_ends_learn_who_the_other_is_and_who_dialled(make: Make) -> None:
    one, two = make(1), make(2)
    async with running(one, two) as (_, address):
        dialer, acceptor = await link(one, two, address)
        assert dialer.peer.device == KeyAuthenticator(2).key.public
        assert acceptor.peer.device == KeyAuthenticator(1).key.public
        assert dialer.dialed
        assert not acceptor.dialed
        assert dialer.address == address


async def test_the_address_a_peer_is_seen_at_can_be_dialled_back(make: Make) -> None:
    one, two = make(1), make(2)
    async with running(one, two) as (first, second):
        _, acceptor = await link(one, two, second)
        assert acceptor.address == first == one.addresses[0]
        two.dial(acceptor.address)
        assert isinstance(await wait_for(two, LinkUp), LinkUp)


async def test_frames_go_both_ways_on_both_channels_whole_and_in_order(make: Make) -> None:
    one, two = make(1), make(2)
    async with running(one, two) as (_, address):
        dialer, acceptor = await link(one, two, address)
        sent = [bytes([n]) * (1 + n * 997) for n in range(40)]
        for sender, number, receiver in ((one, dialer.link, two), (two, acceptor.link, one)):
            for data in sent:
                sender.send(number, Channel.CONTROL, data, False)
                sender.send(number, Channel.BULK, data, False)
            got: dict[Channel, list[bytes]] = {Channel.CONTROL: [], Channel.BULK: []}
            while len(got[Channel.CONTROL]) + len(got[Channel.BULK]) < 2 * len(sent):
                received = await frame(receiver)
                got[received.channel].append(received.data)
            assert got == {Channel.CONTROL: sent, Channel.BULK: sent}


@pytest.mark.parametrize("channel", Channel)
async def test_the_largest_frame_arrives(make: Make, channel: Channel) -> None:
    one, two = make(1), make(2)
    async with running(one, two) as (_, address):
        dialer, _ = await link(one, two, address)
        data = chance(5).randbytes(FRAME_BYTES_MAX)
        one.send(dialer.link, channel, data, False)
        received = await frame(two)
        assert received.data == data
        assert received.channel is channel


@pytest.mark.parametrize("size", [0, FRAME_BYTES_MAX + 1])
async def test_a_frame_of_no_or_too_many_bytes_is_the_callers_mistake(make: Make, size: int) -> None:
    one, two = make(1), make(2)
    async with running(one, two) as (_, address):
        dialer, _ = await link(one, two, address)
        with pytest.raises(ValueError, match="a frame has 1 to"):
            one.send(dialer.link, Channel.CONTROL, bytes(size), False)


async def test_close_tells_both_ends_the_code(make: Make) -> None:
    one, two = make(1), make(2)
    async with running(one, two) as (_, address):
        dialer, acceptor = await link(one, two, address)
        one.close(dialer.link, "duplicate-link")
        assert await down(one, dialer.link) == "duplicate-link"
        assert await down(two, acceptor.link) == "peer-duplicate-link"


async def test_calls_for_a_link_that_is_gone_do_nothing(make: Make) -> None:
    one, two = make(1), make(2)
    async with running(one, two) as (_, address):
        dialer, _ = await link(one, two, address)
        one.close(dialer.link, "duplicate-link")
        await down(one, dialer.link)
        one.send(dialer.link, Channel.CONTROL, b"late", False)
        one.close(dialer.link, "again")
        one.close(999, "never-was")
        await wait_all_tasks_blocked(0.05)
        with pytest.raises(trio.WouldBlock):
            one.receive.receive_nowait()


async def test_a_stopping_node_says_goodbye(make: Make) -> None:
    one, two = make(1), make(2)
    async with running(two) as (address,):
        async with running(one):
            _, acceptor = await link(one, two, address)
        assert await down(two, acceptor.link) == "peer-shutting-down"


async def test_the_dialler_refuses_a_device_it_does_not_trust_and_says_why(make: Make) -> None:
    one, two = make(1, KeyAuthenticator(1, trusted=set())), make(2)
    async with running(one, two) as (_, address):
        one.dial(address)
        failed = await wait_for(one, DialFailed)
        assert isinstance(failed, DialFailed)
        assert (failed.address, failed.code) == (address, "device-unknown")
        # The acceptor had proof and said so; then it heard that it is not wanted.
        up = await wait_for(two, LinkUp)
        assert isinstance(up, LinkUp)
        assert await down(two, up.link) == "peer-device-unknown"


async def test_the_acceptor_refuses_a_device_it_does_not_trust_and_shows_nothing_of_itself(make: Make) -> None:
    class Silent(KeyAuthenticator):
        def hello(self, local_tls_sha256: bytes, remote_tls_sha256: bytes, dialed: bool) -> bytes:
            pytest.fail("the acceptor spoke to a peer that has proven nothing")

    one, two = make(1), make(2, Silent(2, trusted=set()))
    async with running(one, two) as (_, address):
        one.dial(address)
        failed = await wait_for(one, DialFailed)
        assert isinstance(failed, DialFailed)
        assert failed.code == "peer-device-unknown"
        assert two.receive.statistics().current_buffer_used == 0


async def test_nobody_there_is_a_dial_that_timed_out(make: Make) -> None:
    one = make(1, connect_timeout_seconds=0.5)
    async with running(one):
        one.dial("127.0.0.1:9")
        failed = await wait_for(one, DialFailed)
        assert isinstance(failed, DialFailed)
        assert (failed.address, failed.code) == ("127.0.0.1:9", "connect-timeout")


async def test_a_node_that_does_not_run_cannot_dial(make: Make) -> None:
    one = make(1)
    one.dial("127.0.0.1:9")
    failed = one.receive.receive_nowait()
    assert isinstance(failed, DialFailed)
    assert failed.code == "shutting-down"


async def test_more_dials_than_links_are_refused_at_once(make: Make) -> None:
    one = make(1, links_max=1)
    async with running(one):
        one.dial("127.0.0.1:9")
        one.dial("127.0.0.1:9")
        failed = await wait_for(one, DialFailed)
        assert isinstance(failed, DialFailed)
        assert failed.code == "too-many-links"


async def test_a_full_node_refuses_a_newcomer_and_keeps_its_links(make: Make) -> None:
    one, two, three = make(1), make(2, links_max=1), make(3)
    async with running(one, two, three) as (_, address, _):
        dialer, _ = await link(one, two, address)
        three.dial(address)
        failed = await wait_for(three, DialFailed)
        assert isinstance(failed, DialFailed)
        assert failed.code == "connection-refused"
        one.send(dialer.link, Channel.CONTROL, b"still here", False)
        assert (await frame(two)).data == b"still here"


async def test_an_idle_link_stays_up_and_tells_its_round_trip(make: Make) -> None:
    one, two = make(1, idle_timeout_seconds=1.5, keepalive_seconds=0.1, round_trip_report_seconds=0.5), make(2)
    async with running(one, two) as (_, address):
        dialer, _ = await link(one, two, address)
        with trio.fail_after(5):
            for _ in range(4):
                report = await wait_for(one, RoundTrip)
                assert isinstance(report, RoundTrip)
                assert report.link == dialer.link
                assert 0 < report.seconds < 1


async def test_a_droppable_frame_gives_way_and_is_counted_when_the_queue_is_half_full(make: Make) -> None:
    one, two = make(1), make(2)
    async with running(one, two) as (_, address):
        dialer, _ = await link(one, two, address)
        for channel in Channel:
            for _ in range(40):
                one.send(dialer.link, channel, bytes(150_000), True)
        one.send(dialer.link, Channel.CONTROL, b"the last", False)
        # Of 6 MB each, about half a queue was taken: 0.5 MiB and a frame of CONTROL, 2 MiB and a frame of BULK.
        got: list[Received] = []
        while sum(f.channel is Channel.BULK for f in got) < 14 or not any(f.data == b"the last" for f in got):
            got.append(await frame(two))
        assert sum(f.channel is Channel.CONTROL for f in got) <= 7
        one.close(dialer.link, "test-over")
        await down(one, dialer.link)
        assert one.counters["frame-dropped"] >= 60


@pytest.mark.parametrize(("channel", "frames"), [(Channel.CONTROL, 3), (Channel.BULK, 7)])
async def test_a_frame_that_may_not_be_dropped_and_does_not_fit_closes_the_link(
    make: Make, channel: Channel, frames: int
) -> None:
    one, two = make(1), make(2)
    async with running(one, two) as (_, address):
        dialer, acceptor = await link(one, two, address)
        for _ in range(frames):
            one.send(dialer.link, channel, bytes(700_000), False)
        assert await down(one, dialer.link) == "send-queue-full"
        assert await down(two, acceptor.link) == "peer-send-queue-full"


async def test_a_slow_daemon_stops_its_peers_by_their_windows_and_gets_everything_in_the_end(make: Make) -> None:
    one, two = make(1), make(2, receive_records_max=4)
    async with running(one, two) as (_, address):
        dialer, _ = await link(one, two, address)
        for n in range(60):
            one.send(dialer.link, Channel.BULK, n.to_bytes(2, "big") * 30_000, False)
        await wait_all_tasks_blocked(0.05)  # the window is full and nothing moves any more
        # In the channel: 4 frames. Behind it one window, less than 5 frames, and one unfinished. The rest was not sent.
        assert two.receive.statistics().current_buffer_used == 4
        for n in range(60):
            assert (await frame(two)).data == n.to_bytes(2, "big") * 30_000


async def test_a_flood_from_one_peer_leaves_a_place_for_another_peers_small_frame(make: Make) -> None:
    flooder, quiet, busy = make(1), make(2), make(3, receive_records_max=2)
    async with running(flooder, quiet, busy) as (_, _, address):
        flood, _ = await link(flooder, busy, address)
        other, acceptor = await link(quiet, busy, address)
        for _ in range(4_000):
            flooder.send(flood.link, Channel.CONTROL, bytes(100), True)
        await wait_all_tasks_blocked(0.05)  # the flood fills the channel
        quiet.send(other.link, Channel.CONTROL, b"small", False)
        await wait_all_tasks_blocked(0.05)
        first = [await frame(busy) for _ in range(6)]
        assert b"small" in [received.data for received in first if received.link == acceptor.link]


async def test_frames_that_wait_die_with_their_link(make: Make) -> None:
    one, two = make(1), make(2, receive_records_max=1)
    async with running(one, two) as (_, address):
        dialer, acceptor = await link(one, two, address)
        for _ in range(20):
            one.send(dialer.link, Channel.CONTROL, bytes(1_000), False)
        await wait_all_tasks_blocked(0.05)
        two.close(acceptor.link, "revoked")
        received = 0
        while not isinstance(record := await two.receive.receive(), LinkDown):
            received += isinstance(record, Received)
        assert record.code == "revoked"
        assert received <= 2
