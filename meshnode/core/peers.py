"""Who else there is: addresses, when to dial them, and which of two links to one peer stays.

Three kinds of address, none of which is ever needed for the others to work:

* **configured**: dialled for ever, whatever happened before (a mesh that forgets its peers after a long split is
  broken), with back-off from ``redial_min_s`` to ``redial_max_s``, halved at random so that nodes do not beat together;
* **learned** from peers, and **found** by discovery: dialled the same way while they are young, forgotten after
  ``FORGET_AFTER_S`` of failures, bounded per teller, per device and in all.

Whose address it is, is what the hello said that came from there. What a peer **claims** of an address keeps nobody from
dialling it: else whoever is linked could name the addresses of others as its own, and they would be alone.

A peer has one link. When two nodes dial each other at once, both keep the link that the node with the lower device id
dialled; when the same side dialled twice (a restart, a change of address), the newer one stays. Who accepts a link does
not know yet whether the dialler wants it: beside a link that works it waits until the dialler said something on it.

Linked peers are told of each other: what a device says of itself, and where it was dialled; of a device that says
nothing of itself, where it dialled from. Nobody passes on what it has only heard of others.
"""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from heapq import heappop, heappush

from meshnode.core.events import LinkUp, PeerIdentity
from meshnode.core.ids import DeviceId

LEARNED_MAX = 1_024
"""Learned and found addresses in all: 30 nodes with a few addresses each, and room for junk from hostile peers."""
LEARNED_PER_TELLER_MAX = 256
"""Of one peer, and of discovery: four of each of 60 nodes that one node can be linked with, and a quarter of all."""
LEARNED_PER_DEVICE_MAX = 4
"""That one teller claims for one device: one or two interfaces with both families."""
FORGET_AFTER_S = 24 * 3600.0
FORGET_FOUND_AFTER_S = 30 * 60.0
"""The same for what discovery found and nobody proved: announcements repeat, so a flood of them soon makes room."""
DIALS_AT_ONCE_MAX = 16
"""Dials under way: a list of dead addresses must not hold up a live one."""

_NOT_REFUSED = frozenset(
    (
        *("", "closed", "closed-by-peer", "idle-timeout", "link-superseded", "shutting-down", "transport-failed"),
        *("connect-timeout", "hello-timeout", "connection-refused", "network-path-lost", "too-many-links"),
        *("bad-address", "name-not-found", "name-timeout", "address-family", "send-queue-full"),
    )
)
"""Why a link or a dial ended without anybody having refused anybody."""


def is_refusal(code: str) -> bool:
    """Whether one end of a link or dial that ended with this code refused what the other one is, or sent."""
    return code.removeprefix("peer-") not in _NOT_REFUSED


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
    """Why the last dial failed; empty after one that did not."""
    last_refusal: str = ""
    """The last code of a refusal, there or of who came from there."""
    reached: bool = False
    found: str = ""
    """Who answered there in place of whom is configured, when that was so the last time somebody did."""
    found_wall_ms: int = 0

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
    """Since when it is linked, or is not linked any more; 0 before it ever was. A link counts once the peer said
    something on it: one that it refuses at once moves nothing."""
    unheard_since: tuple[float, int] = (0.0, 0)
    """The two as they were before the link on which it said nothing yet."""
    heard: bool = False
    round_trip_s: float | None = None
    last_refusal: str = ""
    own_addresses: list[str] = field(default_factory=list)
    """Where it said on its link that it wants to be reached."""


@dataclass(frozen=True, slots=True)
class Unreached:
    """A configured peer of whose addresses none ever led to it."""

    configured: ConfiguredPeer
    dialing: bool
    last_code: str
    last_refusal: str


@dataclass(frozen=True, slots=True)
class Misfit:
    """Somebody answers at a configured address who is not configured for it."""

    address: str
    expected: str
    found: str
    since_wall_ms: int


_Dial = tuple[float, int, str]
"""When, in which order at one time, address."""


