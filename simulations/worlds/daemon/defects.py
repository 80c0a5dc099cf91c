"""Planted defects of the shell: each a daemon that breaks one promise, to prove that this world would notice.

None of this is the product's; a defect that no seed finds means that a checker or a fault is missing.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import replace
from socket import socket
from typing import NamedTuple

import trio

from meshnode.api.access import UserAccount
from meshnode.api.connection import Connection
from meshnode.api.server import ApiServer, _Counter
from meshnode.api.service import JournalPage, NodeService
from meshnode.api.settings import ApiLimits
from meshnode.api.sockets import Listener
from meshnode.core.events import ChangeIncident, Effect, JournalGrew, OpenIncident, Reply, Send, ShareIncident, Written
from meshnode.core.ids import IncidentId
from meshnode.daemon.loop import Loop, _Waiting
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


class _ForgetsNoRequest(Loop):
    """What is known of a request is kept when it was answered."""

    async def request(self, make: Callable[[int], OpenIncident | ChangeIncident | ShareIncident]) -> Written:
        try:
            return await super().request(make)
        finally:
            self._requests[self._request_numbers] = self._requests.get(self._request_numbers, _Waiting())


class _CutsOff(ApiServer):
    """A stop ends requests that are being answered."""

    async def serve(
        self, listeners: Sequence[Listener], *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED
    ) -> None:
        with trio.CancelScope() as self._cut:
            await super().serve(listeners, task_status=task_status)

    def stop(self) -> None:
        super().stop()
        self._cut.cancel()


class _KeepsWhoIsGone(ApiServer):
    """A connection counts for ever."""

    async def _run(self, connection: Connection, uid: int, account: UserAccount, open_here: _Counter) -> None:
        await connection.run()


class _WaitsForTheSilent(ApiServer):
    """Half a request may take as long as it likes."""

    def __init__(
        self,
        service: NodeService,
        limits: ApiLimits,
        count_refusal: Callable[[str], None],
        uid_of: Callable[[socket], int],
    ) -> None:
        super().__init__(service, replace(limits, request_read_s=1e6, idle_s=1e6), count_refusal, uid_of)


class _WaitsForTheDeaf(ApiServer):
    """Whoever does not read is written to for ever."""

    def __init__(
        self,
        service: NodeService,
        limits: ApiLimits,
        count_refusal: Callable[[str], None],
        uid_of: Callable[[socket], int],
    ) -> None:
        super().__init__(service, replace(limits, write_s=1e6), count_refusal, uid_of)


class Defect(NamedTuple):
    meaning: str
    parts: Parts
    invariants: tuple[str, ...]
    """Any of these catches it."""
    scenario: str = "slow-disks-and-restarts"
    """Whose seeds look for it."""


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
    "requests-kept": Defect("a request is remembered for ever", Parts(loop=_ForgetsNoRequest), ("I7",)),
    "stop-cuts-off": Defect("a stop ends requests that are being answered", Parts(server=_CutsOff), ("I6",)),
    "gone-clients-kept": Defect("a client that went keeps its place", Parts(server=_KeepsWhoIsGone), ("I6", "I7")),
    "silent-clients-kept": Defect(
        "half a request holds its connection", Parts(server=_WaitsForTheSilent), ("I6", "I7")
    ),
    "deaf-clients-kept": Defect("a client that does not read is kept", Parts(server=_WaitsForTheDeaf), ("I6", "I7")),
    "queues-without-end": Defect(
        "links queue whatever they are given", Parts(queues_end=False), ("I7",), "full-queues"
    ),
    "stream-repeats": Defect(
        "of events that come together the last is told twice", Parts(service=_RepeatsEvents), ("I3",)
    ),
}
