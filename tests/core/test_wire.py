"""Every message has one form; whatever is done to its bytes, the door gives a message or a refusal and nothing else."""

from __future__ import annotations

from contextlib import suppress
from typing import Any, get_args

import pytest
from core_support import INCIDENT, KEY_ID, LogWriter, refused, search
from hypothesis import given
from hypothesis import strategies as st

from meshnode.core import codec, wire
from meshnode.core.entry import SEALED_BYTES_MAX
from meshnode.core.ids import NO_HASH, SEQ_MAX, DeviceId, EntryHash, IncidentId, KeyId, LogId
from meshnode.core.prekeys import SERIAL_MAX
from meshnode.core.wire import LIST_MAX, PACKAGES_MAX, ROSTER_RECORDS_MAX, RUN_ENTRIES_MAX
from meshnode.errors import UntrustedInputError


def exactly(length: int) -> st.SearchStrategy[Any]:
    return st.binary(min_size=length, max_size=length)


def rows(*columns: st.SearchStrategy[Any], least: int = 0) -> st.SearchStrategy[Any]:
    return st.lists(st.tuples(*columns), min_size=least, max_size=4).map(tuple)


incident, log = exactly(16).map(IncidentId), exactly(32).map(LogId)
device, key_id, digest = exactly(32).map(DeviceId), exactly(32).map(KeyId), exactly(32)
position, height = st.integers(1, SEQ_MAX), st.integers(0, SEQ_MAX)
address = st.sampled_from(["be.example:4433", "192.0.2.1:1", "[2001:db8::1]:65535", "host_2.local:4433"])
small = st.binary(max_size=30)


@st.composite
def runs(draw: st.DrawFn) -> wire.Run:
    keys = draw(st.lists(key_id, min_size=1, max_size=3))
    row = st.tuples(st.integers(0, len(keys) - 1), small, st.none() | small)
    entries = draw(st.lists(row, min_size=1, max_size=4).map(tuple))
    first = draw(st.integers(1, SEQ_MAX - len(entries) + 1))
    return wire.Run(draw(incident), draw(log), first, draw(digest), tuple(keys), entries, draw(exactly(64)))


count = st.integers(0, wire.PACKAGE_COUNT_MAX)
messages = st.one_of(
    st.builds(wire.Summary, digest, digest),
    st.builds(wire.Incidents, rows(incident, digest), st.booleans()),
    st.builds(wire.Heights, incident, rows(log, height), st.booleans(), st.booleans()),
    st.builds(wire.Want, incident, log, position, position),
    runs(),
    st.builds(wire.Lack, incident, log, position),
    st.builds(wire.Announce, rows(incident, log, position, least=1)),
    st.builds(wire.Prune, incident, log),
    st.builds(wire.Graft, incident, log, height),
    st.builds(wire.Roster, rows(device, st.integers(0, SERIAL_MAX), digest), st.booleans()),
    st.builds(wire.RosterWant, st.lists(device, min_size=1, max_size=4).map(tuple)),
    st.builds(wire.RosterRecords, rows(small, small, least=1)),
    st.builds(wire.Addresses, rows(device, address)),
    st.builds(wire.PackagesWant, incident, count),
    st.builds(wire.Packages, incident, rows(key_id, small, least=1), count),
)

ONE = LogWriter("one")
ONE.grow(3)
EXAMPLES: list[wire.Message] = [
    wire.Summary(bytes(32), bytes(32)),
    wire.Incidents(((INCIDENT, bytes(32)),), True),
    wire.Heights(INCIDENT, ((ONE.id, 3),), True, False),
    wire.Want(INCIDENT, ONE.id, 1, 3),
    ONE.run(),
    wire.Lack(INCIDENT, ONE.id, 4),
    wire.Announce(((INCIDENT, ONE.id, 3),)),
    wire.Prune(INCIDENT, ONE.id),
    wire.Graft(INCIDENT, ONE.id, 0),
    wire.Roster(((DeviceId(bytes(32)), 7, bytes(32)),), True),
    wire.RosterWant((DeviceId(bytes(32)),)),
    wire.RosterRecords(((b"bundle", b"record"),)),
    wire.Addresses(((DeviceId(bytes(32)), "be.example:4433"),)),
    wire.PackagesWant(INCIDENT, 40),
    wire.Packages(INCIDENT, ((KEY_ID, b"package"),), 24),
]


def items(message: wire.Message) -> list[Any]:
    return list(codec.decode_trusted(wire.encode(message)))


def decode(plain: Any) -> wire.Message:
    return wire.decode_untrusted(codec.encode(plain))


# --- one form -------------------------------------------------------------------------------------------------------


