"""One link without I/O: liveness, windows, priorities, and whatever bytes a peer can make up."""

from __future__ import annotations

import tracemalloc
from collections.abc import Callable
from dataclasses import replace
from heapq import heappop, heappush

import pytest
from aioquic import tls
from aioquic.quic.configuration import QuicConfiguration
from aioquic.quic.connection import QuicConnection
from aioquic.quic.packet import QuicPacketType
from aioquic.quic.packet_builder import QuicPacketBuilder
from aioquic.quic.rangeset import RangeSet
from hypothesis import given, settings
from hypothesis import strategies as st
from link_pair import ACCEPTOR, DIALER, LinkPair
from transport_support import QUICK, chance

from meshnode.core.events import Channel, Received
from meshnode.transport import quic_window
from meshnode.transport.base import HELLO_STREAM_BYTES_MAX
from meshnode.transport.quic_link import Ended, QuicLink, State
from meshnode.transport.quic_settings import QuicSettings
from meshnode.transport.quic_tls import make_configuration, make_tls_identity
from meshnode.transport.quic_window import ACK_DELAY_SECONDS, ACK_PACKETS_MAX, BoundedConnection

# --- liveness ---------------------------------------------------------------------------------------------------


def test_a_process_that_was_suspended_finds_its_link_dead() -> None:
    pair = LinkPair().up()
    pair.now += 60
    pair.dialer.handle_deadline(pair.now)
    assert [ended.code for ended in pair.dialer.settle(pair.now) if isinstance(ended, Ended)] == ["idle-timeout"]


def test_a_peer_that_fell_silent_is_given_up_within_the_idle_time_out_of_its_last_word() -> None:
    pair = LinkPair().up()
    heard = pair.dialer._quic.last_received_at
    while pair.dialer.state is State.UP:
        pair.now = max(pair.dialer.deadline(), pair.now + 0.001)
        pair.dialer.handle_deadline(pair.now)
        pair.dialer.transmit(pair.now)  # into the void
    assert pair.now - heard == pytest.approx(QUICK.idle_timeout_seconds, abs=0.01)


def test_an_unused_link_costs_a_ping_and_its_answer_per_keepalive() -> None:
    pair = LinkPair(QuicSettings()).up()
    pair.run(1)
    datagrams = 0
    for _ in range(20):  # steps of a second
        pair.now += 1
        for link in (pair.dialer, pair.acceptor):
            link.handle_deadline(pair.now)
        while sent := pair.carry(pair.dialer) + pair.carry(pair.acceptor):
            datagrams += sent
        pair.now += ACK_DELAY_SECONDS
        for link in (pair.dialer, pair.acceptor):
            link.handle_deadline(pair.now)
            datagrams += pair.carry(link)
    assert pair.dialer.state is pair.acceptor.state is State.UP
    assert datagrams <= 4 * 2 * 2 + 4


def test_an_acknowledgement_waits_for_company_but_not_for_long() -> None:
    pair = LinkPair().up()
    pair.run(1)
    pair.dialer.send(Channel.CONTROL, b"one", False, pair.now)
    assert (pair.carry(pair.dialer), pair.carry(pair.acceptor)) == (1, 0)
    assert pair.acceptor.deadline() == pytest.approx(pair.now + ACK_DELAY_SECONDS)
    pair.now += ACK_DELAY_SECONDS
    pair.acceptor.handle_deadline(pair.now)
    assert pair.carry(pair.acceptor) == 1


def test_an_acknowledgement_waits_for_eight_packets_at_most() -> None:
    pair = LinkPair().up()
    pair.run(1)
    for sent in range(1, ACK_PACKETS_MAX + 1):
        pair.now += 0.001  # the pace of the sender
        pair.dialer.send(Channel.CONTROL, b"one of many", False, pair.now)
        assert (pair.carry(pair.dialer), pair.carry(pair.acceptor)) == (1, sent == ACK_PACKETS_MAX)


def test_the_close_is_repeated_to_a_peer_that_did_not_hear_it() -> None:
    pair = LinkPair().up()
    pair.dialer.close("duplicate-link", pair.now)
    pair.dialer.transmit(pair.now)  # lost
    pair.acceptor.send(Channel.CONTROL, b"are you there", False, pair.now)
    pair.carry(pair.acceptor)
    pair.carry(pair.dialer)
    assert [ended.code for ended in pair.take(pair.acceptor, Ended)] == ["peer-duplicate-link"]


