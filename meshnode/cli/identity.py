"""``meshnode init``, ``meshnode enrol`` and ``meshnode identity show``: how this machine becomes a node.

The files do the cryptography; the fingerprints printed here are for people to compare by voice, which is the only
proof that a request comes from the colleague it names.
"""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import click

from meshnode.cli import output
from meshnode.cli.base import json_option

data_option = click.option(
    "--data",
    "data_dir",
    type=click.Path(readable=False, path_type=Path),
    required=True,
    metavar="DIR",
    help="Data directory of the node.",
)


@click.command()
@data_option
@click.option("--noc", required=True, metavar="CODE", help="NOC of this node, like BE.")
@click.option("--name", required=True, metavar="NAME", help="Name of this node in its NOC, like be-1.")
@json_option
def init(data_dir: Path, noc: str, name: str, as_json: bool) -> None:
    """Make the keys of a new node, and a request for its NOC authority."""
    from meshnode import enrolment
    from meshnode.core.certificates import fingerprint
    from meshnode.storage.keyfiles import REQUEST_FILE

    device = enrolment.init_node(data_dir, noc, name)
    request = data_dir / REQUEST_FILE
    shown = {"device": device.hex(), "fingerprint": fingerprint(device), "request": str(request)}
    if as_json:
        output.as_json(shown)
        return
    output.fields(shown)
    output.line(f"next: give {request} to the authority of {noc}, and compare the fingerprint by voice;")
    output.line(f"      then: meshnode enrol --data {data_dir} CERTIFICATE")


@click.command()
@data_option
@click.argument("bundle", type=click.Path(readable=False, path_type=Path), metavar="CERTIFICATE")
@click.option(
    "--network-root",
    type=click.Path(readable=False, path_type=Path),
    metavar="FILE",
    help="The network.root file, if you were given it: the certificate must be of that network.",
)
@json_option
def enrol(data_dir: Path, bundle: Path, network_root: Path | None, as_json: bool) -> None:
    """Take in the certificate that the NOC authority made for this node."""
    from meshnode import enrolment

    anchor = enrolment.read_network_root_file(network_root) if network_root is not None else None
    enrolled = enrolment.enrol(data_dir, bundle, anchor, time.time())
    shown = _shown(enrolled)
    if as_json:
        output.as_json(shown)
        return
    output.fields(_for_people(shown))
    if network_root is None:
        output.line("next: compare the network fingerprint by voice with the network authority;")
        output.line(f"      then: meshnode run --data {data_dir}")
    else:
        output.line(f"next: meshnode run --data {data_dir}, or with a configuration that names peers: --config FILE")


@click.group()
def identity() -> None:
    """Who this node is."""


@identity.command()
@data_option
@json_option
def show(data_dir: Path, as_json: bool) -> None:
    """Show the device, its certificate and its network."""
    from meshnode import enrolment

    shown = _shown(enrolment.read_enrolment(data_dir))
    if as_json:
        output.as_json(shown)
        return
    output.fields(_for_people(shown))
    if not shown["enrolled"]:
        output.line(
            f"next: have {data_dir}/device.request certified, then: meshnode enrol --data {data_dir} CERTIFICATE"
        )


def _shown(enrolled: Any) -> dict[str, Any]:
    """What ``--json`` prints of an Enrolment; documented in docs/cli.md."""
    from meshnode.core.certificates import check_validity, fingerprint
    from meshnode.errors import UntrustedInputError

    shown: dict[str, Any] = {
        "enrolled": enrolled.certificate is not None,
        "device": enrolled.device.hex(),
        "fingerprint": fingerprint(enrolled.device),
    }
    if enrolled.network is not None:
        shown |= {"network": enrolled.network.hex(), "network_fingerprint": fingerprint(enrolled.network)}
    certificate = enrolled.certificate
    if certificate is not None:
        try:
            check_validity(certificate, time.time())
            valid = True
        except UntrustedInputError:
            valid = False
        shown |= {
            "noc": certificate.noc,
            "name": certificate.name,
            "relay": certificate.relay,
            "not_before_ms": certificate.not_before_s * 1000,
            "not_after_ms": certificate.not_after_s * 1000,
            "valid": valid,
        }
    return shown


def _for_people(shown: dict[str, Any]) -> dict[str, Any]:
    return {
        name.removesuffix("_ms").replace("_", " "): output.time_utc(value) if name.endswith("_ms") else value
        for name, value in shown.items()
    }
