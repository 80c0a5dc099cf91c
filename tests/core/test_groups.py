"""Members and epochs: each rule as an example, and the law that any causal order gives the same."""

from __future__ import annotations

import random

import pytest
from group_record import NONCE, OUTSIDER, A, B, C, D, Position, Record, X, device, epoch_key, lines, writers

from meshnode.core import codec
from meshnode.core.acts import ASKED_KEYS_MAX, ATTEMPTS_MAX, MEMBERS_MAX
from meshnode.core.epochs import EPOCH_PARENTS_MAX, EpochBody, key_id
from meshnode.core.groups import Group, Role, add_act, ask_act, create_act
from meshnode.core.ids import DeviceId, IncidentId

FIRST = key_id(epoch_key("first"))
SECOND = key_id(epoch_key("second"))
THIRD = key_id(epoch_key("third"))


def devices(group: Group) -> list[DeviceId]:
    return [member.device for member in group.members()]


def codes(record: Record, position: Position) -> list[str]:
    """What became of each act and of the epoch of one entry."""
    return [verdict.code for verdict in record.group()[1][position]]


# --- acts -------------------------------------------------------------------------------------------------------


def test_the_author_of_the_handle_creates_the_incident_and_is_first_in_seniority():
    record = Record()
    first = record.create(B, C)
    group, verdicts = record.group()
    assert all(verdict.valid for verdict in verdicts[first])
    assert verdicts[first][0].reason == "it holds"
    assert devices(group) == [A, B, C]
    member = group.members()[1]
    assert (member.noc, member.role, member.added_by, member.position) == ("BE", Role.MANAGER, A, first)


@pytest.mark.parametrize(
    ("author", "act", "code"),
    [
        (B, create_act(NONCE, lines((B, Role.MANAGER))), "act-wrong-handle"),
        (A, create_act(bytes(16), lines((A, Role.MANAGER))), "act-wrong-handle"),
        (A, create_act(NONCE, lines((B, Role.MANAGER), (A, Role.MANAGER))), "act-malformed"),
        (A, create_act(NONCE, lines((A, Role.WRITER))), "act-malformed"),
        (A, create_act(b"short", lines((A, Role.MANAGER))), "act-malformed"),
        (A, [1, 5, [[A, "BE", 3]]], "act-malformed"),
        (A, [1, NONCE], "act-malformed"),
        (A, [1, NONCE, []], "act-malformed"),
        (A, [1, NONCE, {}], "act-malformed"),
        (A, [1, NONCE, [A]], "act-malformed"),
        (A, [1, NONCE, [[A, "BE"]]], "act-malformed"),
        (A, [1, NONCE, [["A", "BE", 3]]], "act-malformed"),
        (A, [1, NONCE, [[A[:31], "BE", 3]]], "act-malformed"),
        (A, [1, NONCE, [[A, b"BE", 3]]], "act-malformed"),
        (A, [1, NONCE, [[A, "", 3]]], "act-malformed"),
        (A, [1, NONCE, [[A, "B" * 33, 3]]], "act-malformed"),
        (A, [1, NONCE, [[A, "B\nE", 3]]], "act-malformed"),
        (A, [1, NONCE, [[A, "BE", True]]], "act-malformed"),
        (A, [1, NONCE, [[A, "BE", 3], [A, "NL", 2]]], "act-malformed"),
        (A, [2, [[B, "BE", 2]], 1], "act-malformed"),
        (A, [1, NONCE, [[A, "BE", 3], [B, "BE", 4]]], "act-unknown"),
        (A, [3, [[B, "BE", 2]]], "act-malformed"),
        (A, [4, [[B, 0]]], "act-malformed"),
        (A, [4, [], ""], "act-malformed"),
        (A, [4, [[B, 0]], b"because"], "act-malformed"),
        (A, [4, [[B, 0]], "\u00fc" * 201], "act-malformed"),
        (A, [4, [[B, 0, 0]], ""], "act-malformed"),
        (A, [4, [[B[:31], 0]], ""], "act-malformed"),
        (A, [4, [[B, 0], [B, 1]], ""], "act-malformed"),
        (A, [4, [[B, 3]], ""], "act-unknown"),
        (A, [4, [[B, 0]], ""], "act-not-entitled"),
        (A, [5, [[B, "BE", 2]]], "act-unknown"),
        (A, [True, [[B, "BE", 2]]], "act-unknown"),
        (A, [], "act-unknown"),
        (A, "nonsense", "act-unknown"),
    ],
)
def test_an_act_that_does_not_create_this_incident_is_void(author: DeviceId, act: object, code: str):
    record = Record()
    entry = record.write(author, [], [act])
    assert codes(record, entry) == [code]
    assert record.group()[1][entry][0].reason
    assert devices(record.group()[0]) == []


