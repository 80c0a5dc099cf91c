"""Starting and ending: whatever is wrong with this machine has its exit code, a reason and what to do."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest
from processes import Ended, MakeMesh, altered, fill, refusals, run_to_end

from meshnode.storage import keyfiles
from simulations.mesh import MESHNODE, Node, tail, wait_for

LOCAL_FAULT = 4


def assert_local_fault(ended: Ended, code: str, *words: str) -> None:
    """Two lines for people, no traceback, exit code 4."""
    assert f"error: {code}: " in ended.said
    assert "what to do: " in ended.said
    assert "Traceback" not in ended.said
    for word in words:
        assert word in ended.said
    assert ended.code == LOCAL_FAULT


@pytest.fixture
def node(make_mesh: MakeMesh) -> Node:
    return make_mesh("BE")["BE"]


def test_a_udp_port_that_is_taken(node: Node) -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as taken:
        taken.bind(("127.0.0.1", node.port))
        assert_local_fault(run_to_end(node), "cannot-listen", str(node.port))
    assert not node.socket.exists()


def test_a_socket_path_where_another_program_listens(node: Node) -> None:
    with socket.socket(socket.AF_UNIX) as other:
        other.bind(str(node.socket))
        other.listen()
        assert_local_fault(run_to_end(node), "socket-in-use", str(node.socket))
        assert node.socket.exists()


def test_a_socket_path_that_is_a_file_is_left_alone(node: Node) -> None:
    node.socket.write_text("somebody's notes")
    assert_local_fault(run_to_end(node), "socket-path-taken", str(node.socket))
    assert node.socket.read_text() == "somebody's notes"


def test_a_second_daemon_on_one_data_directory(make_mesh: MakeMesh) -> None:
    mesh = make_mesh("BE")
    first = mesh["BE"]
    mesh.start(first)
    second = Node("BE", mesh.directory / "second", 0, False)
    second.directory.mkdir()
    second.config.write_text(
        f'[node]\ndata_dir = "{first.data}"\n[listen]\naddress = "127.0.0.1:0"\n[api]\nsocket = "{second.socket}"\n'
    )
    assert_local_fault(run_to_end(second), "data-dir-in-use", f"process {first.pid}")
    assert refusals(first) == {}
    assert first.stop() == 0


def test_a_stale_socket_file_of_a_killed_daemon_is_replaced(make_mesh: MakeMesh) -> None:
    mesh = make_mesh("BE")
    mesh.start(mesh["BE"])
    mesh["BE"].kill()
    assert mesh["BE"].socket.exists()
    mesh.start(mesh["BE"])
    assert mesh["BE"].stop() == 0
    assert not mesh["BE"].socket.exists()


@pytest.mark.parametrize(
    ("line", "code", "words"),
    [
        ("[links]\nidle_time = '5s'", "config-unknown-key", "idle_timeout"),
        ("[links]\nidle_timeout = 5", "config-wrong-unit", "10s"),
        ("[links]\nidle_timeout = '5KiB'", "config-wrong-unit", "10s"),
        ("[sync]\nbatch = '64KiB'", "config-unknown-key", "anti_entropy_interval"),
    ],
)
def test_a_configuration_with_an_unknown_key_or_a_wrong_unit(node: Node, line: str, code: str, words: str) -> None:
    node.config.write_text(f'[node]\ndata_dir = "{node.data}"\n{line}\n')
    assert_local_fault(run_to_end(node), code, words, "line 4")


def test_a_group_that_does_not_exist(node: Node) -> None:
    node.config.write_text(f'[node]\ndata_dir = "{node.data}"\n[api]\ngroup = "nobody-has-this-group"\n')
    assert_local_fault(run_to_end(node), "config-unknown-group", "nobody-has-this-group")


def test_a_node_that_is_not_enrolled(node: Node) -> None:
    (node.data / keyfiles.CERTIFICATE_FILE).unlink()
    assert_local_fault(run_to_end(node), "not-enrolled")


def test_a_key_that_others_can_read(node: Node) -> None:
    (node.data / keyfiles.DEVICE_KEY_FILE).chmod(0o644)
    assert_local_fault(run_to_end(node), "key-file-exposed", "chmod")


def test_a_store_whose_file_is_not_a_store(node: Node) -> None:
    (node.data / "meshnode.db").write_bytes(b"not a database" * 100)
    assert_local_fault(run_to_end(node), "store-damaged", "meshnode.db")


def test_a_read_only_data_directory(own_disk: Callable[[Path], None], make_mesh: MakeMesh) -> None:
    node = make_mesh("BE")["BE"]
    if os.geteuid() == 0:
        own_disk(node.data)
        subprocess.run(["mount", "-o", "remount,ro", node.data], check=True)
    else:
        node.data.chmod(0o500)
    try:
        assert_local_fault(run_to_end(node), "data-dir-unwritable", str(node.data))
    finally:
        if os.geteuid() != 0:
            node.data.chmod(0o700)


def test_a_disk_without_room_for_a_store(own_disk: Callable[[Path], None], make_mesh: MakeMesh) -> None:
    node = make_mesh("BE")["BE"]
    own_disk(node.data)
    fill(node.data)
    assert_local_fault(run_to_end(node), "store-full")
    assert not (node.data / "meshnode.db").exists()


def test_a_defect_in_the_loop_ends_the_process_with_its_traceback(make_mesh: MakeMesh) -> None:
    node = make_mesh("BE", "NL")["BE"]
    ended = run_to_end(node, *altered("loop"))
    assert "serving: " in ended.said
    assert "ZeroDivisionError: a defect in the loop" in ended.said
    assert "internal-error" in ended.said
    assert ended.code == 70


def test_a_stop_during_a_long_start_is_a_clean_stop(node: Node) -> None:
    with node.log.open("wb") as log:
        process = subprocess.Popen(
            [*altered("slow-start", 1.0), *MESHNODE, "run", "--config", str(node.config)], stdout=log, stderr=log
        )
    try:
        wait_for(lambda: "building the node" in tail(node.log), 20.0, "the node is being built")
        process.send_signal(signal.SIGTERM)
        assert process.wait(timeout=10) == 0
    finally:
        process.kill()
        process.wait()
    assert "stopped: " in tail(node.log)


def test_a_relay_without_a_certificate_for_it_serves_and_says_so(make_mesh: MakeMesh) -> None:
    mesh = make_mesh("NL")
    node = mesh["NL"]
    node.relay = True
    mesh.configure(node, [])
    mesh.start(node)
    with node.client() as client:
        view = client.node()
    assert [item.code for item in view.degraded] == ["relay-not-certified"]
    assert "--relay" in view.degraded[0].action
    assert view.relay is False
    assert node.stop() == 0
