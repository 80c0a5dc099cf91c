"""Shapes on the Earth as CAP writes them, turned into GeoJSON (RFC 7946): degrees, longitude first, WGS 84.

Three things differ between the two worlds, and each is settled so that **no place that was warned is left out**:

* CAP has circles, GeoJSON has none. A circle becomes a polygon of 64 corners *around* it (not inside it), at most
  0.13 % wider; of 16, 8 or 4 corners where there are so many circles that one geometry could not hold them otherwise
  (2 %, 8 % and 42 % wider). Circles that hold a pole or are wider than 5,000 km become a band of latitudes around the
  whole Earth. Edges are straight on a map, not on the globe: beyond 500 km they no longer touch the circle exactly.
* CAP polygons may cross the 180th meridian; RFC 7946 (section 3.1.9) wants them cut there. An edge that spans more
  than 180 degrees of longitude is taken to go the short way round.
* CAP says nothing about direction; RFC 7946 (section 3.1.6) wants outer rings counter-clockwise.

Pure functions; the only floats of the import live here.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple

EARTH_RADIUS_KM = 6371.0088
"""Mean radius of the WGS 84 ellipsoid. Its flattening moves a 50 km circle's edge by less than 0.3 %, as wide as the
corners stand out."""
CIRCLE_CORNERS = (64, 16, 8, 4)
"""Finest first: 30, 117, 222 or 400 circles fit one geometry of 2,000 points."""
CIRCLE_RADIUS_KM_MAX = 5_000.0
"""Beyond this a polygon drawn with straight edges on a map no longer resembles the circle."""
_DECIMALS = 7
"""1 cm: finer than any warning, and what the incident stores."""
_TURN = 360.0


class Position(NamedTuple):
    lat: float
    lon: float


class Circle(NamedTuple):
    center: Position
    radius_km: float


Ring = tuple[tuple[float, float], ...]
"""Closed, counter-clockwise (lon, lat) corners."""


class Rings(NamedTuple):
    """The outer rings of one shape, and in words what was changed to draw it."""

    rings: tuple[Ring, ...]
    remark: str = ""


def polygon_rings(corners: Sequence[Position]) -> Rings:
    """The ring of a closed CAP polygon, cut where it crosses the 180th meridian."""
    unwrapped = [(corners[0].lon, corners[0].lat)]
    for corner in corners[1:]:
        step = corner.lon - unwrapped[-1][0] % _TURN
        step = (step + 180.0) % _TURN - 180.0
        unwrapped.append((unwrapped[-1][0] + step, corner.lat))
    as_given = [(corner.lon, corner.lat) for corner in corners]
    longest = max(abs(a.lon - b.lon) for a, b in itertools.pairwise(corners))
    if not 180.0 < longest < _TURN:
        return Rings(_closed([as_given]))
    west, east = min(lon for lon, _ in unwrapped), max(lon for lon, _ in unwrapped)
    if abs(unwrapped[0][0] - unwrapped[-1][0]) > 1.0 or east - west >= _TURN:
        return Rings(_closed([as_given]), "winds around a pole or the Earth and was kept as it was drawn")
    return Rings(_cut(unwrapped), "crosses the 180th meridian and was cut there")


def circle_rings(circle: Circle, corners: int) -> Rings:
    """A polygon around the circle. The radius must be above zero; a zero radius is a point, see :func:`geojson`."""
    lat, lon = math.radians(circle.center.lat), circle.center.lon
    reach = circle.radius_km / EARTH_RADIUS_KM
    if circle.radius_km <= CIRCLE_RADIUS_KM_MAX:
        # The corners of a polygon whose edges touch the circle: a right spherical triangle gives their distance.
        reach = math.atan(math.tan(reach) / math.cos(math.pi / corners))
    south, north = math.degrees(lat - reach), math.degrees(lat + reach)
    if circle.radius_km > CIRCLE_RADIUS_KM_MAX or south <= -90.0 or north >= 90.0:
        box = _box(-180.0, max(south, -90.0), 180.0, min(north, 90.0))
        return Rings((box,), "holds a pole or is very wide and was drawn as a band of latitudes")
    ring = []
    for corner in range(corners):
        bearing = math.tau * corner / corners
        corner_lat = math.asin(math.sin(lat) * math.cos(reach) + math.cos(lat) * math.sin(reach) * math.cos(bearing))
        turned = math.atan2(
            math.sin(bearing) * math.sin(reach) * math.cos(lat),
            math.cos(reach) - math.sin(lat) * math.sin(corner_lat),
        )
        ring.append((lon + math.degrees(turned), math.degrees(corner_lat)))
    ring.append(ring[0])
    cut = min(corner[0] for corner in ring) < -180.0 or max(corner[0] for corner in ring) > 180.0
    return Rings(_cut(ring), "crosses the 180th meridian and was cut there" if cut else "")


def geojson(rings: Iterable[Ring], points: Iterable[Position]) -> dict[str, Any] | None:
    """One geometry for all of it, the simplest type that holds it; None for nothing.

    Shapes that occur twice (the same area described in two languages) are drawn once.
    """
    polygons = [[[list(corner) for corner in ring]] for ring in dict.fromkeys(rings)]
    places = [[_rounded(point.lon), _rounded(point.lat)] for point in dict.fromkeys(points)]
    shapes = [_one_or_many("Polygon", polygons)] if polygons else []
    shapes += [_one_or_many("Point", places)] if places else []
    if len(shapes) == 2:
        return {"type": "GeometryCollection", "geometries": shapes}
    return shapes[0] if shapes else None


def _one_or_many(kind: str, coordinates: list[Any]) -> dict[str, Any]:
    if len(coordinates) == 1:
        return {"type": kind, "coordinates": coordinates[0]}
    return {"type": f"Multi{kind}", "coordinates": coordinates}


def bounding_box(rings: Iterable[Ring], points: Iterable[Position]) -> dict[str, Any]:
    """The smallest box of longitudes and latitudes around all of it, as a Polygon."""
    corners = [corner for ring in rings for corner in ring] + [(point.lon, point.lat) for point in points]
    lons, lats = [lon for lon, _ in corners], [lat for _, lat in corners]
    ring = _box(min(lons), min(lats), max(lons), max(lats))
    return {"type": "Polygon", "coordinates": [[list(corner) for corner in ring]]}


def _box(west: float, south: float, east: float, north: float) -> Ring:
    corners = [(west, south), (east, south), (east, north), (west, north), (west, south)]
    return tuple((_rounded(lon), _rounded(lat)) for lon, lat in corners)


def _cut(ring: list[tuple[float, float]]) -> tuple[Ring, ...]:
    """The parts of an unwrapped ring, each moved into -180..180. The ring spans less than one turn: two parts."""
    first = math.floor((min(lon for lon, _ in ring) + 180.0) / _TURN)
    last = math.floor((max(lon for lon, _ in ring) + 180.0) / _TURN)
    parts = []
    for turn in range(first, last + 1):
        west, east = turn * _TURN - 180.0, turn * _TURN + 180.0
        part = _clip(_clip(ring, west, keep_east=True), east, keep_east=False)
        parts.append([(lon - turn * _TURN, lat) for lon, lat in part])
    # A part without area is where the ring only touches the meridian, unless the whole shape was drawn flat.
    return _closed([part for part in parts if abs(_doubled_area(part)) > 1e-12] or [part for part in parts if part])


def _clip(ring: list[tuple[float, float]], meridian: float, *, keep_east: bool) -> list[tuple[float, float]]:
    """Sutherland-Hodgman against one meridian."""
    kept: list[tuple[float, float]] = []
    for (lon_a, lat_a), (lon_b, lat_b) in zip(ring, [*ring[1:], ring[0]] if ring else [], strict=True):
        a_in = lon_a >= meridian if keep_east else lon_a <= meridian
        b_in = lon_b >= meridian if keep_east else lon_b <= meridian
        if a_in:
            kept.append((lon_a, lat_a))
        if a_in != b_in:
            kept.append((meridian, lat_a + (lat_b - lat_a) * (meridian - lon_a) / (lon_b - lon_a)))
    return kept


def _closed(rings: list[list[tuple[float, float]]]) -> tuple[Ring, ...]:
    """Rounded to a centimetre, without repeated corners, closed and counter-clockwise."""
    finished = []
    for ring in rings:
        corners = [(_rounded(lon), _rounded(lat)) for lon, lat in ring]
        distinct = [corner for index, corner in enumerate(corners) if index == 0 or corner != corners[index - 1]]
        if len(distinct) > 1 and distinct[0] == distinct[-1]:
            distinct.pop()
        if _doubled_area(distinct) < 0:
            distinct = [distinct[0], *reversed(distinct[1:])]
        while len(distinct) < 3:  # a polygon drawn flat, as some senders mark a point or a road: RFC 7946 wants 4
            distinct.append(distinct[-1])
        finished.append((*distinct, distinct[0]))
    return tuple(finished)


def _doubled_area(ring: list[tuple[float, float]]) -> float:
    """Twice the signed area in square degrees: positive when the ring runs counter-clockwise."""
    return sum(a[0] * b[1] - b[0] * a[1] for a, b in zip(ring, ring[1:] + ring[:1], strict=True))


def _rounded(degrees: float) -> float:
    return round(degrees, _DECIMALS) + 0.0  # adding zero turns -0.0 into 0.0
