"""Reads a scenario: TOML in, checked records out, or one ScenarioError with the line, the reason and what to do."""

from __future__ import annotations

import dataclasses
import difflib
import re
import tomllib
from pathlib import Path
from typing import Any

from simulations.scenario import records
from simulations.scenario.lines import Lines
from simulations.scenario.records import Scenario
from simulations.scenario.sense import ScenarioError, check
from simulations.scenario.values import LINE, TEXT, WrongValueError, choices, number

FILE_BYTES_MAX = 1024 * 1024
"""A hundred faults take about 10 KB. More than this is not a scenario."""

TABLES: dict[str, tuple[str, type, bool]] = {
    "group": ("groups", records.Group, True),
    "topology": ("topology", records.Topology, False),
    "links": ("links", records.Links, False),
    "link": ("exceptions", records.LinkException, True),
    "node": ("node", records.NodeOptions, False),
    "incident": ("incidents", records.Incident, True),
    "share": ("shares", records.Share, True),
    "workload": ("workload", records.Workload, False),
    "fault": ("faults", records.Fault, True),
    "random": ("random", records.RandomFaults, True),
    "liar": ("liars", records.Liar, True),
    "checks": ("checks", records.Checks, False),
}
"""Name in the file -> (field of Scenario, record, is it a list of tables)."""

TOP = {
    "title": ("title", LINE),
    "story": ("story", TEXT),
    "duration_s": ("duration_s", number(1, records.DURATION_S_MAX)),
    "worlds": ("worlds", choices(*records.WORLDS)),
}


_NO_TEXT = {"\ufeff": "a byte order mark", "\0": "a NUL byte"}
_PLACE = re.compile(r" \(at line (\d+), column \d+\)")
"""How ``tomllib`` says where."""


def load(path: Path) -> Scenario:
    """The scenario in this file. Raises ScenarioError."""
    try:
        if path.exists() and not path.is_file():
            action = "give a file that holds a scenario"
            raise ScenarioError("scenario-unreadable", str(path), 0, "is no regular file", action)
        with path.open("rb") as file:
            data = file.read(FILE_BYTES_MAX + 1)
    except OSError as error:
        action = "python -m simulations list names the scenarios that are shipped"
        raise ScenarioError("scenario-unreadable", str(path), 0, error.strerror or "cannot be read", action) from None
    if len(data) > FILE_BYTES_MAX:
        reason = f"has more than {FILE_BYTES_MAX} bytes"
        raise ScenarioError("scenario-too-large", str(path), 0, reason, "is it the right file?")
    try:
        text = data.decode("utf-8")
    except UnicodeDecodeError as error:
        line, reason = data.count(b"\n", 0, error.start) + 1, f"byte 0x{data[error.start]:02x} is not UTF-8 text"
        raise ScenarioError("scenario-not-toml", str(path), line, reason, "save it as UTF-8") from None
    return parse(text, path.stem, str(path))


def parse(text: str, name: str, where: str = "scenario") -> Scenario:
    """The scenario in this text; ``where`` is what errors call it. Raises ScenarioError."""
    action = "mend the syntax (https://toml.io)"
    for character, name_of_it in _NO_TEXT.items():
        if character in text:
            line = text[: text.index(character)].count("\n") + 1
            raise ScenarioError(
                "scenario-not-toml", where, line, f"there is {name_of_it}", "save it as plain UTF-8 text"
            )
    try:
        document = tomllib.loads(text)
    except RecursionError:
        raise ScenarioError("scenario-not-toml", where, 0, "lists or tables are nested too deep", action) from None
    except ValueError as error:  # bad syntax, or a number of thousands of digits
        found = _PLACE.search(str(error))
        line, reason = (int(found[1]) if found else 0), _PLACE.sub("", str(error))
        raise ScenarioError("scenario-not-toml", where, line, reason, action) from None
    reader = _Reader(where, Lines(text))
    scenario = reader.scenario(document, name)
    check(scenario, where, reader.lines)
    return scenario


