"""Hostile members, strangers and bytes at live nodes: refused or set aside alike everywhere, with a code; all go on.

Byzantine faults B1, B3, B7, B8, B9, B10, B14; bad input X1, X6; clocks C1; versions P7.
"""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import Any

import pytest
from core_support import INCIDENT, LogWriter, refused
from forger import Forger
from hostile_mesh import LOG_OPERATION, YEARS_MS, Mesh
from node_stories import alike, log_texts, values
from world import Host, World, full_mesh, make_identity

from meshnode.core import acts, codec, entry, epochs, wire
from meshnode.core.causal import DISPLAY_LEAD_TICKS_MAX, TICKS_PER_MS
from meshnode.core.entry import Content, Opening
from meshnode.core.events import Change, ChangeKind
from meshnode.core.ids import ROOT_OBJECT, Dot, EntryHash, IncidentId, ObjectId
from meshnode.core.operations import Set, encode_operation
from meshnode.core.replica import FLAG_NOT_ENTITLED
from meshnode.errors import RefusedError


@pytest.fixture
def mesh() -> Mesh:
    return Mesh()


# --- entries that their log key really signed -----------------------------------------------------------------------


def _sealed_garbage(forger: Forger) -> None:
    forger.write(b"", sealed=bytes(104))


def _wrong_key(forger: Forger) -> None:
    forger.write(forger.content(LOG_OPERATION), epoch_key=bytes(32))


def _not_canonical(forger: Forger) -> None:
    """X6: a valid signature over bytes that say the same in another form."""
    plain = entry.encode_content(forger.content(LOG_OPERATION))
    assert plain[:1] == b"\xa5"
    forger.write(b"\xb8\x05" + plain[1:])


def _no_map(forger: Forger) -> None:
    forger.write(codec.encode(["no", "map"]))


def _twice_the_same_parent(forger: Forger) -> None:
    head = forger.heads()[0]
    fields = {0: [head, head], 1: 5, 2: "o"}
    forger.write(codec.encode(fields))


def _no_opening(forger: Forger) -> None:
    forger.write(forger.content(LOG_OPERATION, opening=None))


def _opening_of_another_log(forger: Forger) -> None:
    other = Forger(forger.world, forger.host, forger.incident, "another log")
    forger.write(forger.content(LOG_OPERATION, opening=other.opening()))


def _opening_in_the_name_of_another(forger: Forger) -> None:
    bundle = make_identity("BE", "1").certificate.bundle
    forger.write(forger.content(LOG_OPERATION, opening=Opening(bundle, forger.opening().signature)))


def _opening_by_a_foreign_network(forger: Forger) -> None:
    forger.write(forger.content(LOG_OPERATION, opening=forger.opening(make_identity("NL", "1", network=7))))


def _opening_with_a_bent_bundle(forger: Forger) -> None:
    good = forger.opening()
    forger.write(forger.content(LOG_OPERATION, opening=Opening(good.bundle[:-1], good.signature)))


def _malformed_operation(forger: Forger) -> None:
    forger.write(forger.content([1, "incident", b"short", "title", "x", []]))


def _malformed_operation_after_good_entries(forger: Forger) -> None:
    forger.say("good")
    forger.write(forger.content(["no code"]))
    forger.say("behind the bad one")


def _epoch_without_package(forger: Forger) -> None:
    forger.write(forger.content(epoch=[1, [[bytes(32), 0]], []]))


def _package_without_epoch(forger: Forger) -> None:
    forger.write(forger.content(LOG_OPERATION), package=b"package")


def _malformed_epoch_body(forger: Forger) -> None:
    forger.write(forger.content(epoch=["no body"]), package=b"package")


def _key_it_had_not_seen(forger: Forger) -> None:
    """Another log started the key; its own past ends before that, and makes it a member."""
    parents = forger.heads()
    other = Forger(forger.world, forger.host, forger.incident, "starts an epoch")
    others = [link.peer for link in forger.host.links.values()]
    key = other.start_epoch(forger.host, *others)
    other.hand(other.run(), *others)
    content = forger.content(LOG_OPERATION, parents=parents)
    forger.write(content, key_id=epochs.key_id(key), epoch_key=key)