def test_a_link_that_ended_is_gone_soon_after() -> None:
    pair = LinkPair().up()
    pair.dialer.close("duplicate-link", pair.now)
    pair.run(4)
    assert pair.dialer.state is pair.acceptor.state is State.GONE


# --- windows ----------------------------------------------------------------------------------------------------


def test_a_window_stands_still_while_a_frame_waits_for_the_daemon() -> None:
    pair = LinkPair().up()
    stream = pair.acceptor._quic._streams[0]
    pair.dialer.send(Channel.CONTROL, bytes(1_000), False, pair.now)
    pair.run()
    granted = stream.max_stream_data_local
    pair.dialer.send(Channel.CONTROL, bytes(500_000), False, pair.now)
    pair.run(1)
    assert stream.receiver.highest_offset == stream.max_stream_data_local == granted
    (frame,) = pair.take(pair.acceptor, Received)
    pair.acceptor.frame_handed_over(frame)
    pair.run(1)
    (frame,) = pair.take(pair.acceptor, Received)
    assert len(frame.data) == 500_000
    assert stream.max_stream_data_local >= 500_000


def test_a_frame_larger_than_the_window_passes_and_what_follows_it_waits() -> None:
    pair = LinkPair().up()
    for size in (1_000_000, 300_000):
        pair.dialer.send(Channel.BULK, bytes(size), False, pair.now)
    pair.run(3)
    (first,) = pair.take(pair.acceptor, Received)
    assert len(first.data) == 1_000_000
    assert pair.acceptor._quic._streams[4].receiver.highest_offset <= 1_000_004 + 262_144
    pair.acceptor.frame_handed_over(first)
    pair.run(1)
    (second,) = pair.take(pair.acceptor, Received)
    assert len(second.data) == 300_000


def sparse_offsets(client: QuicConnection, server: QuicConnection, stream_id: int, frames: int, now: float) -> int:
    """The attack: one byte at the last granted offset, again and again. How many frames the server took."""
    client.send_stream_data(stream_id, b"x")
    for sent in range(frames):
        offset = server._streams[stream_id].max_stream_data_local - 1 if stream_id in server._streams else 4_000
        stream = client._streams[stream_id]
        stream.max_stream_data_remote = client._remote_max_data = 1 << 40
        sender = stream.sender
        sender._buffer, sender._buffer_start, sender._buffer_stop = bytearray(b"x"), offset, offset + 1
        sender._pending, sender.buffer_is_empty = RangeSet([range(offset, offset + 1)]), False
        now += 0.01
        for source, target, address in ((client, server, DIALER), (server, client, None)):
            for data, sockaddr in source.datagrams_to_send(now):
                target.receive_datagram(data, address or client._network_paths[0].addr, now)
                assert sockaddr
        if server._close_event is not None:
            return sent
    return frames


def test_the_sparse_offset_attack_gets_one_window_and_no_more() -> None:
    pair = LinkPair().up()
    tracemalloc.start()
    try:
        sparse_offsets(pair.dialer._quic, pair.acceptor._quic, 0, 11, pair.now)
        sparse_offsets(pair.dialer._quic, pair.acceptor._quic, 4, 11, pair.now + 1)
        peak_bytes = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak_bytes < 2 * 1_048_576
    for stream in pair.acceptor._quic._streams.values():
        assert len(stream.receiver._buffer) <= 262_144


def test_the_same_attack_on_aioquics_own_windows_doubles_them_each_time() -> None:
    # The control: each frame doubles the buffer. Stopped at 8 MiB; eleven frames from 1 MiB on reach a gigabyte.
    identity = make_tls_identity()

    def bare(is_client: bool) -> QuicConfiguration:
        return make_configuration(identity, is_client, 15.0, 131_072)

    client = QuicConnection(configuration=bare(True))
    server = QuicConnection(
        configuration=bare(False), original_destination_connection_id=client.original_destination_connection_id
    )
    client.connect(("192.0.2.2", 2), 0.0)
    for _ in range(4):
        for source, target, address in ((client, server, DIALER), (server, client, ("192.0.2.2", 2))):
            for data, _ in source.datagrams_to_send(0.1):
                target.receive_datagram(data, address, 0.1)
    assert sparse_offsets(client, server, 0, 8, 1.0) == 8
    assert len(server._streams[0].receiver._buffer) >= 8 * 1_048_576


