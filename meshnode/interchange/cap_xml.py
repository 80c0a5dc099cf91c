"""Hostile XML in, a CAP 1.2 element tree out, or one refusal that names the line.

The checks go from cheap to dear, and nothing is built before the cheap ones have passed:

1. size, first character, declared encoding: on the bytes, before any parser sees them;
2. one pass with a parser that builds no tree: a document type declaration, too deep a nesting or too many elements
   end it at once. Without a document type there are no entities, so there is nothing to expand and nothing to fetch;
3. the tree, from a parser that may not resolve entities, load a DTD or open a connection (none can be left, but a
   second lock costs nothing). XInclude and ``xsi:schemaLocation`` are words without effect here: no code follows them;
4. the root element: its namespace tells CAP 1.2 from older versions and from other formats;
5. the schema ``cap-1.2.xsd`` (decision 0041).

libxml2 writes its findings for people who know XML Schema. ``_plain`` says them again for people who know CAP.
"""

from __future__ import annotations

import re
from functools import cache
from importlib import resources
from typing import Any

from lxml import etree

from meshnode.errors import UntrustedInputError

NAMESPACE = "urn:oasis:names:tc:emergency:cap:1.2"
SIGNATURE_NAMESPACE = "http://www.w3.org/2000/09/xmldsig#"
_OLDER_NAMESPACES = {
    "urn:oasis:names:tc:emergency:cap:1.1": "1.1",
    "http://www.incident.com/cap/1.0": "1.0",
    "urn:oasis:names:tc:emergency:cap:1.0": "1.0",
}
_ENVELOPES = {
    "urn:oasis:names:tc:emergency:EDXL:DE:1.0": "an EDXL-DE envelope",
    "urn:oasis:names:tc:emergency:EDXL:DE:2.0": "an EDXL-DE envelope",
    "http://www.w3.org/2005/Atom": "an Atom feed",
    "http://schemas.xmlsoap.org/soap/envelope/": "a SOAP message",
}

CAP_BYTES_MAX = 1 << 20
"""1 MiB: the largest attachment, since the original is attached. Alerts seen in the wild have 2 to 200 KiB."""
DEPTH_MAX = 32
"""A value lies 5 deep; an XML signature with certificates about 10. libxml2 itself stops at 256."""
ELEMENTS_MAX = 50_000
"""A megabyte of ``<a/>`` would unfold into 260,000 nodes and 50 MB. The largest national alerts have some 10,000."""
PROBLEMS_MAX = 3
"""Findings named in one refusal: enough to mend a file, too few to flood a terminal."""
_QUOTE_CHARACTERS_MAX = 160
"""How much of a hostile value a refusal repeats."""

_ENCODINGS = re.compile(r"(?i)utf-?8|utf-?16(le|be)?|us-ascii|ascii|iso[-_]8859-\d{1,2}|latin-?1|windows-125\d")
"""UTF-8, UTF-16 and the one-byte code pages of Europe. Others would only be more code for hostile bytes to reach."""
_DECLARED_ENCODING = re.compile(rb"""\A<\?xml\s[^>]{0,200}?encoding\s*=\s*["']([^"'>]{0,40})["']""")
_PROLOG_BEFORE_DOCTYPE = re.compile(rb"\A(?>\s+|<\?(?>.*?\?>)|<!--(?>.*?-->))*+<!DOCTYPE", re.DOTALL)

_ACTION_SENDER = "ask the sender for a valid CAP 1.2 alert, or mend a copy of the file"


def parse_cap_xml_untrusted(data: bytes) -> Any:
    """The ``alert`` element of a schema-valid CAP 1.2 document, comments and processing instructions removed.

    Raises UntrustedInputError ``cap-too-large``, ``cap-not-xml``, ``cap-encoding``, ``cap-doctype``,
    ``cap-too-complex``, ``cap-old-version``, ``cap-wrong-namespace`` or ``cap-invalid``; nothing else escapes.
    """
    if len(data) > CAP_BYTES_MAX:
        raise UntrustedInputError(
            "cap-too-large",
            f"the file has more than 1 MiB ({CAP_BYTES_MAX} bytes)",
            "ask the sender for an alert that refers to large files by address instead of embedding them",
        )
    _check_start(data)
    _look_without_building(data)
    root = _parse(data, etree.XMLParser(remove_comments=True, remove_pis=True, **_LOCKS))
    _check_root(root)
    schema = _schema()
    if not schema.validate(root):
        raise invalid([(finding.line, _plain(finding)) for finding in schema.error_log])
    return root


def invalid(problems: list[tuple[int, str]]) -> UntrustedInputError:
    """The refusal ``cap-invalid`` for (line, what is wrong) pairs, of which the first few are named."""
    by_line = list(dict.fromkeys(sorted(problems, key=lambda problem: problem[0])))
    named = "; ".join(f"line {line}: {text}" for line, text in by_line[:PROBLEMS_MAX])
    rest = len(by_line) - PROBLEMS_MAX
    return UntrustedInputError("cap-invalid", named + (f"; and {rest} more" if rest > 0 else ""), _ACTION_SENDER)


