"""A log of a member that breaks the rules: it holds the keys, signs what it likes, and asks no honest code for leave.

Used by the liars of the protocol world and by the tests of the core.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from meshnode.core import entry, epochs, wire
from meshnode.core.entry import Content, Opening
from meshnode.core.identity import Identity
from meshnode.core.ids import NO_HASH, EntryHash, KeyId, LogId
from meshnode.core.keys import RandomBytes, SigningKey
from meshnode.core.log import Entry
from meshnode.core.operations import Log, encode_operation
from meshnode.core.prekeys import Prekey
from meshnode.core.replica import Replica


class ForgedLog:
    """One log. ``replica`` is that of the node whose keys are used; ``wall_ms`` its clock."""

    def __init__(self, replica: Replica, identity: Identity, key_seed: bytes, wall_ms: Callable[[], int]) -> None:
        """ValueError when the node has no key of the incident to write under."""
        self.replica, self.incident = replica, replica.incident
        self.identity = identity
        self.wall_ms = wall_ms
        self.key = SigningKey(key_seed)
        self.log = LogId(self.key.public)
        self.entries: list[Entry] = []
        self._made: dict[KeyId, bytes] = {}
        key_id = self.replica.group.write_key()
        if key_id is None:
            raise ValueError("no key to write under")
        self.key_id: KeyId = key_id

    def branch(self) -> ForgedLog:
        """The same log and key: what is written on it from here on contradicts what is written on this."""
        other = ForgedLog(self.replica, self.identity, self.key.seed, self.wall_ms)
        other.key_id, other.entries, other._made = self.key_id, list(self.entries), dict(self._made)
        return other

    @property
    def epoch_key(self) -> bytes:
        return self._made.get(self.key_id) or self.replica.keys[self.key_id]

    def go_over_to(self, key: bytes) -> None:
        """What follows is sealed under this key, which the node itself need not know."""
        self.key_id = epochs.key_id(key)
        self._made[self.key_id] = key

    def heads(self) -> tuple[EntryHash, ...]:
        """At most as many as one entry may name."""
        frontier = [position for position in self.replica.graph.frontier() if position[0] != self.log]
        return tuple(self.replica.hash_at(*position) for position in frontier[: entry.PARENTS_MAX])

    def opening(self, identity: Identity | None = None) -> Opening:
        identity = identity or self.identity
        return entry.sign_opening(identity.device_key, identity.certificate.bundle, self.incident, self.log)

    def content(self, *operations: Any, **changes: Any) -> Content:
        """What an honest member would write, but for the changes."""
        fields: dict[str, Any] = {
            "parents": self.heads(),
            "time_ms": self.wall_ms(),
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

    def write_epoch(
        self,
        prekeys: Sequence[Prekey],
        key: bytes,
        random_bytes: RandomBytes,
        sealer: epochs.Sealer = epochs.HPKE_SEALER,
        package: bytes | None = None,
        **changes: Any,
    ) -> Entry:
        """An epoch entry for these recipients; ``package`` in place of the one that gives each of them the key."""
        parents = [self.replica.keys[key_id] for key_id in self.replica.group.parent_keys()]
        body = epochs.EpochBody.make(prekeys, parents)
        package = package or epochs.make_package(prekeys, key, self.incident, random_bytes, sealer)
        content = self.content(**{"epoch": body.to_plain(), **changes})
        return self.write(content, package=package, key_id=epochs.key_id(key), epoch_key=key)
