"""Clients that are stuck, slow, half open, flooding or plainly hostile cost the others nothing (fault O6)."""

from __future__ import annotations

import contextlib
import errno
import json
import socket

import pytest
import trio
from api_rig import INCIDENT, serving

from meshnode.api.settings import ApiLimits

LOG = f"/v1/incidents/{INCIDENT}/log"
GET_NODE = b"GET /v1/node HTTP/1.1\r\nHost: x\r\n\r\n"


def post(text: str, head: str = "") -> bytes:
    body = json.dumps({"text": text}).encode()
    return (
        f"POST {LOG} HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n{head}Content-Length: {len(body)}\r\n\r\n"
    ).encode() + body


async def answers(rig) -> bool:
    client = await rig.connect()
    response = await client.ask("GET", "/v1/node")
    await client.stream.aclose()
    return response.status == 200


def test_the_limits_are_those_that_the_documentation_names():
    limits = ApiLimits()
    assert (limits.connections_per_socket_max, limits.connections_per_user_max, limits.streams_max) == (128, 64, 32)
    assert (limits.request_read_s, limits.idle_s, limits.write_s, limits.heartbeat_s) == (10, 75, 30, 15)


async def test_one_connection_serves_many_requests(tmp_path):
    async with serving(tmp_path) as rig:
        client = await rig.connect()
        for _ in range(1500):
            assert (await client.ask("GET", "/v1/node")).status == 200


async def test_pipelined_requests_are_answered_in_order(tmp_path):
    async with serving(tmp_path) as rig:
        client = await rig.connect()
        await client.send(b"".join(post(f"line {number}") for number in range(50)) + GET_NODE)
        for _ in range(50):
            assert (await client.response()).status == 200
        assert (await client.response()).json["journal"] == 51
        texts = [record.record["text"] for record in rig.service.log_page(bytes(16), "", 100, False).items]
        assert texts == [f"line {number}" for number in range(50)]


async def test_a_pipelining_flood_does_not_starve_another_client(tmp_path):
    async with serving(tmp_path) as rig:
        flooding, other = await rig.connect(), await rig.connect()
        flood = GET_NODE * 2000

        async def drain(task_status=trio.TASK_STATUS_IGNORED):
            task_status.started()
            for _ in range(2000):
                await flooding.response()
            drained.set()

        drained = trio.Event()
        rig.nursery.start_soon(flooding.send, flood)
        await rig.nursery.start(drain)
        turns = 0
        while turns < 20:
            assert (await other.ask("GET", "/v1/node")).status == 200
            turns += 1
        assert not drained.is_set()
        await drained.wait()


async def test_a_client_that_does_not_read_its_answers_is_cut_off(tmp_path, autojump_clock):
    async with serving(tmp_path) as rig:
        stuck = await rig.connect()
        body = {"changes": [{"kind": "set", "field": "x-long", "value": "y" * 1_000_000}]}
        assert (await stuck.ask_json("POST", f"/v1/incidents/{INCIDENT}/changes", body)).status == 200
        await stuck.send(f"GET /v1/incidents/{INCIDENT} HTTP/1.1\r\nHost: x\r\n\r\n".encode())
        assert await answers(rig)
        await trio.sleep(29)
        assert rig.refusals["client-too-slow"] == 0
        await trio.sleep(2)
        assert rig.refusals["client-too-slow"] == 1
        with pytest.raises(EOFError):
            await stuck.response()


async def test_a_slow_loris_is_told_and_cut_off_after_the_read_time_out(tmp_path, autojump_clock):
    async with serving(tmp_path) as rig:
        slow = await rig.connect()
        start = trio.current_time()
        await slow.send(b"GET /v1/node HTTP/1.1\r\nHost: x\r\nX: ")
        for _ in range(9):
            await trio.sleep(1)
            await slow.send(b"y")
            assert rig.refusals["request-timeout"] == 0
        assert (await slow.response()).code == "request-timeout"
        assert trio.current_time() - start == pytest.approx(10, abs=0.5)


async def test_half_a_body_is_answered_with_408_and_changes_nothing(tmp_path, autojump_clock):
    async with serving(tmp_path) as rig:
        client = await rig.connect()
        await client.send(post("never whole")[:-3])
        response = await client.response()
        assert (response.status, response.code) == (408, "request-timeout")
        assert response.headers["connection"] == "close"
        assert await client.is_closed()
        assert len(rig.service.journal) == 1


