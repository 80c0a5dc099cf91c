"""The harness proves itself: what is planted is found, kept, replayed, shrunk; clocks, codes and keys are checked."""

from __future__ import annotations

import dataclasses
import json
import re
import shlex
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import pytest

from simulations import program, runs
from simulations.checks import codes
from simulations.checks.clocks import same_under_other_clocks
from simulations.checks.judge import judge
from simulations.defects import DEFECTS, hunt
from simulations.scenario.draw import draw
from simulations.scenario.plan import Plan
from simulations.scenario.reader import parse
from simulations.worlds.contract import Outcome
from simulations.worlds.protocol import ProtocolWorld

MANUAL = runs.ROOT / "docs" / "simulating.md"
REGRESSIONS = runs.ROOT / "simulations" / "regressions"
SMALL = """
title = "Small"
story = "A small mesh."
duration_s = 90
[[group]]
name = "nocs"
nocs = ["BE", "NL", "FR"]
[[incident]]
name = "attack"
by = "BE"
members = ["BE", "NL"]
[workload]
writes_per_s = 0.5
"""
QUICK = {
    "send before commit": 1,
    "forget to stage": 1,
    "count the order": 1,
    "drop the last batch": 2,
    "checkpoints in clear": 1,
    "content beside the entry": 1,
    "forget removed values": 1,
    "later clock wins": 1,
    "hide conflicts": 1,
    "everybody gets a key": 1,
    "forget an answer": 1,
    "disbelieve the future": 1,
    "iterate a set": 1,
    "trust a damaged row": 1,
    "deleted for good": 1,
    "no anti-entropy": 1,
    "forget peers after a split": 1,
    "raise on a bad frame": 1,
}
"""Found by the first seeds, in a few seconds; ``python -m simulations defects`` hunts them all."""


def plan_of(more: str = "", seed: int = 1) -> Plan:
    return draw(parse(SMALL + more, "small"), seed)


# --- planted defects --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", QUICK)
def test_a_planted_defect_is_found_soon_and_for_the_right_reason(name: str) -> None:
    found = hunt(name, QUICK[name])
    assert found.as_said, found


def test_there_are_many_planted_defects_each_with_a_meaning_and_an_invariant() -> None:
    of_the_core = [name for name, defect in DEFECTS.items() if defect.make_world is ProtocolWorld]
    assert len(of_the_core) >= 55
    for name, defect in DEFECTS.items():
        assert defect.meaning, name
        assert defect.caught_by, name
        assert all(re.fullmatch(r"I([1-9]|1[0-6])", invariant) for invariant in defect.caught_by), name
        runs.load_scenario(defect.scenario)


def test_the_manual_lists_the_planted_defects_by_name() -> None:
    section = MANUAL.read_text("utf-8").split("## Planted defects")[1].split("\n## ")[0]
    listed = re.findall(r"^\| ([^|`]+?) \| +\d+ \|", section, re.MULTILINE)
    assert sorted(listed) == sorted(DEFECTS)


# --- failures are kept, replayed and shrunk ---------------------------------------------------------------------------


