"""Full, failing and busy disks: a commit is kept whole or refused with a code, and reads go on."""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import resource
import signal
import sqlite3
from contextlib import closing
from multiprocessing.connection import Connection
from pathlib import Path

import pytest
from log_builder import INCIDENT, LOG, LogBuilder, commit, crash_image, keep, open_store, refused

from meshnode.core.log import CommitBatch
from meshnode.errors import LocalFaultError
from meshnode.storage import schema, writer
from meshnode.storage.faults import translate

# --- a full disk ----------------------------------------------------------------------------------------------------


def fill_up(disk: Path, free_bytes: int = 0) -> None:
    ballast = disk / "ballast"
    ballast.unlink(missing_ok=True)
    space = os.statvfs(disk)
    with ballast.open("wb") as file:
        os.posix_fallocate(file.fileno(), 0, max(space.f_bavail * space.f_frsize - free_bytes, 1))


def test_a_full_disk_refuses_a_commit_keeps_nothing_of_it_and_goes_on_reading(disk: Path, tmp_path: Path) -> None:
    log = LogBuilder()
    with closing(open_store(disk / "store")) as store:
        keep(store, log.run(10))
        fill_up(disk)
        store.stage(log.run(100, size_bytes=2_000))
        ticket = store.begin_commit()
        assert ticket is not None
        with refused("store-full"):
            store.write(ticket)
        assert store.read(INCIDENT, LOG, 1, 200) == log.entries
        with closing(open_store(crash_image(disk / "store", tmp_path / "image"))) as found:
            assert found.read(INCIDENT, LOG, 1, 200) == log.entries[:10]
        (disk / "ballast").unlink()
        store.write(ticket)
        store.end_commit(ticket)
        assert store.read(INCIDENT, LOG, 1, 200) == log.entries
    with closing(open_store(disk / "store")) as store:
        assert store.read(INCIDENT, LOG, 1, 200) == log.entries


def test_a_commit_given_up_on_a_full_disk_leaves_the_store_as_it_was(disk: Path) -> None:
    log = LogBuilder()
    with closing(open_store(disk / "store")) as store:
        keep(store, log.run(10))
        fill_up(disk)
        store.stage(log.run(100, size_bytes=2_000))
        with refused("store-full"):
            commit(store)
        store.stage(log.run(1))
        store.abandon()
        assert store.read(INCIDENT, LOG, 1, 200) == log.entries[:10]
        (disk / "ballast").unlink()
        keep(store, CommitBatch(entries=tuple(log.entries[10:])))
        assert store.read(INCIDENT, LOG, 1, 200) == log.entries


def test_the_disk_may_be_full_at_any_write_of_a_commit(disk: Path, tmp_path: Path) -> None:
    """Each round leaves one page more of room; a commit is whole or absent, also to whoever opens the files."""
    log = LogBuilder()
    outcomes = set()
    with closing(open_store(disk / "store")) as store:
        keep(store, log.run(1))
        for pages in range(14):
            (disk / "ballast").unlink(missing_ok=True)
            store.stage(log.run(5, size_bytes=3_000))
            fill_up(disk, free_bytes=pages * 4_096)
            try:
                commit(store)
                outcomes.add("kept")
            except LocalFaultError as error:
                outcomes.add(error.code)
                store.abandon()
                del log.entries[-5:]
            assert store.read(INCIDENT, LOG, 1, 200) == log.entries
            with closing(open_store(crash_image(disk / "store", tmp_path / str(pages)))) as found:
                assert found.read(INCIDENT, LOG, 1, 200) == log.entries
            with contextlib.suppress(LocalFaultError):
                store.tidy()
    assert outcomes == {"kept", "store-full"}


def test_a_store_on_a_full_disk_is_read_or_says_why_not(disk: Path) -> None:
    """SQLite needs 32 KiB of shared memory to open a WAL at all; with that, reading works and the rest is told."""
    log = LogBuilder()
    with closing(open_store(disk / "store")) as store:
        keep(store, log.run(10))
    outcomes = []
    for pages in range(16):
        fill_up(disk, free_bytes=pages * 4_096)
        try:
            with closing(open_store(disk / "store")) as store:
                assert store.read(INCIDENT, LOG, 1, 20) == log.entries
                outcomes.append([notice.code for notice in store.notices()])
        except LocalFaultError as error:
            outcomes.append(error.code)
    assert outcomes[0] == "store-full"
    assert ["store-full"] in outcomes
    assert outcomes[-1] == []
    assert all(outcome in ("store-full", ["store-full"], []) for outcome in outcomes), outcomes


