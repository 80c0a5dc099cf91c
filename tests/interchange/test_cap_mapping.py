"""The tables and the limits of the mapping."""

from __future__ import annotations

import pytest
from cap_files import INFO, alert, counted_bytes, fields
from hypothesis import given, settings
from hypothesis import strategies as st

from meshnode.core.geometry import POSITIONS_MAX, geometry_to_mesh
from meshnode.core.schema import check_local, known_field
from meshnode.errors import UntrustedInputError
from meshnode.interchange.cap import NOTES_MAX, CapIncident, read_cap_untrusted
from meshnode.interchange.cap_mapping import CHANGES_MAX, MARKINGS, SET_ELEMENTS_MAX


def read(data: bytes) -> CapIncident:
    return read_cap_untrusted(data, "test.cap", random_bytes=counted_bytes())


def root_of(data: bytes) -> dict[str, object]:
    (root,) = fields(read(data).changes)
    return root


@pytest.mark.parametrize(
    ("category", "kind"),
    [
        ("CBRNE", "cbrn-e"),
        *((name, "public-protection") for name in ("Security", "Rescue", "Safety", "Fire", "Health", "Met", "Geo")),
        *((name, "public-protection") for name in ("Env", "Transport", "Infra")),
        ("Other", "other"),
    ],
)
def test_the_kind_follows_the_category(category: str, kind: str) -> None:
    assert read(alert(info=INFO.replace("CBRNE", category))).kind == kind


@pytest.mark.parametrize(
    ("name", "value", "kind"),
    [
        ("meshnode:kind", "man-hunt", "man-hunt"),
        ("meshnode:kind", "other", "other"),
        ("meshnode:kind", "parade", "public-protection"),
        ("SAME", "BLU", "man-hunt"),
        ("SAME", "CAE", "man-hunt"),
        ("SAME", "TOR", "public-protection"),
    ],
)
def test_an_event_code_can_say_the_kind(name: str, value: str, kind: str) -> None:
    code = f"<eventCode><valueName>{name}</valueName><value>{value}</value></eventCode>"
    assert read(alert(code, info=INFO.replace("CBRNE", "Security"))).kind == kind


PRECEDENCES = {
    "Immediate": "flash immediate immediate priority immediate",
    "Expected": "immediate immediate priority routine priority",
    "Future": "priority priority routine routine routine",
    "Past": "priority routine routine routine routine",
    "Unknown": "immediate priority priority routine priority",
}


@pytest.mark.parametrize("urgency", PRECEDENCES)
def test_the_precedence_follows_urgency_and_severity(urgency: str) -> None:
    severities = ["Extreme", "Severe", "Moderate", "Minor", "Unknown"]
    found = [
        root_of(alert(info=INFO.replace("Immediate", urgency).replace("Extreme", severity)))["precedence"]
        for severity in severities
    ]
    assert " ".join(map(str, found)) == PRECEDENCES[urgency]


def test_the_highest_severity_and_precedence_of_all_blocks_count() -> None:
    calm = INFO.replace("Immediate", "Past").replace("Extreme", "Minor")
    root = root_of(alert(info=f"{calm}</info>{INFO}</info>{calm}"))
    assert (root["severity"], root["precedence"]) == ("extreme", "flash")


@pytest.mark.parametrize("scope", MARKINGS)
def test_the_marking_follows_the_scope(scope: str) -> None:
    named = f"<scope>{scope}</scope><restriction>r</restriction><addresses>a</addresses>"
    data = alert().replace(b"<scope>Public</scope>", named.encode())
    assert root_of(data)["marking"] == {"Public": "TLP:CLEAR", "Restricted": "TLP:AMBER", "Private": "TLP:RED"}[scope]


def test_a_long_headline_is_cut_in_the_title_and_whole_in_the_block() -> None:
    headline = "ü" * 300
    incident = read(alert(f"<headline>{headline}</headline>"))
    (root,), (info,) = fields(incident.changes), fields(incident.changes, "cap-infos")
    assert root["title"] == "ü" * 255 + "…"
    assert info["headline"] == headline
    assert any("title" in note for note in incident.notes)


def test_a_text_over_16_kib_is_cut_between_characters_and_noted() -> None:
    incident = read(alert(f"<description>x{'é' * 10_000}</description>"))
    (info,) = fields(incident.changes, "cap-infos")
    assert info["description"] == "x" + "é" * 8_191
    assert any("description: 20001 bytes" in note for note in incident.notes)


def test_an_equals_sign_in_a_value_name_cannot_move_the_border_to_the_value() -> None:
    pair = "<parameter><valueName>http://a/?b=c</valueName><value>d=e</value></parameter>"
    incident = read(alert(pair))
    (info,) = fields(incident.changes, "cap-infos")
    assert info["parameter"] == ["http://a/?b%3Dc=d=e"]
    assert any("%3D" in note for note in incident.notes)


def test_what_the_model_has_no_form_for_stays_in_the_original_and_is_noted() -> None:
    size = "<resource><resourceDesc>r</resourceDesc><mimeType>a/b</mimeType><size>-1</size></resource>"
    pair = "<parameter><valueName></valueName><value>v</value></parameter>"
    effective = "<effective>2026-03-01T24:00:00+01:00</effective>"
    incident = read(alert(effective + pair + size))
    (info,) = fields(incident.changes, "cap-infos")
    assert "effective" not in info
    assert "parameter" not in info
    assert info["resource"] == [{"resource_desc": "r", "mime_type": "a/b"}]
    assert sum("stays in the attached original only" in note for note in incident.notes) == 2


