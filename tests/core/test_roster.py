"""What a roster holds follows from the set of records, whoever brings them and in whatever order."""

from __future__ import annotations

import itertools
import random
from dataclasses import replace

import pytest
from core_support import refused, search
from hypothesis import given
from hypothesis import strategies as st
from world import START_WALL_MS, make_identity

from meshnode.core import certificates, keys, prekeys
from meshnode.core import roster as roster_room
from meshnode.core.identity import Identity
from meshnode.core.ids import DeviceId
from meshnode.core.keys import PublicKey, SigningKey
from meshnode.core.prekeys import make_prekey
from meshnode.core.roster import Roster, record_hash

BE, NL = make_identity("BE", "1"), make_identity("NL", "1")
NL2 = make_identity("NL", "2")
Pair = tuple[bytes, bytes]


def record(identity: Identity, serial: int, seed: int = 1, bundle: bytes | None = None) -> Pair:
    """(bundle, prekey record). Seeds make twins."""
    bundle = bundle or identity.certificate.bundle
    made = make_prekey(identity.device_key, bundle, serial, START_WALL_MS, random.Random(seed).randbytes)
    return bundle, made[1]


def certified_by_another_noc(victim: Identity) -> bytes:
    """A bundle in which the root of XX, a NOC of the same network, certifies a device of another NOC."""
    network = SigningKey(bytes([0]) * 32)
    rogue_root = SigningKey(b"r" * 32)
    start, end = victim.certificate.not_before_s, victim.certificate.not_after_s
    noc_certificate = certificates.make_noc_certificate(
        network, certificates.NocRequest("XX", PublicKey(rogue_root.public)), start, end
    )
    device_certificate = certificates.make_device_certificate(
        rogue_root,
        PublicKey(network.public),
        certificates.DeviceRequest("XX", "evil", victim.device),
        relay=True,
        not_before_s=start,
        not_after_s=end,
        serial=1,
    )
    return certificates.make_bundle(noc_certificate, device_certificate)


def empty() -> Roster:
    return Roster(BE.network_root)


def holding(*pairs: Pair) -> Roster:
    roster = empty()
    for bundle, prekey in pairs:
        roster.accept_untrusted(bundle, prekey)
    return roster


def row(identity: Identity, serial: int, hashed: bytes = bytes(32)) -> tuple[DeviceId, int, bytes]:
    return identity.device, serial, hashed


def test_a_record_is_taken_once_and_then_known() -> None:
    roster = empty()
    taken = roster.accept_untrusted(*record(BE, 1))
    assert roster.accept_untrusted(*record(BE, 1)) is None
    enrolled = roster.get(BE.device)
    assert enrolled is not None
    assert enrolled is taken
    assert (enrolled.certificate.noc, enrolled.prekey.serial) == ("BE", 1)
    assert (enrolled.bundle, enrolled.record) == record(BE, 1)
    assert enrolled.hash == record_hash(enrolled.record)
    assert (len(roster), roster.get(NL.device), roster.records(NL.device)) == (1, None, ())


def test_the_newest_serial_wins_in_every_order() -> None:
    records = [record(BE, 1), record(BE, 2), record(BE, 3), record(NL, 7)]
    digests = set()
    for order in itertools.permutations(records):
        roster = holding(*order)
        assert roster.serials() == sorted([(BE.device, 3), (NL.device, 7)])
        digests.add(roster.digest())
    assert len(digests) == 1


# --- twins ----------------------------------------------------------------------------------------------------------


def test_of_twins_the_lower_hash_counts_everywhere_and_the_next_one_is_kept_as_proof() -> None:
    twins = sorted((record(BE, 5, seed) for seed in range(4)), key=lambda pair: record_hash(pair[1]))
    digests = set()
    for order in itertools.permutations(twins):
        roster = holding(*order)
        assert [held.record for held in roster.records(BE.device)] == [twins[0][1], twins[1][1]]
        assert roster.get(BE.device) is roster.records(BE.device)[0]
        digests.add(roster.digest())
    assert len(digests) == 1


def test_twins_end_with_the_next_serial_and_do_not_come_back() -> None:
    roster = holding(record(BE, 5, 1), record(BE, 5, 2))
    assert len(roster.records(BE.device)) == 2
    assert roster.accept_untrusted(*record(BE, 6)) is not None
    assert [held.prekey.serial for held in roster.records(BE.device)] == [6]
    assert roster.accept_untrusted(*record(BE, 5, 3)) is None
    assert len(roster) == 1


POOL = [record(identity, serial, seed) for identity in (BE, NL) for serial in (1, 2) for seed in range(4)]
POOL.append(record(BE, 2, 9, certified_by_another_noc(BE)))
POOL.append(record(BE, 3, 9, certified_by_another_noc(BE)))
deliveries = st.lists(st.sampled_from(POOL), max_size=12)


