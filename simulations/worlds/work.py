"""What local clients write. The same in every world: a write's number and what the client is shown decide it."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from random import Random
from typing import Any

from meshnode.core.events import Change, ChangeKind
from meshnode.core.ids import ROOT_OBJECT, Dot, LogId, ObjectId
from meshnode.core.views import FieldView, IncidentView, ObjectView, ValueView
from simulations.scenario.plan import Write
from simulations.worlds.contract import Touch

MARK = "qzpelicanx"
"""In every text that is written, and nowhere else: where it is seen, content is seen (I4)."""
MARK_BYTES = MARK.encode()
OPERATOR = f"officer {MARK}"
KIND = "man-hunt"

CROWDED = 3
"""Objects that clients work on at one time: conflicts are made where many meet."""
ROOT_REGISTERS = ("title", "summary", "agent")
ROOT_SET = "case_numbers"
COLLECTION = "persons"
OBJECT_REGISTERS = ("family_name", "description", "clothing")
OBJECT_SET = "aliases"
ROOT_HEX = ROOT_OBJECT.hex()


def canary(seed: int, number: int, length: int = 0) -> str:
    """The text of a write: marked, and like no other."""
    text = f"{MARK}-{seed}-{number}-"
    return text + "x" * (length - len(text))


@dataclass(frozen=True, slots=True)
class Asked:
    """A write as it is asked of a node."""

    change: Change
    kind: str
    """What it became: a ``remove`` with nothing to remove is an ``add``."""
    touch: Touch
    text: str
    seen: tuple[str, ...]
    """Dots of what the client was shown there: what it replaces, removes or deletes."""


def ask(write: Write, seed: int, incident: str, view: IncidentView) -> Asked:
    """The change that this write is, for a client that is shown ``view`` of the incident with this id."""
    rng = Random(f"{seed} {write.number}")
    text = canary(seed, write.number, write.text_bytes)
    # By id, and values by dot: the order in which things are shown may follow clocks, and what clients do must not.
    there = sorted((found for found in view.collections.get(COLLECTION, []) if not found.deleted), key=_id)
    objects = there[:CROWDED]
    chosen = rng.choice(objects) if objects and rng.random() < 0.6 else None
    fields: Mapping[str, FieldView] = view.fields if chosen is None else chosen.fields
    collection, obj = ("incident", ROOT_HEX) if chosen is None else (COLLECTION, chosen.id)
    obj_id = None if chosen is None else ObjectId(bytes.fromhex(obj))

    def touch(field: str) -> Touch:
        return Touch(incident, collection, obj, field)

    kind = write.kind
    if kind == "log":
        return Asked(Change(ChangeKind.LOG, value={"text": text}), "log", Touch(incident, "", "", ""), text, ())
    if kind == "create":
        new = hashlib.blake2b(f"{seed} {write.number}".encode(), digest_size=16).digest()
        change = Change(ChangeKind.CREATE, collection=COLLECTION, object=ObjectId(new))
        return Asked(change, "create", Touch(incident, COLLECTION, new.hex(), ""), "", ())
    if kind == "delete" and chosen is not None:
        dots = tuple(sorted(value.id for field in chosen.fields.values() for value in field.values))
        change = Change(ChangeKind.DELETE, collection=collection, object=obj_id)
        return Asked(change, "delete", touch(""), "", dots)
    if kind in ("add", "remove"):
        field = ROOT_SET if chosen is None else OBJECT_SET
        values = sorted(fields[field].values, key=_id) if field in fields else []
        if kind == "remove" and values:
            dot = rng.choice(values).id
            change = Change(ChangeKind.REMOVE, collection, obj_id, field, replaces=(parse_dot(dot),))
            return Asked(change, "remove", touch(field), "", (dot,))
        return Asked(Change(ChangeKind.ADD, collection, obj_id, field, text[:200]), "add", touch(field), text[:200], ())
    field = rng.choice(ROOT_REGISTERS if chosen is None else OBJECT_REGISTERS)
    text = text[:200]
    seen = tuple(sorted(value.id for value in fields[field].values)) if field in fields else ()
    # Named one by one, so that a value that comes between the look and the write is not replaced unseen.
    change = Change(ChangeKind.SET, collection, obj_id, field, text, replaces=tuple(map(parse_dot, seen)))
    return Asked(change, "set", touch(field), text, seen)


def _id(shown: ObjectView | ValueView) -> str:
    return shown.id


def opening(seed: int, number: int) -> Change:
    """What an incident is opened with."""
    return Change(ChangeKind.SET, field="title", value=canary(seed, number))


def parse_dot(text: str) -> Dot:
    """The dot that a node wrote as ``<log hex>.<seq>.<op>``."""
    log, seq, op = text.split(".")
    return Dot(LogId(bytes.fromhex(log)), int(seq), int(op))


def shown_values(incident: str, view: IncidentView) -> tuple[dict[Touch, dict[str, str]], dict[Touch, bool]]:
    """(registers and sets the workload writes -> dot -> value, objects -> is it deleted), as the checkers want them."""
    registers: dict[Touch, dict[str, str]] = {}
    deleted: dict[Touch, bool] = {}

    def take(collection: str, obj: str, fields: Mapping[str, FieldView], names: tuple[str, ...]) -> None:
        for name in names:
            if name in fields:
                values: dict[str, Any] = {value.id: str(value.value) for value in fields[name].values}
                registers[Touch(incident, collection, obj, name)] = values

    take("incident", ROOT_HEX, view.fields, (*ROOT_REGISTERS, ROOT_SET))
    for found in view.collections.get(COLLECTION, []):
        take(COLLECTION, found.id, found.fields, (*OBJECT_REGISTERS, OBJECT_SET))
        deleted[Touch(incident, COLLECTION, found.id, "")] = found.deleted
    return registers, deleted
