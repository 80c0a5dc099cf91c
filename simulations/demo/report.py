"""What a person reads: steps with their time, checks with what was compared, and a table at the end.

A check never stops the story: a person wants to know what else holds. What cannot go on (a daemon that does not start,
something that does not come about in time) is an exception, and counts as a failed check of the step it ended.
"""

from __future__ import annotations

import contextlib
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import TextIO

COLUMNS_MAX = 100
"""A check that is longer takes two lines."""


@dataclass
class Step:
    title: str
    checks: list[bool] = field(default_factory=list)
    took_s: float = 0.0


class Report:
    def __init__(self, out: TextIO = sys.stdout) -> None:
        self._out = out
        self._colour = out.isatty()
        self.steps: list[Step] = []

    @contextlib.contextmanager
    def step(self, title: str) -> Iterator[None]:
        """One chapter of the story; its time is taken."""
        step = Step(title)
        self.steps.append(step)
        self.say("")
        self.say(self._painted(f"{len(self.steps)}. {title}", "1"))
        begin = time.monotonic()
        try:
            yield
        finally:
            step.took_s = time.monotonic() - begin

    def check(self, what: str, holds: bool, compared: str = "") -> bool:
        """``what`` must hold; ``compared`` says what was looked at, with numbers."""
        self.steps[-1].checks.append(holds)
        mark = self._painted("✓", "32") if holds else self._painted("✗ DOES NOT HOLD:", "31")
        line = f"   {mark} {what}"
        if len(what) + len(compared) > COLUMNS_MAX:
            self.say(f"{line}:")
            self.say(f"       {compared}")
        else:
            self.say(f"{line}: {compared}" if compared else line)
        return holds

    def tell(self, text: str) -> None:
        """What happens, in the voice of the story."""
        self.say(f"   {text}")

    def quote(self, text: str, prompt: str = "") -> None:
        """What a program printed, after the command that was typed."""
        if prompt:
            self.say(self._painted(f"     $ {prompt}", "36"))
        for line in text.rstrip().splitlines():
            self.say(self._painted(f"     {line.rstrip()}", "2"))

    def say(self, line: str) -> None:
        print(line, file=self._out, flush=True)

    def table(self, heads: Sequence[str], rows: Sequence[Sequence[object]]) -> None:
        cells = [list(heads)] + [[str(cell) for cell in row] for row in rows]
        widths = [max(len(row[column]) for row in cells) for column in range(len(heads))]
        for number, row in enumerate(cells):
            line = "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True))
            self.say("   " + (self._painted(line.rstrip(), "1") if number == 0 else line.rstrip()))

    @property
    def held(self) -> int:
        return sum(sum(step.checks) for step in self.steps)

    @property
    def failed(self) -> int:
        return sum(len(step.checks) for step in self.steps) - self.held

    def _painted(self, text: str, code: str) -> str:
        return f"\x1b[{code}m{text}\x1b[0m" if self._colour else text
