"""The verifier in another language, which follows the prose, agrees with every vector."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from pathlib import Path

import pytest
from vector_case import VECTORS, read_cases

VERIFIER = VECTORS.parent / "verifier"
INSTALL_TIMEOUT_S = 120
VERIFY_TIMEOUT_S = 120

NODE, NPM = shutil.which("node"), shutil.which("npm")


@pytest.fixture(scope="module")
def node(tmp_path_factory: pytest.TempPathFactory) -> str:
    """The verifier with its libraries in a folder of its own; ``node verify.js`` works there."""
    if NODE is None or NPM is None:
        pytest.skip("node and npm are not installed: the vectors are checked by the Python code only")
    version = subprocess.run([NODE, "--version"], capture_output=True, text=True, timeout=30, check=True).stdout
    if int(version.lstrip("v").split(".")[0]) < 20:
        pytest.skip(f"the verifier needs node 20 or newer, here is {version.strip()}")
    folder = tmp_path_factory.mktemp("verifier")
    for path in [*VERIFIER.glob("*.js"), *VERIFIER.glob("package*.json")]:
        shutil.copy(path, folder)
    command = [NPM, "ci", "--no-audit", "--no-fund", "--ignore-scripts", "--fetch-retries", "1"]
    try:
        done = subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=INSTALL_TIMEOUT_S)
    except subprocess.TimeoutExpired:
        pytest.skip(f"npm ci did not end within {INSTALL_TIMEOUT_S} s: the registry is not reachable")
    if done.returncode != 0 and _is_unreachable(done.stderr):
        pytest.skip(f"npm cannot reach its registry: {done.stderr.strip().splitlines()[-1]}")
    assert done.returncode == 0, done.stderr
    return str(folder)


def _is_unreachable(text: str) -> bool:
    codes = r"ENOTFOUND|EAI_AGAIN|ECONNREFUSED|ECONNRESET|ETIMEDOUT|ENETUNREACH|E40[34]|E50[0-9]"
    return re.search(codes, text) is not None


def verify(folder: str, vectors: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [str(NODE), "verify.js", str(vectors)], cwd=folder, capture_output=True, text=True, timeout=VERIFY_TIMEOUT_S
    )


def test_the_verifier_agrees_with_every_vector(node: str):
    done = verify(node, VECTORS)
    assert done.returncode == 0, done.stderr
    summary = json.loads(done.stdout)
    assert (summary["vectors"], summary["failed"]) == (len(read_cases()), 0)


def test_the_verifier_notices_a_vector_that_is_wrong(node: str, tmp_path: Path):
    wrong = json.loads((VECTORS / "key-id" / "of-an-epoch-key.json").read_text(encoding="utf-8"))
    wrong["expect"]["ok"]["key_id"] = "00" * 32
    (tmp_path / "key-id").mkdir()
    (tmp_path / "key-id" / "wrong.json").write_text(json.dumps(wrong))
    done = verify(node, tmp_path)
    assert done.returncode == 1
    assert json.loads(done.stdout)["failed"] == 1


def test_the_lock_file_names_no_registry_and_pins_every_package():
    packages = json.loads((VERIFIER / "package-lock.json").read_text(encoding="utf-8"))["packages"]
    assert all("integrity" in package for name, package in packages.items() if name)
    assert not any("resolved" in package for package in packages.values())
