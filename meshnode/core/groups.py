"""Who may read and write an incident, and under which epoch key: a function of the set of merged entries.

**Members** (core/acts.py has the acts):

* M1: an act is valid if its signer held the right in the act's own causal past (acts before it in the same entry
  count). Writing needs a writer or manager. Arrival order and clocks never count: a verdict is final when given.
* M2: the first entry of a log must have a grant of its author in its causal past, or create the incident. Else it is
  never merged, nor is what follows in that log: nobody but members has a place in the graph.
* M0: acts count only under a key that a valid epoch in their past, or in their own entry, starts. Else one member could
  show another one acts that nobody else can ever read, and the two would disagree for good.
* M3 to M6: what removals and lowered roles do to each other and to what was granted is in core/rights.py. An act is
  judged by its own past first and for good; a limit that its author had not seen may void it later.
* Acts of a newer version are void here and counted in ``unknown_acts``; their entry, its other acts and its epoch
  stand. Nobody can stop a group by writing nonsense.

**Epochs** (core/epochs.py has the keys; no key ever comes here, only key ids):

* E1: valid if its recipients equal the member devices in its causal past, its own entry's acts included, and its
  author may write there.
* E8: a key id that an epoch in its past already has starts nothing. Sealed to members, such an entry is a **re-seal**:
  it gives the key again to devices that could not open it (core/reseal.py). Else it is invalid.
* E10: valid only if every epoch in its causal past is reached through the parent keys it carries.
* E2: usable if valid, every removal that counts in its past, and every known holder of its key a member. Holders of a
  key are the recipients of any epoch, valid or not, from whose body that key can be reached; of a valid one its author
  is among them.
* E3: write under the usable epoch that is causally maximal; among those rather one whose recipients are the members of
  now (decision 0072), then the lowest key id. Never by time.
* E4, E6: repair is needed while no usable epoch is for exactly the members, or while some epoch is neither sealed to
  all members nor reached from such an epoch.

A member that cannot open the key of what others write **asks** for it (core/acts.py). That changes nothing here: who
has asked, and what was sealed again to whom, is told to those who answer.

Only entries with a valid act or an epoch are kept. Every entry has its causal past as a mask over the kept ones
(core/pasts.py), and core/lineage.py answers what follows for the epochs, so that an entry costs its own size however
many came before it.

Two questions are answered **as if rights only grew**, so that a verdict once given stands whatever removals come to be
known: whether an act is kept at all, and whether a log may begin (M2).
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, NamedTuple

from meshnode.core.acts import (
    NONCE_BYTES,
    Asked,
    Grant,
    Limit,
    Role,
    Standings,
    add_act,
    ask_act,
    create_act,
    fold,
    incident_id,
    judge_act,
    limit_act,
    seniority,
)
from meshnode.core.epochs import EPOCH_PARENTS_MAX, EpochBody
from meshnode.core.ids import DeviceId, IncidentId, KeyId, LogId
from meshnode.core.lineage import Epoch, Lineage
from meshnode.core.pasts import Pasts, Position, bits, tops
from meshnode.core.rights import Line, Rights
from meshnode.core.verdicts import Verdict
from meshnode.errors import LocalFaultError

__all__ = [
    "NONCE_BYTES",
    "Group",
    "Member",
    "Role",
    "Verdict",
    "add_act",
    "ask_act",
    "create_act",
    "incident_id",
    "limit_act",
]

RULES_VERSION = 4
"""Goes up with every change of a rule here: a snapshot made by other rules is refused and the journal replayed."""


STANDINGS_KEPT = 64
"""Pasts whose standings are remembered. Entries of one time have few different ones: those before each act that is
still under way."""


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
class _Kept:
    position: Position
    author: DeviceId
    grants: dict[int, Grant]
    """By order among the lines of its acts."""
    limits: dict[int, Limit]


class _Heard(NamedTuple):
    """The acts of one entry."""

    said: list[tuple[int, str | range]]
    """Number of the act -> the code of what makes it void, or the orders of its lines."""
    grants: dict[int, Grant]
    limits: dict[int, Limit]
    ever: Standings
    """After them, as if rights only grew."""


@dataclass(frozen=True, slots=True)
class Ask:
    """A member's request for keys that it could not open."""

    device: DeviceId
    position: Position
    attempt: int
    """How often it asks for them; as many different members may answer."""
    keys: frozenset[KeyId]


