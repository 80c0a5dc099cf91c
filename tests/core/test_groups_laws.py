"""Members and epochs: any causal order gives the same, whatever happened; snapshots go on as if nothing had."""

from __future__ import annotations

import random
from dataclasses import replace

import pytest
from group_record import NONCE, OUTSIDER, A, B, C, D, Position, Record, X, epoch_key
from hypothesis import given, settings
from hypothesis import strategies as st

from meshnode.core import codec, groups
from meshnode.core.epochs import key_id
from meshnode.core.groups import Group, Role, add_act, create_act
from meshnode.core.ids import DeviceId, IncidentId, KeyId
from meshnode.errors import LocalFaultError

FIRST = key_id(epoch_key("first"))
SECOND = key_id(epoch_key("second"))
THIRD = key_id(epoch_key("third"))


def devices(group: Group) -> list[DeviceId]:
    return [member.device for member in group.members()]


def codes(record: Record, position: Position) -> list[str]:
    """What became of each act and of the epoch of one entry."""
    return [verdict.code for verdict in record.group()[1][position]]


def random_record(seed: int, size: int) -> Record:
    """Entries by members, strangers and an author twice, with acts and epochs right and wrong."""
    rng = random.Random(seed)
    record = Record()
    record.create(*rng.sample([B, C, X], rng.randint(0, 3)), role=rng.choice(list(Role)))
    everyone = [A, B, C, D, X, OUTSIDER]
    for number in range(size):
        positions = list(record.items)
        parents = rng.sample(positions, min(len(positions), rng.randint(1, 3)))
        view = record.closed(parents)
        members = list(record.roles(view))
        acts: list[object] = []
        if rng.random() < 0.5:
            rows = [(one, "NL", rng.choice(list(Role))) for one in rng.sample(everyone, rng.randint(1, 2))]
            acts.append(rng.choice([add_act(rows), add_act(rows), create_act(NONCE, rows), [7, "later"]]))
        recipients, key, carries = None, None, list[KeyId]()
        if rng.random() < 0.6:
            members += [row[0] for act in acts if act[0] == 2 for row in act[-1]]
            recipients = rng.choice([members, members, members, rng.sample(everyone, 2)])
            key = epoch_key(str(rng.choice([number, number, number // 3])))
            seen = sorted({item.key_id for p, item in record.items.items() if p in view and item.key_id})
            carries = rng.choice([seen, seen, seen[:1], []])
        log = rng.choice(["", "", "second"])
        record.write(rng.choice([A, A, *everyone]), parents, acts, recipients, key, carries, log=log)
    return record


def outcome(record: Record, group: Group) -> list[object]:
    entries = sorted(record.items)
    return [
        group.members(),
        group.write_key(),
        [group.repair_needed(one) for one in (A, B, C, D, X)],
        [group.rank(one) for one in (A, B, C, D, X)],
        group.unknown_acts,
        sorted(group.heads()),
        [group.may_write(record.items[entry].author, entry) for entry in entries],
        [sorted(group.epoch_starts(record.items[entry].key_id or FIRST)) for entry in entries],
        [sorted((who, epoch.position) for who, epoch in group.reseals_to(one)) for one in (A, B, C, D, X)],
    ]


@settings(max_examples=120, deadline=None)
@given(st.integers(0, 2**32), st.integers(0, 14), st.integers(0, 2**32))
def test_any_causal_order_gives_the_same_members_verdicts_and_write_key(seed: int, size: int, shuffle: int):
    record = random_record(seed, size)
    written, as_written = record.group()
    other, verdicts = record.group(record.causal_order(random.Random(shuffle)))
    assert verdicts == as_written
    assert outcome(record, other) == outcome(record, written)


@settings(max_examples=100, deadline=None)
@given(st.integers(0, 2**32), st.integers(0, 14))
def test_asking_after_every_entry_gives_the_same_as_asking_at_the_end(seed: int, size: int):
    """What grows with each epoch is what would be built from all of them."""
    record = random_record(seed, size)
    asked = Group(record.incident)
    for position in record.items:
        record.merge(asked, position)
        assert outcome_now(asked) == outcome_now(Group.restore(asked.snapshot(), record.incident))
    assert outcome(record, asked) == outcome(record, record.group()[0])


def outcome_now(group: Group) -> list[object]:
    return [group.members(), group.write_key(), [group.repair_needed(one) for one in (A, B, C, D, X)]]


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 2**32), st.integers(0, 12))
def test_members_and_write_rights_are_what_the_rules_say_read_aloud(seed: int, size: int):
    record = random_record(seed, size)
    group, verdicts = record.group()
    for entry, item in list(record.items.items()):
        if any(verdict.code == "act-under-wrong-key" for verdict in verdicts[entry]):  # M0 has a test of its own
            record.items[entry] = replace(item, acts=())
    assert {member.device: member.role for member in group.members()} == record.roles(record.items)
    for entry, item in record.items.items():
        role = record.roles(item.past | {entry}).get(item.author)
        assert group.may_write(item.author, entry) == (role is not None and role >= Role.WRITER)


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 2**32), st.integers(0, 12))
def test_the_write_key_is_held_by_members_only_and_valid_epochs_open_their_whole_past(seed: int, size: int):
    record = random_record(seed, size)
    group, verdicts = record.group()
    key = group.write_key()
    if key is not None:
        assert record.holders(record.items, key) <= set(devices(group))
    for entry, item in record.items.items():
        reseals = any(
            record.items[earlier].key_id == item.key_id for earlier in item.past if record.items[earlier].body
        )
        if item.body is not None and verdicts[entry][-1].valid and not reseals:
            view = item.past | {entry}
            for earlier in item.past:
                if record.items[earlier].body is not None:
                    assert record.holders(view, record.items[earlier].key_id) >= set(item.body.devices)


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 2**32), st.integers(0, 12), st.integers(0, 12))
def test_a_snapshot_through_the_codec_goes_on_as_if_nothing_had_happened(seed: int, size: int, cut: int):
    record = random_record(seed, size)
    order = list(record.items)
    group, _ = record.group(order[:cut])
    data = codec.decode_trusted(codec.encode(group.snapshot()))
    again = Group.restore(data, record.incident)
    assert again.snapshot() == group.snapshot()
    for position in order[cut:]:
        assert record.merge(again, position) == record.merge(group, position)
    assert outcome(record, again) == outcome(record, group)


def test_a_snapshot_of_other_rules_is_refused_so_that_the_journal_is_replayed():
    data = Record().group()[0].snapshot()
    data[0] = groups.RULES_VERSION + 1
    with pytest.raises(LocalFaultError) as caught:
        Group.restore(data, IncidentId(bytes(16)))
    assert caught.value.code == "snapshot-other-rules"


def test_a_snapshot_holds_no_key():
    record = Record()
    first = record.create(B)
    record.write(A, [first], [], [A, B], epoch_key("second"), [FIRST])
    data = codec.encode(record.group()[0].snapshot())
    assert epoch_key("first") not in data
    assert epoch_key("second") not in data