def test_creating_once_more_is_void_but_two_concurrent_creations_of_a_cloned_author_both_stand():
    record = Record()
    record.create(B)
    again = record.write(A, [], [create_act(NONCE, lines((A, Role.MANAGER), (C, Role.MANAGER)))])
    clone = record.write(A, [], [create_act(NONCE, lines((A, Role.MANAGER), (D, Role.MANAGER)))], log="clone")
    assert codes(record, again) == ["act-created-again"]
    assert codes(record, clone) == [""]
    # One order for all: in place 1 of a creating entry both, so the id decides.
    assert devices(record.group()[0]) == [A, *sorted([B, D])]


def test_a_manager_adds_and_the_added_stand_behind_in_seniority():
    record = Record()
    first = record.create(B)
    added = record.add(B, [first], D, C)
    group, verdicts = record.group()
    assert verdicts[added][0].valid
    assert devices(group) == [A, B, *sorted([C, D])]
    assert group.members()[2].added_by == B


def test_depth_of_the_adding_chain_counts_before_the_id():
    record = Record()
    first = record.create()
    second = record.write(A, [first], [add_act(lines((B, Role.MANAGER)))])
    third = record.write(B, [second], [add_act(lines((C, Role.MANAGER)))])
    record.write(C, [third], [add_act(lines((D, Role.MANAGER)))])
    assert devices(record.group()[0]) == [A, B, C, D]


@pytest.mark.parametrize("role", [Role.READER, Role.WRITER])
def test_only_a_manager_adds(role: Role):
    record = Record()
    first = record.create(B, role=role)
    forged = record.add(B, [first], X)
    assert codes(record, forged) == ["act-not-entitled"]
    assert devices(record.group()[0]) == [A, B]


def test_an_add_by_somebody_who_is_added_only_later_or_elsewhere_is_void_everywhere():
    record = Record()
    first = record.create()
    promoted = record.write(A, [first], [add_act(lines((X, Role.MANAGER)))])
    early = record.add(X, [first], C)
    late = record.add(X, [promoted], D)
    for seed in range(10):
        group, verdicts = record.group(record.causal_order(random.Random(seed)))
        assert [verdict.code for verdict in verdicts[early]] == ["act-not-entitled"]
        assert verdicts[late][0].valid
        assert devices(group) == [A, X, D]


def test_a_non_member_that_adds_itself_gains_nothing():
    record = Record()
    first = record.create()
    forged = record.write(X, [first], [add_act(lines((X, Role.MANAGER))), add_act(writers(C))], [X], epoch_key("x"))
    group, verdicts = record.group()
    assert [verdict.code for verdict in verdicts[forged]] == ["act-not-entitled"] * 2 + ["epoch-not-entitled"]
    assert devices(group) == [A]
    assert not group.may_write(X, forged)


def test_an_act_counts_for_the_acts_behind_it_in_the_same_entry():
    record = Record()
    acts = [create_act(NONCE, lines((A, Role.MANAGER))), add_act(writers(B))]
    entry = record.write(A, [], acts, [A, B], epoch_key("first"))
    assert codes(record, entry) == ["", "", ""]


