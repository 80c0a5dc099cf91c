"""Python client of the local API, for the command line and for applications of the NOC.

    from meshnode.api.records import SetChange
    from meshnode.client import Client

    with Client("/run/meshnode/api.sock", operator="duty.officer") as client:
        incident = client.open_incident("man-hunt", {"title": "Two suspects", "status": "open"}).incident
        client.change(incident, [SetChange("status", "contained")])
        for entry in client.events(incident=incident, after="0"):
            print(entry.author.noc, [operation.kind for operation in entry.operations])

Synchronous, one connection, one request at a time; give each thread its own client. Every failure is an ApiError with
a code, a reason and what to do. A request whose answer was lost is never repeated here: whether the change was made is
then not known, and the error (``answer-lost``) says so.
"""

from __future__ import annotations

import http.client
import json
import os
import select
import socket
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, NamedTuple, TypeVar
from urllib.parse import quote, unquote, urlencode

import msgspec

from meshnode.api.records import (
    AttachmentRequest,
    ChangeRequest,
    ChangesRequest,
    DigestView,
    HistoryPage,
    LogPage,
    LogRecord,
    OpenRequest,
    ShareRequest,
    WrittenView,
)
from meshnode.core.views import (
    AttachmentView,
    ConflictView,
    HistoryView,
    IncidentSummary,
    IncidentView,
    MemberView,
    NodeView,
    ObjectView,
    PeerView,
)
from meshnode.errors import MeshnodeError

TIMEOUT_S = 60.0
"""For one answer. A change waits for the daemon's disk, which may be slow for a while and is still working."""

STREAM_SILENCE_S = 40.0
"""A stream that says nothing for so long is dead: its heartbeat comes every 15 s."""

EVENT_LINE_BYTES_MAX = 4 * 1024 * 1024
"""One line of an event stream. The largest entry is some 100 KB of JSON."""

T = TypeVar("T")


class ApiError(MeshnodeError):
    """The daemon refused, or could not be asked. ``status`` is 0 when no answer came."""

    def __init__(self, code: str, reason: str, action: str = "", *, status: int = 0, path: str = "") -> None:
        super().__init__(code, reason, action)
        self.status = status
        self.path = path


class File(NamedTuple):
    """An attachment as it came."""

    name: str
    media_type: str
    data: bytes


class _Problem(msgspec.Struct, frozen=True):
    code: str = "unknown-problem"
    detail: str = ""
    action: str = ""
    status: int = 0
    path: str = ""

    def error(self) -> ApiError:
        return ApiError(self.code, self.detail, self.action, status=self.status, path=self.path)


