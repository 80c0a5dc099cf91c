"""What lies in stores, memories and packets when all is over, and whether the machines hold the same.

Asked of daemons by their local API and of disks by reading the files beside them: nothing here is the node's own word
about what it must not have.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable, Sequence
from contextlib import closing
from pathlib import Path

from meshnode.client import ApiError, Client
from simulations.demo.search import Search, in_memory
from simulations.worlds import work
from simulations.worlds.contract import IncidentEnd, NodeEnd, Outcome, Sighting
from simulations.worlds.lab.clients import Record
from simulations.worlds.lab.machines import STORE_FILE, Machine, stored_heads
from simulations.worlds.lab.network import Network

PAGE = 1_000
KEYS = b"epoch-key"
"""Namespace of the store in which keys of incidents lie, sealed; each row begins with the incident."""
INCIDENT_BYTES = 16
MEMORY_MIB_MAX = 256
"""Of one daemon, at its most. One with a few links and a few hundred entries takes some 55."""


def is_one(core: Sequence[Machine], devices: dict[str, str]) -> bool:
    """Does all of the core hold the same, and read the same? Members read what they are members of; relays store it.

    ``devices``: device -> name of its machine. A machine that does not answer is not one with the others.
    """
    try:
        return all(machine.up for machine in core) and _are_one(core, devices)
    except (ApiError, sqlite3.Error):
        return False


def _are_one(core: Sequence[Machine], devices: dict[str, str]) -> bool:
    stored = {machine.name: machine.heights() for machine in core}
    shown: dict[str, dict[str, tuple[str, int]]] = {}
    listed: dict[str, set[str]] = {}
    for machine in core:
        with machine.node.client() as client:
            for summary in client.incidents():
                shown.setdefault(summary.id, {})[machine.name] = (summary.digest, summary.waiting)
                if summary.id not in listed:
                    listed[summary.id] = {devices.get(row.device, "") for row in client.members(summary.id)}
    names = {machine.name for machine in core}
    relays = {machine.name for machine in core if machine.relay}
    for incident in {incident for heights in stored.values() for incident in heights}:
        readers = shown.get(incident, {})
        if len(set(readers.values())) > 1 or any(waiting for _, waiting in readers.values()):
            return False
        if not (listed.get(incident, set()) & names) <= set(readers):
            return False
        held = [stored[name].get(incident) for name in {*readers, *relays}]
        if any(heights is None or heights != held[0] for heights in held):
            return False
    return True


def look(outcome: Outcome, machines: Iterable[Machine], devices: dict[str, str], record: Record) -> None:
    """Fills in ``ends``, while daemons still run."""
    for machine in machines:
        end = NodeEnd(
            name=machine.name,
            up=machine.up,
            role=machine.spec.role,
            stored=machine.heights(),
            incidents={},
            journal_gaps=_journal_gaps(machine.node.data),
            keys=_keys(machine.node.data),
            refusals={},
            degraded=(),
            sizes={},
            heads=stored_heads(machine.node.data),
        )
        outcome.ends.append(end)
        if machine.up:
            end.sizes = _sizes(machine.node.pid)
            if end.sizes["memory, MiB"] > MEMORY_MIB_MAX:
                what = f"its memory was {end.sizes['memory, MiB']} MiB, more than {MEMORY_MIB_MAX}"
                outcome.sightings.append(Sighting("I7", record.now_s(), machine.name, what))
            end.sizes["slowest answer, ms"] = round(1_000 * record.answer_s.get(machine.name, 0.0))
            try:
                _ask(end, machine, devices)
            except ApiError as error:
                what = f"the daemon does not answer at the end: {error.code}: {error.reason}"
                outcome.sightings.append(Sighting("I6", record.now_s(), machine.name, what))


def _ask(end: NodeEnd, machine: Machine, devices: dict[str, str]) -> None:
    with machine.node.client() as client:
        about = client.node()
        end.refusals = dict(sorted(about.refusals.items()))
        end.degraded = tuple(sorted(row.code for row in about.degraded))
        end.sizes["store, MiB"] = about.store_bytes >> 20
        end.incidents = {row.id: _incident(client, row.id, devices) for row in client.incidents()}


def _incident(client: Client, incident: str, devices: dict[str, str]) -> IncidentEnd:
    view = client.incident(incident)
    registers, deleted = work.shown_values(incident, view)
    records: dict[str, str] = {}
    heads: dict[str, int] = {}
    void: list[str] = []
    after = ""
    while True:
        page = client.log(incident, after=after, limit=PAGE)
        records.update((row.id, str(row.record.get("text", ""))) for row in page.items)
        if not (after := page.next):
            break
    while True:
        history = client.history(incident, after=after, limit=PAGE)
        for row in history.items:
            log, _, seq = row.entry.partition(".")
            heads[log] = max(int(seq), heads.get(log, 0))
            if row.void:
                void.append(f"{row.entry}: {row.void}")
        if not (after := history.next):
            break
    return IncidentEnd(
        digest=view.summary.digest,
        heads=heads,
        registers=registers,
        deleted=deleted,
        records=records,
        conflicts=view.summary.conflicts,
        void=tuple(sorted(void)),
        members=tuple(sorted(devices[row.device] for row in view.members if row.device in devices)),
        waiting=view.summary.waiting,
    )


# --- places where no content may be -----------------------------------------------------------------------------------


def search_memory(outcome: Outcome, machines: Iterable[Machine], at_s: float) -> None:
    """The marked word in the memory of whoever is no member; a member's, where it must be, shows that the search finds
    it. While they run."""
    for machine in machines:
        memory = in_memory(machine.node.pid, [work.MARK]) if machine.up else None
        if memory is None:
            if machine.relay and machine.up:
                outcome.sometimes["search: a relay's memory may not be read"] += 1
        elif not machine.relay:
            outcome.sometimes["search: the marked word is found in a member's memory"] += bool(memory.found)
        else:
            outcome.sometimes["search: bytes of relays' memory"] += memory.size_bytes
            if memory.found:
                what = "a marked word stands in its memory in clear"
                outcome.sightings.append(Sighting("I4", at_s, machine.name, what))


def search_disks(outcome: Outcome, machines: Iterable[Machine], at_s: float) -> None:
    """The marked word on disks and in logs, members' too: what they keep is sealed. After an orderly stop everything
    that a daemon ever writes is there."""
    search = Search([work.MARK])
    for machine in machines:
        found, size_bytes = search.in_directory(machine.node.data)
        outcome.sometimes["search: bytes of disks"] += size_bytes
        for place, words in (("on its disk", found), ("in its log", search.in_file(machine.node.log))):
            if words:
                outcome.sightings.append(Sighting("I4", at_s, machine.name, f"a marked word stands {place} in clear"))


def hear_lines(outcome: Outcome, network: Network, at_s: float) -> None:
    """What the forwarder counted and heard."""
    told = network.told()
    outcome.bytes_sent.update(told["bytes_sent"])
    for name, number in told["counts"].items():
        outcome.sometimes[f"packets: {name}"] += number
    for sender, receiver, times in told["marked"]:
        what = f"a marked word went to {receiver} in clear, in {times} packets"
        outcome.sightings.append(Sighting("I4", at_s, sender, what))


# --- files beside a daemon --------------------------------------------------------------------------------------------


def _rows(data: Path, query: str, *values: object) -> list[tuple[object, ...]]:
    path = data / STORE_FILE
    if not path.exists():
        return []
    with closing(sqlite3.connect(f"{path.as_uri()}?mode=ro", uri=True, timeout=10)) as connection:
        return connection.execute(query, values).fetchall()


def _journal_gaps(data: Path) -> int:
    """Numbers that are missing, and rows that name an entry that is not stored or one that an earlier row named."""
    gaps, expected, seen = 0, 1, set()
    stored = "EXISTS (SELECT 1 FROM entry WHERE entry.place = journal.place)"
    query = f"SELECT number, place, {stored} FROM journal ORDER BY number"  # noqa: S608 - no words but these
    for number, place, there in _rows(data, query):
        gaps += number != expected or place in seen or not there
        seen.add(place)
        expected = int(str(number)) + 1
    return gaps


def _keys(data: Path) -> tuple[str, ...]:
    rows = _rows(data, "SELECT key FROM value WHERE namespace = ?", KEYS)
    return tuple(sorted({key[:INCIDENT_BYTES].hex() for (key,) in rows if isinstance(key, bytes)}))


def _sizes(pid: int) -> dict[str, int]:
    """The most memory, and the descriptors and threads of now."""
    lines = dict(line.split(":", 1) for line in Path(f"/proc/{pid}/status").read_text(encoding="ascii").splitlines())
    return {
        "memory, MiB": int(lines["VmHWM"].split()[0]) >> 10,
        "descriptors": len(list(Path(f"/proc/{pid}/fd").iterdir())),
        "threads": int(lines["Threads"]),
    }
