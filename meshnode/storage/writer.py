"""The worker thread's half of the store: one connection that writes and checkpoints.

A commit is one transaction and one sync of the WAL. Moving the WAL's pages into the database file (a checkpoint) needs
more writes and two more syncs, so it is not left to chance inside a commit: ``tidy`` does it between commits, and only
a WAL that nobody tidied for long is checkpointed behind a commit. The WAL file is kept at its size and overwritten from
its start, because a sync of overwritten blocks is cheaper than one of a growing file (measured: 0.13 ms and 0.22 ms).

``tidy`` also deletes what was dropped, one slice a call (see ``sweep``).

Writing and checkpointing never run at once and share one connection: this SQLite has, up to 3.51, a race between a
checkpoint and a writer on two connections that can lose a commit.
"""

from __future__ import annotations

import contextlib
import os
import sqlite3
from collections.abc import Sequence
from pathlib import Path

from meshnode.errors import LocalFaultError
from meshnode.storage import schema, wal
from meshnode.storage.faults import fault, translate
from meshnode.storage.overlay import Overlay
from meshnode.storage.rows import (
    ENTRY,
    JOURNAL,
    NAME,
    SEAL,
    VALUE,
    Damage,
    Row,
    encode_place,
    journal_check,
    seal_check,
    value_check,
)
from meshnode.storage.schema import wal_path
from meshnode.storage.sweep import Sweep
from meshnode.storage.ticket import RETRY_CODES

PAGE_BYTES = 4_096
TIDY_FRAMES = 2_048
"""Pages in the WAL (8 MiB) from which a checkpoint is worth its syncs: about 400 commits of one entry. The estimate
counts one page of the search by hash for each entry, which is what a large store really touches."""
WAL_RESERVE_BYTES = TIDY_FRAMES * (PAGE_BYTES + wal.FRAME_HEADER_BYTES)
"""Room made in the WAL when the store is opened: what it grows to between two calls of ``tidy``."""
FORCE_FRAMES = 16_384
"""Pages (64 MiB) after which a commit checkpoints by itself, so that the WAL is bounded when nobody calls ``tidy``."""
_COMMIT_FRAMES = 5
"""Pages a commit of one entry, seal and journal row writes."""

_DELETE = {
    ENTRY: "DELETE FROM entry WHERE place = ?",
    SEAL: "DELETE FROM seal WHERE place = ?",
    JOURNAL: "DELETE FROM journal WHERE number = ?",
    NAME: "DELETE FROM name WHERE number = ?",
    VALUE: "DELETE FROM value WHERE namespace = ? AND key = ?",
}
_INSERT_SIZE = "INSERT OR REPLACE INTO size VALUES (?, ?, ?, ?)"


