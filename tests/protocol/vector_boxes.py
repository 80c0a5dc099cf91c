"""HPKE boxes, made once and kept: the library draws its randomness inside, so no seed gives the same box again."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

from meshnode.core.epochs import HPKE_SEALER
from meshnode.core.prekeys import PrekeySecret

FILE = Path(__file__).parent / "boxes.json"


class KeptBoxes:
    """A ``Sealer`` that gives the same box for the same arguments."""

    def __init__(self) -> None:
        self._boxes: dict[str, str] = json.loads(FILE.read_text()) if FILE.exists() else {}
        self._used: dict[str, str] = {}
        self.may_seal = False

    def seal(self, mlkem: bytes, x25519: bytes, info: bytes, plaintext: bytes) -> bytes:
        name = hashlib.sha256(b"".join((mlkem, x25519, info, plaintext))).hexdigest()
        if name not in self._boxes:
            if not self.may_seal:
                raise AssertionError("no box is kept for this: python -m tests.protocol.make_vectors --seal")
            self._boxes[name] = HPKE_SEALER.seal(mlkem, x25519, info, plaintext).hex()
        self._used[name] = self._boxes[name]
        return bytes.fromhex(self._boxes[name])

    def open(self, secret: PrekeySecret, info: bytes, box: bytes) -> bytes | None:
        return HPKE_SEALER.open(secret, info, box)

    def write(self) -> None:
        """Keeps what was used, and only that."""
        FILE.write_text(json.dumps(self._used, indent=1, sort_keys=True) + "\n")


BOXES = KeptBoxes()
