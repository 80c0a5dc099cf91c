"""Scenario files: what is read, and what is refused with line, reason and what to do."""

from __future__ import annotations

import contextlib
import json
import os
import random
import re
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from simulations import explain, reference, runs
from simulations.scenario import places, situations
from simulations.scenario.draw import draw
from simulations.scenario.lines import Lines
from simulations.scenario.plan import LinkFault, NodeFault, Plan, from_plain, to_plain
from simulations.scenario.reader import load, parse
from simulations.scenario.records import INVARIANTS, Scenario
from simulations.scenario.sense import ScenarioError
from simulations.scenario.values import Span
from simulations.scenario.verbs import VERBS
from simulations.worlds import situations as counting

TEXT = """
title = "A title"
story = "A story."
duration_s = 600
[[group]]
name = "nocs"
nocs = ["BE", "NL", "FR"]
[[group]]
name = "lisa"
role = "hub"
nocs = ["LISA"]
[[incident]]
name = "attack"
by = "BE"
[[fault]]
at_s = 100
verb = "lose-hub"
[[fault]]
at_s = 200
verb = "partition"
sides = [["BE"], ["NL", "FR"]]
for_s = 50
[[random]]
verb = "crash"
per_hour = [0, 20]
"""
CRASH = "[[fault]]\nverb = 'crash'\nnodes = ['BE']\n"
SHIPPED = sorted(path.stem for path in runs.SCENARIOS.glob("*.toml"))


def refusal(old: str, new: str) -> ScenarioError:
    assert old in TEXT
    with pytest.raises(ScenarioError) as caught:
        parse(TEXT.replace(old, new, 1), "x", "x.toml")
    assert caught.value.reason
    assert caught.value.action
    return caught.value


def scenario(more: str = "", text: str = TEXT) -> Scenario:
    return parse(text + more, "x")


@pytest.mark.parametrize(
    ("old", "new", "code", "line"),
    [
        ("per_hour", "per_day", "scenario-unknown-key", 25),
        ("[[random]]", "[[randon]]", "scenario-unknown-key", 23),
        ("title", "tittle", "scenario-unknown-key", 2),
        ("at_s = 100", "at_ms = 100", "scenario-wrong-unit", 16),
        ("at_s = 100", 'at_s = "100s"', "scenario-wrong-unit", 16),
        ("at_s = 100", "at_s = true", "scenario-wrong-type", 16),
        ("at_s = 100", "at_s = -1", "scenario-out-of-range", 16),
        ("at_s = 100", "at_s = 600", "scenario-contradiction", 16),
        ("at_s = 100\n", "", "scenario-missing-key", 15),
        ('verb = "lose-hub"', 'verb = "loose-hub"', "scenario-unknown-verb", 17),
        ('verb = "lose-hub"', 'verb = "crash"', "scenario-missing-key", 17),
        ('verb = "lose-hub"', 'verb = "lose-hub"\npercent = 5', "scenario-contradiction", 18),
        ('role = "hub"', 'role = "member"', "scenario-contradiction", 17),
        ('by = "BE"', 'by = "XX"', "scenario-unknown-node", 14),
        ('by = "BE"', 'by = "LISA"', "scenario-bad-value", 14),
        ('[["BE"], ["NL", "FR"]]', '[["BE"], ["NL", "BE"]]', "scenario-contradiction", 21),
        ('[["BE"], ["NL", "FR"]]', '[["all"]]', "scenario-contradiction", 21),
        ('[["BE"], ["NL", "FR"]]', '[["BE"], ["XX"]]', "scenario-unknown-node", 21),
        ("[0, 20]", "[20, 0]", "scenario-bad-value", 25),
        ("[0, 20]", "[0, 10, 20]", "scenario-wrong-type", 25),
        ('nocs = ["LISA"]', 'nocs = ["BE"]', "scenario-bad-value", 5),
        ('nocs = ["LISA"]', 'nocs = ["lisa"]', "scenario-bad-value", 11),
        ('nocs = ["LISA"]', 'nocs = ["LISA"]\ncount = 3', "scenario-bad-value", 12),
        ('name = "lisa"', 'name = "hubs"', "scenario-bad-value", 9),
        ("duration_s = 600", "duration_s = 600\nworlds = ['moon']", "scenario-bad-value", 5),
        ("duration_s = 600\n", "", "scenario-missing-key", 1),
        ('title = "A title"', "title = ", "scenario-not-toml", 2),
        ('verb = "crash"', 'verb = "heal"', "scenario-bad-value", 24),
        ("[[random]]", "[topology]\nshape = 'star'\n[[random]]", "scenario-missing-key", 23),
        ("[[random]]", "[topology]\nshape = 'cliques'\n[[random]]", "scenario-missing-key", 23),
        ("[[random]]", "[topology]\nshape = 'europe'\n[[random]]", "scenario-missing-key", 11),
        ("[[random]]", "[workload]\nstart_s = 50\nstop_s = 40\n[[random]]", "scenario-contradiction", 25),
        ("[[random]]", "[[share]]\nincident = 'fire'\nby = 'BE'\nwith = ['FR']\n[[random]]", "scenario-bad-value", 24),
        (
            "[[random]]",
            "[[share]]\nincident = 'attack'\nby = 'BE'\nwith = ['FR']\nat_s = 5\n[[random]]",
            "scenario-contradiction",
            27,
        ),
        (
            "[[random]]",
            "[[fault]]\nat_s = 300\nverb = 'restore-old-backup'\nnodes = ['BE']\nbackup_at_s = 300\n[[random]]",
            "scenario-contradiction",
            27,
        ),
        (
            "[[random]]",
            f"{CRASH}at_s = 5\n{CRASH}at_s = 6\n[[random]]",
            "scenario-contradiction",
            30,
        ),
    ],
)
def test_what_makes_no_sense_is_refused_with_its_line(old: str, new: str, code: str, line: int) -> None:
    error = refusal(old, new)
    assert (error.code, error.line) == (code, line), str(error)


