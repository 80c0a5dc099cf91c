"""The door for hostile XML: nothing is expanded, fetched, followed or built too large; every refusal is one type."""

from __future__ import annotations

import random
import threading
from functools import cache
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import pytest
from cap_files import DEMO, SAMPLES, VALID, alert, fields
from hypothesis import given, settings
from hypothesis import strategies as st
from lxml import etree

from meshnode.errors import UntrustedInputError
from meshnode.interchange import cap_xml
from meshnode.interchange.cap import CapIncident, read_cap_untrusted
from meshnode.interchange.cap_xml import CAP_BYTES_MAX, DEPTH_MAX, ELEMENTS_MAX

MODELS = [path.read_bytes() for path in (*VALID, DEMO)]


def refusal_of(data: bytes) -> UntrustedInputError:
    with pytest.raises(UntrustedInputError) as caught:
        read_cap_untrusted(data, "hostile.cap")
    assert caught.value.action
    assert len(caught.value.reason) < 2_000
    return caught.value


def outcome(data: bytes) -> CapIncident | UntrustedInputError:
    try:
        return read_cap_untrusted(data, "fuzz.cap")
    except UntrustedInputError as refusal:
        return refusal


# --- bombs and references -------------------------------------------------------------------------------------------

LAUGHS = "".join(f'<!ENTITY l{n} "{f"&l{n - 1};" * 10}">' for n in range(1, 10))
DOCTYPES = {
    "billion laughs": f'<!DOCTYPE alert [<!ENTITY l0 "lol">{LAUGHS}]>',
    "quadratic blow-up": f'<!DOCTYPE alert [<!ENTITY a "{"a" * 50_000}">]>',
    "external entity": '<!DOCTYPE alert [<!ENTITY x SYSTEM "file:///etc/passwd">]>',
    "external DTD": '<!DOCTYPE alert SYSTEM "http://127.0.0.1:9/cap.dtd">',
    "parameter entity": '<!DOCTYPE alert [<!ENTITY % p SYSTEM "file:///etc/passwd"> %p;]>',
    "bare": "<!DOCTYPE alert>",
}


@pytest.mark.parametrize("doctype", DOCTYPES.values(), ids=DOCTYPES.keys())
@pytest.mark.parametrize("encoding", ["utf-8", "utf-16"])
def test_every_document_type_is_refused_before_it_is_read(doctype: str, encoding: str) -> None:
    body = alert(f"<headline>{'&a;' * 1000}&l9;&x;</headline>").decode()
    text = f'<?xml version="1.0" encoding="{encoding}"?>\n<!-- <!DOCTYPE is only\na word here -->\n{doctype}{body}'
    refusal = refusal_of(text.encode(encoding))
    assert refusal.code == "cap-doctype"
    assert refusal.reason.startswith("line 4: ")


def test_a_word_like_doctype_in_a_text_or_comment_is_no_document_type() -> None:
    body = alert("<headline>&lt;!DOCTYPE alert&gt;<![CDATA[<!DOCTYPE x>]]></headline><!-- <!DOCTYPE y> -->")
    (root,) = fields(read_cap_untrusted(body, "a.cap").changes)
    assert root["title"] == "<!DOCTYPE alert><!DOCTYPE x>"


def test_one_byte_too_many_is_refused_before_parsing_and_the_last_allowed_one_is_read() -> None:
    body = alert()
    filling = b" " * (CAP_BYTES_MAX - len(body))
    assert read_cap_untrusted(body + filling, "full.cap").kind == "cbrn-e"
    assert refusal_of(body + filling + b" ").code == "cap-too-large"


def test_nesting_is_refused_past_its_limit_also_inside_a_signature_where_the_schema_looks_away() -> None:
    for levels, code in ((DEPTH_MAX - 2, None), (DEPTH_MAX, "cap-too-complex"), (100_000, "cap-too-complex")):
        nest = "<x>" * levels + "</x>" * levels
        signature = f'<Signature xmlns="http://www.w3.org/2000/09/xmldsig#">{nest}</Signature>'
        data = alert().replace(b"</alert>", signature.encode() + b"</alert>")
        if code is None:
            assert isinstance(outcome(data), CapIncident)
        else:
            assert refusal_of(data).code == code


def test_a_megabyte_of_tiny_elements_is_refused_without_building_them() -> None:
    assert refusal_of(alert("<a/>" * (ELEMENTS_MAX + 1))).code == "cap-too-complex"


def test_xinclude_is_not_followed() -> None:
    include = '<xi:include xmlns:xi="http://www.w3.org/2001/XInclude" href="file:///etc/passwd" parse="text"/>'
    refusal = refusal_of(alert(f"<headline>{include}</headline>"))
    assert refusal.code == "cap-invalid"
    assert "root:" not in refusal.reason


