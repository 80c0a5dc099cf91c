"""What a configuration expects of this machine, and whether that is so: the group, the sockets' directories, the keys.

Asked by ``meshnode config check`` and at the start. Only modes are looked at: an access list of a directory (setfacl)
can open what its mode closes, so a closed directory is a note and stops nothing.
"""

from __future__ import annotations

import stat
from pathlib import Path

from meshnode.config.records import Config
from meshnode.errors import LocalFaultError
from meshnode.storage import keyfiles


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


def notes(config: Config) -> list[str]:
    """What somebody should look at before the start, in sentences; and what was not looked at."""
    found = [_text(fault) for fault in closed_directories(config)]
    for directory in sorted(
        {socket.parent for socket in (config.socket, config.api.read_socket) if socket is not None}
    ):
        if directory != config.node.data_dir and not directory.is_dir():
            found.append(f"the directory {directory} of the sockets is not there, or this user may not see it")
    try:
        identity = keyfiles.read_identity(config.node.data_dir)
    except LocalFaultError as fault:
        found.append(f"this user could not start the node: {_text(fault)}")
    else:
        if config.node.relay and not identity.certificate.relay:
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
