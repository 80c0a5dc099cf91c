"""Who else there is: addresses, when to dial them, and which of two links to one peer stays.

Three kinds of address, none of which is ever needed for the others to work:

* **configured**: dialled for ever, whatever happened before (a mesh that forgets its peers after a long split is
  broken), with back-off from ``redial_min_s`` to ``redial_max_s``, halved at random so that nodes do not beat together;
* **learned** from peers, and **found** by discovery: dialled the same way while they are young, forgotten after
  ``FORGET_AFTER_S`` of failures, bounded per teller, per device and in all.

Whose address it is, is what the hello said that came from there. What a peer **claims** of an address keeps nobody from
dialling it: else whoever is linked could name the addresses of others as its own, and they would be alone.

A peer has one link. When two nodes dial each other at once, both keep the link that the node with the lower device id
dialled; when the same side dialled twice (a restart, a change of address), the newer one stays.
"""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field

from meshnode.core.events import LinkUp, PeerIdentity
from meshnode.core.ids import DeviceId

LEARNED_MAX = 1_024
"""Learned and found addresses in all: 30 nodes with a few addresses each, and room for junk from hostile peers."""
LEARNED_PER_TELLER_MAX = 256
"""Of one peer, and of discovery: more than a mesh has nodes that one node can have dialled, and a quarter of all."""
LEARNED_PER_DEVICE_MAX = 4
"""That one teller claims for one device: one or two interfaces with both families."""
FORGET_AFTER_S = 24 * 3600.0
FORGET_FOUND_AFTER_S = 30 * 60.0
"""The same for what discovery found and nobody proved: announcements repeat, so a flood of them soon makes room."""
DIALS_AT_ONCE_MAX = 16
"""Dials under way: a list of dead addresses must not hold up a live one."""


@dataclass(frozen=True, slots=True)
class DialSettings:
    redial_min_s: float = 1.0
    redial_max_s: float = 60.0


@dataclass(frozen=True, slots=True)
class ConfiguredPeer:
    """Addresses of one peer; whoever answers there must be of this NOC and have this device key, where they are set."""

    addresses: tuple[str, ...]
    noc: str = ""
    device: DeviceId | None = None


@dataclass(slots=True)
class _Target:
    configured: ConfiguredPeer | None
    device: DeviceId | None = None
    """Whose hello came from there last, or who is configured to be there."""
    claimed: DeviceId | None = None
    """Whose address it is, as the teller said."""
    teller: DeviceId | None = None
    """Who told of it; None for discovery."""
    dialing: bool = False
    next_dial_at: float = 0.0
    back_off_s: float = 0.0
    failing_since: float | None = None
    last_code: str = ""

    def leads_to(self, device: DeviceId) -> bool:
        """As far as is known: a proof counts for more than a claim."""
        return device == (self.claimed if self.device is None else self.device)


@dataclass(slots=True)
class Peer:
    """What is known of one device, linked or not."""

    identity: PeerIdentity
    link: int | None = None
    dialed: bool = False
    address: str = ""
    since: float = 0.0
    since_wall_ms: int = 0
    round_trip_s: float | None = None
    last_refusal: str = ""
    addresses: list[str] = field(default_factory=list)


