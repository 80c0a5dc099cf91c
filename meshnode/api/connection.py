"""One client: one task, one request at a time.

The task sleeps until bytes come, parses them, answers each complete request with one buffer, and sleeps again. It
never takes a second turn while others wait: reading always goes through the scheduler, and so does each pipelined
request after the first. Nothing is read from a client that has answers to take.

Every wait for a client has a time-out (see ``ApiLimits``); the wait for the service has none, because a change that
is being made durable must be answered, however slow the disk is.
"""

from __future__ import annotations

import logging
import socket
from collections.abc import Callable

import trio

from meshnode.api.access import Access, UserAccount, operator_text_untrusted
from meshnode.api.content import JSON, Format, accepted_format, body_format, typed_untrusted
from meshnode.api.http1 import READ_BODY_BYTES, READ_BYTES, Request, RequestReader
from meshnode.api.problems import RequestError
from meshnode.api.responses import CONTINUE, problem_response, record_response, response
from meshnode.api.routes import (
    Answer,
    Call,
    Raw,
    Route,
    Router,
    parse_query_untrusted,
    result_of,
    split_target_untrusted,
)
from meshnode.api.service import NodeService
from meshnode.api.settings import ApiLimits
from meshnode.api.stream import ClientGone, EventStreams
from meshnode.errors import LocalFaultError, MeshnodeError, RefusedError

_log = logging.getLogger("meshnode.api")


