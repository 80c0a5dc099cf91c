"""The route table's types, and finding a route.

One table (in ``handlers.py``) is what the server dispatches on, what the OpenAPI document is generated from, and what
the list in ``docs/local-api.md`` is compared with. So the three cannot drift apart.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from enum import Enum
from typing import Any
from urllib.parse import parse_qsl, unquote

import httptools
import msgspec

from meshnode.api.content import split_path
from meshnode.api.problems import RequestError
from meshnode.api.records import NoQuery
from meshnode.api.service import NodeService
from meshnode.core.ids import INCIDENT_ID_BYTES, OBJECT_ID_BYTES, IncidentId, ObjectId, parse_hex_untrusted

QUERY_FIELDS_MAX = 16
"""No route takes more than three; parsing stops here."""


class Answer(Enum):
    """What a route answers with."""

    RECORD = "record"
    """A record, as JSON or MessagePack."""
    FILE = "file"
    """Bytes with a media type of their own."""
    STREAM = "stream"
    """Server-sent events, until the client goes."""


@dataclass(frozen=True, slots=True)
class Raw:
    """Bytes to send as they are."""

    media_type: str
    data: bytes
    headers: str = ""
    """Further header lines, each with its CRLF."""


class Call(msgspec.Struct, frozen=True, gc=False):
    """One request as a handler sees it: everything is parsed and typed."""

    service: NodeService
    params: dict[str, str]
    query: Any
    body: Any
    operator: str
    """Empty for reads."""

    @property
    def incident(self) -> IncidentId:
        return IncidentId(parse_hex_untrusted(self.params["incident"], INCIDENT_ID_BYTES, "the incident id"))

    @property
    def object_id(self) -> ObjectId:
        return ObjectId(parse_hex_untrusted(self.params["object"], OBJECT_ID_BYTES, "the object id"))


Handler = Callable[[Call], Any]
"""Returns the result, or (where ``Route.waits``) an awaitable of it."""


@dataclass(frozen=True, slots=True)
class Route:
    method: str
    path: str
    """``/v1/incidents/{incident}``; each ``{name}`` is one segment."""
    name: str
    """The operation's name in the OpenAPI document and in the Python client."""
    summary: str
    handler: Handler
    result: Any = None
    """Type of the answer's record."""
    body: type[msgspec.Struct] | None = None
    query: type[msgspec.Struct] = NoQuery
    status: int = 200
    answer: Answer = Answer.RECORD
    waits: bool = False
    """The handler is asynchronous: it returns when the change is durable."""

    @property
    def changes(self) -> bool:
        """Refused on the read-only socket."""
        return self.method not in ("GET", "HEAD")


@dataclass(slots=True)
class _Branch:
    """One segment of the tree of paths."""

    fixed: dict[str, _Branch] = field(default_factory=dict)
    variable: _Branch | None = None
    variable_name: str = ""
    methods: dict[str, Route] = field(default_factory=dict)
    allow: str = ""


class Router:
    """Finds routes by walking a tree, one segment a step; a request's cost does not depend on the table's length."""

    def __init__(self, routes: Sequence[Route]) -> None:
        self._root = _Branch()
        for route in routes:
            branch = self._root
            for segment in route.path.strip("/").split("/"):
                if segment.startswith("{"):
                    branch.variable = branch.variable or _Branch()
                    branch.variable_name = segment[1:-1]
                    branch = branch.variable
                else:
                    branch = branch.fixed.setdefault(segment, _Branch())
            branch.methods[route.method] = route
            if route.method == "GET":
                branch.methods["HEAD"] = route
            branch.allow = ", ".join(sorted(branch.methods))

    def find_untrusted(self, method: str, path: str) -> tuple[Route, dict[str, str]]:
        """The route and the values of its variables. RequestError ``unknown-path`` or ``method-not-allowed``."""
        branch = self._root
        params: dict[str, str] = {}
        for segment in path[1:].split("/"):
            fixed = branch.fixed.get(segment)
            if fixed is not None:
                branch = fixed
            elif branch.variable is not None and segment:
                params[branch.variable_name] = _segment_untrusted(segment) if "%" in segment else segment
                branch = branch.variable
            else:
                raise _unknown_path(path)
        route = branch.methods.get(method)
        if route is not None:
            return route, params
        if not branch.methods:
            raise _unknown_path(path)
        raise RequestError(
            "method-not-allowed", f"{method} is not offered here", f"use {branch.allow}", allow=branch.allow
        )


def split_target_untrusted(target: bytes) -> tuple[str, str]:
    """(path, query) of a request target in origin form or absolute form. RequestError ``unknown-path``."""
    if not target.startswith(b"/"):
        # "http://localhost/v1/node", as a proxy would send; "*" and "host:port" name nothing here.
        try:
            parsed = httptools.parse_url(target)
        except httptools.HttpParserInvalidURLError:
            raise _unknown_path(target.decode("latin-1")) from None
        path, query = parsed.path or b"/", parsed.query or b""
    else:
        path, _, query = target.partition(b"?")
    # llhttp lets only visible ASCII through; a fragment is never sent by a client that follows RFC 9110.
    return path.decode("latin-1"), query.decode("latin-1")


def parse_query_untrusted(query: str, query_type: type[msgspec.Struct]) -> Any:
    """The query record of a route. RequestError ``bad-query`` with the parameter's name as path."""
    if not query:
        return query_type()
    try:
        pairs = parse_qsl(
            query, keep_blank_values=True, strict_parsing=True, errors="strict", max_num_fields=QUERY_FIELDS_MAX
        )
    except ValueError as error:
        raise _bad_query(str(error)) from None
    plain = dict(pairs)
    if len(plain) != len(pairs):
        raise _bad_query("a parameter occurs twice")
    try:
        return msgspec.convert(plain, query_type, strict=False)
    except msgspec.ValidationError as error:
        reason, path = split_path(str(error))
        raise _bad_query(reason, path.removeprefix("$").removeprefix(".")) from None


def _segment_untrusted(segment: str) -> str:
    try:
        return unquote(segment, errors="strict")
    except UnicodeDecodeError:
        raise _unknown_path(segment) from None


def _unknown_path(path: str) -> RequestError:
    return RequestError("unknown-path", f"there is no {path[:128]}", "see the list of paths in /v1/openapi.json")


def _bad_query(reason: str, path: str = "") -> RequestError:
    return RequestError("bad-query", reason, "see the parameters of this path in /v1/openapi.json", path=path)


async def result_of(route: Route, call: Call) -> Any:
    """Calls the handler, waiting only where there is something to wait for."""
    result = route.handler(call)
    if route.waits:
        waited: Awaitable[Any] = result
        return await waited
    return result
