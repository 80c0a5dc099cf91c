"""The event stream: server-sent events out of the durable journal.

A subscriber is a cursor, nothing else: no queue is kept for it, so a slow one costs no memory, and one that comes back
with ``Last-Event-ID`` reads on exactly where it stopped. A gap is impossible as long as the journal has none. Ids name
the stretch of the journal that they were given in, so one from before an older copy of the store came back is refused.

The cursor also moves over entries of other incidents. An event with an ``id:`` and no data tells the client where it
is without being dispatched (HTML standard, section 9.2.6); it comes at the start and with each heartbeat.
"""

from __future__ import annotations

import contextlib
import re
from collections.abc import Callable
from typing import Protocol

import msgspec
import trio

from meshnode.api.content import accept_quality
from meshnode.api.problems import RequestError, problem_of
from meshnode.api.records import EVENT_ID_PATTERN, EventsQuery
from meshnode.api.responses import stream_head
from meshnode.api.routes import Call
from meshnode.api.service import NodeService
from meshnode.api.settings import ApiLimits
from meshnode.core.ids import INCIDENT_ID_BYTES, IncidentId, parse_hex_untrusted
from meshnode.errors import MeshnodeError, RefusedError

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
        cursor = _cursor_untrusted(last_event_id, query.after, call.service)
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
            await client.send(stream_head() + b"retry: 1000\n" + _id_line(service, cursor) + b"\n")
            while not client.stopping:
                page = service.journal_page(cursor, self._limits.stream_page_max, incident)
                cursor = max(cursor, page.next)
                if page.entries:
                    await client.send(
                        b"".join(
                            b"id: %b\nevent: entry\ndata: %b\n\n" % (entry.cursor.encode(), _encode_json(entry))
                            for entry in page.entries
                        )
                    )
                    await trio.lowlevel.checkpoint()
                    continue
                with trio.move_on_after(self._limits.heartbeat_s) as heartbeat:
                    await service.wait_journal(cursor)
                if heartbeat.cancelled_caught:
                    await client.send(b": heartbeat\n" + _id_line(service, cursor) + b"\n")
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


def _id_line(service: NodeService, number: int) -> bytes:
    return b"id: %b\n" % service.journal_cursor(number).encode()


def _cursor_untrusted(last_event_id: bytes | None, after: str | None, service: NodeService) -> int:
    """The journal number to read on behind. The header wins: a browser repeats the first URL, with its old ``after``,
    and adds it.

    Only durable numbers are ever sent. So a number above the end was given before an older copy of the store came back,
    and so was one whose place in the journal has another name now: reading on there would leave a gap.
    """
    last = service.journal_last()
    text = after
    if last_event_id is not None:
        text = last_event_id.decode("latin-1").strip()
        if not re.search(EVENT_ID_PATTERN, text):
            raise RequestError("bad-query", "Last-Event-ID is no id of this stream", "send the last id of this stream")
    if text is None:
        return last
    number = int(text.partition("-")[0])
    if number > last or service.journal_cursor(number) != text:
        found = f"ends at {last}" if number > last else "has another past there"
        raise RequestError(
            "bad-cursor",
            f"the journal {found}, so {text} is not of it: the node was restored from a back-up, or made anew",
            "read the cursor of /v1/node, then your incidents anew, then stream from that cursor",
        )
    return number
