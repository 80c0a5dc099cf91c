"""What one peer may cost: a token bucket of bytes per link.

What it sends is charged, and what it makes this node say: a short question may have a long answer, and a message that
is refused costs a line in somebody's log. A peer that asks for more than its bucket fills loses its link and comes back
after the back-off: it falls to a trickle, and is never cut for good by a score, because a mistaken ban is a partition.
"""

from __future__ import annotations

from dataclasses import dataclass

BYTES_PER_S = 32 * 1024 * 1024
"""Above what two cores can receive and check in Python (about 10 MB/s): an honest peer never meets it."""
BURST_BYTES = 128 * 1024 * 1024
FRAME_COST_BYTES = 512
"""Charged per frame on top of its size, so that many tiny frames are not free."""
REPORT_COST_BYTES = 65_536
"""Charged for each refusal that a frame causes and the link survives: 512 lines of log in a second at most. A newer
peer that sends what this node does not know stays far below."""


@dataclass(slots=True)
class _Bucket:
    tokens: float
    at: float


class Budgets:
    """Times are monotonic seconds given by the caller."""

    def __init__(self) -> None:
        self._buckets: dict[int, _Bucket] = {}

    def on_link_up(self, link: int, now: float) -> None:
        self._buckets[link] = _Bucket(BURST_BYTES, now)

    def on_link_down(self, link: int) -> None:
        self._buckets.pop(link, None)

    def admit(self, link: int, size_bytes: int, now: float) -> bool:
        """Charges a frame; False when the bucket is empty."""
        bucket = self._buckets[link]
        bucket.tokens = min(BURST_BYTES, bucket.tokens + max(0.0, now - bucket.at) * BYTES_PER_S)
        bucket.at = now
        cost = size_bytes + FRAME_COST_BYTES
        if cost > bucket.tokens:
            return False
        bucket.tokens -= cost
        return True

    def charge(self, link: int, answer_bytes: int, reports: int) -> None:
        """What an admitted frame made this node say. The bucket may owe: then the next frame is not admitted."""
        self._buckets[link].tokens -= answer_bytes + reports * REPORT_COST_BYTES
