"""What the operator reads: one line per event on standard error, with the code of every refusal.

Text for people, JSON for machines; a defect brings its traceback along. A report that repeats (a peer that cannot be
reached is dialled for ever) is written once and then at most once a minute, with the number of times it was left out.
"""

from __future__ import annotations

import json
import logging
import sys
import time
from collections.abc import Callable

from meshnode.core.events import Report
from meshnode.transport.base import reason_of

REPEAT_INTERVAL_S = 60.0
REPEATS_MAX = 4_096
"""Different reports remembered; when more differ than this, all are forgotten and written anew."""

_QUIET = {"link-up", "link-down", "store-recovered"}
"""Codes that are news, not trouble."""

logger = logging.getLogger("meshnode")


class _Lines(logging.Formatter):
    converter = staticmethod(time.gmtime)

    def format(self, record: logging.LogRecord) -> str:
        code = getattr(record, "code", "")
        stamp = self.formatTime(record, "%Y-%m-%dT%H:%M:%SZ")
        line = f"{stamp} {record.levelname.lower()} {code + ': ' if code else ''}{record.getMessage()}"
        return f"{line}\n{self.formatException(record.exc_info)}" if record.exc_info else line


class _JsonLines(logging.Formatter):
    converter = staticmethod(time.gmtime)

    def format(self, record: logging.LogRecord) -> str:
        row = {
            "time": self.formatTime(record, "%Y-%m-%dT%H:%M:%SZ"),
            "level": record.levelname.lower(),
            "code": getattr(record, "code", ""),
            "message": record.getMessage(),
        }
        if record.exc_info:
            row["traceback"] = self.formatException(record.exc_info)
        return json.dumps(row, ensure_ascii=False)


def set_up(level: str, line_format: str) -> None:
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(_JsonLines() if line_format == "json" else _Lines())
    logger.handlers = [handler]
    logger.setLevel(level.upper())
    logger.propagate = False


def say(code: str, message: str, level: int = logging.INFO) -> None:
    logger.log(level, "%s", message, extra={"code": code})


class Reporter:
    """Writes reports of the node, each kind at most once a minute."""

    def __init__(self, now_s: Callable[[], float]) -> None:
        self._now_s = now_s
        self._written: dict[tuple[str, str], tuple[float, int]] = {}

    def __call__(self, report: Report) -> None:
        now = self._now_s()
        key = (report.code, report.detail.get("address", "") or report.reason)
        last, left_out = self._written.get(key, (None, 0))
        if last is not None and now - last < REPEAT_INTERVAL_S:
            self._written[key] = (last, left_out + 1)
            return
        if len(self._written) >= REPEATS_MAX:
            self._written.clear()
        self._written[key] = (now, 0)
        more = f" (and {left_out} more times)" if left_out else ""
        is_news = report.code in _QUIET or report.code.endswith("-over")
        level = logging.INFO if is_news else logging.WARNING
        say(report.code, (report.reason or reason_of(report.code)) + more, level)
