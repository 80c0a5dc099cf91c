"""Who is offered what, and how two nodes that differ end alike: message by message on the links of real nodes."""

from __future__ import annotations

import pytest
from core_support import LogWriter
from node_stories import alike
from world import Host, World, full_mesh

from meshnode.core import exchange, wire
from meshnode.core.custody import RelaySettings
from meshnode.core.events import Channel, Received, Send
from meshnode.core.exchange import HEIGHTS_INTERVAL_S
from meshnode.core.ids import IncidentId, LogId
from meshnode.core.invitations import AGAIN_S
from meshnode.core.log import Entry
from meshnode.errors import LocalFaultError
from meshnode.storage.memory import MemoryLogStore

STRANGE = IncidentId(b"strange incident")


def link_to(host: Host, peer: Host) -> int:
    (number,) = [number for number, link in host.links.items() if link.peer is peer]
    return number


def answers(world: World, host: Host, peer: Host, message: wire.Message) -> list[wire.Message]:
    """What the host's node says to the peer in the step that takes this message; nothing is delivered."""
    link = link_to(host, peer)
    step = host.node.step([Received(link, Channel.CONTROL, wire.encode(message))], world.time_of(0))
    sends = [effect for effect in step.effects if isinstance(effect, Send) and effect.link == link]
    return [wire.decode_untrusted(send.data) for send in sends]


def sharing(seed: int = 1) -> tuple[World, Host, Host, IncidentId]:
    world = World(seed)
    be, nl = full_mesh(world, "BE", "NL")
    incident = world.open(be, share=("NL",))
    world.log(be, incident, "hello")
    world.run(2.0)
    return world, be, nl, incident


# --- anti-entropy ---------------------------------------------------------------------------------------------------


def test_equal_summaries_end_the_talk_and_different_ones_start_it_at_the_incidents() -> None:
    world, be, nl, incident = sharing()
    digest, roster = be.node.holdings.digest(), be.node.rollcall.roster.digest()
    assert answers(world, be, nl, wire.Summary(digest, roster)) == []
    (told,) = answers(world, be, nl, wire.Summary(bytes(32), roster))
    assert told == wire.Incidents(((incident, be.node.holdings.incident_digest(incident)),), True)
    (serials,) = answers(world, be, nl, wire.Summary(digest, bytes(32)))
    assert isinstance(serials, wire.Roster)


def test_an_incident_that_is_equal_costs_nothing_and_one_that_differs_costs_its_heights() -> None:
    world, be, nl, incident = sharing()
    world.run(HEIGHTS_INTERVAL_S + 1)
    same = be.node.holdings.incident_digest(incident)
    assert answers(world, be, nl, wire.Incidents(((incident, same),), True)) == []
    (heights,) = answers(world, be, nl, wire.Incidents(((incident, bytes(32)),), True))
    assert heights == wire.Heights(
        incident, tuple((head.log, head.height) for head in be.node.holdings.logs(incident)), True, False
    )


def test_the_same_heights_are_not_told_again_at_once_however_often_they_are_asked() -> None:
    world, be, nl, incident = sharing()
    world.run(HEIGHTS_INTERVAL_S + 1)
    question = wire.Incidents(((incident, bytes(32)),), False)
    said = [answers(world, be, nl, question) for _ in range(5)]
    assert [len(messages) for messages in said] == [1, 0, 0, 0, 0]
    world.log(be, incident, "something new")
    assert len(answers(world, be, nl, question)) == 1
    world.run(HEIGHTS_INTERVAL_S + 0.1)
    assert len(answers(world, be, nl, question)) == 1


def test_what_the_peer_does_not_list_is_offered_to_a_member_and_to_a_relay() -> None:
    world = World(2)
    be = world.add("BE")
    nl = world.add("NL", relay=False, peers=("BE:1",))
    fr = world.add("FR", relay=False, peers=("BE:1",))
    eu = world.add("EU", peers=("BE:1",))
    world.run(3.0)
    incident = world.open(be, share=("NL",))
    for peer, offered in ((nl, True), (eu, True), (fr, False)):
        messages = answers(world, be, peer, wire.Incidents((), True))
        assert any(isinstance(message, wire.Heights) for message in messages) is offered, peer.name
        assert answers(world, be, peer, wire.Incidents((), True)) == []  # once in a while
    world.run(20.0)
    assert (nl.node.holdings.holds(incident), eu.node.holdings.holds(incident)) == (True, True)
    assert not fr.node.holdings.holds(incident)


