"""Bodies: two encodings of one model, and what neither may carry."""

from __future__ import annotations

import json
import sys
import time

import msgpack
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from meshnode.api import content
from meshnode.api.content import (
    JSON,
    MSGPACK,
    accepted_format,
    body_format,
    check_value_untrusted,
    decode_json_untrusted,
    decode_msgpack_untrusted,
    typed_untrusted,
)
from meshnode.api.problems import RequestError
from meshnode.api.records import AttachmentRequest, ChangesRequest

scalars = st.none() | st.booleans() | st.integers(-(2**63), 2**64 - 1) | st.text(max_size=8) | st.floats(-1e6, 1e6)
values = st.recursive(
    scalars, lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=5), inner, max_size=4)
)


def code_of(call, *arguments):
    with pytest.raises(RequestError) as caught:
        call(*arguments)
    return caught.value.code


@settings(max_examples=100)
@given(values)
def test_json_and_messagepack_carry_the_same_model(value):
    assert decode_json_untrusted(JSON.encode(value)) == value
    assert decode_msgpack_untrusted(MSGPACK.encode(value)) == value
    check_value_untrusted(value, "$")


@settings(max_examples=300)
@given(st.binary(max_size=200))
def test_any_bytes_give_a_value_or_a_request_error(data):
    for decode in (decode_json_untrusted, decode_msgpack_untrusted):
        try:
            decode(data)
        except RequestError:
            continue


@settings(max_examples=100)
@given(values, st.data())
def test_every_damaged_messagepack_byte_gives_a_value_or_a_request_error(value, data):
    body = bytearray(msgpack.packb(value))
    body[data.draw(st.integers(0, len(body) - 1))] = data.draw(st.integers(0, 255))
    try:
        decode_msgpack_untrusted(bytes(body))
    except RequestError:
        return


@pytest.mark.parametrize(
    ("body", "code"),
    [
        (b"", "malformed-body"),
        (b"{", "malformed-body"),
        (b"{} {}", "malformed-body"),
        (b"{'a': 1}", "malformed-body"),
        (b"[NaN]", "malformed-body"),
        (b"[-Infinity]", "malformed-body"),
        (b'["\\ud800"]', "malformed-body"),
        (b'{"\\uDfff": 1}', "malformed-body"),
        (b'["\xff"]', "malformed-body"),
        (b"\xef\xbb\xbf{}", "malformed-body"),
        ("{}".encode("utf-16"), "malformed-body"),
        (b"9" * 5000, "malformed-body"),
        (b"[" * 50_000, "malformed-body"),
        (b"[" * 1_000_000, "too-many-items"),
        (b"[" + b"0," * 200_000 + b"0]", "too-many-items"),
        (b'{"a": 1, "a": 2}', "duplicate-key"),
        (b'{"a": {"b": 1, "\\u0062": 2}}', "duplicate-key"),
    ],
)
def test_json_that_two_parsers_could_read_differently_is_refused(body, code):
    assert code_of(decode_json_untrusted, body) == code


def test_an_emoji_written_as_two_escapes_is_one_character():
    assert decode_json_untrusted(b'["\\ud83d\\ude92"]') == ["🚒"]


@pytest.mark.parametrize(
    ("body", "code"),
    [
        (b"", "malformed-body"),
        (b"\x81\xa1a", "malformed-body"),
        (b"\x01\x01", "malformed-body"),
        (b"\xc1", "malformed-body"),
        (b"\xa2\xff\xfe", "malformed-body"),
        (b"\xdb\xff\xff\xff\xff", "malformed-body"),
        (b"\xdd\xff\xff\xff\xff", "malformed-body"),
        (b"\xdf\xff\xff\xff\xff", "malformed-body"),
        (msgpack.packb({1: 2}), "malformed-body"),
        (b"\x81\xc4\x01a\x01", "malformed-body"),
        (msgpack.packb(msgpack.ExtType(5, b"x")), "malformed-body"),
        (msgpack.packb(msgpack.Timestamp(1)), "malformed-body"),
        (b"\x91" * 33 + b"\xc0", "malformed-body"),
        (b"\x82\xa1a\x01\xa1a\x02", "duplicate-key"),
        (b"\xdd\x00\x03\x0d\x40" + b"\xc0" * 200_000, "too-many-items"),
        (b"\xdc\xff\xff" * 600_000, "malformed-body"),
    ],
)
def test_messagepack_outside_the_model_is_refused(body, code):
    assert code_of(decode_msgpack_untrusted, body) == code


