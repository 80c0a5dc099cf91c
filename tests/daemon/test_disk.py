"""Real daemons on disks that are full, turn read-only, rot or lose files: refusals have a code, nothing acknowledged is
lost, what can be fetched again is."""

from __future__ import annotations

import contextlib
import os
import sqlite3
from collections.abc import Callable
from pathlib import Path

import pytest
from processes import (
    MakeMesh,
    altered,
    degraded,
    fill,
    log_codes,
    refusal_of,
    refusals,
    run_to_end,
    texts,
    wait_holds,
)

from simulations.mesh import Mesh, Node, wait_for

STORE = "meshnode.db"


def open_shared(mesh: Mesh, title: str = "Release") -> str:
    """An incident of BE that all nodes of the mesh are members of, with a few records of each."""
    with mesh["BE"].client() as client:
        others = [noc for noc in mesh.nodes if noc != "BE"]
        incident = client.open_incident("cbrn-e", {"title": title}, share_with=others).incident
    for noc, node in mesh.nodes.items():
        wait_for(lambda node=node: knows(node, incident), 20.0, f"{noc} has the incident")
        for number in range(10):
            assert refusal_of(node, incident, f"{noc} {number}") is None
    return incident


def knows(node: Node, incident: str) -> bool:
    with node.client() as client:
        return incident in {summary.id for summary in client.incidents()}


def all_records(mesh: Mesh) -> set[str]:
    return {f"{noc} {number}" for noc in mesh.nodes for number in range(10)}


@pytest.fixture
def pair(make_mesh: MakeMesh) -> Mesh:
    mesh = make_mesh("BE", "NL")
    mesh.start_all()
    mesh.wait_linked()
    return mesh


# --- full, read-only, broken -----------------------------------------------------------------------------------------


def test_a_full_disk_refuses_writes_goes_on_reading_and_heals_by_itself(
    own_disk: Callable[[Path], None], make_mesh: MakeMesh
) -> None:
    mesh = make_mesh("BE", "NL")
    node = mesh["NL"]
    own_disk(node.data)
    mesh.start_all()
    mesh.wait_linked()
    incident = open_shared(mesh)
    filler = fill(node.data)
    written = all_records(mesh)
    number = 0
    refused = None
    # The write-ahead log has room in reserve; then the disk is full in earnest.
    while refused is None:
        text = f"{number} " + "x" * 3_000
        refused = refusal_of(node, incident, text)
        if refused is None:
            written.add(text)
        number += 1
    assert (refused.code, refused.status) == ("store-full", 507)
    assert "free space" in refused.action
    assert degraded(node) == ["store-full"]
    assert refusals(node)["store-full"] >= 1
    assert set(texts(node, incident)) == written
    # Meanwhile others write on; this node reads what it has, and keeps its links.
    assert refusal_of(mesh["BE"], incident, "from BE meanwhile") is None
    assert refusal_of(node, incident).code == "store-full"
    filler.unlink()
    wait_for(lambda: degraded(node) == [], 30.0, "the node has noticed that there is room")
    assert refusal_of(node, incident, "room again") is None
    wait_holds(list(mesh.nodes.values()), incident, written | {"from BE meanwhile", "room again"})
    assert {"store-full", "store-recovered"} <= set(log_codes(node))
    node.kill()
    mesh.start(node)
    wait_holds(list(mesh.nodes.values()), incident, written | {"from BE meanwhile", "room again"})


def test_a_node_restarts_on_a_full_disk_and_reads(own_disk: Callable[[Path], None], make_mesh: MakeMesh) -> None:
    mesh = make_mesh("BE")
    node = mesh["BE"]
    own_disk(node.data)
    mesh.start(node)
    incident = open_shared(mesh)
    node.kill()
    filler = fill(node.data)
    mesh.start(node)
    assert set(texts(node, incident)) == all_records(mesh)
    filler.unlink()
    wait_for(lambda: refusal_of(node, incident, "room again") is None, 30.0, "a write is taken")
    assert set(texts(node, incident)) == {*all_records(mesh), "room again"}


def test_a_write_that_the_system_refuses_ends_acknowledgements_until_a_restart(make_mesh: MakeMesh) -> None:
    """For every user: files may not grow beyond a limit, which is no full disk and nothing that heals."""
    mesh = make_mesh("BE")
    node = mesh["BE"]
    node.command = (*altered("file-size", 1 << 20), *node.command)
    mesh.start(node)
    incident = open_shared(mesh)
    written = all_records(mesh)
    refused = None
    while refused is None:
        text = f"{len(written)} " + "x" * 3_000
        refused = refusal_of(node, incident, text)
        if refused is None:
            written.add(text)
    assert (refused.code, refused.status) == ("store-failed", 503)
    assert "restart" in refused.action
    assert refusal_of(node, incident).code == "store-failed"
    assert degraded(node) == ["store-failed"]
    assert set(texts(node, incident)) == written
    assert node.stop() == 0
    node.command = node.command[-3:]
    mesh.start(node)
    assert degraded(node) == []
    assert refusal_of(node, incident, "after the restart") is None
    assert set(texts(node, incident)) == {*written, "after the restart"}


# --- files that were lost or changed ---------------------------------------------------------------------------------