def test_handshake_bytes_beyond_their_limit_end_the_connection_before_they_are_kept() -> None:
    pair = LinkPair()
    crypto = pair.dialer._quic
    crypto._crypto_streams[tls.Epoch.INITIAL].sender.write(bytes(20_000))
    tracemalloc.start()
    try:
        pair.run(0.5)
        assert tracemalloc.get_traced_memory()[1] < 4 * 1_048_576
    finally:
        tracemalloc.stop()
    codes = [ended.code for ended in pair.take(pair.acceptor, Ended)]
    assert codes[0] in ("protocol-violation", "tls-refused")


# --- bad paths --------------------------------------------------------------------------------------------------


def storm(pair: LinkPair, seconds: float, loss: float, copies: float, delay_seconds: float, seed: int) -> None:
    """Lets time pass on a path that loses, doubles and reorders datagrams."""
    rng = chance(seed)
    flying: list[tuple[float, int, QuicLink, bytes]] = []
    count, end = 0, pair.now + seconds
    links = (pair.dialer, pair.acceptor)
    while pair.now < end:
        for link, other in (links, links[::-1]):
            link.handle_deadline(pair.now)
            pair.outputs[link] += link.settle(pair.now)
            for frame in pair.outputs[link]:
                if isinstance(frame, Received) and id(frame) not in pair.handed:
                    pair.handed.add(id(frame))
                    link.frame_handed_over(frame)
            for data, _ in link.transmit(pair.now):
                for _ in range(1 + (rng.random() < copies)):
                    if rng.random() >= loss:
                        count += 1
                        heappush(flying, (pair.now + delay_seconds * rng.uniform(0.5, 2), count, other, data))
        pair.now += 0.001
        while flying and flying[0][0] <= pair.now:
            _, _, receiver, data = heappop(flying)
            receiver.receive_datagram(data, DIALER if receiver is pair.acceptor else ACCEPTOR, pair.now)


@pytest.mark.parametrize(("loss", "copies", "delay_seconds"), [(0.0, 0.5, 0.03), (0.1, 0.1, 0.02), (0.3, 0.0, 0.005)])
def test_frames_survive_loss_copies_and_reordering(loss: float, copies: float, delay_seconds: float) -> None:
    pair = LinkPair(QuicSettings()).up()
    sent = [(n % 7 == 0, n.to_bytes(2, "big") * (1 + n * 20)) for n in range(60)]
    for bulk, data in sent:
        pair.dialer.send(Channel(bulk), data, False, pair.now)
    for seed in range(40):
        storm(pair, 1.0, loss, copies, delay_seconds, seed)
        if len([frame for frame in pair.outputs[pair.acceptor] if isinstance(frame, Received)]) == len(sent):
            break
    got = pair.take(pair.acceptor, Received)
    for channel in Channel:
        assert [frame.data for frame in got if frame.channel is channel] == [
            data for bulk, data in sent if bulk == channel
        ]
    assert pair.dialer.state is State.UP


# --- priorities -------------------------------------------------------------------------------------------------


def test_bulk_in_the_queue_does_not_delay_control() -> None:
    pair = LinkPair().up()
    for _ in range(60):
        pair.dialer.send(Channel.BULK, bytes(65_536), False, pair.now)
    pair.carry(pair.dialer)
    pair.dialer.send(Channel.CONTROL, b"urgent", False, pair.now)
    bulk_bytes_ahead = pair.dialer._quic.unsent_bytes(4)
    assert bulk_bytes_ahead <= 12_000  # the first congestion window
    arrived: list[Received] = []
    started = pair.now
    while not arrived:
        pair.run(0.002)
        arrived = [frame for frame in pair.take(pair.acceptor, Received) if frame.channel is Channel.CONTROL]
    assert pair.now - started < 0.02
    assert pair.dialer._streams._bulk_bytes > 3_000_000


def test_a_link_says_it_has_nothing_to_send_only_when_that_is_so(monkeypatch: pytest.MonkeyPatch) -> None:
    pair = LinkPair().up()
    asked = {True: 0, False: 0}
    original = BoundedConnection.has_nothing_to_send

    def checked(quic: BoundedConnection, now: float) -> bool:
        silent = original(quic, now)
        asked[silent] += 1
        if silent:
            assert quic.datagrams_to_send(now) == []
        return silent

    monkeypatch.setattr(BoundedConnection, "has_nothing_to_send", checked)
    for n in range(200):
        sender = (pair.dialer, pair.acceptor)[n % 2]
        sender.send(Channel(n % 3 == 0), bytes(1 + n * 400), True, pair.now)
        pair.run(0.01)
        for link in (pair.dialer, pair.acceptor):
            for frame in pair.take(link, Received):
                link.frame_handed_over(frame)
    assert min(asked.values()) > 100


