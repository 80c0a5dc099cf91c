"""What several tests of the core share: refusals by code, real logs with real keys, and how long hypothesis may search.

``MESHNODE_NIGHTLY=1`` makes every search thirty times as long.
"""

from __future__ import annotations

import os
import random
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import pytest
from coverage import Coverage
from hypothesis import HealthCheck, settings

from meshnode.core import entry, epochs, wire
from meshnode.core.entry import Content
from meshnode.core.ids import NO_HASH, EntryHash, IncidentId, LogId
from meshnode.core.keys import SigningKey
from meshnode.core.log import CommitBatch, Entry, Seal
from meshnode.errors import MeshnodeError, UntrustedInputError
from meshnode.storage.memory import MemoryLogStore

NIGHTLY_FACTOR = 30 if os.environ.get("MESHNODE_NIGHTLY") else 1

INCIDENT = IncidentId(b"incident 16bytes")
EPOCH_KEY = bytes(range(32))
KEY_ID = epochs.key_id(EPOCH_KEY)


def search(examples: int) -> settings:
    return settings(max_examples=examples * NIGHTLY_FACTOR, deadline=None, suppress_health_check=[HealthCheck.too_slow])


def measuring_coverage() -> bool:
    """Then everything takes several times as long."""
    return Coverage.current() is not None


@contextmanager
def refused(*codes: str, error: type[MeshnodeError] = UntrustedInputError) -> Iterator[None]:
    """The block is refused with one of these codes, and says why and what to do."""
    with pytest.raises(error) as caught:
        yield
    assert caught.value.code in codes, str(caught.value)
    assert caught.value.reason


class LogWriter:
    """One log with its key: makes entries, and seals them where it is told to."""

    def __init__(self, name: str = "log", incident: IncidentId = INCIDENT, epoch_key: bytes = EPOCH_KEY) -> None:
        self.key = SigningKey(random.Random(name).randbytes(32))
        self.incident, self.id, self.epoch_key = incident, LogId(self.key.public), epoch_key
        self.entries: list[Entry] = []

    @property
    def head(self) -> EntryHash:
        return self.entries[-1].hash if self.entries else NO_HASH

    def write(self, text: str = "", operations: Sequence[Any] = (), package: bytes | None = None) -> Entry:
        content = Content((), 1_000 + len(self.entries), text, tuple(operations))
        key_id = epochs.key_id(self.epoch_key)
        seq = len(self.entries) + 1
        made = entry.write_entry(self.incident, self.id, seq, self.head, self.epoch_key, key_id, package, content)
        self.entries.append(made)
        return made

    def grow(self, count: int, size_bytes: int = 0) -> list[Entry]:
        """Entries; of about ``size_bytes`` each if that is said."""
        return [self.write(operations=(bytes(size_bytes),) if size_bytes else ()) for _ in range(count)]

    def seal(self, seq: int | None = None) -> Seal:
        return entry.sign_seal(self.key, self.entries[(seq or len(self.entries)) - 1])

    def run(self, first: int = 1, last: int | None = None) -> wire.Run:
        last = last or len(self.entries)
        return wire.make_run(self.entries[first - 1 : last], self.seal(last))

    def store(self, store: MemoryLogStore, seals: Sequence[int]) -> None:
        """Everything up to the last of these sealed positions."""
        store.stage(CommitBatch(tuple(self.entries[: max(seals)]), tuple(self.seal(seq) for seq in seals)))
