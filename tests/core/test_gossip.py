"""New entries are pushed once to everybody; a broken tree is mended by announcements within a second."""

from __future__ import annotations

import pytest

from meshnode.core import gossip
from meshnode.core.gossip import ANNOUNCE_DELAY_S, ANNOUNCE_LINKS_MAX, GRAFT_DELAY_S, LAZY_LOGS_MAX, Gossip
from meshnode.core.ids import IncidentId, LogId

INCIDENT = IncidentId(b"incident 16bytes")
LOG, OTHER = LogId(b"A" * 32), LogId(b"B" * 32)


def linked(*links: int) -> Gossip:
    machine = Gossip()
    for link in links:
        machine.on_link_up(link)
    return machine


def spread(machine: Gossip, height: int, source: int | None, links: list[int], now: float = 0.0) -> list[int]:
    return machine.spread(INCIDENT, LOG, height, source, links, now)


# --- eager and lazy -------------------------------------------------------------------------------------------------


def test_a_new_entry_is_pushed_to_every_interested_link_but_the_one_it_came_from() -> None:
    machine = linked(1, 2, 3, 4)
    assert spread(machine, 1, None, [1, 2, 3]) == [1, 2, 3]
    assert spread(machine, 2, 2, [1, 2, 3]) == [1, 3]
    assert spread(machine, 3, None, [1, 99]) == [1]
    assert machine.due_announcements(100.0) == []


def test_a_duplicate_is_answered_with_one_prune_for_each_log_and_link() -> None:
    machine = linked(1, 2)
    assert [machine.on_duplicate(1, LOG), machine.on_duplicate(1, LOG)] == [True, False]
    assert [machine.on_duplicate(1, OTHER), machine.on_duplicate(2, LOG)] == [True, True]
    assert not machine.on_duplicate(99, LOG)


def test_a_pruned_link_hears_of_entries_later_and_of_many_in_one_message() -> None:
    machine = linked(1, 2)
    machine.on_prune(1, LOG)
    assert spread(machine, 4, None, [1, 2], now=10.0) == [2]
    assert spread(machine, 5, None, [1, 2], now=10.1) == [2]
    assert machine.next_deadline() == 10.0 + ANNOUNCE_DELAY_S
    assert machine.due_announcements(10.1) == []
    assert machine.due_announcements(10.0 + ANNOUNCE_DELAY_S) == [(1, [(INCIDENT, LOG, 5)])]
    assert machine.due_announcements(20.0) == []
    assert machine.next_deadline() is None


def test_nobody_is_told_what_it_told_itself() -> None:
    machine = linked(1, 2, 3)
    for link in (1, 2, 3):
        machine.on_prune(link, LOG)
    spread(machine, 5, None, [1, 2, 3])
    machine.on_announce(1, INCIDENT, LOG, 5, 5, 0.1)  # holds the same
    machine.on_announce(2, INCIDENT, LOG, 4, 5, 0.1)  # holds less: it is told
    machine.on_equal(3)
    machine.on_equal(99)
    assert machine.due_announcements(ANNOUNCE_DELAY_S) == [(2, [(INCIDENT, LOG, 5)])]


def test_other_logs_and_other_links_stay_eager() -> None:
    machine = linked(1, 2)
    machine.on_prune(1, LOG)
    assert machine.spread(INCIDENT, OTHER, 1, None, [1, 2], 0.0) == [1, 2]


def test_announcements_go_to_a_few_links_at_a_time_in_turn() -> None:
    links = list(range(1, 9))
    machine = linked(*links)
    for link in links:
        machine.on_prune(link, LOG)
    spread(machine, 7, None, links)
    told: list[int] = []
    while (due := machine.next_deadline()) is not None:
        rows = machine.due_announcements(due)
        assert 1 <= len(rows) <= ANNOUNCE_LINKS_MAX
        told += [link for link, _ in rows]
    assert told == links
    spread(machine, 8, None, links)
    assert [link for link, _ in machine.due_announcements(1e9)] == links[:ANNOUNCE_LINKS_MAX]


