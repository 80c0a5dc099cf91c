"""By what a report was made: the command, the code, the versions of what it ran on."""

from __future__ import annotations

import platform
import re
import subprocess
from importlib import metadata

from simulations.report.records import Made
from simulations.runs import ROOT, code_digest

GIT_TIMEOUT_S = 10.0


def made(command: str) -> Made:
    return Made(command, code_digest(), _commit(), _versions())


def _versions() -> dict[str, str]:
    """Of the node, and of the libraries that it says it needs."""
    found = {"Python": platform.python_version(), "system": f"{platform.system()} {platform.machine()}"}
    try:
        found["meshnode"] = metadata.version("meshnode")
        needed = metadata.requires("meshnode") or []
    except metadata.PackageNotFoundError:
        return found
    for line in sorted(needed):
        name = re.split(r"[^A-Za-z0-9._-]", line, maxsplit=1)[0]
        if "extra ==" not in line:
            found[name] = metadata.version(name)
    return found


def _commit() -> str:
    """Empty where there is no git, or no commit."""
    commit = _git("rev-parse", "--short=12", "HEAD")
    return f"{commit}+" if commit and _git("status", "--porcelain", "--", "meshnode", "simulations") else commit


def _git(*arguments: str) -> str:
    try:
        done = subprocess.run(
            ["git", *arguments], capture_output=True, text=True, check=False, cwd=ROOT, timeout=GIT_TIMEOUT_S
        )
    except (OSError, subprocess.TimeoutExpired):
        return ""
    return done.stdout.strip() if done.returncode == 0 else ""
