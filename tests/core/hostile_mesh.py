"""A mesh with a device in the wrong hands, for tests of what honest members make of it."""

from __future__ import annotations

from forger import Forger
from node_stories import alike, log_texts
from world import Host, World, full_mesh

from meshnode.core.ids import IncidentId, LogId
from meshnode.core.operations import Log, encode_operation

LOG_OPERATION = encode_operation(Log({"text": "forged"}))
YEARS_MS = 10 * 365 * 24 * 3600 * 1000


class Mesh:
    """BE, DE and NL share an incident; NL's device key is in the wrong hands."""

    def __init__(self, seed: int = 1) -> None:
        self.world = World(seed)
        self.be, self.de, self.nl = full_mesh(self.world, "BE", "DE", "NL")
        self.honest = [self.be, self.de]
        self.everybody = [*self.honest, self.nl]
        self.incident: IncidentId = self.world.open(self.be, share=("DE", "NL"))
        self.world.log(self.be, self.incident, "before")
        self.world.run(2.0)
        self.forger = Forger(self.world, self.nl, self.incident)

    def broken(self, host: Host) -> list[tuple[LogId, str]]:
        return host.node.incidents.replicas[self.incident].broken_logs()

    def check_serving(self) -> None:
        """Honest members write, read each other, and agree."""
        for host in self.honest:
            self.world.log(host, self.incident, f"{host.name} goes on")
        self.world.run(75.0)
        alike(self.everybody, self.incident)
        for host in self.everybody:
            assert {"BE goes on", "DE goes on"} <= set(log_texts(host, self.incident))
