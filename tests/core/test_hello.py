"""The hello proves one device on one link in one role, and nothing anywhere else."""

from __future__ import annotations

import hashlib

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from meshnode.core import certificates as c
from meshnode.core import codec
from meshnode.core import hello as h
from meshnode.core.events import PeerIdentity
from meshnode.core.ids import DeviceId
from meshnode.core.keys import SigningKey
from meshnode.errors import UntrustedInputError

NETWORK = SigningKey(b"N" * 32)
NOC_ROOTS = {"BE": SigningKey(b"B" * 32), "EU": SigningKey(b"U" * 32)}
BE_KEY, EU_KEY = SigningKey(b"b" * 32), SigningKey(b"u" * 32)
START_S, NOW_S, END_S = 1_700_000_000, 1_750_000_000, 1_800_000_000
BE_TLS, EU_TLS, THIRD_TLS = (hashlib.sha256(name).digest() for name in (b"be", b"eu", b"third"))


def bundle(noc: str, key: SigningKey, relay: bool = False) -> bytes:
    root = NOC_ROOTS[noc]
    noc_part = c.make_noc_certificate(NETWORK, c.NocRequest(noc, root.public), START_S, END_S)
    request = c.DeviceRequest(noc, f"{noc.lower()}-1", key.device_id)
    device_part = c.make_device_certificate(
        root, NETWORK.public, request, relay=relay, not_before_s=START_S, not_after_s=END_S, serial=1
    )
    return c.make_bundle(noc_part, device_part)


BE_BUNDLE, EU_BUNDLE = bundle("BE", BE_KEY), bundle("EU", EU_KEY, relay=True)
REVOKED: set[DeviceId] = set()


def authenticator(key: SigningKey, own_bundle: bytes, relay: bool = False, now_s: float = NOW_S) -> h.LinkAuthenticator:
    return h.LinkAuthenticator(key, own_bundle, NETWORK.public, relay, lambda: now_s, REVOKED)


BE = authenticator(BE_KEY, BE_BUNDLE)
EU = authenticator(EU_KEY, EU_BUNDLE, relay=True)


@pytest.fixture
def hello_of_eu() -> bytes:
    """EU accepted a link that BE dialled."""
    return EU.hello(EU_TLS, BE_TLS, dialed=False)


def refusal(data: bytes, local: bytes = BE_TLS, remote: bytes = EU_TLS, dialed: bool = True) -> str:
    with pytest.raises(UntrustedInputError) as caught:
        BE.verify_untrusted(data, local, remote, dialed)
    assert caught.value.action
    return caught.value.code


def test_both_ends_of_a_link_learn_who_the_other_is(hello_of_eu: bytes) -> None:
    assert BE.verify_untrusted(hello_of_eu, BE_TLS, EU_TLS, True) == PeerIdentity(
        EU_KEY.device_id, "EU", "eu-1", True, EU_BUNDLE, EU_TLS
    )
    hello_of_be = BE.hello(BE_TLS, EU_TLS, dialed=True)
    assert EU.verify_untrusted(hello_of_be, EU_TLS, BE_TLS, False) == PeerIdentity(
        BE_KEY.device_id, "BE", "be-1", False, BE_BUNDLE, BE_TLS
    )


def test_a_hello_replayed_on_another_link_is_refused(hello_of_eu: bytes) -> None:
    assert refusal(hello_of_eu, local=THIRD_TLS) == "hello-other-link"
    assert refusal(hello_of_eu, remote=THIRD_TLS) == "hello-other-link"


def test_a_man_in_the_middle_cannot_carry_a_hello_across(hello_of_eu: bytes) -> None:
    across = EU.hello(EU_TLS, THIRD_TLS, dialed=False)
    assert refusal(across, remote=THIRD_TLS) == "hello-other-link"


def test_the_own_hello_thrown_back_is_refused() -> None:
    assert refusal(BE.hello(BE_TLS, EU_TLS, dialed=True)) == "hello-reflected"


def test_both_ends_cannot_have_dialled() -> None:
    assert refusal(EU.hello(EU_TLS, BE_TLS, dialed=True)) == "hello-wrong-role"


