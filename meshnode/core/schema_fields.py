"""The fields of the incident model: tables, and nothing else. core/schema.py says what they are good for.

The vocabulary is that of the people: TLP 2.0 markings, Europol handling codes and 4x4 evaluation, the elements of CAP
1.2 under their own names. Changing a table here changes docs/incident-model.md (a test compares them).
"""

from __future__ import annotations

from dataclasses import dataclass

from meshnode.core.field_types import (
    CIRCLE,
    CODE,
    COUNTRY,
    DECIMAL,
    FLAG,
    GEOMETRY,
    LANGUAGE,
    LINE,
    NAMED,
    PARTIAL_DATE,
    PLAIN_MAP,
    PROSE,
    REFERENCE,
    SHA256,
    TIMESTAMP,
    Choice,
    FieldType,
    Integer,
    Pattern,
    count,
)


@dataclass(frozen=True, slots=True)
class Field:
    type: FieldType
    meaning: str
    is_set: bool = False


def _set(type_: FieldType, meaning: str) -> Field:
    return Field(type_, meaning, is_set=True)


KINDS = ("man-hunt", "public-protection", "cbrn-e", "other")
PRECEDENCE = Choice(("flash", "immediate", "priority", "routine"))
SEVERITY = Choice(("extreme", "severe", "moderate", "minor", "unknown"))
MARKING = Choice(("TLP:RED", "TLP:AMBER+STRICT", "TLP:AMBER", "TLP:GREEN", "TLP:CLEAR"))
HANDLING = Choice(("H0", "H1", "H2", "H3"))
SOURCE_EVALUATION = Choice(("A", "B", "C", "X"))
INFORMATION_EVALUATION = Choice(("1", "2", "3", "4"))
HAZARD = Choice(("chemical", "biological", "radiological", "nuclear", "explosive"))
WARNING = Choice(
    (
        "armed",
        "violent",
        "explosives",
        "contaminated",
        "infectious",
        "escape-risk",
        "self-harm",
        "medical",
        "booby-trapped",
    )
)

_COMMON = {
    "marking": Field(MARKING, "how far it may be passed on (TLP 2.0)"),
    "handling": _set(HANDLING, "Europol handling codes"),
    "source_evaluation": Field(SOURCE_EVALUATION, "reliability of the source (4x4)"),
    "information_evaluation": Field(INFORMATION_EVALUATION, "accuracy of the information (4x4)"),
    "note": Field(PROSE, "remarks"),
    "links": _set(REFERENCE, "other objects it has to do with"),
    "attachments": _set(REFERENCE, "photographs and documents"),
}

