"""Small logs for tests of the stores: entries with true hashes, seals that only look like seals."""

from __future__ import annotations

import hashlib
import shutil
from pathlib import Path

import pytest

from meshnode.core.entry import entry_hash
from meshnode.core.ids import NO_HASH, EntryHash, IncidentId, KeyId, LogId
from meshnode.core.log import Applied, CommitBatch, Entry, Seal
from meshnode.errors import LocalFaultError
from meshnode.storage.sqlite import SqliteLogStore
from meshnode.storage.ticket import SCRUB_START, CommittingLogStore


def name(text: str, size_bytes: int) -> bytes:
    return hashlib.blake2b(text.encode(), digest_size=size_bytes).digest()


INCIDENT = IncidentId(name("incident", 16))
LOG = LogId(name("log", 32))
KEY = KeyId(name("key", 32))


class LogBuilder:
    """Makes the entries of one log, in order, and remembers them: position s is ``entries[s - 1]``."""

    def __init__(self, incident: IncidentId = INCIDENT, log: LogId = LOG, key: KeyId = KEY) -> None:
        self.incident, self.log, self.key = incident, log, key
        self.entries: list[Entry] = []

    def grow(self, count: int, size_bytes: int = 200, package: bytes | None = None) -> tuple[Entry, ...]:
        return tuple(self._next(size_bytes, package) for _ in range(count))

    def run(self, count: int, size_bytes: int = 200) -> CommitBatch:
        """New entries and the seal of the last one."""
        return CommitBatch(entries=self.grow(count, size_bytes), seals=(self.seal(len(self.entries)),))

    def seal(self, seq: int) -> Seal:
        return Seal(self.incident, self.log, seq, name(f"seal {self.log.hex()} {seq}", 64))

    def applied(self, number: int, seq: int) -> Applied:
        return Applied(number, self.incident, self.log, seq)

    def _next(self, size_bytes: int, package: bytes | None) -> Entry:
        seq = len(self.entries) + 1
        previous = self.entries[-1].hash if self.entries else NO_HASH
        sealed = hashlib.shake_128(self.log + seq.to_bytes(4, "big")).digest(size_bytes)
        return self.add(previous, package, sealed)

    def add(self, previous: EntryHash, package: bytes | None, sealed: bytes) -> Entry:
        seq = len(self.entries) + 1
        identity = entry_hash(self.incident, self.log, seq, previous, self.key, package, sealed)
        entry = Entry(self.incident, self.log, seq, previous, self.key, package, sealed, identity)
        self.entries.append(entry)
        return entry


def commit(store: CommittingLogStore) -> None:
    ticket = store.begin_commit()
    assert ticket is not None
    store.write(ticket)
    store.end_commit(ticket)


def keep(store: CommittingLogStore, *batches: CommitBatch) -> None:
    """Stage and make durable."""
    for batch in batches:
        store.stage(batch)
    commit(store)


def crash_image(store_path: Path, target: Path) -> Path:
    """What a disk holds when the machine stops now: a copy of the files under a running store."""
    target.mkdir()
    for file in (store_path, store_path.with_name(store_path.name + "-wal")):
        if file.exists():
            shutil.copy(file, target / file.name)
    return target / store_path.name


def refused(code: str) -> pytest.RaisesExc[LocalFaultError]:
    return pytest.RaisesExc(LocalFaultError, check=lambda error: error.code == code and bool(error.action))


def open_store(path: Path) -> SqliteLogStore:
    """Without room reserved in the WAL: a full disk shows at once."""
    return SqliteLogStore.open(path, wal_reserve_bytes=0)


def write_store(path: Path, count: int = 9) -> LogBuilder:
    """A closed store of one log with a seal at every third entry, a journal and three values."""
    log = LogBuilder()
    store = SqliteLogStore.open(path)
    for _run in range(count // 3):
        store.stage(log.run(3))
    store.stage(
        CommitBatch(
            applied=tuple(log.applied(seq, seq) for seq in range(1, count + 1)),
            puts=tuple(("peers", key, b"value of " + key) for key in (b"a", b"b", b"c")),
        )
    )
    commit(store)
    store.close()
    return log


def scrub_all(store: SqliteLogStore, limit: int = 4) -> int:
    found = store.scrub(SCRUB_START, limit)
    damaged = found.damaged
    while found.following != SCRUB_START:
        found = store.scrub(found.following, limit)
        damaged += found.damaged
    return damaged


def flip(data: bytes, bit: int) -> bytes:
    changed = bytearray(data)
    changed[bit // 8] ^= 1 << bit % 8
    return bytes(changed)