@given(messages)
@search(150)
def test_every_message_comes_back_from_its_bytes(message: wire.Message) -> None:
    assert wire.decode_untrusted(wire.encode(message)) == message


def test_there_is_an_example_of_every_message() -> None:
    assert {type(message) for message in EXAMPLES} == set(get_args(wire.Message))


@pytest.mark.parametrize("message", EXAMPLES, ids=lambda message: type(message).__name__)
def test_every_prefix_is_refused_and_every_changed_byte_is_refused_or_another_message(message: wire.Message) -> None:
    whole = wire.encode(message)
    for place in range(len(whole)):
        with refused("cbor-truncated"):
            wire.decode_untrusted(whole[:place])
        for flip in (0x01, 0x80, 0xFF):
            bent = whole[:place] + bytes([whole[place] ^ flip]) + whole[place + 1 :]
            with suppress(UntrustedInputError):
                assert wire.decode_untrusted(bent) != message


@given(messages, st.data())
@search(100)
def test_several_changed_bytes_raise_nothing_but_a_refusal(message: wire.Message, data: st.DataObject) -> None:
    whole = bytearray(wire.encode(message))
    for _ in range(data.draw(st.integers(1, 4))):
        whole[data.draw(st.integers(0, len(whole) - 1))] = data.draw(st.integers(0, 255))
    with suppress(UntrustedInputError):
        assert wire.encode(wire.decode_untrusted(bytes(whole)))


# --- other versions -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("message", EXAMPLES, ids=lambda message: type(message).__name__)
def test_items_behind_the_known_ones_are_a_newer_version_s_and_passed_over(message: wire.Message) -> None:
    assert decode([*items(message), "newer", None, {1: [2]}]) == message


@pytest.mark.parametrize("message", EXAMPLES, ids=lambda message: type(message).__name__)
def test_a_message_with_too_few_items_is_refused(message: wire.Message) -> None:
    with refused("message-malformed"):
        decode(items(message)[:-1])


@pytest.mark.parametrize("number", [0, 16, 99, -1, 2**63])
def test_an_unknown_number_is_refused_softly_by_a_code_of_its_own(number: int) -> None:
    with refused("message-unknown"):
        decode([number, "whatever"])


@pytest.mark.parametrize("plain", [[], {}, 7, "text", None, [None], ["1"], [True, b""], [[1]]])
def test_what_does_not_start_with_a_number_is_no_message(plain: Any) -> None:
    with refused("message-malformed"):
        decode(plain)


# --- fields ---------------------------------------------------------------------------------------------------------

WRONG: list[Any] = [None, True, -1, "text", b"", [], {}, 2**63, [None], [[]], [[b"", b""]], [[b"", b"", b"", b""]]]


@pytest.mark.parametrize("message", EXAMPLES, ids=lambda message: type(message).__name__)
def test_a_field_of_another_type_is_refused(message: wire.Message) -> None:
    known = items(message)
    for place in range(1, len(known)):
        for wrong in WRONG:
            with suppress(UntrustedInputError):
                taken = decode([*known[:place], wrong, *known[place + 1 :]])
                assert type(wrong) is type(known[place])
                assert items(taken)[place] == wrong


@pytest.mark.parametrize(
    "text",
    [
        "",
        "host",
        "host:",
        ":4433",
        "host:123456",
        "ho st:1",
        "höst:1",
        "[::1]",
        "[::1]:x",
        "[evil]:1",
        "a" * 251 + ":4433",
        "host:1\n",
        "host:١",
    ],
)
def test_an_address_that_is_not_a_short_host_and_port_is_refused(text: str) -> None:
    assert not wire.is_address(text)
    with refused("message-malformed"):
        decode([13, [[bytes(32), text]]])


@pytest.mark.parametrize("text", ["a:1", "a" * 240 + ":65535", "[fe80::1%25]:4433", "[::ffff:192.0.2.1]:4433"])
def test_an_address_at_its_limits_is_taken(text: str) -> None:
    assert wire.is_address(text)
    assert decode([13, [[bytes(32), text]]]) == wire.Addresses(((DeviceId(bytes(32)), text),))


