"""Liars and mixed versions: each lie is told, reaches an honest node, is survived; checkers believe nothing."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from random import Random

import pytest

from meshnode.core import aead, entry
from simulations import explain, reference, runs
from simulations.checks.judge import HOLES, Verdict, judge
from simulations.defects import DEFECTS, hostile, hunt
from simulations.liars.lying import TELLS
from simulations.liars.relays import BENDS
from simulations.liars.two_keys import seal_for_two
from simulations.scenario.draw import draw
from simulations.scenario.lies import LIES
from simulations.scenario.plan import Lie, Plan, from_plain, to_plain
from simulations.scenario.reader import parse
from simulations.scenario.sense import ScenarioError
from simulations.shrink import shrink
from simulations.worlds.contract import Outcome
from simulations.worlds.protocol import ProtocolWorld

MESH = """
title = "Small"
story = "A small mesh with somebody in it."
duration_s = 60
worlds = ["protocol"]
[[group]]
name = "nocs"
nocs = ["BE", "NL", "FR", "DE", "IT"]
[[group]]
name = "relays-of-all"
role = "relay"
nocs = ["RA"]
[[incident]]
name = "attack"
by = "BE"
members = ["BE", "NL", "FR", "DE"]
[workload]
writes_per_s = 0.5
"""


def liar(kind: str, who: str = "NL", more: str = "per_hour = 360\nat_s = 20") -> str:
    helped = 'with = ["DE"]\n' if LIES[kind].accomplice else ""
    return f'[[liar]]\nnodes = ["{who}"]\ndoes = ["{kind}"]\n{helped}{more}\n'


def plan_of(more: str, seed: int = 1) -> Plan:
    return draw(parse(MESH + more, "small"), seed)


def run(more: str, seed: int = 1) -> tuple[Outcome, Verdict]:
    return runs.run_plan(plan_of(more, seed), ProtocolWorld())


# --- every lie --------------------------------------------------------------------------------------------------------


def test_every_lie_of_the_table_can_be_told_and_no_other() -> None:
    assert {*TELLS} ^ {*BENDS} == {*LIES}
    assert {kind for kind, lie in LIES.items() if lie.lasts} == {*BENDS}
    faults = {lie.fault for lie in LIES.values()}
    assert faults == {f"B{number}" for number in range(1, 17) if number not in (11, 15)}


@pytest.mark.parametrize("kind", list(LIES))
def test_a_lie_reaches_honest_nodes_and_they_survive_it(kind: str) -> None:
    """Without any wrong alarm, too: what a member was free to write is no defect of those who read it."""
    outcome, verdict = run(liar(kind))
    assert verdict.held, verdict.violations
    assert outcome.sometimes[f"lie told: {kind}"]
    assert outcome.sometimes[f"lie heard: {kind}"]
    assert bool(verdict.known) <= (kind in ("equivocate", "hide-branch"))
    assert outcome.plan.liars == {"NL", "DE"} if LIES[kind].accomplice else {"NL"}


@pytest.mark.parametrize("kind", ["relay-drops", "relay-invents", "silent", "replay", "false-requests"])
def test_a_relay_lies_as_well(kind: str) -> None:
    outcome, verdict = run(liar(kind, "RA"))
    assert verdict.held, verdict.violations
    assert outcome.sometimes[f"lie told: {kind}"]


def test_the_same_seed_tells_the_same_lies_and_another_tells_others() -> None:
    more = liar("flood-invalid")
    assert run(more)[0].digest == run(more)[0].digest != run(more, seed=2)[0].digest


def test_of_several_nodes_and_lies_each_seed_draws_one() -> None:
    more = '[[liar]]\nnodes = ["NL", "RA"]\ndoes = ["any"]\nat_s = [10, 50]\n'
    plans = [plan_of(more, seed) for seed in range(40)]
    told = {(lie.node, lie.kind) for plan in plans for lie in plan.actions if isinstance(lie, Lie)}
    assert {node for node, _ in told} == {"NL", "RA"}
    assert len({kind for _, kind in told}) > 8
    assert not any(LIES[kind].member for node, kind in told if node == "RA")


def test_one_ciphertext_opens_under_two_keys() -> None:
    """B14 is no empty threat: the cipher itself does not stop it."""
    rng = Random(5)
    first, second, clear = rng.randbytes(32), rng.randbytes(32), rng.randbytes(152)
    content = entry.Content((), 7, "forger", ([6, {"text": "one story"}],))
    sealed = seal_for_two(content, clear, first, second, rng)
    nonce, body = sealed[: aead.NONCE_BYTES], sealed[aead.NONCE_BYTES :]
    plain = aead.open_untrusted(body, clear, nonce, first)
    other = aead.open_untrusted(body, clear, nonce, second)
    assert plain is not None
    assert entry.content_untrusted(plain.rstrip(b"\0")[:-1]) == content
    assert other is not None
    assert other != plain


# --- what does not hold yet -------------------------------------------------------------------------------------------


def test_a_fork_parts_honest_members_and_only_that_is_excused() -> None:
    """When this fails because everything holds, the hole is mended: take ``fork`` out of HOLES and of the manual."""
    outcome, verdict = run(liar("equivocate"), 3)
    assert verdict.held, verdict.violations  # what honest members merged is judged here too
    assert set(HOLES) == {"fork", "locked-out"}
    assert len(outcome.forked) == 1
    assert outcome.apart == outcome.forked
    assert {row.invariant for row in verdict.known} >= {"I1", "I9"}
    strict = dataclasses.replace(outcome, forked=())
    assert {row.invariant for row in judge(strict).violations} >= {"I1", "I9"}
    assert outcome.sometimes["an operator was told of a fork"]


def test_a_member_that_is_kept_from_a_key_stays_locked_out_of_new_logs_and_only_that_is_excused() -> None:
    """Found by this scenario with this seed. When it holds: take ``locked-out`` out of HOLES and of the manual."""
    outcome, result = runs.run_seed(runs.load_scenario("key-kept-from-some"), 1, "protocol")
    assert result.held
    assert len(outcome.locked_out) == 1
    assert outcome.apart == outcome.locked_out
    assert result.known["locked-out I1"]
    assert result.known["locked-out I9"]
    strict = judge(dataclasses.replace(outcome, locked_out=()))
    assert {row.invariant for row in strict.violations} >= {"I1", "I9"}


HOSTILE = [name for name, row in DEFECTS.items() if row.scenario == str(hostile.MESH)]


def test_every_lie_has_a_defect_that_it_brings_out() -> None:
    assert {kind for name in HOSTILE for kind in LIES if DEFECTS[name].meaning.endswith(f"({kind})")} == set(LIES)


@pytest.mark.parametrize("name", HOSTILE)
def test_who_does_not_stand_a_lie_is_found_by_it_and_by_nothing_else(name: str) -> None:
    """The lies bite: the checks notice what is planted where the liar is, and nothing of it without the liar."""
    found = hunt(name, 4)
    assert found.as_said, found
    mesh = draw(runs.load_scenario(str(hostile.MESH)), found.seeds)
    _, verdict = runs.run_plan(mesh, ProtocolWorld(), DEFECTS[name].plant)
    assert verdict.held, verdict.violations


# --- the checkers can fail --------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def told() -> Outcome:
    outcome, verdict = run(liar("future-date") + liar("forge-parents", more="per_hour = 600\nat_s = 20"))
    assert verdict.held, verdict.violations
    return outcome


def expecting(outcome: Outcome, expect: str, chosen: Callable[[int], bool]) -> set[str]:
    """Invariants that are violated if this had been all that honest nodes might make of what they merged."""
    merged = {number for end in outcome.ends for shown in end.incidents.values() for number in shown.uttered}
    rows = [
        row._replace(expect=expect) if row.number in merged and chosen(row.number) else row for row in outcome.uttered
    ]
    return {violation.invariant for violation in judge(dataclasses.replace(outcome, uttered=rows)).violations}


def test_a_member_whose_lawful_entry_is_void_or_kept_out_is_seen(told: Outcome) -> None:
    """I13: nothing but the clock is wrong with what future-date writes."""
    end = told.ends[0]
    incident, shown = next(iter(end.incidents.items()))
    row = next(told.uttered[number] for number in shown.uttered if told.uttered[number].expect == "stands")
    void = dataclasses.replace(shown, void=(*shown.void, f"{row.log}.{row.seq}: not-entitled"))
    left = dataclasses.replace(shown, uttered=tuple(number for number in shown.uttered if number != row.number))
    for odd in (void, left):
        ends = [dataclasses.replace(end, incidents={incident: odd}), *told.ends[1:]]
        assert "I13" in {row.invariant for row in judge(dataclasses.replace(told, ends=ends)).violations}


@pytest.mark.parametrize(
    "changes",
    [{"to_liars": {"NL": 100_000}}, {"reports": {"bad-signature": 100_000}}, {"sizes": {"exchange": 10**9}}],
)
def test_a_liar_that_costs_more_than_it_is_worth_is_seen(told: Outcome, changes: dict[str, dict[str, int]]) -> None:
    ends = [dataclasses.replace(told.ends[0], **changes), *told.ends[1:]]
    assert {row.invariant for row in judge(dataclasses.replace(told, ends=ends)).violations} == {"I7"}


@pytest.mark.parametrize("expect", ["void", "unmerged", "refused"])
def test_what_a_liar_had_no_right_to_is_seen_when_it_takes_effect(told: Outcome, expect: str) -> None:
    assert "I5" in expecting(told, expect, lambda _number: True)


def test_what_a_liar_wrote_is_no_excuse_for_anything_else(told: Outcome) -> None:
    """Without its book, its values come from nowhere; with an empty page in it, too."""
    blank = [row._replace(writes=()) for row in told.uttered]
    assert {row.invariant for row in judge(dataclasses.replace(told, uttered=blank)).violations} & {"I1", "I2"}


def test_a_member_that_nobody_added_is_seen(told: Outcome) -> None:
    end = told.ends[0]
    incident, shown = next(iter(end.incidents.items()))
    odd = dataclasses.replace(shown, members=(*shown.members, "IT"))
    ends = [dataclasses.replace(end, incidents={incident: odd}), *told.ends[1:]]
    assert "I5" in {row.invariant for row in judge(dataclasses.replace(told, ends=ends)).violations}


def test_a_fork_that_nobody_reports_is_seen() -> None:
    outcome, _ = run(liar("hide-branch"))
    quiet = [dataclasses.replace(end, reports={}) for end in outcome.ends]
    assert "I10" in {row.invariant for row in judge(dataclasses.replace(outcome, ends=quiet)).violations}


def test_nothing_is_demanded_of_a_liar_and_everything_of_an_honest_node(told: Outcome) -> None:
    ends = [dataclasses.replace(end, journal_gaps=1) for end in told.ends]
    assert {row.node for row in judge(dataclasses.replace(told, ends=ends)).violations} == {
        "BE",
        "FR",
        "DE",
        "IT",
        "RA",
    }


# --- plans ------------------------------------------------------------------------------------------------------------


def test_lies_are_kept_with_a_plan_and_shrunk_out_of_it() -> None:
    plan = plan_of(liar("replay") + liar("hide-branch", "FR"))
    assert from_plain(to_plain(plan)) == plan
    assert plan.liars == {"NL", "FR", "DE"}
    smaller, _ = shrink(plan, lambda tried: any(isinstance(action, Lie) for action in tried.actions), 200)
    assert len(smaller.actions) == len(smaller.liars) == 1 or smaller.liars == {"FR", "DE"}


def test_liars_are_explained() -> None:
    found = parse(MESH + liar("hide-branch"), "small")
    assert "NL with DE" in explain.scenario(found)
    assert LIES["hide-branch"].meaning in explain.scenario(found)
    assert "NL lies: hide-branch with DE" in explain.plan(draw(found, 1))


@pytest.mark.parametrize(
    ("more", "code", "words"),
    [
        (liar("replay").replace("replay", "rumour"), "scenario-unknown-lie", "there is no lie 'rumour'"),
        (liar("replay", "XX"), "scenario-unknown-node", "no node and no group"),
        (liar("equivocate", "RA"), "scenario-contradiction", "needs the keys of a member"),
        (liar("hide-branch").replace('with = ["DE"]\n', ""), "scenario-missing-key", "needs an accomplice"),
        (liar("replay", "all"), "scenario-contradiction", "everybody may lie"),
        (liar("replay", more="at_s = 60"), "scenario-contradiction", "the faults end at 60 s"),
        (liar("equivocate", more="amount = 2"), "scenario-contradiction", "no more or less"),
        (liar("silent", more="amount = 2"), "scenario-contradiction", "no more or less"),
        (liar("relay-drops", more="amount = 101"), "scenario-out-of-range", "at most 100"),
        (liar("replay").replace('["replay"]', "[]"), "scenario-bad-value", "the list is empty"),
        (liar("replay", more="per_hours = 1"), "scenario-unknown-key", "did you mean 'per_hour'"),
        (
            '[topology]\nshape = "star"\ncentre = "RA"\n' + liar("silent", "RA"),
            "scenario-contradiction",
            "linked only by way of nodes that may lie",
        ),
        (
            '[[fault]]\nat_s = 30\nverb = "upgrade"\nnodes = ["NL"]\n' + liar("replay"),
            "scenario-contradiction",
            "is not of another version too",
        ),
    ],
)
def test_a_liar_that_makes_no_sense_is_refused_with_its_line(more: str, code: str, words: str) -> None:
    with pytest.raises(ScenarioError) as refused:
        parse(MESH + more, "small")
    assert refused.value.code == code
    assert words in str(refused.value)
    assert refused.value.line > 15


@pytest.mark.parametrize("more", [liar("replay"), '[[random]]\nverb = "downgrade"\nper_hour = 5\n'])
def test_worlds_in_which_nobody_can_lie_are_refused(more: str) -> None:
    with pytest.raises(ScenarioError, match='worlds = \\["protocol"\\]'):
        parse((MESH + more).replace('worlds = ["protocol"]\n', ""), "small")


def test_the_manual_lists_the_lies_as_the_program_knows_them() -> None:
    assert reference.lies() in (runs.ROOT / "docs" / "simulating.md").read_text(encoding="utf-8")


# --- mixed versions ---------------------------------------------------------------------------------------------------


def test_an_upgrade_and_a_way_back_lose_nothing_and_cost_no_link() -> None:
    """P7: this version hears messages, items, operations, acts and parts of contents that it does not know."""
    upgrade = '[[fault]]\nat_s = 20\nverb = "upgrade"\nnodes = ["NL"]\n'
    outcome, verdict = run(upgrade)
    assert verdict.held, verdict.violations
    assert outcome.sometimes["a later version was heard by an earlier one"]
    assert outcome.sometimes["an earlier version merged what only a later one knows"]
    for end in outcome.ends:
        assert set(end.reports) <= {"act-unknown", "message-unknown", "link-up", "link-down", "dial-failed"}, end.name
    assert next(end for end in outcome.ends if end.name == "BE").reports["message-unknown"]
    back = '[[fault]]\nat_s = 40\nverb = "downgrade"\nnodes = ["NL"]\n'
    _, verdict = run(upgrade + back)
    assert verdict.held, verdict.violations