def test_another_protocol_version_is_refused_by_number() -> None:
    payload = codec.encode([2, "something newer"])
    crafted = codec.encode([payload, EU_KEY.sign(h.HELLO_TAG, payload), EU_BUNDLE])
    assert refusal(crafted) == "hello-version"


def test_a_node_that_meets_its_own_device_key_says_so() -> None:
    twin = BE.hello(EU_TLS, BE_TLS, dialed=False)
    assert refusal(twin) == "hello-own-device"


def test_a_certificate_swapped_under_a_hello_is_refused(hello_of_eu: bytes) -> None:
    payload, signature, _ = codec.decode_trusted(hello_of_eu)
    assert refusal(codec.encode([payload, signature, BE_BUNDLE])) == "hello-other-certificate"


def test_a_hello_signed_by_another_key_than_the_certified_one_is_refused() -> None:
    thief = h.make_hello(BE_KEY, EU_BUNDLE, EU_TLS, BE_TLS, dialed=False, relay=False)
    assert refusal(thief) == "bad-signature"


def test_a_foreign_an_expired_and_a_revoked_certificate_are_refused(hello_of_eu: bytes) -> None:
    foreign = h.LinkAuthenticator(BE_KEY, BE_BUNDLE, SigningKey(b"x" * 32).public, False, lambda: NOW_S)
    with pytest.raises(UntrustedInputError, match="certificate-foreign-network"):
        foreign.verify_untrusted(hello_of_eu, BE_TLS, EU_TLS, True)
    late = authenticator(BE_KEY, BE_BUNDLE, now_s=END_S + c.VALIDITY_SLACK_S + 1)
    with pytest.raises(UntrustedInputError, match="certificate-expired"):
        late.verify_untrusted(hello_of_eu, BE_TLS, EU_TLS, True)
    REVOKED.add(EU_KEY.device_id)
    try:
        assert refusal(hello_of_eu) == "device-revoked"
    finally:
        REVOKED.clear()


def test_a_device_that_may_not_relay_cannot_offer_to() -> None:
    eager = authenticator(BE_KEY, BE_BUNDLE, relay=True).hello(BE_TLS, EU_TLS, dialed=True)
    with pytest.raises(UntrustedInputError, match="hello-relay-not-allowed"):
        EU.verify_untrusted(eager, EU_TLS, BE_TLS, False)


def test_a_device_that_may_relay_need_not() -> None:
    modest = authenticator(EU_KEY, EU_BUNDLE, relay=False).hello(EU_TLS, BE_TLS, dialed=False)
    assert not BE.verify_untrusted(modest, BE_TLS, EU_TLS, True).relay


def test_a_hello_above_its_limit_is_refused_before_it_is_parsed() -> None:
    assert refusal(b"\xff" * (h.HELLO_BYTES_MAX + 1)) == "cbor-too-large"


def test_every_changed_byte_and_every_prefix_of_a_hello_is_refused(hello_of_eu: bytes) -> None:
    for at in range(len(hello_of_eu)):
        refusal(hello_of_eu[:at])
        refusal(hello_of_eu[:at] + bytes([hello_of_eu[at] ^ 1]) + hello_of_eu[at + 1 :])


@settings(max_examples=150)
@given(st.binary(max_size=200))
def test_any_bytes_are_refused_with_a_code_and_nothing_else(data: bytes) -> None:
    refusal(data)
    refusal(codec.encode([data, b"s" * 64, EU_BUNDLE]))


def test_the_secret_is_not_in_what_an_authenticator_shows() -> None:
    assert BE_KEY.seed.hex() not in repr(BE)
    assert repr(BE_KEY.seed) not in repr(BE)


def test_a_hello_over_hashes_of_another_length_is_a_mistake_of_the_caller() -> None:
    for local, remote in ((BE_TLS[:31], EU_TLS), (BE_TLS, EU_TLS + b"!")):
        with pytest.raises(ValueError, match="32 bytes"):
            BE.hello(local, remote, dialed=True)
