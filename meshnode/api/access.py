"""Who is at the other end of a Unix socket, what it may do, and in whose name it acts.

There are two sockets. Who may open ``api.sock`` may read and change; who may open ``read.sock`` may read. The file
system decides, by owner, group and mode, before a byte is exchanged; nothing here re-decides it. The kernel tells who
connected (SO_PEERCRED), which serves accounting (limits per user) and the record.

A local program acts for a named person: it says so in ``Meshnode-Operator``. The node cannot check the name, so it
never stands alone: the user id that the kernel vouches for is appended by us and cannot be left out, forged or hidden
by the name (``duty.officer (uid 1000)``; without a name ``uid:1000``). See decision 0030.
"""

from __future__ import annotations

import socket
import struct
from dataclasses import dataclass
from enum import Enum

from meshnode.api.problems import RequestError

OPERATOR_BYTES_MAX = 128
"""UTF-8 bytes of ``Meshnode-Operator``. Room for a name, a post and a shift; it travels in every entry."""

_UCRED = struct.Struct("=iII")
"""struct ucred: process, user, group."""


class Access(Enum):
    CHANGE = "change"
    READ = "read"


@dataclass(slots=True)
class UserAccount:
    """What one user's clients hold at this moment, over both sockets."""

    connections: int = 0
    body_bytes: int = 0


def peer_uid(sock: socket.socket) -> int:
    """The user id of the process that connected, as the kernel recorded it at that moment."""
    credentials = sock.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _UCRED.size)
    uid: int = _UCRED.unpack(credentials)[1]
    return uid


def operator_text_untrusted(name: bytes | None, uid: int) -> str:
    """The operator of a change: the name given, and always the user id. RequestError ``bad-operator``."""
    if name is None:
        return f"uid:{uid}"
    if len(name) > OPERATOR_BYTES_MAX:
        raise _bad_operator(f"the name has {len(name)} bytes; at most {OPERATOR_BYTES_MAX} are allowed")
    try:
        text = name.decode("utf-8").strip()
    except UnicodeDecodeError:
        raise _bad_operator("the name is not UTF-8") from None
    if not text:
        raise _bad_operator("the name is empty")
    # Not printable: control characters, and the marks that reverse or hide text on a screen.
    if not text.isprintable():
        raise _bad_operator("the name holds characters that do not print")
    # Parentheses and "uid:" belong to what we append; a name that holds them could pass for it at a glance.
    if "(" in text or ")" in text or text.lower().startswith("uid:"):
        raise _bad_operator("the name holds '(' or ')' or starts with 'uid:'")
    return f"{text} (uid {uid})"


def _bad_operator(reason: str) -> RequestError:
    return RequestError("bad-operator", reason, "send a short printable name in Meshnode-Operator, or leave it out")
