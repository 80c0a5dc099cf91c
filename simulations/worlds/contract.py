"""What a world is given and what it must answer, so that one set of checkers judges all worlds.

A world is a function ``run(plan) -> Outcome``. It performs the plan's actions at their times on real nodes, up to
``plan.duration_s``; then it ends all faults, restarts what is down in ``plan.core`` (a node whose crash was
``for_good`` stays lost), and waits until the core has converged or ``plan.converge_within_s`` has passed.

Everything in an Outcome is told from outside: what local clients were answered, what lies in stores, what travels. A
world judges nothing except what only it can see at that moment; that it says as a :class:`Sighting`.
"""

from __future__ import annotations

from collections import Counter, deque
from dataclasses import dataclass, field
from typing import NamedTuple, Protocol

from simulations.scenario.plan import Plan
from simulations.worlds.timeline import Timeline


class Touch(NamedTuple):
    """A register, a set or an object of an incident; ``field`` is empty for an object, all for the log book."""

    incident: str
    collection: str
    object: str
    field: str


@dataclass(frozen=True, slots=True)
class Acknowledged:
    """One change that a local client was told is durable. The dumb global record is a list of these."""

    number: int
    """Of the plan's action."""
    asked_s: float
    at_s: float
    """When the answer came."""
    node: str
    kind: str
    touch: Touch
    dot: str
    """The name of the operation, as the node gave it."""
    text: str
    """What was written, as the reader shows it; empty where nothing was."""
    seen: tuple[str, ...]
    """Dots of the values of ``touch`` that the client was shown just before it wrote: those it replaces."""


@dataclass(frozen=True, slots=True)
class Refused:
    """One request that a local client was refused, or that got no answer (``code`` is ``no-answer``)."""

    number: int
    at_s: float
    node: str
    code: str


class Sealed(NamedTuple):
    """Somebody was asked to share an incident: from here on these NOCs may hold its keys."""

    at_s: float
    node: str
    incident: str
    """Empty for an incident whose opening was never answered, so that nobody knows its id."""
    nocs: tuple[str, ...]
    """NOCs that the request named, and the writer's own."""


class Invited(NamedTuple):
    """A client was told that an incident is opened, or that it is shared: these nodes are members from then on."""

    number: int
    at_s: float
    node: str
    incident: str
    nodes: tuple[str, ...]
    """Whom the plan's request made members, by what lay in the roster of the node when it was asked."""
    entry: str
    """``<log hex>.<seq>`` that invites them, as it lies on the disk; empty where the world did not see it."""


class Uttered(NamedTuple):
    """An entry that a liar made, and what an honest node may at most make of it."""

    number: int
    at_s: float
    node: str
    kind: str
    """Of the lie."""
    incident: str
    log: str
    seq: int
    hash: str
    expect: str
    """``stands``: its author was free to write it; where it is merged it acts as any member's. ``acts``: it may.
    ``void``: it may be merged and must change nothing.
    ``unmerged``: it may be stored and must not be merged. ``refused``: nobody signed it, it must not be stored."""
    writes: tuple[Acknowledged, ...]
    """What it changes where it acts."""


class Sighting(NamedTuple):
    """Something that must not be, seen by the world at the moment it happened."""

    invariant: str
    at_s: float
    node: str
    what: str


class Spread(NamedTuple):
    """A write that was shown elsewhere."""

    number: int
    """Of the write."""
    node: str
    """The other member."""
    after_s: float
    """From the answer to the writer until the first client of the other member was told of it."""


@dataclass(slots=True)
class IncidentEnd:
    """One incident as one member shows it at the end."""

    digest: str
    heads: dict[str, int]
    """Log -> how many of its entries are merged."""
    registers: dict[Touch, dict[str, str]]
    """Every register and set -> dot -> value as text."""
    deleted: dict[Touch, bool]
    """Every object (``field`` empty) -> is it deleted."""
    records: dict[str, str]
    """Dot -> text of the log book."""
    conflicts: int
    void: tuple[str, ...]
    """Dots of entries that the member keeps and does not apply."""
    members: tuple[str, ...]
    """Names of nodes, ascending."""
    waiting: int
    """Entries that are held and cannot be merged yet."""
    uttered: tuple[int, ...] = ()
    """Numbers of what liars made and this member merged."""
    write_key: str = ""
    """Id of the key that it would write under."""


