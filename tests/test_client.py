"""The Python client against the real server: what it returns, and what it says when it cannot."""

from __future__ import annotations

import os
import socket
import sys
import threading
from pathlib import Path

import pytest
import trio

sys.path.insert(0, str(Path(__file__).parent / "api"))

from api_rig import INCIDENT, serving
from memory_service import MemoryService

from meshnode.api.records import AttachmentRequest, CreateChange, SetChange
from meshnode.api.settings import ApiLimits
from meshnode.client import ApiError, Client
from meshnode.core.ids import IncidentId


async def in_thread(call, *arguments):
    """The client blocks, so it runs beside the server."""
    return await trio.to_thread.run_sync(call, *arguments)


def refusal(call, *arguments, **named) -> ApiError:
    with pytest.raises(ApiError) as caught:
        call(*arguments, **named)
    return caught.value


async def test_every_read_returns_its_view(tmp_path):
    async with serving(tmp_path) as rig:

        def script():
            with Client(rig.change_path) as client:
                assert client.node().identity.noc == "BE"
                assert client.peers()[0].state == "cut-off"
                assert client.incidents()[0].title == "Alert"
                assert client.incident(INCIDENT).fields["title"].values[0].value == "Alert"
                assert client.digest(INCIDENT).digest == client.incidents()[0].digest
                assert client.log(INCIDENT).items == []
                assert client.history(INCIDENT).items[0].journal == 1
                assert client.history(INCIDENT, object_id="0" * 32).next == ""
                assert client.conflicts(INCIDENT) == []
                assert client.members(INCIDENT)[0].noc == "BE"
                assert client.attachments(INCIDENT) == []
                assert client.collection(INCIDENT, "persons") == []
                assert client.openapi()["openapi"] == "3.1.0"

        await in_thread(script)


def test_a_text_in_the_place_of_a_list_of_nocs_is_not_taken_letter_by_letter() -> None:
    client = Client("nowhere.sock")
    with pytest.raises(TypeError, match=r'share_with takes a list of NOC codes: \["NL"\]'):
        client.open_incident("other", {"title": "T"}, share_with="NL")
    with pytest.raises(TypeError, match="nocs takes a list"):
        client.share(INCIDENT, "NL")


async def test_changes_return_the_ids_that_a_later_change_names(tmp_path):
    async with serving(tmp_path) as rig:

        def script():
            with Client(rig.change_path, operator="Zoë") as client:
                incident = client.open_incident("man-hunt", {"title": "Hunt"}, share_with=["NL"]).incident
                written = client.change(
                    incident,
                    [SetChange("status", "active"), CreateChange("vehicles", fields={"plate": "1-ABC"})],
                    [AttachmentRequest("a b.xml", "text/xml", b"<a/>")],
                )
                client.change(incident, [SetChange("status", "closed", replaces=[written.ids[0]])])
                view = client.incident(incident)
                assert [value.value for value in view.fields["status"].values] == ["closed"]
                assert view.fields["status"].values[0].author.operator == f"Zoë (uid {os.getuid()})"
                vehicle = client.object(incident, "vehicles", written.objects[1])
                assert vehicle.fields["plate"].values[0].value == "1-ABC"
                assert written.attachments == [item.id for item in client.attachments(incident)]
                file = client.attachment(incident, written.attachments[0])
                assert file == ("a b.xml", "text/xml", b"<a/>")
                client.append_log(incident, "first", precedence="flash")
                assert client.log(incident).items[0].record == {"text": "first", "precedence": "flash"}
                client.share(incident, ["DE"])
                assert len(client.members(incident)) == 3

        await in_thread(script)


async def test_problems_keep_their_code_reason_action_and_place(tmp_path):
    async with serving(tmp_path) as rig:

        def script():
            with Client(rig.change_path) as client:
                error = refusal(client.incident, "f" * 32)
                assert (error.status, error.code, error.action) == (404, "unknown-incident", "list the incidents")
                error = refusal(client.change, INCIDENT, [SetChange("a", 2**64)])
                assert (error.code, error.path) == ("invalid-value", "$.changes[0].value")
            with Client(rig.read_path) as client:
                assert refusal(client.append_log, INCIDENT, "x").code == "read-only-socket"
                assert client.node().journal == 1

        await in_thread(script)


