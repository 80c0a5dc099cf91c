"""The configuration: one TOML file, read once, checked whole, frozen.

The records below *are* the table of settings. Each field carries its key, its kind, its default and its meaning; the
reader, the checks, ``meshnode config show`` and docs/configuration.md are all driven by it, so none can drift from
another. A key that is not in the table, a value of the wrong type and a number without its unit are refused with the
file, the line and what to write instead: a setting that is silently ignored is found in the first hour of an attack.

Everything has a default except the addresses of a peer. Secrets are not settings: they live in files of the data
directory. Paths are relative to the directory of the configuration file.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from meshnode.config.kinds import (
    ADDRESS,
    ADDRESSES,
    BOOL,
    DEVICE,
    MODE,
    NOC,
    PATH,
    TEXT,
    Kind,
    choice,
    count,
    duration,
    size,
)
from meshnode.errors import LocalFaultError

PEERS_MAX = 1024
"""Configured peers are dialled for ever, each with its own timer; a mesh of all NOCs of the Union is under 200."""
SOCKET_PATH_BYTES_MAX = 107
"""``sun_path`` of Linux holds 108 bytes with the zero at the end."""

DEFAULT_DATA_DIR = Path("/var/lib/meshnode")
DEFAULT_PORT = 7411
GIB = 2**30


@dataclass(frozen=True, slots=True)
class Setting:
    """One row of the table, kept with the field it describes."""

    key: str
    kind: Kind
    meaning: str
    default_text: str = ""
    """Says the default where it is not a value of its own."""


def _row(key: str, kind: Kind, meaning: str, default_text: str = "") -> dict[str, Setting]:
    return {"setting": Setting(key, kind, meaning, default_text)}


@dataclass(frozen=True, slots=True)
class NodeConfig:
    data_dir: Path = field(
        default=DEFAULT_DATA_DIR,
        metadata=_row(
            "data_dir",
            PATH,
            "Where the keys, the certificate and the store of this node live. One daemon per directory.",
        ),
    )
    relay: bool = field(
        default=False,
        metadata=_row(
            "relay",
            BOOL,
            "Store and forward incidents that this node cannot read. The device certificate must allow it. For hubs.",
        ),
    )


@dataclass(frozen=True, slots=True)
class ListenConfig:
    address: str = field(
        default=f"0.0.0.0:{DEFAULT_PORT}",
        metadata=_row(
            "address",
            ADDRESS,
            'UDP address for QUIC. `"[::]:7411"` listens on IPv6 and IPv4; port 0 lets the system choose.',
        ),
    )
    advertise: tuple[str, ...] = field(
        default=(),
        metadata=_row(
            "advertise",
            ADDRESSES,
            "Addresses that peers are told to reach this node at. Needed behind address translation.",
            "what peers see",
        ),
    )


@dataclass(frozen=True, slots=True)
class PeerConfig:
    addresses: tuple[str, ...] = field(
        default=(),
        metadata=_row("addresses", ADDRESSES, "Where to dial this peer, for ever; any of them will do.", "required"),
    )
    noc: str = field(
        default="",
        metadata=_row(
            "noc",
            NOC,
            "Whoever answers there must be of this NOC. Without it any node of the network may be.",
            "any NOC",
        ),
    )
    device: str = field(
        default="",
        metadata=_row(
            "device", DEVICE, "Whoever answers there must have this device key. The strictest pin.", "any device"
        ),
    )


@dataclass(frozen=True, slots=True)
class ApiConfig:
    socket: Path | None = field(
        default=None,
        metadata=_row(
            "socket",
            PATH,
            "Unix socket of the local API. Who can open it may read and write as this NOC.",
            "`api.sock` in `node.data_dir`",
        ),
    )
    read_socket: Path | None = field(
        default=None,
        metadata=_row(
            "read_socket",
            PATH,
            "Second Unix socket that answers reads only, for maps and dashboards.",
            "none is opened",
        ),
    )
    mode: int = field(
        default=0o660,
        metadata=_row("mode", MODE, "File mode of both sockets. With `group`, this decides who may open them."),
    )
    group: str = field(
        default="",
        metadata=_row(
            "group",
            TEXT,
            "Group that the sockets are given to. The daemon's user must be in it.",
            "the daemon's own group",
        ),
    )


@dataclass(frozen=True, slots=True)
class DiscoveryConfig:
    mdns: bool = field(
        default=False,
        metadata=_row(
            "mdns",
            BOOL,
            "Announce this node on the local network and dial nodes announced there. The whole LAN sees it.",
        ),
    )
    interface: str = field(
        default="",
        metadata=_row("interface", TEXT, "Network interface or its address for mDNS, like `eth0`.", "all interfaces"),
    )


@dataclass(frozen=True, slots=True)
class SyncConfig:
    anti_entropy_interval_s: float = field(
        default=10.0,
        metadata=_row(
            "anti_entropy_interval",
            duration("1s", "1h"),
            (
                "How often (with jitter) a peer is asked whether it holds the same. New entries are pushed at once; "
                "this repairs what was missed. Shorter heals sooner and costs about 200 bytes per peer each time."
            ),
        ),
    )


@dataclass(frozen=True, slots=True)
class LinksConfig:
    redial_min_s: float = field(
        default=1.0,
        metadata=_row(
            "redial_min", duration("100ms", "1min"), "First wait after a link fell. It doubles up to `redial_max`."
        ),
    )
    redial_max_s: float = field(
        default=60.0,
        metadata=_row(
            "redial_max", duration("1s", "1h"), "Longest wait between two attempts. Peers are never given up."
        ),
    )
    idle_timeout_s: float = field(
        default=30.0,
        metadata=_row(
            "idle_timeout",
            duration("3s", "10min"),
            (
                "Silence after which a link counts as dead. Keep-alives are sent at a third of it, so shorter "
                "notices a cut sooner and costs more on a thin line."
            ),
        ),
    )
    links_max: int = field(
        default=256,
        metadata=_row(
            "max",
            count(1, 4096),
            (
                "Links and attempts at one time. Each configured peer needs one, and so does each node that dials this "
                "one. A hostile peer can make its link cost 2.5 MiB of memory."
            ),
        ),
    )


@dataclass(frozen=True, slots=True)
class RelayConfig:
    quota_incident_bytes: int = field(
        default=GIB,
        metadata=_row(
            "quota_incident", size("1MiB", "1TiB"), "Most that one unreadable incident may take on this disk."
        ),
    )
    quota_total_bytes: int = field(
        default=16 * GIB,
        metadata=_row("quota_total", size("1MiB", "64TiB"), "Most that all unreadable incidents may take together."),
    )
    time_to_live_s: float = field(
        default=30 * 86400.0,
        metadata=_row(
            "time_to_live",
            duration("1h", "3650d"),
            (
                "An unreadable incident that did not grow for so long, counted while the daemon runs, is dropped. "
                "Choose it longer than the longest cut a member should be able to come back from."
            ),
        ),
    )


@dataclass(frozen=True, slots=True)
class LogConfig:
    level: str = field(
        default="info",
        metadata=_row(
            "level", choice("debug", "info", "warning", "error"), "Least grave message written to standard error."
        ),
    )
    format: str = field(
        default="text",
        metadata=_row("format", choice("text", "json"), "Lines for people, or one JSON object a line for machines."),
    )


@dataclass(frozen=True, slots=True)
class Config:
    """All settings of one node, checked. Made by :func:`load` or :func:`for_data_dir`."""

    node: NodeConfig = NodeConfig()
    listen: ListenConfig = ListenConfig()
    peers: tuple[PeerConfig, ...] = ()
    api: ApiConfig = ApiConfig()
    discovery: DiscoveryConfig = DiscoveryConfig()
    sync: SyncConfig = SyncConfig()
    links: LinksConfig = LinksConfig()
    relay: RelayConfig = RelayConfig()
    log: LogConfig = LogConfig()

    @property
    def socket(self) -> Path:
        """The socket of the local API, wherever it was or was not set."""
        return self.api.socket or self.node.data_dir / "api.sock"


TABLES: Mapping[str, type[Any]] = {
    "node": NodeConfig,
    "listen": ListenConfig,
    "peer": PeerConfig,
    "api": ApiConfig,
    "discovery": DiscoveryConfig,
    "sync": SyncConfig,
    "links": LinksConfig,
    "relay": RelayConfig,
    "log": LogConfig,
}


def settings_of(table: type[Any]) -> dict[str, tuple[str, Setting]]:
    """For each key of a table its field name and its row."""
    rows = [(item.name, item.metadata["setting"]) for item in dataclasses.fields(table)]
    return {setting.key: (name, setting) for name, setting in rows}


def validate(config: Config, source: str) -> None:
    """Everything that concerns more than one setting. Raises LocalFaultError ``config-contradiction`` and others."""

    def demand(holds: bool, code: str, reason: str, action: str) -> None:
        if not holds:
            raise LocalFaultError(code, f"{source}: {reason}", action)

    demand(
        config.links.redial_min_s <= config.links.redial_max_s,
        "config-contradiction",
        "links.redial_min is longer than links.redial_max",
        "make redial_min the shorter one",
    )
    demand(
        config.relay.quota_incident_bytes <= config.relay.quota_total_bytes,
        "config-contradiction",
        "relay.quota_incident is larger than relay.quota_total",
        "one incident cannot take more than all together: lower it",
    )
    demand(
        config.api.read_socket != config.socket,
        "config-contradiction",
        "api.socket and api.read_socket are the same path",
        "give the read-only socket a path of its own, or leave it out",
    )
    demand(
        len(config.peers) <= PEERS_MAX,
        "config-out-of-range",
        f"more than {PEERS_MAX} peers",
        "name a few well-connected peers; the others are learned from them",
    )
    demand(
        len(config.peers) <= config.links.links_max,
        "config-contradiction",
        f"{len(config.peers)} peers and links.max = {config.links.links_max}: some would never be linked",
        "raise links.max, or name fewer peers; the others are learned from them",
    )
    for socket in filter(None, (config.socket, config.api.read_socket)):
        demand(
            len(bytes(socket)) <= SOCKET_PATH_BYTES_MAX,
            "config-socket-path-too-long",
            f"the socket path {socket} has more than {SOCKET_PATH_BYTES_MAX} bytes",
            'set api.socket to a shorter path, like "/run/meshnode/api.sock"',
        )


def shown(config: Config) -> dict[str, Any]:
    """The configuration as TOML-like values with every default filled in, for people and for ``--json``."""

    def table(record: Any) -> dict[str, Any]:
        out: dict[str, Any] = {}
        for key, (name, setting) in settings_of(type(record)).items():
            value = getattr(record, name)
            if value is not None:
                out[key] = setting.kind.show(value)
        return out

    tables: dict[str, Any] = {name: table(getattr(config, name)) for name in TABLES if name != "peer"}
    tables["api"]["socket"] = str(config.socket)
    tables["peer"] = [table(peer) for peer in config.peers]
    return tables
