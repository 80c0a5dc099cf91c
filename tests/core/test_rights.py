"""Removals and lowered roles: what they do to each other, the same in any order of arrival."""

from __future__ import annotations

import random

from group_record import NONCE, OUTSIDER, A, B, C, D, Position, Record, X, device, epoch_key
from hypothesis import given, settings
from hypothesis import strategies as st
from rights_oracle import Oracle

from meshnode.core import codec
from meshnode.core.acts import Role, add_act, create_act, limit_act
from meshnode.core.epochs import key_id
from meshnode.core.groups import Group
from meshnode.core.ids import DeviceId
from meshnode.core.rights import JUDGEMENTS_KEPT

E = device("E")
NOCS = {A: "AA", B: "BB", C: "CC", D: "DD", E: "EE", X: "XX", OUTSIDER: "OO"}


def rows(*members: tuple[DeviceId, Role]) -> list[tuple[DeviceId, str, Role]]:
    return [(one, NOCS.get(one, "ZZ"), role) for one, role in members]


def managers(*devices: DeviceId) -> list[tuple[DeviceId, str, Role]]:
    return rows(*((one, Role.MANAGER) for one in devices))


class Story(Record):
    """A opens it with others as managers, most senior first."""

    def __init__(self, *others: DeviceId, role: Role = Role.MANAGER) -> None:
        super().__init__()
        self.first = self.write(A, [], [create_act(NONCE, rows((A, Role.MANAGER), *((one, role) for one in others)))])

    def remove(self, author: DeviceId, parents: list[Position], *targets: DeviceId, log: str = "") -> Position:
        return self.write(author, parents, [limit_act([(one, None) for one in targets], "because")], log=log)

    def add(self, author: DeviceId, parents: list[Position], *added: DeviceId, log: str = "") -> Position:
        return self.write(author, parents, [add_act(managers(*added))], log=log)

    def now(self) -> dict[DeviceId, Role]:
        """Members and their roles; the same in forty orders, and as the oracle has it."""
        shown = [roles(self.group()[0])]
        shown += [roles(self.group(self.causal_order(random.Random(seed)))[0]) for seed in range(40)]
        assert all(one == shown[0] for one in shown)
        assert shown[0] == Oracle(self).members(frozenset(self.items))
        return shown[0]

    def code(self, entry: Position) -> list[str]:
        return [verdict.code for verdict in self.group()[1][entry]]


def roles(group: Group) -> dict[DeviceId, Role]:
    return {member.device: member.role for member in group.members()}


# --- M2: who may remove whom ------------------------------------------------------------------------------------------


def test_a_manager_removes_who_is_less_senior():
    story = Story(B, C)
    story.remove(B, [story.first], C)
    assert set(story.now()) == {A, B}


def test_a_less_senior_manager_alone_removes_nobody_and_is_told_that_it_is_a_vote():
    story = Story(B, C)
    vote = story.remove(C, [story.first], B)
    assert set(story.now()) == {A, B, C}
    assert story.code(vote) == ["act-needs-majority"]
    rights = story.group()[0].rights
    assert (rights.votes(B), rights.limits_on(B)) == ({C}, [])


def test_managers_of_more_than_half_of_the_nocs_remove_the_most_senior_one():
    story = Story(B, C)
    vote = story.remove(B, [story.first], A)
    assert set(story.now()) == {A, B, C}
    story.remove(C, [vote], A)
    assert set(story.now()) == {B, C}


def test_votes_that_have_not_seen_each_other_become_a_majority_when_one_is_said_again():
    story = Story(B, C)
    one, other = story.remove(B, [story.first], A), story.remove(C, [story.first], A)
    assert set(story.now()) == {A, B, C}
    story.remove(B, [one, other], A)
    assert set(story.now()) == {B, C}


def test_half_of_the_nocs_are_not_enough_and_devices_of_one_noc_have_one_voice():
    story = Story(B, C, D)
    vote = story.remove(B, [story.first], A)
    vote = story.remove(C, [vote], A)
    assert A in story.now()
    puppets = [device(f"puppet {number}") for number in range(5)]
    stuffed = story.write(B, [vote], [add_act([(one, "BB", Role.MANAGER) for one in puppets])])
    for puppet in puppets:
        stuffed = story.remove(puppet, [stuffed], A)
    assert A in story.now()
    story.remove(D, [stuffed], A)
    assert A not in story.now()