def test_a_role_is_only_ever_raised():
    record = Record()
    first = record.create(B, role=Role.READER)
    raised = record.write(A, [first], [add_act(lines((B, Role.MANAGER)))])
    record.write(A, [raised], [add_act(lines((B, Role.READER)))])
    group, _ = record.group()
    assert group.role(B) == Role.MANAGER
    assert group.role(X) is None
    assert group.is_member(B)
    assert not group.is_member(X)


def test_unknown_acts_of_members_are_counted_and_stop_nothing_else_in_their_entry():
    record = Record()
    first = record.create()
    future = record.write(A, [first], [[9, "later"], add_act(writers(B))], [A, B], epoch_key("second"), [FIRST])
    record.write(X, [first], [[9, "spam"]])
    group, verdicts = record.group()
    assert [verdict.code for verdict in verdicts[future]] == ["act-unknown", "", ""]
    assert group.unknown_acts == 1
    assert group.write_key() == SECOND


def test_one_past_holds_at_most_400_member_devices():
    record = Record()
    many = [device(str(number)) for number in range(MEMBERS_MAX - 1)]
    first = record.write(A, [], [create_act(NONCE, [*lines((A, Role.MANAGER)), *writers(*many)])])
    again = record.add(A, [first], many[0])
    one_more = record.add(A, [first], B)
    assert codes(record, first) == [""]
    assert codes(record, again) == [""]
    assert codes(record, one_more) == ["act-group-too-large"]


# --- writing ----------------------------------------------------------------------------------------------------


def test_writers_and_managers_write_and_readers_and_strangers_do_not():
    record = Record()
    rows = lines((A, Role.MANAGER), (B, Role.WRITER), (C, Role.READER))
    first = record.write(A, [], [create_act(NONCE, rows)])
    entries = {one: record.write(one, [first]) for one in (A, B, C, X)}
    group, _ = record.group()
    assert group.may_write(A, first)
    assert [group.may_write(one, entry) for one, entry in entries.items()] == [True, True, False, False]


def test_what_was_written_before_the_right_was_given_stays_void_and_what_follows_counts():
    record = Record()
    first = record.create()
    too_early = record.write(B, [first])
    added = record.add(A, [first], B)
    unaware = record.write(B, [first])
    aware = record.write(B, [added])
    after = record.write(B, [aware])
    group, _ = record.group()
    expected = [False, False, True, True]
    for order in (1, -1):
        entries = [too_early, unaware, aware, after][::order]
        assert [group.may_write(B, entry) for entry in entries] == expected[::order]


# --- epochs -----------------------------------------------------------------------------------------------------


def test_the_first_epoch_is_written_under_and_needs_no_repair():
    record = Record()
    first = record.create(B)
    group, _ = record.group()
    assert group.write_key() == FIRST
    assert not group.repair_needed(A)
    assert group.epoch_starts(FIRST) == (first,)
    assert group.epoch_starts(SECOND) == ()


@pytest.mark.parametrize("recipients", [[A], [A, B, X], [A, X], [B, C]])
def test_e1_an_epoch_for_others_than_the_members_in_its_past_is_invalid(recipients: list[DeviceId]):
    record = Record()
    first = record.create(B)
    epoch = record.write(B, [first], [], recipients, epoch_key("second"), [FIRST])
    assert codes(record, epoch) == ["epoch-wrong-recipients"]
    assert record.group()[0].write_key() != SECOND


def test_e1_readers_are_recipients_too_and_adds_in_the_same_entry_count():
    record = Record()
    first = record.create(B, role=Role.READER)
    without = record.write(A, [first], [], [A], epoch_key("second"), [FIRST])
    acts = [add_act(lines((C, Role.READER)))]
    with_them = record.write(A, [first], acts, [A, B, C], epoch_key("third"), [FIRST, SECOND])
    assert codes(record, without) == ["epoch-wrong-recipients"]
    assert codes(record, with_them) == ["", ""]


