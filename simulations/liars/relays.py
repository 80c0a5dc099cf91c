"""What is done to the traffic of others, and to one's own: nothing said, something left out, something changed."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import replace
from random import Random

from meshnode.core import entry, wire
from meshnode.core.events import Now, Send
from meshnode.core.ids import EntryHash, IncidentId, LogId
from meshnode.core.log import Entry
from simulations.liars.frames import is_run
from simulations.liars.mind import LyingNode, Mind
from simulations.liars.ring import REFUSED
from simulations.scenario.plan import Lie

LATE_S = 5.0
"""How late a relay that reorders says things."""


class Bend(ABC):
    """A lie that lasts. ``amount`` is the share of what is said to honest peers that it befalls, in percent."""

    def __init__(self, mind: Mind, lie: Lie) -> None:
        plan = mind.ring.plan
        self.mind, self.lie, self.ring = mind, lie, mind.ring
        self.rng = Random(f"{plan.scenario} {plan.seed} lie {lie.number}")

    def bend(self, node: LyingNode, send: Send, now: Now) -> Sequence[Send]:
        to_honest = any(link == send.link for link, _ in node.honest_links())
        return self.change(node, send, now) if to_honest else (send,)

    @abstractmethod
    def change(self, node: LyingNode, send: Send, now: Now) -> Sequence[Send]:
        """What an honest peer is told in place of this."""

    def befalls(self) -> bool:
        return self.rng.random() * 100 < self.lie.amount

    def said(self, send: Send, data: bytes, entries: Sequence[Entry] = ()) -> Send:
        self.ring.note_told(self.lie.kind, data, entries)
        return replace(send, data=data)


class Silent(Bend):
    """B12. It hears, keeps its links, and says nothing."""

    def change(self, node: LyingNode, send: Send, now: Now) -> Sequence[Send]:
        self.ring.note_kept(self.lie.kind)
        return ()


class Withhold(Bend):
    """B12. It tells how far it has each log, so that it is asked, and has no entry for anybody."""

    def change(self, node: LyingNode, send: Send, now: Now) -> Sequence[Send]:
        message = wire.decode_untrusted(send.data)
        if not isinstance(message, (wire.Run, wire.Packages)):
            return (send,)
        self.ring.note_kept(self.lie.kind)
        if isinstance(message, wire.Run) and self.rng.random() < 0.5:
            return (replace(send, data=wire.encode(wire.Lack(message.incident, message.log, message.first))),)
        return ()


class Drop(Bend):
    """B13."""

    def change(self, node: LyingNode, send: Send, now: Now) -> Sequence[Send]:
        if not self.befalls():
            return (send,)
        self.ring.note_kept(self.lie.kind)
        return ()


class Reorder(Bend):
    """B13."""

    def change(self, node: LyingNode, send: Send, now: Now) -> Sequence[Send]:
        if not self.befalls():
            return (send,)
        self.ring.note_told(self.lie.kind, send.data)
        name = dict(node.links())[send.link]
        self.mind.run_errand(now.monotonic_s + self.rng.uniform(0.01, LATE_S), name, send.data, send.channel)
        return ()


class Truncate(Bend):
    """B13. Runs without their end: with the seal that was behind it, or cut in the middle of the frame."""

    def change(self, node: LyingNode, send: Send, now: Now) -> Sequence[Send]:
        run = is_run(send.data)
        if run is None or not self.befalls():
            return (send,)
        if len(run.rows) > 1 and self.rng.random() < 0.7:
            rows = run.rows[: self.rng.randrange(1, len(run.rows))]
            key_ids = run.key_ids[: 1 + max(row[0] for row in rows)]
            return (self.said(send, wire.encode(replace(run, rows=rows, key_ids=key_ids))),)
        return (self.said(send, send.data[: self.rng.randrange(1, len(send.data))]),)


class Invent(Bend):
    """B13. An entry of somebody else, changed; logs and incidents that nobody has."""

    def change(self, node: LyingNode, send: Send, now: Now) -> Sequence[Send]:
        if not self.befalls():
            return (send,)
        run = is_run(send.data)
        if run is None:
            rows = ((self._an_incident(node), LogId(self.rng.randbytes(32)), self.rng.randrange(1, 1_000)),)
            return (send, self.said(send, wire.encode(wire.Announce(rows))))
        at = self.rng.randrange(len(run.rows))
        index, sealed, package = run.rows[at]
        place = self.rng.randrange(len(sealed))
        bent = sealed[:place] + bytes([sealed[place] ^ 1]) + sealed[place + 1 :]
        rows_changed = (*run.rows[:at], (index, bent, package), *run.rows[at + 1 :])
        changed = replace(run, rows=rows_changed)
        entries = unproven_entries(changed)[at:]
        for made in entries:
            self.ring.utter(now.monotonic_s, self.mind.name, self.lie.kind, made, REFUSED)
        return (self.said(send, wire.encode(changed), entries),)

    def _an_incident(self, node: LyingNode) -> IncidentId:
        held = node.holdings.incidents()
        return self.rng.choice(held) if held and self.rng.random() < 0.7 else IncidentId(self.rng.randbytes(16))


def unproven_entries(run: wire.Run) -> list[Entry]:
    """The entries of a run, hashed along the chain, whether or not the seal is of them."""
    entries: list[Entry] = []
    previous: EntryHash = run.previous
    for seq, (index, sealed, package) in enumerate(run.rows, run.first):
        key_id = run.key_ids[index]
        identity = entry.entry_hash(run.incident, run.log, seq, previous, key_id, package, sealed)
        entries.append(Entry(run.incident, run.log, seq, previous, key_id, package, sealed, identity))
        previous = identity
    return entries


BENDS: dict[str, Callable[[Mind, Lie], Bend]] = {
    "silent": Silent,
    "withhold": Withhold,
    "relay-drops": Drop,
    "relay-reorders": Reorder,
    "relay-truncates": Truncate,
    "relay-invents": Invent,
}
