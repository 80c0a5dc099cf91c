"""Local requests become entries or are refused whole; epochs are repaired by whose turn it is, and not too often."""

from __future__ import annotations

import pytest
from core_support import refused
from forger import Forger
from node_stories import alike, log_texts, values
from world import Attachment, Host, World, full_mesh

from meshnode.core import epochs, wire
from meshnode.core import incidents as incidents_room
from meshnode.core.events import (
    Change,
    ChangeIncident,
    ChangeKind,
    Event,
    Now,
    OpenIncident,
    Reply,
    Send,
    ShareIncident,
    Step,
    Written,
)
from meshnode.core.ids import ROOT_OBJECT, EntryHash, IncidentId
from meshnode.core.incidents import EPOCH_INTERVAL_S, REPAIR_RETRY_S
from meshnode.core.lineage import Lineage
from meshnode.core.operations import Set, encode_operation
from meshnode.core.own_logs import CONTENT_BYTES_AIM
from meshnode.core.wire import PACKAGES_MAX, RUN_BYTES_MAX, RUN_ENTRIES_MAX
from meshnode.errors import LocalFaultError, RefusedError


def pair(seed: int = 1) -> tuple[World, Host, Host, IncidentId]:
    world = World(seed)
    be, nl = full_mesh(world, "BE", "NL")
    incident = world.open(be, share=("NL",))
    world.run(2.0)
    return world, be, nl, incident


def stored(host: Host) -> int:
    return sum(host.node.holdings.entries_of(incident) for incident in host.node.holdings.incidents())


# --- requests -------------------------------------------------------------------------------------------------------


def test_an_incident_belongs_to_who_opens_it_and_to_those_it_is_shared_with() -> None:
    world, be, nl, incident = pair()
    assert [(member.noc, member.role) for member in be.reading.members(incident)] == [
        ("BE", "manager"),
        ("NL", "writer"),
    ]
    assert log_texts(nl, incident) == []
    alone = world.open(be, share=("BE",))
    assert [member.noc for member in be.reading.members(alone)] == ["BE"]


def test_a_request_is_answered_with_the_names_of_what_it_wrote() -> None:
    world, be, nl, incident = pair()
    created = Change(ChangeKind.CREATE, collection="persons")
    written = world.change(be, incident, created, Change(ChangeKind.LOG, value={"text": "seen"}))
    assert [dot.op for dot in written.dots] == [0, 1]
    assert len({dot.log for dot in written.dots}) == 1
    world.run(1.0)
    assert [view.id for view in nl.reading.collection(incident, "persons")] == [written.objects[0].hex()]
    assert nl.reading.log_page(incident, "", 10, False).items[0].id == written.dots[1].text


def _parents(host: Host, incident: IncidentId, written: Written) -> set[EntryHash]:
    return set(host.node.incidents.replicas[incident].read_content(*written.dots[0][:2]).parents)


def _void(host: Host, incident: IncidentId) -> list[str]:
    return [item.void for item in host.reading.history_page(incident, "", 1_000, None).items if item.void]


def test_an_entry_names_the_logs_whose_values_it_replaces_also_when_others_cover_them() -> None:
    """Decision 0063. DE's own log begins here; all it had merged is covered by NL's record, and BE's title is not
    shown to have been seen by that."""
    world = World(3)
    be, nl, de = full_mesh(world, "BE", "NL", "DE")
    incident = world.open(be, share=("NL", "DE"))
    world.run(1.0)
    titled = world.set(be, incident, "title", "by BE")
    world.run(1.0)
    recorded = world.log(nl, incident, "by NL")
    world.run(1.0)
    written = world.set(de, incident, "title", "by DE")
    replica = de.node.incidents.replicas[incident]
    named = {replica.hash_at(*done.dots[0][:2]) for done in (titled, recorded)}
    assert _parents(de, incident, written) > named  # and the entry that starts the key
    again = world.set(de, incident, "title", "by DE again")
    assert _parents(de, incident, again) == set()
    world.run(1.0)
    alike([be, nl, de], incident)
    for host in (be, nl, de):
        assert values(host, incident, "title") == ["by DE again"]
        assert _void(host, incident) == []


