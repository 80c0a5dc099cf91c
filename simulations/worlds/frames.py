"""What kind of message a frame is, told from its second byte: who pays for what in a mesh.

A frame is a CBOR array of fewer than 24 items that begins with the message's number, which is below 24 too
(``meshnode.core.wire``); so both take one byte each.
"""

from __future__ import annotations

from collections.abc import Mapping

ENTRIES, GOSSIP, SYNC, ROSTER, KEYS, ADDRESSES = "entries", "gossip", "sync", "roster", "keys", "addresses"
HELLO, TRANSPORT, OTHER = "hello", "transport", "other"
"""Hellos and what a transport says by itself are seen where there is a transport; ``other`` is not in this table."""

CLASSES: dict[str, str] = {
    ENTRIES: "changes to incidents, pushed or asked for",
    GOSSIP: "announcing entries, and asking to be told less or more",
    SYNC: "comparing digests and heights, and wanting what is missing",
    ROSTER: "certificates and prekeys",
    KEYS: "epoch packages asked for and given",
    ADDRESSES: "where nodes were reached",
    HELLO: "handshakes and hellos of links",
    TRANSPORT: "windows, pings and closings of links",
    OTHER: "messages that this table does not know",
}
"""Class -> what it is for, in the order in which it is shown."""

CLASS_OF_NUMBER: dict[int, str] = {
    1: SYNC,  # Summary
    2: SYNC,  # Incidents
    3: SYNC,  # Heights
    4: SYNC,  # Want
    5: ENTRIES,  # Run
    6: SYNC,  # Lack
    7: GOSSIP,  # Announce
    8: GOSSIP,  # Prune
    9: GOSSIP,  # Graft
    10: ROSTER,  # Roster
    11: ROSTER,  # RosterWant
    12: ROSTER,  # RosterRecords
    13: ADDRESSES,  # Addresses
    14: KEYS,  # PackagesWant
    15: KEYS,  # Packages
}


def number_of(frame: bytes) -> int:
    """The message's number; 0 of what is no message."""
    return frame[1] if len(frame) > 1 else 0


def by_class(sent: Mapping[tuple[str, int], list[int]]) -> dict[tuple[str, str], tuple[int, int]]:
    """(node, message number) -> [frames, bytes] summed to (node, class) -> (frames, bytes)."""
    found: dict[tuple[str, str], tuple[int, int]] = {}
    for (node, number), (frames, size) in sent.items():
        place = (node, CLASS_OF_NUMBER.get(number, OTHER))
        before = found.get(place, (0, 0))
        found[place] = (before[0] + frames, before[1] + size)
    return found
