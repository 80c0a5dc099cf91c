"""Circles, the 180th meridian and the poles: no place that was warned is left out."""

from __future__ import annotations

import itertools
import math

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from meshnode.interchange.cap_shapes import (
    CIRCLE_CORNERS,
    EARTH_RADIUS_KM,
    Circle,
    Position,
    Ring,
    bounding_box,
    circle_rings,
    geojson,
    polygon_rings,
)


def distance_km(a: Position, b: Position) -> float:
    """Haversine."""
    lat_a, lat_b = math.radians(a.lat), math.radians(b.lat)
    h = (
        math.sin((lat_b - lat_a) / 2) ** 2
        + math.cos(lat_a) * math.cos(lat_b) * math.sin(math.radians(b.lon - a.lon) / 2) ** 2
    )
    return 2 * EARTH_RADIUS_KM * math.asin(math.sqrt(min(1.0, h)))


def inside(place: Position, ring: Ring) -> bool:
    """Ray casting on the map."""
    hits = 0
    for (lon_a, lat_a), (lon_b, lat_b) in itertools.pairwise(ring):
        if (lat_a > place.lat) != (lat_b > place.lat):
            hits += place.lon < lon_a + (place.lat - lat_a) * (lon_b - lon_a) / (lat_b - lat_a)
    return hits % 2 == 1


def destination(center: Position, bearing: float, reach_km: float) -> Position:
    lat, turn = math.radians(center.lat), reach_km / EARTH_RADIUS_KM
    there = math.asin(math.sin(lat) * math.cos(turn) + math.cos(lat) * math.sin(turn) * math.cos(bearing))
    lon = math.atan2(
        math.sin(bearing) * math.sin(turn) * math.cos(lat), math.cos(turn) - math.sin(lat) * math.sin(there)
    )
    return Position(math.degrees(there), (center.lon + math.degrees(lon) + 180.0) % 360.0 - 180.0)


def counter_clockwise(ring: Ring) -> bool:
    return sum(a[0] * b[1] - b[0] * a[1] for a, b in itertools.pairwise(ring)) >= 0


@settings(max_examples=200, deadline=None)
@given(
    st.floats(-80, 80),
    st.floats(-180, 180),
    st.floats(0.01, 500),
    st.floats(0, math.tau),
    st.floats(0, 0.999),
    st.sampled_from(CIRCLE_CORNERS),
)
def test_every_place_inside_a_circle_is_inside_its_polygon(
    lat: float, lon: float, radius_km: float, bearing: float, share: float, corners: int
) -> None:
    center = Position(lat, lon)
    rings = circle_rings(Circle(center, radius_km), corners).rings
    place = destination(center, bearing, radius_km * share)
    assert any(inside(place, ring) for ring in rings)
    for ring in rings:
        assert ring[0] == ring[-1]
        assert counter_clockwise(ring)
        assert all(-180 <= lon <= 180 and -90 <= lat <= 90 for lon, lat in ring)


@pytest.mark.parametrize(("corners", "wider"), [(64, 1.0013), (16, 1.020), (8, 1.083), (4, 1.415)])
def test_no_corner_stands_out_further_than_stated(corners: int, wider: float) -> None:
    center = Position(51.0942, 5.7718)
    ((ring,), remark) = circle_rings(Circle(center, 12.0), corners)
    assert len(ring) == corners + 1
    assert remark == ""
    assert all(12.0 < distance_km(center, Position(lat, lon)) < 12.0 * wider for lon, lat in ring)


def test_a_circle_over_the_180th_meridian_is_cut_there() -> None:
    rings, remark = circle_rings(Circle(Position(-16.0, 179.9), 50.0), 64)
    assert len(rings) == 2
    assert "180th" in remark
    assert any(inside(Position(-16.0, 179.95), ring) for ring in rings)
    assert any(inside(Position(-16.0, -179.95), ring) for ring in rings)