class Writer:
    """Not safe for two threads at once."""

    def __init__(self, path: Path, migrations: Sequence[Sequence[str]], wal_reserve_bytes: int) -> None:
        """Open the store for writing. Raises LocalFaultError, see ``schema``."""
        self._path = path
        self._wal = wal_path(path)
        self.frames = 0
        """Pages in the WAL that are not in the database file yet, estimated from above."""
        self.notices: list[LocalFaultError] = []
        """What was found wrong and did not prevent opening."""
        try:
            found = wal.survey(self._wal)
        except OSError as error:
            raise fault("store-unwritable", f"{self._wal}: {error.strerror}") from error
        self._connection = schema.connect_writer(path)
        self.sweep = Sweep(self._connection)
        self._freed: list[int] = []
        try:
            schema.bring_up_to_date(self._connection, migrations)
            self._mark_open(found)
            wal.reserve(self._wal, wal_reserve_bytes)
            self._identity = self._identify()
        except BaseException:
            self._connection.close()
            raise

    def _mark_open(self, found: wal.WalSurvey) -> None:
        """Note in the database file that a node has the store open; see ``wal`` for what that is good for."""
        try:
            frames = self._checkpoint()
            if found.has_lost_commits(frames):
                self._notice("store-wal-damaged", f"the write-ahead log is damaged behind its page {frames}")
            if self._execute("SELECT open FROM mark")[0][0] and found.bytes == 0:
                self._notice("store-wal-missing", "the node was not shut down and its write-ahead log is gone")
            self._execute("UPDATE mark SET open = 1")
            self._checkpoint()
        except LocalFaultError as error:
            # A full disk is no reason not to read.
            if error.code not in RETRY_CODES:
                raise
            self.notices.append(error)

    def _notice(self, code: str, reason: str) -> None:
        self.notices.append(fault(code, f"{reason}; the newest commits may be lost"))

    def write(self, overlay: Overlay) -> None:
        """One transaction. Raises LocalFaultError, and then nothing of the overlay is in the store."""
        connection = self._connection
        try:
            connection.execute("BEGIN IMMEDIATE")
            self._insert(overlay)
            connection.execute("COMMIT")
        except sqlite3.Error as error:
            self._roll_back()
            raise translate(error, "writing a commit") from error
        except BaseException:
            self._roll_back()
            raise
        self.sweep.add(overlay.drops)
        self._check_file(self._wal)
        self.frames += _COMMIT_FRAMES + len(overlay.entry_rows) + overlay.bytes // PAGE_BYTES

    def tidy_due(self) -> bool:
        return self.sweep.due or self.frames >= TIDY_FRAMES

    def tidy(self) -> None:
        """Delete some of what was dropped, and checkpoint when nothing is left of it or the WAL is long.

        Raises LocalFaultError; commits are durable all the same.
        """
        if self.sweep.due:
            self._delete_dropped()
        if not self.sweep.due or self.frames >= TIDY_FRAMES:
            self.checkpoint()

    def checkpoint(self) -> None:
        """Raises LocalFaultError; commits are durable all the same."""
        self._checkpoint()
        self._check_file(self._path)

    def take_freed(self) -> list[int]:
        """Numbers that may be given again. Loop thread, while nothing is written or tidied."""
        freed, self._freed = self._freed, []
        return freed

    def _delete_dropped(self) -> None:
        try:
            self._connection.execute("PRAGMA secure_delete = FAST")
            freed, frames = self.sweep.slice()
        except sqlite3.Error as error:
            self._roll_back()
            raise translate(error, "deleting what was dropped") from error
        finally:
            with contextlib.suppress(sqlite3.Error):  # closed by the roll-back: nothing is deleted any more
                self._connection.execute("PRAGMA secure_delete = ON")
        self._freed += freed
        self.frames += frames

    def _checkpoint(self) -> int:
        """Move what no reader needs any more into the database file; the number of frames the WAL had."""
        busy, frames, moved = self._execute("PRAGMA wal_checkpoint(PASSIVE)")[0]
        self.frames = 0 if busy == 0 and frames == moved else max(frames - moved, 0)
        return frames

    def mark_closed(self, sizes: Sequence[Row]) -> bool:
        """Note in the database file that no node has the store open. Is that so now?"""
        try:
            self._connection.executemany(_INSERT_SIZE, sizes)
            self._connection.execute("UPDATE mark SET open = 0")
        except sqlite3.Error:
            # A full disk or a lost file: the next opening sees a store that was not closed, which is the truth.
            self._roll_back()
            return False
        return True

    def close(self) -> None:
        self._connection.close()

    def _insert(self, overlay: Overlay) -> None:
        connection = self._connection
        if overlay.damage:
            self._move_damage(overlay.damage)
        if overlay.names:
            connection.executemany("INSERT OR REPLACE INTO name VALUES (?, ?, ?, ?, ?, ?)", overlay.names)
        if overlay.sizes:
            connection.executemany(_INSERT_SIZE, overlay.sizes)
        rows = overlay.entry_rows
        if rows:
            # OR REPLACE: a stray copy left by damage must not stop a commit.
            connection.executemany("INSERT OR REPLACE INTO entry VALUES (?, ?, ?, ?, ?, ?)", rows)
            # In key order the pages of the search by hash are each visited once.
            connection.executemany(
                "INSERT OR REPLACE INTO entry_by_hash VALUES (?, ?)", sorted((row[1], row[0]) for row in rows)
            )
        if overlay.seals:
            connection.executemany(
                "INSERT OR REPLACE INTO seal VALUES (?, ?, ?)",
                [(place, signature, seal_check(place, signature)) for place, signature in overlay.seals.items()],
            )
        if overlay.journal:
            connection.executemany(
                "INSERT OR REPLACE INTO journal VALUES (?, ?, ?)",
                [(number, place, journal_check(number, place)) for number, place in overlay.journal.items()],
            )
        for namespace, values in overlay.values.items():
            self._put(namespace.encode(), values)
        if overlay.unindexed:
            connection.executemany("INSERT OR REPLACE INTO entry_by_hash VALUES (?, ?)", overlay.unindexed)
        for kind, place in overlay.mended:
            connection.execute("DELETE FROM damaged WHERE kind = ? AND place = ?", (kind, encode_place(place)))

    def _put(self, namespace: bytes, values: dict[bytes, bytes | None]) -> None:
        for key, value in values.items():
            if value is None:
                self._connection.execute(_DELETE[VALUE], (namespace, key))
            else:
                self._connection.execute(
                    "INSERT OR REPLACE INTO value VALUES (?, ?, ?, ?)",
                    (namespace, key, value, value_check((namespace, key), value)),
                )

    def _move_damage(self, damage: list[Damage]) -> None:
        for row in damage:
            self._connection.execute(_DELETE[row.kind], row.place if isinstance(row.place, tuple) else (row.place,))
            self._connection.execute(
                "INSERT OR REPLACE INTO damaged VALUES (?, ?, ?)", (row.kind, encode_place(row.place), row.content)
            )

    def _execute(self, statement: str) -> list[tuple[int, ...]]:
        try:
            return self._connection.execute(statement).fetchall()
        except sqlite3.Error as error:
            self._roll_back()
            raise translate(error, "tidying the store") from error

    def _roll_back(self) -> None:
        try:
            # SQLite rolls back by itself on most errors.
            if self._connection.in_transaction:
                self._connection.execute("ROLLBACK")
        except sqlite3.Error:
            # Of no more use; the error that brought us here says why.
            self._connection.close()

    def _check_file(self, path: Path) -> None:
        """A file removed or replaced under a running node takes commits that nobody will find again: stop there."""
        try:
            found = os.stat(path)
        except OSError as error:
            raise fault("store-failed", f"{path} was removed under the running node") from error
        if (found.st_dev, found.st_ino) != self._identity[path]:
            raise fault("store-failed", f"{path} was replaced under the running node")

    def _identify(self) -> dict[Path, tuple[int, int]]:
        try:
            found = {path: os.stat(path) for path in (self._path, self._wal)}
        except OSError as error:
            raise fault("store-unwritable", f"{error.filename}: {error.strerror}") from error
        return {path: (status.st_dev, status.st_ino) for path, status in found.items()}
