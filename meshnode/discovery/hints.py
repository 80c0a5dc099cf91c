"""How many addresses from the network are passed on. Time is an argument.

Whoever can send on the LAN can announce as many nodes as they like. What reaches the node is bounded per minute and in
all; what was passed on first stays, so a flood cannot push out an honest node that was there before. A node that comes
after a flood is not found by mDNS; configured and learned addresses are not affected.
"""

from __future__ import annotations

from collections import deque
from enum import Enum

from meshnode.discovery.settings import HINT_REPEAT_S, HINTS_KEPT_S, HINTS_MAX, HINTS_PER_MINUTE_MAX


class Verdict(Enum):
    PASS = "pass"  # noqa: S105 - no password: the address is passed on
    KNOWN = "known"
    """Passed on less than HINT_REPEAT_S ago."""
    TOO_MANY = "too-many"


class Hints:
    """One per daemon, over all sessions."""

    def __init__(self) -> None:
        self._passed: dict[str, float] = {}
        """Address -> when it was last passed on, oldest first."""
        self._minute: deque[float] = deque()

    def admit(self, address: str, now_s: float) -> Verdict:
        last = self._passed.get(address)
        if last is not None and now_s - last < HINT_REPEAT_S:
            return Verdict.KNOWN
        while self._minute and now_s - self._minute[0] >= 60:
            self._minute.popleft()
        if len(self._minute) >= HINTS_PER_MINUTE_MAX:
            return Verdict.TOO_MANY
        if last is None and not self._has_room(now_s):
            return Verdict.TOO_MANY
        self._passed.pop(address, None)
        self._passed[address] = now_s
        self._minute.append(now_s)
        return Verdict.PASS

    def _has_room(self, now_s: float) -> bool:
        if len(self._passed) < HINTS_MAX:
            return True
        oldest, passed_at = next(iter(self._passed.items()))
        if now_s - passed_at < HINTS_KEPT_S:
            return False
        del self._passed[oldest]
        return True


class Seldom:
    """True at most once per interval: for reports that a stranger can cause."""

    def __init__(self, interval_s: float = 60.0) -> None:
        self._interval_s = interval_s
        self._last_s: float | None = None

    def __call__(self, now_s: float) -> bool:
        if self._last_s is not None and now_s - self._last_s < self._interval_s:
            return False
        self._last_s = now_s
        return True