class Client:
    def __init__(self, socket_path: str, *, operator: str = "", timeout_s: float = TIMEOUT_S) -> None:
        """``operator``: in whose name changes are made; the daemon appends the user id."""
        if not operator.isprintable():
            raise ApiError("bad-operator", "the operator's name holds characters that do not print", "choose another")
        self._path = socket_path
        self._operator = operator
        self._timeout_s = timeout_s
        self._sock: socket.socket | None = None

    def __enter__(self) -> Client:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        if self._sock is not None:
            self._sock.close()
            self._sock = None

    # --- reads ------------------------------------------------------------------------------------------------

    def node(self) -> NodeView:
        return self._get("/v1/node", NodeView)

    def peers(self) -> list[PeerView]:
        return self._get("/v1/peers", list[PeerView])

    def incidents(self) -> list[IncidentSummary]:
        return self._get("/v1/incidents", list[IncidentSummary])

    def incident(self, incident: str) -> IncidentView:
        return self._get(_path(incident), IncidentView)

    def digest(self, incident: str) -> DigestView:
        return self._get(_path(incident, "digest"), DigestView)

    def log(self, incident: str, *, after: str = "", limit: int = 100, order: str = "oldest") -> LogPage:
        return self._get(_path(incident, "log", after=after, limit=limit, order=order), LogPage)

    def collection(self, incident: str, collection: str) -> list[ObjectView]:
        return self._get(_path(incident, "collections", collection), list[ObjectView])

    def object(self, incident: str, collection: str, object_id: str) -> ObjectView:
        return self._get(_path(incident, "collections", collection, object_id), ObjectView)

    def history(
        self, incident: str, *, after: str = "", limit: int = 100, object_id: str | None = None, order: str = "oldest"
    ) -> HistoryPage:
        path = _path(incident, "history", after=after, limit=limit, object=object_id, order=order)
        return self._get(path, HistoryPage)

    def conflicts(self, incident: str) -> list[ConflictView]:
        return self._get(_path(incident, "conflicts"), list[ConflictView])

    def members(self, incident: str) -> list[MemberView]:
        return self._get(_path(incident, "members"), list[MemberView])

    def attachments(self, incident: str) -> list[AttachmentView]:
        return self._get(_path(incident, "attachments"), list[AttachmentView])

    def attachment(self, incident: str, object_id: str) -> File:
        answer = self._ask("GET", _path(incident, "attachments", object_id), None)
        disposition = answer.headers.get("Content-Disposition", "")
        name = unquote(disposition.partition("filename*=UTF-8''")[2])
        return File(name, answer.headers.get("Content-Type", ""), answer.body)

    def openapi(self) -> dict[str, Any]:
        return self._get("/v1/openapi.json", dict[str, Any])

    # --- changes ----------------------------------------------------------------------------------------------

    def open_incident(
        self,
        kind: str,
        fields: Mapping[str, Any] | None = None,
        *,
        changes: Sequence[ChangeRequest] = (),
        attachments: Sequence[AttachmentRequest] = (),
        share_with: Sequence[str] = (),
        with_relays: bool = False,
    ) -> WrittenView:
        """``with_relays``: devices of these NOCs that are relays become readers too, for good."""
        nocs = _codes(share_with, "share_with")
        request = OpenRequest(kind, dict(fields or {}), list(changes), list(attachments), nocs, with_relays)
        return self._post("/v1/incidents", request)

    def change(
        self, incident: str, changes: Sequence[ChangeRequest], attachments: Sequence[AttachmentRequest] = ()
    ) -> WrittenView:
        """All changes or none; returns once they are durable at this node."""
        return self._post(_path(incident, "changes"), ChangesRequest(list(changes), list(attachments)))

    def append_log(
        self,
        incident: str,
        text: str,
        *,
        precedence: str | None = None,
        marking: str | None = None,
        category: str | None = None,
    ) -> WrittenView:
        return self._post(_path(incident, "log"), LogRecord(text, precedence, marking, category))

    def share(self, incident: str, nocs: Sequence[str], *, with_relays: bool = False) -> WrittenView:
        """Makes the devices of these NOCs members; ``with_relays`` as in :meth:`open_incident`."""
        return self._post(_path(incident, "members"), ShareRequest(_codes(nocs, "nocs"), with_relays))

    # --- events -----------------------------------------------------------------------------------------------

    def events(
        self,
        *,
        incident: str | None = None,
        after: str | None = None,
        pause_s: float = 1.0,
        on_link: Callable[[bool], None] = lambda _following: None,
    ) -> Iterator[HistoryView]:
        """Merged entries as they become durable, without gap or end. ``after`` None starts now, "0" at the beginning,
        and the ``cursor`` of an entry or of :meth:`node` behind it.

        Reads on after the last entry when the daemon restarts or the connection breaks, ``pause_s`` later, and tells
        ``on_link``: False when the connection was lost, True when it follows again. Raises ApiError when the first
        attempt fails, and whenever the daemon refuses for good; ``bad-cursor`` then means that it was restored from a
        back-up: ask :meth:`node` for its ``cursor``, read the incidents anew, and follow from there.
        """
        cursor = after
        started, following = False, True
        while True:
            try:
                for place, entry in self._stream(incident, cursor):
                    if not following:
                        on_link(True)
                    started = following = True
                    cursor = place
                    if entry is not None:
                        yield entry
            except ApiError as error:
                passing = error.status in (0, 503)
                if not started or not passing:
                    raise
            if following:
                following = False
                on_link(False)
            time.sleep(pause_s)

    def _stream(self, incident: str | None, cursor: str | None) -> Iterator[tuple[str, HistoryView | None]]:
        """One connection's worth of (cursor, entry); without entry where only the cursor moved."""
        with self._connect(STREAM_SILENCE_S) as sock:
            target = "/v1/events" + _query(incident=incident, after=cursor)
            try:
                sock.sendall(self._head("GET", target, None, "text/event-stream"))
                response = http.client.HTTPResponse(sock, method="GET")
                response.begin()
                if response.status != 200:
                    raise _problem_error(response.status, response.read())
                yield from _parse_events(response)
            except (OSError, http.client.HTTPException):
                return

    # --- one request ------------------------------------------------------------------------------------------

    def _get(self, target: str, result: type[T]) -> T:
        return _decode(self._ask("GET", target, None).body, result)

    def _post(self, target: str, record: msgspec.Struct) -> WrittenView:
        try:
            # Not msgspec's encoder: it writes null for NaN and infinity, and a value would be lost without a word.
            body = json.dumps(msgspec.to_builtins(record), allow_nan=False, ensure_ascii=False).encode("utf-8")
        except (TypeError, ValueError) as error:
            raise ApiError("invalid-value", f"a value cannot be sent: {error}", "send values that JSON has") from None
        return _decode(self._ask("POST", target, body).body, WrittenView)

    def _ask(self, method: str, target: str, body: bytes | None) -> _Answer:
        sock = self._reusable() or self._connect(self._timeout_s)
        self._sock = sock
        try:
            answer = self._exchange(sock, method, target, body)
        except TimeoutError:
            self.close()
            raise ApiError(
                "daemon-timeout",
                f"the daemon did not answer within {self._timeout_s:g} s{_unknown_fate(method)}",
                "look at the daemon's log: its disk may be slow",
            ) from None
        except (OSError, http.client.HTTPException) as error:
            self.close()
            raise ApiError(
                "answer-lost",
                f"the daemon closed the connection before its answer ({error}){_unknown_fate(method)}",
                "see whether the daemon runs, read the incident, then repeat the request if need be",
            ) from None
        except BaseException:
            # Interrupted in the middle of an answer: the rest of it must not be read as the next one.
            self.close()
            raise
        if answer.close:
            self.close()
        if answer.status >= 400:
            raise _problem_error(answer.status, answer.body)
        return answer

    def _exchange(self, sock: socket.socket, method: str, target: str, body: bytes | None) -> _Answer:
        try:
            sock.sendall(self._head(method, target, body, "application/json") + (body or b""))
        except (BrokenPipeError, ConnectionResetError) as error:
            # Refused before it was read; the reason may be waiting for us.
            refused: OSError | None = error
        else:
            refused = None
        response = http.client.HTTPResponse(sock, method=method)
        try:
            response.begin()
            if response.length is None:
                raise http.client.IncompleteRead(b"")  # cut off within the header: our answers have a length
            data = response.read()
        except (OSError, http.client.HTTPException):
            if refused is not None:
                raise refused from None
            raise
        finally:
            response.close()
        return _Answer(response.status, response.headers, data, response.will_close)

    def _head(self, method: str, target: str, body: bytes | None, accept: str) -> bytes:
        lines = [f"{method} {target} HTTP/1.1", "Host: localhost", f"Accept: {accept}"]
        if body is not None:
            lines += ["Content-Type: application/json", f"Content-Length: {len(body)}"]
            if self._operator:
                lines.append(f"Meshnode-Operator: {self._operator}")
        return "\r\n".join([*lines, "", ""]).encode("utf-8")

    def _reusable(self) -> socket.socket | None:
        """The open connection, unless the daemon has closed it meanwhile."""
        if self._sock is None:
            return None
        readable, _, _ = select.select([self._sock], [], [], 0)
        if readable:
            self.close()
        return self._sock

    def _connect(self, timeout_s: float) -> socket.socket:
        sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        sock.settimeout(timeout_s)
        try:
            sock.connect(self._path)
        except OSError as error:
            sock.close()
            raise _unreachable(self._path, error) from None
        return sock


