"""Opening the listening Unix sockets: who may connect, and what to do with a file that is already there.

A daemon that was killed leaves its socket file behind. It must be told apart from the socket of a daemon that runs:
an exclusive lock on ``<path>.lock`` is held as long as we listen, so two daemons never both take the file for stale;
and a connection attempt tells whether some other program listens there. The lock file stays when the daemon ends;
removing it would open the race again.

The file gets its mode and group between bind and listen: until then nobody can connect.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import socket
import stat
from dataclasses import dataclass, field

from meshnode.api.access import Access
from meshnode.api.settings import ApiSettings, SocketSettings
from meshnode.errors import LocalFaultError

PATH_BYTES_MAX = 107
"""``sun_path`` of sockaddr_un holds 108 bytes on Linux, with the NUL at the end."""

BACKLOG = 128
"""Connections that the kernel holds until they are accepted: one burst of all clients of a socket."""


@dataclass(slots=True)
class Listener:
    """A listening socket and what its clients may do."""

    sock: socket.socket
    access: Access
    path: str = ""
    """Empty when the socket was handed in: then its file is not ours to remove."""
    _lock: int = field(default=-1)
    _file: tuple[int, int] = field(default=(0, 0))

    def close(self) -> None:
        """Stops listening and removes our socket file, unless another daemon has put its own in place."""
        self.sock.close()
        if self._lock < 0:
            return
        with contextlib.suppress(OSError):
            if _identity(self.path) == self._file:
                os.unlink(self.path)
        os.close(self._lock)
        self._lock = -1


def open_listeners(settings: ApiSettings) -> list[Listener]:
    """Both sockets, or LocalFaultError and neither."""
    settings.validate()
    listeners: list[Listener] = []
    try:
        for wanted, access in ((settings.change, Access.CHANGE), (settings.read, Access.READ)):
            if wanted is not None:
                listeners.append(open_listener(wanted, access))
    except BaseException:
        for listener in listeners:
            listener.close()
        raise
    return listeners


def adopt_listener(sock: socket.socket, access: Access) -> Listener:
    """A socket that is bound and listening already, handed in by the service manager."""
    if sock.family != socket.AF_UNIX or not sock.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN):
        raise LocalFaultError(
            "socket-unusable", "the socket handed in is not a listening Unix socket", "mend the socket unit"
        )
    sock.setblocking(False)
    return Listener(sock, access)


def open_listener(settings: SocketSettings, access: Access) -> Listener:
    """Binds and listens. LocalFaultError ``socket-*`` says what stands in the way."""
    path = settings.path
    size = len(os.fsencode(path))
    if size > PATH_BYTES_MAX:
        raise LocalFaultError(
            "socket-path-too-long",
            f"the socket path has {size} bytes, Unix allows {PATH_BYTES_MAX}: {path}",
            "choose a shorter path, for example under /run/meshnode",
        )
    lock = -1
    sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_CLOEXEC)
    try:
        lock = _take_lock(path)
        _remove_stale(path)
        sock.bind(path)
        if settings.group_id is not None:
            os.chown(path, -1, settings.group_id)
        os.chmod(path, settings.mode)
        sock.listen(BACKLOG)
        sock.setblocking(False)
        return Listener(sock, access, path, lock, _identity(path))
    except BaseException as error:
        sock.close()
        if lock >= 0:
            os.close(lock)
        if isinstance(error, OSError):
            raise LocalFaultError(
                "socket-unusable",
                f"cannot listen at {path}: {error.strerror or error}",
                "check that the directory exists and that this user may write to it and use the group",
            ) from error
        raise


def _take_lock(path: str) -> int:
    lock = os.open(f"{path}.lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        os.close(lock)
        if error.errno in (errno.EWOULDBLOCK, errno.EACCES):
            raise _in_use(path) from None
        raise
    return lock


def _remove_stale(path: str) -> None:
    try:
        mode = os.lstat(path).st_mode
    except FileNotFoundError:
        return
    if not stat.S_ISSOCK(mode):
        raise LocalFaultError(
            "socket-path-taken", f"{path} exists and is not a socket", "move it away or choose another path"
        )
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        # Never waits: a listener whose backlog is full is a living one.
        probe.setblocking(False)
        try:
            probe.connect(path)
        except ConnectionRefusedError:
            os.unlink(path)
            return
        except BlockingIOError:
            pass
    raise _in_use(path)


def _in_use(path: str) -> LocalFaultError:
    return LocalFaultError(
        "socket-in-use",
        f"another process listens at {path}",
        "stop the other daemon, or give this one its own socket path and data directory",
    )


def _identity(path: str) -> tuple[int, int]:
    found = os.lstat(path)
    return found.st_dev, found.st_ino