def test_lists_longer_than_one_message_take_several(monkeypatch: pytest.MonkeyPatch) -> None:
    world, be, nl, _ = sharing(3)
    for _ in range(4):
        world.open(be, share=("NL",))
    monkeypatch.setattr(wire, "LIST_MAX", 2)
    parts = answers(world, be, nl, wire.Summary(bytes(32), be.node.rollcall.roster.digest()))
    assert [(len(part.digests), part.last) for part in parts if isinstance(part, wire.Incidents)] == [
        (2, False),
        (2, False),
        (1, True),
    ]


def test_heights_are_answered_once_and_followed_by_requests() -> None:
    world, be, nl, incident = sharing()
    world.run(HEIGHTS_INTERVAL_S + 1)
    log = LogId(b"l" * 32)
    said = answers(world, be, nl, wire.Heights(incident, ((log, 300),), True, False))
    heights, *wants = said
    assert isinstance(heights, wire.Heights)
    assert heights.answer
    assert wants == [wire.Want(incident, log, 1, 256), wire.Want(incident, log, 257, 300)]
    assert answers(world, be, nl, wire.Heights(incident, ((log, 300),), True, True)) == []


def test_a_want_that_cannot_be_served_and_a_graft_of_what_is_not_held_are_harmless() -> None:
    world, be, nl, incident = sharing()
    log = LogId(b"l" * 32)
    assert answers(world, be, nl, wire.Want(STRANGE, log, 1, 5)) == [wire.Lack(STRANGE, log, 1)]
    assert answers(world, be, nl, wire.Graft(incident, log, 0)) == []
    assert answers(world, be, nl, wire.Lack(incident, log, 1)) == []


def test_a_graft_is_answered_with_what_is_missing_behind_the_height_it_names() -> None:
    world, be, nl, incident = sharing()
    head = be.node.holdings.logs(incident)[0]
    (run,) = answers(world, be, nl, wire.Graft(incident, head.log, head.height - 1))
    assert isinstance(run, wire.Run)
    assert (run.first, run.last) == (head.height, head.height)
    assert answers(world, be, nl, wire.Graft(incident, head.log, head.height)) == []


class Rotten(MemoryLogStore):
    """A disk whose rows cannot be read any more."""

    rotten = False

    def read(self, incident: IncidentId, log: LogId, first: int, last: int) -> list[Entry]:
        if self.rotten:
            raise LocalFaultError("store-row-damaged", "damaged", "wait")
        return super().read(incident, log, first, last)


def test_who_is_asked_for_a_damaged_row_lacks_it_says_so_in_its_status_and_keeps_the_link() -> None:
    world = World(4)
    be = world.add("BE", store=Rotten())
    nl = world.add("NL", peers=("BE:1",))
    world.run(3.0)
    incident = world.open(be, share=("NL",))
    world.run(1.0)
    head = be.node.holdings.logs(incident)[0]
    be.store.rotten = True
    assert answers(world, be, nl, wire.Want(incident, head.log, 1, 9)) == [wire.Lack(incident, head.log, 1)]
    assert "store-row-damaged" in be.node.degraded
    # The same where no answer is due: it is reported, and the node goes on.
    assert answers(world, be, nl, wire.PackagesWant(incident, 0)) == []
    assert be.node.outbox.counts["store-row-damaged"] == 1
    be.store.rotten = False
    world.log(be, incident, "goes on")
    world.run(15.0)
    alike([be, nl], incident)


# --- runs -----------------------------------------------------------------------------------------------------------


