"""Files cut short, damaged, removed, read-only or of another version: each has a code, and nothing wrong is said."""

from __future__ import annotations

import os
import random
import sqlite3
import subprocess
from contextlib import closing
from pathlib import Path

import pytest
from log_builder import (
    INCIDENT,
    LOG,
    LogBuilder,
    crash_image,
    flip,
    keep,
    open_store,
    refused,
    scrub_all,
    write_store,
)

from meshnode.core.log import CommitBatch
from meshnode.errors import LocalFaultError
from meshnode.storage import schema
from meshnode.storage.lock import DataDirLock
from meshnode.storage.schema import MIGRATIONS
from meshnode.storage.sqlite import SqliteLogStore

# --- damage anywhere in the file -------------------------------------------------------------------------------------


def test_no_flipped_bit_in_the_file_makes_the_store_say_what_was_never_written(path: Path, tmp_path: Path) -> None:
    """Any bit, page structure included. Rows may be lost with a code or a count; nothing wrong may be said, and
    nothing but a LocalFaultError may come out."""
    log = write_store(path, count=60)
    whole = path.read_bytes()
    chance = random.Random(20)
    codes = {"store-row-damaged", "store-damaged", "store-foreign", "store-too-new", "store-unwritable"}
    seen: set[str] = set()
    for number in range(150):
        place = chance.randrange(len(whole) * 8) if number % 5 else chance.randrange(100 * 8)
        damaged = tmp_path / f"damaged {number}"
        damaged.write_bytes(flip(whole, place))
        try:
            store = SqliteLogStore.open(damaged, wal_reserve_bytes=0)
        except LocalFaultError as error:
            seen.add(error.code)
            continue
        with closing(store):
            seen |= _read_everything(store, log)
        for file in tmp_path.glob(f"damaged {number}*"):
            file.unlink()
    assert seen <= codes


def _read_everything(store: SqliteLogStore, log: LogBuilder) -> set[str]:
    """The codes of refused reads. Fails when an answer is not what was written."""
    codes: set[str] = set()
    reads = (
        lambda: [entry in log.entries for entry in store.read(INCIDENT, LOG, 1, 100)],
        lambda: [log.entries[head.height - 1].hash == head.hash for head in store.heads(INCIDENT)],
        lambda: [seal == log.seal(seal.seq) for seal in store.seals(INCIDENT, LOG, 1, 100)],
        lambda: [store.find(INCIDENT, entry.hash) in (None, (LOG, entry.seq)) for entry in log.entries],
        lambda: [row == log.applied(row.number, row.number) for row in store.applied_after(0, 100)],
        lambda: [value == b"value of " + key for key, value in store.scan("peers")],
        lambda: [store.get("peers", key) in (None, b"value of " + key) for key in (b"a", b"b", b"c")],
        lambda: [scrub_all(store, limit=50) >= 0],
    )
    for read in reads:
        for _time in range(3):
            try:
                assert all(read())
            except LocalFaultError as error:
                codes.add(error.code)
    return codes


@pytest.mark.parametrize("size_bytes", [0, 50, 100, 4_096, 20_000])
def test_a_file_cut_short_is_refused_with_what_to_do(path: Path, size_bytes: int) -> None:
    write_store(path, count=60)
    os.truncate(path, size_bytes)
    with refused("store-damaged"):
        SqliteLogStore.open(path)


def test_a_page_overwritten_while_the_node_runs_is_reported_and_ends_commits(path: Path) -> None:
    log = write_store(path, count=60)
    with closing(SqliteLogStore.open(path)) as store:
        with path.open("r+b") as file:
            file.seek(4_096)
            file.write(b"\xa5" * (path.stat().st_size - 4_096))
        with refused("store-damaged"):
            store.read(INCIDENT, LOG, 1, 60)
        with refused("store-damaged"):
            store.get("peers", b"a")
        with pytest.raises(LocalFaultError):
            keep(store, CommitBatch(puts=(("peers", b"d", b"x"),)))
        with pytest.raises(LocalFaultError):
            store.stage(log.run(1))


# --- lost and damaged files -----------------------------------------------------------------------------------------


