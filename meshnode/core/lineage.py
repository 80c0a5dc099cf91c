"""The epochs of one group: which leads to which, whose keys outsiders hold, and which to write under.

Every question is answered by masks over kept entries (core/pasts.py) that grow with each epoch, so an epoch costs its
own size and not the number of those before it: a hostile member that floods a group with epochs, right or wrong, makes
its members store them and nothing else. What is built anew, when the members or the keys of outsiders change, looks
only at epochs that no other one covers.

* An epoch **reaches** itself, and everything reached in its own past by the epochs there whose key is its own or among
  its parents'. A valid one reaches every epoch in its past (E10), so only those of invalid ones are kept.
* A **re-seal** starts no epoch: its key was started in its past. It gives that key, and those its body carries, to the
  devices it is sealed to. Holders of a key count it (E2); nothing else depends on it, and it leads nowhere: a chain of
  keys that runs through one could be taken from late members by whoever hides it from them.
* A key is **tainted** when some non-member is known to hold it: it was sealed to one, or is in a body that one can
  open, step by step. Over the whole view, not one past: a body may carry a key whose epoch its author pretends not to
  have seen. Who was removed holds what it was sealed, so a removal taints every key from before it.
* An epoch is **late** when every removal that counts is in its past. One that is not may be sealed to members alone,
  and its key still reach the removed device: whoever added that device meanwhile, and does not know of the removal,
  carries every key it holds to it.
"""

from __future__ import annotations

import heapq
from collections.abc import Set as AbstractSet
from dataclasses import dataclass
from typing import Any

from meshnode.core.epochs import EPOCH_PARENTS_MAX, EpochBody
from meshnode.core.ids import DeviceId, KeyId
from meshnode.core.pasts import Pasts, Position, bits, tops


@dataclass(frozen=True, slots=True)
class Epoch:
    position: Position
    author: DeviceId
    key_id: KeyId
    recipients: frozenset[DeviceId]
    parents: tuple[KeyId, ...]
    valid: bool
    reseals: bool
    reach: int
    """Number of the mask of epochs in its past that its key leads to, in the table of masks. 0 for a valid one, and
    for a re-seal, of which nobody asks."""


@dataclass(slots=True)
class _View:
    """What follows from everything merged so far, while members and tainted keys stay as they are."""

    usable: int
    maximal: int
    """Usable epochs that no other usable one covers."""
    queue: list[tuple[bool, KeyId, int]]
    """A heap of epochs to write under, the best first: (not for exactly the members, key id, index). Those that are not
    maximal any more are passed over."""
    reached: int
    """What usable epochs for exactly the members reach."""


