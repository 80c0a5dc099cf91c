"""``meshnode-sim``: what people type, and what they are told."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from simulations import program, proofs, runs, sweep
from simulations.defects import DEFECTS
from simulations.scenario.draw import draw
from simulations.scenario.plan import to_plain
from simulations.sweep import finished, results_file
from simulations.worlds import work

SMALL = """
title = "Small"
story = "A small mesh."
duration_s = 60
[[group]]
name = "nocs"
nocs = ["BE", "NL"]
[[incident]]
name = "attack"
by = "BE"
"""
TIMEOUT_S = 120


@pytest.fixture
def small(tmp_path: Path) -> Path:
    path = tmp_path / "small.toml"
    path.write_text(SMALL, encoding="utf-8")
    return path


def test_run_says_what_was_checked_and_that_it_held(
    small: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert program.run(["run", str(small), "--seed", "3", "--results", str(tmp_path)]) == program.HELD
    said = capsys.readouterr().out
    assert "small in protocol, seed 3: held" in said
    assert "checked: I1 " in said


def test_a_sweep_with_workers_sums_up_and_a_second_runs_nothing(
    small: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    command = ["run", str(small), "--seeds", "1..4", "--workers", "2", "--results", str(tmp_path)]
    assert program.run(command) == program.HELD
    assert "4 of 4 seeds: 4 held, 0 failed" in capsys.readouterr().out
    before = results_file(small, "protocol", tmp_path).read_bytes()
    assert program.run(command) == program.HELD
    assert results_file(small, "protocol", tmp_path).read_bytes() == before


def test_one_seed_in_a_hundred_is_run_a_second_time(small: Path, tmp_path: Path) -> None:
    program.run(["run", str(small), "--seeds", "99..100", "--workers", "1", "--results", str(tmp_path)])
    asked = {seed: row.asked.get("I15", 0) for seed, row in finished(results_file(small, "protocol", tmp_path)).items()}
    assert asked == {99: 0, 100: 1}


def test_a_failure_prints_seed_options_events_and_the_command_that_shows_it_again(
    small: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with DEFECTS["send before commit"].plant():
        code = program.run(["run", str(small), "--seed", "5", "--results", str(tmp_path)])
        said = capsys.readouterr().out
        assert code == program.VIOLATED
        assert "seed 5: VIOLATED" in said
        assert "I1 BE: at " in said
        assert '"transport"' in said
        assert "last events at BE" in said
        assert f"python -m simulations run {small} --world protocol --seed 5" in said
        saved = tmp_path / "failures" / "small-protocol-5.json"
        assert program.run(["replay", str(saved)]) == program.VIOLATED
        assert "the same trace as when it was saved" in capsys.readouterr().out
        assert program.run(["shrink", str(saved), "--tries", "20"]) == program.VIOLATED
        assert "actions shrunk to 1" in capsys.readouterr().out
    content = json.loads(saved.read_text(encoding="utf-8"))
    saved.write_text(json.dumps({**content, "code": "before"}), encoding="utf-8")
    assert program.run(["replay", str(saved)]) == program.HELD
    assert "another trace than when it was saved: the code is another" in capsys.readouterr().out


def test_what_only_a_second_run_shows_is_seen_again_by_replay_and_shrink(
    small: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """The trace here is never the one of a fresh process, which is not patched."""
    saved = tmp_path / "failures" / "small-protocol-100.json"
    with monkeypatch.context() as patched:
        patched.setattr(work, "KIND", "flood")
        command = ["run", str(small), "--seeds", "100..100", "--workers", "1", "--results", str(tmp_path)]
        assert program.run(command) == program.VIOLATED
        assert "I15 mesh: the same seed gave another trace in another process" in capsys.readouterr().out
        assert program.run(["run", str(small), "--seed", "100", "--results", str(tmp_path)]) == program.VIOLATED
        capsys.readouterr()
        assert program.run(["replay", str(saved)]) == program.VIOLATED
        assert "I15 mesh: the same seed gave another trace in another process" in capsys.readouterr().out
        assert program.run(["shrink", str(saved), "--tries", "2"]) == program.VIOLATED
        assert "in 2 tries" in capsys.readouterr().out
    assert program.run(["replay", str(saved)]) == program.VIOLATED
    assert "I15 mesh: the same code and plan left another trace when this was saved" in capsys.readouterr().out


def test_only_what_the_scenario_wants_is_proved_by_second_runs(small: Path) -> None:
    plan = draw(runs.load_scenario(str(small)), 100)
    assert proofs.due(plan, "protocol") == {"I13", "I15"}
    assert proofs.due(replace(plan, invariants=("I8", "I15")), "protocol") == {"I15"}
    assert proofs.due(replace(plan, seed=25), "protocol") == {"I13"}
    assert proofs.due(plan, "daemon") == frozenset()


def test_what_is_senseless_is_refused_with_line_and_advice(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "odd.toml"
    path.write_text(SMALL.replace("duration_s", "duration_ms"), encoding="utf-8")
    assert program.run(["run", str(path)]) == program.SENSELESS
    said = capsys.readouterr().err
    assert "odd.toml, line 4" in said
    assert "write duration_s" in said
    assert program.run(["run", "no-such-scenario"]) == program.SENSELESS
    assert program.run(["replay", str(path)]) == program.SENSELESS


def test_the_kind_of_signature_can_be_chosen_for_one_seed(small: Path, capsys: pytest.CaptureFixture[str]) -> None:
    digests = []
    for kind in ("real", "cheap", "cheap"):
        assert program.run(["run", str(small), "--seed", "3", "--crypto", kind, "--digest"]) == program.HELD
        digests.append(capsys.readouterr().out)
    assert digests[0] != digests[1] == digests[2]
    assert program.run(["run", str(small), "--seeds", "1..2", "--crypto", "real"]) == program.SENSELESS
    assert "each seed draws its own" in capsys.readouterr().err


def test_speed_measures_meshes_beside_a_toy(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "speed.json"
    arguments = ["speed", "--nodes", "5", "--seconds", "95", "--crypto", "cheap", "--json", str(file)]
    assert program.run(arguments) == program.HELD
    load, titles, row = capsys.readouterr().out.splitlines()
    assert load.startswith("load average ")
    assert "toy/node" in titles
    assert "random" in row
    (figures,) = json.loads(file.read_text(encoding="utf-8"))
    assert figures["written"] == 5
    assert figures["events"] > 500
    assert program.run(["speed", "--nodes", "2"]) == program.SENSELESS
    assert program.run(["speed", "--nodes", "5", "--seconds", "90"]) == program.SENSELESS


def test_a_world_that_a_scenario_is_not_for_is_refused(small: Path, capsys: pytest.CaptureFixture[str]) -> None:
    small.write_text('worlds = ["lab"]\n' + SMALL, encoding="utf-8")
    assert program.run(["run", str(small)]) == program.SENSELESS
    assert "is for lab" in capsys.readouterr().err


def test_a_sweep_that_never_reached_what_it_must_fails(
    small: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    small.write_text(SMALL + '[checks]\nsometimes = ["disk full"]\n', encoding="utf-8")
    command = ["run", str(small), "--seeds", "1..2", "--workers", "1", "--results", str(tmp_path)]
    assert program.run(command) == program.HELD
    monkeypatch.setattr(sweep, "SOMETIMES_SEEDS_MIN", 2)
    assert program.run(command) == program.VIOLATED


def test_a_soak_goes_through_the_scenarios_and_ends_in_time(
    small: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(runs, "SCENARIOS", small.parent)
    monkeypatch.setattr(program, "SOAK_SEEDS", 2)
    command = ["soak", "--hours", "0.00001", "--workers", "1", "--results", str(tmp_path)]
    assert program.run(command) == program.HELD
    assert "2 seeds, 0 failed" in capsys.readouterr().out


def test_list_and_explain_know_every_shipped_scenario(capsys: pytest.CaptureFixture[str]) -> None:
    assert program.run(["list"]) == program.HELD
    names = [line.split()[0] for line in capsys.readouterr().out.splitlines()]
    shipped = [*runs.SCENARIOS.glob("*.toml"), *runs.SCENARIOS.glob("alike/*.toml")]
    assert sorted(names) == sorted(str(path.relative_to(runs.SCENARIOS).with_suffix("")) for path in shipped)
    assert program.run(["explain", names[0], "--seed", "1"]) == program.HELD
    assert "seed 1: links as" in capsys.readouterr().out


def test_ctrl_c_stops_a_sweep_cleanly_and_keeps_what_is_finished(small: Path, tmp_path: Path) -> None:
    command = [sys.executable, "-m", "simulations", "run", str(small), "--seeds", "1..100000", "--workers", "2"]
    process = subprocess.Popen(
        [*command, "--results", str(tmp_path)], stdout=subprocess.PIPE, text=True, start_new_session=True, cwd=runs.ROOT
    )
    path = results_file(small, "protocol", tmp_path)
    wait_for_lines(path, 4, process)  # the first says what is wanted
    os.killpg(process.pid, signal.SIGINT)  # as a terminal does it: to everybody
    said, _ = process.communicate(timeout=TIMEOUT_S)
    assert process.returncode == program.STOPPED
    assert "stopped; the same command goes on where it was" in said
    kept = finished(path)
    assert len(kept) >= 3
    assert f"{len(kept)} of 100000 seeds" in said
    assert sorted(kept) == list(range(1, len(kept) + 1))


def wait_for_lines(path: Path, lines: int, process: subprocess.Popen[str]) -> None:
    """Reads the file until it has so many lines: the process reports in no other way."""
    while not path.is_file() or path.read_bytes().count(b"\n") < lines:
        assert process.poll() is None
        os.sched_yield()


def test_a_plan_is_json(small: Path) -> None:
    outcome, _ = runs.run_seed(runs.load_scenario(str(small)), 1, "protocol")
    assert json.loads(json.dumps(to_plain(outcome.plan)))["seed"] == 1


def test_the_exit_code_is_the_verdict_s_also_when_nobody_reads_what_is_said(small: Path, tmp_path: Path) -> None:
    small.write_text(f"{SMALL}[checks]\nqueue_frames_max = 1\n", encoding="utf-8")
    read, written = os.pipe()
    os.close(read)  # as `head` leaves it
    command = [sys.executable, "-m", "simulations", "run", str(small), "--results", str(tmp_path)]
    with os.fdopen(written, "wb") as nobody:
        done = subprocess.run(command, stdout=nobody, stderr=subprocess.PIPE, check=False, cwd=runs.ROOT)
    assert (done.returncode, done.stderr) == (program.VIOLATED, b"")
