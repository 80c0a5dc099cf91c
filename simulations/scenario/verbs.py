"""The faults of a scenario, as a table: what each verb needs, may have, and does.

``for_s`` ends a fault by itself; a fault without it lasts until it is healed, or until the faults end and the core of
the mesh is healed for the check of convergence.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Verb:
    meaning: str
    needs: tuple[str, ...] = ()
    may: tuple[str, ...] = ()
    network: bool = False
    """It befalls links, not nodes."""
    random: bool = True
    """It may stand in a table of random faults."""

    @property
    def keys(self) -> tuple[str, ...]:
        return self.needs + self.may


_BETWEEN = ("from", "to", "for_s")

VERBS: dict[str, Verb] = {
    "partition": Verb(
        "no link between the sides; nodes that no side names are one more side", ("sides",), ("for_s",), True
    ),
    "cut-one-way": Verb("what is sent in this direction is lost", ("from", "to"), ("for_s",), True),
    "heal": Verb("ends all faults of links", (), (), True, random=False),
    "hold": Verb("what is sent in this direction waits, and so does what follows", ("from", "to"), ("for_s",), True),
    "release": Verb("what was held arrives at once", ("from", "to"), (), True, random=False),
    "drop": Verb("so many percent of what is sent is lost", ("percent",), _BETWEEN, True),
    "duplicate": Verb("so many percent of what is sent arrives twice", ("percent",), _BETWEEN, True),
    "delay": Verb("everything takes so much longer, each by its own luck", ("delay_ms",), _BETWEEN, True),
    "corrupt": Verb("so many percent of what is sent has a byte changed", ("percent",), _BETWEEN, True),
    "clog": Verb("everything to and from these nodes waits, then arrives at once", ("nodes", "for_s"), (), True),
    "swizzle-clog": Verb(
        "these nodes are clogged one by one, in one order, and released in another", ("nodes", "for_s"), (), True
    ),
    "crash": Verb("killed: what was not durable is lost; with for_s it starts again after it", ("nodes",), ("for_s",)),
    "restart": Verb("starts a node that is down; one that runs is stopped in order first", ("nodes",)),
    "pause": Verb("stands still and then goes on as if nothing had been", ("nodes", "for_s")),
    "wipe": Verb("the disk is lost, the device key is kept, the node starts empty", ("nodes",)),
    "restore-old-backup": Verb(
        "the disk is put back to what it was at backup_at_s", ("nodes", "backup_at_s"), (), False, False
    ),
    "clone": Verb("a second copy of the node runs beside it, from a copy of its disk", ("nodes",), ("for_s",)),
    "skew-clock": Verb(
        "the wall clock jumps by this, and may run fast or slow", ("nodes",), ("skew_s", "drift_percent", "for_s")
    ),
    "disk-full": Verb("nothing more can be made durable", ("nodes", "for_s")),
    "bit-flip": Verb("stored bytes change under a running node", ("nodes",), ("count",)),
    "upgrade": Verb(
        "stopped in order, and started as a node of a later version, which says more than this one knows", ("nodes",)
    ),
    "downgrade": Verb("stopped in order, and started as a node of this version", ("nodes",)),
    "lose-hub": Verb("hubs die at once; without for_s for good", (), ("nodes", "for_s")),
}
