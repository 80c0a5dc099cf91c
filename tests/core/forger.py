"""A member that breaks the rules, in the tests' small world: it hands what it forges to whom it likes."""

from __future__ import annotations

import random
from typing import Any

from world import Host, World

from meshnode.core import wire
from meshnode.core.ids import IncidentId
from simulations.liars.forging import ForgedLog


class Forger(ForgedLog):
    """One log of a hostile member. ``host`` runs an honest node, whose keys and links this uses."""

    def __init__(self, world: World, host: Host, incident: IncidentId, name: str = "forger") -> None:
        self.world, self.host = world, host
        seed = random.Random(name).randbytes(32)
        super().__init__(host.node.incidents.replicas[incident], host.identity, seed, lambda: world.time_of(0).wall_ms)

    def hand(self, run: wire.Message, *hosts: Host) -> None:
        for host in hosts:
            self.world.say(self.host, host, wire.encode(run))

    def start_epoch(self, *devices: Host, key: bytes | None = None, **changes: Any) -> bytes:
        """An epoch entry for these devices; returns its key."""
        roster = self.host.node.rollcall.roster
        enrolled = [roster.get(host.identity.device) for host in devices]
        prekeys = [one.prekey for one in enrolled if one is not None]
        key = key or random.Random(repr(devices)).randbytes(32)
        self.write_epoch(prekeys, key, self.world.rng.randbytes, **changes)
        return key
