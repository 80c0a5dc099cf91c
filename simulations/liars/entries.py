"""What a lying member signs: two histories of one log, floods, wrong clocks, forged parents, acts without a right."""

from __future__ import annotations

from meshnode.core import acts, entry
from meshnode.core.entry import Opening
from meshnode.core.events import Now
from meshnode.core.groups import Role
from meshnode.core.ids import EntryHash, KeyId
from simulations.liars.forging import ForgedLog
from simulations.liars.mind import CannotTellError, LyingNode, Mind
from simulations.liars.ring import ACTS, STANDS, UNMERGED, VOID
from simulations.liars.telling import Telling
from simulations.scenario.plan import Lie

HIDDEN_S = (5.0, 60.0)
"""How long an accomplice keeps a branch to itself."""
FAR_FUTURE_MS = (1 << 53) - 1
"""The largest time an entry may carry: some 285,000 years after 1970."""


def equivocate(node: LyingNode, mind: Mind, lie: Lie, now: Now) -> None:
    """B1. The branches part behind a common entry; one may be longer, so that heights differ too."""
    telling = Telling(node, mind, lie, now)
    links = telling.links(least=2)
    one, other = _branches(telling)
    half = telling.rng.randrange(1, len(links))
    telling.hand(one, links[:half])
    telling.hand(other, links[half:])


def hide_branch(node: LyingNode, mind: Mind, lie: Lie, now: Now) -> None:
    """B2. Everybody gets one branch; the accomplice shows the other when others have built on the first."""
    telling = Telling(node, mind, lie, now)
    links = telling.links()
    one, other = _branches(telling)
    telling.hand(one, links)
    hidden = other.run()
    due_s = now.monotonic_s + telling.rng.uniform(*HIDDEN_S)
    accomplice = mind.ring.minds[lie.accomplice]
    data = telling.note(hidden, other.entries)
    for _, name in links:
        accomplice.run_errand(due_s, name, data)
    mind.ring.wake(lie.accomplice)


def _branches(telling: Telling) -> tuple[ForgedLog, ForgedLog]:
    one = telling.log(telling.replica())
    telling.record(one, STANDS)
    other = one.branch()
    telling.record(one, STANDS)
    telling.title(other, STANDS)
    for _ in range(telling.rng.randrange(3)):
        telling.record(other, STANDS)
    return one, other


def flood_valid(node: LyingNode, mind: Mind, lie: Lie, now: Now) -> None:
    """B4. One seal for each entry: the dearest form that is allowed."""
    telling = Telling(node, mind, lie, now)
    links = telling.links()[:1]
    log = telling.log(telling.replica())
    for _ in range(telling.count):
        telling.hand(log, links, [telling.record(log, STANDS)])


def back_date(node: LyingNode, mind: Mind, lie: Lie, now: Now) -> None:
    _with_clock(Telling(node, mind, lie, now), 0)


def future_date(node: LyingNode, mind: Mind, lie: Lie, now: Now) -> None:
    _with_clock(Telling(node, mind, lie, now), FAR_FUTURE_MS)


def _with_clock(telling: Telling, time_ms: int) -> None:
    """B6, B7. A value beside those that stand, and a record: neither may end or hide what others wrote."""
    links = telling.links()
    log = telling.log(telling.replica())
    telling.title(log, STANDS, time_ms=time_ms)
    telling.record(log, STANDS, time_ms=time_ms)
    telling.hand(log, links)


def forge_parents(node: LyingNode, mind: Mind, lie: Lie, now: Now) -> None:
    """B8."""
    telling = Telling(node, mind, lie, now)
    links = telling.links()
    log = telling.log(telling.replica())
    telling.rng.choice((_dangling, _too_many, _doubled, _unseen))(telling, log)
    telling.hand(log, links)