class _Answer(NamedTuple):
    status: int
    headers: Any
    body: bytes
    close: bool


def _parse_events(response: http.client.HTTPResponse) -> Iterator[tuple[str, HistoryView | None]]:
    place, name, data = "0", "", b""
    while True:
        line = response.readline(EVENT_LINE_BYTES_MAX)
        if not line.endswith(b"\n"):
            return  # the end, maybe in the middle of an event: it comes again
        field, _, value = line.rstrip(b"\r\n").partition(b": ")
        if field == b"id":
            place = value.decode("utf-8")
        elif field == b"event":
            name = value.decode("utf-8")
        elif field == b"data":
            data += value
        elif not line.strip():
            if name == "problem":
                raise _problem_error(0, data)
            if name == "entry":
                yield place, _decode(data, HistoryView)
            elif not name:
                yield place, None
            name, data = "", b""


def _codes(nocs: Sequence[str], parameter: str) -> list[str]:
    """A text is a sequence of texts too, so a type checker does not see that "NL" would become N and L."""
    if isinstance(nocs, str):
        raise TypeError(f'{parameter} takes a list of NOC codes: ["{nocs}"], not "{nocs}"')
    return list(nocs)


def _path(incident: str, *segments: str, **parameters: str | int | None) -> str:
    path = "/".join(quote(segment, safe="") for segment in (incident, *segments))
    return f"/v1/incidents/{path}{_query(**parameters)}"


