"""Counts what goes over a link: a UDP relay between one dialler and one daemon, in a process of its own.

    python -m simulations.benchmarks.relay TARGET_PORT     prints its port, and totals for each line it reads

It sees UDP payload: every byte QUIC sends, handshake, acknowledgements and retransmissions included, without the 28
bytes of IP and UDP header per packet. It costs a link some time, so runs that are timed go without it.
"""

from __future__ import annotations

import contextlib
import selectors
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

DATAGRAM_BYTES_MAX = 65_536
BUFFER_BYTES = 4_194_304
"""Bursts of a whole congestion window must not be lost here: the loss would be ours, not the link's."""


@dataclass(frozen=True, slots=True)
class Totals:
    """Of both directions, since the start."""

    bytes: int
    datagrams: int


def _socket() -> socket.socket:
    made = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    made.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, BUFFER_BYTES)
    made.bind(("127.0.0.1", 0))
    return made


def _relay(target: tuple[str, int]) -> None:
    near, far = _socket(), _socket()
    print(near.getsockname()[1], flush=True)
    dialler: tuple[str, int] | None = None
    size_bytes = datagrams = 0
    with selectors.DefaultSelector() as selector:
        for source, name in ((near, "near"), (far, "far"), (sys.stdin, "orders")):
            selector.register(source, selectors.EVENT_READ, name)
        while True:
            for key, _ in selector.select():
                if key.data == "orders":
                    if not sys.stdin.readline():
                        return
                    print(size_bytes, datagrams, flush=True)
                    continue
                data, sender = (near if key.data == "near" else far).recvfrom(DATAGRAM_BYTES_MAX)
                size_bytes += len(data)
                datagrams += 1
                # A daemon that is not up yet answers with "port unreachable", which Linux reports on the next call.
                with contextlib.suppress(ConnectionRefusedError):
                    if key.data == "near":
                        dialler = sender
                        far.sendto(data, target)
                    elif dialler is not None:
                        near.sendto(data, dialler)


@contextlib.contextmanager
def counting(target_port: int) -> Iterator[tuple[int, Callable[[], Totals]]]:
    """A relay to this port of loopback: its own port, and a call that gives the totals."""
    command = [sys.executable, "-m", __name__, str(target_port)]
    root = Path(__file__).parents[2]
    with subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, cwd=root, text=True, bufsize=1
    ) as process:
        stdin, stdout = process.stdin, process.stdout
        assert stdin is not None
        assert stdout is not None

        def totals() -> Totals:
            stdin.write("\n")
            size_bytes, datagrams = stdout.readline().split()
            return Totals(int(size_bytes), int(datagrams))

        yield int(stdout.readline()), totals
        process.communicate()


if __name__ == "__main__":
    _relay(("127.0.0.1", int(sys.argv[1])))
