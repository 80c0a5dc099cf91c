"""One daemon per data directory."""

from __future__ import annotations

import multiprocessing
import os
from multiprocessing.connection import Connection
from pathlib import Path

import pytest

from meshnode.errors import LocalFaultError
from meshnode.storage.lock import LOCK_FILE, DataDirLock, check_usable


def test_a_second_daemon_on_one_data_directory_is_refused_and_told_who_runs(tmp_path: Path) -> None:
    with DataDirLock.acquire(tmp_path):
        with pytest.raises(LocalFaultError, match=rf"data-dir-in-use: .*process {os.getpid()}\)") as caught:
            DataDirLock.acquire(tmp_path)
        assert caught.value.code == "data-dir-in-use"
        assert caught.value.action
    DataDirLock.acquire(tmp_path).release()


def test_a_missing_directory_and_one_that_is_denied_need_different_things(tmp_path: Path) -> None:
    for look in (DataDirLock.acquire, check_usable):
        with pytest.raises(LocalFaultError) as caught:
            look(tmp_path / "nope")
        assert caught.value.code == "data-dir-missing"
        assert f"meshnode init --data {tmp_path / 'nope'}" in caught.value.action
    check_usable(tmp_path)
    tmp_path.chmod(0)
    was = os.geteuid()
    if was == 0:
        os.seteuid(65534)  # root may enter everything
    try:
        for look in (DataDirLock.acquire, check_usable):
            with pytest.raises(LocalFaultError) as caught:
                look(tmp_path)
            assert caught.value.code == "data-dir-unwritable"
            assert "run meshnode as the owner" in caught.value.action
    finally:
        if was == 0:
            os.seteuid(was)
        tmp_path.chmod(0o700)


def test_release_is_harmless_when_done_twice(tmp_path: Path) -> None:
    lock = DataDirLock.acquire(tmp_path)
    lock.release()
    lock.release()
    with DataDirLock.acquire(tmp_path):
        lock.release()
        with pytest.raises(LocalFaultError):
            DataDirLock.acquire(tmp_path)


def _hold(directory: Path, ready: Connection) -> None:
    lock = DataDirLock.acquire(directory)
    ready.send(os.getpid())
    ready.recv()
    lock.release()


def test_the_lock_of_a_killed_daemon_is_free(tmp_path: Path) -> None:
    context = multiprocessing.get_context("forkserver")
    ours, theirs = context.Pipe()
    child = context.Process(target=_hold, args=(tmp_path, theirs))
    child.start()
    theirs.close()
    assert ours.recv() == child.pid
    with pytest.raises(LocalFaultError, match=f"process {child.pid}"):
        DataDirLock.acquire(tmp_path)
    child.kill()
    child.join()
    ours.close()
    DataDirLock.acquire(tmp_path).release()


def test_only_the_owner_may_read_the_lock_file(tmp_path: Path) -> None:
    with DataDirLock.acquire(tmp_path):
        assert (tmp_path / LOCK_FILE).stat().st_mode & 0o777 == 0o600


def test_a_missing_directory_or_a_planted_link_is_refused(tmp_path: Path) -> None:
    with pytest.raises(LocalFaultError, match="data-dir-missing"):
        DataDirLock.acquire(tmp_path / "missing")
    victim = tmp_path / "victim"
    victim.write_text("precious")
    (tmp_path / LOCK_FILE).symlink_to(victim)
    with pytest.raises(LocalFaultError, match="data-dir-unwritable"):
        DataDirLock.acquire(tmp_path)
    assert victim.read_text() == "precious"