NOBODY_WRITES = TEXT.replace('[[incident]]\nname = "attack"\nby = "BE"\n', "")
SILENT = [
    ('name = "attack"', 'name = "at\\u001btack"', "scenario-bad-value", 13),
    ('name = "attack"', 'name = ""', "scenario-bad-value", 13),
    ('title = "A title"', 'title = "A\\u001b[2J"', "scenario-bad-value", 2),
    ('title = "A title"', 'title = "A\\u202e"', "scenario-bad-value", 2),
    ('title = "A title"', 'title = "A\\nB"', "scenario-bad-value", 2),
    ("duration_s = 600", "duration_s = 600\nworlds = []", "scenario-bad-value", 5),
    ("[[random]]", "[checks]\ninvariants = []\n[[random]]", "scenario-bad-value", 24),
    ("[[random]]", "[checks]\ninvariants = ['I1', 'I1']\n[[random]]", "scenario-bad-value", 24),
    ("[[random]]", "[checks]\nnever = ['no-such-code']\n[[random]]", "scenario-bad-value", 24),
    ("[[random]]", "[checks]\nsometimes = ['pigs fly']\n[[random]]", "scenario-bad-value", 24),
    ("[[random]]", "[checks]\ncore = ['relays']\n[[random]]", "scenario-contradiction", 24),
    ('verb = "lose-hub"', "verb = 'crash'\nnodes = ['relays']", "scenario-contradiction", 18),
    ("per_hour", "nodes = ['relays']\nper_hour", "scenario-contradiction", 25),
    ("per_hour", "percent = 5\nper_hour", "scenario-contradiction", 25),
    ("[[random]]", "[workload]\nwriters = ['hubs']\n[[random]]", "scenario-bad-value", 24),
    ("[[random]]", "[workload]\nstop_s = 601\n[[random]]", "scenario-contradiction", 24),
    ('by = "BE"', 'by = "BE"\nmembers = []', "scenario-bad-value", 15),
    ('by = "BE"', 'by = "BE"\nmembers = ["hubs"]', "scenario-bad-value", 15),
    ('by = "BE"', 'by = "BE"\nmembers = ["NL"]\n[workload]\nwriters = ["FR"]', "scenario-contradiction", 17),
    ("[[random]]", "[[share]]\nincident = 'attack'\nby = 'BE'\n[[random]]", "scenario-missing-key", 23),
    ("[[random]]", "[[share]]\nincident = 'attack'\nby = 'BE'\nwith = ['LISA']\n[[random]]", "scenario-bad-value", 26),
    (
        'by = "BE"',
        'by = "BE"\nmembers = ["BE"]\n[[share]]\nincident = "attack"\nby = "NL"\nwith = ["FR"]',
        "scenario-contradiction",
        18,
    ),
    ('verb = "lose-hub"', "verb = 'cut-one-way'\nfrom = ['BE']\nto = ['BE']", "scenario-contradiction", 19),
    ('verb = "lose-hub"', "verb = 'skew-clock'\nnodes = ['BE']", "scenario-missing-key", 17),
    ('verb = "lose-hub"', "verb = 'drop'\npercent = 0", "scenario-out-of-range", 18),
    ('verb = "lose-hub"', "verb = 'release'", "scenario-contradiction", 17),
    ('verb = "lose-hub"', "verb = 'restore-old-backup'\nnodes = ['BE']", "scenario-missing-key", 17),
    (
        "[[random]]",
        f"{CRASH}at_s = 9\n[[fault]]\nat_s=10\nverb='restore-old-backup'\nnodes=['BE']\nbackup_at_s=5\n[[random]]",
        "scenario-contradiction",
        28,
    ),
    ('[["BE"], ["NL", "FR"]]', '[["BE"], []]', "scenario-bad-value", 21),
    ('[["BE"], ["NL", "FR"]]', "[]", "scenario-bad-value", 21),
    (
        "[[random]]",
        "[[link]]\nbetween = ['BE']\nand = ['BE']\nlatency_ms = 5\n[[random]]",
        "scenario-contradiction",
        25,
    ),
    ("[[random]]", "[topology]\ncentre = 'BE'\n[[random]]", "scenario-contradiction", 24),
    (
        "[[random]]",
        "[topology]\nshape = 'cliques'\ncliques = [['BE'], ['NL']]\nbridge = 'LISA'\n[[random]]",
        "scenario-contradiction",
        25,
    ),
    ("duration_s = 600", f"duration_s = 1{'0' * 400}", "scenario-out-of-range", 4),
    ("duration_s = 600", f"duration_s = 1{'0' * 9000}", "scenario-not-toml", 0),
    ("duration_s = 600", f"a = {'[' * 100_000}", "scenario-not-toml", 0),
    ('nocs = ["LISA"]', 'nocs = ["BE", 7]', "scenario-wrong-type", 11),
    ("story", "\ufeffstory", "scenario-not-toml", 3),
    ("A story.", "A \0story.", "scenario-not-toml", 3),
]