class Peers:
    """One per node. Times are monotonic seconds; wall time is only passed through for the picture."""

    def __init__(
        self, me: DeviceId, configured: Sequence[ConfiguredPeer], settings: DialSettings, rng: random.Random
    ) -> None:
        self._me = me
        self._settings = settings
        self._rng = rng
        self._targets: dict[str, _Target] = {
            address: _Target(configured=peer, device=peer.device) for peer in configured for address in peer.addresses
        }
        self._learned: Counter[DeviceId | None] = Counter()
        """How many addresses each teller told that are kept."""
        self._claims: Counter[tuple[DeviceId | None, DeviceId | None]] = Counter()
        """The same for each (teller, claimed device)."""
        self.known: dict[DeviceId, Peer] = {}
        self.by_link: dict[int, Peer] = {}

    # --- links ----------------------------------------------------------------------------------------------------

    def is_as_configured(self, event: LinkUp) -> bool:
        """False when a dialled address led to another NOC or device than was configured for it."""
        target = self._targets.get(event.address) if event.dialed else None
        if target is None or target.configured is None:
            return True
        wanted = target.configured
        right_noc = not wanted.noc or wanted.noc == event.peer.noc
        return right_noc and (wanted.device is None or wanted.device == event.peer.device)

    def on_link_up(self, event: LinkUp, now: float, wall_ms: int) -> int | None:
        """Takes the link, or refuses it in favour of the one there is. Returns the link to close, if any."""
        device = event.peer.device
        peer = self.known.setdefault(device, Peer(event.peer))
        target = self._targets.get(event.address)
        if target is not None and event.dialed:
            target.dialing = False
            target.back_off_s = 0.0
            target.failing_since = None
            target.last_code = ""
        if target is not None and (event.dialed or target.configured is None):
            target.device = device
        if peer.link is not None and not self._prefers(event, peer):
            return event.link
        replaced = peer.link
        if replaced is not None:
            del self.by_link[replaced]
        peer.identity = event.peer
        peer.link, peer.dialed, peer.address = event.link, event.dialed, event.address
        peer.round_trip_s = None
        if replaced is None:
            peer.since, peer.since_wall_ms = now, wall_ms
        self.by_link[event.link] = peer
        return replaced

    def _prefers(self, event: LinkUp, peer: Peer) -> bool:
        if event.dialed == peer.dialed:
            return True
        return event.dialed == (self._me < event.peer.device)

    def on_link_down(self, link: int, now: float, wall_ms: int) -> Peer | None:
        """The peer that lost its link; None when the link had been replaced or refused before."""
        peer = self.by_link.pop(link, None)
        if peer is None:
            return None
        peer.link = None
        peer.since, peer.since_wall_ms = now, wall_ms
        for target in self._targets.values():
            if peer.identity.device in (target.device, target.claimed):
                target.next_dial_at = now + self._jittered(self._settings.redial_min_s)
        return peer

    # --- addresses ------------------------------------------------------------------------------------------------

    def on_dial_failed(self, address: str, code: str, now: float) -> None:
        target = self._targets.get(address)
        if target is None:
            return
        target.dialing = False
        target.last_code = code
        if target.failing_since is None:
            target.failing_since = now
        was_found = target.device is None and target.claimed is None
        patience_s = FORGET_FOUND_AFTER_S if was_found else FORGET_AFTER_S
        if target.configured is None and now - target.failing_since > patience_s:
            del self._targets[address]
            self._learned[target.teller] -= 1
            self._claims[target.teller, target.claimed] -= 1
            return
        doubled = max(self._settings.redial_min_s, 2 * target.back_off_s)
        target.back_off_s = min(self._settings.redial_max_s, doubled)
        target.next_dial_at = now + self._jittered(target.back_off_s)

    def learn(self, address: str, claimed: DeviceId | None, teller: DeviceId | None, now: float) -> bool:
        """An address that ``teller`` says is of the device ``claimed``; discovery is no teller and claims nothing.
        True when it is new and kept."""
        if claimed == self._me or address in self._targets:
            return False
        claims = 0 if claimed is None else self._claims[teller, claimed]
        told = self._learned[teller]
        if self._learned.total() >= LEARNED_MAX or told >= LEARNED_PER_TELLER_MAX or claims >= LEARNED_PER_DEVICE_MAX:
            return False
        self._learned[teller] += 1
        self._claims[teller, claimed] += 1
        self._targets[address] = _Target(configured=None, claimed=claimed, teller=teller, next_dial_at=now)
        return True

    def learn_source(self, address: str, device: DeviceId, now: float) -> None:
        """A linked peer dialled from there, and said so in its hello: nobody needs to dial it to find out."""
        if self.learn(address, device, device, now):
            self._targets[address].device = device

    def reachable(self) -> list[tuple[DeviceId, str]]:
        """(device, address) of linked peers that this node dialled, for telling others; ascending."""
        linked = ((device, peer) for device, peer in self.known.items() if peer.link is not None)
        return sorted((device, peer.address) for device, peer in linked if peer.dialed)

    def _jittered(self, seconds: float) -> float:
        return seconds * self._rng.uniform(0.5, 1.0)

    def _wanted(self, target: _Target) -> bool:
        if target.dialing or target.device == self._me:
            return False
        peer = self.known.get(target.device) if target.device is not None else None
        return peer is None or peer.link is None

    def due_dials(self, now: float) -> list[str]:
        """Addresses to dial now; each then counts as under way until it links or fails.

        The longest due first, so that many dead addresses hold no other up; those configured before all others.
        """
        due = [
            (target.configured is None, target.next_dial_at, address)
            for address, target in self._targets.items()
            if target.next_dial_at <= now and self._wanted(target)
        ]
        if not due:
            return []
        due.sort(key=lambda row: row[:2])
        under_way = sum(1 for target in self._targets.values() if target.dialing)
        chosen = [address for _, _, address in due[: max(0, DIALS_AT_ONCE_MAX - under_way)]]
        for address in chosen:
            self._targets[address].dialing = True
        return chosen

    def next_deadline(self) -> float | None:
        times = [target.next_dial_at for target in self._targets.values() if self._wanted(target)]
        return min(times, default=None)

    # --- the picture ----------------------------------------------------------------------------------------------

    def addresses_of(self, device: DeviceId) -> list[str]:
        known = [address for address, target in self._targets.items() if target.leads_to(device)]
        peer = self.known.get(device)
        if peer is not None and peer.address and peer.address not in known:
            known.append(peer.address)
        return known

    def is_dialing(self, device: DeviceId) -> bool:
        return any(target.dialing for target in self._targets.values() if target.leads_to(device))

    def unreached(self) -> list[tuple[str, str]]:
        """(address, last code) of configured addresses that never led to anybody."""
        return [
            (address, target.last_code)
            for address, target in self._targets.items()
            if target.configured is not None and target.device is None
        ]
