"""I5, I9: whoever was invited is a member to everybody, and reads; so is whoever wrote.

That is taken from what clients were told (``Outcome.members_due``), not from what nodes say of the group: a node that
shares with nobody, forgets its keys or loses a record for all is held to its answers.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator

from simulations.checks.honest import Violation, hole_of, readable_stores, readers
from simulations.worlds.contract import Outcome


def members_read(outcome: Outcome, asked: Counter[str]) -> Iterator[Violation]:
    """Asked of incidents that nobody shows too."""
    for incident, names in sorted(members_due_now(outcome).items()):
        hole = hole_of(outcome, incident)
        reading = readers(outcome, incident)
        asked["I9"] += len(names)
        for name in sorted(names - {end.name for end in reading}):
            yield Violation("I9", name, f"is a member of {incident[:8]}, a client was told, and cannot read it", hole)
        # Who has not heard of it yet is not to blame: that the mesh is not one is said elsewhere.
        for end in reading if outcome.converged_after_s is not None else ():
            asked["I5"] += len(names)
            for name in sorted(names - set(end.incidents[incident].members)):
                what = f"does not hold {name} for a member of {incident[:8]}, though a client was told that it is one"
                yield Violation("I5", end.name, what, hole)


def members_due_now(outcome: Outcome) -> dict[str, set[str]]:
    """Of those that must be members, those that run at the end and were healed."""
    able = {end.name for end in readable_stores(outcome)}
    return {incident: names & able for incident, names in outcome.members_due().items() if names & able}
