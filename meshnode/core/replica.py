"""One incident at one member: keys, causal graph, group and document, fed entry by entry in causal order.

Entries arrive in any order between logs and in order within one. An entry is merged when its key is known and all it
names has been merged; until then its log waits, the stored bytes wait with it, and other logs go on. Merging is a
function of the set of entries: every member that holds the same entries ends in the same state.

What can be wrong with an entry that its log key really signed:

* it does not open, is malformed, or its opening is not of a device of this network: the log is **broken** there; what
  follows in it is never merged, here or at any other member (all judge the same bytes);
* it begins a log, and its author was no member in its own causal past: that log is broken from the start. So no honest
  entry ever names one of a stranger's, and nobody needs what strangers wrote to read on;
* its author had no right in its own causal past, or its operations name values that it does not show its author had
  seen: it is **void**: it keeps its place in the graph, and its operations do nothing, not one of them.

What an author had seen is a matter of the entry alone: its own log before it, and other logs as far as a parent named
in it or before it in its log reaches. So all that is named was merged before, whatever the order of arrival.
"""

from __future__ import annotations

from bisect import insort
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from meshnode.core import entry as entries
from meshnode.core import epochs
from meshnode.core.causal import CausalGraph, Position
from meshnode.core.certificates import verify_bundle_untrusted
from meshnode.core.crdt import unseen
from meshnode.core.entry import Content, LogKeys
from meshnode.core.groups import Group
from meshnode.core.ids import DeviceId, Dot, EntryHash, IncidentId, KeyId, LogId
from meshnode.core.incident import Author, Document
from meshnode.core.keys import PublicKey
from meshnode.core.log import Entry, LogStore
from meshnode.core.operations import Log as LogOperation
from meshnode.core.operations import Operation, operation_untrusted
from meshnode.core.prekeys import PrekeySecret
from meshnode.errors import LocalFaultError, UntrustedInputError

WALK_STEP_ENTRIES = 256
"""Epoch entries looked through at once for keys of earlier epochs: some 25 ms. An honest record has fewer; strangers
may name a key in as many as their share of room holds, and those are looked through piece by piece."""
BARRED_STEPS_MAX = 16
"""How far a log that cannot go on is followed from parent to parent, to the key that all of them need."""
TRY_COST_ENTRIES = 16
"""What one look at a log counts in the limit of a step, whether or not it gets on: it may open a large entry."""
MERGE_BATCH_ENTRIES = 256
"""Entries read from the store at once when a waiting log goes on."""

FLAG_LOG = 1
"""The entry holds log-book records."""
FLAG_NOT_ENTITLED = 2
FLAG_NAMES_UNSEEN = 4
VOID_CODES = {FLAG_NOT_ENTITLED: "not-entitled", FLAG_NAMES_UNSEEN: "names-unseen"}
"""What makes an entry void."""
VOID_REASONS = {
    "not-entitled": "its author may not write here",
    "names-unseen": "it replaces, removes or deletes values that it does not show its author had seen",
}
SNAPSHOT_VERSION = 2


@dataclass(frozen=True, slots=True)
class Writer:
    """Who writes a log: from its opening, verified."""

    device: DeviceId
    noc: str
    name: str


@dataclass(frozen=True, slots=True)
class Waiting:
    """Why a log does not go on: the key or the parent its next entry needs; neither when a stored row is damaged: then
    it is tried again after every merge."""

    key_id: KeyId | None = None
    parent: EntryHash | None = None
    progress: int = 0
    """With neither key nor parent named: what had been stored and merged then. The next entry is worth a try."""


@dataclass(frozen=True, slots=True)
class Trouble:
    """Something wrong that the operator should see, given once."""

    code: str
    reason: str
    log: LogId
    seq: int


class _MemberLog:
    __slots__ = ("broken", "bundle", "flags", "key_id", "keys", "waiting", "writer")

    def __init__(self) -> None:
        self.writer: Writer | None = None
        self.bundle = b""
        self.flags = bytearray()
        self.waiting: Waiting | None = None
        self.broken = ""
        self.key_id: KeyId | None = None
        self.keys: LogKeys | None = None


