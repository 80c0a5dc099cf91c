"""Random histories in which members are removed while the mesh is split, with one insider: the model that is searched.

Honest managers add, remove, lower and raise; honest members leave, write and repair. One insider, writer or manager,
does what test_groups_search.py has it do, and forges removals, adds back whom others removed, acts and seals from old
pasts after it was removed, and shows entries to some only. No cryptography: whoever a package is sealed to can open it.

At every honest write
  S1  no device that the writer knows to be no member holds the key, by all packages that are known to it;
  S4  the insider, once the writer knows that it is removed, does not hold the key, by all packages of all the world,
      and neither does any honest device that the writer knows to be removed, by those that honest members made.
  S5  whom the insider added while others removed it is no member;
  S6  the insider alone has removed nobody more senior.
After the last fault
  S3  within three rounds of repair all honest members have one state, and can open all that members wrote.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace

from group_record import NONCE, OUTSIDER, A, B, C, D, Position, X, device, epoch_key
from test_groups_search import BrokenPromise, Mesh, View

from meshnode.core.acts import Role, add_act, create_act, limit_act
from meshnode.core.groups import Group
from meshnode.core.ids import DeviceId, KeyId

E, F = device("E"), device("F")
HONEST = (A, B, C, D, E, F)
STEPS = 40
ROUNDS_MAX = 3
NOCS = {one: f"N{number}" for number, one in enumerate((*HONEST, X, OUTSIDER))}


def row(one: DeviceId, role: Role) -> tuple[DeviceId, str, Role]:
    return one, NOCS[one], role


class RemovalMesh(Mesh):
    """``honest_writes`` counts what was judged."""

    def __init__(self, seed: int, make: Callable[..., Group] = Group) -> None:
        super().__init__(seed, make)
        first = next(iter(self.items))
        rows = [row(one, role) for one, _, role in self.items[first].acts[0][2]]
        self.items[first] = replace(self.items[first], acts=(create_act(NONCE, rows),))
        for one in (A, B):  # again, now that each is of a NOC of its own
            self.honest[one] = View(self, one, make)
            self.honest[one].receive([first])
        view = self.honest[A]
        second = self._epoch_entry(view, [add_act([row(B, Role.MANAGER), row(C, Role.MANAGER)])], {A, B, C, X})
        for one in (B, C):
            self.honest[one].receive([first, second])
        self.writes = self.removed_writes = 0
        self.fallen: set[DeviceId] = set()
        """Honest devices that were removed at some time."""

    # --- honest devices -------------------------------------------------------------------------------------------

    def _epoch_entry(self, view: View, acts: list[object], members: set[DeviceId]) -> Position:
        carries = [identity for identity in view.group.parent_keys() if identity in view.keys]
        position = self.write(view.me, view.merged, acts, members, epoch_key(self.fresh()), carries)
        self.times[position] = self.time()
        view.receive([position])
        return position

    def members_of(self, view: View) -> dict[DeviceId, Role]:
        return {member.device: member.role for member in view.group.members()}

    def honest_epoch(self, view: View, added: list[DeviceId]) -> None:
        members = set(self.members_of(view)) | set(added)
        acts = [add_act([row(one, self.rng.choice([Role.WRITER, Role.MANAGER])) for one in added])] if added else []
        self._epoch_entry(view, list(acts), members)

    def honest_add(self, view: View) -> None:
        if view.group.role(view.me) == Role.MANAGER:
            new = [one for one in HONEST if not view.group.is_member(one)]
            if new:
                self.honest_epoch(view, [self.rng.choice(new)])

    def honest_remove(self, view: View) -> None:
        """Of whoever the rules let it remove; rather of the insider."""
        members = self.members_of(view)
        if members.get(view.me) != Role.MANAGER or view.group.write_key() is None:
            return
        ranked = [member.device for member in view.group.members()]
        targets = [one for one in ranked if ranked.index(one) > ranked.index(view.me)]
        if self.rng.random() < 0.3:
            targets = [one for one in ranked if one != view.me]  # a vote
        said = [one for one in ranked if view.group.rights.votes(one) - {view.me} and one != view.me]
        if said and self.rng.random() < 0.7:
            self.limit(view, self.rng.choice(said), None)
        elif targets:
            target = X if X in targets and self.rng.random() < 0.6 else self.rng.choice(targets)
            lowered = self.rng.choice([None, None, None, Role.WRITER, Role.READER])
            self.limit(view, target, lowered)

    def honest_leave(self, view: View) -> None:
        managers = [one for one, role in self.members_of(view).items() if role == Role.MANAGER]
        if (
            view.group.write_key() is not None
            and view.group.is_member(view.me)
            and (view.me not in managers or len(managers) > 1)
        ):
            self.repair(view)  # nobody else could make the others able to read what was shown to the leaver alone
            self.limit(view, view.me, None)

    def limit(self, view: View, target: DeviceId, role: Role | None) -> None:
        """Under the key of before, so that whom it befalls can read it and stops; then the new key, for who is left."""
        before = set(self.members_of(view))
        position = self.write(view.me, view.merged, [limit_act([(target, role)], "")], under=view.group.write_key())
        self.times[position] = self.time()
        view.receive([position])
        after = set(self.members_of(view))
        self.fallen |= before - after - {X}
        if before != after and view.me in after:
            self._epoch_entry(view, [], after)

    def honest_write(self, view: View) -> None:
        role = view.group.role(view.me)
        if role is None or role < Role.WRITER:
            return
        if view.group.write_key() is None:
            self.honest_epoch(view, [])
        key = view.group.write_key()
        if key is None:
            raise BrokenPromise("no usable epoch right after making one")
        self._judge_write(view, key)
        position = self.write(view.me, view.merged, under=key)
        self.times[position] = self.time()
        view.receive([position])

    def _judge_write(self, view: View, key: KeyId) -> None:
        members = set(self.members_of(view))
        self.writes += 1
        if not self.holders(view.merged, key) <= members:
            raise BrokenPromise("S1: an outsider holds the key")
        if X not in members:
            self.removed_writes += 1
            if key in self.insider_keys():
                raise BrokenPromise("S4: the removed insider holds the key")
        back = {one for other in self.honest.values() for one in self.members_of(other)}
        self._judge_members(view, members)
        for one in {one for one in self.fallen - members - back if view.group.rights.limits_on(one)}:
            if one in self.holders([p for p, item in self.items.items() if item.author != X], key):
                raise BrokenPromise("S4: a removed device holds the key")

    def _judge_members(self, view: View, members: set[DeviceId]) -> None:
        known = [self.items[position] for position in view.merged]
        if A not in members and not any(act[0] == 4 and item.author != X for item in known for act in item.acts):
            raise BrokenPromise("S6: the insider alone removed who is more senior")
        removals = [self.items[line.position] for line in view.group.rights.limits_on(X) if not line.limit.role]
        for one in members & {OUTSIDER}:
            adding = [i for i in known if any(act[0] == 2 and one in [r[0] for r in act[1]] for act in i.acts)]
            if removals and not any(all(i.position in r.past for r in removals) for i in adding):
                raise BrokenPromise("S5: whom the insider added after it was removed is a member")

    # --- the insider ----------------------------------------------------------------------------------------------

    def insider_acts(self) -> None:
        """Membership acts from any past it can make up, and epochs that go with them."""
        rng = self.rng
        held = self.insider_keys()
        known = [position for position, item in self.items.items() if item.key_id in held]
        past = self.closed(rng.sample(known, rng.randint(1, len(known))))
        if not past <= set(known):
            return
        target, other = rng.choice([*HONEST, X]), rng.choice([OUTSIDER, X, *HONEST])
        acts = rng.choice(
            [
                [limit_act([(target, None)], "")],
                [limit_act([(one, None) for one in HONEST], "")],
                [add_act([row(X, Role.MANAGER)])],
                [add_act([row(other, Role.MANAGER)])],
                [limit_act([(target, rng.choice([Role.READER, None]))], ""), add_act([row(other, Role.WRITER)])],
            ]
        )
        log = rng.choice(["", f"{len(self.items)}"])
        recipients = rng.choice([None, [X], [X, *rng.sample(HONEST, 3)], [X, *HONEST]])
        if recipients is None:
            position = self.write(X, past, acts, under=rng.choice(sorted(held)), log=log)
        else:
            position = self.write(X, past, acts, recipients, self._low_key(), sorted(held), log=log)
        self.times[position] = rng.choice([0, self.time(), 10**6])
        for view in self.honest.values():
            if rng.random() < 0.6:
                view.receive([*sorted(self.items[position].past, key=list(self.items).index), position])

    # --- the whole ------------------------------------------------------------------------------------------------

    def run(self) -> None:
        for _ in range(STEPS):
            chance = self.rng.random()
            view = self.rng.choice(list(self.honest.values()))
            if chance < 0.3:
                self.spread()
            elif chance < 0.55:
                self.honest_write(view)
            elif chance < 0.65:
                self.honest_add(view)
            elif chance < 0.75:
                self.honest_remove(view)
            elif chance < 0.77:
                self.honest_leave(view)
            elif chance < 0.82:
                self.repair(view)
            elif chance < 0.92:
                self.insider_step()
            else:
                self.insider_acts()
        self.heal()

    def heal(self) -> None:
        for _ in range(ROUNDS_MAX + 1):
            everything = list(dict.fromkeys(p for view in self.honest.values() for p in view.arrived))
            for view in self.honest.values():
                view.receive(everything)
            able = [view for view in self.honest.values() if view.group.repair_needed(view.me)]
            if not able:
                break
            # Of those who see the same members the first in line: who was removed and cannot know it goes on alone.
            first: dict[object, View] = {}
            for view in sorted(able, key=lambda view: view.group.rank(view.me)):
                first.setdefault(view.group.members(), view)
            for view in first.values():
                self.repair(view)
        else:
            raise BrokenPromise(f"S3: still in need of repair after {ROUNDS_MAX} rounds")
        self._all_are_one()

    def _all_are_one(self) -> None:
        """Who was removed cannot know it, and goes on alone: those count as members whom the best informed one names.
        Readers make no epochs, so what the insider shows to one of them alone stays with it."""
        inside = [view for view in self.honest.values() if (view.group.role(view.me) or 0) >= Role.WRITER]
        if not inside:
            return
        best = max(inside, key=lambda view: len(view.merged))
        members = {one for one, role in self.members_of(best).items() if role >= Role.WRITER}
        together = [view for view in self.honest.values() if view.me in members]
        for view in together:
            if set(view.merged) != set(best.merged):
                raise BrokenPromise("S3: a member cannot merge what another did")
            if (view.group.members(), view.group.write_key()) != (best.group.members(), best.group.write_key()):
                raise BrokenPromise("S3: two members disagree")
        for view in together:
            self.honest_write(view)


def broken_promises(seeds: range, make: Callable[..., Group] = Group) -> Iterator[str]:
    """What broke in each history where something did, with the seed that shows it again."""
    for seed in seeds:
        try:
            RemovalMesh(seed, make).run()
        except BrokenPromise as broken:
            yield f"{broken} (seed {seed})"
