"""HTTP/1.1 requests out of bytes, without a socket: a client pushes bytes in, complete requests come out.

llhttp (through httptools) does the parsing. It is strict by default and refuses what request smuggling is made of:
Content-Length with Transfer-Encoding, two Content-Lengths, bare line feeds, folded headers, spaces before colons,
control bytes. It leaves to us, and we add:

* sizes: llhttp accepts headers, bodies and chunk extensions without end;
* the transfer coding: only ``chunked`` alone (llhttp also lets ``gzip, chunked`` pass), and never with HTTP/1.0;
* versions other than 1.0 and 1.1, a missing Host, and Upgrade, after which llhttp would take a body for a request.

The first breach ends the connection: after it nobody can say where the next request begins. Requests that were
complete before it are still answered.

llhttp cannot be paused, so the bound on pipelining is the size of one read: nothing more is read from a client until
all requests of its last read are answered. A request in memory is under 1 KiB plus its body.
"""

from __future__ import annotations

from collections import deque
from typing import Any

import httptools
import msgspec

from meshnode.api.access import UserAccount
from meshnode.api.problems import RequestError
from meshnode.api.settings import ApiLimits
from meshnode.errors import MeshnodeError, RefusedError

READ_BYTES = 8 * 1024
"""One read between bodies: at most some 300 pipelined requests, and any usual request whole."""
READ_BODY_BYTES = 64 * 1024
"""One read within a body: 2 MiB arrive in 32 turns."""

_KEPT_HEADERS = {
    b"accept",
    b"content-type",
    b"expect",
    b"host",
    b"last-event-id",
    b"meshnode-operator",
}
_LIST_HEADERS = {b"accept"}
"""May occur more than once; RFC 9110 section 5.3 joins them with commas."""
_NO_HEADERS: dict[bytes, bytes] = {}


class Request(msgspec.Struct, frozen=True, gc=False):
    """One complete request."""

    method: str
    target: bytes
    headers: dict[bytes, bytes]
    """Only the fields this API looks at, by lowercase name."""
    body: bytes
    keep_alive: bool


class _Breach(Exception):
    """Stops llhttp from within a callback; the reason is already in ``RequestReader.refusal``."""