def test_no_reference_of_any_kind_opens_a_connection(tmp_path: Path) -> None:
    """A real server on the loopback would see a request for a DTD, an entity, a schema, a style sheet or a file."""
    asked: list[str] = []

    class Ear(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            asked.append(self.path)
            self.send_error(404)

        def log_message(self, *_: object) -> None:
            return

    with HTTPServer(("127.0.0.1", 0), Ear) as server:
        listener = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        listener.start()
        try:
            place = f"http://127.0.0.1:{server.server_port}"
            located = alert().replace(
                b"<alert ",
                b'<alert xmlns:xsi="http://www.w3.org/2001/XMLSchema-instance" xsi:schemaLocation="'
                + f'urn:oasis:names:tc:emergency:cap:1.2 {place}/schema.xsd" '.encode(),
            )
            styled = f'<?xml-stylesheet href="{place}/style.xsl" type="text/xsl"?>'.encode() + alert()
            linked = alert(
                f"<web>{place}/web</web><resource><resourceDesc>r</resourceDesc><mimeType>a/b</mimeType>"
                f"<uri>{place}/uri</uri></resource>"
            )
            for data in (located, styled, linked):
                assert isinstance(outcome(data), CapIncident)
            for doctype in (f'SYSTEM "{place}/a.dtd"', f'[<!ENTITY % p SYSTEM "{place}/p"> %p;]'):
                assert refusal_of(f"<!DOCTYPE alert {doctype}>".encode() + alert()).code == "cap-doctype"
        finally:
            server.shutdown()
            listener.join()
    assert asked == []


# --- encodings ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("encoding", "declared"),
    [
        ("utf-8", ""),
        ("utf-8-sig", ""),
        ("utf-8", "UTF-8"),
        ("utf-8-sig", "utf-8"),
        ("utf-16", "UTF-16"),
        ("utf-16-le", "UTF-16LE"),
        ("utf-16-be", "UTF-16BE"),
        ("iso-8859-1", "ISO-8859-1"),
        ("iso-8859-15", "ISO-8859-15"),
        ("windows-1252", "windows-1252"),
    ],
)
def test_declared_encodings_are_read_alike(encoding: str, declared: str) -> None:
    declaration = f'<?xml version="1.0" encoding="{declared}"?>' if declared else ""
    body = alert("<headline>Rejet à Liège, Öffnung</headline>").decode()
    incident = read_cap_untrusted((declaration + body).encode(encoding), "a.cap")
    (root,) = fields(incident.changes)
    assert root["title"] == "Rejet à Liège, Öffnung"


@pytest.mark.parametrize("declared", ["UTF-7", "EBCDIC-CP-US", "ISO-2022-JP", "x-nonsense", "UTF-32"])
def test_other_encodings_are_refused_by_name(declared: str) -> None:
    refusal = refusal_of(f'<?xml version="1.0" encoding="{declared}"?>'.encode() + alert())
    assert refusal.code == "cap-encoding"
    assert declared in refusal.reason


def test_bytes_that_are_not_in_the_declared_encoding_are_refused() -> None:
    latin = alert("<headline>Liège</headline>").decode().encode("iso-8859-1")
    for declaration in (b"", b'<?xml version="1.0" encoding="UTF-8"?>'):
        refusal = refusal_of(declaration + latin)
        assert (refusal.code, "UTF-8" in refusal.reason) == ("cap-encoding", True)
    for declared in ("UTF-16", "utf-16le"):
        refusal = refusal_of(f'<?xml version="1.0" encoding="{declared}"?>'.encode() + alert())
        assert (refusal.code, declared in refusal.reason) == ("cap-encoding", True)
    for rest in (b"<alert>", "<alert>".encode("utf-16")):
        assert refusal_of(rest).code == "cap-not-xml"
    odd = b'<?xml version="1.0" encoding="ISO-8859-12"?><alert>'
    assert refusal_of(odd).code in ("cap-not-xml", "cap-encoding")


# --- other formats, and what the refusal says -----------------------------------------------------------------------


@pytest.mark.parametrize(
    ("data", "code", "words"),
    [
        (b"", "cap-not-xml", "empty"),
        (b" \n\t", "cap-not-xml", "empty"),
        (b'{"alert": 1}', "cap-not-xml", "does not begin with '<'"),
        (b"PK\x03\x04", "cap-not-xml", "does not begin with '<'"),
        (b"\x4c\x6f\xa7\x94", "cap-not-xml", "does not begin with '<'"),
        (b"<html><body/></html>", "cap-wrong-namespace", "<html> without a namespace"),
        (b'<feed xmlns="http://www.w3.org/2005/Atom"/>', "cap-wrong-namespace", "an Atom feed"),
        (b'<d xmlns="urn:oasis:names:tc:emergency:EDXL:DE:1.0"/>', "cap-wrong-namespace", "an EDXL-DE envelope"),
        (b'<info xmlns="urn:oasis:names:tc:emergency:cap:1.2"/>', "cap-wrong-namespace", "the root is <info>"),
        (b'<alert xmlns="urn:oasis:names:tc:emergency:cap:1.3"/>', "cap-wrong-namespace", "cap:1.3"),
        (b'<alert xmlns="urn:oasis:names:tc:emergency:cap:1.2 "/>', "cap-wrong-namespace", "cap:1.2 '"),
    ],
)
def test_what_is_no_cap_alert_is_named_for_what_it_is(data: bytes, code: str, words: str) -> None:
    refusal = refusal_of(data)
    assert refusal.code == code
    assert words in refusal.reason


