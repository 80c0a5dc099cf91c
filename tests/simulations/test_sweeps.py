"""Sweeps: what counts as a result, what a seed leaves that nobody could run, and what a report says of all that."""

from __future__ import annotations

import json
import os
import signal
from collections.abc import Iterator
from dataclasses import replace
from functools import partial
from pathlib import Path

import pytest

from simulations import pool, program, runs, sweep
from simulations.report import files, swept
from simulations.report.made import made_of
from simulations.report.records import SweepReport
from simulations.runs import Result
from simulations.sweep import attempt, begun, finished, harness_failed, results_file
from simulations.worlds.contract import WorldUnavailableError

SMALL = """
title = "Small"
story = "A small mesh."
duration_s = 30
[[group]]
name = "nocs"
nocs = ["BE", "NL"]
[[incident]]
name = "attack"
by = "BE"
"""


@pytest.fixture
def small(tmp_path: Path) -> Path:
    path = tmp_path / "small.toml"
    path.write_text(SMALL, encoding="utf-8")
    return path


def held(seed: int, scenario: str = "small", world: str = "protocol") -> Result:
    return Result(scenario, world, seed, (), "d", 1.0, 30.0, 0.1, 10, 5, code=runs.code_digest(), commit="c")


def run_all(scenario: Path, directory: Path, seeds: range, ran: list[int]) -> list[Result]:
    """A sweep whose runner notes what it was asked for."""

    def runner(_scenario: Path, world: str, missing: Iterator[int]) -> Iterator[Result]:
        for seed in missing:
            ran.append(seed)
            yield held(seed, world=world)

    return sweep.sweep(scenario, "protocol", seeds, runner, lambda *_: None, directory)


def report_of(path: Path) -> SweepReport:
    told = files.read(path)
    assert isinstance(told, SweepReport)
    return told


# --- which lines count ------------------------------------------------------------------------------------------------


def test_lines_of_others_and_damaged_ones_do_not_count_and_block_nothing(small: Path, tmp_path: Path) -> None:
    path = results_file(small, "protocol", tmp_path)
    others = [held(1, world="daemon"), held(2, scenario="other"), replace(held(3), code="before")]
    torn = held(7).line.encode()[:-9]
    rows = [*(row.line.encode() for row in others), b"\xff\xfe no text", b'"text"', b"[]", held(6).line.encode(), torn]
    path.write_bytes(b"\n".join(rows))
    ran: list[int] = []
    results = run_all(small, tmp_path, range(1, 8), ran)
    assert ran == [1, 2, 3, 4, 5, 7]
    assert [row.seed for row in results] == [1, 2, 3, 4, 5, 6, 7]
    run_all(small, tmp_path, range(1, 8), ran := [])
    assert ran == []


class Counting(int):
    """A seed that counts how often it is looked up."""

    looked_up = 0

    def __hash__(self) -> int:
        Counting.looked_up += 1
        return int.__hash__(self)


def test_going_on_is_linear_in_the_seeds(small: Path, tmp_path: Path) -> None:
    path = results_file(small, "protocol", tmp_path)
    path.write_text("".join(held(seed).line + "\n" for seed in range(2_000)), encoding="utf-8")
    seeds = [Counting(seed) for seed in range(2_000)]
    Counting.looked_up = 0
    results = sweep.sweep(small, "protocol", seeds, lambda *_: iter(()), lambda *_: None, tmp_path)
    assert len(results) == 2_000
    assert Counting.looked_up <= 10 * 2_000


# --- a seed that nobody can run ---------------------------------------------------------------------------------------


def _one_kills(scenario: Path, world: str, seed: int) -> Result:
    if seed == 3:
        os.kill(os.getpid(), signal.SIGKILL)
    return held(seed, scenario.stem, world)


def _one_raises(*_given: object) -> Result:
    raise ZeroDivisionError("by a seed")


def test_a_seed_whose_process_dies_is_recorded_and_the_others_go_on(small: Path, tmp_path: Path) -> None:
    def runner(scenario: Path, world: str, missing: Iterator[int]) -> Iterator[Result]:
        return pool.run(_one_kills, partial(sweep._died, scenario, world), scenario, world, missing, 2)

    results = sweep.sweep(small, "protocol", range(1, 8), runner, lambda *_: None, tmp_path)
    assert [row.seed for row in results] == list(range(1, 8))
    (bad,) = [row for row in results if not row.held]
    assert bad.seed == 3
    told = "the harness failed, so this seed says nothing of any node: its process was killed by SIGKILL"
    assert bad.violations == (("I8", "", told),)
    run_all(small, tmp_path, range(1, 8), ran := [])
    assert ran == []