@pytest.mark.parametrize("circle", [Circle(Position(89.5, 10.0), 100.0), Circle(Position(0.0, 0.0), 6_000.0)])
def test_a_circle_around_a_pole_or_a_very_wide_one_becomes_a_band(circle: Circle) -> None:
    ((ring,), remark) = circle_rings(circle, 64)
    assert "band of latitudes" in remark
    assert inside(Position(min(89.9, circle.center.lat + 0.4), -170.0), ring)


def test_a_polygon_keeps_its_corners_and_turns_counter_clockwise() -> None:
    corners = [Position(51, 4), Position(52, 4), Position(52, 5), Position(51, 4)]
    assert polygon_rings(corners).rings == (((4, 51), (5, 52), (4, 52), (4, 51)),)
    assert polygon_rings(corners[::-1]).rings == (((4, 51), (5, 52), (4, 52), (4, 51)),)


def test_a_polygon_over_the_180th_meridian_is_cut_and_covers_both_sides_only() -> None:
    corners = [Position(-17, 179), Position(-17, -179), Position(-15, -179), Position(-15, 179), Position(-17, 179)]
    rings, remark = polygon_rings(corners)
    assert "180th" in remark
    assert sorted(rings) == [
        ((-180, -17), (-179, -17), (-179, -15), (-180, -15), (-180, -17)),
        ((179, -17), (180, -17), (180, -15), (179, -15), (179, -17)),
    ]


def test_the_box_of_the_whole_earth_stays_whole() -> None:
    corners = [Position(-90, -180), Position(-90, 180), Position(90, 180), Position(90, -180), Position(-90, -180)]
    assert polygon_rings(corners).rings == (((-180, -90), (180, -90), (180, 90), (-180, 90), (-180, -90)),)


def test_a_polygon_around_a_pole_is_kept_as_drawn_and_said_so() -> None:
    corners = [Position(80, -120), Position(80, 0), Position(80, 120), Position(80, -120)]
    rings, remark = polygon_rings(corners)
    assert len(rings) == 1
    assert "winds around" in remark


def test_a_polygon_drawn_flat_still_has_four_positions() -> None:
    corners = [Position(51, 4)] * 4
    assert polygon_rings(corners).rings == (((4, 51),) * 4,)


@settings(max_examples=200, deadline=None)
@given(st.lists(st.tuples(st.floats(-90, 90), st.floats(-180, 180)), min_size=3, max_size=12))
def test_any_polygon_gives_closed_rings_on_the_earth(pairs: list[tuple[float, float]]) -> None:
    corners = [Position(*pair) for pair in [*pairs, pairs[0]]]
    rings = polygon_rings(corners).rings
    assert rings
    for ring in rings:
        assert len(ring) >= 4
        assert ring[0] == ring[-1]
        assert all(-180 <= lon <= 180 and -90 <= lat <= 90 for lon, lat in ring)


def test_geometry_takes_the_simplest_type_and_draws_twice_drawn_shapes_once() -> None:
    ring: Ring = ((4.0, 51.0), (5.0, 51.0), (5.0, 52.0), (4.0, 51.0))
    other: Ring = ((6.0, 51.0), (7.0, 51.0), (7.0, 52.0), (6.0, 51.0))
    here, there = Position(1.0, 2.0), Position(3.0, 4.0)
    shapes = {
        "nothing": geojson([], []),
        "point": geojson([], [here, here]),
        "points": geojson([], [here, there]),
        "polygon": geojson([ring, ring], []),
        "polygons": geojson([ring, other], []),
        "both": geojson([ring], [here]),
    }
    assert {name: shape and shape["type"] for name, shape in shapes.items()} == {
        "nothing": None,
        "point": "Point",
        "points": "MultiPoint",
        "polygon": "Polygon",
        "polygons": "MultiPolygon",
        "both": "GeometryCollection",
    }
    assert shapes["point"] == {"type": "Point", "coordinates": [2.0, 1.0]}
    assert bounding_box([ring], [there])["coordinates"][0][:3] == [[4.0, 3.0], [5.0, 3.0], [5.0, 52.0]]
