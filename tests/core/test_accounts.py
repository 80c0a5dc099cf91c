"""Room is shared out: whoever takes what it can leaves the others theirs, and nothing that was taken gives way."""

from __future__ import annotations

import random

import pytest
from core_support import search
from hypothesis import given
from hypothesis import strategies as st

from meshnode.core.accounts import NOBODY, Accounts, Room
from meshnode.core.ids import DeviceId, IncidentId, LogId

X, BE, HUB = (DeviceId(bytes([number]) * 32) for number in (1, 2, 3))
A, B = IncidentId(b"a" * 16), IncidentId(b"b" * 16)
ROOM = Room(incident_bytes=900, total_bytes=1_800, incidents=90)


def log(number: int) -> LogId:
    return LogId(number.to_bytes(32, "big"))


def fill(accounts: Accounts, incident: IncidentId, device: DeviceId, divisor: int, room: Room = ROOM) -> int:
    """As much as is taken of one neighbour, a byte at a time."""
    took = 0
    while accounts.has_room(incident, device, 1, room, divisor):
        accounts.charge(incident, log(took % 3), device, 1)
        took += 1
    return took


@pytest.mark.parametrize(("divisor", "share"), [(8, 100), (1, 450)])
def test_one_that_takes_all_it_can_gets_a_ninth_of_an_incident_and_a_relay_a_half(divisor: int, share: int) -> None:
    accounts = Accounts()
    assert fill(accounts, A, X, divisor) == share
    assert fill(accounts, A, BE, 8) == (ROOM.incident_bytes - share) // 9


def test_of_all_room_it_gets_the_same_share_however_many_incidents_it_makes_up() -> None:
    accounts = Accounts()
    took = sum(fill(accounts, IncidentId(bytes([number]) * 16), X, 8) for number in range(50))
    assert took == accounts.brought(X) == ROOM.total_bytes // 9
    assert fill(accounts, A, HUB, 1) == 450
    assert fill(accounts, B, BE, 8) == 100


def test_each_neighbour_opens_its_share_of_the_incidents() -> None:
    accounts = Accounts()
    opened = 0
    while accounts.may_open(X, ROOM, 8):
        accounts.charge(IncidentId(opened.to_bytes(16, "big")), log(0), X, 1)
        opened += 1
    assert opened == 10
    accounts.charge(IncidentId(bytes(16)), log(0), BE, 1)  # more of one that another brought opens none
    assert accounts.may_open(BE, ROOM, 8)
    accounts.forget(IncidentId(bytes(16)))
    assert accounts.may_open(X, ROOM, 8)


def test_with_no_room_at_all_nothing_is_taken() -> None:
    accounts, none = Accounts(), Room(0, 0, 0)
    assert not accounts.has_room(A, X, 1, none, 1)
    assert not accounts.may_open(X, none, 1)


def test_what_somebody_vouches_for_is_charged_no_more() -> None:
    accounts = Accounts()
    accounts.charge(A, log(1), X, 100)
    accounts.charge(A, log(2), X, 30)
    accounts.charge(A, log(2), BE, 7)
    accounts.release(A, log(1))
    accounts.release(A, log(1))
    accounts.release(B, log(1))
    assert (accounts.bytes, accounts.bytes_of(A), accounts.brought(X), accounts.brought(BE)) == (37, 37, 30, 7)
    assert (accounts.logs(A), accounts.logs(B), accounts.incidents()) == ([log(2)], [], [A])
    accounts.release(A, log(2))
    assert (accounts.bytes, accounts.has(A), accounts.bytes_of(A)) == (0, False, 0)


def test_its_rows_are_deleted_by_and_by_but_not_when_it_is_charged_again() -> None:
    accounts = Accounts()
    rows = [accounts.charge(A, log(number), X, 1)[1] for number in range(5)]
    accounts.forget(A)
    accounts.charge(A, log(4), X, 1)
    gone = [*accounts.delete_stale(3), *accounts.delete_stale(3)]
    assert gone == [("brought", key, None) for key in rows[:4]]
    assert accounts.delete_stale(3) == ()


def test_what_no_row_tells_of_counts_and_is_nobody_s() -> None:
    accounts = Accounts()
    accounts.charge_nobody(A, 500)
    assert (accounts.bytes, accounts.brought(NOBODY)) == (500, 500)
    assert fill(accounts, A, BE, 8) == (ROOM.incident_bytes - 500) // 9


steps = st.lists(
    st.tuples(
        st.sampled_from(["bring", "bring", "bring", "release", "forget"]),
        st.integers(0, 2),
        st.integers(0, 3),
        st.integers(0, 3),
        st.integers(1, 200),
    ),
    max_size=60,
)


@given(steps)
@search(100)
def test_whatever_happens_rows_and_sums_agree_and_no_room_is_overrun(
    script: list[tuple[str, int, int, int, int]],
) -> None:
    accounts, rows = Accounts(), {}
    incidents = [IncidentId(bytes([number]) * 16) for number in range(3)]
    devices = [DeviceId(bytes([number + 1]) * 32) for number in range(4)]
    for what, incident_number, device_number, log_number, size in script:
        incident, device = incidents[incident_number], devices[device_number]
        divisor = 1 if device_number == 0 else 8
        if what == "release":
            accounts.release(incident, log(log_number))
        elif what == "forget":
            accounts.forget(incident)
        elif accounts.has_room(incident, device, size, ROOM, divisor):
            _, key, value = accounts.charge(incident, log(log_number), device, size)
            rows[key] = value
        for _, key, _ in accounts.delete_stale(random.Random(size).randrange(3)):
            del rows[key]
    assert accounts.bytes == sum(map(accounts.brought, devices)) == sum(map(accounts.bytes_of, incidents))
    assert accounts.bytes <= ROOM.total_bytes
    assert all(accounts.bytes_of(incident) <= ROOM.incident_bytes for incident in incidents)
    for _, key, _ in accounts.delete_stale(1_000):
        del rows[key]
    again = Accounts()
    again.load(sorted((key, value) for key, value in rows.items() if value is not None))
    assert [again.brought(device) for device in devices] == [accounts.brought(device) for device in devices]
    assert [again.bytes_of(incident) for incident in incidents] == [
        accounts.bytes_of(incident) for incident in incidents
    ]
    assert [again.may_open(device, Room(0, 0, 1), 1) for device in devices] == [
        accounts.may_open(device, Room(0, 0, 1), 1) for device in devices
    ]