def write_and_crash(path: Path, image: Path, commits: int = 5) -> tuple[LogBuilder, Path]:
    log = LogBuilder()
    store = open_store(path)
    for _commit in range(commits):
        keep(store, log.run(1))
    copy = crash_image(path, image)
    store.close()
    return log, copy


def test_a_deleted_wal_is_reported_and_what_is_left_is_whole(path: Path, tmp_path: Path) -> None:
    log, image = write_and_crash(path, tmp_path / "image")
    schema.wal_path(image).unlink()
    with closing(open_store(image)) as store:
        assert [notice.code for notice in store.notices()] == ["store-wal-missing"]
        assert store.heads(INCIDENT) == []
        keep(store, CommitBatch(entries=tuple(log.entries), seals=(log.seal(5),)))
    with closing(open_store(image)) as store:
        assert store.notices() == ()
        assert store.heads(INCIDENT)[0].height == 5


def test_a_store_that_could_not_be_opened_is_not_said_to_have_lost_its_wal(path: Path) -> None:
    log = write_store(path)
    whole = path.read_bytes()
    with closing(sqlite3.connect(path)) as connection:
        (root,) = connection.execute("SELECT rootpage FROM sqlite_schema WHERE name = 'name'").fetchone()
        (page_bytes,) = connection.execute("PRAGMA page_size").fetchone()
    with path.open("r+b") as file:
        file.seek((root - 1) * page_bytes)
        file.write(b"\xff" * page_bytes)
    with refused("store-damaged"):
        SqliteLogStore.open(path)
    page = whole[(root - 1) * page_bytes : root * page_bytes]
    with path.open("r+b") as file:
        file.seek((root - 1) * page_bytes)
        file.write(page)
    with closing(open_store(path)) as store:
        assert store.notices() == ()
        assert store.read(INCIDENT, LOG, 1, 100) == log.entries


def test_an_unclean_end_alone_is_not_reported(path: Path, tmp_path: Path) -> None:
    log, image = write_and_crash(path, tmp_path / "image")
    with closing(open_store(image)) as store:
        assert store.notices() == ()
        assert store.read(INCIDENT, LOG, 1, 9) == log.entries


@pytest.mark.parametrize("place", [4, 40, 200, 5_000])
def test_a_damaged_wal_is_reported_when_acknowledged_commits_stand_behind_the_damage(
    path: Path, tmp_path: Path, place: int
) -> None:
    log, image = write_and_crash(path, tmp_path / "image")
    wal = schema.wal_path(image)
    data = bytearray(wal.read_bytes())
    data[place] ^= 4
    wal.write_bytes(data)
    with closing(open_store(image)) as store:
        assert [notice.code for notice in store.notices()] == ["store-wal-damaged"]
        height = len(store.read(INCIDENT, LOG, 1, 9))
        assert store.read(INCIDENT, LOG, 1, 9) == log.entries[:height]
        assert height < 5


def test_a_wal_cut_anywhere_opens_to_some_moment_of_the_past(path: Path, tmp_path: Path) -> None:
    log, image = write_and_crash(path, tmp_path / "image")
    whole = schema.wal_path(image).read_bytes()
    store_bytes = image.read_bytes()
    heights = []
    for end in range(0, len(whole) + 1, 1_999):
        cut = tmp_path / f"cut {end}"
        cut.write_bytes(store_bytes)
        schema.wal_path(cut).write_bytes(whole[:end])
        with closing(open_store(cut)) as store:
            height = len(store.read(INCIDENT, LOG, 1, 9))
            assert store.read(INCIDENT, LOG, 1, 9) == log.entries[:height]
            heights.append(height)
    assert heights == sorted(heights)


def test_a_store_gone_while_its_wal_is_there_is_not_begun_anew(path: Path, tmp_path: Path) -> None:
    _log, image = write_and_crash(path, tmp_path / "image")
    image.unlink()
    with refused("store-damaged"):
        open_store(image)
    assert not image.exists()


@pytest.mark.parametrize("name", ["store", "store-wal"])
def test_a_file_removed_under_a_running_node_ends_commits(path: Path, name: str) -> None:
    log = LogBuilder()
    with closing(open_store(path)) as store:
        keep(store, log.run(1))
        path.with_name(name).unlink()
        with refused("store-failed"):
            keep(store, log.run(1))
            store.tidy()
        with refused("store-failed"):
            store.stage(log.run(1))
        assert store.read(INCIDENT, LOG, 1, 1) == log.entries[:1]


