"""One writer and many watchers in one thread: when did the last daemon's API show what the first acknowledged?

One write is on the way at a time, so a stream needs no parsing: the next event on it is that write. All daemons are on
one machine, so one monotonic clock serves for all.
"""

from __future__ import annotations

import selectors
import socket
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from simulations.benchmarks import raw_http

EVENT = b"event: entry\n"
WRITE_TIMEOUT_S = 30.0
PAUSE_S = 0.02
"""Between two writes: what the last one set off (acknowledgements, announcements) is over, as between two people."""


@dataclass(frozen=True, slots=True)
class Spread:
    """Of one write, in milliseconds."""

    acknowledged_ms: float
    """From request to acknowledgement."""
    spread_ms: float
    """From acknowledgement until the last of the others shows it; 0 when all did before."""
    total_ms: float
    """From request until acknowledged and shown by all."""


class _Stream:
    """Counts the events of one stream, also when one is cut in two by the socket."""

    def __init__(self, path: Path, incident: str) -> None:
        self.sock = raw_http.connect(path)
        self.sock.sendall(raw_http.stream_request(incident))
        self.events = 0
        self._tail = b""
        while b"\nid: " not in self._tail:
            self._tail += self.sock.recv(raw_http.RECEIVE_BYTES)
        self._tail = b""

    def take(self) -> None:
        data = self._tail + self.sock.recv(raw_http.RECEIVE_BYTES)
        self.events += data.count(EVENT)
        self._tail = data[data.rfind(b"\n") + 1 :]


def measure_spread(writer: Path, others: Sequence[Path], incident: str, writes: int, warm_up: int) -> list[Spread]:
    """Writes one log record after the other at ``writer``; the first ``warm_up`` do not count."""
    streams = [_Stream(path, incident) for path in others]
    sock = raw_http.connect(writer)
    request = raw_http.log_request(incident, raw_http.text())
    measured = []
    try:
        with selectors.DefaultSelector() as selector:
            for source in (sock, *(stream.sock for stream in streams)):
                selector.register(source, selectors.EVENT_READ)
            by_socket = {stream.sock: stream for stream in streams}
            for number in range(1, warm_up + writes + 1):
                spread = _one(selector, sock, by_socket, request, number)
                if number > warm_up:
                    measured.append(spread)
                time.sleep(PAUSE_S)
    finally:
        for source in (sock, *(stream.sock for stream in streams)):
            source.close()
    return measured


def _one(
    selector: selectors.BaseSelector,
    sock: socket.socket,
    streams: dict[socket.socket, _Stream],
    request: bytes,
    number: int,
) -> Spread:
    begin = time.monotonic()
    sock.sendall(request)
    answer = raw_http.Answer()
    acknowledged = shown = 0.0
    missing = sum(stream.events < number for stream in streams.values())
    while not acknowledged or missing:
        ready = selector.select(WRITE_TIMEOUT_S)
        now = time.monotonic()
        if not ready:
            raise RuntimeError(f"write {number} is not shown by {missing} of {len(streams)} after {WRITE_TIMEOUT_S} s")
        for key, _ in ready:
            if key.fileobj is sock:
                if answer.feed(sock.recv(raw_http.RECEIVE_BYTES)):
                    acknowledged = now
                continue
            stream = streams[key.fileobj]  # type: ignore[index]  # registered with the same objects
            before = stream.events
            stream.take()
            if before < number <= stream.events:
                missing -= 1
                shown = now
    return Spread(
        (acknowledged - begin) * 1e3, max(0.0, shown - acknowledged) * 1e3, (max(shown, acknowledged) - begin) * 1e3
    )
