"""What a command said, and the type of the fixture that runs one."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Said:
    code: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        return json.loads(self.out)

    @property
    def error(self) -> dict[str, str]:
        """The error object of ``--json``."""
        error: dict[str, str] = json.loads(self.err)["error"]
        return error


Meshnode = Callable[..., Said]
