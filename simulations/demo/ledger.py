"""Everything that was acknowledged, and whether a member still has it.

An acknowledged write is a value id that the daemon gave for it. A member has it when its history tells that id: the
same question, whatever was written and whoever wrote it.
"""

from __future__ import annotations

import threading
from collections.abc import Iterable, Sequence

from meshnode.api.records import ChangeRequest, WrittenView
from meshnode.client import Client
from simulations.mesh import Mesh, wait_for

PAGE = 1_000
MERGE_TIMEOUT_S = 30.0


class Ledger:
    """Writes to one incident through the daemons' own API, and remembers every acknowledgement. For any thread."""

    def __init__(self, mesh: Mesh, incident: str) -> None:
        self._mesh = mesh
        self.incident = incident
        self.acknowledged: dict[str, str] = {}
        """Value id -> NOC whose daemon acknowledged it."""
        self._lock = threading.Lock()

    def write(self, noc: str, operator: str, *changes: ChangeRequest) -> WrittenView:
        with self._mesh[noc].client(operator=operator) as client:
            return self.write_with(client, noc, *changes)

    def write_with(self, client: Client, noc: str, *changes: ChangeRequest) -> WrittenView:
        written = client.change(self.incident, changes)
        self.note(noc, written.ids)
        return written

    def note(self, noc: str, ids: Iterable[str]) -> None:
        with self._lock:
            self.acknowledged.update(dict.fromkeys(filter(None, ids), noc))

    def of(self, noc: str) -> set[str]:
        with self._lock:
            return {value for value, writer in self.acknowledged.items() if writer == noc}

    # --- what the members say -------------------------------------------------------------------------------------

    def history(self, noc: str) -> set[str]:
        """The ids of every operation in a member's history."""
        found: set[str] = set()
        after = ""
        with self._mesh[noc].client() as client:
            while True:
                page = client.history(self.incident, after=after, limit=PAGE)
                found |= {operation.id for entry in page.items for operation in entry.operations}
                after = page.next
                if not after:
                    return found

    def missing(self, noc: str) -> set[str]:
        """Acknowledged anywhere, and not in this member's history."""
        held = self.history(noc)
        with self._lock:
            return self.acknowledged.keys() - held

    def holds_all(self, noc: str) -> bool:
        return not self.missing(noc)

    def digests(self, nocs: Sequence[str]) -> dict[str, str]:
        found = {}
        for noc in nocs:
            with self._mesh[noc].client() as client:
                found[noc] = client.digest(self.incident).digest
        return found

    def entries(self, noc: str) -> int:
        with self._mesh[noc].client() as client:
            return client.digest(self.incident).entries

    def wait_same(self, nocs: Sequence[str]) -> float:
        """Until these members show one digest; the seconds that took."""

        def same() -> bool:
            return len(set(self.digests(nocs).values())) == 1

        return wait_for(same, MERGE_TIMEOUT_S, f"{', '.join(nocs)} show one digest")
