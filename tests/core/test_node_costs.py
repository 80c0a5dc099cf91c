"""What one peer may cost: small questions with long answers, junk that is kept, copies that outbid each other."""

from __future__ import annotations

from typing import Any

import pytest
from world import START_WALL_MS, Host, World, full_mesh, make_identity

from meshnode.core import prekeys, wire
from meshnode.core.entry import LogKeys
from meshnode.core.events import Change, ChangeKind, Channel, Received, Send
from meshnode.core.holdings import READ_SLICE_ENTRIES
from meshnode.core.identity import Identity
from meshnode.core.keys import SigningKey
from meshnode.core.node import ADDRESSES_TAKEN_MAX
from meshnode.core.wire import PACKAGES_MAX, RUN_BYTES_MAX, RUN_ENTRIES_MAX


def answers(world: World, host: Host, message: wire.Message) -> list[wire.Message]:
    """What a node sends back on the link over which this message comes in."""
    link = next(iter(host.links))
    step = host.node.step([Received(link, Channel.CONTROL, wire.encode(message))], world.time_of(0))
    host.store.commit_all()
    return [wire.decode_untrusted(e.data) for e in step.effects if isinstance(e, Send) and e.link == link]


@pytest.fixture
def pair() -> tuple[World, Host, Host]:
    world = World(7)
    be, nl = full_mesh(world, "BE", "NL")
    return world, be, nl


def test_an_incident_named_a_thousand_times_in_one_message_has_its_heights_told_once(
    pair: tuple[World, Host, Host],
) -> None:
    world, be, _ = pair
    incident = world.open(be, ("NL",))
    world.run(30.0)
    told = answers(world, be, wire.Incidents(((incident, bytes(32)),) * wire.LIST_MAX, last=True))
    assert [type(message) for message in told] == [wire.Heights]


def test_heights_are_answered_again_only_after_a_while_or_when_they_changed(pair: tuple[World, Host, Host]) -> None:
    world, be, _ = pair
    incident = world.open(be, ("NL",))
    world.run(30.0)
    question = wire.Heights(incident, (), last=True, answer=False)

    def told() -> int:
        return sum(isinstance(message, wire.Heights) for message in answers(world, be, question))

    assert [told(), told(), told()] == [1, 0, 0]
    world.log(be, incident, "something new")
    assert [told(), told()] == [1, 0]
    world.run(3.0)
    assert told() == 1


def test_of_one_message_with_addresses_only_so_many_are_looked_at(pair: tuple[World, Host, Host]) -> None:
    world, be, _ = pair
    rows = tuple((SigningKey(number.to_bytes(32, "big")).device_id, f"10.0.0.1:{number + 1}") for number in range(400))
    answers(world, be, wire.Addresses(rows))
    learned = [address for _, address in rows if be.node.peers.is_dialing(_)]
    assert len(be.node.peers._targets) <= ADDRESSES_TAKEN_MAX + 2
    assert len(learned) <= ADDRESSES_TAKEN_MAX


def test_a_request_for_large_entries_reads_little_more_than_it_answers(
    pair: tuple[World, Host, Host], monkeypatch: pytest.MonkeyPatch
) -> None:
    world, be, _ = pair
    incident = world.open(be)
    for number in range(40):
        world.change(be, incident, Change(ChangeKind.SET, field="x-large", value=f"{number}" + "x" * 40_000))
    head = max(be.node.holdings.logs(incident), key=lambda log: log.height)
    read: list[int] = []
    plain = be.store.read

    def counted(*arguments: object) -> object:
        found = plain(*arguments)
        read.extend(entry.size_bytes for entry in found)
        return found

    monkeypatch.setattr(be.store, "read", counted)
    run = be.node.holdings.serve(be.store, wire.Want(incident, head.log, 1, head.height))
    assert isinstance(run, wire.Run)
    assert len(run.rows) < RUN_ENTRIES_MAX
    assert sum(len(row[1]) for row in run.rows) <= RUN_BYTES_MAX
    assert sum(read) <= RUN_BYTES_MAX + READ_SLICE_ENTRIES * 65_536
    assert len(read) <= READ_SLICE_ENTRIES


