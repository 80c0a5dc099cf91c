"""Settings of the local API: where its sockets are, and every limit with its reason.

The limits protect one thing: that a stuck, slow, half-open or flooding client costs the other clients nothing (fault
O6). They are per client where one client is at fault, per user where many clients of one user are, and total only
where the machine itself is the bound. Sizes that are part of the contract (changes in a request, items in a page)
stand with the request records in ``records.py``, because they appear in the OpenAPI document.
"""

from __future__ import annotations

from dataclasses import dataclass, field, fields

from meshnode.errors import LocalFaultError


@dataclass(frozen=True, slots=True)
class ApiLimits:
    """Frozen so that a test can shorten one time-out and leave the rest alone."""

    header_bytes_max: int = 16 * 1024
    """Request line and header fields of one request. Ours are under 1 KiB; browser proxies add a few."""

    body_bytes_max: int = 2 * 1024 * 1024
    """One request body. The largest useful one carries an attachment of 1 MiB as base64 (1.34 MiB) and its changes."""

    body_bytes_per_user_max: int = 32 * 1024 * 1024
    """Bodies held in memory at one time for one user: sixteen full ones. 64 connections at 2 MiB would be 128 MiB."""

    connections_per_socket_max: int = 128
    """A NOC runs tens of local programs. Each connection is a descriptor and a task of about 20 KiB."""

    connections_per_user_max: int = 64
    """Half of the above, so that one user's runaway program leaves half of the socket to the others."""

    streams_max: int = 32
    """Subscribers of the event stream. Each reads the journal again for itself when it grows."""

    request_read_s: float = 10.0
    """From the first byte of a request to its last. 2 MiB over a Unix socket take milliseconds."""

    idle_s: float = 75.0
    """A connection kept open between requests. Above the usual 60 s of pooled clients, so that they close first."""

    write_s: float = 30.0
    """One response, or one batch of events, taken by the client. Short enough to free the task, long enough for a
    program that was stopped in a debugger or swapped out."""

    heartbeat_s: float = 15.0
    """Between comments on a quiet event stream. Below every common proxy's 30 s or 60 s idle cut."""

    stream_page_max: int = 100
    """Journal entries sent to one subscriber before others get their turn: about 100 KB of JSON."""

    accept_pause_s: float = 0.1
    """Rest after the process ran out of descriptors, so that accepting does not spin (fault P12)."""

    def validate(self) -> None:
        for item in fields(self):
            value = getattr(self, item.name)
            if not value > 0:
                raise LocalFaultError(
                    "bad-setting", f"api limit {item.name} is {value}; it must be above zero", "mend the configuration"
                )


@dataclass(frozen=True, slots=True)
class SocketSettings:
    """One listening socket. Whoever may open the file may use the socket: mode and group are the access list."""

    path: str
    mode: int = 0o660
    group_id: int | None = None
    """Numeric group that owns the file; None leaves the group of the process."""


@dataclass(frozen=True, slots=True)
class ApiSettings:
    change: SocketSettings | None
    """Read and change (``api.sock``). None: not opened here, for instance because it was handed in."""
    read: SocketSettings | None
    """Read only (``read.sock``). None: no such socket."""
    limits: ApiLimits = field(default_factory=ApiLimits)

    def validate(self) -> None:
        self.limits.validate()
        paths = [settings.path for settings in (self.change, self.read) if settings is not None]
        if len(set(paths)) != len(paths):
            raise LocalFaultError(
                "bad-setting", f"both API sockets are set to {paths[0]}", "give the read-only socket its own path"
            )
        for settings in (self.change, self.read):
            if settings is not None and not 0 <= settings.mode <= 0o777:
                raise LocalFaultError(
                    "bad-setting",
                    f"mode {settings.mode:o} of {settings.path} is not a file mode",
                    "use for example 0660",
                )
