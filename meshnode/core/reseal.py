"""Getting back in: who must ask for a key that it cannot open, and whose turn it is to seal it again.

An epoch may list a member and hold no box for it, or one with another key; a member may have lost its prekeys, or been
away for longer than they live. Only the victim can see it: others write under a key that it does not have, and its
record stands still. It then **asks**, by an act in an entry under the last key it has: so only members learn that it is
locked out, the request is authentic, and it spreads, waits in relays and crosses partitions as entries do. A member
that holds an asked key answers with a **re-seal** (core/groups.py): the key of now, sealed to the newest prekey of the
asking device, with the keys that lead back from it. To the victim it is a package like any other.

* Asked is for keys under which a log of another member cannot go on, or that bar the way to what it names; seen twice,
  ASK_AFTER_S apart. Anybody can name keys that nobody has started, as many as it likes, with whatever ids it likes. So
  the pace is **for each device whose logs wait**: after it was asked for its sake in vain, ASK_INTERVAL_S, twice that,
  and so on; and the keys of one ask are taken from those devices in turn, of each first what was asked for least. An
  honest member waits for no junk: it could open what it wrote or named.
* Answers go by rank, as repairs do, and who sees enough of them gives none. Enough is the number of the **attempt**:
  a colluder that answers with junk costs the victim one attempt, not its way back.
* One device is answered in one incident at most once in ANSWER_INTERVAL_S by one node, whatever it asks for.

A member that lost its store has no key to ask under. But a node that is no relay asks each neighbour for the packages
of every incident that it cannot read, whether it is a member or not. A neighbour that reads the record and finds that
it is one lets it in by a re-seal too, if it has not shown a moment later that it found a package that it can open.

When to ask and who answers is each node's own matter: what is merged is the same whether anybody answers or not.
"""

from __future__ import annotations

import random
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import zip_longest
from math import inf

from meshnode.core.acts import ASKED_KEYS_MAX, ATTEMPTS_MAX
from meshnode.core.causal import Position
from meshnode.core.epochs import EpochBody
from meshnode.core.groups import Ask
from meshnode.core.ids import DeviceId, IncidentId, KeyId
from meshnode.core.prekeys import Prekey
from meshnode.core.replica import Replica, Trouble

ASK_AFTER_S = 10.0
"""A key that is missing for so long, and was missing at the look before, does not come by itself."""
ASK_INTERVAL_S = 60.0
ASK_INTERVAL_MAX_S = 3_600.0
ANSWER_STEP_S = 0.25
"""Per rank: usually one member answers."""
ANSWER_INTERVAL_S = 60.0
KEYLESS_AFTER_S = 5.0
"""A package that opens, and the newest prekey of a neighbour, have come by then."""
KEYLESS_INTERVAL_S = 300.0
"""What a neighbour says about having no key counts at most this often: half as often as an honest one says it."""


@dataclass(frozen=True, slots=True)
class AskFor:
    """This node should ask for these keys, for the ``attempt``-th time."""

    incident: IncidentId
    attempt: int
    keys: tuple[KeyId, ...]


@dataclass(frozen=True, slots=True)
class SealAgain:
    """This node should seal the key of now to this device."""

    incident: IncidentId
    device: DeviceId
    asked: tuple[Position, ...]
    """Its ask, which the answer covers; none when it has no key at all."""


@dataclass(slots=True)
class _Keyless:
    """A member at the other end of a link that asked for packages."""

    attempt: int
    answers_before: int
    due_s: float | None
    again_s: float


Missing = Mapping[KeyId, frozenset[DeviceId]]
"""What is missing, and whose logs wait for it."""


@dataclass(frozen=True, slots=True)
class _Pace:
    """Of asking for the sake of one device."""

    again_s: float
    in_vain: int


