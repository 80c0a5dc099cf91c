"""The shape of a report: what the JSON holds, and all that a page is made of.

Times are seconds of the plan, shares are 0 to 1, names of nodes are those of the scenario. Nothing in here depends on
how long the run took or when it was made: the same outcome gives the same JSON, byte for byte.
"""

from __future__ import annotations

from dataclasses import dataclass

import msgspec

RUN_FORMAT = "meshnode-sim run report 1"
SWEEP_FORMAT = "meshnode-sim sweep report 1"


@dataclass(frozen=True, slots=True)
class Made:
    """By what a report was made."""

    command: str
    """That makes it again."""
    code: str
    """Digest over the source of the node and of the simulations."""
    commit: str
    """Of git, with ``+`` behind it when files were changed since; empty where there is none."""
    versions: dict[str, str]
    """meshnode, Python, the operating system's kind, and each library that the node stands on."""


@dataclass(frozen=True, slots=True)
class Node:
    name: str
    noc: str
    role: str
    group: str
    city: str
    """Empty where it stands nowhere in particular."""
    latitude: float
    longitude: float
    in_core: bool
    """It is healed when the faults end."""
    lies: bool
    """At some time, or helps one that does: nothing is demanded of it."""


@dataclass(frozen=True, slots=True)
class Spell:
    """A node was in this state: ``up``, ``read-only``, ``paused`` or ``down``."""

    node: str
    state: str
    begin_s: float
    end_s: float


@dataclass(frozen=True, slots=True)
class LinkSpell:
    """These two were linked."""

    a: str
    b: str
    begin_s: float
    end_s: float


@dataclass(frozen=True, slots=True)
class Fault:
    """One fault as it was planned; its end is when it ended or was healed."""

    kind: str
    """``cut``, ``hold``, ``drop``, ``duplicate``, ``delay``, ``corrupt``, a verb that befalls nodes, or ``lie``."""
    begin_s: float
    end_s: float
    nodes: tuple[str, ...]
    """Whom it befalls; of a fault of links the senders."""
    receivers: tuple[str, ...]
    amount: float
    """Share of what is sent, seconds of delay, seconds that a clock jumps; 0 where there is nothing to say."""
    detail: str = ""
    """Which lie."""


@dataclass(frozen=True, slots=True)
class Islands:
    """Who could reach whom: within a side every node reaches every other, by links that let both directions pass."""

    begin_s: float
    end_s: float
    sides: tuple[tuple[str, ...], ...]
    """The largest first. Nodes that are down or stand still are in none."""


@dataclass(frozen=True, slots=True)
class Apart:
    """How much of the time that both ran, from the first write on, these two could not reach each other."""

    a: str
    b: str
    share: float


@dataclass(frozen=True, slots=True)
class Split:
    """A time in which members that ran could not all reach each other."""

    begin_s: float
    end_s: float
    sides: tuple[tuple[str, ...], ...]
    """As it was for the longest part of it."""
    writes: int
    """Acknowledged meanwhile."""
    caught_up_after_s: float | None
    """From its end until all that was acknowledged before was shown by every member it was for; None if not all was."""


@dataclass(frozen=True, slots=True)
class Write:
    number: int
    at_s: float
    """When its client was answered."""
    node: str
    incident: str
    kind: str
    shown_after_s: dict[str, float]
    """Other member -> seconds until it showed it."""
    cut_off: tuple[str, ...]
    """Members that the writer could not reach at that moment."""
    never: tuple[str, ...]
    """Members it was for that did not show it before the run was over."""


@dataclass(frozen=True, slots=True)
class Distribution:
    count: int
    p50_s: float | None
    p90_s: float | None
    p99_s: float | None
    max_s: float | None


@dataclass(frozen=True, slots=True)
class Spreads:
    """From the answer to a write until another member showed it."""

    everybody: Distribution
    reachable: Distribution
    """Of members that the writer could reach when it was answered; of all where no islands are told."""
    cut_off: Distribution
    never: int


@dataclass(frozen=True, slots=True)
class Look:
    """One sample."""

    at_s: float
    pictures: int
    """How many different pictures of one incident members showed at this moment, of the incident with the most."""
    conflicts: int
    """The most open conflicts that any member showed."""
    bytes_by_class: dict[str, int]
    """Sent until now."""


@dataclass(frozen=True, slots=True)
class Conflict:
    """A register came to have several living values, or one again: told from what clients were answered."""

    at_s: float
    made: bool
    node: str
    """Whose write it was."""


@dataclass(frozen=True, slots=True)
class Sent:
    node: str
    kind: str
    """Class of message."""
    frames: int
    bytes: int


@dataclass(frozen=True, slots=True)
class Invariant:
    name: str
    meaning: str
    wanted: bool
    """The scenario asks for it."""
    asked: int
    """How many things were looked at."""
    violations: tuple[tuple[str, str], ...]
    """(node, what)."""


@dataclass(frozen=True, slots=True)
class Known:
    """What the node is known not to be able to do yet, where it showed: no failure."""

    hole: str
    what: str
    times: dict[str, int]
    """Invariant -> how often."""


