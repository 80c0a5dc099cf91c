"""The words of the story: who writes, what they write, and the alert that it begins with.

Kept in one place because the hub's disk and traffic are searched for every one of them.
"""

from __future__ import annotations

import re
from pathlib import Path

HUB = "EU"
MEMBERS = ("BE", "NL", "DE", "FR")
ALERT = Path(__file__).with_name("alert.cap")

OPERATORS = {
    "BE": "duty-officer-bluethroat",
    "NL": "meldkamer-kluut",
    "DE": "lagedienst-eisvogel",
    "FR": "permanence-martinet",
}

PLATE = "2-KZJ-417"
VAN = {
    "plate": PLATE,
    "plate_country": "BE",
    "type": "van",
    "colour": "white",
    "description": "White delivery van, torn blue pelican sticker on the left rear door",
}
DECONTAMINATION = {"title": "Set up decontamination at Waldfeucht schoolyard", "state": "open", "assigned_to": "DE"}
CBRN_TEAM = {"name": "Messzug Heinsberg", "type": "cbrn", "status": "en-route", "strength_persons": 14}
SUSPECT = {"role": "suspect", "description": "Limping driver, mustard-coloured raincoat", "status": "at-large"}
CHECKPOINT = {"name": "Roadblock Beaumont interchange", "type": "roadblock", "country": "FR"}

NL_LOG = "Siren network Roosteren activated, shelters opened in Echt-Susteren"
DE_LOG = "Wind turning westerly, Waldfeucht evacuates the kindergarten first"
WITHOUT_HUB_LOG = "Situation round without the hub, message {number}: perimeter unchanged"
BE_CUT_LOG = "Antwerp toxicology confirms phosgene traces besides chlorine"
FR_CUT_LOG = "Peloton Ardennes holds the Givet crossing, twelve gendarmes"
BURST_LOG = "Helicopter Libelle thermal sweep, cell {writer}-{number}: nothing found"
LATE_LOG = "Cylinder racks sealed at Zilverbeek, neutralisation begins"

CONFLICT_FIELD = "direction"
BE_DIRECTION = "northbound on E25 towards Roermond"
FR_DIRECTION = "southbound on A34 towards Charleville"


def texts() -> list[str]:
    """Everything that is written into the incident, as people would read it."""
    alert = re.sub(r"<[^>]*>", " ", ALERT.read_text(encoding="utf-8"))
    objects = [str(value) for made in (VAN, DECONTAMINATION, CBRN_TEAM, SUSPECT, CHECKPOINT) for value in made.values()]
    round_log, burst_log = WITHOUT_HUB_LOG.format(number=0), BURST_LOG.format(writer=0, number=0)
    logs = [NL_LOG, DE_LOG, round_log, BE_CUT_LOG, FR_CUT_LOG, burst_log, LATE_LOG]
    return [alert, *objects, *logs, BE_DIRECTION, FR_DIRECTION, *OPERATORS.values()]
