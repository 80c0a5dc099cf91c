"""The logs this process writes: operations become entries, entries become sealed runs.

Per incident one **own log** with a fresh key. A fresh log cannot reuse a position, so a restored backup or a copied
machine never contradicts itself, and a relay cannot link two logs of one device.

Own entries are staged as they are made and sealed together at the end of a step, or earlier when a run is full: one
signature for all that is made durable and pushed together. ``seal_runs`` gives the sealed runs; nothing of them may
be sent before the commit.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from meshnode.core import codec, epochs
from meshnode.core import entry as entries
from meshnode.core.archive import Archive, package_row
from meshnode.core.causal import Position
from meshnode.core.crdt import unseen
from meshnode.core.entry import Content
from meshnode.core.events import Now
from meshnode.core.holdings import Holdings
from meshnode.core.identity import Identity
from meshnode.core.ids import NO_HASH, Dot, EntryHash, IncidentId, KeyId, LogId
from meshnode.core.keys import RandomBytes, SigningKey
from meshnode.core.log import CommitBatch, Entry, Seal
from meshnode.core.operations import Operation, encode_operation
from meshnode.core.replica import Replica, Writer
from meshnode.core.wire import RUN_BYTES_MAX, RUN_ENTRIES_MAX
from meshnode.errors import LocalFaultError

CONTENT_BYTES_AIM = 48_000
"""Operations are packed into entries up to this, which leaves room below CONTENT_BYTES_MAX for the rest."""


@dataclass(slots=True)
class OwnLog:
    key: SigningKey = field(repr=False)
    id: LogId
    seq: int = 0
    hash: EntryHash = NO_HASH
    unsealed: list[Entry] = field(default_factory=list)
    unsealed_bytes: int = 0
    damaged: bool = False
    """A row of it was lost on disk. Peers send it again as far as they have it; a new log goes on."""


class OwnLogs:
    def __init__(self, identity: Identity, holdings: Holdings, archive: Archive, random_bytes: RandomBytes) -> None:
        self._identity = identity
        self._holdings = holdings
        self._archive = archive
        self._random_bytes = random_bytes
        self._writer = Writer(identity.device, identity.certificate.noc, identity.certificate.name)
        self._own: dict[IncidentId, OwnLog] = {}
        self._runs: list[tuple[list[Entry], Seal]] = []

    def write(
        self, replica: Replica, operations: Sequence[Operation], operator: str, now: Now, key_id: KeyId
    ) -> list[Dot]:
        """Packs operations into as few entries as their sizes allow, and returns their dots in order."""
        shown = self._show(replica, operations, operator, now, key_id)
        if len(operations) == 1:  # as nearly always; one always fits
            return self.append(replica, operations, operator, now, key_id, shown=shown)
        dots: list[Dot] = []
        batch: list[Operation] = []
        size_bytes = 0
        for operation in operations:
            added_bytes = len(codec.encode(encode_operation(operation)))
            if batch and (size_bytes + added_bytes > CONTENT_BYTES_AIM or len(batch) >= entries.OPERATIONS_MAX):
                dots += self.append(replica, batch, operator, now, key_id, shown=shown)
                batch, size_bytes, shown = [], 0, {}
            batch.append(operation)
            size_bytes += added_bytes
        if batch:
            dots += self.append(replica, batch, operator, now, key_id, shown=shown)
        return dots

    def _show(
        self, replica: Replica, operations: Sequence[Operation], operator: str, now: Now, key_id: KeyId
    ) -> dict[LogId, int]:
        """The logs, and how far in each, that the next own entry must name because these operations name values of
        them. When one entry has not enough parents for that, entries without operations go before it."""
        while True:
            own = self.of(replica)
            needed = unseen(replica.graph, (own.id, own.seq + 1), operations)
            if len(needed) < entries.PARENTS_MAX:  # one is left for the epoch whose key it uses
                return needed
            part = dict(list(needed.items())[: entries.PARENTS_MAX - 1])
            self.append(replica, (), operator, now, key_id, shown=part)

    def append(
        self,
        replica: Replica,
        operations: Sequence[Operation],
        operator: str,
        now: Now,
        key_id: KeyId,
        package: bytes | None = None,
        body: epochs.EpochBody | None = None,
        membership: Sequence[Any] = (),
        shown: Mapping[LogId, int] | None = None,
        starts_epoch: bool | None = None,
    ) -> list[Dot]:
        """One own entry: written, staged, merged and journalled. Its parents reach ``shown``. A re-seal has a body and
        starts no epoch."""
        own = self.of(replica)
        starts_epoch = body is not None if starts_epoch is None else starts_epoch
        opening = None
        if own.seq == 0:
            bundle = self._identity.certificate.bundle
            opening = entries.sign_opening(self._identity.device_key, bundle, replica.incident, own.id)
            replica.open_own_log(own.id, self._writer, bundle)
        parents = self._parents(replica, own.id, key_id, starts_epoch, shown or {})
        content = Content(
            parents=tuple(parents.values()),
            time_ms=max(0, now.wall_ms),
            operator=operator,
            operations=tuple(encode_operation(operation) for operation in operations),
            acts=tuple(membership),
            opening=opening,
            epoch=None if body is None else body.to_plain(),
        )
        entry = entries.write_entry(
            replica.incident, own.id, own.seq + 1, own.hash, replica.keys[key_id], key_id, package, content
        )
        if own.unsealed and (
            len(own.unsealed) >= RUN_ENTRIES_MAX or own.unsealed_bytes + entry.size_bytes > RUN_BYTES_MAX
        ):
            self._seal(own)
        own.seq, own.hash = entry.seq, entry.hash
        own.unsealed.append(entry)
        own.unsealed_bytes += entry.size_bytes
        if package is not None:
            replica.note_package(key_id, (own.id, entry.seq))
        puts = () if package is None else (package_row(entry),)
        self._archive.stage(CommitBatch(entries=(entry,), puts=puts))
        replica.apply(entry, content, operations, list(parents), body)
        self._archive.note_merged(replica, [(own.id, entry.seq)])
        return [Dot(own.id, entry.seq, index) for index in range(len(operations))]

    def of(self, replica: Replica) -> OwnLog:
        """The log that takes the next own entry of this incident."""
        own = self._own.get(replica.incident)
        if own is None or (own.damaged and not own.unsealed):
            key = SigningKey(self._random_bytes(32))
            own = self._own[replica.incident] = OwnLog(key, LogId(key.public))
        return own

    def _parents(
        self, replica: Replica, own_log: LogId, key_id: KeyId, starts_epoch: bool, shown: Mapping[LogId, int]
    ) -> dict[Position, EntryHash]:
        """What the next own entry names. A head whose row is damaged is left out where others lead to what must be in
        its past: a node that is alone with its damage goes on writing. Raises LocalFaultError otherwise."""
        parents: dict[Position, EntryHash] = {}
        lost: LocalFaultError | None = None
        for position in replica.parents_for(own_log, key_id, starts_epoch, shown):
            try:
                parents[position] = self._hash_at(replica, position)
            except LocalFaultError as fault:
                lost = fault
        if lost is not None:
            for log, needed in shown.items():
                if all(parent < needed for other, parent in parents if other == log):
                    parents[log, needed] = self._hash_at(replica, (log, needed))
            if not replica.is_past_whole(own_log, key_id, starts_epoch, list(parents)):
                raise lost
        return parents

    def _hash_at(self, replica: Replica, position: Position) -> EntryHash:
        height, head = self._holdings.head(replica.incident, position[0])
        return head if height == position[1] else replica.hash_at(*position)

    def _seal(self, own: OwnLog) -> None:
        first, last = own.unsealed[0], own.unsealed[-1]
        seal = entries.sign_seal(own.key, last)
        self._archive.stage(CommitBatch(seals=(seal,)))
        if self._holdings.head(last.incident, own.id)[0] == first.seq - 1:
            self._holdings.advance(last.incident, own.id, last.seq, last.hash)
        else:
            own.damaged = True
        self._runs.append((own.unsealed, seal))
        own.unsealed, own.unsealed_bytes = [], 0

    def seal_runs(self) -> list[tuple[list[Entry], Seal]]:
        """Ends a step: seals what was written in it, and returns the runs to push once they are durable."""
        for own in self._own.values():
            if own.unsealed:
                self._seal(own)
        runs, self._runs = self._runs, []
        return runs
