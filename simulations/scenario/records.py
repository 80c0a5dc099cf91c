"""A scenario as frozen records: the words a tester writes. Each field carries how it is read and what it means.

Names in lists are names of nodes, of groups, or one of ``all``, ``members``, ``relays``, ``hubs``. A node is named
after its NOC (``BE``), the further nodes of a NOC with a number behind it (``BE-2``).
"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import Any

from simulations.scenario import values
from simulations.scenario.values import Kind, Span, choice, number, span

DAY_S = 86_400.0
DURATION_S_MAX = 400 * DAY_S
"""A year and a month: longer than any prekey lives and any cut that anybody asked for."""
NODES_MAX = 2_000
ROLES = ("member", "relay", "hub")
SHAPES = ("full", "star", "ring", "line", "cliques", "europe", "random")
WORLDS = ("protocol", "daemon", "lab")
INVARIANTS = tuple(f"I{number}" for number in range(1, 17))


def key(default: Any, kind: Kind, meaning: str, name: str = "") -> Any:
    """A field that may be left out. ``name`` is its name in the file, where Python has taken it."""
    return dataclasses.field(default=default, metadata={"kind": kind, "meaning": meaning, "name": name})


def needed(kind: Kind, meaning: str, name: str = "") -> Any:
    return dataclasses.field(metadata={"kind": kind, "meaning": meaning, "name": name})


def _fixed(value: float) -> Span:
    return Span(value, value)


_TIME = number(0, DURATION_S_MAX)
_TIMES = span(0, DURATION_S_MAX)


@dataclass(frozen=True, slots=True)
class Group:
    """``[[group]]``: nodes of one role, one for each NOC that is named (or ``count`` of them with made-up names)."""

    name: str = needed(values.NAME, "what faults and checks call it")
    role: str = key("member", choice(*ROLES), "members read and write; relays and hubs store and forward ciphertext")
    nocs: tuple[str, ...] = key((), values.NAMES, "codes of the NOCs; in Europe their capital is where they are")
    count: int = key(0, values.count(1, NODES_MAX), "in place of nocs: so many NOCs with made-up names")
    nodes_per_noc: int = key(1, values.count(1, 12), "devices of each NOC")
    place: str = key("", values.NAME, "the city, where it is not the capital of the NOC's country")


@dataclass(frozen=True, slots=True)
class Topology:
    """``[topology]``: who is configured to dial whom."""

    shape: str = key("full", choice(*SHAPES), "who is linked with whom; europe is full, with latencies by distance")
    centre: str = key("", values.NAME, "star: the node that all others are linked with")
    cliques: tuple[tuple[str, ...], ...] = key((), values.SIDES, "cliques: two lists of nodes, each linked in full")
    bridge: str = key("", values.NAME, "cliques: the one node linked with everybody")
    degree: int = key(8, values.count(2, 100), "random: with how many others a node is linked on average")


@dataclass(frozen=True, slots=True)
class Links:
    """``[links]``: what all links are like when nothing is wrong with them."""

    latency_ms: Span = key(_fixed(10), span(0, 60_000), "one way; in Europe added to what distance costs")
    jitter_ms: Span = key(_fixed(0), span(0, 60_000), "up to so much more, each by its own luck")
    loss_percent: Span = key(_fixed(0), span(0, 90), "of what is sent")
    duplicate_percent: Span = key(_fixed(0), span(0, 90), "of what is sent")
    rate_bytes_per_s: Span = key(_fixed(0), span(0, 1e10), "each direction; 0 is without limit")
    idle_timeout_s: float = key(30.0, number(1, 600), "a link over which nothing comes is dead after this")


@dataclass(frozen=True, slots=True)
class LinkException:
    """``[[link]]``: links between these and those nodes that are unlike the others."""

    between: tuple[str, ...] = needed(values.NAMES, "one end")
    and_: tuple[str, ...] = dataclasses.field(
        default=("all",), metadata={"kind": values.NAMES, "meaning": "the other end", "name": "and"}
    )
    latency_ms: Span | None = key(None, span(0, 60_000), "as in [links]")
    jitter_ms: Span | None = key(None, span(0, 60_000), "as in [links]")
    loss_percent: Span | None = key(None, span(0, 90), "as in [links]")
    duplicate_percent: Span | None = key(None, span(0, 90), "as in [links]")
    rate_bytes_per_s: Span | None = key(None, span(0, 1e10), "as in [links]")


@dataclass(frozen=True, slots=True)
class NodeOptions:
    """``[node]``: settings of the nodes themselves."""

    anti_entropy_interval_s: float = key(10.0, number(1, 3_600), "between two comparisons of digests")
    redial_max_s: float = key(60.0, number(1, 3_600), "longest wait before an address is dialled again")


@dataclass(frozen=True, slots=True)
class Incident:
    """``[[incident]]``: opened at a time by a node, with its first members."""

    name: str = needed(values.NAME, "what the workload and shares call it")
    by: str = needed(values.NAME, "the node that opens it")
    at_s: float = key(10.0, _TIME, "when")
    members: tuple[str, ...] = key(("members",), values.NAMES, "nodes or groups whose NOCs it is shared with")


@dataclass(frozen=True, slots=True)
class Share:
    """``[[share]]``: members added to an incident later."""

    incident: str = needed(values.NAME, "its name")
    by: str = needed(values.NAME, "a node that is a member by then")
    members: tuple[str, ...] = needed(values.NAMES, "who is added", "with")
    at_s: float = key(60.0, _TIME, "when")


@dataclass(frozen=True, slots=True)
class Workload:
    """``[workload]``: who writes what, how often. Beside what ``[[incident]]`` and ``[[share]]`` say."""

    writers: tuple[str, ...] = key(
        ("members",), values.NAMES, "who writes; those that are no member of an incident skip it"
    )
    writes_per_s: Span = key(_fixed(0.2), span(0, 1_000), "in the whole mesh")
    start_s: float = key(15.0, _TIME, "no write before")
    stop_s: float = key(0.0, _TIME, "no write after; 0 is the end of the faults")
    kinds: tuple[tuple[str, float], ...] = key(
        (("set", 4.0), ("log", 3.0), ("add", 1.0), ("remove", 0.5), ("create", 1.0), ("delete", 0.6)),
        values.WEIGHTS,
        "how often which kind of change is made",
    )
    text_bytes: Span = key(_fixed(60), span(1, 8_000), "length of what is written")
    incidents_per_hour: Span = key(
        _fixed(0), span(0, 3_600), "more incidents, opened by a writer for some of the others"
    )
    shares_per_hour: Span = key(_fixed(0), span(0, 3_600), "who opened an incident adds an NOC that is no member yet")


@dataclass(frozen=True, slots=True)
class Fault:
    """``[[fault]]``: one fault at one time. Which keys a verb needs is in ``verbs.VERBS``."""

    at_s: float = needed(_TIME, "when")
    verb: str = needed(values.NAME, "which fault")
    nodes: tuple[str, ...] = key((), values.NAMES, "whom it befalls")
    sides: tuple[tuple[str, ...], ...] = key((), values.SIDES, "partition: who stays together")
    from_: tuple[str, ...] = key(("all",), values.NAMES, "senders", "from")
    to: tuple[str, ...] = key(("all",), values.NAMES, "receivers")
    for_s: float | None = key(None, number(0.001, DURATION_S_MAX), "how long; without it until healed")
    percent: float = key(0.0, number(0, 100), "how much of it")
    delay_ms: float = key(0.0, number(0, 600_000), "how much longer")
    skew_s: float = key(0.0, number(-10 * 366 * DAY_S, 10 * 366 * DAY_S), "how far the wall clock jumps")
    drift_percent: float = key(0.0, number(-50, 50), "how much faster the wall clock runs")
    count: int = key(1, values.count(1, 1_000), "how many")
    backup_at_s: float = key(0.0, _TIME, "when the backup was taken")
    line: int = 0
    """Where it stands in the file."""
    given: tuple[str, ...] = ()
    """The keys that the file has."""


@dataclass(frozen=True, slots=True)
class RandomFaults:
    """``[[random]]``: one class of faults, drawn by each seed. A seed may switch the whole class off."""

    verb: str = needed(values.NAME, "which fault")
    per_hour: Span = needed(span(0, 36_000), "how often")
    for_s: Span = key(Span(1.0, 60.0), span(0.001, DURATION_S_MAX), "how long each lasts")
    nodes: tuple[str, ...] = key(("all",), values.NAMES, "whom it may befall")
    percent: Span = key(Span(1.0, 50.0), span(0, 100), "how much of it")
    delay_ms: Span = key(Span(1.0, 60_000.0), span(0, 600_000), "how much longer")
    skew_s: Span = key(Span(-3_600.0, 3_600.0), span(-10 * 366 * DAY_S, 10 * 366 * DAY_S), "how far the clock jumps")
    line: int = 0
    given: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Liar:
    """``[[liar]]``: a node that lies. Each seed draws one of its nodes and one of its lies."""

    nodes: tuple[str, ...] = needed(values.NAMES, "who lies; of several each seed draws one")
    does: tuple[str, ...] = needed(values.NAMES, "which lie; of several each seed draws one; any is one of all")
    at_s: Span = key(Span(20.0, 60.0), _TIMES, "when it begins to lie")
    per_hour: Span = key(Span(30.0, 240.0), span(0.1, 36_000), "how often, where a lie is one of a moment")
    for_s: Span | None = key(
        None,
        span(0.001, DURATION_S_MAX),
        "how long it lies; without it until the faults end, where a lie lasts to the end",
    )
    amount: Span | None = key(None, span(1, 10_000), "how much of it; without it as the table of lies says")
    with_: tuple[str, ...] = dataclasses.field(
        default=(), metadata={"kind": values.NAMES, "meaning": "the accomplice, one of these", "name": "with"}
    )
    line: int = 0


@dataclass(frozen=True, slots=True)
class Checks:
    """``[checks]``: what must hold, and within which bounds."""

    invariants: tuple[str, ...] = key(
        INVARIANTS, values.choices(*INVARIANTS), "those to check, as far as a world sees them"
    )
    core: tuple[str, ...] = key(("all",), values.NAMES, "who is healed when the faults end; a hub lost for good is not")
    converge_within_s: float = key(120.0, number(1, DURATION_S_MAX), "from the end of the faults until all is one")
    sometimes: tuple[str, ...] = key((), values.NAMES, "situations that a sweep of 100 seeds or more must have reached")
    never: tuple[str, ...] = key((), values.NAMES, "codes of reports and refusals, and situations, which must not be")
    queue_frames_max: int = key(20_000, values.count(1, 10_000_000), "on the way to one node at one time")
    memory_rows_max: int = key(
        200_000, values.count(1, 100_000_000), "what one node may keep for others in its machines"
    )


@dataclass(frozen=True, slots=True)
class Scenario:
    name: str
    """The name of its file."""
    title: str
    story: str
    """A paragraph for a person."""
    duration_s: float
    """Faults end here; then the core is healed and convergence demanded."""
    groups: tuple[Group, ...]
    worlds: tuple[str, ...] = WORLDS
    """In which it can be run."""
    topology: Topology = Topology()
    links: Links = Links()
    exceptions: tuple[LinkException, ...] = ()
    node: NodeOptions = NodeOptions()
    incidents: tuple[Incident, ...] = ()
    shares: tuple[Share, ...] = ()
    workload: Workload = Workload()
    faults: tuple[Fault, ...] = ()
    random: tuple[RandomFaults, ...] = ()
    liars: tuple[Liar, ...] = ()
    checks: Checks = Checks()

    @property
    def nodes(self) -> tuple[NodeSpec, ...]:
        """All nodes, in the order of their groups: that is the order of a ring or a line."""
        found = []
        for group in self.groups:
            for number_, noc in enumerate(noc_codes(group)):
                for device in range(1, group.nodes_per_noc + 1):
                    name = noc if device == 1 else f"{noc}-{device}"
                    found.append(NodeSpec(name, noc, device, group.role, group.name, group.place, number_))
        return tuple(found)

    def resolve(self, names: tuple[str, ...]) -> tuple[str, ...]:
        """The names of nodes that a list of nodes and groups stands for, in the order of ``nodes``."""
        roles = {"members": "member", "relays": "relay", "hubs": "hub"}
        wanted = set(names)
        return tuple(
            node.name
            for node in self.nodes
            if "all" in wanted
            or node.name in wanted
            or node.group in wanted
            or any(roles.get(name) == node.role for name in names)
        )


@dataclass(frozen=True, slots=True)
class NodeSpec:
    name: str
    noc: str
    device: int
    """From 1, within its NOC."""
    role: str
    group: str
    place: str
    number: int
    """Of its NOC within its group, from 0."""


def noc_codes(group: Group) -> tuple[str, ...]:
    """The NOCs of a group; made-up names are its first two letters and a number."""
    if group.nocs:
        return group.nocs
    letters = "".join(letter for letter in group.name.upper() if letter.isascii() and letter.isalpha())[:2] or "N"
    return tuple(f"{letters}{number_}" for number_ in range(1, group.count + 1))