def test_a_store_that_may_not_grow_refuses_commits_and_tidying_goes_on(path: Path) -> None:
    """The same without a file system of our own: SQLite refuses to add pages."""
    log = LogBuilder()
    with closing(open_store(path)) as store:
        keep(store, log.run(10))
        connection = store._writer._connection
        pages = connection.execute("PRAGMA page_count").fetchone()[0]
        connection.execute(f"PRAGMA max_page_count = {pages}")
        store.stage(log.run(100, size_bytes=2_000))
        ticket = store.begin_commit()
        assert ticket is not None
        with refused("store-full"):
            store.write(ticket)
        store.tidy()
        connection.execute(f"PRAGMA max_page_count = {pages + 1_000}")
        store.write(ticket)
        store.end_commit(ticket)
        assert store.read(INCIDENT, LOG, 1, 200) == log.entries


# --- a failing disk -------------------------------------------------------------------------------------------------


def _meet_write_errors(path: Path, report: Connection) -> None:
    """The child: writes beyond a size fail with EFBIG, which SQLite takes for a failing disk."""
    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    log = LogBuilder()
    store = open_store(path)
    keep(store, log.run(10))
    _soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (path.with_name("store-wal").stat().st_size, hard))
    codes = []
    for _time in range(2):
        try:
            store.stage(log.run(100, size_bytes=2_000))
            commit(store)
        except LocalFaultError as error:
            codes.append(error.code)
        resource.setrlimit(resource.RLIMIT_FSIZE, (hard, hard))
    try:
        store.begin_commit()
    except LocalFaultError as error:
        codes.append(error.code)
    report.send((codes, len(store.read(INCIDENT, LOG, 1, 10)), store.tidy_due()))
    store.close()


def test_after_a_failed_write_no_commit_is_accepted_until_the_store_is_opened_again(path: Path) -> None:
    context = multiprocessing.get_context("forkserver")
    ours, theirs = context.Pipe(duplex=False)
    child = context.Process(target=_meet_write_errors, args=(path, theirs))
    child.start()
    theirs.close()
    assert ours.recv() == (["store-failed"] * 3, 10, False)
    child.join()
    ours.close()
    with closing(open_store(path)) as store:
        assert store.notices() == ()  # nobody removed its write-ahead log: closing it did not either
        log = LogBuilder()
        log.grow(10)
        assert store.read(INCIDENT, LOG, 1, 200) == log.entries
        keep(store, log.run(1))


@pytest.mark.parametrize(
    ("errorcode", "code"),
    [
        (sqlite3.SQLITE_FULL, "store-full"),
        (sqlite3.SQLITE_IOERR_SHMSIZE, "store-full"),
        (sqlite3.SQLITE_BUSY, "store-busy"),
        (sqlite3.SQLITE_IOERR_FSYNC, "store-failed"),
        (sqlite3.SQLITE_IOERR_WRITE, "store-failed"),
        (sqlite3.SQLITE_READONLY, "store-failed"),
        (sqlite3.SQLITE_CORRUPT, "store-damaged"),
        (sqlite3.SQLITE_NOTADB, "store-damaged"),
        (sqlite3.SQLITE_ERROR, "store-damaged"),
    ],
)
def test_errors_of_sqlite_have_codes_of_ours(errorcode: int, code: str) -> None:
    error = sqlite3.OperationalError("text")
    error.sqlite_errorcode = errorcode
    error.sqlite_errorname = "NAME"
    translated = translate(error, "testing")
    assert (translated.code, bool(translated.action)) == (code, True)


def test_a_closed_store_says_so(path: Path) -> None:
    store = open_store(path)
    keep(store, LogBuilder().run(1))
    store.close()
    store.close()
    with refused("store-closed"):
        store.read(INCIDENT, LOG, 1, 1)
    store.stage(CommitBatch(puts=(("a", b"", b""),)))
    with refused("store-closed"):
        commit(store)


def test_another_writer_makes_a_commit_wait_and_then_be_tried_again(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(schema, "BUSY_TIMEOUT_MS", 1)
    with closing(open_store(path)) as store, closing(sqlite3.connect(path, isolation_level=None)) as other:
        store.stage(LogBuilder().run(1))
        ticket = store.begin_commit()
        assert ticket is not None
        other.execute("BEGIN IMMEDIATE")
        with refused("store-busy"):
            store.write(ticket)
        other.execute("ROLLBACK")
        store.write(ticket)
        store.end_commit(ticket)


# --- the size of the WAL --------------------------------------------------------------------------------------------


def test_the_wal_is_bounded_when_nobody_tidies(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("meshnode.storage.sqlite.FORCE_FRAMES", 60)
    log = LogBuilder()
    with closing(open_store(path)) as store:
        for _commit in range(60):
            keep(store, log.run(1))
        assert schema.wal_path(path).stat().st_size < 70 * (writer.PAGE_BYTES + 24)


def test_tidying_is_due_after_some_commits_and_then_no_more(path: Path) -> None:
    log = LogBuilder()
    with closing(open_store(path)) as store:
        assert not store.tidy_due()
        for _commit in range(10):
            keep(store, log.run(300, size_bytes=10))
        assert store.tidy_due()
        store.tidy()
        assert not store.tidy_due()
        assert store.store_bytes() == path.stat().st_size + schema.wal_path(path).stat().st_size