def _dangling(telling: Telling, log: ForgedLog) -> None:
    names = telling.rng.randrange(1, entry.PARENTS_MAX + 1)
    parents = tuple(EntryHash(telling.rng.randbytes(32)) for _ in range(names))
    telling.record(log, UNMERGED, parents=parents)
    telling.record(log, UNMERGED)


def _too_many(telling: Telling, log: ForgedLog) -> None:
    parents = tuple(EntryHash(telling.rng.randbytes(32)) for _ in range(1_000))
    telling.record(log, UNMERGED, parents=parents)


def _doubled(telling: Telling, log: ForgedLog) -> None:
    head = log.heads()[0]
    telling.record(log, UNMERGED, parents=(head, head))


def _unseen(telling: Telling, log: ForgedLog) -> None:
    """Ends the newest values of others, and names no parent from which it could know them."""
    replica, device = log.replica, telling.node.identity.device
    starts = replica.group.epoch_starts(log.key_id)[:1]
    known = (*replica.group.added(device, starts), *starts)
    unseen = [
        dot
        for dot in telling.titles(replica)
        if not any(replica.graph.covers(position, (dot.log, dot.seq)) for position in known)
    ]
    if not unseen:
        raise CannotTellError("everything that stands was there before the epoch")
    parents = tuple(replica.hash_at(*position) for position in known)
    telling.title(log, VOID, unseen, parents=parents)


def overstep(node: LyingNode, mind: Mind, lie: Lie, now: Now) -> None:
    """I5. What nobody may do with a valid signature of its own."""
    telling = Telling(node, mind, lie, now)
    links = telling.links()
    log = telling.log(telling.replica())
    telling.rng.choice((_in_the_name_of_another, _before_it_was_added, _own_manager))(telling, log)
    telling.hand(log, links)


def _in_the_name_of_another(telling: Telling, log: ForgedLog) -> None:
    """The certificate of another member, and a signature of its own."""
    members = [member.device for member in log.replica.group.members()]
    roster = telling.node.rollcall.roster
    others = [roster.get(device) for device in members if device != telling.node.identity.device]
    known = [enrolled for enrolled in others if enrolled is not None]
    if not known:
        raise CannotTellError("no other member is known")
    bundle = telling.rng.choice(known).certificate.bundle
    telling.record(log, UNMERGED, opening=Opening(bundle, log.opening().signature))


def _before_it_was_added(telling: Telling, log: ForgedLog) -> None:
    """In whose past nothing makes the author a member."""
    telling.record(log, UNMERGED, parents=())


def _own_manager(telling: Telling, log: ForgedLog) -> None:
    """Makes an outsider, or all but itself, managers. A manager may add whom it likes: then there is no lie in it."""
    replica, me = log.replica, telling.node.identity.device
    if replica.group.role(me) is Role.MANAGER:
        raise CannotTellError("a manager may add whom it likes")
    roster = telling.node.rollcall.roster
    outsiders = [
        one.certificate
        for noc in roster.nocs()
        for one in roster.devices_of(noc)
        if not replica.group.is_member(one.certificate.device)
    ]
    chosen = telling.rng.choice(outsiders) if outsiders else telling.node.identity.certificate
    act = acts.add_act([(chosen.device, chosen.noc, Role.MANAGER)])
    telling.record(log, ACTS, acts=(act,))


def false_repair(node: LyingNode, mind: Mind, lie: Lie, now: Now) -> None:
    """B16. Asks for keys that it can open, and for some that nobody made: others seal to it again."""
    telling = Telling(node, mind, lie, now)
    links = telling.links()
    log = telling.log(telling.replica())
    keys = sorted(log.replica.keys)[: acts.ASKED_KEYS_MAX - 1]
    made_up = [KeyId(telling.rng.randbytes(32))]
    attempt = telling.rng.randrange(1, acts.ATTEMPTS_MAX + 1)
    telling.record(log, STANDS, acts=(acts.ask_act(attempt, [*keys, *made_up]),))
    telling.hand(log, links)