@pytest.mark.parametrize(("old", "new", "code", "line"), SILENT)
def test_what_would_do_nothing_or_another_thing_is_refused(old: str, new: str, code: str, line: int) -> None:
    error = refusal(old, new)
    assert (error.code, error.line) == (code, line), str(error)


def test_a_scenario_without_an_incident_needs_chance_to_open_one() -> None:
    with pytest.raises(ScenarioError, match="there is no incident"):
        parse(NOBODY_WRITES, "x")
    assert parse(NOBODY_WRITES + "[workload]\nincidents_per_hour = 5\n", "x").workload.incidents_per_hour.low == 5


def test_the_same_lie_of_the_same_node_stands_once() -> None:
    liar = '[[liar]]\nnodes = ["BE"]\ndoes = ["silent"]\n'
    text = "worlds = ['protocol']\n" + TEXT + liar
    assert parse(text, "x").liars
    with pytest.raises(ScenarioError, match="the same nodes and lies"):
        parse(text + liar, "x")


def test_what_is_no_file_of_utf_8_text_is_refused(tmp_path: Path) -> None:
    pipe, latin = tmp_path / "pipe.toml", tmp_path / "latin.toml"
    os.mkfifo(pipe)
    latin.write_bytes(b'title = "x"\nstory = "\xe9"\n')
    with pytest.raises(ScenarioError, match="is no regular file"):
        load(pipe)
    with pytest.raises(ScenarioError, match="line 2: byte 0xe9"):
        load(latin)


