"""Clients that write as fast as they are answered, in a process of their own.

    python -m simulations.benchmarks.load SOCKET INCIDENT CLIENTS SECONDS     prints one line of JSON

Each client is one connection with one log record on the way: the next goes out when the last was acknowledged.
"""

from __future__ import annotations

import json
import selectors
import subprocess
import sys
import time
from dataclasses import asdict, dataclass
from pathlib import Path

from simulations.benchmarks import raw_http
from simulations.benchmarks.figures import percentile


@dataclass(frozen=True, slots=True)
class Load:
    """What the clients saw."""

    acknowledged: int
    seconds: float
    p50_ms: float
    p99_ms: float
    cpu_s: float
    """Of the process of the clients: what they took from the daemons."""


def _write(socket_path: Path, incident: str, clients: int, seconds: float) -> Load:
    requests = [raw_http.log_request(incident, raw_http.text(number)) for number in range(clients)]
    latencies: list[float] = []
    with selectors.DefaultSelector() as selector:
        sent_at = [0.0] * clients
        answers = [raw_http.Answer() for _ in range(clients)]
        begin, cpu_begin = time.monotonic(), time.process_time()
        for number, request in enumerate(requests):
            sock = raw_http.connect(socket_path)
            selector.register(sock, selectors.EVENT_READ, (number, sock))
            sent_at[number] = time.monotonic()
            sock.sendall(request)
        while selector.get_map():
            for key, _ in selector.select():
                number, sock = key.data
                data = sock.recv(raw_http.RECEIVE_BYTES)
                if not data:
                    raise RuntimeError("the daemon closed the connection")
                if not answers[number].feed(data):
                    continue
                now = time.monotonic()
                latencies.append(now - sent_at[number])
                if now - begin >= seconds:
                    selector.unregister(sock)
                    sock.close()
                    continue
                answers[number] = raw_http.Answer()
                sent_at[number] = now
                sock.sendall(requests[number])
        elapsed, cpu = time.monotonic() - begin, time.process_time() - cpu_begin
    return Load(len(latencies), elapsed, percentile(latencies, 50) * 1e3, percentile(latencies, 99) * 1e3, cpu)


def write(socket_path: Path, incident: str, clients: int, seconds: float) -> Load:
    """Runs the clients and waits for them."""
    command = [sys.executable, "-m", __name__, str(socket_path), incident, str(clients), str(seconds)]
    done = subprocess.run(command, cwd=Path(__file__).parents[2], capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise RuntimeError(f"the clients ended with {done.returncode}: {done.stderr[-2000:]}")
    return Load(**json.loads(done.stdout))


if __name__ == "__main__":
    _path, _incident, _clients, _seconds = sys.argv[1:]
    print(json.dumps(asdict(_write(Path(_path), _incident, int(_clients), float(_seconds)))))
