"""What a run did not test, said plainly: a report that is silent about it would be read as if it had."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence

from simulations.report.records import Untested
from simulations.scenario.plan import Plan
from simulations.scenario.records import INVARIANTS, Scenario
from simulations.scenario.verbs import VERBS
from simulations.worlds import crypto

MEANINGS: dict[str, str] = {
    "I1": "what was acknowledged is durable at once, and in the union of all stores in the end",
    "I2": "the same entries give the same picture, and the picture is what clients wrote",
    "I3": "no gap in any log or journal, and nothing twice",
    "I4": "no content and no key where it may not be",
    "I5": "every merged act was the author's to do",
    "I6": "a node that runs answers its clients, also alone",
    "I7": "memory and queues stay below their bounds",
    "I8": "no crash and no exception, whatever comes in",
    "I9": "after the last fault all become one within the bound",
    "I10": "who is handed two branches of a log tells its operator; a proof that reaches all does not exist yet",
    "I11": "nothing from disk is used or served before its hash is checked",
    "I12": "no private or epoch key in clear on a disk or in a log",
    "I13": "nothing that matters depends on a wall clock",
    "I14": "an honest node never says two things at one position",
    "I15": "the same seed gives the same trace",
    "I16": "every refusal and degraded state says why",
}

WORLD_LIMITS: dict[str, tuple[str, ...]] = {
    "protocol": (
        "QUIC, SQLite, the local API, the event loop and the operating system: this world has none of them",
        "HPKE: its box is replaced by one that the seed decides",
        "processes: a node is an object in this program, and a crash is the loss of what was not yet written",
        "hellos and certificates of links: links come authenticated",
    ),
    "daemon": (
        "QUIC and SQLite: a transport inside one process and a store in memory stand in their place",
        "HPKE: its box is replaced by one that the seed decides",
        "processes, descriptors and signals: all daemons are tasks of one process, and a pause only holds their clock, "
        "links and disk",
        "order and doubling of packets: links are streams, a hold is a cut to them, and a doubled message is none",
        "nodes that lie, disks that rot, copies of a machine",
    ),
    "lab": (
        "a power cut: the file systems here lose nothing that was written",
        "the same run again: what the machine does at which moment is its own, and the same seed draws only the same "
        "faults",
        "time: a run takes as long as its plan, so nothing of days or months",
        "nodes that lie, and bounds on what a node keeps for others",
    ),
}
"""Of each world: what no run in it can show."""


GONE = Untested("Scenario", "its file is not here any more, so what it left out cannot be said")


def of_run(
    scenario: Scenario | None, plan: Plan, world: str, asked: Mapping[str, int], situations: Mapping[str, int]
) -> Iterator[Untested]:
    yield from _of_world(world)
    if signatures_of(world, plan) == crypto.CHEAP:
        yield Untested(f"World {world}", "signatures: this seed put a keyed hash in their place, as most seeds do")
    yield from _of_invariants(plan.invariants, asked)
    for situation, count in sorted(situations.items()):
        if situation.startswith("not done in this world: "):
            verb = situation.removeprefix("not done in this world: ")
            yield Untested("Faults", f"{verb}: planned {count} times, and this world cannot do it")
    if plan.options.switched_off:
        yield Untested("Faults", f"switched off by this seed: {', '.join(plan.options.switched_off)}")
    if scenario is None:
        yield GONE
    else:
        yield from _of_seed(scenario, plan, situations)
    yield from _of_core(plan)
    yield Untested("Chance", "other seeds: this is one of very many runs of the same scenario")


def _of_seed(scenario: Scenario, plan: Plan, situations: Mapping[str, int]) -> Iterator[Untested]:
    happened = _happened(plan)
    on = dict.fromkeys(row.verb for row in scenario.random if row.verb not in plan.options.switched_off)
    idle = [verb for verb in on if verb not in happened and not _is_done(verb, plan)]
    if idle:
        yield Untested("Faults", f"allowed by chance, and never drawn by this seed: {', '.join(idle)}")
    yield from _of_faults(scenario)
    missed = [name for name in scenario.checks.sometimes if not situations.get(name)]
    if missed:
        yield Untested("Situations", f"wanted of a large sweep, and not reached by this seed: {', '.join(missed)}")


def _of_core(plan: Plan) -> Iterator[Untested]:
    if not plan.core or set(plan.core) != {node.name for node in plan.nodes}:
        left = [node.name for node in plan.nodes if node.name not in plan.core]
        yield Untested("Convergence", f"not demanded of nodes outside the core: {', '.join(left)}")
    if plan.liars:
        yield Untested(
            "Liars", f"nothing is demanded of those that lie and of who helps them: {', '.join(sorted(plan.liars))}"
        )


def signatures_of(world: str, plan: Plan) -> str:
    """Only the protocol world can do with others than the real ones."""
    return plan.options.crypto if world == "protocol" else crypto.REAL


def of_sweep(
    scenario: Scenario | None, world: str, seeds: int, asked: Mapping[str, int], never: Sequence[str]
) -> Iterator[Untested]:
    yield from _of_world(world)
    if scenario is None:
        yield GONE
        return
    yield from _of_invariants(scenario.checks.invariants, asked)
    yield from _of_faults(scenario)
    if never:
        yield Untested("Situations", f"wanted, and reached by none of {seeds} seeds: {', '.join(never)}")


def _of_world(world: str) -> Iterator[Untested]:
    for limit in WORLD_LIMITS[world]:
        yield Untested(f"World {world}", limit)


def _of_invariants(wanted: Sequence[str], asked: Mapping[str, int]) -> Iterator[Untested]:
    unwanted = [name for name in INVARIANTS if name not in wanted]
    if unwanted:
        yield Untested("Invariants", f"not asked for by the scenario: {', '.join(unwanted)}")
    for name in INVARIANTS:
        if name in wanted and not asked.get(name):
            yield Untested("Invariants", f"{name}, {MEANINGS[name]}: never asked in this run")


def _of_faults(scenario: Scenario) -> Iterator[Untested]:
    used = {fault.verb for fault in scenario.faults} | {row.verb for row in scenario.random}
    absent = [verb for verb in VERBS if verb not in used]
    if absent:
        yield Untested("Faults", f"not in this scenario at all: {', '.join(absent)}")


def _happened(plan: Plan) -> set[str]:
    return {getattr(action, "verb", getattr(action, "effect", "")) for action in plan.actions}


MADE_OF = {
    "partition": ("cut",),
    "cut-one-way": ("cut",),
    "clog": ("hold",),
    "swizzle-clog": ("hold",),
    "lose-hub": ("crash",),
    "heal": ("",),
    "release": ("",),
}
"""Verbs of people that a plan does not know -> what it makes of them."""


def _is_done(verb: str, plan: Plan) -> bool:
    """It may have been drawn: a plan does not say of which verb a cut or a hold was made."""
    happened = _happened(plan)
    return any(effect in happened for effect in MADE_OF.get(verb, ()))


def topics(rows: Iterable[Untested]) -> dict[str, list[str]]:
    """By topic, in order."""
    found: dict[str, list[str]] = {}
    for row in rows:
        found.setdefault(row.topic, []).append(row.what)
    return found
