"""Rows that rot on disk are noticed, set aside and fetched again from peers; nobody stops (I11, D3)."""

from __future__ import annotations

import sqlite3
import tempfile
from collections.abc import Iterator
from contextlib import closing, suppress
from pathlib import Path

import pytest
from core_support import refused
from forger import Forger
from node_stories import alike, log_texts, logs_of, values
from world import World

from meshnode.core import epochs
from meshnode.core.events import Tick
from meshnode.core.log import Entry
from meshnode.core.prekeys import PrekeySecret
from meshnode.errors import LocalFaultError, RefusedError
from meshnode.storage.sqlite import SqliteLogStore
from meshnode.storage.ticket import SCRUB_START


class RottenDisk:
    """BE on SQLite, with NL and DE beside it; BE's file can be changed while BE is down."""

    def __init__(self, path: Path, seed: int = 5) -> None:
        self.path = path
        self.world = World(seed)
        self.nl, self.de = self.world.add("NL"), self.world.add("DE", peers=("NL:1",))
        self.be = self.world.add("BE", peers=("NL:1", "DE:1"), store=SqliteLogStore.open(path))
        self.world.run(5.0)
        self.incident = self.world.open(self.be, share=("NL", "DE"))
        self.world.run(1.0)
        for number in range(4):
            for host in (self.be, self.nl, self.de):
                self.world.log(host, self.incident, f"{host.name} {number}")
                self.world.run(0.2)
        self.world.run(1.0)

    def stop(self, clean: bool) -> None:
        (self.world.stop if clean else self.world.crash)(self.be)
        assert isinstance(self.be.store, SqliteLogStore)
        self.be.store.close()

    def rot(self, table: str, column: str, row: int, value: object) -> bool:
        """False when there is no such row."""
        with closing(sqlite3.connect(self.path)) as connection, connection:
            keys = "namespace, key" if table == "value" else "number" if table == "journal" else "place"
            rows = connection.execute(f"SELECT {keys} FROM {table} ORDER BY {keys}").fetchall()
            if row >= len(rows):
                return False
            where = " AND ".join(f"{key} = ?" for key in keys.split(", "))
            connection.execute(f"UPDATE {table} SET {column} = ? WHERE {where}", (value, *rows[row]))
            return True

    def start(self) -> None:
        self.be.store = SqliteLogStore.open(self.path)
        self.world.restart(self.be)

    def close(self) -> None:
        assert isinstance(self.be.store, SqliteLogStore)
        self.be.store.close()

    def scrub(self) -> None:
        """As the daemon does in the background."""
        position = SCRUB_START
        while (position := self.be.store.scrub(position, 5).following) != SCRUB_START:
            pass
        self.world.step(self.be, [Tick()])

    def read_everything(self) -> None:
        """As a scrub does: what is damaged is found, and one reader after the other is told of it."""
        for log, height in self.be.node.incidents.replicas[self.incident].merged_heads():
            for seq in range(1, height + 1):
                with suppress(LocalFaultError):
                    self.be.store.read(self.incident, log, seq, seq)
        self.world.step(self.be, [Tick()])
        self.world.run(30.0)

    def check_whole(self) -> None:
        """All members alike, everything readable, and BE can write on."""
        self.read_everything()
        hosts = [self.be, self.nl, self.de]
        self.world.log(self.be, self.incident, "after the damage")
        self.world.run(90.0)
        alike(hosts, self.incident)
        for host in hosts:
            assert len(log_texts(host, self.incident)) == 13
            assert len(host.reading.history_page(self.incident, "", 1000, None).items) >= 14
        assert len({host.node.holdings.digest() for host in hosts}) == 1


@pytest.fixture
def disk() -> Iterator[RottenDisk]:
    memory = Path("/dev/shm")  # every commit is synced: a real disk would take most of the time
    with tempfile.TemporaryDirectory(dir=memory if memory.is_dir() else None) as directory:
        disk = RottenDisk(Path(directory) / "store")
        yield disk
        disk.close()


@pytest.mark.parametrize("row", [0, 1, 5, 13])
@pytest.mark.parametrize("clean", [True, False], ids=["clean stop", "crash"])
def test_a_damaged_entry_is_fetched_again_from_peers(disk: RottenDisk, row: int, clean: bool) -> None:
    disk.stop(clean)
    assert disk.rot("entry", "sealed", row, bytes(64))
    disk.start()
    disk.world.run(30.0)
    disk.check_whole()
    assert "store-row-damaged" in disk.be.codes


