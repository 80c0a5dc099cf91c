"""Reads a configuration file: TOML in, checked records out, or one error that says where and what to write."""

from __future__ import annotations

import dataclasses
import re
import tomllib
from pathlib import Path
from typing import Any

from meshnode.config.kinds import WrongValueError
from meshnode.config.records import TABLES, Config, NodeConfig, PeerConfig, settings_of, validate
from meshnode.errors import LocalFaultError

FILE_BYTES_MAX = 1024 * 1024
"""A thousand peers take about 100 KB. More than this is not a configuration."""


def for_data_dir(data_dir: Path) -> Config:
    """All defaults, for one data directory."""
    config = Config(node=NodeConfig(data_dir=data_dir))
    validate(config, str(data_dir))
    return config


def load(path: Path) -> Config:
    """The checked configuration in this file, its paths made absolute. Raises LocalFaultError ``config-*``."""
    text = _read_file(path)
    try:
        document = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise LocalFaultError("config-not-toml", f"{path}: {error}", "mend the syntax (https://toml.io)") from None
    config = _absolute(_Reader(path, text).config(document), path.absolute().parent)
    validate(config, str(path))
    return config


class _Reader:
    """Turns one parsed document into records, knowing where in the file each key stands."""

    def __init__(self, path: Path, text: str) -> None:
        self._path = path
        self._lines = text.splitlines()

    def config(self, document: dict[str, Any]) -> Config:
        tables: dict[str, Any] = {}
        for name, content in document.items():
            if name not in TABLES:
                raise self._unknown(name, "", 0, list(TABLES))
            if name == "peer":
                tables["peers"] = self._peers(content)
            else:
                tables[name] = self._table(name, 0, content)
        return Config(**tables)

    def _peers(self, content: Any) -> tuple[PeerConfig, ...]:
        if not isinstance(content, list):
            line = self._line("peer", 0, "")
            raise self._error("config-wrong-type", line, "peer is not a list", "begin each peer with [[peer]]")
        peers = tuple(self._table("peer", number, item) for number, item in enumerate(content))
        for number, peer in enumerate(peers):
            if not peer.addresses:
                line = self._line("peer", number, "")
                reason = "peer.addresses is missing or empty"
                raise self._error("config-missing-key", line, reason, 'add: addresses = ["noc.example:7411"]')
        return peers

    def _table(self, name: str, number: int, content: Any) -> Any:
        if not isinstance(content, dict):
            line = self._line("", 0, name)
            raise self._error("config-wrong-type", line, f"{name} is not a table", f"begin it with [{name}]")
        rows = settings_of(TABLES[name])
        values: dict[str, Any] = {}
        for key, value in content.items():
            if key not in rows:
                raise self._unknown(key, name, number, list(rows))
            field_name, setting = rows[key]
            try:
                values[field_name] = setting.kind.read(value)
            except WrongValueError as wrong:
                line = self._line(name, number, key)
                raise self._error(wrong.code, line, f"{name}.{key}: {wrong.reason}", wrong.action) from None
        return TABLES[name](**values)

    def _unknown(self, key: str, table: str, number: int, known: list[str]) -> LocalFaultError:
        import difflib  # only here: it costs every start of a client some milliseconds

        dotted = f"{table}.{key}" if table else key
        near = difflib.get_close_matches(key, known, n=1, cutoff=0.5)
        action = f"did you mean {near[0]!r}? " if near else ""
        line = self._line(table, number, key)
        return self._error(
            "config-unknown-key",
            line,
            f"there is no setting {dotted!r}",
            f"{action}known here: {', '.join(sorted(known))}",
        )

    def _error(self, code: str, line: int | None, reason: str, action: str) -> LocalFaultError:
        place = f"{self._path}, line {line}" if line else str(self._path)
        return LocalFaultError(code, f"{place}: {reason}", action)

    def _line(self, table: str, number: int, key: str) -> int | None:
        """Where a key stands, as well as a look at the lines can tell; tomllib does not say. None when unsure."""
        current, seen = "", -1
        for at, line in enumerate(self._lines, 1):
            header = re.match(r"\s*\[\[?\s*([A-Za-z0-9_.\"-]+)\s*\]", line)
            if header:
                current = header[1].strip('"')
                seen += current == table
            # A table of the document's top level is named by its own header.
            if current == table and (not table or seen == number) and not key:
                return at
            if header and not table and current == key:
                return at
            if (
                current == table
                and (not table or seen == number)
                and re.match(rf'\s*"?{re.escape(key)}"?\s*[=.]', line)
            ):
                return at
        return None


def _read_file(path: Path) -> str:
    try:
        with path.open("rb") as file:
            data = file.read(FILE_BYTES_MAX + 1)
    except FileNotFoundError:
        raise LocalFaultError(
            "config-missing", f"{path} does not exist", "give the right path of the configuration file"
        ) from None
    except OSError as error:
        raise LocalFaultError("config-unreadable", f"{path}: {error.strerror}", "check its owner and mode") from None
    if len(data) > FILE_BYTES_MAX:
        raise LocalFaultError(
            "config-too-large", f"{path} has more than {FILE_BYTES_MAX} bytes", "is it the right file?"
        )
    try:
        return data.decode("utf-8")
    except UnicodeDecodeError:
        raise LocalFaultError("config-not-toml", f"{path} is not UTF-8 text", "save it as UTF-8") from None


def _absolute(config: Config, base: Path) -> Config:
    api = config.api
    return dataclasses.replace(
        config,
        node=dataclasses.replace(config.node, data_dir=base / config.node.data_dir),
        api=dataclasses.replace(
            api,
            socket=base / api.socket if api.socket else None,
            read_socket=base / api.read_socket if api.read_socket else None,
        ),
    )