def test_e1_an_epoch_of_a_reader_is_invalid_and_readers_are_never_asked_to_repair():
    record = Record()
    first = record.create(B, role=Role.READER)
    epoch = record.write(B, [first], [], [A, B], epoch_key("second"), [FIRST])
    record.add(A, [first], C)
    group, verdicts = record.group()
    assert [verdict.code for verdict in verdicts[epoch]] == ["epoch-not-entitled"]
    assert group.repair_needed(A)
    assert not group.repair_needed(B)
    assert not group.repair_needed(X)


def test_e2_a_key_whose_holders_are_known_to_include_an_outsider_is_not_used_though_its_epoch_is_valid():
    record = Record()
    first = record.create(X)
    # X seals nothing of the epoch itself to the outsider, only a later key from whose body the first can be read.
    record.write(X, [first], [], [OUTSIDER], epoch_key("leak"), [FIRST])
    group, _ = record.group()
    assert group.write_key() is None
    assert group.repair_needed(A)


def test_e2_a_leaked_key_is_known_even_when_the_leak_pretends_not_to_have_seen_its_epoch():
    record = Record()
    first = record.create(X)
    second = record.write(A, [first], [], [A, X], epoch_key("second"), [FIRST])
    record.write(X, [first], [], [OUTSIDER], epoch_key("leak"), [SECOND], log="other")
    group, _ = record.group()
    assert group.epoch_starts(SECOND) == (second,)
    assert group.write_key() is None


def test_e2_an_outsider_that_is_a_member_after_all_is_none():
    record = Record()
    first = record.create(B)
    record.write(B, [first], [add_act(writers(C))], [A, B, C], epoch_key("second"), [FIRST])
    assert record.group()[0].write_key() == SECOND


def test_e3_the_causally_latest_epoch_is_written_under_whatever_its_id():
    for names in (["second", "third"], ["third", "second"]):
        record = Record()
        last, carried = record.create(B), FIRST
        for name in names:
            last = record.write(B, [last], [], [A, B], epoch_key(name), [carried])
            carried = key_id(epoch_key(name))
        assert record.group()[0].write_key() == carried


def test_e3_an_epoch_that_lacks_a_member_of_now_is_passed_over_also_by_who_asks_after_each_entry():
    record = Record()
    group = Group(record.incident)
    first = record.create(B)
    added = record.write(A, [first], [add_act(writers(C))], [A, B, C], epoch_key("second"), [FIRST])
    unaware = record.write(B, [first], [], [A, B], epoch_key("third"), [FIRST])
    for position, key in ((first, FIRST), (added, SECOND), (unaware, SECOND)):
        record.merge(group, position)
        assert group.write_key() == key
        assert group.repair_needed(A) == (position == unaware)


def test_e3_of_concurrent_epochs_the_lowest_id_is_written_under_and_both_are_harmless():
    record = Record()
    first = record.create(B)
    record.write(A, [first], [], [A, B], epoch_key("second"), [FIRST])
    record.write(B, [first], [], [A, B], epoch_key("third"), [FIRST])
    group, _ = record.group()
    assert group.write_key() == min(SECOND, THIRD)
    assert not group.repair_needed(A)
    assert set(group.parent_keys()) == {SECOND, THIRD}
    assert len(group.heads()) == 2


def test_e3_an_epoch_of_an_old_past_does_not_displace_one_for_the_members_of_now_by_a_low_id():
    low = min((epoch_key(str(number)) for number in range(64)), key=key_id)
    record = Record()
    first = record.create(X)
    record.write(A, [first], [add_act(writers(C))], [A, X, C], epoch_key("second"), [FIRST])
    old = record.write(X, [first], [], [A, X], low, [FIRST])
    group, verdicts = record.group()
    assert verdicts[old][0].valid
    assert key_id(low) < SECOND
    assert group.write_key() == SECOND
    assert group.repair_needed(A)  # C cannot read what was written under the old-past epoch before this was merged


