"""What tests of daemon processes share: starting one that is to fail, programs around it, and questions to it."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from meshnode.client import ApiError, Client
from simulations.mesh import MESHNODE, Mesh, Node, wait_for

MakeMesh = Callable[..., Mesh]
"""The fixture ``make_mesh``."""
HERE = Path(__file__).parent
END_TIMEOUT_S = 30.0


@dataclass(frozen=True)
class Ended:
    code: int
    said: str


def run_to_end(node: Node, *prefix: str) -> Ended:
    """``meshnode run`` that is to end by itself."""
    done = subprocess.run(
        [*prefix, *MESHNODE, "run", "--config", str(node.config)],
        capture_output=True,
        text=True,
        check=False,
        timeout=END_TIMEOUT_S,
    )
    return Ended(done.returncode, done.stdout + done.stderr)


def altered(what: str, *arguments: object) -> tuple[str, ...]:
    """A prefix for the command line of a daemon: the same program with one thing about its machine altered."""
    return (sys.executable, str(HERE / "altered.py"), what, *map(str, arguments))


def fill(directory: Path) -> Path:
    """Takes all room there is on the disk of a directory; the file to remove to give it back."""
    filler = directory / "filler"
    with filler.open("wb", buffering=0) as file:
        for size in (1 << 16, 1):
            try:
                while True:
                    file.write(bytes(size))
            except OSError:
                continue
    return filler


def refusal_of(node: Node, incident: str, text: str = "refused?") -> ApiError | None:
    """The error a write is refused with, or None when it was acknowledged."""
    with node.client() as client:
        try:
            client.append_log(incident, text)
        except ApiError as error:
            return error
    return None


def texts(node: Node, incident: str) -> list[str]:
    """Texts of the log book, in display order."""
    found: list[str] = []
    with node.client() as client:
        after = ""
        while True:
            page = client.log(incident, after=after, limit=100)
            found += [record.record["text"] for record in page.items]
            after = page.next
            if not after:
                return found


def digest(node: Node, incident: str) -> str:
    with node.client() as client:
        return client.digest(incident).digest


def degraded(node: Node) -> list[str]:
    with node.client() as client:
        return [shown.code for shown in client.node().degraded]


def refusals(node: Node) -> dict[str, int]:
    with node.client() as client:
        return client.node().refusals


def log_codes(node: Node) -> list[str]:
    """Codes of the lines in the log of a node, in order. Lines that are not of ours (a traceback) are left out."""
    codes = []
    for line in node.log.read_text("utf-8", "replace").splitlines():
        words = line.split(" ")
        if len(words) > 3 and words[0].endswith("Z") and words[2].endswith(":"):
            codes.append(words[2][:-1])
    return codes


def wait_holds(nodes: Sequence[Node], incident: str, expected: set[str], timeout_s: float = 30.0) -> None:
    """All of them show these records, and the same state."""

    def holds() -> bool:
        try:
            return all(set(texts(node, incident)) == expected for node in nodes) and (
                len({digest(node, incident) for node in nodes}) == 1
            )
        except ApiError as error:
            if error.code in ("unknown-incident", "not-a-member", "store-row-damaged"):
                return False  # not yet, or not yet again
            raise

    wait_for(holds, timeout_s, f"{len(expected)} records at {', '.join(node.noc for node in nodes)}")


def ask_raw(client: Client, target: str) -> dict[str, object]:
    answer: dict[str, object] = json.loads(client._ask("GET", target, None).body)
    return answer
