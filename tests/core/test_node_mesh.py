"""The story of the whole: a hub that cannot read dies, a member is cut off, both sides write, all end alike."""

from __future__ import annotations

import pytest
from core_support import refused
from node_stories import alike, stored_bytes, values
from world import Host, World, full_mesh

from meshnode.core.events import Change, ChangeKind
from meshnode.core.exchange import RelaySettings
from meshnode.core.gossip import GRAFT_DELAY_S
from meshnode.core.ids import IncidentId
from meshnode.errors import RefusedError

CANARY = "Canary-Wharf"
RUN = 5
"""The number of the message that carries entries: the second byte of its frame."""


def star(world: World) -> list[Host]:
    """A hub that is no member, and four NOCs that know the hub and each other."""
    nocs = ("BE", "NL", "DE", "FR")
    hub = world.add("EU")
    members = [world.add(noc, peers=("EU:1", *(f"{other}:1" for other in nocs if other != noc))) for noc in nocs]
    world.run(5.0)
    return [hub, *members]


def test_the_hub_dies_a_member_is_cut_off_writes_and_comes_back_and_a_conflict_is_resolved() -> None:
    world = World(1)
    sent: list[bytes] = []
    world.filter = lambda _a, _b, data: sent.append(data) or [data]
    hub, be, nl, de, fr = hosts = star(world)
    members = hosts[1:]
    incident = world.open(be, share=("NL", "DE", "FR"), title=CANARY)
    world.run(2.0)
    world.set(nl, incident, "status", "open")
    world.log(de, incident, f"{CANARY}: cordon set")
    world.run(1.0)
    alike(members, incident)

    world.crash(hub)
    world.log(be, incident, "the hub is dead")
    world.run(1.0)
    alike(members, incident)

    world.run(15.0)  # a round of summaries: everybody has told what it holds
    world.partition("FR")
    world.run(1.0)
    world.set(fr, incident, "title", f"{CANARY} south")
    world.set(be, incident, "title", f"{CANARY} north")
    world.log(fr, incident, "alone")
    world.log(de, incident, "without FR")
    world.run(30.0)
    alike([be, nl, de], incident)
    assert fr.reading.digest(incident) != be.reading.digest(incident)
    (shown,) = [peer for peer in be.reading.peers() if peer.noc == "FR"]
    assert shown.state in ("cut-off", "connecting")
    assert (shown.they_lack, shown.we_lack) == (2, None)

    world.heal()
    world.run(70.0)
    alike(members, incident)
    for host in members:
        (conflict,) = host.reading.conflicts(incident)
        assert sorted((value.author.noc, value.value) for value in conflict.values) == [
            ("BE", f"{CANARY} north"),
            ("FR", f"{CANARY} south"),
        ]
        assert all(value.author.operator and value.author.time_ms for value in conflict.values)
        texts = [record.record["text"] for record in host.reading.log_page(incident, "", 100, False).items]
        assert texts[:2] == [f"{CANARY}: cordon set", "the hub is dead"]
        assert sorted(texts[2:]) == ["alone", "without FR"]

    world.set(de, incident, "title", "One title")
    world.run(1.0)
    for host in members:
        assert host.reading.conflicts(incident) == []
        assert values(host, incident, "title") == ["One title"]

    hub.store = type(hub.store)()  # the hub comes back empty
    world.restart(hub)
    world.run(70.0)
    assert hub.node.holdings.digest() == be.node.holdings.digest()
    with refused("not-a-member", error=RefusedError):
        hub.reading.summary(incident)
    assert hub.reading.incidents() == []
    for secret in (CANARY, "cordon", "alone", "One title", "officer"):
        assert secret.encode() not in stored_bytes(hub.store)
        assert not any(secret.encode() in frame for frame in sent)


def test_a_late_member_reads_the_whole_record() -> None:
    world = World(2)
    be, nl, fr = full_mesh(world, "BE", "NL", "FR")
    incident = world.open(be, share=("NL",))
    for number in range(5):
        world.log(be, incident, f"before {number}")
    world.run(1.0)
    with refused("not-a-member", error=RefusedError):
        world.log(fr, incident, "let me in")
    world.share(be, incident, "FR")
    world.run(2.0)
    alike([be, nl, fr], incident)
    assert len(fr.reading.log_page(incident, "", 100, False).items) == 5
    world.log(fr, incident, "thank you")
    world.run(1.0)
    alike([be, nl, fr], incident)
    assert {member.noc: member.role for member in fr.reading.members(incident)} == {
        "BE": "manager",
        "NL": "writer",
        "FR": "writer",
    }