def test_a_busy_link_changes_its_keys_and_goes_on(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(quic_window, "PACKETS_PER_KEY", 40)
    pair = LinkPair().up()
    first = pair.dialer._quic._cryptos[tls.Epoch.ONE_RTT].send.secret
    for n in range(300):
        (pair.dialer, pair.acceptor)[n % 2].send(Channel.CONTROL, n.to_bytes(2, "big"), False, pair.now)
        pair.run(0.002)
    assert pair.dialer._quic._cryptos[tls.Epoch.ONE_RTT].send.secret != first
    assert pair.dialer._quic._keys_renewed_at > 100
    for link, sent in ((pair.acceptor, range(0, 300, 2)), (pair.dialer, range(1, 300, 2))):
        assert [frame.data for frame in pair.take(link, Received)] == [n.to_bytes(2, "big") for n in sent]


# --- whatever bytes ---------------------------------------------------------------------------------------------

frames = st.lists(
    st.tuples(st.sampled_from([*range(0x20), 0x30, 0x31, 0x40]), st.binary(max_size=40)), min_size=1, max_size=6
).map(lambda parts: b"".join(bytes([kind]) + rest for kind, rest in parts))


def inject(sender: QuicLink, payload: bytes) -> bytes:
    """One genuine 1-RTT packet of this end with a payload of our making."""
    quic = sender._quic
    builder = QuicPacketBuilder(
        host_cid=quic.host_cid,
        is_client=True,
        max_datagram_size=1_200,
        packet_number=quic._packet_number,
        peer_cid=quic._peer_cid.cid,
        version=quic._version,
    )
    builder.start_packet(QuicPacketType.ONE_RTT, quic._cryptos[tls.Epoch.ONE_RTT])
    builder._buffer.push_bytes(payload)
    (datagram,), _ = builder.flush()
    quic._packet_number = builder.packet_number
    return datagram


def survives(pair: LinkPair, datagram: bytes) -> None:
    pair.acceptor.receive_datagram(datagram, DIALER, pair.now)
    pair.outputs[pair.acceptor] += pair.acceptor.settle(pair.now)
    pair.acceptor.transmit(pair.now)
    pair.now += 0.01
    pair.acceptor.handle_deadline(pair.now)
    assert pair.acceptor.deadline() > 0
    ended = pair.take(pair.acceptor, Ended)
    assert (pair.acceptor.state is State.UP) == (not ended)


@settings(max_examples=40, deadline=None)
@given(st.lists(frames, min_size=1, max_size=8))
def test_any_payload_in_a_genuine_packet_is_taken_or_ends_the_link(payloads: list[bytes]) -> None:
    pair = LinkPair().up()
    for payload in payloads:
        if pair.acceptor.state is State.UP:
            survives(pair, inject(pair.dialer, payload))


@settings(max_examples=40, deadline=None)
@given(st.data())
def test_any_change_to_a_datagram_is_as_if_it_was_lost(data: st.DataObject) -> None:
    pair = LinkPair()
    states: list[Callable[[], object]] = [lambda: None, lambda: pair.carry(pair.dialer), pair.up]
    data.draw(st.sampled_from(states))()
    pair.dialer.send(Channel.CONTROL, bytes(100), False, pair.now)
    for datagram, _ in pair.dialer.transmit(pair.now):
        changed = bytearray(datagram)
        for _ in range(data.draw(st.integers(1, 3))):
            changed[data.draw(st.integers(0, len(changed) - 1))] ^= data.draw(st.integers(1, 255))
        cut = changed[: data.draw(st.integers(1, len(changed)))]
        before = pair.acceptor.state
        pair.acceptor.receive_datagram(bytes(cut), DIALER, pair.now)
        pair.acceptor.settle(pair.now)
        assert pair.acceptor.state in (before, State.CLOSING)
        assert not (before is State.UP and pair.acceptor.state is State.CLOSING)


def test_settings_that_contradict_each_other_are_refused() -> None:
    for changes in (
        {"idle_timeout_seconds": 1.0},
        {"links_max": 0},
        {"connection_window_bytes": 300_000},
        {"half_open_max": 3},
        {"bulk_queue_bytes_max": 1_000},
    ):
        with pytest.raises(Exception, match="bad-setting"):
            replace(QuicSettings(), **changes)
    assert HELLO_STREAM_BYTES_MAX == 8_192