def test_a_range_behind_a_gap_is_asked_again_from_the_gap() -> None:
    world, be, nl, incident = sharing()
    writer = LogWriter("far", incident)
    writer.grow(600)
    wants = answers(world, be, nl, wire.Heights(incident, ((writer.id, 600),), True, True))
    assert [(want.first, want.last) for want in wants if isinstance(want, wire.Want)] == [
        (1, 256),
        (257, 512),
        (513, 600),
    ]
    assert answers(world, be, nl, writer.run(1, 200)) == []  # it ended early; the next is on its way
    again = answers(world, be, nl, writer.run(257, 512))
    assert [(want.first, want.last) for want in again if isinstance(want, wire.Want)] == [(201, 456), (457, 600)]
    answers(world, be, nl, writer.run(201, 456))
    answers(world, be, nl, writer.run(457, 600))
    assert be.node.holdings.head(incident, writer.id) == (600, writer.head)


def test_what_is_pushed_twice_is_pruned_once_and_what_was_asked_for_is_not() -> None:
    world, be, nl, incident = sharing()
    writer = LogWriter("pushed", incident)
    writer.grow(2)
    assert answers(world, be, nl, writer.run()) == []
    assert answers(world, be, nl, writer.run()) == [wire.Prune(incident, writer.id)]
    assert answers(world, be, nl, writer.run()) == []
    asked = LogWriter("asked", incident)
    asked.grow(1)
    (want,) = answers(world, be, nl, wire.Heights(incident, ((asked.id, 1),), True, True))
    assert isinstance(want, wire.Want)
    assert answers(world, be, nl, asked.run()) == []


def test_announced_entries_that_do_not_come_are_grafted() -> None:
    world, be, nl, incident = sharing()
    writer = LogWriter("announced", incident)
    writer.grow(2)
    assert answers(world, be, nl, wire.Announce(((incident, writer.id, 2),))) == []
    seen: list[wire.Message] = []
    world.filter = lambda sender, _receiver, data: seen.append(wire.decode_untrusted(data)) or [data]
    world.step(be, [])
    world.run(1.0)
    assert wire.Graft(incident, writer.id, 0) in seen


def test_many_announcements_take_several_messages(monkeypatch: pytest.MonkeyPatch) -> None:
    world, be, nl, incident = sharing()
    monkeypatch.setattr(wire, "LIST_MAX", 2)
    link = link_to(be, nl)
    writers = [LogWriter(f"w{number}", incident) for number in range(5)]
    de = world.add("DE", peers=("BE:1",))
    world.run(3.0)
    for writer in writers:
        writer.grow(1)
        be.node.step([Received(link, Channel.CONTROL, wire.encode(wire.Prune(incident, writer.id)))], world.time_of(0))
        world.step(be, [Received(link_to(be, de), Channel.CONTROL, wire.encode(writer.run()))])
    parts: list[wire.Announce] = []

    def look(sender: Host, receiver: Host, data: bytes) -> list[bytes]:
        message = wire.decode_untrusted(data)
        if isinstance(message, wire.Announce) and (sender, receiver) == (be, nl):
            parts.append(message)
        return [data]

    world.filter = look
    world.run(2.0)
    assert [len(part.heights) for part in parts] == [2, 2, 1]


# --- invitations ----------------------------------------------------------------------------------------------------


def behind(relay: bool = False) -> tuple[World, Host, Host]:
    """BE relays for nobody either; FR is linked to it directly."""
    world = World(5)
    be = world.add("BE", relay=relay)
    fr = world.add("FR", relay=False, peers=("BE:1",))
    world.run(3.0)
    return world, be, fr


def test_a_push_with_a_package_for_this_node_is_an_invitation() -> None:
    world, be, fr = behind()
    incident = world.open(be, share=("FR",))
    world.run(0.05)
    assert fr.node.incidents.is_member(incident)
    alike([be, fr], incident)


