"""What an honest node must not believe, remember, answer or wait for: each defect with the liar that brings it out.

The mesh is that of ``hostile.toml``; the world puts one liar into it. Most of these errors harm nobody as long as
nobody lies.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any
from unittest.mock import patch

from meshnode.core import acts, entry, epochs, groups, replica, sync, wire
from meshnode.core.acts import Role
from meshnode.core.epochs import open_package_untrusted
from meshnode.core.events import Event, LinkDown, LinkUp, Now, Received, Send, Step
from meshnode.core.exchange import Exchange
from meshnode.core.gossip import Gossip
from meshnode.core.groups import Group
from meshnode.core.ids import IncidentId, KeyId
from meshnode.core.lineage import Lineage
from meshnode.core.node import Node
from meshnode.core.replica import FLAG_NOT_ENTITLED, Replica, Waiting
from meshnode.core.reseal import Reseals
from meshnode.errors import UntrustedInputError
from simulations.defects.table import defect
from simulations.scenario import reader
from simulations.scenario.draw import draw
from simulations.scenario.lies import LIES
from simulations.scenario.plan import Plan
from simulations.scenario.records import Liar
from simulations.scenario.values import Span
from simulations.worlds.cast import START_WALL_MS
from simulations.worlds.contract import Outcome
from simulations.worlds.protocol import ProtocolWorld

MESH = Path(__file__).with_name("hostile.toml")
DAY_MS = 24 * 3600 * 1000


class WithLiar:
    """The protocol world with somebody in it who lies: a member, or for lies about the traffic of others a relay."""

    name = "protocol"

    def __init__(self, kind: str, per_hour: float = 360.0, amount: float | None = None) -> None:
        who = "RA" if kind.startswith("relay-") or kind in ("withhold", "silent") else "NL"
        helpers = ("IT",) if LIES[kind].accomplice else ()
        self._liar = Liar(
            nodes=(who,),
            does=(kind,),
            at_s=Span(20.0, 20.0),
            per_hour=Span(per_hour, per_hour),
            amount=None if amount is None else Span(amount, amount),
            with_=helpers,
        )

    def run(self, plan: Plan) -> Outcome:
        scenario = dataclasses.replace(reader.load(MESH), liars=(self._liar,))
        return ProtocolWorld().run(draw(scenario, plan.seed))


def _hostile(
    kind: str, name: str, meaning: str, *caught_by: str, per_hour: float = 360.0, amount: float | None = None
) -> Callable[[Callable[[], Iterator[None]]], None]:
    world = partial(WithLiar, kind, per_hour, amount)
    return defect(name, f"{meaning} ({kind})", *caught_by, scenario=str(MESH), make_world=world)


# --- two branches -----------------------------------------------------------------------------------------------------


@_hostile("equivocate", "a fork is a surprise", "a second branch raises what nobody catches", "I8")
def _fork_raises() -> Iterator[None]:
    report = Exchange._report_refusal

    def surprise(self: Exchange, link: int, error: UntrustedInputError) -> None:
        if error.code == "log-forked":
            raise ValueError("this cannot be")
        report(self, link, error)

    with patch.object(Exchange, "_report_refusal", surprise):
        yield


@_hostile("hide-branch", "a fork is nobody's business", "a second branch is refused without a word", "I10")
def _fork_unsaid() -> Iterator[None]:
    report = Exchange._report_refusal

    def hush(self: Exchange, link: int, error: UntrustedInputError) -> None:
        if error.code != "log-forked":
            report(self, link, error)

    with patch.object(Exchange, "_report_refusal", hush):
        yield


# --- floods -----------------------------------------------------------------------------------------------------------


@_hostile("replay", "remember every frame", "frames are kept to know old ones again", "I7", per_hour=600, amount=100)
def _remember_frames() -> Iterator[None]:
    received = Node._on_received

    def remember(self: Node, event: Received) -> None:
        seen: list[bytes] = self._gossip.__dict__.setdefault("seen", [])
        seen.append(event.data)
        received(self, event)

    with patch.dict(Node._handlers, {Received: remember}):
        yield


@_hostile("flood-valid", "remember every entry", "what was spread is never forgotten", "I7", per_hour=480, amount=60)
def _remember_entries() -> Iterator[None]:
    spread = Gossip.spread

    def remember(self: Gossip, incident: Any, log: Any, height: int, source: Any, links: Any, now: float) -> Any:
        self.__dict__.setdefault("spread_before", {})[incident, log, height] = now
        return spread(self, incident, log, height, source, links, now)

    with patch.object(Gossip, "spread", remember):
        yield


@_hostile("flood-invalid", "a refusal costs nothing", "who sends nonsense stays, and fills the log", "I7", per_hour=900)
def _free_refusals() -> Iterator[None]:
    def only_report(self: Node, link: int, error: UntrustedInputError) -> None:
        for _ in range(10):  # with all that it is said to have cost
            self.outbox.report(error.code, error.reason, link)

    with patch.object(Node, "_refuse", only_report):
        yield


@_hostile("flood-invalid", "raise on a bad frame", "what does not decode ends the node", "I8", per_hour=900)
def _raise_on_bad() -> Iterator[None]:
    decode = wire.decode_untrusted

    def raises(data: bytes) -> wire.Message:
        try:
            return decode(data)
        except UntrustedInputError as error:
            raise KeyError(error.code) from error

    with patch.object(wire, "decode_untrusted", raises):
        yield


@_hostile("false-requests", "a hundred answers", "a question is answered a hundred times", "I7", per_hour=900)
def _many_answers() -> Iterator[None]:
    want = Exchange.on_want

    def often(self: Exchange, link: int, message: wire.Want, now: Now) -> None:
        for _ in range(100):
            want(self, link, message, now)

    with patch.object(Exchange, "on_want", often):
        yield


@_hostile("false-repair", "an ask for a key nobody made", "asked keys are looked up without looking", "I8")
def _ask_raises() -> Iterator[None]:
    watch = Reseals.watch

    def trust(self: Reseals, record: Replica, now_s: float) -> None:
        for place in record.group._asks_new:
            for key in record.group._asks[place].keys:
                _ = record.keys[key]
        watch(self, record, now_s)

    with patch.object(Reseals, "watch", trust):
        yield


# --- clocks -----------------------------------------------------------------------------------------------------------


@_hostile("back-date", "too old to be true", "what is dated before yesterday is void", "I13")
def _old_is_void() -> Iterator[None]:
    apply, flag = Replica.apply, Replica._void_flag
    times: list[int] = [0]

    def note(self: Replica, made: Any, content: Any, *rest: Any) -> None:
        times[0] = content.time_ms
        apply(self, made, content, *rest)

    def judge(self: Replica, writer: Any, position: Any, operations: Any) -> int:
        return FLAG_NOT_ENTITLED if times[0] < DAY_MS else flag(self, writer, position, operations)

    with patch.object(Replica, "apply", note), patch.object(Replica, "_void_flag", judge):
        yield


@_hostile("future-date", "wait until it is time", "what is dated after tomorrow is not merged yet", "I13")
def _future_waits() -> Iterator[None]:
    merge = Replica._merge_entry

    def wait(self: Replica, made: Any, log: Any) -> Waiting | None:
        keys_of_log = self._log_keys(made, log)
        if keys_of_log is not None and self._open(made, keys_of_log).time_ms > START_WALL_MS + DAY_MS:
            return Waiting(progress=self._progress)
        return merge(self, made, log)

    with patch.object(Replica, "_merge_entry", wait):
        yield


# --- authority --------------------------------------------------------------------------------------------------------


@_hostile("forge-parents", "names are believed", "what an entry replaces it need not have seen", "I5", "I1")
def _unseen_is_seen() -> Iterator[None]:
    with patch.object(replica, "unseen", lambda graph, position, operations: {}):
        yield


@_hostile("overstep", "an opening is believed", "the signature of an opening is not checked", "I5", "I9")
def _any_opening() -> Iterator[None]:
    with (
        patch.object(entry, "verify_opening_untrusted", lambda *_: None),
        patch.object(Group, "may_open", lambda *_: True),
    ):
        yield


@_hostile("overstep", "every writer a manager", "who may write may add members", "I5")
def _writers_add() -> Iterator[None]:
    judge = acts.judge_act  # as groups knows it

    def raise_up(act: Any, author: Any, incident: Any, position: Any, standings: Any) -> Any:
        mine = standings.get(author)
        if mine is not None and act[:1] == [2]:
            standings = {**standings, author: mine._replace(role=Role.MANAGER)}
        return judge(act, author, incident, position, standings)

    with patch.object(groups, "judge_act", raise_up):
        yield


# --- keys -------------------------------------------------------------------------------------------------------------


@_hostile("seal-to-itself", "one waits, all wait", "while one log waits for a key nothing else is merged", "I9", "I1")
def _all_wait() -> Iterator[None]:
    merge = Replica.merge

    def wait(self: Replica, fresh: Any) -> Any:
        if any(log.waiting is not None and log.waiting.key_id is not None for log in self._logs.values()):
            return []
        return merge(self, fresh)

    with patch.object(Replica, "merge", wait):
        yield


@_hostile("seal-wrong-key", "a locked-out member stays out", "a key is never sealed a second time", "I9", "I8", "I1")
def _no_second_seal() -> Iterator[None]:
    with patch.object(Reseals, "_is_answered", lambda self, record, ask: True):
        yield


@_hostile("seal-to-outsider", "outsiders taint nothing", "a key that was given away is written under", "I4")
def _no_taint() -> Iterator[None]:
    with patch.object(Lineage, "_taint", lambda self, keys: None):
        yield


@_hostile("two-keys", "a box is believed", "the id of the key in a box is not compared", "I9", "I2", "I1")
def _any_key() -> Iterator[None]:
    def believe(package: bytes, incident: IncidentId, identity: KeyId, secrets: Any, sealer: Any) -> bytes | None:
        with patch.object(epochs, "key_id", lambda _key: identity):
            return open_package_untrusted(package, incident, identity, secrets, sealer)

    with patch.object(epochs, "open_package_untrusted", believe):
        yield


# --- the traffic of others --------------------------------------------------------------------------------------------


@_hostile(
    "silent", "the slowest sets the pace", "while a peer says nothing for 30 s no other is told anything", "I9", "I1"
)
def _slowest_first() -> Iterator[None]:
    step = Node.step

    def pace(self: Node, events: Sequence[Event], now: Now) -> Step:
        heard: dict[int, float] = self.__dict__.setdefault("heard", {})
        for event in events:
            if isinstance(event, (LinkUp, Received)):
                heard[event.link] = now.monotonic_s
            elif isinstance(event, LinkDown):
                heard.pop(event.link, None)
        done = step(self, events, now)
        waits = any(at_s < now.monotonic_s - 30 for at_s in heard.values())
        return Step(done.commit, tuple(one for one in done.effects if not (waits and isinstance(one, Send))))

    with patch.object(Node, "step", pace):
        yield


@_hostile("withhold", "who is asked will answer", "a request that is not answered is waited for without end", "I9")
def _no_timeouts() -> Iterator[None]:
    with patch.object(sync, "RANGE_TIMEOUT_S", 1e9):
        yield


@_hostile("relay-drops", "pushes arrive", "digests that differ are let be", "I9", "I1")
def _digests_let_be() -> Iterator[None]:
    with (
        patch.object(Exchange, "on_log_digest", lambda self, link, digest: None),
        patch.object(Gossip, "on_announce", lambda *_: None),
    ):
        yield


@_hostile("relay-reorders", "parents come first", "an entry that comes before its parents breaks its log", "I9", "I1")
def _parents_first() -> Iterator[None]:
    wait = Replica._wait

    def give_up(self: Replica, log_id: Any, waiting: Waiting) -> None:
        if waiting.parent is not None:
            self._log(log_id).broken = "parent-missing"
        else:
            wait(self, log_id, waiting)

    with patch.object(Replica, "_wait", give_up):
        yield


@_hostile("relay-truncates", "frames are whole", "a frame that ends early raises what nobody catches", "I8")
def _frames_are_whole() -> Iterator[None]:
    decode = wire.decode_untrusted

    def trust(data: bytes) -> wire.Message:
        try:
            return decode(data)
        except UntrustedInputError as error:
            if error.code == "cbor-truncated":
                raise IndexError("a frame that ends early") from None
            raise

    with patch.object(wire, "decode_untrusted", trust):
        yield


@_hostile("relay-invents", "seals are believed", "the signature under a run is not checked", "I5", "I14", "I2", "I9")
def _any_seal() -> Iterator[None]:
    with patch.object(entry, "verify_seal_untrusted", lambda *_: None):
        yield
