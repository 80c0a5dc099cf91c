"""Looks at the daemons while they run, and moves nothing by it: between two rounds of tasks, when no step is half done.

A task that looked would take its turn among the others, and every seed would give another order with it than without.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable

import trio
import trio.abc

from meshnode.core.ids import DeviceId
from simulations.scenario.plan import Plan
from simulations.worlds import timeline
from simulations.worlds.daemon.host import Host
from simulations.worlds.timeline import Timeline, sample_times

LINKS_EVERY_S = 0.5
"""A link lives for longer: it is dead only after the idle time-out."""
LINKS_LOOKS_MAX = 4_000
"""Of a run of hours: looks at links are then further apart."""


class Looking(trio.abc.Instrument):
    def __init__(self, plan: Plan, seen: Timeline, hosts: Iterable[Host], sample: Callable[[float], None]) -> None:
        """``sample`` takes one look at what nodes show, at a time."""
        self._seen = seen
        self._hosts = list(hosts)
        self._names: dict[DeviceId, str] = {host.identity.device: host.name for host in self._hosts}
        self._sample = sample
        self._times = iter(sample_times(plan))
        self._next_s = next(self._times)
        self._links_s = 0.0
        seen.links_every_s = max(LINKS_EVERY_S, plan.duration_s / LINKS_LOOKS_MAX)

    def before_io_wait(self, timeout: float) -> None:
        now_s = trio.current_time()
        for host in self._hosts:
            self._seen.note_node(now_s, host.name, _state(host))
        if now_s >= self._links_s:
            self._links_s = now_s + self._seen.links_every_s
            self._seen.see_links(now_s, self._linked())
        if now_s >= self._next_s:
            self._sample(now_s)
            self._next_s = next((at_s for at_s in self._times if at_s > now_s), float("inf"))

    def _linked(self) -> set[tuple[str, str]]:
        """Pairs that both say they are linked: who is not heard of any more does not know it yet."""
        said = {
            (host.name, self._names[device])
            for host in self._hosts
            if host.node is not None
            for device, peer in host.node.peers.known.items()
            if peer.link is not None and device in self._names
        }
        return {(a, b) for a, b in said if (b, a) in said}


def _state(host: Host) -> str:
    if not host.serving:
        return timeline.DOWN
    if host.paused:
        return timeline.PAUSED
    return timeline.READ_ONLY if host.node is not None and host.node.read_only is not None else timeline.UP
