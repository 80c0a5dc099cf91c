"""Faults are counted by what they did: an order that changed nothing is passed over, and says why."""

from __future__ import annotations

from dataclasses import replace

import pytest

from simulations.scenario.draw import draw
from simulations.scenario.plan import LinkFault, NodeFault
from simulations.scenario.reader import parse
from simulations.scenario.situations import KNOWN
from simulations.worlds.protocol import ProtocolWorld

SMALL = """
title = "Small"
story = "A small mesh."
duration_s = 60
[[group]]
name = "nocs"
nocs = ["BE", "NL"]
[[incident]]
name = "attack"
by = "BE"
"""


def counted(text: str, transport: str = "stream", more: NodeFault | None = None) -> dict[str, int]:
    """Faults, as one run counts them; each is of a name that a scenario may ask for."""
    plan = draw(parse(SMALL + text, "small"), 1)
    actions = sorted([*plan.actions, *([more] if more else [])], key=lambda action: (action.at_s, action.number))
    plan = replace(plan, actions=tuple(actions), options=replace(plan.options, transport=transport))
    found = ProtocolWorld().run(plan).sometimes
    names = {name: count for name, count in found.items() if name.startswith(("fault: ", "passed over: "))}
    assert names.keys() <= KNOWN
    return names


def fault(verb: str, more: str, at_s: int = 20) -> str:
    return f'[[fault]]\nat_s = {at_s}\nverb = "{verb}"\n{more}\n'


@pytest.mark.parametrize("effect", ["duplicate", "corrupt"])
def test_what_a_stream_repairs_is_passed_over_and_frames_show_it(effect: str) -> None:
    more = fault(effect, "percent = 40\nfor_s = 30")
    assert counted(more) == {f"passed over: {effect} that a stream repairs": 1}
    assert counted(more, "frames") == {f"fault: {effect}": 1}


@pytest.mark.parametrize(
    ("verb", "more", "effect"),
    [
        ("drop", "percent = 40\nfor_s = 30", "drop"),
        ("delay", "delay_ms = 500\nfor_s = 30", "delay"),
        ("cut-one-way", 'from = ["BE"]\nto = ["NL"]\nfor_s = 30', "cut"),
        ("hold", 'from = ["BE"]\nto = ["NL"]\nfor_s = 30', "hold"),
    ],
)
@pytest.mark.parametrize("transport", ["stream", "frames"])
def test_what_something_met_is_done(verb: str, more: str, effect: str, transport: str) -> None:
    assert counted(fault(verb, more), transport) == {f"fault: {effect}": 1}


def test_what_nothing_met_is_passed_over() -> None:
    """Of a node that is down nothing is on the way, and nobody asks for it within the moment."""
    more = fault("crash", 'nodes = ["NL"]\nfor_s = 20') + fault("drop", "percent = 90\nfor_s = 0.001", 25)
    assert counted(more) == {"fault: crash": 1, "passed over: drop that met nothing": 1}


@pytest.mark.parametrize("verb", ["crash", "pause", "clone"])
def test_what_befalls_a_node_that_is_down_is_passed_over(verb: str) -> None:
    """As chance may draw it: a file that orders this is refused."""
    more = NodeFault(1_000, 25.0, 30.0, verb, "NL")
    found = counted(fault("crash", 'nodes = ["NL"]\nfor_s = 20'), more=more)
    assert found == {"fault: crash": 1, f"passed over: {verb} of a node that is down": 1}


def test_a_pause_of_a_node_that_stands_still_is_passed_over() -> None:
    more = NodeFault(1_000, 25.0, 30.0, "pause", "NL")
    found = counted(fault("pause", 'nodes = ["NL"]\nfor_s = 20'), more=more)
    assert found == {"fault: pause": 1, "passed over: pause of a node that stands still": 1}


def test_no_fault_of_a_link_is_drawn_from_a_node_to_itself() -> None:
    more = '[[random]]\nverb = "drop"\nper_hour = 2000\n'
    faults = [
        action
        for seed in range(20)
        for action in draw(parse(SMALL + more, "small"), seed).actions
        if isinstance(action, LinkFault)
    ]
    assert len(faults) > 100
    assert all(set(action.receivers) - set(action.senders) for action in faults)
