"""The demonstration is the test of the whole: real daemons, real files, real crashes."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from simulations.demo.__main__ import end_command

REPOSITORY = Path(__file__).parents[2]
TIMEOUT_S = 240


def test_every_check_of_the_demonstration_holds() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "simulations.demo"],
        cwd=REPOSITORY,
        capture_output=True,
        text=True,
        timeout=TIMEOUT_S,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "every check held" in done.stdout
    assert done.stderr == ""


SLOW_TO_END = """
import os, signal, sys
def end(number, frame):
    print("asked", flush=True)
    sys.stdin.readline()
    with open(sys.argv[1] + "/late", "w"):
        sys.exit()
signal.signal(signal.SIGTERM, end)
print("up", flush=True)
while True:
    signal.pause()
"""


def test_the_command_that_ends_it_waits_for_nodes_that_still_write(tmp_path: Path) -> None:
    directory = tmp_path / "a demo"
    directory.mkdir()
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
    with subprocess.Popen([sys.executable, "-c", SLOW_TO_END, directory], **pipes) as node:
        assert node.stdout.readline() == "up\n"
        ending = subprocess.Popen(["sh", "-c", end_command([node.pid], directory)], stderr=subprocess.PIPE, text=True)
        assert node.stdout.readline() == "asked\n"
        assert ending.poll() is None
        assert directory.exists()
        node.stdin.write("\n")
        node.stdin.flush()
        assert ending.communicate(timeout=60) == (None, "")  # before the process was waited for: it is a zombie
    assert ending.returncode == 0
    assert not directory.exists()
