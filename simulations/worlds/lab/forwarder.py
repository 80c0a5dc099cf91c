"""The user-space router: reads every packet between two machines from a TUN device and writes it back when due.

A process of its own, so that it does not wait for the interpreter of the director. It is told treatments by JSON lines
on its standard input and answers each with one line; it ends when its standard input does.

    {"treat": [["BE", "NL", 0.01, 0.0, 0.0, 0.0, 0.0, false], ...]}     -> {"ok": true}
    {"tell": true}  -> {"counts": {...}, "bytes_sent": {...}, "marked": [["BE", "EU", 3], ...]}

It also listens: every packet is searched for the marked word, and what machines whose traffic is recorded send and get
is written to a pcap file.
"""

from __future__ import annotations

import fcntl
import json
import os
import select
import struct
import sys
import time
from collections import Counter
from pathlib import Path

from simulations.demo.capture import RAW_IP, Pcap
from simulations.demo.search import Search
from simulations.worlds.lab.shaper import Shaper, Treatment

_TUNSETIFF = 0x400454CA
_IFF_TUN, _IFF_NO_PI = 0x0001, 0x1000
READ_BYTES = 65_536
PACKETS_A_TURN = 64
"""Read before those that are due are written: latency stays small under load."""
RECORD_BYTES_MAX = 64 * 1024 * 1024
"""Of the pcap file, which lies in memory. What goes beyond is searched all the same, and counted."""
SPIN_S = 0.0005


class Forwarder:
    def __init__(
        self, device: str, seed: int, names: dict[bytes, str], word: str, recorded: set[str], pcap: Path
    ) -> None:
        self._tun = open_tun(device)
        self._shaper = Shaper(seed)
        self._names = names
        self._search = Search([word])
        self._recorded = recorded
        self._pcap = Pcap(pcap, RAW_IP)
        self._recorded_bytes = 0
        self._bytes_sent: Counter[str] = Counter()
        self._marked: Counter[tuple[str, str]] = Counter()
        self._counts: Counter[str] = Counter()
        self._orders = b""

    def run(self) -> None:
        while True:
            next_s = self._shaper.next_s()
            wait_s = None if next_s is None else max(0.0, next_s - time.monotonic())
            readable, _, _ = select.select([self._tun, 0], [], [], wait_s)
            if 0 in readable and not self._obey():
                return
            if self._tun in readable:
                self._read()
            for packet in self._shaper.due(time.monotonic() + SPIN_S):
                self._write(packet)

    def _read(self) -> None:
        for _ in range(PACKETS_A_TURN):
            try:
                packet = os.read(self._tun, READ_BYTES)
            except BlockingIOError:
                return
            sender, receiver = self._names.get(packet[12:16]), self._names.get(packet[16:20])
            if packet[0] >> 4 != 4 or sender is None or receiver is None:
                self._counts["strange"] += 1
                continue
            self._bytes_sent[sender] += len(packet)
            if self._search.in_bytes(packet):
                self._marked[sender, receiver] += 1
            if sender in self._recorded or receiver in self._recorded:
                self._record(packet)
            self._shaper.take((sender, receiver), packet, time.monotonic())

    def _write(self, packet: bytes) -> None:
        try:
            os.write(self._tun, packet)
        except OSError:
            # The receiving machine's link is down: a router drops it.
            self._counts["undeliverable"] += 1

    def _record(self, packet: bytes) -> None:
        if self._recorded_bytes + len(packet) > RECORD_BYTES_MAX:
            self._counts["not-recorded"] += 1
            return
        self._recorded_bytes += len(packet)
        self._counts["recorded"] += 1
        self._pcap.write(packet)

    def _obey(self) -> bool:
        data = os.read(0, READ_BYTES)
        *lines, self._orders = (self._orders + data).split(b"\n")
        for line in lines:
            order = json.loads(line)
            if "treat" in order:
                rows = {(a, b): Treatment(*numbers) for a, b, *numbers in order["treat"]}
                self._shaper.treat(rows, time.monotonic())
                _answer({"ok": True})
            else:
                self._pcap.flush()
                marked = [[*direction, times] for direction, times in sorted(self._marked.items())]
                counts = self._counts + self._shaper.counts
                _answer({"counts": counts, "bytes_sent": self._bytes_sent, "marked": marked})
        return bool(data)


def open_tun(device: str) -> int:
    """The descriptor of this TUN device, which exists, without waiting reads. OSError where that is not allowed."""
    descriptor = os.open("/dev/net/tun", os.O_RDWR | os.O_NONBLOCK | os.O_CLOEXEC)
    fcntl.ioctl(descriptor, _TUNSETIFF, struct.pack("16sH22x", device.encode(), _IFF_TUN | _IFF_NO_PI))
    return descriptor


def _answer(content: dict[str, object]) -> None:
    sys.stdout.write(json.dumps(content) + "\n")
    sys.stdout.flush()


def main() -> None:
    """The first line of standard input says what to do: device, seed, names by address, word, recorded, pcap."""
    settings = json.loads(_first_line())
    names = {bytes(map(int, address.split("."))): name for address, name in settings["names"].items()}
    forwarder = Forwarder(
        settings["device"],
        settings["seed"],
        names,
        settings["word"],
        set(settings["recorded"]),
        Path(settings["pcap"]),
    )
    _answer({"ok": True})
    forwarder.run()


def _first_line() -> bytes:
    # Byte by byte: nothing of what follows may stay in a buffer that select does not see.
    line = b""
    while not line.endswith(b"\n"):
        byte = os.read(0, 1)
        if not byte:
            sys.exit(0)
        line += byte
    return line


if __name__ == "__main__":
    main()
