"""requirements.lock is what `make setup` installs; pyproject.toml is what people edit. They must say the same."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path

ROOT = Path(__file__).parents[1]
LOCK = (ROOT / "requirements.lock").read_text(encoding="utf-8")
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))


def locked() -> dict[str, str]:
    return dict(re.findall(r"^([a-z0-9-]+)==(\S+) \\$", LOCK, re.MULTILINE))


def wanted() -> dict[str, str]:
    project, build = PROJECT["project"], PROJECT["build-system"]
    every = [*project["dependencies"], *project["optional-dependencies"]["dev"], *build["requires"]]
    pairs = [text.partition("==") for text in every]
    return {name: version for name, _, version in pairs}


def test_every_dependency_is_pinned_and_locked_at_that_version() -> None:
    there = locked()
    assert {name: there.get(name.lower()) for name in wanted()} == wanted(), "run: make lock"


def test_everything_locked_has_hashes() -> None:
    for name, version in locked().items():
        assert re.search(rf"^{re.escape(name)}=={re.escape(version)} \\\n    --hash=sha256:", LOCK, re.MULTILINE), name


def test_the_lock_names_no_registry() -> None:
    assert "://" not in LOCK
    assert not re.search(r"^\s*--(?!hash=)", LOCK, re.MULTILINE)