def test_e4_after_an_add_without_an_epoch_repair_is_needed_and_writing_goes_on_under_the_old_key():
    record = Record()
    first = record.create(B)
    added = record.add(B, [first], C)
    group, _ = record.group()
    assert group.repair_needed(A)
    assert group.write_key() == FIRST
    record.write(A, [added], [], [A, B, C], epoch_key("second"), group.parent_keys())
    group, _ = record.group()
    assert not group.repair_needed(A)
    assert group.write_key() == SECOND


def test_e6_a_member_missing_from_a_concurrent_epoch_makes_repair_needed_even_beside_a_right_one():
    record = Record()
    first = record.create(B)
    record.write(A, [first], [add_act(writers(C))], [A, B, C], epoch_key("second"), [FIRST])
    record.write(B, [first], [], [A, B], epoch_key("third"), [FIRST])
    group, _ = record.group()
    assert group.write_key() == SECOND
    assert group.repair_needed(A)
    record.write(A, group.heads(), [], [A, B, C], epoch_key("fourth"), group.parent_keys())
    group, _ = record.group()
    assert not group.repair_needed(A)
    assert group.write_key() == key_id(epoch_key("fourth"))
    assert record.holders(record.items, THIRD) >= {A, B, C}


def test_e8_an_epoch_with_a_key_of_the_past_starts_nothing_and_is_invalid_when_an_outsider_is_among_its_recipients():
    record = Record()
    first = record.create(B)
    again = record.write(B, [first], [], [A, B], epoch_key("first"))
    leak = record.write(B, [first], [], [A, B, OUTSIDER], epoch_key("first"), log="leak")
    assert codes(record, again) == [""]
    assert codes(record, leak) == ["epoch-key-reused"]
    group, _ = record.group([first, again])
    assert group.write_key() == FIRST
    assert group.epoch_starts(FIRST) == (first,)
    assert not group.repair_needed(A)
    group, _ = record.group()
    assert group.write_key() is None
    assert group.repair_needed(A)


def test_e8_a_concurrent_reuse_voids_nobodys_epoch():
    record = Record()
    first = record.create(B, X)
    honest = record.write(A, [first], [], [A, B, X], epoch_key("second"), [FIRST])
    record.write(X, [first], [], [A, B, X], epoch_key("second"), [FIRST])
    for seed in range(6):
        group, verdicts = record.group(record.causal_order(random.Random(seed)))
        assert verdicts[honest][0].valid
        assert group.write_key() == SECOND


def test_e10_an_epoch_that_does_not_lead_to_every_earlier_one_is_invalid_and_the_next_mends_the_chain():
    record = Record()
    first = record.create(X)
    broken = record.write(X, [first], [], [A, X], epoch_key("second"))
    assert codes(record, broken) == ["epoch-past-unreachable"]
    group, _ = record.group()
    assert group.write_key() == FIRST
    assert set(group.parent_keys()) == {FIRST, SECOND}
    mended = record.write(A, [broken], [], [A, X], epoch_key("third"), group.parent_keys())
    group, verdicts = record.group()
    assert verdicts[mended][0].valid
    assert group.parent_keys() == (THIRD,)


def test_e10_keys_that_lead_to_nothing_in_the_past_help_nobody():
    record = Record()
    first = record.create(X)
    unseen = record.write(A, [first], [], [A, X], epoch_key("second"), [FIRST])
    epoch = record.write(X, [first], [], [A, X], epoch_key("third"), [SECOND])
    assert codes(record, unseen) == [""]
    assert codes(record, epoch) == ["epoch-past-unreachable"]


def test_e10_what_a_re_seal_carries_leads_nowhere_and_nobody_need_reach_one():
    record = Record()
    first = record.create(X)
    broken = record.write(A, [first], [], [A, X], epoch_key("second"), [])
    again = record.write(A, [broken], [], [X], epoch_key("second"), [FIRST])
    hidden = record.write(A, [again], [], [A, X], epoch_key("third"), [SECOND])
    assert codes(record, broken) == codes(record, hidden) == ["epoch-past-unreachable"]
    assert codes(record, again) == [""]
    group, _ = record.group()
    assert set(group.parent_keys()) == {THIRD, FIRST}  # the third key leads to the second
    right = record.write(A, [hidden], [], [A, X], epoch_key("fourth"), group.parent_keys())
    assert codes(record, right) == [""]


