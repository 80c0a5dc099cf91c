"""The dumb replica: what an incident must show, computed from what clients were told and shown, and from nothing else.

A value lives until an acknowledged write names it among what its client was shown (a set replaces, a remove removes).
An object is deleted while a delete was acknowledged and every living value of it was shown to one who deleted it.
There is no clock, no log, no graph here: so an error of theirs cannot hide in it.

Where a request was never answered, or the only disk that held a write was destroyed, nobody outside can say whether it
happened; registers and objects that such a request touched are left out, and only compared between members.
"""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass, field

from simulations.worlds.contract import Acknowledged, Touch


@dataclass(slots=True)
class Model:
    """One incident."""

    values: dict[Touch, dict[str, str]] = field(default_factory=lambda: defaultdict(dict))
    """Register or set -> dot -> text of those that live."""
    records: dict[str, str] = field(default_factory=dict)
    deleted: dict[Touch, bool] = field(default_factory=dict)
    sets: set[Touch] = field(default_factory=set)
    """Of ``values``, those that are sets: any number of elements agree."""

    def conflicts(self) -> int:
        """Registers with values that differ; of what is deleted nobody has to decide."""
        return sum(
            len(set(values.values())) > 1
            for touch, values in self.values.items()
            if touch not in self.sets and not self.deleted.get(touch._replace(field=""), False)
        )


def build(incident: str, acknowledged: list[Acknowledged]) -> Model:
    """``acknowledged``: every write that cannot have been lost, in any order."""
    rows = [row for row in acknowledged if row.touch.incident == incident]
    ended = {dot for row in rows if row.kind in ("set", "remove") for dot in row.seen}
    marked: dict[Touch, set[str]] = defaultdict(set)
    living: dict[Touch, set[str]] = defaultdict(set)
    model = Model()
    for row in rows:
        if row.kind == "log":
            model.records[row.dot] = row.text
        elif row.kind in ("set", "add"):
            if row.kind == "add":
                model.sets.add(row.touch)
            if row.dot not in ended:
                model.values[row.touch][row.dot] = row.text
                living[row.touch._replace(field="")].add(row.dot)
        elif row.kind == "create":
            model.deleted.setdefault(row.touch, False)
        elif row.kind == "delete":
            marked[row.touch].update(row.seen)
            model.deleted[row.touch] = True
    for thing, is_deleted in model.deleted.items():
        model.deleted[thing] = is_deleted and living[thing] <= marked[thing]
    return model
