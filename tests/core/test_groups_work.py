"""What an epoch or act costs a group does not grow with the number of those before it: looks are counted, not time.

A hostile member may write as many epochs as it likes, right or wrong; each costs everybody its own size. Counted are
all looks at kept entries, epochs and masks. What remains of the square is the length of a mask: a bit for each of them.
"""

from __future__ import annotations

import itertools
import random
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from group_record import OUTSIDER, A, B, Position, X, epoch_key, log_id, writers

from meshnode.core.epochs import EpochBody, key_id
from meshnode.core.groups import STANDINGS_KEPT, Group, Role, add_act, create_act, incident_id
from meshnode.core.ids import DeviceId, KeyId
from meshnode.core.pasts import PLAIN_BITS_MAX, UNPACKED_MAX, MaskTable, Pasts, bits, tops

NONCE = b"nonce-of-16bytes"
FEW = 150
LOOKS_MAX = 5 * STANDINGS_KEPT
"""For one entry in the worst of these floods: one whose past lacks acts is compared with all remembered pasts."""


class Looks(dict[Any, Any]):
    """A dictionary that counts how often somebody looked into it."""

    count = 0

    def __getitem__(self, key: Any) -> Any:
        Looks.count += 1
        return super().__getitem__(key)

    def get(self, key: Any, default: Any = None) -> Any:
        Looks.count += 1
        return super().get(key, default)

    def __iter__(self) -> Iterator[Any]:
        for key in super().__iter__():
            Looks.count += 1
            yield key

    def items(self) -> Any:
        Looks.count += len(self)
        return super().items()

    def values(self) -> Any:
        Looks.count += len(self)
        return super().values()


class LookedAtList(list[Any]):
    def __getitem__(self, index: Any) -> Any:
        Looks.count += 1
        return super().__getitem__(index)

    def __iter__(self) -> Iterator[Any]:
        Looks.count += len(self)
        return super().__iter__()


class Flood:
    """A group of A, B and the hostile X, and what X writes into it."""

    def __init__(self) -> None:
        self.group = Group(incident_id(A, NONCE))
        self.first: Position = (log_id(A, ""), 1)
        rows = [(A, "BE", Role.MANAGER), (X, "NL", Role.MANAGER), (B, "DE", Role.WRITER)]
        self.next: dict[bytes, int] = {}
        self.write(A, "", [], [create_act(NONCE, rows)], [A, B, X], "first")
        self.count_looks()

    def count_looks(self) -> None:
        group, lineage, pasts = self.group, self.group.lineage, self.group._pasts
        group._kept = LookedAtList(group._kept)
        group._ever_at = Looks(group._ever_at)
        for name in ("_epochs", "_starts", "_sealed_to"):
            setattr(lineage, name, Looks(getattr(lineage, name)))
        pasts._logs = Looks(pasts._logs)
        pasts.table._rows = LookedAtList(pasts.table._rows)
        Looks.count = 0

    def write(
        self,
        author: DeviceId,
        log: str,
        parents: list[Position],
        acts: list[Any] | None = None,
        recipients: list[DeviceId] | None = None,
        key: str = "",
        carries: list[KeyId] | None = None,
    ) -> Position:
        own = log_id(author, log)
        position = (own, self.next.get(own, 0) + 1)
        self.next[own] = position[1]
        body = None
        if recipients is not None:
            keys = [(identity, bytes(32)) for identity in carries or []]
            body = EpochBody(tuple((one, 0) for one in sorted(recipients)), tuple(sorted(keys)))
        self.group.merge(position, parents, author, acts or [], body, key_id(epoch_key(key)) if body else None)
        # What a node asks after each run that it merged.
        self.group.write_key()
        self.group.repair_needed(B)
        assert self.group.may_write(author, position)
        return position


def wrong_in_a_chain(flood: Flood, count: int) -> None:
    for number in range(count):
        flood.write(X, "", [flood.first], [], [X], str(number))


def wrong_side_by_side(flood: Flood, count: int) -> None:
    for number in range(count):
        flood.write(X, str(number), [flood.first], [], [X], str(number))


def right_in_a_chain(flood: Flood, count: int) -> None:
    for number in range(count):
        before = "first" if not number else str(number - 1)
        flood.write(X, "", [flood.first], [], [A, B, X], str(number), [key_id(epoch_key(before))])


def right_side_by_side(flood: Flood, count: int) -> None:
    for number in range(count):
        flood.write(X, str(number), [flood.first], [], [A, B, X], str(number), [key_id(epoch_key("first"))])


def one_key_in_a_chain(flood: Flood, count: int) -> None:
    for _ in range(count):
        flood.write(X, "", [flood.first], [], [X], "first")


def one_key_side_by_side(flood: Flood, count: int) -> None:
    for number in range(count):
        flood.write(X, str(number), [flood.first], [], [X], "again")


def leaks_of_new_keys(flood: Flood, count: int) -> None:
    """Each right epoch is given away to an outsider by the next."""
    for number in range(count):
        carries = [key_id(epoch_key("first"))]
        start = flood.write(X, str(number), [flood.first], [], [A, B, X], str(number), carries)
        given = [key_id(epoch_key(str(number)))]
        flood.write(X, f"leak {number}", [start], [], [A, B, X, OUTSIDER], f"leak {number}", given)


def from_a_past_without_the_newest_member(flood: Flood, count: int) -> None:
    flood.write(A, "", [], [add_act(writers(OUTSIDER))])
    for number in range(count):
        flood.write(X, str(number), [flood.first], [], [A, B, X], str(number))


def acts_in_a_chain(flood: Flood, count: int) -> None:
    for _ in range(count):
        flood.write(X, "", [flood.first], [add_act(writers(B))])


