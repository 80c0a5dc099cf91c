"""Geometry in two forms: GeoJSON in degrees for people and programs, integers for what is signed.

The **API form** is a GeoJSON geometry object (RFC 7946, WGS 84: longitude, latitude, and altitude in metres if given).
The **mesh form** holds no floating-point numbers, so every machine signs and hashes the same bytes:

    [code, dimensions, part, ...]      dimensions is 2 or 3, the same for every position of one geometry

| code | type | parts |
|---|---|---|
| 1 Point, 2 MultiPoint, 3 LineString | one list of positions | |
| 4 MultiLineString, 5 Polygon | lists of positions (lines, rings) | |
| 6 MultiPolygon | polygons, each an array of rings | |
| 7 GeometryCollection | geometries in mesh form; dimensions is 0 | |

A list of positions is flat: longitude, latitude(, altitude), longitude, ... in units of 1e-7 degree (11 mm at the
equator) and 1 mm. Conversion loses nothing above these units, and a converted value converts back to itself.

Rings close and have four positions or more. What RFC 7946 asks writers for but tells readers to tolerate (winding
order, no self-intersection, cuts at the antimeridian) is not checked. ``bbox`` can be computed and is not kept; other
members, such as an obsolete ``crs``, would be lost and are refused.
"""

from __future__ import annotations

from typing import Any

from meshnode.errors import RefusedError

POSITIONS_MAX = 2_000
"""In one geometry, collections included: 30 KiB at most with altitude, which leaves room in an entry. The number of
lines, rings, polygons and members needs no limit of its own: each has a position or more."""
ALTITUDE_MAX_MM = 100_000_000
"""100 km either way: where airspace ends."""

_DEGREE = 10_000_000
_METRE = 1_000
_LONGITUDE_MAX, _LATITUDE_MAX = 180 * _DEGREE, 90 * _DEGREE

_CODES = {
    "Point": 1,
    "MultiPoint": 2,
    "LineString": 3,
    "MultiLineString": 4,
    "Polygon": 5,
    "MultiPolygon": 6,
    "GeometryCollection": 7,
}
_TYPES = {code: name for name, code in _CODES.items()}
_POSITIONS_MIN = {1: 1, 2: 1, 3: 2, 4: 2, 5: 4, 6: 4}
_NESTING = {1: 0, 2: 0, 3: 0, 4: 1, 5: 1, 6: 2}
"""Levels of arrays between a geometry and its lists of positions, in the mesh form."""


class _BadGeometry(Exception):
    """Carries the reason to the door that turns it into a refusal or a "no"."""


def geometry_to_mesh(value: Any) -> list[Any]:
    """The mesh form of a GeoJSON geometry. Raises RefusedError ``bad-geometry`` with the reason."""
    try:
        mesh = _to_mesh(value, inside=False)
        _check_mesh(mesh)
    except _BadGeometry as error:
        raise RefusedError(
            "bad-geometry", str(error), "send a GeoJSON geometry (RFC 7946): longitude first, WGS 84 degrees"
        ) from None
    return mesh


def is_mesh_geometry(value: Any) -> bool:
    """Whether this is a geometry in mesh form that obeys every rule above."""
    try:
        _check_mesh(value)
    except _BadGeometry:
        return False
    return True


def geometry_from_mesh(mesh: list[Any]) -> dict[str, Any]:
    """The GeoJSON geometry of a mesh form for which :func:`is_mesh_geometry` holds."""
    code, dimensions, *parts = mesh
    if code == 7:
        return {"type": _TYPES[code], "geometries": [geometry_from_mesh(part) for part in parts]}
    if code == 1:
        coordinates: Any = _positions_from(parts[0], dimensions)[0]
    elif _NESTING[code] == 0:
        coordinates = _positions_from(parts[0], dimensions)
    elif _NESTING[code] == 1:
        coordinates = [_positions_from(part, dimensions) for part in parts]
    else:
        coordinates = [[_positions_from(ring, dimensions) for ring in polygon] for polygon in parts]
    return {"type": _TYPES[code], "coordinates": coordinates}


# --- from GeoJSON: only the shape is judged here, the rules are those of the mesh form -----------------------------