def _opened_before_it_was_added(forger: Forger) -> None:
    """By a member, in whose past nothing makes it one."""
    forger.write(forger.content(LOG_OPERATION, parents=()))


def _opened_by_a_stranger(forger: Forger) -> None:
    """Somebody enrolled and no member, to whom the member gave the keys."""
    forger.write(forger.content(LOG_OPERATION, opening=forger.opening(make_identity("FR", "1"))))
    forger.say("behind the bad one")


def _position_that_does_not_open(forger: Forger) -> None:
    """A sealed part of position 1 at position 2."""
    first = forger.say("first")
    forger.write(b"", sealed=first.sealed)


BROKEN: list[tuple[Callable[[Forger], None], str]] = [
    (_sealed_garbage, "entry-unreadable"),
    (_wrong_key, "entry-unreadable"),
    (_position_that_does_not_open, "entry-unreadable"),
    (_not_canonical, "cbor-not-canonical"),
    (_no_map, "content-malformed"),
    (_twice_the_same_parent, "content-malformed"),
    (_no_opening, "opening-missing"),
    (_opening_of_another_log, "bad-signature"),
    (_opening_in_the_name_of_another, "bad-signature"),
    (_opening_by_a_foreign_network, "certificate-foreign-network"),
    (_opening_with_a_bent_bundle, "cbor-truncated"),
    (_malformed_operation, "operation-bad-object"),
    (_malformed_operation_after_good_entries, "operation-bad-code"),
    (_epoch_without_package, "epoch-incomplete"),
    (_package_without_epoch, "epoch-incomplete"),
    (_malformed_epoch_body, "body-malformed"),
    (_key_it_had_not_seen, "entry-key-not-started"),
    (_opened_before_it_was_added, "log-of-stranger"),
    (_opened_by_a_stranger, "log-of-stranger"),
]


@pytest.mark.parametrize(("forge", "code"), BROKEN, ids=lambda case: getattr(case, "__name__", "").strip("_"))
def test_an_entry_that_its_log_key_signed_and_that_cannot_be_judged_breaks_its_log_at_every_member_alike(
    mesh: Mesh, forge: Callable[[Forger], None], code: str
) -> None:
    forge(mesh.forger)
    mesh.forger.hand(mesh.forger.run(), *mesh.honest)
    mesh.world.run(15.0)  # NL's own node hears of it from the others
    for host in mesh.everybody:
        assert mesh.broken(host) == [(mesh.forger.log, code)]
        assert code in host.codes
        assert host.node.holdings.head(mesh.incident, mesh.forger.log)[0] == len(mesh.forger.entries)
        assert "behind the bad one" not in log_texts(host, mesh.incident)
    # What follows in that log is stored, passed on, and never merged.
    mesh.forger.say("afterwards")
    mesh.forger.hand(mesh.forger.run(mesh.forger.entries[-1:]), mesh.be)
    mesh.world.run(2.0)
    assert not any("afterwards" in log_texts(host, mesh.incident) for host in mesh.everybody)
    mesh.check_serving()
    mesh.world.crash(mesh.be)
    mesh.world.restart(mesh.be)
    assert mesh.broken(mesh.be) == [(mesh.forger.log, code)]
    mesh.world.stop(mesh.be)
    mesh.world.restart(mesh.be)
    assert mesh.broken(mesh.be) == [(mesh.forger.log, code)]


def test_what_a_device_writes_that_is_no_member_is_merged_and_named_by_nobody(mesh: Mesh) -> None:
    _opened_by_a_stranger(mesh.forger)
    before = mesh.be.node.incidents.replicas[mesh.incident].merged
    mesh.forger.hand(mesh.forger.run(), *mesh.honest)
    mesh.world.run(15.0)
    for host in mesh.everybody:
        assert log_texts(host, mesh.incident) == ["before"]
        assert host.reading.summary(mesh.incident).entries == before
        assert host.reading.summary(mesh.incident).waiting == 0
        assert not host.node.custody.vouches_for(mesh.incident, mesh.forger.log)
    mesh.check_serving()


