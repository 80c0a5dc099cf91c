"""What checkers must not take for granted: each is given an outcome, or a node, that a careless one would let pass."""

from __future__ import annotations

import dataclasses
from unittest.mock import patch

import pytest

from meshnode.core.incidents import Incidents
from meshnode.errors import RefusedError
from simulations import runs
from simulations.checks.judge import SHOWN_MAX, judge
from simulations.defects import DEFECTS, hunt
from simulations.scenario.draw import draw
from simulations.scenario.plan import Lie, NodeFault, Plan, Write
from simulations.scenario.reader import parse
from simulations.worlds import protocol
from simulations.worlds.contract import Outcome, Refused, Sighting
from simulations.worlds.disk import Disk
from simulations.worlds.protocol import ProtocolWorld

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
[[incident]]
name = "fire"
by = "NL"
at_s = 12
[workload]
writes_per_s = 0.6
"""
WIPE = '[[fault]]\nat_s = 60\nverb = "wipe"\nnodes = ["NL"]\n'


def plan_of(more: str = "", seed: int = 1) -> Plan:
    return draw(parse(SMALL + more, "small"), seed)


@pytest.fixture(scope="module")
def quiet() -> Outcome:
    outcome = ProtocolWorld().run(plan_of())
    assert judge(outcome).held, judge(outcome).violations
    return outcome


def broken(outcome: Outcome, **changes: object) -> set[tuple[str, str]]:
    """(invariant, node) of what is violated when this is changed in an outcome in which everything held."""
    return {(found.invariant, found.node) for found in judge(dataclasses.replace(outcome, **changes)).violations}


# --- what is counted --------------------------------------------------------------------------------------------------


def test_many_violations_of_what_is_not_wanted_hide_none_that_is(quiet: Outcome) -> None:
    wants_one = dataclasses.replace(quiet.plan, invariants=("I8",))
    seen = [Sighting("I1", 1.0, "BE", f"write {number}") for number in range(SHOWN_MAX + 1)]
    outcome = dataclasses.replace(quiet, plan=wants_one, sightings=[*seen, Sighting("I8", 2.0, "BE", "it died")])
    assert [found.invariant for found in judge(outcome).violations] == ["I8"]


def test_many_violations_of_one_invariant_hide_none_of_another(quiet: Outcome) -> None:
    seen = [Sighting("I1", 1.0, "BE", f"write {number}") for number in range(SHOWN_MAX + 1)]
    assert broken(quiet, sightings=[*seen, Sighting("I8", 2.0, "BE", "it died")]) == {("I1", "BE"), ("I8", "BE")}


def test_what_is_on_the_way_is_bounded_whoever_lies(quiet: Outcome) -> None:
    lying = dataclasses.replace(quiet.plan, actions=(*quiet.plan.actions, Lie(999, 20.0, None, "BE", "silent", 1.0)))
    outcome = dataclasses.replace(quiet, plan=lying)
    assert quiet.ends[0].name == "BE"
    assert outcome.frames_max
    assert ("I7", "") not in broken(outcome)
    assert ("I7", "") in broken(outcome, frames_max=outcome.plan.queue_frames_max + 1)


def test_old_prekeys_of_one_node_are_seen_although_the_clock_of_another_was_wrong(quiet: Outcome) -> None:
    def with_skew_of(node: str) -> set[tuple[str, str]]:
        skewed = NodeFault(999, 50.0, 60.0, "skew-clock", node, skew_s=60.0)
        plan = dataclasses.replace(quiet.plan, actions=(*quiet.plan.actions, skewed))
        old = dataclasses.replace(quiet.ends[0], old_prekeys_ms=17 * 86_400_000)
        return broken(quiet, plan=plan, ends=[old, *quiet.ends[1:]])

    assert with_skew_of("NL") == {("I12", "BE")}
    assert with_skew_of("BE") == set()


# --- I1: what may be lost ---------------------------------------------------------------------------------------------


def test_what_was_lost_before_a_disk_was_destroyed_is_not_excused_by_that() -> None:
    """Nobody has what BE wrote any more when NL's disk goes, which did not have it either."""
    lose, has = protocol.Run._lose_disk, Disk.has

    def lose_late(self, host, disk, why):
        lost = {row.dot.rsplit(".", 1)[0] for row in self.outcome.acknowledged if row.node != host.name}
        with patch.object(Disk, "has", lambda d, i, log, seq: f"{log.hex()}.{seq}" not in lost and has(d, i, log, seq)):
            lose(self, host, disk, why)

    with patch.object(protocol.Run, "_lose_disk", lose_late):
        outcome = ProtocolWorld().run(plan_of(WIPE))
    assert {row.node for row in outcome.acknowledged if row.number in outcome.excused} <= {"NL"}


def test_a_log_record_that_is_gone_is_seen_although_one_of_another_incident_is_unsure(quiet: Outcome) -> None:
    records = [row for row in quiet.acknowledged if row.kind == "log"]
    one = next(row for row in records if row.touch.incident == quiet.incidents["attack"])
    other = next(row for row in records if row.touch.incident == quiet.incidents["fire"])
    ends = []
    for end in quiet.ends:
        incidents = dict(end.incidents)
        if one.touch.incident in incidents:
            shown = incidents[one.touch.incident]
            without = {dot: text for dot, text in shown.records.items() if dot != one.dot}
            incidents[one.touch.incident] = dataclasses.replace(shown, records=without)
        ends.append(dataclasses.replace(end, incidents=incidents))
    found = broken(quiet, ends=ends, unanswered=[(9_999, "BE", other.touch)])
    assert found == {("I1", "BE"), ("I1", "NL")}