@pytest.mark.parametrize(("table", "column"), [("seal", "signature"), ("journal", "place"), ("value", "value")])
def test_no_damaged_row_of_any_table_stops_the_node_or_costs_anything(
    disk: RottenDisk, table: str, column: str
) -> None:
    """Checkpoint, keys, prekeys, roster, packages, seals, journal: one after the other, with what it costs repaired."""
    damaged = 0
    for row in range(14):
        disk.stop(clean=table == "value" and row % 2 == 0)
        if not disk.rot(table, column, row, 7 if column == "place" else b"rotten"):
            disk.start()
            break
        disk.start()
        disk.world.run(30.0)
        alike([disk.be, disk.nl, disk.de], disk.incident)
        assert len(log_texts(disk.be, disk.incident)) == 12
        damaged += "store-row-damaged" in disk.be.codes
    assert damaged >= 3
    disk.check_whole()


@pytest.mark.parametrize("alone", [False, True])
def test_a_row_of_the_own_log_that_rots_under_the_running_node_is_repaired(disk: RottenDisk, alone: bool) -> None:
    """What is written before it is repaired moves to a new log."""
    (own,) = logs_of(disk.be, disk.incident)
    if alone:
        disk.world.partition("BE")
        disk.world.run(1.0)
    with closing(sqlite3.connect(disk.path)) as connection, connection:
        connection.execute("UPDATE entry SET sealed = zeroblob(70) WHERE place & 255 = 3")
    replica = disk.be.node.incidents.replicas[disk.incident]
    for _ in range(2):  # the first reader and the next are told the same
        with refused("store-row-damaged", error=LocalFaultError):
            replica.read_content(own, 3)
    disk.world.step(disk.be, [Tick()])
    assert "store-row-damaged" in disk.be.codes
    for number in range(2):
        disk.world.log(disk.be, disk.incident, f"meanwhile {number}")
        disk.world.run(40.0)
    disk.world.heal()
    disk.world.run(90.0)
    disk.read_everything()
    alike([disk.be, disk.nl, disk.de], disk.incident)
    assert len(log_texts(disk.be, disk.incident)) == len(log_texts(disk.nl, disk.incident)) == 14
    assert len(logs_of(disk.be, disk.incident)) == 2


@pytest.mark.parametrize("row", [0, 1, 4, 9, 13])
def test_a_node_that_is_alone_with_a_damaged_row_goes_on_writing(disk: RottenDisk, row: int) -> None:
    disk.stop(clean=True)
    disk.rot("entry", "sealed", row, bytes(64))
    disk.world.crash(disk.nl)
    disk.world.crash(disk.de)
    disk.start()
    for number in range(3):
        disk.world.log(disk.be, disk.incident, f"alone {number}")
        disk.world.run(1.0)
    disk.world.restart(disk.nl)
    disk.world.restart(disk.de)
    disk.world.run(90.0)
    disk.read_everything()
    alike([disk.be, disk.nl, disk.de], disk.incident)
    assert len(log_texts(disk.nl, disk.incident)) == 15


def test_reading_and_writing_without_the_keys_that_damage_took_is_refused(disk: RottenDisk) -> None:
    """The keys of what a checkpoint says was merged are gone, and the prekeys that could open them again."""
    disk.stop(clean=True)
    with closing(sqlite3.connect(disk.path)) as connection, connection:
        lost = "CAST('epoch-key' AS BLOB), CAST('prekey-ring' AS BLOB)"
        connection.execute(f"UPDATE value SET value = zeroblob(9) WHERE namespace IN ({lost})")
    disk.start()
    replica = disk.be.node.incidents.replicas[disk.incident]
    assert replica.merged
    assert not replica.keys
    with refused("store-row-damaged", error=LocalFaultError):
        disk.be.reading.incident(disk.incident)
    with refused("no-usable-key", error=RefusedError):
        disk.world.log(disk.be, disk.incident, "x")


def _damage(disk: RottenDisk, *entries: Entry) -> None:
    with closing(sqlite3.connect(disk.path)) as connection, connection:
        for entry in entries:
            connection.execute("UPDATE entry SET sealed = zeroblob(90) WHERE sealed = ?", (entry.sealed,))


