"""The few exceptions that cross rooms.

Every one carries a *code* (stable, kebab-case, listed in ``docs/reason-codes.md``), a *reason* for a person and an
*action* that says what to do next. A room's own errors derive from one of these three; foreign exceptions are
translated where they are met and never travel further.
"""

from __future__ import annotations


class MeshnodeError(Exception):
    """Base of every error this project raises on purpose. It never carries a secret."""

    def __init__(self, code: str, reason: str, action: str = "") -> None:
        super().__init__(f"{code}: {reason}")
        self.code = code
        self.reason = reason
        self.action = action


class UntrustedInputError(MeshnodeError):
    """Bytes from outside were refused. Nothing changed. The sender is at fault, never the reader."""


class RefusedError(MeshnodeError):
    """A request that is well formed cannot be carried out now, or not by this caller. Nothing changed."""


class LocalFaultError(MeshnodeError):
    """This machine is at fault: a disk, a key file, a setting. The action says what the operator should do."""
