"""A network of our own: the demonstration starts itself again in a network namespace, if the kernel allows it.

Then packets can be dropped and copied without touching the machine's network, also without being root: in a user
namespace of our own we are root over that network alone. Unix sockets and files stay reachable from outside.
"""

from __future__ import annotations

import fcntl
import os
import socket
import struct
import subprocess
import sys
from collections.abc import Sequence

from simulations.demo.cut import find_program

MARK = "MESHNODE_DEMO_NAMESPACE"
_SIOCGIFFLAGS, _SIOCSIFFLAGS = 0x8913, 0x8914
_IFF_UP = 0x1
_IFREQ = "16sh14x"


def enter(arguments: Sequence[str]) -> bool:
    """Starts this process over inside a namespace, once. Inside: True. Returns False where there is none to be had."""
    if os.environ.get(MARK):
        _bring_up_loopback()
        return True
    unshare = find_program("unshare")
    if unshare is None:
        return False
    how = [unshare, "--net"] if os.geteuid() == 0 else [unshare, "--map-root-user", "--net"]
    if subprocess.run([*how, "true"], capture_output=True, check=False).returncode != 0:
        return False
    os.environ[MARK] = "net" if os.geteuid() == 0 else "user"
    return os.execv(unshare, [*how, sys.executable, "-m", "simulations.demo", *arguments])  # noqa: S606 - ourselves


def command_inside(pid: int) -> str:
    """How a person runs a command in the namespace of this process."""
    user = "--user --preserve-credentials " if os.environ.get(MARK) == "user" else ""
    return f"nsenter --target {pid} {user}--net"


def _bring_up_loopback() -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as any_socket:
        answer = fcntl.ioctl(any_socket, _SIOCGIFFLAGS, struct.pack(_IFREQ, b"lo", 0))
        _, flags = struct.unpack(_IFREQ, answer)
        fcntl.ioctl(any_socket, _SIOCSIFFLAGS, struct.pack(_IFREQ, b"lo", flags | _IFF_UP))
