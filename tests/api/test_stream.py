"""The event stream: a cursor into the durable journal, without gap and without queue."""

from __future__ import annotations

import json

import pytest
import trio
from api_rig import INCIDENT, RawClient, serving

from meshnode.api.settings import ApiLimits
from meshnode.core.events import Change, ChangeKind
from meshnode.core.ids import IncidentId
from meshnode.errors import LocalFaultError

ONE = IncidentId(bytes(16))


def at(number: int, stretch: str = "5eed0001") -> str:
    """The id of the entry of this journal number."""
    return f"{number}-{stretch}" if number else "0"


async def write(rig, text: str, incident: IncidentId = ONE) -> None:
    await rig.service.change(incident, "uid:1", [Change(ChangeKind.LOG, value={"text": text})], ())


async def subscribe(rig, query: str = "", headers: str = "") -> RawClient:
    client = await rig.connect()
    await client.send(f"GET /v1/events{query} HTTP/1.1\r\nHost: x\r\n{headers}\r\n".encode())
    return client


async def opened(client: RawClient) -> str:
    """The cursor that the stream starts with."""
    head = await client.read_until(b"\r\n\r\n")
    assert b"200 OK" in head
    assert b"text/event-stream" in head
    assert b"Connection: close" in head
    start = await client.read_until(b"\n\n")
    return start.partition(b"id: ")[2].strip().decode()


async def entry(client: RawClient) -> tuple[int, str]:
    """The next entry's number and text, over heartbeats."""
    while True:
        lines = (await client.read_until(b"\n\n")).decode().split("\n")
        fields = dict(line.split(": ", 1) for line in lines if ": " in line)
        if fields.get("event") == "entry":
            view = json.loads(fields["data"])
            assert view["cursor"] == fields["id"] == at(view["journal"])
            return view["journal"], view["operations"][0]["value"]["text"]


async def test_a_subscriber_without_cursor_sees_what_comes_from_now_on(tmp_path):
    async with serving(tmp_path) as rig:
        await write(rig, "before")
        client = await subscribe(rig)
        assert await opened(client) == at(2)
        await write(rig, "after")
        assert await entry(client) == (3, "after")


async def test_a_subscriber_reads_on_after_its_cursor_from_query_or_header(tmp_path):
    async with serving(tmp_path) as rig:
        for number in range(5):
            await write(rig, f"n{number}")
        header = f"Last-Event-ID: {at(3)}\r\n"
        for query, headers in ((f"?after={at(3)}", ""), ("", header), (f"?after={at(1)}", header)):
            client = await subscribe(rig, query, headers)
            assert await opened(client) == at(3)
            assert [await entry(client) for _ in range(3)] == [(4, "n2"), (5, "n3"), (6, "n4")]
            await client.stream.aclose()


async def test_resuming_again_and_again_under_concurrent_writes_leaves_no_gap_and_no_double(tmp_path):
    async with serving(tmp_path, ApiLimits(stream_page_max=3)) as rig:
        total = 120

        async def keep_writing():
            for number in range(total):
                await write(rig, f"n{number}")
                for _ in range(3):
                    await trio.lowlevel.checkpoint()

        rig.nursery.start_soon(keep_writing)
        seen, cursor = [], 1
        while cursor <= total:
            client = await subscribe(rig, f"?after={at(cursor)}")
            assert await opened(client) == at(cursor)
            for _ in range(min(7, total + 1 - cursor)):
                cursor, text = await entry(client)
                seen.append(text)
            await client.stream.aclose()
        assert seen == [f"n{number}" for number in range(total)]


async def test_a_stream_of_one_incident_shows_only_that_and_its_cursor_passes_the_others(tmp_path, autojump_clock):
    async with serving(tmp_path) as rig:
        other = (await rig.service.open_incident("other", "uid:1", (), (), ())).incident
        client = await subscribe(rig, f"?incident={other.hex()}&after=0")
        assert await opened(client) == "0"
        await write(rig, "elsewhere")
        await write(rig, "here", other)
        while True:
            number, text = None, None
            block = (await client.read_until(b"\n\n")).decode()
            if "elsewhere" in block:
                raise AssertionError(block)
            if "here" in block:
                break
        await write(rig, "elsewhere again")
        assert await client.read_until(f": heartbeat\nid: {at(5)}\n\n".encode())
        assert number is text is None


async def test_a_quiet_stream_has_a_heartbeat_every_15_seconds(tmp_path, autojump_clock):
    async with serving(tmp_path) as rig:
        client = await subscribe(rig)
        await opened(client)
        start = trio.current_time()
        for beat in (1, 2, 3):
            assert await client.read_until(b"\n\n") == f": heartbeat\nid: {at(1)}\n\n".encode()
            assert trio.current_time() - start == pytest.approx(15 * beat, abs=0.5)


