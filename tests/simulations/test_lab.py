"""The lab with real daemons: what the shared checkers say of it, that faults are felt, and that nothing is left."""

from __future__ import annotations

import os
import select
import signal
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
from lab_support import lab_plan, needs_lab

from simulations.checks.judge import judge
from simulations.defects import DEFECTS
from simulations.mesh import wait_for
from simulations.runs import run_plan
from simulations.worlds.contract import Outcome, WorldUnavailableError
from simulations.worlds.lab.world import LabError, LabWorld, why_not
from simulations.worlds.protocol import ProtocolWorld

pytestmark = needs_lab
REPOSITORY = Path(__file__).parents[2]

HUB_LOST_AND_SPLIT = """
[[fault]]
at_s = 3
verb = "lose-hub"
[[fault]]
at_s = 3.5
verb = "partition"
sides = [["BE", "NL"], ["FR"]]
for_s = 4
"""
LINES = """
[[link]]
between = ["FR"]
and = ["BE"]
rate_bytes_per_s = 20000
[[fault]]
at_s = 2.5
verb = "cut-one-way"
from = ["BE"]
to = ["NL"]
for_s = 1.5
[[fault]]
at_s = 4
verb = "drop"
percent = 30
for_s = 2
[[fault]]
at_s = 6
verb = "duplicate"
percent = 40
for_s = 1.5
[[fault]]
at_s = 6
verb = "delay"
delay_ms = 200
for_s = 1.5
[[fault]]
at_s = 7.5
verb = "corrupt"
percent = 20
for_s = 1.5
[[fault]]
at_s = 9
verb = "hold"
from = ["NL"]
for_s = 1.5
"""
MACHINES = """
[[fault]]
at_s = 2.5
verb = "pause"
nodes = ["FR"]
for_s = 1
[[fault]]
at_s = 3
verb = "disk-full"
nodes = ["NL"]
for_s = 3
[[fault]]
at_s = 3.5
verb = "skew-clock"
nodes = ["BE"]
skew_s = 7200
for_s = 5
[[fault]]
at_s = 4
verb = "crash"
nodes = ["FR"]
for_s = 0.5
[[fault]]
at_s = 7
verb = "restart"
nodes = ["FR"]
"""
DISKS = """
[[fault]]
at_s = 3.5
verb = "restart"
nodes = ["FR"]
[[fault]]
at_s = 5
verb = "wipe"
nodes = ["NL"]
[[fault]]
at_s = 7
verb = "restore-old-backup"
nodes = ["BE"]
backup_at_s = 4
[[fault]]
at_s = 9
verb = "clone"
nodes = ["FR"]
for_s = 2
[[fault]]
at_s = 6
verb = "crash"
nodes = ["FR"]
for_s = 0.2
"""


def held(outcome: Outcome) -> Outcome:
    """The shared checkers find nothing wrong, here and in the protocol world."""
    assert judge(outcome).violations == []
    assert judge(ProtocolWorld().run(outcome.plan)).violations == []
    assert len(outcome.acknowledged) > 20
    return outcome


def refusals(outcome: Outcome) -> set[tuple[str, str]]:
    return {(row.node, row.code) for row in outcome.refused}


def test_the_hub_dies_and_the_mesh_is_split_and_all_are_one_after_it_heals(tmp_path: Path) -> None:
    outcome = held(LabWorld(keep=tmp_path / "kept").run(lab_plan(9, HUB_LOST_AND_SPLIT)))
    assert outcome.sometimes["fault: crash"] == 1
    cut_off = [row for row in outcome.acknowledged if row.node == "FR" and 4.5 < row.at_s < 6.5]
    assert cut_off, "FR wrote on while it was cut off"
    waited_s = [row.after_s for row in outcome.spread_s if row.number in {row.number for row in cut_off}]
    assert min(waited_s) > 0.5, "what FR wrote then was seen by nobody until the line came back"
    hub = next(end for end in outcome.ends if end.name == "EU")
    assert not hub.up
    assert hub.keys == ()
    assert outcome.sometimes["search: bytes of relays' memory"] > 10_000_000
    assert outcome.sometimes["search: the marked word is found in a member's memory"] == 3
    assert (tmp_path / "kept" / "relays.pcap").stat().st_size > 10_000
    assert not list((tmp_path / "kept").rglob("*.key"))


def test_every_fault_of_lines_is_felt_and_survived() -> None:
    outcome = held(LabWorld().run(lab_plan(11, LINES)))
    counts = {name: outcome.sometimes[f"packets: {name}"] for name in ("duplicated", "corrupted", "held")}
    assert all(counts.values()), counts
    assert outcome.sometimes["packets: dropped by the kernel"] + outcome.sometimes["packets: lost"] > 0


def test_every_fault_of_machines_is_felt_and_survived() -> None:
    outcome = held(LabWorld().run(lab_plan(10, MACHINES)))
    assert ("NL", "store-full") in refusals(outcome)
    assert ("FR", "no-answer") in refusals(outcome)
    assert outcome.sometimes["a node was seen to have the wrong time"] == 1


