"""Relays in the virtual world: they drop what did not grow, refuse it, and have it back when somebody needs it."""

from __future__ import annotations

from pathlib import Path

import pytest
from node_stories import alike, log_texts
from world import Host, World

from meshnode.core import custody
from meshnode.core.archive import PACKAGE_NAMESPACE
from meshnode.core.custody import LOOK_INTERVAL_S, RelaySettings
from meshnode.core.ids import IncidentId
from meshnode.core.retention import AGE_NAMESPACE, DROPPED_NAMESPACE
from meshnode.core.sync import INTERVAL_S
from meshnode.storage.sqlite import SqliteLogStore

TTL_S = 3_600.0
EXPIRY_S = TTL_S + LOOK_INTERVAL_S + 10.0
"""By then what did not grow was dropped."""
RELAY = RelaySettings(time_to_live_s=TTL_S)
YEARS_MS = 10 * 365 * 86_400_000


def count(host: Host, code: str) -> int:
    return sum(report.code == code for report in host.reports)


def holds(host: Host, incident: IncidentId) -> bool:
    held = host.node.holdings.holds(incident)
    assert held == (incident in host.store.incidents()) == (host.store.incident_bytes(incident) > 0)
    return held


def refusal_at(host: Host, noc: str) -> str:
    (peer,) = [peer for peer in host.reading.peers() if peer.noc == noc]
    return peer.last_refusal


def same_logs(a: Host, b: Host, incident: IncidentId) -> bool:
    return a.node.holdings.logs(incident) == b.node.holdings.logs(incident)


def behind_a_hub(world: World, *nocs: str, relay: RelaySettings = RELAY) -> list[Host]:
    """A hub that is no member, and NOCs that are no relays and reach the hub alone."""
    world.keep_apart(*nocs)
    hub = world.add("EU", relay=relay)
    hosts = [hub, *(world.add(noc, relay=False, peers=("EU:1",)) for noc in nocs)]
    world.run(5.0)
    return hosts


# --- dropping -------------------------------------------------------------------------------------------------------


def test_a_hub_drops_what_did_not_grow_and_the_members_keep_it() -> None:
    world = World(1)
    hub, be, nl = behind_a_hub(world, "BE", "NL")
    incident = world.open(be, share=("NL",))
    world.run(TTL_S * 0.9)
    world.log(nl, incident, "it lives")
    world.run(TTL_S * 0.9)
    assert same_logs(hub, be, incident)
    assert hub.node.custody.total_bytes == hub.store.incident_bytes(incident) > 0
    world.run(TTL_S * 0.1 + LOOK_INTERVAL_S + 10.0)
    assert not holds(hub, incident)
    assert (count(hub, "relay-dropped"), hub.node.custody.total_bytes, hub.node.holdings.entries) == (1, 0, 0)
    assert hub.store.scan(PACKAGE_NAMESPACE) == []
    assert incident not in hub.node.incidents.replicas
    alike([be, nl], incident)


def test_it_is_refused_with_a_code_while_it_stays_as_it_was_and_costs_next_to_nothing() -> None:
    world = World(2)
    hub, be, _nl = behind_a_hub(world, "BE", "NL")
    world.run(600.0)
    before = world.bytes_sent
    world.run(TTL_S)
    at_rest = world.bytes_sent - before
    incidents = [world.open(be, share=("NL",)) for _ in range(3)]
    world.run(EXPIRY_S)
    assert not any(holds(hub, incident) for incident in incidents)
    before = world.bytes_sent
    world.run(TTL_S)
    assert not any(holds(hub, incident) for incident in incidents)
    assert refusal_at(hub, "BE") == refusal_at(hub, "NL") == "relay-expired"
    assert {report.link for report in hub.reports if report.code == "relay-expired"} == set(hub.links)
    assert hub.node.outbox.counts["relay-expired"] <= 2 * 3 * (2 * TTL_S / 600)
    # Per link and round two lists of three incidents; their heights are asked once and offered every ten minutes.
    rounds = 2 * TTL_S / (INTERVAL_S * 0.75)
    assert world.bytes_sent - before - at_rest < rounds * 2 * 4 * 60


def test_a_new_entry_brings_the_whole_incident_back() -> None:
    world = World(3)
    hub, be, nl = behind_a_hub(world, "BE", "NL")
    incident = world.open(be, share=("NL",))
    world.run(2.0)
    for number in range(5):
        world.log(nl, incident, f"entry {number}")
    world.run(EXPIRY_S)
    assert not holds(hub, incident)
    world.log(be, incident, "it lives")
    world.run(2 * INTERVAL_S)
    assert same_logs(hub, be, incident)
    assert log_texts(nl, incident)[-1] == "it lives"
    assert hub.store.scan(DROPPED_NAMESPACE) == [] or not hub.node.custody.is_dropped(incident)
    world.run(EXPIRY_S)
    assert not holds(hub, incident)
    assert count(hub, "relay-dropped") == 2