@dataclass(slots=True)
class _Need:
    look_at: float
    missing: Missing = field(default_factory=dict)
    """At the last look."""
    paces: dict[DeviceId, _Pace] = field(default_factory=dict)
    asked: dict[KeyId, int] = field(default_factory=dict)
    """How often each key that is still missing was asked for."""

    def look(self, missing: Missing, now_s: float) -> None:
        came = [devices for key, devices in self.missing.items() if key in self.asked and key not in missing]
        waiting = frozenset().union(*missing.values()).difference(*came)
        self.look_at, self.missing = now_s + ASK_AFTER_S, missing
        self.paces = {device: pace for device, pace in self.paces.items() if device in waiting}
        self.asked = {key: times for key, times in self.asked.items() if key in missing}

    def choose(self, keys: Iterable[KeyId], now_s: float) -> list[KeyId]:
        """At most ASKED_KEYS_MAX of these, from the devices whose turn it is, those that waited longest first."""
        never = _Pace(-inf, 0)
        queues: dict[DeviceId, list[KeyId]] = {}
        for key in sorted(keys, key=lambda key: (self.asked.get(key, 0), key)):
            for device in self.missing[key]:
                if self.paces.get(device, never).again_s <= now_s:
                    queues.setdefault(device, []).append(key)
        order = sorted(queues, key=lambda device: (self.paces.get(device, never).again_s, device))
        turns = zip_longest(*(queues[device] for device in order))
        chosen = dict.fromkeys(key for turn in turns for key in turn if key is not None)
        return list(chosen)[:ASKED_KEYS_MAX]

    def on_asked(self, keys: Iterable[KeyId], now_s: float) -> None:
        keys = list(keys)
        for device in frozenset().union(*(self.missing.get(key, frozenset()) for key in keys)):
            in_vain = self.paces[device].in_vain + 1 if device in self.paces else 0
            pause_s = min(ASK_INTERVAL_S * 2**in_vain, ASK_INTERVAL_MAX_S)
            self.paces[device] = _Pace(now_s + pause_s, in_vain)
        for key in keys:
            self.asked[key] = self.asked.get(key, 0) + 1


