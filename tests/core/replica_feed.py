"""A replica fed entry by entry, a store whose rows rot, and a record worth feeding."""

from __future__ import annotations

from collections.abc import Mapping

from world import World, full_mesh

from meshnode.core import codec
from meshnode.core.events import Change, ChangeKind
from meshnode.core.ids import EntryHash, IncidentId, KeyId, LogId
from meshnode.core.keys import PublicKey
from meshnode.core.log import CommitBatch, Entry, LogHead, Seal
from meshnode.core.replica import Replica
from meshnode.errors import LocalFaultError
from meshnode.storage.memory import MemoryLogStore

DAMAGED = LocalFaultError("store-row-damaged", "damaged", "wait")


class RottenStore(MemoryLogStore):
    """Tells of a damaged row once, then leaves it out until it is staged again."""

    def __init__(self) -> None:
        super().__init__()
        self.rotten: set[tuple[LogId, int]] = set()
        self._told: set[tuple[LogId, int]] = set()

    def _is_lost(self, log: LogId, seq: int) -> bool:
        if (log, seq) not in self.rotten:
            return False
        if (log, seq) not in self._told:
            self._told.add((log, seq))
            raise DAMAGED
        return True

    def read(self, incident: IncidentId, log: LogId, first: int, last: int) -> list[Entry]:
        found: list[Entry] = []
        for entry in super().read(incident, log, first, last):
            if self._is_lost(log, entry.seq):
                break
            found.append(entry)
        return found

    def find(self, incident: IncidentId, entry_hash: EntryHash) -> tuple[LogId, int] | None:
        position = super().find(incident, entry_hash)
        return None if position is None or self._is_lost(*position) else position


class Record:
    """What a mesh of three wrote, split and healed, with two epochs: every entry, and what a late member was given."""

    def __init__(self) -> None:
        self.world = World(3)
        self.be, self.nl, self.de = full_mesh(self.world, "BE", "NL", "DE")
        self.incident = self.world.open(self.be, share=("NL",))
        self.world.run(1.0)
        for number in range(3):
            self.world.log(self.be, self.incident, f"BE {number}")
            self.world.set(self.nl, self.incident, "title", f"NL {number}")
            self.world.run(0.3)
        self.world.partition("NL")
        self.world.set(self.be, self.incident, "title", "apart")
        self.world.set(self.nl, self.incident, "title", "alone")
        self.world.heal()
        self.world.run(70.0)
        self.world.share(self.be, self.incident, "DE")
        self.world.run(2.0)
        self.world.change(self.de, self.incident, Change(ChangeKind.CREATE, collection="persons"))
        self.world.run(2.0)
        self.store = self.be.node.store
        self.logs = {
            head.log: self.store.read(self.incident, head.log, 1, head.height)
            for head in self.store.heads(self.incident)
        }
        self.replica = self.be.node.incidents.replicas[self.incident]

    def fresh(self, keys: bool = True, store: MemoryLogStore | None = None) -> Feed:
        root = self.be.identity.network_root
        return Feed(self.incident, root, self.replica.keys if keys else {}, self.logs, store or MemoryLogStore())


class Feed:
    """A replica beside its store, fed runs as the node feeds it."""

    def __init__(
        self,
        incident: IncidentId,
        network_root: PublicKey,
        keys: Mapping[KeyId, bytes],
        logs: Mapping[LogId, list[Entry]],
        store: MemoryLogStore,
    ) -> None:
        self.incident, self.network_root, self.logs, self.store = incident, network_root, logs, store
        self.replica = self._replica(keys)
        self.merged: list[tuple[LogId, int]] = []
        self.heights: dict[LogId, int] = {}

    def _replica(self, keys: Mapping[KeyId, bytes]) -> Replica:
        replica = Replica(self.incident, self.store, self.network_root)
        for key_id, key in keys.items():
            replica.learn_key(key_id, key)
        return replica

    def restart(self) -> None:
        """From a checkpoint of this moment, through bytes."""
        data = codec.decode_trusted(codec.encode(self.replica.snapshot()))
        self.replica = self._replica(self.replica.keys)
        assert self.replica.restore(data)
        self.replica.look_for_stored()
        self.go_on()

    def feed(self, log: LogId, count: int) -> None:
        start = self.heights.get(log, 0)
        run = self.logs[log][start : start + count]
        if run:
            self.heights[log] = start + len(run)
            self.take(run)

    def take(self, run: list[Entry]) -> None:
        # The seal is not looked at here.
        seal = Seal(self.incident, run[-1].log, run[-1].seq, bytes(64))
        self.store.stage(CommitBatch(tuple(run), (seal,)))
        self.merged += self.replica.merge(run)
        self.go_on()

    def go_on(self) -> None:
        while self.replica.ready:
            self.merged += self.replica.merge_ready(64)

    def digest(self) -> bytes:
        heads = [LogHead(log, height, self.logs[log][height - 1].hash) for log, height in self.replica.merged_heads()]
        return self.replica.document.digest(heads)
