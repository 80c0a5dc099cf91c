"""What becomes of each packet between two machines: now, later, twice, changed, or never. Pure.

Each direction between two machines has a generator of its own, seeded by the run's seed and the two names, and each
packet takes the same number of draws whatever happens to it: the fate of the n-th packet of a direction follows from
the seed and the treatment alone.
"""

from __future__ import annotations

import heapq
import itertools
from collections import Counter, deque
from dataclasses import dataclass, field
from random import Random
from typing import NamedTuple

HELD_BYTES_MAX = 16 * 1024 * 1024
"""What one direction may hold back. Retransmissions of a few links in a hold of minutes are far less; a line that
remembers more than this does not exist."""
CORRUPT_FROM = 28
"""Bytes of the IPv4 and UDP headers, which stay whole: a packet that no longer finds its way is lost, not corrupt."""

Direction = tuple[str, str]
"""Names of sender and receiver."""


class Treatment(NamedTuple):
    """How one direction is treated. Shares are 0 to 1."""

    latency_s: float = 0.0
    spread_s: float = 0.0
    """Up to so much more, each packet by its own luck: packets overtake each other."""
    loss: float = 0.0
    duplication: float = 0.0
    corruption: float = 0.0
    hold: bool = False


PLAIN = Treatment()


@dataclass(slots=True)
class _Lane:
    rng: Random
    treatment: Treatment = PLAIN
    held: deque[bytes] = field(default_factory=deque)
    held_bytes: int = 0


class Shaper:
    def __init__(self, seed: int) -> None:
        self._seed = seed
        self._lanes: dict[Direction, _Lane] = {}
        self._queue: list[tuple[float, int, bytes]] = []
        self._order = itertools.count()
        self.counts: Counter[str] = Counter()
        """``passed``, ``lost``, ``duplicated``, ``corrupted``, ``held``, ``overflown``: packets."""

    def treat(self, treatments: dict[Direction, Treatment], now_s: float) -> None:
        """From now on directions are treated so; those not named plainly. What is held no longer leaves at once."""
        for direction in treatments:
            self._lane(direction)
        for direction, lane in self._lanes.items():
            lane.treatment = treatments.get(direction, PLAIN)
            if lane.held and not lane.treatment.hold:
                for packet in lane.held:
                    self._push(now_s + lane.treatment.latency_s, packet)
                lane.held.clear()
                lane.held_bytes = 0

    def take(self, direction: Direction, packet: bytes, now_s: float) -> None:
        """A packet has come; :meth:`due` hands it out when its time has come."""
        lane = self._lane(direction)
        how, rng = lane.treatment, lane.rng
        lost, double, damaged = rng.random(), rng.random(), rng.random()
        late, later, place = rng.random(), rng.random(), rng.random()
        if lost < how.loss:
            self.counts["lost"] += 1
            return
        if damaged < how.corruption:
            packet = corrupted(packet, place)
            self.counts["corrupted"] += 1
        if how.hold:
            self._hold(lane, packet)
            return
        self._push(now_s + how.latency_s + late * how.spread_s, packet)
        if double < how.duplication:
            self.counts["duplicated"] += 1
            self._push(now_s + how.latency_s + later * how.spread_s, packet)

    def due(self, now_s: float) -> list[bytes]:
        """The packets that leave now, in the order in which they leave."""
        found = []
        while self._queue and self._queue[0][0] <= now_s:
            found.append(heapq.heappop(self._queue)[2])
        self.counts["passed"] += len(found)
        return found

    def next_s(self) -> float | None:
        """When the next packet leaves."""
        return self._queue[0][0] if self._queue else None

    def _lane(self, direction: Direction) -> _Lane:
        lane = self._lanes.get(direction)
        if lane is None:
            lane = self._lanes[direction] = _Lane(Random(f"{self._seed} {direction[0]} {direction[1]}"))
        return lane

    def _hold(self, lane: _Lane, packet: bytes) -> None:
        if lane.held_bytes + len(packet) > HELD_BYTES_MAX:
            self.counts["overflown"] += 1
            return
        self.counts["held"] += 1
        lane.held.append(packet)
        lane.held_bytes += len(packet)

    def _push(self, at_s: float, packet: bytes) -> None:
        heapq.heappush(self._queue, (at_s, next(self._order), packet))


def corrupted(packet: bytes, place: float) -> bytes:
    """One bit of the payload changed, and the UDP check sum taken away so that it is the receiver who must notice.

    ``place`` (0 to 1) says which bit. A packet without payload, or that is not UDP, stays as it is.
    """
    size = len(packet) - CORRUPT_FROM
    if size <= 0 or packet[0] != 0x45 or packet[9] != 17:
        return packet
    bit = int(place * size * 8)
    changed = bytearray(packet)
    changed[CORRUPT_FROM + bit // 8] ^= 1 << bit % 8
    changed[26:28] = b"\0\0"
    return bytes(changed)
