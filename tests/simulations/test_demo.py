"""The demonstration is the test of the whole: real daemons, real files, real crashes."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

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