def test_a_word_that_is_nearly_right_is_met_with_the_right_one() -> None:
    assert "did you mean 'LISA'" in refusal('by = "BE"', 'by = "LISAA"').action
    assert "did you mean 'lose-hub'" in refusal('verb = "lose-hub"', 'verb = "loose-hub"').action
    assert "did you mean 'disk full'" in refusal("[[random]]", "[checks]\nsometimes=['disks full']\n[[random]]").action


def test_every_situation_that_a_world_counts_has_its_name_in_the_list() -> None:
    folders = [runs.ROOT / "simulations" / name for name in ("worlds", "liars")]
    texts = [path.read_text("utf-8") for folder in folders for path in folder.rglob("*.py")]
    counted = {name for text in texts for name in re.findall(r'sometimes\["([^"]+)"\]', text)}
    counted |= {value for name, value in vars(counting).items() if name.isupper() and isinstance(value, str)}
    assert {name for name in counted if not name.startswith("search: ")} - situations.KNOWN == set()
    assert len(counted) > 30
    literals = "\n".join(texts)
    assert [name for name in situations.PLAIN if f'"{name}"' not in literals and "rough client: " not in name] == []


def test_a_key_inside_a_text_is_not_taken_for_one() -> None:
    lines = Lines('story = """\nat_s = 1 # no\n[[fault]]\n"""\nlist = [\n  1,\n]\n[[fault]]\nat_s = 2\n')
    assert lines.of("fault", 0, "at_s") == 9
    assert lines.of("", 0, "list") == 5


@given(st.text(max_size=300))
@settings(max_examples=200)
def test_any_text_is_a_scenario_or_refused(text: str) -> None:
    with contextlib.suppress(ScenarioError):
        parse(text, "x")


@given(st.data())
@settings(max_examples=150)
def test_any_line_of_a_scenario_may_be_lost_or_doubled_without_another_exception(data: st.DataObject) -> None:
    lines = TEXT.splitlines()
    at = data.draw(st.integers(0, len(lines) - 1))
    changed = (
        lines[:at] + data.draw(st.sampled_from([[], [lines[at]] * 2, [lines[at].replace('"', "")]])) + lines[at + 1 :]
    )
    with contextlib.suppress(ScenarioError):
        parse("\n".join(changed), "x")


# --- plans ------------------------------------------------------------------------------------------------------------


def test_the_same_seed_gives_the_same_plan_and_another_seed_another() -> None:
    assert draw(scenario(), 3) == draw(scenario(), 3)
    assert draw(scenario(), 3) != draw(scenario(), 4)