@pytest.mark.parametrize(("logs", "entries"), [(15, 1), (16, 2), (30, 2), (31, 3)])
def test_values_of_more_logs_than_an_entry_has_parents_are_replaced_behind_entries_that_only_name_them(
    logs: int, entries: int
) -> None:
    """Of 16 parents one is left for the epoch whose key the entry uses."""
    world, be, nl, incident = pair()
    forgers = [Forger(world, nl, incident, f"log {number}") for number in range(logs - 1)]
    for number, forger in enumerate(forgers):
        operation = Set("incident", ROOT_OBJECT, "title", f"title {number}")
        forger.write(forger.content(encode_operation(operation)))
        forger.hand(forger.run(), be)
    world.run(1.0)
    before = stored(be)
    assert len(values(be, incident, "title")) == logs  # one is BE's own, from before it starts again
    world.crash(be)
    world.restart(be)  # so that its own log is a new one
    world.run(1.0)
    world.set(be, incident, "title", "settled")
    assert stored(be) - before == entries
    world.run(15.0)
    alike([be, nl], incident)
    assert values(nl, incident, "title") == ["settled"]
    assert _void(nl, incident) == []
    assert be.node.incidents.replicas[incident].document.conflict_count == 0


def test_a_request_that_changes_nothing_writes_nothing() -> None:
    world, be, _, incident = pair()
    before = stored(be)
    assert world.change(be, incident) == Written(incident, (), ())
    assert stored(be) == before


@pytest.mark.parametrize(
    ("ask", "code"),
    [
        (lambda world, be, nl, incident: world.set(be, IncidentId(bytes(16)), "title", "x"), "unknown-incident"),
        (lambda world, be, nl, incident: world.share(be, incident, "NL"), "already-members"),
        (lambda world, be, nl, incident: world.share(be, incident, "XX"), "noc-unknown"),
        (lambda world, be, nl, incident: world.share(nl, incident, "BE"), "not-entitled"),
        (lambda world, be, nl, incident: world.open(be, share=("XX",)), "noc-unknown"),
        (lambda world, be, nl, incident: world.set(be, incident, "no-such-field", "x"), "unknown-field"),
        (lambda world, be, nl, incident: world.set(be, incident, "title", "\ud800"), "bad-value"),
        (
            lambda world, be, nl, incident: world.open(be, attached=(Attachment("a", "b", bytes(2_000_000)),)),
            "attachment-too-large",
        ),
    ],
)
def test_a_refused_request_writes_nothing_and_says_why(ask: object, code: str) -> None:
    world, be, nl, incident = pair()
    before = stored(be), stored(nl)
    with refused(code, error=RefusedError):
        ask(world, be, nl, incident)
    assert (stored(be), stored(nl)) == before
    world.log(be, incident, "and on")
    world.run(1.0)
    alike([be, nl], incident)


def test_a_relay_becomes_a_reader_only_when_somebody_insists() -> None:
    world = World(3)
    be = world.add("BE", relay=False)
    nl, hub = world.add("NL", "1", relay=False, peers=("BE:1",)), world.add("NL", "2", peers=("BE:1",))
    eu = world.add("EU", peers=("BE:1",))
    world.run(5.0)
    relays = {hub.identity.device, eu.identity.device}

    def ask(*nocs: str, insist: bool = False) -> None:
        world.ask(be, ShareIncident(next(world._numbers), incident, "manager", nocs, insist))

    incident = world.ask(be, OpenIncident(901, "duty", "other", ())).incident
    for refuse in (lambda: ask("NL", "EU"), lambda: world.ask(be, OpenIncident(902, "d", "other", (), (), ("EU",)))):
        with pytest.raises(RefusedError, match="relays-only") as caught:
            refuse()
        assert "--with-relays" in caught.value.action
    with pytest.raises(RefusedError, match="noc-unknown") as caught:
        ask("XX")
    assert caught.value.action.endswith("known are BE, NL")
    ask("NL")
    members = {bytes.fromhex(member.device) for member in be.reading.members(incident)}
    assert members == {be.identity.device, nl.identity.device}
    ask("NL", "EU", insist=True)
    assert {bytes.fromhex(member.device) for member in be.reading.members(incident)} == members | relays


def test_a_device_enrolled_later_sees_nothing_until_its_noc_is_shared_with_again() -> None:
    world, be, nl, incident = pair()
    later = [world.add("NL", "2", peers=("BE:1",)), world.add("BE", "2", peers=("BE:1",))]
    world.run(10.0)
    for host in later:
        assert incident not in {bytes.fromhex(summary.id) for summary in host.reading.incidents()}
    world.share(be, incident, "NL", "BE")
    world.run(10.0)
    alike([be, nl, *later], incident)


