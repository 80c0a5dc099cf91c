"""The incidents of this node: local changes become entries, entries of others are merged, both are journalled.

What this holds per incident: a replica (for what it can read), and one **own log** per process start with a fresh
key. A fresh log cannot reuse a position, so a restored backup or a copied machine never contradicts itself, and a
relay cannot link two logs of one device.

Own entries are staged as they are made and sealed together at the end of a step, or earlier when a run is full: one
signature for all that is made durable and pushed together. ``seal_runs`` gives the sealed runs; nothing of them may
be sent before the commit.

Epochs are made when members are added, and when the group says that none is right for the members it now has
(after concurrent additions, say): then each member waits its rank times 250 ms, so that usually one of them does it.
Keys that cannot be opened are asked for, and sealed again to who asks (core/reseal.py).
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from meshnode.core import acts, attachments, codec, epochs
from meshnode.core import entry as entries
from meshnode.core.acts import Role
from meshnode.core.archive import Archive, package_row, package_row_key
from meshnode.core.causal import Position
from meshnode.core.crdt import unseen
from meshnode.core.entry import Content
from meshnode.core.events import Change, ChangeKind, Now, Written
from meshnode.core.holdings import Holdings
from meshnode.core.identity import Identity
from meshnode.core.ids import NO_HASH, DeviceId, Dot, EntryHash, IncidentId, KeyId, LogId, ObjectId
from meshnode.core.keys import RandomBytes, SigningKey
from meshnode.core.log import CommitBatch, Entry, LogStore, Seal
from meshnode.core.operations import Operation, encode_operation
from meshnode.core.prekeys import Prekey, PrekeyRing
from meshnode.core.replica import Replica, Trouble, Writer
from meshnode.core.reseal import AskFor, Reseals, SealAgain, seal_again
from meshnode.core.roster import Roster
from meshnode.core.wire import PACKAGES_BYTES_MAX, PACKAGES_MAX, RUN_BYTES_MAX, RUN_ENTRIES_MAX
from meshnode.errors import LocalFaultError, RefusedError, UntrustedInputError

CONTENT_BYTES_AIM = 48_000
"""Operations are packed into entries up to this, which leaves room below CONTENT_BYTES_MAX for the rest."""
MERGE_STEP_ENTRIES = 512
"""Stored entries merged in one step: some 50 ms, after which local requests and links have their turn."""
REPAIR_STEP_S = 0.25
REPAIR_RETRY_S = 10.0
EPOCH_INTERVAL_S = 60.0
"""E7: a device repairs an incident's epoch at most this often, whatever others make it see."""


@dataclass(slots=True)
class _OwnLog:
    key: SigningKey = field(repr=False)
    id: LogId
    seq: int = 0
    hash: EntryHash = NO_HASH
    unsealed: list[Entry] = field(default_factory=list)
    unsealed_bytes: int = 0
    damaged: bool = False
    """A row of it was lost on disk. Peers send it again as far as they have it; a new log goes on."""


