"""The vectors under protocol/ say what the code does, and the generator still makes every one of them."""

from __future__ import annotations

import pytest
from make_vectors import make_cases
from vector_case import VECTORS, Case, read_cases
from vector_checks import CHECKS, outcome

CASES = read_cases()


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.path)
def test_the_code_gives_what_the_vector_expects(case: Case):
    assert outcome(case.kind, case.input) == case.expect


def test_the_generator_makes_exactly_the_files_that_are_kept():
    made = {path: case.text for path, case in make_cases().items()}
    kept = {f"{path.parent.name}/{path.name}": path.read_text(encoding="utf-8") for path in VECTORS.glob("*/*.json")}
    assert made == kept, "run python -m tests.protocol.make_vectors, and look at what changed"


def test_every_kind_has_vectors_and_kinds_that_judge_have_refused_ones():
    kinds = {case.kind for case in CASES}
    refusing = {case.kind for case in CASES if "refusal" in case.expect}
    assert kinds == set(CHECKS)
    judges = {"cbor", "signature", "frames", "bundle", "device-request", "hello", "prekey", "package", "epoch-body"}
    assert refusing >= judges | {"seal", "unsealing", "opening", "content", "operation", "message", "run"}


def test_the_guide_to_the_vectors_names_every_kind():
    guide = (VECTORS / "README.md").read_text(encoding="utf-8")
    assert [kind for kind in CHECKS if f"| `{kind}` |" not in guide] == []


def test_vectors_are_small():
    assert max(len(case.text) for case in CASES) < 140_000
    assert sum(len(case.text) for case in CASES) < 1_500_000