@dataclass(slots=True)
class NodeEnd:
    name: str
    up: bool
    role: str
    stored: dict[str, dict[str, int]]
    """Incident -> log -> height, of every incident whose ciphertext it stores."""
    incidents: dict[str, IncidentEnd]
    """Those it can read."""
    journal_gaps: int
    """Journal numbers that are missing, doubled or name an entry that is not stored."""
    keys: tuple[str, ...]
    """Incidents of which it holds a key."""
    refusals: dict[str, int]
    degraded: tuple[str, ...]
    sizes: dict[str, int]
    """Name of something that must stay bounded -> the most it ever was."""
    heads: dict[tuple[str, str], tuple[int, str]] = field(default_factory=dict)
    """(incident, log) -> (height, hash of the entry there), where the world can tell: for equivocation."""
    codes: dict[str, str] = field(default_factory=dict)
    """Code of every report, refusal, closed link and degraded state -> the reason that was given first."""
    unreasoned: tuple[str, ...] = ()
    """What it refused, reported or showed as degraded without a code, a reason or, where one is due, an action."""
    unreadable: tuple[str, ...] = ()
    """Incidents of which it holds a key and that it could not show, and why."""
    leaked: int = 0
    """Keys that stood in what it reported."""
    old_prekeys_ms: int = 0
    """How long ago the oldest private prekey was made that it still has, by its own clock."""
    rotted: int = 0
    """Rows of its disk that changed under it."""
    unnoticed: int = 0
    """How often a read gave such a row to the node as if nothing were wrong with it."""
    holes: tuple[tuple[str, str, int], ...] = ()
    """(incident, log, seq) of entries that rotted and were not fetched again."""
    uttered: tuple[int, ...] = ()
    """Numbers of what liars made and lies in its store."""
    reports: dict[str, int] = field(default_factory=dict)
    """Reason code -> how often the operator was told, over all lives of the node."""
    from_liars: dict[str, int] = field(default_factory=dict)
    """Liar -> frames of it that arrived here."""
    to_liars: dict[str, int] = field(default_factory=dict)
    """Liar -> frames from here that arrived there."""
    to_honest_most: int = 0
    """Frames from here that arrived at the honest node that got most."""
    handed: tuple[int, ...] = ()
    """Numbers of what liars made and arrived here, from whomever."""
    lives: int = 1
    """How often it was started or went down; 1 for a node that ran all the time."""


@dataclass(slots=True)
class Outcome:
    world: str
    plan: Plan
    incidents: dict[str, str] = field(default_factory=dict)
    """Name in the plan -> id, of those that were opened."""
    acknowledged: list[Acknowledged] = field(default_factory=list)
    refused: list[Refused] = field(default_factory=list)
    unanswered: list[tuple[int, str, Touch]] = field(default_factory=list)
    """(number, node, touch) of what was asked and never answered, as the node went down: it may be there or not."""
    sealed: list[Sealed] = field(default_factory=list)
    invited: list[Invited] = field(default_factory=list)
    """Openings and shares that were acknowledged, where the world can tell whom they made members."""
    lost_disks: set[str] = field(default_factory=set)
    """Nodes that the plan took a disk from at some time."""
    closed: dict[str, str] = field(default_factory=dict)
    """Incident -> why nobody can read it any more, whoever stores it: the plan destroyed every disk with a key."""
    excused: dict[int, str] = field(default_factory=dict)
    """Number of an acknowledged request -> why it may be lost: the only disk that held it was destroyed by the plan
    (``wipe``, ``restore-old-backup``). Everything else that was acknowledged must be there."""
    uttered: list[Uttered] = field(default_factory=list)
    """What liars wrote, in the order of their numbers."""
    leaked: list[Sealed] = field(default_factory=list)
    """Outsiders to whom a lying member gave the keys of an incident: nobody honest is to blame that they have them."""
    forked: tuple[str, ...] = ()
    """Incidents in which honest nodes took different branches of one log."""
    locked_out: tuple[str, ...] = ()
    """Incidents in which an honest member waits for a key that a liar kept from it, at logs of which it has merged
    nothing yet."""
    apart: tuple[str, ...] = ()
    """Those of both that are not one at the end. The others are what ``converged_after_s`` speaks of."""
    sightings: list[Sighting] = field(default_factory=list)
    ends: list[NodeEnd] = field(default_factory=list)
    converged_after_s: float | None = None
    """From the end of the faults until all of the core held the same; None if that did not happen in time."""
    spread_s: list[Spread] = field(default_factory=list)
    """As often as measured: not every write, and no member that never showed it."""
    bytes_sent: Counter[str] = field(default_factory=Counter)
    """By node."""
    frames_max: int | None = None
    """The most that was ever on the way to one node at one time, liars too; None where the world cannot tell."""
    sent: dict[tuple[str, str], tuple[int, int]] = field(default_factory=dict)
    """(node, class of message as in ``frames.CLASSES``) -> (frames, bytes), where the world can tell."""
    timeline: Timeline | None = None
    """What was to be seen meanwhile, where the world was asked to write it down."""
    sometimes: Counter[str] = field(default_factory=Counter)
    """Situations that were reached, by name."""
    digest: str = ""
    """Of the trace: everything that happened, in order."""
    last: dict[str, deque[str]] = field(default_factory=dict)
    """Node -> the last lines of its trace."""
    lines: int = 0
    """Of the trace in all."""
    events: int = 0
    """Things that happened in virtual time, for the measure of speed."""
    wall_s: float = 0.0
    """What the run took on this machine. Not part of the trace."""

    def members_due(self) -> dict[str, set[str]]:
        """Incident -> honest nodes that must be members: who was invited by an honest one, and who wrote, by what
        clients were told; except what was lost with a disk."""
        due: dict[str, set[str]] = {}
        liars = self.plan.liars
        rows = [(row.number, row.node, row.incident, row.nodes) for row in self.invited]
        rows += [(row.number, row.node, row.touch.incident, (row.node,)) for row in self.acknowledged]
        for number, node, incident, nodes in rows:
            if number not in self.excused and node not in liars and incident not in self.closed:
                due.setdefault(incident, set()).update(name for name in nodes if name not in liars)
        return due


class World(Protocol):
    """``name`` is what ``--world`` calls it."""

    name: str

    def run(self, plan: Plan) -> Outcome:
        """Performs the plan. Raises nothing for what nodes do wrong: that is in the outcome. Raises
        ``WorldUnavailableError`` where this machine cannot run it."""


class WorldUnavailableError(Exception):
    """This world cannot run here; says what is missing."""