@pytest.mark.parametrize("relays", [0, 6])
@pytest.mark.parametrize("degree", [2, 8])
def test_a_random_mesh_has_its_degree_and_reaches_everybody_through_who_forwards(relays: int, degree: int) -> None:
    groups = f'[[group]]\nname = "nocs"\ncount = {40 - relays}\n'
    groups += f'[[group]]\nname = "stores"\nrole = "relay"\ncount = {relays}\n' if relays else ""
    text = f'title = "x"\nstory = "x"\nduration_s = 60\n[topology]\nshape = "random"\ndegree = {degree}\n{groups}'
    text += '[[incident]]\nname = "a"\nby = "NO1"\n'
    plan = draw(parse(text, "random"), 3)
    assert len(plan.reach) == len(set(plan.reach)) == max(39, 40 * degree // 2)
    assert draw(parse(text, "random"), 3).reach == plan.reach != draw(parse(text, "random"), 4).reach
    forwards = {node.name for node in plan.nodes if node.role == "relay" or not relays}
    found, waiting = {min(forwards)}, [min(forwards)]
    while waiting:
        name = waiting.pop()
        for other in set(plan.dials_of(name)) - found:
            found.add(other)
            waiting += [other] if other in forwards else []
    assert found == {node.name for node in plan.nodes}


def test_a_plan_survives_json() -> None:
    for name in SHIPPED:
        plan = draw(runs.load_scenario(name), 1)
        assert from_plain(json.loads(json.dumps(to_plain(plan)))) == plan


def test_a_partition_is_a_cut_from_each_side_to_all_others() -> None:
    cuts = [action for action in draw(scenario(), 1).actions if isinstance(action, LinkFault)]
    assert [(cut.senders, cut.receivers, cut.until_s) for cut in cuts] == [
        (("BE",), ("NL", "FR", "LISA"), 250.0),
        (("NL", "FR"), ("BE", "LISA"), 250.0),
        (("LISA",), ("BE", "NL", "FR"), 250.0),
    ]


def test_a_hub_without_an_end_is_lost_for_good() -> None:
    lost = [action for action in draw(scenario(), 1).actions if isinstance(action, NodeFault) and action.for_good]
    assert [(action.node, action.verb, action.until_s) for action in lost] == [("LISA", "crash", None)]


def test_seeds_switch_whole_classes_of_faults_off() -> None:
    off = [draw(scenario(), seed).options.switched_off for seed in range(40)]
    assert ("crash",) in off
    assert () in off


def test_a_swizzle_clogs_one_by_one_and_releases_in_another_order() -> None:
    more = "[[fault]]\nat_s = 300\nverb = 'swizzle-clog'\nnodes = ['all']\nfor_s = 100\n"
    orders = set()
    for seed in range(5):
        plan = draw(scenario(more), seed)
        holds = [
            row for row in plan.actions if isinstance(row, LinkFault) and row.effect == "hold" and row.senders[1:] == ()
        ]
        begun = [row.senders[0] for row in sorted(holds, key=lambda row: row.at_s)]
        ended = [row.senders[0] for row in sorted(holds, key=lambda row: row.until_s or 0)]
        assert len(holds) == 4
        assert max(row.at_s for row in holds) <= 350 <= min(row.until_s or 0 for row in holds)
        orders.add(begun == ended)
    assert False in orders


def every_verb(plan: Plan) -> set[str]:
    return {type(action).__name__ for action in plan.actions}


@pytest.mark.parametrize("verb", [name for name, verb in VERBS.items() if verb.random])
def test_every_verb_that_chance_may_draw_becomes_actions(verb: str) -> None:
    more = f"[[random]]\nverb = '{verb}'\nper_hour = 600\n"
    text = "worlds = ['protocol']\n" + TEXT  # the others have but one version
    plans = [draw(scenario(more, text), seed) for seed in range(6)]
    added = [len(plan.actions) for plan in plans if verb not in plan.options.switched_off]
    assert added
    assert min(added) > 20
    assert any(every_verb(plan) & {"LinkFault", "NodeFault"} for plan in plans)


def test_a_range_is_drawn_within_its_bounds_and_low_values_are_not_rare() -> None:
    rng = random.Random(1)
    drawn = [Span(1, 1000).draw(rng) for _ in range(500)]
    assert all(1 <= value <= 1000 for value in drawn)
    assert sum(value < 32 for value in drawn) > 150


def test_the_manual_names_every_verb_and_every_key_as_the_reader_knows_them() -> None:
    manual = (runs.ROOT / "docs" / "simulating.md").read_text(encoding="utf-8")
    assert reference.verbs() in manual
    assert reference.keys().rstrip() in manual
    assert reference.situations().rstrip() in manual


def test_the_example_of_the_manual_is_a_scenario() -> None:
    manual = (runs.ROOT / "docs" / "simulating.md").read_text(encoding="utf-8")
    example = manual.partition("```toml\n")[2].partition("```")[0]
    assert len(parse(example, "example").nodes) == 3


def test_distances_of_europe_are_near_what_real_networks_show() -> None:
    assert 10 < places.latency_ms("Brussels", "Helsinki") < 20
    assert 20 < places.latency_ms("Lisbon", "Nicosia") < 40
    assert places.latency_ms("Bratislava", "Vienna") < 3
    assert len({code for code in places.CAPITALS if code != "EL"}) == 27


@pytest.mark.parametrize("name", SHIPPED)
def test_every_shipped_scenario_has_a_paragraph_and_can_be_explained(name: str) -> None:
    found = runs.load_scenario(name)
    assert len(found.story.split()) > 30
    assert found.title in explain.scenario(found)
    assert explain.plan(draw(found, 1))
    assert set(found.checks.invariants) == set(INVARIANTS)
