"""Cursors of the journal: one from before an older copy of the store came back fits no more."""

from __future__ import annotations

import copy

from node_stories import log_texts
from world import Host, World, full_mesh

from meshnode.core.archive import STRETCH_NAMESPACE
from meshnode.core.ids import IncidentId
from meshnode.core.log import CommitBatch
from meshnode.errors import LocalFaultError


def cursors(host: Host) -> list[str]:
    return [host.reading.cursor(number) for number in range(host.node.archive.journal + 1)]


def alone(texts: int) -> tuple[World, Host, IncidentId]:
    world = World(1)
    (be,) = full_mesh(world, "BE")
    incident = world.open(be)
    for number in range(texts):
        world.log(be, incident, f"record {number}")
    return world, be, incident


def put_back(world: World, host: Host, older: object) -> None:
    world.crash(host)
    host.store = older
    world.restart(host)


def test_cursors_hold_over_crashes_and_stops_and_each_start_that_writes_has_its_own_name() -> None:
    world, be, incident = alone(3)
    shown = cursors(be)
    assert shown[0] == "0"
    for end in (world.crash, world.stop, world.crash):
        end(be)
        world.restart(be)
        assert cursors(be) == shown  # a start that merges nothing leaves no trace
        world.log(be, incident, "after a start")
        assert cursors(be)[:-1] == shown
        shown = cursors(be)
    world.crash(be)
    world.restart(be, read_only=LocalFaultError("store-full", "the disk is full", "free space"))
    assert cursors(be) == shown
    assert len({cursor.partition("-")[2] for cursor in shown[1:]}) == 4
    assert all(cursor.partition("-")[0] == str(number) for number, cursor in enumerate(shown))


def test_after_an_older_copy_came_back_no_cursor_of_what_it_lost_fits_however_long_the_journal_grows() -> None:
    world, be, incident = alone(3)
    older = copy.deepcopy(be.store)
    known = len(cursors(be))
    for number in range(4):
        world.log(be, incident, f"lost {number}")
    before = cursors(be)
    for again in (older, copy.deepcopy(older)):  # the same copy may come back twice
        put_back(world, be, again)
        assert cursors(be) == before[:known]
        for number in range(9):
            world.log(be, incident, f"new {number}")
        after = cursors(be)
        assert after[:known] == before[:known]
        assert not set(after[known:]) & set(before)
        before = after


def test_a_cursor_does_not_fit_either_where_the_same_entry_has_the_same_number_again() -> None:
    """Its hash would say that nothing has changed, and hide what now stands before it."""
    world = World(2)
    be, nl = full_mesh(world, "BE", "NL")
    incident = world.open(be, share=("NL",))
    world.run(12.0)
    older = copy.deepcopy(be.store)
    number = be.node.archive.journal + 2
    world.filter = lambda sender, _receiver, data: [] if sender is be else [data]
    world.log(be, incident, "lost")
    world.log(nl, incident, "from NL")
    world.run(1.0)
    assert sorted(log_texts(be, incident)) == ["from NL", "lost"]
    (there,), cursor = be.store.applied_after(number - 1, 1), be.reading.cursor(number)
    put_back(world, be, older)
    world.log(be, incident, "never seen")
    world.filter = lambda _sender, _receiver, data: [data]
    world.run(70.0)
    assert sorted(log_texts(be, incident)) == ["from NL", "never seen"]
    assert be.store.applied_after(number - 1, 1) == [there]
    assert be.reading.cursor(number) != cursor


def test_where_damage_took_the_end_of_the_journal_the_names_of_what_stood_there_go_with_it() -> None:
    world, be, incident = alone(3)
    world.crash(be)
    gone = be.node.archive.journal + 3
    row = (STRETCH_NAMESPACE, gone.to_bytes(8, "big"), b"gone")
    be.store.stage(CommitBatch(puts=(row,)))
    world.restart(be)
    for number in range(6):
        world.log(be, incident, f"new {number}")
    assert f"{gone}-{b'gone'.hex()}" not in cursors(be)
    shown = cursors(be)
    world.crash(be)
    world.restart(be)
    assert cursors(be) == shown


def test_where_damage_took_a_name_the_cursors_that_held_it_fit_no_more() -> None:
    world, be, _ = alone(3)
    shown = cursors(be)
    for key, _ in be.store.scan(STRETCH_NAMESPACE):
        be.store.stage(CommitBatch(puts=((STRETCH_NAMESPACE, key, None),)))
    put_back(world, be, copy.deepcopy(be.store))
    assert cursors(be) == ["0", *(f"{number}-00000000" for number in range(1, len(shown)))]