def test_a_refusal_repeats_hostile_text_only_short_and_printable() -> None:
    value = "\u202e\x85" + "A" * 5_000
    refusal = refusal_of(alert(info=f"<info><category>{value}</category>"))
    assert refusal.reason.isprintable()
    assert len(refusal.reason) < 600


def test_a_refusal_names_the_first_findings_and_counts_the_rest() -> None:
    bad = "\n<area><areaDesc>a</areaDesc><polygon>1,1</polygon></area>"
    reason = refusal_of(alert(bad * 5)).reason
    assert [f"line {n}:" in reason for n in range(2, 7)] == [True, True, True, False, False]
    assert reason.endswith("and 2 more")


def test_the_line_is_right_far_down_the_file_too() -> None:
    """libxml2 keeps line numbers in 16 bits unless it is told otherwise."""
    reason = refusal_of(alert("\n" * 70_000 + "<area><areaDesc>a</areaDesc><polygon>1,1</polygon></area>")).reason
    assert reason.startswith("line 70001: ")
    assert refusal_of(alert("\n" * 70_000 + "<foo/>")).reason.startswith("line 70001: ")


def test_a_comment_in_a_text_does_not_hide_what_follows_it() -> None:
    (root,) = fields(read_cap_untrusted(alert("<headline>No<!-- x --> <?pi y?>danger</headline>"), "a.cap").changes)
    assert root["title"] == "No danger"


# --- our schema against the one OASIS publishes ---------------------------------------------------------------------


TEXTS = ["", " ", "Actual", "Public", "Met", "1.5", "-0", "12 x", "en-US", "http://a/é b"]
TEXTS += [f"2026-{time}" for time in ("03-01T14:05:00+01:00", "03-01T14:05:00Z", "02-30T00:00:00+01:00")]
TEXTS += [f"2026-03-01T{time}" for time in ("24:00:00+15:00", "24:00:00-14:00", "14:05:00.0+01:00", "14:05:60+01:00")]


def mutated_tree(source: bytes, chance: random.Random) -> bytes:
    """The document with up to three elements dropped, doubled, moved, renamed or given another text."""
    root = etree.fromstring(source)
    for _ in range(chance.randint(1, 3)):
        elements = [element for element in root.iter("{*}*") if element is not root]
        if not elements:
            break
        element, other = chance.choice(elements), chance.choice(elements)
        parent = element.getparent()
        match chance.randrange(5):
            case 0:
                parent.remove(element)
            case 1:
                parent.insert(parent.index(element), etree.fromstring(etree.tostring(element)))
            case 2 if element not in other.iterancestors() and element is not other:
                other.append(element)
            case 3:
                element.tag = other.tag
            case _:
                element.text = chance.choice(TEXTS)
    return etree.tostring(root)


@cache
def published_schema() -> etree.XMLSchema:
    return etree.XMLSchema(etree.parse(str(SAMPLES / "CAP-v1.2.xsd")))


@pytest.mark.skipif(not SAMPLES.is_dir(), reason="the schema that OASIS publishes is not on this machine")
@settings(max_examples=300, deadline=None)
@given(st.randoms())
def test_our_schema_accepts_what_the_published_one_accepts_and_an_empty_language(chance: random.Random) -> None:
    tree = etree.fromstring(mutated_tree(chance.choice(MODELS), chance))
    ours = cap_xml._schema().validate(tree)
    for language in tree.iter("{*}language"):
        if not (language.text or "").strip() and len(language) == 0:
            language.text = "en-US"
    assert ours == published_schema().validate(tree)


# --- anything at all ------------------------------------------------------------------------------------------------


@settings(max_examples=200, deadline=None)
@given(st.binary(max_size=300) | st.binary(max_size=300).map(lambda tail: b"<?xml version='1.0'?>" + tail))
def test_any_bytes_are_refused_or_read_and_nothing_else_happens(data: bytes) -> None:
    assert isinstance(outcome(data), UntrustedInputError | CapIncident)


@settings(max_examples=300, deadline=None)
@given(st.sampled_from(MODELS), st.lists(st.tuples(st.integers(0, 2**20), st.binary(max_size=4)), max_size=4))
def test_a_valid_alert_with_bytes_changed_is_refused_or_read(data: bytes, edits: list[tuple[int, bytes]]) -> None:
    mutated = bytearray(data)
    for position, replacement in edits:
        start = position % len(mutated)
        mutated[start : start + len(replacement)] = replacement
    assert isinstance(outcome(bytes(mutated)), UntrustedInputError | CapIncident)


@settings(max_examples=150, deadline=None)
@given(st.randoms())
def test_a_valid_alert_with_elements_changed_is_refused_or_read(chance: random.Random) -> None:
    assert isinstance(outcome(mutated_tree(chance.choice(MODELS), chance)), UntrustedInputError | CapIncident)


def test_every_prefix_of_an_alert_is_refused() -> None:
    data = MODELS[0].rstrip()
    for length in range(0, len(data), 7):
        assert refusal_of(data[:length]).code == "cap-not-xml"
