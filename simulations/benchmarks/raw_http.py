"""HTTP with almost nothing around it: requests encoded beforehand, answers only measured for their length.

A client that parses and validates what it gets can cost more than the daemon's work, and both share two cores here.
"""

from __future__ import annotations

import json
import random
import socket
import string
from pathlib import Path

CONTENT_BYTES = 250
"""Of one entry: what its author says, encoded, before padding and sealing (``stores.content_bytes`` checks it)."""
TEXT_BYTES = 202
"""Of the text of one log record in such an entry; the rest is its operator, time and structure."""
RECEIVE_BYTES = 262_144


def text(seed: int = 0, size_bytes: int = TEXT_BYTES) -> str:
    """Random letters: nothing on the way may gain by compressing or remembering them."""
    return "".join(random.Random(seed).choices(string.ascii_letters + "     ", k=size_bytes))


def log_request(incident: str, record: str) -> bytes:
    return _request("POST", f"/v1/incidents/{incident}/log", json.dumps({"text": record}).encode())


def get_request(target: str) -> bytes:
    return _request("GET", target, b"")


def stream_request(incident: str) -> bytes:
    head = f"GET /v1/events?incident={incident} HTTP/1.1\r\nHost: localhost\r\nAccept: text/event-stream\r\n\r\n"
    return head.encode()


def _request(method: str, target: str, body: bytes) -> bytes:
    head = [f"{method} {target} HTTP/1.1", "Host: localhost", "Accept: application/json"]
    if body:
        head += ["Content-Type: application/json", f"Content-Length: {len(body)}", "Meshnode-Operator: duty.officer"]
    return "\r\n".join([*head, "", ""]).encode() + body


def connect(path: Path) -> socket.socket:
    made = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    made.settimeout(60.0)
    made.connect(str(path))
    return made


class Answer:
    """Collects one answer from the bytes as they come."""

    def __init__(self) -> None:
        self._pieces: list[bytes] = []
        self._held = 0
        self._whole = 0

    def feed(self, data: bytes) -> bool:
        """True when the answer is complete. Raises RuntimeError when it is not a success."""
        self._pieces.append(data)
        self._held += len(data)
        if not self._whole:
            self._pieces = [b"".join(self._pieces)]
            head, found, _ = self._pieces[0].partition(b"\r\n\r\n")
            if not found:
                return False
            if head[9:10] != b"2":
                raise RuntimeError(f"refused: {self._pieces[0]!r}")
            length = next(
                int(line.partition(b":")[2])
                for line in head.split(b"\r\n")
                if line.lower().startswith(b"content-length:")
            )
            self._whole = len(head) + 4 + length
        return self._held >= self._whole

    @property
    def size_bytes(self) -> int:
        return self._held


def ask(sock: socket.socket, request: bytes) -> int:
    """Sends a request on a blocking socket and takes the answer; its size in bytes."""
    sock.sendall(request)
    answer = Answer()
    while True:
        data = sock.recv(RECEIVE_BYTES)
        if not data:
            raise RuntimeError("the daemon closed the connection")
        if answer.feed(data):
            return answer.size_bytes
