"""Test vectors as files: one JSON file per case, the same bytes whenever they are made.

JSON has no bytes and no large integers, so values travel in this form:

| value | in JSON |
|---|---|
| bytes | ``{"hex": "00ff"}`` |
| integer beyond 2**53 | ``{"int": "18446744073709551615"}`` |
| map | ``{"map": [[key, value], ...]}``, in canonical order |
| everything else | itself |

A field of ``input`` or ``expect`` whose meaning is bytes is plain lowercase hexadecimal text.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from meshnode.core import codec

VECTORS = Path(__file__).parents[2] / "protocol" / "vectors"
EXACT_MAX = 2**53


@dataclass(frozen=True)
class Case:
    kind: str
    name: str
    about: str
    input: dict[str, Any]
    expect: dict[str, Any]
    """``{"ok": {...}}`` or ``{"refusal": code}``."""
    cddl: dict[str, Any] | None = None
    """``{"rule": ..., "of": field of the input, "matches": whether wire.cddl takes it}``."""

    @property
    def path(self) -> str:
        return f"{self.kind}/{self.name}.json"

    @property
    def text(self) -> str:
        data: dict[str, Any] = {"kind": self.kind, "about": self.about, "input": self.input, "expect": self.expect}
        if self.cddl is not None:
            data["cddl"] = self.cddl
        return json.dumps(data, indent=1, ensure_ascii=True) + "\n"


def read_cases() -> list[Case]:
    """Every case on disk, ascending by kind and name."""
    found = []
    for path in sorted(VECTORS.glob("*/*.json")):
        data = json.loads(path.read_text(encoding="utf-8"))
        found.append(Case(data["kind"], path.stem, data["about"], data["input"], data["expect"], data.get("cddl")))
    return found


def to_json(value: Any) -> Any:
    if isinstance(value, bytes):
        return {"hex": value.hex()}
    if isinstance(value, bool) or value is None or isinstance(value, str):
        return value
    if isinstance(value, int):
        return value if abs(value) < EXACT_MAX else {"int": str(value)}
    if isinstance(value, (list, tuple)):
        return [to_json(item) for item in value]
    if isinstance(value, dict):
        ordered = sorted(value.items(), key=lambda pair: (len(codec.encode(pair[0])), codec.encode(pair[0])))
        return {"map": [[to_json(key), to_json(item)] for key, item in ordered]}
    raise TypeError(f"no JSON form for {type(value).__name__}")
