"""docs/security.md: each claim names tests, and they are there."""

from __future__ import annotations

import re

import pytest
from manuals import ROOT

MANUAL = ROOT / "docs" / "security.md"


def claims() -> list[tuple[str, list[str]]]:
    """(claim, tests) of each row of the tables of claims."""
    text = MANUAL.read_text("utf-8")
    section = text[text.index("## What is protected") : text.index("## What is not protected")]
    rows = [line.strip("|").split(" | ") for line in section.splitlines() if line.startswith("| ")]
    return [(row[0].strip(), re.findall(r"`([^`]+)`", row[1])) for row in rows if row[0].strip() != "claim"]


def test_there_are_claims() -> None:
    assert len(claims()) > 30


@pytest.mark.parametrize(("claim", "tests"), claims(), ids=[claim[:60] for claim, _ in claims()])
def test_a_claim_names_tests_that_exist(claim: str, tests: list[str]) -> None:
    assert tests, f"nothing shows: {claim}"
    for test in tests:
        path, _, name = test.partition("::")
        source = (ROOT / path).read_text("utf-8")
        assert re.search(rf"^(?:async )?def {re.escape(name)}\(", source, re.MULTILINE), f"there is no {test}"