def test_what_a_reader_writes_is_void_everywhere_and_keeps_its_place() -> None:
    mesh = Mesh(2)
    fr = mesh.world.add("FR", peers=("BE:1",))
    mesh.world.run(5.0)
    add_reader(mesh, fr)
    reader = Forger(mesh.world, fr, mesh.incident, "reader")
    reader.say("I may only read")
    reader.write(reader.content(encode_operation(Set("incident", ROOT_OBJECT, "title", "Taken over", ()))))
    reader.hand(reader.run(), mesh.be)
    mesh.world.run(15.0)
    for host in [*mesh.everybody, fr]:
        assert log_texts(host, mesh.incident) == ["before"]
        assert values(host, mesh.incident, "title") == ["Release"]
        replica = host.node.incidents.replicas[mesh.incident]
        assert [replica.flags(reader.log, seq) & FLAG_NOT_ENTITLED for seq in (1, 2)] == [FLAG_NOT_ENTITLED] * 2
        assert host.reading.summary(mesh.incident).entries == replica.merged
        assert set(_void_in_history(host, mesh, "not-entitled").values()) == {"its author may not write here"}
    assert all("not-entitled" in host.codes for host in mesh.everybody)
    mesh.check_serving()


def add_reader(mesh: Mesh, host: Host) -> None:
    """BE, its manager, adds this device as a reader, as no command does yet; BE's node then makes the epoch."""
    incidents = mesh.be.node.incidents
    replica = incidents.replicas[mesh.incident]
    act = acts.add_act([(host.identity.device, host.identity.certificate.noc, acts.Role.READER)])
    key_id = replica.group.write_key()
    assert key_id is not None
    now = mesh.world.time_of(0)
    incidents.own_logs.append(replica, (), "manager", now, key_id, membership=[act])
    incidents._watch_epochs(mesh.incident, replica, now)
    mesh.world.run(75.0)


def _void_in_history(host: Host, mesh: Mesh, code: str) -> dict[str, str]:
    """Entries that the history shows as void for this reason, and what the reason is."""
    items = host.reading.history_page(mesh.incident, "", 1_000, None).items
    return {item.entry: item.void_reason for item in items if item.void == code}


def test_what_names_values_that_it_does_not_show_to_have_seen_is_void_everywhere_whatever_came_first(
    mesh: Mesh,
) -> None:
    """B8. BE hears of the names first, DE of what they name; NL's own node of both from them."""
    named = Forger(mesh.world, mesh.nl, mesh.incident, "named")
    concurrent = Forger(mesh.world, mesh.nl, mesh.incident, "concurrent")
    never = Forger(mesh.world, mesh.nl, mesh.incident, "never handed over")

    def set_title(forger: Forger, value: str, *replaces: Dot) -> str:
        operation = Set("incident", ROOT_OBJECT, "title", value, tuple(sorted(replaces)))
        made = forger.write(forger.content(encode_operation(operation)))
        return f"{forger.log.hex()}.{made.seq}"

    set_title(named, "first of the named")
    void = {
        set_title(mesh.forger, "instead of what comes", Dot(named.log, 1, 0), Dot(named.log, 2, 0)),
        set_title(mesh.forger, "instead of nothing", Dot(never.log, 1, 0)),
        set_title(concurrent, "instead of what stands beside it", Dot(mesh.forger.log, 1, 0)),
        set_title(named, "instead of what names it", Dot(mesh.forger.log, 1, 0)),
    }
    first, late = (mesh.forger, concurrent), (named,)
    for host, order in ((mesh.be, (*first, *late)), (mesh.de, (*late, *first))):
        for forger in order:
            forger.hand(forger.run(), host)
    mesh.world.run(15.0)
    for _ in range(2):
        assert len({host.reading.digest(mesh.incident) for host in mesh.everybody}) == 1
        for host in mesh.everybody:
            assert host.reading.summary(mesh.incident).waiting == 0
            assert mesh.broken(host) == []
            assert values(host, mesh.incident, "title") == ["Release", "first of the named"]
            shown = _void_in_history(host, mesh, "names-unseen")
            assert set(shown) == void
            assert all(shown.values())
        mesh.world.crash(mesh.be)  # the journal is judged again
        mesh.world.restart(mesh.be)
        mesh.world.stop(mesh.de)  # the checkpoint is taken over
        mesh.world.restart(mesh.de)
        mesh.world.run(15.0)
    assert all("names-unseen" in host.codes for host in mesh.everybody)
    mesh.check_serving()


