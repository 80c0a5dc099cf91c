"""QUIC on a real socket: the door, addresses, peers that fall silent or move."""

from __future__ import annotations

import os
import socket
import threading
import time
from collections import Counter
from pathlib import Path

import pytest
import trio
from aioquic.quic import events
from raw_peer import RawPeer, close_raw_peers, framed
from transport_support import PATIENT, QUICK, KeyAuthenticator, chance, down, frame, link, quic, running, wait_for

from meshnode.core.events import Channel, DialFailed, LinkUp
from meshnode.errors import LocalFaultError
from meshnode.transport import quic as quic_module
from meshnode.transport.quic import QuicTransport
from meshnode.transport.udp import UNSENT_DATAGRAMS_MAX, UdpSocket

__all__ = ["close_raw_peers"]

# --- the door ---------------------------------------------------------------------------------------------------


def send_raw(address: str, *datagrams: bytes) -> socket.socket:
    host, _, port = address.rpartition(":")
    udp = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    udp.bind(("127.0.0.1", 0))
    udp.setblocking(False)
    for datagram in datagrams:
        udp.sendto(datagram, (host, int(port)))
    return udp


def first_packet(address: str) -> bytes:
    """A genuine Initial of a peer that will never answer."""
    peer = RawPeer(address)
    peer.quic.connect(peer.sockaddr, trio.current_time())
    return peer.quic.datagrams_to_send(trio.current_time())[0][0]


async def test_a_flood_of_first_packets_is_bounded_and_the_honest_still_get_in() -> None:
    node, honest = quic(1, half_open_retry=4, half_open_max=8), quic(2)
    async with running(node, honest) as (address, _):
        # Each has connection ids of its own; nobody listens for the answers.
        udp = send_raw(address, *(first_packet(address) for _ in range(60)))
        with udp:
            dialer, _ = await link(honest, node, address)
            assert node._door.half_open == 4
            assert len(node._pumps) == 5
            assert node.counters["retry-asked"] == 57  # 56 of the flood, and the honest one
        honest.send(dialer.link, Channel.CONTROL, b"in", False)
        assert (await frame(node)).data == b"in"


async def test_one_real_host_cannot_take_all_places_of_the_unproven() -> None:
    node = quic(1, half_open_retry=1, half_open_max=9, half_open_host_max=3)
    async with running(node) as (address,):
        # These answer the Retry, so their address is real; then they say nothing.
        for count in range(1, 4):
            await RawPeer(address).handshake()
            assert node._door.half_open == count
        with pytest.raises(trio.TooSlowError), trio.fail_after(0.2):
            await RawPeer(address).handshake()
        assert node.counters["too-many-half-open"] >= 1


async def test_places_of_the_unproven_are_free_again_after_their_time() -> None:
    node, honest = quic(1, QUICK, half_open_retry=2, half_open_max=2, half_open_host_max=2), quic(2, QUICK)
    async with running(node, honest) as (address, _):
        with send_raw(address, first_packet(address), first_packet(address)):
            honest.dial(address)  # its time-out is as long as theirs, and it repeats its packet until then
            failed = await wait_for(honest, DialFailed)
            assert isinstance(failed, DialFailed)
            await link(honest, node, address)


async def test_a_token_that_this_node_did_not_make_is_refused() -> None:
    node = quic(1)
    async with running(node) as (address,):
        peer = RawPeer(address, token=os.urandom(60))
        peer.quic.connect(peer.sockaddr, trio.current_time())
        assert await peer.closed() == "quic-0xb"  # INVALID_TOKEN
        assert node.counters["bad-retry-token"] >= 1
        assert not node._pumps


async def test_an_unknown_version_is_answered_with_ours_and_a_short_one_not_at_all() -> None:
    node = quic(1)
    async with running(node) as (address,):
        packet = bytearray(first_packet(address))
        packet[1:5] = b"\x1a\x2a\x3a\x4a"
        with send_raw(address, bytes(packet[:1_199]), bytes(packet)) as udp:
            await trio.lowlevel.wait_readable(udp)
            answer = udp.recv(2_048)
            assert answer[1:5] == bytes(4)  # a version negotiation packet
            assert answer.endswith(b"\x00\x00\x00\x01")
            with pytest.raises(BlockingIOError):
                udp.recv(2_048)
        assert node.counters["version-mismatch"] == 1
        assert not node._pumps


