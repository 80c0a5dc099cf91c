"""GeoJSON goes into integers and comes back the same; what RFC 7946 forbids is refused in both forms."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from meshnode.core import codec
from meshnode.core.geometry import POSITIONS_MAX, geometry_from_mesh, geometry_to_mesh, is_mesh_geometry
from meshnode.core.operations import VALUE_BYTES_MAX, why_bad_value
from meshnode.errors import RefusedError

RING = [[4.35, 50.84], [4.36, 50.84], [4.36, 50.85], [4.35, 50.84]]

longitudes = st.integers(-1_800_000_000, 1_800_000_000).map(lambda number: number / 10_000_000)
latitudes = st.integers(-900_000_000, 900_000_000).map(lambda number: number / 10_000_000)
altitudes = st.integers(-500_000, 10_000_000).map(lambda number: number / 1_000)


@st.composite
def geometries(draw: st.DrawFn, inside: bool = False) -> dict[str, Any]:
    numbers = [longitudes, latitudes] + ([altitudes] if draw(st.booleans()) else [])
    position = st.tuples(*numbers).map(list)
    line = st.lists(position, min_size=2, max_size=4)
    ring = st.lists(position, min_size=3, max_size=5).map(lambda found: [*found, found[0]])
    coordinates = {
        "Point": position,
        "MultiPoint": st.lists(position, min_size=1, max_size=3),
        "LineString": line,
        "MultiLineString": st.lists(line, min_size=1, max_size=3),
        "Polygon": st.lists(ring, min_size=1, max_size=2),
        "MultiPolygon": st.lists(st.lists(ring, min_size=1, max_size=2), min_size=1, max_size=2),
    }
    kind = draw(st.sampled_from([*coordinates, *([] if inside else ["GeometryCollection"])]))
    if kind == "GeometryCollection":
        return {"type": kind, "geometries": draw(st.lists(geometries(inside=True), min_size=1, max_size=3))}
    return {"type": kind, "coordinates": draw(coordinates[kind])}


@given(geometries())
@settings(max_examples=100, deadline=None)
def test_a_geometry_of_seven_decimals_comes_back_the_same(geometry: dict[str, Any]) -> None:
    mesh = geometry_to_mesh(geometry)
    assert is_mesh_geometry(mesh)
    assert why_bad_value(mesh) == ""
    assert geometry_from_mesh(codec.decode_untrusted(codec.encode(mesh), VALUE_BYTES_MAX)) == geometry


@given(st.floats(-180, 180), st.floats(-90, 90))
@settings(max_examples=100, deadline=None)
def test_what_is_lost_is_under_the_seventh_decimal_and_is_lost_once(longitude: float, latitude: float) -> None:
    mesh = geometry_to_mesh({"type": "Point", "coordinates": [longitude, latitude]})
    shown = geometry_from_mesh(mesh)
    assert abs(shown["coordinates"][0] - longitude) <= 0.51e-7
    assert abs(shown["coordinates"][1] - latitude) <= 0.51e-7
    assert geometry_to_mesh(shown) == mesh


def polygon(ring: Any) -> dict[str, Any]:
    return {"type": "Polygon", "coordinates": [ring]}


def point(*numbers: Any) -> dict[str, Any]:
    return {"type": "Point", "coordinates": list(numbers)}


@pytest.mark.parametrize(
    ("geometry", "why"),
    [
        (None, "an object"),
        ({}, "the type is one of"),
        ({"type": "Circle", "coordinates": [1, 2]}, "the type is one of"),
        ({"type": ["Point"], "coordinates": [1, 2]}, "the type is one of"),
        ({"type": "Point"}, "has coordinates"),
        ({"type": "GeometryCollection", "coordinates": []}, "has geometries"),
        ({"type": "GeometryCollection", "geometries": []}, "not empty"),
        (
            {"type": "GeometryCollection", "geometries": [{"type": "GeometryCollection", "geometries": []}]},
            "does not hold another",
        ),
        ({**point(1, 2), "crs": {}}, "no member 'crs'"),
        ({"type": "Point", "coordinates": "4,50"}, "must be an array"),
        ({"type": "LineString", "coordinates": [4, 50]}, "must be an array"),
        ({"type": "MultiPolygon", "coordinates": [7]}, "must be an array"),
        ({"type": "MultiPolygon", "coordinates": [[]]}, "one ring or more"),
        ({"type": "Polygon", "coordinates": []}, "not empty"),
        ({"type": "MultiPoint", "coordinates": []}, "needs 1"),
        (point(), "a longitude, a latitude"),
        (point(1, 2, 3, 4), "a longitude, a latitude"),
        (point("4", 50), "finite numbers"),
        (point(True, 50), "finite numbers"),
        (point(float("nan"), 50), "finite numbers"),
        (point(float("inf"), 50), "finite numbers"),
        (point(10**400, 50), "finite numbers"),
        (point(180.1, 50), "longitude"),
        (point(4, -90.0001), "latitude"),
        (point(4, 50, 100_001), "altitude"),
        ({"type": "MultiPoint", "coordinates": [[4, 50], [4, 50, 0]]}, "either every position"),
        ({"type": "LineString", "coordinates": [[4, 50]]}, "needs 2"),
        (polygon(RING[:3]), "needs 4"),
        (polygon([*RING[:3], [4.0, 50.0]]), "ends where it begins"),
        ({"type": "MultiPoint", "coordinates": [[1, 2]] * (POSITIONS_MAX + 1)}, "at most 2000"),
        ({"type": "GeometryCollection", "geometries": [polygon(RING)] * 501}, "at most 2000"),
    ],
)
def test_what_is_no_geometry_is_refused_with_the_reason(geometry: Any, why: str) -> None:
    with pytest.raises(RefusedError) as refusal:
        geometry_to_mesh(geometry)
    assert refusal.value.code == "bad-geometry"
    assert why in refusal.value.reason


@pytest.mark.parametrize(
    "mesh",
    [
        None,
        [],
        [1],
        [1, 2],
        [8, 2, [1, 2]],
        [True, 2, [1, 2]],
        ["Point", 2, [1, 2]],
        [1, True, [1, 2]],
        [1, 4, [1, 2, 3, 4]],
        [1, 0, [1, 2]],
        [7, 2, [1, 2, [1, 2]]],
        [7, 0, [7, 0, [1, 2, [1, 2]]]],
        [1, 2, [1, 2, 3, 4]],
        [1, 2, [1, 2], [1, 2]],
        [1, 2, [1, 2, 3]],
        [1, 2, [1, True]],
        [1, 2, [1, 2.0]],
        [1, 2, [1_800_000_001, 2]],
        [6, 2, 7],
        [6, 2, []],
        [6, 2, [[1, 2, 3, 4, 5, 6, 0, 0]]],
        [2, 2, [0, 0] * (POSITIONS_MAX + 1)],
    ],
)
def test_what_another_member_calls_a_geometry_is_judged_by_the_same_rules(mesh: Any) -> None:
    assert not is_mesh_geometry(mesh)


@pytest.mark.parametrize(
    "geometry",
    [
        {"type": "MultiPoint", "coordinates": [[-179.9999999, -89.9999999, 99_999.999]] * POSITIONS_MAX},
        {"type": "MultiPolygon", "coordinates": [[[[-179.9, -89.9], [1.5, 2.5], [3.5, 4.5], [-179.9, -89.9]]]] * 500},
    ],
)
def test_the_largest_geometry_fits_a_value(geometry: dict[str, Any]) -> None:
    assert why_bad_value(geometry_to_mesh(geometry)) == ""


def test_a_bounding_box_is_taken_and_not_kept() -> None:
    assert geometry_to_mesh({**point(4, 50), "bbox": [4, 50, 4, 50]}) == [1, 2, [40_000_000, 500_000_000]]
