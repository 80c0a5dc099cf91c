"""One daemon per data directory.

``flock`` on a file that stays: the kernel drops the lock when the process ends, however it ends, so there is no stale
lock to clear, and the file is never unlinked (a second daemon could otherwise lock a file nobody else sees).
The process id inside is for people only.
"""

from __future__ import annotations

import errno
import fcntl
import os
import shlex
from pathlib import Path
from types import TracebackType

from meshnode.errors import LocalFaultError

LOCK_FILE = "lock"
_PID_BYTES_MAX = 20
"""Decimal digits of a process id, with room to spare; the file is read by whoever finds it locked."""


class DataDirLock:
    """Held from :meth:`acquire` until :meth:`release` or the end of the process."""

    def __init__(self, descriptor: int) -> None:
        self._descriptor: int | None = descriptor

    @classmethod
    def acquire(cls, directory: Path | str) -> DataDirLock:
        """Raises LocalFaultError ``data-dir-in-use``, ``data-dir-missing`` or ``data-dir-unwritable``. Never waits."""
        path = Path(directory) / LOCK_FILE
        try:
            descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
        except OSError as error:
            raise _unwritable(path, error) from error
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            _name_holder(descriptor)
        except BlockingIOError:
            holder = os.pread(descriptor, _PID_BYTES_MAX, 0).decode("ascii", "replace")
            os.close(descriptor)
            raise LocalFaultError(
                "data-dir-in-use",
                f"another node (process {holder or 'unknown'}) runs on {directory}",
                "stop it, or give this node a data directory of its own",
            ) from None
        except OSError as error:
            os.close(descriptor)
            raise _unwritable(path, error) from error
        return cls(descriptor)

    def release(self) -> None:
        """Give the directory free. Harmless when done twice."""
        if self._descriptor is not None:
            os.close(self._descriptor)
            self._descriptor = None

    def __enter__(self) -> DataDirLock:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.release()


def _name_holder(descriptor: int) -> None:
    try:
        os.ftruncate(descriptor, 0)
        os.pwrite(descriptor, str(os.getpid()).encode(), 0)
    except OSError as error:
        # A full disk is no reason not to start: what is stored can still be read.
        if error.errno not in (errno.ENOSPC, errno.EDQUOT):
            raise


def check_usable(directory: Path) -> None:
    """Whether a node of this user could hold its lock here, without a trace. LocalFaultError ``data-dir-*``."""
    try:
        directory.stat()
        if not directory.is_dir():
            raise NotADirectoryError(errno.ENOTDIR, os.strerror(errno.ENOTDIR))
        if not os.access(directory, os.W_OK | os.X_OK, effective_ids=os.access in os.supports_effective_ids):
            raise PermissionError(errno.EACCES, "this user may not write there")
    except OSError as error:
        raise _unwritable(directory / LOCK_FILE, error) from error


def _unwritable(path: Path, error: OSError) -> LocalFaultError:
    directory = shlex.quote(str(path.parent))
    if error.errno in (errno.ENOENT, errno.ENOTDIR):
        return LocalFaultError(
            "data-dir-missing",
            f"there is no data directory {path.parent}",
            f"check the path; a new node begins with: meshnode init --data {directory} --noc CODE --name NAME",
        )
    if error.errno in (errno.EACCES, errno.EPERM):
        action = f"run meshnode as the owner of {directory}, or give the directory and all in it to this user (chown)"
    else:
        action = f"look at the disk that holds {directory}: mount, space and permissions"
    return LocalFaultError("data-dir-unwritable", f"{path}: {error.strerror}", action)