async def test_garbage_is_ignored_and_gets_no_answer() -> None:
    node, honest = quic(1), quic(2)
    rng = chance(3)
    async with running(node, honest) as (address, _):
        with send_raw(address, b"", *(rng.randbytes(rng.randrange(1, 1_500)) for _ in range(200))) as udp:
            first = first_packet(address)
            for size in (1, 5, 6, 20, 600, 1_199):
                udp.sendto(first[:size], (address.rpartition(":")[0], int(address.rpartition(":")[2])))
            await link(honest, node, address)
            assert len(node._pumps) == 1
            # Random long headers of 1,200 bytes may be told our version; nothing else is said.
            answered = 0
            while True:
                try:
                    assert udp.recv(2_048)[1:5] == bytes(4)
                except BlockingIOError:
                    break
                answered += 1
            assert answered == node.counters["version-mismatch"]


async def test_a_first_packet_whose_inside_is_broken_costs_a_place_only_for_its_time() -> None:
    node, other = quic(1, QUICK), quic(2)
    async with running(node, other) as (address, other_address):
        packet = bytearray(first_packet(address))
        packet[-30] ^= 1
        with send_raw(address, bytes(packet)):
            node.dial("127.0.0.1:9")  # runs out at about the same time
            await wait_for(node, DialFailed)
            await link(node, other, other_address)
        assert node.counters["connect-timeout"] == 2
        assert node._door.half_open == 0


# --- addresses --------------------------------------------------------------------------------------------------


async def test_one_socket_on_all_addresses_takes_and_dials_both_families() -> None:
    try:
        both = quic(1, listen="[::]:0")
        async with running(both, quic(2), quic(3, listen="[::1]:0")) as (address, _, _):
            pass
    except LocalFaultError:
        pytest.skip("this machine has no IPv6")
    both, four, six = quic(1, listen="[::]:0"), quic(2), quic(3, listen="[::1]:0")
    async with running(both, four, six) as (address, four_address, six_address):
        port = address.rpartition(":")[2]
        _, acceptor = await link(four, both, f"127.0.0.1:{port}")
        assert acceptor.address == four_address
        _, acceptor = await link(six, both, f"[::1]:{port}")
        assert acceptor.address == six_address
        await link(both, four, four_address)
        await link(both, six, six_address)


async def test_a_socket_that_was_bound_by_somebody_else_is_used() -> None:
    udp = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    udp.bind(("127.0.0.1", 0))
    port = udp.getsockname()[1]
    node, other = QuicTransport(PATIENT, KeyAuthenticator(1), chance(1), socket=udp), quic(2)
    async with running(node, other) as (address, _):
        assert address == f"127.0.0.1:{port}"
        await link(other, node, address)


@pytest.mark.parametrize("listen", ["203.0.113.7:0", "127.0.0.1:x", "127.0.0.1:99999", "nonsense"])
async def test_an_address_that_cannot_be_bound_is_a_fault_of_this_machine(listen: str) -> None:
    with pytest.raises(LocalFaultError, match="cannot-listen"):
        await quic(1, listen=listen).run()


async def test_a_port_that_is_taken_is_a_fault_of_this_machine() -> None:
    async with running(quic(1)) as (address,):
        with pytest.raises(LocalFaultError, match="cannot-listen"):
            await quic(2, listen=address).run()


async def test_a_name_is_dialled_by_what_it_resolves_to_and_the_link_names_what_was_dialled() -> None:
    one, two = quic(1), quic(2)
    async with running(one, two) as (_, address):
        dialled = f"localhost:{address.rpartition(':')[2]}"
        dialer, _ = await link(one, two, dialled)
        assert dialer.address == dialled


@pytest.mark.parametrize(
    ("address", "code"),
    [
        ("nowhere", "bad-address"),
        ("127.0.0.1:0", "bad-address"),
        ("127.0.0.1:70000", "bad-address"),
        ("::1:7411", "bad-address"),
        ("[127.0.0.1]:7411", "bad-address"),
        ("[2001:db8::1]:7411", "address-family"),
        ("no such host.invalid:7411", "bad-address"),
        ("xn--\u00e9" + "\u00e9" * 70 + ":7411", "name-not-found"),
    ],
)
async def test_an_address_that_cannot_be_dialled_fails_with_a_reason(address: str, code: str) -> None:
    node = quic(1)
    async with running(node):
        node.dial(address)
        failed = await wait_for(node, DialFailed)
        assert isinstance(failed, DialFailed)
        assert (failed.address, failed.code) == (address, code)
        assert failed.reason