_ROOT = {
    "kind": Field(Choice(KINDS), "what sort of incident it is"),
    "title": Field(LINE, "what people call it"),
    "status": Field(Choice(("open", "contained", "closed")), "where it stands"),
    "severity": Field(SEVERITY, "as in CAP"),
    "precedence": Field(PRECEDENCE, "what goes first on a thin link"),
    "marking": Field(MARKING, "how far the incident may be passed on (TLP 2.0)"),
    "handling": _set(HANDLING, "Europol handling codes"),
    "area": Field(GEOMETRY, "where it is"),
    "summary": Field(PROSE, "the situation in a few sentences"),
    "lead": Field(CODE, "code of the NOC in the lead"),
    "countries": _set(COUNTRY, "states concerned"),
    "case_numbers": _set(LINE, "references in the systems of each NOC, SIENA included"),
    "started_at": Field(TIMESTAMP, "when the event began"),
    "opened_at": Field(TIMESTAMP, "when the incident was opened"),
    "contained_at": Field(TIMESTAMP, "when it was contained"),
    "closed_at": Field(TIMESTAMP, "when it was closed"),
    "hazards": _set(HAZARD, "CBRN-E hazards, suspected or found"),
    "agent": Field(LINE, "substance, organism or nuclide, as identified"),
    "wind_from_deg": Field(Integer(0, 359), "direction the wind comes from"),
    "wind_speed_kmh": Field(count(500), "wind speed"),
    "dead_persons": Field(count(), "confirmed dead"),
    "injured_persons": Field(count(), "injured"),
    "missing_persons": Field(count(), "missing"),
    "contaminated_persons": Field(count(), "contaminated or exposed"),
    "evacuated_persons": Field(count(), "brought out of the area"),
    "attachments": _set(REFERENCE, "documents about the whole incident"),
    "cap.identifier": Field(PROSE, "CAP identifier"),
    "cap.sender": Field(PROSE, "CAP sender"),
    "cap.sent": Field(TIMESTAMP, "CAP sent"),
    "cap.status": Field(Choice(("Actual", "Exercise", "System", "Test", "Draft")), "CAP status"),
    "cap.msg_type": Field(Choice(("Alert", "Update", "Cancel", "Ack", "Error")), "CAP msgType"),
    "cap.source": Field(PROSE, "CAP source"),
    "cap.scope": Field(Choice(("Public", "Restricted", "Private")), "CAP scope"),
    "cap.restriction": Field(PROSE, "CAP restriction"),
    "cap.addresses": _set(PROSE, "CAP addresses, one an element"),
    "cap.codes": _set(PROSE, "CAP code"),
    "cap.note": Field(PROSE, "CAP note"),
    "cap.references": _set(PROSE, "CAP references: sender,identifier,sent"),
    "cap.incidents": _set(PROSE, "CAP incidents, one an element"),
}

_PERSONS = {
    "role": Field(
        Choice(("suspect", "wanted", "associate", "victim", "witness", "missing", "hostage", "contact", "other")),
        "part in the incident",
    ),
    "status": Field(
        Choice(("at-large", "located", "in-custody", "safe", "injured", "dead", "cleared", "unknown")),
        "where the person stands",
    ),
    "family_name": Field(LINE, "family name"),
    "given_names": Field(LINE, "given names"),
    "aliases": _set(LINE, "other names"),
    "sex": Field(Choice(("female", "male", "other", "unknown")), "sex"),
    "date_of_birth": Field(PARTIAL_DATE, "date of birth"),
    "age_years": Field(count(150), "estimated age"),
    "place_of_birth": Field(LINE, "place of birth"),
    "nationalities": _set(COUNTRY, "nationalities"),
    "documents": _set(LINE, "identity documents: type, country, number"),
    "languages": _set(LANGUAGE, "languages spoken"),
    "phones": _set(LINE, "telephone numbers"),
    "height_cm": Field(count(300), "height"),
    "build": Field(LINE, "build"),
    "hair": Field(LINE, "hair"),
    "eyes": Field(LINE, "eyes"),
    "marks": _set(LINE, "scars, tattoos, ways of moving"),
    "clothing": Field(PROSE, "clothing when last seen"),
    "description": Field(PROSE, "description"),
    "warnings": _set(WARNING, "what those who meet the person must know"),
    "last_seen_at": Field(TIMESTAMP, "when last seen"),
    "last_seen_location": Field(REFERENCE, "where last seen"),
    "direction": Field(LINE, "direction of travel"),
    **_COMMON,
}

_VEHICLES = {
    "plate": Field(LINE, "registration plate"),
    "plate_country": Field(COUNTRY, "country of the plate"),
    "type": Field(
        Choice(
            (
                "car",
                "van",
                "truck",
                "bus",
                "motorcycle",
                "bicycle",
                "train",
                "boat",
                "ship",
                "aircraft",
                "helicopter",
                "drone",
                "other",
            )
        ),
        "sort of vehicle",
    ),
    "make": Field(LINE, "make"),
    "model": Field(LINE, "model"),
    "colour": Field(LINE, "colour"),
    "vin": Field(CODE, "vehicle identification number"),
    "marks": _set(LINE, "damage, stickers, trailer"),
    "status": Field(Choice(("sought", "sighted", "stopped", "seized", "cleared", "unknown")), "where it stands"),
    "occupants": _set(REFERENCE, "persons in it"),
    "warnings": _set(WARNING, "what those who stop it must know"),
    "last_seen_at": Field(TIMESTAMP, "when last seen"),
    "last_seen_location": Field(REFERENCE, "where last seen"),
    "direction": Field(LINE, "direction of travel"),
    "speed_kmh": Field(count(5_000), "speed"),
    "description": Field(PROSE, "description"),
    **_COMMON,
}