async def test_subscribers_are_limited_and_a_place_is_free_when_one_goes(tmp_path):
    async with serving(tmp_path, ApiLimits(streams_max=2)) as rig:
        clients = [await subscribe(rig) for _ in range(2)]
        for client in clients:
            await opened(client)
        refused = await (await subscribe(rig)).response()
        assert (refused.status, refused.code) == (503, "too-many-streams")
        await clients[0].stream.aclose()
        await trio.testing.wait_all_tasks_blocked()
        assert await opened(await subscribe(rig)) == at(1)


async def test_a_subscriber_that_does_not_read_is_cut_off_and_holds_nobody_up(tmp_path, autojump_clock):
    async with serving(tmp_path) as rig:
        stuck, live = await subscribe(rig), await subscribe(rig)
        await opened(stuck)
        await opened(live)
        for number in range(20):
            await write(rig, f"{number}" + "y" * 50_000)
        for number in range(20):
            assert (await entry(live))[1].startswith(str(number))
        await trio.sleep(31)
        assert rig.refusals["client-too-slow"] == 1


async def test_the_stream_is_refused_before_it_starts_when_it_cannot_be(tmp_path):
    async with serving(tmp_path) as rig:
        for query, headers, status, code in (
            (f"?incident={'f' * 32}", "", 404, "unknown-incident"),
            ("?incident=1", "", 400, "bad-query"),
            ("?after=-1", "", 400, "bad-query"),
            ("", "Last-Event-ID: x\r\n", 400, "bad-query"),
            ("?after=1", "", 400, "bad-query"),  # a bare number could be of any journal
            ("?after=01-5eed0001", "", 400, "bad-query"),
            ("", "Last-Event-ID: 1\r\n", 400, "bad-query"),
            ("", "Last-Event-ID: 0-5eed0001\r\n", 400, "bad-query"),
            ("", "Last-Event-ID: 99999999999999999999-5eed0001\r\n", 400, "bad-query"),
            ("", "Last-Event-ID: 9999999999999999999-5eed0001\r\n", 400, "bad-cursor"),
            ("", "Accept: application/json\r\n", 406, "not-acceptable"),
        ):
            response = await (await subscribe(rig, query, headers)).response()
            assert (response.status, response.code) == (status, code)


@pytest.mark.filterwarnings("default")
async def test_a_defect_or_a_fault_in_the_middle_of_a_stream_never_looks_like_an_entry(tmp_path, monkeypatch):
    async with serving(tmp_path) as rig:
        for error, last_words in (
            (LocalFaultError("store-row-damaged", "a row is damaged"), b"event: problem"),
            (ZeroDivisionError(), b""),
        ):
            client = await subscribe(rig)
            await opened(client)

            def fail(*_arguments, error=error):
                raise error

            with monkeypatch.context() as patch:
                patch.setattr(rig.service, "journal_page", fail)
                await write(rig, "x")
                if last_words:
                    assert b'"code":"store-row-damaged"' in await client.read_until(b"\n\n")
                assert await client.is_closed()


async def test_a_cursor_above_the_end_of_the_journal_is_refused_and_the_end_itself_is_not(tmp_path):
    # A restored backup is behind its subscribers: silence until it has grown past them would be a gap.
    async with serving(tmp_path) as rig:
        for query, headers in ((f"?after={at(2)}", ""), ("?after=0", f"Last-Event-ID: {at(2)}\r\n")):
            client = await subscribe(rig, query, headers)
            refusal = await client.read_until(b"}")
            assert b" 400 " in refusal
            assert b'"code":"bad-cursor"' in refusal
            assert b"the journal ends at 1, so 2-5eed0001 is not of it" in refusal
        assert await opened(await subscribe(rig, f"?after={at(1)}")) == at(1)


async def test_a_cursor_of_what_a_restored_backup_has_lost_is_refused_though_the_journal_is_longer_now(tmp_path):
    async with serving(tmp_path) as rig:
        for number in range(4):
            await write(rig, f"n{number}")
        kept = rig.service.journal[:3]
        rig.service.journal[:], rig.service.stretch = kept, "5eed0002"  # an older copy comes back, and goes on
        for number in range(4):
            await write(rig, f"m{number}")
        for query, headers in ((f"?after={at(5)}", ""), ("?after=0", f"Last-Event-ID: {at(4)}\r\n")):
            refused = await (await subscribe(rig, query, headers)).response()
            assert (refused.status, refused.code) == (400, "bad-cursor")
            assert "has another past there" in refused.json["detail"]
            assert "/v1/node" in refused.json["action"]
        for cursor in (at(2), at(3), at(4, "5eed0002")):  # what both copies hold, and what only this one does
            assert await opened(await subscribe(rig, f"?after={cursor}")) == cursor
        client = await rig.connect()
        begin = (await client.ask("GET", "/v1/node")).json["cursor"]
        assert await opened(await subscribe(rig, f"?after={begin}")) == begin == at(7, "5eed0002")


async def test_the_read_socket_streams_too(tmp_path):
    async with serving(tmp_path) as rig:
        client = await rig.connect_read()
        await client.send(f"GET /v1/events?incident={INCIDENT} HTTP/1.1\r\nHost: x\r\n\r\n".encode())
        assert await opened(client) == at(1)
