"""What a configuration expects of this machine, and whether that is so: the group, the sockets' directories, the keys.

Asked by ``meshnode config check`` and at the start. Faults stop a start, notes do not. Of directories on the way to a
socket only modes are looked at: an access list (setfacl) can open what a mode closes, so a closed one is a note.
"""

from __future__ import annotations

import contextlib
import shlex
import stat
from pathlib import Path

from meshnode.config.records import Config
from meshnode.errors import LocalFaultError
from meshnode.storage import keyfiles
from meshnode.storage.lock import check_usable


def group_id(name: str) -> int | None:
    """The number of ``api.group``; None when none is set. LocalFaultError ``config-unknown-group``."""
    if not name:
        return None
    import grp

    try:
        return grp.getgrnam(name).gr_gid
    except KeyError:
        raise LocalFaultError(
            "config-unknown-group", f"api.group: there is no group {name!r}", "create the group or name another"
        ) from None


def closed_directories(config: Config) -> list[LocalFaultError]:
    """For each socket that ``api.group`` cannot reach, the directory that stops it: ``socket-directory-closed``."""
    gid = group_id(config.api.group)
    if gid is None or not config.api.mode & stat.S_IRWXG:
        return []
    found = {}
    for socket in filter(None, (config.socket, config.api.read_socket)):
        directory = _closed_on_the_way(socket, gid)
        if directory is not None:
            found[directory] = LocalFaultError(
                "socket-directory-closed",
                f"api.group {config.api.group} cannot reach {socket}: the mode of {directory} closes it to the group",
                "put the sockets into a directory of that group, like /run/meshnode with mode 0750",
            )
    return list(found.values())


def relay_not_certified() -> LocalFaultError:
    """``node.relay`` is true and the certificate does not allow it."""
    return LocalFaultError(
        "relay-not-certified",
        "node.relay is true, and the certificate of this device does not allow it: it keeps nothing for others",
        "have device.request certified with --relay and enrol again, or set node.relay to false",
    )


def exposed(config: Config) -> list[LocalFaultError]:
    """What is open to more users than its owner may have meant: ``data-dir-open``, ``socket-open``. Stops nothing."""
    found = []
    directory = config.node.data_dir
    with contextlib.suppress(OSError):
        mode = stat.S_IMODE(directory.stat().st_mode)
        if mode & 0o077:
            found.append(
                LocalFaultError(
                    "data-dir-open",
                    f"the data directory {directory} is open to others (mode {mode:04o})",
                    f"chmod 700 {shlex.quote(str(directory))}, and keep sockets for other users elsewhere",
                )
            )
    if config.api.mode & 0o007:
        found.append(
            LocalFaultError(
                "socket-open",
                f"api.mode {config.api.mode:04o} lets every user of this machine use the sockets, {config.socket} "
                "in the name of this NOC",
                'write mode = "0660" and let api.group say who may',
            )
        )
    return found


def faults(config: Config) -> list[LocalFaultError]:
    """What would stop a start by this user, the first to be mended first: the data directory, the keys, the
    directories of the sockets. Whether ports are free and the store is whole is not tried."""
    found = []
    for check in (check_usable, keyfiles.read_identity):
        try:
            check(config.node.data_dir)
        except LocalFaultError as fault:
            found.append(fault)
            break
    directories = {socket.parent for socket in (config.socket, config.api.read_socket) if socket is not None}
    found += [
        LocalFaultError(
            "socket-unusable",
            f"the directory {directory} of the sockets is not there, or this user may not see it",
            "make it, or name another in [api]",
        )
        for directory in sorted(directories - {config.node.data_dir})
        if not directory.is_dir()
    ]
    return found


def notes(config: Config) -> list[str]:
    """What somebody should look at before the start, in sentences; and what was not looked at."""
    found = [_text(fault) for fault in [*closed_directories(config), *exposed(config)]]
    with contextlib.suppress(LocalFaultError):  # told by faults
        if config.node.relay and not keyfiles.read_identity(config.node.data_dir).certificate.relay:
            found.append(_text(relay_not_certified()))
    return [*found, "not looked at: the store, the dates of the certificate, free ports, and whether peers answer"]


def _closed_on_the_way(socket: Path, gid: int) -> Path | None:
    for directory in reversed(socket.parents):
        try:
            status = directory.stat()
        except OSError:
            return None  # not there, or not to be seen: told elsewhere
        needed = stat.S_IXGRP if status.st_gid == gid else stat.S_IXOTH
        if not status.st_mode & needed:
            return directory
    return None


def _text(fault: LocalFaultError) -> str:
    return f"{fault.code}: {fault.reason}; {fault.action}"