class Peers:
    """One per node. Times are monotonic seconds; wall time is only passed through for the picture."""

    def __init__(
        self, me: DeviceId, configured: Sequence[ConfiguredPeer], settings: DialSettings, rng: random.Random
    ) -> None:
        self._me = me
        self._configured = tuple(configured)
        self._settings = settings
        self._rng = rng
        self._targets: dict[str, _Target] = {
            address: _Target(configured=peer, device=peer.device) for peer in configured for address in peer.addresses
        }
        self._named = tuple(self._targets.values())
        self._learned: Counter[DeviceId | None] = Counter()
        """How many addresses each teller told that are kept."""
        self._claims: dict[tuple[DeviceId | None, DeviceId], list[str]] = {}
        """Which of them each (teller, claimed device) are, oldest first."""
        self.known: dict[DeviceId, Peer] = {}
        self.by_link: dict[int, Peer] = {}
        self._waiting: dict[DeviceId, LinkUp] = {}
        """Accepted links beside one that works, on which the dialler said nothing yet."""
        self._misfits: dict[str, None] = {}
        """Configured addresses at which somebody else answered the last time."""
        self._dials: tuple[list[_Dial], list[_Dial]] = ([], [])
        """Two heaps, of configured addresses and of others, so that a step costs the same however many there are. A row
        counts while its address is due at this time and wanted; each change that makes one wanted plans it anew."""
        self._dials_planned = 0
        self._under_way = 0
        for address in self._targets:
            self._plan_dial(address, 0.0)

    # --- links ----------------------------------------------------------------------------------------------------

    def is_as_configured(self, event: LinkUp) -> bool:
        """False when a dialled address led to another NOC or device than was configured for it."""
        target = self._targets.get(event.address) if event.dialed else None
        if target is None or target.configured is None:
            return True
        wanted = target.configured
        right_noc = not wanted.noc or wanted.noc == event.peer.noc
        return right_noc and (wanted.device is None or wanted.device == event.peer.device)

    def on_not_as_configured(self, event: LinkUp, now: float, wall_ms: int) -> None:
        """Notes who answers where another is configured. A link that the same device has otherwise stays as it is."""
        target = self._targets[event.address]
        if not target.found:
            target.found_wall_ms = wall_ms
        target.found = f"{event.peer.noc}/{event.peer.name} ({event.peer.device.hex()[:8]})"
        self._misfits[event.address] = None
        self.known.setdefault(event.peer.device, Peer(event.peer)).last_refusal = "not-as-configured"
        self.on_dial_failed(event.address, "not-as-configured", now)

    def misfits(self) -> list[Misfit]:
        """In the order of the configuration."""
        if not self._misfits:
            return []
        return [
            Misfit(address, _expected(target.configured), target.found, target.found_wall_ms)
            for address, target in self._targets.items()
            if target.configured is not None and address in self._misfits
        ]

    def must_wait(self, event: LinkUp) -> bool:
        """Whether the link only takes the place of the one there is when its dialler says something on it."""
        peer = self.known.get(event.peer.device)
        return not event.dialed and peer is not None and peer.link is not None and self._prefers(event, peer)

    def wait(self, event: LinkUp) -> int | None:
        """Keeps the link until it is heard of. Returns the link to close that waited before: one for each device."""
        before = self._waiting.get(event.peer.device)
        self._waiting[event.peer.device] = event
        return None if before is None else before.link

    def waited(self, link: int) -> LinkUp | None:
        """Ends the waiting of a link; None when it was not waiting."""
        for device, event in self._waiting.items():
            if event.link == link:
                return self._waiting.pop(device)
        return None

    def on_heard(self, link: int) -> None:
        """The peer said something on its link."""
        self.by_link[link].heard = True

    def is_alone(self) -> bool:
        return next((False for peer in self.by_link.values() if peer.heard), True)

    def is_named(self, device: DeviceId) -> bool:
        """Did the operator of this node name the device, or was it the last to prove itself at an address that the
        operator named? What a peer says of itself does not count."""
        return any(target.device == device for target in self._named)

    def on_link_up(self, event: LinkUp, now: float, wall_ms: int) -> int | None:
        """Takes the link, or refuses it in favour of the one there is. Returns the link to close, if any."""
        device = event.peer.device
        peer = self.known.setdefault(device, Peer(event.peer))
        target = self._targets.get(event.address)
        if target is not None and event.dialed:
            self._end_dial(target)
            target.back_off_s = 0.0
            target.failing_since = None
            target.last_code = target.last_refusal = target.found = ""
            self._misfits.pop(event.address, None)
            target.reached = True
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
            peer.unheard_since = (peer.since, peer.since_wall_ms)
            peer.since, peer.since_wall_ms = now, wall_ms
            peer.heard = False
            peer.own_addresses = []
        self.by_link[event.link] = peer
        return replaced

    def _prefers(self, event: LinkUp, peer: Peer) -> bool:
        if event.peer.start != peer.identity.start:
            return True  # the process at the other end of the old link is gone, and that link has not noticed
        if event.dialed == peer.dialed:
            return True
        return event.dialed == (self._me < event.peer.device)

    def on_link_down(self, link: int, code: str, now: float, wall_ms: int) -> Peer | None:
        """The peer that lost its link; None when the link had been replaced or refused before."""
        waiting = self.waited(link)
        if waiting is not None:
            self._note_refusal(self.known[waiting.peer.device], code)
            return None
        peer = self.by_link.pop(link, None)
        if peer is None:
            return None
        self._note_refusal(peer, code)
        peer.link = None
        peer.since, peer.since_wall_ms = (now, wall_ms) if peer.heard else peer.unheard_since
        for address, target in self._targets.items():
            if peer.identity.device in (target.device, target.claimed):
                self._plan_dial(address, now + self._jittered(self._settings.redial_min_s))
        return peer

    @staticmethod
    def _note_refusal(peer: Peer, code: str) -> None:
        if is_refusal(code):
            peer.last_refusal = code

    # --- addresses ------------------------------------------------------------------------------------------------

    def on_dial_failed(self, address: str, code: str, now: float) -> None:
        target = self._targets.get(address)
        if target is None:
            return
        self.on_refused(address, code)
        self._end_dial(target)
        target.last_code = code
        if target.failing_since is None:
            target.failing_since = now
        was_found = target.device is None and target.claimed is None
        patience_s = FORGET_FOUND_AFTER_S if was_found else FORGET_AFTER_S
        if target.configured is None and now - target.failing_since > patience_s:
            self._forget(address)
            return
        doubled = max(self._settings.redial_min_s, 2 * target.back_off_s)
        target.back_off_s = min(self._settings.redial_max_s, doubled)
        self._plan_dial(address, now + self._jittered(target.back_off_s))

    def on_refused(self, address: str, code: str) -> None:
        """One end refused the other before there was a link, so whose address it is says who that was: the device that
        is configured for it or was proven there. Nothing is made of an address that is not known."""
        target = self._targets.get(address)
        if target is None or not is_refusal(code):
            return
        target.last_refusal = code
        peer = None if target.device is None else self.known.get(target.device)
        if peer is not None:
            peer.last_refusal = code

    def _forget(self, address: str) -> None:
        target = self._targets.pop(address)
        self._end_dial(target)
        self._learned[target.teller] -= 1
        if target.claimed is not None:
            claims = self._claims[target.teller, target.claimed]
            claims.remove(address)
            if not claims:
                del self._claims[target.teller, target.claimed]

    def learn(self, address: str, claimed: DeviceId | None, teller: DeviceId | None, now: float) -> bool:
        """An address that ``teller`` says is of the device ``claimed``; discovery is no teller and claims nothing.
        True when it is new and kept. Of the addresses that one says a device has, what fails longest makes room."""
        if claimed == self._me or address in self._targets:
            return False
        claims = [] if claimed is None else self._claims.get((teller, claimed), [])
        if len(claims) >= LEARNED_PER_DEVICE_MAX:
            failing = [(since, old) for old in claims if (since := self._failing_since(old)) is not None]
            if not failing:
                return False
            self._forget(min(failing)[1])
        if self._learned.total() >= LEARNED_MAX or self._learned[teller] >= LEARNED_PER_TELLER_MAX:
            return False
        self._learned[teller] += 1
        if claimed is not None:
            self._claims.setdefault((teller, claimed), []).append(address)
        self._targets[address] = _Target(configured=None, claimed=claimed, teller=teller)
        self._plan_dial(address, now)
        return True

    def _failing_since(self, address: str) -> float | None:
        target = self._targets[address]
        return None if target.dialing else target.failing_since

    def learn_source(self, address: str, device: DeviceId, now: float) -> None:
        """A linked peer dialled from there, and said so in its hello: nobody needs to dial it to find out."""
        if self.learn(address, device, device, now):
            self._targets[address].device = device

    def learn_own(self, address: str, peer: Peer) -> None:
        """A linked peer wants to be reached there: that is passed on, whether it is dialled from here or not."""
        if address not in peer.own_addresses and len(peer.own_addresses) < LEARNED_PER_DEVICE_MAX:
            peer.own_addresses.append(address)

    def introductions(self) -> list[tuple[DeviceId, str]]:
        """(device, address) of linked peers, for telling others; ascending by device, the best address first."""
        rows = []
        for device, peer in sorted(self.known.items()):
            if peer.link is None:
                continue
            addresses = list(peer.own_addresses)
            if peer.address not in addresses and (peer.dialed or not addresses):
                addresses.append(peer.address)
            rows += [(device, address) for address in addresses]
        return rows

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
        chosen = []
        for heap in self._dials:
            while self._under_way < DIALS_AT_ONCE_MAX and heap and heap[0][0] <= now:
                row = heappop(heap)
                if self._counts(row):
                    self._targets[row[2]].dialing = True
                    self._under_way += 1
                    chosen.append(row[2])
        return chosen

    def next_deadline(self) -> float | None:
        if self._under_way >= DIALS_AT_ONCE_MAX:
            return None  # the end of one is an event; until then a wake-up would find nothing to do, again and again
        for heap in self._dials:
            while heap and not self._counts(heap[0]):
                heappop(heap)
        return min((heap[0][0] for heap in self._dials if heap), default=None)

    def _plan_dial(self, address: str, at: float) -> None:
        target = self._targets[address]
        target.next_dial_at = at
        self._dials_planned += 1
        heappush(self._dials[target.configured is None], (at, self._dials_planned, address))

    def _end_dial(self, target: _Target) -> None:
        self._under_way -= target.dialing
        target.dialing = False

    def _counts(self, row: _Dial) -> bool:
        target = self._targets.get(row[2])
        return target is not None and target.next_dial_at == row[0] and self._wanted(target)

    # --- the picture ----------------------------------------------------------------------------------------------

    def addresses_of(self, device: DeviceId) -> list[str]:
        known = [address for address, target in self._targets.items() if target.leads_to(device)]
        peer = self.known.get(device)
        if peer is not None and peer.address and peer.address not in known:
            known.append(peer.address)
        return known

    def is_dialing(self, device: DeviceId) -> bool:
        return any(target.dialing for target in self._targets.values() if target.leads_to(device))

    def dial_error(self, device: DeviceId) -> str:
        """Why the last dial of an address that leads there failed; empty when it is linked or no dial failed."""
        peer = self.known.get(device)
        if peer is not None and peer.link is not None:
            return ""
        return next(
            (target.last_code for target in self._targets.values() if target.leads_to(device) and target.last_code), ""
        )

    def refusal(self, device: DeviceId) -> str:
        """The newest refusal concerning a device, linked or not."""
        peer = self.known.get(device)
        if peer is not None:
            return peer.last_refusal
        targets = [target for target in self._targets.values() if target.device == device]
        return next((target.last_refusal for target in targets if target.last_refusal), "")

    def unreached(self) -> list[Unreached]:
        """In the order of the configuration."""
        found = []
        for configured in self._configured:
            targets = [self._targets[address] for address in configured.addresses]
            if not any(target.reached for target in targets):
                codes = [target.last_code for target in targets if target.last_code]
                refusals = [target.last_refusal for target in targets if target.last_refusal]
                dialing = any(target.dialing for target in targets)
                found.append(Unreached(configured, dialing, "".join(codes[:1]), "".join(refusals[:1])))
        return found


def _expected(configured: ConfiguredPeer) -> str:
    who = [configured.noc] if configured.noc else []
    return "/".join(who + ([f"device {configured.device.hex()[:8]}"] if configured.device is not None else []))
