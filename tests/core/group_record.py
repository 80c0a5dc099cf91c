"""A record of entries with their causal past written out as sets: the plain oracle beside ``core.groups``.

Each entry knows every entry in its past, so ``covers`` is a set look-up, and who is a member in some past can be told
by the rules read aloud, without a mask or a cache.
"""

from __future__ import annotations

import hashlib
import random
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from meshnode.core.epochs import EpochBody, key_id
from meshnode.core.groups import Group, Role, Verdict, add_act, create_act, incident_id
from meshnode.core.ids import DeviceId, IncidentId, KeyId, LogId

Position = tuple[LogId, int]
NONCE = b"nonce-of-16bytes"


def device(name: str) -> DeviceId:
    return DeviceId(hashlib.sha256(name.encode()).digest())


def log_id(author: DeviceId, name: str) -> LogId:
    return LogId(hashlib.sha256(b"log " + author + name.encode()).digest())


def epoch_key(name: str) -> bytes:
    return hashlib.sha256(b"key " + name.encode()).digest()


A, B, C, D, X, OUTSIDER = (device(name) for name in ("A", "B", "C", "D", "X", "outsider"))


def lines(*members: tuple[DeviceId, Role]) -> list[tuple[DeviceId, str, Role]]:
    return [(member, "BE", role) for member, role in members]


def writers(*devices: DeviceId) -> list[tuple[DeviceId, str, Role]]:
    return lines(*((one, Role.WRITER) for one in devices))


@dataclass(frozen=True)
class Item:
    position: Position
    author: DeviceId
    past: frozenset[Position]
    """Strict causal past."""
    acts: tuple[Any, ...]
    body: EpochBody | None
    key_id: KeyId | None
    """The key the entry is sealed under; the epoch's own when it has a body."""
    parents: tuple[Position, ...] = ()


class Record:
    """All entries ever written, by whomever; views are sets of positions closed under the past."""

    def __init__(self, creator: DeviceId = A) -> None:
        self.creator = creator
        self.incident: IncidentId = incident_id(creator, NONCE)
        self.items: dict[Position, Item] = {}
        self.keys: dict[KeyId, bytes] = {}

    def covers(self, entry: Position, ancestor: Position) -> bool:
        return entry in self.items and (entry == ancestor or ancestor in self.items[entry].past)

    def closed(self, positions: Iterable[Position]) -> frozenset[Position]:
        """The positions and all that is in their past."""
        found: set[Position] = set()
        for position in positions:
            found |= self.items[position].past | {position}
        return frozenset(found)

    def write(
        self,
        author: DeviceId,
        parents: Iterable[Position],
        acts: Sequence[Any] = (),
        recipients: Iterable[DeviceId] | None = None,
        key: bytes | None = None,
        carries: Iterable[KeyId] = (),
        under: KeyId | None = None,
        log: str = "",
    ) -> Position:
        """One entry. With ``recipients`` it starts an epoch with ``key``, whose body carries these keys."""
        own = log_id(author, log)
        seq = 1 + sum(position[0] == own for position in self.items)
        before = [(own, seq - 1)] if seq > 1 else []
        body = None
        if recipients is not None:
            assert key is not None
            body = EpochBody(
                tuple((one, 0) for one in sorted(set(recipients))),
                tuple(sorted((identity, self.keys[identity]) for identity in set(carries))),
            )
            under = key_id(key)
            self.keys[under] = key
        position = (own, seq)
        named = tuple(parents)
        past = self.closed([*named, *before])
        self.items[position] = Item(position, author, past, tuple(acts), body, under, named)
        return position

    def create(self, *members: DeviceId, key: str = "first", role: Role = Role.MANAGER) -> Position:
        """The creating entry, with its first epoch."""
        rows = lines((self.creator, Role.MANAGER), *((member, role) for member in members))
        everyone = [self.creator, *members]
        return self.write(self.creator, [], [create_act(NONCE, rows)], everyone, epoch_key(key))

    def add(self, author: DeviceId, parents: Iterable[Position], *added: DeviceId, log: str = "") -> Position:
        return self.write(author, parents, [add_act(writers(*added))], log=log)

    def group(
        self, positions: Iterable[Position] | None = None, make: Callable[..., Group] = Group
    ) -> tuple[Group, dict[Position, list[Verdict]]]:
        """A group that merged these entries in this order (all, as written, when not told)."""
        group = make(self.incident)
        verdicts = {}
        for position in self.items if positions is None else positions:
            verdicts[position] = self.merge(group, position)
        return group, verdicts

    def merge(self, group: Group, position: Position) -> list[Verdict]:
        item = self.items[position]
        return group.merge(position, item.parents, item.author, list(item.acts), item.body, item.key_id)

    def causal_order(self, rng: random.Random) -> list[Position]:
        """Some order in which every entry comes after its past."""
        done: dict[Position, None] = {}
        waiting = list(self.items)
        while waiting:
            ready = [position for position in waiting if all(p in done for p in self.items[position].past)]
            chosen = rng.choice(ready)
            waiting.remove(chosen)
            done[chosen] = None
        return list(done)

    # --- the rules, read aloud ------------------------------------------------------------------------------------

    def roles(self, view: Iterable[Position]) -> dict[DeviceId, Role]:
        """M1, for acts of the known kinds: the members of a view that is closed under the past."""
        chosen = sorted(view, key=lambda position: len(self.items[position].past))
        granted: dict[Position, dict[DeviceId, Role]] = {}
        for position in chosen:
            item = self.items[position]
            roles: dict[DeviceId, Role] = {}
            for earlier in item.past:
                _raise(roles, granted.get(earlier, {}))
            own: dict[DeviceId, Role] = {}
            for act in item.acts:
                known = act[0] in (1, 2)
                creates = known and act[0] == 1 and item.author == self.creator and act[1] == NONCE and not roles
                adds = known and act[0] == 2 and roles.get(item.author) == Role.MANAGER
                if creates or adds:
                    given = {row[0]: Role(row[2]) for row in act[-1]}
                    _raise(own, given)
                    _raise(roles, given)
            granted[position] = own
        total: dict[DeviceId, Role] = {}
        for position in chosen:
            _raise(total, granted[position])
        return total

    def holders(self, view: Iterable[Position], key: KeyId) -> set[DeviceId]:
        """Devices to which this key was sealed, or a key from whose epochs' bodies it can be reached."""
        sources = {key}
        found: set[DeviceId] = set()
        bodies = [(item.key_id, item.body) for item in (self.items[p] for p in view) if item.body is not None]
        growing = True
        while growing:
            growing = False
            for identity, body in bodies:
                if identity in sources:
                    found |= set(body.devices)
                elif sources & set(body.parent_ids):
                    assert identity is not None
                    sources.add(identity)
                    growing = True
        for identity, body in bodies:
            if identity in sources:
                found |= set(body.devices)
        return found


def _raise(roles: dict[DeviceId, Role], given: dict[DeviceId, Role]) -> None:
    for one, role in given.items():
        roles[one] = max(role, roles.get(one, role))