# --- I6: what may be refused ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("code", ["no-prekey", "store-full", "no-answer", "busy", "stopping", "store-row-damaged"])
def test_no_code_excuses_a_refusal_to_which_nothing_led(quiet: Outcome, code: str) -> None:
    write = next(action for action in quiet.plan.actions if isinstance(action, Write) and action.node == "NL")
    assert broken(quiet, refused=[Refused(write.number, write.at_s, "NL", code)]) == {("I6", "NL")}


@pytest.mark.parametrize(
    ("code", "verb"),
    [("store-full", "disk-full"), ("no-answer", "crash"), ("no-answer", "pause"), ("store-row-damaged", "bit-flip")],
)
def test_a_fault_of_that_node_at_that_time_allows_its_code(quiet: Outcome, code: str, verb: str) -> None:
    write = next(action for action in quiet.plan.actions if isinstance(action, Write) and action.node == "NL")

    def befallen(node: str, at_s: float) -> set[tuple[str, str]]:
        fault = NodeFault(999, at_s, at_s + 2.0, verb, node)
        plan = dataclasses.replace(quiet.plan, actions=(*quiet.plan.actions, fault))
        return broken(quiet, plan=plan, refused=[Refused(write.number, write.at_s, "NL", code)])

    assert befallen("NL", write.at_s - 1.0) == set()
    assert befallen("BE", write.at_s - 1.0) == {("I6", "NL")}
    assert befallen("NL", write.at_s + 1.0) == {("I6", "NL")}


def test_a_node_that_refuses_every_write_is_seen() -> None:
    def refuse(self, *_args, **_more):
        raise RefusedError("no-prekey", "not today", "come back")

    with patch.object(Incidents, "change", refuse):
        _, verdict = runs.run_plan(plan_of(), ProtocolWorld())
    assert {found.invariant for found in verdict.violations} == {"I6"}


# --- I5, I9: who must be a member, and read ---------------------------------------------------------------------------


def test_who_was_invited_by_an_opening_and_by_a_share_is_written_down(quiet: Outcome) -> None:
    share = '[[share]]\nincident = "attack"\nby = "BE"\nwith = ["FR"]\nat_s = 30\n'
    outcome = ProtocolWorld().run(plan_of(share))
    assert judge(outcome).held
    attack = outcome.incidents["attack"]
    assert [row.nodes for row in outcome.invited if row.incident == attack] == [("BE", "NL"), ("BE", "FR")]
    assert all(row.entry for row in outcome.invited)
    assert outcome.members_due()[attack] == {"BE", "NL", "FR"}
    assert quiet.members_due()[quiet.incidents["attack"]] == {"BE", "NL"}


def test_an_incident_that_no_member_reads_any_more_is_seen_although_its_ciphertext_is_there(quiet: Outcome) -> None:
    ends = [dataclasses.replace(end, incidents={}) for end in quiet.ends]
    assert broken(quiet, ends=ends) >= {("I9", "BE"), ("I9", "NL"), ("I2", ""), ("I5", "")}


def test_a_member_that_was_invited_and_that_others_do_not_list_is_seen(quiet: Outcome) -> None:
    attack, end = quiet.incidents["attack"], quiet.ends[0]
    alone = {**end.incidents, attack: dataclasses.replace(end.incidents[attack], members=("BE",))}
    assert broken(quiet, ends=[dataclasses.replace(end, incidents=alone), *quiet.ends[1:]]) == {("I5", "BE")}


def test_a_writer_must_read_at_the_end_in_a_world_that_cannot_tell_who_was_invited(quiet: Outcome) -> None:
    attack = quiet.incidents["attack"]
    writers = {row.node for row in quiet.acknowledged if row.touch.incident == attack}
    unseen = dataclasses.replace(quiet, invited=[])
    assert unseen.members_due()[attack] == writers
    ends = [dataclasses.replace(end, incidents={}) for end in quiet.ends]
    assert {("I9", name) for name in writers} <= broken(unseen, ends=ends)


def test_an_incident_whose_only_keys_went_with_a_disk_is_closed_and_nobody_is_blamed() -> None:
    """BE alone is a member; relays keep what nobody can open any more."""
    hub = '[[group]]\nname = "europe"\nrole = "hub"\nnocs = ["EU"]\n'
    alone = SMALL.replace('members = ["BE", "NL"]', 'members = ["BE"]') + hub + WIPE.replace("NL", "BE")
    outcome, verdict = runs.run_plan(draw(parse(alone, "small"), 1), ProtocolWorld())
    assert verdict.held, verdict.violations
    assert outcome.closed == {outcome.incidents["attack"]: "wipe of BE"}
    assert set(outcome.members_due()) == {outcome.incidents["fire"]}


@pytest.mark.parametrize("name", ["share does nothing", "only the first NOC is invited", "every write refused"])
def test_what_a_client_was_told_in_vain_is_seen(name: str) -> None:
    assert hunt(name, 1).as_said


def test_keys_that_a_power_cut_takes_from_all_are_seen() -> None:
    found = hunt("every key forgotten at a restart", 1)
    assert found.as_said
    assert {"I2", "I5", "I9"} <= set(found.invariants)


def test_where_a_record_is_parted_each_is_still_held_to_what_it_merged() -> None:
    """In this seed both incidents fork: no error in merging may hide behind that."""
    plan = draw(runs.load_scenario("insider-equivocates"), 2)
    outcome, verdict = runs.run_plan(plan, ProtocolWorld(), DEFECTS["forget removed values"].plant)
    assert set(outcome.apart) == set(outcome.incidents.values())
    assert "I2" in {found.invariant for found in verdict.violations}
    assert {found.hole for found in verdict.known} == {"fork"}
