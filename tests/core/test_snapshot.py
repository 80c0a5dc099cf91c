"""A snapshot brings back the state exactly: what it shows, its digest, and everything it will do later."""

from __future__ import annotations

import pytest
from histories import LOGS, OBJECTS, Written, author, causal_orders, histories, merge, merged
from hypothesis import given, settings
from hypothesis import strategies as st

from meshnode.core import codec
from meshnode.core.ids import Dot
from meshnode.core.incident import Document
from meshnode.core.operations import Set
from meshnode.errors import LocalFaultError


def through_bytes(document: Document) -> Document:
    return Document.restore(codec.decode_trusted(codec.encode(document.snapshot())))


@given(st.data())
@settings(max_examples=80, deadline=None)
def test_a_restored_document_shows_and_does_the_same_as_one_that_never_slept(data: st.DataObject) -> None:
    entries: list[Written] = data.draw(causal_orders(data.draw(histories())))
    asleep_at = data.draw(st.integers(0, len(entries)))
    awake = merged(entries[:asleep_at])
    restored = through_bytes(awake)
    assert restored.snapshot() == awake.snapshot()
    assert restored.digest([]) == awake.digest([])
    for document in (awake, restored):
        merge(document, entries)
    assert restored.snapshot() == awake.snapshot()
    assert restored.facts_sum == awake.facts_sum
    assert restored.conflicts() == awake.conflicts()
    assert restored.conflict_count == awake.conflict_count
    assert restored.fields_view() == awake.fields_view()
    assert restored.attachment_chunks(OBJECTS[0]) == awake.attachment_chunks(OBJECTS[0])


def test_a_snapshot_of_another_version_is_a_fault_of_this_machine() -> None:
    data = Document().snapshot()
    data[0] += 1
    with pytest.raises(LocalFaultError) as fault:
        Document.restore(data)
    assert fault.value.code == "snapshot-version"


def test_texts_that_repeat_stand_once_in_a_snapshot() -> None:
    document = Document()
    for seq in range(1, 201):
        who = author(0, operator="a rather long operator's name")
        document.apply(Dot(LOGS[0], seq, 0), Set("persons", OBJECTS[0], "family_name", seq), who)
    assert len(codec.encode(document.snapshot())) < 200 * 20 + 600