@pytest.mark.parametrize("lost", ["the head behind it", "its own entry", "another head"])
def test_a_value_is_replaced_beside_damage_as_long_as_its_own_entry_can_be_named(disk: RottenDisk, lost: str) -> None:
    """BE is alone, its own log is a new one, and the title stands in the one before (decision 0063)."""
    head_too = lost == "its own entry"
    log, seq = disk.world.set(disk.be, disk.incident, "title", "Smoke").dots[0][:2]
    if not head_too:
        disk.world.log(disk.be, disk.incident, "the head")
    disk.world.run(5.0)
    if lost == "another head":
        log, seq = disk.world.log(disk.nl, disk.incident, "another head").dots[0][:2]
        disk.world.run(5.0)
    head = disk.be.store.read(disk.incident, log, seq, seq + 10)[-1]
    disk.stop(clean=True)
    _damage(disk, head)
    disk.world.crash(disk.nl)
    disk.world.crash(disk.de)
    disk.start()
    if head_too:
        for _ in range(2):
            with refused("store-row-damaged", error=LocalFaultError):
                disk.world.set(disk.be, disk.incident, "title", "Fire")
        disk.world.log(disk.be, disk.incident, "other writes go on")
    else:
        disk.world.set(disk.be, disk.incident, "title", "Fire")
    disk.world.restart(disk.nl)
    disk.world.restart(disk.de)
    disk.world.run(90.0)
    if head_too:
        disk.world.set(disk.be, disk.incident, "title", "Fire")
        disk.world.run(5.0)
    disk.read_everything()
    hosts = [disk.be, disk.nl, disk.de]
    alike(hosts, disk.incident)
    for host in hosts:
        assert values(host, disk.incident, "title") == ["Fire"]
        assert not any(item.void for item in host.reading.history_page(disk.incident, "", 1_000, None).items)


def test_many_entries_damaged_at_once_are_all_fetched_again(disk: RottenDisk) -> None:
    disk.stop(clean=False)
    with closing(sqlite3.connect(disk.path)) as connection, connection:
        connection.execute("UPDATE entry SET sealed = zeroblob(90) WHERE place % 2 = 0")
    disk.start()
    disk.world.run(30.0)
    disk.check_whole()


def test_when_everything_is_damaged_and_nobody_is_there_a_write_is_refused_with_the_reason(disk: RottenDisk) -> None:
    disk.stop(clean=True)
    for host in (disk.nl, disk.de):
        disk.world.crash(host)
    with closing(sqlite3.connect(disk.path)) as connection, connection:
        connection.execute("UPDATE entry SET sealed = zeroblob(90)")
    disk.start()
    for _ in range(3):
        with refused("store-row-damaged", error=LocalFaultError):
            disk.world.log(disk.be, disk.incident, "x")
    for host in (disk.nl, disk.de):
        disk.world.restart(host)
    disk.world.run(90.0)
    disk.check_whole()


def test_a_branch_that_differs_from_what_stands_behind_a_damaged_row_is_a_fork(disk: RottenDisk) -> None:
    """Entry 2 of a hostile log is lost; its writer then hands over another entry 3 than the one that is stored."""
    forger = Forger(disk.world, disk.nl, disk.incident)
    for number in range(3):
        forger.say(f"number {number}")
        forger.hand(forger.run(forger.entries[-1:]), disk.be)
        disk.world.run(0.1)
    disk.stop(clean=True)
    with closing(sqlite3.connect(disk.path)) as connection, connection:
        (place,) = connection.execute(
            "SELECT place FROM entry WHERE sealed = ?", (forger.entries[1].sealed,)
        ).fetchone()
        connection.execute("UPDATE entry SET sealed = zeroblob(90) WHERE place = ?", (place,))
    for host in (disk.nl, disk.de):
        disk.world.partition(host.name)
    disk.start()
    for seq in (2, 2):
        with suppress(LocalFaultError):
            disk.be.store.read(disk.incident, forger.log, seq, seq)
    disk.world.step(disk.be, [Tick()])
    assert disk.be.node.holdings.head(disk.incident, forger.log)[0] == 1
    other = Forger(disk.world, disk.nl, disk.incident)
    other.entries = forger.entries[:2]
    other.say("another number 2")
    disk.world.heal()
    disk.world.filter = lambda sender, receiver, data: [] if data[1] == 5 else [data]
    disk.world.run(5.0)
    disk.world.filter = lambda _a, _b, data: [data]
    other.hand(other.run(other.entries[1:]), disk.be)
    disk.world.run(0.05)
    assert "log-forked" in disk.be.codes
    assert any(link.peer is disk.nl for link in disk.be.links.values())
    disk.world.run(90.0)
    disk.world.log(disk.be, disk.incident, "goes on")


