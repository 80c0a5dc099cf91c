"""protocol/protocol.md keeps up with the code: tags, reason codes, messages, and sections that docstrings cite."""

from __future__ import annotations

import re
from pathlib import Path

from vector_case import VECTORS, read_cases

from meshnode.core import groups, verdicts, wire

PROSE = (VECTORS.parent / "protocol.md").read_text(encoding="utf-8")
SCHEMA = (VECTORS.parent / "wire.cddl").read_text(encoding="utf-8")
PACKAGE = Path(groups.__file__).parents[1]
SOURCES = {path: path.read_text(encoding="utf-8") for path in sorted(PACKAGE.rglob("*.py"))}
SECTIONS = dict(re.findall(r"^## (.+)\n((?:(?!^## ).*\n)+)", PROSE, re.M))

LOCAL_TAGS = {"mn-at-rest"}
"""Of nodes' own disks: nobody else computes them."""
LOCAL_FILES = ("storage", "authority.py", "enrolment.py", "keyfiles.py", "cli", "api")


def test_every_domain_tag_of_the_code_stands_in_the_table():
    calls = re.compile(r"(?:digest|derive_key)\(\s*\"([^\"]+)\"|_TAG = \"([^\"]+)\"")
    tags = set()
    for path, source in SOURCES.items():
        if not any(part in path.parts for part in LOCAL_FILES):
            tags |= {one or other for one, other in calls.findall(source)}
    assert len(tags) > 15
    assert {tag for tag in tags - LOCAL_TAGS if f"`{tag}`" not in SECTIONS["Domain tags"]} == set()


def test_no_two_uses_share_a_tag():
    tags = re.findall(r"`([^`]+)`", "\n".join(re.findall(r"^\| ([^|]+) \|", SECTIONS["Domain tags"], re.M)))
    assert len(tags) == len(set(tags))
    assert all(len(tag) <= 16 for tag in tags if f"| `{tag}` | hash" in PROSE or f"| `{tag}` | keyed" in PROSE)


def test_every_refusal_of_the_vectors_stands_in_the_list_of_codes():
    refusals = {case.expect["refusal"] for case in read_cases() if "refusal" in case.expect}
    judged = set(verdicts._REASONS) - {""}
    assert {code for code in refusals | judged if f"`{code}`" not in SECTIONS["Reason codes"]} == set()


def test_every_message_has_its_row_and_its_rule():
    for message, number in wire._NUMBERS.items():
        assert f"| {number} | {message.__name__} |" in SECTIONS["Messages"]
        rule = re.sub(r"(?<!^)(?=[A-Z])", "-", message.__name__).lower()
        assert re.search(rf"^{rule} +=\s*\[{number},", SCHEMA, re.M), rule


def test_sections_that_are_cited_exist():
    quoted = set()
    speaking = [source for path, source in SOURCES.items() if {"core", "transport", "discovery"} & set(path.parts)]
    for source in [*speaking, SCHEMA, PROSE]:
        for names in re.findall(r"[Ss]ections? ((?:\"[A-Z][^\"]*\"(?:, | and )?)+)", source):
            quoted |= set(re.findall(r"\"([^\"]+)\"", names))
    assert len(quoted) > 10
    assert quoted - set(SECTIONS) == set()
    plain = re.findall(r"[Ss]ections? ([A-Z].{0,40})", PROSE)
    assert len(plain) > 10
    assert [text for text in plain if not text.startswith(tuple(SECTIONS))] == []


def test_the_table_of_contents_has_every_section():
    contents = PROSE.split("\n## ")[0]
    assert [name for name in SECTIONS if f"[{name}](#{name.lower().replace(' ', '-')})" not in contents] == []


def test_every_rule_of_the_schema_that_the_prose_names_exists():
    rules = set(re.findall(r"^([a-z0-9-]+) +=", SCHEMA, re.M))
    lists = re.findall(r"[Rr]ules? ((?:`[a-z-]+`(?:, )?)+)", PROSE)
    named = {rule for names in lists for rule in re.findall(r"`([a-z-]+)`", names)}
    assert len(named) > 5
    assert named <= rules