def acts_side_by_side_and_an_honest_one_between(flood: Flood, count: int) -> None:
    for number in range(count):
        flood.write(X, str(number), [flood.first], [add_act(writers(B))])
        flood.write(A, "", [], [add_act(writers(B))])


def honest_writers_meanwhile(flood: Flood, count: int) -> None:
    """B names what it sees: its mask changes with each entry."""
    for number in range(count):
        start = flood.write(X, str(number), [flood.first], [], [X], str(number))
        flood.write(B, "", [start])
        assert flood.group.key_started(key_id(epoch_key(str(number))), [start])


def reseals_behind_others_side_by_side(flood: Flood, count: int) -> None:
    """Half of them side by side, gathered under one entry, the rest behind all of these."""
    heads = [flood.write(X, str(number), [flood.first], [], [B], "first") for number in range(count // 2)]
    head = flood.write(X, "gathers", heads)
    for number in range(count // 2, count):
        flood.write(X, str(number), [head], [], [B], "first", [])


FLOODS = [
    reseals_behind_others_side_by_side,
    wrong_in_a_chain,
    wrong_side_by_side,
    right_in_a_chain,
    right_side_by_side,
    one_key_in_a_chain,
    one_key_side_by_side,
    leaks_of_new_keys,
    from_a_past_without_the_newest_member,
    acts_in_a_chain,
    acts_side_by_side_and_an_honest_one_between,
    honest_writers_meanwhile,
]


def looks(flood_with: Callable[[Flood, int], None], count: int) -> int:
    flood = Flood()
    flood_with(flood, count)
    return Looks.count


@pytest.mark.parametrize("flood_with", FLOODS, ids=lambda flood: flood.__name__)
def test_twice_as_many_acts_or_epochs_are_twice_the_work(flood_with: Callable[[Flood, int], None]):
    few, many = looks(flood_with, FEW), looks(flood_with, 2 * FEW)
    assert few >= FEW  # something was counted
    assert many <= 2.2 * few, (few, many)
    assert many <= 2 * FEW * LOOKS_MAX


def test_making_an_epoch_looks_at_heads_and_dead_ends_only():
    flood = Flood()
    wrong_in_a_chain(flood, FEW)
    Looks.count = 0
    assert len(flood.group.heads()) == 1
    right = Flood()
    right_in_a_chain(right, FEW)
    Looks.count = 0
    assert right.group.parent_keys() == (key_id(epoch_key(str(FEW - 1))),)
    assert len(right.group.heads()) == 1
    assert Looks.count < 20


# --- masks ----------------------------------------------------------------------------------------------------------


def test_a_flood_of_kept_entries_leaves_masks_that_take_little_room():
    for flood in (lambda number: (1 << number) - 1, lambda number: 1 | 1 << number):
        table = MaskTable()
        for number in range(PLAIN_BITS_MAX, 3 * PLAIN_BITS_MAX, 8):
            table.number(flood(number))
        packed = [row for row in table.snapshot() if len(row) > PLAIN_BITS_MAX // 8]
        assert packed == []
        assert sum(map(len, table.snapshot())) < len(table.snapshot()) * 100


def test_a_mask_comes_back_from_its_number_however_long_it_is_and_has_one_number():
    source = random.Random(1)
    masks = [source.getrandbits(length) for length in (1, 64, PLAIN_BITS_MAX) for _ in range(20)]
    masks += [source.getrandbits(2 * PLAIN_BITS_MAX) | 1 << 2 * PLAIN_BITS_MAX for _ in range(UNPACKED_MAX + 10)]
    table = MaskTable()
    numbers = [table.number(mask) for mask in masks]
    for _ in range(2):
        assert [table.mask(number) for number in numbers] == masks
    assert [table.number(mask) for mask in masks] == numbers
    again = MaskTable.restore(table.snapshot(), table.packed())
    assert [again.mask(number) for number in numbers] == masks
    assert [again.number(mask) for mask in masks] == numbers
    assert [table.mask(numbers[-1]) for _ in range(2)] == [masks[-1]] * 2
    assert len(table._at_hand) <= UNPACKED_MAX


def test_every_entry_has_the_union_of_what_it_names_and_follows():
    """Against sets, over random graphs; old positions are named too, and asked for later."""
    for seed in range(20):
        source = random.Random(seed)
        pasts, truth = Pasts(), dict[Position, set[int]]()
        heights = dict.fromkeys((log_id(A, str(number)) for number in range(4)), 0)
        indices = itertools.count()
        for _ in range(60):
            log = source.choice(list(heights))
            heights[log] += 1
            position = (log, heights[log])
            parents = source.sample(list(truth), min(len(truth), source.randint(0, 3)))
            seen = set().union(*(truth[parent] for parent in parents), truth.get((log, heights[log] - 1), set()))
            if source.random() < 0.3:
                index = next(indices)
                pasts.add(position, pasts.union(position, parents) | 1 << index)
                seen.add(index)
            else:
                pasts.pass_on(position, parents)
            truth[position] = seen
        for whole in (pasts, Pasts.restore(pasts.snapshot())):
            assert {position: set(bits(whole.at(position))) for position in truth} == truth
            assert whole.at((log_id(B, "unknown"), 1)) == 0


def test_tops_are_those_that_no_other_covers():
    covers = {0: 0b1, 1: 0b11, 2: 0b101, 3: 0b1011}
    assert list(tops(0b1111, covers.__getitem__)) == [3, 2]
    assert list(tops(0b0111, covers.__getitem__)) == [2, 1]
    assert list(tops(0, covers.__getitem__)) == []
