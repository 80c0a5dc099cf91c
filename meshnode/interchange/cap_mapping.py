"""Where each part of a CAP alert goes in an incident. ``docs/cap.md`` shows the same to application developers.

| in CAP | in the incident |
|---|---|
| the message | fields of the incident itself, CAP's own ones under ``cap.*`` |
| each info block | an object of ``cap-infos`` |
| each area of each info block | an object of ``locations``, with the id of its info block |
| all areas together | ``area`` of the incident |

What people decide on (severity, precedence, marking, area) is derived once, here, and is theirs to change afterwards;
what the sender said stays beside it untouched. Decision 0042 argues the tables.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

from meshnode.core.events import Change, ChangeKind
from meshnode.core.field_types import Text
from meshnode.core.geometry import POSITIONS_MAX
from meshnode.core.ids import OBJECT_ID_BYTES, ObjectId
from meshnode.core.schema import FIELDS, KINDS
from meshnode.interchange.cap_rules import POINT_RADIUS_KM, Alert, Area, Info, Named, Resource
from meshnode.interchange.cap_shapes import (
    CIRCLE_CORNERS,
    Circle,
    Position,
    Ring,
    bounding_box,
    circle_rings,
    geojson,
    polygon_rings,
)
from meshnode.interchange.cap_xml import quote

TITLE_CHARACTERS_MAX = 256
NAMED_NAME_BYTES_MAX = 1_024
NAMED_VALUE_BYTES_MAX = 15 * 1024
"""Together under 16 KiB, as any text. Names in use have some 50 bytes, values up to 2 KiB."""
MAP_TEXT_BYTES_MAX = 4 * 1024
"""Each of the four texts about a file; addresses of 2 KiB are rare."""
SET_ELEMENTS_MAX = 1_000
"""Geocodes of one area, parameters of one info block. National lists of one area have up to some hundred."""
CHANGES_MAX = 10_000
"""40 requests. A national alert in two languages with 400 areas of 20 geocodes each just fits."""

SEVERITIES = ("extreme", "severe", "moderate", "minor", "unknown")
PRECEDENCES = ("flash", "immediate", "priority", "routine")
MARKINGS = {"Public": "TLP:CLEAR", "Restricted": "TLP:AMBER", "Private": "TLP:RED"}

# urgency -> precedence for each of SEVERITIES. Flash pre-empts everything on a thin link, so only what is extreme and
# happening now gets it; unknown counts as moderate, because a sender in haste leaves it open.
_PRECEDENCE_TABLE = {
    "Immediate": ("flash", "immediate", "immediate", "priority", "immediate"),
    "Expected": ("immediate", "immediate", "priority", "routine", "priority"),
    "Future": ("priority", "priority", "routine", "routine", "routine"),
    "Past": ("priority", "routine", "routine", "routine", "routine"),
    "Unknown": ("immediate", "priority", "priority", "routine", "priority"),
}

_MESSAGE_TYPES = {
    "Update": "it replaces an earlier message",
    "Cancel": "it takes back an earlier message, so what it describes is over or was never so",
    "Ack": "it says that an earlier message was received, and reports nothing",
    "Error": "it rejects an earlier message, and reports nothing",
}
"""What to know before such a message becomes an incident of its own."""

KIND_CODE = "meshnode:kind"
"""An eventCode or parameter of this name states the kind outright: CAP itself has no word for a man hunt."""
_MAN_HUNT_CODES = {Named("SAME", "BLU"), Named("SAME", "CAE")}
"""The two event codes of the SAME list that mean a search for a person: blue alert, child abduction emergency."""


def incident_kind(alert: Alert) -> str:
    """The kind stated under ``meshnode:kind``, else cbrn-e, man-hunt or public-protection, else other."""
    named = {pair for info in alert.infos for pair in (*info.event_codes, *info.parameters)}
    stated = sorted(pair.value for pair in named if pair.name == KIND_CODE and pair.value in KINDS)
    if stated:
        return stated[0]
    categories = {category for info in alert.infos for category in info.categories}
    if "CBRNE" in categories:
        return "cbrn-e"
    if any(pair in _MAN_HUNT_CODES for info in alert.infos for pair in info.event_codes):
        return "man-hunt"
    return "public-protection" if categories - {"Other"} else "other"


def highest_severity(alert: Alert) -> str:
    said = {info.severity.lower() for info in alert.infos}
    return next((severity for severity in SEVERITIES if severity in said), "unknown")


def highest_precedence(alert: Alert) -> str:
    """Over the info blocks, each by its own urgency and severity."""
    derived = {_PRECEDENCE_TABLE[info.urgency][SEVERITIES.index(info.severity.lower())] for info in alert.infos}
    return next((precedence for precedence in PRECEDENCES if precedence in derived), "routine")


def best_info(alert: Alert, language: str) -> Info | None:
    """The info block in that language: the same tag, else the same primary language, else the first block."""
    wanted = language.lower()
    tests: tuple[Callable[[str], bool], ...] = (
        lambda tag: tag == wanted,
        lambda tag: tag.split("-")[0] == wanted.split("-")[0],
        lambda tag: True,
    )
    return next((info for test in tests for info in alert.infos if test(info.language.lower())), None)


def map_alert(
    alert: Alert, language: str, random_bytes: Callable[[int], bytes]
) -> tuple[tuple[Change, ...], tuple[str, ...]]:
    """The changes that write the alert into a fresh incident, and notes about what they leave out."""
    mapping = _Mapping(random_bytes)
    mapping.incident(alert, language)
    infos = [(mapping.info(info, number), info) for number, info in enumerate(alert.infos, 1)]
    # Every info block before the first area: what is said comes before where, should an alert exceed the limit.
    for info_id, info in infos:
        for area in info.areas:
            mapping.location(area, info_id)
    return tuple(mapping.changes), tuple(mapping.finish())


class _Mapping:
    """Collects changes and notes for one alert."""

    def __init__(self, random_bytes: Callable[[int], bytes]) -> None:
        self.changes: list[Change] = []
        self._notes: list[str] = []
        self._random_bytes = random_bytes
        self._left_out = {"cap-infos": 0, "locations": 0}

    def finish(self) -> list[str]:
        """All notes."""
        for collection, what in (("cap-infos", "info blocks"), ("locations", "areas or circles")):
            count = self._left_out[collection]
            if count:
                self._notes.append(
                    f"{count} {what} stay in the attached original only: an alert is carried in at most"
                    f" {CHANGES_MAX} changes"
                )
        return self._notes

    def incident(self, alert: Alert, language: str) -> None:
        best = best_info(alert, language)
        fields = _Fields(self._notes, "incident", None)
        fields.set("title", self._title(alert, best))
        fields.set("status", "open")
        fields.set("severity", highest_severity(alert))
        fields.set("precedence", highest_precedence(alert))
        fields.set("marking", MARKINGS[alert.scope])
        fields.set_geometry("area", [area for info in alert.infos for area in info.areas], "the incident's area")
        fields.set("cap.identifier", alert.identifier)
        fields.set("cap.sender", alert.sender)
        fields.set("cap.sent", alert.sent)
        fields.set("cap.status", alert.status)
        fields.set("cap.msg_type", alert.msg_type)
        fields.set("cap.scope", alert.scope)
        fields.set("cap.source", alert.source)
        fields.set("cap.restriction", alert.restriction)
        fields.set("cap.note", alert.note)
        fields.add("cap.addresses", alert.addresses)
        fields.add("cap.incidents", alert.incidents)
        fields.add("cap.references", alert.references)
        fields.add("cap.codes", alert.codes)
        self.changes.extend(fields.changes)
        self._note_meaning(alert)

    def info(self, info: Info, number: int) -> ObjectId | None:
        """An object of ``cap-infos``; its id, or None when there was no room for it."""
        fields = self._new_object("cap-infos")
        fields.set("language", info.language)
        fields.add("category", info.categories)
        fields.set("event", info.event)
        fields.add("response_type", info.response_types)
        fields.set("urgency", info.urgency)
        fields.set("severity", info.severity)
        fields.set("certainty", info.certainty)
        fields.set("audience", info.audience)
        fields.add_named("event_code", info.event_codes)
        fields.set("effective", info.effective)
        fields.set("onset", info.onset)
        fields.set("expires", info.expires)
        fields.set("sender_name", info.sender_name)
        fields.set("headline", info.headline)
        fields.set("description", info.description)
        fields.set("instruction", info.instruction)
        fields.set("web", info.web)
        fields.set("contact", info.contact)
        fields.add_named("parameter", info.parameters)
        fields.add_resources(info.resources)
        if not self._carry(fields):
            return None
        if any(resource.embedded for resource in info.resources):
            self._notes.append(f"info block {number} embeds a file, which stays in the attached original only")
        return fields.object

    def location(self, area: Area, info_id: ObjectId | None) -> None:
        """An object of ``locations`` for the area, and one more for each circle after its first."""
        if info_id is None or self._left_out["locations"]:
            self._left_out["locations"] += 1
            return
        fields = self._new_object("locations")
        fields.set("name", area.description)
        fields.set("info", info_id.hex())
        fields.set_geometry("geometry", [area], f"the area {quote(area.description[:80])}")
        if area.circles:
            fields.set("circle", _circle_text(area.circles[0]))
        fields.add_named("geocode", area.geocodes)
        fields.set("altitude_ft", area.altitude_ft)
        fields.set("ceiling_ft", area.ceiling_ft)
        self._carry(fields)
        for circle in area.circles[1:]:
            fields = self._new_object("locations")
            fields.set("name", area.description)
            fields.set("info", info_id.hex())
            fields.set("circle", _circle_text(circle))
            self._carry(fields)

    def _new_object(self, collection: str) -> _Fields:
        fields = _Fields(self._notes, collection, ObjectId(self._random_bytes(OBJECT_ID_BYTES)))
        fields.changes.append(Change(ChangeKind.CREATE, collection, fields.object))
        return fields

    def _carry(self, fields: _Fields) -> bool:
        if len(self.changes) + len(fields.changes) > CHANGES_MAX:
            self._left_out[fields.collection] += 1
            return False
        self.changes.extend(fields.changes)
        return True

    def _title(self, alert: Alert, best: Info | None) -> str:
        wanted = (best.headline or best.event) if best else ""
        title = " ".join(wanted.split()) or f"CAP {alert.msg_type} {alert.identifier}"
        if len(title) <= TITLE_CHARACTERS_MAX:
            return title
        self._notes.append(f"the headline was cut to {TITLE_CHARACTERS_MAX} characters for the title")
        return title[: TITLE_CHARACTERS_MAX - 1] + "…"

    def _note_meaning(self, alert: Alert) -> None:
        """What a person should know before others see the incident."""
        if alert.status != "Actual":
            self._notes.append(f"the alert's status is {alert.status}: it does not report a real event")
        if alert.msg_type != "Alert":
            said = _MESSAGE_TYPES[alert.msg_type]
            self._notes.append(
                f"the message type is {alert.msg_type}: {said}; the incident of the earlier message is not changed"
            )
        if alert.scope == "Public":
            self._notes.append(
                "the alert is public, so the incident is marked TLP:CLEAR; raise the marking before you add what is not"
            )
        if not alert.infos:
            self._notes.append("the alert has no info block: severity, precedence and kind are guesses")


class _Fields:
    """The changes of one object, or of the incident itself. Every value gets the form that the incident model asks."""

    def __init__(self, notes: list[str], collection: str, obj: ObjectId | None) -> None:
        self.changes: list[Change] = []
        self.collection = collection
        self._object = obj
        self._notes = notes

    @property
    def object(self) -> ObjectId:
        if self._object is None:
            raise ValueError("the incident itself has no object id here")
        return self._object

    def set(self, name: str, text: str) -> None:
        """A register of text; an empty text writes nothing."""
        if text:
            self._write(ChangeKind.SET, name, text)

    def add(self, name: str, values: Iterable[Any]) -> None:
        """Elements of a set, the first ``SET_ELEMENTS_MAX`` of them."""
        elements = list(values)
        for element in elements[:SET_ELEMENTS_MAX]:
            self._write(ChangeKind.ADD, name, element)
        if len(elements) > SET_ELEMENTS_MAX:
            self._notes.append(f"{name}: {len(elements)} values, of which the first {SET_ELEMENTS_MAX} were carried")

    def add_named(self, name: str, pairs: Iterable[Named]) -> None:
        """``name=value`` for each pair; a ``=`` inside the name becomes ``%3D``, as in addresses on the web."""
        texts = []
        for pair in pairs:
            left = pair.name
            if "=" in left:
                left = left.replace("=", "%3D")
                self._notes.append(f"{name}: '=' in the name {quote(pair.name)} was written as %3D")
            left = self._cut(name, left, NAMED_NAME_BYTES_MAX)
            texts.append(f"{left}={self._cut(name, pair.value, NAMED_VALUE_BYTES_MAX)}")
        self.add(name, texts)

    def add_resources(self, resources: Iterable[Resource]) -> None:
        """What is said about each file, under CAP's names; ``size`` is in bytes."""
        maps = []
        for resource in resources:
            texts = {
                "resource_desc": resource.description,
                "mime_type": resource.mime_type,
                "uri": resource.uri,
                "digest": resource.digest,
            }
            record: dict[str, Any] = {
                key: self._cut(f"resource {key}", text, MAP_TEXT_BYTES_MAX) for key, text in texts.items() if text
            }
            if resource.size.isascii() and resource.size.isdecimal() and len(resource.size) <= 15:
                record["size"] = int(resource.size)
            if resource.embedded:
                record["embedded"] = True
            maps.append(record)
        self.add("resource", maps)

    def set_geometry(self, name: str, areas: list[Area], what: str) -> None:
        """All shapes of the areas as one GeoJSON geometry in degrees; the core makes integers of them."""
        rings, points, remarks = _shapes(areas)
        self._notes.extend(f"{what}: a shape {remark}" for remark in remarks)
        count = len(points) + sum(map(len, rings))
        if count > POSITIONS_MAX:
            self._notes.append(
                f"{what} has {count} points, at most {POSITIONS_MAX} are carried: it was drawn as the box around them"
            )
            geometry: dict[str, Any] | None = bounding_box(rings, points)
        else:
            geometry = geojson(rings, points)
        if geometry is not None:
            self._append(ChangeKind.SET, name, geometry)

    def _write(self, kind: ChangeKind, name: str, value: Any) -> None:
        """Too long a text is cut; what has another form than the model knows stays in the original. Both are noted."""
        known = FIELDS[self.collection][name].type
        if isinstance(known, Text) and isinstance(value, str):
            value = self._cut(name, value, known.bytes_max)
        why = known.why_bad(value)
        if why:
            self._notes.append(f"{name}: {quote(str(value))} stays in the attached original only: it {why}")
        else:
            self._append(kind, name, value)

    def _cut(self, name: str, text: str, bytes_max: int) -> str:
        encoded = text.encode()
        if len(encoded) <= bytes_max:
            return text
        self._notes.append(f"{name}: {len(encoded)} bytes of text were cut to {bytes_max}; the original has them all")
        return encoded[:bytes_max].decode("utf-8", "ignore")

    def _append(self, kind: ChangeKind, name: str, value: Any) -> None:
        self.changes.append(Change(kind, self.collection, self._object, name, value))


