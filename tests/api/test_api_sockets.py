"""Opening the sockets: modes, stale files, other daemons, limits of the path."""

from __future__ import annotations

import os
import socket
import stat

import pytest

from meshnode.api.access import Access
from meshnode.api.settings import ApiLimits, ApiSettings, SocketSettings
from meshnode.api.sockets import PATH_BYTES_MAX, adopt_listener, open_listener, open_listeners
from meshnode.errors import LocalFaultError


def refusal_code(settings: SocketSettings) -> str:
    with pytest.raises(LocalFaultError) as caught:
        open_listener(settings, Access.CHANGE)
    assert caught.value.action
    return caught.value.code


def test_the_file_has_the_mode_and_group_that_were_asked_for(tmp_path):
    path = str(tmp_path / "api.sock")
    listener = open_listener(SocketSettings(path, 0o640, os.getgid()), Access.CHANGE)
    found = os.stat(path)
    assert stat.S_IMODE(found.st_mode) == 0o640
    assert found.st_gid == os.getgid()
    listener.close()
    assert SocketSettings(path).mode == 0o660


def test_closing_removes_the_file_and_a_second_close_does_nothing(tmp_path):
    path = str(tmp_path / "api.sock")
    listener = open_listener(SocketSettings(path), Access.CHANGE)
    listener.close()
    listener.close()
    assert not os.path.exists(path)


def test_a_stale_file_of_a_killed_daemon_is_replaced(tmp_path):
    path = str(tmp_path / "api.sock")
    with socket.socket(socket.AF_UNIX) as killed:
        killed.bind(path)
        killed.listen()
    assert os.path.exists(path)
    listener = open_listener(SocketSettings(path), Access.CHANGE)
    with socket.socket(socket.AF_UNIX) as client:
        client.connect(path)
    listener.close()


def test_a_living_socket_is_left_alone(tmp_path):
    path = str(tmp_path / "api.sock")
    with socket.socket(socket.AF_UNIX) as other:
        other.bind(path)
        other.listen(0)
        assert refusal_code(SocketSettings(path)) == "socket-in-use"
        assert os.path.exists(path)


def test_two_of_our_daemons_never_share_a_path(tmp_path):
    path = str(tmp_path / "api.sock")
    first = open_listener(SocketSettings(path), Access.CHANGE)
    # Even when the file is gone, the first one still serves those who are connected.
    os.unlink(path)
    assert refusal_code(SocketSettings(path)) == "socket-in-use"
    first.close()
    open_listener(SocketSettings(path), Access.CHANGE).close()


def test_closing_leaves_a_file_that_is_not_ours(tmp_path):
    path = str(tmp_path / "api.sock")
    listener = open_listener(SocketSettings(path), Access.CHANGE)
    os.unlink(path)
    (tmp_path / "api.sock").write_text("another")
    listener.close()
    assert os.path.exists(path)


def test_a_file_that_is_no_socket_is_never_removed(tmp_path):
    path = tmp_path / "api.sock"
    path.write_text("keep me")
    assert refusal_code(SocketSettings(str(path))) == "socket-path-taken"
    assert path.read_text() == "keep me"


def test_a_path_too_long_for_unix_is_refused_clearly(tmp_path):
    assert PATH_BYTES_MAX == 107
    folder = f"{tmp_path}/"
    fits = folder + "s" * (107 - len(folder))
    open_listener(SocketSettings(fits), Access.CHANGE).close()
    assert refusal_code(SocketSettings(fits + "s")) == "socket-path-too-long"


def test_a_missing_directory_is_refused(tmp_path):
    assert refusal_code(SocketSettings(str(tmp_path / "none" / "api.sock"))) == "socket-unusable"


def test_when_the_second_socket_fails_the_first_is_gone(tmp_path):
    first, second = str(tmp_path / "api.sock"), str(tmp_path / "none" / "read.sock")
    with pytest.raises(LocalFaultError):
        open_listeners(ApiSettings(SocketSettings(first), SocketSettings(second)))
    assert not os.path.exists(first)


def test_a_socket_handed_in_must_listen_and_its_file_stays(tmp_path):
    path = str(tmp_path / "api.sock")
    sock = socket.socket(socket.AF_UNIX)
    sock.bind(path)
    with pytest.raises(LocalFaultError) as caught:
        adopt_listener(sock, Access.READ)
    assert caught.value.code == "socket-unusable"
    sock.listen()
    adopt_listener(sock, Access.READ).close()
    assert os.path.exists(path)


def test_settings_that_make_no_sense_are_refused(tmp_path):
    same = SocketSettings(str(tmp_path / "api.sock"))
    for settings in (
        ApiSettings(same, same),
        ApiSettings(same, None, ApiLimits(idle_s=0)),
        ApiSettings(SocketSettings("a", 0o1777), None),
    ):
        with pytest.raises(LocalFaultError) as caught:
            settings.validate()
        assert caught.value.code == "bad-setting"
