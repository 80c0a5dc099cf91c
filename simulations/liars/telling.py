"""One lie as it is told: chance, the links to honest peers, logs to forge, and the book of what was said."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from random import Random
from typing import Any

from meshnode.core import wire
from meshnode.core.events import Channel, Now
from meshnode.core.ids import ROOT_OBJECT, Dot, IncidentId, LogId
from meshnode.core.log import Entry
from meshnode.core.operations import Log, Set, encode_operation
from meshnode.core.reading import Reading
from meshnode.core.replica import Replica
from simulations.liars.forging import ForgedLog
from simulations.liars.mind import CannotTellError, LyingNode, Mind
from simulations.liars.ring import ACTS
from simulations.scenario.plan import Lie
from simulations.worlds import work
from simulations.worlds.contract import Acknowledged, Touch


class Telling:
    def __init__(self, node: LyingNode, mind: Mind, lie: Lie, now: Now) -> None:
        plan = mind.ring.plan
        self.node, self.mind, self.lie, self.now, self.ring = node, mind, lie, now, mind.ring
        self.rng = Random(f"{plan.scenario} {plan.seed} lie {lie.number}")
        self.count = max(1, int(lie.amount))
        self._texts = 0

    # --- whom to tell ---------------------------------------------------------------------------------------------

    def links(self, least: int = 1) -> list[tuple[int, str]]:
        """Links to honest peers, in an order of chance. CannotTellError when there are fewer."""
        found = self.node.honest_links()
        if len(found) < least:
            raise CannotTellError(self.lie.kind)
        self.rng.shuffle(found)
        return found

    def say(
        self,
        link: int,
        message: wire.Message | bytes,
        entries: Iterable[Entry] = (),
        channel: Channel = Channel.CONTROL,
    ) -> None:
        self.mind.say(link, self.note(message, entries), channel)

    def note(self, message: wire.Message | bytes, entries: Iterable[Entry] = ()) -> bytes:
        """The frame, in the book of what is told."""
        data = message if isinstance(message, bytes) else wire.encode(message)
        self.ring.note_told(self.lie.kind, data, entries)
        return data

    def hand(self, log: ForgedLog, links: Iterable[tuple[int, str]], entries: Sequence[Entry] | None = None) -> None:
        """Pushes a forged log, or these entries of it, to these links."""
        entries = log.entries if entries is None else entries
        for link, _ in links:
            self.say(link, log.run(entries), entries)

    # --- what to tell ---------------------------------------------------------------------------------------------

    def replica(self) -> Replica:
        """Of an incident that this node may write in. CannotTellError when there is none."""
        device = self.node.identity.device
        replicas = self.node.incidents.replicas
        found = [
            replicas[incident]
            for incident in sorted(replicas)
            if replicas[incident].merged
            and replicas[incident].group.is_member(device)
            and replicas[incident].group.write_key() in replicas[incident].keys
        ]
        if not found:
            raise CannotTellError(self.lie.kind)
        return self.rng.choice(found)

    def log(self, replica: Replica) -> ForgedLog:
        log = ForgedLog(replica, self.node.identity, self.rng.randbytes(32), lambda: max(0, self.now.wall_ms))
        self.ring.logs.add(log.log)
        return log

    def utter(self, entry: Entry, expect: str, *writes: Acknowledged) -> Entry:
        self.ring.utter(self.now.monotonic_s, self.mind.name, self.lie.kind, entry, expect, writes)
        return entry

    def text(self) -> str:
        """Marked, as all content is, and like no other."""
        self._texts += 1
        return f"{work.MARK}-{self.ring.plan.seed}-lie-{self.lie.number}-{self._texts}"

    def record(self, log: ForgedLog, expect: str, text: str = "", **changes: Any) -> Entry:
        """An entry with one record of the log book."""
        text = text or self.text()
        entry = log.write(log.content(encode_operation(Log({"text": text})), **changes))
        return self.utter_record(entry, text, expect)

    def utter_record(self, entry: Entry, text: str, expect: str = ACTS) -> Entry:
        touch = Touch(entry.incident.hex(), "", "", "")
        return self.utter(entry, expect, self._row(entry, "log", touch, text, ()))

    def title(self, log: ForgedLog, expect: str, replaces: Sequence[Dot] = (), **changes: Any) -> Entry:
        """An entry that sets the title of the incident."""
        text = self.text()
        operation = Set("incident", ROOT_OBJECT, "title", text, tuple(sorted(replaces)))
        entry = log.write(log.content(encode_operation(operation), **changes))
        touch = Touch(log.incident.hex(), "incident", work.ROOT_HEX, "title")
        return self.utter(entry, expect, self._row(entry, "set", touch, text, tuple(dot.text for dot in replaces)))

    def titles(self, replica: Replica) -> list[Dot]:
        """The values of the title that this node shows."""
        fields = Reading(self.node).fields(replica.incident)
        return [work.parse_dot(value.id) for value in fields["title"].values] if "title" in fields else []

    def _row(self, entry: Entry, kind: str, touch: Touch, text: str, seen: tuple[str, ...]) -> Acknowledged:
        at_s, dot = self.now.monotonic_s, Dot(LogId(entry.log), entry.seq, 0).text
        return Acknowledged(self.lie.number, at_s, at_s, self.mind.name, kind, touch, dot, text, seen)

    def known_incidents(self) -> list[IncidentId]:
        return self.node.holdings.incidents()
