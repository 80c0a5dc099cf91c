"""Where a result comes from: the state of the tree under git, and the versions of what it ran on."""

from __future__ import annotations

import platform
import re
import subprocess
from functools import lru_cache
from importlib import metadata
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
GIT_TIMEOUT_S = 10.0


@lru_cache(maxsize=1)
def versions() -> dict[str, str]:
    """Of the node, of the libraries that it says it needs, of Python and of the system's kind."""
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


@lru_cache(maxsize=1)
def commit() -> str:
    """With ``+`` behind it when files were changed since. Empty where there is no git, or no commit."""
    found = _git("rev-parse", "--short=12", "HEAD")
    return f"{found}+" if found and _git("status", "--porcelain", "--", "meshnode", "simulations") else found


def _git(*arguments: str) -> str:
    try:
        done = subprocess.run(
            ["git", *arguments], capture_output=True, text=True, check=False, cwd=ROOT, timeout=GIT_TIMEOUT_S
        )
    except (OSError, subprocess.TimeoutExpired):
        return ""
    return done.stdout.strip() if done.returncode == 0 else ""
