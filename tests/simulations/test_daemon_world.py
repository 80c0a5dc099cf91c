"""The daemon world: what real daemons promise under faults, the same trace for the same seed, planted defects found."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections import Counter
from dataclasses import replace
from pathlib import Path

import pytest
import trio._core._run as trio_run

import simulations
from simulations.checks.judge import judge
from simulations.scenario.draw import draw
from simulations.scenario.plan import Plan
from simulations.scenario.reader import load, parse
from simulations.scenario.records import Scenario
from simulations.worlds.contract import Outcome, WorldUnavailableError
from simulations.worlds.daemon import DaemonWorld
from simulations.worlds.daemon.defects import DEFECTS
from simulations.worlds.daemon.order import seeded_order

GROUND = """
title = "Small"
story = "Two control rooms and a hub."
duration_s = 30
[[group]]
name = "nocs"
nocs = ["BE", "NL"]
[[group]]
name = "hub"
role = "hub"
nocs = ["EU"]
[links]
idle_timeout_s = 5
[[incident]]
name = "hunt"
by = "BE"
at_s = 4
[workload]
writes_per_s = {rate}
start_s = 6
"""


def fault(at_s: float, verb: str, more: str) -> str:
    return f'[[fault]]\nat_s = {at_s}\nverb = "{verb}"\n{more}\n'


def make_plan(faults: str = "", rate: float = 2.0, commit_s: tuple[float, float] = (0.005, 0.2), seed: int = 1) -> Plan:
    plan = draw(parse(GROUND.format(rate=rate) + faults, "small"), seed)
    return replace(plan, options=replace(plan.options, commit_s=commit_s))


def perform(plan: Plan) -> Outcome:
    outcome = DaemonWorld().run(plan)
    assert judge(outcome).violations == []
    return outcome


CRASHES = "".join(
    fault(at_s, "crash", f'nodes = ["{noc}"]\nfor_s = 2') for at_s, noc in ((9, "BE"), (14, "NL"), (20, "BE"))
)
RESTARTS = "".join(fault(at_s, "restart", f'nodes = ["{noc}"]') for at_s, noc in ((10, "BE"), (15, "NL"), (21, "BE")))
DISK_FULL = fault(12, "disk-full", 'nodes = ["BE"]\nfor_s = 8')


def test_without_a_fault_every_write_is_kept_everywhere() -> None:
    outcome = perform(make_plan())
    asked = len(outcome.acknowledged) + len(outcome.refused)
    assert len(outcome.acknowledged) == asked > 30
    assert {end.name for end in outcome.ends if end.incidents} == {"BE", "NL"}
    assert len(outcome.spread_s) > 20


def test_a_partition_a_one_way_cut_and_a_clog_leave_local_work_untouched() -> None:
    faults = (
        fault(8, "partition", 'sides = [["BE"], ["NL", "EU"]]\nfor_s = 8')
        + fault(18, "cut-one-way", 'from = ["NL"]\nto = ["BE"]\nfor_s = 6')
        + fault(25, "clog", 'nodes = ["EU"]\nfor_s = 3')
        + fault(29, "heal", "")
    )
    outcome = perform(make_plan(faults))
    assert not outcome.refused


def test_crashes_in_the_middle_of_writes_lose_nothing_that_was_acknowledged() -> None:
    outcome = perform(make_plan(CRASHES, rate=6.0))
    assert outcome.sometimes["fault: crash"] == 3
    assert outcome.sometimes["crash while writing"] + outcome.sometimes["crash between commit and send"] > 0


def test_a_stop_in_order_answers_what_it_took() -> None:
    outcome = perform(make_plan(RESTARTS, rate=6.0))
    assert outcome.sometimes["a stop in order"] >= 3


def test_reads_are_answered_while_the_disk_takes_seconds() -> None:
    outcome = perform(make_plan(commit_s=(1.0, 5.0)))
    assert outcome.sometimes["read while the disk was writing"] > 0


def test_a_full_disk_is_refused_and_got_over() -> None:
    outcome = perform(make_plan(DISK_FULL))
    assert "store-full" in {row.code for row in outcome.refused}
    assert max(row.at_s for row in outcome.acknowledged if row.node == "BE") > 25


def test_a_pause_a_wrong_clock_a_lost_hub_and_a_lost_disk() -> None:
    faults = (
        fault(8, "pause", 'nodes = ["NL"]\nfor_s = 7')
        + fault(10, "skew-clock", 'nodes = ["BE"]\nskew_s = -86400\nfor_s = 10')
        + fault(18, "lose-hub", "")
        + fault(22, "wipe", 'nodes = ["NL"]')
    )
    outcome = perform(make_plan(faults))
    assert not next(end for end in outcome.ends if end.name == "EU").up


def test_a_node_whose_disk_is_far_slower_than_its_peers_write_keeps_its_limits() -> None:
    outcome = DaemonWorld(slow=SLOW).run(FLOOD)
    assert judge(outcome).violations == []
    assert max(end.sizes["steps waiting for the disk"] for end in outcome.ends) > 30


FLOOD = replace(make_plan(rate=30.0, commit_s=(0.0, 0.001)), duration_s=11.0)
SLOW = {"EU": (4.0, 5.0)}


def shipped(name: str) -> Scenario:
    return load(Path(simulations.__file__).parent / "scenarios" / f"{name}.toml")


STOPPED = make_plan(RESTARTS, rate=12.0, commit_s=(0.5, 1.5))
ROUGH = replace(make_plan(seed=7, rate=0.5), duration_s=150.0)
"""With clients of every bad habit, by the seed's luck."""
CAUGHT_IN = {
    "send-before-commit": make_plan(),
    "answer-before-commit": make_plan(),
    "event-before-commit": make_plan(),
    "stream-reads-staged": make_plan(rate=6.0),
    "answer-after-failure": make_plan(DISK_FULL, rate=8.0),
    "never-recovers": make_plan(DISK_FULL),
    "no-back-pressure": FLOOD,
    "stop-drops-requests": STOPPED,
    "lost-wake-up": make_plan(),
    "requests-kept": make_plan(),
    "stop-cuts-off": STOPPED,
    "gone-clients-kept": ROUGH,
    "silent-clients-kept": ROUGH,
    "deaf-clients-kept": ROUGH,
    "queues-without-end": draw(shipped("full-queues"), 1),
    "stream-skips": make_plan(CRASHES),
    "stream-repeats": make_plan(CRASHES),
}


