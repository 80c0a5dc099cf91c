"""Who is asked, and what a check answers: nothing is demanded of liars, everything of the others."""

from __future__ import annotations

from typing import NamedTuple

from simulations.worlds.contract import NodeEnd, Outcome


class Violation(NamedTuple):
    invariant: str
    node: str
    what: str
    hole: str = ""
    """Which known hole of the node it is of (``HOLES``); empty for a defect."""


def base_name(name: str) -> str:
    """Of the node that this is, or is a copy of."""
    return name.partition("~")[0]


def honest(outcome: Outcome) -> list[NodeEnd]:
    """Nodes that never lie: of the others nothing is demanded."""
    liars = outcome.plan.liars
    return [end for end in outcome.ends if base_name(end.name) not in liars]


def nocs(outcome: Outcome) -> dict[str, str]:
    return {spec.name: spec.noc for spec in outcome.plan.nodes}


def shared_with(outcome: Outcome) -> dict[str, set[str]]:
    """Incident -> NOCs that somebody shared it with. Under no id those of openings that were never answered."""
    allowed: dict[str, set[str]] = {}
    for row in outcome.sealed:
        allowed.setdefault(row.incident, set()).update(row.nocs)
    return allowed


def hole_of(outcome: Outcome, incident: str) -> str:
    """The known hole that what is wrong with this incident is of."""
    if incident not in outcome.apart:
        return ""
    return "fork" if incident in outcome.forked else "locked-out" if incident in outcome.locked_out else ""


def readers(outcome: Outcome, incident: str) -> list[NodeEnd]:
    """Honest members of the core that can read it at the end."""
    core, noc_of, allowed = set(outcome.plan.core), nocs(outcome), shared_with(outcome)
    leaked = {noc for row in outcome.leaked if row.incident == incident for noc in row.nocs}
    outsiders = leaked - allowed.get(incident, set())
    return [
        end
        for end in honest(outcome)
        if end.name in core and end.up and incident in end.incidents and noc_of[end.name] not in outsiders
    ]


def readable_stores(outcome: Outcome) -> list[NodeEnd]:
    core = set(outcome.plan.core)
    return [end for end in honest(outcome) if end.name in core and end.up]
