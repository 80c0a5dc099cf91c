"""HTTP/1.1 out of bytes: what is understood, and what ends the connection (RFC 9112)."""

from __future__ import annotations

import itertools

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from meshnode.api.access import UserAccount
from meshnode.api.http1 import RequestReader
from meshnode.api.settings import ApiLimits

HOST = b"Host: x\r\n"
POST = b"POST /a HTTP/1.1\r\n" + HOST


def reader(**limits: int) -> RequestReader:
    return RequestReader(ApiLimits(**limits), UserAccount())


def read(data: bytes, **limits: int) -> RequestReader:
    found = reader(**limits)
    found.receive_untrusted(data)
    return found


def refusal_code(data: bytes, **limits: int) -> str:
    found = read(data, **limits)
    assert found.refusal is not None
    assert not found.requests
    return found.refusal.code


def test_a_request_with_a_body_comes_out_whole():
    found = read(POST + b"Content-Type: application/json\r\nContent-Length: 2\r\n\r\n{}")
    (request,) = found.requests
    assert (request.method, request.target, request.body, request.keep_alive) == ("POST", b"/a", b"{}", True)
    assert request.headers == {b"host": b"x", b"content-type": b"application/json"}
    assert found.refusal is None
    assert not found.in_request


def test_a_chunked_body_is_joined_and_its_trailers_are_dropped():
    data = b"Transfer-Encoding: chunked\r\n\r\n3;ext=1\r\nabc\r\n2\r\nde\r\n0\r\nHost: other\r\n\r\n"
    (request,) = read(POST + data).requests
    assert request.body == b"abcde"
    assert request.headers == {b"host": b"x"}


WORKLOAD = (
    POST
    + b"Content-Length: 3\r\n\r\nabc"
    + b"GET /b?c=d HTTP/1.1\r\nHost: y\r\nAccept: a/b\r\nAccept: c/d\r\n\r\n"
    + POST
    + b"Transfer-Encoding: chunked\r\n\r\n4\r\nwxyz\r\n0\r\n\r\n"
)


@settings(max_examples=100)
@given(st.lists(st.integers(0, len(WORKLOAD)), max_size=12))
def test_requests_do_not_depend_on_how_the_bytes_are_cut(cuts):
    found = reader()
    edges = [0, *sorted(cuts), len(WORKLOAD)]
    for start, end in itertools.pairwise(edges):
        found.receive_untrusted(WORKLOAD[start:end])
    assert found.refusal is None
    assert [(request.method, request.target, request.body) for request in found.requests] == [
        ("POST", b"/a", b"abc"),
        ("GET", b"/b?c=d", b""),
        ("POST", b"/a", b"wxyz"),
    ]
    assert found.requests[1].headers[b"accept"] == b"a/b,c/d"


@settings(max_examples=150)
@given(st.binary(max_size=400))
def test_any_bytes_give_requests_or_a_refusal_and_never_an_exception(data):
    found = read(b"GET / HTTP/1.1\r\n" + data)
    assert found.refusal is None or found.refusal.code


@pytest.mark.parametrize(
    "lines",
    [
        b"Content-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        b"Transfer-Encoding: chunked\r\nContent-Length: 3\r\n\r\n0\r\n\r\n",
        b"Content-Length: 3\r\nContent-Length: 3\r\n\r\nabc",
        b"Content-Length: 3\r\nContent-Length: 4\r\n\r\nabc",
        b"Content-Length: +3\r\n\r\nabc",
        b"Content-Length: -1\r\n\r\nabc",
        b"Content-Length: 3, 3\r\n\r\nabc",
        b"Content-Length: 0x3\r\n\r\nabc",
        b"Content-Length: 99999999999999999999999\r\n\r\nabc",
        b"Content-Length:\r\n\r\nabc",
        b"Content-Length : 3\r\n\r\nabc",
        b"Transfer-Encoding : chunked\r\n\r\n0\r\n\r\n",
        b"Transfer-Encoding: chunked, gzip\r\n\r\n0\r\n\r\n",
        b"Transfer-Encoding: chunked\r\nTransfer-Encoding: identity\r\n\r\n0\r\n\r\n",
        b"Transfer-Encoding: chunked\r\n\r\nfffffffffffffffff\r\nabc\r\n0\r\n\r\n",
        b"Transfer-Encoding: chunked\r\n\r\n3 \r\nabc\r\n0\r\n\r\n",
        b"Transfer-Encoding: chunked\r\n\r\n3\nabc\n0\n\n",
        b"X: a\0b\r\n\r\n",
        b"X: a\r\n folded\r\n\r\n",
        b"X: a\rb\r\n\r\n",
        b"X: a\nContent-Length: 3\r\n\r\nabc",
        b": nameless\r\n\r\n",
        b"\r\n\r\n\0\0\0\0",
    ],
)
def test_what_request_smuggling_is_made_of_is_refused(lines):
    found = read(POST + lines)
    assert found.refusal is not None
    assert found.refusal.code == "malformed-http"


