"""Records of the log store's contract, and reading past a damaged row."""

from __future__ import annotations

from core_support import LogWriter

from meshnode.core.log import CommitBatch


def test_an_entry_is_charged_with_what_it_holds() -> None:
    writer = LogWriter()
    plain, epoch = writer.write("a"), writer.write("b", package=bytes(1000))
    assert plain.size_bytes == 160 + len(plain.sealed)
    assert epoch.size_bytes == 160 + len(epoch.sealed) + 1000


def test_a_batch_is_true_when_there_is_something_to_keep() -> None:
    writer = LogWriter()
    writer.write()
    assert not CommitBatch()
    assert CommitBatch(entries=tuple(writer.entries))
    assert CommitBatch(seals=(writer.seal(),))
    assert CommitBatch(puts=(("namespace", b"", None),))