def test_a_push_of_an_incident_that_is_not_for_this_node_is_answered_with_a_question_once() -> None:
    world, be, fr = behind()
    writer = LogWriter("strange", STRANGE)
    writer.write(package=b"not for you")
    assert answers(world, fr, be, writer.run()) == [wire.PackagesWant(STRANGE, 0)]
    assert answers(world, fr, be, writer.run()) == []
    assert answers(world, fr, be, wire.Heights(STRANGE, ((writer.id, 1),), True, False)) == []
    assert answers(world, fr, be, wire.Incidents(((STRANGE, bytes(32)),), True)) == []
    assert not fr.node.holdings.holds(STRANGE)
    world.run(AGAIN_S + 1)
    assert answers(world, fr, be, wire.Incidents(((STRANGE, bytes(32)),), True)) == [wire.PackagesWant(STRANGE, 0)]


def test_heights_of_an_incident_that_is_not_for_this_node_are_answered_with_a_question() -> None:
    world, be, fr = behind()
    log = LogId(bytes(32))
    assert answers(world, fr, be, wire.Heights(STRANGE, ((log, 1),), True, False)) == [wire.PackagesWant(STRANGE, 0)]


def test_an_announcement_of_an_incident_that_is_not_for_this_node_is_passed_over() -> None:
    world, be, fr = behind()
    assert answers(world, fr, be, wire.Announce(((STRANGE, LogId(bytes(32)), 5),))) == []
    world.run(2.0)
    assert not fr.node.holdings.holds(STRANGE)


def test_a_full_relay_remembers_what_it_is_too_full_for_up_to_a_limit(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(exchange, "INTEREST_MAX", 3)
    world = World(7)
    hub = world.add("EU", relay=RelaySettings(incident_bytes_max=10))
    be = world.add("BE", peers=("EU:1",))
    world.run(3.0)
    for number in range(10):
        writer = LogWriter(f"w{number}", IncidentId(bytes([number]) * 16))
        writer.grow(1)
        answers(world, hub, be, writer.run())
    assert len(hub.node.exchange._full[link_to(hub, be)]) <= 3
    assert hub.node.holdings.incidents() == []
    assert hub.node.outbox.counts == {"relay-quota": 10}


def test_questions_about_more_incidents_than_can_be_remembered_are_asked_again(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(exchange, "INTEREST_MAX", 3)
    world, be, fr = behind()
    for number in range(20):
        incident = IncidentId(bytes([number]) * 16)
        answers(world, fr, be, wire.Heights(incident, (), True, False))
        answers(world, be, fr, wire.Heights(incident, (), True, False))
    hub = world.add("EU", peers=("BE:1",))
    world.run(2.0)
    for number in range(20):
        answers(world, hub, be, wire.Incidents(((IncidentId(bytes([number]) * 16), bytes(32)),), False))
    assert all(len(told) <= 3 for told in hub.node.exchange._told_heights.values())


def test_packages_that_cannot_be_read_are_told_and_cost_the_relay_nothing() -> None:
    world, be, fr = behind(relay=True)
    packages = tuple((LogWriter("x").write().key_id, bytes([number]) * 40) for number in range(2))
    assert answers(world, fr, be, wire.Packages(STRANGE, packages, 0)) == []
    assert link_to(fr, be)
    assert sum(fr.node.outbox.counts.values()) - fr.node.outbox.counts.get("dial-failed", 0) == 2


# --- the picture ----------------------------------------------------------------------------------------------------


def test_what_a_peer_lacks_is_not_known_before_it_told_and_shrinks_as_it_catches_up() -> None:
    world = World(6)
    be = world.add("BE")
    nl = world.add("NL", peers=("BE:1",))
    device = nl.identity.device
    assert (be.node.exchange.they_lack(device), be.node.exchange.we_lack(device)) == (None, None)
    world.run(3.0)
    assert be.node.exchange.they_lack(device) == 0
    incident = world.open(be)
    assert be.node.exchange.they_lack(device) == be.node.holdings.entries_of(incident)  # NL is a relay
    world.run(15.0)
    assert be.node.exchange.they_lack(device) == 0
    log = LogId(b"l" * 32)
    answers(world, be, nl, wire.Heights(incident, ((log, 7),), True, True))
    assert be.node.exchange.we_lack(device) == 7
