"""Configuration: the table of settings (records), how values are written (kinds, units), and the file (reader)."""

from __future__ import annotations

from meshnode.config.kinds import split_address
from meshnode.config.reader import for_data_dir, load
from meshnode.config.records import (
    TABLES,
    ApiConfig,
    Config,
    DiscoveryConfig,
    LinksConfig,
    ListenConfig,
    LogConfig,
    NodeConfig,
    PeerConfig,
    RelayConfig,
    SyncConfig,
    settings_of,
    shown,
    validate,
)

__all__ = [
    "TABLES",
    "ApiConfig",
    "Config",
    "DiscoveryConfig",
    "LinksConfig",
    "ListenConfig",
    "LogConfig",
    "NodeConfig",
    "PeerConfig",
    "RelayConfig",
    "SyncConfig",
    "for_data_dir",
    "load",
    "settings_of",
    "shown",
    "split_address",
    "validate",
]
