"""SIGKILL at random moments, ``MESHNODE_KILLS`` times: nothing that was acknowledged is ever lost.

One daemon with its real store on a real disk, and several local clients that write as fast as they are answered. Each
life ends by SIGKILL at a seeded random moment: in the middle of writes, or of the start itself. The next life must show
every write that any life before it acknowledged. A failure prints the seed and the number of the life.
"""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from processes import MakeMesh, digest, refusals, texts, wait_holds
from writers import Writers

from meshnode.client import ApiError
from simulations.mesh import Mesh, Node, tail, wait_for

KILLS = int(os.environ.get("MESHNODE_KILLS", "200"))
SEED = int(os.environ.get("MESHNODE_SEED", "20261"))
WRITERS = 3
WRITING_S = (0.005, 0.06)
"""From the first acknowledged write of a life to its end."""
STARTING_S = 0.08
"""A life that is killed at its start gets up to this long."""
STARTS_KILLED = 0.2
"""Share of lives that are killed while they start."""
LOOK_BACK_EVERY = 10
"""After each life its own writes are looked for; after every tenth those of all lives, and at the end."""
PAGE = 1_000
"""Largest page of the log book; no life here writes as many."""


class Lives:
    """Starts lives of one node, one after the other."""

    def __init__(self, node: Node) -> None:
        self._node = node
        program = str(Path(__file__).with_name("lives.py"))
        self._launcher = subprocess.Popen(
            [sys.executable, program, str(node.config), str(node.log)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )

    def begin(self) -> int:
        assert self._launcher.stdin is not None
        self._launcher.stdin.write("\n")
        self._launcher.stdin.flush()
        return int(self._said())

    def kill(self, life: int) -> None:
        os.kill(life, signal.SIGKILL)
        assert self._said() == "ended"

    def wait_serving(self) -> None:
        def serves() -> bool:
            try:
                with self._node.client(5.0) as client:
                    client.node()
            except ApiError:
                return False
            return True

        wait_for(serves, 20.0, f"the daemon serves:\n{tail(self._node.log)}")

    def close(self) -> None:
        self._launcher.kill()
        self._launcher.wait()
        for pipe in (self._launcher.stdin, self._launcher.stdout):
            assert pipe is not None
            pipe.close()

    def _said(self) -> str:
        assert self._launcher.stdout is not None
        return self._launcher.stdout.readline().strip()


@contextmanager
def lives_of(node: Node) -> Iterator[Lives]:
    lives = Lives(node)
    try:
        yield lives
    finally:
        lives.close()


def newest(node: Node, incident: str, count: int) -> set[str]:
    with node.client() as client:
        page = client.log(incident, limit=min(count, PAGE), order="newest")
    return {record.record["text"] for record in page.items}


def test_what_was_acknowledged_survives_every_kill(make_mesh: MakeMesh) -> None:
    node = make_mesh("BE")["BE"]
    chance = random.Random(SEED)
    acknowledged: set[str] = set()
    in_doubt = 0
    lost: dict[int, set[str]] = {}
    kills = number = 0
    with lives_of(node) as lives:
        life = lives.begin()
        lives.wait_serving()
        with node.client() as client:
            incident = client.open_incident("other", {"title": "killed again and again"}).incident
        begun = time.monotonic()
        while kills < KILLS:
            number += 1
            written: set[str] = set()
            if chance.random() < STARTS_KILLED:
                lives.kill(life)
                life = lives.begin()
                time_to_live(chance.uniform(0.0, STARTING_S))
                lives.kill(life)
                kills += 2
            else:
                with Writers(str(node.socket), incident, WRITERS) as writers:
                    writers.wait_acknowledged(1)
                    time_to_live(chance.uniform(*WRITING_S))
                    lives.kill(life)
                kills += 1
                written = writers.acknowledged
                acknowledged |= written
                in_doubt += len(writers.errors)
            life = lives.begin()
            lives.wait_serving()
            missing = written - newest(node, incident, len(written) + 2 * WRITERS)
            if number % LOOK_BACK_EVERY == 0:
                missing |= acknowledged - set(texts(node, incident))
            if missing:
                lost[number] = missing
                break
        seconds = time.monotonic() - begun
        found = texts(node, incident)
        assert not lost, f"MESHNODE_SEED={SEED}: life {min(lost)} lost {len(lost[min(lost)])} acknowledged writes"
        assert acknowledged <= set(found)
        assert len(found) == len(set(found))
        # Beyond what was acknowledged there are at most the writes that nobody was answered about.
        assert len(found) <= len(acknowledged) + in_doubt
        assert not {"store-row-damaged", "log-forked"} & set(refusals(node))
        lives.kill(life)
    assert "Traceback" not in node.log.read_text()
    print(f"{kills} kills in {seconds:.0f} s, {len(acknowledged)} acknowledged writes")


def time_to_live(seconds: float) -> None:
    """Real time, because it is a real process that is killed at a random moment of it."""
    threading.Event().wait(seconds)


def test_a_member_that_is_killed_in_the_middle_of_everything_catches_up_and_lost_nothing(make_mesh: MakeMesh) -> None:
    mesh: Mesh = make_mesh("BE", "NL")
    mesh.start_all()
    mesh.wait_linked()
    be, nl = mesh["BE"], mesh["NL"]
    with be.client() as client:
        incident = client.open_incident("other", {"title": "killed"}, share_with=["NL"]).incident
    wait_holds([be, nl], incident, set())
    acknowledged: set[str] = set()
    for victim in (nl, be, nl):
        with Writers(str(be.socket), incident, 2) as at_be, Writers(str(nl.socket), incident, 2) as at_nl:
            at_be.wait_acknowledged(30)
            at_nl.wait_acknowledged(30)
            victim.kill()
        acknowledged |= at_be.acknowledged | at_nl.acknowledged
        mesh.start(victim)
    wait_for(lambda: digest(be, incident) == digest(nl, incident), 30.0, "both show the same state")
    assert acknowledged <= set(texts(be, incident))
    assert acknowledged <= set(texts(nl, incident))
