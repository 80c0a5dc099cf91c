"""Kinds of values: how a setting is written in TOML, what is refused and how it is shown again.

A kind knows nothing of files and keys. It refuses with :class:`WrongValueError`, which the reader turns into
an error that names the file, the line and the setting.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from meshnode.config import units
from meshnode.core.names import is_noc_code

_ADDRESS = re.compile(
    r"(?:\[(?P<v6>[0-9A-Fa-f:.]{2,45}(?:%[A-Za-z0-9_.-]{1,15})?)\]"
    r"|(?P<host>[A-Za-z0-9](?:[A-Za-z0-9._-]{0,251}[A-Za-z0-9])?)):(?P<port>[0-9]{1,5})\Z"
)


class WrongValueError(Exception):
    """A value that a kind refuses; becomes a LocalFaultError where the file and line are known."""

    def __init__(self, code: str, reason: str, action: str) -> None:
        super().__init__(code)
        self.code, self.reason, self.action = code, reason, action


@dataclass(frozen=True, slots=True)
class Kind:
    """How a value is written (``form``, for the manual), read from TOML, and shown again."""

    form: str
    read: Callable[[Any], Any]
    show: Callable[[Any], Any] = lambda value: value


def _typed(value: Any, type_: type, form: str) -> Any:
    if type(value) is not type_:
        raise WrongValueError("config-wrong-type", f"expected {form}, found {_toml_type(value)}", f"write {form}")
    return value


def _toml_type(value: Any) -> str:
    names = {str: "text", bool: "true or false", int: "a number", float: "a number", list: "a list", dict: "a table"}
    return names.get(type(value), "a date or time")


def _read_bool(value: Any) -> bool:
    return bool(_typed(value, bool, "true or false"))


def _read_text(value: Any) -> str:
    text: str = _typed(value, str, "text in quotes")
    if any(ord(character) < 32 for character in text):
        raise WrongValueError("config-bad-value", "the text has control characters", "write it on one line")
    return text


def _read_path(value: Any) -> Path:
    text = _read_text(value)
    if not text:
        raise WrongValueError("config-bad-value", "the path is empty", "write a path, or leave the key out")
    return Path(text)


def duration(minimum: str, maximum: str) -> Kind:
    return _measured(
        "a duration", '"10s", "250ms", "24h"', units.parse_duration_s, units.format_duration, minimum, maximum
    )


def size(minimum: str, maximum: str) -> Kind:
    return _measured("a size", '"64MiB", "2GiB"', units.parse_size_bytes, units.format_size, minimum, maximum)


def _measured(
    name: str,
    examples: str,
    parse: Callable[[str], Any],
    show: Callable[[Any], str],
    minimum: str,
    maximum: str,
) -> Kind:
    form = f"{name} with its unit, like {examples}"

    def read(value: Any) -> Any:
        if type(value) in (int, float):
            raise WrongValueError("config-wrong-unit", f"the number {value} has no unit", f"write {form}")
        amount = parse(_typed(value, str, form))
        if amount is None:
            raise WrongValueError("config-wrong-unit", f"{value!r} is not {name}", f"write {form}")
        if not parse(minimum) <= amount <= parse(maximum):
            reason = f"{value} is outside {minimum} to {maximum}"
            raise WrongValueError("config-out-of-range", reason, f"choose a value from {minimum} to {maximum}")
        return amount

    return Kind(f"{name}, {minimum} to {maximum}", read, show)


def count(minimum: int, maximum: int) -> Kind:
    form = f"a whole number, {minimum} to {maximum}"

    def read(value: Any) -> int:
        number: int = _typed(value, int, form)
        if not minimum <= number <= maximum:
            reason = f"{number} is outside {minimum} to {maximum}"
            raise WrongValueError("config-out-of-range", reason, f"choose a number from {minimum} to {maximum}")
        return number

    return Kind(form, read)


def choice(*choices: str) -> Kind:
    form = " or ".join(f'"{choice}"' for choice in choices)

    def read(value: Any) -> str:
        if _typed(value, str, form) not in choices:
            raise WrongValueError("config-bad-value", f"{value!r} is not one of {', '.join(choices)}", f"write {form}")
        return str(value)

    return Kind(form, read)


def _read_address(value: Any) -> str:
    text = _read_text(value)
    split_address(text)
    return text


def _read_addresses(value: Any) -> tuple[str, ...]:
    return tuple(_read_address(item) for item in _typed(value, list, 'a list of "host:port"'))


def _read_noc(value: Any) -> str:
    text = _read_text(value)
    if not is_noc_code(text):
        raise WrongValueError(
            "config-bad-value", f"{text!r} is no NOC code", 'write a code of capital letters, like "BE"'
        )
    return text


def _read_device(value: Any) -> str:
    text = _read_text(value)
    if not re.fullmatch(r"[0-9a-f]{64}", text):
        raise WrongValueError(
            "config-bad-value", "a device id has 64 hexadecimal digits", "copy it from: meshnode identity show"
        )
    return text


def _read_mode(value: Any) -> int:
    text: str = _typed(value, str, 'an octal mode in quotes, like "0660"')
    if not re.fullmatch(r"0[0-7]{3}", text):
        raise WrongValueError("config-bad-value", f"{text!r} is no file mode", 'write four octal digits, like "0660"')
    return int(text, 8)


def split_address(text: str) -> tuple[str, int]:
    """``host:port`` or ``[IPv6]:port`` as (host, port). Raises the kind's refusal when it is neither."""
    found = _ADDRESS.match(text)
    if found is None or int(found["port"]) > 65535:
        action = 'write "host:port", with IPv6 in brackets: "noc.example:7411", "[2001:db8::1]:7411"'
        raise WrongValueError("config-bad-value", f"{text!r} is no address with a port", action)
    return found["v6"] or found["host"], int(found["port"])


BOOL = Kind("true or false", _read_bool)
TEXT = Kind("text", _read_text)
PATH = Kind("a path", _read_path, str)
ADDRESS = Kind('"host:port"', _read_address)
ADDRESSES = Kind('a list of "host:port"', _read_addresses, list)
NOC = Kind("a NOC code", _read_noc)
DEVICE = Kind("64 hexadecimal digits", _read_device)
MODE = Kind("an octal file mode in quotes", _read_mode, lambda mode: f"{mode:04o}")
