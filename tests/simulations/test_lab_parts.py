"""The parts of the lab that need no rights: what becomes of packets, what holds on the lines, a wrong clock."""

from __future__ import annotations

from pathlib import Path

import pytest
from lab_support import lab_plan

from simulations.scenario.plan import Heal, LinkFault
from simulations.worlds.contract import WorldUnavailableError
from simulations.worlds.lab import shaper, world
from simulations.worlds.lab.odd import skewed_clock, write_skew
from simulations.worlds.lab.shaper import Shaper, Treatment, corrupted
from simulations.worlds.lab.state import Weather

WAY = ("BE", "NL")
HEADERS = bytes([0x45, *bytes(8), 17, *bytes(16), 0xAB, 0xCD])


def packet(number: int) -> bytes:
    return HEADERS + number.to_bytes(4, "big")


def sent(seed: int, treatment: Treatment, count: int = 200) -> list[bytes]:
    one = Shaper(seed)
    one.treat({WAY: treatment}, 0.0)
    for number in range(count):
        one.take(WAY, packet(number), number * 0.001)
    return one.due(1_000.0)


def test_the_fate_of_packets_follows_from_the_seed() -> None:
    rough = Treatment(0.01, 0.05, 0.2, 0.2, 0.2)
    assert sent(1, rough) == sent(1, rough)
    assert sent(1, rough) != sent(2, rough)


def test_a_plain_line_passes_everything_once_and_in_order() -> None:
    assert sent(1, Treatment(0.02)) == [packet(number) for number in range(200)]


def test_as_many_are_lost_doubled_and_changed_as_was_asked() -> None:
    assert 110 < len(sent(1, Treatment(loss=0.4))) < 130
    assert 270 < len(sent(1, Treatment(duplication=0.4))) < 290
    changed = sent(1, Treatment(corruption=0.4))
    assert 70 < sum(found != packet(number) for number, found in enumerate(changed)) < 90


def test_one_direction_has_its_luck_whatever_happens_on_another() -> None:
    alone, beside = Shaper(1), Shaper(1)
    for one in (alone, beside):
        one.treat({WAY: Treatment(loss=0.5), ("FR", "NL"): Treatment(loss=0.5)}, 0.0)
    for number in range(50):
        alone.take(WAY, packet(number), 0.0)
        beside.take(("FR", "NL"), packet(1_000), 0.0)
        beside.take(WAY, packet(number), 0.0)
    assert alone.due(1.0) == [found for found in beside.due(1.0) if found != packet(1_000)]


def test_a_packet_leaves_when_its_time_has_come_and_spread_lets_later_ones_overtake() -> None:
    one = Shaper(3)
    one.treat({WAY: Treatment(latency_s=0.5, spread_s=1.0)}, 0.0)
    for number in range(20):
        one.take(WAY, packet(number), 0.0)
    assert one.due(0.49) == []
    assert 0.5 <= (one.next_s() or 0.0) <= 1.5
    assert sorted(found := one.due(1.5)) == [packet(number) for number in range(20)]
    assert found != sorted(found)
    assert one.next_s() is None


def test_what_is_held_leaves_at_once_and_in_order_when_the_hold_ends(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shaper, "HELD_BYTES_MAX", 3 * len(packet(0)))
    one = Shaper(1)
    one.treat({WAY: Treatment(hold=True)}, 0.0)
    for number in range(4):
        one.take(WAY, packet(number), 0.0)
    assert one.due(100.0) == []
    assert one.counts["overflown"] == 1
    one.treat({}, 100.0)
    assert one.due(100.0) == [packet(0), packet(1), packet(2)]


def test_a_corrupt_packet_differs_by_one_bit_and_has_no_check_sum() -> None:
    for place in (0.0, 0.5, 0.999):
        changed = corrupted(packet(7), place)
        assert changed[:26] == packet(7)[:26]
        assert changed[26:28] == b"\0\0"
        differing = int.from_bytes(changed[28:], "big") ^ int.from_bytes(packet(7)[28:], "big")
        assert differing.bit_count() == 1
    assert corrupted(HEADERS, 0.5) == HEADERS


# --- lines ----------------------------------------------------------------------------------------------------------


