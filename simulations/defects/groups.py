"""Keys in wrong hands, or in nobody's."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any
from unittest.mock import patch

from meshnode.core import archive, codec, epochs, prekeys
from meshnode.core.epochs import EpochBody
from meshnode.core.groups import Group
from meshnode.core.incidents import Incidents
from meshnode.core.outbox import Outbox
from meshnode.core.prekeys import PrekeyRing
from meshnode.core.replica import Replica, Trouble
from meshnode.core.reseal import Reseals
from simulations.defects.table import defect
from simulations.worlds.work import MARK_BYTES


@defect("checkpoints in clear", "what lies on the disk is not sealed", "I4", "I12")
def _in_clear() -> Iterator[None]:
    with (
        patch.object(archive.Archive, "_seal", lambda self, namespace, key, plain: plain),
        patch.object(archive.Archive, "_unseal", lambda self, namespace, key, sealed: sealed),
    ):
        yield


@defect("content beside the entry", "a long message is followed by one of a newer kind, with words in clear", "I4")
def _content_on_the_wire() -> Iterator[None]:
    send = Outbox.send_encoded

    def leak(self: Outbox, link: int, data: bytes, *, droppable: bool = False, bulk: bool = False) -> None:
        send(self, link, data, droppable=droppable, bulk=bulk)
        if len(data) > 600:
            send(self, link, codec.encode([99, MARK_BYTES]), droppable=True)

    with patch.object(Outbox, "send_encoded", leak):
        yield


@defect("everybody gets a key", "an epoch is sealed to every device that is enrolled", "I4", "I9", "I5")
def _seal_to_all() -> Iterator[None]:
    of = Incidents._devices_of

    def all_(self: Incidents, nocs: Sequence[str], role: Any, *, with_relays: bool) -> Any:
        del with_relays
        return of(self, sorted({*nocs, *self._roster.nocs()}), role, with_relays=True)

    with patch.object(Incidents, "_devices_of", all_):
        yield


@defect("no second seal", "who lost its keys with its disk is never sealed to again", "I8", "I9", scenario="lost-disk")
def _no_reseal() -> Iterator[None]:
    with patch.object(Reseals, "due", lambda self, replicas, now: []):
        yield


@defect("keys die young", "a replaced prekey is erased at once", "I9", "I1", scenario="ten-days-apart")
def _keys_die_young() -> Iterator[None]:
    with patch.object(prekeys, "KEPT_AFTER_REPLACED_MS", 0):
        yield


@defect(
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


@defect("prekeys are kept for ever", "a replaced prekey is never erased", "I12", scenario="one-noc-alone-30-days")
def _keys_for_ever() -> Iterator[None]:
    with patch.object(PrekeyRing, "expire", lambda self, now_ms: ()):
        yield


@defect("a key in the log", "a report names the key that it is about", "I12", scenario="manhunt-across-borders")
def _key_in_log() -> Iterator[None]:
    learn = Replica.learn_key

    def tell(self: Replica, key_id: Any, key: bytes) -> None:
        if key_id not in self.keys and self.merged:
            self.troubles.append(Trouble("key-asked", f"somebody sent {key.hex()}", *self.merged_heads()[0]))
        learn(self, key_id, key)

    with patch.object(Replica, "learn_key", tell):
        yield


@defect(
    "nobody repairs",
    "after concurrent additions nobody makes an epoch for all",
    "I9",
    "I5",
    "I6",
    scenario="manager-restored",
)
def _no_repair() -> Iterator[None]:
    with patch.object(Group, "repair_needed", lambda self, me: False):
        yield


@defect(
    "one too few",
    "an epoch is sealed to all members but the last",
    "I9",
    "I5",
    "I1",
    "I8",
    "I6",
    scenario="manhunt-across-borders",
)
def _one_too_few() -> Iterator[None]:
    of = Incidents._of_members

    def fewer(self: Incidents, replica: Replica) -> Any:
        return of(self, replica)[:-1]

    with patch.object(Incidents, "_of_members", fewer):
        yield


@defect(
    "the same key again",
    "every epoch of a node has the same key",
    "I4",
    "I9",
    "I5",
    "I8",
    "I6",
    scenario="manhunt-across-borders",
)
def _same_key() -> Iterator[None]:
    with patch.object(epochs, "make_epoch_key", lambda random_bytes: b"k" * 32):
        yield
