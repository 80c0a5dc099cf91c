"""Kinds of values in a scenario: how they are written, what is refused.

The unit of a number stands in the name of its key (``_s``, ``_ms``, ``_percent``, ``_bytes_per_s``, ``_per_hour``), so
a value is a bare number; or, where a seed may draw it, a range ``[least, most]``.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from random import Random
from typing import Any, NamedTuple
from unicodedata import category


class WrongValueError(Exception):
    """A value that a kind refuses; becomes a ScenarioError where file and line are known."""

    def __init__(self, code: str, reason: str, action: str) -> None:
        super().__init__(code)
        self.code, self.reason, self.action = code, reason, action


class Span(NamedTuple):
    """A number that each seed draws from ``low`` to ``high``; both alike is a fixed number."""

    low: float
    high: float

    def draw(self, rng: Random) -> float:
        """Low values are drawn as often as high ones of a wide range: the exponent is even, not the number."""
        if self.low == self.high:
            return self.low
        if self.low <= 0 or self.high / self.low < 20:
            return rng.uniform(self.low, self.high)
        return math.exp(rng.uniform(math.log(self.low), math.log(self.high)))

    def __str__(self) -> str:
        return f"{self.low:g}" if self.low == self.high else f"{self.low:g} to {self.high:g}"


@dataclass(frozen=True, slots=True)
class Kind:
    form: str
    """How it is written, for the manual and for errors."""
    read: Callable[[Any], Any]


def _toml_type(value: Any) -> str:
    names = {str: "text", bool: "true or false", int: "a number", float: "a number", list: "a list", dict: "a table"}
    return names.get(type(value), "a date or time")


def _wrong_type(form: str, value: Any) -> WrongValueError:
    if type(value) is str and value[:1].isdigit():
        action = "write a bare number: its unit is in the name of the key"
        return WrongValueError("scenario-wrong-unit", f"the text {value!r} where a number belongs", action)
    return WrongValueError("scenario-wrong-type", f"expected {form}, found {_toml_type(value)}", f"write {form}")


def shown(value: float) -> str:
    """As a person writes it, without an exponent where that can be read."""
    if type(value) is int and abs(value) >= 10**15:
        return "a number of more than 15 digits"
    if math.isfinite(value) and 1e6 <= abs(value) < 1e15:
        return f"{value:,.0f}" if value == int(value) else f"{value:,}"
    return f"{value:g}"


def number(least: float, most: float) -> Kind:
    form = f"a number, {shown(least)} to {shown(most)}"

    def read(value: Any) -> float:
        if type(value) not in (int, float):
            raise _wrong_type(form, value)
        if not least <= value <= most:
            reason = f"{shown(value)} is outside {shown(least)} to {shown(most)}"
            raise WrongValueError("scenario-out-of-range", reason, f"choose {form}; look at the unit in the key's name")
        return float(value)

    return Kind(form, read)


def span(least: float, most: float) -> Kind:
    one = number(least, most)
    form = f"{one.form}, or a range [least, most] that each seed draws from"

    def read(value: Any) -> Span:
        if type(value) is not list:
            return Span(one.read(value), one.read(value))
        if len(value) != 2:
            raise WrongValueError("scenario-wrong-type", f"a range of {len(value)} numbers", "write [least, most]")
        low, high = one.read(value[0]), one.read(value[1])
        if low > high:
            raise WrongValueError(
                "scenario-bad-value", f"the range [{low:g}, {high:g}] runs down", "write the least first"
            )
        return Span(low, high)

    return Kind(form, read)


def count(least: int, most: int) -> Kind:
    form = f"a whole number, {shown(least)} to {shown(most)}"

    def read(value: Any) -> int:
        if type(value) is not int:
            raise _wrong_type(form, value)
        if not least <= value <= most:
            reason = f"{shown(value)} is outside {shown(least)} to {shown(most)}"
            raise WrongValueError("scenario-out-of-range", reason, f"choose {form}")
        return value

    return Kind(form, read)


def choice(*choices: str) -> Kind:
    form = "one of " + ", ".join(f'"{word}"' for word in choices)

    def read(value: Any) -> str:
        if type(value) is not str:
            raise _wrong_type(form, value)
        if value not in choices:
            raise WrongValueError("scenario-bad-value", f"{value!r} is not {form}", f"write {form}")
        return value

    return Kind(form, read)


def choices(*known: str) -> Kind:
    one = choice(*known)
    form = "a list of " + ", ".join(f'"{word}"' for word in known)

    def read(value: Any) -> tuple[str, ...]:
        if type(value) is not list:
            raise _wrong_type(form, value)
        return _some(tuple(one.read(item) for item in value))

    return Kind(form, read)


def _some(names: tuple[str, ...]) -> tuple[str, ...]:
    if not names:
        raise WrongValueError("scenario-bad-value", "the list is empty", "name at least one, or leave the key out")
    if len(set(names)) != len(names):
        raise WrongValueError("scenario-bad-value", "a name stands twice in the list", "write each name once")
    return names


def _text(value: Any) -> str:
    """Of one line or several. What a terminal would obey is refused: titles and names are printed as they are."""
    if type(value) is not str:
        raise _wrong_type("text in quotes", value)
    for character in value:
        if character not in "\n\t" and (category(character) == "Cc" or character in _TURNS):
            reason = f"the text has the control character U+{ord(character):04X}"
            raise WrongValueError("scenario-bad-value", reason, "take it out")
    return value.strip()


def _line(value: Any) -> str:
    text = _text(value)
    if "\n" in text or "\t" in text:
        raise WrongValueError(
            "scenario-bad-value", "a name or a title has a tab or more than one line", "write one line"
        )
    return text


def _name(value: Any) -> str:
    name = _line(value)
    if not name:
        raise WrongValueError("scenario-bad-value", "the name is empty", "write one, or leave the key out if you may")
    return name


def _names(value: Any) -> tuple[str, ...]:
    form = 'a list of names, like ["BE", "east"]'
    if type(value) is not list:
        raise _wrong_type(form, value)
    for item in value:
        if type(item) is not str:
            reason = f"expected {form}, found {_toml_type(item)} in the list"
            raise WrongValueError("scenario-wrong-type", reason, "write each name in quotes")
    return _some(tuple(value))


def _sides(value: Any) -> tuple[tuple[str, ...], ...]:
    form = 'a list of lists of names, like [["BE"], ["NL", "FR"]]'
    if type(value) is not list or not all(type(item) is list for item in value):
        raise WrongValueError("scenario-wrong-type", f"expected {form}", f"write {form}")
    if not value:
        raise WrongValueError("scenario-bad-value", "the list is empty", f"write {form}")
    return tuple(_names(item) for item in value)


def _weights(value: Any) -> tuple[tuple[str, float], ...]:
    form = "a table of weights, like { set = 4, log = 2 }"
    if type(value) is not dict:
        raise _wrong_type(form, value)
    known = choice(*CHANGE_KINDS)
    weights = tuple((known.read(kind), number(0, 1000).read(weight)) for kind, weight in value.items())
    if not any(weight for _, weight in weights):
        raise WrongValueError("scenario-bad-value", "no kind of change has a weight", f"write {form}")
    return weights


def _bool(value: Any) -> bool:
    if type(value) is not bool:
        raise _wrong_type("true or false", value)
    return value


CHANGE_KINDS = ("set", "add", "remove", "create", "delete", "log")
_TURNS = "\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069"
"""They turn the direction of what follows: a name would be read as another."""
TEXT = Kind("text", _text)
LINE = Kind("text on one line", _line)
NAME = Kind("a name, text on one line", _name)
BOOL = Kind("true or false", _bool)
NAMES = Kind("a list of names of nodes and groups", _names)
SIDES = Kind("a list of lists of names of nodes and groups", _sides)
WEIGHTS = Kind("a table: kind of change = weight", _weights)