def cut(senders: tuple[str, ...], receivers: tuple[str, ...], effect: str = "cut", amount: float = 0.0) -> LinkFault:
    return LinkFault(1, 0.0, None, effect, senders, receivers, amount)


def test_a_cut_of_one_direction_leaves_the_other() -> None:
    weather = Weather(lab_plan(8), {}, kernel_loses=True)
    assert weather.lines().cuts == frozenset()
    weather.begin(fault := cut(("BE",), ("NL",)))
    assert weather.lines().cuts == {("BE", "NL")}
    assert weather.lines().down == frozenset()
    weather.end(fault)
    weather.end(fault)
    assert weather.lines().cuts == frozenset()


def test_who_is_cut_off_both_ways_from_everybody_has_its_interface_down() -> None:
    weather = Weather(lab_plan(8), {}, kernel_loses=True)
    others = ("BE", "NL", "EU")
    weather.begin(cut(("FR",), others))
    assert weather.lines().down == frozenset()
    weather.begin(cut(others, ("FR",)))
    assert weather.lines().down == {"FR"}
    everybody = (*others, "FR")
    weather.heal(Heal(1, 0.0, ("cut",), ("FR",), everybody))
    assert weather.lines().down == frozenset()
    assert ("BE", "FR") in weather.lines().cuts


def test_machines_without_a_network_between_them_are_cut_for_ever() -> None:
    line = '[topology]\nshape = "line"\n'
    weather = Weather(lab_plan(8, line), {}, kernel_loses=True)
    weather.heal_all()
    assert ("BE", "FR") in weather.lines().cuts
    assert ("BE", "NL") not in weather.lines().cuts


def test_a_clone_meets_the_faults_of_its_original() -> None:
    weather = Weather(lab_plan(8), {"FR~1": "FR"}, kernel_loses=True)
    weather.begin(cut(("FR",), ("BE",)))
    assert weather.lines().cuts == {("FR", "BE"), ("FR~1", "BE")}


@pytest.mark.parametrize("kernel_loses", [True, False])
def test_the_kernel_loses_what_is_lost_where_it_can(kernel_loses: bool) -> None:
    weather = Weather(lab_plan(8), {}, kernel_loses=kernel_loses)
    weather.begin(cut(("FR",), ("BE",), "drop", 0.3))
    lines = weather.lines()
    kernel, forwarder = lines.losses.get(("FR", "BE"), 0.0), lines.treatments["FR", "BE"].loss
    assert (kernel, forwarder) == pytest.approx((0.3, 0.0) if kernel_loses else (0.0, 0.3))


# --- clocks and refusals --------------------------------------------------------------------------------------------


def test_a_skewed_clock_jumps_and_drifts_as_its_file_says(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    true_s = 1_000.0
    monkeypatch.setattr("time.time", lambda: true_s)
    path = tmp_path / "clock"
    write_skew(path, 0.0, 0.0)
    clock = skewed_clock(path, lambda: true_s)
    assert clock() == 1_000.0
    write_skew(path, 3_600.0, 0.5)
    assert clock() == 4_600.0
    true_s = 1_010.0
    assert clock() == 4_615.0


def test_a_machine_without_the_tools_is_told_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(world, "find_program", lambda name: None if name == "ip" else f"/usr/bin/{name}")
    with pytest.raises(WorldUnavailableError, match=r"^lab-no-tools: ip is not here; install .*iproute2"):
        world.LabWorld().run(lab_plan(8))


def test_a_machine_that_gives_no_rights_is_told_what_to_do(monkeypatch: pytest.MonkeyPatch) -> None:
    refused = ["sh", "-c", "echo unshare failed: Operation not permitted >&2; exit 1", "--"]
    monkeypatch.setattr(world, "TOOLS", ())
    monkeypatch.setattr(world.os, "access", lambda *_: True)
    monkeypatch.setattr(world, "_namespaces", lambda: refused)
    with pytest.raises(WorldUnavailableError, match=r"^lab-no-rights: .*Operation not permitted\); run as root"):
        world.LabWorld().run(lab_plan(8))
    monkeypatch.setattr(world.os, "access", lambda *_: False)
    assert world.why_not_here().startswith("lab-no-tun: ")
