"""What was to be seen while a run went on: which nodes ran, which were linked, what they showed, what they sent.

A world writes it down when it is asked to (``run`` and ``report`` of one seed), and leaves it out in sweeps. It is told
from outside like everything in an outcome, and no check judges by it: it is for whoever looks at the run.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import NamedTuple

from simulations.scenario.plan import Plan

SAMPLES = 240
"""Looks at what nodes show, evenly spread: finer than the eye tells apart in a picture, and still cheap."""
UP, READ_ONLY, PAUSED, DOWN = "up", "read-only", "paused", "down"


class NodeChange(NamedTuple):
    at_s: float
    node: str
    state: str
    """``up``, ``read-only`` (its disk is full), ``paused``, ``down``. Before its first change a node is down."""


class LinkChange(NamedTuple):
    at_s: float
    a: str
    b: str
    up: bool


class Sample(NamedTuple):
    """One look at everything."""

    at_s: float
    pictures: dict[str, dict[str, int]]
    """Node that runs -> incident that it reads -> a number that stands for its state digest: the same number, the same
    picture."""
    conflicts: dict[str, int]
    """Node -> open conflicts that it shows, in all its incidents."""
    bytes_by_class: dict[str, int]
    """Sent until now in the whole mesh; empty where the world cannot tell."""


@dataclass(slots=True)
class Timeline:
    """Filled in while a run goes on. Times are seconds of the plan."""

    nodes: list[NodeChange] = field(default_factory=list)
    links: list[LinkChange] = field(default_factory=list)
    samples: list[Sample] = field(default_factory=list)
    links_every_s: float = 0.0
    """Links were looked at so often; 0: each change was noted as it happened."""
    _up: Counter[tuple[str, str]] = field(default_factory=Counter)
    _states: dict[str, str] = field(default_factory=dict)
    _digests: dict[str, int] = field(default_factory=dict)

    def note_node(self, at_s: float, node: str, state: str) -> None:
        if self._states.get(node, DOWN) != state:
            self._states[node] = state
            self.nodes.append(NodeChange(at_s, node, state))

    def note_link(self, at_s: float, a: str, b: str, up: bool) -> None:
        """One link more or less between them: two nodes that dialled each other have two for a moment."""
        pair = (a, b) if a < b else (b, a)
        before = self._up[pair]
        self._up[pair] += 1 if up else -1
        if (before > 0) != (self._up[pair] > 0):
            self.links.append(LinkChange(at_s, *pair, up))

    def see_links(self, at_s: float, linked: set[tuple[str, str]]) -> None:
        """All links of this moment, where nobody tells of changes."""
        seen = {(a, b) if a < b else (b, a) for a, b in linked}
        for pair in sorted(seen ^ {pair for pair, links in self._up.items() if links > 0}):
            self.note_link(at_s, *pair, pair in seen)

    def sample(
        self,
        at_s: float,
        digests: Mapping[str, Mapping[str, str]],
        conflicts: dict[str, int],
        bytes_by_class: dict[str, int],
    ) -> None:
        """``digests``: node -> incident -> digest of what it shows."""
        pictures = {
            node: {incident: self._digests.setdefault(digest, len(self._digests)) for incident, digest in shown.items()}
            for node, shown in digests.items()
        }
        self.samples.append(Sample(at_s, pictures, conflicts, bytes_by_class))


def sample_times(plan: Plan) -> Iterator[float]:
    """Until the faults end."""
    yield from (plan.duration_s * number / SAMPLES for number in range(1, SAMPLES + 1))
