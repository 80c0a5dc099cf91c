"""The command line as a person uses it: arguments in; output, error text and exit code out."""

from __future__ import annotations

import os
import sys
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
import trio
from cli_support import Meshnode, Said
from click.testing import CliRunner

from meshnode.api.server import ApiServer
from meshnode.api.settings import ApiLimits, ApiSettings, SocketSettings
from meshnode.api.sockets import open_listeners
from meshnode.cli import root

# The small true NodeService that the API's own tests run against.
sys.path.append(str(Path(__file__).parents[1] / "api"))

from memory_service import MemoryService


@pytest.fixture
def meshnode(monkeypatch: pytest.MonkeyPatch) -> Meshnode:
    for name in ("MESHNODE_SOCKET", "MESHNODE_CONFIG", "MESHNODE_OPERATOR"):
        monkeypatch.delenv(name, raising=False)

    def call(*arguments: object, stdin: str | None = None) -> Said:
        result = CliRunner().invoke(root, [str(argument) for argument in arguments], prog_name="meshnode", input=stdin)
        return Said(result.exit_code, result.stdout, result.stderr)

    return call


@dataclass
class Daemon:
    """A real API server in a thread of its own, with a service in memory behind it."""

    service: MemoryService
    socket: Path
    read_socket: Path


@pytest.fixture
def daemon(tmp_path: Path, meshnode: Meshnode, monkeypatch: pytest.MonkeyPatch) -> Iterator[Daemon]:
    """MESHNODE_SOCKET points at it."""
    del meshnode  # which clears the environment first
    running = Daemon(MemoryService(), tmp_path / "api.sock", tmp_path / "read.sock")
    limits = ApiLimits()
    listeners = open_listeners(
        ApiSettings(SocketSettings(str(running.socket)), SocketSettings(str(running.read_socket)), limits)
    )
    ready, stop = threading.Event(), trio.Event()
    tokens: list[trio.lowlevel.TrioToken] = []

    async def serve() -> None:
        tokens.append(trio.lowlevel.current_trio_token())
        async with trio.open_nursery() as nursery:
            await nursery.start(
                lambda task_status: ApiServer(running.service, limits).serve(listeners, task_status=task_status)
            )
            ready.set()
            await stop.wait()
            nursery.cancel_scope.cancel()

    thread = threading.Thread(target=trio.run, args=(serve,))
    thread.start()
    assert ready.wait(10)
    monkeypatch.setitem(os.environ, "MESHNODE_SOCKET", str(running.socket))
    try:
        yield running
    finally:
        tokens[0].run_sync_soon(stop.set)
        thread.join(10)
