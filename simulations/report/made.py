"""By what a report was made: the command, the code, the versions of what it ran on."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from simulations import provenance
from simulations.report.records import Made
from simulations.runs import Result, code_digest

UNKNOWN = "not recorded"
"""Of results that were kept before their lines said it."""


def made(command: str) -> Made:
    """Of what ran here and now."""
    return Made(command, code_digest(), provenance.commit(), provenance.versions())


def made_of(results: Sequence[Result], command: str) -> Made:
    """Of results, as their lines say: whoever makes the page may have another tree. What differs is told in full."""
    names = sorted({name for result in results for name in result.versions})
    return Made(
        command,
        _all(result.code or UNKNOWN for result in results),
        _all(result.commit or ("not under git" if result.code else UNKNOWN) for result in results),
        {name: _all(result.versions.get(name, UNKNOWN) for result in results) for name in names},
    )


def _all(values: Iterable[str]) -> str:
    return ", ".join(sorted(set(values)))
