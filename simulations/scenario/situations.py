"""The names of situations that worlds count, for ``sometimes``: one that nobody counts would never be reached.

A world counts under these names alone; a test looks through the worlds for others.
"""

from __future__ import annotations

from simulations.scenario.lies import LIES
from simulations.scenario.verbs import VERBS

EFFECTS = ("cut", "hold", "drop", "duplicate", "delay", "corrupt")
"""What the faults of links do to them: a partition is a cut, a clog is a hold."""
PASSED_OVER = (
    *(f"{effect} that met nothing" for effect in EFFECTS),
    *(f"{effect} that a stream repairs" for effect in ("duplicate", "corrupt")),
    *(f"{verb} of a node that is down" for verb in ("crash", "pause", "clone")),
    "pause of a node that stands still",
)
"""Orders that changed nothing: a fault is counted for what it did."""
ROTTEN = ("entry", "journal row", "nothing there", "seal", "value")
"""On what a bit-flip falls."""

PLAIN = (
    "a conflict made and resolved",
    "a conflict stands at the end",
    "a key asked for",
    "a late member reads the past",
    "a later version was heard by an earlier one",
    "a link ended for a full send queue",
    "a link lost in the middle of a catch-up",
    "a node was seen to have the wrong time",
    "a re-seal granted",
    "a relay keeps what it cannot read",
    "a restored or copied node told its operator",
    "a scrub found damage",
    "a stop in order",
    "a stop that was cut short",
    "a sync resumed in the middle",
    "an earlier version merged what only a later one knows",
    "an operator was told of a fork",
    "bits flipped on disk",
    "crash between commit and send",
    "crash while writing",
    "crash with staged writes",
    "disk full",
    "frames left out for a full send queue",
    "honest members took different branches",
    "links came while it started",
    "looked at while the disk was writing",
    "opened before all were known",
    "packets are cut by nftables",
    "packets are cut by routing rules",
    "passed over: bit-flip, the disk never rested",
    "passed over: cannot read the incident",
    "passed over: reads it, and its admission is still on the way",
    "passed over: the liar is down",
    "passed over: the node is lost for good",
    "read while the disk was writing",
    "rough client: does not read answers",
    "rough client: does not read its stream",
    "rough client: goes in a request",
    "rough client: goes in a stream",
    "rough client: stops in a request",
    "rough client: talks nonsense",
    "rough client: was given up, it read nothing",
    "rough client: was told that its request took too long",
    "stopped while it started",
    "two epochs that do not know of each other",
    "written and never said",
)

FAMILIES: dict[str, tuple[str, ...]] = {
    "fault": tuple(sorted({*EFFECTS, *(name for name, verb in VERBS.items() if not verb.network)})),
    "passed over": PASSED_OVER,
    "a bit flipped": ROTTEN,
    "lie told": tuple(LIES),
    "lie heard": tuple(LIES),
    "lie passed over": tuple(LIES),
}
"""First words -> what may follow them after a colon."""

KNOWN = frozenset({*PLAIN, *(f"{first}: {last}" for first, lasts in FAMILIES.items() for last in lasts)})