class _Reader:
    def __init__(self, where: str, lines: Lines) -> None:
        self._where = where
        self.lines = lines

    def scenario(self, document: dict[str, Any], name: str) -> Scenario:
        values: dict[str, Any] = {"name": name}
        for key, content in document.items():
            if key in TOP:
                field, kind = TOP[key]
                values[field] = self._value(kind, content, "", 0, key)
            elif key in TABLES:
                field, record, many = TABLES[key]
                values[field] = self._tables(key, record, content) if many else self._table(key, 0, record, content)
            else:
                raise self._unknown("", 0, key, [*TOP, *TABLES])
        for key in ("title", "story", "duration_s"):
            if not values.get(key):
                example = "duration_s = 600" if key == "duration_s" else f'{key} = "..."'
                raise self._error("scenario-missing-key", 1, f"{key} is missing", f"add at the top: {example}")
        if not values.get("groups"):
            action = 'add a table [[group]] with name = "nocs" and nocs = ["BE", "NL"]'
            raise self._error("scenario-missing-key", 1, "there are no nodes", action)
        return Scenario(**values)

    def _tables(self, table: str, record: type, content: Any) -> tuple[Any, ...]:
        if not isinstance(content, list):
            reason, action = f"{table} is not a list of tables", f"begin each with [[{table}]]"
            raise self._error("scenario-wrong-type", self.lines.of(table, 0, ""), reason, action)
        return tuple(self._table(table, at, record, item) for at, item in enumerate(content))

    def _table(self, table: str, at: int, record: type, content: Any) -> Any:
        if not isinstance(content, dict):
            reason, action = f"{table} is not a table", f"begin it with [{table}]"
            raise self._error("scenario-wrong-type", self.lines.of("", 0, table), reason, action)
        rows = rows_of(record)
        values: dict[str, Any] = {}
        for key, value in content.items():
            if key not in rows:
                raise self._unknown(table, at, key, list(rows))
            values[rows[key].name] = self._value(rows[key].metadata["kind"], value, table, at, key)
        for key, row in rows.items():
            if row.name not in values and row.default is dataclasses.MISSING:
                line = self.lines.of(table, at)
                action = f"add {key}: {row.metadata['meaning']}; {row.metadata['kind'].form}"
                raise self._error("scenario-missing-key", line, f"{_brackets(table)} has no {key}", action)
        if record in (records.Fault, records.RandomFaults, records.Liar):
            values["line"] = self.lines.of(table, at)
        if record in (records.Fault, records.RandomFaults):
            values["given"] = tuple(content)
        return record(**values)

    def _value(self, kind: Any, value: Any, table: str, at: int, key: str) -> Any:
        try:
            return kind.read(value)
        except WrongValueError as wrong:
            place = f"{table}.{key}" if table else key
            raise self._error(
                wrong.code, self.lines.of(table, at, key), f"{place}: {wrong.reason}", wrong.action
            ) from None

    def _unknown(self, table: str, at: int, key: str, known: list[str]) -> ScenarioError:
        line = self.lines.of(table, at, key)
        place = f"in {_brackets(table)}" if table else "at the top"
        other_unit = [word for word in known if _stem(word) == _stem(key)]
        if other_unit:
            reason = f"{key!r} {place}: it is measured in another unit"
            return self._error("scenario-wrong-unit", line, reason, f"write {other_unit[0]}")
        near = difflib.get_close_matches(key, known, n=1, cutoff=0.5)
        action = (f"did you mean {near[0]!r}? " if near else "") + f"known {place}: {', '.join(sorted(known))}"
        return self._error("scenario-unknown-key", line, f"there is no key {key!r} {place}", action)

    def _error(self, code: str, line: int, reason: str, action: str) -> ScenarioError:
        return ScenarioError(code, self._where, line, reason, action)


def _brackets(table: str) -> str:
    """A table as the file has it."""
    return f"[[{table}]]" if TABLES[table][2] else f"[{table}]"


def rows_of(record: type) -> dict[str, dataclasses.Field[Any]]:
    """Key in the file -> field of the record."""
    fields = dataclasses.fields(record)
    return {field.metadata["name"] or field.name: field for field in fields if "kind" in field.metadata}


_UNITS = ("_bytes_per_s", "_per_hour", "_per_s", "_percent", "_bytes", "_ms", "_min", "_h", "_s")


def _stem(key: str) -> str:
    for unit in _UNITS:
        if key.endswith(unit):
            return key.removesuffix(unit)
    return key
