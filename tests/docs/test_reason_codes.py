"""docs/reason-codes.md lists every code that the program can say, and no other."""

from __future__ import annotations

import re
from functools import cache

from said_codes import NOT_CODES, PUT_TOGETHER, ROOT, Said, said_codes

MANUAL = ROOT / "docs" / "reason-codes.md"
SPEAKERS = {"command", "start", "api", "log", "history", "status", "peers", "link", "counter"}


@cache
def said() -> Said:
    return said_codes()


def rows() -> list[tuple[list[str], list[str], list[str]]]:
    """(codes, who says them, the other cells) of each row about codes."""
    found = []
    for line in MANUAL.read_text("utf-8").splitlines():
        if line.startswith("| `"):
            first, speakers, *rest = [cell.strip() for cell in line.strip("|").split(" | ")]
            found.append((re.findall(r"`([^`]+)`", first), speakers.split(", "), rest))
    return found


def documented() -> list[str]:
    return [code for codes, _, _ in rows() for code in codes]


def test_every_code_that_the_program_says_is_documented() -> None:
    missing = {code: sorted(said().places[code]) for code in said().places.keys() - set(documented())}
    assert not missing, (
        "not in docs/reason-codes.md; add a row there (or, if it is no code, name it in tests/docs/said_codes.py)"
    )


def test_every_documented_code_is_said_by_the_program() -> None:
    assert set(documented()) - said().places.keys() == set()


def test_the_everyday_codes_of_the_other_end_are_found_as_they_are_printed() -> None:
    manual = MANUAL.read_text("utf-8")
    for code in ("link-superseded", "shutting-down"):
        assert code in documented()
        assert f"`peer-{code}`" in manual


def test_a_code_is_documented_once() -> None:
    codes = documented()
    assert sorted(codes) == sorted(set(codes))


def test_every_place_that_gives_a_code_could_be_read() -> None:
    assert said().unread == [], "add what these can be to PUT_TOGETHER in tests/docs/said_codes.py"


def test_each_row_says_who_says_it_what_it_means_and_what_to_do() -> None:
    for codes, speakers, rest in rows():
        assert set(speakers) <= SPEAKERS, codes
        assert len(rest) == 2, codes
        assert all(rest), codes


def test_codes_are_short_lower_case_words() -> None:
    for code in documented():
        assert re.fullmatch(r"[a-z][a-z0-9]*(-[a-z0-9]+)*", code), code
        assert len(code) <= 48, code  # what a peer takes as the reason of a closed link


def test_the_collector_finds_codes_in_every_position() -> None:
    """One of each way in which code is written here, so that a collector gone blind is noticed."""
    for code in (
        "busy",  # an error class
        "malformed-http",  # a helper that passes its parameter on
        "duplicate-header",  # a helper of a helper
        "mdns-no-interface",  # another room's error
        "link-up",  # news
        "usage",  # the command line
        "act-created-again",  # a returned verdict
        "store-wal-missing",  # a table
        "body-malformed",  # put together at run time
        "certificate-expired-over",
        "client-too-slow",  # counted only
    ):
        assert code in said().places, code


def test_no_exception_of_the_collector_is_out_of_date() -> None:
    assert NOT_CODES - said().texts == set()
    assert {code for codes in PUT_TOGETHER.values() for code in codes} <= said().places.keys()


def test_only_what_the_other_end_said_begins_with_peer() -> None:
    """So a code with ``peer-`` in front is looked up without it, and the reason looked for over there."""
    ours = {code: places for code, places in said().places.items() if code.startswith("peer-")}
    assert {place.split(":")[0] for places in ours.values() for place in places} <= {"transport/quic_link.py"}, ours
