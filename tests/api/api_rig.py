"""The real server on real Unix sockets, and a client that sends whatever bytes a test wants."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

import trio
from memory_service import MemoryService

from meshnode.api.server import ApiServer
from meshnode.api.settings import ApiLimits, ApiSettings, SocketSettings
from meshnode.api.sockets import open_listeners

INCIDENT = "0" * 32
"""The first incident of a MemoryService."""


class Response(NamedTuple):
    status: int
    headers: dict[str, str]
    body: bytes

    @property
    def json(self) -> Any:
        return json.loads(self.body)

    @property
    def code(self) -> str:
        """The code of a problem."""
        assert self.headers["content-type"] == "application/problem+json"
        problem = self.json
        assert problem["status"] == self.status
        assert problem["type"] == f"urn:meshnode:problem:{problem['code']}"
        assert problem["title"]
        assert problem["detail"]
        return problem["code"]


class RawClient:
    def __init__(self, stream: trio.SocketStream) -> None:
        self.stream = stream
        self._buffer = b""

    async def send(self, data: bytes) -> None:
        await self.stream.send_all(data)

    async def ask(
        self, method: str, path: str, body: bytes | None = None, headers: str = "", media: str = "application/json"
    ) -> Response:
        head = f"{method} {path} HTTP/1.1\r\nHost: x\r\n{headers}"
        if body is not None:
            head += f"Content-Type: {media}\r\nContent-Length: {len(body)}\r\n"
        await self.send(head.encode() + b"\r\n" + (body or b""))
        return await self.response(head_only=method == "HEAD")

    async def ask_json(self, method: str, path: str, value: Any, headers: str = "") -> Response:
        return await self.ask(method, path, json.dumps(value).encode(), headers)

    async def response(self, *, head_only: bool = False) -> Response:
        head = await self.read_until(b"\r\n\r\n")
        status_line, *lines = head.decode().removesuffix("\r\n\r\n").split("\r\n")
        headers = {name.lower(): value for name, _, value in (line.partition(": ") for line in lines)}
        size = 0 if head_only else int(headers.get("content-length", "0"))
        while len(self._buffer) < size:
            await self._more()
        body, self._buffer = self._buffer[:size], self._buffer[size:]
        return Response(int(status_line.split()[1]), headers, body)

    async def read_until(self, mark: bytes) -> bytes:
        while mark not in self._buffer:
            await self._more()
        found, _, self._buffer = self._buffer.partition(mark)
        return found + mark

    async def _more(self) -> None:
        data = await self.stream.receive_some()
        if not data:
            raise EOFError(f"closed after {self._buffer!r}")
        self._buffer += data

    async def is_closed(self) -> bool:
        """True when the server has closed; waits for it."""
        try:
            return self._buffer == b"" and await self.stream.receive_some() == b""
        except trio.BrokenResourceError:
            return True


@dataclass
class Rig:
    service: MemoryService
    server: ApiServer
    change_path: str
    read_path: str
    nursery: trio.Nursery
    refusals: Counter[str] = field(default_factory=Counter)
    clients: list[RawClient] = field(default_factory=list)

    async def connect(self, path: str = "") -> RawClient:
        client = RawClient(await trio.open_unix_socket(path or self.change_path))
        self.clients.append(client)
        return client

    async def connect_read(self) -> RawClient:
        return await self.connect(self.read_path)


@asynccontextmanager
async def serving(
    folder: Path, limits: ApiLimits | None = None, held: MemoryService | None = None
) -> AsyncIterator[Rig]:
    """A server with one incident, titled "Alert"; or with what ``held`` holds."""
    limits = limits or ApiLimits()
    change, read = str(folder / "api.sock"), str(folder / "read.sock")
    listeners = open_listeners(ApiSettings(SocketSettings(change), SocketSettings(read), limits))
    service = held or MemoryService()
    refusals: Counter[str] = Counter()

    def count(code: str) -> None:
        refusals[code] += 1

    server = ApiServer(service, limits, count)
    async with trio.open_nursery() as nursery:
        await nursery.start(lambda task_status: server.serve(listeners, task_status=task_status))
        rig = Rig(service, server, change, read, nursery, refusals)
        try:
            if held is None:
                await _open_first(rig)
            yield rig
        finally:
            nursery.cancel_scope.cancel()
            for client in rig.clients:
                client.stream.socket.close()


async def _open_first(rig: Rig) -> None:
    client = await rig.connect()
    opened = await client.ask_json("POST", "/v1/incidents", {"kind": "man-hunt", "fields": {"title": "Alert"}})
    assert opened.status == 201, opened
    await client.stream.aclose()
