"""A session closes its sockets however it ends. Turns of the loop are counted: each moment of an end can be tried."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Callable, Sequence
from dataclasses import replace

import pytest
from lan_support import GROUP, PORT, QUICK
from zeroconf.asyncio import AsyncZeroconf

from meshnode.discovery.hints import Hints
from meshnode.discovery.interfaces import LocalAddress, local_addresses
from meshnode.discovery.session import Started, open_zeroconf, run_session
from meshnode.errors import LocalFaultError

TURNS_MAX = 60
"""More than a session has that starts, fails at its first beat and says goodbye."""


class CountedLoop(asyncio.SelectorEventLoop):
    """Waits for no timer: its time moves on to the next one. At chosen turns the session is cancelled, or time is lost
    as on a machine with too much to do."""

    def __init__(self, cancel_at: int, lose_10_s_at: int) -> None:
        super().__init__()
        self.turns = 0
        self.session: asyncio.Task[None] | None = None
        self._cancel_at = cancel_at
        self._lose_10_s_at = lose_10_s_at
        self._ahead_s = 0.0

    def time(self) -> float:
        return super().time() + self._ahead_s

    def _run_once(self) -> None:
        self.turns += 1
        assert self.turns < 10 * TURNS_MAX
        if self.turns == self._cancel_at and self.session is not None:
            self.session.cancel()
        if self.turns == self._lose_10_s_at:
            self._ahead_s += 10
        if self._scheduled and not self._ready:
            self._ahead_s += max(0.0, self._scheduled[0]._when - self.time())
        super()._run_once()


class Trial:
    """One session from its start to its end."""

    def __init__(
        self,
        *,
        cancel_at: int = 0,
        lose_10_s_at: int = 0,
        stop_timeout_s: float = 1.0,
        at_first_beat: Callable[[AsyncZeroconf], Sequence[LocalAddress]] = lambda zeroconf: [],
    ) -> None:
        self.sockets: list[socket.socket] = []
        self.notes: list[object] = []
        self.strays: list[object] = []
        self._settings = replace(QUICK, listen="127.0.0.1:5999", stop_timeout_s=stop_timeout_s)
        self._at_first_beat = at_first_beat
        self._zeroconf: AsyncZeroconf | None = None
        self._loop = CountedLoop(cancel_at, lose_10_s_at)
        self.end = self._run()
        self.turns = self._loop.turns

    def _run(self) -> str:
        try:
            with asyncio.Runner(loop_factory=lambda: self._loop) as runner:
                runner.get_loop().set_exception_handler(lambda loop, context: self.strays.append(context))
                runner.run(self._session())
        except (LocalFaultError, AttributeError, asyncio.CancelledError) as error:
            return type(error).__name__
        raise AssertionError("a session does not end without a reason")

    async def _session(self) -> None:
        self._loop.session = asyncio.current_task()
        await run_session(self._settings, Hints(), self.notes.append, self._open, self._scan)

    def _open(self, interfaces: Sequence[str | int]) -> AsyncZeroconf:
        self._zeroconf = open_zeroconf(interfaces)
        engine = self._zeroconf.zeroconf.engine
        assert engine._listen_socket is not None
        self.sockets = [engine._listen_socket, *engine._respond_sockets]
        return self._zeroconf

    def _scan(self) -> Sequence[LocalAddress]:
        return local_addresses() if self._zeroconf is None else self._at_first_beat(self._zeroconf)

    def assert_closed(self) -> None:
        assert len(self.sockets) > 1
        assert [udp.fileno() for udp in self.sockets] == [-1] * len(self.sockets)


def test_a_session_that_fails_at_its_first_beat_closes_its_sockets() -> None:
    trial = Trial()
    trial.assert_closed()
    assert trial.end == "LocalFaultError"
    assert [type(note) for note in trial.notes] == [Started]
    assert trial.turns < TURNS_MAX


def test_a_session_told_to_stop_at_any_moment_closes_its_sockets() -> None:
    """Also while it says goodbye because it has failed by itself."""
    for turn in range(2, TURNS_MAX):
        trial = Trial(cancel_at=turn)
        trial.assert_closed()
        assert trial.strays == [], f"cancelled at turn {turn}"


@pytest.mark.parametrize("stop_timeout_s", [0.1, 1.0])
def test_a_session_told_to_stop_on_a_machine_that_is_too_busy_closes_its_sockets(stop_timeout_s: float) -> None:
    """The time for the goodbye is up at any moment of it, also when the sockets are not yet set up."""
    for cancel_at in range(2, 24, 2):
        for later in range(8):
            Trial(cancel_at=cancel_at, lose_10_s_at=cancel_at + later, stop_timeout_s=stop_timeout_s).assert_closed()


def test_a_session_closes_its_sockets_when_the_library_raises_at_its_end() -> None:
    def break_goodbye(zeroconf: AsyncZeroconf) -> Sequence[LocalAddress]:
        zeroconf.async_browsers.clear()
        zeroconf.zeroconf.registry = None
        return []

    trial = Trial(at_first_beat=break_goodbye)
    trial.assert_closed()
    assert trial.end == "AttributeError"


def test_a_session_closes_its_sockets_although_the_kernel_does_not_take_its_packets() -> None:
    def fill(zeroconf: AsyncZeroconf) -> Sequence[LocalAddress]:
        for reader in zeroconf.zeroconf.engine.readers:
            reader.transport._buffer.append((b"waits for ever", (GROUP, PORT)))
        return []

    Trial(at_first_beat=fill).assert_closed()