_LOCATIONS = {
    "name": Field(PROSE, "name, or CAP areaDesc"),
    "type": Field(
        Choice(
            (
                "scene",
                "inner-cordon",
                "outer-cordon",
                "hazard-area",
                "warning-area",
                "evacuation-area",
                "shelter",
                "command-post",
                "rendezvous-point",
                "decontamination",
                "hospital",
                "border-crossing",
                "roadblock",
                "sighting",
                "address",
                "other",
            )
        ),
        "what the place is for",
    ),
    "geometry": Field(GEOMETRY, "where it is"),
    "circle": Field(CIRCLE, "CAP circle"),
    "geocode": _set(NAMED, "CAP geocode"),
    "altitude_ft": Field(DECIMAL, "CAP altitude: lowest, in feet above sea level"),
    "ceiling_ft": Field(DECIMAL, "CAP ceiling: highest, in feet above sea level"),
    "info": Field(REFERENCE, "the cap-infos object that this area belongs to"),
    "address": Field(LINE, "street, number, town"),
    "country": Field(COUNTRY, "country"),
    "access": Field(PROSE, "how to get there, and which way is safe"),
    "hazards": _set(HAZARD, "CBRN-E hazards there"),
    "persons_count": Field(count(), "people there"),
    **_COMMON,
}

_UNITS = {
    "name": Field(LINE, "name"),
    "callsign": Field(LINE, "radio call sign"),
    "noc": Field(CODE, "code of the NOC that commands it"),
    "type": Field(
        Choice(
            (
                "patrol",
                "tactical",
                "investigation",
                "surveillance",
                "negotiation",
                "eod",
                "cbrn",
                "medical",
                "fire",
                "air",
                "drone",
                "dog",
                "maritime",
                "border",
                "command",
                "other",
            )
        ),
        "what it can do",
    ),
    "status": Field(
        Choice(("available", "assigned", "en-route", "on-scene", "resting", "out-of-service")), "what it is doing"
    ),
    "strength_persons": Field(count(100_000), "people in it"),
    "leader": Field(LINE, "who leads it"),
    "contact": Field(LINE, "telephone or talk group"),
    "position": Field(GEOMETRY, "where it is"),
    "position_at": Field(TIMESTAMP, "when it was there"),
    "location": Field(REFERENCE, "location it is at"),
    "equipment": _set(LINE, "special equipment"),
    **_COMMON,
}

_TASKS = {
    "title": Field(LINE, "what is to be done"),
    "description": Field(PROSE, "details"),
    "state": Field(
        Choice(("open", "assigned", "accepted", "refused", "in-progress", "blocked", "done", "cancelled")),
        "where it stands",
    ),
    "precedence": Field(PRECEDENCE, "how urgent it is"),
    "assigned_to": Field(LINE, "unit id, NOC code or call sign that does it"),
    "requested_by": Field(LINE, "who asked for it"),
    "due": Field(TIMESTAMP, "by when"),
    "started_at": Field(TIMESTAMP, "when it began"),
    "done_at": Field(TIMESTAMP, "when it was done"),
    "location": Field(REFERENCE, "where"),
    "needs": _set(REFERENCE, "tasks that come first"),
    "result": Field(PROSE, "what came of it"),
    **_COMMON,
}