class Group:
    """The members and epochs of one incident. ``merge`` once per entry, in any order that respects causality."""

    make_lineage: ClassVar[type[Lineage]] = Lineage

    def __init__(self, incident: IncidentId) -> None:
        self._incident = incident
        self._pasts = Pasts()
        self._kept: list[_Kept] = []
        self._all = self._granting = 0
        self._ever: Standings = {}
        """As if rights only grew."""
        self._ever_at: dict[int, Standings] = {}
        """The same by the mask of granting entries in a past that has not all of them."""
        self._standings: Standings = self._ever
        """Of now."""
        self._member_grants: dict[DeviceId, int] = {}
        """Entries that make a device a member, as if rights only grew."""
        self._writer_grants: dict[DeviceId, int] = {}
        """Entries that make a device a writer or more, as if rights only grew."""
        self.rights = Rights(lambda index: self._pasts.at(self._kept[index].position))
        self.lineage = self.make_lineage(self._pasts)
        self._asks: dict[tuple[DeviceId, LogId], Ask] = {}
        """The latest of each log."""
        self._asks_new: dict[tuple[DeviceId, LogId], None] = {}
        self.unknown_acts = 0
        """Acts by members that only a newer version understands. Above zero, this node should be upgraded."""

    # --- merging --------------------------------------------------------------------------------------------------

    def merge(
        self,
        position: Position,
        parents: Iterable[Position],
        author: DeviceId,
        acts: Sequence[Any],
        epoch: EpochBody | None,
        key_id: KeyId | None,
    ) -> list[Verdict]:
        """One verdict per act, then one for the epoch. ``parents`` are those in other logs, merged before; ``key_id``
        is the key that the entry is sealed under."""
        if not acts and epoch is None:
            self._pasts.pass_on(position, parents)
            return []
        past = self._pasts.union(position, parents)
        heard = self._hear(position, author, acts, dict(self._ever_in(past)) if acts else self._ever_in(past))
        if not heard.grants and not heard.limits and epoch is None:
            self._pasts.add(position, past)
            return [Verdict(number, code) for number, code in heard.said if isinstance(code, str)]
        index = self._keep(position, past, author)
        lines = self.rights.enter(index, position, author, heard.grants, heard.limits)
        code = ""
        if epoch is not None:
            if key_id is None:
                raise ValueError("an epoch has a key id")
            standings = self.rights.standings_in_past(past, lines) if self.rights.active else heard.ever
            code = self._judge_epoch(author, past, standings, epoch, key_id)
        if code or (epoch is None and key_id is not None and not self.lineage.is_started(key_id, past)):
            self.rights.forget(lines)
            for line in lines:
                line.code = "act-under-wrong-key"
            heard.grants.clear()
            heard.limits.clear()
        self._put(index, _Kept(position, author, heard.grants, heard.limits), lines)
        verdicts = [
            Verdict(number, found if isinstance(found, str) else _code_of(lines, found)) for number, found in heard.said
        ]
        if epoch is not None and key_id is not None:
            verdicts.append(Verdict(None, code))
            reseals = not code and bool(self.lineage.starts(key_id) & past)
            valid = not code and not reseals
            self.lineage.add(index, position, past, epoch, key_id, author, valid=valid, reseals=reseals)
        return verdicts

    def _hear(self, position: Position, author: DeviceId, acts: Sequence[Any], ever: Standings) -> _Heard:
        """The acts of an entry, judged as if rights only grew; their grants are folded into ``ever``."""
        heard = _Heard([], {}, {}, ever)
        for number, act in enumerate(acts):
            judged = judge_act(act, author, self._incident, position, ever)
            if isinstance(judged, str):
                heard.said.append((number, judged))
                self.unknown_acts += judged == "act-unknown" and author in ever
            elif isinstance(judged, Asked):
                heard.said.append((number, ""))
                self._note_ask(Ask(author, position, *judged))
            else:
                first = len(heard.grants) + len(heard.limits)
                heard.said.append((number, range(first, first + len(judged))))
                lines: Sequence[Grant | Limit] = judged
                for order, line in enumerate(lines, first):
                    if isinstance(line, Grant):
                        heard.grants[order] = line
                        fold(ever, line)
                    else:
                        heard.limits[order] = line
        return heard

    def _ever_in(self, past: int) -> Standings:
        """As if rights only grew. Not to be changed by the caller."""
        granting = past & self._granting
        if granting == self._granting:
            return self._ever
        found = self._ever_at.get(granting)
        if found is None:
            # From the largest that is known for a part of this past: a chain of acts is folded once, not once per act.
            known = max((mask for mask in self._ever_at if not mask & ~granting), default=0, key=int.bit_count)
            found = dict(self._ever_at.get(known, {}))
            for index in bits(granting & ~known):
                for grant in self._kept[index].grants.values():
                    fold(found, grant)
            self._remember(granting, found)
        return found

    def _remember(self, granting: int, standings: Standings) -> None:
        if len(self._ever_at) >= STANDINGS_KEPT:
            del self._ever_at[next(iter(self._ever_at))]
        self._ever_at[granting] = standings

    def _judge_epoch(self, author: DeviceId, past: int, standings: Standings, body: EpochBody, key_id: KeyId) -> str:
        """The code of what makes an epoch or re-seal invalid, empty when it is valid."""
        standing = standings.get(author)
        if standing is None:
            return "epoch-not-entitled"
        if self.lineage.starts(key_id) & past:  # any member may give members what they may have anyway
            return "" if all(device in standings for device in body.devices) else "epoch-key-reused"
        if standing.role < Role.WRITER:
            return "epoch-not-entitled"
        if not self._are_recipients_right(body.devices, standings):
            return "epoch-wrong-recipients"
        if not self.lineage.leads_back(past, body, key_id):
            return "epoch-past-unreachable"
        return ""

    def _are_recipients_right(self, devices: Sequence[DeviceId], standings: Standings) -> bool:
        """E1. ``devices`` are distinct (core/epochs.py)."""
        return len(devices) == len(standings) and all(device in standings for device in devices)

    def _keep(self, position: Position, past: int, author: DeviceId) -> int:
        index = len(self._kept)
        self._pasts.add(position, past | 1 << index)
        self._kept.append(_Kept(position, author, {}, {}))
        return index

    def _put(self, index: int, kept: _Kept, lines: list[Line]) -> None:
        self._kept[index] = kept
        self._all |= 1 << index
        if kept.grants:
            self._remember(self._granting, dict(self._ever))
            self._granting |= 1 << index
        for grant in kept.grants.values():
            fold(self._ever, grant)
            self._member_grants[grant.device] = self._member_grants.get(grant.device, 0) | 1 << index
            if grant.role >= Role.WRITER:
                self._writer_grants[grant.device] = self._writer_grants.get(grant.device, 0) | 1 << index
        if not kept.grants and not kept.limits:
            return
        self.rights.take(lines)
        if self.rights.active:
            self._standings = self.rights.standings()
            self.lineage.set_removals(self.rights.removals())
        self.lineage.set_members(self._standings.keys())

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

        Asked after the entry was merged.
        """
        past = self._pasts.at(position)
        if not self.rights.active:
            return bool(past & self._writer_grants.get(device, 0))
        return self.rights.role(device, past) >= Role.WRITER

    def may_open(self, device: DeviceId, position: Position, parents: Iterable[Position], acts: Sequence[Any]) -> bool:
        """M2, asked before the first entry of a log is merged: is its author a member in its causal past, or does it
        create the incident? No other act of its own can make it one."""
        if self._member_grants.get(device, 0) & self._pasts.union(position, parents):
            return True
        return any(isinstance(judge_act(act, device, self._incident, position, {}), list) for act in acts)

    def added(self, device: DeviceId, before: Iterable[Position]) -> tuple[Position, ...]:
        """What the first entry of a log by this device must name besides these: the entry that made it a member. None
        when they lead to one, and for a device that is no member."""
        standing = self._standings.get(device)
        grants = self.rights.granting(device) if self.rights.active else self._member_grants.get(device, 0)
        if standing is None or any(self._pasts.at(position) & grants for position in before):
            return ()
        return ((standing.grant.log, standing.grant.seq),)

    def holders(self, key_id: KeyId) -> frozenset[DeviceId]:
        """Devices that an epoch with this key was sealed to. For the key of now that is everybody who holds it."""
        return self.lineage.holders(key_id)

    def rank(self, me: DeviceId) -> int:
        """Place in line for making a new epoch, by seniority among those who may; behind them all for others."""
        able = [member.device for member in self.members() if member.role >= Role.WRITER]
        return able.index(me) if me in able else len(able)

    # --- epochs ---------------------------------------------------------------------------------------------------

    def write_key(self) -> KeyId | None:
        """E3: the epoch key to write under now, None when there is no usable epoch."""
        return self.lineage.write_key()

    def repair_needed(self, me: DeviceId) -> bool:
        """E4, E6: should ``me`` make a new epoch (after its rank's delay), in an entry that covers :meth:`heads`?"""
        role = self.role(me)
        return role is not None and role >= Role.WRITER and self.lineage.needs_repair()

    def parent_keys(self) -> tuple[KeyId, ...]:
        """See :meth:`Lineage.parent_keys`."""
        return self.lineage.parent_keys()

    def heads(self) -> tuple[Position, ...]:
        """The act- and epoch-bearing entries that no other such entry covers: a new epoch's entry must cover them."""
        covered_by = [self._kept[index].position for index in tops(self._all, self._covered_by)]
        return tuple(covered_by[::-1])

    def _covered_by(self, index: int) -> int:
        return self._pasts.at(self._kept[index].position)

    def key_started(self, key_id: KeyId, before: Sequence[Position]) -> bool:
        """Does some entry in ``before``, or in its causal past, start an epoch with this key?

        An entry that uses a key without having seen the epoch that starts it could be read by some members and, for
        want of an epoch in the graph that leads to its key, never by a late one. Nobody merges such an entry.
        ``before`` are the entry before it in its log and the parents it names.
        """
        starts = self.lineage.starts(key_id)
        return any(self._pasts.at(head) & starts for head in before)

    def epoch_starts(self, key_id: KeyId) -> tuple[Position, ...]:
        """The merged entries that start an epoch with this key; one, unless somebody reused it."""
        return self.lineage.positions(key_id)

    def keys_behind(self, key_id: KeyId) -> tuple[KeyId, ...]:
        """What the body of a re-seal of this key carries: who gets it reaches every epoch so far from it alone."""
        found = dict.fromkeys((*self.lineage.parents(key_id), *self.lineage.parent_keys()))
        found.pop(key_id, None)
        return tuple(found)[:EPOCH_PARENTS_MAX]

    # --- keys asked for again -------------------------------------------------------------------------------------

    def _note_ask(self, ask: Ask) -> None:
        self._asks[ask.device, ask.position[0]] = ask
        self._asks_new[ask.device, ask.position[0]] = None

    def take_asks(self) -> list[Ask]:
        """What members asked for, the latest of each log: those that came since the last call."""
        asks = [self._asks[key] for key in self._asks_new]
        self._asks_new.clear()
        return asks

    def reseals_to(self, device: DeviceId) -> list[tuple[DeviceId, Epoch]]:
        """(author, re-seal) for this device, in the order in which they were merged."""
        return [(epoch.author, epoch) for _, epoch in self.lineage.reseals_to(device)]

    # --- snapshots ------------------------------------------------------------------------------------------------

    def snapshot(self) -> list[Any]:
        """Plain data for the codec: what was judged, with no key in it."""
        kept = [
            [
                *kept.position,
                kept.author,
                [[order, g.depth, g.order, g.device, g.noc, int(g.role)] for order, g in kept.grants.items()],
                [[order, limit.device, limit.role, limit.reason] for order, limit in kept.limits.items()],
            ]
            for kept in self._kept
        ]
        asks = [[*ask.position, ask.device, ask.attempt, sorted(ask.keys)] for ask in self._asks.values()]
        return [RULES_VERSION, self.unknown_acts, self._pasts.snapshot(), kept, self.lineage.snapshot(), asks]

    @classmethod
    def restore(cls, data: list[Any], incident: IncidentId) -> Group:
        """The group of a snapshot. Raises LocalFaultError ``snapshot-other-rules`` when other rules made it."""
        if data[0] != RULES_VERSION:
            raise LocalFaultError(
                "snapshot-other-rules",
                f"a snapshot was made by membership rules {data[0]}, these are {RULES_VERSION}",
                "the journal is replayed instead",
            )
        group = cls(incident)
        _, group.unknown_acts, pasts, kept, lineage, asks = data
        group._pasts = Pasts.restore(pasts)
        group.lineage = group.make_lineage(group._pasts)
        group._kept = [_kept(*row) for row in kept]
        for index, row in enumerate(group._kept):
            lines = group.rights.enter(index, row.position, row.author, row.grants, row.limits)
            group._put(index, row, lines)
        group.lineage.restore(lineage, [(kept.position, kept.author) for kept in group._kept])
        for log, seq, device, attempt, keys in asks:
            group._note_ask(Ask(DeviceId(device), (LogId(log), seq), attempt, frozenset(map(KeyId, keys))))
        return group


def _code_of(lines: Sequence[Line], orders: Sequence[int]) -> str:
    """Of an act: the first of its lines that is right speaks for it, else the first."""
    codes = [line.code for line in lines if line.order in orders]
    return "" if "" in codes else codes[0]


def _kept(log: bytes, seq: int, author: bytes, grants: list[Any], limits: list[Any]) -> _Kept:
    position, by = (LogId(log), seq), DeviceId(author)
    return _Kept(
        position,
        by,
        {
            number: Grant(depth, order, *position, DeviceId(device), noc, Role(role), by)
            for number, depth, order, device, noc, role in grants
        },
        {number: Limit(DeviceId(device), role, reason) for number, device, role, reason in limits},
    )
