"""Frames, addresses, codes, and the way from the links to the daemon."""

from __future__ import annotations

import tracemalloc

import pytest
import trio
from hypothesis import given, settings
from hypothesis import strategies as st

from meshnode.core.events import Channel, DialFailed, LinkDown, LinkUp, PeerIdentity, Received
from meshnode.core.ids import DeviceId
from meshnode.errors import UntrustedInputError
from meshnode.transport.base import (
    CODES,
    FRAME_BYTES_MAX,
    format_address,
    parse_address_untrusted,
    peer_code_untrusted,
    reason_of,
)
from meshnode.transport.delivery import Delivery
from meshnode.transport.framing import FrameReader, frame_header


def read_all(reader: FrameReader, pieces: list[bytes]) -> list[bytes]:
    frames = []
    for piece in pieces:
        rest = piece
        while rest:
            frame, rest = reader.feed_untrusted(rest)
            if frame is not None:
                frames.append(frame)
    return frames


@settings(max_examples=200)
@given(st.lists(st.binary(min_size=1, max_size=50), max_size=8), st.data())
def test_frames_come_out_as_they_went_in_however_the_stream_is_cut(frames: list[bytes], data: st.DataObject) -> None:
    stream = b"".join(frame_header(frame) + frame for frame in frames)
    cuts = sorted(data.draw(st.lists(st.integers(0, len(stream)), max_size=12)))
    pieces = [stream[a:b] for a, b in zip([0, *cuts], [*cuts, len(stream)], strict=True)]
    reader = FrameReader(100)
    assert read_all(reader, pieces) == frames
    assert reader.partial_bytes == 0


@settings(max_examples=200)
@given(st.binary(max_size=200), st.integers(1, 20))
def test_any_bytes_are_frames_or_a_refusal(stream: bytes, size: int) -> None:
    reader = FrameReader(60)
    code, frames = "", []
    try:
        frames = read_all(reader, [stream[i : i + size] for i in range(0, len(stream), size)])
    except UntrustedInputError as error:
        code = error.code
    if code:
        assert code in ("frame-empty", "frame-too-large")
    else:
        assert sum(4 + len(frame) for frame in frames) + reader.partial_bytes == len(stream)


def test_a_length_that_was_only_claimed_takes_no_memory() -> None:
    tracemalloc.start()
    try:
        readers = [FrameReader(FRAME_BYTES_MAX) for _ in range(100)]
        for reader in readers:
            assert read_all(reader, [FRAME_BYTES_MAX.to_bytes(4, "big") + b"a few bytes"]) == []
        assert tracemalloc.get_traced_memory()[1] < 200_000
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize(
    ("address", "host", "port"),
    [
        ("192.0.2.1:7411", "192.0.2.1", 7411),
        ("[2001:db8::1]:1", "2001:db8::1", 1),
        ("noc.example:65535", "noc.example", 65_535),
    ],
)
def test_an_address_is_host_and_port(address: str, host: str, port: int) -> None:
    assert parse_address_untrusted(address) == (host, port)
    assert format_address((host, port)) == address


@given(st.text(max_size=30))
def test_any_text_is_an_address_or_a_refusal(text: str) -> None:
    code, host, port = "", "", 0
    try:
        host, port = parse_address_untrusted(text)
    except UntrustedInputError as error:
        code = error.code
    assert code == "bad-address" or (host and 0 < port < 65_536)


def test_an_ipv4_peer_of_a_dual_stack_socket_is_shown_as_ipv4() -> None:
    assert format_address(("::ffff:192.0.2.1", 7411, 0, 0)) == "192.0.2.1:7411"
    assert format_address(("2001:db8::1", 7411, 0, 0)) == "[2001:db8::1]:7411"


@pytest.mark.parametrize("phrase", ["", "Two words", "<b>", "a" * 49, "-x", "UPPER", "b\u00e4d"])
def test_a_peers_phrase_that_is_no_code_is_not_passed_on(phrase: str) -> None:
    assert peer_code_untrusted(phrase) == "closed-by-peer"


def test_every_code_has_a_reason_and_an_action() -> None:
    for code, entry in CODES.items():
        assert entry.reason
        assert entry.action
        assert reason_of(code) == entry.reason
        assert peer_code_untrusted(code) == f"peer-{code}"
    assert reason_of("peer-duplicate-link") == "the other end said: duplicate-link"


# --- delivery ---------------------------------------------------------------------------------------------------


def up(link: int) -> LinkUp:
    return LinkUp(link, PeerIdentity(DeviceId(bytes(32)), "BE", "be-1", False, b""), "192.0.2.1:1", True)


def a_frame(link: int, n: int, channel: Channel = Channel.CONTROL) -> Received:
    return Received(link, channel, bytes([n]))


async def drain(delivery: Delivery, nursery: trio.Nursery) -> list[object]:
    nursery.start_soon(delivery.run)
    records: list[object] = []
    with trio.move_on_after(0.05):
        while True:
            records.append(await delivery.receive.receive())
    nursery.cancel_scope.cancel()
    return records


async def test_frames_of_links_that_wait_are_handed_over_in_turn_and_control_first(nursery: trio.Nursery) -> None:
    consumed: list[Received] = []
    delivery = Delivery(1, consumed.append)
    assert delivery.put_frame(a_frame(1, 0))
    for n in (1, 2, 3):
        assert not delivery.put_frame(a_frame(1, n, Channel.BULK))
    assert not delivery.put_frame(a_frame(1, 4))
    assert not delivery.put_frame(a_frame(2, 5))
    records = await drain(delivery, nursery)
    assert [record.data[0] for record in records if isinstance(record, Received)] == [0, 4, 5, 1, 2, 3]
    assert [frame.data[0] for frame in consumed] == [4, 5, 1, 2, 3]


async def test_news_of_links_goes_before_frames_and_is_never_lost(nursery: trio.Nursery) -> None:
    delivery = Delivery(1, lambda _: None)
    delivery.put(up(1))
    delivery.put_frame(a_frame(1, 1))
    delivery.put(up(2))
    delivery.put_frame(a_frame(2, 2))
    delivery.drop_frames(1)
    delivery.put(LinkDown(1, "idle-timeout"))
    records = await drain(delivery, nursery)
    assert records == [up(1), up(2), LinkDown(1, "idle-timeout"), a_frame(2, 2)]


async def test_a_link_that_died_before_the_daemon_heard_of_it_never_was(nursery: trio.Nursery) -> None:
    delivery = Delivery(1, lambda _: None)
    delivery.put(up(1))
    for link in range(2, 100):
        delivery.put(up(link))
        delivery.put_frame(a_frame(link, 1))
        delivery.drop_frames(link)
        delivery.put(LinkDown(link, "idle-timeout"))
    assert await drain(delivery, nursery) == [up(1)]


def test_what_happens_to_a_link_after_the_end_of_its_transport_is_nobodys_news() -> None:
    delivery = Delivery(1, lambda _: None)
    delivery.close()
    delivery.put(DialFailed("198.51.100.1:7411", "shutting-down", "this node is stopping"))
    assert not delivery.is_behind


async def test_a_daemon_that_stopped_listening_stops_nobody(nursery: trio.Nursery) -> None:
    delivery = Delivery(1, lambda _: None)
    delivery.put(up(1))
    delivery.put(up(2))
    delivery.receive.close()
    nursery.start_soon(delivery.run)
    await trio.testing.wait_all_tasks_blocked()
    assert not delivery.is_behind
    assert delivery.put_frame(a_frame(1, 1))
    nursery.cancel_scope.cancel()
