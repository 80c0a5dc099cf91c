"""Responses as bytes. One response is one buffer, sent with one call.

Every head carries ``Cache-Control: no-store`` (operational data stays out of caches) and ``nosniff``.
"""

from __future__ import annotations

import time
from email.utils import formatdate
from http import HTTPStatus
from typing import Any

from meshnode.api.content import JSON, Format
from meshnode.api.problems import RequestError, problem_of
from meshnode.errors import MeshnodeError

CONTINUE = b"HTTP/1.1 100 Continue\r\n\r\n"

_FIXED = "Cache-Control: no-store\r\nX-Content-Type-Options: nosniff\r\n"
_heads: dict[tuple[int, str, bool], bytes] = {}
"""Heads up to the date, by status, media type and whether the connection closes. Bounded: see :func:`_head`."""
_HEADS_MAX = 256
_date = (0, b"")


def response(
    status: int, media_type: str, body: bytes, *, keep_alive: bool, head_only: bool = False, headers: str = ""
) -> bytes:
    """One whole response. ``headers`` are further header lines, each with its CRLF."""
    return b"%b%bContent-Length: %d\r\n%b\r\n%b" % (
        _head(status, media_type, keep_alive),
        _date_line(),
        len(body),
        headers.encode("ascii") if headers else b"",
        b"" if head_only else body,
    )


def record_response(
    status: int, record: Any, form: Format, *, keep_alive: bool, head_only: bool = False, headers: str = ""
) -> bytes:
    return response(
        status, form.media_type, form.encode(record), keep_alive=keep_alive, head_only=head_only, headers=headers
    )


def problem_response(
    error: MeshnodeError, form: Format = JSON, *, keep_alive: bool = False, head_only: bool = False
) -> bytes:
    problem = problem_of(error)
    headers = f"Allow: {error.allow}\r\n" if isinstance(error, RequestError) and error.allow else ""
    if problem.status == 503:
        headers += "Retry-After: 1\r\n"
    return response(
        problem.status,
        form.problem_media_type,
        form.encode(problem),
        keep_alive=keep_alive,
        head_only=head_only,
        headers=headers,
    )


def stream_head() -> bytes:
    """Head of an event stream: it has no length, its end is the end of the connection."""
    return _head(200, "text/event-stream", False) + _date_line() + b"\r\n"


def _head(status: int, media_type: str, keep_alive: bool) -> bytes:
    key = (status, media_type, keep_alive)
    head = _heads.get(key)
    if head is None:
        connection = "" if keep_alive else "Connection: close\r\n"
        head = (
            f"HTTP/1.1 {status} {HTTPStatus(status).phrase}\r\nContent-Type: {media_type}\r\n{_FIXED}{connection}"
        ).encode("ascii")
        # Attachments bring media types of their own; the usual heads are in long before this bound.
        if len(_heads) < _HEADS_MAX:
            _heads[key] = head
    return head


def _date_line() -> bytes:
    global _date
    now = int(time.time())
    if _date[0] != now:
        _date = (now, f"Date: {formatdate(now, usegmt=True)}\r\n".encode("ascii"))
    return _date[1]
