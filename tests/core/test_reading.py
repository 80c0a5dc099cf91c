"""What the local API shows: pages that join without a gap, files, peers, and nothing that is not there."""

from __future__ import annotations

import pytest
from core_support import refused
from world import Attachment, Host, World, full_mesh

from meshnode.core import reading as reading_room
from meshnode.core.events import Change, ChangeIncident, ChangeKind, OpenIncident, RoundTrip
from meshnode.core.ids import ROOT_OBJECT, IncidentId, ObjectId
from meshnode.core.operations import Add, Chunk, Create, Delete, Remove, Set, Unknown, encode_operation
from meshnode.core.views import HistoryView, Page, RecordView
from meshnode.errors import RefusedError


class Desk:
    """BE and NL with an incident in which each kind of operation was written."""

    def __init__(self) -> None:
        self.world = World(1)
        self.be, self.nl = full_mesh(self.world, "BE", "NL")
        self.incident = self.world.open(self.be, share=("NL",))
        self.world.run(1.0)
        self.person = self.do(self.be, Change(ChangeKind.CREATE, collection="persons"))
        self.do(self.be, self.on(ChangeKind.SET, "family_name", "Janssens"))
        self.do(self.nl, self.on(ChangeKind.ADD, "aliases", "Red"))
        self.do(self.nl, self.on(ChangeKind.REMOVE, "aliases", "Red"))
        for number in range(5):
            self.world.log(self.nl if number % 2 else self.be, self.incident, f"record {number}")
            self.world.run(0.5)
        self.world.run(12.0)

    def on(self, kind: ChangeKind, field: str, value: object) -> Change:
        return Change(kind, collection="persons", object=self.person, field=field, value=value)

    def do(self, host: Host, change: Change) -> ObjectId:
        written = self.world.change(host, self.incident, change)
        self.world.run(0.5)
        return written.objects[0]


@pytest.fixture(scope="module")
def desk() -> Desk:
    return Desk()


def pages(read: object, newest_first: bool = False, limit: int = 2) -> list[Page]:
    found: list[Page] = []
    cursor = ""
    while True:
        page: Page = read(cursor, limit, newest_first)
        found.append(page)
        if not page.next:
            return found
        cursor = page.next


def log_page(desk: Desk, cursor: str, limit: int, newest_first: bool) -> Page:
    return desk.be.reading.log_page(desk.incident, cursor, limit, newest_first)


def history_page(desk: Desk, cursor: str, limit: int, _: bool) -> Page:
    return desk.be.reading.history_page(desk.incident, cursor, limit, None)


# --- log book and history -------------------------------------------------------------------------------------------


def test_pages_of_the_log_book_join_without_gap_or_overlap_in_both_directions(desk: Desk) -> None:
    expected = [f"record {number}" for number in range(5)]
    for newest_first in (False, True):
        for limit in (1, 2, 5, 100):
            found = pages(lambda *page: log_page(desk, *page), newest_first, limit)
            records: list[RecordView] = [item for page in found for item in page.items]
            assert [record.record["text"] for record in records] == expected[:: -1 if newest_first else 1]
            assert all(len(page.items) <= limit for page in found)
    assert {record.author.noc for record in records} == {"BE", "NL"}
    assert len({record.id for record in records}) == 5


def test_a_page_goes_on_where_it_ended_when_more_was_written_meanwhile() -> None:
    desk = Desk()
    first = log_page(desk, "", 3, False)
    desk.world.log(desk.nl, desk.incident, "meanwhile")
    desk.world.run(1.0)
    rest = log_page(desk, first.next, 100, False)
    assert [record.record["text"] for record in rest.items] == ["record 3", "record 4", "meanwhile"]
    assert rest.next == ""


def test_the_history_shows_every_operation_of_every_entry_in_pages(desk: Desk) -> None:
    found = pages(lambda *page: history_page(desk, *page))
    entries: list[HistoryView] = [item for page in found for item in page.items]
    kinds = [operation.kind for entry in entries for operation in entry.operations]
    assert kinds == ["set", "set", "create", "set", "add", "remove", *["log"] * 5]
    assert entries[0].operations == []  # the creating entry holds acts and an epoch
    assert len({entry.entry for entry in entries}) == len(entries)
    operations = [operation for entry in entries for operation in entry.operations]
    named = next(operation for operation in operations if operation.field == "family_name")
    assert (named.collection, named.object, named.value) == ("persons", desk.person.hex(), "Janssens")
    removed, added = operations[5], operations[4]
    assert removed.replaces == [added.id]


