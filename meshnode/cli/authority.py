"""``meshnode authority``: the ceremony of the network root and of the NOC roots, on a machine without a network."""

from __future__ import annotations

import time
from dataclasses import asdict
from pathlib import Path
from typing import Any

import click

from meshnode.cli import output
from meshnode.cli.base import json_option

_directory_option = click.option(
    "--authority",
    "directory",
    type=click.Path(readable=False, path_type=Path),
    required=True,
    metavar="DIR",
    help="Authority directory.",
)
_passphrase_option = click.option(
    "--passphrase-file",
    type=click.File("rb"),
    metavar="FILE",
    help="Its first line is the passphrase of the root key; - reads it from standard input.",
)


@click.group()
def authority() -> None:
    """Make root keys, and certify NOCs and devices, by files."""


@authority.command("init")
@click.option("--network", metavar="NAME", help="Make the root of a new network, with a name for people.")
@click.option("--noc", metavar="CODE", help="Make the root of one NOC, like BE.")
@click.option(
    "--out",
    type=click.Path(readable=False, path_type=Path),
    required=True,
    metavar="DIR",
    help="New authority directory.",
)
@_passphrase_option
@json_option
def init_command(network: str | None, noc: str | None, out: Path, passphrase_file: Any, as_json: bool) -> None:
    """Make a new root key: of a network, or of a NOC."""
    from meshnode import authority as ceremony

    if (network is None) == (noc is None):
        raise click.UsageError("give either --network NAME or --noc CODE")
    passphrase = _read_passphrase(passphrase_file)
    if network is not None:
        made = ceremony.init_network(out, network, passphrase)
        following = "next: certify the request of each NOC with: meshnode authority certify"
    else:
        made = ceremony.init_noc(out, noc or "", passphrase)
        following = (
            f"next: give {out / ceremony.NOC_REQUEST_FILE} to the network authority, and compare the fingerprint"
        )
    _print_authority(made, as_json)
    if not as_json:
        if passphrase is None:
            output.line(f"keep {out} offline and backed up: whoever has its key can certify anybody")
        output.line(following)


@authority.command()
@_directory_option
@click.argument("request", type=click.Path(readable=False, path_type=Path))
@click.option(
    "--out",
    type=click.Path(readable=False, path_type=Path),
    required=True,
    metavar="FILE",
    help="Certificate to write.",
)
@click.option("--days", type=click.IntRange(min=1), metavar="N", help="Validity; a device 365, a NOC 3650 by default.")
@click.option("--relay", is_flag=True, help="The device may store and forward what it cannot read (a hub).")
@click.option("--replace", is_flag=True, help="Certify a new key for a name that had another one.")
@_passphrase_option
@json_option
def certify(
    directory: Path,
    request: Path,
    out: Path,
    days: int | None,
    relay: bool,
    replace: bool,
    passphrase_file: Any,
    as_json: bool,
) -> None:
    """Sign the request of a NOC (network authority) or of a device (NOC authority)."""
    from meshnode import authority as ceremony
    from meshnode.core.certificates import fingerprint

    issued = ceremony.certify(
        directory,
        request,
        out,
        days=days,
        relay=relay,
        replace=replace,
        passphrase=_read_passphrase(passphrase_file),
        now_s=time.time(),
    )
    mark = fingerprint(bytes.fromhex(issued.key))
    if as_json:
        output.as_json(asdict(issued) | {"fingerprint": mark, "certificate": str(out)})
        return
    output.fields(
        {
            "certified": issued.subject,
            "fingerprint": mark,
            "relay": issued.relay,
            "not after": output.time_utc(issued.not_after_s * 1000),
            "certificate": out,
        }
    )
    output.line("next: compare the fingerprint by voice before you hand the certificate over")


@authority.command()
@_directory_option
@click.argument("certificate", type=click.Path(readable=False, path_type=Path))
@click.option(
    "--network-root",
    type=click.Path(readable=False, path_type=Path),
    metavar="FILE",
    help="The network.root file, if given.",
)
@json_option
def accept(directory: Path, certificate: Path, network_root: Path | None, as_json: bool) -> None:
    """Take in the NOC certificate that the network authority made."""
    from meshnode import authority as ceremony
    from meshnode.enrolment import read_network_root_file

    anchor = read_network_root_file(network_root) if network_root is not None else None
    _print_authority(ceremony.accept(directory, certificate, anchor, time.time()), as_json)
    if network_root is None and not as_json:
        output.line("next: compare the network fingerprint by voice with the network authority")


@authority.command()
@_directory_option
@json_option
def show(directory: Path, as_json: bool) -> None:
    """Show what this authority is and everything it signed."""
    from meshnode import authority as ceremony

    about, issued = ceremony.describe(directory), ceremony.issued(directory)
    if as_json:
        output.as_json(_shown(about) | {"issued": [asdict(item) for item in issued]})
        return
    _print_authority(about, as_json=False)
    rows = [
        [item.subject, output.short(item.key), item.relay, output.time_utc(item.not_after_s * 1000)] for item in issued
    ]
    if rows:
        output.line("")
        output.table(["CERTIFIED", "KEY", "RELAY", "NOT AFTER"], rows)


def _shown(about: Any) -> dict[str, Any]:
    from meshnode.core.certificates import fingerprint

    shown = {"kind": about.kind, "name": about.name, "root": about.root.hex(), "fingerprint": fingerprint(about.root)}
    if about.network is not None:
        shown |= {"network": about.network.hex(), "network_fingerprint": fingerprint(about.network)}
    return shown | {"passphrase": about.sealed}


def _print_authority(about: Any, as_json: bool) -> None:
    shown = _shown(about)
    if as_json:
        output.as_json(shown)
    else:
        output.fields({name.replace("_", " "): value for name, value in shown.items()})


def _read_passphrase(file: Any) -> bytes | None:
    if file is None:
        return None
    from meshnode.errors import LocalFaultError
    from meshnode.storage.sealed_key import PASSPHRASE_BYTES_MAX

    first_line: bytes = file.readline(PASSPHRASE_BYTES_MAX + 1).rstrip(b"\r\n")
    if not 1 <= len(first_line) <= PASSPHRASE_BYTES_MAX:
        raise LocalFaultError(
            "passphrase-unusable",
            f"the first line of the passphrase file must have 1 to {PASSPHRASE_BYTES_MAX} bytes",
            "write the passphrase on the first line",
        )
    return first_line