def test_acts_that_their_author_had_no_right_to_are_void_everywhere(mesh: Mesh) -> None:
    fr = make_identity("FR", "1")
    promote = acts.add_act([(mesh.nl.identity.device, "NL", acts.Role.MANAGER)])
    invite = acts.add_act([(fr.device, "FR", acts.Role.WRITER)])
    create = acts.create_act(bytes(16), [(mesh.nl.identity.device, "NL", acts.Role.MANAGER)])
    for act in (promote, invite, create, [2, "malformed"], [99, "of a newer version"], "no act"):
        mesh.forger.write(mesh.forger.content(acts=(act,)))
    mesh.forger.hand(mesh.forger.run(), *mesh.honest)
    mesh.world.run(15.0)  # NL's own node hears of it from the others
    for host in mesh.everybody:
        assert {"act-not-entitled", "act-wrong-handle", "act-malformed", "act-unknown"} <= host.codes
        assert {member.noc: member.role for member in host.reading.members(mesh.incident)} == {
            "BE": "manager",
            "DE": "writer",
            "NL": "writer",
        }
    mesh.check_serving()


def test_an_epoch_for_the_wrong_devices_is_never_written_under(mesh: Mesh) -> None:
    """B9, B10: sealed to itself, and to an outsider."""
    key = mesh.forger.start_epoch(mesh.nl)
    mesh.forger.hand(mesh.forger.run(), *mesh.honest)
    mesh.world.run(75.0)
    for host in mesh.honest:
        assert "epoch-wrong-recipients" in host.codes
        assert host.node.incidents.replicas[mesh.incident].group.write_key() != epochs.key_id(key)
    fr = mesh.world.add("FR", peers=("BE:1",))
    mesh.world.run(5.0)
    outsider = Forger(mesh.world, mesh.nl, mesh.incident, "second")
    leaked = outsider.start_epoch(mesh.be, mesh.de, mesh.nl, fr, key=b"k" * 32)
    outsider.hand(outsider.run(), *mesh.honest)
    mesh.world.run(75.0)
    for host in mesh.honest:
        assert host.node.incidents.replicas[mesh.incident].group.write_key() != epochs.key_id(leaked)
    mesh.check_serving()
    assert "BE goes on" not in _read_with(fr, mesh.incident)


def _read_with(host: Host, incident: IncidentId) -> list[str]:
    replica = host.node.incidents.replicas.get(incident)
    return [] if replica is None or not replica.merged else log_texts(host, incident)


def test_a_package_that_no_member_can_open_costs_the_record_nothing(mesh: Mesh) -> None:
    """B9: a wrong key in every box. Who gets no key says so; the epoch is not believed by those who cannot read it."""
    key = b"z" * 32
    roster = mesh.nl.node.rollcall.roster
    prekeys = [enrolled.prekey for host in mesh.everybody if (enrolled := roster.get(host.identity.device))]
    parents = [mesh.forger.replica.keys[key_id] for key_id in mesh.forger.replica.group.parent_keys()]
    package = epochs.make_package(prekeys, b"y" * 32, mesh.incident, mesh.world.rng.randbytes)
    body = epochs.EpochBody.make(prekeys, parents).to_plain()
    mesh.forger.write(mesh.forger.content(epoch=body), package=package, key_id=epochs.key_id(key), epoch_key=key)
    mesh.forger.hand(mesh.forger.run(), *mesh.honest)
    mesh.world.run(15.0)  # NL's own node hears of it from the others
    for host in mesh.honest:
        assert host.reading.summary(mesh.incident).waiting == 1
    for host in mesh.honest:
        mesh.world.log(host, mesh.incident, f"{host.name} goes on")
    mesh.world.run(75.0)
    digests = {host.reading.digest(mesh.incident) for host in mesh.honest}
    assert len(digests) == 1


