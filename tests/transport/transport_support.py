"""What the tests of this room share: a small true authenticator, and ways to wait for records."""

from __future__ import annotations

import random
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import replace

import trio

from meshnode.core.events import LinkDown, LinkUp, PeerIdentity, Received
from meshnode.core.ids import DeviceId
from meshnode.core.keys import PUBLIC_KEY_BYTES, SigningKey, verify_untrusted
from meshnode.errors import UntrustedInputError
from meshnode.transport.base import Record, Transport
from meshnode.transport.quic import QuicTransport
from meshnode.transport.quic_settings import QuicSettings

PATIENT = QuicSettings(listen="127.0.0.1:0")
"""For tests that wait for no time-out: the defaults, so that a busy machine fails none of them."""

QUICK = QuicSettings(
    listen="127.0.0.1:0",
    idle_timeout_seconds=1.5,
    keepalive_seconds=0.5,
    connect_timeout_seconds=1.0,
    hello_timeout_seconds=0.5,
    round_trip_report_seconds=0.2,
)
"""Times short enough to wait for, in the proportions of the defaults."""


def chance(seed: int) -> random.Random:
    return random.Random(seed)


class KeyAuthenticator:
    """A true one, with a bare device key in place of a certificate: public key, then a signature over the binding."""

    def __init__(self, seed: int, trusted: set[bytes] | None = None) -> None:
        self.key = SigningKey(bytes([seed]) * 32)
        self.trusted = trusted
        """Public keys that are let in; None lets in all."""

    def hello(self, local_tls_sha256: bytes, remote_tls_sha256: bytes, dialed: bool) -> bytes:
        return self.key.public + self.key.sign("hello", local_tls_sha256 + remote_tls_sha256 + bytes([dialed]))

    def verify_untrusted(
        self, data: bytes, local_tls_sha256: bytes, remote_tls_sha256: bytes, dialed: bool
    ) -> PeerIdentity:
        public, signature = data[:PUBLIC_KEY_BYTES], data[PUBLIC_KEY_BYTES:]
        if self.trusted is not None and public not in self.trusted:
            raise UntrustedInputError("device-unknown", "the device is not enrolled", "enrol it")
        signed = remote_tls_sha256 + local_tls_sha256 + bytes([not dialed])
        verify_untrusted(public, "hello", signed, signature, "the hello")
        return PeerIdentity(DeviceId(public), "NOC", public.hex()[:4], False, b"")


def quic(seed: int, settings: QuicSettings = PATIENT, **changes: object) -> QuicTransport:
    return QuicTransport(replace(settings, **changes), KeyAuthenticator(seed), chance(seed))


@asynccontextmanager
async def running(*transports: Transport) -> AsyncIterator[list[str]]:
    """Runs transports and yields their addresses. Every wait inside ends within twenty seconds."""
    with trio.fail_after(20):
        async with trio.open_nursery() as nursery:
            addresses = [await nursery.start(transport.run) for transport in transports]
            yield addresses
            nursery.cancel_scope.cancel()


async def wait_for(transport: Transport, kind: type, accept: Callable[[Record], bool] = lambda _: True) -> Record:
    """The next record of a kind; others before it are passed over."""
    while True:
        record = await transport.receive.receive()
        if isinstance(record, kind) and accept(record):
            return record


async def link(one: Transport, other: Transport, address: str) -> tuple[LinkUp, LinkUp]:
    """Dials from one to other and waits until both say LinkUp."""
    one.dial(address)
    dialer, acceptor = await wait_for(one, LinkUp), await wait_for(other, LinkUp)
    assert isinstance(dialer, LinkUp)
    assert isinstance(acceptor, LinkUp)
    return dialer, acceptor


async def frame(transport: Transport) -> Received:
    record = await wait_for(transport, Received)
    assert isinstance(record, Received)
    return record


async def down(transport: Transport, number: int) -> str:
    record = await wait_for(transport, LinkDown, lambda record: isinstance(record, LinkDown) and record.link == number)
    assert isinstance(record, LinkDown)
    return record.code
