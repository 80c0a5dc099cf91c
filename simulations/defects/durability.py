"""What is lost, or said too soon."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from typing import Any
from unittest.mock import patch

from meshnode.core import codec
from meshnode.core.archive import CHECKPOINT_NAMESPACE, Archive
from meshnode.core.entry import log_keys
from meshnode.core.events import Event, Now, Step
from meshnode.core.holdings import Holdings
from meshnode.core.ids import LogId
from meshnode.core.incidents import Incidents
from meshnode.core.keys import SigningKey
from meshnode.core.node import Node
from meshnode.core.own_logs import OwnLog, OwnLogs
from meshnode.core.replica import Replica
from simulations import runs
from simulations.defects.table import defect
from simulations.worlds.disk import Disk


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


@defect(
    "the old log goes on",
    "a restarted node writes on in its old log",
    *("I14", "I9", "I1"),
    scenario="manager-restored",
)
def _old_log() -> Iterator[None]:
    """Right until a backup is put back, or the newest part of a store is lost."""

    def of(self: OwnLogs, replica: Replica) -> OwnLog:
        if replica.incident not in self._own:
            seed = hashlib.blake2b(self._identity.store_key + replica.incident, digest_size=32).digest()
            key = SigningKey(seed)
            log = LogId(key.public)
            height, head = self._holdings.head(replica.incident, log)
            self._own[replica.incident] = OwnLog(key, log, height, head)
        return self._own[replica.incident]

    with patch.object(OwnLogs, "of", of):
        yield


@defect("a checkpoint says one too much", "a start replays the journal one row too late", "I3", "I1", "I9", "I2")
def _checkpoint_ahead() -> Iterator[None]:
    def ahead(self: Archive, replica: Replica) -> None:
        data = codec.encode([self.journal + 1, replica.snapshot()])
        self.put(CHECKPOINT_NAMESPACE, replica.incident, self._seal(CHECKPOINT_NAMESPACE, replica.incident, data))
        self._checkpointed[replica.incident] = replica.merged

    with patch.object(Archive, "checkpoint", ahead), patch("meshnode.core.archive.CHECKPOINT_ENTRIES_MIN", 8):
        yield


@defect(
    "a key is not kept",
    "keys learned from others are forgotten at a restart",
    *("I9", "I6", "I1"),
    scenario="manager-restored",
)
def _key_not_kept() -> Iterator[None]:
    with patch.object(Archive, "key_keeper", lambda self, incident: lambda key_id, key: None):
        yield


@defect("trust a damaged row", "a read does not compare a row with its hash", "I11", scenario="rotting-disks")
def _trust_damage() -> Iterator[None]:
    with patch.object(Disk, "_is_good", lambda self, kind, place, row: True):
        yield


@defect(
    "damage is nobody's business", "the node does not look whether damage was found", "I9", scenario="rotting-disks"
)
def _ignore_damage() -> Iterator[None]:
    with patch.object(Node, "_look_for_damage", lambda self: None):
        yield


@defect(
    "say what was lost", "after damage a node goes on saying that it holds it", "I9", "I11", scenario="rotting-disks"
)
def _say_lost() -> Iterator[None]:
    with patch.object(Holdings, "refresh", lambda self, store: None):
        yield


@defect(
    "a lost key ends the node",
    "whoever reads or writes under a key whose row was damaged makes the node raise",
    *("I8", "I6"),
    scenario=str(runs.ROOT / "simulations" / "regressions" / "keys-rot.toml"),
)
def _lost_key() -> Iterator[None]:
    """What the node did before a seed of this scenario found it."""

    def read(self: Replica, log_id: LogId, seq: int) -> Any:
        entry = self._stored(log_id, seq)
        return self._open(entry, log_keys(self.keys[entry.key_id], self.incident, log_id))

    def require(self: Incidents, replica: Replica, operator: str, now: Now) -> Any:
        key_id = replica.group.write_key()
        if key_id is None or key_id not in replica.keys:
            self._renew_epoch(replica, operator, now)
        return replica.group.write_key()

    with patch.object(Replica, "read_content", read), patch.object(Incidents, "_require_key", require):
        yield