def quote(text: str) -> str:
    """A hostile value as it may be shown in a refusal: short, printable, in quotation marks."""
    if len(text) > _QUOTE_CHARACTERS_MAX:
        text = text[:_QUOTE_CHARACTERS_MAX] + "…"
    return "'" + "".join(c if c.isprintable() else " " for c in text) + "'"


# resolve_entities=False leaves references unexpanded; huge_tree=False keeps libxml2's own limits.
_LOCKS: dict[str, Any] = {
    "resolve_entities": False,
    "load_dtd": False,
    "dtd_validation": False,
    "attribute_defaults": False,
    "no_network": True,
    "huge_tree": False,
    "recover": False,
}


def _check_start(data: bytes) -> None:
    """The first characters, read without regard to UTF-16's zero bytes: markup, and an encoding we take."""
    head = data[:512].replace(b"\0", b"").removeprefix(b"\xef\xbb\xbf")
    head = head.removeprefix(b"\xff\xfe").removeprefix(b"\xfe\xff")
    if not head.lstrip(b" \t\r\n").startswith(b"<"):
        what = "the file is empty" if not head.strip() else "line 1: the file does not begin with '<'"
        raise UntrustedInputError("cap-not-xml", f"{what}: this is no XML", "check that it is the right file")
    declared = _DECLARED_ENCODING.match(head)
    if declared is not None:
        name = declared[1].decode("ascii", "replace")
        if not _ENCODINGS.fullmatch(name):
            raise UntrustedInputError(
                "cap-encoding",
                f"line 1: the encoding {quote(name)} is not read",
                "ask the sender for UTF-8, or convert a copy of the file and its XML declaration",
            )


class _Lookout:
    """A parser target that keeps nothing and ends the parse at the first thing that no alert needs."""

    def __init__(self, data: bytes) -> None:
        self._data = data
        self._depth = 0
        self._elements = 0

    def doctype(self, _name: str, _public: str, _system: str) -> None:
        found = _PROLOG_BEFORE_DOCTYPE.match(self._data.replace(b"\0", b"").lstrip(b"\xef\xbb\xbf\xff\xfe"))
        line = found[0].count(b"\n") + 1 if found else 1
        raise UntrustedInputError(
            "cap-doctype",
            f"line {line}: the file has a document type declaration (<!DOCTYPE>), which can hide entities",
            "CAP needs none: ask the sender, and treat the file as suspect",
        )

    def start(self, _tag: str, _attributes: Any) -> None:
        self._depth += 1
        self._elements += 1
        if self._depth > DEPTH_MAX or self._elements > ELEMENTS_MAX:
            raise UntrustedInputError(
                "cap-too-complex",
                f"the file nests more than {DEPTH_MAX} elements or holds more than {ELEMENTS_MAX}",
                "no real alert does: ask the sender, and treat the file as suspect",
            )

    def end(self, _tag: str) -> None:
        self._depth -= 1

    def data(self, _text: str) -> None:
        return

    def comment(self, _text: str) -> None:
        return

    def pi(self, _target: str, _text: str | None = None) -> None:
        return

    def close(self) -> None:
        return


def _look_without_building(data: bytes) -> None:
    target: Any = _Lookout(data)
    _parse(data, etree.XMLParser(target=target, **_LOCKS))


def _parse(data: bytes, parser: Any) -> Any:
    try:
        return etree.fromstring(data, parser)
    except etree.XMLSyntaxError as error:
        line = error.lineno or 1
        _check_encoding(data, line)
        message = re.sub(r",? line \d+, column \d+( \(.*\))?", "", error.msg or "not well-formed")
        if error.code == etree.ErrorTypes.WAR_NS_URI:
            raise UntrustedInputError(
                "cap-wrong-namespace",
                f"line {line}: {quote(message)[1:-1]}",
                f"ask the sender: the namespace of an alert is {NAMESPACE}, without a space or anything else beside it",
            ) from None
        raise UntrustedInputError("cap-not-xml", f"line {line}: {quote(message)[1:-1]}", _ACTION_SENDER) from None
    except ValueError as error:  # lxml's answer to names and texts that its API cannot represent
        raise UntrustedInputError("cap-not-xml", f"line 1: {quote(str(error))[1:-1]}", _ACTION_SENDER) from None


def _check_encoding(data: bytes, line: int) -> None:
    """Whether a file that could not be parsed is in another encoding than it declares. UTF-8 is the default of XML."""
    declared = _DECLARED_ENCODING.match(data.removeprefix(b"\xef\xbb\xbf"))
    name = declared[1].decode("ascii", "replace") if declared is not None else "UTF-8"
    # Read as bytes of one character each, the declaration itself shows that these are not the two of UTF-16.
    wrong = declared is not None and name.lower().replace("-", "").startswith("utf16")
    if not wrong and not data.startswith((b"\xff\xfe", b"\xfe\xff")) and b"\0" not in data[:2]:
        try:
            data.decode(name)
        except UnicodeDecodeError:
            wrong = True
        except LookupError:  # a code page of libxml2 that Python does not have
            wrong = False
    if wrong:
        raise UntrustedInputError(
            "cap-encoding",
            f"line {line}: the file is not in the encoding {quote(name)} "
            + ("that it declares" if declared is not None else "that XML has where none is declared"),
            "ask the sender for UTF-8, or convert a copy of the file and its XML declaration",
        )


