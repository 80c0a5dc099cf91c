"""aioquic's own server, as it comes, in a process of its own: the yardstick for whatever goes over a link.

    python -m simulations.benchmarks.bare_quic DIRECTORY     prints its port, serves until its input closes

A stream that begins with ``e`` is echoed message by message; one with ``s`` and a number is answered with that many
bytes. The client half, in the process of the benchmark, is below.
"""

from __future__ import annotations

import asyncio
import contextlib
import datetime
import ssl
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

from aioquic.asyncio.client import connect
from aioquic.asyncio.protocol import QuicConnectionProtocol
from aioquic.asyncio.server import serve
from aioquic.quic.configuration import QuicConfiguration
from aioquic.quic.events import QuicEvent, StreamDataReceived
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

ALPN = "bare/1"
MESSAGE_BYTES = 600
"""Echoed: about what one pushed entry of 250 bytes of content is on the wire."""
READ_BYTES = 65_536


def configuration(is_client: bool) -> QuicConfiguration:
    made = QuicConfiguration(alpn_protocols=[ALPN], is_client=is_client, verify_mode=ssl.CERT_NONE)
    if not is_client:
        made.private_key = key = Ed25519PrivateKey.generate()
        name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "bare")])
        start = datetime.datetime(2000, 1, 1, tzinfo=datetime.UTC)
        builder = x509.CertificateBuilder().subject_name(name).issuer_name(name).public_key(key.public_key())
        builder = builder.serial_number(1).not_valid_before(start).not_valid_after(start.replace(year=9999))
        made.certificate = builder.sign(key, None)
    return made


async def _answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    order = await reader.readexactly(1)
    if order == b"e":
        while message := await reader.read(READ_BYTES):
            writer.write(message)
    else:
        writer.write(bytes(int.from_bytes(await reader.readexactly(8), "big")))
        writer.write_eof()


async def _serve() -> None:
    def on_stream(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.ensure_future(_answer(reader, writer))
        tasks.add(task)
        task.add_done_callback(tasks.discard)

    tasks: set[asyncio.Task[None]] = set()
    server = await serve("127.0.0.1", 0, configuration=configuration(is_client=False), stream_handler=on_stream)
    transport = server._transport  # aioquic's server does not tell its port otherwise
    assert transport is not None
    print(transport.get_extra_info("sockname")[1], flush=True)
    await asyncio.get_running_loop().run_in_executor(None, sys.stdin.read)
    server.close()


@contextlib.contextmanager
def server() -> Iterator[int]:
    """A bare server; its port."""
    command = [sys.executable, "-m", __name__]
    root = Path(__file__).parents[2]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, cwd=root) as process:
        assert process.stdout is not None
        yield int(process.stdout.readline())
        process.communicate()


class _Client(QuicConnectionProtocol):
    """Counts what arrives, and wakes who waits for it."""

    received = 0
    wanted = 0
    arrived: asyncio.Future[None] | None = None

    def quic_event_received(self, event: QuicEvent) -> None:
        if isinstance(event, StreamDataReceived):
            self.received += len(event.data)
            if self.arrived is not None and self.received >= self.wanted:
                self.arrived.set_result(None)
                self.arrived = None

    async def ask(self, order: bytes, answer_bytes: int) -> float:
        """Sends on the first stream; the seconds until so many more bytes are there."""
        begin = time.monotonic()
        self.wanted = self.received + answer_bytes
        self.arrived = asyncio.get_running_loop().create_future()
        self._quic.send_stream_data(0, order)
        self.transmit()
        await self.arrived
        return time.monotonic() - begin


@contextlib.asynccontextmanager
async def _connected(port: int) -> AsyncIterator[_Client]:
    made = configuration(is_client=True)
    async with connect("127.0.0.1", port, configuration=made, create_protocol=_Client) as client:
        assert isinstance(client, _Client)
        yield client


async def _round_trips(port: int, count: int) -> list[float]:
    async with _connected(port) as client:
        await client.ask(b"e" + bytes(MESSAGE_BYTES), MESSAGE_BYTES)
        return [await client.ask(bytes(MESSAGE_BYTES), MESSAGE_BYTES) for _ in range(count)]


async def _transfer(port: int, size_bytes: int) -> float:
    async with _connected(port) as client:
        return await client.ask(b"s" + size_bytes.to_bytes(8, "big"), size_bytes)


def round_trips(port: int, count: int) -> list[float]:
    """Seconds of each of ``count`` round trips, one after the other."""
    return asyncio.run(_round_trips(port, count))


def transfer(port: int, size_bytes: int) -> float:
    """Seconds to fetch that many bytes over one stream, connection already made."""
    return asyncio.run(_transfer(port, size_bytes))


if __name__ == "__main__":
    asyncio.run(_serve())
