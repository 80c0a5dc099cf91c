"""The tables, how a file becomes a store of this version, and which files are refused.

A store is born under another name and renamed when it is complete, so a file at the store's path is a whole store or
a damaged one, never a half-made one. Each migration is a list of statements; all that are missing run in one
transaction together with the new ``user_version``, so a crash leaves the old version or the new one.

A file from elsewhere is not trusted: its application id, its version and the text of every table must be those this
program would have written, which leaves no room for triggers or views.
"""

from __future__ import annotations

import contextlib
import errno
import os
import sqlite3
from collections.abc import Sequence
from pathlib import Path

from meshnode.errors import LocalFaultError
from meshnode.storage.faults import fault, translate

APPLICATION_ID = 0x6D6E6F64
"""ASCII "mnod"."""

MIGRATIONS: tuple[tuple[str, ...], ...] = (
    (
        # Small numbers for the long names that entries repeat. One number space, so a number never has two meanings.
        # `twin` is a second copy of `name`: one damaged bit here would otherwise make a whole log unreadable.
        """CREATE TABLE name (
            number INTEGER PRIMARY KEY, kind INTEGER NOT NULL, parent INTEGER NOT NULL,
            name BLOB NOT NULL, twin BLOB NOT NULL, "check" INTEGER NOT NULL) STRICT""",
        # place = log number << 32 | position
        """CREATE TABLE entry (
            place INTEGER PRIMARY KEY, prefix INTEGER NOT NULL, previous BLOB NOT NULL, key INTEGER NOT NULL,
            package BLOB, sealed BLOB NOT NULL) STRICT""",
        # Not an index of SQLite's: those refuse to delete a row whose indexed column was damaged.
        """CREATE TABLE entry_by_hash (
            prefix INTEGER NOT NULL, place INTEGER NOT NULL, PRIMARY KEY (prefix, place)) STRICT, WITHOUT ROWID""",
        """CREATE TABLE seal (
            place INTEGER PRIMARY KEY, signature BLOB NOT NULL, "check" INTEGER NOT NULL) STRICT""",
        """CREATE TABLE journal (
            number INTEGER PRIMARY KEY, place INTEGER NOT NULL, "check" INTEGER NOT NULL) STRICT""",
        """CREATE TABLE value (
            namespace BLOB NOT NULL, key BLOB NOT NULL, value BLOB NOT NULL, "check" INTEGER NOT NULL,
            PRIMARY KEY (namespace, key)) STRICT, WITHOUT ROWID""",
        """CREATE TABLE damaged (
            kind INTEGER NOT NULL, place BLOB NOT NULL, content BLOB NOT NULL,
            PRIMARY KEY (kind, place)) STRICT, WITHOUT ROWID""",
        # One row: 1 while a node has the store open. Found as 1 without a WAL, the WAL was removed.
        "CREATE TABLE mark (id INTEGER PRIMARY KEY, open INTEGER NOT NULL) STRICT",
        "INSERT INTO mark VALUES (1, 0)",
    ),
    (
        # The entries of a log up to `seq` take `bytes`; what lies behind is added up when the log is first asked for.
        """CREATE TABLE size (
            log INTEGER PRIMARY KEY, seq INTEGER NOT NULL, bytes INTEGER NOT NULL, "check" INTEGER NOT NULL) STRICT""",
    ),
)

BUSY_TIMEOUT_MS = 5_000
"""How long a commit waits for another program that holds the write lock (a backup, a person with a shell)."""
WRITER_CACHE_KIB = 8_192
"""Holds the inner pages of the search by hash for some million entries."""
READER_CACHE_KIB = 4_096
WAL_BYTES_MAX = 64 << 20
"""A WAL that grew beyond this (the disk was busy, or full while checkpointing) is cut back when it starts over."""

_HEADER_BYTES = 100
_MAGIC = b"SQLite format 3\0"


def prepare(path: Path, migrations: Sequence[Sequence[str]] = MIGRATIONS) -> None:
    """Create the store if there is none; refuse a file that cannot be one.

    Raises LocalFaultError ``store-foreign``, ``store-damaged``, ``store-unwritable``, ``store-full``.
    """
    try:
        try:
            descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        except FileNotFoundError:
            wal = wal_path(path)
            if wal.exists() and wal.stat().st_size > 0:
                raise fault("store-damaged", f"{path} is gone but its write-ahead log {wal} is there") from None
            _create(path, migrations)
            return
        # Closed before SQLite opens the file: closing it later would drop SQLite's own locks (POSIX).
        with os.fdopen(descriptor, "rb") as file:
            header = file.read(_HEADER_BYTES)
    except OSError as error:
        code = "store-full" if error.errno in (errno.ENOSPC, errno.EDQUOT) else "store-unwritable"
        raise fault(code, f"{path}: {error.strerror}") from error
    if len(header) < _HEADER_BYTES or not header.startswith(_MAGIC):
        raise fault("store-damaged", f"{path} is cut short, or its first bytes are not those of a database")
    if int.from_bytes(header[68:72], "big") != APPLICATION_ID:
        raise LocalFaultError(
            "store-foreign", f"{path} is a database of another program", "name a file of this program, or none"
        )


