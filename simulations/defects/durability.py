"""What is lost, or said too soon."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from typing import Any
from unittest.mock import patch

from meshnode.core.archive import Archive
from meshnode.core.events import Event, Now, Step
from meshnode.core.ids import LogId
from meshnode.core.keys import SigningKey
from meshnode.core.node import Node
from meshnode.core.own_logs import OwnLog, OwnLogs
from meshnode.core.replica import Replica
from simulations.defects.table import defect


@defect("send before commit", "a step does not say that it wants a commit", "I1")
def _send_before_commit() -> Iterator[None]:
    step = Node.step

    def speak(self: Node, events: Sequence[Event], now: Now) -> Step:
        return Step(False, step(self, events, now).effects)

    with patch.object(Node, "step", speak):
        yield


@defect("forget to stage", "every twentieth own entry is acknowledged and never staged", "I1", "I8")
def _forget_to_stage() -> Iterator[None]:
    stage, calls = Archive.stage, iter(range(1, 1_000_000))

    def forget(self: Archive, batch: Any) -> None:
        if len(batch.entries) == 1 and batch.entries[0].package is None and next(calls) % 20 == 0:
            self.staged = True
            return
        stage(self, batch)

    with patch.object(Archive, "stage", forget):
        yield


@defect("forget the journal row", "every tenth merged entry gets no journal row", "I3", "I1", "I8", "I9", "I2")
def _forget_journal() -> Iterator[None]:
    note, calls = Archive.note_merged, iter(range(1, 1_000_000))

    def forget(self: Archive, replica: Replica, merged: Any) -> None:
        if next(calls) % 10:
            note(self, replica, merged)

    with patch.object(Archive, "note_merged", forget):
        yield


@defect("one log for ever", "a restarted node goes on in its old log, from position 1", "I14", "I8", "I9", "I1")
def _one_log() -> Iterator[None]:
    def of(self: OwnLogs, replica: Replica) -> OwnLog:
        if replica.incident not in self._own:
            seed = hashlib.blake2b(self._identity.store_key + replica.incident, digest_size=32).digest()
            key = SigningKey(seed)
            self._own[replica.incident] = OwnLog(key, LogId(key.public))
        return self._own[replica.incident]

    with patch.object(OwnLogs, "of", of):
        yield
