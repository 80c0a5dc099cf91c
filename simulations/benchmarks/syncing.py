"""catch-up, difference and start: daemons on stores that were filled beforehand.

Prepared once, then copied back before each run: a holder with N entries; a member of the same incident that was down
since before it was opened, so it has keys to join and nothing else; and a member in step with the holder.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from simulations import mesh as meshes
from simulations.benchmarks import machine, relay, stores, yardsticks
from simulations.benchmarks.figures import Aim, Measurement
from simulations.benchmarks.place import Place, wait_journal
from simulations.mesh import Mesh, Node

START_TIMEOUT_S = 120.0
PROGRESS_POLL_S = 0.1
"""Each look costs the member a request; a tenth of a second is within 1 % of a catch-up of 100,000 entries."""
SETTLE_S = 1.0
"""After the last entry is shown: acknowledgements and announcements still on the way are counted too."""
RATE_AIM = Aim(5_000, at_most=False)
ALLOWANCE_BYTES = 8 * 1024
"""What a difference may cost beside the missing entries: handshake, hellos, roster, digests."""


@dataclass(frozen=True, slots=True)
class Stocked:
    """Copies of data directories to start from."""

    mesh: Mesh
    incident: str
    entries: int
    sealed_bytes: int
    """Of all entries, without hashes and headers."""
    holder: Path
    newcomer: Path


def stock(place: Place, entries: int) -> Stocked:
    """A holder with so many log entries, and a member that has none."""
    return place.once(f"stock {entries}", lambda: _make_stock(place, entries))


def _make_stock(place: Place, entries: int) -> Stocked:
    meshes.START_TIMEOUT_S = max(meshes.START_TIMEOUT_S, START_TIMEOUT_S)
    mesh = place.mesh(2)
    holder, newcomer = mesh.nodes.values()
    try:
        mesh.start_all()
        mesh.wait_linked()
        newcomer.stop()
        with holder.client() as client:
            incident = client.open_incident("other", {"title": "Benchmark"}, share_with=[newcomer.noc]).incident
    finally:
        mesh.stop_all()
    sealed = stores.fill(holder.data, incident, entries)
    kept = place.directory / "kept"
    with_all = place.keep(holder, kept / f"holder-{entries}")
    with_none = place.keep(newcomer, kept / f"newcomer-{entries}")
    return Stocked(mesh, incident, entries, sealed, with_all, with_none)


# --- catch-up -----------------------------------------------------------------------------------------------------


def catch_up(place: Place) -> Iterator[list[Measurement]]:
    """One list per size and run; bytes on the wire in a run of their own, over the counting relay."""
    for entries in place.sizes.catch_up_entries:
        stocked = stock(place, entries)
        yield _catch_up_bytes(place, stocked)
        for _ in range(place.sizes.runs):
            yield _catch_up_once(place, stocked)


def _catch_up_once(place: Place, stocked: Stocked) -> list[Measurement]:
    holder, newcomer = stocked.mesh.nodes.values()
    place.restore(holder, stocked.holder)
    place.restore(newcomer, stocked.newcomer)
    stocked.mesh.configure_all()
    bare_s = yardsticks.transfer_s(stocked.sealed_bytes)
    try:
        journal = _start_holder(stocked.mesh, holder)
        stocked.mesh.start(newcomer)
        begin, cpu_begin = time.monotonic(), [machine.cpu_s(node.pid) for node in (newcomer, holder)]
        waited = wait_journal(newcomer, journal, PROGRESS_POLL_S)
        seconds = waited.at_s - begin
        cpu = [machine.cpu_s(node.pid) - used for node, used in zip((newcomer, holder), cpu_begin, strict=True)]
        peaks = [machine.peak_memory_mib(node.pid) for node in (newcomer, holder)]
    finally:
        stocked.mesh.stop_all()
    full = stocked.entries >= 100_000
    name = f"catch-up {stocked.entries:,}"
    return [
        Measurement(
            f"{name}, time",
            seconds,
            "s",
            Aim(2.0, of_ratio=True) if full else None,
            bare_s,
            "aioquic moving the sealed bytes",
        ),
        Measurement(
            f"{name}, rate", stocked.entries / seconds, "entries/s", Aim(5_000, at_most=False) if full else None
        ),
        Measurement(f"{name}, peak memory of the newcomer", peaks[0], "MiB", Aim(200) if full else None),
        Measurement(f"{name}, peak memory of the holder", peaks[1], "MiB", Aim(200) if full else None),
        Measurement(f"{name}, slowest answer of the newcomer's API", waited.slowest_answer_s * 1e3, "ms"),
        Measurement(f"{name}, CPU of the newcomer", cpu[0], "s"),
        Measurement(f"{name}, CPU of the holder", cpu[1], "s"),
    ]


def _catch_up_bytes(place: Place, stocked: Stocked) -> list[Measurement]:
    counted, _ = _through_relay(place, stocked, stocked.holder, stocked.newcomer)
    per_entry = stocked.sealed_bytes / stocked.entries
    name = f"catch-up {stocked.entries:,}, bytes on the wire per entry"
    return [Measurement(name, counted.bytes / stocked.entries, "B", None, per_entry, "sealed")]


def _start_holder(mesh: Mesh, holder: Node) -> int:
    """Starts it; the number of entries it holds."""
    mesh.start(holder)
    with holder.client() as client:
        return client.node().journal


def _through_relay(place: Place, stocked: Stocked, holder_data: Path, member_data: Path) -> tuple[relay.Totals, float]:
    """Starts both with one link between them, through the relay. What it cost until the member shows everything, and
    the seconds from the link's first packets on."""
    mesh = stocked.mesh
    holder, member = mesh.nodes.values()
    place.restore(holder, holder_data)
    place.restore(member, member_data)
    with relay.counting(holder.port) as (port, totals):
        mesh.configure(holder, [])
        mesh.configure(member, [Node(holder.noc, holder.directory, port, relay=False)])
        try:
            journal = _start_holder(mesh, holder)
            mesh.start(member)
            begin = time.monotonic()
            seconds = wait_journal(member, journal).at_s - begin
            time.sleep(SETTLE_S)
            return totals(), seconds
        finally:
            mesh.stop_all()