def test_the_history_is_read_backwards_too(desk: Desk) -> None:
    forth = pages(lambda *page: history_page(desk, *page))
    back = pages(lambda cursor, limit, _: desk.be.reading.history_page(desk.incident, cursor, limit, None, True))
    assert [item for page in back for item in page.items] == [item for page in forth for item in page.items][::-1]


def test_an_incident_was_opened_when_its_creator_said(desk: Desk) -> None:
    (first,) = desk.be.reading.history_page(desk.incident, "", 1, None).items
    for host in (desk.be, desk.nl):
        assert host.reading.summary(desk.incident).opened_ms == first.author.time_ms > 0


def test_the_history_of_one_object_leaves_out_the_others(desk: Desk) -> None:
    page = desk.be.reading.history_page(desk.incident, "", 100, desk.person)
    assert [operation.kind for item in page.items for operation in item.operations] == [
        "create",
        "set",
        "add",
        "remove",
    ]
    assert desk.be.reading.history_page(desk.incident, "", 100, ObjectId(bytes(15) + b"x")).items == []


def test_a_reader_of_a_quiet_object_does_not_hold_the_loop(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reading_room, "JOURNAL_SCAN_MAX", 3)
    nobody = ObjectId(bytes(15) + b"x")
    first = desk.be.reading.history_page(desk.incident, "", 100, nobody)
    assert (first.items, bool(first.next)) == ([], True)
    looked, cursor = 1, first.next
    while cursor:
        cursor = desk.be.reading.history_page(desk.incident, cursor, 100, nobody).next
        looked += 1
    assert looked == 4


@pytest.mark.parametrize(
    "cursor", ["x", "1.2", "1.2.3", f"1.{'00' * 32}.x", f"-1.{'00' * 32}.1", f"{'9' * 21}.{'00' * 32}.1", "..", "1..1"]
)
def test_a_cursor_that_no_page_gave_is_refused(desk: Desk, cursor: str) -> None:
    with refused("bad-cursor", "bad-identifier"):
        desk.be.reading.log_page(desk.incident, cursor, 10, False)


def test_the_journal_shows_durable_entries_of_all_incidents_or_of_one() -> None:
    desk = Desk()
    second = desk.world.open(desk.nl, share=("BE",))
    desk.world.run(1.0)
    reading, last = desk.be.reading, desk.be.journal
    views, looked = reading.journal(0, last, 1000, None)
    assert [view.journal for view in views] == list(range(1, last + 1))
    assert [view.cursor for view in views] == [reading.cursor(number) for number in range(1, last + 1)]
    assert {view.cursor for view in reading.history_page(second, "", 10, None).items} == {""}
    assert looked == last
    of_second, looked = reading.journal(0, last, 1000, second)
    assert {view.incident for view in of_second} == {second.hex()}
    assert looked == last
    few, looked = reading.journal(2, last, 3, None)
    assert ([view.journal for view in few], looked) == ([3, 4, 5], 5)
    durable, looked = reading.journal(0, 4, 1000, None)
    assert ([view.journal for view in durable], looked) == ([1, 2, 3, 4], 4)
    assert reading.journal(last, last, 10, None) == ([], last)


# --- incidents ------------------------------------------------------------------------------------------------------


def test_what_does_not_exist_is_refused(desk: Desk) -> None:
    reading = desk.be.reading
    for read in (
        lambda: reading.summary(IncidentId(bytes(16))),
        lambda: reading.incident(IncidentId(bytes(16))),
        lambda: reading.log_page(IncidentId(bytes(16)), "", 1, False),
    ):
        with refused("unknown-incident", error=RefusedError):
            read()
    with refused("unknown-object", error=RefusedError):
        reading.object(desk.incident, "persons", ObjectId(bytes(15) + b"x"))
    with refused("unknown-object", error=RefusedError):
        reading.attachment(desk.incident, ObjectId(bytes(15) + b"x"))