def test_a_failure_of_a_sweep_is_replayed_with_its_digest_and_shrunk_and_the_commands_show_it_again(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "small.toml"
    path.write_text(SMALL, encoding="utf-8")

    def say(*command: str) -> str:
        assert program.run(command) == program.VIOLATED
        return capsys.readouterr().out

    def replay_in(said: str) -> list[str]:
        return shlex.split(re.findall(r"python -m simulations (replay .+)", said)[-1])

    with DEFECTS["forget removed values"].plant():
        said = say("run", str(path), "--seeds", "1..2", "--workers", "1", "--results", str(tmp_path))
        assert "I2" in said
        again = say(*shlex.split(re.findall(r"see it again: python -m simulations (.+)", said)[-1]))
        assert re.findall(r"trace (\w+)", again)[0] in said
        replayed = say(*replay_in(said))
        assert "the same trace as when it was saved" in replayed
        shrunk = say("shrink", replay_in(said)[1], "--tries", "40")
        before, after = map(int, re.findall(r"(\d+) actions shrunk to (\d+)", shrunk)[0])
        assert after <= 4 < before
        assert "the same trace as when it was saved" in say(*replay_in(shrunk))
    saved = Path(replay_in(shrunk)[1])
    content = json.loads(saved.read_text(encoding="utf-8"))
    saved.write_text(json.dumps({**content, "code": "with the defect"}), encoding="utf-8")
    assert program.run(replay_in(shrunk)) == program.HELD  # nothing is wrong with the node itself


# --- I13: no wall clock decides ---------------------------------------------------------------------------------------


def perform(plan: Plan) -> Callable[[ProtocolWorld], Outcome]:
    return lambda world: world.run(plan)


def test_other_wall_clocks_change_nothing_that_is_decided() -> None:
    crashes = '[[random]]\nverb = "crash"\nper_hour = 120\n[[random]]\nverb = "skew-clock"\nper_hour = 120\n'
    plan = plan_of(crashes)
    assert same_under_other_clocks(plan, perform(plan)) == []


def test_a_course_that_another_second_changes_too_says_nothing_about_clocks() -> None:
    plan = plan_of()
    other = plan_of(seed=2)

    def by_chance(world: ProtocolWorld) -> Outcome:
        return world.run(other if world.offsets_s else plan)

    assert same_under_other_clocks(plan, by_chance) is None


# --- I12, I16, I6: what is said -------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def quiet() -> Outcome:
    outcome = ProtocolWorld().run(plan_of())
    assert judge(outcome).held
    return outcome


def broken(outcome: Outcome, **changes: object) -> set[str]:
    end = dataclasses.replace(outcome.ends[0], **changes)
    return {found.invariant for found in judge(dataclasses.replace(outcome, ends=[end, *outcome.ends[1:]])).violations}


def test_what_is_said_without_a_reason_or_with_an_unknown_code_is_seen(quiet: Outcome) -> None:
    assert broken(quiet, unreasoned=("a refusal",)) == {"I16"}
    assert broken(quiet, codes={"it-is-done": "x"}) == {"I16"}
    assert broken(quiet, codes={"peer-send-queue-full": "x"}) == set()
    assert {"store-full", "link-up", "not-a-member"} <= codes.explained()


def test_keys_in_reports_old_prekeys_and_what_cannot_be_shown_are_seen(quiet: Outcome) -> None:
    assert broken(quiet, leaked=1) == {"I12"}
    assert broken(quiet, old_prekeys_ms=17 * 86_400_000) == {"I12"}
    assert broken(quiet, unreadable=("x",)) == {"I6"}
    assert broken(quiet, unnoticed=1) == {"I11"}


def test_a_code_that_a_scenario_rules_out_is_seen(quiet: Outcome) -> None:
    ruled_out = dataclasses.replace(quiet, plan=dataclasses.replace(quiet.plan, never=("link-up",)))
    assert {found.invariant for found in judge(ruled_out).violations} == {"I9"}


def test_a_situation_that_a_scenario_rules_out_is_seen(quiet: Outcome) -> None:
    plan = dataclasses.replace(quiet.plan, never=("opened before all were known",))
    avoided = dataclasses.replace(quiet, plan=plan, sometimes=Counter())
    assert judge(avoided).held
    reached = dataclasses.replace(avoided, sometimes=Counter({"opened before all were known": 1}))
    assert {found.invariant for found in judge(reached).violations} == {"I9"}


def test_a_restored_node_that_tells_nobody_is_seen() -> None:
    restored = '[[fault]]\nat_s = 70\nverb = "restore-old-backup"\nnodes = ["NL"]\nbackup_at_s = 20\n'
    outcome = ProtocolWorld().run(plan_of(restored))
    assert judge(outcome).held
    ends = [
        dataclasses.replace(end, codes={code: why for code, why in end.codes.items() if code != "restored-or-cloned"})
        for end in outcome.ends
    ]
    assert {found.invariant for found in judge(dataclasses.replace(outcome, ends=ends)).violations} == {"I16"}


# --- regressions ------------------------------------------------------------------------------------------------------


def regressions() -> list[tuple[str, int]]:
    rows = re.findall(r"^\| \[(\S+)\]\(\S+\) \| (\d+) \|", (REGRESSIONS / "README.md").read_text("utf-8"), re.MULTILINE)
    return [(name, int(seed)) for name, seed in rows]


@pytest.mark.parametrize(("name", "seed"), regressions())
def test_a_bug_that_a_seed_found_stays_mended(name: str, seed: int) -> None:
    _, result = runs.run_seed(runs.load_scenario(str(REGRESSIONS / name)), seed, "protocol")
    assert result.held, result.violations


def test_every_regression_is_listed() -> None:
    assert [name for name, _ in regressions()] == sorted(path.name for path in REGRESSIONS.glob("*.toml"))


# --- situations -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("path", sorted(runs.SCENARIOS.glob("*.toml")), ids=lambda path: path.stem)
def test_every_shipped_scenario_says_what_it_must_have_reached(path: Path) -> None:
    assert runs.load_scenario(str(path)).checks.sometimes


def test_what_a_manager_who_was_restored_leads_to_is_counted() -> None:
    outcome, _ = runs.run_seed(runs.load_scenario("manager-restored"), 1, "protocol")
    assert outcome.sometimes["two epochs that do not know of each other"] == 1
    assert outcome.sometimes["a late member reads the past"] == 2
    assert outcome.sometimes["a conflict made and resolved"] > 0


def test_a_catch_up_that_is_cut_and_goes_on_is_counted() -> None:
    thin = """
[[group]]
name = "late"
nocs = ["DE"]
[links]
rate_bytes_per_s = 2000
latency_ms = 200
idle_timeout_s = 3
[[share]]
incident = "attack"
by = "BE"
at_s = 60
with = ["DE"]
[[random]]
verb = "partition"
nodes = ["DE"]
per_hour = 600
for_s = [4, 5]
"""
    busy = SMALL.replace("writes_per_s = 0.5", "writes_per_s = 3").replace("duration_s = 90", "duration_s = 150")
    outcome = ProtocolWorld().run(draw(parse(busy + thin, "small"), 1))
    assert outcome.sometimes["a link lost in the middle of a catch-up"] > 0
    assert outcome.sometimes["a sync resumed in the middle"] > 0