def test_a_member_that_was_cut_off_for_longer_finds_everything_through_a_hub_that_dropped_it() -> None:
    world = World(4)
    hub, be, fr, de = behind_a_hub(world, "BE", "FR", "DE")
    incident = world.open(be, share=("FR", "DE"))
    world.run(10.0)
    world.partition("FR")
    world.log(be, incident, "FR does not see this")
    world.log(de, incident, "nor this")
    world.run(EXPIRY_S)
    assert not holds(hub, incident)
    world.heal()
    world.run(120.0)
    alike([be, fr, de], incident)
    assert same_logs(hub, be, incident)
    # When nobody lacks anything it expires again, and stays away.
    world.run(EXPIRY_S)
    assert not holds(hub, incident)
    world.run(3 * TTL_S)
    assert not holds(hub, incident)


def test_a_hub_that_becomes_a_member_never_drops() -> None:
    world = World(5)
    hub, be, nl = behind_a_hub(world, "BE", "NL")
    incident, other = world.open(be, share=("NL",)), world.open(be)
    world.run(EXPIRY_S)
    assert not holds(hub, incident)
    world.share(be, incident, "EU")
    world.run(30.0)
    assert (hub.node.custody.total_bytes, holds(hub, incident)) == (0, True)
    alike([hub, be, nl], incident)
    world.run(3 * TTL_S)
    assert holds(hub, incident)
    assert not holds(hub, other)
    assert refusal_at(hub, "BE") == "relay-expired"  # of the other one


# --- no ping-pong ---------------------------------------------------------------------------------------------------


def test_two_relays_that_hold_what_no_member_offers_any_more_let_it_go() -> None:
    world = World(6)
    hubs = [world.add("EU", relay=RELAY), world.add("XX", relay=RELAY, peers=("EU:1",))]
    be = world.add("BE", relay=False, peers=("EU:1",))
    world.run(5.0)
    incident = world.open(be)
    world.run(INTERVAL_S)
    world.partition("XX")
    world.run(TTL_S / 2)
    world.log(be, incident, "XX sees this late")
    world.run(TTL_S / 4)
    world.heal()
    world.run(100.0)
    assert same_logs(*hubs, incident)
    world.stop(be)
    world.run(6 * EXPIRY_S)
    assert not any(holds(hub, incident) for hub in hubs)
    assert [count(hub, "relay-dropped") for hub in hubs] == [1, 1]
    assert not any(hub.store.scan(DROPPED_NAMESPACE) for hub in hubs)  # nobody offers it: it is forgotten


@pytest.mark.parametrize("restarts", [False, True])
def test_relays_with_unequal_times_and_a_member_that_offers_drop_it_once_each(restarts: bool) -> None:
    world = World(7)
    slow = RelaySettings(time_to_live_s=2.5 * TTL_S)
    hubs = [world.add("EU", relay=RELAY), world.add("XX", relay=slow, peers=("EU:1",))]
    be = world.add("BE", relay=False, peers=("EU:1", "XX:1"))
    world.run(5.0)
    incident = world.open(be)
    for _hour in range(9):
        world.run(TTL_S)
        if restarts:
            for hub in hubs:
                world.stop(hub)
                world.restart(hub)
    world.run(60.0)
    assert not any(holds(hub, incident) for hub in hubs)
    assert [count(hub, "relay-dropped") for hub in hubs] == [1, 1]
    world.log(be, incident, "it lives")
    world.run(30.0)
    assert all(same_logs(hub, be, incident) for hub in hubs)


# --- clocks, crashes, restarts --------------------------------------------------------------------------------------


def test_no_jump_of_the_wall_clock_drops_anything() -> None:
    world = World(8)
    hub, be, _nl = behind_a_hub(world, "BE", "NL")
    incident = world.open(be)
    for number in range(8):
        world.run(TTL_S / 10)
        hub.wall_skew_ms = YEARS_MS * (number % 3 - 1)
        if number % 2:
            world.stop(hub)
            world.restart(hub)
    assert holds(hub, incident)
    world.run(EXPIRY_S)
    assert not holds(hub, incident)


def test_a_crash_in_the_drop_leaves_it_whole_and_it_is_dropped_after_the_restart() -> None:
    world = World(9)
    hub, be, _nl = behind_a_hub(world, "BE", "NL")
    incident = world.open(be)
    world.run(TTL_S - 10.0)
    hub.dies_before_commit = True
    world.run(LOOK_INTERVAL_S + 20.0)
    assert not hub.up
    world.restart(hub)
    assert same_logs(hub, be, incident)
    world.run(EXPIRY_S)
    assert not holds(hub, incident)


