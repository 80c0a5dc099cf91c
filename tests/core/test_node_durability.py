"""What was acknowledged survives crashes, restarts, damaged rows and old backups (I1, I11, I14; P1, D3, D10, D7)."""

from __future__ import annotations

import copy

import pytest
from core_support import refused
from node_stories import alike, log_texts, logs_of, values
from world import Attachment, Host, World, full_mesh

from meshnode.core import archive as archive_room
from meshnode.core.events import Change, ChangeKind
from meshnode.core.ids import IncidentId
from meshnode.errors import LocalFaultError

DISK_FULL = LocalFaultError("store-full", "the disk is full", "free space")


# --- crashes --------------------------------------------------------------------------------------------------------


def test_a_crash_before_the_commit_loses_nothing_acknowledged_and_the_node_goes_on_in_a_new_log() -> None:
    world = World(1)
    be, nl = full_mesh(world, "BE", "NL")
    incident = world.open(be, share=("NL",))
    world.log(be, incident, "acknowledged")
    world.run(1.0)
    sent: list[bytes] = []
    world.filter = lambda _a, _b, data: sent.append(data) or [data]
    be.dies_before_commit = True
    with pytest.raises(KeyError):  # no answer
        world.log(be, incident, "never acknowledged")
    world.run(5.0)
    assert log_texts(nl, incident) == ["acknowledged"]
    world.restart(be)
    assert log_texts(be, incident) == ["acknowledged"]
    before = logs_of(be, incident)
    world.log(be, incident, "after the restart")
    world.run(70.0)
    alike([be, nl], incident)
    assert log_texts(nl, incident) == ["acknowledged", "after the restart"]
    assert {log: height for log, height in logs_of(be, incident).items() if log in before} == before
    assert len(logs_of(be, incident)) == 2


def test_nothing_is_sent_that_is_not_durable() -> None:
    """Whatever step dies before its commit, peers never hold an entry that its writer has lost."""
    world = World(2)
    be, nl = full_mesh(world, "BE", "NL")
    incident = world.open(be, share=("NL",))
    world.run(1.0)
    for number in range(10):
        be.dies_before_commit = number % 2 == 0
        if be.dies_before_commit:
            with pytest.raises(KeyError):
                world.log(be, incident, f"lost {number}")
            world.run(0.5)
            world.restart(be)
        else:
            world.log(be, incident, f"kept {number}")
        world.run(3.0)
    world.run(70.0)
    alike([be, nl], incident)
    assert log_texts(nl, incident) == [f"kept {number}" for number in range(1, 10, 2)]
    assert "restored-or-cloned" not in be.codes


