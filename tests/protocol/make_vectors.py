"""Writes protocol/vectors: ``python -m tests.protocol.make_vectors``.

The same bytes every time, so a test can regenerate them and compare. Only HPKE's boxes cannot be made again, because
the library draws its randomness inside; they are kept in ``boxes.json`` and made anew with ``--seal``.
"""

from __future__ import annotations

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))  # its neighbours, as pytest sees them too

import vector_inputs_encoding
import vector_inputs_entries
import vector_inputs_groups
import vector_inputs_identity
import vector_inputs_messages
import vector_inputs_state
from vector_book import Book
from vector_boxes import BOXES
from vector_case import VECTORS, Case


def make_cases() -> dict[str, Case]:
    """Every case by its path below protocol/vectors."""
    book = Book()
    for chapter in (
        vector_inputs_encoding,
        vector_inputs_identity,
        vector_inputs_entries,
        vector_inputs_messages,
        vector_inputs_groups,
        vector_inputs_state,
    ):
        chapter.add(book)
    return book.cases


def main() -> None:
    BOXES.may_seal = "--seal" in sys.argv
    cases = make_cases()
    BOXES.write()
    for stale in VECTORS.glob("*/*.json"):
        if f"{stale.parent.name}/{stale.name}" not in cases:
            stale.unlink()
    for path, case in cases.items():
        target = VECTORS / path
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_text(case.text, encoding="utf-8")
    print(f"{len(cases)} cases in {VECTORS}")


if __name__ == "__main__":
    main()
