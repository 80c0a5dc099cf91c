"""What the store keeps of incidents beside their entries, and how a start builds replicas from it.

* **journal**: one numbered row per merged entry, in the order in which this node merged them;
* **stretches**: where in the journal each start of the node began to write, under a random name;
* **checkpoints**: the merged state of an incident, sealed, with the journal number it stands for;
* **keys**: each epoch key as soon as it is known, sealed;
* **packages**: where epoch entries are stored, readable or not.

A start takes the checkpoint and replays the journal behind it. Everything goes through :meth:`stage`, so the node
knows whether a step has something to make durable.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Callable, Iterator, Mapping, Sequence

from meshnode.core import codec, vault
from meshnode.core.causal import Position
from meshnode.core.identity import Identity
from meshnode.core.ids import INCIDENT_ID_BYTES, LOG_ID_BYTES, IncidentId, KeyId, LogId
from meshnode.core.keys import RandomBytes
from meshnode.core.log import Applied, CommitBatch, Entry, LogStore
from meshnode.core.replica import Replica
from meshnode.errors import LocalFaultError

KEY_NAMESPACE = "epoch-key"
CHECKPOINT_NAMESPACE = "checkpoint"
PACKAGE_NAMESPACE = "epoch-at"
STRETCH_NAMESPACE = "stretch"

STRETCH_NAME_BYTES = 4
"""Drawn at random by every start that merges something. Two starts behind one back-up, and with them a gap that nobody
sees, draw the same name once in 4,000,000,000 restored back-ups."""

CHECKPOINT_ENTRIES_MIN = 2_048
"""Merged entries between two checkpoints, or a sixteenth of all merged: what a restart replays at most. At 100,000
entries that is 0.6 s of replay after a crash, for 5 ms of writing every 6,250 entries."""
REPLAY_ROWS = 4_096

Row = tuple[str, bytes, bytes]


class Archive:
    """One per node."""

    def __init__(self, identity: Identity, store: LogStore, random_bytes: RandomBytes) -> None:
        self._identity = identity
        self._store = store
        self._random_bytes = random_bytes
        self._checkpointed: dict[IncidentId, int] = {}
        """How many entries were merged at the last checkpoint."""
        self.journal = store.applied_last()
        self._stretches = [(int.from_bytes(key, "big"), name) for key, name in store.scan(STRETCH_NAMESPACE)]
        """(first journal number, name) of each stretch, ascending."""
        self._stretch_begun = False
        self._told: dict[IncidentId, dict[LogId, int]] = {}
        """Up to where the journal names a log of which this start could not merge all: what damage took, and what rests
        on it. When a peer has sent it again it is merged, and readers of the journal are not told a second time."""
        self.staged = False
        """Something was staged since the node last looked."""

    # --- writing --------------------------------------------------------------------------------------------------

    def stage(self, batch: CommitBatch) -> None:
        self._store.stage(batch)
        self.staged = True

    def put(self, namespace: str, key: bytes, value: bytes | None) -> None:
        self.stage(CommitBatch(puts=((namespace, key, value),)))

    def note_merged(self, replica: Replica, merged: Sequence[Position]) -> None:
        """Adds merged entries to the journal, and a checkpoint when one is due."""
        if not merged:
            return
        told = self._told.get(replica.incident)
        if told is not None:
            merged = self._take_told(replica, told, merged)
        puts = () if self._stretch_begun or not merged else self._begin_stretch()
        rows = []
        for log, seq in merged:
            self.journal += 1
            rows.append(Applied(self.journal, replica.incident, log, seq))
        if rows:
            self.stage(CommitBatch(applied=tuple(rows), puts=puts))
        since = replica.merged - self._checkpointed.get(replica.incident, 0)
        if since >= max(CHECKPOINT_ENTRIES_MIN, replica.merged // 16):
            self.checkpoint(replica)

    def _take_told(self, replica: Replica, told: dict[LogId, int], merged: Sequence[Position]) -> list[Position]:
        """Those that the journal does not name yet."""
        fresh = [(log, seq) for log, seq in merged if seq > told.get(log, 0)]
        for log, seq in merged:
            if seq == told.get(log):
                del told[log]
        if not told:
            del self._told[replica.incident]
            # An earlier checkpoint may say of their rows that they are merged in it.
            self.checkpoint(replica)
        return fresh

    def _begin_stretch(self) -> tuple[tuple[str, bytes, bytes | None], ...]:
        """This start writes from here on. Stretches above are of rows that damage has taken."""
        first, name = self.journal + 1, self._random_bytes(STRETCH_NAME_BYTES)
        above = [begin for begin, _ in self._stretches if begin > first]
        self._stretches = [*(row for row in self._stretches if row[0] < first), (first, name)]
        self._stretch_begun = True
        dropped = tuple((STRETCH_NAMESPACE, begin.to_bytes(8, "big"), None) for begin in above)
        return (*dropped, (STRETCH_NAMESPACE, first.to_bytes(8, "big"), name))

    def cursor(self, number: int) -> str:
        """What a reader of the journal who has seen everything up to ``number`` comes back with: the number and the
        name of the stretch that wrote it, or 0 for the beginning. A store that was put back to an older copy names
        what it merges from then on otherwise, so equal cursors mean that the journal up to there is the same."""
        if number == 0:
            return "0"
        at = bisect_right(self._stretches, number, key=lambda row: row[0])
        name = self._stretches[at - 1][1] if at else bytes(STRETCH_NAME_BYTES)
        return f"{number}-{name.hex()}"

    def checkpoint(self, replica: Replica) -> None:
        """Stages the merged state, sealed, so that a restart replays only what follows."""
        data = codec.encode([self.journal, replica.snapshot()])
        self.put(CHECKPOINT_NAMESPACE, replica.incident, self._seal(CHECKPOINT_NAMESPACE, replica.incident, data))
        self._checkpointed[replica.incident] = replica.merged

    def is_behind(self, replica: Replica) -> bool:
        """Was anything merged since the last checkpoint?"""
        return replica.merged != self._checkpointed.get(replica.incident, 0)

    def key_keeper(self, incident: IncidentId) -> Callable[[KeyId, bytes], None]:
        """Keeps each key of an incident as soon as it is known."""

        def keep(key_id: KeyId, key: bytes) -> None:
            row = incident + key_id
            self.put(KEY_NAMESPACE, row, self._seal(KEY_NAMESPACE, row, key))

        return keep

    # --- a start --------------------------------------------------------------------------------------------------

    def epoch_keys(self) -> Iterator[tuple[IncidentId, KeyId, bytes]]:
        for row, sealed in self._store.scan(KEY_NAMESPACE):
            incident, key_id = IncidentId(row[:INCIDENT_ID_BYTES]), KeyId(row[INCIDENT_ID_BYTES:])
            yield incident, key_id, self._unseal(KEY_NAMESPACE, row, sealed)

    def packages(self) -> Iterator[tuple[bytes, IncidentId, KeyId, Position]]:
        """(row, incident, key id, position) of every epoch entry that is stored."""
        for row, key_id in self._store.scan(PACKAGE_NAMESPACE):
            log_end = INCIDENT_ID_BYTES + LOG_ID_BYTES
            position = (LogId(row[INCIDENT_ID_BYTES:log_end]), int.from_bytes(row[log_end:], "big"))
            yield row, IncidentId(row[:INCIDENT_ID_BYTES]), KeyId(key_id), position

    def restore(self, replica: Replica) -> int:
        """Takes over the checkpoint. The journal number behind which the replica still has to be replayed."""
        sealed = self._store.get(CHECKPOINT_NAMESPACE, replica.incident)
        if sealed is None:
            return 0
        number, snapshot = codec.decode_trusted(self._unseal(CHECKPOINT_NAMESPACE, replica.incident, sealed))
        if not replica.restore(snapshot):
            return 0
        self._checkpointed[replica.incident] = replica.merged
        return int(number)

    def replay(self, behind: Mapping[IncidentId, int], replica_of: Callable[[IncidentId], Replica]) -> None:
        """Merges again what the journal lists behind each incident's checkpoint, in its order."""
        start = min(behind.values(), default=self.journal)
        while rows := self._store.applied_after(start, REPLAY_ROWS):
            start = rows[-1].number
            for first, last in _stretches(rows):
                seq = first.seq + max(0, behind.get(first.incident, 0) - first.number + 1)
                if seq > last.seq:
                    continue
                replica = replica_of(first.incident)
                try:
                    run = self._store.read(first.incident, first.log, seq, last.seq)
                except LocalFaultError:
                    run = []  # the log waits at the damaged row until a peer sends it again
                if run:
                    replica.replay(run)
                if replica.graph.height(first.log) < last.seq:
                    self._told.setdefault(first.incident, {})[first.log] = last.seq

    # --- secrets at rest ------------------------------------------------------------------------------------------

    def _seal(self, namespace: str, key: bytes, plain: bytes) -> bytes:
        return vault.seal_at_rest(self._identity.store_key, namespace, key, plain, self._random_bytes)

    def _unseal(self, namespace: str, key: bytes, sealed: bytes) -> bytes:
        return vault.open_at_rest(self._identity.store_key, namespace, key, sealed)


def package_row(entry: Entry) -> Row:
    """The row that tells where an epoch entry is stored."""
    return (PACKAGE_NAMESPACE, package_row_key(entry.incident, (entry.log, entry.seq)), entry.key_id)


def package_row_key(incident: IncidentId, position: Position) -> bytes:
    log, seq = position
    return incident + log + seq.to_bytes(8, "big")


def _stretches(rows: Sequence[Applied]) -> Iterator[tuple[Applied, Applied]]:
    """(first, last) of rows that follow each other in one log: they are read at once."""
    first = last = rows[0]
    for row in rows[1:]:
        if row.log != last.log or row.incident != last.incident or row.seq != last.seq + 1:
            yield first, last
            first = row
        last = row
    yield first, last