def test_entries_that_name_what_nobody_has_wait_and_hold_nobody_else_up(mesh: Mesh) -> None:
    """B8: dangling parents, as many as there may be."""
    dangling = tuple(EntryHash(random.Random(number).randbytes(32)) for number in range(16))
    mesh.forger.write(mesh.forger.content(LOG_OPERATION, parents=dangling))
    mesh.forger.say("behind it")
    mesh.forger.hand(mesh.forger.run(), *mesh.honest)
    mesh.world.run(15.0)  # NL's own node hears of it from the others
    for host in mesh.everybody:
        assert host.reading.summary(mesh.incident).waiting == 2
        assert mesh.broken(host) == []
    for host in mesh.honest:
        mesh.world.log(host, mesh.incident, f"{host.name} goes on")
    mesh.world.run(20.0)
    assert len({host.reading.digest(mesh.incident) for host in mesh.everybody}) == 1
    assert len(log_texts(mesh.de, mesh.incident)) == 3


def test_an_entry_under_a_key_nobody_knows_waits_and_counts_as_waiting(mesh: Mesh) -> None:
    key = b"u" * 32
    mesh.forger.write(mesh.forger.content(LOG_OPERATION), key_id=epochs.key_id(key), epoch_key=key)
    mesh.forger.hand(mesh.forger.run(), *mesh.honest)
    mesh.world.run(15.0)  # NL's own node hears of it from the others
    assert [host.reading.summary(mesh.incident).waiting for host in mesh.everybody] == [1, 1, 1]
    assert len({host.reading.digest(mesh.incident) for host in mesh.everybody}) == 1


def test_parents_that_name_the_own_log_or_what_other_parents_cover_do_no_harm(mesh: Mesh) -> None:
    first = mesh.forger.say("first")
    old = tuple(
        mesh.forger.replica.hash_at(log, seq)
        for log, height in mesh.forger.replica.merged_heads()
        for seq in range(1, height + 1)
    )
    mesh.forger.hand(mesh.forger.run(), *mesh.honest)
    mesh.world.run(15.0)
    mesh.forger.write(mesh.forger.content(LOG_OPERATION, parents=(first.hash, *old[:10])))
    mesh.forger.hand(mesh.forger.run(mesh.forger.entries[1:]), *mesh.honest)
    mesh.world.run(15.0)
    for host in mesh.everybody:
        assert "forged" in log_texts(host, mesh.incident)
    mesh.check_serving()


def test_a_second_opening_changes_nobody_s_name(mesh: Mesh) -> None:
    mesh.forger.say("first")
    other = make_identity("BE", "1")
    mesh.forger.write(mesh.forger.content(LOG_OPERATION, opening=mesh.forger.opening(other)))
    mesh.forger.hand(mesh.forger.run(), *mesh.honest)
    mesh.world.run(15.0)
    for host in mesh.everybody:
        records = host.reading.log_page(mesh.incident, "", 10, False).items
        assert {record.author.noc for record in records if record.record["text"] == "forged"} == {"NL"}
    mesh.check_serving()


@pytest.mark.parametrize("time_ms", [0, 2**53 - 1])
def test_the_clock_of_a_hostile_entry_moves_nobody_and_loses_nothing(mesh: Mesh, time_ms: int) -> None:
    """B7. Also in an epoch of its own."""
    mesh.forger.start_epoch(mesh.nl, time_ms=time_ms)
    mesh.forger.write(mesh.forger.content(LOG_OPERATION, time_ms=time_ms), key_id=mesh.forger.key_id)
    mesh.forger.hand(mesh.forger.run(), *mesh.honest)
    mesh.world.run(15.0)  # NL's own node hears of it from the others
    mesh.check_serving()


# --- clocks ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("skew_ms", [YEARS_MS, -YEARS_MS, -(10**15)])
def test_a_clock_years_off_moves_nobody_s_order_by_more_than_a_quarter_of_an_hour_and_loses_nothing(
    skew_ms: int,
) -> None:
    """C1, I13."""
    world = World(4)
    be, nl, de = full_mesh(world, "BE", "NL", "DE")
    incident = world.open(be, share=("NL", "DE"))
    world.run(1.0)
    nl.wall_skew_ms = skew_ms
    world.crash(nl)
    world.restart(nl)
    world.run(5.0)
    for number in range(3):
        for host in (be, nl, de):
            world.log(host, incident, f"{host.name} {number}")
            world.run(1.0)
    alike([be, nl, de], incident)
    order = [f"{noc} {number}" for number in range(3) for noc in ("BE", "NL", "DE")]
    for host in (be, nl, de):
        assert log_texts(host, incident) == order
    replica = be.node.incidents.replicas[incident]
    now_ticks = world.time_of(0).wall_ms * TICKS_PER_MS
    latest = max(time for time, _, _ in replica.timeline())
    assert latest <= now_ticks + 3 * DISPLAY_LEAD_TICKS_MAX  # NL wrote three times
    shown = {record.author.noc: record.author.time_ms for record in be.reading.log_page(incident, "", 100, False).items}
    assert abs(shown["NL"] - max(0, world.time_of(skew_ms).wall_ms)) < 10_000  # what it wrote is shown as it wrote it
    second = world.open(nl, share=("BE",))
    world.run(1.0)
    alike([be, nl], second)


