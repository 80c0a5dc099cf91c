"""What the stories of the virtual world ask of their hosts."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from world import Host

from meshnode.core.ids import IncidentId, LogId
from meshnode.storage.memory import MemoryLogStore


def alike(hosts: Sequence[Host], incident: IncidentId) -> None:
    """All show the same state: the digest says so, and the views agree with it."""
    digests = {host.name: host.reading.digest(incident).hex()[:8] for host in hosts}
    assert len(set(digests.values())) == 1, digests
    views = [host.reading.incident(incident) for host in hosts]
    assert all((view.fields, view.collections) == (views[0].fields, views[0].collections) for view in views)
    assert all(view.summary.waiting == 0 for view in views)


def values(host: Host, incident: IncidentId, field: str) -> list[Any]:
    shown = host.reading.fields(incident).get(field)
    return [] if shown is None else [value.value for value in shown.values]


def log_texts(host: Host, incident: IncidentId) -> list[str]:
    return [record.record["text"] for record in host.reading.log_page(incident, "", 10_000, False).items]


def logs_of(host: Host, incident: IncidentId) -> dict[LogId, int]:
    """The logs this device wrote, and how long they are."""
    replica = host.node.incidents.replicas[incident]
    return {
        log: height
        for log, height in replica.merged_heads()
        if (writer := replica.writer(log)) is not None and writer.device == host.identity.device
    }


def stored_bytes(store: Any) -> bytes:
    """Everything a thief of this disk has."""
    assert isinstance(store, MemoryLogStore)
    parts: list[bytes] = []
    for logs in store._logs.values():
        for log in logs.values():
            for entry in log.entries:
                parts += [entry.incident, entry.log, entry.previous, entry.key_id, entry.package or b"", entry.sealed]
            parts += log.signatures.values()
    for namespace, rows in store._values.items():
        for key, value in rows.items():
            parts += [namespace.encode(), key, value]
    return b"\0".join(parts)
