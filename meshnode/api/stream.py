"""The event stream: server-sent events out of the durable journal.

A subscriber is a cursor, nothing else: no queue is kept for it, so a slow one costs no memory, and one that comes back
with ``Last-Event-ID`` reads on exactly where it stopped. A gap is impossible as long as the journal has none.

The cursor also moves over entries of other incidents. An event with an ``id:`` and no data tells the client where it
is without being dispatched (HTML standard, section 9.2.6); it comes at the start and with each heartbeat.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from typing import Protocol

import msgspec
import trio

from meshnode.api.content import accept_quality
from meshnode.api.problems import RequestError, problem_of
from meshnode.api.records import EventsQuery
from meshnode.api.responses import stream_head
from meshnode.api.routes import Call
from meshnode.api.service import NodeService
from meshnode.api.settings import ApiLimits
from meshnode.core.ids import INCIDENT_ID_BYTES, IncidentId, parse_hex_untrusted
from meshnode.errors import MeshnodeError, RefusedError

CURSOR_MAX = 2**63 - 1

_encode_json = msgspec.json.Encoder().encode


class ClientGone(Exception):
    """The client closed, or does not take what we send: nobody is left to answer."""


class Subscriber(Protocol):
    """What a stream needs of a client."""

    @property
    def stopping(self) -> bool: ...

    async def send(self, data: bytes) -> None:
        """All of it within the write time-out, or ClientGone."""

    async def wait_gone(self) -> None:
        """Returns when the client closes or speaks out of turn."""


class EventStreams:
    """All subscribers of one server."""

    def __init__(self, limits: ApiLimits, count_refusal: Callable[[str], None]) -> None:
        self._limits = limits
        self._count_refusal = count_refusal
        self._scopes: set[trio.CancelScope] = set()

    def stop(self) -> None:
        """Ends all streams; their clients resume with the next start."""
        for scope in tuple(self._scopes):
            scope.cancel()

    async def serve(self, client: Subscriber, call: Call, accept: bytes | None, last_event_id: bytes | None) -> None:
        """Streams until the client goes, the node stops, or the service refuses."""
        if accept is not None and not accept_quality(accept, "text/event-stream"):
            raise RequestError("not-acceptable", "this is an event stream", "accept text/event-stream")
        query: EventsQuery = call.query
        incident = None
        if query.incident is not None:
            incident = IncidentId(parse_hex_untrusted(query.incident, INCIDENT_ID_BYTES, "the incident id"))
            call.service.incident_summary(incident)  # refuses an incident that is not known here
        cursor = _cursor_untrusted(last_event_id, query.after, call.service.journal_last())
        if len(self._scopes) >= self._limits.streams_max:
            raise RefusedError(
                "too-many-streams", f"{self._limits.streams_max} event streams are open", "share one stream, or wait"
            )
        with trio.CancelScope() as scope:
            self._scopes.add(scope)
            try:
                async with trio.open_nursery() as nursery:
                    nursery.start_soon(_cancel_when_gone, client, scope)
                    await self._pump(client, call.service, incident, cursor)
                    scope.cancel()
            finally:
                self._scopes.discard(scope)

    async def _pump(self, client: Subscriber, service: NodeService, incident: IncidentId | None, cursor: int) -> None:
        try:
            await client.send(stream_head() + b"retry: 1000\nid: %d\n\n" % cursor)
            while not client.stopping:
                page = service.journal_page(cursor, self._limits.stream_page_max, incident)
                cursor = max(cursor, page.next)
                if page.entries:
                    await client.send(
                        b"".join(
                            b"id: %d\nevent: entry\ndata: %b\n\n" % (entry.journal, _encode_json(entry))
                            for entry in page.entries
                        )
                    )
                    await trio.lowlevel.checkpoint()
                    continue
                with trio.move_on_after(self._limits.heartbeat_s) as heartbeat:
                    await service.wait_journal(cursor)
                if heartbeat.cancelled_caught:
                    await client.send(b": heartbeat\nid: %d\n\n" % cursor)
        except ClientGone:
            return
        except MeshnodeError as error:
            # The head is out, so the reason travels as an event; a client that asks again gets it as a problem.
            self._count_refusal(error.code)
            with contextlib.suppress(ClientGone):
                await client.send(b"event: problem\ndata: %b\n\n" % _encode_json(problem_of(error)))


async def _cancel_when_gone(client: Subscriber, scope: trio.CancelScope) -> None:
    await client.wait_gone()
    scope.cancel()


def _cursor_untrusted(last_event_id: bytes | None, after: int | None, last: int) -> int:
    """Where to read on. The header wins: a browser repeats the first URL, with its old ``after``, and adds it.

    Only durable numbers are ever sent, so a cursor above ``last`` was given before an older copy of the store came
    back. Waiting for the journal to grow past it would be silence now and a gap later.
    """
    cursor = last if after is None else after
    if last_event_id is not None:
        text = last_event_id.strip()
        if not (text.isdigit() and len(text) <= 19 and int(text) <= CURSOR_MAX):
            raise RequestError("bad-query", "Last-Event-ID is not a journal number", "send the last id of this stream")
        cursor = int(text)
    if cursor > last:
        raise RequestError(
            "bad-cursor",
            f"the journal ends at {last}, before {cursor}: the node was restored from a back-up, or made anew",
            "read your incidents anew, then stream from the journal number of /v1/node",
        )
    return cursor
