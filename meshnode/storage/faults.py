"""Every error SQLite can raise, as one of ours. Nothing of ``sqlite3`` leaves this room but through here."""

from __future__ import annotations

import sqlite3

from meshnode.errors import LocalFaultError

_KEPT = "nothing was changed; what is stored can still be read"

_BY_PRIMARY_CODE = {
    sqlite3.SQLITE_FULL: "store-full",
    sqlite3.SQLITE_BUSY: "store-busy",
    sqlite3.SQLITE_LOCKED: "store-busy",
    sqlite3.SQLITE_CORRUPT: "store-damaged",
    sqlite3.SQLITE_NOTADB: "store-damaged",
    sqlite3.SQLITE_CONSTRAINT: "store-damaged",
    sqlite3.SQLITE_IOERR: "store-failed",
    sqlite3.SQLITE_READONLY: "store-failed",
    sqlite3.SQLITE_CANTOPEN: "store-failed",
    sqlite3.SQLITE_PERM: "store-failed",
    sqlite3.SQLITE_AUTH: "store-failed",
}
# The shared-memory index of the WAL could not grow: SQLite reports the full disk as an I/O error there.
_FULL_AS_IO = frozenset({sqlite3.SQLITE_IOERR_SHMSIZE})

_ACTIONS = {
    "store-full": "free space on the disk of the data directory; writes go on by themselves afterwards",
    "store-busy": "end the other program that has the store open; a running node must be its only user",
    "store-damaged": "stop the node, move the store's files away (keep them for examination) and start again: "
    "it fetches the entries from its peers; or restore a backup",
    "store-failed": "check the disk, its file system and the system log, then restart the node",
    "store-wal-missing": "nothing now: entries are fetched again from peers; find out who removed the file "
    "(also said once of a store copied from a running node)",
    "store-wal-damaged": "nothing now: entries are fetched again from peers; examine the disk",
    "store-unwritable": "let the node's user read and write the data directory and the store's files in it",
    "store-closed": "open the store again",
}


def fault(code: str, reason: str) -> LocalFaultError:
    return LocalFaultError(code, reason, _ACTIONS[code])


def translate(error: sqlite3.Error, doing: str) -> LocalFaultError:
    """``doing`` completes "while ..."."""
    if isinstance(error, sqlite3.ProgrammingError):
        return fault("store-closed", f"the store was used after it was closed, while {doing}")
    extended = getattr(error, "sqlite_errorcode", sqlite3.SQLITE_CORRUPT)
    name = getattr(error, "sqlite_errorname", "no code")
    code = "store-full" if extended in _FULL_AS_IO else _BY_PRIMARY_CODE.get(extended & 0xFF, "store-damaged")
    return fault(code, f"{error} ({name}) while {doing}" + (f"; {_KEPT}" if code == "store-full" else ""))
