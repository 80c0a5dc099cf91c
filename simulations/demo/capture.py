"""Everything that goes into and out of one UDP port, as a pcap file that any network tool opens.

Two ways. ``SocketCapture`` copies packets from the loopback device, as a stranger on the wire would; it needs the
right to open a raw socket. Without that right, the hub runs under ``python -m simulations.demo.capture FILE run ...``,
where a wrapper around its one UDP socket writes down each datagram (``recorded_command``): the same bytes, seen one
step earlier.
"""

from __future__ import annotations

import contextlib
import ctypes
import socket
import struct
import sys
import threading
import time
from pathlib import Path
from typing import Any, BinaryIO

ETHERNET = 1
RAW_IP = 101
ETH_P_ALL = 0x0003
SOL_PACKET = 263
PACKET_STATISTICS = 6
PACKET_BYTES_MAX = 65_535
BUFFER_BYTES = 64 << 20
POLL_S = 0.1


class Pcap:
    """The file format: a header, then each packet behind its time and length."""

    def __init__(self, path: Path, link_type: int) -> None:
        # A daemon that is started again goes on in the same file.
        self._file: BinaryIO = path.open("ab")
        if self._file.tell() == 0:
            self._file.write(struct.pack("<IHHiIII", 0xA1B2C3D4, 2, 4, 0, 0, PACKET_BYTES_MAX, link_type))

    def write(self, packet: bytes) -> None:
        seconds, rest = divmod(time.time_ns(), 1_000_000_000)
        self._file.write(struct.pack("<IIII", seconds, rest // 1000, len(packet), len(packet)) + packet)

    def flush(self) -> None:
        self._file.flush()

    def close(self) -> None:
        self._file.close()


class SocketCapture:
    """Copies what passes the loopback device. Raises PermissionError where raw sockets are not allowed."""

    def __init__(self, path: Path, port: int) -> None:
        self._socket = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(ETH_P_ALL))
        with contextlib.suppress(OSError):
            self._socket.setsockopt(socket.SOL_SOCKET, 33, BUFFER_BYTES)  # SO_RCVBUFFORCE
        _filter_udp_port(self._socket, port)
        self._socket.bind(("lo", 0))
        self._socket.settimeout(POLL_S)
        self._pcap = Pcap(path, ETHERNET)
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, name="capture", daemon=True)
        self.packets = 0
        self.payload_bytes = 0
        self._thread.start()

    def _run(self) -> None:
        while True:
            try:
                packet, address = self._socket.recvfrom(PACKET_BYTES_MAX)
            except TimeoutError:
                if self._stopping.is_set():
                    return
                continue
            # The loopback device shows each packet twice: going out, and coming in. Dropped ones only go out.
            if address[2] == socket.PACKET_OUTGOING:
                self._pcap.write(packet)
                self.packets += 1
                self.payload_bytes += len(packet)

    def stop(self) -> int:
        """Ends with what has passed until now; how many packets were too many for the buffer."""
        self._stopping.set()
        self._thread.join()
        _, lost = struct.unpack("II", self._socket.getsockopt(SOL_PACKET, PACKET_STATISTICS, 8))
        self._socket.close()
        self._pcap.close()
        return int(lost)


class _Instruction(ctypes.Structure):
    _fields_ = (("code", ctypes.c_uint16), ("jt", ctypes.c_uint8), ("jf", ctypes.c_uint8), ("k", ctypes.c_uint32))


class _Program(ctypes.Structure):
    _fields_ = (("length", ctypes.c_uint16), ("instructions", ctypes.POINTER(_Instruction)))


def _filter_udp_port(raw: socket.socket, port: int) -> None:
    """Lets the kernel pass only IPv4 UDP from or to this port (classic BPF on Ethernet frames without IP options)."""
    instructions = (
        _Instruction(0x28, 0, 0, 12),  # half word at 12: EtherType
        _Instruction(0x15, 0, 7, 0x0800),  # IPv4, else drop
        _Instruction(0x30, 0, 0, 23),  # byte at 23: protocol
        _Instruction(0x15, 0, 5, 17),  # UDP, else drop
        _Instruction(0x28, 0, 0, 34),  # half word at 34: source port
        _Instruction(0x15, 2, 0, port),
        _Instruction(0x28, 0, 0, 36),  # half word at 36: destination port
        _Instruction(0x15, 0, 1, port),
        _Instruction(0x06, 0, 0, PACKET_BYTES_MAX),  # take it
        _Instruction(0x06, 0, 0, 0),  # drop it
    )
    array = (_Instruction * len(instructions))(*instructions)
    program = _Program(len(instructions), array)
    raw.setsockopt(socket.SOL_SOCKET, 26, bytes(program))  # SO_ATTACH_FILTER


# --- without raw sockets ------------------------------------------------------------------------------------------


def recorded_command(path: Path) -> tuple[str, ...]:
    """What stands in for ``meshnode`` to start a daemon whose datagrams are written to ``path``."""
    return (sys.executable, "-m", "simulations.demo.capture", str(path))


def _run_recorded(path: Path, arguments: list[str]) -> None:
    from meshnode.cli import main
    from meshnode.transport import quic, udp

    pcap = Pcap(path, RAW_IP)

    class RecordedSocket(udp.UdpSocket):
        async def receive(self, datagrams_max: int) -> list[udp.Datagram]:
            datagrams = await super().receive(datagrams_max)
            for data, sender in datagrams:
                pcap.write(_packet(data, sender[1], self._port))
            pcap.flush()
            return datagrams

        def send(self, datagrams: list[udp.Datagram]) -> None:
            for data, receiver in datagrams:
                pcap.write(_packet(data, self._port, receiver[1]))
            pcap.flush()
            super().send(datagrams)

        @property
        def _port(self) -> int:
            return int(self.address.rpartition(":")[2])

    room: Any = quic
    room.UdpSocket = RecordedSocket
    sys.argv = ["meshnode", *arguments]
    main()


def _packet(data: bytes, source_port: int, destination_port: int) -> bytes:
    """The datagram with the IPv4 and UDP headers that it has on loopback, without check sums."""
    loopback = socket.inet_aton("127.0.0.1")
    length = 28 + len(data)
    ip = struct.pack(">BBHHHBBH4s4s", 0x45, 0, length, 0, 0, 64, socket.IPPROTO_UDP, 0, loopback, loopback)
    return ip + struct.pack(">HHHH", source_port, destination_port, 8 + len(data), 0) + data


if __name__ == "__main__":
    _run_recorded(Path(sys.argv[1]), sys.argv[2:])
