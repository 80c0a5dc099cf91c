"""Reports: what is in the JSON is counted again by other means, and the page is made of it and of nothing else."""

from __future__ import annotations

import hashlib
import json
import re
import shutil
import subprocess
from collections import Counter
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path

import pytest

from meshnode.core import wire
from simulations import program, runs
from simulations.defects import DEFECTS
from simulations.report import conflicts, facts, files, page, reach, sweep_page, swept, writes
from simulations.report.made import made
from simulations.report.records import Fault, Known, LinkSpell, RunReport, Spell, from_json_untrusted, to_json
from simulations.runs import Result
from simulations.scenario import reader
from simulations.scenario.draw import draw
from simulations.scenario.plan import Options, Plan
from simulations.sweep import finished
from simulations.worlds import frames
from simulations.worlds.contract import Acknowledged, Outcome, Touch
from simulations.worlds.daemon import DaemonWorld
from simulations.worlds.protocol import ProtocolWorld

SECTIONS = ["timeline", "mesh", "apart", "spread", "together", "traffic", "checks", "untested", "made", "sign"]
HOSTILE = "<script>alert('title')</script> & <b>bold</b>"
SPLIT = f"""
title = "{HOSTILE}"
story = "Two are cut off from the third & its <i>hub</i>."
duration_s = 60
[[group]]
name = "nocs"
nocs = ["BE", "NL", "FR"]
[[group]]
name = "lisa"
role = "hub"
nocs = ["LISA"]
place = "Strasbourg"
[links]
latency_ms = 10
idle_timeout_s = 5
[node]
redial_max_s = 2
[[incident]]
name = "attack"
by = "BE"
at_s = 5
[workload]
writes_per_s = 1
kinds = {{ set = 1 }}
[[fault]]
at_s = 20
verb = "partition"
sides = [["BE", "NL"], ["FR", "lisa"]]
for_s = 20
[[random]]
verb = "crash"
per_hour = 0
[checks]
invariants = ["I1", "I2", "I9"]
core = ["nocs"]
"""
QUICK = Options(crypto="cheap")
"""No wait anywhere but on links."""
MADE = made("python -m simulations report split.toml --seed 1")


@pytest.fixture(scope="module")
def scenario_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("scenario") / "split.toml"
    path.write_text(SPLIT, encoding="utf-8")
    return path


@pytest.fixture(scope="module")
def plan(scenario_file: Path) -> Plan:
    return replace(draw(reader.load(scenario_file), 1), options=QUICK)


@pytest.fixture(scope="module")
def outcome(plan: Plan) -> Outcome:
    return ProtocolWorld(timeline=True).run(plan)


@pytest.fixture(scope="module")
def report(outcome: Outcome, scenario_file: Path) -> RunReport:
    result = runs.result_of(outcome, runs.judge(outcome))
    return facts.of_run(outcome, result, reader.load(scenario_file), MADE)


# --- the numbers ------------------------------------------------------------------------------------------------------


def test_looking_on_changes_nothing(plan: Plan, outcome: Outcome) -> None:
    without = ProtocolWorld().run(plan)
    assert without.timeline is None
    assert (without.digest, without.events) == (outcome.digest, outcome.events)


def test_a_write_takes_the_latency_of_one_link_to_be_shown_by_whoever_is_linked(report: RunReport) -> None:
    before = [write for write in report.writes if 15 < write.at_s < 20]
    assert before
    for write in before:
        assert set(write.shown_after_s) == {"BE", "NL", "FR"} - {write.node}
        assert list(write.shown_after_s.values()) == pytest.approx([0.010, 0.010], abs=1e-6)
        assert not write.cut_off


def test_who_is_cut_off_waits_for_the_end_of_the_split(report: RunReport) -> None:
    meanwhile = [write for write in report.writes if 20.1 < write.at_s < 40 and write.node in ("BE", "NL")]
    assert meanwhile
    split = next(split for split in report.splits if split.writes)
    assert split.begin_s == pytest.approx(20)
    assert {frozenset(side) for side in split.sides} == {frozenset({"BE", "NL"}), frozenset({"FR", "LISA"})}
    for write in meanwhile:
        assert write.cut_off == ("FR",)
        assert write.at_s + write.shown_after_s["FR"] >= 40
        assert write.shown_after_s[{"BE": "NL", "NL": "BE"}[write.node]] == pytest.approx(0.010, abs=1e-6)
    last_s = max(write.at_s + after_s for write in meanwhile for after_s in write.shown_after_s.values())
    assert split.caught_up_after_s is not None
    assert split.end_s + split.caught_up_after_s >= last_s - 1e-6
    assert split.writes == sum(split.begin_s <= write.at_s < split.end_s for write in report.writes)


