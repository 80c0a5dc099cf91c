"""Who may read and write an incident, and under which epoch key: a function of the set of merged entries.

**Members** (core/acts.py has the acts):

* M1: an act is valid if its signer held the right in the act's own causal past (acts before it in the same entry
  count). Writing needs a writer or manager. Arrival order and clocks never count: a verdict is final when given.
* M2: the first entry of a log must have a grant of its author in its causal past, or create the incident. Else it is
  never merged, nor is what follows in that log: nobody but members has a place in the graph.
* Rights only grow as yet. Acts of a newer version are void here and counted in ``unknown_acts``; their entry, its
  other acts and its epoch stand. Nobody can stop a group by writing nonsense.

**Epochs** (core/epochs.py has the keys; no key ever comes here, only key ids):

* E1: valid if its recipients equal the member devices in its causal past, its own entry's acts included, and its
  author may write there.
* E8: a key id that an epoch in its past already has starts nothing. Sealed to members, such an entry is a **re-seal**:
  it gives the key again to devices that could not open it (core/reseal.py). Else it is invalid.
* E10: valid only if every epoch in its causal past is reached through the parent keys it carries.
* E2: usable if valid, its author still a member, and every known holder of its key a member. Holders of a key are the
  recipients of any epoch, valid or not, from whose body that key can be reached.
* E3: write under the usable epoch that is causally maximal; among those rather one whose recipients are the members of
  now (decision 0072), then the lowest key id. Never by time.
* E4, E6: repair is needed while no usable epoch is for exactly the members, or while some epoch is neither sealed to
  all members nor reached from such an epoch.

A member that cannot open the key of what others write **asks** for it (core/acts.py). That changes nothing here: who
has asked, and what was sealed again to whom, is told to those who answer.

Only entries with a valid act or an epoch are kept. Every entry has its causal past as a mask over the kept ones
(core/pasts.py), and core/lineage.py answers what follows for the epochs, so that an entry costs its own size however
many came before it.

Removals will add acts and a cut; grants and epochs therefore stay separate records that a later rule can void. What
rests on "rights only grow": the masks of members and writers here, and in core/lineage.py that a valid epoch's author
is a member.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

from meshnode.core.acts import (
    MEMBERS_MAX,
    NONCE_BYTES,
    Asked,
    Grant,
    Role,
    Standings,
    add_act,
    ask_act,
    create_act,
    fold,
    incident_id,
    judge_act,
    seniority,
)
from meshnode.core.epochs import EPOCH_PARENTS_MAX, EpochBody
from meshnode.core.ids import DeviceId, IncidentId, KeyId, LogId
from meshnode.core.lineage import Epoch, Lineage
from meshnode.core.pasts import Pasts, Position, bits, tops
from meshnode.errors import LocalFaultError

__all__ = ["NONCE_BYTES", "Group", "Member", "Role", "Verdict", "add_act", "ask_act", "create_act", "incident_id"]

RULES_VERSION = 3
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
    "act-not-entitled": "its author had no right to it in the act's own causal past",
    "act-wrong-handle": "the incident was not created by this author",
    "act-created-again": "the incident had been created before",
    "act-group-too-large": f"more than {MEMBERS_MAX} member devices",
    "epoch-not-entitled": "its author could not write in the epoch's own causal past",
    "epoch-wrong-recipients": "its recipients are not the members in its causal past",
    "epoch-key-reused": "its key id had been used before, and it is sealed to an outsider",
    "epoch-past-unreachable": "its parent keys do not lead to every epoch in its causal past",
}


@dataclass(frozen=True, slots=True)
class _Kept:
    position: Position
    author: DeviceId
    grants: tuple[Grant, ...]


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
        self._standings: Standings = {}
        self._standings_at: dict[int, Standings] = {}
        """By the mask of granting entries in a past that has not all of them."""
        self._member_grants: dict[DeviceId, int] = {}
        """Entries that make a device a member."""
        self._writer_grants: dict[DeviceId, int] = {}
        """Entries that make a device a writer or more."""
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
        """One verdict per act, then one for the epoch. ``parents`` are those in other logs, merged before."""
        if not acts and epoch is None:
            self._pasts.pass_on(position, parents)
            return []
        past = self._pasts.union(position, parents)
        standings = self._standings_in(past)
        verdicts: list[Verdict] = []
        grants: list[Grant] = []
        if acts:
            standings = dict(standings)
        for index, act in enumerate(acts):
            judged = judge_act(act, author, self._incident, position, standings)
            if isinstance(judged, str):
                verdicts.append(Verdict(index, judged))
                self.unknown_acts += judged == "act-unknown" and author in standings
                continue
            verdicts.append(Verdict(index, ""))
            if isinstance(judged, Asked):
                self._note_ask(Ask(author, position, *judged))
                continue
            for grant in judged:
                fold(standings, grant)
            grants.extend(judged)
        code = ""
        if epoch is not None:
            if key_id is None:
                raise ValueError("an epoch has a key id")
            code = self._judge_epoch(author, past, standings, epoch, key_id)
            verdicts.append(Verdict(None, code))
        if not grants and epoch is None:
            self._pasts.add(position, past)
            return verdicts
        index = self._keep(position, author, past, tuple(grants))
        if epoch is not None and key_id is not None:
            reseals = not code and bool(self.lineage.starts(key_id) & past)
            valid = not code and not reseals
            self.lineage.add(index, position, past, epoch, key_id, valid=valid, reseals=reseals)
        return verdicts

    def _standings_in(self, past: int) -> Standings:
        """Not to be changed by the caller."""
        granting = past & self._granting
        if granting == self._granting:
            return self._standings
        found = self._standings_at.get(granting)
        if found is None:
            # From the largest that is known for a part of this past: a chain of acts is folded once, not once per act.
            known = max((mask for mask in self._standings_at if not mask & ~granting), default=0, key=int.bit_count)
            found = dict(self._standings_at.get(known, {}))
            for index in bits(granting & ~known):
                for grant in self._kept[index].grants:
                    fold(found, grant)
            self._remember(granting, found)
        return found

    def _remember(self, granting: int, standings: Standings) -> None:
        if len(self._standings_at) >= STANDINGS_KEPT:
            del self._standings_at[next(iter(self._standings_at))]
        self._standings_at[granting] = standings

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

    def _keep(self, position: Position, author: DeviceId, past: int, grants: tuple[Grant, ...]) -> int:
        index = len(self._kept)
        self._pasts.add(position, past | 1 << index)
        self._put(index, _Kept(position, author, grants))
        return index

    def _put(self, index: int, kept: _Kept) -> None:
        self._kept.append(kept)
        self._all |= 1 << index
        if kept.grants:
            self._remember(self._granting, dict(self._standings))
            self._granting |= 1 << index
        for grant in kept.grants:
            fold(self._standings, grant)
            self._member_grants[grant.device] = self._member_grants.get(grant.device, 0) | 1 << index
            if grant.role >= Role.WRITER:
                self._writer_grants[grant.device] = self._writer_grants.get(grant.device, 0) | 1 << index
        if kept.grants:
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
        return bool(self._pasts.at(position) & self._writer_grants.get(device, 0))

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
        grants = self._member_grants.get(device, 0)
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
        return [(self._kept[index].author, epoch) for index, epoch in self.lineage.reseals_to(device)]

    # --- snapshots ------------------------------------------------------------------------------------------------

    def snapshot(self) -> list[Any]:
        """Plain data for the codec: what was judged, with no key in it."""
        kept = [
            [*kept.position, kept.author, [[g.depth, g.order, g.device, g.noc, int(g.role)] for g in kept.grants]]
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
        for index, (log, seq, author, grant_rows) in enumerate(kept):
            grants = tuple(
                Grant(depth, order, LogId(log), seq, DeviceId(device), noc, Role(role), DeviceId(author))
                for depth, order, device, noc, role in grant_rows
            )
            group._put(index, _Kept((LogId(log), seq), DeviceId(author), grants))
        group.lineage.restore(lineage, [kept.position for kept in group._kept])
        for log, seq, device, attempt, keys in asks:
            group._note_ask(Ask(DeviceId(device), (LogId(log), seq), attempt, frozenset(map(KeyId, keys))))
        return group