def test_a_page_of_packages_costs_a_page_however_many_there_are(pair: tuple[World, Host, Host]) -> None:
    world, be, _ = pair
    incident = world.open(be)
    replica = be.node.incidents.replicas[incident]

    class Counted(list[Any]):
        looked_at = 0

        def __getitem__(self, at: Any) -> Any:
            Counted.looked_at += 1
            return super().__getitem__(at)

        def __iter__(self) -> Any:
            raise AssertionError("the list is gone through")

    start = replica.packages[0]
    replica.packages = Counted([start] * 10_000)
    packages, older = be.node.incidents.packages(incident, 5_000)
    assert (len(packages), older) == (PACKAGES_MAX, 5_000 - PACKAGES_MAX)
    assert Counted.looked_at == PACKAGES_MAX + 1


def test_two_copies_of_a_device_outbid_each_other_at_most_once_an_hour(pair: tuple[World, Host, Host]) -> None:
    world, be, _ = pair
    identity = be.identity

    def outbid() -> None:
        known = be.node.rollcall.roster.get(identity.device)
        assert known is not None
        serial = known.prekey.serial + 1
        bundle, now_ms = identity.certificate.bundle, world.time_of(0).wall_ms
        _, record = prekeys.make_prekey(identity.device_key, bundle, serial, now_ms, world.rng.randbytes)
        answers(world, be, wire.RosterRecords(((bundle, record),)))

    for _ in range(20):
        outbid()
    assert len(be.node.rollcall.ring.secrets()) <= 2
    assert any(report.code == "restored-or-cloned" for report in be.reports) or be.node.outbox.counts
    world.run(3_700.0)
    outbid()
    assert len(be.node.rollcall.ring.secrets()) <= 4


def test_twins_of_a_device_are_shown_at_every_node_until_the_device_has_ended_them() -> None:
    world = World(7)
    be, nl, de = full_mesh(world, "BE", "NL", "DE")
    world.crash(de)
    bundle = de.identity.certificate.bundle
    for serial in (START_WALL_MS, START_WALL_MS + 1):
        for _ in range(2):
            _, record = prekeys.make_prekey(de.identity.device_key, bundle, serial, 0, world.rng.randbytes)
            answers(world, be, wire.RosterRecords(((bundle, record),)))
    world.run(30.0)
    for host in (be, nl):
        assert host.node.outbox.counts["device-twin"] == 1
        assert host.node.degraded.keys() == {"device-twin"}
        reason, action, _ = host.node.degraded["device-twin"]
        who = f"DE/{de.identity.certificate.name} ({de.identity.device.hex()[:8]})"
        assert reason == f"{who} signed two prekeys of one serial"
        assert action.startswith("ask DE whether")
    assert be.node.rollcall.roster.digest() == nl.node.rollcall.roster.digest()
    fr = make_identity("FR", "1")
    rivals = [prekeys.make_prekey(fr.device_key, fr.certificate.bundle, 1, 0, world.rng.randbytes)[1] for _ in "12"]
    answers(world, be, wire.RosterRecords(tuple((fr.certificate.bundle, rival) for rival in rivals)))
    assert be.node.degraded["device-twin"][0].endswith("; so did 1 other device(s)")
    answers(world, be, wire.RosterRecords(((fr.certificate.bundle, _ended(fr, world)),)))
    world.restart(de)
    world.run(30.0)
    for host in (be, nl, de):
        assert host.node.degraded == {}
        assert host.node.rollcall.roster.digest() == be.node.rollcall.roster.digest()
    assert de.node.outbox.counts["restored-or-cloned"] >= 1


def _ended(identity: Identity, world: World) -> bytes:
    return prekeys.make_prekey(identity.device_key, identity.certificate.bundle, 2, 0, world.rng.randbytes)[1]


def test_keys_of_a_log_are_in_no_repr() -> None:
    assert "6b6579" not in repr(LogKeys(b"key" * 10, b"key" * 10))
    assert "key" not in repr(LogKeys(b"key" * 10, b"key" * 10)).lower().replace("<logkeys>", "")
