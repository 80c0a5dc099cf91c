"""Of each device the newest record counts, whoever brings it and in whatever order."""

from __future__ import annotations

import itertools
import random

import pytest
from core_support import refused
from world import START_WALL_MS, make_identity

from meshnode.core import roster as roster_room
from meshnode.core.identity import Identity
from meshnode.core.ids import DeviceId
from meshnode.core.prekeys import make_prekey
from meshnode.core.roster import Roster

BE, NL = make_identity("BE", "1"), make_identity("NL", "1")
NL2 = make_identity("NL", "2")


def record(identity: Identity, serial: int, seed: int = 1) -> tuple[bytes, bytes]:
    """(bundle, prekey record)."""
    made = make_prekey(identity.device_key, serial, START_WALL_MS, random.Random(seed).randbytes)
    return identity.certificate.bundle, made[1]


def empty() -> Roster:
    return Roster(BE.network_root)


def test_a_record_is_taken_once_and_then_known() -> None:
    roster = empty()
    taken = roster.accept_untrusted(*record(BE, 1))
    assert roster.accept_untrusted(*record(BE, 1)) is None
    enrolled = roster.get(BE.device)
    assert enrolled is not None
    assert enrolled is taken
    assert (enrolled.certificate.noc, enrolled.prekey.serial) == ("BE", 1)
    assert (enrolled.bundle, enrolled.record) == record(BE, 1)
    assert (len(roster), roster.get(NL.device)) == (1, None)


def test_the_newest_serial_wins_in_every_order() -> None:
    records = [record(BE, 1), record(BE, 2), record(BE, 3), record(NL, 7)]
    digests = set()
    for order in itertools.permutations(records):
        roster = empty()
        for bundle, prekey in order:
            roster.accept_untrusted(bundle, prekey)
        assert roster.serials() == sorted([(BE.device, 3), (NL.device, 7)])
        digests.add(roster.digest())
    assert len(digests) == 1


def test_of_one_serial_the_same_record_wins_everywhere() -> None:
    """Only a copied device makes two."""
    one, other = record(BE, 5, seed=1), record(BE, 5, seed=2)
    kept = set()
    for order in ((one, other), (other, one)):
        roster = empty()
        for bundle, prekey in order:
            roster.accept_untrusted(bundle, prekey)
        enrolled = roster.get(BE.device)
        assert enrolled is not None
        kept.add(enrolled.record)
    assert kept == {max(one[1], other[1])}


def test_devices_are_listed_by_noc() -> None:
    roster = empty()
    for identity in (NL2, BE, NL):
        roster.accept_untrusted(*record(identity, 1))
    assert roster.nocs() == ["BE", "NL"]
    assert [enrolled.certificate.device for enrolled in roster.devices_of("NL")] == sorted([NL.device, NL2.device])
    assert roster.devices_of("DE") == []


def test_what_the_other_side_holds_in_a_newer_version_is_wanted() -> None:
    roster = empty()
    roster.accept_untrusted(*record(BE, 5))
    theirs = ((BE.device, 5), (NL.device, 1))
    assert roster.newer_than_mine(theirs) == [NL.device]
    assert roster.newer_than_mine(((BE.device, 6), (NL.device, 1))) == [BE.device, NL.device]
    assert roster.newer_than_mine(((BE.device, 4),)) == []


def test_digests_are_equal_exactly_when_the_serials_are() -> None:
    one, other = empty(), empty()
    assert one.digest() == other.digest()
    one.accept_untrusted(*record(BE, 1))
    assert one.digest() != other.digest()
    other.accept_untrusted(*record(BE, 1))
    assert one.digest() == other.digest()
    one.accept_untrusted(*record(BE, 2))
    assert one.digest() != other.digest()


def test_a_record_with_another_device_s_certificate_or_of_another_network_is_refused() -> None:
    stranger = make_identity("BE", "1", network=1)
    roster = empty()
    with refused("prekey-wrong-device"):
        roster.accept_untrusted(record(NL, 1)[0], record(BE, 1)[1])
    with refused("certificate-foreign-network"):
        roster.accept_untrusted(*record(stranger, 1))
    bundle, prekey = record(BE, 1)
    for place in range(0, len(prekey), 97):
        with refused("bad-signature", "prekey-malformed", "prekey-weak", "prekey-version", *CBOR):
            roster.accept_untrusted(bundle, prekey[:place] + bytes([prekey[place] ^ 1]) + prekey[place + 1 :])
    assert len(roster) == 0


CBOR = ("cbor-truncated", "cbor-not-canonical", "cbor-forbidden-type", "cbor-trailing-bytes", "cbor-bad-utf8")


def test_a_full_roster_refuses_new_devices_and_still_renews_those_it_has(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(roster_room, "DEVICES_MAX", 2)
    roster = empty()
    roster.accept_untrusted(*record(BE, 1))
    stranger = DeviceId(bytes(32))
    assert roster.newer_than_mine(((stranger, 1), (NL.device, 1), (BE.device, 2))) == [stranger, BE.device]
    roster.accept_untrusted(*record(NL, 1))
    with refused("roster-full"):
        roster.accept_untrusted(*record(NL2, 1))
    assert roster.accept_untrusted(*record(BE, 2))
    assert roster.newer_than_mine(((stranger, 1), (NL2.device, 1), (NL.device, 2))) == [NL.device]