def test_members_added_on_both_sides_of_a_split_end_with_one_key_for_all() -> None:
    world = World(3)
    be, be2 = world.add("BE"), world.add("BE", "2", peers=("BE:1",))
    others = [world.add(noc, peers=("BE:1", "BE-2:1")) for noc in ("NL", "DE", "FR")]
    everybody = [be, be2, *others]
    world.run(5.0)
    incident = world.open(be, share=("BE",))
    managers = [member for member in be.reading.members(incident) if member.role == "manager"]
    assert len(managers) == 1
    world.run(2.0)
    fr = others[-1]
    world.partition("NL", "BE")
    world.run(1.0)
    world.share(be, incident, "NL")
    world.run(5.0)
    with refused("not-entitled", error=RefusedError):
        world.share(be2, incident, "DE")  # a writer adds nobody
    world.heal()
    world.run(70.0)
    world.share(be, incident, "DE", "FR")
    world.run(5.0)
    alike(everybody, incident)
    keys = {host.node.incidents.replicas[incident].group.write_key() for host in everybody}
    assert len(keys) == 1
    assert all(member.holds_current_key for member in fr.reading.members(incident))


@pytest.mark.parametrize("seed", range(3))
def test_shares_made_at_once_in_two_halves_are_repaired_to_one_epoch_for_all(seed: int) -> None:
    """Two managers: the copy of BE's device that was opened elsewhere would be one; here NL is made one by BE."""
    world = World(seed)
    hosts = full_mesh(world, "BE", "NL", "DE", "FR", "AT")
    be, nl, de, fr, at = hosts
    incident = world.open(be, share=("NL",))
    world.run(2.0)
    _make_manager(world, be, nl, incident)
    world.run(2.0)
    world.partition("BE", "DE")
    world.run(1.0)
    world.share(be, incident, "DE")
    world.share(nl, incident, "FR", "AT")
    world.run(5.0)
    world.log(de, incident, "from one half")
    world.log(fr, incident, "from the other")
    world.run(1.0)
    alike([be, de], incident)
    alike([nl, fr, at], incident)
    world.heal()
    world.run(75.0)
    alike(hosts, incident)
    groups = [host.node.incidents.replicas[incident].group for host in hosts]
    assert len({group.write_key() for group in groups}) == 1
    assert not any(group.repair_needed(host.identity.device) for host, group in zip(hosts, groups, strict=True))
    for host in hosts:
        world.log(host, incident, f"{host.name} writes under the common key")
    world.run(2.0)
    alike(hosts, incident)
    assert len(at.reading.log_page(incident, "", 100, False).items) == 7


def _make_manager(world: World, by: Host, who: Host, incident: IncidentId) -> None:
    """The local API has no such request yet; the act is part of the protocol."""
    from meshnode.core import acts

    incidents = by.node.incidents
    replica = incidents.replicas[incident]
    certificate = who.identity.certificate
    key_id = replica.group.write_key()
    assert key_id is not None
    act = acts.add_act([(who.identity.device, certificate.noc, acts.Role.MANAGER)])
    incidents.own_logs.append(replica, (), "manager", world.time_of(0), key_id, membership=[act])
    world.step(by, [])


def test_a_hub_that_comes_back_empty_fills_with_ciphertext_and_serves_it_on() -> None:
    world = World(4)
    hub = world.add("EU")
    be = world.add("BE", peers=("EU:1",))
    nl = world.add("NL", peers=("EU:1",))
    world.run(5.0)
    incident = world.open(be, share=("NL",), title=CANARY)
    world.run(2.0)
    alike([be, nl], incident)
    world.crash(hub)
    world.log(be, incident, f"{CANARY} while the hub is away")
    world.run(5.0)
    hub.store = type(hub.store)()
    world.restart(hub)
    world.run(90.0)
    assert hub.node.holdings.digest() == be.node.holdings.digest() == nl.node.holdings.digest()
    alike([be, nl], incident)
    assert CANARY.encode() not in stored_bytes(hub.store)


def test_a_member_behind_a_hub_that_is_no_relay_itself_finds_its_incident() -> None:
    world = World(5)
    world.add("EU")
    be = world.add("BE", relay=False, peers=("EU:1",))
    fr = world.add("FR", relay=False, peers=("EU:1",))
    de = world.add("DE", relay=False, peers=("EU:1",))
    world.run(5.0)
    incident = world.open(be, share=("FR",))
    world.log(be, incident, "hello")
    world.run(2.0)
    alike([be, fr], incident)
    assert not de.node.holdings.holds(incident)  # it is no member and no relay: it is sent nothing but packages
    world.log(fr, incident, "and back")
    world.run(1.0)
    alike([be, fr], incident)
    # Added while it was away, it finds the incident when it comes back.
    world.crash(de)
    world.share(be, incident, "DE")
    world.run(5.0)
    world.restart(de)
    world.run(70.0)
    alike([be, fr, de], incident)


