"""What mDNS is told, its times and limits, and the codes it reports."""

from __future__ import annotations

import secrets
from dataclasses import dataclass, field

from meshnode.core.keys import PublicKey

SERVICE_TYPE = "_meshnode._udp.local."
INSTANCE_BYTES = 8
"""64 random bits: two nodes of one network never draw the same name, so nothing has to probe for it first."""


@dataclass(frozen=True, slots=True)
class DiscoverySettings:
    network_root: PublicKey
    """Announcements of other networks are passed over."""
    listen: str
    """Where QUIC is bound, ``ip:port`` or ``[ip6]:port``. Decides which addresses are announced and which are taken."""
    interface: str = ""
    """Name or address of the one interface to use; empty for all (the loopback only when there is no other)."""
    instance: str = field(default_factory=lambda: secrets.token_hex(INSTANCE_BYTES))
    """The name in the announcement: new at each process start and tied to nothing: nobody can follow a node by it."""

    start_timeout_s: float = 5.0
    """From the start of a session until its announcement is sent; it takes half a second on a healthy host."""
    stop_timeout_s: float = 1.0
    """For the goodbye. Afterwards the thread is left to itself: the daemon does not wait for mDNS."""
    retry_min_s: float = 1.0
    retry_max_s: float = 60.0
    """Back-off between sessions, doubled each time and halved at random. Returns to the least after a session that
    lasted longer than ``retry_max_s``."""
    beat_s: float = 5.0
    """How often a session shows that it lives, and looks whether the host's interfaces have changed."""
    silence_max_s: float = 30.0
    """A session that showed no life for so long is stuck."""
    ask_again_s: float = 60.0
    """How often the network is asked anew. zeroconf alone asks at the start and then only refreshes what it knows, so
    after a cut longer than the life of the records (75 min) two nodes would never find each other again."""


ADDRESSES_PER_INSTANCE_MAX = 4
"""One or two interfaces with both families; the rest of a long list is left out."""
RESOLVES_MAX = 16
"""Announcements at once whose details are being asked for. Honest ones bring their details along."""
RESOLVE_TIMEOUT_MS = 3_000

HINTS_PER_MINUTE_MAX = 32
"""Addresses passed on in any 60 s: a LAN of 30 nodes in the first minute."""
HINTS_MAX = 256
"""Different addresses passed on in any ``HINTS_KEPT_S``: a quarter of what core.peers keeps of all unconfigured ones,
so a poisoned LAN leaves room for what peers tell."""
HINTS_KEPT_S = 24 * 3600.0
"""As long as core.peers goes on dialling an address that never answers."""
HINT_REPEAT_S = 600.0
"""An address that is still announced is passed on again after this, in case it had been forgotten."""

CODES: dict[str, str] = {
    "mdns-ready": "none; this node is announced and listens for others",
    "mdns-no-interface": "check `discovery.interface` and `listen.address` against the addresses of this host",
    "mdns-unavailable": "check that UDP port 5353 may be used and that the interface takes multicast",
    "mdns-timeout": "none; it is tried again, and configured peers are not affected",
    "mdns-stuck": "restart the daemon when convenient; configured peers are not affected",
    "mdns-interfaces-changed": "none; mDNS starts anew with the present addresses",
    "mdns-flood": "look for a host on this LAN that announces many nodes",
    "mdns-defect": "report it as a defect; it names what the library stumbled over",
}
"""Every code this room reports, and what to do."""