def test_a_graft_makes_a_link_eager_again() -> None:
    machine = linked(1)
    machine.on_prune(1, LOG)
    machine.on_graft(1, LOG)
    assert spread(machine, 1, None, [1]) == [1]


# --- missing entries ------------------------------------------------------------------------------------------------


def test_an_announced_entry_that_does_not_come_is_asked_for_after_a_moment() -> None:
    machine = linked(1, 2)
    machine.on_announce(1, INCIDENT, LOG, 5, 4, 10.0)
    assert machine.due_grafts(10.0 + GRAFT_DELAY_S / 2) == []
    assert machine.next_deadline() == 10.0 + GRAFT_DELAY_S
    assert machine.due_grafts(10.0 + GRAFT_DELAY_S) == [(1, INCIDENT, LOG)]


def test_an_announced_entry_that_comes_is_not_asked_for() -> None:
    machine = linked(1, 2)
    machine.on_announce(1, INCIDENT, LOG, 5, 4, 10.0)
    spread(machine, 5, 2, [1, 2])
    assert machine.due_grafts(100.0) == []
    assert machine.next_deadline() is None


def test_an_announced_entry_that_comes_in_part_is_still_asked_for() -> None:
    machine = linked(1, 2)
    machine.on_announce(1, INCIDENT, LOG, 5, 3, 10.0)
    spread(machine, 4, 2, [1, 2])
    assert machine.due_grafts(100.0) == [(1, INCIDENT, LOG)]


def test_what_is_held_already_is_not_waited_for() -> None:
    machine = linked(1)
    machine.on_announce(1, INCIDENT, LOG, 5, 5, 0.0)
    machine.on_announce(99, INCIDENT, LOG, 9, 5, 0.0)
    assert machine.next_deadline() is None


def test_each_announcer_gets_a_chance_before_the_entry_is_left_to_anti_entropy() -> None:
    machine = linked(1, 2, 3)
    machine.on_announce(1, INCIDENT, LOG, 5, 4, 0.0)
    machine.on_announce(2, INCIDENT, LOG, 6, 4, 0.0)
    machine.on_announce(2, INCIDENT, LOG, 6, 4, 0.0)
    machine.on_announce(3, INCIDENT, LOG, 5, 4, 0.0)
    asked = []
    while (due := machine.next_deadline()) is not None:
        asked += [link for link, _, _ in machine.due_grafts(due)]
        assert due < 2.0
    assert asked == [1, 2, 3]


def test_a_link_that_died_is_not_asked() -> None:
    machine = linked(1, 2)
    machine.on_announce(1, INCIDENT, LOG, 5, 4, 0.0)
    machine.on_announce(2, INCIDENT, LOG, 5, 4, 0.0)
    machine.on_announce(2, INCIDENT, OTHER, 5, 4, 0.0)
    machine.on_link_down(1)
    assert machine.due_grafts(1.0) == [(2, INCIDENT, LOG), (2, INCIDENT, OTHER)]
    machine.on_link_down(1)
    assert machine.on_announce(1, INCIDENT, LOG, 9, 4, 0.0) is None


def test_who_was_grafted_may_be_pruned_again() -> None:
    machine = linked(1)
    assert machine.on_duplicate(1, LOG)
    machine.on_announce(1, INCIDENT, LOG, 5, 4, 0.0)
    assert machine.due_grafts(1.0)
    assert machine.on_duplicate(1, LOG)


def test_messages_about_links_that_are_gone_change_nothing() -> None:
    machine = linked()
    machine.on_prune(1, LOG)
    machine.on_graft(1, LOG)
    assert spread(machine, 1, None, [1]) == []


# --- bounds ---------------------------------------------------------------------------------------------------------


def test_what_peers_can_make_it_remember_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gossip, "MISSING_MAX", 3)
    machine = linked(1)
    for number in range(10):
        machine.on_announce(1, INCIDENT, LogId(bytes([number]) * 32), 5, 0, 0.0)
    assert len(machine.due_grafts(1.0)) == 3
    for number in range(LAZY_LOGS_MAX + 5):
        machine.on_prune(1, LogId(number.to_bytes(32, "big")))
    oldest, newest = LogId(bytes(32)), LogId((LAZY_LOGS_MAX + 4).to_bytes(32, "big"))
    assert machine.spread(INCIDENT, oldest, 1, None, [1], 0.0) == [1]  # forgotten: costs one duplicate
    assert machine.spread(INCIDENT, newest, 1, None, [1], 0.0) == []


