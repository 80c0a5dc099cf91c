"""The virtual disk rots like the store on SQLite: the same rows changed under both, the same answers from both."""

from __future__ import annotations

import sqlite3
import tempfile
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from random import Random

import pytest
from log_builder import INCIDENT, LOG, LogBuilder, keep, name

from meshnode.core.ids import LogId
from meshnode.core.log import CommitBatch
from meshnode.errors import LocalFaultError
from meshnode.storage.rows import ENTRY, JOURNAL, SEAL, VALUE
from meshnode.storage.sqlite import SqliteLogStore
from meshnode.storage.ticket import SCRUB_START, CommittingLogStore
from simulations.worlds.cast import commit_all
from simulations.worlds.disk import Disk
from simulations.worlds.rot import KINDS, Place

OTHER = LogId(name("another", 32))
ENTRIES = 9


class Both:
    """One history in both stores."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.sqlite, self.disk = SqliteLogStore.open(path), Disk()
        self.logs = {LOG: LogBuilder(), OTHER: LogBuilder(log=OTHER)}
        for log in self.logs.values():
            for _ in range(ENTRIES // 3):
                self.keep(log.run(3))
            first = self.disk.applied_last() + 1
            self.keep(CommitBatch(applied=tuple(log.applied(first + at, at + 1) for at in range(ENTRIES))))
        self.keep(CommitBatch(puts=tuple(("peers", key, b"value of " + key) for key in (b"a", b"b", b"c"))))

    def keep(self, batch: CommitBatch) -> None:
        keep(self.sqlite, batch)
        keep(self.disk, batch)

    def rot(self, kind: int, place: Place, rng: Random) -> None:
        self.disk.flip(kind, place, rng)
        with closing(sqlite3.connect(self.path)) as connection, connection:
            if kind == VALUE:
                change = "UPDATE value SET value = x'00' WHERE key = ?"
                connection.execute(change, (place[1],))
            elif kind == JOURNAL:
                connection.execute("UPDATE journal SET place = place + 1000 WHERE number = ?", place)
            else:
                table, column = ("entry", "sealed") if kind == ENTRY else ("seal", "signature")
                number = self.sqlite._catalog.logs[INCIDENT][place[1]].number
                change = f"UPDATE {table} SET {column} = x'00' WHERE place = ?"
                connection.execute(change, (number << 32 | place[2],))

    def start_again(self) -> None:
        """What was found damaged has been moved away by a commit, as a node that runs makes sure."""
        commit_all(self.sqlite)
        self.sqlite.close()
        self.sqlite = SqliteLogStore.open(self.path)
        self.disk.reopen()

    def agree(self, ask: Callable[[CommittingLogStore], object]) -> None:
        assert answer(self.disk, ask) == answer(self.sqlite, ask)


def answer(store: CommittingLogStore, ask: Callable[[CommittingLogStore], object]) -> object:
    try:
        return ask(store)
    except LocalFaultError as fault:
        return fault.code


def scrub(store: CommittingLogStore) -> int:
    found, position = 0, SCRUB_START
    while True:
        done = store.scrub(position, 1_000)
        found, position = found + done.damaged, done.following
        if position == SCRUB_START:
            return found


def questions(both: Both) -> list[Callable[[CommittingLogStore], object]]:
    found: list[Callable[[CommittingLogStore], object]] = [
        lambda store: store.heads(INCIDENT),
        lambda store: store.applied_after(0, 100),
        lambda store: store.applied_after(4, 3),
        lambda store: store.scan("peers"),
        lambda store: store.get("peers", b"b"),
        scrub,
    ]
    for log, builder in both.logs.items():
        for first, last in ((1, ENTRIES), (2, 4), (ENTRIES, ENTRIES)):
            found.append(lambda store, log=log, first=first, last=last: store.read(INCIDENT, log, first, last))
            found.append(lambda store, log=log, first=first, last=last: store.seals(INCIDENT, log, first, last))
        for entry in builder.entries:
            found.append(lambda store, entry=entry: store.find(INCIDENT, entry.hash))
    return found


@pytest.fixture
def both() -> Iterator[Both]:
    memory = Path("/dev/shm")
    with tempfile.TemporaryDirectory(dir=memory if memory.is_dir() else None) as directory:
        both = Both(Path(directory) / "store")
        yield both
        both.sqlite.close()


@pytest.mark.parametrize("seed", range(25))
def test_whatever_rots_both_stores_tell_and_give_the_same(both: Both, seed: int) -> None:
    rng = Random(seed)
    for _ in range(rng.randrange(1, 4)):
        kind = rng.choice(KINDS)
        rows = [place for row, place in both.disk.rows() if row == kind and both.disk.is_fresh(kind, place)]
        if rows:
            both.rot(kind, rng.choice(rows), rng)
        if rng.random() < 0.3:
            both.start_again()
        for ask in rng.sample(questions(both), 12):
            both.agree(ask)
    for ask in questions(both):
        both.agree(ask)
    both.agree(lambda store: store.damaged())
    for log in both.logs.values():  # a peer sends everything again
        both.keep(CommitBatch(entries=tuple(log.entries), seals=tuple(log.seal(seq) for seq in (3, 6, 9))))
    both.keep(CommitBatch(puts=(("peers", b"b", b"new"),)))
    for ask in questions(both):
        both.agree(ask)
    assert [head.height for head in both.disk.heads(INCIDENT)] == [ENTRIES, ENTRIES]
    assert not both.disk.holes()
    assert not both.disk.unnoticed


@pytest.mark.parametrize("kind", KINDS)
def test_a_disk_that_does_not_look_hands_out_what_is_not_what_was_written(
    both: Both, kind: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    place = next(place for row, place in both.disk.rows() if row == kind)
    both.disk.flip(kind, place, Random(1))
    monkeypatch.setattr(Disk, "_is_good", lambda self, kind, place, row: True)
    for ask in questions(both):
        ask(both.disk)
    assert both.disk.unnoticed


def test_what_is_staged_over_a_damaged_row_and_taken_back_leaves_the_damage(both: Both) -> None:
    both.disk.flip(VALUE, ("peers", b"b"), Random(1))
    both.disk.flip(ENTRY, (INCIDENT, LOG, 5), Random(1))
    assert answer(both.disk, lambda store: store.read(INCIDENT, LOG, 1, 9)) == "store-row-damaged"
    log = both.logs[LOG]
    both.disk.stage(CommitBatch(entries=(log.entries[4],), puts=(("peers", b"b", b"new"),)))
    assert both.disk.read(INCIDENT, LOG, 1, 9) == log.entries
    assert both.disk.get("peers", b"b") == b"new"
    both.disk.abandon()
    assert both.disk.read(INCIDENT, LOG, 1, 9) == log.entries[:4]
    assert answer(both.disk, lambda store: store.get("peers", b"b")) == "store-row-damaged"


def test_a_backup_of_a_rotten_disk_is_rotten(both: Both) -> None:
    both.disk.flip(SEAL, (INCIDENT, LOG, 9), Random(1))
    assert both.disk.copied().heads(INCIDENT)[0].height in (6, 9)
    assert {head.log: head.height for head in both.disk.copied().heads(INCIDENT)}[LOG] == 6
