"""Planted defects of the shell: each a daemon that breaks one promise, to prove that this world would notice.

None of this is the product's; a defect that no seed finds means that a checker or a fault is missing.
"""

from __future__ import annotations

from collections import deque
from typing import NamedTuple

import trio

from meshnode.api.service import JournalPage
from meshnode.core.events import Effect, JournalGrew, Reply, Send
from meshnode.core.ids import IncidentId
from meshnode.daemon.loop import Loop
from meshnode.daemon.service import Service
from meshnode.errors import LocalFaultError
from meshnode.transport.base import Record
from simulations.worlds.daemon.host import Parts


class _SendsBeforeCommit(Loop):
    def _submit(self, commit: bool, effects: tuple[Effect, ...]) -> None:
        self._perform(tuple(effect for effect in effects if isinstance(effect, Send)))
        super()._submit(commit, tuple(effect for effect in effects if not isinstance(effect, Send)))


class _AnswersBeforeCommit(Loop):
    def _submit(self, commit: bool, effects: tuple[Effect, ...]) -> None:
        self._perform(tuple(effect for effect in effects if isinstance(effect, Reply)))
        super()._submit(commit, effects)


class _TellsReadersBeforeCommit(Loop):
    def _submit(self, commit: bool, effects: tuple[Effect, ...]) -> None:
        self._perform(tuple(effect for effect in effects if isinstance(effect, JournalGrew)))
        super()._submit(commit, effects)


class _AnswersWhatFailed(Loop):
    def _fail(self, groups: deque[tuple[Effect, ...]], fault: LocalFaultError) -> None:
        for effects in (*groups, *self._groups):
            self._perform(tuple(effect for effect in effects if isinstance(effect, Reply)))
        self._groups.clear()
        super()._fail(deque(), fault)


class _NeverRecovers(Loop):
    async def _wait_for_disk(self) -> None:
        await self._perform_uncommitted()


class _TakesWithoutEnd(Loop):
    """No back-pressure: steps go on however far the disk is behind."""

    async def _decide(self) -> None:
        import meshnode.daemon.loop as module

        module.GROUPS_MAX, before = 1_000_000, module.GROUPS_MAX
        try:
            await super()._decide()
        finally:
            module.GROUPS_MAX = before

    async def take_in(self, record: Record) -> None:
        self.post(record)


class _StopsAtOnce(Loop):
    """What clients are waiting for is dropped when it is told to stop."""

    def stop(self) -> None:
        super().stop()
        self._groups.clear()
        self._inbox.clear()
        self.stopped.set()


class _LosesWakeUps(Loop):
    """Readers of the journal are not told that it grew."""

    async def wait_journal(self, after: int) -> None:
        if self.durable_journal <= after:
            await trio.sleep_forever()


class _SkipsEvents(Service):
    """An event that comes while another one is being sent is left out."""

    def journal_page(self, after: int, limit: int, incident: IncidentId | None) -> JournalPage:
        page = super().journal_page(after, limit, incident)
        return JournalPage(page.entries[:1], page.next)


class _RepeatsEvents(Service):
    """A reader that comes back is told the last event again."""

    def journal_page(self, after: int, limit: int, incident: IncidentId | None) -> JournalPage:
        page = super().journal_page(after, limit, incident)
        return JournalPage(page.entries, max(after, page.next - 1) if len(page.entries) > 1 else page.next)


class _ShowsAllThatIsStaged(Service):
    """The stream reads the journal to its end, durable or not."""

    def journal_page(self, after: int, limit: int, incident: IncidentId | None) -> JournalPage:
        views, looked = self._loop.reading.journal(after, self._store.applied_last(), limit, incident)
        return JournalPage(views, looked)


class Defect(NamedTuple):
    meaning: str
    parts: Parts
    invariants: tuple[str, ...]
    """Any of these catches it."""


DEFECTS: dict[str, Defect] = {
    "send-before-commit": Defect(
        "frames leave before the commit they rest on", Parts(loop=_SendsBeforeCommit), ("I1",)
    ),
    "answer-before-commit": Defect(
        "a client is answered before its change is durable", Parts(loop=_AnswersBeforeCommit), ("I1",)
    ),
    "event-before-commit": Defect(
        "readers hear of the journal before it is durable", Parts(loop=_TellsReadersBeforeCommit), ("I1",)
    ),
    "stream-reads-staged": Defect(
        "the stream reads what is only staged", Parts(service=_ShowsAllThatIsStaged), ("I1",)
    ),
    "answer-after-failure": Defect("a commit that failed is answered as done", Parts(loop=_AnswersWhatFailed), ("I1",)),
    "never-recovers": Defect("reads only, for ever, once the disk was full", Parts(loop=_NeverRecovers), ("I6", "I9")),
    "no-back-pressure": Defect("takes in without end while the disk is slow", Parts(loop=_TakesWithoutEnd), ("I7",)),
    "stop-drops-requests": Defect("a stop in order drops what was asked", Parts(loop=_StopsAtOnce), ("I6",)),
    "lost-wake-up": Defect("readers sleep on when the journal grows", Parts(loop=_LosesWakeUps), ("I3", "I6")),
    "stream-skips": Defect("of events that come together only the first is told", Parts(service=_SkipsEvents), ("I3",)),
    "stream-repeats": Defect(
        "of events that come together the last is told twice", Parts(service=_RepeatsEvents), ("I3",)
    ),
}