class Connection:
    def __init__(
        self,
        sock: socket.socket,
        uid: int,
        access: Access,
        account: UserAccount,
        service: NodeService,
        router: Router,
        streams: EventStreams,
        limits: ApiLimits,
        count_refusal: Callable[[str], None],
    ) -> None:
        self._sock = sock
        self._uid = uid
        self._access = access
        self._service = service
        self._router = router
        self._streams = streams
        self._limits = limits
        self._count_refusal = count_refusal
        self._reader = RequestReader(limits, account)
        self._waiting: trio.CancelScope | None = None
        self._stopping = False
        self._streaming = False

    def stop(self) -> None:
        """Ends the connection as soon as no request is being answered. Idempotent."""
        self._stopping = True
        if self._waiting is not None:
            self._waiting.cancel()

    async def run(self) -> None:
        """Serves the client until one side ends the connection. Raises nothing but cancellation."""
        try:
            while not self._stopping:
                request = await self._next_request()
                if request is None or not await self._serve(request):
                    return
        except MeshnodeError as error:
            # The bytes cannot be understood any further: say why, and close.
            self._count_refusal(error.code)
            await self._send_last(problem_response(error))
        except ClientGone:
            return
        except Exception as error:  # noqa: BLE001 - the task's outer edge: a defect must not end the other clients
            _log.exception("a local client's connection failed")
            self._count_refusal("internal-error")
            if not self._streaming:
                await self._send_last(problem_response(_internal_error(error)))
        finally:
            self._reader.close()
            self._sock.close()

    # --- in ---------------------------------------------------------------------------------------------------

    async def _next_request(self) -> Request | None:
        """The next complete request, None when the client is done. Raises what is wrong with its bytes."""
        reader = self._reader
        if reader.requests:
            await trio.lowlevel.checkpoint()
        deadline = trio.current_time() + self._limits.idle_s
        timing_request = False
        while not reader.requests:
            if reader.refusal is not None:
                raise reader.refusal
            if reader.in_request and not timing_request:
                timing_request = True
                deadline = trio.current_time() + self._limits.request_read_s
            if reader.wants_continue:
                reader.wants_continue = False
                await self.send(CONTINUE)
            data = await self._receive(deadline)
            if data is None:
                if reader.in_request and not self._stopping:
                    seconds = self._limits.request_read_s
                    raise RequestError("request-timeout", f"not complete after {seconds:g} s", "send it in one go")
                return None
            if not data:
                return None
            reader.receive_untrusted(data)
        return reader.requests.popleft()

    async def _receive(self, deadline: float) -> bytes | None:
        """Bytes, ``b""`` at the end of the connection, or None at the deadline and when stopped."""
        while not self._stopping:
            with trio.CancelScope(deadline=deadline) as scope:
                self._waiting = scope
                try:
                    await trio.lowlevel.wait_readable(self._sock)
                finally:
                    self._waiting = None
            if scope.cancelled_caught:
                return None
            try:
                return self._sock.recv(READ_BODY_BYTES if self._reader.in_body else READ_BYTES)
            except BlockingIOError:
                continue
            except OSError as error:
                raise ClientGone from error
        return None

    # --- out --------------------------------------------------------------------------------------------------

    async def send(self, data: bytes) -> None:
        """All of it within the write time-out, or ClientGone."""
        try:
            sent = self._sock.send(data)
        except BlockingIOError:
            sent = 0
        except OSError as error:
            raise ClientGone from error
        if sent < len(data):
            await self._send_rest(memoryview(data)[sent:])

    async def _send_rest(self, rest: memoryview) -> None:
        with trio.move_on_after(self._limits.write_s):
            while rest:
                await trio.lowlevel.wait_writable(self._sock)
                try:
                    rest = rest[self._sock.send(rest) :]
                except BlockingIOError:
                    continue
                except OSError as error:
                    raise ClientGone from error
        if rest:
            self._count_refusal("client-too-slow")
            raise ClientGone

    async def _send_last(self, data: bytes) -> None:
        try:
            await self.send(data)
        except ClientGone:
            return

    async def wait_gone(self) -> None:
        """Returns when the client closes or speaks out of turn; for streams, which only send."""
        await trio.lowlevel.wait_readable(self._sock)

    @property
    def stopping(self) -> bool:
        return self._stopping

    # --- one request ------------------------------------------------------------------------------------------

    async def _serve(self, request: Request) -> bool:
        """Answers one request; True when the connection goes on."""
        keep_alive = request.keep_alive and not self._stopping
        head_only = request.method == "HEAD"
        form = accepted_format(request.headers.get(b"accept"))
        try:
            path, query = split_target_untrusted(request.target)
            route, params = self._router.find_untrusted(request.method, path)
            call = self._call(request, route, params, query)
            if route.answer is Answer.STREAM and not head_only:
                headers = request.headers
                self._streaming = True
                await self._streams.serve(self, call, headers.get(b"accept"), headers.get(b"last-event-id"))
                return False
            data = await self._answer(route, call, form, keep_alive=keep_alive, head_only=head_only)
        except MeshnodeError as error:
            self._count_refusal(error.code)
            data = problem_response(error, form or JSON, keep_alive=keep_alive, head_only=head_only)
        finally:
            self._reader.release(len(request.body))
        await self.send(data)
        return keep_alive

    async def _answer(
        self, route: Route, call: Call, form: Format | None, *, keep_alive: bool, head_only: bool
    ) -> bytes:
        if route.answer is Answer.STREAM:
            return response(200, "text/event-stream", b"", keep_alive=keep_alive, head_only=True)
        if route.answer is Answer.RECORD and form is None:
            raise RequestError(
                "not-acceptable",
                "answers are JSON or MessagePack",
                "accept application/json or application/msgpack",
            )
        result = await result_of(route, call)
        if isinstance(result, Raw):
            return response(
                route.status,
                result.media_type,
                result.data,
                keep_alive=keep_alive,
                head_only=head_only,
                headers=result.headers,
            )
        headers = f"Location: {route.path}/{result.incident}\r\n" if route.status == 201 else ""
        return record_response(
            route.status, result, form or JSON, keep_alive=keep_alive, head_only=head_only, headers=headers
        )

    def _call(self, request: Request, route: Route, params: dict[str, str], query: str) -> Call:
        """Everything typed and checked, or the RequestError or RefusedError that says what is not."""
        operator, body = "", None
        if route.changes:
            if self._access is not Access.CHANGE:
                raise RefusedError(
                    "read-only-socket", "this socket only reads", "use the socket for changes (api.sock)"
                )
            operator = operator_text_untrusted(request.headers.get(b"meshnode-operator"), self._uid)
        if route.body is not None:
            form = body_format(request.headers.get(b"content-type"))
            body = typed_untrusted(form.decode_untrusted(request.body), route.body)
        elif request.body:
            raise RequestError("unexpected-body", f"{route.method} {route.path} takes no body", "leave the body out")
        return Call(
            service=self._service,
            params=params,
            query=parse_query_untrusted(query, route.query),
            body=body,
            operator=operator,
        )


def _internal_error(error: Exception) -> LocalFaultError:
    # The class alone: a message could hold what the request held.
    return LocalFaultError(
        "internal-error",
        f"the node met a defect ({type(error).__name__}); whether a change was made is not known",
        "read the incident before you repeat the change, and report the defect with the node's log",
    )
