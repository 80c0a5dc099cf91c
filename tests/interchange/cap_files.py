"""Where the CAP files of these tests are, and small helpers to read incidents out of changes."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

from meshnode.core.events import Change, ChangeKind

REPOSITORY = Path(__file__).resolve().parents[2]
VALID = sorted((REPOSITORY / "tests/data/cap/valid").glob("*.cap"))
INVALID = sorted((REPOSITORY / "tests/data/cap/invalid").glob("*.cap"))
DEMO = REPOSITORY / "simulations/demo/alert.cap"
SAMPLES = next(REPOSITORY.parent.glob("*/samples/cap"), REPOSITORY / "samples/cap")
"""Alerts of other senders and the schema that OASIS publishes: not ours to redistribute, used when they lie in a
folder beside the repository."""

HEAD = (
    '<alert xmlns="urn:oasis:names:tc:emergency:cap:1.2"><identifier>T-1</identifier><sender>noc.be.example</sender>'
    "<sent>2026-03-01T14:05:00+01:00</sent><status>Actual</status><msgType>Alert</msgType><scope>Public</scope>"
)
INFO = (
    "<info><category>CBRNE</category><event>Release</event><urgency>Immediate</urgency><severity>Extreme</severity>"
    "<certainty>Observed</certainty>"
)


def alert(inside_info: str = "", *, info: str = INFO, head: str = HEAD) -> bytes:
    """A valid alert on one line with one info block that ends with the given elements."""
    return f"{head}{info}{inside_info}</info></alert>".encode()


def counted_bytes() -> Callable[[int], bytes]:
    """A source of ids that repeats from run to run."""
    count = 0

    def next_bytes(length: int) -> bytes:
        nonlocal count
        count += 1
        return hashlib.blake2b(count.to_bytes(8, "big"), digest_size=length).digest()

    return next_bytes


def fields(changes: Iterable[Change], collection: str = "incident") -> list[dict[str, Any]]:
    """Each object of the collection as {field: value}, sets as lists, in the order of their first change."""
    objects: dict[Any, dict[str, Any]] = {}
    for change in changes:
        if change.collection != collection:
            continue
        found = objects.setdefault(change.object, {})
        if change.kind is ChangeKind.SET:
            assert change.field not in found, "a register is set once"
            found[change.field] = change.value
        elif change.kind is ChangeKind.ADD:
            found.setdefault(change.field, []).append(change.value)
    return list(objects.values())