def test_the_spread_is_the_percentiles_of_all_its_parts(report: RunReport) -> None:
    values = sorted(after_s for write in report.writes for after_s in write.shown_after_s.values())
    assert report.spread.everybody.count == len(values)
    assert report.spread.everybody.p50_s == values[(len(values) + 1) // 2 - 1]
    assert report.spread.everybody.max_s == values[-1]
    assert report.spread.reachable.count + report.spread.cut_off.count == len(values)
    assert report.spread.never == sum(len(write.never) for write in report.writes) == 0


def test_bytes_by_class_sum_to_what_each_node_sent(outcome: Outcome, report: RunReport) -> None:
    sums: Counter[str] = Counter()
    for row in report.sent:
        sums[row.node] += row.bytes
    assert sums == outcome.bytes_sent
    kinds = {row.kind for row in report.sent}
    assert {frames.ENTRIES, frames.SYNC, frames.ROSTER} <= kinds
    assert frames.OTHER not in kinds


def test_every_message_of_the_protocol_has_a_class() -> None:
    for kind, number in wire._NUMBERS.items():
        if number in frames.CLASS_OF_NUMBER:
            assert (
                f"  # {kind.__name__}\n" in Path(frames.__file__).read_text(encoding="utf-8").split(f" {number}: ")[1]
            )
    assert frames.number_of(wire.encode(wire.Summary(bytes(32), bytes(32)))) == 1
    assert set(frames.CLASS_OF_NUMBER.values()) <= set(frames.CLASSES)


def test_conflicts_are_counted_from_what_clients_were_answered() -> None:
    title, other = Touch("i", "incident", "o", "title"), Touch("i", "incident", "o", "summary")

    def answered(number: int, touch: Touch, *seen: str, kind: str = "set") -> Acknowledged:
        return Acknowledged(number, number, number, "BE", kind, touch, f"d{number}", "x", seen)

    rows = [
        answered(1, title),
        answered(2, title),  # in ignorance of 1
        answered(3, other),
        answered(4, title, kind="add"),  # a set has no conflicts
        answered(5, title),  # a third value: the conflict is there already
        answered(6, title, "d1", "d2"),  # one of three is left beside it
        answered(7, title, "d5", "d6"),
    ]
    assert [(row.at_s, row.made) for row in conflicts.of_record(rows)] == [(2, True), (7, False)]


def test_reach_follows_links_faults_and_nodes() -> None:
    up = [Spell(name, "up", 0, 100) for name in "AB"] + [Spell("C", "up", 0, 50), Spell("C", "down", 50, 100)]
    links = [LinkSpell("A", "B", 0, 100), LinkSpell("B", "C", 10, 100)]
    faults = [Fault("cut", 20, 30, ("A",), ("B",), 0.0), Fault("drop", 0, 100, ("A",), ("B", "C"), 0.5)]
    found = reach.Reach("ABC", up, links, faults, 100)
    told = {row.begin_s: row.sides for row in found.islands()}
    assert told == {
        0: (("A", "B"), ("C",)),
        10: (("A", "B", "C"),),
        20: (("B", "C"), ("A",)),
        30: (("A", "B", "C"),),
        50: (("A", "B"),),
    }
    assert found.reaches(found.at(25), "C", "A")  # the other direction passes
    assert not found.reaches(found.at(25), "A", "C")
    apart = {(row.a, row.b): row.share for row in found.apart()}
    assert apart == {("A", "B"): 0.1, ("A", "C"): 0.4, ("B", "C"): 0.2}


def test_a_mesh_that_comes_up_is_no_split() -> None:
    up = [Spell("A", "up", 0, 100), Spell("B", "up", 0, 100)]
    found = reach.Reach("AB", up, [LinkSpell("A", "B", 5, 100)], [], 100)
    assert not list(writes.splits(found.islands(), [], "AB"))


def test_what_was_not_tested_is_said(report: RunReport) -> None:
    said = [f"{row.topic}: {row.what}" for row in report.untested]
    assert any("a keyed hash in their place" in line for line in said)
    assert any(line.startswith("World protocol: QUIC, SQLite") for line in said)
    assert any(line.startswith("Invariants: not asked for by the scenario: I3, I4") for line in said)
    assert any("never drawn by this seed: crash" in line for line in said)
    assert any(line.startswith("Faults: not in this scenario at all: ") and "bit-flip" in line for line in said)
    assert "Convergence: not demanded of nodes outside the core: LISA" in said


def test_where_nobody_looked_nothing_is_said_of_who_reached_whom(plan: Plan, scenario_file: Path) -> None:
    outcome = ProtocolWorld().run(plan)
    told = facts.of_run(outcome, runs.result_of(outcome, runs.judge(outcome)), reader.load(scenario_file), MADE)
    assert (told.islands, told.apart, told.splits, told.spells, told.links_every_s) == ((), (), (), (), None)
    assert told.spread.everybody.count > 0
    parsed = Parsed(render(told))
    assert parsed.sections == SECTIONS
    assert "nobody looked at nodes and links meanwhile" in parsed.text
    assert "could reach" not in parsed.text
    assert parsed.tags["script"] == 0


def test_what_a_seed_switches_off_and_what_was_never_asked_is_said(plan: Plan, scenario_file: Path) -> None:
    off = replace(plan, options=replace(QUICK, switched_off=("crash",)), invariants=("I9", "I10"))
    outcome = ProtocolWorld(timeline=True).run(off)
    result = runs.result_of(outcome, runs.judge(outcome))
    told = facts.of_run(outcome, result, reader.load(scenario_file), MADE)
    said = [f"{row.topic}: {row.what}" for row in told.untested]
    assert "Faults: switched off by this seed: crash" in said
    assert any(line.startswith("Invariants: I10, who is handed two") and "never asked" in line for line in said)


@pytest.mark.parametrize("world", ["daemon"])
def test_other_worlds_are_looked_at_too_and_give_the_same_trace_with_it(plan: Plan, world: str) -> None:
    short = replace(plan, duration_s=12.0, actions=tuple(row for row in plan.actions if row.at_s < 12))
    outcome = DaemonWorld(timeline=True).run(short)
    assert outcome.timeline is not None
    assert DaemonWorld().run(short).digest == outcome.digest
    assert {row.node for row in outcome.timeline.nodes if row.state == "up"} == {"BE", "NL", "FR", "LISA"}
    assert {(row.a, row.b) for row in outcome.timeline.links if row.up} >= {("BE", "NL"), ("BE", "FR"), ("FR", "NL")}
    assert {kind for _, kind in outcome.sent} >= {frames.HELLO, frames.ENTRIES, frames.TRANSPORT}
    assert sum(size for _, size in outcome.sent.values()) == outcome.bytes_sent.total()


# --- the page ---------------------------------------------------------------------------------------------------------


class Parsed(HTMLParser):
    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: Counter[str] = Counter()
        self.sections: list[str] = []
        self.attributes: list[tuple[str, str]] = []
        self.text = ""
        self._open: list[str] = []
        self.feed(text)
        self.close()
        assert not self._open, f"never closed: {self._open}"

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags[tag] += 1
        self.attributes += [(name, value or "") for name, value in attrs]
        if tag == "section":
            self.sections.append(dict(attrs)["id"] or "")
        if tag not in ("meta", "input", "br"):
            self._open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags[tag] += 1
        self.attributes += [(name, value or "") for name, value in attrs]

    def handle_endtag(self, tag: str) -> None:
        assert self._open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.text += data


def render(report: RunReport, wall_s: float | None = None) -> str:
    return page.of_run(report, hashlib.sha256(to_json(report)).hexdigest(), wall_s)


def test_the_page_has_every_section_and_fetches_nothing(report: RunReport) -> None:
    text = render(report)
    parsed = Parsed(text)
    assert parsed.sections == SECTIONS
    assert not [row for row in parsed.attributes if row[0] in ("src", "href", "srcset", "action")]
    assert not {"link", "img", "iframe", "object", "base"} & parsed.tags.keys()
    assert not re.search(r"url\(|@import|fetch\(|XMLHttpRequest", text)
    assert set(re.findall(r"https?://[^\"' <]+", text)) <= {"http://www.w3.org/2000/svg"}
    assert "default-src 'none'" in text


def test_text_of_a_scenario_is_text(report: RunReport) -> None:
    text = render(report)
    parsed = Parsed(text)
    assert HOSTILE in parsed.text
    assert "its <i>hub</i>" in parsed.text
    assert parsed.tags["script"] == 2  # the steps of the slider, and what moves it
    assert "alert('title')</script>" not in text.replace("&lt;", "<") or "<script>alert" not in text


def test_names_in_the_data_of_the_slider_cannot_end_it(report: RunReport) -> None:
    steps = re.search(r'id="steps">(.*?)</script>', render(report), re.S)
    assert steps is not None
    told = json.loads(steps[1])
    assert len(told["times"]) == len(told["nodes"]) == len(told["links"]) == len(told["said"])
    assert {len(states) for states in told["nodes"]} == {len(report.nodes)}
    assert {len(states) for states in told["links"]} == {len(report.reach)}


def test_the_same_outcome_gives_the_same_bytes_but_for_the_time_that_it_took(
    report: RunReport, outcome: Outcome, scenario_file: Path
) -> None:
    again = facts.of_run(outcome, runs.result_of(outcome, runs.judge(outcome)), reader.load(scenario_file), MADE)
    assert to_json(again) == to_json(report)
    one, other = render(report, 12.0), render(again, 34.0)
    different = [(a, b) for a, b in zip(one.splitlines(), other.splitlines(), strict=True) if a != b]
    assert len(different) == 1
    assert different[0][0].replace("12 s", "34 s") == different[0][1]
    assert render(report) == render(again)


def test_a_page_is_made_again_from_its_json(report: RunReport, tmp_path: Path) -> None:
    written = files.write(report, tmp_path / "one.html")
    assert hashlib.sha256(written.json.read_bytes()).hexdigest() == written.sha256
    assert written.sha256 in written.html.read_text(encoding="utf-8")
    again = files.read(written.json)
    assert again == report
    assert files.write(again, tmp_path / "two.html").sha256 == written.sha256
    assert (tmp_path / "two.html").read_bytes() == written.html.read_bytes()


@pytest.mark.parametrize("data", [b"", b"[]", b"{}", b'{"format": "meshnode-sim run report 1"}', b'{"format": 7}'])
def test_what_is_no_report_is_refused(data: bytes, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="no report"):
        from_json_untrusted(data)
    path = tmp_path / "no.json"
    path.write_bytes(data)
    with pytest.raises(ValueError, match=r"no\.json"):
        files.read(path)


def test_what_is_known_not_to_hold_is_said_beside_the_verdict(report: RunReport) -> None:
    told = replace(report, known=(Known("fork", "a member that <forks>", {"I9": 2}),))
    text = Parsed(render(told)).text
    assert "It held, but for what is known not to hold yet." in text
    assert "a member that <forks>" in text
    assert "held, but for what is known" in text
    assert "known not to hold" not in Parsed(render(report)).text


def test_a_failure_is_the_first_thing_on_the_page(plan: Plan, scenario_file: Path) -> None:
    with DEFECTS["send before commit"].plant():
        outcome = ProtocolWorld(timeline=True).run(plan)
    result = runs.result_of(outcome, runs.judge(outcome))
    told = facts.of_run(outcome, result, reader.load(scenario_file), MADE)
    text = Parsed(render(told)).text
    assert "It did not hold: I1." in text
    assert text.index("It did not hold") < text.index("What happened")
    assert "VIOLATED" in text


# --- sweeps -----------------------------------------------------------------------------------------------------------


def result(seed: int, scenario: str = "flapping-links", violated: str = "") -> Result:
    violations = ((violated, "BE", f"so it was <{seed}>"),) if violated else ()
    asked, sometimes = {"I1": seed, "I9": 1}, {"fault: cut": 2}
    return Result(
        scenario, "protocol", seed, violations, "", float(seed), 42.0, 0.1, 10, 5, {}, asked, sometimes, 1_000 * seed
    )


def test_a_sweep_is_summed_up_and_its_failures_say_how_to_see_them_again() -> None:
    rows = [result(seed, violated="I9" if seed == 3 else "") for seed in range(1, 11)]
    told = swept.of_results([*rows, result(1, "gone")], MADE, {})
    assert not told.held
    one = told.swept[0]
    assert (one.scenario, len(one.seeds), one.asked) == ("flapping-links", 10, {"I1": 55, "I9": 10})
    assert one.situations == {"fault: cut": 20}
    assert [failure.command for failure in one.failures] == [
        "python -m simulations run flapping-links --world protocol --seed 3"
    ]
    assert told.swept[1].title == "gone"
    assert from_json_untrusted(to_json(told)) == told
    parsed = Parsed(sweep_page.of_sweep(told, "0" * 64))
    assert parsed.sections == ["summary", "scenario-0", "scenario-1", "made", "sign"]
    assert "so it was <3>" in parsed.text
    assert "--seed 3" in parsed.text
    more = replace(told, swept=(replace(told.swept[0], asked={"I1": 1, "I11": 1, "I2": 1}),))
    text = Parsed(sweep_page.of_sweep(more, "0" * 64)).text
    assert text.index("I1, what") < text.index("I2, the") < text.index("I11, nothing")
    assert parsed.tags["script"] == 0


# --- the commands -----------------------------------------------------------------------------------------------------


def test_report_writes_two_files_and_prints_the_digest(
    scenario_file: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "there" / "one.html"
    assert program.run(["report", str(scenario_file), "--seed", "2", "--out", str(out)]) == program.HELD
    said = capsys.readouterr().out
    sha256 = hashlib.sha256(out.with_suffix(".json").read_bytes()).hexdigest()
    assert sha256 in said
    assert sha256 in out.read_text(encoding="utf-8")
    again = tmp_path / "again.html"
    assert program.run(["report", str(out.with_suffix(".json")), "--out", str(again)]) == program.HELD
    assert sha256 in capsys.readouterr().out


def test_run_writes_a_report_too_of_one_seed_and_of_many(
    scenario_file: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    command = ["run", str(scenario_file), "--results", str(tmp_path), "--workers", "1"]
    assert program.run([*command, "--report", str(tmp_path / "one.html")]) == program.HELD
    assert isinstance(files.read(tmp_path / "one.json"), RunReport)
    assert program.run([*command, "--seeds", "1..2", "--report", str(tmp_path / "two.html")]) == program.HELD
    results = next(tmp_path.glob("*.jsonl"))
    assert program.run(["report", str(results), "--out", str(tmp_path / "three.html")]) == program.HELD
    two, three = files.read(tmp_path / "two.json"), files.read(tmp_path / "three.json")
    assert not isinstance(two, RunReport)
    assert not isinstance(three, RunReport)
    assert two.swept == three.swept
    kept = list(finished(results).values())
    assert [row.seed for row in two.swept[0].seeds] == [row.seed for row in kept] == [1, 2]
    capsys.readouterr()


def test_a_saved_failure_is_run_again_and_reported(
    scenario_file: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "failure.html"
    with DEFECTS["send before commit"].plant():
        assert program.run(["run", str(scenario_file), "--seed", "2", "--results", str(tmp_path)]) == program.VIOLATED
        saved = tmp_path / "failures" / "split-protocol-2.json"
        assert program.run(["report", str(saved), "--out", str(out)]) == program.VIOLATED
    told = files.read(out.with_suffix(".json"))
    assert isinstance(told, RunReport)
    assert not told.held
    assert told.title == "split"  # its file is not shipped
    assert any(row.topic == "Scenario" for row in told.untested)
    content = json.loads(saved.read_text(encoding="utf-8"))
    saved.write_text(json.dumps({**content, "code": "before"}), encoding="utf-8")
    assert program.run(["report", str(saved), "--out", str(out)]) == program.HELD
    capsys.readouterr()


def test_what_report_cannot_take_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert program.run(["report", "no-such-scenario"]) == program.SENSELESS
    assert program.run(["report", str(tmp_path / "gone.jsonl")]) == program.SENSELESS
    assert "there is no file" in capsys.readouterr().err
    assert program.run(["report", "flapping-links", "hub-lost-during-attack"]) == program.SENSELESS


# --- in a browser -----------------------------------------------------------------------------------------------------

BROWSER = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
FLAGS = (
    *("--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-sync"),
    *("--disable-background-networking", "--disable-component-update", "--virtual-time-budget=5000"),
)


@pytest.mark.skipif(BROWSER is None, reason="no Chromium on this machine: apt-get install chromium")
def test_a_browser_shows_the_page_and_the_slider_moves_the_mesh(report: RunReport, tmp_path: Path) -> None:
    assert BROWSER is not None
    path = tmp_path / "page.html"
    # What a hand would do, done when the page is there.
    move = "const s = document.getElementById('slider'); s.value = 0; s.dispatchEvent(new Event('input'));"
    path.write_text(render(report).replace("</body>", f"<script>{move}</script></body>"), encoding="utf-8")
    command = [BROWSER, *FLAGS, f"--user-data-dir={tmp_path / 'profile'}", "--dump-dom", path.as_uri()]
    done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=120)
    steps = re.search(r'id="steps">(.*?)</script>', done.stdout, re.S)
    assert steps is not None
    told = json.loads(steps[1])
    assert f'id="told">{told["said"][0]}</output>' in done.stdout
    first = re.search(r'id="n0" class="([^"]*)"', done.stdout)
    assert first is not None
    assert first[1].split()[1] == told["nodeClasses"][int(told["nodes"][0][0])]
    assert "<label>time" in done.stdout.replace('<label hidden="">', "<hidden>")