def _create(path: Path, migrations: Sequence[Sequence[str]]) -> None:
    unborn = path.with_name(path.name + ".new")
    for leftover in (unborn, wal_path(unborn), unborn.with_name(unborn.name + "-shm")):
        leftover.unlink(missing_ok=True)
    os.close(os.open(unborn, os.O_CREAT | os.O_EXCL | os.O_RDWR | os.O_CLOEXEC, 0o600))
    try:
        with contextlib.closing(_connect(unborn)) as connection:
            connection.execute(f"PRAGMA application_id = {APPLICATION_ID}")
            connection.execute("PRAGMA journal_mode = WAL")
            migrate(connection, migrations)
    except sqlite3.Error as error:
        raise while_opening(error) from error
    os.rename(unborn, path)
    directory = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(directory)
    finally:
        os.close(directory)


def wal_path(path: Path) -> Path:
    return path.with_name(path.name + "-wal")


def connect_writer(path: Path) -> sqlite3.Connection:
    """The one connection that writes and checkpoints. Raises LocalFaultError ``store-*``."""
    return _connect_with(
        path,
        f"PRAGMA cache_size = -{WRITER_CACHE_KIB}",
        "PRAGMA journal_mode = WAL",
        # FULL: a commit is on the disk when COMMIT returns. Checkpoints are called, never a surprise in a commit.
        "PRAGMA synchronous = FULL",
        "PRAGMA wal_autocheckpoint = 0",
        f"PRAGMA journal_size_limit = {WAL_BYTES_MAX}",
        # Deleted rows (expired keys) are overwritten in the file; see also `sweep`.
        "PRAGMA secure_delete = ON",
    )


def connect_reader(path: Path) -> sqlite3.Connection:
    """The connection for reads on the caller's thread. Raises LocalFaultError ``store-*``."""
    return _connect_with(path, f"PRAGMA cache_size = -{READER_CACHE_KIB}", "PRAGMA query_only = ON", mode="ro")


def bring_up_to_date(connection: sqlite3.Connection, migrations: Sequence[Sequence[str]] = MIGRATIONS) -> None:
    """Migrate, then refuse tables that are not ours.

    Raises LocalFaultError ``store-too-new``, ``store-damaged``, ``store-unwritable``, ``store-full``.
    """
    try:
        migrate(connection, migrations)
        _check_tables(connection, migrations)
    except sqlite3.Error as error:
        raise while_opening(error) from error


def while_opening(error: sqlite3.Error) -> LocalFaultError:
    """While opening, a file that cannot be read or written is the operator's to change, not a failed disk."""
    translated = translate(error, "opening the store")
    return fault("store-unwritable", translated.reason) if translated.code == "store-failed" else translated


def _connect_with(path: Path, *pragmas: str, mode: str = "rw") -> sqlite3.Connection:
    try:
        connection = _connect(path, mode)
        try:
            for pragma in pragmas:
                connection.execute(pragma)
        except BaseException:
            connection.close()
            raise
    except sqlite3.Error as error:
        raise while_opening(error) from error
    return connection


def _connect(path: Path, mode: str = "rw") -> sqlite3.Connection:
    connection = sqlite3.connect(
        f"{path.absolute().as_uri()}?mode={mode}",
        uri=True,
        timeout=BUSY_TIMEOUT_MS / 1000,
        isolation_level=None,
        check_same_thread=False,
        cached_statements=64,
    )
    connection.execute("PRAGMA trusted_schema = OFF")
    connection.execute("PRAGMA cell_size_check = ON")
    connection.execute("PRAGMA temp_store = MEMORY")
    return connection


def migrate(connection: sqlite3.Connection, migrations: Sequence[Sequence[str]] = MIGRATIONS) -> None:
    """Bring the schema forward in one transaction. Raises sqlite3.Error, LocalFaultError ``store-too-new``."""
    version = connection.execute("PRAGMA user_version").fetchone()[0]
    if version > len(migrations):
        raise LocalFaultError(
            "store-too-new",
            f"the store has schema version {version}, this program knows versions up to {len(migrations)}",
            "run the version of the program that wrote it, or a newer one",
        )
    if version == len(migrations):
        return
    connection.execute("BEGIN IMMEDIATE")
    try:
        for statements in migrations[version:]:
            for statement in statements:
                connection.execute(statement)
        connection.execute(f"PRAGMA user_version = {len(migrations)}")
        connection.execute("COMMIT")
    except BaseException:
        if connection.in_transaction:
            connection.execute("ROLLBACK")
        raise


def _check_tables(connection: sqlite3.Connection, migrations: Sequence[Sequence[str]]) -> None:
    query = "SELECT type, name, tbl_name, sql FROM sqlite_schema ORDER BY name"
    with contextlib.closing(sqlite3.connect(":memory:", isolation_level=None)) as model:
        migrate(model, migrations)
        expected = model.execute(query).fetchall()
    if connection.execute(query).fetchall() != expected:
        raise fault("store-damaged", "the tables of the store are not those this program makes")
