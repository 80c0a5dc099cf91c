"""Sweeps on a real Dask scheduler with two real worker processes on this machine, and without any."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from simulations import runs
from simulations.sweep import finished, results_file

SMALL = """
title = "Small"
story = "A small mesh."
duration_s = {duration_s}
[[group]]
name = "nocs"
nocs = ["BE", "NL"]
[[incident]]
name = "attack"
by = "BE"
[[random]]
verb = "crash"
per_hour = 60
"""
TIMEOUT_S = 120
_WORKER = ("--nthreads", "1", "--no-dashboard", "--no-nanny", "--local-directory")


class Process:
    """A process whose lines are waited for."""

    def __init__(self, *arguments: str, cwd: Path = runs.ROOT) -> None:
        self.process = subprocess.Popen(
            [sys.executable, "-m", *arguments],
            cwd=cwd,
            env={**os.environ, "PYTHONPATH": str(cwd), "PYTHONUNBUFFERED": "1", "PYTHONWARNINGS": "ignore"},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        self.lines: list[str] = []
        self._watchdog = threading.Timer(TIMEOUT_S, self.process.kill)
        self._watchdog.start()

    def wait_for(self, pattern: str) -> re.Match[str]:
        assert self.process.stdout is not None
        for line in self.process.stdout:
            self.lines.append(line)
            if found := re.search(pattern, line):
                return found
        raise AssertionError(f"{pattern!r} never came: {''.join(self.lines)[-3000:]}")

    def end(self, how: int = signal.SIGKILL) -> None:
        """Returns when it is gone."""
        if self.process.poll() is None:
            self.process.send_signal(how)
        assert self.process.stdout is not None
        if not self.process.stdout.closed:
            self.lines += self.process.communicate()[0].splitlines(keepends=True)
        self._watchdog.cancel()

    @property
    def text(self) -> str:
        return "".join(self.lines)


class Cluster:
    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._processes: list[Process] = []
        scheduler = ("distributed.cli.dask_scheduler", "--host", "127.0.0.1", "--port", "0", "--no-dashboard")
        self.address = self.start(*scheduler).wait_for(r"Scheduler at:\s+(tcp://127\.0\.0\.1:\d+)")[1]

    def start(self, *arguments: str, cwd: Path = runs.ROOT) -> Process:
        self._processes.append(Process(*arguments, cwd=cwd))
        return self._processes[-1]

    def worker(self, cwd: Path = runs.ROOT) -> Process:
        arguments = ("distributed.cli.dask_worker", self.address, *_WORKER, str(self._directory))
        worker = self.start(*arguments, "--host", "127.0.0.1", cwd=cwd)
        worker.wait_for(r"Registered to:")
        return worker

    def sweep(self, scenario: Path, seeds: str, results: Path) -> Process:
        run = ("simulations", "run", str(scenario), "--seeds", seeds, "--results", str(results))
        return self.start(*run, "--dask", self.address)

    def close(self) -> None:
        for process in reversed(self._processes):
            process.end()


@pytest.fixture
def cluster(tmp_path: Path) -> Iterator[Cluster]:
    cluster = Cluster(tmp_path / "workers")
    yield cluster
    cluster.close()


@pytest.fixture
def scenario(tmp_path: Path) -> Path:
    path = tmp_path / "small.toml"
    path.write_text(SMALL.format(duration_s=60), encoding="utf-8")
    return path


def results_in(scenario: Path, directory: Path) -> dict[int, dict[str, object]]:
    """What is kept of each seed, less what it took on this machine."""
    kept = finished(results_file(scenario, "protocol", directory))
    return {seed: {**json.loads(result.line), "wall_s": 0} for seed, result in sorted(kept.items())}


def test_two_workers_give_what_one_process_gives_seed_for_seed_and_one_that_is_killed_loses_no_seed(
    cluster: Cluster, scenario: Path, tmp_path: Path
) -> None:
    first, _ = cluster.worker(), cluster.worker()
    sweep = cluster.sweep(scenario, "1..12", tmp_path / "there")
    results = results_file(scenario, "protocol", tmp_path / "there")
    first.wait_for("simulations ran a seed")
    first.end(signal.SIGKILL)
    sweep.process.wait()
    sweep.end()
    assert "12 of 12 seeds: 12 held, 0 failed" in sweep.text, sweep.text
    assert results.is_file()
    here = Process(
        "simulations", "run", str(scenario), "--seeds", "1..12", "--workers", "1", "--results", str(tmp_path)
    )
    here.process.wait()
    here.end()
    assert results_in(scenario, tmp_path / "there") == results_in(scenario, tmp_path)
    assert len(results_in(scenario, tmp_path)) == 12


def test_ctrl_c_keeps_what_is_finished_and_the_same_command_goes_on(
    cluster: Cluster, scenario: Path, tmp_path: Path
) -> None:
    worker = cluster.worker()
    sweep = cluster.sweep(scenario, "1..200", tmp_path)
    worker.wait_for("simulations ran a seed")
    worker.wait_for("simulations ran a seed")
    sweep.process.send_signal(signal.SIGINT)
    sweep.process.wait()
    sweep.end()
    kept = results_in(scenario, tmp_path)
    assert 0 < len(kept) < 200, sweep.text
    assert "the same command goes on where it was" in sweep.text
    some = f"1..{max(kept) + 1}"
    again = cluster.sweep(scenario, some, tmp_path)
    again.process.wait()
    again.end()
    assert set(range(1, max(kept) + 2)) <= results_in(scenario, tmp_path).keys(), again.text
    assert {seed: results_in(scenario, tmp_path)[seed] for seed in kept} == kept


def test_a_worker_with_other_code_is_refused_with_the_reason(cluster: Cluster, scenario: Path, tmp_path: Path) -> None:
    tree = tmp_path / "tree"
    for folder in ("meshnode", "simulations"):
        shutil.copytree(runs.ROOT / folder, tree / folder, ignore=shutil.ignore_patterns("__pycache__"))
    (tree / "simulations" / "extra.py").write_text("", encoding="utf-8")
    cluster.worker(cwd=tree)
    sweep = cluster.sweep(scenario, "1..3", tmp_path)
    assert sweep.process.wait() == 3
    sweep.end()
    assert re.search(r"worker tcp://\S+ has other code \([0-9a-f]{12}\) than this tree", sweep.text)
    assert "Traceback" not in sweep.text


def test_without_a_scheduler_and_without_the_extra_it_says_what_to_do(scenario: Path, tmp_path: Path) -> None:
    command = ["run", str(scenario), "--seeds", "1..3", "--results", str(tmp_path), "--dask"]
    script = "import sys\nsys.modules['distributed'] = None\nfrom simulations.program import main\nmain(sys.argv[1:])"
    done = subprocess.run(
        [sys.executable, "-c", script, *command, "tcp://127.0.0.1:9"], capture_output=True, text=True, cwd=runs.ROOT
    )
    assert done.returncode == 3
    assert "pip install 'meshnode[cluster]'" in done.stderr
    done = subprocess.run(
        [sys.executable, "-m", "simulations", "run", str(scenario), "--seed", "1", "--dask", "tcp://127.0.0.1:9"],
        capture_output=True,
        text=True,
        cwd=runs.ROOT,
    )
    assert done.returncode == 2
    assert "add --seeds A..B" in done.stderr
