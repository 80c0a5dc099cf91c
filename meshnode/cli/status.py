"""``meshnode status`` and ``meshnode peers``: is this node well, and whom does it reach."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from meshnode.cli import output
from meshnode.cli.connection import client_command

if TYPE_CHECKING:
    from meshnode.client import Client


@click.command()
@client_command()
def status(client: Client, as_json: bool) -> None:
    """Show this node: identity, counts, and everything that is degraded."""
    node = client.node()
    if as_json:
        output.as_json(node)
        return
    identity = node.identity
    output.fields(
        {
            "node": f"{identity.noc}/{identity.name}",
            "device": identity.device,
            "network": identity.network,
            "certificate": f"valid until {output.time_utc(identity.valid_until_ms)}",
            "version": node.version,
            "clock": output.time_utc(node.time_ms),
            "started": output.time_utc(node.started_ms),
            "addresses": ", ".join(node.addresses),
            "relay": node.relay,
            "peers": f"{node.peers_connected} connected of {node.peers_known} known",
            "incidents": node.incidents,
            "entries": node.entries,
            "journal": node.cursor,
            "store": f"{node.store_bytes / 2**20:.1f} MiB",
        }
    )
    if node.degraded:
        output.line("")
        rows = [[item.code, output.time_utc(item.since_ms), item.reason, item.action] for item in node.degraded]
        output.table(["DEGRADED", "SINCE", "REASON", "WHAT TO DO"], rows)
    if node.refusals:
        output.line("")
        output.table(["REFUSED SINCE START", "TIMES"], sorted(node.refusals.items()))


@click.command()
@client_command()
def peers(client: Client, as_json: bool) -> None:
    """Show who is connected, who is cut off and since when, and who lacks what."""
    found = client.peers()
    if as_json:
        output.as_json(found)
        return
    output.table(
        [
            "PEER",
            "STATE",
            "SINCE",
            "RTT MS",
            "THEY LACK",
            "WE LACK",
            "RELAY",
            "DEVICE",
            "LAST REFUSAL",
            "LAST DIAL",
            "ADDRESSES",
        ],
        [
            [
                f"{peer.noc}/{peer.name or '?'}" if peer.noc else "?",
                peer.state,
                output.time_utc(peer.since_ms),
                peer.round_trip_ms,
                peer.they_lack,
                peer.we_lack,
                peer.relay,
                output.short(peer.device),
                peer.last_refusal,
                peer.last_dial_error,
                ", ".join(peer.addresses),
            ]
            for peer in found
        ],
    )