@pytest.mark.skipif(sys.gettrace() is not None, reason="a tracer slows the loop down by itself")
def test_the_worst_body_of_two_mebibytes_holds_the_loop_for_less_than_100_ms():
    count = content.ITEMS_MAX - 1
    worst_msgpack = b"\xdd" + count.to_bytes(4, "big") + b"\xc0" * count
    worst_json = b"[" + b"1.25," * (content.ITEMS_MAX - 2) + b"1]"
    for decode, body in ((decode_msgpack_untrusted, worst_msgpack), (decode_json_untrusted, worst_json)):
        spent = []
        for _ in range(3):
            start = time.process_time()
            check_value_untrusted(decode(body), "$")
            spent.append(time.process_time() - start)
        assert min(spent) < 0.1


def refused_path(value):
    with pytest.raises(RequestError) as caught:
        check_value_untrusted(value, "$.value")
    return caught.value.path


def test_free_values_are_finite_have_64_bits_and_are_not_too_deep():
    assert refused_path([1, {"a": 2**64}]) == "$.value[1].a"
    assert refused_path(-(2**63) - 1) == "$.value"
    assert refused_path([float("inf")]) == "$.value[0]"
    assert refused_path(decode_json_untrusted(b"[1e999]")) == "$.value[0]"
    assert refused_path([b"bytes"]) == "$.value[0]"
    deep = 0
    for _ in range(content.VALUE_NESTING_MAX):
        deep = [deep]
    check_value_untrusted(deep, "$.value")
    assert refused_path([deep]).startswith("$.value[0][0]")


def typed_refusal(plain, record):
    with pytest.raises(RequestError) as caught:
        typed_untrusted(plain, record)
    assert caught.value.code == "invalid-value"
    return caught.value.path, caught.value.reason


def test_unknown_and_missing_fields_and_wrong_types_are_refused_with_their_path():
    change = {"kind": "set", "field": "status", "value": "active"}
    typed_untrusted({"changes": [change]}, ChangesRequest)
    path, reason = typed_refusal({"changes": [{**change, "replace": []}]}, ChangesRequest)
    assert path == "$.changes[0]"
    assert "replace" in reason
    assert typed_refusal({"changes": [{"kind": "set", "value": 1}]}, ChangesRequest)[0] == "$.changes[0]"
    assert typed_refusal({"changes": [{"kind": "burn"}]}, ChangesRequest)[0] == "$.changes[0].kind"
    assert typed_refusal({"changes": [{**change, "replaces": [5]}]}, ChangesRequest)[0] == "$.changes[0].replaces[0]"
    assert typed_refusal([], ChangesRequest)[0] == "$"


def test_files_are_base64_in_json_and_bytes_in_messagepack():
    record = AttachmentRequest("a.xml", "text/xml", b"<a/>")
    from_json = typed_untrusted(decode_json_untrusted(JSON.encode(record)), AttachmentRequest)
    plain = {"name": "a.xml", "media_type": "text/xml", "data": b"<a/>"}
    from_msgpack = typed_untrusted(decode_msgpack_untrusted(msgpack.packb(plain)), AttachmentRequest)
    assert record == from_json == from_msgpack
    assert typed_refusal({**plain, "data": "!"}, AttachmentRequest)[0] == "$.data"
    assert typed_refusal({**plain, "media_type": "text/html\r\nX: y"}, AttachmentRequest)[0] == "$.media_type"
    assert typed_refusal({**plain, "data": b"x" * (2**20 + 1)}, AttachmentRequest)[0] == "$.data"


@pytest.mark.parametrize(
    ("accept", "format_"),
    [
        (None, JSON),
        (b"*/*", JSON),
        (b"application/*", JSON),
        (b"application/json", JSON),
        (b"application/msgpack", MSGPACK),
        (b"application/x-msgpack", MSGPACK),
        (b"application/json;q=0.5, application/msgpack", MSGPACK),
        (b"application/msgpack;q=0.2, */*;q=0.1", MSGPACK),
        (b"Application/JSON ; q=0.3, text/html", JSON),
        (b"application/json;q=0, */*", MSGPACK),
        (b"text/html", None),
        (b"application/json;q=0", None),
        (b"application/json;q=high", None),
        (b"", None),
        (b";;,,", None),
    ],
)
def test_the_answer_takes_the_format_that_the_client_wants_most(accept, format_):
    assert accepted_format(accept) is format_


def test_bodies_name_their_format_and_are_utf_8():
    assert body_format(b"application/json") is JSON
    assert body_format(b"application/json; charset=UTF-8") is JSON
    assert body_format(b'application/json; charset="utf-8"') is JSON
    assert body_format(b"application/msgpack") is MSGPACK
    for other in (None, b"", b"text/plain", b"application/json; charset=latin-1", b"\xff"):
        assert code_of(body_format, other) == "unsupported-media-type"


@given(values)
@settings(max_examples=50)
def test_strict_json_reads_what_the_standard_library_writes(value):
    assert decode_json_untrusted(json.dumps(value).encode()) == value