@search(100)
@given(deliveries, st.randoms(use_true_random=False))
def test_any_order_of_any_records_gives_one_roster(pairs: list[Pair], rng: random.Random) -> None:
    """Also of a device that two NOCs certified and that signed for both."""
    one = holding(*pairs)
    shuffled = [*pairs, *pairs[: len(pairs) // 2]]
    rng.shuffle(shuffled)
    other = holding(*shuffled)
    assert one.rows() == other.rows()
    assert one.digest() == other.digest()
    assert [one.records(device) for device, _ in one.serials()] == [
        other.records(device) for device, _ in one.serials()
    ]


@search(100)
@given(deliveries, deliveries)
def test_two_rosters_that_ask_for_what_they_want_become_alike(ones: list[Pair], others: list[Pair]) -> None:
    one, other = holding(*ones), holding(*others)
    both = holding(*ones, *others)
    for asks, told in ((one, other), (other, one)):
        for device in asks.wanted(tuple(told.rows())):
            for held in told.records(device):
                asks.accept_untrusted(held.bundle, held.record)
    assert one.digest() == other.digest() == both.digest()
    assert one.wanted(tuple(other.rows())) == []


# --- whose a device is ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("known", [True, False])
def test_no_other_noc_can_claim_a_device_whether_it_is_known_here_or_not(known: bool) -> None:
    foreign = certified_by_another_noc(BE)
    assert certificates.verify_bundle_untrusted(foreign, BE.network_root).noc == "XX"  # a valid chain
    roster = holding(record(BE, 1)) if known else empty()
    for serial in (1, 2):
        with refused("prekey-other-certificate"):
            roster.accept_untrusted(foreign, record(BE, serial)[1])
    assert [roster.nocs(), len(roster)] == ([["BE"], 1] if known else [[], 0])


def test_a_device_itself_may_move_to_a_renewed_certificate_or_to_another_noc() -> None:
    roster = holding(record(BE, 1))
    moved = record(BE, 2, bundle=certified_by_another_noc(BE))
    assert roster.accept_untrusted(*moved) is not None
    assert roster.nocs() == ["XX"]
    assert roster.accept_untrusted(*record(BE, 3)) is not None
    assert roster.nocs() == ["BE"]


def test_a_record_with_another_device_s_certificate_or_of_another_network_is_refused() -> None:
    stranger = make_identity("BE", "1", network=1)
    roster = empty()
    with refused("prekey-wrong-device"):
        roster.accept_untrusted(*record(BE, 1, bundle=NL.certificate.bundle))
    with refused("certificate-foreign-network"):
        roster.accept_untrusted(*record(stranger, 1))
    bundle, prekey = record(BE, 1)
    for place in range(0, len(prekey), 97):
        with refused("bad-signature", "prekey-malformed", "prekey-weak", "prekey-version", *CBOR):
            roster.accept_untrusted(bundle, prekey[:place] + bytes([prekey[place] ^ 1]) + prekey[place + 1 :])
    assert len(roster) == 0


CBOR = ("cbor-truncated", "cbor-not-canonical", "cbor-forbidden-type", "cbor-trailing-bytes", "cbor-bad-utf8")


# --- what it costs --------------------------------------------------------------------------------------------------


def test_a_known_record_costs_no_signature_and_a_daily_renewal_one(monkeypatch: pytest.MonkeyPatch) -> None:
    verified: list[str] = []
    plain = keys.verify_untrusted

    def counted(public: bytes, tag: str, message: bytes, signature: bytes, what: str) -> None:
        verified.append(tag)
        plain(public, tag, message, signature, what)

    roster = holding(record(BE, 1), record(NL, 5, 1), record(NL, 5, 2))
    monkeypatch.setattr(prekeys, "verify_untrusted", counted)
    monkeypatch.setattr(keys, "verify_untrusted", counted)
    for known in (record(BE, 1), record(NL, 5, 1), record(NL, 5, 2)):
        assert roster.accept_untrusted(*known) is None
    assert verified == []
    assert roster.accept_untrusted(*record(BE, 2)) is not None
    assert verified == ["prekey"]
    assert roster.accept_untrusted(*record(NL2, 1)) is not None
    assert verified == ["prekey", "prekey", "noc-certificate", "device-certificate"]


# --- lists ----------------------------------------------------------------------------------------------------------


def test_devices_are_listed_by_noc() -> None:
    roster = holding(*(record(identity, 1) for identity in (NL2, BE, NL)))
    assert roster.nocs() == ["BE", "NL"]
    assert [enrolled.certificate.device for enrolled in roster.devices_of("NL")] == sorted([NL.device, NL2.device])
    assert roster.devices_of("DE") == []


def test_what_the_other_side_would_bring_news_of_is_wanted() -> None:
    roster = holding(record(BE, 5))
    (mine,) = roster.rows()
    assert roster.wanted((mine, row(NL, 1))) == [NL.device]
    assert roster.wanted((row(BE, 6), row(NL, 1), row(NL, 1, b"\1" * 32))) == [BE.device, NL.device]
    assert roster.wanted((row(BE, 4),)) == []
    assert roster.wanted((row(BE, 5, b"\xff" * 32),)) == [BE.device]
    roster.accept_untrusted(*record(BE, 5, 2))
    low, high = roster.rows()
    assert low[2] < high[2]
    assert roster.wanted((low, high, row(BE, 5, b"\xff" * 32))) == []
    assert roster.wanted((row(BE, 5),)) == [BE.device]


def test_digests_are_equal_exactly_when_the_records_are() -> None:
    one, other = empty(), empty()
    assert one.digest() == other.digest()
    one.accept_untrusted(*record(BE, 1))
    assert one.digest() != other.digest()
    other.accept_untrusted(*record(BE, 1))
    assert one.digest() == other.digest()
    one.accept_untrusted(*record(BE, 1, 2))
    assert one.serials() == other.serials()
    assert one.digest() != other.digest()
    one.accept_untrusted(*record(BE, 2))
    assert one.digest() != other.digest()


def test_a_full_roster_refuses_new_devices_and_still_renews_those_it_has(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(roster_room, "DEVICES_MAX", 2)
    roster = holding(record(BE, 1))
    stranger = replace(BE, device_key=SigningKey(b"s" * 32))
    assert roster.wanted((row(stranger, 1), row(NL, 1), row(BE, 2))) == [stranger.device, BE.device]
    roster.accept_untrusted(*record(NL, 1))
    with refused("roster-full"):
        roster.accept_untrusted(*record(NL2, 1))
    assert roster.accept_untrusted(*record(BE, 2))
    assert roster.wanted((row(stranger, 1), row(NL2, 1), row(NL, 2))) == [NL.device]