def test_a_crash_after_the_drop_does_not_bring_it_back(monkeypatch: pytest.MonkeyPatch) -> None:
    """Also not its packages, of which some were still to be deleted."""
    monkeypatch.setattr(custody, "ROWS_MAX", 2)
    world = World(10)
    hub, be, nl, de = behind_a_hub(world, "BE", "NL", "DE")
    incident = world.open(be)
    for noc in ("NL", "DE"):
        world.share(be, incident, noc)
    world.run(10.0)
    assert len(hub.store.scan(PACKAGE_NAMESPACE)) == 3
    while not count(hub, "relay-dropped"):
        world.run(1.0)
    assert len(hub.store.scan(PACKAGE_NAMESPACE)) == 1
    world.crash(hub)
    world.restart(hub)
    world.run(600.0)
    assert not holds(hub, incident)
    assert hub.store.scan(PACKAGE_NAMESPACE) == []
    assert refusal_at(hub, "BE") == "relay-expired"
    alike([be, nl, de], incident)


def test_the_quota_counts_what_was_stored_before_a_restart() -> None:
    world = World(11)
    hub, be, nl = behind_a_hub(world, "BE", "NL", relay=RelaySettings(incident_bytes_max=81_000))
    incident = world.open(be)
    for _start in range(4):
        for number in range(6):
            world.log(be, incident, f"entry {number}")
            world.run(1.0)
        world.stop(hub)
        world.restart(hub)
        world.run(60.0)
    assert 5_000 < hub.store.incident_bytes(incident) <= 9_000
    assert refusal_at(hub, "BE") == "relay-quota"
    assert nl.node.holdings.incidents() == []


def test_what_is_dropped_makes_room_for_others() -> None:
    world = World(12)
    hub, be, nl = behind_a_hub(world, "BE", "NL", relay=RelaySettings(total_bytes_max=81_000, time_to_live_s=TTL_S))
    old = world.open(be, share=("NL",))
    for number in range(4):
        world.log(be, old, f"entry {number}")
    world.run(TTL_S / 2)
    new = world.open(be, share=("NL",))
    world.run(INTERVAL_S)
    world.log(be, new, "waits for room")
    world.run(60.0)
    assert refusal_at(hub, "BE") == "relay-quota"
    assert hub.node.custody.total_bytes <= 9_000
    world.run(EXPIRY_S)
    assert not holds(hub, old)
    alike([be, nl], new)


def test_the_number_of_incidents_kept_for_others_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(custody, "INCIDENTS_MAX", 10)
    world = World(13)
    hub, be, _nl = behind_a_hub(world, "BE", "NL")
    incidents = [world.open(be) for _ in range(3)]
    world.run(30.0)
    assert sum(holds(hub, incident) for incident in incidents) == 2
    assert refusal_at(hub, "BE") == "relay-quota"
    world.log(be, incidents[0], "what is held may grow")
    world.run(30.0)
    assert sum(same_logs(hub, be, incident) for incident in incidents) == 2


def test_many_expired_incidents_are_dropped_a_few_in_each_step(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(custody, "DROPS_MAX", 2)
    world = World(14)
    hub, be, _nl = behind_a_hub(world, "BE", "NL")
    incidents = [world.open(be) for _ in range(5)]
    while not count(hub, "relay-dropped"):
        world.run(0.5)
    assert sum(holds(hub, incident) for incident in incidents) == 3
    world.run(5.0)
    assert not any(holds(hub, incident) for incident in incidents)


def test_on_a_real_disk_the_story_is_the_same(tmp_path: Path) -> None:
    world = World(15)
    store = SqliteLogStore.open(tmp_path / "store", wal_reserve_bytes=0)
    hub = world.add("EU", relay=RELAY, store=store)
    be, nl = (world.add(noc, relay=False, peers=("EU:1",)) for noc in ("BE", "NL"))
    world.run(5.0)
    incident = world.open(be, share=("NL",))
    world.run(TTL_S / 2)
    world.stop(hub)
    hub.store.close()
    hub.store = SqliteLogStore.open(tmp_path / "store", wal_reserve_bytes=0)
    world.restart(hub)
    world.run(TTL_S / 2 - 60.0)
    assert same_logs(hub, be, incident)
    assert hub.store.scan(AGE_NAMESPACE)
    world.run(LOOK_INTERVAL_S + 10.0)
    assert not holds(hub, incident)
    while hub.store.tidy_due():
        hub.store.tidy()
    world.log(nl, incident, "it lives")
    world.run(30.0)
    assert same_logs(hub, be, incident)
    hub.store.close()