async def test_a_request_cut_off_by_its_client_changes_nothing(tmp_path):
    async with serving(tmp_path) as rig:
        client = await rig.connect()
        await client.send(post("never whole")[:-3])
        await client.stream.send_eof()
        assert await client.is_closed()
        assert len(rig.service.journal) == 1


async def test_a_half_closed_client_still_gets_its_answer(tmp_path):
    async with serving(tmp_path) as rig:
        client = await rig.connect()
        await client.send(post("whole"))
        await client.stream.send_eof()
        assert (await client.response()).status == 200
        assert await client.is_closed()


async def test_an_idle_connection_is_closed_without_a_word(tmp_path, autojump_clock):
    async with serving(tmp_path) as rig:
        client = await rig.connect()
        assert (await client.ask("GET", "/v1/node")).status == 200
        start = trio.current_time()
        assert await client.is_closed()
        assert trio.current_time() - start == pytest.approx(75, abs=1)


async def test_ten_megabytes_are_refused_at_the_header_and_nothing_is_read(tmp_path):
    async with serving(tmp_path) as rig:
        client = await rig.connect()
        await client.send(
            f"POST {LOG} HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n".encode()
            + b"Content-Length: 10000000\r\n\r\n"
        )
        response = await client.response()
        assert (response.status, response.code) == (413, "body-too-large")
        assert await client.is_closed()
        assert await answers(rig)


async def test_ten_megabytes_of_header_are_refused(tmp_path):
    async with serving(tmp_path) as rig:
        client = await rig.connect()
        with pytest.raises(trio.BrokenResourceError):
            await client.send(b"GET / HTTP/1.1\r\nHost: x\r\nX: " + b"y" * 10_000_000)
        response = await client.response()
        assert (response.status, response.code) == (431, "header-too-large")
        assert await answers(rig)


async def test_100_continue_is_sent_when_the_body_is_welcome_and_not_when_it_is_too_large(tmp_path):
    async with serving(tmp_path) as rig:
        client = await rig.connect()
        request = post("big", "Expect: 100-continue\r\n")
        head, _, body = request.partition(b"\r\n\r\n")
        await client.send(head + b"\r\n\r\n")
        assert (await client.response()).status == 100
        await client.send(body)
        assert (await client.response()).status == 200
        await client.send(head.replace(b"Content-Length: ", b"Content-Length: 99999999") + b"\r\n\r\n")
        assert (await client.response()).status == 413


async def test_a_chunked_change_is_taken(tmp_path):
    async with serving(tmp_path) as rig:
        client = await rig.connect()
        head = f"POST {LOG} HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nTransfer-Encoding: chunked\r\n\r\n"
        await client.send(head.encode())
        for piece in (b'{"te', b'xt": "a"}'):
            await client.send(b"%x\r\n%b\r\n" % (len(piece), piece))
        await client.send(b"0\r\n\r\n")
        assert (await client.response()).status == 200


async def test_smuggled_requests_are_never_carried_out(tmp_path):
    async with serving(tmp_path) as rig:
        for lines in (
            "Content-Length: 4\r\nTransfer-Encoding: chunked\r\n",
            "Transfer-Encoding: chunked\r\nContent-Length: 4\r\n",
            "Content-Length: 4\r\nContent-Length: 0\r\n",
            "Connection: Upgrade\r\nUpgrade: h2c\r\nContent-Length: 300\r\n",
            "X: a\0b\r\n",
        ):
            client = await rig.connect()
            await client.send(f"POST {LOG} HTTP/1.1\r\nHost: x\r\n{lines}\r\n0\r\n\r\n".encode() + post("hidden"))
            response = await client.response()
            assert response.status == 400
            assert await client.is_closed()
        assert len(rig.service.journal) == 1
        assert await answers(rig)


async def test_requests_before_a_breach_are_answered_then_the_breach(tmp_path):
    async with serving(tmp_path) as rig:
        client = await rig.connect()
        await client.send(GET_NODE + b"\0\r\n\r\n")
        assert (await client.response()).status == 200
        assert (await client.response()).code == "malformed-http"
        assert await client.is_closed()
        assert rig.refusals["malformed-http"] == 1