def test_where_only_relays_are_known_none_is_proposed() -> None:
    world = World(3)
    eu = world.add("EU")
    incident = world.open(eu)
    with pytest.raises(RefusedError, match="noc-unknown") as caught:
        world.share(eu, incident, "XX")
    assert caught.value.action.endswith("known are none")


def test_one_refused_change_among_good_ones_refuses_the_whole_request() -> None:
    world, be, _, incident = pair()
    good = Change(ChangeKind.LOG, value={"text": "good"})
    with refused("unknown-field", error=RefusedError):
        world.change(be, incident, good, Change(ChangeKind.SET, field="no-such-field", value=1))
    assert log_texts(be, incident) == []


def test_a_member_without_a_prekey_here_gets_the_new_key_by_asking_for_it() -> None:
    world, be, nl, incident = pair()
    de = world.add("DE", peers=("BE:1",))
    world.run(3.0)
    del be.node.rollcall.roster._devices[nl.identity.device]
    world.share(be, incident, "DE")
    assert be.node.outbox.counts["key-not-sealed"] == 1
    (report,) = [report for report in be.reports if report.code == "key-not-sealed"]
    assert f"1 member devices have no prekey known here ({nl.identity.device.hex()[:8]} first)" in report.reason
    world.log(be, incident, "under the new key")
    world.run(2.0)
    assert log_texts(de, incident) == ["under the new key"]
    assert log_texts(nl, incident) == []
    world.run(60.0)  # the roster is mended by itself, and so is this
    alike([be, nl, de], incident)
    assert "key-missing" in nl.node.outbox.counts


def test_many_changes_go_into_as_few_entries_as_their_sizes_allow() -> None:
    world, be, nl, incident = pair()
    before = stored(be)
    logs = [Change(ChangeKind.LOG, value={"text": "t" * 400}) for _ in range(400)]
    written = world.change(be, incident, *logs)
    assert len(written.dots) == 400
    entries = stored(be) - before
    assert 400 * 420 // CONTENT_BYTES_AIM <= entries <= 400 * 420 // CONTENT_BYTES_AIM + 2
    many = [Change(ChangeKind.LOG, value={"text": "s"}) for _ in range(300)]
    before = stored(be)
    world.change(be, incident, *many)
    assert stored(be) - before == 2  # at most 256 operations in one
    world.run(15.0)
    alike([be, nl], incident)
    assert len(log_texts(nl, incident)) == 700


def test_all_that_is_written_in_one_step_is_pushed_as_one_run() -> None:
    world, be, _, incident = pair()
    events = [
        ChangeIncident(number, incident, "officer", (Change(ChangeKind.LOG, value={"text": str(number)}),))
        for number in range(100, 110)
    ]
    step = be.node.step(events, world.time_of(0))
    assert step.commit
    runs = [wire.decode_untrusted(effect.data) for effect in step.effects if isinstance(effect, Send)]
    runs = [message for message in runs if isinstance(message, wire.Run)]
    assert [len(run.rows) for run in runs] == [10]
    assert sum(isinstance(effect, Reply) for effect in step.effects) == 10


def test_a_large_request_is_pushed_in_runs_that_stay_in_bounds() -> None:
    world, be, nl, incident = pair()
    sizes: list[tuple[int, int]] = []

    def look(_sender: Host, _receiver: Host, data: bytes) -> list[bytes]:
        message = wire.decode_untrusted(data)
        if isinstance(message, wire.Run):
            sizes.append((len(message.rows), sum(len(row[1]) + len(row[2] or b"") for row in message.rows)))
        return [data]

    world.filter = look
    requests = [
        ChangeIncident(number, incident, "officer", (Change(ChangeKind.LOG, value={"text": "x" * 3000}),))
        for number in range(1000, 1600)
    ]
    world.step(be, list(requests))
    world.run(30.0)
    alike([be, nl], incident)
    assert len(log_texts(nl, incident)) == 600
    assert all(rows <= RUN_ENTRIES_MAX and size <= RUN_BYTES_MAX for rows, size in sizes)
    assert len(sizes) > 5


# --- keys -----------------------------------------------------------------------------------------------------------


def leak(world: World, nl: Host, incident: IncidentId, *outsiders: Host) -> Forger:
    """NL seals an epoch that carries the current key to devices that are no members: no key is usable any more."""
    forger = Forger(world, nl, incident, "leak")
    members = [host for host in world.hosts.values() if host not in outsiders]
    forger.start_epoch(*members, *outsiders)
    return forger


