"""What a configuration expects of this machine, and what is said when it is not so."""

from __future__ import annotations

import grp
import os
import socket
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from meshnode.client import ApiError, Client
from meshnode.config import ApiConfig, Config, NodeConfig
from meshnode.config.surroundings import closed_directories, exposed, faults, notes
from meshnode.errors import LocalFaultError
from meshnode.storage import keyfiles

OURS = grp.getgrgid(os.getgid()).gr_name


@pytest.fixture
def place() -> Iterator[Path]:
    """A directory that everybody may enter; those of pytest are closed."""
    with tempfile.TemporaryDirectory(dir="/tmp") as name:
        os.chmod(name, 0o711)  # noqa: S103 - others only pass through
        yield Path(name)


def config_with(path: Path, **api: object) -> Config:
    return Config(node=NodeConfig(data_dir=path / "data"), api=ApiConfig(socket=path / "run" / "api.sock", **api))


@pytest.mark.parametrize(("mode", "closed"), [(0o700, True), (0o740, True), (0o710, False), (0o750, False)])
def test_a_socket_directory_that_is_closed_to_the_group_is_named(place: Path, mode: int, closed: bool) -> None:
    directory = place / "run"
    directory.mkdir()
    directory.chmod(mode)
    found = closed_directories(config_with(place, group=OURS))
    assert [fault.code for fault in found] == ["socket-directory-closed"] * closed
    assert all(str(directory) in fault.reason for fault in found)
    assert closed_directories(config_with(place)) == []  # nobody was promised anything
    assert closed_directories(config_with(place, group=OURS, mode=0o600)) == []


def test_an_unknown_group_is_refused_and_what_is_not_there_is_noted(place: Path) -> None:
    with pytest.raises(LocalFaultError) as caught:
        notes(config_with(place, group="no-such-group"))
    assert caught.value.code == "config-unknown-group"
    (rest,) = notes(config_with(place))
    assert rest.startswith("not looked at: ")


def test_what_would_stop_the_start_is_a_fault(place: Path) -> None:
    config = config_with(place)
    missing, sockets = faults(config)
    assert (missing.code, sockets.code) == ("data-dir-missing", "socket-unusable")
    assert f"the directory {place / 'run'} of the sockets is not there" in sockets.reason
    (place / "run").mkdir()
    (place / "data").write_text("no directory")
    assert [fault.code for fault in faults(config)] == ["data-dir-missing"]
    (place / "data").unlink()
    (place / "data").mkdir()
    assert [fault.code for fault in faults(config)] == ["key-file-missing"]
    keyfiles.create_node_keys(place / "data")
    assert [fault.code for fault in faults(config)] == ["not-enrolled"]
    (place / "data" / keyfiles.DEVICE_KEY_FILE).chmod(0o644)
    assert [fault.code for fault in faults(config)] == ["key-file-exposed"]


def test_what_is_open_to_more_than_the_owner_is_a_note(place: Path) -> None:
    (place / "data").mkdir(0o700)
    assert exposed(config_with(place)) == []
    assert [fault.code for fault in exposed(config_with(place, mode=0o666))] == ["socket-open"]
    (place / "data").chmod(0o755)
    (found,) = exposed(config_with(place))
    assert (found.code, found.action.split(",")[0]) == ("data-dir-open", f"chmod 700 {place / 'data'}")
    assert "data-dir-open" in notes(config_with(place))[0]


def test_a_client_names_the_directory_that_it_may_not_enter(place: Path) -> None:
    closed = place / "closed"
    closed.mkdir()
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(closed / "api.sock"))
        listener.listen()
        closed.chmod(0)
        was = os.geteuid()
        if was == 0:
            os.seteuid(65534)  # root may enter everything
        try:
            with pytest.raises(ApiError) as caught:
                Client(str(closed / "api.sock")).node()
        finally:
            os.seteuid(was)
            closed.chmod(0o700)
    assert caught.value.code == "daemon-unreachable"
    assert f"the directory {closed} is closed" in caught.value.reason