async def test_connection_close_is_honoured(tmp_path):
    async with serving(tmp_path) as rig:
        client = await rig.connect()
        response = await client.ask("GET", "/v1/node", headers="Connection: close\r\n")
        assert response.headers["connection"] == "close"
        assert await client.is_closed()


async def test_more_clients_than_a_socket_takes_are_told_and_others_go_on(tmp_path):
    async with serving(tmp_path, ApiLimits(connections_per_socket_max=3)) as rig:
        clients = [await rig.connect() for _ in range(3)]
        for client in clients:
            assert (await client.ask("GET", "/v1/node")).status == 200
        refused = await (await rig.connect()).response()
        assert (refused.status, refused.code) == (503, "too-many-clients")
        assert refused.headers["retry-after"] == "1"
        # The other socket has its own count.
        assert (await (await rig.connect_read()).ask("GET", "/v1/node")).status == 200
        await clients[0].stream.aclose()
        await trio.testing.wait_all_tasks_blocked()
        assert await answers(rig)


async def test_one_user_cannot_take_all_connections(tmp_path):
    async with serving(tmp_path, ApiLimits(connections_per_user_max=2)) as rig:
        clients = [await rig.connect(), await rig.connect_read()]
        for client in clients:
            assert (await client.ask("GET", "/v1/node")).status == 200
        refused = await (await rig.connect()).response()
        assert refused.code == "too-many-clients-of-user"
        await clients[1].stream.aclose()
        await trio.testing.wait_all_tasks_blocked()
        assert await answers(rig)


async def test_connections_that_come_and_go_leave_nothing_behind(tmp_path):
    async with serving(tmp_path) as rig:
        for number in range(200):
            client = await rig.connect()
            if number % 3:
                await client.send(GET_NODE[: number % 30])
            await client.stream.aclose()
        await trio.testing.wait_all_tasks_blocked()
        assert not rig.server._connections
        assert not rig.server._accounts


async def test_when_descriptors_run_out_accepting_pauses_and_recovers(tmp_path, autojump_clock, monkeypatch):
    async with serving(tmp_path) as rig:
        real_accept = socket.socket.accept
        failures = [OSError(errno.EMFILE, "too many open files")] * 3

        def accept(sock):
            if failures:
                raise failures.pop()
            return real_accept(sock)

        monkeypatch.setattr(socket.socket, "accept", accept)
        assert await answers(rig)
        assert rig.refusals["out-of-descriptors"] == 3


async def test_stopping_ends_idle_clients_and_streams_and_finishes_the_change_in_hand(tmp_path):
    async with serving(tmp_path) as rig:
        idle, writer, stream = await rig.connect(), await rig.connect(), await rig.connect()
        assert (await idle.ask("GET", "/v1/node")).status == 200
        await stream.send(b"GET /v1/events HTTP/1.1\r\nHost: x\r\n\r\n")
        await stream.read_until(b"id: 1-5eed0001\n\n")
        rig.service.gate = trio.Event()
        await writer.send(post("in hand"))
        while not rig.service.changes_waiting:
            await trio.lowlevel.checkpoint()
        rig.server.stop()
        rig.server.stop()
        assert await idle.is_closed()
        assert await stream.is_closed()
        with pytest.raises(FileNotFoundError):
            await rig.connect()
        rig.service.gate.set()
        assert (await writer.response()).status == 200
        assert await writer.is_closed()


@pytest.mark.parametrize("ticks", range(12))
async def test_a_stop_in_any_moment_ends_who_has_just_come(tmp_path, autojump_clock, ticks):
    """Virtual time: a client that the stop overlooked would be waited for until its time-out."""
    with contextlib.ExitStack() as clients:
        async with serving(tmp_path) as rig:
            begun = trio.current_time()
            for data in (b"", b"GET /v1/node HT", b"GET /v1/events HTTP/1.1\r\nHost: x\r\n\r\n") * 3:
                client = clients.enter_context(socket.socket(socket.AF_UNIX))
                client.connect(rig.change_path)
                client.sendall(data)
            for _ in range(ticks):
                await trio.lowlevel.checkpoint()
            rig.server.stop()
            await trio.sleep(1.0)
            assert not rig.server._connections
            assert trio.current_time() - begun < 2.0
