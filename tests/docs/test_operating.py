"""The commands of docs/operating.md, word for word, against real processes.

Two things are replaced, because a test may not take them: the UDP address of the manual, and `meshnode` by this tree's.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from manuals import ROOT

from simulations.mesh import free_port, wait_for

MANUAL = ROOT / "docs" / "operating.md"
LISTEN = "0.0.0.0:7411"
RUN = "meshnode run --config be-1.toml"


def blocks(heading: str) -> list[str]:
    """The code blocks of one section."""
    section = re.search(rf"^## {re.escape(heading)}\n(.*?)(?=^## |\Z)", MANUAL.read_text("utf-8"), re.M | re.S)
    assert section is not None, heading
    return re.findall(r"^```\w+\n(.*?)^```", section[1], re.M | re.S)


class Desk:
    """A shell in a directory of its own, and the daemon that was started there."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        programs = directory / "bin"
        programs.mkdir()
        program = programs / "meshnode"
        program.write_text(f'#!/bin/sh\nexec "{sys.executable}" -m meshnode "$@"\n')
        program.chmod(0o755)
        self.environment = {
            "PATH": f"{programs}:{os.environ['PATH']}",
            "PYTHONPATH": str(ROOT),
            "HOME": str(directory),
        }

    def type(self, text: str) -> str:
        done = subprocess.run(
            ["bash", "-euo", "pipefail", "-c", text],
            cwd=self.directory,
            env=self.environment,
            capture_output=True,
            text=True,
            timeout=60,
        )
        assert done.returncode == 0, f"{text}\n{done.stdout}{done.stderr}"
        return done.stdout

    @contextmanager
    def running(self, command: str) -> Iterator[None]:
        """The daemon, from the line that says that it serves until SIGTERM has ended it with exit code 0."""
        log = self.directory / "log"
        with log.open("wb") as lines:
            daemon = subprocess.Popen(
                ["bash", "-c", f"exec {command}"], cwd=self.directory, env=self.environment, stderr=lines
            )
        try:
            wait_for(lambda: daemon.poll() is not None or " serving: BE/be-1 " in log.read_text("utf-8"), 30, "serving")
            assert daemon.poll() is None, log.read_text("utf-8")
            yield
        finally:
            daemon.terminate()
            code = daemon.wait(20)
        assert code == 0, log.read_text("utf-8")


@pytest.fixture(scope="module")
def desk(tmp_path_factory: pytest.TempPathFactory) -> Desk:
    """After the enrolment of the manual."""
    desk = Desk(tmp_path_factory.mktemp("noc"))
    for block in blocks("Enrol a node"):
        shown = desk.type(block)
    assert re.search(r"^noc +BE\n", shown, re.M)
    assert re.search(r"^valid +yes\n", shown, re.M)
    config, check_and_run, _ = blocks("First start")
    assert LISTEN in config
    (desk.directory / "be-1.toml").write_text(config.replace(LISTEN, f"127.0.0.1:{free_port()}"))
    check, run = check_and_run.splitlines()
    assert run == RUN
    desk.type(check)
    return desk


def test_a_node_is_enrolled_started_asked_and_stopped_as_the_manual_says(desk: Desk) -> None:
    with desk.running(RUN):
        shown = desk.type(blocks("First start")[2])
    for words in (r"^node +BE/be-1\n", r"^peers +0 connected of 0 known\n", r"^opened [0-9a-f]{32}\n"):
        assert re.search(words, shown, re.M), shown
    assert "Test of the first node" in shown.splitlines()[-1]


def test_a_back_up_is_made_and_brought_back_as_the_manual_says(desk: Desk) -> None:
    titles = "meshnode incident list --config be-1.toml"
    open_one = "meshnode incident open --config be-1.toml --kind other --title"
    save, bring_back = blocks("Back up and restore")
    with desk.running(RUN):
        desk.type(f"{open_one} before")
    desk.type(save)
    with desk.running(RUN):
        desk.type(f"{open_one} after")
        seen = re.search(r"^journal +(\S+)", desk.type("meshnode status --config be-1.toml"), re.M)
        assert seen is not None
    desk.type(bring_back)
    with desk.running(RUN):
        shown = desk.type(titles)
        assert "before" in shown
        assert "after" not in shown
        for title in ("again", "and again"):  # the journal is longer than it was
            desk.type(f"{open_one} '{title}'")
        refused = desk.type(f"! meshnode incident watch --config be-1.toml --after {seen[1]} --count 1 2>&1")
        assert f"the journal has another past there, so {seen[1]} is not of it" in refused
        assert "DEGRADED" not in desk.type("meshnode status --config be-1.toml")
    with desk.running(RUN):
        assert "again" in desk.type(titles)
