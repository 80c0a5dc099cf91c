"""What one seed makes of a scenario: data alone, the same for every world, small enough to print and to shrink.

A plan knows no verbs of people any more: `partition` has become cuts between senders and receivers, `clog` and
`swizzle-clog` holds, `lose-hub` a crash. ``draw`` (``simulations/scenario/draw.py``) makes it.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, NamedTuple

from simulations.scenario.records import NodeSpec


class Quality(NamedTuple):
    """One direction of a link with nothing wrong with it."""

    latency_s: float
    jitter_s: float
    loss: float
    """0 to 1, of what is sent."""
    duplication: float
    rate_bytes_per_s: float
    """0: without limit."""


class Open(NamedTuple):
    """A local client opens an incident and shares it with NOCs."""

    number: int
    at_s: float
    node: str
    incident: str
    """What the plan calls it. Its id is known when it is opened."""
    nocs: tuple[str, ...]


class ShareWith(NamedTuple):
    number: int
    at_s: float
    node: str
    incident: str
    nocs: tuple[str, ...]


class Write(NamedTuple):
    """A local client changes an incident. ``number`` names the write everywhere and decides what it says and touches
    (``simulations/worlds/work.py``)."""

    number: int
    at_s: float
    node: str
    incident: str
    kind: str
    text_bytes: int


class LinkFault(NamedTuple):
    """Everything that these senders send to these receivers, from ``at_s`` to ``until_s`` (None: until healed)."""

    number: int
    at_s: float
    until_s: float | None
    effect: str
    """``cut``, ``hold``, ``drop``, ``duplicate``, ``delay``, ``corrupt``."""
    senders: tuple[str, ...]
    receivers: tuple[str, ...]
    amount: float
    """Share 0 to 1 of what is sent, or seconds for ``delay``; 0 for ``cut`` and ``hold``."""


class Heal(NamedTuple):
    """All link faults of these effects end; what was held arrives."""

    number: int
    at_s: float
    effects: tuple[str, ...]
    senders: tuple[str, ...]
    receivers: tuple[str, ...]


class NodeFault(NamedTuple):
    number: int
    at_s: float
    until_s: float | None
    verb: str
    """``crash``, ``restart``, ``pause``, ``wipe``, ``restore-old-backup``, ``clone``, ``skew-clock``, ``disk-full``,
    ``bit-flip``, ``upgrade``, ``downgrade``."""
    node: str
    skew_s: float = 0.0
    drift: float = 0.0
    flips: int = 1
    backup_at_s: float = 0.0
    for_good: bool = False
    """A hub lost for good: it is not healed."""


class Lie(NamedTuple):
    """A node lies: once at ``at_s``, or from then to ``until_s`` (None: to the very end). ``number`` decides how."""

    number: int
    at_s: float
    until_s: float | None
    node: str
    kind: str
    """One of ``lies.LIES``."""
    amount: float
    accomplice: str = ""


Action = Open | ShareWith | Write | LinkFault | Heal | NodeFault | Lie
ACTIONS: tuple[type[Any], ...] = (Open, ShareWith, Write, LinkFault, Heal, NodeFault, Lie)


@dataclass(frozen=True, slots=True)
class Options:
    """What the seed drew beside the actions; printed with every failure."""

    switched_off: tuple[str, ...] = ()
    """Random faults that this seed does without."""
    transport: str = "stream"
    """``stream``: links keep order and lose nothing while they live, as QUIC does, so loss is delay. ``frames``: whole
    messages are lost, doubled and overtaken, which is harder than QUIC and must be survived all the same. Only the
    protocol world can do ``frames``; the others pass over this."""
    commit_s: tuple[float, float] = (0.0, 0.0)
    """From, to: how long the disk takes to make a step durable."""
    gather_s: float = 0.0
    """How long a node lets things come in before it handles them in one step. Only the protocol world does this."""
    drawn: tuple[tuple[str, float], ...] = ()
    """Numbers that the scenario gave as ranges, for the report."""
    crypto: str = "real"
    """``real``, or ``cheap``: signatures by a keyed hash. Only the protocol world can do ``cheap``."""


@dataclass(frozen=True, slots=True)
class Plan:
    scenario: str
    seed: int
    duration_s: float
    """Faults end here, then the core is healed."""
    converge_within_s: float
    nodes: tuple[NodeSpec, ...]
    reach: tuple[tuple[str, str], ...]
    """Pairs of nodes that have a network between them, in the order of ``nodes``. Nobody else can link, whatever
    addresses they learn."""
    quality: dict[tuple[str, str], Quality]
    """Of every pair in ``reach``; both directions alike."""
    core: tuple[str, ...]
    """Nodes that are healed at the end."""
    actions: tuple[Action, ...]
    """By time, then by number."""
    options: Options = field(default_factory=Options)
    idle_timeout_s: float = 30.0
    anti_entropy_interval_s: float = 10.0
    redial_max_s: float = 60.0
    invariants: tuple[str, ...] = ()
    never: tuple[str, ...] = ()
    """Codes that no node may have given."""
    queue_frames_max: int = 20_000
    memory_rows_max: int = 200_000

    @property
    def liars(self) -> frozenset[str]:
        """Nodes that lie at some time, and their accomplices: nothing is demanded of them."""
        lies = [action for action in self.actions if isinstance(action, Lie)]
        return frozenset(name for lie in lies for name in (lie.node, lie.accomplice) if name)

    def dials_of(self, name: str) -> tuple[str, ...]:
        """Whom a node is configured with: everybody it can reach."""
        return tuple(b if a == name else a for a, b in self.reach if name in (a, b))


def to_plain(plan: Plan) -> dict[str, Any]:
    """The plan as JSON can carry it."""
    return {
        **{
            name: getattr(plan, name)
            for name in (
                *("scenario", "seed", "duration_s", "converge_within_s", "reach", "core", "idle_timeout_s"),
                *(
                    "anti_entropy_interval_s",
                    "redial_max_s",
                    "invariants",
                    "never",
                    "queue_frames_max",
                    "memory_rows_max",
                ),
            )
        },
        "nodes": [[getattr(node, name) for name in NodeSpec.__slots__] for node in plan.nodes],
        "quality": [[*pair, *quality] for pair, quality in plan.quality.items()],
        "actions": [[type(action).__name__, *action] for action in plan.actions],
        "options": [getattr(plan.options, name) for name in Options.__slots__],
    }


def from_plain(plain: dict[str, Any]) -> Plan:
    """The plan that ``to_plain`` took apart. Raises KeyError, TypeError or ValueError for anything else."""
    kinds = {kind.__name__: kind for kind in ACTIONS}
    rest = dict(plain)
    options = Options(*map(_frozen, rest.pop("options")))
    return Plan(
        nodes=tuple(NodeSpec(*row) for row in rest.pop("nodes")),
        reach=tuple((a, b) for a, b in rest.pop("reach")),
        quality={(a, b): Quality(*numbers) for a, b, *numbers in rest.pop("quality")},
        actions=tuple(kinds[kind](*map(_frozen, values)) for kind, *values in rest.pop("actions")),
        options=options,
        core=tuple(rest.pop("core")),
        invariants=tuple(rest.pop("invariants")),
        never=tuple(rest.pop("never", ())),
        **rest,
    )


def _frozen(value: Any) -> Any:
    return tuple(_frozen(item) for item in value) if isinstance(value, list) else value