def _to_mesh(value: Any, *, inside: bool) -> list[Any]:
    if not isinstance(value, dict):
        raise _BadGeometry("a geometry is an object with a type and coordinates")
    kind = value.get("type")
    code = _CODES.get(kind) if isinstance(kind, str) else None
    if code is None:
        raise _BadGeometry(f"the type is one of {', '.join(_CODES)}")
    content = "geometries" if code == 7 else "coordinates"
    if content not in value:
        raise _BadGeometry(f"a {kind} has {content}")
    others = sorted(str(key) for key in value if key not in ("type", content, "bbox"))
    if others:
        raise _BadGeometry(f"a geometry has no member {others[0]!r}")
    items = _list(value[content], content)
    if code == 7:
        if inside:
            raise _BadGeometry("a GeometryCollection does not hold another one")
        return [code, 0, *(_to_mesh(item, inside=True) for item in items)]
    seen_dimensions: set[int] = set()
    parts: list[Any]
    if code == 1:
        parts = [_positions_to([items], seen_dimensions)]
    elif _NESTING[code] == 0:
        parts = [_positions_to(items, seen_dimensions)]
    elif _NESTING[code] == 1:
        parts = [_positions_to(_list(item, "a line or ring"), seen_dimensions) for item in items]
    else:
        parts = [
            [_positions_to(_list(ring, "a ring"), seen_dimensions) for ring in _list(polygon, "a polygon")]
            for polygon in items
        ]
    if len(seen_dimensions) > 1:
        raise _BadGeometry("either every position has an altitude or none has")
    return [code, seen_dimensions.pop() if seen_dimensions else 2, *parts]


def _positions_to(positions: list[Any], seen_dimensions: set[int]) -> list[int]:
    if len(positions) > POSITIONS_MAX:
        raise _BadGeometry(f"a geometry has at most {POSITIONS_MAX} positions")
    flat: list[int] = []
    for position in positions:
        numbers = _list(position, "a position")
        if len(numbers) not in (2, 3):
            raise _BadGeometry("a position has a longitude, a latitude and at most an altitude")
        seen_dimensions.add(len(numbers))
        flat += [_scaled(number, _METRE if at == 2 else _DEGREE) for at, number in enumerate(numbers)]
    return flat


def _scaled(number: Any, scale: int) -> int:
    # The bound comes before the conversion: it stops NaN, infinities and integers that no float can hold.
    if isinstance(number, bool) or not isinstance(number, (int, float)) or not -1e9 < number < 1e9:
        raise _BadGeometry("coordinates are finite numbers of degrees and metres")
    return round(number * scale)


def _list(value: Any, what: str) -> list[Any]:
    if not isinstance(value, list):
        raise _BadGeometry(f"{what} must be an array")
    return value


# --- the rules, on the mesh form -----------------------------------------------------------------------------------


def _check_mesh(mesh: Any) -> None:
    positions = _check_geometry(mesh, inside=False)
    if positions > POSITIONS_MAX:
        raise _BadGeometry(f"a geometry has at most {POSITIONS_MAX} positions")


def _check_geometry(mesh: Any, *, inside: bool) -> int:
    """The number of positions of a geometry that obeys the rules."""
    if not isinstance(mesh, list) or len(mesh) < 2:
        raise _BadGeometry("the mesh form is [code, dimensions, parts]")
    code, dimensions, *parts = mesh
    if not parts:
        raise _BadGeometry("a geometry is not empty")
    if type(code) is not int or code not in _TYPES or (inside and code == 7):
        raise _BadGeometry("the code names a type")
    if type(dimensions) is not int or dimensions not in ((0,) if code == 7 else (2, 3)):
        raise _BadGeometry("positions have 2 or 3 numbers")
    if code == 7:
        return sum(_check_geometry(part, inside=True) for part in parts)
    if _NESTING[code] == 0 and len(parts) != 1:
        raise _BadGeometry("this type has one list of positions")
    if _NESTING[code] == 2:
        return sum(_check_line(ring, code, dimensions) for polygon in parts for ring in _rings(polygon))
    return sum(_check_line(part, code, dimensions) for part in parts)


def _rings(polygon: Any) -> list[Any]:
    if not isinstance(polygon, list) or not polygon:
        raise _BadGeometry("a polygon has one ring or more")
    return polygon


def _check_line(flat: Any, code: int, dimensions: int) -> int:
    if not isinstance(flat, list) or len(flat) % dimensions:
        raise _BadGeometry("a list of positions is flat and whole")
    count = len(flat) // dimensions
    if count < _POSITIONS_MIN[code] or (code == 1 and count != 1):
        raise _BadGeometry(f"a {_TYPES[code]} needs {_POSITIONS_MIN[code]} positions in each line or ring")
    if any(type(number) is not int for number in flat):
        raise _BadGeometry("the mesh form has integers only")
    if any(abs(number) > _LONGITUDE_MAX for number in flat[::dimensions]):
        raise _BadGeometry("a longitude is between -180 and 180 degrees")
    if any(abs(number) > _LATITUDE_MAX for number in flat[1::dimensions]):
        raise _BadGeometry("a latitude is between -90 and 90 degrees")
    if dimensions == 3 and any(abs(number) > ALTITUDE_MAX_MM for number in flat[2::3]):
        raise _BadGeometry("an altitude is within 100 km")
    if code in (5, 6) and flat[:dimensions] != flat[-dimensions:]:
        raise _BadGeometry("a ring ends where it begins")
    return count


def _positions_from(flat: list[int], dimensions: int) -> list[list[float]]:
    scales = (_DEGREE, _DEGREE, _METRE)
    return [[flat[start + at] / scales[at] for at in range(dimensions)] for start in range(0, len(flat), dimensions)]
