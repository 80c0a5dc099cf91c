"""Who is at the other end, and in whose name changes are recorded (decision 0030)."""

from __future__ import annotations

import os
import socket

import pytest

from meshnode.api.access import OPERATOR_BYTES_MAX, operator_text_untrusted, peer_uid
from meshnode.api.problems import RequestError


def test_the_kernel_says_who_connected():
    ours, theirs = socket.socketpair(socket.AF_UNIX)
    with ours, theirs:
        assert peer_uid(ours) == os.getuid()


def test_the_user_id_is_always_part_of_the_operator():
    assert operator_text_untrusted(None, 1000) == "uid:1000"
    assert operator_text_untrusted(b"duty.officer", 1000) == "duty.officer (uid 1000)"
    assert operator_text_untrusted(" Zoë Ångström ".encode(), 0) == "Zoë Ångström (uid 0)"


def test_the_longest_name_is_128_bytes():
    assert OPERATOR_BYTES_MAX == 128
    assert operator_text_untrusted(b"a" * 128, 1).startswith("a" * 128)
    assert operator_text_untrusted("é".encode() * 64, 1).startswith("é" * 64)


@pytest.mark.parametrize(
    "name",
    [
        b"",
        b"   ",
        b"a" * 129,
        "é".encode() * 65,
        b"\xff",
        b"a\tb",
        b"root (uid 0)",
        b"root (uid 0",
        b"uid:0",
        b"UID:0",
        "a\u202e0 diu".encode(),
        "a\u200bb".encode(),
        "a\u2028b".encode(),
    ],
)
def test_a_name_that_hides_or_imitates_the_user_id_is_refused(name):
    with pytest.raises(RequestError) as caught:
        operator_text_untrusted(name, 1000)
    assert caught.value.code == "bad-operator"