def leaked_mesh(seed: int = 2) -> tuple[World, Host, Host, Host, IncidentId, Forger]:
    world = World(seed)
    be, nl, fr = full_mesh(world, "BE", "NL", "FR")
    incident = world.open(be, share=("NL",))
    world.run(2.0)
    return world, be, nl, fr, incident, leak(world, nl, incident, fr)


def test_a_write_that_finds_no_usable_key_makes_one_for_the_members_and_uses_it() -> None:
    world, be, nl, fr, incident, forger = leaked_mesh()
    forger.hand(forger.run(), be)
    world.run(0.011)
    group = be.node.incidents.replicas[incident].group
    assert group.write_key() is None
    world.log(be, incident, "under a new key")
    key_id = group.write_key()
    assert key_id is not None
    assert key_id not in (forger.key_id, forger.entries[0].key_id)
    assert group.holders(key_id) == {be.identity.device, nl.identity.device}
    world.run(20.0)
    alike([be, nl], incident)
    leaked = fr.node.incidents.replicas[incident]
    assert not any("under a new key" in text for text in (log_texts(fr, incident) if leaked.merged else []))


def test_when_no_epoch_can_be_right_a_write_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    world, be, _, _, incident, forger = leaked_mesh(3)
    forger.hand(forger.run(), be)
    world.run(0.011)
    monkeypatch.setattr(
        Lineage, "leads_back", lambda *_: False
    )  # an epoch that leads to nothing before it is not valid
    with refused("no-usable-key", error=RefusedError):
        world.log(be, incident, "x")


def test_an_epoch_is_repaired_by_itself_by_one_of_the_members_in_turn() -> None:
    world, be, nl, _, incident, forger = leaked_mesh(4)
    forger.hand(forger.run(), be)
    world.run(20.0)
    groups_now = [host.node.incidents.replicas[incident].group for host in (be, nl)]
    assert groups_now[0].write_key() == groups_now[1].write_key() is not None
    packages = [len(host.node.incidents.replicas[incident].packages) for host in (be, nl)]
    assert packages == [3, 3]  # the first, the leak, one repair


def test_who_repaired_a_moment_ago_does_not_do_so_again_at_once() -> None:
    """E7: whatever others make it see."""
    world, be, nl, fr, incident, forger = leaked_mesh(5)
    world.crash(fr)
    forger.hand(forger.run(), be)
    world.run(15.0)  # NL is not pushed what came over its own link: it asks after ten seconds
    assert be.node.incidents._repaired[incident] > 0
    nl.node.incidents._repair_at.clear()
    again = Forger(world, nl, incident, "again")
    again.start_epoch(be, nl, fr)
    again.hand(again.run(), be)
    world.run(0.2)  # before NL, whose turn is the next, has done it
    due = be.node.incidents._repair_at[incident]
    assert due >= be.node.incidents._repaired[incident] + EPOCH_INTERVAL_S


def test_a_repair_that_is_not_needed_any_more_is_left_out() -> None:
    world, be, nl, _, incident, forger = leaked_mesh(6)
    forger.hand(forger.run(), be)
    world.run(0.011)
    world.log(be, incident, "the write has repaired it")
    assert incident in be.node.incidents._repair_at
    before = len(be.node.incidents.replicas[incident].packages)
    world.run(20.0)
    assert len(be.node.incidents.replicas[incident].packages) == before
    alike([be, nl], incident)


def test_a_repair_that_cannot_be_made_is_told_and_tried_again(monkeypatch: pytest.MonkeyPatch) -> None:
    """The row of a head that the new epoch must name is damaged, until it is fetched again."""
    world, be, nl, _, incident, forger = leaked_mesh(7)

    def damaged(*_: object) -> EntryHash:
        raise LocalFaultError("store-row-damaged", "a stored entry is damaged", "it is fetched again by itself")

    with monkeypatch.context() as patch:
        patch.setattr(be.node.incidents.own_logs, "_hash_at", damaged)
        patch.setattr(nl.node.incidents.own_logs, "_hash_at", damaged)
        forger.hand(forger.run(), be)
        world.run(2.0)
        assert be.node.outbox.counts["epoch-not-renewed"] == 1
        assert be.node.incidents.replicas[incident].group.write_key() is None
    world.run(REPAIR_RETRY_S + 1.0)
    assert be.node.incidents.replicas[incident].group.write_key() is not None
    assert be.node.outbox.counts["epoch-not-renewed"] == 1


