"""The sum stands for the set of facts: order does not matter, and what was taken out leaves no trace."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st

from meshnode.core.facts import FACT_BYTES, FactSum, extra_fact, object_fact, operation_fact
from meshnode.core.ids import Dot, LogId, ObjectId

DOT = Dot(LogId(b"l" * 32), 1, 0)
OBJECT = ObjectId(b"o" * 16)

facts = st.lists(st.binary(max_size=8), unique=True, max_size=6)


def summed(found: list[bytes]) -> bytes:
    total = FactSum()
    for fact in found:
        total.add(fact)
    return total.to_bytes()


@given(facts, st.randoms(use_true_random=False))
@settings(max_examples=50, deadline=None)
def test_the_order_of_facts_does_not_show(found: list[bytes], random: object) -> None:
    shuffled = list(found)
    random.shuffle(shuffled)
    assert summed(found) == summed(shuffled)


@given(facts, facts)
@settings(max_examples=50, deadline=None)
def test_a_fact_that_was_added_and_subtracted_leaves_no_trace(kept: list[bytes], passing: list[bytes]) -> None:
    total = FactSum()
    for fact in kept + passing:
        total.add(fact)
    restored = FactSum(total.to_bytes())
    for fact in passing:
        restored.subtract(fact)
    assert restored.to_bytes() == summed(kept)


@given(facts, facts)
@settings(max_examples=50, deadline=None)
def test_different_sets_have_different_sums(one: list[bytes], other: list[bytes]) -> None:
    assert (set(one) == set(other)) == (summed(one) == summed(other))


def test_a_sum_has_2048_bits_also_below_zero() -> None:
    total = FactSum()
    total.subtract(b"never added")
    assert len(total.to_bytes()) == FACT_BYTES == 256
    total.add(b"never added")
    assert total.to_bytes() == bytes(FACT_BYTES)


def test_facts_of_different_kinds_never_share_an_encoding() -> None:
    found = [
        operation_fact(1, DOT, "", 0),
        operation_fact(2, DOT, "", 0),
        operation_fact(1, DOT, "", -1),
        operation_fact(1, DOT, "", 2**64 - 1),
        operation_fact(1, DOT, "a", 0),
        operation_fact(1, DOT, "", 0, "a"),
        operation_fact(1, DOT, "", 0, "a", "b"),
        operation_fact(1, DOT, "", 0, "ab"),
        extra_fact(DOT, ()),
        extra_fact(DOT, ("a",)),
        object_fact("a", OBJECT),
        object_fact("b", OBJECT),
    ]
    assert len(set(found)) == len(found)