def test_lost_old_and_copied_disks_are_survived() -> None:
    outcome = held(LabWorld().run(lab_plan(12, DISKS)))
    assert [end.name for end in outcome.ends] == ["BE", "NL", "FR", "EU", "FR~1"]
    faults = ("wipe", "restore-old-backup", "clone")
    assert all(outcome.sometimes[f"fault: {verb}"] == 1 for verb in faults)
    refused = {end.name: end.refusals for end in outcome.ends}
    assert "restored-or-cloned" in refused["BE"]


def test_without_nftables_routing_rules_cut_and_the_forwarder_loses(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    missing = tmp_path / "nft"
    missing.write_text("#!/bin/sh\nexit 1\n")
    missing.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    faults = '[[fault]]\nat_s = 2.5\nverb = "drop"\npercent = 30\n' + HUB_LOST_AND_SPLIT
    outcome = held(LabWorld().run(lab_plan(9, faults)))
    assert outcome.sometimes["packets are cut by routing rules"] == 1
    assert outcome.sometimes["packets: lost"] > 20
    cut_off = {row.number for row in outcome.acknowledged if row.node in ("BE", "NL") and 3.6 < row.at_s < 4.5}
    assert min(row.after_s for row in outcome.spread_s if row.number in cut_off) < 0.5, "these two are linked"
    assert max(row.after_s for row in outcome.spread_s if row.number in cut_off) > 2.5, "FR is not"


# --- it finds what is wrong ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("defect", "found_here"),
    [("content beside the entry", {"I4"}), ("checkpoints in clear", {"I4"})],
)
def test_a_planted_defect_is_found_as_in_the_protocol_world(defect: str, found_here: set[str]) -> None:
    plan = replace(lab_plan(5), converge_within_s=5.0)
    here = {violation.invariant for violation in judge(LabWorld(defect=defect).run(plan)).violations}
    assert here >= found_here
    _, there = run_plan(plan, ProtocolWorld(), DEFECTS[defect].plant)
    assert not there.held


# --- nothing is left behind ---------------------------------------------------------------------------------------

DRIVER = """
import sys
from lab_support import lab_plan
from simulations.worlds.lab.world import LabWorld
LabWorld(quiet=False).run(lab_plan(120))
"""


def traces() -> tuple[str, list[str], list[str]]:
    """What a lab could leave on this machine: mounts, interfaces, named networks."""
    named = Path("/run/netns")
    networks = sorted(path.name for path in named.iterdir()) if named.exists() else []
    return Path("/proc/self/mounts").read_text(), sorted(os.listdir("/sys/class/net")), networks


def descendants(pid: int) -> set[int]:
    """Processes below this one, as seen from here."""
    parents = {}
    for path in Path("/proc").iterdir():
        if path.name.isdigit():
            try:
                parents[int(path.name)] = int((path / "stat").read_text().rpartition(")")[2].split()[1])
            except OSError:
                continue
    found, wave = set(), {pid}
    while wave:
        wave = {child for child, parent in parents.items() if parent in wave}
        found |= wave
    return found


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGKILL])
def test_nothing_is_left_when_whoever_asked_is_ended(number: signal.Signals) -> None:
    before = traces()
    environment = {**os.environ, "PYTHONPATH": f"{REPOSITORY}:{REPOSITORY}/tests/simulations"}
    driver = subprocess.Popen([sys.executable, "-c", DRIVER], stderr=subprocess.PIPE, env=environment, cwd=REPOSITORY)
    assert driver.stderr is not None
    assert b"built and enrolled" in driver.stderr.readline()
    # unshare, the first inside, the forwarder, four daemons
    wait_for(lambda: len(descendants(driver.pid)) >= 7, 40, "a lab that runs")
    watched = [os.pidfd_open(pid) for pid in descendants(driver.pid)]
    driver.send_signal(number)
    driver.wait(timeout=20)
    for descriptor in watched:
        readable, _, _ = select.select([descriptor], [], [], 20)
        assert readable, "a process of the lab lives on"
        os.close(descriptor)
    driver.stderr.close()
    assert traces() == before


def test_a_lab_that_breaks_says_why_and_leaves_nothing(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    broken = tmp_path / "tc"
    broken.write_text("#!/bin/sh\necho this tc is broken >&2\nexit 7\n")
    broken.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    before = traces()
    with pytest.raises(LabError, match="ended with 7: this tc is broken"):
        LabWorld().run(lab_plan(8, '[[link]]\nbetween = ["BE"]\nrate_bytes_per_s = 20000\n'))
    assert traces() == before


# --- where it cannot run ------------------------------------------------------------------------------------------


def test_a_plan_that_the_lab_cannot_perform_is_refused_with_code_reason_and_action() -> None:
    with pytest.raises(WorldUnavailableError, match=r"^lab-too-long: 90000 s of real time; at most 14400 s here"):
        LabWorld().run(replace(lab_plan(8), duration_s=90_000))
    assert why_not(lab_plan(8)) == ""