def test_a_record_that_becomes_readable_is_merged_a_piece_at_a_time_and_the_node_serves_meanwhile(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(incidents_room, "MERGE_STEP_ENTRIES", 20)
    world = World(12)
    be, de = full_mesh(world, "BE", "DE")
    records = [world.open(be), world.open(be)]
    for incident in records:
        for number in range(60):
            world.log(be, incident, f"entry {number}")
    world.run(15.0)
    assert de.node.holdings.digest() == be.node.holdings.digest()  # it relays what it cannot read
    steps = 0
    step = de.node.step

    def counted(events: list[Event], now: Now) -> Step:
        nonlocal steps
        before = sum(replica.merged for replica in de.node.incidents.replicas.values())
        done = step(events, now)
        merged = sum(replica.merged for replica in de.node.incidents.replicas.values()) - before
        steps += merged > 0
        assert merged <= 20 + 2
        return done

    monkeypatch.setattr(de.node, "step", counted)
    world.step(
        be, [ShareIncident(900 + number, incident, "m", ("DE",), True) for number, incident in enumerate(records)]
    )
    world.run(15.0)
    for incident in records:
        alike([be, de], incident)
    assert steps > 5


def test_a_node_that_asks_is_shown_the_newest_packages_as_many_as_one_message_holds() -> None:
    world, be, _, incident = pair(8)
    assert be.node.incidents.packages(IncidentId(bytes(16))) == ([], 0)
    replica = be.node.incidents.replicas[incident]
    for _ in range(PACKAGES_MAX + 2):
        be.node.incidents._renew_epoch(replica, "", world.time_of(0))
    world.step(be, [])
    packages, older = be.node.incidents.packages(incident)
    assert (len(packages), older) == (PACKAGES_MAX, 3)
    newest = [key_id for key_id, _ in reversed(replica.packages)]
    assert [key_id for key_id, _ in packages] == newest[:PACKAGES_MAX]
    packages, older = be.node.incidents.packages(incident, older)
    assert ([key_id for key_id, _ in packages], older) == (newest[PACKAGES_MAX:], 0)
    assert be.node.incidents.packages(incident, 1_000_000) == be.node.incidents.packages(incident)


def test_packages_of_a_message_stay_below_its_size(monkeypatch: pytest.MonkeyPatch) -> None:
    world, be, _, incident = pair(9)
    monkeypatch.setattr(incidents_room, "PACKAGES_BYTES_MAX", 10_000)
    for _ in range(3):
        be.node.incidents._renew_epoch(be.node.incidents.replicas[incident], "", world.time_of(0))
    world.step(be, [])
    seen, older = 0, 0
    while older or not seen:
        packages, older = be.node.incidents.packages(incident, older)
        seen += len(packages)
        assert 1 <= len(packages) < 4
        assert sum(len(package) for _, package in packages) <= 10_000
    assert seen == 4
    monkeypatch.setattr(incidents_room, "PACKAGES_BYTES_MAX", 10)
    assert [len(be.node.incidents.packages(incident, older)[0]) for older in range(1, 5)] == [1, 1, 1, 1]


def test_a_package_is_for_this_node_or_it_is_not(monkeypatch: pytest.MonkeyPatch) -> None:
    world, be, nl, incident = pair(10)
    de = world.add("DE", relay=False)
    ((key_id, package),), _ = be.node.incidents.packages(incident)
    assert not de.node.incidents.try_package(incident, key_id, package)
    assert not de.node.incidents.is_member(incident)
    fresh = world.add("AT", relay=False)
    fresh.node.incidents._ring = nl.node.rollcall.ring
    assert fresh.node.incidents.try_package(incident, key_id, package)
    assert fresh.node.incidents.is_member(incident)
    assert epochs.key_id(fresh.node.incidents.replicas[incident].keys[key_id]) == key_id


def test_a_clock_before_1970_writes_the_year_1970() -> None:
    world = World(11)
    be = world.add("BE")
    step = be.node.step(
        [OpenIncident(5, "officer", "other", (Change(ChangeKind.SET, field="title", value="t"),))],
        Now(world.now, -5_000),
    )
    (reply,) = [effect for effect in step.effects if isinstance(effect, Reply)]
    assert isinstance(reply.outcome, Written)
    (value,) = be.reading.fields(reply.outcome.incident)["title"].values
    assert value.author.time_ms == 0