def test_a_member_that_was_away_when_the_incident_was_opened_has_it_within_a_second_of_its_link() -> None:
    """It is told of the incident, asks for the packages, and asks again as a member: none of that waits for the next
    round of summaries."""
    world = World(5)
    be = world.add("BE")
    nl = world.add("NL", relay=False, peers=("BE:1",))
    world.run(5.0)
    world.stop(nl)
    incident = world.open(be, share=("NL",), title=CANARY)
    for number in range(20):
        world.log(be, incident, f"record {number}")
    world.run(5.0)
    world.restart(nl)
    world.run(1.0)
    alike([be, nl], incident)


def test_a_relay_stores_up_to_its_quota_and_says_so() -> None:
    world = World(6)
    hub = world.add("EU", relay=RelaySettings(True, incident_bytes_max=6_000, total_bytes_max=9_000))
    be = world.add("BE", peers=("EU:1",))
    nl = world.add("NL", peers=("EU:1", "BE:1"))
    world.run(5.0)
    first = world.open(be, share=("NL",))
    for number in range(20):
        world.log(be, first, f"entry {number}")
        world.run(0.1)
    world.run(30.0)
    assert hub.node.outbox.counts["relay-quota"] > 0
    assert hub.store.incident_bytes(first) <= 6_000
    assert "relay-quota" in {peer.last_refusal for peer in hub.reading.peers()}
    alike([be, nl], first)
    before = world.bytes_sent
    world.run(60.0)
    assert world.bytes_sent - before < 60_000  # a full hub is not asked and does not ask over and over


def test_an_entry_crosses_a_mesh_at_once_and_a_dead_link_is_replaced_within_a_second() -> None:
    world = World(7)
    hosts = full_mesh(world, "BE", "NL", "DE", "FR", "AT", "LU")
    be = hosts[0]
    incident = world.open(be, share=("NL", "DE", "FR", "AT", "LU"))
    world.run(2.0)
    runs: list[tuple[str, str]] = []

    def count(sender: Host, receiver: Host, data: bytes) -> list[bytes]:
        if data[1] == RUN:
            runs.append((sender.name, receiver.name))
        return [data]

    world.log(be, incident, "first")
    world.run(1.0)
    world.filter = count
    for number in range(4):
        runs.clear()
        world.log(be, incident, f"next {number}")
        world.run(0.05)
        alike(hosts, incident)
        assert sorted(receiver for _, receiver in runs) == ["AT", "DE", "FR", "LU", "NL"]
    world.cut.add(frozenset(("BE", "NL")))  # frames vanish; nobody was told yet
    world.log(be, incident, "by another way")
    world.run(0.2 + 2 * GRAFT_DELAY_S + 0.5)
    alike(hosts, incident)


def test_a_peer_that_never_answers_requests_does_not_keep_the_record_from_a_late_node() -> None:
    """FR withholds: it says what it holds and sends no run. NL gets everything from others in seconds."""
    world = World(8)
    be = world.add("BE")
    fr = world.add("FR", peers=("BE:1",))
    world.run(3.0)
    incident = world.open(be, share=("FR",))
    for number in range(30):
        world.log(be, incident, f"entry {number}")
    world.run(3.0)
    world.filter = lambda sender, _receiver, data: [] if sender is fr and data[1] == RUN else [data]
    nl = world.add("NL", peers=("FR:1",))
    world.run(3.0)
    assert nl.node.holdings.entries == 0
    nl.node.peers.learn("BE:1", None, None, world.now)
    world.run(25.0)
    assert nl.node.holdings.digest() == be.node.holdings.digest()


@pytest.mark.parametrize("attached_bytes", [400_000])
def test_large_entries_reach_a_late_member(attached_bytes: int) -> None:
    from meshnode.core.events import Attachment

    world = World(9)
    be, nl = full_mesh(world, "BE", "NL")
    data = world.rng.randbytes(attached_bytes)
    incident = world.open(be, attached=(Attachment("plan.pdf", "application/pdf", data),))
    world.share(be, incident, "NL")
    fr = world.add("FR", peers=("NL:1",))
    world.run(5.0)
    world.share(be, incident, "FR")
    world.run(20.0)
    alike([be, nl, fr], incident)
    (shown,) = fr.reading.attachments(incident)
    assert fr.reading.attachment(incident, bytes.fromhex(shown.id)).data == data


def test_both_values_of_one_request_stand_as_one_change() -> None:
    world = World(10)
    (be,) = full_mesh(world, "BE")
    incident = world.open(be)
    with refused("repeated-field", error=RefusedError):
        world.change(
            be,
            incident,
            Change(ChangeKind.SET, field="title", value="a"),
            Change(ChangeKind.SET, field="title", value="b"),
        )
    assert be.reading.conflicts(incident) == []
    assert values(be, incident, "title") == ["Release"]