def test_a_lost_write_ahead_log_is_noticed_and_what_was_in_it_comes_back_from_peers(pair: Mesh) -> None:
    incident = open_shared(pair)
    wait_holds(list(pair.nodes.values()), incident, all_records(pair))
    node = pair["NL"]
    # What is in the file itself: keys above all. A clean stop brings it there, and so does a moment of quiet.
    assert node.stop() == 0
    pair.start(node)
    assert refusal_of(node, incident, "in the log only") is None
    wait_holds(list(pair.nodes.values()), incident, {*all_records(pair), "in the log only"})
    node.kill()
    (node.data / f"{STORE}-wal").unlink()
    pair.start(node)
    assert degraded(node) == ["store-wal-missing"]
    assert "store-wal-missing" in log_codes(node)
    wait_holds(list(pair.nodes.values()), incident, {*all_records(pair), "in the log only"})
    # It writes on, in logs of its own that are new: no position is ever used twice.
    assert refusal_of(node, incident, "after the loss") is None
    wait_holds(list(pair.nodes.values()), incident, {*all_records(pair), "in the log only", "after the loss"})
    assert "log-forked" not in refusals(pair["BE"])


def rot(node: Node, query: str) -> int:
    """Flips one bit of each value that a query finds, in the file, behind SQLite's back."""
    path = node.data / STORE
    with contextlib.closing(sqlite3.connect(path)) as connection:
        connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        blobs = [row[0] for row in connection.execute(query)]
    data = bytearray(path.read_bytes())
    for blob in blobs:
        # The end of a blob: a large one spans pages, and its end is in one piece. A check is a number of eight bytes.
        piece = blob[-32:] if isinstance(blob, bytes) else blob.to_bytes(8, "big", signed=True)
        at = data.find(piece)
        assert at >= 0
        data[at + len(piece) // 2] ^= 0x10
    path.write_bytes(data)
    return len(blobs)


ENTRY_IN_THE_MIDDLE = "SELECT sealed FROM entry WHERE (place & 4294967295) = 4"
LAST_ENTRIES = "SELECT sealed FROM entry GROUP BY place >> 32 HAVING place = max(place)"
JOURNAL = 'SELECT "check" FROM journal WHERE number IN (7, 8, 20)'
SEALS = "SELECT signature FROM seal WHERE (place & 4294967295) > 3 LIMIT 3"
CHECKPOINT = "SELECT value FROM value WHERE namespace = CAST('checkpoint' AS BLOB)"
PREKEYS = "SELECT value FROM value WHERE namespace = CAST('prekey-ring' AS BLOB)"
EPOCH_KEYS = "SELECT value FROM value WHERE namespace = CAST('epoch-key' AS BLOB)"
ROSTER = "SELECT value FROM value WHERE namespace = CAST('roster' AS BLOB)"


@pytest.mark.parametrize(
    "query",
    [
        pytest.param(ENTRY_IN_THE_MIDDLE, id="an-entry-in-the-middle"),
        pytest.param(LAST_ENTRIES, id="the-last-entries"),
        pytest.param(SEALS, id="seals"),
        pytest.param(CHECKPOINT, id="checkpoint"),
        pytest.param(PREKEYS, id="prekeys"),
        pytest.param(EPOCH_KEYS, id="epoch-keys"),
        pytest.param(ROSTER, id="roster"),
        pytest.param(JOURNAL, id="journal"),
    ],
)
def test_damaged_rows_are_said_set_aside_and_fetched_again(pair: Mesh, query: str) -> None:
    incident = open_shared(pair)
    wait_holds(list(pair.nodes.values()), incident, all_records(pair))
    node = pair["NL"]
    assert node.stop() == 0
    assert rot(node, query) > 0
    pair.start(node)
    wait_holds(list(pair.nodes.values()), incident, all_records(pair))
    # What nobody reads, the scrub finds.
    wait_for(lambda: "store-row-damaged" in refusals(node), 30.0, "the damage is counted")
    wait_for(lambda: "store-row-damaged" in log_codes(node), 5.0, "the damage is written down")
    assert refusal_of(node, incident, "after the damage") is None
    wait_holds(list(pair.nodes.values()), incident, {*all_records(pair), "after the damage"})
    # Once, not at every start.
    assert node.stop() == 0
    pair.start(node)
    wait_holds(list(pair.nodes.values()), incident, {*all_records(pair), "after the damage"})


def test_a_damaged_file_header_is_refused_with_a_way_out(pair: Mesh) -> None:
    incident = open_shared(pair)
    wait_holds(list(pair.nodes.values()), incident, all_records(pair))
    node = pair["NL"]
    assert node.stop() == 0
    path = node.data / STORE
    path.write_bytes(os.urandom(16) + path.read_bytes()[16:])
    ended = run_to_end(node)
    assert ended.code == 4
    assert "store-damaged" in ended.said
    assert "move the store's files away" in ended.said
    for file in node.data.glob(f"{STORE}*"):
        file.rename(node.directory / file.name)
    pair.start(node)
    pair.wait_linked()
    # The prekeys went with the store: what was sealed to them stays closed here, and what comes next is readable.
    with pair["BE"].client() as client:
        new = client.open_incident("other", {"title": "the next one"}, share_with=["NL"]).incident
    wait_for(lambda: knows(node, new), 20.0, "the next incident is readable")
