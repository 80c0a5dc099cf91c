"""The bare things that daemons are made of, measured a moment before or after them."""

from __future__ import annotations

import os
import socket
import sqlite3
import statistics
import subprocess
import sys
import threading
import time
from pathlib import Path

from simulations.benchmarks import bare_quic, machine

ROW_BYTES = 600
"""About what one entry of 250 bytes of content is on disk, with its hashes."""
WARM_UP = 20
IMPORTS = "import meshnode.daemon.compose"


def commit_s(directory: Path, count: int = 200) -> float:
    """Median seconds of a SQLite commit of one row: WAL, synchronous=FULL, the given directory's disk."""
    path = directory / "yardstick.db"
    connection = sqlite3.connect(path, isolation_level=None)
    try:
        connection.execute("PRAGMA journal_mode=WAL")
        connection.execute("PRAGMA synchronous=FULL")
        connection.execute("CREATE TABLE row (number INTEGER PRIMARY KEY, content BLOB)")
        seconds = []
        for number in range(WARM_UP + count):
            content = os.urandom(ROW_BYTES)
            begin = time.monotonic()
            connection.execute("BEGIN IMMEDIATE")
            connection.execute("INSERT INTO row VALUES (?, ?)", (number, content))
            connection.execute("COMMIT")
            seconds.append(time.monotonic() - begin)
    finally:
        connection.close()
        for name in ("", "-wal", "-shm"):
            Path(f"{path}{name}").unlink(missing_ok=True)
    return statistics.median(seconds[WARM_UP:])


def round_trip_s(count: int = 200) -> float:
    """Median seconds of a round trip of one small message over aioquic on loopback, between two processes."""
    with bare_quic.server() as port:
        return statistics.median(bare_quic.round_trips(port, WARM_UP + count)[WARM_UP:])


def transfer_s(size_bytes: int) -> float:
    """Seconds aioquic takes to move so many bytes over loopback, between two processes."""
    with bare_quic.server() as port:
        return bare_quic.transfer(port, size_bytes)


def socket_answer_s(size_bytes: int, count: int = 100) -> float:
    """Median seconds to be sent so many bytes over a Unix socket pair by a thread that has them ready."""
    here, there = socket.socketpair()
    answer = bytes(size_bytes)

    def answering() -> None:
        while there.recv(1):
            there.sendall(answer)

    thread = threading.Thread(target=answering)
    thread.start()
    try:
        seconds = []
        for _ in range(count):
            begin = time.monotonic()
            here.sendall(b"?")
            left = size_bytes
            while left:
                left -= len(here.recv(min(left, 1 << 20)))
            seconds.append(time.monotonic() - begin)
    finally:
        here.close()
        thread.join()
        there.close()
    return statistics.median(seconds)


def import_s_and_mib() -> tuple[float, float]:
    """Seconds until an interpreter has started and imported the daemon, and the memory it then has."""
    root = Path(__file__).parents[2]
    begin = time.monotonic()
    code = f"{IMPORTS}; print(flush=True); input()"
    with subprocess.Popen(
        [sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE, cwd=root
    ) as process:
        assert process.stdout is not None
        process.stdout.readline()
        seconds = time.monotonic() - begin
        mib = machine.memory_mib(process.pid)
        process.communicate(b"\n")
    return seconds, mib
