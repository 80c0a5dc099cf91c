"""Shrinking: takes actions out of a plan for as long as it still fails in the same way.

Delta debugging over the rows of a plan: halves, quarters, and so on down to single rows. A write whose incident is not
opened any more does nothing, so no row needs another one.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from simulations.scenario.plan import Action, Plan

Fails = Callable[[Plan], bool]


def shrink(plan: Plan, fails: Fails, tries_max: int = 500) -> tuple[Plan, int]:
    """(the smallest plan that was found to fail, plans tried). ``fails`` says whether a plan fails as the first did."""
    actions = plan.actions
    tries = 0
    parts = 2
    while len(actions) > 1 and tries < tries_max:
        size = max(1, len(actions) // parts)
        for begin in range(0, len(actions), size):
            fewer = actions[:begin] + actions[begin + size :]
            tries += 1
            if fewer and fails(replace(plan, actions=fewer)):
                actions, parts = fewer, max(2, parts - 1)
                break
            if tries >= tries_max:
                break
        else:
            if size == 1:
                break
            parts = min(len(actions), parts * 2)
    return _shorter(replace(plan, actions=actions), fails), tries


def _shorter(plan: Plan, fails: Fails) -> Plan:
    """The faults end right after the last action, if that is enough."""
    last_s = max(_end_of(action) for action in plan.actions) if plan.actions else 0.0
    shorter = replace(plan, duration_s=min(plan.duration_s, last_s + 1.0))
    return shorter if shorter != plan and fails(shorter) else plan


def _end_of(action: Action) -> float:
    until_s = getattr(action, "until_s", None)
    return action.at_s if until_s is None else max(action.at_s, until_s)
