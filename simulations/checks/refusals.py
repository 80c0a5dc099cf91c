"""I6: a node that runs answers its clients, and refuses only what its plan, at that time and for that kind of request,
can have led to.

A code is allowed by a window of time in which a fault of the plan befell that very node, or by what was asked. So a
node that refuses everything is seen, whatever code it gives.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from math import inf

from simulations.checks.honest import Violation, honest
from simulations.scenario.plan import NodeFault, Open, Plan, ShareWith
from simulations.worlds.contract import Outcome, Refused

START_S = 1.0
"""Within so long all nodes of the world ``protocol`` are started for the first time."""
SLOW_S = 60.0
"""Starts, stops and new tries take no longer, slow disks and full queues in real daemons included."""
PROBE_S = 5.0
"""How often a node whose disk was full tries again."""
DOWN = frozenset(("crash", "restart", "pause", "wipe", "restore-old-backup", "upgrade", "downgrade"))
ENDS_A_CRASH = DOWN - {"crash", "pause"}
OF_INVITATIONS = frozenset(("noc-unknown", "no-prekey"))
"""An NOC that was never heard of cannot be shared with: who has heard of whom hangs on links, not on the plan."""
OF_SHARES = frozenset(("already-members", "not-entitled"))
"""Two managers add one NOC, or one who is none tries: the plan cannot know."""
OF_THE_SHELL = frozenset(("busy", "too-many-clients", "too-many-clients-of-user"))
"""More clients wait for a slow disk than the daemon keeps waiting; they are told so at once. The core has no bound."""


def answers(outcome: Outcome, asked: Counter[str]) -> Iterator[Violation]:
    """A node that runs answers its clients, whatever is cut off."""
    asked["I6"] += len(outcome.acknowledged) + len(outcome.refused)
    kinds = {action.number: type(action) for action in outcome.plan.actions}
    for end in honest(outcome):
        for what in end.unreadable:
            yield Violation("I6", end.name, f"cannot show {what}")
    for row in outcome.refused:
        if row.node in outcome.plan.liars:
            continue
        if not _is_allowed(outcome, row, kinds.get(row.number)):
            yield Violation("I6", row.node, f"request {row.number} at {row.at_s:.3f} s was refused: {row.code}")


def _is_allowed(outcome: Outcome, row: Refused, kind: type | None) -> bool:
    plan, is_shell = outcome.plan, outcome.world != "protocol"
    late_s = SLOW_S if is_shell else 0.0
    if row.code == "no-answer":
        return row.at_s <= max(START_S, late_s) or _is_in(_down(plan, row.node), row.at_s, late_s)
    if row.code == "stopping":
        return _is_in(_down(plan, row.node), row.at_s, late_s)
    if row.code == "store-full":
        # It tries again when the time of a try has come, it stands still no more and its disk has done what waited.
        paused_s = sum((action.until_s or action.at_s) - action.at_s for action in _faults(plan, row.node, "pause"))
        late_s = max(late_s, 2 * PROBE_S + 2 * plan.options.commit_s[1] + plan.options.gather_s + paused_s)
        full = [(action.at_s, action.until_s or action.at_s) for action in _faults(plan, row.node, "disk-full")]
        return _is_in(full, row.at_s, late_s)
    if row.code == "store-row-damaged":  # until a peer has sent it again
        return any(action.at_s <= row.at_s for action in _faults(plan, row.node, "bit-flip"))
    if row.code in OF_INVITATIONS:
        return kind in (Open, ShareWith)
    if row.code in OF_SHARES:
        return kind is ShareWith
    return is_shell and row.code in OF_THE_SHELL


def _faults(plan: Plan, node: str, *verbs: str) -> list[NodeFault]:
    return [
        action
        for action in plan.actions
        if isinstance(action, NodeFault) and action.node == node and action.verb in verbs
    ]


def _down(plan: Plan, node: str) -> list[tuple[float, float]]:
    """From, to: when it may be down, stand still, or stop; a crash without end lasts until something starts it."""
    faults = _faults(plan, node, *DOWN)
    windows = []
    for action in faults:
        until_s = action.until_s or action.at_s
        if action.verb == "crash" and action.until_s is None:
            starts_s = (other.at_s for other in faults if other.verb in ENDS_A_CRASH and other.at_s >= action.at_s)
            until_s = inf if action.for_good else next(starts_s, inf)
        windows.append((action.at_s, until_s))
    return windows


def _is_in(windows: list[tuple[float, float]], at_s: float, late_s: float) -> bool:
    return any(from_s <= at_s <= until_s + late_s for from_s, until_s in windows)
