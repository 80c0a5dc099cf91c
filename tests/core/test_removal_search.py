"""Members are removed while the mesh is split and an insider lies: in every history searched the promises hold, and a
weaker rule is caught. ``MESHNODE_HISTORIES=100000`` searches more, with other seeds."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from removal_search import RemovalMesh, broken_promises

from meshnode.core.groups import Group
from meshnode.core.ids import KeyId
from meshnode.core.lineage import Lineage
from meshnode.core.rights import Judgement, LimitLine, Rights

HISTORIES = int(os.environ.get("MESHNODE_HISTORIES", "2000"))
PARTS = 4
HERE = Path(__file__).parent
SEEDS_OF_DEFECTS = range(150)
"""Each is caught in the first 120. That nothing is void, and that an epoch need not know of removals, is so rarely seen
here that stories of their own show it (test_rights.py)."""


@pytest.mark.parametrize("part", range(PARTS))
def test_the_rules_keep_every_promise_in_every_history_searched(part: int):
    """In a process of its own: measuring what it covers would take four times as long as the search."""
    search = f"print(*broken_promises(range({part}, {HISTORIES}, {PARTS})), sep='\\n')"
    path = os.pathsep.join(map(str, (HERE, HERE.parent, HERE.parent.parent)))
    done = subprocess.run(
        [sys.executable, "-c", f"from removal_search import broken_promises; {search}"],
        env={**os.environ, "PYTHONPATH": path},
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.stdout.strip(), done.stderr) == ("", "")


def test_the_search_reaches_what_it_is_for():
    """Writes by those who know that the insider is removed, acts that are void, devices that come back."""
    writes = void = members_again = 0
    for seed in range(60):
        mesh = RemovalMesh(seed)
        mesh.run()
        writes += mesh.removed_writes
        void += any(view.group.rights._now.void for view in mesh.honest.values())
        members_again += any(view.group.is_member(device) for view in mesh.honest.values() for device in mesh.fallen)
    assert writes > 50
    assert min(void, members_again) > 0


class NewestByTime(Group):
    """Planted defect: the valid epoch that claims the latest time is written under."""

    class make_lineage(Lineage):
        def write_key(self) -> KeyId | None:
            valid = [epoch for epoch in self._epochs.values() if epoch.valid]
            return max(valid, key=lambda epoch: RemovalMesh.now.times[epoch.position]).key_id if valid else None


class ForgetsWhoLeft(Group):
    """Planted defect: a removal changes no key. Either half of E2 alone, that a key is tainted by who left and that an
    epoch must know of removals, nearly always hides that the other is gone, so both are."""

    class make_lineage(Lineage):
        def set_members(self, members) -> None:
            super().set_members(self._members | members)
            self._members = frozenset(members)
            self._view = self._wide = None

        def set_removals(self, removals: int) -> None:
            """Forgotten."""


class _WithRights(Group):
    make_rights: type[Rights] = Rights

    def __init__(self, incident) -> None:
        super().__init__(incident)
        self.rights = self.make_rights(lambda index: self._pasts.at(self._kept[index].position))


class AnybodyRemoves(_WithRights):
    """Planted defect: a manager removes whoever it likes, at once (M2 without seniority)."""

    class make_rights(Rights):
        def _is_majority(self, judged: Judgement, line: LimitLine) -> bool:
            return True


@pytest.mark.parametrize(
    ("weaker", "promise"),
    [(NewestByTime, "S1"), (ForgetsWhoLeft, "S1"), (AnybodyRemoves, "S6")],
)
def test_each_weaker_rule_is_caught(weaker: type[Group], promise: str):
    assert any(broken.startswith(promise) for broken in broken_promises(SEEDS_OF_DEFECTS, weaker))