class RequestReader:
    """Bytes of one connection in, requests out. Charges bodies to the user's account until :meth:`release`."""

    def __init__(self, limits: ApiLimits, account: UserAccount) -> None:
        self.requests: deque[Request] = deque()
        self.refusal: MeshnodeError | None = None
        self.in_request = False
        """A request has begun and is not complete: its read time-out runs."""
        self.in_body = False
        self.wants_continue = False
        """The client waits for ``100 Continue`` before it sends the body."""
        self._limits = limits
        self._account = account
        self._charged_bytes = 0
        self._parser: Any = httptools.HttpRequestParser(self)
        self._header_bytes = 0
        self._unparsed_header_bytes = 0
        self._target = b""
        self._headers: dict[bytes, bytes] = _NO_HEADERS
        self._coding = b""
        self._length_bytes = 0
        self._body: list[bytes] = []
        self._body_bytes = 0
        self._keep_alive = False

    def receive_untrusted(self, data: bytes) -> None:
        """Parses bytes from the client. Never raises: a breach is left in :attr:`refusal`."""
        if self.refusal is not None:
            return
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserUpgrade:
            # CONNECT. (An Upgrade header was refused when it came.)
            self._refuse("upgrade-unsupported", "CONNECT and protocol upgrades are not offered", "speak plain HTTP/1.1")
        except (httptools.HttpParserError, _Breach) as error:
            if self.refusal is None:
                self._refuse("malformed-http", str(error) or "not HTTP", "speak HTTP/1.1 as RFC 9112 has it")
        if self.in_request and not self.in_body:
            # One header field that never ends reaches no callback; its bytes are counted here.
            self._unparsed_header_bytes += len(data)
            if self._unparsed_header_bytes > self._limits.header_bytes_max + READ_BODY_BYTES:
                self._refuse_header_size()

    def release(self, body_bytes: int) -> None:
        """A request was answered: its body is no longer held."""
        self._charged_bytes -= body_bytes
        self._account.body_bytes -= body_bytes

    def close(self) -> None:
        self.release(self._charged_bytes)
        self.requests.clear()

    # llhttp calls these, in the order of the bytes.

    def on_message_begin(self) -> None:
        self.in_request = True
        self.in_body = False
        self._header_bytes = self._unparsed_header_bytes = 0
        self._target = b""
        self._headers = {}
        self._coding = b""
        self._length_bytes = 0
        self._body = []
        self._body_bytes = 0

    def on_url(self, piece: bytes) -> None:
        self._count_header(len(piece))
        self._target += piece

    def on_header(self, name: bytes, value: bytes) -> None:
        # "name: value CRLF"; trailers of a chunked body come here too and count the same.
        self._count_header(len(name) + len(value) + 4)
        if self.in_body:
            return
        name = name.lower()
        if name in _KEPT_HEADERS:
            if name in self._headers:
                if name not in _LIST_HEADERS:
                    self._stop("duplicate-header", f"{name.decode()} occurs twice", "send it once")
                value = self._headers[name] + b"," + value
            self._headers[name] = value
        elif name == b"content-length":
            # llhttp has checked that it is a number, and the only one.
            self._length_bytes = int(value) if value.isdigit() else 0
        elif name == b"transfer-encoding":
            self._coding = value
        elif name == b"upgrade":
            self._stop("upgrade-unsupported", "protocol upgrades are not offered", "leave the Upgrade header out")

    def on_headers_complete(self) -> None:
        version = self._parser.get_http_version()
        if version not in ("1.0", "1.1"):
            self._stop("http-version-unsupported", f"HTTP/{version} is not spoken here", "use HTTP/1.1")
        if self._coding and (version == "1.0" or self._coding.strip().lower() != b"chunked"):
            self._stop("transfer-coding-unsupported", "only chunked is understood, with HTTP/1.1", "send it unencoded")
        if b"host" not in self._headers and version == "1.1":
            self._stop("malformed-http", "the Host header is missing", "send a Host header; its value does not matter")
        if self._length_bytes > self._limits.body_bytes_max:
            self._refuse_body_size(self._length_bytes)
        expect = self._headers.get(b"expect")
        if expect is not None:
            if expect.strip().lower() != b"100-continue":
                self._stop("expectation-failed", "only 100-continue is understood", "leave the Expect header out")
            self.wants_continue = version == "1.1"
        # HTTP/1.0 keep-alive is an extension we do not offer.
        self._keep_alive = version == "1.1" and bool(self._parser.should_keep_alive())
        self.in_body = True

    def on_body(self, piece: bytes) -> None:
        self.wants_continue = False
        size = len(piece)
        self._body_bytes += size
        if self._body_bytes > self._limits.body_bytes_max:
            self._refuse_body_size(self._body_bytes)
        if self._account.body_bytes + size > self._limits.body_bytes_per_user_max:
            self.refusal = RefusedError(
                "too-many-body-bytes", "the bodies of this user's requests fill their share of memory", "try again"
            )
            raise _Breach
        self._charged_bytes += size
        self._account.body_bytes += size
        self._body.append(piece)

    def on_message_complete(self) -> None:
        self.in_request = self.in_body = self.wants_continue = False
        body = self._body
        self.requests.append(
            Request(
                method=self._parser.get_method().decode("ascii"),
                target=self._target,
                headers=self._headers,
                body=body[0] if len(body) == 1 else b"".join(body),
                keep_alive=self._keep_alive,
            )
        )

    def _count_header(self, size: int) -> None:
        self._header_bytes += size
        if self._header_bytes > self._limits.header_bytes_max:
            self._refuse_header_size()
            raise _Breach

    def _refuse_header_size(self) -> None:
        limit = self._limits.header_bytes_max
        self._refuse("header-too-large", f"the header exceeds {limit} bytes", "send fewer or shorter header fields")

    def _refuse_body_size(self, size: int) -> None:
        limit = self._limits.body_bytes_max
        self._stop("body-too-large", f"the body has {size} bytes or more; at most {limit} are taken", "split it")

    def _refuse(self, code: str, reason: str, action: str) -> None:
        self.refusal = RequestError(code, reason, action)

    def _stop(self, code: str, reason: str, action: str) -> None:
        self._refuse(code, reason, action)
        raise _Breach