@pytest.mark.parametrize("seed", range(3))
def test_a_restart_from_a_checkpoint_equals_a_restart_from_the_journal(
    seed: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(archive_room, "CHECKPOINT_ENTRIES_MIN", 10**9)
    world = World(seed)
    hosts = full_mesh(world, "BE", "NL", "DE")
    be, nl = hosts[:2]
    incident = world.open(be, share=("NL", "DE"))
    world.run(1.0)
    world.partition("NL")
    for number in range(6):
        for host in hosts:
            world.set(host, incident, "title", f"{host.name} {number}")
            world.log(host, incident, f"{host.name} {number}")
        world.run(1.0)
    world.heal()
    world.run(70.0)
    alike(hosts, incident)
    assert len(nl.reading.conflicts(incident)) >= 1
    shown = _everything(nl, incident)
    by_journal = copy.deepcopy(nl.store)
    world.stop(nl)
    world.run(1.0)
    assert nl.store.get(archive_room.CHECKPOINT_NAMESPACE, incident) is not None
    by_checkpoint = copy.deepcopy(nl.store)
    for store in (by_checkpoint, by_journal):
        nl.store = store
        world.restart(nl)
        assert _everything(nl, incident) == shown
        world.log(nl, incident, "and on")
        world.crash(nl)


def _everything(host: Host, incident: IncidentId) -> tuple[object, ...]:
    reading, replica = host.reading, host.node.incidents.replicas[incident]
    return (
        reading.digest(incident),
        reading.incident(incident),
        reading.log_page(incident, "", 1000, False),
        reading.history_page(incident, "", 1000, None),
        reading.conflicts(incident),
        replica.timeline(),
        replica.graph.frontier(),
        replica.group.snapshot(),
        replica.keys,
    )


def test_a_checkpoint_is_written_now_and_then_and_what_follows_is_replayed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(archive_room, "CHECKPOINT_ENTRIES_MIN", 4)
    world = World(3)
    be, nl = full_mesh(world, "BE", "NL")
    first, second = world.open(be, share=("NL",)), world.open(nl, share=("BE",))
    world.run(1.0)
    for number in range(11):
        world.log(be, first, f"one {number}")
        world.log(nl, second, f"two {number}")
        world.run(0.5)
    shown = [_everything(be, incident) for incident in (first, second)]
    world.crash(be)
    world.restart(be)
    assert [_everything(be, incident) for incident in (first, second)] == shown


def test_a_checkpoint_of_another_version_or_of_other_rules_is_passed_over_and_the_journal_replayed(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    from meshnode.core import groups, replica

    world = World(4)
    be, nl = full_mesh(world, "BE", "NL")
    incident = world.open(be, share=("NL",))
    world.run(1.0)
    world.log(nl, incident, "hello")
    world.run(1.0)
    shown = _everything(be, incident)[:6]
    for room, name in ((replica, "SNAPSHOT_VERSION"), (groups, "RULES_VERSION")):
        world.stop(be)
        with monkeypatch.context() as newer:
            newer.setattr(room, name, 99)
            world.restart(be)
        assert _everything(be, incident)[:6] == shown


# --- old copies -----------------------------------------------------------------------------------------------------


def test_a_node_restored_from_an_old_copy_of_its_store_goes_on_and_says_what_happened() -> None:
    world = World(6)
    be, nl = full_mesh(world, "BE", "NL")
    incident = world.open(be, share=("NL",))
    world.log(be, incident, "in the backup")
    world.run(1.0)
    backup = copy.deepcopy(be.store)
    world.log(be, incident, "after the backup")
    world.run(1.0)
    world.crash(be)
    be.store = backup
    world.restart(be)
    world.log(be, incident, "after the restore")  # before it hears of what it lost
    world.run(70.0)
    alike([be, nl], incident)
    assert set(log_texts(be, incident)) == {"in the backup", "after the backup", "after the restore"}
    assert "restored-or-cloned" in be.codes
    assert be.node.outbox.counts["restored-or-cloned"] == 1
    assert "restored-or-cloned" not in nl.codes
    world.log(be, incident, "and on")
    world.run(1.0)
    alike([be, nl], incident)


def test_a_node_restored_from_before_its_prekey_changed_gets_new_incidents() -> None:
    world = World(7)
    be, nl = full_mesh(world, "BE", "NL")
    backup = copy.deepcopy(be.store)
    for host in (be, nl):
        world.crash(host)
    world.run(26 * 3600.0)
    for host in (be, nl):
        world.restart(host)
    world.run(70.0)
    world.crash(be)
    be.store = backup
    world.restart(be)
    world.run(70.0)
    incident = world.open(nl, share=("BE",))
    world.run(1.0)
    alike([be, nl], incident)


def test_a_node_that_lost_its_prekeys_makes_one_that_supersedes_the_old_even_with_a_frozen_clock() -> None:
    world = World(8)
    be, nl = full_mesh(world, "BE", "NL")
    serial = dict(nl.node.rollcall.roster.serials())[be.identity.device]
    world.crash(be)
    be.store._values["prekey-ring"].clear()
    be.wall_skew_ms = -int(world.now * 1000) - 5_000
    world.restart(be)
    world.run(70.0)
    assert dict(nl.node.rollcall.roster.serials())[be.identity.device] > serial
    incident = world.open(nl, share=("BE",))
    world.run(1.0)
    alike([be, nl], incident)


# --- a disk that takes no writes ------------------------------------------------------------------------------------


def test_a_node_that_cannot_write_reads_serves_and_refuses_and_catches_up_later() -> None:
    world = World(9)
    hosts = be, nl, de = full_mesh(world, "BE", "NL", "DE")
    incident = world.open(be, share=("NL",))
    world.log(be, incident, "before")
    world.run(1.0)
    world.crash(be)
    world.crash(de)
    world.restart(be, read_only=DISK_FULL)
    assert be.node.degraded["store-full"][0] == "the disk is full"
    assert log_texts(be, incident) == ["before"]
    for attempt in (
        lambda: world.log(be, incident, "x"),
        lambda: world.open(be),
        lambda: world.share(be, incident, "DE"),
    ):
        with refused("store-full", error=LocalFaultError):
            attempt()
    # It gives a node that lost everything what it holds, and takes nothing in.
    world.crash(nl)
    de.store = type(de.store)()
    world.restart(de)
    world.run(70.0)
    assert de.node.holdings.digest() == be.node.holdings.digest()
    world.restart(nl)
    world.log(nl, incident, "while BE's disk is full")
    world.run(70.0)
    assert log_texts(be, incident) == ["before"]
    assert be.node.archive.staged is False
    assert be.node.store.begin_commit() is None
    world.crash(be)
    world.restart(be)
    world.run(70.0)
    alike([be, nl], incident)
    assert len({host.node.holdings.digest() for host in hosts}) == 1


def test_a_node_starts_read_only_with_checkpoints_and_waiting_entries_alike() -> None:
    world = World(10)
    be, nl = full_mesh(world, "BE", "NL")
    incident = world.open(be, share=("NL",))
    world.run(1.0)
    world.log(nl, incident, "hello")
    world.run(1.0)
    shown = _everything(be, incident)
    world.stop(be)
    world.restart(be, read_only=DISK_FULL)
    assert _everything(be, incident) == shown
    assert be.node.next_deadline() >= world.now
    step = be.node.stop(world.time_of(0))
    assert (step.commit, step.effects) == (False, ())


# --- small things ---------------------------------------------------------------------------------------------------


def test_a_probe_is_something_small_to_commit() -> None:
    world = World(11)
    be = world.add("BE")
    be.node.stage_probe()
    assert be.node.step([], world.time_of(0)).commit


def test_files_survive_a_restart() -> None:
    world = World(12)
    (be,) = full_mesh(world, "BE")
    data = world.rng.randbytes(100_000)
    incident = world.open(be, attached=(Attachment("map.png", "image/png", data),))
    world.change(be, incident, Change(ChangeKind.SET, field="title", value="With a map"))
    world.crash(be)
    world.restart(be)
    (shown,) = be.reading.attachments(incident)
    assert be.reading.attachment(incident, bytes.fromhex(shown.id)).data == data
    assert values(be, incident, "title") == ["With a map"]


def test_a_node_of_an_empty_store_makes_its_first_prekey_and_waits() -> None:
    world = World(13)
    be = world.add("BE")
    assert be.store.get("prekey-ring", b"") is not None
    assert be.node.next_deadline() > world.now
    assert be.reading.incidents() == []