def _check_root(root: Any) -> None:
    name = etree.QName(root)
    namespace = name.namespace or ""
    line = root.sourceline or 1
    if namespace in _OLDER_NAMESPACES and name.localname == "alert":
        version = _OLDER_NAMESPACES[namespace]
        raise UntrustedInputError(
            "cap-old-version",
            f"line {line}: this is a CAP {version} alert, only CAP 1.2 is read",
            "ask the sender for CAP 1.2: changing the namespace by hand is not enough, the rules differ",
        )
    if namespace == NAMESPACE and name.localname == "alert":
        return
    if namespace in _ENVELOPES:
        raise UntrustedInputError(
            "cap-wrong-namespace",
            f"line {line}: this is {_ENVELOPES[namespace]}, not an alert",
            "take the <alert> element out of it into a file of its own",
        )
    where = f"in the namespace {quote(namespace)}" if namespace else "without a namespace"
    raise UntrustedInputError(
        "cap-wrong-namespace",
        f"line {line}: the root is <{_clip(name.localname)}> {where}, not <alert> in {NAMESPACE}",
        _ACTION_SENDER,
    )


@cache
def _schema() -> Any:
    source = resources.files("meshnode.interchange").joinpath("cap-1.2.xsd").read_bytes()
    return etree.XMLSchema(etree.fromstring(source))


def _clip(text: str) -> str:
    return quote(text)[1:-1]


_NAMES = re.compile(r"\{[a-z]+:[^}' ]*\}")
_SUBJECT = re.compile(r"\AElement '(?:\{[^}]*\})?([^']*)'(?:, attribute '(?:\{[^}]*\})?([^']*)')?: ?(.*)\Z", re.DOTALL)
_VALUE = re.compile(r"'(.*)' is not ", re.DOTALL)
_LEXICAL = {
    "sent": "a time like 2026-03-01T14:05:00+01:00",
    "effective": "a time like 2026-03-01T14:05:00+01:00",
    "onset": "a time like 2026-03-01T14:05:00+01:00",
    "expires": "a time like 2026-03-01T14:05:00+01:00",
    "language": "a language code like en or nl-BE",
    "web": "an address (URI)",
    "uri": "an address (URI)",
    "size": "a whole number of bytes",
    "altitude": "a decimal number of feet",
    "ceiling": "a decimal number of feet",
}
_REQUIRED = {
    *("identifier", "sender", "sent", "status", "msgType", "scope"),
    *("category", "event", "urgency", "severity", "certainty"),
    *("resourceDesc", "mimeType", "areaDesc", "valueName", "value"),
}


def _plain(finding: Any) -> str:
    """What a schema finding says, in the words of CAP."""
    subject = _SUBJECT.match(finding.message)
    if subject is None:
        return _clip(_NAMES.sub("", finding.message))
    element, attribute, text = subject[1], subject[2], _NAMES.sub("", subject[3])
    kind = finding.type_name
    if attribute is not None:
        return f"<{_clip(element)}> has the attribute {quote(attribute)}, which CAP does not know"
    if kind == "SCHEMAV_ELEMENT_CONTENT":
        return _misplaced(element, text)
    if kind in ("SCHEMAV_CVC_COMPLEX_TYPE_2_3", "SCHEMAV_CVC_TYPE_3_1_2"):
        what = "text" if kind.endswith("2_3") else "elements"
        return f"<{_clip(element)}> contains {what}, which it must not"
    if kind == "SCHEMAV_CVC_ENUMERATION_VALID":
        value, _, allowed = text.partition(" is not an element of the set ")
        shown = quote(value.removeprefix("[facet 'enumeration'] The value '").removesuffix("'"))
        return f"<{element}> is {shown}, not one of {allowed.strip('{}.').replace(chr(39), '')}"
    if element in _LEXICAL:
        hint = " ('Z' and fractions of a second are not allowed)" if "time" in _LEXICAL[element] else ""
        return f"<{element}> is not {_LEXICAL[element]}{hint}"
    return f"<{_clip(element)}>: {_clip(text)}"


def _misplaced(element: str, text: str) -> str:
    """The elements of CAP have a fixed order; libxml2 lists what could come next, the first required one last."""
    found = re.search(r"Expected is (?:one of )?\( (.*) \)", text)
    expected = [name.strip() for name in found[1].split(",") if "##" not in name] if found else []
    if text.startswith("Missing child"):
        return f"<{element}> ends too early: <{expected[-1] if expected else '?'}> is missing in it"
    if expected and expected[-1] in _REQUIRED:
        return f"<{expected[-1]}> is missing before <{_clip(element)}>"
    allowed = " or ".join(f"<{name}>" for name in expected) or "nothing"
    return f"<{_clip(element)}> is not allowed here; what may follow here is {allowed}"