def test_one_device_of_a_noc_does_not_speak_for_it_against_another():
    story = Story()
    both = story.write(A, [story.first], [add_act([(B, "AA", Role.MANAGER)])])
    vote = story.remove(B, [both], A)
    assert story.code(vote) == ["act-needs-majority"]
    assert set(story.now()) == {A, B}


def test_a_writer_removes_nobody_but_itself():
    story = Story(B, C, role=Role.WRITER)
    wrong = story.remove(B, [story.first], C)
    assert story.code(wrong) == ["act-not-entitled"]
    assert set(story.now()) == {A, B, C}
    story.remove(B, [story.first], B)
    assert set(story.now()) == {A, C}


# --- M3, M4, M5: while the mesh is split ------------------------------------------------------------------------------


def test_what_a_removed_manager_did_meanwhile_is_void_and_so_is_what_rests_on_it():
    story = Story(B)
    added = story.add(B, [story.first], X)
    further = story.add(X, [added], OUTSIDER, E)
    story.remove(X, [further], E)
    assert set(story.now()) == {A, B, X, OUTSIDER}
    story.remove(A, [story.first], B)
    assert set(story.now()) == {A}


def test_what_a_removed_manager_had_done_before_and_was_seen_stands():
    story = Story(B)
    added = story.add(B, [story.first], C)
    story.remove(A, [added], B)
    assert set(story.now()) == {A, C}


def test_of_two_that_remove_each_other_the_more_senior_stays():
    story = Story(B, C)
    story.remove(B, [story.first], C)
    story.remove(C, [story.first], B)
    assert set(story.now()) == {A, B}


def test_three_that_remove_each_other_in_a_circle_end_the_same_everywhere():
    story = Story(B, C, D)
    for author, target in ((B, C), (C, D), (D, B)):
        story.remove(author, [story.first], target)
    assert set(story.now()) == {A, B, D}


def test_a_majority_outranks_a_thief_who_holds_the_most_senior_device_and_removes_all_others():
    story = Story(B, C, D)
    vote = story.remove(B, [story.first], A)
    vote = story.remove(C, [vote], A)
    story.remove(D, [vote], A)
    story.remove(A, [story.first], B, C, D)
    assert set(story.now()) == {B, C, D}


def test_removal_beats_a_concurrent_addition_and_an_addition_that_follows_beats_the_removal():
    story = Story(B, C)
    removed = story.remove(A, [story.first], C)
    again = story.add(B, [story.first], C)
    assert set(story.now()) == {A, B}
    story.add(B, [removed, again], C)
    assert set(story.now()) == {A, B, C}


def test_a_removal_that_is_void_takes_nothing_away():
    """C was removed by A, B did not know, and C removed D meanwhile: D stays."""
    story = Story(B, C, D)
    story.remove(C, [story.first], D)
    assert D not in story.now()
    story.remove(A, [story.first], C)
    assert set(story.now()) == {A, B, D}


def test_a_lower_role_voids_concurrent_acts_of_a_manager_and_leaves_it_a_member():
    story = Story(B)
    story.add(B, [story.first], X)
    story.write(A, [story.first], [limit_act([(B, Role.WRITER)], "")])
    assert story.now() == {A: Role.MANAGER, B: Role.WRITER}


def test_a_role_that_was_lowered_can_be_raised_again_afterwards():
    story = Story(B)
    lowered = story.write(A, [story.first], [limit_act([(B, Role.READER)], "")])
    assert story.now()[B] == Role.READER
    story.write(A, [lowered], [add_act(rows((B, Role.WRITER)))])
    assert story.now()[B] == Role.WRITER


def test_removal_and_addition_in_one_entry_leave_the_new_role():
    story = Story(B)
    story.write(A, [story.first], [limit_act([(B, None)], ""), add_act(rows((B, Role.READER)))])
    assert story.now()[B] == Role.READER


