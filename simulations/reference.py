"""The words of a scenario file as Markdown, written from the tables that the reader goes by."""

from __future__ import annotations

import dataclasses
from typing import Any

from simulations.scenario.lies import LIES
from simulations.scenario.reader import TABLES, rows_of
from simulations.scenario.situations import FAMILIES, PLAIN
from simulations.scenario.values import Span, shown
from simulations.scenario.verbs import VERBS


def keys() -> str:
    """A list of keys for each table."""
    lines: list[str] = []
    for table, (_, record, many) in TABLES.items():
        lines += [
            f"### `{f'[[{table}]]' if many else f'[{table}]'}`",
            "",
            "| key | without it | how it is written | meaning |",
            "|---|---|---|---|",
        ]
        for key, field in rows_of(record).items():
            lines.append(f"| `{key}` | {_default(field)} | {_form(field)} | {field.metadata['meaning']} |")
        lines.append("")
    return "\n".join(lines)


def verbs() -> str:
    lines = ["| verb | keys | what happens |", "|---|---|---|"]
    for name, verb in VERBS.items():
        keys_ = ", ".join([*(f"`{key}`" for key in verb.needs), *(f"(`{key}`)" for key in verb.may)])
        lines.append(f"| `{name}` | {keys_} | {verb.meaning} |")
    return "\n".join(lines) + "\n"


def lies() -> str:
    """The amounts are those drawn when a scenario does not say."""
    lines = ["| lie | fault | who | how much | what it does |", "|---|---|---|---|---|"]
    for name, lie in LIES.items():
        who = ("member" if lie.member else "any") + (", with another" if lie.accomplice else "")
        low, high = lie.amount
        amount = f"{low:g} to {high:g} {lie.counts}" if lie.counts else ("lasts" if lie.lasts else "")
        lines.append(f"| `{name}` | {lie.fault} | {who} | {amount} | {lie.meaning} |")
    return "\n".join(lines) + "\n"


def situations() -> str:
    """For ``sometimes``: what may be counted."""
    lines = [f"- `{name}`" for name in PLAIN]
    lines += [f"- `{first}: ...`, with one of {', '.join(lasts)}" for first, lasts in FAMILIES.items()]
    return "\n".join(lines) + "\n"


def _form(field: dataclasses.Field[Any]) -> str:
    form: str = field.metadata["kind"].form
    return form.removesuffix(" that each seed draws from").replace(", or a range", ", or")


def _default(field: dataclasses.Field[Any]) -> str:
    value = field.default
    if value is dataclasses.MISSING:
        return "needed"
    if value is None:
        return ""
    if isinstance(value, Span):
        return f"{value.low:g}" if value.low == value.high else f"[{value.low:g}, {value.high:g}]"
    if isinstance(value, tuple):
        return ", ".join(f"{item[0]} {item[1]:g}" if isinstance(item, tuple) else str(item) for item in value)
    return str(value) if isinstance(value, (str, bool)) else shown(value)
