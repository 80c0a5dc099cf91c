"""Local clients that behave badly (O6): they go in the middle of a request or a stream, stop half-way, or are deaf.

Each must cost the others nothing, and the daemon must be rid of it within the limits of its API. What must hold for
well-behaved clients is watched by ``clients`` meanwhile; here it is watched that the daemon lets go.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from random import Random

import trio

from meshnode.api.settings import ApiLimits
from simulations.worlds.clockwork import Trace
from simulations.worlds.contract import Outcome, Sighting
from simulations.worlds.daemon.client import NoAnswer, connected
from simulations.worlds.daemon.host import Host

LIMITS = ApiLimits()
SLACK_S = 1.0
"""A limit of the API may be kept so much later: nothing here takes computing time."""
NONE_CHANCE = 0.3
"""Of a seed: as with other faults, rare mixes need runs without the common ones."""
INTERVAL_S = (2.0, 30.0)
"""Between two of them at one node; each seed draws its own."""
PIPELINED = 120
"""Requests whose answers nobody reads: with the small buffers of that socket the daemon has to wait for the client."""
SILENT_S = 1.0
"""Nobody who is cut off by a limit may be kept for longer than this after it."""


class Rough:
    def __init__(self, outcome: Outcome, trace: Trace) -> None:
        self._outcome = outcome
        self._trace = trace
        self._seed = outcome.plan.seed
        rng = Random(f"rough {self._seed}")
        self._interval_s = 0.0 if rng.random() < NONE_CHANCE else rng.uniform(*INTERVAL_S)

    async def trouble(self, host: Host) -> None:
        """One rough client after the other at this node, until cancelled."""
        if not self._interval_s:
            return
        rng = Random(f"rough {self._seed} {host.name}")
        tricks: list[Callable[[Host, Random], Awaitable[None]]] = [
            self._goes_in_a_request,
            self._stops_in_a_request,
            self._does_not_read_answers,
            self._does_not_read_its_stream,
            self._goes_in_a_stream,
            self._talks_nonsense,
        ]
        while True:
            await trio.sleep(self._interval_s * (0.5 + rng.random()))
            if host.answers:
                trick = rng.choice(tricks)
                self._outcome.sometimes[f"rough client: {trick.__name__.strip('_').replace('_', ' ')}"] += 1
                self._trace.note(trio.current_time(), host.name, "rough client", trick.__name__)
                try:
                    await trick(host, rng)
                except NoAnswer:
                    continue

    async def _goes_in_a_request(self, host: Host, rng: Random) -> None:
        async with connected(host.socket) as client:
            await client.send(_half(rng))
            await trio.sleep(rng.choice((0.0, 0.001, 0.05)))

    async def _stops_in_a_request(self, host: Host, rng: Random) -> None:
        async with connected(host.socket) as client:
            await client.send(_half(rng))
            said = await self._rest(client.stream, host, LIMITS.request_read_s, "stopped in the middle of a request")
            self._outcome.sometimes["rough client: was told that its request took too long"] += b" 408 " in said[:16]

    async def _does_not_read_answers(self, host: Host, rng: Random) -> None:
        host.deaf += 1
        try:
            async with connected(host.socket_of_the_deaf) as client:
                await client.send(b"GET /v1/node HTTP/1.1\r\nHost: x\r\n\r\n" * PIPELINED)
                life, since_s = host.life, trio.current_time()
                await trio.sleep(LIMITS.write_s + SLACK_S)
                said = await self._rest(client.stream, host, SILENT_S, "never read its answers", life, since_s)
                self._outcome.sometimes["rough client: was given up, it read nothing"] += (
                    0 < said.count(b"HTTP/1.1 200") < PIPELINED
                )
        finally:
            host.deaf -= 1

    async def _does_not_read_its_stream(self, host: Host, rng: Random) -> None:
        async with connected(host.socket_of_the_deaf) as client:
            await client.send(b"GET /v1/events?after=0 HTTP/1.1\r\nHost: x\r\n\r\n")
            await trio.sleep(rng.uniform(0.0, LIMITS.write_s))

    async def _goes_in_a_stream(self, host: Host, rng: Random) -> None:
        async with connected(host.socket_of_the_deaf) as client:
            await client.send(b"GET /v1/events?after=0 HTTP/1.1\r\nHost: x\r\n\r\n")
            with trio.move_on_after(rng.uniform(0.0, 5.0)):
                await client.stream.receive_some(1 + rng.randrange(2_000))

    async def _talks_nonsense(self, host: Host, rng: Random) -> None:
        async with connected(host.socket) as client:
            await client.send(rng.randbytes(rng.randrange(1, 300)) + b"\r\n\r\n")
            await self._rest(client.stream, host, SILENT_S, "talked nonsense")

    # --- inside ---------------------------------------------------------------------------------------------------

    async def _rest(
        self, stream: trio.SocketStream, host: Host, within_s: float, what: str, life: int = 0, since_s: float = -1.0
    ) -> bytes:
        """Everything until the daemon ends the connection: within this time, unless it is down or paused itself."""
        life, since_s = life or host.life, trio.current_time() if since_s < 0 else since_s
        said = b""
        with trio.move_on_after(within_s + SLACK_S) as scope:
            try:
                while data := await stream.receive_some(65_536):
                    said += data
            except (trio.BrokenResourceError, trio.ClosedResourceError):
                return said
        if scope.cancelled_caught and host.life == life and host.answers and host.resumed_s < since_s:
            text = f"a client that {what} kept its connection for more than {within_s:g} s"
            self._outcome.sightings.append(Sighting("I6", trio.current_time(), host.name, text))
        return said


def _half(rng: Random) -> bytes:
    """A request that does not end: within its head, or within its body."""
    whole = b"POST /v1/incidents HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: 900\r\n\r\n{"
    return whole[: 1 + rng.randrange(len(whole))]