def test_an_object_and_its_collection_show_the_same(desk: Desk) -> None:
    reading = desk.be.reading
    view = reading.object(desk.incident, "persons", desk.person)
    assert reading.collection(desk.incident, "persons") == [view]
    assert reading.incident(desk.incident).collections == {"persons": [view]}
    assert reading.fields(desk.incident)["title"].values[0].value == "Release"
    assert [summary.id for summary in reading.incidents()] == [desk.incident.hex()]


def test_a_view_is_built_again_when_something_was_merged_and_few_are_kept() -> None:
    desk = Desk()
    before = desk.be.reading.incident(desk.incident)
    assert desk.be.reading.incident(desk.incident).fields is before.fields
    desk.world.set(desk.nl, desk.incident, "title", "New")
    desk.world.run(1.0)
    assert desk.be.reading.incident(desk.incident).fields["title"].values[0].value == "New"
    others = [desk.world.open(desk.be) for _ in range(reading_room.BUILT_MAX + 1)]
    for incident in others:
        desk.be.reading.incident(incident)
    assert len(desk.be.reading._built) == reading_room.BUILT_MAX
    assert desk.be.reading.incident(desk.incident).fields["title"].values[0].value == "New"


# --- files ----------------------------------------------------------------------------------------------------------


def test_files_are_listed_read_and_gone_once_deleted() -> None:
    desk = Desk()
    world, be, incident = desk.world, desk.be, desk.incident
    second = world.open(be, attached=(Attachment("a.txt", "text/plain", b"a"), Attachment("b.txt", "text/plain", b"")))
    shown = {view.name: view for view in be.reading.attachments(second)}
    assert {(view.name, view.size_bytes, view.media_type) for view in shown.values()} == {
        ("a.txt", 1, "text/plain"),
        ("b.txt", 0, "text/plain"),
    }
    first, empty = (ObjectId(bytes.fromhex(shown[name].id)) for name in ("a.txt", "b.txt"))
    more = tuple(Attachment(name, "text/plain", b"c") for name in ("c.txt", "d.txt"))
    written = world.ask(be, ChangeIncident(901, incident, "duty officer", (), more))
    assert [be.reading.attachment(incident, made).name for made in written.attachments] == ["c.txt", "d.txt"]
    opened = world.ask(be, OpenIncident(902, "duty officer", "other", (), more))
    assert [be.reading.attachment(opened.incident, made).name for made in opened.attachments] == ["c.txt", "d.txt"]
    assert world.log(be, incident, "no file").attachments == ()
    assert be.reading.attachment(second, first) == Attachment("a.txt", "text/plain", b"a")
    assert be.reading.attachment(second, empty).data == b""
    world.change(be, second, Change(ChangeKind.DELETE, collection="attachments", object=first))
    assert [view.name for view in be.reading.attachments(second)] == ["b.txt"]
    with refused("unknown-object", error=RefusedError):
        be.reading.attachment(second, first)
    assert be.reading.attachments(desk.world.open(be)) == []
    pieces = [item.operations for item in be.reading.history_page(second, "", 100, None).items]
    kinds = [operation.kind for operations in pieces for operation in operations]
    assert (kinds.count("chunk"), kinds[-1]) == (1, "delete")


def test_a_file_told_in_odd_values_is_shown_as_far_as_it_goes() -> None:
    """Another member may write anything into the fields of a file."""
    from forger import Forger

    desk = Desk()
    forger = Forger(desk.world, desk.nl, desk.incident)
    odd, nameless = ObjectId(b"o" * 16), ObjectId(b"n" * 16)
    forger.write(
        forger.content(
            encode_operation(Create("attachments", odd)),
            encode_operation(Set("attachments", odd, "name", 7, ())),
            encode_operation(Set("attachments", odd, "size_bytes", "many", ())),
            encode_operation(Create("attachments", nameless)),
        )
    )
    forger.hand(forger.run(), desk.be)
    desk.world.run(1.0)
    (shown,) = desk.be.reading.attachments(desk.incident)
    assert (shown.name, shown.size_bytes, shown.media_type) == ("7", 0, "application/octet-stream")
    with refused("attachment-incomplete", error=RefusedError):
        desk.be.reading.attachment(desk.incident, nameless)


# --- operations -----------------------------------------------------------------------------------------------------