async def test_values_that_json_cannot_say_are_refused_and_not_sent_as_something_else(tmp_path):
    async with serving(tmp_path) as rig:

        def script():
            with Client(rig.change_path) as client:
                for value in (float("nan"), float("inf"), "\ud800", object()):
                    assert refusal(client.change, INCIDENT, [SetChange("a", value)]).code == "invalid-value"
                assert client.node().journal == 1

        await in_thread(script)


async def test_a_path_with_strange_names_asks_for_exactly_those(tmp_path):
    async with serving(tmp_path) as rig:

        def script():
            with Client(rig.change_path) as client:
                assert client.collection(INCIDENT, "x-a/b?c#é%20") == []
                assert refusal(client.object, INCIDENT, "../..", "1" * 32).code == "unknown-object"

        await in_thread(script)


def test_a_missing_daemon_is_told_with_what_to_do(tmp_path):
    path = str(tmp_path / "api.sock")
    error = refusal(Client(path).node)
    assert (error.code, error.status) == ("daemon-unreachable", 0)
    assert "meshnode run" in error.action
    with socket.socket(socket.AF_UNIX) as killed:
        killed.bind(path)
        killed.listen()
    error = refusal(Client(path).node)
    assert error.code == "daemon-unreachable"
    assert "no daemon listens" in error.reason
    assert refusal(Client(str(tmp_path / ("s" * 200))).node).code == "daemon-unreachable"


def test_an_operator_that_would_write_header_lines_is_refused_at_once():
    assert refusal(Client, "x", operator="a\r\nX: y").code == "bad-operator"


async def test_a_connection_that_the_daemon_closed_while_idle_is_opened_anew(tmp_path):
    async with serving(tmp_path, ApiLimits(idle_s=0.05)) as rig:
        client = Client(rig.change_path)
        try:
            for _ in range(3):
                assert (await in_thread(client.node)).journal == 1
                while rig.server._connections:
                    await trio.testing.wait_all_tasks_blocked(0.01)
        finally:
            client.close()


async def test_a_refusal_for_want_of_connections_reaches_the_caller(tmp_path):
    async with serving(tmp_path, ApiLimits(connections_per_socket_max=1)) as rig:
        holder = await rig.connect()
        assert (await holder.ask("GET", "/v1/node")).status == 200

        def script():
            with Client(rig.change_path) as client:
                assert refusal(client.node).code == "too-many-clients"
                assert refusal(client.append_log, INCIDENT, "x" * 1_000_000).code == "too-many-clients"

        await in_thread(script)


def impostor(path: str, answer: bytes) -> threading.Thread:
    """A server that reads one request and says this."""
    listener = socket.socket(socket.AF_UNIX)
    listener.bind(path)
    listener.listen()

    def serve() -> None:
        with listener, listener.accept()[0] as sock:
            sock.recv(65536)
            sock.sendall(answer)

    thread = threading.Thread(target=serve)
    thread.start()
    return thread


@pytest.mark.parametrize(
    ("answer", "code"),
    [
        (b"", "answer-lost"),
        (b"HTTP/1.1 200 OK\r\nContent-Le", "answer-lost"),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\n{", "answer-lost"),
        (b"SSH-2.0-OpenSSH\r\n", "answer-lost"),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}", "answer-not-understood"),
        (b"HTTP/1.1 502 Bad\r\nContent-Length: 2\r\n\r\nno", "answer-not-understood"),
    ],
)
def test_an_answer_lost_or_not_ours_is_told_and_a_change_is_not_repeated(tmp_path, answer, code):
    path = str(tmp_path / "api.sock")
    thread = impostor(path, answer)
    with Client(path) as client:
        error = refusal(client.append_log, INCIDENT, "x")
    thread.join()
    assert error.code == code
    if code == "answer-lost":
        assert "not known" in error.reason


