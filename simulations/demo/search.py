"""Searches bytes for every word of an incident, in the forms in which it could hide.

A word is looked for as UTF-8, UTF-16 (both byte orders), hexadecimal, and base64 (both alphabets, at each of the three
places in which it can begin), each as written, in lower case and in upper case. Words are the long ones of the texts:
six letters or more, so that random bytes do not spell one. Of the base64 form only the digits that belong to the word
alone are looked for: at least seven for six bytes, so by chance one in 2^42 places.
"""

from __future__ import annotations

import base64
import contextlib
import itertools
import re
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

WORD_LETTERS_MIN = 6
WORD = re.compile(rf"[^\W_]{{{WORD_LETTERS_MIN},}}")
READ_BYTES = 4 << 20


def words_in(texts: Iterable[str]) -> set[str]:
    """The long words of these texts, as written. Not numbers: those stand in any file."""
    return {word for text in texts for word in WORD.findall(text) if not word.isdigit()}


class Search:
    """Many words at once: one pass over the bytes for all forms."""

    def __init__(self, words: Iterable[str]) -> None:
        self.words = sorted(set(words))
        self._word_of = {form: word for word in self.words for form in _forms(word)}
        self._overlap = max(map(len, self._word_of), default=1) - 1
        self._pattern = re.compile(_tree(sorted(self._word_of)))

    @property
    def forms(self) -> int:
        return len(self._word_of)

    def in_bytes(self, data: bytes) -> set[str]:
        """The words found."""
        return {self._word_of[hit] for hit in set(self._pattern.findall(data))} if self.words else set()

    def in_file(self, path: Path) -> set[str]:
        found: set[str] = set()
        for piece in _pieces(path, self._overlap):
            found |= self.in_bytes(piece)
        return found

    def in_directory(self, directory: Path) -> tuple[set[str], int]:
        """The words found in the content and the names of all files, and the bytes looked at."""
        found: set[str] = set()
        size_bytes = 0
        for path in sorted(directory.rglob("*")):
            found |= self.in_bytes(str(path.relative_to(directory)).encode())
            if path.is_file():
                found |= self.in_file(path)
                size_bytes += path.stat().st_size
        return found, size_bytes


class MemorySearch(NamedTuple):
    found: set[str]
    size_bytes: int


def in_memory(pid: int, words: Iterable[str]) -> MemorySearch | None:
    """Which of the words a process has in its memory, as UTF-8 or UTF-16. None when this user may not look."""
    forms = {form: word for word in words for form in (word.encode(), word.encode("utf-16-le"))}
    found: set[str] = set()
    size_bytes = 0
    try:
        with Path(f"/proc/{pid}/maps").open() as maps, Path(f"/proc/{pid}/mem").open("rb", buffering=0) as memory:
            for line in maps:
                span, rights, *_ = line.split()
                start, end = (int(text, 16) for text in span.split("-"))
                if not rights.startswith("rw"):
                    continue
                with contextlib.suppress(
                    OSError, OverflowError
                ):  # the kernel's own pages, and what went away meanwhile
                    memory.seek(start)
                    data = memory.read(end - start)
                    size_bytes += len(data)
                    found |= {word for form, word in forms.items() if form in data}
    except PermissionError:
        return None
    return MemorySearch(found, size_bytes)


def holds(directory: Path, needle: bytes) -> bool:
    """Whether any file under the directory holds these bytes."""
    return any(
        needle in piece
        for path in sorted(directory.rglob("*"))
        if path.is_file()
        for piece in _pieces(path, len(needle) - 1)
    )


def _tree(forms: Sequence[bytes]) -> bytes:
    """One expression for ascending forms, branching byte by byte: thousands of forms cost little more than one.

    Of two forms where one begins the other, the shorter is enough.
    """
    branches: list[bytes] = []
    for first, group in itertools.groupby(forms, key=lambda form: form[:1]):
        rest = [form[1:] for form in group]
        branches.append(re.escape(first) + (b"" if b"" in rest else _tree(rest)))
    return branches[0] if len(branches) == 1 else b"(?:" + b"|".join(branches) + b")"


def _pieces(path: Path, overlap_bytes: int) -> Iterator[bytes]:
    """The file in pieces that overlap, so that nothing is missed where one ends."""
    kept = b""
    with path.open("rb") as file:
        while read := file.read(READ_BYTES):
            piece = kept + read
            # Databases reserve room ahead; zeros hold no words, and would take most of the time.
            yield piece.rstrip(b"\0") + bytes(1)
            kept = piece[-overlap_bytes:] if overlap_bytes else b""


def _forms(word: str) -> set[bytes]:
    forms: set[bytes] = set()
    for cased in {word, word.lower(), word.upper()}:
        plain = cased.encode()
        forms |= {plain, cased.encode("utf-16-le"), cased.encode("utf-16-be")}
        forms |= {plain.hex().encode(), plain.hex().upper().encode()}
        forms |= set(_base64_forms(plain))
        forms |= set(_base64_forms(cased.encode("utf-16-le")))
    return forms


def _base64_forms(data: bytes) -> Iterator[bytes]:
    """The digits that any text with these bytes in it has, wherever in a group of three they begin."""
    for before in range(3):
        encoded = base64.b64encode(bytes(before) + data)
        first = (8 * before + 5) // 6
        last = 8 * (before + len(data)) // 6
        digits = encoded[first:last]
        yield digits
        yield digits.translate(bytes.maketrans(b"+/", b"-_"))