_REPORTS = {
    "title": Field(LINE, "headline"),
    "text": Field(PROSE, "the report"),
    "category": Field(
        Choice(
            (
                "sighting",
                "intelligence",
                "casualties",
                "damage",
                "hazard",
                "measurement",
                "situation",
                "request",
                "media",
                "other",
            )
        ),
        "what it is about",
    ),
    "precedence": Field(PRECEDENCE, "how urgent it is"),
    "source": Field(LINE, "where it comes from; never the name of a protected source"),
    "observed_at": Field(TIMESTAMP, "when it was seen"),
    "reported_at": Field(TIMESTAMP, "when it was reported"),
    "location": Field(REFERENCE, "where"),
    "geometry": Field(GEOMETRY, "where, if no location has it"),
    "language": Field(LANGUAGE, "language of the text"),
    "confirmed": Field(FLAG, "a second source confirms it"),
    **_COMMON,
}

_ATTACHMENTS = {
    "name": Field(LINE, "file name, for display only"),
    "media_type": Field(Pattern("a media type such as image/jpeg", r"[\w!#$&^.+-]{1,64}/[\w!#$&^.+-]{1,64}"), "type"),
    "size_bytes": Field(count(), "size"),
    "sha256": Field(SHA256, "hash of the bytes"),
    "chunks": Field(Integer(0, 65_536), "number of pieces"),
    "description": Field(PROSE, "what it shows"),
    "marking": _COMMON["marking"],
    "handling": _COMMON["handling"],
}

_CAP_INFOS = {
    "language": Field(LANGUAGE, "CAP language"),
    "category": _set(
        Choice(
            (
                "Geo",
                "Met",
                "Safety",
                "Security",
                "Rescue",
                "Fire",
                "Health",
                "Env",
                "Transport",
                "Infra",
                "CBRNE",
                "Other",
            )
        ),
        "CAP category",
    ),
    "event": Field(PROSE, "CAP event"),
    "response_type": _set(
        Choice(("Shelter", "Evacuate", "Prepare", "Execute", "Avoid", "Monitor", "Assess", "AllClear", "None")),
        "CAP responseType",
    ),
    "urgency": Field(Choice(("Immediate", "Expected", "Future", "Past", "Unknown")), "CAP urgency"),
    "severity": Field(Choice(("Extreme", "Severe", "Moderate", "Minor", "Unknown")), "CAP severity"),
    "certainty": Field(Choice(("Observed", "Likely", "Possible", "Unlikely", "Unknown")), "CAP certainty"),
    "audience": Field(PROSE, "CAP audience"),
    "event_code": _set(NAMED, "CAP eventCode"),
    "effective": Field(TIMESTAMP, "CAP effective"),
    "onset": Field(TIMESTAMP, "CAP onset"),
    "expires": Field(TIMESTAMP, "CAP expires"),
    "sender_name": Field(PROSE, "CAP senderName"),
    "headline": Field(PROSE, "CAP headline"),
    "description": Field(PROSE, "CAP description"),
    "instruction": Field(PROSE, "CAP instruction"),
    "web": Field(PROSE, "CAP web"),
    "contact": Field(PROSE, "CAP contact"),
    "parameter": _set(NAMED, "CAP parameter"),
    "resource": _set(PLAIN_MAP, "CAP resource: what is known about a file that the alert names"),
}

FIELDS: dict[str, dict[str, Field]] = {
    "incident": _ROOT,
    "persons": _PERSONS,
    "vehicles": _VEHICLES,
    "locations": _LOCATIONS,
    "units": _UNITS,
    "tasks": _TASKS,
    "reports": _REPORTS,
    "attachments": _ATTACHMENTS,
    "cap-infos": _CAP_INFOS,
}
"""Fields by collection; ``incident`` has one object, the root."""

RECORD: dict[str, Field] = {
    "text": Field(PROSE, "what happened"),
    "precedence": Field(PRECEDENCE, "what goes first on a thin link"),
    "marking": Field(MARKING, "how far it may be passed on (TLP 2.0)"),
    "category": Field(CODE, "a word that local programs sort by"),
}
"""Keys of a record of the log book; ``text`` is required."""
