"""Who must be a member at the end, by what clients were told; and what a destroyed disk takes with it.

Nothing is asked of a node: what one has heard of lies in the roster on its disk, and what it could read is in its
journal. So a node that forgets, or tells a client what it did not do, is held to what it said.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from meshnode.core.ids import DeviceId, IncidentId
from simulations.scenario.records import NodeSpec
from simulations.worlds.contract import Outcome
from simulations.worlds.disk import Disk
from simulations.worlds.work import parse_dot


def known_nodes(disk: Disk, specs: Mapping[DeviceId, NodeSpec]) -> list[NodeSpec]:
    """Nodes of which a whole record lies in the roster on this disk, in the order of the plan."""
    devices = disk.devices()
    return [spec for device, spec in specs.items() if device in devices]


def invited_nodes(me: str, nocs: Iterable[str], known: Iterable[NodeSpec]) -> tuple[str, ...]:
    """Whom a request of this node for these NOCs makes members: relays are left out, they read nothing."""
    wanted = set(nocs)
    return (me, *(spec.name for spec in known if spec.noc in wanted and spec.role == "member" and spec.name != me))


def inviting_entry(disk: Disk, incident: IncidentId, before: Mapping[bytes, int]) -> str:
    """The newest entry with a key that came to this disk since its logs had these heights; empty where none did."""
    found = ""
    for head in disk.heads(incident):
        for entry in disk.read(incident, head.log, before.get(head.log, 0) + 1, head.height):
            if entry.package is not None:
                found = f"{entry.log.hex()}.{entry.seq}"
    return found


def heights(disk: Disk, incident: IncidentId) -> dict[bytes, int]:
    return {head.log: head.height for head in disk.heads(incident)}


def excuse_lost(outcome: Outcome, name: str, disks: Mapping[str, Disk], new: Disk, verb: str) -> None:
    """The disk of this node (one of ``disks``, which are those of the honest) is destroyed, and ``new`` is put in its
    place. What lay whole on it and on no other may be lost, and is excused. So is an incident of which nobody can have
    a key any more: the private halves to which keys were sealed go with a disk too."""
    lost, why = disks[name], f"{verb} of {name}"
    kept = [*(disk for other, disk in disks.items() if other != name), new]

    def is_lost(incident: IncidentId, entry: str) -> bool:
        dot = parse_dot(f"{entry}.0")
        place = (incident, dot.log, dot.seq)
        return lost.has(*place) and not any(disk.has(*place) for disk in kept)

    for row in outcome.acknowledged:
        if is_lost(IncidentId(bytes.fromhex(row.touch.incident)), row.dot.rpartition(".")[0]):
            outcome.excused.setdefault(row.number, why)
    for invited in outcome.invited:
        incident = IncidentId(bytes.fromhex(invited.incident))
        # Where the world did not see the entry, it may have been on its writer's disk alone.
        if is_lost(incident, invited.entry) if invited.entry else invited.node == name:
            outcome.excused.setdefault(invited.number, why)
    outcome.lost_disks.add(name)
    after = {**disks, name: new}
    for text, members in outcome.members_due().items():
        if not any(_can_open(outcome, member, after, IncidentId(bytes.fromhex(text))) for member in members):
            outcome.closed.setdefault(text, why)


def _can_open(outcome: Outcome, member: str, disks: Mapping[str, Disk], incident: IncidentId) -> bool:
    """It has merged something of the incident, or has every private key to which one was ever sealed for it."""
    if member not in outcome.lost_disks:
        return True
    return member in disks and disks[member].journals(incident)
