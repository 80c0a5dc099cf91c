"""The lies of a scenario, as a table: what each is, what it needs, how much of it there is by itself.

A lie is told by a node that is otherwise the real one: enrolled, linked, a member or a relay. Names in brackets are
those of the faults that the design must survive. B11 (removals against each other) and B15 (a removed member sprays old
logs) need removal, which the node does not have.
"""

from __future__ import annotations

from dataclasses import dataclass

from simulations.scenario.values import Span

ANY = "any"
"""In place of names of lies: each seed draws one of all that the node can tell."""


ONE = Span(1, 1)


@dataclass(frozen=True, slots=True)
class LieKind:
    meaning: str
    fault: str
    member: bool = False
    """Only a member of an incident can tell it: a relay has no keys."""
    lasts: bool = False
    """It goes on for some time; the others are told in one moment, again and again."""
    amount: Span = ONE
    """Drawn for each lie when the scenario does not say it."""
    counts: str = ""
    """What ``amount`` counts; empty where it counts nothing."""
    accomplice: bool = False
    """It needs a second liar."""


LIES: dict[str, LieKind] = {
    "equivocate": LieKind("signs one entry for one half of its peers and another for the other half", "B1", True),
    "hide-branch": LieKind(
        "signs two entries at one position; an accomplice keeps the second for 5 to 60 s", "B2", True, accomplice=True
    ),
    "replay": LieKind("sends frames again that it received or sent before", "B3", amount=Span(5, 100), counts="frames"),
    "flood-valid": LieKind(
        "writes small entries that nobody can find fault with", "B4", True, amount=Span(10, 80), counts="entries"
    ),
    "flood-invalid": LieKind(
        "sends frames that are cut, bent, senseless or not signed", "B5", amount=Span(5, 60), counts="frames"
    ),
    "back-date": LieKind("writes with the clock of 1970, beside what others wrote", "B6", True),
    "future-date": LieKind("writes with a clock a quarter of a million years ahead", "B7", True),
    "forge-parents": LieKind(
        "names parents that nobody has, too many of them, or replaces what it does not show to have seen", "B8", True
    ),
    "overstep": LieKind(
        "opens a log in another's name or without being a member there, or makes a manager without being one",
        "B8",
        True,
    ),
    "seal-to-itself": LieKind("starts an epoch that only it can open, or only some members", "B9", True),
    "seal-wrong-key": LieKind("starts an epoch for all, with another key in the boxes of some", "B9", True),
    "seal-to-outsider": LieKind("starts an epoch that somebody can open who is no member", "B10", True),
    "silent": LieKind("keeps its links and says nothing", "B12", lasts=True),
    "withhold": LieKind("tells what it has, and gives no entry and no package to anybody", "B12", lasts=True),
    "relay-drops": LieKind("loses a share of what it should say", "B13", lasts=True, amount=Span(10, 90), counts="%"),
    "relay-reorders": LieKind(
        "says a share of what it should say up to 5 s later", "B13", lasts=True, amount=Span(10, 90), counts="%"
    ),
    "relay-truncates": LieKind(
        "leaves out the end of a share of the runs it passes on", "B13", lasts=True, amount=Span(5, 60), counts="%"
    ),
    "relay-invents": LieKind(
        "changes a share of the entries it passes on, and tells of some that nobody wrote",
        "B13",
        lasts=True,
        amount=Span(5, 60),
        counts="%",
    ),
    "two-keys": LieKind("seals one entry so that it opens under two keys, and gives one to each half", "B14", True),
    "false-requests": LieKind(
        "asks for what it has, for what nobody has, and claims what it has not",
        "B16",
        amount=Span(5, 100),
        counts="frames",
    ),
    "false-repair": LieKind("asks for keys to be sealed to it again that it can open", "B16", True),
}