def test_an_exception_out_of_the_harness_costs_its_seed_and_says_where(
    small: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sweep, "one_seed", _one_raises)
    bad = attempt(small, "protocol", 4)
    assert bad.violations[0][2].endswith("ZeroDivisionError: by a seed")
    assert any("_one_raises" in line for line in bad.last[""])
    command = ["run", str(small), "--seeds", "1..2", "--workers", "2", "--results", str(tmp_path)]
    assert program.run([*command, "--report", str(tmp_path / "page.html")]) == program.VIOLATED
    said = capsys.readouterr().out
    assert "2 of 2 seeds: 0 held, 2 failed" in said
    assert f"run {small} --world protocol --seed 1" in said
    assert not report_of(tmp_path / "page.json").held


def test_a_world_that_is_not_here_ends_the_sweep_and_fails_no_seed(
    small: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def unavailable(*_given: object) -> Result:
        raise WorldUnavailableError("not here")

    monkeypatch.setattr(sweep, "one_seed", unavailable)
    with pytest.raises(WorldUnavailableError):
        list(sweep.on_this_machine(2)(small, "protocol", iter([1, 2, 3])))


# --- what a report says -----------------------------------------------------------------------------------------------


def test_a_seed_that_stands_in_two_files_counts_once() -> None:
    rows = [held(1), held(2), held(1), replace(held(1), code="before")]
    one, other = sorted(swept.of_results(rows, made_of(rows, ""), {}).swept, key=lambda row: len(row.seeds))
    assert [row.seed for row in one.seeds] == [1]
    assert one.code == "before"
    assert [row.seed for row in other.seeds] == [1, 2]


def test_where_results_come_from_is_what_their_lines_say() -> None:
    rows = [replace(held(1), code="a", commit="x", versions={"msgspec": "1"}), replace(held(2), code="b", commit="x")]
    told = made_of(rows, "report it")
    assert (told.code, told.commit) == ("a, b", "x")
    assert told.versions == {"msgspec": "1, not recorded"}
    assert made_of([replace(held(1), code="", commit="")], "").code == "not recorded"


def test_every_line_says_what_ran_it(small: Path, tmp_path: Path) -> None:
    program.run(["run", str(small), "--seeds", "1..1", "--workers", "1", "--results", str(tmp_path)])
    path = results_file(small, "protocol", tmp_path)
    line = json.loads(path.read_text(encoding="utf-8").splitlines()[-1])
    assert line["code"] == runs.code_digest()
    assert "msgspec" in line["versions"]
    renamed = tmp_path / "renamed.jsonl"
    renamed.write_text(json.dumps({**line, "code": "0123", "commit": "4567"}) + "\n", encoding="utf-8")
    assert program.run(["report", str(renamed), "--out", str(tmp_path / "r.html")]) == program.HELD
    made = report_of(tmp_path / "r.json").made
    assert (made.code, made.commit) == ("0123", "4567")


def test_only_what_is_wanted_is_counted_and_what_is_not_is_named(
    small: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    small.write_text(SMALL + '[checks]\ninvariants = ["I8"]\n', encoding="utf-8")
    out = tmp_path / "page.html"
    command = ["run", str(small), "--results", str(tmp_path), "--report", str(out)]
    assert program.run([*command, "--seeds", "1..2", "--workers", "1"]) == program.HELD
    said = capsys.readouterr().out
    assert "checked: I8 " in said
    assert "NOT WANTED, so nothing is said of it: I1, I2, " in said
    assert list(report_of(out.with_suffix(".json")).swept[0].asked) == ["I8"]
    assert "Not wanted by the scenario, so nothing is said of it: small: I1, I2, " in out.read_text(encoding="utf-8")
    assert program.run([*command, "--seed", "1"]) == program.HELD
    page = out.read_text(encoding="utf-8")
    assert "1 invariants were asked" in page
    assert "Not wanted, so nothing is said of it: I1, I2, " in page


def test_a_stopped_sweep_has_an_exit_code_and_its_report_says_so(
    small: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def two(scenario: Path, world: str, missing: Iterator[int]) -> Iterator[Result]:
        for _ in range(2):
            yield held(next(missing), scenario.stem, world)

    monkeypatch.setattr(program, "on_this_machine", lambda _workers: two)
    out = tmp_path / "page.html"
    command = ["run", str(small), "--seeds", "1..9", "--results", str(tmp_path)]
    assert program.run([*command, "--report", str(out)]) == program.STOPPED == 4
    assert "2 of 9 seeds: 2 held, 0 failed" in capsys.readouterr().out
    page = out.read_text(encoding="utf-8")
    assert "All seeds held" not in page
    assert "Stopped: 2 of 9 seeds that were wanted were run." in page
    path = results_file(small, "protocol", tmp_path)
    assert begun(path) == {("small", "protocol", runs.code_digest()): set(range(1, 10))}
    assert program.run(["report", str(path), "--out", str(out)]) == program.STOPPED
    assert "2 of 9" in out.read_text(encoding="utf-8")
    bad = harness_failed(small, "protocol", 9, "it fell")
    monkeypatch.setattr(program, "on_this_machine", lambda _workers: lambda *_: iter([bad]))
    assert program.run(command) == program.VIOLATED
    assert len(finished(path)) == 3