# --- difference ---------------------------------------------------------------------------------------------------


def difference(place: Place) -> Iterator[list[Measurement]]:
    """A member lacks the newest few entries of many."""
    sizes = place.sizes
    stocked = stock(place, sizes.shared_entries)
    holder = next(iter(stocked.mesh.nodes.values()))
    in_step = _bring_into_step(place, stocked)
    for missing in sizes.differences:
        place.restore(holder, stocked.holder)
        sealed = stores.fill(holder.data, stocked.incident, missing)
        ahead = place.keep(holder, place.directory / "kept" / f"holder-ahead-{missing}")
        for _ in range(sizes.runs):
            commit_and_trip_s = yardsticks.commit_s(place.directory) + yardsticks.round_trip_s()
            counted, seconds = _through_relay(place, stocked, ahead, in_step)
            name = f"difference {missing:,} in {stocked.entries:,}"
            beyond = (counted.bytes - ALLOWANCE_BYTES) / sealed
            yield [
                Measurement(f"{name}, bytes", counted.bytes, "B", None, sealed, "sealed"),
                Measurement(f"{name}, (bytes - 8 KiB) / sealed bytes", beyond, "", Aim(1.3)),
                Measurement(f"{name}, time", seconds, "s", None, commit_and_trip_s, "(commit + round trip)"),
            ]


def _bring_into_step(place: Place, stocked: Stocked) -> Path:
    holder, member = stocked.mesh.nodes.values()
    place.restore(holder, stocked.holder)
    place.restore(member, stocked.newcomer)
    stocked.mesh.configure_all()
    try:
        journal = _start_holder(stocked.mesh, holder)
        stocked.mesh.start(member)
        wait_journal(member, journal, PROGRESS_POLL_S)
        member.stop()
    finally:
        stocked.mesh.stop_all()
    return place.keep(member, place.directory / "kept" / "in-step")


# --- start --------------------------------------------------------------------------------------------------------


def start(place: Place) -> Iterator[list[Measurement]]:
    """Seconds from the start of the process to the first answer of its API, after a clean stop and after SIGKILL."""
    stocked = stock(place, place.sizes.shared_entries)
    holder = next(iter(stocked.mesh.nodes.values()))
    name = f"start with {stocked.entries:,} entries"
    for _ in range(place.sizes.runs):
        place.restore(holder, stocked.holder)
        import_s, _ = yardsticks.import_s_and_mib()
        try:
            clean_s = stocked.mesh.start(holder)
            memory = machine.memory_mib(holder.pid)
            holder.kill()
            killed_s = stocked.mesh.start(holder)
        finally:
            stocked.mesh.stop_all()
        yield [
            Measurement(f"{name}, stopped before", clean_s, "s", Aim(3.0), import_s, "imports alone"),
            Measurement(f"{name}, killed before", killed_s, "s", Aim(3.0), import_s, "imports alone"),
            Measurement(f"{name}, memory once serving", memory, "MiB"),
        ]
