"""The protocol world and its checkers: one seed gives one trace, and what holds is told apart from what does not."""

from __future__ import annotations

import dataclasses
from collections import Counter
from pathlib import Path

import pytest

from meshnode.core.node import Node
from simulations import runs
from simulations.checks.judge import Verdict, judge
from simulations.defects import DEFECTS
from simulations.proofs import digest_of_seed
from simulations.scenario.draw import draw
from simulations.scenario.plan import Plan, Write
from simulations.scenario.reader import parse
from simulations.shrink import shrink
from simulations.sweep import finished, on_this_machine, results_file, sweep
from simulations.worlds.contract import Acknowledged, Outcome, Sealed, Touch
from simulations.worlds.protocol import ProtocolWorld, Run
from simulations.worlds.shared import sharing
from simulations.worlds.work import MARK, canary

SMALL = """
title = "Small"
story = "A small mesh."
duration_s = 120
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
SHIPPED = sorted(
    path.stem for path in runs.SCENARIOS.glob("*.toml") if "protocol" in runs.load_scenario(str(path)).worlds
)


def plan_of(more: str = "", seed: int = 1) -> Plan:
    return draw(parse(SMALL + more, "small"), seed)


def run(more: str = "", seed: int = 1) -> tuple[Outcome, Verdict]:
    return runs.run_plan(plan_of(more, seed), ProtocolWorld())


@pytest.fixture(scope="module")
def quiet() -> Outcome:
    """A run in which nothing went wrong."""
    outcome, verdict = run()
    assert verdict.held, verdict.violations
    return outcome


# --- determinism (I15) ------------------------------------------------------------------------------------------------


def test_the_same_seed_gives_the_same_trace_in_processes_with_other_hash_seeds(tmp_path: Path) -> None:
    path = tmp_path / "small.toml"
    path.write_text(SMALL + '[[random]]\nverb = "crash"\nper_hour = 60\n', encoding="utf-8")
    digests = {digest_of_seed(path, "protocol", 3) for _ in range(2)}
    outcome, _ = runs.run_seed(runs.load_scenario(str(path)), 3, "protocol")
    assert digests == {outcome.digest}
    assert len(outcome.digest) == 32


def test_another_seed_gives_another_trace(quiet: Outcome) -> None:
    assert run(seed=2)[0].digest != quiet.digest


# --- faults do what they say ------------------------------------------------------------------------------------------


def refused(outcome: Outcome) -> Counter[tuple[str, str]]:
    return Counter((row.node, row.code) for row in outcome.refused)


def fault(verb: str, more: str) -> str:
    return f'[[fault]]\nat_s = 40\nverb = "{verb}"\n{more}\n'


def test_a_node_that_is_down_answers_nobody_and_comes_back_with_everything() -> None:
    outcome, verdict = run(fault("crash", 'nodes = ["NL"]\nfor_s = 40'))
    assert verdict.held, verdict.violations
    assert refused(outcome)["NL", "no-answer"] > 3
    assert {end.name: end.up for end in outcome.ends} == {"BE": True, "NL": True, "FR": True}


@pytest.mark.parametrize("name", ["BE", "NL", "FR"])
def test_a_node_that_was_killed_is_linked_again_as_soon_as_it_is_back_although_the_old_links_are_not_dead_yet(
    name: str,
) -> None:
    """They die of silence after 30 s. Whoever dialled them: each of the three is tried."""
    plan = plan_of(fault("crash", f'nodes = ["{name}"]\nfor_s = 2'))
    linked: list[set[str]] = []

    def look(world: Run) -> None:
        node = world.hosts[name].node
        assert node is not None
        linked.append({peer.identity.noc for peer in node.peers.by_link.values()})

    with sharing(plan.options.crypto):
        world = Run(plan)
        world.clock.at(40 + 2 + 6, look, world)
        world.perform()
    assert linked == [{"BE", "NL", "FR"} - {name}]


def test_without_a_network_members_write_on_and_are_one_after_it() -> None:
    outcome, verdict = run(fault("partition", 'sides = [["BE"], ["NL"]]'))
    assert verdict.held, verdict.violations
    assert not refused(outcome)
    assert outcome.last[""][0].startswith("      40.000 s  fault")


def test_a_full_disk_refuses_writes_reads_on_and_takes_them_again() -> None:
    outcome, verdict = run(fault("disk-full", 'nodes = ["NL"]\nfor_s = 30'))
    assert verdict.held, verdict.violations
    assert refused(outcome)["NL", "store-full"] > 2
    assert max(row.at_s for row in outcome.acknowledged if row.node == "NL") > 80


def test_a_wiped_node_reads_again_and_what_only_it_had_is_excused() -> None:
    outcome, verdict = run(fault("cut-one-way", 'from = ["NL"]') + fault("wipe", 'nodes = ["NL"]').replace("40", "60"))
    assert verdict.held, verdict.violations
    assert set(outcome.excused.values()) == {"wipe of NL"}
    assert outcome.ends[1].incidents


def test_a_restored_backup_lost_nothing_that_others_have() -> None:
    outcome, verdict = run(fault("restore-old-backup", 'nodes = ["NL"]\nbackup_at_s = 20'))
    assert verdict.held, verdict.violations
    assert not outcome.excused


def test_a_clone_is_seen_and_harms_nobody() -> None:
    outcome, verdict = run(fault("clone", 'nodes = ["NL"]\nfor_s = 60'))
    assert verdict.held, verdict.violations
    assert outcome.ends[-1].name == "NL~1"


@pytest.mark.parametrize(
    ("verb", "more"),
    [
        ("pause", 'nodes = ["NL"]\nfor_s = 50'),
        ("skew-clock", 'nodes = ["NL"]\nskew_s = -86400\ndrift_percent = 5'),
        ("hold", 'from = ["NL"]\nfor_s = 50'),
        ("clog", 'nodes = ["NL"]\nfor_s = 50'),
        ("swizzle-clog", 'nodes = ["all"]\nfor_s = 50'),
        ("corrupt", "percent = 20"),
        ("drop", "percent = 50"),
        ("duplicate", "percent = 50"),
        ("delay", "delay_ms = 60000\nfor_s = 60"),
        ("restart", 'nodes = ["NL"]'),
    ],
)
@pytest.mark.parametrize("transport", ["stream", "frames"])
def test_every_fault_is_survived(verb: str, more: str, transport: str) -> None:
    plan = plan_of(fault(verb, more))
    plan = dataclasses.replace(plan, options=dataclasses.replace(plan.options, transport=transport))
    _, verdict = runs.run_plan(plan, ProtocolWorld())
    assert verdict.held, verdict.violations


@pytest.mark.parametrize("name", SHIPPED)
def test_a_fixed_seed_of_every_shipped_scenario_holds(name: str) -> None:
    _, result = runs.run_seed(runs.load_scenario(name), 1, "protocol")
    assert result.held, result.violations


# --- the checkers can fail --------------------------------------------------------------------------------------------


def broken(outcome: Outcome, **changes: object) -> set[str]:
    """Invariants that are violated when this is changed in an outcome in which everything held."""
    return {violation.invariant for violation in judge(dataclasses.replace(outcome, **changes)).violations}


def acknowledged(outcome: Outcome, kind: str) -> Acknowledged:
    return next(row for row in outcome.acknowledged if row.kind == kind)


def test_an_acknowledged_write_that_no_store_has_is_seen(quiet: Outcome) -> None:
    row = acknowledged(quiet, "log")
    lost = dataclasses.replace(row, dot="00.1.0")
    assert "I1" in broken(quiet, acknowledged=[*quiet.acknowledged, lost])


def test_a_value_that_vanished_and_one_that_should_have_are_seen(quiet: Outcome) -> None:
    touch = Touch(next(iter(quiet.incidents.values())), "incident", "0" * 32, "title")
    first = next(row for row in quiet.acknowledged if row.touch == touch)
    never_replaced = [dataclasses.replace(row, seen=()) for row in quiet.acknowledged]
    assert "I1" in broken(quiet, acknowledged=never_replaced)
    replaced = dataclasses.replace(first, number=10_000, dot=first.dot, seen=tuple(row.dot for row in never_replaced))
    assert "I2" in broken(quiet, acknowledged=[*quiet.acknowledged, replaced])


def test_a_key_at_a_stranger_is_seen(quiet: Outcome) -> None:
    assert "I4" in broken(quiet, sealed=[Sealed(0.0, "BE", row.incident, ("BE",)) for row in quiet.sealed])


def test_another_digest_from_the_same_entries_is_seen(quiet: Outcome) -> None:
    end = quiet.ends[0]
    incident, shown = next(iter(end.incidents.items()))
    odd = dataclasses.replace(end, incidents={incident: dataclasses.replace(shown, digest="odd")})
    assert broken(quiet, ends=[odd, *quiet.ends[1:]]) == {"I2"}


def test_two_entries_at_one_position_are_seen(quiet: Outcome) -> None:
    end = quiet.ends[0]
    place, (height, _) = next(iter(end.heads.items()))
    odd = dataclasses.replace(end, heads={**end.heads, place: (height, "odd")})
    assert broken(quiet, ends=[odd, *quiet.ends[1:]]) == {"I14"}


def test_gaps_voids_sizes_and_a_mesh_that_never_becomes_one_are_seen(quiet: Outcome) -> None:
    end = quiet.ends[0]
    incident, shown = next(iter(end.incidents.items()))
    void = dataclasses.replace(end, incidents={incident: dataclasses.replace(shown, void=("x.1: not-entitled",))})
    assert broken(quiet, ends=[dataclasses.replace(end, journal_gaps=1), *quiet.ends[1:]]) == {"I3"}
    assert broken(quiet, ends=[void, *quiet.ends[1:]]) == {"I5"}
    assert broken(quiet, ends=[dataclasses.replace(end, sizes={"peers": 10**9}), *quiet.ends[1:]]) == {"I7"}
    assert broken(quiet, converged_after_s=None) == {"I9"}


def test_a_node_that_raises_is_seen_with_the_place() -> None:
    class Raises(Node):
        def next_deadline(self) -> float:
            return super().next_deadline()

        def step(self, events, now):
            if now.monotonic_s > 50:
                raise KeyError("planted")
            return super().step(events, now)

    outcome = ProtocolWorld(make=Raises, odd=("NL",)).run(plan_of())
    found = [row for row in judge(outcome).violations if row.invariant == "I8"]
    assert len(found) == 1
    assert "planted" in found[0].what
    assert "test_protocol_world.py" in found[0].what


# --- sweeps, failures, shrinking --------------------------------------------------------------------------------------


def test_a_sweep_goes_on_where_it_was_stopped(tmp_path: Path) -> None:
    path = tmp_path / "small.toml"
    path.write_text(SMALL, encoding="utf-8")
    ran: list[int] = []

    def stop_after_two(result: runs.Result, _done: int, _wanted: int) -> None:
        ran.append(result.seed)
        if len(ran) == 2:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        sweep(path, "protocol", range(1, 4), on_this_machine(1), stop_after_two, tmp_path)
    results = results_file(path, "protocol", tmp_path)
    assert sorted(finished(results)) == [1, 2]
    with results.open("a", encoding="utf-8") as file:
        file.write('{"cut short by a stop')
    found = sweep(
        path, "protocol", range(1, 4), on_this_machine(1), lambda result, _d, _w: ran.append(result.seed), tmp_path
    )
    assert ran == [1, 2, 3]
    assert [result.seed for result in found] == [1, 2, 3]
    assert sorted(finished(results)) == [1, 2, 3]


def test_a_failure_is_kept_replayed_and_shrunk(tmp_path: Path) -> None:
    defect = DEFECTS["forget removed values"].plant
    plan = plan_of()
    outcome, verdict = runs.run_plan(plan, ProtocolWorld(), defect)
    result = runs.result_of(outcome, verdict)
    assert not result.held
    saved = runs.load_failure(runs.save_failure(plan, result, tmp_path))
    assert saved.plan == plan

    def fails(smaller: Plan) -> bool:
        _, found = runs.run_plan(smaller, ProtocolWorld(), defect)
        return any(violation.invariant == "I2" for violation in found.violations)

    smaller, tries = shrink(saved.plan, fails, 60)
    assert tries <= 60
    assert len(smaller.actions) <= 4 < len(plan.actions)
    assert [type(action) for action in smaller.actions][-1] is Write


def test_every_text_that_is_written_is_marked(quiet: Outcome) -> None:
    texts = [row.text for row in quiet.acknowledged if row.kind in ("set", "add", "log")]
    assert len(texts) > 20
    assert all(text.startswith(MARK) for text in texts)
    assert len(set(texts)) == len(texts)
    assert canary(1, 2, 60).startswith(canary(1, 2))


def test_a_backup_of_a_node_whose_disk_is_full_takes_nothing_from_under_it() -> None:
    full = '[[fault]]\nat_s = 30\nverb = "disk-full"\nnodes = ["NL"]\nfor_s = 40\n'
    slow = dataclasses.replace(plan_of(full + fault("clone", 'nodes = ["NL"]\nfor_s = 20')))
    plan = dataclasses.replace(slow, options=dataclasses.replace(slow.options, commit_s=(1.0, 5.0)))
    _, verdict = runs.run_plan(plan, ProtocolWorld())
    assert verdict.held, verdict.violations
