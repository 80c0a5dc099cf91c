"""A scenario in sentences: what it builds, what happens when, what must hold."""

from __future__ import annotations

import textwrap

from simulations.scenario import plan as plans
from simulations.scenario.lies import LIES
from simulations.scenario.records import Fault, Liar, RandomFaults, Scenario
from simulations.scenario.verbs import VERBS

WIDTH = 100
_SAID = ("nodes", "sides", "percent", "delay_ms", "skew_s", "drift_percent", "count", "backup_at_s")


def scenario(found: Scenario) -> str:
    lines = [found.title, "", *textwrap.wrap(" ".join(found.story.split()), WIDTH), ""]
    lines.append(f"{len(found.nodes)} nodes, {found.duration_s:g} s, in: {', '.join(found.worlds)}")
    for group in found.groups:
        names = [node.name for node in found.nodes if node.group == group.name]
        lines.append(f"  {group.name} ({group.role}): {', '.join(names[:30])}{' ...' if len(names) > 30 else ''}")
    links = found.links
    lines.append(
        f"topology {found.topology.shape}; latency {links.latency_ms} ms, jitter {links.jitter_ms} ms, "
        f"loss {links.loss_percent} %, duplicates {links.duplicate_percent} %, "
        f"rate {'unlimited' if not links.rate_bytes_per_s.high else f'{links.rate_bytes_per_s} bytes/s'}"
    )
    for incident in found.incidents:
        lines.append(f"{incident.at_s:10g} s  {incident.by} opens {incident.name!r} for {', '.join(incident.members)}")
    for share in found.shares:
        lines.append(f"{share.at_s:10g} s  {share.by} adds {', '.join(share.members)} to {share.incident!r}")
    lines.append(f"writes: {found.workload.writes_per_s} a second by {', '.join(found.workload.writers)}")
    lines += [_fault(fault) for fault in sorted(found.faults, key=lambda fault: fault.at_s)]
    lines += [_random(faults) for faults in found.random]
    lines += [_liar(liar) for liar in found.liars]
    checks = found.checks
    lines.append(f"then: all faults end, {', '.join(checks.core)} must be one within {checks.converge_within_s:g} s")
    lines.append(f"checked: {', '.join(checks.invariants)}")
    return "\n".join(lines)


def _fault(fault: Fault) -> str:
    keys = [key for key in _SAID if key in VERBS[fault.verb].keys]
    said = [f"{key} {_shown(value)}" for key in keys if (value := getattr(fault, key))]
    if "from" in VERBS[fault.verb].keys:
        said.append(f"from {', '.join(fault.from_)} to {', '.join(fault.to)}")
    last = "" if fault.for_s is None else f", for {fault.for_s:g} s"
    details = f" ({'; '.join(said)})" if said else ""
    return f"{fault.at_s:10g} s  {fault.verb}{details}{last}: {VERBS[fault.verb].meaning}"


def _shown(value: object) -> str:
    if isinstance(value, tuple):
        is_sides = any(isinstance(item, tuple) for item in value)
        return " | ".join(map(_shown, value)) if is_sides else ", ".join(map(str, value))
    return f"{value:g}" if isinstance(value, float) else str(value)


def _random(faults: RandomFaults) -> str:
    often = f"{faults.per_hour} an hour, each for {faults.for_s} s"
    return f"  by chance  {faults.verb}, {often}: {VERBS[faults.verb].meaning}"


def _liar(liar: Liar) -> str:
    who = f"one of {', '.join(liar.nodes)}" if len(liar.nodes) > 1 else liar.nodes[0]
    helped = f" with {' or '.join(liar.with_)}" if liar.with_ else ""
    amount = f", amount {liar.amount}" if liar.amount else ""
    last = "" if liar.for_s is None else f" for {liar.for_s} s"
    when = f"from {liar.at_s} s{last}, {liar.per_hour} an hour if it is one of a moment{amount}"
    what = "; ".join(
        f"{kind}: {LIES[kind].meaning} ({LIES[kind].fault})" if kind in LIES else kind for kind in liar.does
    )
    return f"  a liar  {who}{helped}, {when}: {what}"


def plan(drawn: plans.Plan) -> str:
    options = drawn.options
    without = ", ".join(options.switched_off) or "nothing"
    lines = [
        "",
        f"seed {drawn.seed}: links as {options.transport}; a commit takes {options.commit_s[0]:g} to "
        f"{options.commit_s[1]:g} s, steps gather for {options.gather_s:g} s; without {without}",
        *(f"  {name} = {value:g}" for name, value in options.drawn),
    ]
    lines += [f"{action.at_s:12.3f} s  {_action(action)}" for action in drawn.actions]
    return "\n".join(lines)


def _action(action: plans.Action) -> str:
    match action:
        case plans.Open():
            return f"{action.node} opens {action.incident} with {', '.join(action.nocs)}"
        case plans.ShareWith():
            return f"{action.node} shares {action.incident} with {', '.join(action.nocs)}"
        case plans.Write():
            return f"{action.node} writes {action.number} ({action.kind}) in {action.incident}"
        case plans.LinkFault():
            last = "until healed" if action.until_s is None else f"until {action.until_s:.3f} s"
            return (
                f"{action.effect} {action.amount:g} {','.join(action.senders)} -> {','.join(action.receivers)} {last}"
            )
        case plans.Heal():
            return f"heal {', '.join(action.effects)}"
        case plans.NodeFault():
            last = "" if action.until_s is None else f" until {action.until_s:.3f} s"
            return f"{action.verb} {action.node}{last}"
        case plans.Lie():
            last = "" if action.until_s is None else f" until {action.until_s:.3f} s"
            amount = f" {action.amount:g} {LIES[action.kind].counts}" if LIES[action.kind].counts else ""
            helped = f" with {action.accomplice}" if action.accomplice else ""
            return f"{action.node} lies: {action.kind}{amount}{helped}{last}"