@pytest.mark.parametrize(
    ("data", "code"),
    [
        (b"POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: gzip, chunked\r\n\r\n", "transfer-coding-unsupported"),
        (b"POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: gzip\r\n\r\n", "transfer-coding-unsupported"),
        (b"POST / HTTP/1.0\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n", "transfer-coding-unsupported"),
        (b"GET / HTTP/1.1\r\n\r\n", "malformed-http"),
        (b"GET / HTTP/1.1\r\nHost: x\r\nHost: y\r\n\r\n", "duplicate-header"),
        (b"GET / HTTP/1.1\r\nHost: x\r\nMeshnode-Operator: a\r\nmeshnode-operator: b\r\n\r\n", "duplicate-header"),
        (b"GET / HTTP/2.0\r\nHost: x\r\n\r\n", "http-version-unsupported"),
        (b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", "malformed-http"),
        (b"GET / HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: h2c\r\n\r\n", "upgrade-unsupported"),
        (b"CONNECT a:1 HTTP/1.1\r\nHost: x\r\n\r\n", "upgrade-unsupported"),
        (b"GET / HTTP/1.1\r\nHost: x\r\nExpect: miracles\r\n\r\n", "expectation-failed"),
        (b"GET /\0 HTTP/1.1\r\nHost: x\r\n\r\n", "malformed-http"),
        (b"BREW / HTTP/1.1\r\nHost: x\r\n\r\n", "malformed-http"),
        (b"\x16\x03\x01\x02\x00\x01\x00", "malformed-http"),
    ],
)
def test_what_is_not_offered_is_refused_by_name(data, code):
    found = read(data)
    assert found.refusal is not None
    assert found.refusal.code == code


def test_a_body_behind_an_upgrade_never_becomes_a_request():
    # llhttp stops at the upgrade and would leave the body to be read as the next request.
    smuggled = b"GET /hidden HTTP/1.1\r\nHost: x\r\n\r\n"
    found = read(POST + b"Connection: Upgrade\r\nUpgrade: h2c\r\nContent-Length: %d\r\n\r\n" % len(smuggled) + smuggled)
    assert not found.requests
    assert found.refusal is not None


def test_requests_before_a_breach_are_kept_and_bytes_after_it_are_not_read():
    found = read(b"GET /a HTTP/1.1\r\nHost: x\r\n\r\nnonsense\r\n\r\n")
    found.receive_untrusted(b"GET /b HTTP/1.1\r\nHost: x\r\n\r\n")
    assert [request.target for request in found.requests] == [b"/a"]
    assert found.refusal is not None


def test_header_bytes_are_limited_for_many_fields_for_one_endless_field_and_for_trailers():
    assert ApiLimits().header_bytes_max == 16 * 1024
    many = b"GET / HTTP/1.1\r\n" + b"".join(b"X-%d: y\r\n" % number for number in range(2000))
    assert refusal_code(many) == "header-too-large"
    endless = reader()
    endless.receive_untrusted(b"GET / HTTP/1.1\r\nX: ")
    for _ in range(20):
        endless.receive_untrusted(b"y" * 8192)
    assert endless.refusal is not None
    assert endless.refusal.code == "header-too-large"
    assert refusal_code(b"GET /" + b"a" * 20_000 + b" HTTP/1.1\r\n") == "header-too-large"
    trailers = b"Transfer-Encoding: chunked\r\n\r\n0\r\n" + many.partition(b"\r\n")[2]
    assert refusal_code(POST + trailers) == "header-too-large"


def test_a_header_just_within_the_limit_passes():
    head = b"GET / HTTP/1.1\r\nHost: x\r\nX: "
    assert len(read(head + b"y" * 16_000 + b"\r\n\r\n").requests) == 1


def test_a_body_too_large_is_refused_by_its_header_before_it_comes():
    assert ApiLimits().body_bytes_max == 2 * 1024 * 1024
    assert refusal_code(POST + b"Content-Length: 11\r\n\r\n", body_bytes_max=10) == "body-too-large"
    assert len(read(POST + b"Content-Length: 10\r\n\r\n0123456789", body_bytes_max=10).requests) == 1


def test_a_chunked_body_is_refused_when_it_grows_too_large():
    data = b"Transfer-Encoding: chunked\r\n\r\n8\r\n01234567\r\n3\r\nabc\r\n"
    assert refusal_code(POST + data, body_bytes_max=10) == "body-too-large"


def test_bodies_are_charged_to_the_user_until_they_are_answered_or_the_client_goes():
    assert ApiLimits().body_bytes_per_user_max == 32 * 1024 * 1024
    account = UserAccount()
    limits = ApiLimits(body_bytes_per_user_max=10)
    first, second = RequestReader(limits, account), RequestReader(limits, account)
    first.receive_untrusted(POST + b"Content-Length: 6\r\n\r\n012345")
    second.receive_untrusted(POST + b"Content-Length: 6\r\n\r\n01")
    second.receive_untrusted(b"2345")
    assert second.refusal is not None
    assert second.refusal.code == "too-many-body-bytes"
    first.release(6)
    assert account.body_bytes == 2
    second.close()
    assert account.body_bytes == 0


def test_connection_close_and_http_1_0_end_the_connection_after_the_answer():
    (closing,) = read(b"GET / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n").requests
    (old,) = read(b"GET / HTTP/1.0\r\nConnection: keep-alive\r\n\r\n").requests
    assert not closing.keep_alive
    assert not old.keep_alive


def test_a_client_that_expects_100_continue_is_told_once_and_only_while_the_body_is_missing():
    found = read(POST + b"Expect: 100-Continue\r\nContent-Length: 2\r\n\r\n")
    assert found.wants_continue
    assert found.in_body
    found.receive_untrusted(b"{}")
    assert not found.wants_continue
    assert not read(POST + b"Expect: 100-continue\r\nContent-Length: 2\r\n\r\n{}").wants_continue