class Lineage:
    """Members are told by :meth:`set_members`, removals by :meth:`set_removals`."""

    def __init__(self, pasts: Pasts) -> None:
        self._pasts = pasts
        self._members: frozenset[DeviceId] = frozenset()
        self._epochs: dict[int, Epoch] = {}
        """By index of the kept entry, ascending."""
        self._all = self._valid = self._reseals = 0
        self._starts: dict[KeyId, int] = {}
        """All epochs and re-seals with this key."""
        self._sealed_to: dict[frozenset[DeviceId], int] = {}
        """Most epochs of a group have the same recipients."""
        self._reseals_to: dict[DeviceId, list[int]] = {}
        self._wide: int | None = 0
        """Those sealed to every member; None until asked for again."""
        self._tainted: set[KeyId] = set()
        self._tainted_mask = 0
        self._outsiders: set[DeviceId] = set()
        self._removals = 0
        """Kept entries that must be in the past of an epoch to write under."""
        self._late = 0
        """Epochs that have all of them in it."""
        self._view: _View | None = None

    # --- what is known --------------------------------------------------------------------------------------------

    def starts(self, key_id: KeyId) -> int:
        """The epochs, valid or not, and the re-seals with this key."""
        return self._starts.get(key_id, 0)

    def is_started(self, key_id: KeyId, past: int) -> bool:
        """Does a valid epoch in this past start this key?"""
        return bool(self.starts(key_id) & past & self._valid)

    def positions(self, key_id: KeyId) -> tuple[Position, ...]:
        """Entries that start an epoch with this key: one, unless somebody reused it. Earliest first."""
        starts = self.starts(key_id) & ~self._reseals
        return tuple(self._epochs[index].position for index in bits(starts))[::-1]

    def holders(self, key_id: KeyId) -> frozenset[DeviceId]:
        """Devices that the key was sealed to."""
        return frozenset().union(*(self._epochs[index].recipients for index in bits(self.starts(key_id))))

    def parents(self, key_id: KeyId) -> tuple[KeyId, ...]:
        """Keys that the epochs which start with this key carry."""
        starts = self.starts(key_id) & ~self._reseals
        return tuple(dict.fromkeys(parent for index in bits(starts) for parent in self._epochs[index].parents))

    def reseals_to(self, device: DeviceId) -> list[tuple[int, Epoch]]:
        """(index, re-seal), in the order in which they were merged."""
        return [(index, self._epochs[index]) for index in self._reseals_to.get(device, ())]

    def leads_back(self, past: int, body: EpochBody, key_id: KeyId) -> bool:
        """E10: does who holds this key reach every epoch in ``past``?"""
        return not past & self._all & ~self._reseals & ~self._reach_in(past, body, key_id)

    def _reach_in(self, past: int, body: EpochBody, key_id: KeyId) -> int:
        reach = 0
        for key in (key_id, *body.parent_ids):
            for index in tops(self.starts(key) & past & ~self._reseals, self._covered_by):
                reach |= self._reach(index)
        return reach

    def _covered_by(self, index: int) -> int:
        return self._pasts.at(self._epochs[index].position)

    def _reach(self, index: int) -> int:
        epoch = self._epochs[index]
        if epoch.valid:
            return self._pasts.at(epoch.position) & self._all
        return self._pasts.table.mask(epoch.reach)

    # --- growing --------------------------------------------------------------------------------------------------

    def add(
        self,
        index: int,
        position: Position,
        past: int,
        body: EpochBody,
        key_id: KeyId,
        author: DeviceId,
        *,
        valid: bool,
        reseals: bool,
    ) -> None:
        """The mask of ``position`` is already known to have ``index`` in it."""
        reach = 0
        if not valid and not reseals:
            reach = self._pasts.table.number(self._reach_in(past, body, key_id) | 1 << index)
        devices = frozenset(body.devices)
        self.put(index, Epoch(position, author, key_id, devices, body.parent_ids, valid, reseals, reach))

    def put(self, index: int, epoch: Epoch) -> None:
        self._epochs[index] = epoch
        bit = 1 << index
        self._all |= bit
        self._valid |= bit * epoch.valid
        if not self._removals & ~self._pasts.at(epoch.position):
            self._late |= bit
        if epoch.reseals:
            self._reseals |= bit
            for device in epoch.recipients:
                self._reseals_to.setdefault(device, []).append(index)
        self._starts[epoch.key_id] = self.starts(epoch.key_id) | bit
        self._sealed_to[epoch.recipients] = self._sealed_to.get(epoch.recipients, 0) | bit
        if self._wide is not None and epoch.recipients >= self._members:
            self._wide |= bit
        if epoch.key_id in self._tainted:
            self._tainted_mask |= bit
            self._taint(self._given_away_by(index))
        if not epoch.recipients <= self._members:
            self._outsiders |= epoch.recipients - self._members
            self._taint((epoch.key_id,))
        if self._view is not None and self._usable() & bit:
            self._use(self._view, index, epoch)

    def _usable(self) -> int:
        """E2."""
        return self._valid & self._late & ~self._tainted_mask

    def _use(self, view: _View, index: int, epoch: Epoch) -> None:
        view.usable |= 1 << index
        view.maximal = view.maximal & ~self._covered_by(index) | 1 << index
        exact = epoch.recipients == self._members
        if exact:
            view.reached |= self._reach(index)
        heapq.heappush(view.queue, (not exact, epoch.key_id, index))

    def _taint(self, keys: tuple[KeyId, ...]) -> None:
        """Each epoch is looked at once, when its key becomes tainted."""
        waiting = list(keys)
        while waiting:
            key = waiting.pop()
            if key not in self._tainted:
                self._tainted.add(key)
                starts = self.starts(key)
                self._tainted_mask |= starts
                if self._view is not None and self._view.usable & starts:
                    self._view = None
                for index in bits(starts):
                    waiting.extend(self._given_away_by(index))

    def _given_away_by(self, index: int) -> tuple[KeyId, ...]:
        """Keys that who holds the key of this epoch finds in its body."""
        return self._epochs[index].parents

    def set_members(self, members: AbstractSet[DeviceId]) -> None:
        if members == self._members:
            return
        joined, left = members - self._members, self._members - members
        self._members = frozenset(members)
        self._wide = self._view = None
        again = bool(joined & self._outsiders)
        if again:  # who was an outsider is none: what it held taints nothing
            self._tainted.clear()
            self._outsiders.clear()
            self._tainted_mask = 0
        for recipients, mask in self._sealed_to.items() if again or left else ():
            if not recipients <= self._members and (again or recipients & left):
                self._outsiders |= recipients - self._members
                self._taint(tuple(self._epochs[index].key_id for index in bits(mask)))

    def set_removals(self, removals: int) -> None:
        """Kept entries with removals that count."""
        if removals == self._removals:
            return
        new, gone = removals & ~self._removals, self._removals & ~removals
        self._removals = removals
        self._late = 0 if new else self._late
        # Only what came after a removal can have it in its past, and removals are nearly always the newest of all.
        first = 0 if gone or not new else (new & -new).bit_length() - 1
        for index in bits(self._all >> first << first):
            if not removals & ~self._covered_by(index):
                self._late |= 1 << index
        self._view = None

    # --- what follows ---------------------------------------------------------------------------------------------

    def _current(self) -> _View:
        view = self._view
        if view is None:
            usable = self._usable()
            view = self._view = _View(usable, 0, [], 0)
            for index in tops(usable, self._covered_by):
                view.maximal |= 1 << index
                epoch = self._epochs[index]
                heapq.heappush(view.queue, (epoch.recipients != self._members, epoch.key_id, index))
            for index in tops(usable & self._sealed_to.get(self._members, 0), self._covered_by):
                view.reached |= self._reach(index)
        return view

    def write_key(self) -> KeyId | None:
        """E3: the key of the usable epoch that is causally maximal; among those of one that is for exactly the members
        of now, then the lowest key id. None when there is no usable epoch."""
        view = self._current()
        while view.queue and not view.maximal >> view.queue[0][2] & 1:
            heapq.heappop(view.queue)
        return view.queue[0][1] if view.queue else None

    def needs_repair(self) -> bool:
        """E4, E6: no usable epoch is for exactly the members, or some epoch is neither sealed to all of them nor
        reached from such an epoch. A re-seal is neither: what its key opens is reached through the key's epoch."""
        view = self._current()
        if self._wide is None:
            self._wide = 0
            for recipients, mask in self._sealed_to.items():
                if recipients >= self._members:
                    self._wide |= mask
        return not view.reached or bool(self._all & ~self._reseals & ~view.reached & ~self._wide)

    def parent_keys(self) -> tuple[KeyId, ...]:
        """Key ids whose keys the body of an epoch made now must carry, so that every epoch so far is reached.

        Usually one. At most EPOCH_PARENTS_MAX: if more concurrent epochs were out of reach of each other, this epoch
        will be invalid and the next one, which has this one among its parents, takes the rest.
        """
        named: dict[KeyId, None] = {}
        for index in tops(self._all & ~self._reseals, self._reach):
            named[self._epochs[index].key_id] = None
            if len(named) >= EPOCH_PARENTS_MAX:
                break
        return tuple(named)

    # --- snapshots ------------------------------------------------------------------------------------------------

    def snapshot(self) -> list[Any]:
        """Plain data for the codec: what was judged, with no key in it."""
        table = {devices: number for number, devices in enumerate(self._sealed_to)}
        rows = [
            [index, epoch.key_id, table[epoch.recipients], list(epoch.parents), epoch.valid, epoch.reseals, epoch.reach]
            for index, epoch in self._epochs.items()
        ]
        return [[sorted(devices) for devices in table], rows]

    def restore(self, data: list[Any], kept: list[tuple[Position, DeviceId]]) -> None:
        """``kept``: position and author of the kept entries."""
        table, rows = data
        sets = [frozenset(DeviceId(device) for device in devices) for devices in table]
        for index, key_id, number, parents, valid, reseals, reach in rows:
            keys = tuple(map(KeyId, parents))
            position, author = kept[index]
            self.put(index, Epoch(position, author, KeyId(key_id), sets[number], keys, valid, reseals, reach))