# --- limits ---------------------------------------------------------------------------------------------------------


def test_sets_have_a_limit_and_say_what_was_left_out() -> None:
    pairs = "".join(f"<parameter><valueName>{n}</valueName><value/></parameter>" for n in range(SET_ELEMENTS_MAX + 1))
    incident = read(alert(pairs))
    (info,) = fields(incident.changes, "cap-infos")
    assert len(info["parameter"]) == SET_ELEMENTS_MAX
    assert any(f"parameter: {SET_ELEMENTS_MAX + 1} values" in note for note in incident.notes)


def test_an_alert_of_too_many_areas_keeps_what_was_said_and_the_first_areas() -> None:
    areas = "<area><areaDesc>a</areaDesc></area>" * 8_000
    incident = read(alert(areas, info=f"{INFO}{areas}</info>{INFO}"))
    assert CHANGES_MAX - 3 < len(incident.changes) <= CHANGES_MAX
    assert len(fields(incident.changes, "cap-infos")) == 2
    left = 16_000 - len(fields(incident.changes, "locations"))
    assert any(f"{left} areas" in note for note in incident.notes)


def test_notes_have_a_limit() -> None:
    areas = "".join(f"<area><areaDesc>{n}</areaDesc><polygon/></area>\n" for n in range(500))
    notes = read(alert(areas)).notes
    assert len(notes) == NOTES_MAX + 1
    assert notes[-1].startswith("and ")


def zigzag(points: int) -> str:
    """A closed polygon with this many corners, the first again as the last."""
    corners = [f"{50 + n % 2},{n * 0.001:.3f}" for n in range(points - 1)]
    return f"<area><areaDesc>z</areaDesc><polygon>{' '.join([*corners, corners[0]])}</polygon></area>"


def test_an_area_is_carried_up_to_the_limit_and_drawn_as_a_box_beyond_it() -> None:
    incident = read(alert(zigzag(POSITIONS_MAX)))
    (place,) = fields(incident.changes, "locations")
    assert len(place["geometry"]["coordinates"][0]) == POSITIONS_MAX
    incident = read(alert(zigzag(POSITIONS_MAX + 1)))
    (place,) = fields(incident.changes, "locations")
    assert place["geometry"] == {
        "type": "Polygon",
        "coordinates": [[[0.0, 50.0], [1.999, 50.0], [1.999, 51.0], [0.0, 51.0], [0.0, 50.0]]],
    }
    assert any("2001 points" in note for note in incident.notes)


@pytest.mark.parametrize(("circles", "corners"), [(30, 64), (31, 16), (118, 8), (222, 8), (223, 4), (400, 4)])
def test_many_circles_are_drawn_with_fewer_corners_before_they_become_a_box(circles: int, corners: int) -> None:
    text = "".join(f"<circle>50,{n / 10:.1f} 2</circle>" for n in range(circles))
    (place, *_) = fields(read(alert(f"<area><areaDesc>c</areaDesc>{text}</area>")).changes, "locations")
    assert [len(polygon[0]) for polygon in place["geometry"]["coordinates"]] == [corners + 1] * circles


def test_401_circles_become_the_box_around_them() -> None:
    text = "".join(f"<circle>50,{n / 10:.1f} 2</circle>" for n in range(401))
    incident = read(alert(f"<area><areaDesc>c</areaDesc>{text}</area>"))
    (place, *_) = fields(incident.changes, "locations")
    ((west, south), _, (east, north), *_) = place["geometry"]["coordinates"][0]
    assert west < 0.0 < 40.0 < east
    assert south < 50.0 < north


# --- laws -----------------------------------------------------------------------------------------------------------

LATITUDES = st.floats(-90, 90).map(lambda number: f"{number:.5f}")
LONGITUDES = st.floats(-180, 180).map(lambda number: f"{number:.5f}")
PAIRS = st.tuples(LATITUDES, LONGITUDES).map(",".join)
POLYGONS = st.lists(PAIRS, min_size=3, max_size=8).map(
    lambda pairs: f"<polygon>{' '.join([*pairs, pairs[0]])}</polygon>"
)
CIRCLES = st.tuples(PAIRS, st.floats(0, 20_000)).map(lambda pair: f"<circle>{pair[0]} {pair[1]:.3f}</circle>")
TEXTS = st.text(st.characters(exclude_categories=["Cc", "Cs"], exclude_characters="<&\ufffe\uffff"), max_size=40)


@settings(max_examples=150, deadline=None)
@given(st.lists(POLYGONS, max_size=3), st.lists(CIRCLES, max_size=3), TEXTS, TEXTS)
def test_every_value_of_every_alert_has_the_type_of_its_field(
    polygons: list[str], circles: list[str], text: str, other: str
) -> None:
    code = f"<eventCode><valueName>{text}</valueName><value>{other}</value></eventCode>"
    area = f"<area><areaDesc>{other}</areaDesc>{''.join(polygons)}{''.join(circles)}</area>"
    try:
        incident = read(alert(f"{code}<headline>{text}</headline>{area}"))
    except UntrustedInputError as refusal:
        pytest.fail(str(refusal))
    for change in incident.changes:
        if change.field:
            known = known_field(change.collection, change.field)
            assert known is not None
            assert known.is_set == (change.kind.value == "add")
            check_local(change.collection, change.field, change.value)
        if change.field in ("area", "geometry"):
            geometry_to_mesh(change.value)