# --- a mesh ---------------------------------------------------------------------------------------------------------


class Mesh:
    """Machines linked with each other; a message takes a hop. Counts what crosses."""

    def __init__(self, count: int, edges: set[tuple[int, int]] | None = None) -> None:
        every = {(a, b) for a in range(count) for b in range(count) if a != b}
        self.edges = every if edges is None else edges | {(b, a) for a, b in edges}
        self.machines = [linked(*(b for a, b in sorted(self.edges) if a == node)) for node in range(count)]
        self.held = [0] * count
        self.pushes = 0
        self.now = 0.0

    def links(self, node: int) -> list[int]:
        return [b for a, b in sorted(self.edges) if a == node]

    def cut(self, a: int, b: int) -> None:
        self.edges -= {(a, b), (b, a)}
        self.machines[a].on_link_down(b)
        self.machines[b].on_link_down(a)

    def write(self, node: int) -> None:
        self.held[node] += 1
        self._spread(node, None)

    def _spread(self, node: int, source: int | None) -> None:
        waiting = [
            (node, to, self.held[node])
            for to in self.machines[node].spread(INCIDENT, LOG, self.held[node], source, self.links(node), self.now)
        ]
        while waiting:
            sender, to, height = waiting.pop(0)
            if (sender, to) not in self.edges:
                continue
            self.pushes += 1
            if height <= self.held[to]:
                if self.machines[to].on_duplicate(sender, LOG):
                    self.machines[sender].on_prune(to, LOG)
                continue
            self.held[to] = height
            machine = self.machines[to]
            waiting += [
                (to, other, height) for other in machine.spread(INCIDENT, LOG, height, sender, self.links(to), self.now)
            ]

    def run(self, seconds: float) -> None:
        end = self.now + seconds
        while True:
            due = [deadline for machine in self.machines if (deadline := machine.next_deadline()) is not None]
            if not due or min(due) > end:
                break
            self.now = max(self.now, min(due))
            for node, machine in enumerate(self.machines):
                for to, rows in machine.due_announcements(self.now):
                    for incident, log, height in rows:
                        self.machines[to].on_announce(node, incident, log, height, self.held[to], self.now)
                for to, _, log in machine.due_grafts(self.now):
                    self.machines[to].on_graft(node, log)
                    if self.held[to] > self.held[node]:
                        self.pushes += 1
                        self.held[node] = self.held[to]
                        self._spread(node, to)
        self.now = end


def test_after_the_first_entry_of_a_log_each_next_one_crosses_a_full_mesh_once_to_each_node() -> None:
    mesh = Mesh(6)
    mesh.write(0)
    assert mesh.held == [1] * 6
    assert mesh.pushes <= 5 + 5 * 4
    for _ in range(5):
        before = mesh.pushes
        mesh.write(0)
        mesh.run(2.0)
        assert mesh.pushes - before == 5
    assert mesh.held == [6] * 6


@pytest.mark.parametrize("broken", [(0, 1), (1, 2), (2, 3), (0, 5)])
def test_a_link_that_fails_is_replaced_within_a_second(broken: tuple[int, int]) -> None:
    ring_and_chords = {(0, 1), (1, 2), (2, 3), (3, 4), (4, 5), (0, 5), (0, 3), (1, 4)}
    mesh = Mesh(6, ring_and_chords)
    for _ in range(3):
        mesh.write(0)
        mesh.run(2.0)
    mesh.cut(*broken)
    mesh.write(0)
    mesh.run(1.0)
    assert mesh.held == [4] * 6
    before = mesh.pushes
    mesh.write(0)
    mesh.run(1.0)
    assert mesh.held == [5] * 6
    assert mesh.pushes - before <= 6  # mended: a tree again, at most one duplicate
