"""Reports as files: HTML and JSON beside each other."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import NamedTuple

from simulations.report import page, sweep_page
from simulations.report.records import Report, RunReport, from_json_untrusted, to_json

REPORT_BYTES_MAX = 256 * 1024 * 1024
"""Of a JSON that is read: a run of 1,000 nodes and 3,600 writes makes some 60 MB."""


class Written(NamedTuple):
    html: Path
    json: Path
    sha256: str
    """Of the JSON."""


def write(report: Report, path: Path, wall_s: float | None = None) -> Written:
    """``path`` names the HTML; the JSON stands beside it, under the same name. Raises OSError."""
    data = to_json(report)
    sha256 = hashlib.sha256(data).hexdigest()
    # The page is made of what the JSON says, in the order in which it says it.
    told = from_json_untrusted(data)
    content = page.of_run(told, sha256, wall_s) if isinstance(told, RunReport) else sweep_page.of_sweep(told, sha256)
    path.parent.mkdir(parents=True, exist_ok=True)
    beside = path.with_suffix(".json")
    beside.write_bytes(data)
    path.write_text(content, encoding="utf-8")
    return Written(path, beside, sha256)


def read(path: Path) -> Report:
    """A report's JSON. Raises OSError, or ValueError for what is none."""
    if path.stat().st_size > REPORT_BYTES_MAX:
        raise ValueError(f"{path} is larger than any report: {REPORT_BYTES_MAX} bytes at most")
    try:
        return from_json_untrusted(path.read_bytes())
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from None