# --- M6: somebody must manage -----------------------------------------------------------------------------------------


def test_the_last_manager_cannot_leave_before_it_has_handed_over():
    story = Story(B, role=Role.WRITER)
    wrong = story.remove(A, [story.first], A)
    assert story.code(wrong) == ["act-last-manager"]
    assert set(story.now()) == {A, B}
    story.write(A, [wrong], [add_act(managers(B)), limit_act([(A, None)], "handed over")])
    assert story.now() == {B: Role.MANAGER}


def test_of_two_managers_that_leave_at_once_the_more_senior_one_stays():
    story = Story(B)
    story.write(A, [story.first], [add_act(rows((C, Role.WRITER)))], log="second")
    everything = list(story.items)
    story.remove(A, everything, A)
    story.remove(B, everything, B)
    assert story.now() == {A: Role.MANAGER, C: Role.WRITER}


def test_who_is_alone_may_leave():
    story = Story()
    story.remove(A, [story.first], A)
    assert story.now() == {}


def test_a_leave_that_was_held_back_is_said_again_after_handing_over():
    story = Story(B)
    third = story.write(A, [story.first], [add_act(rows((C, Role.WRITER)))])
    leaves = story.remove(A, [third], A)
    other = story.remove(B, [third], B)
    assert set(story.now()) == {A, C}
    handed = story.write(A, [leaves, other], [add_act(managers(C))])
    assert story.now() == {A: Role.MANAGER, C: Role.MANAGER}
    story.remove(A, [handed], A)
    assert story.now() == {C: Role.MANAGER}


def test_a_majority_falls_with_the_vote_of_a_device_that_another_majority_had_removed_meanwhile():
    story = Story(B, C, D, E)
    said = story.remove(C, [story.first], B)
    said = story.remove(D, [said], B)
    story.remove(E, [said], B)
    assert B not in story.now()
    others = story.add(C, [story.first], X, log="other")
    others = story.remove(C, [others], X, log="other")
    others = story.remove(B, [others], A)
    others = story.remove(C, [others], A, log="other")
    last = story.remove(D, [others], A, log="other")
    assert set(story.now()) == {A, C, D, E}
    assert story.code(last) == [""]  # in its own past it was one


def test_a_new_log_of_a_device_that_was_added_again_must_name_what_made_it_a_member_again():
    story = Story(B)
    removed = story.remove(A, [story.first], B)
    again = story.add(A, [removed], B)
    group, _ = story.group()
    assert group.added(B, [story.first]) == (again,)
    assert group.added(B, [again]) == ()
    assert group.added(X, [again]) == ()


def test_many_pasts_are_judged_and_few_remembered():
    story = Story(B, C)
    removed = story.remove(A, [story.first], C)
    for number in range(JUDGEMENTS_KEPT + 8):
        story.add(A, [removed], device(f"{number}"), log=f"{number}")
        story.add(A, [removed], E, log=f"{number}")
    group, _ = story.group()
    assert len(group.rights._judged) == JUDGEMENTS_KEPT
    assert set(roles(group)) == Oracle(story).members(frozenset(story.items)).keys()


# --- M0: under which key ----------------------------------------------------------------------------------------------


def test_an_act_that_is_shown_to_one_member_alone_counts_for_nobody():
    record = Record()
    first = record.create(B, C)
    alone = record.write(A, [first], [], [A, C], epoch_key("alone"), [key_id(epoch_key("first"))])
    hidden = record.write(A, [alone], [limit_act([(C, None)], "")], under=key_id(epoch_key("alone")))
    both = record.write(
        A, [first], [limit_act([(C, None)], "")], [A, C], epoch_key("both"), [key_id(epoch_key("first"))], log="second"
    )
    group, verdicts = record.group()
    assert [verdict.code for verdict in verdicts[hidden]] == ["act-under-wrong-key"]
    assert [verdict.code for verdict in verdicts[both]] == ["act-under-wrong-key", "epoch-wrong-recipients"]
    assert set(roles(group)) == {A, B, C}
    again = Group.restore(codec.decode_trusted(codec.encode(group.snapshot())), record.incident)
    assert again.snapshot() == group.snapshot()