def test_more_concurrent_dead_ends_than_one_body_can_carry_are_mended_in_two_steps():
    record = Record()
    first = record.create(X)
    for number in range(EPOCH_PARENTS_MAX + 5):
        record.write(X, [first], [], [X], epoch_key(str(number)), log=str(number))
    group, _ = record.group()
    assert len(group.parent_keys()) == EPOCH_PARENTS_MAX
    step = record.write(A, group.heads(), [], [A, X], epoch_key("second"), group.parent_keys())
    assert [verdict.code for verdict in record.merge(group, step)] == ["epoch-past-unreachable"]
    mended = record.write(A, group.heads(), [], [A, X], epoch_key("third"), group.parent_keys())
    assert record.merge(group, mended)[0].valid
    assert not group.repair_needed(A)


def test_the_same_key_is_carried_once_however_many_epochs_have_it():
    record = Record()
    first = record.create(X)
    for log in "12":
        record.write(X, [first], [], [X], epoch_key("second"), log=log)
    assert sorted(record.group()[0].parent_keys()) == sorted([FIRST, SECOND])


def test_an_entry_may_use_a_key_only_after_seeing_an_epoch_that_starts_it():
    record = Record()
    first = record.create(B)
    second = record.write(A, [first], [], [A, B], epoch_key("second"), [FIRST])
    unaware = record.write(B, [first])
    group, _ = record.group()
    assert group.key_started(SECOND, [second])
    assert group.key_started(FIRST, [unaware, second])
    assert not group.key_started(SECOND, [first, unaware])
    assert not group.key_started(THIRD, [second])
    assert not group.key_started(FIRST, [])


# --- keys asked for again -------------------------------------------------------------------------------------------


def test_a_member_of_any_role_asks_for_keys_and_nothing_follows_for_members_and_epochs():
    record = Record()
    first = record.create(B, role=Role.READER)
    before, _ = record.group()
    asked = record.write(B, [first], [ask_act(1, [SECOND]), [7, "later"]])
    record.write(B, [asked], [ask_act(2, [THIRD])])
    group, verdicts = record.group()
    assert [verdict.code for verdict in verdicts[asked]] == ["", "act-unknown"]
    assert (group.members(), group.write_key(), group.heads()) == (before.members(), before.write_key(), (first,))
    assert [(ask.device, ask.attempt, ask.keys) for ask in group.take_asks()] == [(B, 2, {THIRD})]
    assert group.take_asks() == []
    again = Group.restore(codec.decode_trusted(codec.encode(group.snapshot())), record.incident)
    assert [(ask.device, ask.position[1], ask.keys) for ask in again.take_asks()] == [(B, 2, {THIRD})]
    assert group.keys_behind(FIRST) == ()


@pytest.mark.parametrize(
    ("author", "act", "code"),
    [
        (X, [3, 1, [FIRST]], "act-not-entitled"),
        (B, [3, 1], "act-malformed"),
        (B, [3, 0, [FIRST]], "act-malformed"),
        (B, [3, True, [FIRST]], "act-malformed"),
        (B, [3, ATTEMPTS_MAX + 1, [FIRST]], "act-malformed"),
        (B, [3, 1, FIRST], "act-malformed"),
        (B, [3, 1, []], "act-malformed"),
        (B, [3, 1, [FIRST] * (ASKED_KEYS_MAX + 1)], "act-malformed"),
        (B, [3, 1, [FIRST[:31]]], "act-malformed"),
        (B, [3, 1, ["text"]], "act-malformed"),
        (B, [3, 1, [FIRST], 0], "act-malformed"),
    ],
)
def test_an_ask_of_a_stranger_or_of_another_form_is_void(author: DeviceId, act: object, code: str):
    record = Record()
    first = record.create(B)
    asked = record.write(author, [first], [act])
    assert codes(record, asked) == [code]
    assert record.group()[0].take_asks() == []


