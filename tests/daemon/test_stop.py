"""A stop under load, and readers over a restart: what was acknowledged is there, no event is missed or told twice."""

from __future__ import annotations

import contextlib
import itertools
import threading
import time

import pytest
from processes import MakeMesh, altered, refusals, texts
from writers import Writers

from meshnode.client import ApiError, Client
from simulations.mesh import MESHNODE, Node, wait_for

STOP_S = 5.0


def open_one(node: Node) -> str:
    with node.client() as client:
        incident: str = client.open_incident("other", {"title": "under load"}).incident
    return incident


def test_sigterm_under_load_ends_with_zero_in_time_and_keeps_what_was_acknowledged(make_mesh: MakeMesh) -> None:
    mesh = make_mesh("BE", "NL")
    be = mesh["BE"]
    mesh.start_all()
    mesh.wait_linked()
    incident = open_one(be)
    for _ in range(2):
        with Writers(str(be.socket), incident, 8) as writers:
            writers.wait_acknowledged(200)
            begun = time.monotonic()
            assert be.stop() == 0
            assert time.monotonic() - begun < STOP_S
        # Refused or answered, nobody was left without a word while the node could still speak.
        assert {error.code for error in writers.errors} <= {"stopping", "daemon-unreachable", "answer-lost"}
        mesh.start(be)
        found = texts(be, incident)
        assert writers.acknowledged <= set(found)
        assert len(found) == len(set(found))


def test_an_event_stream_reads_on_over_restarts_without_a_gap(make_mesh: MakeMesh) -> None:
    mesh = make_mesh("BE")
    be = mesh["BE"]
    mesh.start(be)
    incident = open_one(be)
    seen: list[int] = []
    done = threading.Event()

    def read() -> None:
        with contextlib.suppress(ApiError):
            for entry in Client(str(be.socket)).events(incident=incident, after="0", pause_s=0.05):
                seen.append(entry.journal)
                if done.is_set():
                    return

    reader = threading.Thread(target=read, daemon=True)
    reader.start()
    for end in (be.kill, be.stop, be.kill):
        with Writers(str(be.socket), incident, 2) as writers:
            writers.wait_acknowledged(30)
            end()
        mesh.start(be)
    with be.client() as client:
        last = client.node().journal
    wait_for(lambda: bool(seen) and seen[-1] == last, 20.0, "the reader has caught up")
    done.set()
    with be.client() as client:
        client.append_log(incident, "the last")
    reader.join(10)
    assert not reader.is_alive()
    assert seen == list(range(1, last + 2))


def test_a_defect_in_answering_one_client_is_told_to_it_and_costs_nobody_else(make_mesh: MakeMesh) -> None:
    mesh = make_mesh("BE")
    be = mesh["BE"]
    be.command = (*altered("reading"), *MESHNODE)
    mesh.start(be)
    incident = open_one(be)
    with be.client() as other, be.client() as client:
        assert other.node().incidents == 1
        for _ in range(3):
            with pytest.raises(ApiError, match="internal-error") as raised:
                client.members(incident)
            assert raised.value.status == 500
        client.append_log(incident, "goes on")
        assert other.node().incidents == 1
    assert refusals(be)["internal-error"] == 3
    assert "ZeroDivisionError: a defect in reading" in be.log.read_text()
    assert be.stop() == 0


def test_sockets_that_are_left_half_open_do_not_hold_up_a_stop(make_mesh: MakeMesh) -> None:
    import socket

    mesh = make_mesh("BE")
    be = mesh["BE"]
    mesh.start(be)
    open_sockets = []
    for request in itertools.islice(itertools.cycle([b"", b"GET /v1/node HT", b"GET /v1/events HTTP/1.1\r\n\r\n"]), 9):
        sock = socket.socket(socket.AF_UNIX)
        sock.connect(str(be.socket))
        sock.sendall(request)
        open_sockets.append(sock)
    begun = time.monotonic()
    assert be.stop() == 0
    assert time.monotonic() - begun < STOP_S
    for sock in open_sockets:
        sock.close()
