"""A local client inside the same process: HTTP/1.1 over the daemon's real Unix socket, awaited."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any, NamedTuple, TypeVar

import msgspec
import trio

from meshnode.core.events import Change, ChangeKind
from meshnode.core.views import HistoryView
from meshnode.errors import MeshnodeError
from simulations.worlds.work import OPERATOR

T = TypeVar("T")
RECEIVE_BYTES = 65_536


class NoAnswer(Exception):
    """The daemon is not there, or went before it answered."""


class Answer(NamedTuple):
    status: int
    body: bytes

    def decode(self, kind: type[T]) -> T:
        """The record of an answer. Raises RefusalError for a problem."""
        if self.status >= 400:
            problem = msgspec.json.decode(self.body)
            raise RefusalError(problem["code"], problem.get("detail", ""))
        return msgspec.json.decode(self.body, type=kind)


class RefusalError(MeshnodeError):
    """The daemon answered with a problem."""


class Client:
    """One connection, one request at a time."""

    def __init__(self, stream: trio.SocketStream) -> None:
        self.stream = stream
        self._buffer = b""

    async def ask(self, method: str, path: str, body: Any = None) -> Answer:
        data = b"" if body is None else msgspec.json.encode(body)
        head = f"{method} {path} HTTP/1.1\r\nHost: x\r\nMeshnode-Operator: {OPERATOR}\r\n"
        if body is not None:
            head += f"Content-Type: application/json\r\nContent-Length: {len(data)}\r\n"
        await self.send(head.encode() + b"\r\n" + data)
        lines = (await self._until(b"\r\n\r\n")).decode().lower().split("\r\n")
        size = next(int(line.partition(": ")[2]) for line in lines if line.startswith("content-length: "))
        while len(self._buffer) < size:
            await self._more()
        found, self._buffer = self._buffer[:size], self._buffer[size:]
        return Answer(int(lines[0].split()[1]), found)

    async def get(self, path: str, kind: type[T]) -> T:
        return (await self.ask("GET", path)).decode(kind)

    async def events(self, after: str) -> AsyncIterator[tuple[str, HistoryView | None]]:
        """(cursor, entry), without entry where only the cursor moved. Ends in NoAnswer, or RefusalError."""
        await self.send(f"GET /v1/events?after={after} HTTP/1.1\r\nHost: x\r\n\r\n".encode())
        head = await self._until(b"\r\n\r\n")
        status = int(head.split()[1])
        if status != 200:
            body = self._buffer + await self.stream.receive_some(RECEIVE_BYTES)
            raise RefusalError(msgspec.json.decode(body)["code"], "the stream was refused")
        cursor, name = after, ""
        while True:
            line = (await self._until(b"\n")).strip()
            field, _, value = line.partition(b": ")
            if field == b"id":
                cursor, name = value.decode(), ""
            elif field == b"event":
                name = value.decode()
            elif field == b"data" and name == "entry":
                yield cursor, msgspec.json.decode(value, type=HistoryView)
            elif field == b"data":
                raise RefusalError(msgspec.json.decode(value)["code"], "the stream ended")
            elif not line and not name:
                yield cursor, None

    async def send(self, data: bytes) -> None:
        try:
            await self.stream.send_all(data)
        except (trio.BrokenResourceError, trio.ClosedResourceError) as error:
            raise NoAnswer from error

    async def _until(self, mark: bytes) -> bytes:
        while mark not in self._buffer:
            await self._more()
        found, _, self._buffer = self._buffer.partition(mark)
        return found + mark

    async def _more(self) -> None:
        try:
            data = await self.stream.receive_some(RECEIVE_BYTES)
        except (trio.BrokenResourceError, trio.ClosedResourceError) as error:
            raise NoAnswer from error
        if not data:
            raise NoAnswer
        self._buffer += data


@asynccontextmanager
async def connected(path: str) -> AsyncIterator[Client]:
    """Raises NoAnswer when nobody listens."""
    sock = trio.socket.socket(trio.socket.AF_UNIX, trio.socket.SOCK_STREAM)
    try:
        await sock.connect(path)
    except OSError as error:
        sock.close()
        raise NoAnswer from error
    stream = trio.SocketStream(sock)
    try:
        yield Client(stream)
    finally:
        await trio.aclose_forcefully(stream)


def plain(change: Change) -> dict[str, Any]:
    """A change as the API takes it."""
    kind = change.kind.name.lower()
    if change.kind is ChangeKind.LOG:
        return {"kind": kind, "record": change.value}
    found: dict[str, Any] = {"kind": kind, "collection": change.collection}
    if change.object is not None:
        found["object"] = change.object.hex()
    if change.kind in (ChangeKind.CREATE, ChangeKind.DELETE):
        return found
    found["field"] = change.field
    if change.kind is not ChangeKind.REMOVE:
        found["value"] = change.value
    if change.replaces is not None:
        found["replaces"] = [dot.text for dot in change.replaces]
    return found