def test_each_kind_of_operation_has_its_view() -> None:
    from forger import Forger

    desk = Desk()
    forger = Forger(desk.world, desk.nl, desk.incident)
    thing = ObjectId(b"t" * 16)
    operations = [
        Create("persons", thing),
        Set("incident", ROOT_OBJECT, "title", "T", ()),
        Add("persons", thing, "aliases", "A"),
        Remove("persons", thing, "aliases", ()),
        Delete("persons", thing, ()),
        Chunk(thing, 3, b"bytes"),
        Unknown(99, ("newer",)),
    ]
    forger.write(forger.content(*(encode_operation(operation) for operation in operations)))
    forger.hand(forger.run(), desk.be)
    desk.world.run(1.0)
    page = desk.be.reading.history_page(desk.incident, "", 100, None)
    shown = next(item for item in page.items if item.entry == f"{forger.log.hex()}.1").operations
    assert [(view.kind, view.collection, view.value) for view in shown] == [
        ("create", "persons", None),
        ("set", "incident", "T"),
        ("add", "persons", "A"),
        ("remove", "persons", None),
        ("delete", "persons", None),
        ("chunk", "attachments", {"index": 3}),
        ("unknown-99", "", None),
    ]


# --- the node and its peers -----------------------------------------------------------------------------------------


def test_peers_are_shown_with_what_is_known_of_them() -> None:
    world = World(2)
    be, nl, de = full_mesh(world, "BE", "NL", "DE")
    incident = world.open(be, share=("NL",))
    world.run(15.0)
    (link,) = [number for number, link in be.links.items() if link.peer is nl]
    world.step(be, [RoundTrip(link, 0.02), RoundTrip(10_000, 1.0)])
    world.crash(de)
    world.run(1.0)
    shown = {peer.noc: peer for peer in be.reading.peers()}
    assert (shown["NL"].state, shown["NL"].round_trip_ms, shown["NL"].they_lack, shown["NL"].we_lack) == (
        "connected",
        20.0,
        0,
        0,
    )
    assert (shown["DE"].state, shown["DE"].round_trip_ms, shown["DE"].we_lack) == ("cut-off", None, None)
    assert shown["NL"].addresses == ["NL:1"]
    assert all(peer.prekey_known and peer.relay for peer in shown.values())
    # One that never was linked since the start is known from the roster only.
    world.crash(be)
    world.crash(nl)
    world.restart(be)
    fresh = {peer.noc: peer for peer in be.reading.peers()}
    assert {peer.state for peer in fresh.values()} <= {"connecting", "cut-off"}
    assert fresh["NL"].name == "1"
    assert fresh["NL"].they_lack is None
    world.run(5.0)
    assert be.reading.summary(incident).entries == 2


def test_a_peer_without_a_prekey_here_is_shown_as_such() -> None:
    world = World(3)
    be, nl = full_mesh(world, "BE", "NL")
    del be.node.rollcall.roster._devices[nl.identity.device]
    (shown,) = be.reading.peers()
    assert (shown.noc, shown.prekey_known) == ("NL", False)


def test_the_node_shows_who_it_is_what_it_holds_and_what_it_refused(desk: Desk) -> None:
    view = desk.be.reading.node("1.2.3", 5_000, 1_000, ["be.example:4433"], 42)
    assert (view.identity.noc, view.identity.device) == ("BE", desk.be.identity.device.hex())
    assert view.identity.network == desk.be.identity.network_root.hex()
    assert (view.version, view.time_ms, view.started_ms, view.addresses) == ("1.2.3", 5_000, 1_000, ["be.example:4433"])
    assert (view.peers_connected, view.peers_known, view.incidents, view.store_bytes) == (1, 1, 1, 42)
    assert view.entries == desk.be.node.holdings.entries
    assert view.journal == desk.be.journal
    assert (view.degraded, view.relay) == ([], True)


def test_members_show_who_added_them_and_who_holds_the_key(desk: Desk) -> None:
    members = {member.noc: member for member in desk.nl.reading.members(desk.incident)}
    assert {member.added_by for member in members.values()} == {desk.be.identity.device.hex()}
    assert all(member.holds_current_key and member.name == "1" for member in members.values())
    assert members["BE"].added_at_ms > 0
    del desk.nl.node.rollcall.roster._devices[desk.be.identity.device]
    assert {member.name for member in desk.nl.reading.members(desk.incident)} == {"", "1"}
