"""A member that breaks the rules: it holds the keys, signs what it likes, and hands it to whom it likes."""

from __future__ import annotations

import random
from collections.abc import Sequence
from typing import Any

from world import Host, World

from meshnode.core import entry, epochs, wire
from meshnode.core.entry import Content, Opening
from meshnode.core.identity import Identity
from meshnode.core.ids import NO_HASH, EntryHash, IncidentId, KeyId, LogId
from meshnode.core.keys import SigningKey
from meshnode.core.log import Entry
from meshnode.core.operations import Log, encode_operation


class Forger:
    """One log of a hostile member. ``host`` runs an honest node, whose keys and links this uses."""

    def __init__(self, world: World, host: Host, incident: IncidentId, name: str = "forger") -> None:
        self.world, self.host, self.incident = world, host, incident
        self.replica = host.node.incidents.replicas[incident]
        self.key = SigningKey(random.Random(name).randbytes(32))
        self.log = LogId(self.key.public)
        self.entries: list[Entry] = []
        key_id = self.replica.group.write_key()
        assert key_id is not None
        self.key_id: KeyId = key_id

    @property
    def epoch_key(self) -> bytes:
        return self.replica.keys[self.key_id]

    def heads(self) -> tuple[EntryHash, ...]:
        return tuple(self.replica.hash_at(*position) for position in self.replica.graph.frontier())

    def opening(self, identity: Identity | None = None) -> Opening:
        identity = identity or self.host.identity
        return entry.sign_opening(identity.device_key, identity.certificate.bundle, self.incident, self.log)

    def content(self, *operations: Any, **changes: Any) -> Content:
        """What an honest member would write, but for the changes."""
        fields: dict[str, Any] = {
            "parents": self.heads(),
            "time_ms": self.world.time_of(0).wall_ms,
            "operator": "forger",
            "operations": operations,
            "opening": None if self.entries else self.opening(),
        }
        return Content(**{**fields, **changes})

    def write(
        self,
        content: Content | bytes,
        *,
        package: bytes | None = None,
        key_id: KeyId | None = None,
        epoch_key: bytes | None = None,
        previous: EntryHash | None = None,
        seq: int | None = None,
        sealed: bytes | None = None,
    ) -> Entry:
        """The next entry of the log; bytes are sealed as they are."""
        seq = seq or len(self.entries) + 1
        if previous is None:
            previous = self.entries[-1].hash if self.entries else NO_HASH
        key_id = key_id or self.key_id
        clear = entry.clear_bytes(self.incident, self.log, seq, previous, key_id, package)
        if sealed is None:
            plain = content if isinstance(content, bytes) else entry.encode_content(content)
            keys_of_log = entry.log_keys(epoch_key or self.epoch_key, self.incident, self.log)
            sealed = entry.seal_content(plain, keys_of_log, clear)
        identity = entry.entry_hash(self.incident, self.log, seq, previous, key_id, package, sealed)
        made = Entry(self.incident, self.log, seq, previous, key_id, package, sealed, identity)
        self.entries.append(made)
        return made

    def say(self, text: str) -> Entry:
        """An entry nobody can find fault with."""
        return self.write(self.content(encode_operation(Log({"text": text}))))

    def run(self, entries: Sequence[Entry] | None = None) -> wire.Run:
        entries = self.entries if entries is None else entries
        return wire.make_run(list(entries), entry.sign_seal(self.key, entries[-1]))

    def hand(self, run: wire.Message, *hosts: Host) -> None:
        for host in hosts:
            self.world.say(self.host, host, wire.encode(run))

    def start_epoch(self, *devices: Host, key: bytes | None = None, **changes: Any) -> bytes:
        """An epoch entry for these devices; returns its key."""
        roster = self.host.node.rollcall.roster
        enrolled = [roster.get(host.identity.device) for host in devices]
        prekeys = [one.prekey for one in enrolled if one is not None]
        key = key or random.Random(repr(devices)).randbytes(32)
        parents = [self.replica.keys[key_id] for key_id in self.replica.group.parent_keys()]
        body = epochs.EpochBody.make(prekeys, parents)
        package = epochs.make_package(prekeys, key, self.incident, self.world.rng.randbytes)
        content = self.content(**{"epoch": body.to_plain(), **changes})
        self.write(content, package=package, key_id=epochs.key_id(key), epoch_key=key)
        return key
