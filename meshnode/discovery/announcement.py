"""What a node says about itself on the LAN, and how the same from others is read.

``<16 hex digits>._meshnode._udp.local.``: a random name per process start; the QUIC port; the host's addresses, which
whoever hears the packet sees anyway; and one TXT entry ``n``: a hash of the network root *and the name*. Nodes of the
network recognise each other by it. A stranger who does not know the network root learns neither which network it is nor
whether two nodes are of the same. Not said: NOC, device, version, host name.

The hash recognises, it does not prove: whoever has heard an announcement can repeat it with other addresses.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from ipaddress import ip_address

from meshnode.core.keys import PublicKey, digest
from meshnode.discovery.interfaces import Place
from meshnode.discovery.settings import ADDRESSES_PER_INSTANCE_MAX, INSTANCE_BYTES, SERVICE_TYPE

NETWORK_KEY = b"n"
NETWORK_HASH_BYTES = 8
"""One foreign announcement in 2**64 would be taken for one of ours, and fail its hello."""
ADDRESS_TEXT_MAX = 64
"""Characters of an IPv6 address with a scope, and some to spare."""

_INSTANCE = re.compile(rf"([0-9a-f]{{{2 * INSTANCE_BYTES}}})\.{re.escape(SERVICE_TYPE)}", re.ASCII)


def service_name(instance: str) -> str:
    return f"{instance}.{SERVICE_TYPE}"


def host_name(instance: str) -> str:
    """In place of this machine's own name."""
    return f"{instance}.local."


def network_hash(network_root: PublicKey, instance: str) -> bytes:
    """16 hex digits in ASCII: part of BLAKE2b over the root and the random name."""
    return digest("mesh mdns net", network_root, bytes.fromhex(instance))[:NETWORK_HASH_BYTES].hex().encode()


def instance_untrusted(name: str) -> str | None:
    """The random part of a service name, None when it is not the name of a node."""
    match = _INSTANCE.fullmatch(name) if len(name) < 64 else None
    return match.group(1) if match else None


def is_of_network(properties: Mapping[bytes, bytes | None], network_root: PublicKey, instance: str) -> bool:
    return properties.get(NETWORK_KEY) == network_hash(network_root, instance)


def addresses_untrusted(texts: Iterable[str], port: object, place: Place) -> list[str]:
    """The addresses of an announcement that can be dialled from here, at most four; the rest is passed over.

    Nothing is raised: an announcement is a hint, and a bad one is no hint. This node's own addresses are left out, and
    link-local ones unless there is no other. Those get their scope as a number: peers refuse the form with a name.
    """
    if not isinstance(port, int) or not 0 < port < 65_536:
        return []
    own = {link.address.ip for link in place.links} if port == place.port else set()
    full: list[str] = []
    link_local: list[str] = []
    for text in texts:
        try:
            ip = ip_address(text[:ADDRESS_TEXT_MAX])
        except ValueError:
            continue
        link = place.on_link(ip)
        bare = ip_address(text.partition("%")[0])
        if link is None or bare in own:
            continue
        if bare.version == 4:
            full.append(f"{bare}:{port}")
        elif bare.is_link_local:
            link_local.append(f"[{bare}%{link.index}]:{port}")
        else:
            full.append(f"[{bare}]:{port}")
    return (full or link_local)[:ADDRESSES_PER_INSTANCE_MAX]
