"""A store filled without a daemon around it: the same node, the same store, written 32 changes to a step.

Writing 100,000 entries through the local API takes minutes and measures nothing. Here the node is stepped directly on a
data directory whose daemon is stopped, as 32 busy clients would make it step. What is then started and measured on that
directory is the real daemon.
"""

from __future__ import annotations

import os
import random
import time
from pathlib import Path

from meshnode.core.entry import Content, encode_content
from meshnode.core.events import Change, ChangeIncident, ChangeKind, Now
from meshnode.core.ids import INCIDENT_ID_BYTES, IncidentId, parse_hex_untrusted
from meshnode.core.node import Node, NodeSettings
from meshnode.core.operations import Log, encode_operation
from meshnode.daemon.compose import STORE_FILE
from meshnode.storage import keyfiles
from meshnode.storage.sqlite import SqliteLogStore
from simulations.benchmarks import raw_http

CHANGES_PER_STEP = 32
OPERATOR = "duty.officer (uid 1000)"


def fill(data_dir: Path, incident: str, entries: int) -> int:
    """Writes so many log entries to the incident, checkpoints, and closes. Returns the bytes of their sealed parts."""
    identity = keyfiles.read_identity(data_dir)
    store = SqliteLogStore.open(data_dir / STORE_FILE)
    try:
        node = Node(identity, NodeSettings(), store, random.Random(0), os.urandom, _now())
        incident_id = IncidentId(parse_hex_untrusted(incident, INCIDENT_ID_BYTES, "the incident"))
        before = store.applied_last()
        for first in range(0, entries, CHANGES_PER_STEP):
            count = min(CHANGES_PER_STEP, entries - first)
            changes = [_change(incident_id, first + number) for number in range(count)]
            node.step(changes, _now())
            _commit(store)
        node.stop(_now())
        _commit(store)
        return sealed_bytes(store, before)
    finally:
        store.close()


def sealed_bytes(store: SqliteLogStore, after: int) -> int:
    """Of all entries behind that journal number: what any protocol would have to move, without hashes or headers."""
    total = 0
    while rows := store.applied_after(after, 4_096):
        after = rows[-1].number
        for row in rows:
            for entry in store.read(row.incident, row.log, row.seq, row.seq):
                total += len(entry.sealed) + len(entry.package or b"")
    return total


def content_bytes() -> int:
    """Of one such entry, encoded, before padding."""
    operation = encode_operation(Log({"text": raw_http.text()}))
    return len(encode_content(Content((), _now().wall_ms, OPERATOR, (operation,))))


def _change(incident: IncidentId, number: int) -> ChangeIncident:
    record = {"text": raw_http.text(number)}
    return ChangeIncident(number, incident, OPERATOR, (Change(ChangeKind.LOG, value=record),), ())


def _commit(store: SqliteLogStore) -> None:
    ticket = store.begin_commit()
    if ticket is not None:
        store.write(ticket)
        store.end_commit(ticket)
        if store.tidy_due():
            store.tidy()


def _now() -> Now:
    return Now(time.monotonic(), int(time.time() * 1000))