def test_a_re_seal_gives_its_recipients_the_key_and_what_its_body_carries_and_starts_nothing():
    record = Record()
    first = record.create(B, C)
    second = record.write(A, [first], [], [A, B, C], epoch_key("second"), [FIRST])
    again = record.write(B, [second], [], [C], epoch_key("second"), [FIRST])
    group, verdicts = record.group()
    assert verdicts[again][-1].valid
    assert [(who, epoch.position) for who, epoch in group.reseals_to(C)] == [(B, again)]
    assert group.reseals_to(A) == []
    assert group.epoch_starts(SECOND) == (second,)
    assert group.write_key() == SECOND
    assert not group.repair_needed(A)
    assert group.parent_keys() == (SECOND,)
    third = record.write(A, [again], [], [A, B, C], epoch_key("third"), [SECOND])
    assert codes(record, third) == [""]


@pytest.mark.parametrize("outsiders", [[OUTSIDER], [C, OUTSIDER]])
def test_a_re_seal_to_an_outsider_is_a_leak_and_no_key_in_it_is_written_under_any_more(outsiders: list[DeviceId]):
    record = Record()
    first = record.create(B, C)
    second = record.write(A, [first], [], [A, B, C], epoch_key("second"), [FIRST])
    leak = record.write(B, [second], [], outsiders, epoch_key("second"), [FIRST])
    assert codes(record, leak) == ["epoch-key-reused"]
    group, _ = record.group()
    assert group.write_key() is None
    assert group.repair_needed(A)
    assert group.reseals_to(OUTSIDER) == []
    member = record.add(A, [leak], OUTSIDER)
    group, _ = record.group()
    assert group.write_key() == SECOND  # no outsider any more
    assert record.items[member].past


def test_members_of_any_role_re_seal_and_strangers_do_not():
    record = Record()
    first = record.create(B, role=Role.READER)
    second = record.write(A, [first], [], [A, B], epoch_key("second"), [FIRST])
    assert codes(record, record.write(B, [second], [], [A], epoch_key("second"))) == [""]
    assert codes(record, record.write(X, [second], [], [A], epoch_key("second"))) == ["epoch-not-entitled"]
    group, _ = record.group()
    assert group.keys_behind(SECOND) == (FIRST,)


def test_the_holders_of_a_key_are_those_any_epoch_sealed_it_to():
    record = Record()
    first = record.create(B)
    record.write(A, [first], [add_act(writers(C))], [A, B, C], epoch_key("second"), [FIRST])
    group, _ = record.group()
    assert group.holders(FIRST) == {A, B}
    assert group.holders(SECOND) == {A, B, C}
    assert group.holders(THIRD) == frozenset()


def test_the_rank_is_the_place_by_seniority_among_those_who_may_write():
    record = Record()
    rows = lines((A, Role.MANAGER), (C, Role.READER), (B, Role.WRITER))
    record.write(A, [], [create_act(NONCE, rows)])
    group, _ = record.group()
    assert [group.rank(one) for one in (A, B, C, X)] == [0, 1, 2, 2]


def test_an_empty_group_has_no_key_and_no_duties():
    group = Group(IncidentId(bytes(16)))
    assert (group.write_key(), group.members(), group.parent_keys(), group.heads()) == (None, (), (), ())
    assert not group.repair_needed(A)


def test_an_epoch_without_a_key_id_is_a_mistake_of_the_caller():
    record = Record()
    first = record.create()
    group, _ = record.group()
    with pytest.raises(ValueError, match="key id"):
        group.merge((first[0], 2), [], A, [], EpochBody(((A, 0),)), None)


def test_entries_without_acts_and_epochs_and_void_acts_keep_nothing():
    record = Record()
    first = record.create()
    record.write(A, [first])
    record.add(X, [first], X)
    group, _ = record.group()
    assert group.heads() == (first,)
    assert len(group.snapshot()[3]) == 1
