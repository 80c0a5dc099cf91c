"""Planted defects: small errors put into the core while a plan is performed, to prove that the checkers catch them.

A check that cannot fail is worth nothing. Each row names an error that a developer could make; ``hunt`` runs seeds
until a check finds it. The product knows nothing of this: the core is patched from here, in this process only.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from typing import Any
from unittest.mock import patch

from meshnode.core import archive, codec, prekeys, wire
from meshnode.core.archive import Archive
from meshnode.core.crdt import State
from meshnode.core.epochs import EpochBody
from meshnode.core.events import Event, Now, Step
from meshnode.core.exchange import Exchange
from meshnode.core.facts import FactSum
from meshnode.core.holdings import Holdings
from meshnode.core.ids import Dot, LogId, ObjectId
from meshnode.core.incidents import Incidents
from meshnode.core.keys import SigningKey
from meshnode.core.node import Node
from meshnode.core.operations import Operation, Set
from meshnode.core.outbox import Outbox
from meshnode.core.own_logs import OwnLog, OwnLogs
from meshnode.core.peers import Peers
from meshnode.core.replica import Replica
from meshnode.core.reseal import Reseals
from meshnode.core.sync import Sync
from simulations import runs
from simulations.scenario.draw import draw
from simulations.worlds.protocol import ProtocolWorld
from simulations.worlds.work import MARK_BYTES

Plant = Callable[[], AbstractContextManager[None]]


@dataclass(frozen=True, slots=True)
class Defect:
    meaning: str
    plant: Plant
    caught_by: tuple[str, ...]
    """Invariants, any of which may notice first."""
    scenario: str = "everything-goes-wrong"


DEFECTS: dict[str, Defect] = {}


def _defect(
    name: str, meaning: str, *caught_by: str, scenario: str = "everything-goes-wrong"
) -> Callable[[Callable[[], Iterator[None]]], None]:
    def keep(plant: Callable[[], Iterator[None]]) -> None:
        DEFECTS[name] = Defect(meaning, contextmanager(plant), caught_by, scenario)

    return keep


# --- durability -------------------------------------------------------------------------------------------------------


@_defect("send before commit", "a step does not say that it wants a commit", "I1")
def _send_before_commit() -> Iterator[None]:
    step = Node.step

    def speak(self: Node, events: Sequence[Event], now: Now) -> Step:
        return Step(False, step(self, events, now).effects)

    with patch.object(Node, "step", speak):
        yield


@_defect("forget to stage", "every twentieth own entry is acknowledged and never staged", "I1", "I8")
def _forget_to_stage() -> Iterator[None]:
    stage, calls = Archive.stage, iter(range(1, 1_000_000))

    def forget(self: Archive, batch: Any) -> None:
        if len(batch.entries) == 1 and batch.entries[0].package is None and next(calls) % 20 == 0:
            self.staged = True
            return
        stage(self, batch)

    with patch.object(Archive, "stage", forget):
        yield


@_defect("forget the journal row", "every tenth merged entry gets no journal row", "I3", "I1", "I8", "I9", "I2")
def _forget_journal() -> Iterator[None]:
    note, calls = Archive.note_merged, iter(range(1, 1_000_000))

    def forget(self: Archive, replica: Replica, merged: Any) -> None:
        if next(calls) % 10:
            note(self, replica, merged)

    with patch.object(Archive, "note_merged", forget):
        yield


@_defect("one log for ever", "a restarted node goes on in its old log, from position 1", "I14", "I8", "I9", "I1")
def _one_log() -> Iterator[None]:
    def of(self: OwnLogs, replica: Replica) -> OwnLog:
        if replica.incident not in self._own:
            seed = hashlib.blake2b(self._identity.store_key + replica.incident, digest_size=32).digest()
            key = SigningKey(seed)
            self._own[replica.incident] = OwnLog(key, LogId(key.public))
        return self._own[replica.incident]

    with patch.object(OwnLogs, "of", of):
        yield


# --- merging ----------------------------------------------------------------------------------------------------------


@_defect("last writer wins", "a set replaces every value that is there, seen or not", "I1", "I2")
def _last_writer_wins() -> Iterator[None]:
    apply = State.apply

    def win(self: State, dot: Dot, operation: Operation, author: Any) -> bool:
        if isinstance(operation, Set):
            thing = self.existing(operation.collection, operation.object)
            there = tuple(value.dot for value in thing.of_field(operation.field)) if thing is not None else ()
            operation = Set(operation.collection, operation.object, operation.field, operation.value, there)
        return apply(self, dot, operation, author)

    with patch.object(State, "apply", win):
        yield


@_defect("later clock wins", "of two concurrent values the one with the earlier wall clock goes", "I1", "I2")
def _later_clock_wins() -> Iterator[None]:
    live = State._live

    def win(self: State, thing: Any, code: int, dot: Dot, field: str, value: Any, author: Any) -> None:
        live(self, thing, code, dot, field, value, author)
        there = list(thing.of_field(field)) if field else []
        for other in there:
            if other.time_ms < max(found.time_ms for found in there):
                thing.discard(other)

    with patch.object(State, "_live", win):
        yield


@_defect("forget removed values", "what a set replaces or a remove names stays", "I2")
def _forget_removed() -> Iterator[None]:
    def end(self: State, collection: str, obj: ObjectId, field: str, dots: Iterable[Dot]) -> None:
        """Nothing ends."""

    with patch.object(State, "_end", end):
        yield


@_defect("delete what was not seen", "a delete marks every value of the object", "I2")
def _delete_all() -> Iterator[None]:
    mark = State._mark

    def all_(self: State, collection: str, obj: ObjectId, seen: Iterable[Dot]) -> None:
        thing = self.existing(collection, obj)
        mark(self, collection, obj, list(thing.values) if thing is not None else seen)

    with patch.object(State, "_mark", all_):
        yield


@_defect("skip the parent check", "entries are merged whether or not their parents were", "I2", "I1", "I5", "I8", "I9")
def _skip_parents() -> Iterator[None]:
    find = Replica._find_merged

    def skip(self: Replica, entry_hash: Any) -> Any:
        found = find(self, entry_hash)
        heads = self.merged_heads()
        return found if found is not None or not heads else heads[0]

    with patch.object(Replica, "_find_merged", skip):
        yield


@_defect("count the order", "the digest depends on the order of arrival", "I2", "I9")
def _order_in_digest() -> Iterator[None]:
    add = FactSum.add

    def ordered(self: FactSum, fact: bytes) -> None:
        add(self, self.to_bytes()[-1:] + fact)

    with patch.object(FactSum, "add", ordered):
        yield


# --- travelling -------------------------------------------------------------------------------------------------------


@_defect("off by one in heights", "a peer is told one entry less than is held", "I9")
def _off_by_one() -> Iterator[None]:
    told = Exchange._on_told

    def less(self: Exchange, link: int, incident: Any, log: LogId, height: int, now: Now) -> None:
        told(self, link, incident, log, height - 1, now)

    with patch.object(Exchange, "_on_told", less):
        yield


@_defect("drop the last batch", "an answer that would end a log is never sent", "I9")
def _drop_last() -> Iterator[None]:
    serve = Holdings.serve

    def drop(self: Holdings, store: Any, want: wire.Want) -> wire.Run | wire.Lack:
        answer = serve(self, store, want)
        last = self.head(want.incident, want.log)[0]
        if isinstance(answer, wire.Run) and answer.last == last:
            return wire.Lack(want.incident, want.log, want.first)
        return answer

    with patch.object(Holdings, "serve", drop):
        yield


@_defect("no anti-entropy", "digests are never compared", "I8", "I9")
def _no_summaries() -> Iterator[None]:
    with patch.object(Sync, "due_summaries", lambda self, now: []):
        yield


@_defect("forget peers after a split", "an address that failed ten times is not dialled again", "I9")
def _forget_peers() -> Iterator[None]:
    failed, fails = Peers.on_dial_failed, dict[tuple[int, str], int]()
    due = Peers.due_dials

    def count(self: Peers, address: str, code: str, now: float) -> None:
        fails[id(self), address] = fails.get((id(self), address), 0) + 1
        failed(self, address, code, now)

    def less(self: Peers, now: float) -> list[str]:
        return [address for address in due(self, now) if fails.get((id(self), address), 0) < 10]

    with patch.object(Peers, "on_dial_failed", count), patch.object(Peers, "due_dials", less):
        yield


# --- secrets ----------------------------------------------------------------------------------------------------------


@_defect("checkpoints in clear", "what lies on the disk is not sealed", "I4", "I12")
def _in_clear() -> Iterator[None]:
    with (
        patch.object(archive.Archive, "_seal", lambda self, namespace, key, plain: plain),
        patch.object(archive.Archive, "_unseal", lambda self, namespace, key, sealed: sealed),
    ):
        yield


@_defect("content beside the entry", "a long message is followed by one of a newer kind, with words in clear", "I4")
def _content_on_the_wire() -> Iterator[None]:
    send = Outbox.send_encoded

    def leak(self: Outbox, link: int, data: bytes, *, droppable: bool = False, bulk: bool = False) -> None:
        send(self, link, data, droppable=droppable, bulk=bulk)
        if len(data) > 600:
            send(self, link, codec.encode([99, MARK_BYTES]), droppable=True)

    with patch.object(Outbox, "send_encoded", leak):
        yield


@_defect("everybody gets a key", "an epoch is sealed to every device that is enrolled", "I4", "I9", "I5")
def _seal_to_all() -> Iterator[None]:
    of = Incidents._devices_of

    def all_(self: Incidents, nocs: Sequence[str], role: Any, *, with_relays: bool) -> Any:
        del with_relays
        return of(self, sorted({*nocs, *self._roster.nocs()}), role, with_relays=True)

    with patch.object(Incidents, "_devices_of", all_):
        yield


@_defect("no second seal", "who lost its keys with its disk is never sealed to again", "I8", "I9", scenario="lost-disk")
def _no_reseal() -> Iterator[None]:
    with patch.object(Reseals, "due", lambda self, replicas, now: []):
        yield


@_defect("keys die young", "a replaced prekey is erased at once", "I9", "I1", scenario="one-noc-alone-30-days")
def _keys_die_young() -> Iterator[None]:
    with patch.object(prekeys, "KEPT_AFTER_REPLACED_MS", 0):
        yield


@_defect(
    "an epoch leaves its parents out",
    "who joins later cannot read what was before",
    *("I9", "I5", "I1"),
    scenario="manhunt-across-borders",
)
def _no_past() -> Iterator[None]:
    make = EpochBody.make

    def cut(recipients: Sequence[Any], parent_keys: Sequence[bytes]) -> EpochBody:
        return make(recipients, ())

    with patch.object(EpochBody, "make", cut):
        yield


@dataclass(frozen=True, slots=True)
class Found:
    """How a defect was found, or that it was not (``invariants`` is empty)."""

    name: str
    seeds: int
    invariants: tuple[str, ...]
    what: str = ""


def hunt(name: str, seeds_max: int = 200) -> Found:
    """Runs seeds with this defect until a check finds it."""
    defect = DEFECTS[name]
    scenario = runs.load_scenario(defect.scenario)
    for seed in range(1, seeds_max + 1):
        _, verdict = runs.run_plan(draw(scenario, seed), ProtocolWorld(), defect.plant)
        if not verdict.held:
            invariants = tuple(dict.fromkeys(violation.invariant for violation in verdict.violations))
            return Found(name, seed, invariants, verdict.violations[0].what)
    return Found(name, seeds_max, ())
