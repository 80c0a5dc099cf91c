"""The configuration: every setting has a meaning and a default, and every mistake is named with its place."""

from __future__ import annotations

import dataclasses
import re
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from meshnode import config as c
from meshnode.config import units
from meshnode.config.records import PEERS_MAX, SOCKET_PATH_BYTES_MAX
from meshnode.errors import LocalFaultError

FULL = """
[node]
data_dir = "data"
relay = true

[listen]
address = "[::]:7000"
advertise = ["noc.example:7411", "[2001:db8::1]:7411"]

[[peer]]
addresses = ["hub.example:7411"]
noc = "EU"

[[peer]]
addresses = ["192.0.2.7:7411", "192.0.2.8:7411"]
device = "DEVICE"

[api]
socket = "/run/meshnode/api.sock"
read_socket = "read.sock"
mode = "0600"
group = "dispatch"

[discovery]
mdns = true
interface = "eth0"

[sync]
anti_entropy_interval = "2500ms"

[links]
redial_min = "250ms"
redial_max = "2min"
idle_timeout = "10s"
max = 40

[relay]
quota_incident = "64MiB"
quota_total = "2GiB"
time_to_live = "24h"

[log]
level = "debug"
format = "json"
""".replace("DEVICE", "ab" * 32)


def write(tmp_path: Path, text: str) -> Path:
    path = tmp_path / "node.toml"
    path.write_text(text, "utf-8")
    return path


def fault(tmp_path: Path, text: str) -> LocalFaultError:
    with pytest.raises(LocalFaultError) as caught:
        c.load(write(tmp_path, text))
    assert caught.value.action
    return caught.value


def test_an_empty_file_gives_every_default(tmp_path: Path) -> None:
    assert c.load(write(tmp_path, "")) == c.Config()


def test_every_setting_is_read_in_its_own_unit(tmp_path: Path) -> None:
    config = c.load(write(tmp_path, FULL))
    assert config == c.Config(
        node=c.NodeConfig(tmp_path / "data", True),
        listen=c.ListenConfig("[::]:7000", ("noc.example:7411", "[2001:db8::1]:7411")),
        peers=(
            c.PeerConfig(("hub.example:7411",), "EU"),
            c.PeerConfig(("192.0.2.7:7411", "192.0.2.8:7411"), "", "ab" * 32),
        ),
        api=c.ApiConfig(Path("/run/meshnode/api.sock"), tmp_path / "read.sock", 0o600, "dispatch"),
        discovery=c.DiscoveryConfig(True, "eth0"),
        sync=c.SyncConfig(2.5),
        links=c.LinksConfig(0.25, 120.0, 10.0, 40),
        relay=c.RelayConfig(64 * 2**20, 2 * 2**30, 86_400.0),
        log=c.LogConfig("debug", "json"),
    )


def test_the_example_above_leaves_out_no_setting() -> None:
    for table, record in c.TABLES.items():
        assert f"[{table}]" in FULL
        for key in c.settings_of(record):
            assert re.search(rf"^{key} = ", FULL, re.MULTILINE), f"{table}.{key}"


def test_what_is_shown_loads_again_as_the_same_configuration(tmp_path: Path) -> None:
    config = c.load(write(tmp_path, FULL))
    lines = []
    for name, table in c.shown(config).items():
        for record in table if isinstance(table, list) else [table]:
            lines.append(f"[[{name}]]" if isinstance(table, list) else f"[{name}]")
            lines += [f"{key} = {_toml(value)}" for key, value in record.items() if value != ""]
    assert c.load(write(tmp_path, "\n".join(lines))) == config


def _toml(value: object) -> str:
    return str(value).lower() if isinstance(value, bool) else repr(value)


def test_the_socket_stands_in_the_data_directory_unless_it_is_set(tmp_path: Path) -> None:
    assert c.for_data_dir(tmp_path).socket == tmp_path / "api.sock"
    assert c.load(write(tmp_path, '[api]\nsocket = "a.sock"')).socket == tmp_path / "a.sock"


