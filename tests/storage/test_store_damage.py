"""Damage on disk is noticed when it is read, set aside and repaired; the store never says what was never written."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from pathlib import Path

import pytest
from log_builder import (
    INCIDENT,
    LOG,
    LogBuilder,
    commit,
    crash_image,
    flip,
    keep,
    name,
    refused,
    scrub_all,
    write_store,
)

from meshnode.core.ids import LogId
from meshnode.core.log import CommitBatch, LogHead
from meshnode.storage.rows import DAMAGE_BYTES_MAX
from meshnode.storage.sqlite import SqliteLogStore


def rot(path: Path, statement: str, *parameters: object) -> None:
    """Change rows of a closed store behind its back."""
    with closing(sqlite3.connect(path)) as connection, connection:
        connection.execute(statement, parameters)


def flip_where(path: Path, content: bytes, bit: int) -> None:
    """Flip one bit of bytes that stand somewhere in the closed file."""
    data = path.read_bytes()
    assert data.count(content) >= 1
    path.write_bytes(data.replace(content, flip(content, bit)))


# --- entries --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("bit", [0, 777, 1599])
def test_a_flipped_bit_in_an_entry_is_noticed_set_aside_and_fetched_again(path: Path, bit: int) -> None:
    log = write_store(path)
    flip_where(path, log.entries[4].sealed, bit)
    with closing(SqliteLogStore.open(path)) as store:
        with refused("store-row-damaged"):
            store.read(INCIDENT, LOG, 1, 9)
        assert store.damaged() == 1
        assert store.read(INCIDENT, LOG, 1, 9) == log.entries[:4]
        assert store.read(INCIDENT, LOG, 6, 9) == log.entries[5:]
        assert store.heads(INCIDENT) == [LogHead(LOG, 3, log.entries[2].hash)]
        assert store.find(INCIDENT, log.entries[4].hash) is None
        keep(store, CommitBatch(entries=tuple(log.entries[3:9]), seals=(log.seal(9),)))
        assert store.heads(INCIDENT) == [LogHead(LOG, 9, log.entries[8].hash)]
        assert store.read(INCIDENT, LOG, 1, 9) == log.entries
        assert store.find(INCIDENT, log.entries[4].hash) == (LOG, 5)
        assert store.damaged() == 1


@pytest.mark.parametrize(
    "column", ["prefix = prefix + 1", "previous = zeroblob(32)", "key = key + 1", "package = x'00'", "key = 0"]
)
def test_a_change_in_any_column_of_an_entry_is_noticed(path: Path, column: str) -> None:
    write_store(path)
    rot(path, f"UPDATE entry SET {column} WHERE place & 255 = 5")
    with closing(SqliteLogStore.open(path)) as store, refused("store-row-damaged"):
        store.read(INCIDENT, LOG, 5, 5)


@pytest.mark.parametrize("seq", [5, 9])
def test_an_entry_that_stands_in_another_place_or_is_gone_is_noticed(path: Path, seq: int) -> None:
    log = write_store(path)
    rot(path, "UPDATE entry SET place = place + 1000 WHERE place & 255 = ?", seq)
    with closing(SqliteLogStore.open(path)) as store:
        if seq == 5:
            with refused("store-row-damaged"):
                store.read(INCIDENT, LOG, 1, 9)
        assert store.read(INCIDENT, LOG, 1, 2_000) == log.entries[: seq - 1]
        assert store.heads(INCIDENT)[0].height == (3 if seq == 5 else 6)
        assert store.damaged() >= 1
        keep(store, CommitBatch(entries=tuple(log.entries[3:9]), seals=(log.seal(9),)))
        assert store.read(INCIDENT, LOG, 1, 2_000) == log.entries
    with closing(SqliteLogStore.open(path)) as store:
        assert store.read(INCIDENT, LOG, 1, 2_000) == log.entries


def test_a_log_that_lost_its_end_is_counted_and_fetched_again(path: Path) -> None:
    log = write_store(path)
    rot(path, "DELETE FROM entry WHERE place & 255 >= 8")
    with closing(SqliteLogStore.open(path)) as store:
        assert store.heads(INCIDENT) == [LogHead(LOG, 6, log.entries[5].hash)]
        assert store.damaged() == 1
        keep(store, CommitBatch(entries=tuple(log.entries[6:9]), seals=(log.seal(9),)))
        assert store.read(INCIDENT, LOG, 1, 9) == log.entries
    with closing(SqliteLogStore.open(path)) as store:
        assert (store.heads(INCIDENT)[0].height, store.damaged()) == (9, 0)


def test_a_row_set_aside_stays_aside_after_a_restart_and_is_kept_for_examination(path: Path) -> None:
    log = write_store(path)
    flip_where(path, log.entries[4].sealed, 9)
    with closing(SqliteLogStore.open(path)) as store:
        with refused("store-row-damaged"):
            store.read(INCIDENT, LOG, 1, 9)
        commit(store)
    with closing(SqliteLogStore.open(path)) as store:
        assert store.read(INCIDENT, LOG, 1, 9) == log.entries[:4]
        assert store.heads(INCIDENT)[0].height == 3
        assert store.damaged() == 0
        with closing(sqlite3.connect(path)) as connection:
            kept = connection.execute("SELECT content FROM damaged").fetchall()
        assert repr(flip(log.entries[4].sealed, 9)).encode() in kept[0][0]
        keep(store, CommitBatch(entries=(log.entries[4],)))
        assert store.heads(INCIDENT)[0].height == 9
    with closing(sqlite3.connect(path)) as connection:
        assert connection.execute("SELECT count(*) FROM damaged").fetchall() == [(0,)]


def test_damage_that_was_not_committed_is_found_again_after_a_crash(path: Path, tmp_path: Path) -> None:
    log = write_store(path)
    flip_where(path, log.entries[4].sealed, 9)
    store = SqliteLogStore.open(path)
    with refused("store-row-damaged"):
        store.read(INCIDENT, LOG, 1, 9)
    image = crash_image(path, tmp_path / "image")
    store.close()
    with closing(SqliteLogStore.open(image)) as store, refused("store-row-damaged"):
        store.read(INCIDENT, LOG, 1, 9)


def test_abandon_does_not_forget_damage(path: Path) -> None:
    log = write_store(path)
    flip_where(path, log.entries[4].sealed, 9)
    with closing(SqliteLogStore.open(path)) as store:
        with refused("store-row-damaged"):
            store.read(INCIDENT, LOG, 1, 9)
        store.stage(CommitBatch(entries=(log.entries[4],)))
        assert store.read(INCIDENT, LOG, 1, 9) == log.entries
        store.begin_commit()
        store.abandon()
        assert store.read(INCIDENT, LOG, 1, 9) == log.entries[:4]
        keep(store, CommitBatch(entries=(log.entries[4],)))
        assert store.read(INCIDENT, LOG, 1, 9) == log.entries


def test_another_entry_is_not_taken_for_a_position_that_is_only_damaged_above(path: Path) -> None:
    write_store(path)
    rival = LogBuilder()
    rival.grow(9, size_bytes=99)
    with closing(SqliteLogStore.open(path)) as store, pytest.raises(ValueError, match="another entry"):
        store.stage(CommitBatch(entries=(rival.entries[4],)))


def test_what_is_kept_of_a_damaged_row_is_bounded(path: Path) -> None:
    log = LogBuilder()
    with closing(SqliteLogStore.open(path)) as store:
        keep(store, CommitBatch(entries=log.grow(1, size_bytes=200_000)))
    rot(path, "UPDATE entry SET prefix = 1")
    with closing(SqliteLogStore.open(path)) as store:
        assert store.heads(INCIDENT) == []
        assert store.damaged() == 1
        commit(store)
    with closing(sqlite3.connect(path)) as connection:
        assert connection.execute("SELECT max(length(content)) FROM damaged").fetchall() == [(DAMAGE_BYTES_MAX,)]


# --- other rows -----------------------------------------------------------------------------------------------------


def test_a_flipped_bit_in_a_seal_is_noticed_and_the_seal_can_come_again(path: Path) -> None:
    log = write_store(path)
    flip_where(path, log.seal(9).signature, 100)
    with closing(SqliteLogStore.open(path)) as store:
        with refused("store-row-damaged"):
            store.seals(INCIDENT, LOG, 1, 9)
        assert store.seals(INCIDENT, LOG, 1, 9) == [log.seal(3), log.seal(6)]
        assert store.heads(INCIDENT)[0].height == 6
        assert store.damaged() == 1
        keep(store, CommitBatch(seals=(log.seal(9),)))
        assert store.seals(INCIDENT, LOG, 4, 9) == [log.seal(6), log.seal(9)]
        assert store.heads(INCIDENT)[0].height == 9


def test_heads_fall_back_below_a_damaged_seal_without_an_error(path: Path) -> None:
    log = write_store(path)
    flip_where(path, log.seal(9).signature, 100)
    with closing(SqliteLogStore.open(path)) as store:
        assert store.heads(INCIDENT) == [LogHead(LOG, 6, log.entries[5].hash)]
        assert store.damaged() == 1


@pytest.mark.parametrize("statement", ["SET place = place + 1", 'SET "check" = 0', "SET number = number + 100"])
def test_a_damaged_journal_row_is_noticed_and_the_rest_goes_on(path: Path, statement: str) -> None:
    write_store(path)
    rot(path, f"UPDATE journal {statement} WHERE number = 4")
    with closing(SqliteLogStore.open(path)) as store:
        with refused("store-row-damaged"):
            store.applied_after(0, 100)
        assert [row.number for row in store.applied_after(0, 100)] == [1, 2, 3, 5, 6, 7, 8, 9]
        assert [row.number for row in store.applied_after(2, 3)] == [3, 5, 6]
        assert store.applied_last() == 9


def test_a_damaged_last_journal_row_gives_its_number_free_at_the_next_opening(path: Path) -> None:
    log = write_store(path)
    rot(path, 'UPDATE journal SET "check" = 0 WHERE number = 9')
    with closing(SqliteLogStore.open(path)) as store:
        assert (store.applied_last(), store.damaged()) == (8, 1)
        keep(store, CommitBatch(applied=(log.applied(9, 9),)))
        assert [row.number for row in store.applied_after(7, 9)] == [8, 9]


def test_a_journal_hole_can_be_filled(path: Path) -> None:
    log = write_store(path)
    rot(path, "DELETE FROM journal WHERE number = 4")
    with closing(SqliteLogStore.open(path)) as store:
        with refused("store-row-damaged"):
            store.applied_after(0, 100)
        keep(store, CommitBatch(applied=(log.applied(4, 4),)))
        assert [row.number for row in store.applied_after(0, 100)] == list(range(1, 10))


@pytest.mark.parametrize("column", ["value = x'00'", "key = x'00'", '"check" = 0', "namespace = CAST('peerz' AS BLOB)"])
def test_a_damaged_value_is_noticed_and_can_be_put_again(path: Path, column: str) -> None:
    write_store(path)
    rot(path, f"UPDATE value SET {column} WHERE key = CAST('b' AS BLOB)")
    with closing(SqliteLogStore.open(path)) as store:
        if column.startswith("namespace"):
            assert scrub_all(store) == 1
        else:
            with refused("store-row-damaged"):
                store.scan("peers")
        assert store.damaged() == 1
        assert [key for key, _value in store.scan("peers")] == [b"a", b"c"]
        assert store.get("peers", b"b") is None
        keep(store, CommitBatch(puts=(("peers", b"b", b"new"),)))
        assert store.get("peers", b"b") == b"new"
        assert len(store.scan("peers")) == 3
    with closing(SqliteLogStore.open(path)) as store:
        assert len(store.scan("peers")) == 3


def test_get_of_a_damaged_value_is_refused_once(path: Path) -> None:
    write_store(path)
    flip_where(path, b"value of b", 3)
    with closing(SqliteLogStore.open(path)) as store:
        with refused("store-row-damaged"):
            store.get("peers", b"b")
        assert store.get("peers", b"b") is None


def test_one_damaged_copy_of_a_name_costs_nothing(path: Path) -> None:
    log = write_store(path)
    rot(path, "UPDATE name SET name = zeroblob(32) WHERE kind = 2")
    rot(path, "UPDATE name SET twin = zeroblob(16) WHERE kind = 1")
    with closing(SqliteLogStore.open(path)) as store:
        assert store.read(INCIDENT, LOG, 1, 9) == log.entries
        assert store.damaged() == 0


@pytest.mark.parametrize("kind", [1, 2, 3])
def test_a_lost_name_costs_its_log_which_can_be_fetched_again(path: Path, kind: int) -> None:
    log = write_store(path)
    rot(path, "UPDATE name SET name = x'00', twin = x'01' WHERE kind = ?", kind)
    with closing(SqliteLogStore.open(path)) as store:
        assert store.heads(INCIDENT) == []
        assert store.damaged() >= 1
        for position in range(0, 9, 3):
            entries = tuple(log.entries[position : position + 3])
            keep(store, CommitBatch(entries=entries, seals=(log.seal(position + 3),)))
        assert store.read(INCIDENT, LOG, 1, 9) == log.entries
        assert scrub_all(store) == 0
    with closing(SqliteLogStore.open(path)) as store:
        assert store.read(INCIDENT, LOG, 1, 9) == log.entries
        other = LogBuilder(log=LogId(name("another", 32)))
        keep(store, other.run(1))
        assert store.read(INCIDENT, LOG, 1, 9) == log.entries


# --- scrub ----------------------------------------------------------------------------------------------------------


def test_a_scrub_finds_damage_that_nobody_reads(path: Path) -> None:
    log = write_store(path)
    flip_where(path, log.entries[4].sealed, 5)
    flip_where(path, log.seal(3).signature, 5)
    flip_where(path, b"value of c", 5)
    rot(path, "UPDATE journal SET place = place + 1 WHERE number = 2")
    with closing(SqliteLogStore.open(path)) as store:
        assert scrub_all(store) == store.damaged() == 4
        assert scrub_all(store) == 0
        assert store.heads(INCIDENT) == []
        commit(store)
        assert scrub_all(store) == 0


def test_a_scrub_puts_back_what_the_search_by_hash_lost(path: Path) -> None:
    log = write_store(path)
    rot(path, "DELETE FROM entry_by_hash WHERE place & 255 = 5")
    with closing(SqliteLogStore.open(path)) as store:
        assert store.find(INCIDENT, log.entries[4].hash) is None
        assert scrub_all(store) == 1
        commit(store)
        assert store.find(INCIDENT, log.entries[4].hash) == (LOG, 5)
        assert scrub_all(store) == 0


def test_a_scrub_leaves_rows_alone_that_are_being_written_anew(path: Path) -> None:
    write_store(path)
    flip_where(path, b"value of b", 3)
    with closing(SqliteLogStore.open(path)) as store:
        store.stage(CommitBatch(puts=(("peers", b"b", b"new"),)))
        ticket = store.begin_commit()
        assert ticket is not None
        assert scrub_all(store) == 0
        store.write(ticket)
        store.end_commit(ticket)
        assert store.begin_commit() is None
        assert store.get("peers", b"b") == b"new"


# --- rows that are not there ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("limit", [2, 4, 100])
def test_a_scrub_notices_entries_that_are_gone_by_the_gap_in_their_log(path: Path, limit: int) -> None:
    log = write_store(path)
    rot(path, "DELETE FROM entry WHERE place & 4294967295 IN (2, 3, 4, 7)")
    with closing(SqliteLogStore.open(path)) as store:
        assert scrub_all(store, limit) == 4
        assert scrub_all(store, limit) == 0, "each is told once"
        assert store.heads(INCIDENT) == []
        keep(store, CommitBatch(entries=tuple(log.entries[1:9]), seals=(log.seal(9),)))
        assert store.heads(INCIDENT) == [LogHead(LOG, 9, log.entries[8].hash)]
        assert scrub_all(store, limit) == 0


def test_a_whole_log_that_is_gone_under_a_running_node_is_noticed(path: Path) -> None:
    log = write_store(path)
    with closing(SqliteLogStore.open(path)) as store:
        assert store.heads(INCIDENT) == [LogHead(LOG, 9, log.entries[8].hash)]
        rot(path, "DELETE FROM entry")
        assert scrub_all(store) == 9
        assert store.heads(INCIDENT) == []


def test_an_end_that_was_lost_with_its_seals_is_noticed_by_the_journal(path: Path) -> None:
    log = write_store(path)
    rot(path, "DELETE FROM entry WHERE place & 4294967295 > 6")
    rot(path, "DELETE FROM seal WHERE place & 4294967295 > 6")
    with closing(SqliteLogStore.open(path)) as store:
        assert store.heads(INCIDENT) == [LogHead(LOG, 6, log.entries[5].hash)]
        assert store.damaged() == 0, "it looks like a shorter log"
        assert scrub_all(store) == 3
        keep(store, CommitBatch(entries=tuple(log.entries[6:9]), seals=(log.seal(9),)))
        assert store.heads(INCIDENT) == [LogHead(LOG, 9, log.entries[8].hash)]
        assert store.read(INCIDENT, LOG, 1, 9) == log.entries
        assert scrub_all(store) == 0
    with closing(SqliteLogStore.open(path)) as store:
        assert store.read(INCIDENT, LOG, 1, 9) == log.entries
        assert scrub_all(store) == 0


def test_a_scrub_notices_journal_rows_that_are_gone_and_believes_no_damaged_number(path: Path) -> None:
    log = write_store(path)
    rot(path, "DELETE FROM journal WHERE number IN (3, 4)")
    rot(path, "UPDATE journal SET number = number + (1 << 40) WHERE number = 9")
    with closing(SqliteLogStore.open(path)) as store:
        assert scrub_all(store) + store.damaged() >= 3
        assert scrub_all(store) == 0
        assert [row.seq for row in store.applied_after(0, 10)] == [1, 2, 5, 6, 7, 8]
    assert len(log.entries) == 9


def test_entries_of_a_lost_name_are_missed_by_nobody(path: Path) -> None:
    write_store(path)
    rot(path, "UPDATE name SET name = x'00', twin = x'00' WHERE kind = 2")
    with closing(SqliteLogStore.open(path)) as store:
        before = store.damaged()
        assert before == 1
        assert scrub_all(store) == 0


@pytest.mark.parametrize("number", [5, 9])
def test_a_journal_row_of_another_type_is_damage_and_no_exception(path: Path, number: int) -> None:
    """One flipped bit takes the columns away: each row says itself how many there are, and of what type."""
    write_store(path)
    row = bytes([number, 4, 0, 5, 6])
    """Its number, the length of what follows, and the types of its columns: none, six bytes, eight bytes."""
    flip_where(path, row, 8 * 1 + 2)
    with closing(SqliteLogStore.open(path)) as store:
        with closing(sqlite3.connect(path)) as connection:
            query = "SELECT typeof(place) FROM journal WHERE number = ?"
            assert connection.execute(query, (number,)).fetchone() == ("null",)
        scrub_all(store)
        assert store.damaged() == 1
        assert store.applied_last() == (9 if number == 5 else 8)
        assert number not in [row.number for row in store.applied_after(0, 10)]
