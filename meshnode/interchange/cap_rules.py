"""A CAP 1.2 alert as frozen records, and the rules of the standard that a schema cannot say.

One line divides refusals from notes (decision 0041):

* **Refused**: what the standard forbids with MUST, MUST NOT, SHALL or "required", and what would leave it open who says
  what about which place: an identifier with a comma, a polygon that does not close, a latitude of 95, a ceiling
  without an altitude, a private message without addressees.
* **Noted**: what the standard only recommends or relates (SHOULD, "used when"), and empty elements, which national
  systems send by the thousand. The alert is read and the person who opens it is told.

All findings are collected before anything is refused, so that a sender can mend them in one go. Section numbers are
those of the OASIS standard.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from meshnode.interchange.cap_shapes import Circle, Position
from meshnode.interchange.cap_xml import NAMESPACE, SIGNATURE_NAMESPACE, invalid, quote

LANGUAGE_DEFAULT = "en-US"
"""3.2.2: what an absent or empty <language> means."""
RADIUS_KM_MAX = 20_037.6
"""Half the equator: a wider circle has no outside."""
POINT_RADIUS_KM = 0.001
"""A circle under a metre is a place. Seismological services send radius 0 for an epicentre."""

_FORBIDDEN_IN_NAMES = re.compile(r"[\s,<&]")
_NUMBER = r"[+-]?(?:\d{1,20}(?:\.\d{0,30})?|\.\d{1,30})"
_PAIR = re.compile(rf"({_NUMBER}),({_NUMBER})", re.ASCII)
_CIRCLE = re.compile(rf"({_NUMBER}),({_NUMBER})\s+({_NUMBER})", re.ASCII)
_TIME = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d[+-]\d\d:\d\d", re.ASCII)


@dataclass(frozen=True, slots=True)
class Named:
    """A valueName and its value: event codes, parameters, geocodes."""

    name: str
    value: str


@dataclass(frozen=True, slots=True)
class Resource:
    description: str
    mime_type: str
    size: str
    """Decimal digits as the sender wrote them, or empty."""
    uri: str
    digest: str
    embedded: bool
    """The file itself is inside the alert (derefUri)."""


@dataclass(frozen=True, slots=True)
class Area:
    description: str
    polygons: tuple[tuple[Position, ...], ...]
    circles: tuple[Circle, ...]
    geocodes: tuple[Named, ...]
    altitude_ft: str
    ceiling_ft: str


@dataclass(frozen=True, slots=True)
class Info:
    language: str
    categories: tuple[str, ...]
    event: str
    response_types: tuple[str, ...]
    urgency: str
    severity: str
    certainty: str
    audience: str
    event_codes: tuple[Named, ...]
    effective: str
    onset: str
    expires: str
    sender_name: str
    headline: str
    description: str
    instruction: str
    web: str
    contact: str
    parameters: tuple[Named, ...]
    resources: tuple[Resource, ...]
    areas: tuple[Area, ...]


@dataclass(frozen=True, slots=True)
class Alert:
    """Texts are without surrounding white space; what was absent or empty is the empty text."""

    identifier: str
    sender: str
    sent: str
    status: str
    msg_type: str
    source: str
    scope: str
    restriction: str
    addresses: tuple[str, ...]
    codes: tuple[str, ...]
    note: str
    references: tuple[str, ...]
    incidents: tuple[str, ...]
    infos: tuple[Info, ...]


@dataclass(slots=True)
class _Findings:
    problems: list[tuple[int, str]] = field(default_factory=list)
    notes: list[tuple[int, str]] = field(default_factory=list)

    def wrong(self, element: Any, text: str) -> None:
        self.problems.append((_line(element), text))

    def note(self, element: Any, text: str) -> None:
        self.notes.append((_line(element), text))


def read_alert(root: Any) -> tuple[Alert, tuple[str, ...]]:
    """The alert in a schema-valid element tree, with notes. Raises UntrustedInputError ``cap-invalid``."""
    found = _Findings()
    alert = Alert(
        identifier=_name(root, "identifier", found),
        sender=_name(root, "sender", found),
        sent=_text(root, "sent"),
        status=_text(root, "status"),
        msg_type=_text(root, "msgType"),
        source=_text(root, "source"),
        scope=_text(root, "scope"),
        restriction=_text(root, "restriction"),
        addresses=_quoted_list(root, "addresses", found),
        codes=_texts(root, "code"),
        note=_text(root, "note"),
        references=_references(root, found),
        incidents=_quoted_list(root, "incidents", found),
        infos=tuple(_info(element, found) for element in _children(root, "info")),
    )
    _check_alert(root, alert, found)
    if found.problems:
        raise invalid(found.problems)
    return alert, tuple(f"line {line}: {text}" for line, text in sorted(found.notes))


def _check_alert(root: Any, alert: Alert, found: _Findings) -> None:
    """3.2.1: how the elements of the message depend on each other."""
    if alert.scope == "Private" and not alert.addresses:
        found.wrong(_at(root, "scope"), "<scope> is Private, so <addresses> must name the recipients")
    if alert.scope == "Restricted" and not alert.restriction:
        found.note(_at(root, "scope"), "the scope is Restricted, but no <restriction> says to whom")
    if alert.scope != "Restricted" and alert.restriction:
        found.note(
            _at(root, "restriction"), f"a <restriction> is given although the scope is {alert.scope}: it was kept"
        )
    if alert.msg_type != "Alert" and not alert.references:
        found.note(
            _at(root, "msgType"), f"the message type is {alert.msg_type}, but no <references> says of which message"
        )
    if alert.status == "Exercise" and not alert.note:
        found.note(_at(root, "status"), "an exercise should be named in <note>, and is not")
    if alert.msg_type == "Error" and not alert.note:
        found.note(_at(root, "msgType"), "an error should be explained in <note>, and is not")
    signature = root.find(f"{{{SIGNATURE_NAMESPACE}}}Signature")
    if signature is not None:
        found.note(signature, "the alert is signed; the signature was kept in the original and NOT verified")


def _info(element: Any, found: _Findings) -> Info:
    times = {name: _text(element, name) for name in ("effective", "onset", "expires")}
    if times["effective"] and times["expires"] and _instant(times["expires"]) < _instant(times["effective"]):
        found.note(_at(element, "expires"), "the alert expires before it takes effect")
    language = _text(element, "language")
    if not _text(element, "event"):
        found.note(_at(element, "event"), "<event> is empty")
    return Info(
        language=language or LANGUAGE_DEFAULT,
        categories=_texts(element, "category"),
        event=_text(element, "event"),
        response_types=_texts(element, "responseType"),
        urgency=_text(element, "urgency"),
        severity=_text(element, "severity"),
        certainty=_text(element, "certainty"),
        audience=_text(element, "audience"),
        event_codes=_named(element, "eventCode"),
        effective=times["effective"],
        onset=times["onset"],
        expires=times["expires"],
        sender_name=_text(element, "senderName"),
        headline=_text(element, "headline"),
        description=_text(element, "description"),
        instruction=_text(element, "instruction"),
        web=_text(element, "web"),
        contact=_text(element, "contact"),
        parameters=_named(element, "parameter"),
        resources=tuple(_resource(child) for child in _children(element, "resource")),
        areas=tuple(_area(child, found) for child in _children(element, "area")),
    )


def _resource(element: Any) -> Resource:
    return Resource(
        description=_text(element, "resourceDesc"),
        mime_type=_text(element, "mimeType"),
        size=_text(element, "size"),
        uri=_text(element, "uri"),
        digest=_text(element, "digest"),
        embedded=bool(_text(element, "derefUri")),
    )


def _area(element: Any, found: _Findings) -> Area:
    """3.2.4."""
    if not _text(element, "areaDesc"):
        found.note(element, "<areaDesc> is empty")
    altitude, ceiling = _text(element, "altitude"), _text(element, "ceiling")
    if ceiling and not altitude:
        found.wrong(_at(element, "ceiling"), "<ceiling> must not be used without <altitude>")
    elif ceiling and float(ceiling) < float(altitude):
        found.note(_at(element, "ceiling"), "the ceiling lies below the altitude")
    polygons = [_polygon(child, found) for child in _children(element, "polygon")]
    circles = [_circle(child, found) for child in _children(element, "circle")]
    return Area(
        description=_text(element, "areaDesc"),
        polygons=tuple(polygon for polygon in polygons if polygon),
        circles=tuple(circle for circle in circles if circle is not None),
        geocodes=_named(element, "geocode"),
        altitude_ft=altitude,
        ceiling_ft=ceiling,
    )


def _polygon(element: Any, found: _Findings) -> tuple[Position, ...]:
    """At least four 'lat,lon' pairs separated by white space, the last equal to the first; empty when wrong."""
    pairs = _own_text(element).split()
    if not pairs:
        found.note(element, "an empty <polygon> was passed over")
        return ()
    corners = []
    for number, pair in enumerate(pairs, 1):
        match = _PAIR.fullmatch(pair)
        if match is None:
            found.wrong(element, f"<polygon>: pair {number} is {quote(pair)}, not 'latitude,longitude' in degrees")
            return ()
        corner = Position(float(match[1]), float(match[2]))
        if not _on_earth(corner, element, f"<polygon>: pair {number}", found):
            return ()
        corners.append(corner)
    if len(corners) < 4:
        found.wrong(element, f"<polygon> has {len(corners)} pairs, at least 4 are needed (the first again as the last)")
    elif corners[0] != corners[-1]:
        found.wrong(element, f"<polygon> does not close: it begins at {quote(pairs[0])} and ends at {quote(pairs[-1])}")
    else:
        return tuple(corners)
    return ()


def _circle(element: Any, found: _Findings) -> Circle | None:
    """'lat,lon radius', the radius in kilometres."""
    text = _own_text(element)
    if not text:
        found.note(element, "an empty <circle> was passed over")
        return None
    match = _CIRCLE.fullmatch(text)
    if match is None:
        found.wrong(element, f"<circle> is {quote(text)}, not 'latitude,longitude radius' in degrees and kilometres")
        return None
    center, radius_km = Position(float(match[1]), float(match[2])), float(match[3])
    if not _on_earth(center, element, "<circle>: the centre", found):
        return None
    if not 0.0 <= radius_km <= RADIUS_KM_MAX:
        found.wrong(element, f"<circle>: a radius of {match[3]} km is not between 0 and half the equator")
        return None
    return Circle(center, radius_km)


def _on_earth(position: Position, element: Any, what: str, found: _Findings) -> bool:
    if abs(position.lat) > 90.0:
        found.wrong(element, f"{what} has the latitude {position.lat:g}; latitude comes first and is from -90 to 90")
        return False
    if abs(position.lon) > 180.0:
        found.wrong(element, f"{what} has the longitude {position.lon:g}; longitude is from -180 to 180")
        return False
    return True


def _name(root: Any, tag: str, found: _Findings) -> str:
    """3.2.1: identifiers and senders hold no spaces, commas, < or &."""
    text = _text(root, tag)
    bad = _FORBIDDEN_IN_NAMES.search(text)
    if not text:
        found.wrong(_at(root, tag), f"<{tag}> is empty")
    elif bad is not None:
        what = "white space" if bad[0].isspace() else f"the character {quote(bad[0])}"
        found.wrong(_at(root, tag), f"<{tag}> is {quote(text)}: it must not contain {what}")
    return text


def _references(root: Any, found: _Findings) -> tuple[str, ...]:
    """3.2.1: 'sender,identifier,sent' triples separated by white space."""
    triples = tuple(_text(root, "references").split())
    for triple in triples:
        parts = triple.split(",")
        if len(parts) != 3 or not all(parts):
            found.wrong(_at(root, "references"), f"<references>: {quote(triple)} is not 'sender,identifier,sent'")
        elif _TIME.fullmatch(parts[2]) is None:
            found.note(_at(root, "references"), f"<references>: {quote(parts[2])} is not a time as CAP writes it")
    return triples


def _quoted_list(root: Any, tag: str, found: _Findings) -> tuple[str, ...]:
    """3.2.1: items separated by white space; an item that contains white space stands in double quotation marks."""
    text = _text(root, tag)
    if text.count('"') % 2:
        found.note(_at(root, tag), f"<{tag}> has a quotation mark without a partner and was kept as one text")
        return (text,)
    items = (quoted.strip() or bare for quoted, bare in re.findall(r'"([^"]*)"|([^\s"]+)', text))
    return tuple(dict.fromkeys(item for item in items if item))


def _instant(text: str) -> datetime:
    """For comparing two times of one alert. What the schema lets pass and Python does not know (hour 24) is early."""
    try:
        return datetime.fromisoformat(text)
    except ValueError:
        return datetime.fromisoformat("0001-01-02T00:00:00+00:00")


def _children(element: Any, tag: str) -> list[Any]:
    found: list[Any] = element.findall(f"{{{NAMESPACE}}}{tag}")
    return found


def _at(element: Any, tag: str) -> Any:
    """The child with this name, for its line; the element itself when there is none."""
    child = element.find(f"{{{NAMESPACE}}}{tag}")
    return element if child is None else child


def _own_text(element: Any) -> str:
    return (element.text or "").strip()


def _text(element: Any, tag: str) -> str:
    child = element.find(f"{{{NAMESPACE}}}{tag}")
    return "" if child is None else _own_text(child)


def _texts(element: Any, tag: str) -> tuple[str, ...]:
    """Each text once, in the order of the file; empty ones are left out."""
    return tuple(dict.fromkeys(text for text in map(_own_text, _children(element, tag)) if text))


def _named(element: Any, tag: str) -> tuple[Named, ...]:
    pairs = (Named(_text(child, "valueName"), _text(child, "value")) for child in _children(element, tag))
    return tuple(dict.fromkeys(pairs))


def _line(element: Any) -> int:
    line: int | None = element.sourceline
    return line or 1