class _WrongBoxes(epochs.HpkeSealer):
    """Boxes that open, with another key in them than the one they are named for."""

    def seal(self, mlkem: bytes, x25519: bytes, info: bytes, plaintext: bytes) -> bytes:
        return super().seal(mlkem, x25519, info, plaintext[::-1])

    def open(self, secret: PrekeySecret, info: bytes, box: bytes) -> bytes | None:
        raise AssertionError("it only seals")


def test_packages_with_wrong_keys_and_malformed_ones_are_told_also_when_keys_are_sought_after_damage(
    disk: RottenDisk,
) -> None:
    """B9."""
    forger = Forger(disk.world, disk.nl, disk.incident)
    key = bytes(range(32))
    roster = disk.nl.node.rollcall.roster
    prekeys = [enrolled.prekey for host in (disk.be, disk.de) if (enrolled := roster.get(host.identity.device))]
    wrong = epochs.make_package(prekeys, key, disk.incident, disk.world.rng.randbytes, _WrongBoxes())
    forger.write(forger.content(), package=wrong, key_id=epochs.key_id(key), epoch_key=key)
    forger.write(forger.content(), package=b"malformed", key_id=epochs.key_id(b"v" * 32), epoch_key=b"v" * 32)
    forger.hand(forger.run(forger.entries[:1]), disk.be)
    disk.world.run(0.05)
    forger.hand(forger.run(forger.entries[1:]), disk.be)
    disk.world.run(0.05)
    assert {"package-wrong-key", "cbor-truncated"} <= disk.be.codes
    positions = disk.be.node.incidents.replicas[disk.incident].packages
    assert (epochs.key_id(key), (forger.log, 1)) in positions  # it may hold the right key for somebody else
    assert (epochs.key_id(b"v" * 32), (forger.log, 2)) in positions  # its body may be readable
    disk.stop(clean=True)
    disk.rot("value", "value", 0, b"rotten")
    disk.be.reports.clear()
    disk.start()
    disk.world.run(30.0)
    assert disk.be.codes >= {"store-row-damaged", "package-wrong-key"}
    assert len(log_texts(disk.be, disk.incident)) == 12


# --- entries that are gone --------------------------------------------------------------------------------------------

GONE = {
    "in the middle": "DELETE FROM entry WHERE place & 4294967295 IN (2, 3)",
    "all": "DELETE FROM entry",
    "the end": "DELETE FROM entry WHERE place & 4294967295 > 2",
    "the end with its seals": (
        "DELETE FROM entry WHERE place & 4294967295 > 2; DELETE FROM seal WHERE place & 4294967295 > 2"
    ),
}
"""A flipped bit in the structure of a page takes rows away, and SQLite does not notice."""


@pytest.mark.parametrize("clean", [True, False], ids=["clean stop", "crash"])
@pytest.mark.parametrize("gone", GONE)
def test_entries_that_are_gone_are_noticed_fetched_again_and_told_once(
    disk: RottenDisk, gone: str, clean: bool
) -> None:
    disk.stop(clean)
    with closing(sqlite3.connect(disk.path)) as connection:
        connection.executescript(GONE[gone])
    disk.start()
    disk.scrub()
    disk.world.run(60.0)
    disk.check_whole()
    assert "store-row-damaged" in disk.be.codes
    rows = disk.be.store.applied_after(0, 1_000)
    assert len({(row.log, row.seq) for row in rows}) == len(rows), "no reader of the journal is told twice"
    disk.stop(clean=False)
    disk.start()
    disk.world.run(5.0)
    alike([disk.be, disk.nl, disk.de], disk.incident)
    assert len(disk.be.store.applied_after(0, 1_000)) == len(rows)
