"""Wall clocks that decide, nodes that sleep, answers without a reason, and chance that no seed decides."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any
from unittest.mock import patch

from meshnode.core.events import Now, Reply
from meshnode.core.exchange import Exchange
from meshnode.core.holdings import Holdings
from meshnode.core.ids import DeviceId, IncidentId, KeyId
from meshnode.core.incidents import Incidents
from meshnode.core.lineage import Lineage
from meshnode.core.log import Entry, LogHead
from meshnode.core.node import Node
from meshnode.core.outbox import Outbox
from meshnode.core.pasts import bits
from meshnode.core.replica import Replica
from meshnode.core.reseal import Reseals
from meshnode.errors import RefusedError, UntrustedInputError
from simulations.defects.table import defect

# --- wall clocks that decide (I13) ------------------------------------------------------------------------------------


@defect(
    "newest key by time",
    "of two epochs the one with the later wall clock is written under",
    "I13",
    scenario="manager-restored",
)
def _newest_key() -> Iterator[None]:
    apply, put, best = Replica.apply, Lineage.put, Lineage.write_key
    stamped, times = [0], dict[tuple[int, int], int]()

    def note_time(self: Replica, entry: Entry, content: Any, *rest: Any) -> None:
        stamped[0] = content.time_ms
        apply(self, entry, content, *rest)

    def note_epoch(self: Lineage, index: int, epoch: Any) -> None:
        times[id(self), index] = stamped[0]
        put(self, index, epoch)

    def newest(self: Lineage) -> KeyId | None:
        if best(self) is None:
            return None
        indexes = list(bits(self._current().maximal))
        return self._epochs[max(indexes, key=lambda index: (times.get((id(self), index), 0), index))].key_id

    with (
        patch.object(Replica, "apply", note_time),
        patch.object(Lineage, "put", note_epoch),
        patch.object(Lineage, "write_key", newest),
    ):
        yield


@defect("disbelieve the future", "what is stamped later than this node's clock is not merged", "I13", "I9", "I1")
def _disbelieve() -> Iterator[None]:
    opened, now_ms = Replica._open, dict[int, int]()
    step = Node.step

    def note_time(self: Node, events: Sequence[Any], now: Now) -> Any:
        now_ms.update((id(replica), now.wall_ms) for replica in self.incidents.replicas.values())
        return step(self, events, now)

    def disbelieve(self: Replica, entry: Entry, keys_of_log: Any) -> Any:
        content = opened(self, entry, keys_of_log)
        if content.time_ms > now_ms.get(id(self), content.time_ms) + 60_000:
            raise UntrustedInputError("content-malformed", "it comes from the future", "set that clock")
        return content

    with patch.object(Node, "step", note_time), patch.object(Replica, "_open", disbelieve):
        yield


@defect(
    "repair by the clock",
    "who repairs an epoch is a matter of whose clock is ahead",
    "I13",
    scenario="manager-restored",
)
def _repair_by_clock() -> Iterator[None]:
    watch = Incidents._watch_epochs

    def by_clock(self: Incidents, incident: IncidentId, replica: Replica, now: Now) -> None:
        watch(self, incident, replica, now)
        if incident in self._repair_at:
            self._repair_at[incident] += now.wall_ms // 86_400_000 % 7

    with patch.object(Incidents, "_watch_epochs", by_clock):
        yield


# --- life -------------------------------------------------------------------------------------------------------------


@defect("sleep too long", "the node asks to be woken an hour late", "I9", "I6")
def _sleep() -> Iterator[None]:
    deadline = Node.next_deadline
    with patch.object(Node, "next_deadline", lambda self: deadline(self) + 3_600):
        yield


@defect("forget an answer", "every thirtieth request of a local client is carried out and not answered", "I6")
def _forget_answer() -> Iterator[None]:
    add, calls = Outbox.add, iter(range(1, 1_000_000))

    def less(self: Outbox, effect: Any) -> None:
        if not isinstance(effect, Reply) or next(calls) % 30:
            add(self, effect)

    with patch.object(Outbox, "add", less):
        yield


@defect("nothing without a link", "a node that is alone refuses to write", "I6")
def _no_writes_alone() -> Iterator[None]:
    answer = Node._answer

    def ask_others(self: Node, request: int, act: Any) -> None:
        def refuse() -> Any:
            raise RefusedError("no-usable-key", "no peer is linked", "wait for one")

        answer(self, request, act if self.peers.by_link else refuse)

    with patch.object(Node, "_answer", ask_others):
        yield


# --- saying why (I16) -------------------------------------------------------------------------------------------------


@defect("a code that nobody explains", "a report has a code that is not in the manual", "I16")
def _unexplained() -> Iterator[None]:
    with patch.object(Reseals, "on_done", lambda self, due, now_s: ("it-is-done", "a key was sealed again")):
        yield


@defect("refused, and that is all", "a refusal does not say what to do", "I16", scenario="slow-disks-and-restarts")
def _speechless() -> Iterator[None]:
    devices = Incidents._devices_of

    def speechless(self: Incidents, nocs: Sequence[str], role: Any, *, with_relays: bool) -> Any:
        try:
            return devices(self, nocs, role, with_relays=with_relays)
        except RefusedError as error:
            raise RefusedError(error.code, error.reason, "") from error

    with (
        patch.object(Incidents, "_devices_of", speechless),
        patch.object(Node, "_answer", _answer_without_action(Node._answer)),
    ):
        yield


def _answer_without_action(answer: Any) -> Any:
    def less(self: Node, request: int, act: Any) -> None:
        def speechless() -> Any:
            try:
                return act()
            except RefusedError as error:
                raise RefusedError(error.code, error.reason, "") from error

        answer(self, request, speechless)

    return less


@defect(
    "a restored node says nothing",
    "a node that comes back from a backup does not tell its operator",
    "I16",
    scenario="restored-backup",
)
def _silent_restore() -> Iterator[None]:
    report = Outbox.report

    def less(self: Outbox, code: str, reason: str, link: int | None = None, **detail: str) -> None:
        if code != "restored-or-cloned":
            report(self, code, reason, link, **detail)

    with patch.object(Outbox, "report", less):
        yield


# --- chance that no seed decides (I15) --------------------------------------------------------------------------------


@defect("iterate a set", "links are pushed to in the order of a set", "I15")
def _iterate_a_set() -> Iterator[None]:
    """The order of names in a set is another one in each process."""
    spread = Exchange._spread

    def unordered(self: Exchange, run: Any, source: int | None, now: Now) -> list[int]:
        links = {self._device(link): link for link in spread(self, run, source, now)}
        return [links[device] for device in set[DeviceId](links)]

    with patch.object(Exchange, "_spread", unordered):
        yield


@defect("order by hash", "heights are told in an order that Python's own hashes decide", "I15")
def _order_by_hash() -> Iterator[None]:
    logs = Holdings.logs

    def unordered(self: Holdings, incident: IncidentId) -> list[LogHead]:
        return sorted(logs(self, incident), key=lambda head: hash(bytes(head.log)))

    with patch.object(Holdings, "logs", unordered):
        yield
