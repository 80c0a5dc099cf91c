"""Europe for the topology ``europe``: where the NOCs are, and what distance costs.

Latency one way is the great-circle distance at two thirds of the speed of light (200 km in a millisecond), times 1.6
for routes that are never straight, plus a millisecond for equipment. Brussels to Helsinki: 14 ms; real networks show
13 to 18.
"""

from __future__ import annotations

import math

CITIES: dict[str, tuple[float, float]] = {
    "Vienna": (48.21, 16.37),
    "Brussels": (50.85, 4.35),
    "Sofia": (42.70, 23.32),
    "Nicosia": (35.17, 33.36),
    "Prague": (50.08, 14.44),
    "Berlin": (52.52, 13.40),
    "Copenhagen": (55.68, 12.57),
    "Tallinn": (59.44, 24.75),
    "Madrid": (40.42, -3.70),
    "Helsinki": (60.17, 24.94),
    "Paris": (48.86, 2.35),
    "Athens": (37.98, 23.73),
    "Zagreb": (45.81, 15.98),
    "Budapest": (47.50, 19.04),
    "Dublin": (53.35, -6.26),
    "Rome": (41.90, 12.50),
    "Vilnius": (54.69, 25.28),
    "Luxembourg": (49.61, 6.13),
    "Riga": (56.95, 24.11),
    "Valletta": (35.90, 14.51),
    "Amsterdam": (52.37, 4.90),
    "Warsaw": (52.23, 21.01),
    "Lisbon": (38.72, -9.14),
    "Bucharest": (44.43, 26.10),
    "Stockholm": (59.33, 18.07),
    "Ljubljana": (46.06, 14.51),
    "Bratislava": (48.15, 17.11),
    "Strasbourg": (48.57, 7.75),
}
"""Latitude and longitude in degrees: the capitals of the 27, and Strasbourg; eu-LISA is at Tallinn and Strasbourg."""

CAPITALS: dict[str, str] = {
    "AT": "Vienna",
    "BE": "Brussels",
    "BG": "Sofia",
    "CY": "Nicosia",
    "CZ": "Prague",
    "DE": "Berlin",
    "DK": "Copenhagen",
    "EE": "Tallinn",
    "EL": "Athens",
    "ES": "Madrid",
    "FI": "Helsinki",
    "FR": "Paris",
    "GR": "Athens",
    "HR": "Zagreb",
    "HU": "Budapest",
    "IE": "Dublin",
    "IT": "Rome",
    "LT": "Vilnius",
    "LU": "Luxembourg",
    "LV": "Riga",
    "MT": "Valletta",
    "NL": "Amsterdam",
    "PL": "Warsaw",
    "PT": "Lisbon",
    "RO": "Bucharest",
    "SE": "Stockholm",
    "SI": "Ljubljana",
    "SK": "Bratislava",
}
"""By two letters; Greece by those of ISO and those that the Union uses."""

EARTH_RADIUS_KM = 6_371.0
KM_PER_MS = 200.0
DETOUR = 1.6
EQUIPMENT_MS = 1.0


def place_of(noc: str, place: str) -> str | None:
    """The city of a node, or None when neither its place nor its NOC's country is known."""
    city = place or CAPITALS.get(noc[:2], "")
    return city if city in CITIES else None


def latency_ms(a: str, b: str) -> float:
    """One way between two cities."""
    (lat_a, lon_a), (lat_b, lon_b) = (tuple(map(math.radians, CITIES[city])) for city in (a, b))
    half = math.sin((lat_b - lat_a) / 2) ** 2 + math.cos(lat_a) * math.cos(lat_b) * math.sin((lon_b - lon_a) / 2) ** 2
    return EQUIPMENT_MS + DETOUR * 2 * EARTH_RADIUS_KM * math.asin(math.sqrt(half)) / KM_PER_MS
