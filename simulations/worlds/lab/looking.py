"""Looks at the machines while they run: a thread that asks the local APIs now and then, as a display would."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Sequence

from meshnode.client import ApiError
from simulations.worlds import timeline
from simulations.worlds.lab.machines import Machine
from simulations.worlds.timeline import Timeline

EVERY_S = 1.0
"""Two answers of each daemon; some milliseconds of its time."""
STATES_EVERY_S = 0.1
ANSWER_TIMEOUT_S = 2.0


class Looking:
    def __init__(
        self, seen: Timeline, machines: Sequence[Machine], devices: dict[str, str], now_s: Callable[[], float]
    ) -> None:
        """``devices``: device -> name of its machine."""
        seen.links_every_s = EVERY_S
        self._seen = seen
        self._machines = list(machines)
        self._devices = devices
        self._now_s = now_s
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._run, name="looking", daemon=True)
        self._thread.start()

    def end(self) -> None:
        self._over.set()
        self._thread.join()

    def _run(self) -> None:
        next_s = time.monotonic()
        while True:
            for machine in self._machines:
                state = timeline.PAUSED if machine.paused else timeline.UP if machine.up else timeline.DOWN
                self._seen.note_node(self._now_s(), machine.name, state)
            if time.monotonic() >= next_s:
                next_s = time.monotonic() + EVERY_S
                self._look()
            if self._over.wait(STATES_EVERY_S):
                return

    def _look(self) -> None:
        """A machine that does not answer is seen without links, and shows nothing."""
        said: set[tuple[str, str]] = set()
        digests: dict[str, dict[str, str]] = {}
        conflicts: dict[str, int] = {}
        for machine in self._machines:
            if not machine.up or machine.paused:
                continue
            try:
                with machine.node.client(ANSWER_TIMEOUT_S) as client:
                    peers = [peer for peer in client.peers() if peer.state == "connected"]
                    said |= {
                        (machine.name, self._devices[peer.device]) for peer in peers if peer.device in self._devices
                    }
                    if not machine.relay:
                        incidents = client.incidents()
                        digests[machine.name] = {row.id: row.digest for row in incidents}
                        conflicts[machine.name] = sum(row.conflicts for row in incidents)
            except ApiError:
                continue
        self._seen.see_links(self._now_s(), {(a, b) for a, b in said if (b, a) in said})
        self._seen.sample(self._now_s(), digests, conflicts, {})