# --- E2: which key ----------------------------------------------------------------------------------------------------


def test_e2_nobody_writes_under_a_key_whose_epoch_does_not_know_of_a_removal_though_members_alone_hold_it():
    """C adds E and removes it again. A knows of the addition alone, and carries its key, which B writes under, to E."""
    record = Record()
    first = record.create(B, C)
    key = key_id(epoch_key("first"))
    of_a = record.write(A, [first], [], [A, B, C], epoch_key("of A"), [key])
    added = record.write(C, [first], [add_act(rows((E, Role.WRITER)))], [A, B, C, E], epoch_key("with E"), [key])
    removed = record.write(C, [added], [limit_act([(E, None)], "")], under=key_id(epoch_key("with E")))
    at_b = [first, of_a, added, removed]
    group, _ = record.group(at_b)
    assert set(roles(group)) == {A, B, C}
    assert record.holders(at_b, key_id(epoch_key("of A"))) == {A, B, C}
    assert group.write_key() is None
    assert group.repair_needed(B)
    record.write(A, [of_a, added], [], [A, B, C, E], epoch_key("A again"), [key_id(epoch_key("of A"))])
    assert E in record.holders(record.items, key_id(epoch_key("of A")))


# --- any history ------------------------------------------------------------------------------------------------------


def random_story(seed: int, size: int) -> Story:
    rng = random.Random(seed)
    everyone = [A, B, C, D, E, X]
    story = Story(*rng.sample(everyone[1:], rng.randint(1, 4)), role=rng.choice([Role.WRITER, *[Role.MANAGER] * 3]))
    for _ in range(size):
        positions = list(story.items)
        parents = rng.sample(positions, min(len(positions), rng.choice([1, 1, 2, 3])))
        acts: list[object] = []
        for _ in range(rng.choice([1, 1, 1, 2])):
            targets = rng.sample(everyone, rng.choice([1, 1, 2]))
            if rng.random() < 0.4:
                acts.append(add_act(rows(*((one, rng.choice([Role.WRITER, *[Role.MANAGER] * 3])) for one in targets))))
            else:
                lowest = [None, None, None, Role.READER, Role.WRITER]
                acts.append(limit_act([(one, rng.choice(lowest)) for one in targets], ""))
        story.write(rng.choice(everyone), parents, acts, log=rng.choice(["", "", "second"]))
    return story


@settings(max_examples=400, deadline=None)
@given(st.integers(0, 2**32), st.integers(0, 14), st.integers(0, 2**32))
def test_members_and_rights_are_what_the_rules_say_read_aloud_in_any_order(seed: int, size: int, shuffle: int):
    story = random_story(seed, size)
    everything = frozenset(story.items)
    oracle = Oracle(story)
    order = story.causal_order(random.Random(shuffle))
    group, verdicts = story.group(order)
    assert roles(group) == oracle.members(everything)
    for entry, item in story.items.items():
        assert group.may_write(item.author, entry) == (oracle.role_at(everything, item.author, entry) >= Role.WRITER)
    assert verdicts == story.group()[1]


@settings(max_examples=100, deadline=None)
@given(st.integers(0, 2**32), st.integers(0, 14), st.integers(0, 2**32))
def test_each_view_on_the_way_is_judged_as_if_it_were_all_there_is(seed: int, size: int, shuffle: int):
    story = random_story(seed, size)
    oracle = Oracle(story)
    group = Group(story.incident)
    seen = set()
    for entry in story.causal_order(random.Random(shuffle)):
        story.merge(group, entry)
        seen.add(entry)
        assert roles(group) == oracle.members(frozenset(seen))
        again = Group.restore(codec.decode_trusted(codec.encode(group.snapshot())), story.incident)
        assert again.members() == group.members()
        assert again.snapshot() == group.snapshot()


@settings(max_examples=200, deadline=None)
@given(st.integers(0, 2**32), st.integers(0, 14))
def test_while_there_are_members_somebody_manages(seed: int, size: int):
    story = random_story(seed, size)
    now = roles(story.group()[0])
    assert not now or Role.MANAGER in now.values()