def test_lists_hold_so_many_rows_and_no_more() -> None:
    row: list[Any]
    for number, row, limit, rest in (
        (2, [bytes(16), bytes(32)], LIST_MAX, [True]),
        (7, [bytes(16), bytes(32), 1], LIST_MAX, []),
        (10, [bytes(32), 1, bytes(32)], LIST_MAX, [True]),
        (13, [bytes(32), "a:1"], LIST_MAX, []),
        (12, [b"", b""], ROSTER_RECORDS_MAX, []),
    ):
        assert decode([number, [row] * limit, *rest])
        with refused("message-malformed"):
            decode([number, [row] * (limit + 1), *rest])
    with refused("message-malformed"):
        decode([3, bytes(16), [[bytes(32), 1]] * (LIST_MAX + 1), True, True])
    with refused("message-malformed"):
        decode([11, [bytes(32)] * (ROSTER_RECORDS_MAX + 1)])
    with refused("message-malformed"):
        decode([15, bytes(16), [[bytes(32), b""]] * (PACKAGES_MAX + 1)])


def test_the_serial_of_every_prekey_that_verifies_can_be_told_to_peers() -> None:
    message = wire.Roster(((DeviceId(bytes(32)), SERIAL_MAX, bytes(32)),), True)
    assert wire.decode_untrusted(wire.encode(message)) == message
    with refused("message-malformed"):
        decode([10, [[bytes(32), SERIAL_MAX + 1, bytes(32)]], True])


# --- runs -----------------------------------------------------------------------------------------------------------


def run_plain(row: list[Any], count: int = 1, first: int = 1, keys: int = 1) -> list[Any]:
    return [5, bytes(16), bytes(32), first, bytes(32), [bytes(32)] * keys, [row] * count, bytes(64)]


def test_a_run_at_its_limits_is_taken_and_above_them_it_is_not() -> None:
    assert decode(run_plain([0, b"", None], RUN_ENTRIES_MAX, SEQ_MAX - RUN_ENTRIES_MAX + 1, RUN_ENTRIES_MAX))
    assert decode(run_plain([0, bytes(SEALED_BYTES_MAX), bytes(wire.PACKAGE_BYTES_MAX)]))
    for wrong in (
        run_plain([0, b"", None], RUN_ENTRIES_MAX + 1),
        run_plain([0, b"", None], keys=RUN_ENTRIES_MAX + 1),
        run_plain([1, b"", None]),  # a key it does not list
        run_plain([0, b"", None], 2, first=SEQ_MAX),  # behind the last position
        run_plain([0, bytes(SEALED_BYTES_MAX + 1), None]),
        run_plain([0, b"", bytes(wire.PACKAGE_BYTES_MAX + 1)]),
        run_plain([0, b""]),
        run_plain([0, b"", None, None]),
    ):
        with refused("message-malformed"):
            decode(wrong)


def test_a_run_carries_each_key_id_once() -> None:
    writer = LogWriter("keys")
    writer.grow(2)
    writer.epoch_key = bytes(32)
    writer.grow(2)
    run = writer.run()
    assert (len(run.key_ids), [row[0] for row in run.rows]) == (2, [0, 0, 1, 1])
    assert wire.run_entries_untrusted(run) == writer.entries


@given(st.integers(1, 6), st.integers(0, 5))
@search(20)
def test_the_entries_of_a_run_are_those_it_was_made_of(count: int, skip: int) -> None:
    writer = LogWriter(f"run {count} {skip}")
    writer.grow(count + skip)
    run = wire.decode_untrusted(wire.encode(writer.run(skip + 1)))
    assert isinstance(run, wire.Run)
    assert (run.first, run.last) == (skip + 1, skip + count)
    assert wire.run_entries_untrusted(run) == writer.entries[skip:]


def test_whatever_is_changed_in_a_run_its_seal_does_not_fit_any_more() -> None:
    writer = LogWriter("sealed")
    writer.grow(2)
    writer.write(package=b"package")
    run = writer.run()
    whole = wire.encode(run)
    fitted = 0
    for place in range(len(whole)):
        try:
            other = wire.decode_untrusted(whole[:place] + bytes([whole[place] ^ 1]) + whole[place + 1 :])
        except UntrustedInputError:
            continue
        if isinstance(other, wire.Run):
            fitted += 1
            with refused("bad-signature"):
                wire.run_entries_untrusted(other)
    assert fitted > 300


def test_the_largest_run_a_writer_makes_fits_a_frame() -> None:
    writer = LogWriter("large")
    writer.write(package=bytes(wire.PACKAGE_BYTES_MAX), operations=(bytes(60_000),))
    assert len(wire.encode(writer.run())) < wire.FRAME_BYTES_MAX
    with refused("cbor-too-large"):
        wire.decode_untrusted(bytes(wire.FRAME_BYTES_MAX + 1))
    most = wire.Run(INCIDENT, writer.id, 1, NO_HASH, (KEY_ID,) * 256, ((0, bytes(800), None),) * 256, bytes(64))
    assert wire.decode_untrusted(wire.encode(most)) == most
    assert EntryHash(most.previous) == NO_HASH