def test_a_daemon_that_does_not_answer_is_given_up(tmp_path):
    path = str(tmp_path / "api.sock")
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(path)
        listener.listen()
        with Client(path, timeout_s=0.05) as client:
            assert refusal(client.node).code == "daemon-timeout"


async def test_the_event_stream_goes_on_over_a_restart_of_the_daemon_without_gap(tmp_path):
    total = 6
    texts: list[str] = []
    first_half, done = threading.Event(), threading.Event()

    def watch(path: str) -> None:
        with Client(path) as client:
            for entry in client.events(after="1-5eed0001", incident=INCIDENT, pause_s=0.01):
                texts.append(entry.operations[0].value["text"])
                if len(texts) == total // 2:
                    first_half.set()
                if len(texts) == total:
                    break
        done.set()

    service = None
    async with trio.open_nursery() as nursery:
        for half in (0, 1):
            async with serving(tmp_path) as rig:
                # The second daemon has the journal of the first.
                rig.service.__dict__.update(service.__dict__ if service is not None else {})
                service = rig.service
                if not half:
                    nursery.start_soon(in_thread, watch, rig.change_path)
                for number in range(total // 2):
                    text = f"n{half * total // 2 + number}"
                    await in_thread(_append, rig.change_path, text)
                await in_thread((done if half else first_half).wait)
    assert texts == [f"n{number}" for number in range(total)]


def _append(path: str, text: str) -> None:
    with Client(path) as client:
        client.append_log(INCIDENT, text)


@pytest.mark.parametrize("entries", [1, 9], ids=["shorter", "longer"])
async def test_a_stream_tells_when_the_daemon_is_lost_and_when_its_journal_came_back_as_another(tmp_path, entries):
    told: list[bool] = []
    caught: list[ApiError] = []
    first, third, ended = threading.Event(), threading.Event(), threading.Event()

    def watch(path: str) -> None:
        with Client(path) as client:
            try:
                for entry in client.events(after="0", pause_s=0.01, on_link=told.append):
                    {1: first, 3: third}.get(entry.journal, first).set()
            except ApiError as error:
                caught.append(error)
        ended.set()

    async with trio.open_nursery() as nursery:
        async with serving(tmp_path) as rig:
            service = rig.service
            nursery.start_soon(in_thread, watch, rig.change_path)
            await in_thread(first.wait)
        async with serving(tmp_path, held=service) as rig:  # the same journal: it follows again, from where it was
            for text in ("2", "3"):
                await in_thread(_append, rig.change_path, text)
            await in_thread(third.wait)
        restored = MemoryService()  # an older one, which may have grown past the reader before that comes back
        restored.stretch = "5eed0002"
        incident = (await restored.open_incident("man-hunt", "uid:1", (), (), ())).incident
        for _ in range(entries - 1):
            await restored.change(incident, "uid:1", (), ())
        async with serving(tmp_path, held=restored):
            await in_thread(ended.wait)
    assert told == [False, True, False]
    assert (caught[0].code, caught[0].status) == ("bad-cursor", 400)


async def test_a_stream_that_is_refused_is_not_retried(tmp_path):
    async with serving(tmp_path) as rig:

        def script():
            with Client(rig.change_path) as client:
                assert refusal(lambda: next(client.events(incident="f" * 32))).code == "unknown-incident"

        await in_thread(script)
    assert refusal(lambda: next(Client(rig.change_path).events())).code == "daemon-unreachable"


async def test_the_stream_tells_apart_new_entries_and_those_before(tmp_path):
    async with serving(tmp_path) as rig:
        incident = IncidentId(bytes(16))

        def script():
            with Client(rig.change_path) as client:
                entries = client.events(after="0")
                entry = next(entries)
                assert (entry.journal, entry.incident) == (1, incident.hex())
                entries.close()
                assert entry.cursor == client.node().cursor == "1-5eed0001"

        await in_thread(script)
