"""What a log store keeps, and the contract between the core and its shells.

A **log** is a hash chain of entries written by one device, for one incident, in one process start. An **entry** has a
clear part, whose hash is the entry's identity, and a sealed part that only members can open. A **seal** is the log
key's signature over the hash of one entry; through the chain it vouches for every entry before it. A node takes
entries in **runs** that end in a seal, so its height in every log is always a sealed position, and it keeps at least
the seals that ended its runs. Two sealed positions are never further apart than one run (protocol, "Runs").

The store is told two things and asked a few:

* ``stage(batch)``, called by the core, makes a batch readable at once. Nothing is durable yet.
* the shell then makes all staged batches durable in order, in one transaction (each shell has its own way).
* reads are plain calls, see staged data, and check the hash of every row they return (I11).

What exists once per entry is a NamedTuple: a third of the time that a frozen dataclass takes to be made.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import NamedTuple, Protocol

from meshnode.core.ids import EntryHash, IncidentId, KeyId, LogId

ENTRY_OVERHEAD_BYTES = 160
"""What an entry is charged beside its sealed part and package: its ids and hashes, and its rows."""


class Entry(NamedTuple):
    """One entry as it is hashed, moved and stored. ``hash`` has been computed or checked by whoever built this."""

    incident: IncidentId
    log: LogId
    seq: int
    """Position in the log, from 1."""
    previous: EntryHash
    """Hash of the entry before it; ``NO_HASH`` at position 1."""
    key_id: KeyId
    """Hash of the epoch key that opens it."""
    package: bytes | None
    """An epoch package (canonical CBOR) when this entry starts an epoch, else None."""
    sealed: bytes
    """24 bytes nonce, ciphertext, 16 bytes tag."""
    hash: EntryHash

    @property
    def size_bytes(self) -> int:
        """Bytes this entry is charged with in quotas and batches."""
        return ENTRY_OVERHEAD_BYTES + len(self.sealed) + (len(self.package) if self.package is not None else 0)


class Seal(NamedTuple):
    """The log key's Ed25519 signature over the hash of the entry at ``seq``."""

    incident: IncidentId
    log: LogId
    seq: int
    signature: bytes


@dataclass(frozen=True, slots=True)
class LogHead:
    """The highest sealed position of one log in this store."""

    log: LogId
    height: int
    hash: EntryHash


class Applied(NamedTuple):
    """One row of the journal: the entry that this node merged as its ``number``-th (from 1, no gap)."""

    number: int
    incident: IncidentId
    log: LogId
    seq: int


@dataclass(frozen=True, slots=True)
class CommitBatch:
    """Something that the node wants durable, all of it or nothing."""

    entries: tuple[Entry, ...] = ()
    """Per log in ascending positions without gap behind what is stored."""
    seals: tuple[Seal, ...] = ()
    applied: tuple[Applied, ...] = ()
    puts: tuple[tuple[str, bytes, bytes | None], ...] = field(default=())
    """(namespace, key, value); a value of None deletes. Values that must stay secret are sealed by the core."""
    drops: tuple[IncidentId, ...] = ()
    """Incidents to forget: all their entries and seals. None of them is in the journal (what was merged is never
    dropped) or named elsewhere in this batch. One that is not held is passed over."""

    def __bool__(self) -> bool:
        return bool(self.entries or self.seals or self.applied or self.puts or self.drops)


class LogStore(Protocol):
    """Reads of the core, and the one call that makes a batch readable. See the module for the rules.

    Every read may raise LocalFaultError ``store-row-damaged`` when a row does not match its hash; the row is then
    quarantined (not returned again, counted in :meth:`damaged`) so that it can be fetched from peers again.
    """

    def stage(self, batch: CommitBatch) -> None:
        """Make the batch readable. Raises ValueError if entries leave a gap or an applied number does, or if an
        incident to drop is in the journal; then nothing was staged."""

    def incidents(self) -> list[IncidentId]:
        """All incidents with at least one entry, ascending."""

    def heads(self, incident: IncidentId) -> list[LogHead]:
        """The highest sealed position of each log, ascending by log id."""

    def read(self, incident: IncidentId, log: LogId, first: int, last: int) -> list[Entry]:
        """Entries ``first``..``last`` (both inclusive) that are stored, ascending, without gap from ``first``."""

    def seals(self, incident: IncidentId, log: LogId, first: int, last: int) -> list[Seal]:
        """Seals at positions ``first``..``last``, ascending."""

    def find(self, incident: IncidentId, entry_hash: EntryHash) -> tuple[LogId, int] | None:
        """Where the entry with this hash is stored."""

    def incident_bytes(self, incident: IncidentId) -> int:
        """The sizes of all entries held of an incident, added up: a counter, cheap to ask. Damage does not change it:
        what was set aside is still charged, and not charged again when it is repaired."""

    def journaled(self, incident: IncidentId) -> bool:
        """The journal has a row of this incident, or had: it was merged here and is never dropped."""

    def applied_after(self, number: int, limit: int) -> list[Applied]:
        """Journal rows above ``number``, ascending, at most ``limit``."""

    def applied_last(self) -> int:
        """The highest number in the journal, 0 when it is empty."""

    def get(self, namespace: str, key: bytes) -> bytes | None:
        """The value put there last."""

    def scan(self, namespace: str) -> list[tuple[bytes, bytes]]:
        """All (key, value) of a namespace, ascending by key."""

    def damaged(self) -> int:
        """Rows found damaged since this store was opened."""
