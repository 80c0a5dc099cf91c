"""Who may read and write an incident, and under which epoch key: a function of the set of merged entries.

**Members** (core/acts.py has the acts):

* M1: an act is valid if its signer held the right in the act's own causal past (acts before it in the same entry
  count). Writing needs a writer or manager. Arrival order and clocks never count: a verdict is final when given.
* Rights only grow as yet. Acts of a newer version are void here and counted in ``unknown_acts``; their entry, its
  other acts and its epoch stand. Nobody can stop a group by writing nonsense.

**Epochs** (core/epochs.py has the keys; no key ever comes here, only key ids):

* E1: valid if its recipients equal the member devices in its causal past, its own entry's acts included, and its
  author may write there.
* E8: a key id that an epoch in its past already has makes it invalid.
* E10: valid only if every epoch in its causal past is reached through the parent keys it carries.
* E2: usable if valid, its author still a member, and every known holder of its key a member. Holders of a key are the
  recipients of any epoch, valid or not, from whose body that key can be reached.
* E3: write under the usable epoch that is causally maximal; among those rather one whose recipients are the members of
  now (decision 0072), then the lowest key id. Never by time.
* E4, E6: repair is needed while no usable epoch is for exactly the members, or while some epoch is neither sealed to
  all members nor reached from such an epoch.

Only entries with a valid act or an epoch are kept. Each keeps its causal past as a bit mask over the kept entries
before it, so that questions among them are arithmetic and the graph is asked about once per entry and log.

Removals will add acts and a cut; grants and epochs therefore stay separate records that a later rule can void, and
nothing that depends on "rights only grow" is stored except the cache of ``may_write``.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from meshnode.core.acts import (
    MEMBERS_MAX,
    NONCE_BYTES,
    Grant,
    Role,
    Standings,
    add_act,
    create_act,
    fold,
    incident_id,
    judge_act,
    seniority,
)
from meshnode.core.epochs import EPOCH_PARENTS_MAX, EpochBody
from meshnode.core.ids import DeviceId, IncidentId, KeyId, LogId
from meshnode.errors import LocalFaultError

__all__ = ["NONCE_BYTES", "Ancestry", "Group", "Member", "Role", "Verdict", "add_act", "create_act", "incident_id"]

Position = tuple[LogId, int]

RULES_VERSION = 1
"""Goes up with every change of a rule here: a snapshot made by other rules is refused and the journal replayed."""


class Ancestry(Protocol):
    def covers(self, entry: Position, ancestor: Position) -> bool:
        """Is ``ancestor`` in the causal past of ``entry``, or the same?"""


@dataclass(frozen=True, slots=True)
class Member:
    device: DeviceId
    noc: str
    """As the member who added it wrote. The device certificate in the opening of its logs is what proves it."""
    role: Role
    added_by: DeviceId
    position: Position
    """The entry of its most senior grant."""


@dataclass(frozen=True, slots=True)
class Verdict:
    """What became of one act or epoch, the same at every member."""

    act: int | None
    """Index of the act in its entry; None for the epoch."""
    code: str
    """Empty when it holds."""

    @property
    def valid(self) -> bool:
        return not self.code

    @property
    def reason(self) -> str:
        return _REASONS[self.code]


_REASONS = {
    "": "it holds",
    "act-unknown": "a membership act of a newer version was kept and not applied",
    "act-malformed": "a membership act is not well formed",
    "act-not-entitled": "its author was no manager in the act's own causal past",
    "act-wrong-handle": "the incident was not created by this author",
    "act-created-again": "the incident had been created before",
    "act-group-too-large": f"more than {MEMBERS_MAX} member devices",
    "epoch-not-entitled": "its author could not write in the epoch's own causal past",
    "epoch-wrong-recipients": "its recipients are not the members in its causal past",
    "epoch-key-reused": "its key id had been used before",
    "epoch-past-unreachable": "its parent keys do not lead to every epoch in its causal past",
}


@dataclass(slots=True)
class _Epoch:
    key_id: KeyId
    recipients: frozenset[DeviceId]
    parents: tuple[KeyId, ...]
    valid: bool
    reach: int
    """Kept epochs in its past that its key leads to, itself included, as a mask."""


@dataclass(slots=True)
class _Kept:
    position: Position
    author: DeviceId
    past: int
    """Kept entries in its strict causal past, as a mask over their indices."""
    grants: tuple[Grant, ...]


@dataclass(frozen=True, slots=True)
class _View:
    """What follows from everything merged so far."""

    write_key: KeyId | None
    repair: bool


class Group:
    """The members and epochs of one incident. ``merge`` once per entry, in any order that respects causality."""

    def __init__(self, incident: IncidentId, ancestry: Ancestry) -> None:
        self._incident = incident
        self._ancestry = ancestry
        self._kept: list[_Kept] = []
        self._by_log: dict[LogId, list[int]] = {}
        """Indices of kept entries per log, ascending; the log that was kept from last stands last."""
        self._granting = 0
        self._standings: Standings = {}
        self._writer_grants: dict[DeviceId, list[Position]] = {}
        """Entries that make a device a writer or more."""
        self._entitled: dict[tuple[DeviceId, LogId], int] = {}
        """Lowest position known from which a device may write in a log. Valid while rights only grow."""
        self._epochs: dict[int, _Epoch] = {}
        """By index of the kept entry, ascending."""
        self._epochs_mask = 0
        self._epochs_by_key: dict[KeyId, list[int]] = {}
        self._recipients: dict[frozenset[DeviceId], frozenset[DeviceId]] = {}
        """One copy of each recipient set: most epochs of a group have the same."""
        self._view: _View | None = None
        self.unknown_acts = 0
        """Acts by members that only a newer version understands. Above zero, this node should be upgraded."""

    # --- merging --------------------------------------------------------------------------------------------------

    def merge(
        self, position: Position, author: DeviceId, acts: Sequence[Any], epoch: EpochBody | None, key_id: KeyId | None
    ) -> list[Verdict]:
        """One verdict per act, then one for the epoch. The ancestry already knows the entry at ``position``."""
        if not acts and epoch is None:
            return []
        past = self._past_of(position)
        standings = dict(self._standings_in(past))
        verdicts: list[Verdict] = []
        grants: list[Grant] = []
        for index, act in enumerate(acts):
            judged = judge_act(act, author, self._incident, position, standings)
            if isinstance(judged, str):
                verdicts.append(Verdict(index, judged))
                self.unknown_acts += judged == "act-unknown" and author in standings
                continue
            verdicts.append(Verdict(index, ""))
            for grant in judged:
                fold(standings, grant)
            grants.extend(judged)
        kept_epoch = None
        if epoch is not None:
            if key_id is None:
                raise ValueError("an epoch has a key id")
            code = self._judge_epoch(author, past, standings, epoch, key_id)
            verdicts.append(Verdict(None, code))
            devices = frozenset(epoch.devices)
            devices = self._recipients.setdefault(devices, devices)
            reach = self._reach(past, epoch, key_id) | 1 << len(self._kept)
            kept_epoch = _Epoch(key_id, devices, epoch.parent_ids, not code, reach)
        if grants or kept_epoch is not None:
            self._keep(_Kept(position, author, past, tuple(grants)), kept_epoch)
        return verdicts

    def _past_of(self, position: Position) -> int:
        """The kept entries that ``position`` covers. In a record without concurrency this asks the graph once."""
        past = 0
        for indices in reversed(self._by_log.values()):
            if past >> indices[-1] & 1:
                continue
            covered = len(indices)
            if not self._covers_kept(position, indices[-1]):
                covered = bisect_left(indices, True, key=lambda index: not self._covers_kept(position, index))
            if covered:
                last = indices[covered - 1]
                past |= self._kept[last].past | 1 << last
        return past

    def _covers_kept(self, position: Position, index: int) -> bool:
        return self._ancestry.covers(position, self._kept[index].position)

    def _standings_in(self, past: int) -> Standings:
        """Not to be changed by the caller."""
        if past & self._granting == self._granting:
            return self._standings
        standings: Standings = {}
        for index, kept in enumerate(self._kept):
            if past >> index & 1:
                for grant in kept.grants:
                    fold(standings, grant)
        return standings

    def _judge_epoch(self, author: DeviceId, past: int, standings: Standings, body: EpochBody, key_id: KeyId) -> str:
        """The code of what makes an epoch invalid, empty when it is valid."""
        standing = standings.get(author)
        if standing is None or standing.role < Role.WRITER:
            return "epoch-not-entitled"
        if not self._are_recipients_right(body.devices, standings):
            return "epoch-wrong-recipients"
        if any(past >> index & 1 for index in self._epochs_by_key.get(key_id, ())):
            return "epoch-key-reused"
        if past & self._epochs_mask & ~self._reach(past, body, key_id):
            return "epoch-past-unreachable"
        return ""

    def _are_recipients_right(self, devices: Sequence[DeviceId], standings: Standings) -> bool:
        """E1. ``devices`` are distinct (core/epochs.py)."""
        return len(devices) == len(standings) and all(device in standings for device in devices)

    def _reach(self, past: int, body: EpochBody, key_id: KeyId) -> int:
        """Epochs in ``past`` that whoever holds this epoch's key can open, step by step."""
        reach = 0
        for key in (key_id, *body.parent_ids):
            for index in self._epochs_by_key.get(key, ()):
                if past >> index & 1:
                    reach |= self._epochs[index].reach
        return reach

    def _keep(self, kept: _Kept, epoch: _Epoch | None) -> None:
        index = len(self._kept)
        self._kept.append(kept)
        log = kept.position[0]
        indices = self._by_log.pop(log, [])
        indices.append(index)
        self._by_log[log] = indices
        if kept.grants:
            self._granting |= 1 << index
        for grant in kept.grants:
            fold(self._standings, grant)
            if grant.role >= Role.WRITER:
                self._writer_grants.setdefault(grant.device, []).append(kept.position)
        if epoch is not None:
            self._epochs[index] = epoch
            self._epochs_mask |= 1 << index
            self._epochs_by_key.setdefault(epoch.key_id, []).append(index)
        self._view = None

    # --- members --------------------------------------------------------------------------------------------------

    def members(self) -> tuple[Member, ...]:
        """All members, most senior first."""
        return tuple(
            Member(device, grant.noc, role, grant.added_by, (grant.log, grant.seq))
            for device, (grant, role) in sorted(self._standings.items(), key=seniority)
        )

    def role(self, device: DeviceId) -> Role | None:
        """None for a device that is no member."""
        standing = self._standings.get(device)
        return None if standing is None else standing.role

    def is_member(self, device: DeviceId) -> bool:
        return device in self._standings

    def may_write(self, device: DeviceId, position: Position) -> bool:
        """Was the device a writer or manager in the causal past of its entry at ``position``, that entry included?

        Asked after the entry was merged. One dictionary look-up per entry once a log's device was found entitled.
        """
        log, seq = position
        since = self._entitled.get((device, log))
        if since is not None and since <= seq:
            return True
        for granted in self._writer_grants.get(device, ()):
            if self._ancestry.covers(position, granted):
                self._entitled[device, log] = seq
                return True
        return False

    def holders(self, key_id: KeyId) -> frozenset[DeviceId]:
        """Devices that an epoch with this key was sealed to. For the key of now that is everybody who holds it."""
        indices = self._epochs_by_key.get(key_id, ())
        return frozenset().union(*(self._epochs[index].recipients for index in indices))

    def rank(self, me: DeviceId) -> int:
        """Place in line for making a new epoch, by seniority among those who may; behind them all for others."""
        able = [member.device for member in self.members() if member.role >= Role.WRITER]
        return able.index(me) if me in able else len(able)

    # --- epochs ---------------------------------------------------------------------------------------------------

    def write_key(self) -> KeyId | None:
        """E3: the epoch key to write under now, None when there is no usable epoch."""
        return self._current().write_key

    def repair_needed(self, me: DeviceId) -> bool:
        """E4, E6: should ``me`` make a new epoch (after its rank's delay), in an entry that covers :meth:`heads`?"""
        role = self.role(me)
        return role is not None and role >= Role.WRITER and self._current().repair

    def parent_keys(self) -> tuple[KeyId, ...]:
        """Key ids whose keys the body of an epoch made now must carry, so that every epoch so far is reached.

        Usually one. At most EPOCH_PARENTS_MAX: if more concurrent epochs were out of reach of each other, this epoch
        will be invalid and the next one, which has this one among its parents, takes the rest.
        """
        named: list[KeyId] = []
        reached = 0
        for index, epoch in reversed(self._epochs.items()):
            if not reached >> index & 1:
                reached |= epoch.reach
                if epoch.key_id not in named:
                    named.append(epoch.key_id)
        return tuple(named[:EPOCH_PARENTS_MAX])

    def heads(self) -> tuple[Position, ...]:
        """The act- and epoch-bearing entries that no other such entry covers: a new epoch's entry must cover them."""
        covered = 0
        for kept in self._kept:
            covered |= kept.past
        return tuple(kept.position for index, kept in enumerate(self._kept) if not covered >> index & 1)

    def key_started(self, key_id: KeyId, before: Sequence[Position]) -> bool:
        """Does some entry in ``before``, or in its causal past, start an epoch with this key?

        An entry that uses a key without having seen the epoch that starts it could be read by some members and, for
        want of an epoch in the graph that leads to its key, never by a late one. Nobody merges such an entry.
        ``before`` are the entry before it in its log and the parents it names.
        """
        starts = [self._kept[index].position for index in self._epochs_by_key.get(key_id, ())]
        return any(self._ancestry.covers(head, start) for head in before for start in starts)

    def epoch_starts(self, key_id: KeyId) -> tuple[Position, ...]:
        """The merged entries that start an epoch with this key; one, unless somebody reused it."""
        return tuple(self._kept[index].position for index in self._epochs_by_key.get(key_id, ()))

    def _current(self) -> _View:
        if self._view is None:
            usable = self._usable()
            self._view = _View(self._choose(usable), self._needs_repair(usable))
        return self._view

    def _usable(self) -> list[int]:
        """E2. Indices of the usable epochs, ascending."""
        tainted = self._tainted_keys()
        return [
            index
            for index, epoch in self._epochs.items()
            if epoch.valid and self._kept[index].author in self._standings and epoch.key_id not in tainted
        ]

    def _tainted_keys(self) -> set[KeyId]:
        """Keys that some non-member is known to hold: sealed to it, or in a body that it can open, step by step.

        Over the whole view, not one past: a body may carry a key whose epoch its author pretends not to have seen.
        """
        members = self._standings.keys()
        waiting = [epoch.key_id for epoch in self._epochs.values() if not epoch.recipients <= members]
        tainted: set[KeyId] = set()
        while waiting:
            key_id = waiting.pop()
            if key_id not in tainted:
                tainted.add(key_id)
                for index in self._epochs_by_key.get(key_id, ()):
                    waiting.extend(self._epochs[index].parents)
        return tainted

    def _choose(self, usable: list[int]) -> KeyId | None:
        """E3 among the usable epochs."""
        covered = 0
        for index in usable:
            covered |= self._kept[index].past
        maximal = [self._epochs[index] for index in usable if not covered >> index & 1]
        members = self._standings.keys()
        best = min(maximal, key=lambda epoch: (epoch.recipients != members, epoch.key_id), default=None)
        return None if best is None else best.key_id

    def _needs_repair(self, usable: list[int]) -> bool:
        members = self._standings.keys()
        exact = [self._epochs[index] for index in usable if self._epochs[index].recipients == members]
        reached = 0
        for epoch in exact:
            reached |= epoch.reach
        return not exact or any(
            not reached >> index & 1 and not epoch.recipients >= members for index, epoch in self._epochs.items()
        )

    # --- snapshots ------------------------------------------------------------------------------------------------

    def snapshot(self) -> list[Any]:
        """Plain data for the codec: what was judged, with no key in it."""
        table = {devices: number for number, devices in enumerate(self._recipients)}
        rows = []
        for index, kept in enumerate(self._kept):
            row = None
            if index in self._epochs:
                epoch = self._epochs[index]
                parents = list(epoch.parents)
                row = [epoch.key_id, table[epoch.recipients], parents, epoch.valid, _mask_bytes(epoch.reach)]
            grants = [[g.depth, g.order, g.device, g.noc, int(g.role)] for g in kept.grants]
            rows.append([*kept.position, kept.author, _mask_bytes(kept.past), grants, row])
        return [RULES_VERSION, self.unknown_acts, [sorted(devices) for devices in table], rows]

    @classmethod
    def restore(cls, data: list[Any], incident: IncidentId, ancestry: Ancestry) -> Group:
        """The group of a snapshot. Raises LocalFaultError ``snapshot-other-rules`` when other rules made it."""
        if data[0] != RULES_VERSION:
            raise LocalFaultError(
                "snapshot-other-rules",
                f"a snapshot was made by membership rules {data[0]}, these are {RULES_VERSION}",
                "the journal is replayed instead",
            )
        group = cls(incident, ancestry)
        _, group.unknown_acts, table, rows = data
        sets = [frozenset(DeviceId(device) for device in devices) for devices in table]
        group._recipients = {devices: devices for devices in sets}
        for log, seq, author, past, grant_rows, epoch_row in rows:
            epoch = None
            if epoch_row is not None:
                key, number, parents, valid, reach = epoch_row
                epoch = _Epoch(
                    KeyId(key), sets[number], tuple(map(KeyId, parents)), valid, int.from_bytes(reach, "little")
                )
            grants = tuple(
                Grant(depth, order, LogId(log), seq, DeviceId(device), noc, Role(role), DeviceId(author))
                for depth, order, device, noc, role in grant_rows
            )
            kept = _Kept((LogId(log), seq), DeviceId(author), int.from_bytes(past, "little"), grants)
            group._keep(kept, epoch)
        return group


def _mask_bytes(mask: int) -> bytes:
    return mask.to_bytes((mask.bit_length() + 7) // 8, "little")
