"""Every way a request can fail, as RFC 9457 problem details.

A *code* is the stable name of a problem; ``urn:meshnode:problem:<code>`` is its type. This table gives each code its
HTTP status and title. A code of the core that is not listed here gets the status of its error class, so a new reason
for refusing never turns into a crash or a blank 500. ``docs/local-api.md`` repeats the table; a test compares them.

Who is at fault shows in the status: 4xx the request, 5xx this node.
"""

from __future__ import annotations

from typing import NamedTuple

import msgspec

from meshnode.errors import LocalFaultError, MeshnodeError, RefusedError, UntrustedInputError


class ProblemType(NamedTuple):
    status: int
    title: str


PROBLEMS: dict[str, ProblemType] = {
    # the bytes of HTTP
    "malformed-http": ProblemType(400, "The bytes are not a valid HTTP/1.1 request"),
    "upgrade-unsupported": ProblemType(400, "Protocol upgrades are not offered"),
    "duplicate-header": ProblemType(400, "A header field that must be single occurs twice"),
    "request-timeout": ProblemType(408, "The request did not arrive in time"),
    "body-too-large": ProblemType(413, "The request body is too large"),
    "expectation-failed": ProblemType(417, "The expectation cannot be met"),
    "header-too-large": ProblemType(431, "The request header is too large"),
    "transfer-coding-unsupported": ProblemType(501, "The transfer coding is not supported"),
    "http-version-unsupported": ProblemType(505, "Only HTTP/1.0 and HTTP/1.1 are spoken"),
    # the request
    "unknown-path": ProblemType(404, "There is nothing at this path"),
    "method-not-allowed": ProblemType(405, "The path does not have this method"),
    "not-acceptable": ProblemType(406, "None of the accepted media types is offered"),
    "unsupported-media-type": ProblemType(415, "The media type of the body is not supported"),
    "unexpected-body": ProblemType(400, "This request takes no body"),
    "malformed-body": ProblemType(400, "The body is not valid JSON or MessagePack"),
    "duplicate-key": ProblemType(400, "A key occurs twice in one object"),
    "too-many-items": ProblemType(413, "The body holds too many values"),
    "invalid-value": ProblemType(422, "A value is not what this request takes"),
    "bad-query": ProblemType(400, "A query parameter is not what this request takes"),
    "bad-identifier": ProblemType(400, "An identifier is not well formed"),
    "bad-operator": ProblemType(400, "The operator's name cannot be used"),
    # access and limits
    "read-only-socket": ProblemType(403, "This socket only reads"),
    "too-many-clients": ProblemType(503, "Too many clients are connected"),
    "too-many-clients-of-user": ProblemType(503, "Too many clients of this user are connected"),
    "too-many-body-bytes": ProblemType(503, "Too many request bodies of this user are in memory"),
    "too-many-streams": ProblemType(503, "Too many event streams are open"),
    "stopping": ProblemType(503, "The node is stopping"),
    "internal-error": ProblemType(500, "The node failed to answer this request"),
    # the node
    "unknown-incident": ProblemType(404, "The incident is not known here"),
    "unknown-object": ProblemType(404, "The incident has no such object"),
    "not-a-member": ProblemType(403, "This node is not a member of the incident"),
    "not-entitled": ProblemType(403, "This node's role in the incident does not allow it"),
    "bad-cursor": ProblemType(400, "The cursor is not one of this listing or journal"),
    "unknown-collection": ProblemType(422, "The collection is not known and its name is not free"),
    "unknown-field": ProblemType(422, "The field is not known and its name is not free"),
    "bad-value": ProblemType(422, "The value does not have the type of its field"),
    "bad-geometry": ProblemType(422, "The value is not a GeoJSON geometry"),
    "not-a-set": ProblemType(422, "The field holds one value"),
    "not-a-register": ProblemType(422, "The field is a set"),
    "too-many-values": ProblemType(422, "The change names too many values"),
    "repeated-field": ProblemType(422, "The request sets a field twice"),
    "changed-and-deleted": ProblemType(422, "The request deletes an object and does something else with it"),
    "root-not-deletable": ProblemType(422, "The incident itself is not deleted"),
    "unknown-value": ProblemType(409, "The field does not have the value that was named"),
    "object-exists": ProblemType(409, "The object exists already"),
    "noc-unknown": ProblemType(409, "No device of this NOC is known here"),
    "relays-only": ProblemType(409, "The devices of this NOC are relays"),
    "no-prekey": ProblemType(409, "A device cannot be sealed to yet"),
    "already-members": ProblemType(409, "They are members already"),
    "no-usable-key": ProblemType(409, "There is no key to write under yet"),
    "attachment-too-large": ProblemType(413, "The attachment is too large"),
    "attachment-incomplete": ProblemType(409, "The attachment has not arrived whole"),
    "store-full": ProblemType(507, "The disk is full"),
}


class RequestError(UntrustedInputError):
    """The request is at fault; nothing changed. ``path`` points at the value, ``allow`` lists methods for a 405."""

    def __init__(self, code: str, reason: str, action: str, *, path: str = "", allow: str = "") -> None:
        super().__init__(code, reason, action)
        self.path = path
        self.allow = allow


class Problem(msgspec.Struct, frozen=True, omit_defaults=True):
    """RFC 9457 problem details, with our code and what to do next."""

    type: str
    title: str
    status: int
    detail: str
    code: str
    action: str
    path: str = ""
    """Where in the body the value is, as ``$.changes[0].field``. Absent when it is not about one value."""


def status_of(error: MeshnodeError) -> int:
    known = PROBLEMS.get(error.code)
    if known is not None:
        return known.status
    if isinstance(error, RefusedError):
        return 409
    if isinstance(error, LocalFaultError):
        return 503
    if isinstance(error, UntrustedInputError):
        return 422
    return 500


def problem_of(error: MeshnodeError) -> Problem:
    known = PROBLEMS.get(error.code)
    return Problem(
        type=f"urn:meshnode:problem:{error.code}",
        title=known.title if known is not None else error.code.replace("-", " ").capitalize(),
        status=status_of(error),
        detail=error.reason,
        code=error.code,
        action=error.action,
        path=error.path if isinstance(error, RequestError) else "",
    )