async def test_a_resolver_that_hangs_holds_nothing_else_up(monkeypatch: pytest.MonkeyPatch) -> None:
    answered = threading.Event()
    genuine = quic_module.resolve

    def hanging(host: str, port: int, family: socket.AddressFamily, numeric: bool = False) -> object:
        if numeric:
            return genuine(host, port, family, numeric)
        answered.wait(5)
        return None

    monkeypatch.setattr(quic_module, "resolve", hanging)
    one, two = quic(1, resolve_timeout_seconds=0.2), quic(2)
    async with running(one, two) as (_, address):
        one.dial("noc.example:7411")
        await link(one, two, address)
        failed = await wait_for(one, DialFailed)
        assert isinstance(failed, DialFailed)
        assert (failed.address, failed.code) == ("noc.example:7411", "name-timeout")
        answered.set()


# --- peers that fall silent or move -----------------------------------------------------------------------------


async def proven(node: QuicTransport) -> tuple[RawPeer, LinkUp]:
    peer = RawPeer(node.addresses[0])
    await peer.handshake()
    peer.send(0, framed(KeyAuthenticator(9).hello(peer.identity.sha256, peer.server_tls_sha256, True)))
    await peer.stream_data(0, 4 + 96)
    up = await wait_for(node, LinkUp)
    assert isinstance(up, LinkUp)
    return peer, up


async def test_a_killed_peer_is_noticed_within_the_idle_time_out() -> None:
    node = quic(1, QUICK)
    async with running(node):
        _, up = await proven(node)
        started = trio.current_time()
        assert await down(node, up.link) == "idle-timeout"
        assert trio.current_time() - started < QUICK.idle_timeout_seconds + 0.3


async def test_a_peer_whose_address_changes_keeps_its_link_once_the_new_address_answers() -> None:
    node = quic(1)
    async with running(node):
        peer, up = await proven(node)
        # As after a NAT's reboot: the same connection from another port.
        peer.udp.close()
        peer.udp = trio.socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        peer.send(0, framed(b"from elsewhere"))
        await peer.flush()
        assert (await frame(node)).data == b"from elsewhere"
        node.send(up.link, Channel.CONTROL, b"found you", False)
        assert await peer.stream_data(0, 4 + 9) == framed(b"found you")
        quic_connection = node._pumps[up.link].link._quic
        with trio.fail_after(2):
            while not quic_connection._network_paths[0].is_validated:
                peer.quic.send_ping(1)
                await peer.until(events.PingAcknowledged)
        peer.udp.close()


async def test_a_restarted_peer_gets_a_new_link_while_the_old_one_runs_out() -> None:
    node = quic(1, QUICK)
    async with running(node):
        _, first = await proven(node)
        _, second = await proven(node)
        assert second.link != first.link
        assert await down(node, first.link) == "idle-timeout"


async def test_what_the_system_has_no_room_for_is_sent_later_and_in_order(
    tmp_path: Path, nursery: trio.Nursery
) -> None:
    # A Unix datagram socket, because unlike UDP on loopback it says when the receiver's queue is full.
    receiver = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
    sender = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
    with receiver, sender, trio.fail_after(20):
        receiver.bind(str(tmp_path / "receiver"))
        sender.connect(str(tmp_path / "receiver"))
        udp = UdpSocket(sender, 65_536, counters := Counter())
        nursery.start_soon(udp.run)
        sent = [n.to_bytes(4, "big") for n in range(UNSENT_DATAGRAMS_MAX)]
        for data in sent:
            udp.send([(data, str(tmp_path / "receiver"))])
        await trio.testing.wait_all_tasks_blocked()
        got = []
        receiver.setblocking(False)
        while len(got) < len(sent):
            await trio.lowlevel.wait_readable(receiver)
            got.append(receiver.recv(100))
        assert got == sent
        udp.send([(b"nobody", str(tmp_path / "nowhere"))])
        assert counters == {"datagram-lost": 1}
        nursery.cancel_scope.cancel()


async def test_a_thousand_frames_a_turn_and_megabytes_of_bulk_pass_in_good_time(
    capsys: pytest.CaptureFixture[str],
) -> None:
    one, two = quic(1), quic(2)
    async with running(one, two) as (_, address):
        dialer, _ = await link(one, two, address)
        started = time.perf_counter()
        for _ in range(1_000):
            one.send(dialer.link, Channel.CONTROL, bytes(200), False)
        for _ in range(1_000):
            await frame(two)
        small_seconds = time.perf_counter() - started
        started = time.perf_counter()
        for _ in range(30):
            one.send(dialer.link, Channel.BULK, bytes(100_000), False)
        for _ in range(30):
            await frame(two)
        bulk_seconds = time.perf_counter() - started
    with capsys.disabled():
        print(f"\n{1_000 / small_seconds:,.0f} small frames/s, {3 / bulk_seconds:.1f} MB/s of bulk, both ends here")
