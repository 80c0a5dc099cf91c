"""Where in a TOML file each table and key stands, for errors. ``tomllib`` reads the file; it does not say where.

Only for text that ``tomllib`` accepted. A scenario has tables, tables in lists and keys in them, one key a line; what
stands inside a value (an inline table, a list over several lines) gets the line of its key.
"""

from __future__ import annotations

import re

_HEADER = re.compile(r"\s*\[(\[?)\s*([^\]]+?)\s*\]")
_KEY = re.compile(r"\s*[\"']?([A-Za-z0-9_-]+)[\"']?\s*(?:\.|=)")
_STRING = re.compile(r'"""(?:\\.|[^\\])*?"""|\'\'\'.*?\'\'\'|"(?:\\.|[^"\\\n])*"|\'[^\'\n]*\'|#[^\n]*', re.DOTALL)


class Lines:
    def __init__(self, text: str) -> None:
        self._tables: dict[tuple[str, int], int] = {}
        self._keys: dict[tuple[str, int, str], int] = {}
        self._read(_without_strings(text).splitlines(), text.splitlines())

    def _read(self, bare: list[str], whole: list[str]) -> None:
        table, number, depth = "", 0, 0
        seen: dict[str, int] = {}
        for at, line in enumerate(bare, 1):
            if depth == 0:
                header = _HEADER.match(whole[at - 1]) if line.lstrip().startswith("[") else None
                key = _KEY.match(whole[at - 1]) if "=" in line else None
                if header:
                    table = header[2].strip("\"'")
                    number = seen.get(table, 0)
                    seen[table] = number + 1
                    self._tables[table, number] = at
                elif key:
                    self._keys.setdefault((table, number, key[1]), at)
            if not (depth == 0 and line.lstrip().startswith("[")):
                depth += sum(map(line.count, "[{")) - sum(map(line.count, "]}"))

    def of(self, table: str, number: int = 0, key: str = "") -> int:
        """The line of a key, else of its table, else 1."""
        at = self._keys.get((table, number, key)) if key else None
        if at is None and not table and key:
            at = self._tables.get((key, 0))
        return at or self._tables.get((table, number), 1)


def _without_strings(text: str) -> str:
    """The same lines, with texts and comments blanked out: what is left has only structure."""
    return _STRING.sub(lambda found: re.sub(r"[^\n]", " ", found[0]), text)
