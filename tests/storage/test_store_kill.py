"""SIGKILL at any moment loses nothing that was acknowledged.

A child process writes commits as a node does (it stages while a worker thread writes, tidies now and then, opens a new
log at every start) and reports each commit over a pipe once ``end_commit`` returned. The parent kills it, opens the
store and looks for everything reported. The next child goes on with the same files.

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

from meshnode.core.ids import LogId
from meshnode.core.log import CommitBatch
from meshnode.storage.sqlite import SqliteLogStore

KILLS = int(os.environ.get("MESHNODE_TEST_KILLS", "40"))
ACKNOWLEDGED_BEFORE_KILL_MAX = 40
COMMITS_BETWEEN_TIDIES = 7
COUNTER = ("counter", b"")


def log_of_start(start: int) -> LogId:
    return LogId(name(f"start {start}", 32))


def write_until_killed(path: Path, start: int, acknowledged: Connection) -> None:
    """The child: one log, batches of 1 to 5 entries; reports the height each commit made durable."""
    store = SqliteLogStore.open(path, wal_reserve_bytes=1 << 16)
    chance = random.Random(start)
    log = LogBuilder(log=log_of_start(start))
    with ThreadPoolExecutor(1) as worker:
        while True:
            stage_more(store, log, chance.randint(1, 5))
            height = len(log.entries)
            ticket = store.begin_commit()
            assert ticket is not None
            writing = worker.submit(store.write, ticket)
            stage_more(store, log, 1)
            writing.result()
            store.end_commit(ticket)
            acknowledged.send(height)
            if ticket.number % COMMITS_BETWEEN_TIDIES == 0:
                worker.submit(store.tidy).result()


def stage_more(store: SqliteLogStore, log: LogBuilder, count: int) -> None:
    """Entries, the seal of the last, their journal rows and a counter of all entries: whole or not at all."""
    run = log.run(count, size_bytes=300)
    number = store.applied_last()
    applied = tuple(log.applied(number + index + 1, entry.seq) for index, entry in enumerate(run.entries))
    counter = (*COUNTER, (number + count).to_bytes(8, "big"))
    store.stage(CommitBatch(run.entries, run.seals, applied, (counter,)))


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
    with closing(SqliteLogStore.open(path)) as store:
        journal = [(row.log, row.seq) for row in store.applied_after(0, 1 << 20)]
        assert journal == [(log, seq) for log, height in heights.items() for seq in range(1, height + 1)]
        assert store.damaged() == 0