def _shapes(areas: list[Area]) -> tuple[list[Ring], list[Position], list[str]]:
    """Every distinct ring and point of the areas, and remarks about how they were drawn."""
    circles = dict.fromkeys(circle for area in areas for circle in area.circles)
    points = dict.fromkeys(circle.center for circle in circles if circle.radius_km < POINT_RADIUS_KM)
    wide = [circle for circle in circles if circle.radius_km >= POINT_RADIUS_KM]
    fitting = (corners for corners in CIRCLE_CORNERS if len(wide) * (corners + 1) <= POSITIONS_MAX)
    corners = next(fitting, CIRCLE_CORNERS[-1])
    drawn = [polygon_rings(polygon) for area in areas for polygon in area.polygons]
    drawn += [circle_rings(circle, corners) for circle in wide]
    rings = dict.fromkeys(ring for shape in drawn for ring in shape.rings)
    remarks = dict.fromkeys(shape.remark for shape in drawn if shape.remark)
    return list(rings), list(points), list(remarks)


def _circle_text(circle: Circle) -> str:
    """CAP's own form: 'latitude,longitude radius', the radius in kilometres."""
    return f"{_decimal(circle.center.lat)},{_decimal(circle.center.lon)} {_decimal(circle.radius_km)}"


def _decimal(number: float) -> str:
    text = f"{number:.7f}".rstrip("0").rstrip(".")
    return "0" if text == "-0" else text