@dataclass(frozen=True, slots=True)
class Unlike:
    """At the end one node of the core was not as the others."""

    node: str
    incident: str
    what: str


@dataclass(frozen=True, slots=True)
class Untested:
    topic: str
    what: str


@dataclass(frozen=True, slots=True)
class Answers:
    acknowledged: int
    refused: dict[str, int]
    """Code -> how often."""
    unanswered: int
    excused: int
    """Acknowledged, and perhaps lost with the only disk that held them, which the plan destroyed."""


@dataclass(frozen=True, slots=True)
class RunReport:
    """One seed."""

    format: str
    made: Made
    scenario: str
    title: str
    story: str
    world: str
    seed: int
    held: bool
    trace: str
    """Digest of everything that happened, in order."""
    events: int
    duration_s: float
    """Faults end here."""
    converge_within_s: float
    converged_after_s: float | None
    end_s: float
    """When the run was over."""
    transport: str
    """``stream`` or ``frames``."""
    signatures: str
    """``real``, or ``cheap``: a keyed hash in their place."""
    commit_s: tuple[float, float]
    gather_s: float
    switched_off: tuple[str, ...]
    drawn: dict[str, float]
    nodes: tuple[Node, ...]
    reach: tuple[tuple[str, str], ...]
    """Between whom there is a network at all."""
    links_every_s: float | None
    """How often links were looked at: 0 for each change, None where nobody looked."""
    spells: tuple[Spell, ...]
    links: tuple[LinkSpell, ...]
    faults: tuple[Fault, ...]
    islands: tuple[Islands, ...]
    apart: tuple[Apart, ...]
    splits: tuple[Split, ...]
    answers: Answers
    writes: tuple[Write, ...]
    spread: Spreads
    looks: tuple[Look, ...]
    conflicts: tuple[Conflict, ...]
    conflicts_left: int
    """The most that any member shows at the end."""
    sent: tuple[Sent, ...]
    """By node and class where the world can tell them apart, else in the class ``other``."""
    unlike: tuple[Unlike, ...]
    """Where the core did not become one: what still differed."""
    invariants: tuple[Invariant, ...]
    known: tuple[Known, ...]
    situations: dict[str, int]
    untested: tuple[Untested, ...]


@dataclass(frozen=True, slots=True)
class Seed:
    """One seed of a sweep."""

    seed: int
    violated: tuple[str, ...]
    """Invariants."""
    trace: str
    """Digest of everything that happened, in order."""
    events: int
    converged_after_s: float | None
    spread_p50_s: float | None
    spread_p99_s: float | None
    bytes_sent: int
    acknowledged: int

    @property
    def held(self) -> bool:
        return not self.violated


@dataclass(frozen=True, slots=True)
class Failure:
    seed: int
    violations: tuple[tuple[str, str, str], ...]
    """(invariant, node, what)."""
    command: str
    """That shows it again."""


@dataclass(frozen=True, slots=True)
class Swept:
    """All seeds of one scenario in one world, run by one state of the code."""

    scenario: str
    title: str
    story: str
    world: str
    seeds: tuple[Seed, ...]
    """That were run."""
    simulated_s: float
    real_signatures: int
    """Seeds that had them; the others had a keyed hash in their place."""
    failures: tuple[Failure, ...]
    known: tuple[Known, ...]
    asked: dict[str, int]
    situations: dict[str, int]
    never_reached: tuple[str, ...]
    """Situations that the scenario says a large sweep must have reached."""
    untested: tuple[Untested, ...]
    code: str = ""
    """Digest of the code that ran them; empty where lines do not say."""
    seeds_wanted: int = 0
    """That were to be run, these among them; 0 where nobody knows."""
    unwanted: tuple[str, ...] = ()
    """Invariants that the scenario does not ask for: nothing is said of them."""

    @property
    def is_stopped(self) -> bool:
        return len(self.seeds) < self.seeds_wanted


@dataclass(frozen=True, slots=True)
class SweepReport:
    """One file of results, or several."""

    format: str
    made: Made
    held: bool
    """Of what was run, everything."""
    swept: tuple[Swept, ...]

    @property
    def is_stopped(self) -> bool:
        return any(row.is_stopped for row in self.swept)


Report = RunReport | SweepReport


def to_json(report: Report) -> bytes:
    """One line, the same for the same report."""
    return msgspec.json.encode(report, order="deterministic") + b"\n"


def from_json_untrusted(data: bytes) -> Report:
    """Raises ValueError for anything that ``to_json`` does not make."""
    try:
        told = msgspec.json.decode(data)
        kind = {RUN_FORMAT: RunReport, SWEEP_FORMAT: SweepReport}[told["format"]]
        report: Report = msgspec.json.decode(data, type=kind)
    except (msgspec.DecodeError, KeyError, TypeError) as error:
        raise ValueError(f"this is no report in JSON ({type(error).__name__}: {error})") from None
    return report
