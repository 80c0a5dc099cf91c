"""How one node is cut off from all others while it goes on serving its own people.

* ``PacketDrop``: nftables drops every UDP packet from and to the node's port, silently, as a dead line does. Needs the
  right to write firewall rules, which a private network namespace gives without touching the machine's own rules.
* ``Exile``: without that right the daemon is stopped and started again on another port, with no peers. Nobody knows
  the way to it and it knows the way to nobody; it is the same device on the same data.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from typing import Protocol

from simulations.mesh import Mesh, Node, free_port

TABLE = "meshnode_demo"


class Cut(Protocol):
    how: str
    """One sentence for the reader."""

    def cut_off(self, node: Node) -> None: ...

    def heal(self, node: Node) -> str:
        """Undoes it; what there is to say about it, with numbers."""
        ...


class PacketDrop:
    how = "nftables drops every packet from and to its port"

    def __init__(self, nft: str) -> None:
        self.nft = nft

    def rules(self, node: Node) -> str:
        # On arrival, not on departure: a drop on departure would tell the sender.
        return (
            f"table inet {TABLE} {{ chain arriving {{ type filter hook input priority 0; "
            f"udp dport {node.port} counter drop; udp sport {node.port} counter drop; }}; }}"
        )

    def cut_off(self, node: Node) -> None:
        subprocess.run([self.nft, self.rules(node)], check=True)

    def heal(self, node: Node) -> str:
        listing = subprocess.run([self.nft, "--json", "list", "table", "inet", TABLE], check=True, capture_output=True)
        subprocess.run([self.nft, "delete", "table", "inet", TABLE], check=True)
        return f"{dropped_packets(listing.stdout)} packets were dropped"


class Exile:
    how = "it is started again on another port and with no peers, as this machine gives no right to drop packets"

    def __init__(self, mesh: Mesh) -> None:
        self._mesh = mesh

    def cut_off(self, node: Node) -> None:
        self._config = node.config.read_bytes()
        self._port = node.port
        node.stop()
        node.port = free_port()
        self._mesh.configure(node, [])
        self._mesh.start(node)

    def heal(self, node: Node) -> str:
        node.stop()
        node.port = self._port
        node.config.write_bytes(self._config)
        self._mesh.start(node)
        return "it was started again with its own configuration"


def best_cut(mesh: Mesh) -> Cut:
    """Packets are dropped where nftables is there and may be used in a namespace of our own, else exile."""
    nft = find_program("nft")
    if nft is not None and os.environ.get("MESHNODE_DEMO_NAMESPACE"):
        tried = subprocess.run([nft, "list", "ruleset"], capture_output=True, check=False)
        if tried.returncode == 0:
            return PacketDrop(nft)
    return Exile(mesh)


def find_program(name: str) -> str | None:
    """Also where only root's path leads."""
    return shutil.which(name, path=f"{os.environ.get('PATH', '')}:/usr/sbin:/sbin")


def dropped_packets(listing: bytes) -> int:
    return sum(
        expression["counter"]["packets"]
        for item in json.loads(listing)["nftables"]
        for expression in item.get("rule", {}).get("expr", [])
        if isinstance(expression.get("counter"), dict)
    )
