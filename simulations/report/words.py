"""Numbers and lists as a person reads them."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

MINUTE_S, HOUR_S, DAY_S = 60.0, 3_600.0, 86_400.0


def seconds(value: float | None) -> str:
    """``45 ms``, ``3.2 s``, ``4 min``, ``6.5 h``, ``30 d``: three digits at most."""
    if value is None:
        return "never"
    if value == 0:
        return "0 s"
    if value < 0.0995:
        return f"{max(value * 1e3, 0.1):.2g} ms"
    if value < 99.5:
        return f"{value:.2g} s" if value < 9.95 else f"{value:.0f} s"
    for limit_s, unit_s, unit in ((2 * HOUR_S, MINUTE_S, "min"), (2 * DAY_S, HOUR_S, "h")):
        if value < limit_s:
            return f"{_short(value / unit_s)} {unit}"
    return f"{_short(value / DAY_S)} d"


def moment(value: float) -> str:
    """A time of the plan: ``6:20``, ``2:03:20``, ``day 3, 04:00``."""
    whole = round(value)
    if value < 10 and value != whole:
        return f"{value:.1f} s"
    if whole < 60:
        return f"{whole} s"
    minutes, left_s = divmod(whole, 60)
    hours, minutes = divmod(minutes, 60)
    if hours < 48:
        return f"{hours}:{minutes:02}:{left_s:02}" if hours else f"{minutes}:{left_s:02}"
    days, hours = divmod(hours, 24)
    return f"day {days}, {hours:02}:{minutes:02}"


def size(value: float) -> str:
    """Bytes."""
    for unit_bytes, unit in ((1e9, "GB"), (1e6, "MB"), (1e3, "kB")):
        if value >= unit_bytes:
            return f"{_short(value / unit_bytes)} {unit}"
    return f"{value:.0f} B"


def count(value: int, one: str, many: str = "") -> str:
    return f"{value:,} {one if value == 1 else many or one + 's'}"


def listed(names: Sequence[str], most: int = 8) -> str:
    """``A, B and C``, or ``A, B and 12 more``."""
    shown = [*names[:most], f"{len(names) - most} more"] if len(names) > most + 1 else list(names)
    return shown[0] if len(shown) == 1 else f"{', '.join(shown[:-1])} and {shown[-1]}" if shown else "nobody"


def sides(found: Iterable[Sequence[str]], most: int = 8) -> str:
    """``BE, NL | FR``."""
    return " | ".join(", ".join(side) if len(side) <= most else f"{len(side)} nodes" for side in found)


def share(value: float) -> str:
    if value == 0:
        return "0"
    percent = value * 100
    return "<1 %" if percent < 1 else f"{percent:.0f} %"


def _short(value: float) -> str:
    return f"{value:.1f}".removesuffix(".0") if value < 99.5 else f"{value:,.0f}"