class Replica:
    """Not a member yet until a package opens: then ``keys`` is not empty."""

    def __init__(
        self, incident: IncidentId, store: LogStore, network_root: PublicKey, sealer: epochs.Sealer = epochs.HPKE_SEALER
    ) -> None:
        self.incident = incident
        self._sealer = sealer
        self._store = store
        self._network_root = network_root
        self.keys: dict[KeyId, bytes] = {}
        self._packages: dict[KeyId, dict[Position, None]] = {}
        """Where epoch entries are stored, every one: the body of any of them may be the only way to an earlier key."""
        self.packages: list[tuple[KeyId, Position]] = []
        """The same in the order in which they came."""
        self._unwalked: list[Position] = []
        """Epoch entries with known keys whose bodies are still to be looked at for the keys of earlier epochs."""
        self.graph = CausalGraph()
        self.group = Group(incident)
        self.document = Document()
        self._logs: dict[LogId, _MemberLog] = {}
        self._timeline: list[tuple[int, LogId, int]] | None = None
        self.merged = 0
        self._ready: dict[LogId, None] = {}
        """Logs whose next stored entry can be tried."""
        self._waiters: dict[KeyId | EntryHash, dict[LogId, None]] = {}
        """Logs by the key or the parent that their next entry needs: what comes wakes those and looks at no others."""
        self._retried: dict[LogId, int] = {}
        """Logs that wait for a damaged row, and the progress then: tried again after every merge."""
        self._progress = 0
        """Goes up whenever something was stored or merged."""
        self.held_up = False
        """Some log was seen that cannot go on; looked at anew by :meth:`missing_keys`."""
        self.troubles: list[Trouble] = []
        self.on_key: Callable[[KeyId, bytes], None] = lambda key_id, key: None
        """Called for each key that becomes known, so that the node keeps it."""

    # --- keys -----------------------------------------------------------------------------------------------------

    def learn_key(self, key_id: KeyId, key: bytes) -> None:
        if key_id not in self.keys:
            self.keys[key_id] = key
            self.on_key(key_id, key)
            self._wake(key_id)

    def discover(self, entry: Entry, secrets: Sequence[PrekeySecret]) -> bool:
        """Tries to learn keys from an entry's epoch package, before the entry can be merged. True when it did.
        Raises UntrustedInputError ``package-*``.

        The package gives the new key; the sealed body gives the keys of earlier epochs, so a late member reads the
        whole record. Each key is believed because its hash is the key id that entries name. What is too much for one
        step is looked at by :meth:`merge_ready`.
        """
        if entry.package is None:
            return False
        if entry.key_id not in self.keys:
            key = epochs.open_package_untrusted(entry.package, self.incident, entry.key_id, secrets, self._sealer)
            if key is None:
                return False
            self.learn_key(entry.key_id, key)
            self._unwalked += self._packages.get(entry.key_id, ())  # a re-seal: what starts the epoch may be here
        trouble = self._learn_parents(entry)
        if trouble is not None:
            self.troubles.append(trouble)
        self._walk_back(WALK_STEP_ENTRIES)
        return True

    def note_package(self, key_id: KeyId, position: Position) -> None:
        """An epoch entry for this key is stored there, readable or not."""
        positions = self._packages.setdefault(key_id, {})
        if position not in positions:
            positions[position] = None
            self.packages.append((key_id, position))

    def walk_on(self) -> None:
        """At start: a walk back may have been cut short. Epoch entries that were merged are behind it."""
        self._unwalked += [
            (log, seq) for key_id, (log, seq) in self.packages if key_id in self.keys and seq > self.graph.height(log)
        ]

    def _walk_back(self, limit: int) -> None:
        """Follows the chain of parent keys from readable epoch entries as far as their entries are stored, over at most
        ``limit`` entries. One trouble per piece is enough: anybody can name a key."""
        trouble = None
        while self._unwalked and limit > 0:
            limit -= 1
            log, seq = self._unwalked.pop()
            for entry in self._read(log, seq, seq):
                trouble = self._learn_parents(entry) or trouble
        if trouble is not None:
            self.troubles.append(trouble)

    def _learn_parents(self, entry: Entry) -> Trouble | None:
        """Learns the keys in the body of a readable epoch entry, and puts the entries that have them on the way."""
        try:
            content = self._open(entry, entries.log_keys(self.keys[entry.key_id], self.incident, entry.log))
            parents = () if content.epoch is None else epochs.epoch_body_untrusted(content.epoch).parents
        except UntrustedInputError as error:
            return Trouble(error.code, error.reason, entry.log, entry.seq)
        for key_id, key in parents:
            if key_id not in self.keys:
                self.learn_key(key_id, key)
                self._unwalked += self._packages.get(key_id, ())
        return None

    def missing_keys(self, me: DeviceId) -> dict[KeyId, frozenset[DeviceId]]:
        """Keys for want of which a log of another member cannot go on: of its own next entry, or of one that bars the
        way to what it names; and whose logs those are. Logs of which nothing was merged do not count: anybody can send
        those."""
        self.held_up = False
        missing: dict[KeyId, frozenset[DeviceId]] = {}
        for log in self._logs.values():
            if log.waiting is not None and log.writer is not None and log.writer.device != me:
                self.held_up = True
                for key in self._barred_by(log.waiting):
                    missing[key] = missing.get(key, frozenset()) | {log.writer.device}
        return missing

    def _barred_by(self, waiting: Waiting | None) -> set[KeyId]:
        for _ in range(BARRED_STEPS_MAX):
            if waiting is None or waiting.parent is None:
                break
            position = self._store.find(self.incident, waiting.parent)
            waiting = None if position is None else self._log(position[0]).waiting
        return set() if waiting is None or waiting.key_id is None else {waiting.key_id}

    # --- merging --------------------------------------------------------------------------------------------------

    def merge(self, fresh: Sequence[Entry]) -> list[Position]:
        """Merges what can be merged of these consecutive entries of one log, which were stored a moment ago."""
        merged: list[Position] = []
        self._progress += 1
        log_id = fresh[0].log
        log = self._log(log_id)
        for entry in fresh:
            if entry.seq <= self.graph.height(log_id):  # its row was damaged and came again
                self._wake(entry.hash)
        if log.waiting is None and not log.broken:
            if log_id not in self._ready and fresh[0].seq == self.graph.height(log_id) + 1:
                self._merge_run(fresh, merged)
            else:
                self._ready[log_id] = None
        self._retry()
        return merged

    @property
    def ready(self) -> bool:
        """Stored entries can be merged, or must be looked through for keys: call :meth:`merge_ready`."""
        return bool(self._ready or self._unwalked)

    @property
    def walks(self) -> bool:
        """The next call of :meth:`merge_ready` looks for keys first, in at most WALK_STEP_ENTRIES entries."""
        return bool(self._unwalked)

    def merge_ready(self, limit: int) -> list[Position]:
        """Merges at most ``limit`` stored entries that nothing keeps waiting any more.

        Bounded, because a key that arrives late can set free a whole record, and the node has others to serve.
        """
        merged: list[Position] = []
        tried = 0
        self._walk_back(WALK_STEP_ENTRIES)
        while self._ready and len(merged) + TRY_COST_ENTRIES * tried < limit:
            tried += 1
            log_id = next(iter(self._ready))
            del self._ready[log_id]
            first = self.graph.height(log_id) + 1
            last = first + min(MERGE_BATCH_ENTRIES, limit - len(merged)) - 1
            run = self._read(log_id, first, last)
            if run and self._merge_run(run, merged) and run[-1].seq == last:
                self._ready[log_id] = None
            if not self._ready:
                self._retry()
        return merged

    def look_for_stored(self) -> None:
        """After keys were learned or the replica was restored: every log with unmerged entries is tried."""
        for head in self._store.heads(self.incident):
            log = self._log(head.log)
            if log.waiting is None and not log.broken and self.graph.height(head.log) < head.height:
                self._ready[head.log] = None
        self._retry()

    def replay(self, run: Sequence[Entry]) -> None:
        """Merges entries of the journal again, in their journal order, at start."""
        if run[0].seq == self.graph.height(run[0].log) + 1:
            self._merge_run(run, [])

    def _wait(self, log_id: LogId, waiting: Waiting) -> None:
        self._log(log_id).waiting = waiting
        needed = waiting.key_id or waiting.parent
        if needed is None:
            self._retried[log_id] = waiting.progress
        else:
            self._waiters.setdefault(needed, {})[log_id] = None

    def _wake(self, needed: KeyId | EntryHash) -> None:
        """This key is known, or this entry is merged and stored."""
        for log_id in self._waiters.pop(needed, ()):
            self._log(log_id).waiting = None
            self._ready[log_id] = None

    def _retry(self) -> None:
        for log_id, progress in list(self._retried.items()):
            if self._progress > progress:
                del self._retried[log_id]
                self._log(log_id).waiting = None
                self._ready[log_id] = None

    def _merge_run(self, run: Sequence[Entry], merged: list[Position]) -> bool:
        """True when every entry was merged."""
        log = self._log(run[0].log)
        for entry in run:
            try:
                waiting = self._merge_entry(entry, log)
            except UntrustedInputError as error:
                log.broken = error.code
                self.troubles.append(Trouble(error.code, error.reason, entry.log, entry.seq))
                return False
            except LocalFaultError:
                waiting = Waiting(progress=self._progress)  # a parent's row is damaged, until a peer has sent it
            if waiting is not None:
                self._wait(entry.log, waiting)
                self.held_up = True
                return False
            merged.append((entry.log, entry.seq))
        return True

    def _merge_entry(self, entry: Entry, log: _MemberLog) -> Waiting | None:
        keys_of_log = self._log_keys(entry, log)
        if keys_of_log is None:
            return Waiting(key_id=entry.key_id)
        content = self._open(entry, keys_of_log)
        writer = log.writer or self._opened_by(entry, content)
        parents: list[Position] = []
        for parent in content.parents:
            position = self._find_merged(parent)
            if position is None:
                return Waiting(parent=parent)
            parents.append(position)
        if entry.seq == 1 and not self.group.may_open(writer.device, (entry.log, 1), parents, content.acts):
            raise UntrustedInputError("log-of-stranger", "a log begins before its author was made a member")
        if (content.epoch is None) != (entry.package is None):
            raise UntrustedInputError("epoch-incomplete", "an epoch is a package and a body in one entry")
        if log.key_id != entry.key_id and content.epoch is None:
            self._check_key_started(entry, parents)
        operations = [operation_untrusted(operation) for operation in content.operations]
        body = None if content.epoch is None else epochs.epoch_body_untrusted(content.epoch)
        if body is not None and entry.package is not None:
            epochs.check_boxes_untrusted(entry.package, len(body.recipients))
        if log.writer is None and content.opening is not None:
            log.writer, log.bundle = writer, content.opening.bundle
        log.keys = keys_of_log
        self.apply(entry, content, operations, parents, body)
        return None

    def apply(
        self,
        entry: Entry,
        content: Content,
        operations: Sequence[Operation],
        parents: list[Position],
        body: epochs.EpochBody | None,
    ) -> None:
        """Puts one checked entry into graph, group and document. Everything it builds on was applied before."""
        log = self._log(entry.log)
        writer = log.writer
        if writer is None:
            raise ValueError("a log is applied after its opening")
        position = (entry.log, entry.seq)
        order = self.graph.add(entry.log, entry.seq, parents, content.time_ms)
        if content.acts or body is not None or parents:
            merged = self.group.merge(position, parents, writer.device, list(content.acts), body, entry.key_id)
            for verdict in merged:
                if not verdict.valid:
                    self.troubles.append(Trouble(verdict.code, verdict.reason, entry.log, entry.seq))
        flags = self._void_flag(writer, position, operations) if operations else 0
        if flags:
            code = VOID_CODES[flags]
            self.troubles.append(Trouble(code, VOID_REASONS[code], entry.log, entry.seq))
        else:
            author = Author(writer.device, writer.noc, writer.name, content.operator, content.time_ms)
            for index, operation in enumerate(operations):
                if isinstance(operation, LogOperation):
                    flags |= FLAG_LOG
                self.document.apply(Dot(entry.log, entry.seq, index), operation, author)
        log.flags.append(flags)
        log.key_id = entry.key_id
        self.merged += 1
        self._progress += 1
        if self._timeline is not None:
            insort(self._timeline, (order, entry.log, entry.seq))
        self._wake(entry.hash)

    def _void_flag(self, writer: Writer, position: Position, operations: Sequence[Operation]) -> int:
        if not self.group.may_write(writer.device, position):
            return FLAG_NOT_ENTITLED
        return FLAG_NAMES_UNSEEN if unseen(self.graph, position, operations) else 0

    def _log_keys(self, entry: Entry, log: _MemberLog) -> LogKeys | None:
        if log.keys is not None and log.key_id == entry.key_id:
            return log.keys  # of the entry before
        key = self.keys.get(entry.key_id)
        return None if key is None else entries.log_keys(key, self.incident, entry.log)

    def _check_key_started(self, entry: Entry, parents: list[Position]) -> None:
        """Asked when a log goes over to another key: its entries before settle it for those that follow."""
        before = [(entry.log, entry.seq - 1), *parents] if entry.seq > 1 else parents
        if not self.group.key_started(entry.key_id, before):
            raise UntrustedInputError("entry-key-not-started", "it uses a key whose epoch it had not seen")

    def _opened_by(self, entry: Entry, content: Content) -> Writer:
        if entry.seq != 1 or content.opening is None:
            raise UntrustedInputError("opening-missing", "a log does not start with an opening")
        certificate = verify_bundle_untrusted(content.opening.bundle, self._network_root)
        entries.verify_opening_untrusted(content.opening, certificate.device, self.incident, entry.log)
        return Writer(certificate.device, certificate.noc, certificate.name)

    def _open(self, entry: Entry, keys_of_log: LogKeys) -> Content:
        clear = entries.clear_bytes(entry.incident, entry.log, entry.seq, entry.previous, entry.key_id, entry.package)
        return entries.content_untrusted(entries.open_content_untrusted(entry.sealed, keys_of_log, clear))

    def _read(self, log_id: LogId, first: int, last: int) -> list[Entry]:
        """Stored entries to merge. None where a row is damaged: the log waits there until a peer has sent it again."""
        try:
            return self._store.read(self.incident, log_id, first, last)
        except LocalFaultError:
            if self._log(log_id).waiting is None:
                self._wait(log_id, Waiting(progress=self._progress))
            return []

    def _find_merged(self, parent: EntryHash) -> Position | None:
        position = self._store.find(self.incident, parent)
        if position is None or self.graph.height(position[0]) < position[1]:
            return None
        return position

    def _log(self, log_id: LogId) -> _MemberLog:
        log = self._logs.get(log_id)
        if log is None:
            log = self._logs[log_id] = _MemberLog()
        return log

    # --- own writing ----------------------------------------------------------------------------------------------

    def open_own_log(self, log_id: LogId, writer: Writer, bundle: bytes) -> None:
        """A new log of this process: its opening needs no check."""
        log = self._log(log_id)
        log.writer, log.bundle = writer, bundle

    def parents_for(
        self, own_log: LogId, key_id: KeyId, starts_epoch: bool, shown: Iterable[LogId] = ()
    ) -> list[Position]:
        """Heads of other logs for the next own entry, at most PARENTS_MAX; the rest follow in the next one. First
        what others demand to find, and the heads of ``shown``, whose values its operations name."""
        heads = [(log, self.graph.height(log)) for log in shown]
        chosen = dict.fromkeys([*self._needed(own_log, key_id, starts_epoch), *heads, *self.graph.frontier()])
        return [head for head in chosen if head[0] != own_log][: entries.PARENTS_MAX]

    def is_past_whole(self, own_log: LogId, key_id: KeyId, starts_epoch: bool, parents: Sequence[Position]) -> bool:
        """Do these parents lead to everything that others demand to find in the past of the next own entry?"""
        own_height = self.graph.height(own_log)
        heads = [*parents, (own_log, own_height)] if own_height else parents
        needed = self._needed(own_log, key_id, starts_epoch)
        return all(any(self.graph.covers(head, position) for head in heads) for position in needed)

    def _needed(self, own_log: LogId, key_id: KeyId, starts_epoch: bool) -> Sequence[Position]:
        """For an epoch everything that decides about members, for the first entry under a key the epoch that starts
        it, and for the first of a log what made its author a member."""
        log = self._log(own_log)
        if starts_epoch:
            needed = self.group.heads()
        elif log.key_id != key_id:
            needed = self.group.epoch_starts(key_id)[:1]
        else:
            return ()
        if log.key_id is None and log.writer is not None:
            return (*self.group.added(log.writer.device, needed[: entries.PARENTS_MAX]), *needed)
        return needed

    # --- reading --------------------------------------------------------------------------------------------------

    def waiting_entries(self) -> int:
        """Entries that are held and cannot be merged yet."""
        heads = self._store.heads(self.incident)
        return sum(h.height - self.graph.height(h.log) for h in heads if not self._log(h.log).broken)

    def broken_logs(self) -> list[tuple[LogId, str]]:
        return [(log_id, log.broken) for log_id, log in self._logs.items() if log.broken]

    def merged_heads(self) -> list[tuple[LogId, int]]:
        """(log, merged height), ascending by log."""
        return sorted((log, self.graph.height(log)) for log in self._logs if self.graph.height(log))

    def writer(self, log_id: LogId) -> Writer | None:
        return self._log(log_id).writer

    def vouches_for(self, log_id: LogId, me: DeviceId) -> bool:
        """Is this device a member, and was the log written by one, as far as was merged?"""
        log = self._logs.get(log_id)
        writer = None if log is None else log.writer
        return writer is not None and self.group.is_member(me) and self.group.is_member(writer.device)

    def void(self, log_id: LogId, seq: int) -> tuple[str, str]:
        """Code and reason why a merged entry is void; empty when it stands."""
        code = VOID_CODES.get(self.flags(log_id, seq), "")
        return code, VOID_REASONS.get(code, "")

    def flags(self, log_id: LogId, seq: int) -> int:
        return self._log(log_id).flags[seq - 1]

    def timeline(self) -> list[tuple[int, LogId, int]]:
        """(order time, log, seq) of every merged entry, in display order; built on first use, then kept in order."""
        if self._timeline is None:
            self._timeline = sorted(
                (self.graph.order_time(log, seq), log, seq)
                for log, height in self.merged_heads()
                for seq in range(1, height + 1)
            )
        return self._timeline

    def read_content(self, log_id: LogId, seq: int) -> Content:
        """A merged entry, opened again from the store. Raises LocalFaultError when its row is damaged, or that of its
        key."""
        entry = self._stored(log_id, seq)
        key = self.keys.get(entry.key_id)
        if key is None:
            raise LocalFaultError(
                "store-row-damaged",
                "the key of a stored entry was lost with a damaged row",
                "it is asked for by itself",
            )
        return self._open(entry, entries.log_keys(key, self.incident, log_id))

    def hash_at(self, log_id: LogId, seq: int) -> EntryHash:
        """Of a merged entry: from its row, or from the entry that follows it. Raises LocalFaultError when both are
        damaged."""
        try:
            return self._stored(log_id, seq).hash
        except LocalFaultError:
            return self._stored(log_id, seq + 1).previous

    def _stored(self, log_id: LogId, seq: int) -> Entry:
        found = self._store.read(self.incident, log_id, seq, seq)
        if not found:
            raise LocalFaultError(
                "store-row-damaged", "a stored entry is damaged", "it is fetched again from a peer by itself"
            )
        return found[0]

    # --- checkpoints ----------------------------------------------------------------------------------------------

    def snapshot(self) -> list[Any]:
        """Plain data for the codec: the merged state without keys and without what is only waiting."""
        logs = [
            [log_id, log.bundle, bytes(log.flags), log.broken]
            for log_id, log in self._logs.items()
            if log.writer is not None or log.broken
        ]
        return [
            SNAPSHOT_VERSION,
            self.merged,
            self.graph.snapshot(),
            self.group.snapshot(),
            self.document.snapshot(),
            logs,
        ]

    def restore(self, data: list[Any]) -> bool:
        """Takes over a snapshot. False when another version of the software made it: replay the journal instead."""
        if data[0] != SNAPSHOT_VERSION:
            return False
        graph = CausalGraph.restore(data[2])
        try:
            group, document = Group.restore(data[3], self.incident), Document.restore(data[4])
        except LocalFaultError:
            return False
        self.graph, self.group, self.document = graph, group, document
        self.merged = data[1]
        for log_id, bundle, flags, broken in data[5]:
            log = self._log(LogId(log_id))
            log.flags, log.broken, log.bundle = bytearray(flags), broken, bundle
            if bundle:
                certificate = verify_bundle_untrusted(bundle, self._network_root)
                log.writer = Writer(certificate.device, certificate.noc, certificate.name)
        return True
