"""``meshnode-sim compare``: two worlds, or two sets of results, side by side."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from simulations import compare, program, runs
from simulations.checks.judge import judge
from simulations.defects import DEFECTS
from simulations.report import swept
from simulations.report.records import Made
from simulations.runs import Result, percentile
from simulations.scenario import reader
from simulations.scenario.draw import draw
from simulations.worlds.protocol import ProtocolWorld

SMALL = """
title = "Small"
story = "A small mesh."
duration_s = 40
[[group]]
name = "nocs"
nocs = ["BE", "NL"]
[[incident]]
name = "attack"
by = "BE"
"""


NOBODY = Made("", "", "", {})


@pytest.fixture
def small(tmp_path: Path) -> Path:
    path = tmp_path / "small.toml"
    path.write_text(SMALL, encoding="utf-8")
    return path


def result(seed: int, *, violated: str = "", after_s: float = 2.0, sent: int = 100) -> Result:
    violations = ((violated, "BE", "so it was"),) if violated else ()
    return Result("small", "protocol", seed, violations, f"{seed}", after_s, 42.0, 0.1, 10, 5, bytes_sent=sent)


def test_one_plan_in_two_worlds_stands_side_by_side(small: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert program.run(["compare", str(small), "--worlds", "protocol,daemon", "--seed", "3"]) == program.HELD
    said = capsys.readouterr().out
    assert "small, seed 3: one plan in 2 worlds" in said
    assert said.splitlines()[1].split() == ["protocol", "daemon"]
    assert "the verdict is the same" in said


def test_a_verdict_that_differs_is_named_and_is_the_exit_code(
    small: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    with DEFECTS["send before commit"].plant():
        bad = runs.run_plan(draw(reader.load(small), 5), ProtocolWorld())
    good = runs.run_plan(draw(reader.load(small), 5), ProtocolWorld())
    assert judge(good[0]).held
    found = compare.of_worlds([good, bad])
    assert not found.same_verdict
    assert any(line.startswith("I1 is violated in protocol alone: BE") for line in found.differences)
    monkeypatch.setattr(compare, "of_worlds", lambda _runs: found)
    assert program.run(["compare", str(small)]) == program.VIOLATED
    assert "THE VERDICTS DIFFER" in capsys.readouterr().out


def test_a_request_that_was_answered_otherwise_is_named_by_its_number(small: Path) -> None:
    plan = draw(reader.load(small), 3)
    one, verdict = runs.run_plan(plan, ProtocolWorld())
    other, _ = runs.run_plan(plan, ProtocolWorld())
    lost = other.acknowledged.pop()
    found = compare.of_worlds([(one, verdict), (other, verdict)])
    assert found.differences == [
        f"request {lost.number} at {lost.node}, {lost.asked_s:.1f} s: acknowledged in protocol, passed over in protocol"
    ]


@pytest.mark.parametrize(
    ("arguments", "reason"),
    [
        (["--worlds", "protocol"], "two different worlds"),
        (["--worlds", "protocol,protocol"], "two different worlds"),
        (["--worlds", "protocol,moon"], "there is no world 'moon'"),
    ],
)
def test_worlds_that_make_no_sense_are_refused(
    small: Path, arguments: list[str], reason: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert program.run(["compare", str(small), *arguments]) == program.SENSELESS
    assert reason in capsys.readouterr().err


def test_results_before_and_after_are_compared_seed_by_seed() -> None:
    before = [result(1), result(2, violated="I9"), result(3, after_s=4.0), result(9)]
    after = [result(1, after_s=4.0, sent=50), result(2), replace(result(3, violated="I2"), digest="x"), result(8)]
    found = compare.of_seeds(
        ("a", "b"), *(swept.places(swept.of_results(rows, NOBODY, {})) for rows in (before, after))
    )
    rows = dict(found.rows)
    assert rows["seeds that both have"][:2] == ("3", "3")
    assert rows["failed, of those"][:2] == ("1", "1")
    # Seed by seed 4/2, 2/2 and 2/4: the median is that of seed 2.
    assert rows["one after the last fault, s: median"] == ("2", "2", "1.00")
    assert rows["one after the last fault, s: most"] == ("4", "4", "1.00")
    assert rows["bytes sent: median"] == ("100", "100", "1.00")
    assert found.differences == [
        "small in protocol, seed 2 was violated and holds: I9",
        "small in protocol, seed 3 held and is violated: I2",
        "another trace in 1 of 3 seeds",
        "2 seeds stand in one of the two alone, and are not compared",
    ]
    assert not found.same_verdict


def test_reports_are_compared_as_results_are(small: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    command = ["--results", str(tmp_path), "--workers", "1"]
    program.run(["run", str(small), "--seeds", "3", *command])
    program.run(["report", str(small), "--seed", "3", "--out", str(tmp_path / "one.html")])
    capsys.readouterr()
    results = str(next(tmp_path.glob("*.jsonl")))
    assert program.run(["compare", results, str(tmp_path / "one.json")]) == program.HELD
    said = capsys.readouterr().out
    rows = [line.split() for line in said.splitlines() if "median" in line]
    assert len(rows) == 6
    assert all(row[-1] == "1.00" and row[-2] == row[-3] for row in rows), said
    assert "nothing differs in kind" in said


def test_files_of_results_are_read(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "before.jsonl"
    path.write_text(result(1).line + "\n", encoding="utf-8")
    assert program.run(["compare", str(path), str(path)]) == program.HELD
    assert "the verdict is the same" in capsys.readouterr().out
    (tmp_path / "empty.jsonl").write_text("{}\n", encoding="utf-8")
    assert program.run(["compare", str(path), str(tmp_path / "empty.jsonl")]) == program.SENSELESS
    assert "holds no results" in capsys.readouterr().err


def test_a_percentile_is_a_value_that_was_measured() -> None:
    assert percentile([], 50) is None
    assert percentile([4.0, 1.0, 3.0, 2.0], 50) == 2.0
    assert percentile([4.0, 1.0, 3.0, 2.0], 99) == 4.0
    assert percentile(list(map(float, range(1, 201))), 99) == 198.0
