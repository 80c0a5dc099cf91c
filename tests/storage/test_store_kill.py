"""SIGKILL at any moment loses nothing that was acknowledged.

A child process writes commits as a node does (it stages while a worker thread writes, tidies now and then, opens a new
log at every start) and reports each commit over a pipe once ``end_commit`` returned. The parent kills it, opens the
store and looks for everything reported. The next child goes on with the same files.

With each batch it also takes in an incident that is never merged and drops the one of four batches ago, and deletes
dropped rows a few at a time: after any kill exactly the right ones are there, whole.

``MESHNODE_TEST_KILLS`` sets how often; a failure prints the seed of its kill.
"""

from __future__ import annotations

import multiprocessing
import os
import random
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from multiprocessing.connection import Connection
from pathlib import Path

from log_builder import INCIDENT, LogBuilder, name

from meshnode.core.ids import IncidentId, LogId
from meshnode.core.log import CommitBatch
from meshnode.storage import sweep
from meshnode.storage.sqlite import SqliteLogStore

KILLS = int(os.environ.get("MESHNODE_TEST_KILLS", "40"))
ACKNOWLEDGED_BEFORE_KILL_MAX = 40
COMMITS_BETWEEN_TIDIES = 7
COUNTER = ("counter", b"")
BATCHES = ("batches", b"")
"""How many batches the last start that wrote any has staged, and which start it was."""
RELAYED_KEPT = 4
RELAYED_ENTRIES = 12


def log_of_start(start: int) -> LogId:
    return LogId(name(f"start {start}", 32))


def write_until_killed(path: Path, start: int, acknowledged: Connection) -> None:
    """The child: one log, batches of 1 to 5 entries; reports the height each commit made durable."""
    sweep.SLICE_ROWS = 5
    store = SqliteLogStore.open(path, wal_reserve_bytes=1 << 16)
    chance = random.Random(start)
    log = LogBuilder(log=log_of_start(start))
    number = 0
    with ThreadPoolExecutor(1) as worker:
        while True:
            number += 2
            stage_more(store, log, chance.randint(1, 5), start, number - 1)
            height = len(log.entries)
            ticket = store.begin_commit()
            assert ticket is not None
            writing = worker.submit(store.write, ticket)
            stage_more(store, log, 1, start, number)
            writing.result()
            store.end_commit(ticket)
            acknowledged.send(height)
            if ticket.number % COMMITS_BETWEEN_TIDIES == 0:
                worker.submit(store.tidy).result()


def relayed(start: int, batch: int) -> LogBuilder:
    return LogBuilder(IncidentId(name(f"relayed {start}.{batch}", 16)), LogId(name(f"log {start}.{batch}", 32)))


def stage_more(store: SqliteLogStore, log: LogBuilder, count: int, start: int, batch: int) -> None:
    """Entries, the seal of the last, their journal rows and a counter of all entries: whole or not at all."""
    theirs = relayed(start, batch).run(RELAYED_ENTRIES)
    too_old = [incident for incident in store.incidents() if not store.journaled(incident)] if batch == 1 else []
    if batch > RELAYED_KEPT:
        too_old = [relayed(start, batch - RELAYED_KEPT).incident]
    run = log.run(count, size_bytes=300)
    number = store.applied_last()
    applied = tuple(log.applied(number + index + 1, entry.seq) for index, entry in enumerate(run.entries))
    counter = (*COUNTER, (number + count).to_bytes(8, "big"))
    batches = (*BATCHES, start.to_bytes(4, "big") + batch.to_bytes(4, "big"))
    store.stage(
        CommitBatch(
            (*run.entries, *theirs.entries),
            (*run.seals, *theirs.seals),
            applied,
            (counter, batches),
            tuple(too_old),
        )
    )


def kill_one(path: Path, start: int) -> int:
    """Start a child, kill it after some commits; the height it acknowledged last."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload([__name__, "meshnode.storage.sqlite"])
    ours, theirs = context.Pipe(duplex=False)
    child = context.Process(target=write_until_killed, args=(path, start, theirs), daemon=True)
    child.start()
    theirs.close()
    chance = random.Random(start)
    height = 0
    for _commit in range(chance.randint(0, ACKNOWLEDGED_BEFORE_KILL_MAX)):
        height = ours.recv()
    # Some way into the next commit, where that may be.
    for _step in range(chance.randrange(5_000)):
        pass
    child.kill()
    child.join()
    try:
        while True:
            height = ours.recv()
    except (EOFError, OSError):
        ours.close()
    return height


def check_relayed(store: SqliteLogStore, where: str) -> None:
    """Exactly what the last batches took in, whatever was being deleted."""
    written = store.get(*BATCHES) or bytes(8)
    last_start, last_batch = int.from_bytes(written[:4], "big"), int.from_bytes(written[4:], "big")
    kept = range(max(1, last_batch - RELAYED_KEPT + 1), last_batch + 1)
    builders = [relayed(last_start, batch) for batch in kept]
    held = [incident for incident in store.incidents() if incident != INCIDENT]
    assert held == sorted(builder.incident for builder in builders), where
    for builder in builders:
        entries = list(builder.grow(RELAYED_ENTRIES))
        assert store.read(builder.incident, builder.log, 1, RELAYED_ENTRIES + 1) == entries, where
        assert store.incident_bytes(builder.incident) == sum(entry.size_bytes for entry in entries), where
        assert store.heads(builder.incident)[0].height == RELAYED_ENTRIES, where


def test_nothing_acknowledged_is_lost_by_kills_at_random_moments(tmp_path: Path) -> None:
    path = tmp_path / "store"
    heights: dict[LogId, int] = {}
    for start in range(KILLS):
        acknowledged = kill_one(path, start)
        if not path.exists():
            # Killed before the store was born, and so before anything was acknowledged.
            assert acknowledged == 0
            continue
        with closing(SqliteLogStore.open(path, wal_reserve_bytes=1 << 16)) as store:
            assert store.notices() == ()
            found = {head.log: head.height for head in store.heads(INCIDENT)}
            height = found.pop(log_of_start(start), 0)
            assert height >= acknowledged, f"kill {start}: {acknowledged} acknowledged, {height} found"
            assert found == heights, f"kill {start}: an earlier log changed"
            if height:
                heights[log_of_start(start)] = height
            entries = store.read(INCIDENT, log_of_start(start), 1, height + 1)
            assert entries == list(LogBuilder(log=log_of_start(start)).grow(height, size_bytes=300)), f"kill {start}"
            assert store.applied_last() == sum(heights.values()), f"kill {start}"
            counter = store.get(*COUNTER)
            assert int.from_bytes(counter or b"", "big") == sum(heights.values()), f"kill {start}: half a batch"
            check_relayed(store, f"kill {start}")
    with closing(SqliteLogStore.open(path)) as store:
        journal = [(row.log, row.seq) for row in store.applied_after(0, 1 << 20)]
        while store.tidy_due():
            store.tidy()
        check_relayed(store, "all deleted")
        assert journal == [(log, seq) for log, height in heights.items() for seq in range(1, height + 1)]
        assert store.damaged() == 0