def _query(**parameters: str | int | None) -> str:
    given = {name: value for name, value in parameters.items() if value is not None and value != ""}
    return f"?{urlencode(given)}" if given else ""


def _decode(body: bytes, result: type[T]) -> T:
    try:
        return msgspec.json.decode(body, type=result)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise ApiError(
            "answer-not-understood",
            f"the daemon's answer cannot be read: {error}",
            "use the same version on both sides",
        ) from None


def _problem_error(status: int, body: bytes) -> ApiError:
    try:
        problem = msgspec.json.decode(body, type=_Problem)
    except (msgspec.DecodeError, UnicodeDecodeError):
        return ApiError("answer-not-understood", f"HTTP status {status}", "see whether this is meshnode", status=status)
    return problem.error()


def _unknown_fate(method: str) -> str:
    return "" if method == "GET" else "; whether the change was made is not known"


def _unreachable(path: str, error: OSError) -> ApiError:
    if isinstance(error, PermissionError):
        closed = _closed_on_the_way(path)
        reason = f"this user may not open {path}" + (f": the directory {closed} is closed to it" if closed else "")
        action = (
            f"have {closed} opened to the group of the socket, or the socket put elsewhere (api.socket)"
            if closed
            else "join the group that owns the socket, or use the read-only socket"
        )
    elif isinstance(error, FileNotFoundError):
        reason = f"there is no socket {path}"
        action = "start the daemon (meshnode run), or name its socket"
    elif isinstance(error, ConnectionRefusedError):
        reason = f"no daemon listens at {path}"
        action = "start the daemon (meshnode run); it replaces the old socket file by itself"
    else:
        reason = f"cannot connect to {path}: {error}"
        action = "name the socket of a running daemon"
    return ApiError("daemon-unreachable", reason, action)


def _closed_on_the_way(path: str) -> Path | None:
    """The first directory that this user may not enter; None when it is the socket itself."""
    for directory in reversed(Path(path).absolute().parents):
        if not os.access(directory, os.X_OK, effective_ids=os.access in os.supports_effective_ids):
            return directory
    return None