class Incidents:
    def __init__(
        self,
        identity: Identity,
        store: LogStore,
        holdings: Holdings,
        roster: Roster,
        ring: PrekeyRing,
        rng: random.Random,
        random_bytes: RandomBytes,
        archive: Archive,
        sealer: epochs.Sealer = epochs.HPKE_SEALER,
    ) -> None:
        self._identity = identity
        self._archive = archive
        self._store = store
        self._holdings = holdings
        self._roster = roster
        self._ring = ring
        self._rng = rng
        self._random_bytes = random_bytes
        self._sealer = sealer
        self._writer = Writer(identity.device, identity.certificate.noc, identity.certificate.name)
        self.replicas: dict[IncidentId, Replica] = {}
        self._own: dict[IncidentId, _OwnLog] = {}
        self._runs: list[tuple[list[Entry], Seal]] = []
        self._strange: set[LogId] = set()
        """Logs of this device, of earlier or other processes, that came from peers."""
        self._ready: dict[IncidentId, None] = {}
        """Incidents with stored entries that can be merged."""
        self._repair_at: dict[IncidentId, float] = {}
        self._repaired: dict[IncidentId, float] = {}
        self.reseals = Reseals(identity.device, rng)
        self.stale_packages: dict[bytes, None] = {}
        """Rows of PACKAGE_NAMESPACE whose incident was dropped, to be deleted by and by."""
        self.on_merged: Callable[[IncidentId, Iterable[LogId]], None] = lambda incident, logs: None
        """Called with the logs of which entries of others were merged."""

    # --- start ----------------------------------------------------------------------------------------------------

    def load(self, merge: bool) -> None:
        """Builds every replica from its checkpoint, the journal behind it, and (``merge``) what was waiting."""
        behind = {incident: self._archive.restore(self._replica(incident)) for incident in self._holdings.incidents()}
        for incident, key_id, key in self._archive.epoch_keys():
            self._replica(incident).keys[key_id] = key
        for row, incident, key_id, position in self._archive.packages():
            if self._holdings.holds(incident):
                self._replica(incident).note_package(key_id, position)
            else:
                self.stale_packages[row] = None
        if self._store.damaged():
            self._recover_keys()
        self._archive.replay(behind, self._replica)
        for incident, replica in self.replicas.items():
            if merge and replica.keys:
                replica.look_for_stored()
                self._note_ready(incident, replica)

    def _recover_keys(self) -> None:
        """A row that was damaged may have held a key: a stored package may give it again."""
        for incident, replica in self.replicas.items():
            for key_id, (log, seq) in replica.package_positions():
                if key_id in replica.keys:
                    continue
                for entry in self._store.read(incident, log, seq, seq):
                    try:
                        replica.discover(entry, self._ring.secrets())
                    except UntrustedInputError as error:
                        replica.troubles.append(Trouble(error.code, error.reason, log, seq))

    # --- entries of others ----------------------------------------------------------------------------------------

    def accept(self, fresh: Sequence[Entry], seal: Seal, now: Now) -> None:
        """Stores the checked entries of a run, and merges them when this node is a member.

        Raises UntrustedInputError ``log-forked`` when they differ from entries that are stored behind a damaged one.
        """
        incident, log = fresh[0].incident, fresh[0].log
        puts = tuple(package_row(entry) for entry in fresh if entry.package is not None)
        for _, key, _ in puts:
            self.stale_packages.pop(key, None)
        try:
            self._archive.stage(CommitBatch(entries=tuple(fresh), seals=(seal,), puts=puts))
        except ValueError:
            raise UntrustedInputError("log-forked", "a log's key signed other entries than those stored here") from None
        self._holdings.advance(incident, log, fresh[-1].seq, fresh[-1].hash)
        replica = self._replica(incident)
        if self._look_at_packages(replica, fresh):
            replica.look_for_stored()
        if replica.keys:
            self._take_up(replica, replica.merge(fresh), now)

    def _look_at_packages(self, replica: Replica, fresh: Sequence[Entry]) -> bool:
        """Remembers packages and tries to open them. True when a key was learned. One trouble per run is enough."""
        learned, trouble = False, None
        for entry in fresh:
            if entry.package is not None:
                try:
                    learned = replica.discover(entry, self._ring.secrets()) or learned
                except UntrustedInputError as error:
                    trouble = Trouble(error.code, error.reason, entry.log, entry.seq)
                    if error.code != "package-wrong-key":
                        continue  # malformed: nobody can open it, so nobody needs to be shown it
                replica.note_package(entry.key_id, (entry.log, entry.seq))
        if trouble is not None:
            replica.troubles.append(trouble)
        return learned

    def _take_up(self, replica: Replica, merged: Sequence[Position], now: Now) -> None:
        """What follows from entries that were just merged."""
        logs = dict.fromkeys(log for log, _ in merged)
        self._look_for_own(replica, logs, merged)
        self.on_merged(replica.incident, logs)
        self._archive.note_merged(replica, merged)
        self._watch_epochs(replica.incident, replica, now)
        self._note_ready(replica.incident, replica)

    def _note_ready(self, incident: IncidentId, replica: Replica) -> None:
        if replica.ready:
            self._ready[incident] = None
        else:
            self._ready.pop(incident, None)

    def _merge_ready(self, now: Now) -> None:
        """Goes on with records that became mergeable, a bounded piece in each step."""
        left = MERGE_STEP_ENTRIES
        for incident in list(self._ready):
            if left > 0:
                replica = self.replicas[incident]
                merged = replica.merge_ready(left)
                left -= len(merged)
                self._take_up(replica, merged, now)

    def _look_for_own(self, replica: Replica, logs: Iterable[LogId], merged: Sequence[Position]) -> None:
        """Entries of this device that it did not have: it was restored from a backup, or there are two of it. Nothing
        is to be done, every process writes logs of its own, but the operator should know."""
        for log in logs:
            writer = replica.writer(log)
            if writer is not None and writer.device == self._identity.device and log not in self._strange:
                self._strange.add(log)
                seq = min(seq for merged_log, seq in merged if merged_log == log)
                reason = "peers hold entries of this device that it did not have"
                replica.troubles.append(Trouble("restored-or-cloned", reason, log, seq))

    def is_member(self, incident: IncidentId) -> bool:
        """Does this node hold a key of the incident?"""
        replica = self.replicas.get(incident)
        return replica is not None and bool(replica.keys)

    def try_package(self, incident: IncidentId, key_id: KeyId, package: bytes) -> bool:
        """Tries to open a package of an incident that is not stored here. True when it is for this node.

        Raises UntrustedInputError ``package-*`` or ``cbor-*``.
        """
        key = epochs.open_package_untrusted(package, incident, key_id, self._ring.secrets(), self._sealer)
        if key is None:
            return False
        self._replica(incident).learn_key(key_id, key)
        return True

    def packages(self, incident: IncidentId, older: int = 0) -> tuple[list[tuple[KeyId, bytes]], int]:
        """For a peer that asks whether it is a member: stored packages, the newest first, as many as one message
        carries, from the ``older`` that were stored first (0: from all); and how many older ones are left."""
        replica = self.replicas.get(incident)
        positions = replica.package_positions() if replica is not None else []
        found: list[tuple[KeyId, bytes]] = []
        size_bytes = 0
        for number in range(min(older or len(positions), len(positions)), 0, -1):
            key_id, (log, seq) = positions[number - 1]
            for entry in self._store.read(incident, log, seq, seq):
                package = entry.package or b""
                size_bytes += len(package)
                if found and (size_bytes > PACKAGES_BYTES_MAX or len(found) >= PACKAGES_MAX):
                    return found, number
                found.append((key_id, package))
        return found, 0

    def forget(self, incident: IncidentId) -> None:
        """An incident that this node never could read is dropped."""
        replica = self.replicas.pop(incident, None)
        for key_id, (log, _) in replica.package_positions() if replica is not None else ():
            self.stale_packages[package_row_key(incident, key_id, log)] = None

    def checkpoint_all(self) -> None:
        """At a clean stop: the next start replays nothing."""
        for replica in self.replicas.values():
            if self._archive.is_behind(replica):
                self._archive.checkpoint(replica)

    # --- local requests -------------------------------------------------------------------------------------------

    def open(
        self,
        kind: str,
        changes: Sequence[Change],
        attached: Sequence[Operation],
        share_with: Sequence[str],
        operator: str,
        now: Now,
    ) -> Written:
        """A new incident with its first epoch. Raises RefusedError; then nothing was staged."""
        nonce = self._random_bytes(acts.NONCE_BYTES)
        incident = acts.incident_id(self._identity.device, nonce)
        replica = Replica(incident, self._store, self._identity.network_root, self._sealer)
        replica.on_key = self._archive.key_keeper(incident)
        invited = self._devices_of(share_with, Role.WRITER)
        me = (self._identity.device, self._identity.certificate.noc, Role.MANAGER)
        members = [me, *(member for member in invited if member[0] != me[0])]
        recipients = self._prekeys([device for device, _, _ in members])
        kind_change = Change(ChangeKind.SET, field="kind", value=kind)
        planned = self._plan(replica, [kind_change, *changes])
        self.replicas[incident] = replica
        self._write_epoch(replica, recipients, [acts.create_act(nonce, members)], operator, now)
        dots = self._write(replica, [operation for operation, _ in planned] + list(attached), operator, now)
        touched = tuple(obj for _, obj in planned[1:])
        return Written(incident, tuple(dots[1 : len(planned)]), touched, attachments.objects_of(attached))

    def change(
        self,
        incident: IncidentId,
        changes: Sequence[Change],
        attached: Sequence[Operation],
        operator: str,
        now: Now,
    ) -> Written:
        """Local changes, all or none. Raises RefusedError; then nothing was staged."""
        replica = self.readable(incident)
        self._require_role(replica, Role.WRITER)
        planned = self._plan(replica, changes)
        self._require_key(replica, operator, now)
        dots = self._write(replica, [operation for operation, _ in planned] + list(attached), operator, now)
        touched = tuple(obj for _, obj in planned)
        return Written(incident, tuple(dots[: len(planned)]), touched, attachments.objects_of(attached))

    def share(self, incident: IncidentId, nocs: Sequence[str], operator: str, now: Now) -> Written:
        """Adds the devices of these NOCs, with a new epoch whose key opens the whole record."""
        replica = self.readable(incident)
        self._require_role(replica, Role.MANAGER)
        present = {member.device for member in replica.group.members()}
        added = [m for m in self._devices_of(nocs, Role.WRITER) if m[0] not in present]
        if not added:
            raise RefusedError(
                "already-members", "every device of these NOCs is a member already", "see: meshnode incident members"
            )
        recipients = self._prekeys(sorted(present | {device for device, _, _ in added}))
        self._write_epoch(replica, recipients, [acts.add_act(added)], operator, now)
        self._watch_epochs(incident, replica, now)
        return Written(incident, (), ())

    def readable(self, incident: IncidentId) -> Replica:
        """The replica of an incident this node can read. Raises RefusedError."""
        replica = self.replicas.get(incident)
        if replica is None:
            raise RefusedError("unknown-incident", "this node holds no such incident", "list the incidents it holds")
        if not replica.merged:
            raise RefusedError(
                "not-a-member",
                "this node stores the incident for others and cannot read it",
                "ask a manager of the incident to share it with this NOC",
            )
        return replica

    def _plan(self, replica: Replica, changes: Sequence[Change]) -> list[tuple[Operation, ObjectId]]:
        return replica.document.plan_all(changes, self._random_bytes)

    def _require_role(self, replica: Replica, role: Role) -> None:
        mine = replica.group.role(self._identity.device)
        if mine is None or mine < role:
            raise RefusedError(
                "not-entitled",
                f"this node is no {role.name.lower()} of the incident",
                "ask a manager of the incident",
            )

    def _require_key(self, replica: Replica, operator: str, now: Now) -> KeyId:
        """The key to write under (E3); makes a new epoch when there is none that this node holds (E4)."""
        key_id = replica.group.write_key()
        if key_id is not None and key_id in replica.keys:
            return key_id
        self._renew_epoch(replica, operator, now)
        renewed = replica.group.write_key()
        if renewed is None:
            raise RefusedError("no-usable-key", "no epoch is right for the members known here", "try again in a moment")
        return renewed

    def _devices_of(self, nocs: Sequence[str], role: Role) -> list[tuple[DeviceId, str, Role]]:
        members = []
        for noc in sorted(set(nocs)):
            devices = self._roster.devices_of(noc)
            if not devices:
                known = ", ".join(self._roster.nocs())
                raise RefusedError(
                    "noc-unknown",
                    f"no device of {noc} has been heard of",
                    f"wait until one has been connected to the mesh once; known are {known}",
                )
            members += [(enrolled.certificate.device, noc, role) for enrolled in devices]
        return members

    def _prekeys(self, devices: Sequence[DeviceId]) -> list[Prekey]:
        prekeys = []
        for device in devices:
            enrolled = self._roster.get(device)
            if enrolled is None:
                raise RefusedError(
                    "no-prekey",
                    f"no prekey of device {device.hex()[:8]} is known here",
                    "wait until it has been connected to the mesh once",
                )
            prekeys.append(enrolled.prekey)
        return prekeys

    # --- epochs ---------------------------------------------------------------------------------------------------

    def _write_epoch(
        self, replica: Replica, recipients: Sequence[Prekey], membership: Sequence[Any], operator: str, now: Now
    ) -> None:
        """One entry with the acts, a new key sealed to exactly these recipients, and the keys that lead back."""
        key = epochs.make_epoch_key(self._random_bytes)
        package = self._package(replica, recipients, key)
        parents = [replica.keys[key_id] for key_id in replica.group.parent_keys() if key_id in replica.keys]
        body = epochs.EpochBody.make(recipients, parents)
        replica.learn_key(epochs.key_id(key), key)
        self._append(replica, (), operator, now, epochs.key_id(key), package, body, membership)

    def _package(self, replica: Replica, recipients: Sequence[Prekey], key: bytes) -> bytes:
        return epochs.make_package(recipients, key, replica.incident, self._random_bytes, self._sealer)

    def _renew_epoch(self, replica: Replica, operator: str, now: Now) -> None:
        recipients = self._prekeys([member.device for member in replica.group.members()])
        self._write_epoch(replica, recipients, [], operator, now)

    def _get_back_in(self, due: AskFor | SealAgain, now: Now) -> None:
        """Writes an ask or a re-seal. Nothing where that cannot be done now: who needs a key asks again."""
        replica = self.replicas[due.incident]
        key_id = replica.group.write_key()
        if key_id is None or key_id not in replica.keys:
            return
        try:
            if isinstance(due, AskFor):
                self._append(replica, (), "", now, key_id, membership=[acts.ask_act(due.attempt, due.keys)])
            else:
                recipients = self._prekeys([due.device])
                body = seal_again(replica, recipients, key_id)
                package = self._package(replica, recipients, replica.keys[key_id])
                shown = dict(due.asked)
                self._append(replica, (), "", now, key_id, package, body, shown=shown, starts_epoch=False)
            code, reason = self.reseals.on_done(due, now.monotonic_s)
        except (RefusedError, LocalFaultError) as refusal:
            code, reason = refusal.code, refusal.reason
        own = self._own_log(replica)
        replica.troubles.append(Trouble(code, reason, own.id, own.seq))

    def _watch_epochs(self, incident: IncidentId, replica: Replica, now: Now) -> None:
        self.reseals.watch(replica, now.monotonic_s)
        if not replica.group.repair_needed(self._identity.device):
            self._repair_at.pop(incident, None)
        elif incident not in self._repair_at:
            delay = REPAIR_STEP_S * (replica.group.rank(self._identity.device) + self._rng.random())
            earliest = self._repaired.get(incident, -EPOCH_INTERVAL_S) + EPOCH_INTERVAL_S
            self._repair_at[incident] = max(now.monotonic_s + delay, earliest)

    def next_deadline(self) -> float | None:
        """At once while stored entries can be merged."""
        if self._ready:
            return 0.0
        times = [*self._repair_at.values()]
        reseals_at = self.reseals.next_deadline()
        return min(times if reseals_at is None else [*times, reseals_at], default=None)

    def handle_deadline(self, now: Now) -> list[tuple[IncidentId, str]]:
        """Makes the epochs that are due; returns (incident, why) where it could not."""
        self._merge_ready(now)
        for due in self.reseals.due(self.replicas, now.monotonic_s):
            self._get_back_in(due, now)
        failed = []
        for incident in [i for i, due in self._repair_at.items() if due <= now.monotonic_s]:
            del self._repair_at[incident]
            replica = self.replicas[incident]
            if not replica.group.repair_needed(self._identity.device):
                continue
            try:
                self._renew_epoch(replica, "", now)
                self._repaired[incident] = now.monotonic_s
            except (RefusedError, LocalFaultError) as refusal:
                self._repair_at[incident] = now.monotonic_s + REPAIR_RETRY_S
                failed.append((incident, f"{refusal.code}: {refusal.reason}"))
        return failed

    # --- own entries ----------------------------------------------------------------------------------------------

    def _write(self, replica: Replica, operations: Sequence[Operation], operator: str, now: Now) -> list[Dot]:
        """Packs operations into as few entries as their sizes allow, and returns their dots in order."""
        key_id = self._require_key(replica, operator, now)
        shown = self._show(replica, operations, operator, now, key_id)
        if len(operations) == 1:  # as nearly always; one always fits
            return self._append(replica, operations, operator, now, key_id, shown=shown)
        dots: list[Dot] = []
        batch: list[Operation] = []
        size_bytes = 0
        for operation in operations:
            added_bytes = len(codec.encode(encode_operation(operation)))
            if batch and (size_bytes + added_bytes > CONTENT_BYTES_AIM or len(batch) >= entries.OPERATIONS_MAX):
                dots += self._append(replica, batch, operator, now, key_id, shown=shown)
                batch, size_bytes, shown = [], 0, {}
            batch.append(operation)
            size_bytes += added_bytes
        if batch:
            dots += self._append(replica, batch, operator, now, key_id, shown=shown)
        return dots

    def _show(
        self, replica: Replica, operations: Sequence[Operation], operator: str, now: Now, key_id: KeyId
    ) -> dict[LogId, int]:
        """The logs, and how far in each, that the next own entry must name because these operations name values of
        them. When one entry has not enough parents for that, entries without operations go before it."""
        while True:
            own = self._own_log(replica)
            needed = unseen(replica.graph, (own.id, own.seq + 1), operations)
            if len(needed) < entries.PARENTS_MAX:  # one is left for the epoch whose key it uses
                return needed
            part = dict(list(needed.items())[: entries.PARENTS_MAX - 1])
            self._append(replica, (), operator, now, key_id, shown=part)

    def _append(
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
        own = self._own_log(replica)
        starts_epoch = body is not None if starts_epoch is None else starts_epoch
        parents = self._parents(replica, own.id, key_id, starts_epoch, shown or {})
        opening = None
        if own.seq == 0:
            bundle = self._identity.certificate.bundle
            opening = entries.sign_opening(self._identity.device_key, bundle, replica.incident, own.id)
            replica.open_own_log(own.id, self._writer, bundle)
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

    def _own_log(self, replica: Replica) -> _OwnLog:
        own = self._own.get(replica.incident)
        if own is None or (own.damaged and not own.unsealed):
            key = SigningKey(self._random_bytes(32))
            own = self._own[replica.incident] = _OwnLog(key, LogId(key.public))
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

    def _seal(self, own: _OwnLog) -> None:
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

    def _replica(self, incident: IncidentId) -> Replica:
        replica = self.replicas.get(incident)
        if replica is None:
            replica = self.replicas[incident] = Replica(
                incident, self._store, self._identity.network_root, self._sealer
            )
            replica.on_key = self._archive.key_keeper(incident)
        return replica