class Reseals:
    """Times are monotonic seconds."""

    def __init__(self, me: DeviceId, rng: random.Random) -> None:
        self._me = me
        self._rng = rng
        self._needs: dict[IncidentId, _Need] = {}
        self._owed: dict[tuple[IncidentId, DeviceId], tuple[Ask, float]] = {}
        """The last ask of a device, and when to answer it."""
        self._answered: dict[tuple[IncidentId, DeviceId], float] = {}
        self._keyless: dict[tuple[IncidentId, DeviceId], _Keyless] = {}

    def watch(self, replica: Replica, now_s: float) -> None:
        """After something was merged, or could not be."""
        incident = replica.incident
        if replica.held_up and incident not in self._needs:
            self._needs[incident] = _Need(now_s + ASK_AFTER_S)
        for ask in replica.group.take_asks():
            if ask.device == self._me:
                continue
            held = [key for key in ask.keys if key in replica.keys and replica.group.epoch_starts(key)]
            replica.troubles.append(Trouble("key-asked", _who_asked(replica, ask, held), *ask.position))
            if held:
                delay_s = ANSWER_STEP_S * (replica.group.rank(self._me) + self._rng.random())
                earliest_s = self._answered.get((incident, ask.device), now_s - ANSWER_INTERVAL_S) + ANSWER_INTERVAL_S
                self._owed[incident, ask.device] = (ask, max(now_s + delay_s, earliest_s))

    def on_keyless(self, replica: Replica, device: DeviceId, now_s: float) -> None:
        """A linked device asked for the packages of this incident: it holds no key of it."""
        if not replica.keys or not replica.group.is_member(device):
            return
        before = self._keyless.get((replica.incident, device))
        if before is None or now_s >= before.again_s:
            attempt = 1 if before is None else min(before.attempt + 1, ATTEMPTS_MAX)
            delay_s = KEYLESS_AFTER_S + ANSWER_STEP_S * (replica.group.rank(self._me) + self._rng.random())
            answered_s = self._answered.get((replica.incident, device), now_s - ANSWER_INTERVAL_S)
            due_s = max(now_s + delay_s, answered_s + ANSWER_INTERVAL_S)
            answers = len(replica.group.reseals_to(device))
            self._keyless[replica.incident, device] = _Keyless(attempt, answers, due_s, now_s + KEYLESS_INTERVAL_S)

    def on_reads(self, incident: IncidentId, device: DeviceId) -> None:
        """A linked device tells or asks for heights: it holds a key, or needs none. When it said otherwise is kept."""
        keyless = self._keyless.get((incident, device))
        if keyless is not None:
            keyless.attempt, keyless.due_s = 0, None

    def next_deadline(self) -> float | None:
        if not (self._needs or self._owed or self._keyless):
            return None
        times = [need.look_at for need in self._needs.values()] + [due for _, due in self._owed.values()]
        times += [keyless.due_s for keyless in self._keyless.values() if keyless.due_s is not None]
        return min(times, default=None)

    def due(self, replicas: Mapping[IncidentId, Replica], now_s: float) -> list[AskFor | SealAgain]:
        """What time made due, to be written now; what was is told by :meth:`on_done`."""
        found: list[AskFor | SealAgain] = []
        for incident, need in list(self._needs.items()):
            if need.look_at <= now_s:
                ask_for = self._look(replicas[incident], need, now_s)
                found += [ask_for] if ask_for is not None else []
        for (incident, device), (ask, due_s) in list(self._owed.items()):
            if due_s <= now_s:
                del self._owed[incident, device]
                if not self._is_answered(replicas[incident], ask):
                    found.append(SealAgain(incident, device, (ask.position,)))
        for (incident, device), keyless in self._keyless.items():
            if keyless.due_s is not None and keyless.due_s <= now_s:
                keyless.due_s = None
                answers = replicas[incident].group.reseals_to(device)[keyless.answers_before :]
                if len({who for who, _ in answers}) < keyless.attempt:
                    found.append(SealAgain(incident, device, ()))
        return found

    def _look(self, replica: Replica, need: _Need, now_s: float) -> AskFor | None:
        before, missing = need.missing, replica.missing_keys(self._me)
        if not replica.held_up:
            del self._needs[replica.incident]
            return None
        need.look(missing, now_s)
        chosen = need.choose(before.keys() & missing.keys(), now_s)
        if not chosen:
            return None
        attempt = min(max(need.asked.get(key, 0) for key in chosen) + 1, ATTEMPTS_MAX)
        return AskFor(replica.incident, attempt, tuple(sorted(chosen)))

    def on_done(self, due: AskFor | SealAgain, now_s: float) -> tuple[str, str]:
        """It was written. Code and reason for the operator."""
        if isinstance(due, SealAgain):
            self._answered[due.incident, due.device] = now_s
            return (
                "key-resealed",
                f"the key was sealed again to device {due.device.hex()[:8]}, which had asked for it",
            )
        self._needs[due.incident].on_asked(due.keys, now_s)
        return "key-missing", "others write under a key that this node cannot open; it asked for it"

    def _is_answered(self, replica: Replica, ask: Ask) -> bool:
        """By others, often enough; by this node; or has the asking device shown that it reads what it asked for?"""
        covers = replica.graph.covers
        answers = {who for who, made in replica.group.reseals_to(ask.device) if covers(made.position, ask.position)}
        if self._me in answers or len(answers) >= ask.attempt:
            return True
        log, _ = ask.position
        head = (log, replica.graph.height(log))
        starts = [start for key in ask.keys for start in replica.group.epoch_starts(key)]
        return all(covers(head, start) for start in starts)


def seal_again(replica: Replica, recipients: Sequence[Prekey], key_id: KeyId) -> EpochBody:
    """The body of a re-seal: the keys that lead back, as far as they are held."""
    behind = [replica.keys[key] for key in replica.group.keys_behind(key_id) if key in replica.keys]
    return EpochBody.make(recipients, behind)


def _who_asked(replica: Replica, ask: Ask, held: list[KeyId]) -> str:
    said = f"{_name(replica, ask.position)} cannot open a key that others write under, and asks for it"
    starts = [start for key in held for start in replica.group.epoch_starts(key)]
    return f"{said}; {_name(replica, starts[0])} started it" if starts else said


def _name(replica: Replica, position: Position) -> str:
    writer = replica.writer(position[0])
    return f"{writer.noc}/{writer.name}" if writer is not None else "somebody"
