"""What a step wants said: the machines put it here, the node hands it out in order."""

from __future__ import annotations

from meshnode.core import wire
from meshnode.core.events import Channel, CloseLink, Effect, Report, Send


class Outbox:
    def __init__(self) -> None:
        self._effects: list[Effect] = []
        self.counts: dict[str, int] = {}
        """How often each reason code was given since the start."""

    def add(self, effect: Effect) -> None:
        self._effects.append(effect)

    def send(self, link: int, message: wire.Message, *, droppable: bool = False, bulk: bool = False) -> None:
        self.send_encoded(link, wire.encode(message), droppable=droppable, bulk=bulk)

    def send_encoded(self, link: int, data: bytes, *, droppable: bool = False, bulk: bool = False) -> None:
        """For one message to many links: encoded once."""
        self._effects.append(Send(link, Channel.BULK if bulk else Channel.CONTROL, data, droppable))

    def close(self, link: int, code: str) -> None:
        self._effects.append(CloseLink(link, code))

    def count(self, code: str) -> None:
        self.counts[code] = self.counts.get(code, 0) + 1

    def report(self, code: str, reason: str, link: int | None = None, **detail: str) -> None:
        """A refusal or a degraded state: counted, and written down by the shell (I16)."""
        self.count(code)
        self._effects.append(Report(code, reason, link, detail))

    def tell(self, code: str, reason: str, link: int | None = None) -> None:
        """News for the operator that is no refusal: written down, not counted."""
        self._effects.append(Report(code, reason, link))

    def mark(self) -> int:
        """Where it stands now, for :meth:`said_since`."""
        return len(self._effects)

    def said_since(self, mark: int, link: int) -> tuple[int, int]:
        """(bytes of messages to this link, reports about it) since then."""
        size_bytes = reports = 0
        for effect in self._effects[mark:]:
            if isinstance(effect, Send):
                size_bytes += len(effect.data) if effect.link == link else 0
            elif isinstance(effect, Report):
                reports += effect.link == link
        return size_bytes, reports

    def take(self) -> tuple[Effect, ...]:
        effects, self._effects = tuple(self._effects), []
        return effects

    def clear(self) -> None:
        self._effects.clear()