# --- newer versions -------------------------------------------------------------------------------------------------


def test_what_a_newer_version_writes_is_kept_merged_shown_and_passed_on(mesh: Mesh) -> None:
    """P7: unknown operations, collections, fields, values, items, content keys; at a member that knows none of them."""
    thing = ObjectId(b"thing of a later")
    operations = [
        [77, "an operation of a newer version", {1: [2]}],
        [1, "drones", thing, "altitude_m", 120, []],
        [1, "incident", ROOT_OBJECT, "threat_level", {"a": "new", "b": [1, 2]}, []],
        [1, "incident", ROOT_OBJECT, "severity", 7, []],  # a type that this version does not expect there
        [6, {"text": "with more", "newer": True}, "an item behind the known ones"],
    ]
    content = mesh.forger.content(*operations)
    fields = codec.decode_trusted(entry.encode_content(content))
    fields[40] = "a part of a newer version"
    fields["text key"] = None
    mesh.forger.write(codec.encode(fields))
    mesh.forger.hand(mesh.forger.run(), mesh.be)
    mesh.world.run(2.0)
    fr = mesh.world.add("FR", peers=("DE:1",))
    mesh.world.run(5.0)
    mesh.world.share(mesh.be, mesh.incident, "FR")
    mesh.world.run(20.0)
    for host in [*mesh.everybody, fr]:
        assert "with more" in log_texts(host, mesh.incident)
        (drone,) = host.reading.collection(mesh.incident, "drones")
        assert drone.fields["altitude_m"].values[0].value == 120
        assert not host.reading.fields(mesh.incident)["severity"].values[0].well_typed
        assert host.reading.fields(mesh.incident)["threat_level"].values
        kinds = {
            operation.kind
            for item in host.reading.history_page(mesh.incident, "", 100, None).items
            for operation in item.operations
        }
        assert "unknown-77" in kinds
    alike([*mesh.everybody, fr], mesh.incident)
    change = Change(ChangeKind.SET, collection="drones", object=thing, field="altitude_m", value=130)
    with refused("unknown-collection", error=RefusedError):  # shown, and changed only by who knows what it means
        mesh.world.change(mesh.be, mesh.incident, change)
    mesh.check_serving()
    mesh.world.stop(mesh.de)
    mesh.world.restart(mesh.de)
    mesh.world.run(70.0)
    alike([*mesh.everybody, fr], mesh.incident)


def test_messages_and_items_of_a_newer_version_do_not_cost_the_link(mesh: Mesh) -> None:
    (before,) = [number for number, link in mesh.nl.links.items() if link.peer is mesh.be]
    summary = codec.decode_trusted(wire.encode(wire.Summary(bytes(32), bytes(32))))
    for frame in ([16, {"any": "thing"}], [10_000], [*summary, "more", [1, 2]]):
        mesh.world.say(mesh.nl, mesh.be, codec.encode(frame))
        mesh.world.run(0.1)
    assert before in mesh.nl.links
    assert mesh.be.node.outbox.counts["message-unknown"] == 2
    mesh.check_serving()


def test_a_stranger_s_incident_is_relayed_and_not_read(mesh: Mesh) -> None:
    other = LogWriter("of another incident", INCIDENT)
    other.grow(5)
    mesh.forger.hand(other.run(), mesh.be)
    mesh.world.run(15.0)
    assert mesh.de.node.holdings.head(INCIDENT, other.id)[0] == 5
    assert [summary.id for summary in mesh.be.reading.incidents()] == [mesh.incident.hex()]
    content: Any = Content((), 0, "")
    assert entry.encode_content(content)
    mesh.check_serving()
