"""The server: accepts clients within the limits and gives each its task.

``serve`` runs until it is cancelled or :meth:`ApiServer.stop` is called. After ``stop`` no new client is accepted,
idle ones and streams end, requests being answered are finished, and ``serve`` returns.
"""

from __future__ import annotations

import errno
import socket
from collections.abc import Callable, Sequence

import trio

from meshnode.api.access import Access, UserAccount, peer_uid
from meshnode.api.connection import Connection
from meshnode.api.handlers import ROUTES
from meshnode.api.responses import problem_response
from meshnode.api.routes import Router
from meshnode.api.service import NodeService
from meshnode.api.settings import ApiLimits
from meshnode.api.sockets import Listener
from meshnode.api.stream import EventStreams
from meshnode.errors import RefusedError

_OUT_OF_DESCRIPTORS = {errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM}


def _count_nothing(code: str) -> None:
    """For a server whose refusals nobody counts."""


class ApiServer:
    """``count_refusal`` hears the code of every refusal, for the node's counters. ``uid_of`` tells who connected: a
    simulation puts its own here, so that one seed gives one trace whoever runs it."""

    def __init__(
        self,
        service: NodeService,
        limits: ApiLimits,
        count_refusal: Callable[[str], None] = _count_nothing,
        uid_of: Callable[[socket.socket], int] = peer_uid,
    ) -> None:
        self._service = service
        self._limits = limits
        self._count_refusal = count_refusal
        self._uid_of = uid_of
        self._router = Router(ROUTES)
        self._streams = EventStreams(limits, count_refusal)
        self._accounts: dict[int, UserAccount] = {}
        self._connections: set[Connection] = set()
        self._accepting: list[trio.CancelScope] = []
        self._stopping = False

    async def serve(
        self,
        listeners: Sequence[Listener],
        *,
        task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED,
    ) -> None:
        """Serves and at the end closes the listeners."""
        try:
            async with trio.open_nursery() as nursery:
                for listener in listeners:
                    nursery.start_soon(self._accept_loop, listener, nursery)
                task_status.started()
        finally:
            for listener in listeners:
                listener.close()

    def stop(self) -> None:
        """Ends everything but the requests being answered. Idempotent."""
        self._stopping = True
        for scope in self._accepting:
            scope.cancel()
        self._streams.stop()
        for connection in tuple(self._connections):
            connection.stop()

    async def _accept_loop(self, listener: Listener, nursery: trio.Nursery) -> None:
        open_here = _Counter()
        with trio.CancelScope() as scope:
            self._accepting.append(scope)
            if self._stopping:
                scope.cancel()
            while True:
                await trio.lowlevel.wait_readable(listener.sock)
                try:
                    sock, _ = listener.sock.accept()
                except (BlockingIOError, ConnectionError):
                    continue
                except OSError as error:
                    if error.errno not in _OUT_OF_DESCRIPTORS:
                        raise
                    self._count_refusal("out-of-descriptors")
                    await trio.sleep(self._limits.accept_pause_s)
                    continue
                self._admit(sock, listener.access, open_here, nursery)
        # Whoever comes now is refused by the kernel, while requests in hand are finished.
        listener.close()

    def _admit(self, sock: socket.socket, access: Access, open_here: _Counter, nursery: trio.Nursery) -> None:
        sock.setblocking(False)
        try:
            uid = self._uid_of(sock)
        except OSError:  # gone already
            sock.close()
            return
        account = self._accounts.setdefault(uid, UserAccount())
        refusal = self._refusal(open_here.value, account)
        if refusal is not None:
            self._count_refusal(refusal.code)
            try:
                sock.send(problem_response(refusal))  # fits the empty send buffer of a new socket
            except OSError:
                pass
            finally:
                sock.close()
            return
        connection = Connection(
            sock,
            uid,
            access,
            account,
            self._service,
            self._router,
            self._streams,
            self._limits,
            self._count_refusal,
        )
        nursery.start_soon(self._run, connection, uid, account, open_here)
        # Counted here, not in the task: a burst of accepts comes before any task runs.
        open_here.value += 1
        account.connections += 1
        self._connections.add(connection)
        if self._stopping:  # it came in the moment of the stop, before accepting was over
            connection.stop()

    async def _run(self, connection: Connection, uid: int, account: UserAccount, open_here: _Counter) -> None:
        try:
            await connection.run()
        finally:
            self._connections.discard(connection)
            open_here.value -= 1
            account.connections -= 1
            if not account.connections:
                self._accounts.pop(uid, None)

    def _refusal(self, open_here: int, account: UserAccount) -> RefusedError | None:
        limits = self._limits
        if open_here >= limits.connections_per_socket_max:
            return RefusedError(
                "too-many-clients", f"{open_here} clients are connected to this socket", "close unused connections"
            )
        if account.connections >= limits.connections_per_user_max:
            return RefusedError(
                "too-many-clients-of-user",
                f"this user has {account.connections} connections open",
                "close unused connections",
            )
        return None


class _Counter:
    """Connections of one socket."""

    __slots__ = ("value",)

    def __init__(self) -> None:
        self.value = 0