@pytest.mark.parametrize("name", DEFECTS)
def test_a_planted_defect_is_found(name: str) -> None:
    defect = DEFECTS[name]
    slow = SLOW if CAUGHT_IN[name] is FLOOD else {}
    verdict = judge(DaemonWorld(defect.parts, slow).run(replace(CAUGHT_IN[name], converge_within_s=30.0)))
    assert {violation.invariant for violation in verdict.violations} & set(defect.invariants), verdict.violations


REACHED = {
    "full-queues": (5, 7, 12),
    "slow-disks-and-restarts": (1, 10),
}
"""Seeds: few, and yet they reach what these scenarios are for."""
STOPS_AND_CRASHES = ("crash between commit and send", "crash while writing", "a stop in order")


@pytest.mark.parametrize("name", REACHED)
def test_a_shipped_scenario_holds_and_reaches_what_it_is_for(name: str) -> None:
    scenario = shipped(name)
    outcomes = [perform(draw(scenario, seed)) for seed in REACHED[name]]
    reached = sum((outcome.sometimes for outcome in outcomes), Counter[str]())
    assert [what for what in scenario.checks.sometimes or STOPS_AND_CRASHES if not reached[what]] == []


def test_the_order_of_tasks_is_given_back_after_a_run(monkeypatch: pytest.MonkeyPatch) -> None:
    before = trio_run._r, trio_run._ALLOW_DETERMINISTIC_SCHEDULING
    with seeded_order(1):
        assert trio_run._r is not before[0]
        assert trio_run._ALLOW_DETERMINISTIC_SCHEDULING
    assert (trio_run._r, trio_run._ALLOW_DETERMINISTIC_SCHEDULING) == before
    monkeypatch.delattr(trio_run, "_ALLOW_DETERMINISTIC_SCHEDULING")
    with pytest.raises(WorldUnavailableError), seeded_order(1):
        pass


def test_a_seed_gives_one_trace_in_every_process_and_another_seed_another() -> None:
    script = (
        "import json, test_daemon_world as t\n"
        "print(json.dumps([t.DaemonWorld().run(t.make_plan(t.CRASHES, seed=seed)).digest for seed in (1, 2)]))"
    )
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join((".", "tests/simulations")), "PYTHONHASHSEED": "random"}
    done = subprocess.run([sys.executable, "-c", script], env=environment, capture_output=True, check=True, text=True)
    one, two = json.loads(done.stdout)
    assert DaemonWorld().run(make_plan(CRASHES)).digest == one != two


def test_a_plan_that_would_take_hours_is_refused_with_code_reason_and_action() -> None:
    plan = replace(make_plan(), duration_s=90_000.0)
    with pytest.raises(WorldUnavailableError, match=r"^daemon-too-long: 3 nodes for 90,000 s .*; at most 100,000 s"):
        DaemonWorld().run(plan)
