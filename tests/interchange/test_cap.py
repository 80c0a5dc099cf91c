"""CAP files in, incidents or refusals out: the door as the command line uses it."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
from cap_files import DEMO, INVALID, SAMPLES, VALID, alert, counted_bytes, fields

from meshnode.core.crdt import Author
from meshnode.core.events import Change, ChangeKind
from meshnode.core.ids import DeviceId, Dot, LogId
from meshnode.core.incident import Document
from meshnode.errors import UntrustedInputError
from meshnode.interchange.cap import CapIncident, read_cap_untrusted

BY_NAME = {path.stem: path for path in VALID}


def read(path: Path, **options: str) -> CapIncident:
    return read_cap_untrusted(path.read_bytes(), str(path), random_bytes=counted_bytes(), **options)


def applied_to_a_fresh_document(changes: tuple[Change, ...]) -> Document:
    document = Document()
    author = Author(DeviceId(bytes(32)), "BE", "be-1", "duty", 0)
    for index, change in enumerate(changes):
        operation, _ = document.plan(change, counted_bytes())
        document.apply(Dot(LogId(bytes(32)), 1 + index // 256, index % 256), operation, author)
    return document


@pytest.mark.parametrize("path", [*VALID, DEMO], ids=lambda path: path.stem)
def test_a_valid_alert_becomes_changes_that_the_incident_takes_and_keeps_the_original(path: Path) -> None:
    incident = read(path)
    document = applied_to_a_fresh_document(incident.changes)
    assert document.conflicts() == []
    views = [document.fields_view()]
    views += [item.fields for name in document.collections() for item in document.collection_view(name)]
    assert all(value.well_typed for view in views for field in view.values() for value in field.values)
    (attachment,) = incident.attachments
    assert (attachment.name, attachment.media_type) == (path.name, "application/cap+xml")
    assert attachment.data == path.read_bytes()


@pytest.mark.parametrize("path", INVALID, ids=lambda path: path.stem)
def test_an_invalid_alert_is_refused_with_the_line_and_what_is_wrong(path: Path) -> None:
    """Each file carries its expectation as a comment on the line that must be named."""
    lines = path.read_text(encoding="utf-8").split("\n")
    ((line, expected),) = [
        (number, match)
        for number, text in enumerate(lines, 1)
        if (match := re.search(r"<!-- (cap-[a-z-]+): (.*) -->", text)) is not None
    ]
    with pytest.raises(UntrustedInputError) as refusal:
        read(path)
    assert refusal.value.code == expected[1]
    assert refusal.value.reason.startswith(f"line {line}: ")
    assert expected[2] in refusal.value.reason
    assert refusal.value.action


SAMPLES_READ = ("australia", "canada", "iceland_met_office", "taiwan")
SAMPLES_REFUSED = {
    "earthquake": "cap-old-version: line 3: this is a CAP 1.1 alert",
    "invalid": "cap-invalid: line 9: <scope> is missing before <info>",
}
only_with_samples = pytest.mark.skipif(
    not SAMPLES.is_dir(), reason="the alerts of other senders are not on this machine"
)


@only_with_samples
@pytest.mark.parametrize("name", SAMPLES_READ)
def test_alerts_of_real_senders_are_read(name: str) -> None:
    path = SAMPLES / f"{name}.cap"
    incident = read(path)
    assert incident.kind == "public-protection"
    assert incident.attachments[0].data == path.read_bytes()
    applied_to_a_fresh_document(incident.changes)


@only_with_samples
@pytest.mark.parametrize("name", SAMPLES_REFUSED)
def test_broken_alerts_of_real_senders_are_refused(name: str) -> None:
    with pytest.raises(UntrustedInputError, match=SAMPLES_REFUSED[name]):
        read(SAMPLES / f"{name}.cap")


def test_a_release_in_three_languages_maps_onto_the_incident_its_info_blocks_and_its_locations() -> None:
    incident = read(BY_NAME["cbrn-three-languages"])
    assert incident.kind == "cbrn-e"
    (root,) = fields(incident.changes)
    area = root.pop("area")
    assert root == {
        "title": "Chlorine cloud at the Rhine port moving east",
        "status": "open",
        "severity": "extreme",
        "precedence": "flash",
        "marking": "TLP:RED",
        "cap.identifier": "FR-NOC-2026-03-14-0007",
        "cap.sender": "permanence@noc.fr.example",
        "cap.sent": "2026-03-14T09:12:00+01:00",
        "cap.status": "Actual",
        "cap.msg_type": "Update",
        "cap.scope": "Private",
        "cap.source": "Cellule de crise, poste 4",
        "cap.note": "Replaces the first report; the wind has turned.",
        "cap.addresses": ["noc.be.example", "noc.de.example", "Gemeinsames Zentrum Kehl"],
        "cap.incidents": ["Port du Rhin", "FR-2026-118"],
        "cap.references": [
            "permanence@noc.fr.example,FR-NOC-2026-03-14-0005,2026-03-14T08:41:00+01:00",
            "permanence@noc.fr.example,FR-NOC-2026-03-14-0006,2026-03-14T08:55:00+01:00",
        ],
        "cap.codes": ["profile:NOC:1.0", "IPAWSv1.0"],
    }
    polygons, point = area["geometries"]
    assert (polygons["type"], len(polygons["coordinates"])) == ("MultiPolygon", 4)  # two drawn, two circles
    assert point == {"type": "Point", "coordinates": [7.75, 48.6]}

    french, german, english = fields(incident.changes, "cap-infos")
    assert french["headline"] == "Nuage de chlore au port du Rhin,\n      vent vers l'est"
    assert french["category"] == ["CBRNE", "Health"]
    assert french["response_type"] == ["Shelter", "Evacuate"]
    assert french["event_code"] == ["UN=1017"]
    assert french["parameter"] == ["vent=270 deg 4 m/s", "inversion="]  # the repeated one is the same element
    assert french["resource"] == [
        {
            "resource_desc": "Photo du wagon",
            "mime_type": "image/jpeg",
            "uri": "wagon.jpg",
            "digest": "aaf4c61ddcc5e8a2dabede0f3b482cd9aea9434d",
            "size": 5,
            "embedded": True,
        }
    ]
    assert (german["language"], english["language"]) == ("de-DE", "en-US")  # 3.2.2: absent means en-US

    port, kehl, assembly, second_circle = fields(incident.changes, "locations")
    ids = [change.object for change in incident.changes if change.kind is ChangeKind.CREATE]
    assert [place["info"] for place in (port, kehl, assembly)] == [obj.hex() for obj in ids[:3] if obj is not None]
    assert (port["name"], port["circle"], port["geocode"]) == ("Port du Rhin", "48.575,7.805 2.5", ["INSEE=67482"])
    assert (port["altitude_ft"], port["ceiling_ft"]) == ("450", "1200.5")
    assert kehl["geometry"] == {
        "type": "Polygon",
        "coordinates": [[[7.8, 48.56], [7.86, 48.56], [7.86, 48.59], [7.8, 48.59], [7.8, 48.56]]],
    }
    assert (assembly["circle"], second_circle["circle"]) == ("48.6,7.75 0", "48.61,7.76 0.5")
    assert second_circle["name"] == "Assembly points"
    assert any("embeds a file" in note for note in incident.notes)


def test_a_man_hunt_says_so_in_an_event_code_because_cap_has_no_word_for_it() -> None:
    incident = read(BY_NAME["man-hunt"])
    assert incident.kind == "man-hunt"
    (root,) = fields(incident.changes)
    assert (root["marking"], root["cap.restriction"]) == ("TLP:AMBER", "Police only")
    assert incident.notes == ()


def test_a_minimal_alert_opens_an_incident_named_after_its_message() -> None:
    incident = read(BY_NAME["minimal"])
    (root,) = fields(incident.changes)
    assert (incident.kind, root["title"], root["severity"]) == ("other", "CAP Alert MIN-1", "unknown")
    assert root["precedence"] == "routine"
    assert fields(incident.changes, "cap-infos") == fields(incident.changes, "locations") == []


def test_what_senders_bend_without_harm_is_read_and_noted_in_the_order_of_the_file() -> None:
    incident = read(BY_NAME["bent"])
    (root,) = fields(incident.changes)
    assert root["cap.identifier"] == "BENT-1"
    assert root["cap.incidents"] == ['"never closed']
    numbers = [int(match[1]) for note in incident.notes if (match := re.match(r"line (\d+): ", note))]
    assert numbers == sorted(numbers)
    said = " ".join(incident.notes)
    for words in (
        "an exercise should be named",
        "no <references> says of which message",
        "a <restriction> is given although the scope is Public",
        "a quotation mark without a partner",
        "<event> is empty",
        "expires before it takes effect",
        "an empty <polygon> was passed over",
        "an empty <circle> was passed over",
        "ceiling lies below the altitude",
        "NOT verified",
        "does not report a real event",
        "raise the marking",
    ):
        assert words in said


@pytest.mark.parametrize(
    ("language", "title"),
    [
        ("en", "Chlorine cloud at the Rhine port moving east"),
        ("de", "Chlorwolke zieht über den Rhein nach Kehl"),
        ("de-AT", "Chlorwolke zieht über den Rhein nach Kehl"),
        ("fr-FR", "Nuage de chlore au port du Rhin, vent vers l'est"),
        ("pl", "Nuage de chlore au port du Rhin, vent vers l'est"),
    ],
)
def test_the_title_is_the_headline_in_the_readers_language_else_of_the_first_block(language: str, title: str) -> None:
    (root,) = fields(read(BY_NAME["cbrn-three-languages"], language=language).changes)
    assert root["title"] == title


def test_batches_keep_the_order_and_both_limits_and_lose_nothing() -> None:
    areas = "".join(
        f"<area><areaDesc>{'x' * 900}</areaDesc><circle>50.0,{n / 1000} 2</circle></area>" for n in range(300)
    )
    incident = read_cap_untrusted(alert(areas), "many.cap")
    batches = list(incident.batches(limit=100, bytes_max=50_000))
    assert tuple(change for batch in batches for change in batch) == incident.changes
    assert max(map(len, batches)) <= 100
    sizes = [sum(len(json.dumps(change.value)) for change in batch) for batch in batches]
    assert max(sizes) <= 50_000
    assert [len(batch) for batch in incident.batches(limit=10_000, bytes_max=10**9)] == [len(incident.changes)]
    with pytest.raises(ValueError, match="at least one"):
        next(incident.batches(limit=0))


def test_the_same_file_and_the_same_random_bytes_give_the_same_changes() -> None:
    assert read(DEMO) == read(DEMO)


@pytest.mark.parametrize(
    ("given", "kept"),
    [
        ("/srv/in/flood.cap", "flood.cap"),
        ("C:\\in\\flood.cap", "flood.cap"),
        ("../../etc/passwd", "passwd"),
        ("a\x1b[31m\nb.cap", "a[31mb.cap"),
        ("", "alert.cap"),
        ("..", "alert.cap"),
        ("é" * 300 + ".cap", "é" * 98 + ".cap"),
    ],
)
def test_the_attachment_gets_the_last_part_of_the_name_printable_and_short(given: str, kept: str) -> None:
    (attachment,) = read_cap_untrusted(alert(), given).attachments
    assert attachment.name == kept
