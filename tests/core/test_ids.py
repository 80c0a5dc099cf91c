"""Identifiers have one text each, and no other text is taken for one."""

from __future__ import annotations

import pytest
from core_support import refused, search
from hypothesis import given
from hypothesis import strategies as st

from meshnode.core.ids import OP_INDEX_MAX, SEQ_MAX, Dot, LogId, parse_dot_untrusted, parse_hex_untrusted

LOG = LogId(bytes(range(32)))
dots = st.builds(
    Dot, st.binary(min_size=32, max_size=32).map(LogId), st.integers(1, SEQ_MAX), st.integers(0, OP_INDEX_MAX)
)


@given(st.binary(min_size=16, max_size=16))
@search(30)
def test_an_identifier_comes_back_from_its_text(raw: bytes) -> None:
    assert parse_hex_untrusted(raw.hex(), 16, "an incident") == raw


@pytest.mark.parametrize(
    "text",
    ["", "0", "00" * 15, "00" * 17, "AB" * 16, "zz" * 16, " " * 32, "00 " * 10 + "00", "００" * 16, "0x" + "00" * 15],
)
def test_a_text_that_is_not_exactly_so_many_lowercase_digits_is_refused(text: str) -> None:
    with refused("bad-identifier"):
        parse_hex_untrusted(text, 16, "an incident")


@given(dots)
@search(30)
def test_a_dot_comes_back_from_its_text(dot: Dot) -> None:
    assert parse_dot_untrusted(dot.text) == dot


@pytest.mark.parametrize(
    "text",
    [
        "",
        LOG.hex(),
        f"{LOG.hex()}.1",
        f"{LOG.hex()}.1.0.0",
        f"{LOG.hex()}.0.0",  # positions start at 1
        f"{LOG.hex()}.{SEQ_MAX + 1}.0",
        f"{LOG.hex()}.1.{OP_INDEX_MAX + 1}",
        f"{LOG.hex()}.01.0",
        f"{LOG.hex()}.1.00",
        f"{LOG.hex()}.+1.0",
        f"{LOG.hex()}.1.-1",
        f"{LOG.hex()}.١.0",  # a digit of another script
        f"{LOG.hex()}.{'9' * 5000}.0",
        f"{LOG.hex().upper()}.1.0",
        f"{LOG.hex()[:-1]}.1.0",
    ],
)
def test_a_text_that_is_not_exactly_a_dot_is_refused(text: str) -> None:
    with refused("bad-identifier"):
        parse_dot_untrusted(text)