@pytest.mark.parametrize(
    ("text", "code", "line", "hint"),
    [
        ("[node]\n\nrelais = true", "config-unknown-key", 3, "'relay'"),
        ("[nodes]\nrelay = true", "config-unknown-key", 1, "'node'"),
        ("mdns = true", "config-unknown-key", 1, "known here"),
        ('[[peer]]\naddresses = ["a:1"]\n[[peer]]\nadresses = ["b:1"]', "config-unknown-key", 4, "'addresses'"),
        ('[node]\nrelay = "yes"', "config-wrong-type", 2, "true or false"),
        ("[node]\ndata_dir = 3", "config-wrong-type", 2, "text in quotes"),
        ('[node]\ndata_dir = ""', "config-bad-value", 2, "path"),
        ('[log]\nlevel = "info\\u0007"', "config-bad-value", 2, "info"),
        ("node = 3", "config-wrong-type", 1, "[node]"),
        ('[peer]\naddresses = ["a:1"]', "config-wrong-type", 1, "[[peer]]"),
        ('[[peer]]\nnoc = "EU"', "config-missing-key", 1, "addresses ="),
        ('[[peer]]\naddresses = ["a:1"]\n[[peer]]\naddresses = []', "config-missing-key", 3, "addresses ="),
        ('[[peer]]\naddresses = ["a"]', "config-bad-value", 2, "host:port"),
        ('[[peer]]\naddresses = "a:1"', "config-wrong-type", 2, "list"),
        ('[[peer]]\naddresses = ["a:1"]\nnoc = "be"', "config-bad-value", 3, "BE"),
        ('[[peer]]\naddresses = ["a:1"]\ndevice = "12"', "config-bad-value", 3, "identity show"),
        ('[listen]\naddress = "::1:7411"', "config-bad-value", 2, "brackets"),
        ('[listen]\naddress = "host:70000"', "config-bad-value", 2, "host:port"),
        ('[api]\nmode = "660"', "config-bad-value", 2, "0660"),
        ("[api]\nmode = 660", "config-wrong-type", 2, "0660"),
        ("[sync]\nanti_entropy_interval = 10", "config-wrong-unit", 2, '"10s"'),
        ('[sync]\nanti_entropy_interval = "10"', "config-wrong-unit", 2, '"10s"'),
        ('[sync]\nanti_entropy_interval = "10KiB"', "config-wrong-unit", 2, '"10s"'),
        ('[sync]\nanti_entropy_interval = "10ms"', "config-out-of-range", 2, "1s to 1h"),
        ('[relay]\nquota_total = "64kB"', "config-wrong-unit", 2, '"64MiB"'),
        ('[relay]\nquota_total = "0.3B"', "config-wrong-unit", 2, '"64MiB"'),
        ('[relay]\nquota_incident = "1KiB"', "config-out-of-range", 2, "1TiB"),
        ("[relay]\nquota_total = 1979-05-27", "config-wrong-type", 2, "size"),
        ("[links]\nmax = 0", "config-out-of-range", 2, "1 to 4096"),
        ("[links]\nmax = 4097", "config-out-of-range", 2, "1 to 4096"),
        ('[links]\nmax = "40"', "config-wrong-type", 2, "whole number"),
        ("[links]\nmax = true", "config-wrong-type", 2, "whole number"),
        ('[log]\nlevel = "loud"', "config-bad-value", 2, '"info"'),
        ("[node]\nrelay = \n", "config-not-toml", 2, "toml"),
        ('[links]\nredial_min = "1min"\nredial_max = "2s"', "config-contradiction", 0, "redial_min"),
        ("[links]\nmax = 1\n" + '[[peer]]\naddresses = ["a:1"]\n' * 2, "config-contradiction", 0, "links.max"),
        ('[relay]\nquota_incident = "2GiB"\nquota_total = "1GiB"', "config-contradiction", 0, "lower it"),
        ('[api]\nsocket = "/a"\nread_socket = "/a"', "config-contradiction", 0, "path of its own"),
        (f'[api]\nsocket = "/{"x" * SOCKET_PATH_BYTES_MAX}"', "config-socket-path-too-long", 0, "shorter"),
        ('[[peer]]\naddresses = ["a:1"]\n' * (PEERS_MAX + 1), "config-out-of-range", 0, "well-connected"),
    ],
)
def test_a_mistake_is_named_with_its_place_and_what_to_write(
    tmp_path: Path, text: str, code: str, line: int, hint: str
) -> None:
    error = fault(tmp_path, text)
    assert error.code == code
    assert str(tmp_path / "node.toml") in error.reason
    if line:
        assert f"line {line}" in error.reason
    assert hint in error.action


def test_a_missing_an_unreadable_and_a_huge_file_are_local_faults(tmp_path: Path) -> None:
    for path, code in ((tmp_path / "none.toml", "config-missing"), (tmp_path, "config-unreadable")):
        with pytest.raises(LocalFaultError) as caught:
            c.load(path)
        assert caught.value.code == code
    assert fault(tmp_path, "#" * (1024 * 1024 + 1)).code == "config-too-large"
    (tmp_path / "latin.toml").write_bytes(b'[api]\ngroup = "\xe9"')
    with pytest.raises(LocalFaultError, match="config-not-toml"):
        c.load(tmp_path / "latin.toml")


def test_every_default_is_a_value_that_its_own_kind_accepts() -> None:
    for table, record in c.TABLES.items():
        for name, setting in c.settings_of(record).values():
            default = next(item.default for item in dataclasses.fields(record) if item.name == name)
            if default in (None, "", ()):
                assert setting.default_text or table == "peer", f"{table}.{setting.key}"
            else:
                assert setting.kind.read(setting.kind.show(default)) == default


def test_every_setting_is_frozen_and_has_a_meaning() -> None:
    for record in c.TABLES.values():
        assert record.__dataclass_params__.frozen
        for _, setting in c.settings_of(record).values():
            assert setting.meaning.endswith(".")


@pytest.mark.parametrize(
    ("text", "address"),
    [("a:1", ("a", 1)), ("[::1]:65535", ("::1", 65535)), ("[fe80::1%eth0]:0", ("fe80::1%eth0", 0))],
)
def test_an_address_splits_into_host_and_port(text: str, address: tuple[str, int]) -> None:
    assert c.split_address(text) == address


@given(st.integers(0, 10**8))
def test_a_duration_and_a_size_read_back_as_they_are_written(number: int) -> None:
    assert units.parse_duration_s(units.format_duration(number)) == number
    assert units.parse_size_bytes(units.format_size(number)) == number


@pytest.mark.parametrize(
    "text", ["", "s", "10", "1 0s", "-1s", "1e3s", "1sec", "1S", "1,5s", "\u0661s", "1s\n", "1.2345s"]
)
def test_what_is_no_duration_is_none(text: str) -> None:
    assert units.parse_duration_s(text) is None


def test_both_ways_to_write_a_fraction_are_exact() -> None:
    assert units.parse_duration_s("1.5s") == units.parse_duration_s("1500ms") == 1.5
    assert units.parse_size_bytes("1.5KiB") == 1536
    assert units.format_duration(0.25) == "250ms"