# --- read-only places -----------------------------------------------------------------------------------------------


def test_a_read_only_disk_is_refused_at_the_start(disk: Path) -> None:
    open_store(disk / "store").close()
    subprocess.run(["mount", "-o", "remount,ro", disk], check=True)
    with refused("store-unwritable"):
        open_store(disk / "store")
    with refused("store-unwritable"):
        open_store(disk / "other")
    with refused("data-dir-unwritable"):
        DataDirLock.acquire(disk)


def test_a_directory_that_may_not_be_written_is_refused(tmp_path: Path) -> None:
    if os.geteuid() == 0:
        pytest.skip("root may write everywhere; the test with a read-only disk stands for this one")
    open_store(tmp_path / "store").close()
    tmp_path.chmod(0o500)
    try:
        with refused("store-unwritable"):
            open_store(tmp_path / "store")
    finally:
        tmp_path.chmod(0o700)


def test_a_missing_directory_is_refused(tmp_path: Path) -> None:
    with refused("store-unwritable"):
        open_store(tmp_path / "missing" / "store")


def test_only_the_owner_may_read_the_files(path: Path) -> None:
    with closing(open_store(path)) as store:
        keep(store, LogBuilder().run(1))
        for file in path.parent.iterdir():
            assert file.stat().st_mode & 0o077 == 0, file


# --- other versions and other files ---------------------------------------------------------------------------------

LATER = (*MIGRATIONS, ("ALTER TABLE mark ADD COLUMN later INTEGER", "CREATE TABLE newer (id INTEGER) STRICT"))


def test_an_older_store_is_brought_forward_with_everything_in_it(path: Path) -> None:
    log = LogBuilder()
    with closing(open_store(path)) as store:
        keep(store, log.run(3))
    with closing(SqliteLogStore.open(path, migrations=LATER)) as store:
        assert store.read(INCIDENT, LOG, 1, 9) == log.entries
        keep(store, log.run(1))
    with closing(sqlite3.connect(path)) as connection:
        assert connection.execute("PRAGMA user_version").fetchone() == (len(LATER),)
        assert connection.execute("SELECT * FROM newer").fetchall() == []


def test_a_newer_store_is_refused_and_left_alone(path: Path) -> None:
    SqliteLogStore.open(path, migrations=LATER).close()
    before = path.read_bytes()
    with refused("store-too-new"):
        open_store(path)
    assert path.read_bytes() == before


def test_a_migration_that_fails_leaves_the_old_version(path: Path) -> None:
    log = LogBuilder()
    with closing(open_store(path)) as store:
        keep(store, log.run(3))
    with refused("store-damaged"):
        SqliteLogStore.open(path, migrations=(*LATER, ("CREATE TABLE half (id INTEGER)", "not SQL")))
    with closing(open_store(path)) as store:
        assert store.read(INCIDENT, LOG, 1, 9) == log.entries


def test_a_database_of_another_program_is_refused_and_left_alone(path: Path) -> None:
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("CREATE TABLE entry (id INTEGER)")
    before = path.read_bytes()
    with refused("store-foreign"):
        open_store(path)
    assert path.read_bytes() == before


def test_a_file_that_is_no_database_is_refused(path: Path) -> None:
    path.write_bytes(b"precious " * 100)
    with refused("store-damaged"):
        open_store(path)


def test_a_planted_trigger_or_view_is_refused(path: Path) -> None:
    open_store(path).close()
    with closing(sqlite3.connect(path)) as connection, connection:
        connection.execute("CREATE TRIGGER planted AFTER INSERT ON entry BEGIN DELETE FROM entry; END")
    with refused("store-damaged"):
        open_store(path)


def test_a_half_made_store_is_made_again(path: Path) -> None:
    path.with_name("store.new").write_bytes(b"half a store")
    path.with_name("store.new-wal").write_bytes(b"half a store")
    with closing(open_store(path)) as store:
        assert store.incidents() == []
    assert sorted(file.name for file in path.parent.iterdir()) == ["store"]
