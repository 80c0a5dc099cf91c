"""What real nodes say and write is what protocol/wire.cddl describes."""

from __future__ import annotations

from collections import Counter
from functools import lru_cache

import pytest
from schema_support import takes
from world import Attachment, Host, World

from meshnode.core import codec, entry
from meshnode.core.events import Change, ChangeKind
from meshnode.core.ids import IncidentId


@lru_cache(maxsize=1)
def story() -> tuple[list[bytes], list[Host], IncidentId]:
    """A hub, three members and a late one behind it; every kind of change, a conflict, a cut, a catch-up."""
    world = World(7)
    frames: list[bytes] = []

    def record(_from: Host, _to: Host, data: bytes) -> list[bytes]:
        frames.append(data)
        return [data]

    world.filter = record
    hub = world.add("EU", peers=())
    be, nl, fr = (
        world.add(noc, relay=noc != "FR", peers=("EU:1", "BE:1")[: 1 + (noc == "NL")]) for noc in ("BE", "NL", "FR")
    )
    world.run(15.0)
    incident = world.open(be, share=("NL",), attached=(Attachment("map.png", "image/png", bytes(70_000)),))
    world.run(2.0)
    world.set(nl, incident, "status", "open")
    area = {"type": "Polygon", "coordinates": [[[4.35, 50.85], [4.36, 50.85], [4.36, 50.86], [4.35, 50.85]]]}
    world.set(be, incident, "area", area)
    world.log(be, incident, "Cordon set")
    person = world.change(nl, incident, Change(ChangeKind.CREATE, collection="persons")).objects[0]
    alias = Change(ChangeKind.ADD, collection="persons", object=person, field="aliases", value="Red")
    world.change(nl, incident, alias)
    world.run(2.0)
    world.change(be, incident, Change(ChangeKind.REMOVE, "persons", person, "aliases", "Red"))
    world.partition("NL")
    world.set(be, incident, "title", "North")
    world.set(nl, incident, "title", "South")
    world.run(20.0)
    world.heal()
    world.run(40.0)
    world.change(be, incident, Change(ChangeKind.DELETE, "persons", person))
    world.share(be, incident, "FR")
    world.run(40.0)
    return frames, [hub, be, nl, fr], incident


def test_the_story_ends_with_one_state():
    _, (hub, *members), incident = story()
    assert len({member.reading.digest(incident) for member in members}) == 1
    assert hub.node.holdings.entries_of(incident) == members[0].node.holdings.entries_of(incident)


def test_every_frame_is_a_message():
    frames, _, _ = story()
    numbers = Counter(codec.decode_trusted(frame)[0] for frame in frames)
    distinct = {codec.decode_trusted(frame)[0]: frame for frame in frames}
    assert set(numbers) >= {1, 2, 3, 4, 5, 10, 11, 12, 13, 14, 15}, numbers
    for frame in [*distinct.values(), *dict.fromkeys(frames[:: max(1, len(frames) // 150)])]:
        assert takes("message", frame), frame[:80].hex()


def test_every_content_package_and_operation_is_as_described():
    _, (_, be, *_), incident = story()
    replica = be.node.incidents.replicas[incident]
    codes = Counter[int]()
    for head in be.store.heads(incident):
        for stored in be.store.read(incident, head.log, 1, head.height):
            keys_of_log = entry.log_keys(replica.keys[stored.key_id], incident, stored.log)
            clear = entry.clear_bytes(incident, stored.log, stored.seq, stored.previous, stored.key_id, stored.package)
            data = entry.open_content_untrusted(stored.sealed, keys_of_log, clear)
            assert takes("content", data)
            content = entry.content_untrusted(data)
            codes.update(operation[0] for operation in content.operations)
            if content.opening is not None:
                assert takes("bundle", content.opening.bundle)
            if stored.package is not None:
                assert takes("epoch-package", stored.package)
    assert set(codes) == set(range(1, 8))


@pytest.mark.parametrize("rule", ["bundle", "prekey-record"])
def test_every_roster_record_is_as_described(rule: str):
    _, (hub, *_), _ = story()
    roster = hub.node.rollcall.roster
    for device, _ in roster.serials():
        enrolled = roster.get(device)
        assert enrolled is not None
        assert takes(rule, enrolled.bundle if rule == "bundle" else enrolled.record)
