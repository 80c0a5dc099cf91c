"""The chain network root -> NOC root -> device: what it proves, and each way in which it must not."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from meshnode.core import certificates as c
from meshnode.core import codec
from meshnode.core.keys import PublicKey, SigningKey
from meshnode.errors import UntrustedInputError

NETWORK = SigningKey(b"N" * 32)
BE_ROOT = SigningKey(b"B" * 32)
NL_ROOT = SigningKey(b"L" * 32)
DEVICE = SigningKey(b"d" * 32)
START_S, END_S = 1_700_000_000, 1_800_000_000
DAY_S = 86_400


def noc_certificate(noc: str = "BE", root: SigningKey = BE_ROOT, signer: SigningKey = NETWORK) -> bytes:
    return c.make_noc_certificate(signer, c.NocRequest(noc, root.public), START_S, END_S)


def device_certificate(
    noc: str = "BE",
    root: SigningKey = BE_ROOT,
    network: PublicKey = NETWORK.public,
    relay: bool = False,
    dates: tuple[int, int] = (START_S, END_S),
) -> bytes:
    request = c.DeviceRequest(noc, "be-1", DEVICE.device_id)
    return c.make_device_certificate(
        root, network, request, relay=relay, not_before_s=dates[0], not_after_s=dates[1], serial=7
    )


def bundle(**changes: object) -> bytes:
    return c.make_bundle(noc_certificate(), device_certificate(**changes))


def code_of(data: bytes, root: PublicKey = NETWORK.public) -> str:
    with pytest.raises(UntrustedInputError) as refusal:
        c.verify_bundle_untrusted(data, root)
    return refusal.value.code


def test_a_right_bundle_names_the_device_its_noc_and_what_it_may_do() -> None:
    data = bundle(relay=True)
    certificate = c.verify_bundle_untrusted(data, NETWORK.public)
    assert certificate == c.Certificate(DEVICE.device_id, "BE", "be-1", True, START_S, END_S, data)


def test_a_certificate_is_valid_only_while_both_links_of_its_chain_are() -> None:
    certificate = c.verify_bundle_untrusted(bundle(dates=(START_S - DAY_S, END_S + DAY_S)), NETWORK.public)
    assert (certificate.not_before_s, certificate.not_after_s) == (START_S, END_S)
    certificate = c.verify_bundle_untrusted(bundle(dates=(START_S + DAY_S, END_S - DAY_S)), NETWORK.public)
    assert (certificate.not_before_s, certificate.not_after_s) == (START_S + DAY_S, END_S - DAY_S)


def test_another_network_is_refused_by_name() -> None:
    assert code_of(bundle(), SigningKey(b"x" * 32).public) == "certificate-foreign-network"


def test_a_device_of_a_noc_root_in_two_networks_stays_in_the_network_it_was_certified_for() -> None:
    exercise = SigningKey(b"E" * 32)
    carried_over = c.make_bundle(noc_certificate(signer=exercise), device_certificate())
    assert code_of(carried_over, exercise.public) == "certificate-foreign-network"


def test_a_noc_root_that_certifies_the_device_of_another_noc_is_refused() -> None:
    assert code_of(c.make_bundle(noc_certificate(), device_certificate(noc="NL"))) == "certificate-wrong-noc"


def test_a_device_signed_by_the_root_of_another_noc_is_refused() -> None:
    assert code_of(c.make_bundle(noc_certificate(), device_certificate(root=NL_ROOT))) == "bad-signature"


def test_a_noc_certificate_that_claims_this_network_but_is_not_signed_by_it_is_refused() -> None:
    payload, _ = codec.decode_trusted(noc_certificate())
    forged = codec.encode([payload, BE_ROOT.sign(c.NOC_TAG, payload)])
    assert code_of(c.make_bundle(forged, device_certificate())) == "bad-signature"


def test_a_signature_made_for_one_kind_of_certificate_means_nothing_for_another() -> None:
    payload, _ = codec.decode_trusted(device_certificate())
    crossed = codec.encode([payload, BE_ROOT.sign(c.NOC_TAG, payload)])
    assert code_of(c.make_bundle(noc_certificate(), crossed)) == "bad-signature"


def test_a_newer_version_is_named_as_such() -> None:
    payload = codec.encode([2, "whatever a newer version holds"])
    newer = codec.encode([payload, BE_ROOT.sign(c.DEVICE_TAG, payload)])
    assert code_of(c.make_bundle(noc_certificate(), newer)) == "certificate-version"


def test_a_bundle_above_its_limit_is_refused_before_it_is_parsed() -> None:
    assert code_of(b"\xff" * (c.BUNDLE_BYTES_MAX + 1)) == "cbor-too-large"


def test_a_signature_over_a_payload_that_is_not_canonical_is_refused() -> None:
    payload, _ = codec.decode_trusted(device_certificate())
    overlong = payload[:1] + b"\x18\x01" + payload[2:]  # the version 1 in two bytes
    crafted = codec.encode([overlong, BE_ROOT.sign(c.DEVICE_TAG, overlong)])
    assert code_of(c.make_bundle(noc_certificate(), crafted)) == "cbor-not-canonical"


@pytest.mark.parametrize(
    "fields",
    [
        [],
        {},
        [1],
        [1, NETWORK.public, "be", "be-1", DEVICE.public, False, START_S, END_S, 7],
        [1, NETWORK.public, "BE", "BE 1", DEVICE.public, False, START_S, END_S, 7],
        [1, NETWORK.public, "BE", "be-1\n", DEVICE.public, False, START_S, END_S, 7],
        [1, NETWORK.public, "BE", "be-1", DEVICE.public[:31], False, START_S, END_S, 7],
        [1, NETWORK.public, "BE", "be-1", DEVICE.public, 0, START_S, END_S, 7],
        [1, NETWORK.public, "BE", "be-1", DEVICE.public, False, END_S, START_S, 7],
        [1, NETWORK.public, "BE", "be-1", DEVICE.public, False, False, END_S, 7],
        [1, NETWORK.public, "BE", "be-1", DEVICE.public, False, -1, END_S, 7],
        [1, NETWORK.public, "BE", "be-1", DEVICE.public, False, START_S, c.TIME_S_MAX + 1, 7],
        [1, NETWORK.public, "BE", "be-1", DEVICE.public, False, START_S, END_S, -1],
        [1, NETWORK.public, "BE", "be-1", DEVICE.public, False, START_S, END_S, 7, 8],
    ],
)
def test_a_signed_payload_of_another_form_is_malformed(fields: list[object]) -> None:
    payload = codec.encode(fields)
    crafted = codec.encode([payload, BE_ROOT.sign(c.DEVICE_TAG, payload)])
    assert code_of(c.make_bundle(noc_certificate(), crafted)) == "certificate-malformed"


def test_every_changed_byte_and_every_prefix_of_a_bundle_is_refused() -> None:
    data = bundle()
    for at in range(len(data)):
        code_of(data[:at])
        for flip in (1, 0x80):
            code_of(data[:at] + bytes([data[at] ^ flip]) + data[at + 1 :])


@settings(max_examples=150)
@given(st.binary(max_size=300))
def test_any_bytes_are_refused_with_a_code_and_nothing_else(data: bytes) -> None:
    for read in (
        lambda: c.verify_bundle_untrusted(data, NETWORK.public),
        lambda: c.read_device_request_untrusted(data),
        lambda: c.read_noc_request_untrusted(data),
        lambda: c.claimed_network_untrusted(data),
    ):
        with pytest.raises(UntrustedInputError):
            read()


@pytest.mark.parametrize(
    ("now_s", "code"),
    [
        (START_S - c.VALIDITY_SLACK_S - 1, "certificate-not-yet-valid"),
        (START_S - c.VALIDITY_SLACK_S, ""),
        (START_S, ""),
        (END_S, ""),
        (END_S + c.VALIDITY_SLACK_S, ""),
        (END_S + c.VALIDITY_SLACK_S + 1, "certificate-expired"),
    ],
)
def test_dates_hold_with_a_day_of_slack_each_way(now_s: int, code: str) -> None:
    certificate = c.verify_bundle_untrusted(bundle(), NETWORK.public)
    noc = c.verify_noc_certificate_untrusted(noc_certificate(), NETWORK.public)
    for subject in (certificate, noc):
        if not code:
            c.check_validity(subject, now_s)
            continue
        with pytest.raises(UntrustedInputError) as refusal:
            c.check_validity(subject, now_s)
        assert refusal.value.code == code


def test_the_claimed_network_is_read_from_a_bundle_and_from_a_noc_certificate() -> None:
    assert c.claimed_network_untrusted(bundle()) == NETWORK.public
    assert c.claimed_network_untrusted(noc_certificate()) == NETWORK.public


def test_a_request_comes_back_as_it_was_made() -> None:
    assert c.read_device_request_untrusted(c.make_device_request(DEVICE, "BE", "be-1")) == c.DeviceRequest(
        "BE", "be-1", DEVICE.device_id
    )
    assert c.read_noc_request_untrusted(c.make_noc_request(BE_ROOT, "BE")) == c.NocRequest("BE", BE_ROOT.public)


def test_a_request_for_a_key_that_the_requester_does_not_hold_is_refused() -> None:
    payload, _ = codec.decode_trusted(c.make_device_request(DEVICE, "BE", "be-1"))
    stolen = codec.encode([payload, BE_ROOT.sign(c.DEVICE_REQUEST_TAG, payload)])
    with pytest.raises(UntrustedInputError, match="bad-signature"):
        c.read_device_request_untrusted(stolen)


def test_one_kind_of_request_is_not_taken_for_the_other() -> None:
    with pytest.raises(UntrustedInputError, match="certificate-malformed"):
        c.read_noc_request_untrusted(c.make_device_request(DEVICE, "BE", "be-1"))
    with pytest.raises(UntrustedInputError, match="certificate-malformed"):
        c.read_device_request_untrusted(c.make_noc_request(BE_ROOT, "BE"))


@pytest.mark.parametrize("dates", [(2, 1), (1, 1), (-1, 5), (1, c.TIME_S_MAX + 1)])
def test_no_certificate_is_made_that_nobody_would_accept(dates: tuple[int, int]) -> None:
    with pytest.raises(ValueError, match="not_before_s"):
        c.make_noc_certificate(NETWORK, c.NocRequest("BE", BE_ROOT.public), *dates)


def test_a_fingerprint_is_eight_groups_of_four_and_differs_between_keys() -> None:
    groups = c.fingerprint(NETWORK.public).split(" ")
    assert [len(group) for group in groups] == [4] * 8
    assert c.fingerprint(NETWORK.public) != c.fingerprint(BE_ROOT.public)


def test_the_largest_bundle_that_can_be_made_fits_its_limit_many_times() -> None:
    request = c.DeviceRequest("ABCDEFGH", "a" * 63, DEVICE.device_id)
    noc = c.make_noc_certificate(NETWORK, c.NocRequest("ABCDEFGH", BE_ROOT.public), 0, c.TIME_S_MAX)
    device = c.make_device_certificate(
        BE_ROOT, NETWORK.public, request, relay=True, not_before_s=0, not_after_s=c.TIME_S_MAX, serial=c.SERIAL_MAX
    )
    data = c.make_bundle(noc, device)
    assert len(data) * 8 < c.BUNDLE_BYTES_MAX
    assert replace(c.verify_bundle_untrusted(data, NETWORK.public), bundle=b"").relay
