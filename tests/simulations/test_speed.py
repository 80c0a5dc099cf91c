"""What makes the protocol world quick changes nothing: cheap signatures fail too, shared work is the same work."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from contextlib import contextmanager
from unittest.mock import patch

import pytest

from meshnode.core import aead, certificates, codec, entry, keys, wire
from meshnode.core.keys import PublicKey, SigningKey
from meshnode.core.roster import Roster
from meshnode.errors import UntrustedInputError
from simulations import runs
from simulations.checks.judge import judge
from simulations.scenario.draw import draw
from simulations.scenario.plan import Plan
from simulations.scenario.reader import parse
from simulations.worlds import crypto, shared
from simulations.worlds.cast import make_identity
from simulations.worlds.contract import Outcome
from simulations.worlds.protocol import ProtocolWorld, Run

WRITTEN_SCAN = codec._scan

BUSY = """
title = "Busy"
story = "Members, a relay, a crash and a bad line."
duration_s = 90
[[group]]
name = "nocs"
nocs = ["BE", "NL", "FR"]
[[group]]
name = "relay"
role = "relay"
nocs = ["LU"]
[[incident]]
name = "attack"
by = "BE"
members = ["BE", "NL"]
[workload]
writes_per_s = 1
[[fault]]
at_s = 40
verb = "crash"
nodes = ["NL"]
for_s = 10
[[fault]]
at_s = 50
verb = "corrupt"
percent = 20
for_s = 10
"""


def plan_of(kind: str, seed: int = 1) -> Plan:
    plan = draw(parse(BUSY, "busy"), seed)
    return dataclasses.replace(plan, options=dataclasses.replace(plan.options, crypto=kind, transport="frames"))


# --- signatures -------------------------------------------------------------------------------------------------------


@pytest.fixture(params=[*crypto.KINDS, "cheap, once"])
def signing(request: pytest.FixtureRequest) -> Iterator[None]:
    kind, _, once = request.param.partition(", ")
    with crypto.signing(kind, once=bool(once)):
        yield


def is_signed(key: SigningKey, tag: str, message: bytes, signature: bytes) -> bool:
    try:
        keys.verify_untrusted(key.public, tag, message, signature, "it")
    except UntrustedInputError:
        return False
    return True


@pytest.mark.usefixtures("signing")
def test_a_signature_holds_for_its_key_purpose_and_bytes_alone() -> None:
    key, other = SigningKey(b"k" * 32), SigningKey(b"o" * 32)
    assert len({key.public, other.public}) == 2
    assert key.seed == b"k" * 32
    signature = key.sign("seal", b"message")
    for _ in range(2):
        assert is_signed(key, "seal", b"message", signature)
        assert not is_signed(other, "seal", b"message", signature)
        assert not is_signed(key, "prekey", b"message", signature)
        assert not is_signed(key, "seal", b"messagE", signature)
        assert not is_signed(key, "seal", b"message", signature[:-1])
        for position in range(len(signature)):
            changed = bytearray(signature)
            changed[position] ^= 1
            assert not is_signed(key, "seal", b"message", bytes(changed))


def test_the_two_kinds_do_not_take_each_others_signatures() -> None:
    real = SigningKey(b"k" * 32)
    signature = real.sign("seal", b"message")
    with crypto.signing(crypto.CHEAP):
        cheap = SigningKey(b"k" * 32)
        assert not is_signed(real, "seal", b"message", signature)
        assert cheap.public != real.public
    assert not is_signed(real, "seal", b"message", cheap.sign("seal", b"message"))


def test_a_device_has_other_keys_under_each_kind_and_the_product_is_left_as_it_was() -> None:
    before = keys.bindings
    cheap = make_identity("BE", "1", kind=crypto.CHEAP)
    assert cheap.device != make_identity("BE", "1").device
    assert keys.bindings is before
    with pytest.raises(UntrustedInputError, match="signature"):
        certificates.verify_bundle_untrusted(cheap.certificate.bundle, cheap.network_root)


# --- shared work ------------------------------------------------------------------------------------------------------


@contextmanager
def alone(kind: str) -> Iterator[None]:
    with crypto.signing(kind):
        yield


def run(plan: Plan, *, share: bool) -> Outcome:
    with (shared.sharing if share else alone)(plan.options.crypto):
        return Run(plan).perform()


@pytest.mark.parametrize("kind", crypto.KINDS)
def test_a_seed_gives_the_same_trace_whether_work_is_shared_or_not(kind: str) -> None:
    plan = plan_of(kind)
    together, apart = run(plan, share=True), run(plan, share=False)
    assert together.digest == apart.digest
    assert together.events == apart.events
    assert judge(together).violations == judge(apart).violations == []
    assert sum(end.refusals.get("bad-signature", 0) for end in together.ends) == sum(
        end.refusals.get("bad-signature", 0) for end in apart.ends
    )


def test_the_kind_of_signature_is_part_of_the_trace_and_the_verdict_is_the_same() -> None:
    real, cheap = (ProtocolWorld().run(plan_of(kind)) for kind in crypto.KINDS)
    assert real.digest != cheap.digest
    assert judge(real).held
    assert judge(cheap).held
    assert real.converged_after_s == cheap.converged_after_s


def test_what_is_shared_is_done_once_and_what_is_refused_is_refused_each_time() -> None:
    calls = []
    scan = codec._scan

    def count(data: bytes) -> int:
        calls.append(data)
        return scan(data)

    good, bad = codec.encode([1, b"x"]), b"\x81"
    with patch.object(codec, "_scan", count), shared.sharing(crypto.CHEAP):
        for _ in range(2):
            assert codec.decode_untrusted(good, 100) == [1, b"x"]  # a planted error runs each time
    assert calls == [good, good]
    with shared.sharing(crypto.CHEAP):
        assert codec.decode_untrusted(good, 100) is not codec.decode_untrusted(good, 100)  # a list may be changed
        summary = wire.encode(wire.Summary(bytes(32), bytes(32)))
        assert wire.decode_untrusted(summary) is wire.decode_untrusted(summary)
        for _ in range(2):
            with pytest.raises(UntrustedInputError):
                codec.decode_untrusted(bad, 100)
    assert wire.decode_untrusted(summary) is not wire.decode_untrusted(summary)


@pytest.mark.parametrize("place", [(aead, "open_untrusted"), (entry, "entry_hash"), (keys, "digest")])
def test_nothing_is_shared_while_anything_below_is_not_what_the_product_wrote(place: tuple[object, str]) -> None:
    holder, name = place
    written = getattr(holder, name)
    with patch.object(holder, name, lambda *given: written(*given)), shared.sharing(crypto.CHEAP):
        assert wire.decode_untrusted.__module__ == wire.__name__
    with shared.sharing(crypto.CHEAP):
        assert wire.decode_untrusted.__module__ == shared.__name__


def test_an_entry_with_a_changed_byte_is_refused_beside_the_right_one() -> None:
    log_keys = entry.LogKeys(b"d" * 32, b"n" * 32)
    with shared.sharing(crypto.CHEAP):
        sealed = entry.seal_content(b"content", log_keys, b"clear")
        for _ in range(2):
            assert entry.open_content_untrusted(sealed, log_keys, b"clear") == b"content"
            for wrong in (
                (sealed[:-1] + bytes([sealed[-1] ^ 1]), log_keys, b"clear"),
                (sealed, entry.LogKeys(b"e" * 32, b"n" * 32), b"clear"),
                (sealed, log_keys, b"other"),
            ):
                with pytest.raises(UntrustedInputError):
                    entry.open_content_untrusted(*wrong)


# --- drawn by the seed ------------------------------------------------------------------------------------------------


def test_most_seeds_draw_cheap_signatures_and_a_share_of_them_real_ones() -> None:
    kinds = [draw(parse(BUSY, "busy"), seed).options.crypto for seed in range(400)]
    assert 20 < kinds.count("real") < 90
    assert set(kinds) == set(crypto.KINDS)
    _, result = runs.run_seed(parse(BUSY, "busy"), 1, "protocol")
    assert result.options["crypto"] == kinds[1]


def test_shared_work_on_a_record_takes_the_branch_that_each_node_would_take() -> None:
    given = []

    def verify(_roster: Roster, _bundle: bytes, record: bytes, held: tuple[bytes, ...]) -> bytes:
        given.append(held)
        return record

    remembering = shared._verify_record(verify)
    node = Roster(PublicKey(bytes(32)))
    for held in ((), (b"older",), (), (b"older",)):
        assert remembering(node, b"bundle", b"record", held) == b"record"
    assert given == [(), (b"older",)]


def test_nothing_is_shared_where_the_environment_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(shared.APART, "1")
    with shared.sharing(crypto.CHEAP):
        assert codec._scan is WRITTEN_SCAN
    monkeypatch.delenv(shared.APART)
    with shared.sharing(crypto.CHEAP):
        assert codec._scan is not WRITTEN_SCAN
