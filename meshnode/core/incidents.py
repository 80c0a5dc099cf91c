"""The incidents of this node: local changes become entries, entries of others are merged, both are journalled.

What this holds per incident is a replica (for what it can read); what it writes goes into own logs (core/own_logs.py).

Epochs are made when members are added, and when the group says that none is right for the members it now has
(after concurrent additions, say): then each member waits its rank times 250 ms, so that usually one of them does it.
Keys that cannot be opened are asked for, and sealed again to who asks (core/reseal.py).
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterable, Sequence
from typing import Any

from meshnode.core import acts, attachments, epochs
from meshnode.core.acts import Role
from meshnode.core.archive import Archive, package_row, package_row_key
from meshnode.core.causal import Position
from meshnode.core.events import Change, ChangeKind, Now, OpenIncident, ShareIncident, Written
from meshnode.core.holdings import Holdings
from meshnode.core.identity import Identity
from meshnode.core.ids import DeviceId, IncidentId, KeyId, LogId, ObjectId
from meshnode.core.keys import RandomBytes
from meshnode.core.log import CommitBatch, Entry, LogStore, Seal
from meshnode.core.operations import Operation
from meshnode.core.own_logs import OwnLogs
from meshnode.core.prekeys import Prekey, PrekeyRing, make_throwaway
from meshnode.core.replica import WALK_STEP_ENTRIES, Replica, Trouble
from meshnode.core.reseal import AskFor, Reseals, SealAgain, seal_again
from meshnode.core.roster import Roster
from meshnode.core.wire import PACKAGES_BYTES_MAX, PACKAGES_MAX
from meshnode.errors import LocalFaultError, RefusedError, UntrustedInputError

MERGE_STEP_ENTRIES = 512
"""Stored entries merged in one step: some 50 ms, after which local requests and links have their turn."""
REPAIR_STEP_S = 0.25
REPAIR_RETRY_S = 10.0
EPOCH_INTERVAL_S = 60.0
"""E7: a device repairs an incident's epoch at most this often, whatever others make it see."""


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
        self.replicas: dict[IncidentId, Replica] = {}
        self.own_logs = OwnLogs(identity, holdings, archive, random_bytes)
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
                replica.walk_on()
                replica.look_for_stored()
                self._note_ready(incident, replica)

    def _recover_keys(self) -> None:
        """A row that was damaged may have held a key: a stored package may give it again."""
        for incident, replica in self.replicas.items():
            for key_id, (log, seq) in replica.packages:
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
                left -= WALK_STEP_ENTRIES if replica.walks else 0
                merged = replica.merge_ready(max(left, MERGE_STEP_ENTRIES - WALK_STEP_ENTRIES))
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
        positions = replica.packages if replica is not None else []
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
        for _, position in replica.packages if replica is not None else ():
            self.stale_packages[package_row_key(incident, position)] = None

    def checkpoint_all(self) -> None:
        """At a clean stop: the next start replays nothing."""
        for replica in self.replicas.values():
            if self._archive.is_behind(replica):
                self._archive.checkpoint(replica)

    # --- local requests -------------------------------------------------------------------------------------------

    def open(self, event: OpenIncident, attached: Sequence[Operation], now: Now) -> Written:
        """A new incident with its first epoch. Raises RefusedError; then nothing was staged."""
        nonce = self._random_bytes(acts.NONCE_BYTES)
        incident = acts.incident_id(self._identity.device, nonce)
        replica = Replica(incident, self._store, self._identity.network_root, self._sealer)
        replica.on_key = self._archive.key_keeper(incident)
        invited = self._devices_of(event.share_with, Role.WRITER, with_relays=event.with_relays)
        me = (self._identity.device, self._identity.certificate.noc, Role.MANAGER)
        members = [me, *(member for member in invited if member[0] != me[0])]
        recipients = self._prekeys([device for device, _, _ in members])
        kind_change = Change(ChangeKind.SET, field="kind", value=event.kind)
        planned = self._plan(replica, [kind_change, *event.changes])
        self.replicas[incident] = replica
        self._write_epoch(replica, recipients, [acts.create_act(nonce, members)], event.operator, now)
        operations = [operation for operation, _ in planned] + list(attached)
        key_id = self._require_key(replica, event.operator, now)
        dots = self.own_logs.write(replica, operations, event.operator, now, key_id)
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
        key_id = self._require_key(replica, operator, now)
        operations = [operation for operation, _ in planned] + list(attached)
        dots = self.own_logs.write(replica, operations, operator, now, key_id)
        touched = tuple(obj for _, obj in planned)
        return Written(incident, tuple(dots[: len(planned)]), touched, attachments.objects_of(attached))

    def share(self, event: ShareIncident, now: Now) -> Written:
        """Adds the devices of these NOCs, with a new epoch whose key opens the whole record."""
        incident = event.incident
        replica = self.readable(incident)
        self._require_role(replica, Role.MANAGER)
        present = {member.device for member in replica.group.members()}
        invited = self._devices_of(event.nocs, Role.WRITER, with_relays=event.with_relays)
        added = [member for member in invited if member[0] not in present]
        if not added:
            raise RefusedError(
                "already-members", "every device of these NOCs is a member already", "see: meshnode incident members"
            )
        recipients = self._of_members(replica) + self._prekeys([device for device, _, _ in added])
        self._write_epoch(replica, recipients, [acts.add_act(added)], event.operator, now)
        self._watch_epochs(incident, replica, now)
        return Written(incident, (), ())

    def readable(self, incident: IncidentId) -> Replica:
        """The replica of an incident this node can read. Raises RefusedError."""
        replica = self.replicas.get(incident)
        if replica is None:
            raise RefusedError("unknown-incident", "this node holds no such incident", "see: meshnode incident list")
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
        """The key to write under (E3); makes a new epoch when there is none that this node holds (E4). One that does
        not lead to every epoch would be void (E10), so without their keys none is made."""
        key_id = replica.group.write_key()
        if key_id is not None and key_id in replica.keys:
            return key_id
        if replica.keys.keys() >= set(replica.group.parent_keys()):
            self._renew_epoch(replica, operator, now)
            renewed = replica.group.write_key()
            if renewed is not None and renewed in replica.keys:
                return renewed
        raise RefusedError("no-usable-key", "no key for the members known here is held", "try again in a moment")

    def _devices_of(self, nocs: Sequence[str], role: Role, *, with_relays: bool) -> list[tuple[DeviceId, str, Role]]:
        """The devices of these NOCs. A relay stores what it cannot read; it is made a reader only when asked for,
        because a member is never removed again."""
        members = []
        for noc in sorted(set(nocs)):
            devices = self._roster.devices_of(noc)
            if not devices:
                raise RefusedError(
                    "noc-unknown",
                    f"no device of {noc} has been heard of",
                    f"wait until one has been connected to the mesh once; known are {self._known_readers()}",
                )
            chosen = [one for one in devices if with_relays or not one.certificate.relay]
            if not chosen:
                raise RefusedError(
                    "relays-only",
                    f"the devices of {noc} known here are relays, which store what they cannot read; as members they "
                    "would read the whole record, and nobody can be taken out again",
                    "leave them out: they pass the incident on all the same. If they are to read it: --with-relays "
                    "(with_relays in the API)",
                )
            members += [(enrolled.certificate.device, noc, role) for enrolled in chosen]
        return members

    def _known_readers(self) -> str:
        """NOCs with a device that is no relay."""
        nocs = self._roster.nocs()
        return (
            ", ".join(n for n in nocs if not all(one.certificate.relay for one in self._roster.devices_of(n))) or "none"
        )

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

    def _of_members(self, replica: Replica) -> list[Prekey]:
        """Of each member, a throwaway where none is known: a manager can add any device, and nobody could write again
        if everybody had to wait for its prekey. Such a member asks for the key when it is there."""
        prekeys = []
        for member in replica.group.members():
            enrolled = self._roster.get(member.device)
            prekeys.append(make_throwaway(member.device, self._random_bytes) if enrolled is None else enrolled.prekey)
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
        self.own_logs.append(replica, (), operator, now, epochs.key_id(key), package, body, membership)
        left_out = [prekey.device for prekey in recipients if not prekey.record]
        if left_out:
            own, first = self.own_logs.of(replica), left_out[0].hex()[:8]
            reason = (
                f"{len(left_out)} member devices have no prekey known here ({first} first) and must ask for the key"
            )
            replica.troubles.append(Trouble("key-not-sealed", reason, own.id, own.seq))

    def _package(self, replica: Replica, recipients: Sequence[Prekey], key: bytes) -> bytes:
        return epochs.make_package(recipients, key, replica.incident, self._random_bytes, self._sealer)

    def _renew_epoch(self, replica: Replica, operator: str, now: Now) -> None:
        self._write_epoch(replica, self._of_members(replica), [], operator, now)

    def _get_back_in(self, due: AskFor | SealAgain, now: Now) -> None:
        """Writes an ask or a re-seal. Nothing where that cannot be done now: who needs a key asks again."""
        replica = self.replicas[due.incident]
        key_id = replica.group.write_key()
        if key_id is None or key_id not in replica.keys or not replica.group.is_member(self._identity.device):
            return
        try:
            if isinstance(due, AskFor):
                self.own_logs.append(replica, (), "", now, key_id, membership=[acts.ask_act(due.attempt, due.keys)])
            else:
                recipients = self._prekeys([due.device])
                body = seal_again(replica, recipients, key_id)
                package = self._package(replica, recipients, replica.keys[key_id])
                shown = dict(due.asked)
                self.own_logs.append(replica, (), "", now, key_id, package, body, shown=shown, starts_epoch=False)
            code, reason = self.reseals.on_done(due, now.monotonic_s)
        except (RefusedError, LocalFaultError) as refusal:
            code, reason = refusal.code, refusal.reason
        own = self.own_logs.of(replica)
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
        reseals_at = self.reseals.next_deadline()
        if not self._repair_at:
            return reseals_at
        repair_at = min(self._repair_at.values())
        return repair_at if reseals_at is None else min(repair_at, reseals_at)

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

    def _replica(self, incident: IncidentId) -> Replica:
        replica = self.replicas.get(incident)
        if replica is None:
            replica = self.replicas[incident] = Replica(
                incident, self._store, self._identity.network_root, self._sealer
            )
            replica.on_key = self._archive.key_keeper(incident)
        return replica
