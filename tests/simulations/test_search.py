"""The search that has to find a word of the incident wherever it hides: what it must see, and what it must not see."""

from __future__ import annotations

import base64
import os
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from simulations.demo.search import READ_BYTES, Search, holds, in_memory, words_in

WORDS = ("Zilverbeek", "pelican", "Vorsätzliche", "QUARTZ")
around = st.binary(max_size=8)


def test_words_are_the_long_ones_and_not_numbers() -> None:
    texts = ["The Zilverbeek works: 1800 kg, 482113 l", "duty-officer-bluethroat"]
    assert words_in(texts) == {"Zilverbeek", "officer", "bluethroat"}


@given(word=st.sampled_from(WORDS), before=around, after=around)
@settings(max_examples=300)
def test_a_word_is_found_in_every_form_whatever_stands_around_it(word: str, before: bytes, after: bytes) -> None:
    search = Search(WORDS)
    for cased in (word, word.lower(), word.upper()):
        for plain in (cased.encode(), cased.encode("utf-16-le")):
            raw = before + plain + after
            for encoded in (raw, base64.b64encode(raw), base64.urlsafe_b64encode(raw)):
                assert search.in_bytes(encoded) == {word}
        assert search.in_bytes(before + cased.encode("utf-16-be") + after) == {word}
        assert search.in_bytes(cased.encode().hex().encode()) == {word}


def test_nothing_is_found_in_random_bytes() -> None:
    assert Search(WORDS).in_bytes(os.urandom(1 << 20)) == set()


def test_a_word_across_two_reads_of_a_file_is_found(tmp_path: Path) -> None:
    for before in (READ_BYTES - 4, READ_BYTES, READ_BYTES - len("Zilverbeek")):
        path = tmp_path / str(before)
        path.write_bytes(b"x" * before + b"Zilverbeek" + bytes(10_000))
        assert Search(WORDS).in_file(path) == {"Zilverbeek"}
        assert holds(path.parent, b"xZilverbeek")


def test_a_word_in_the_name_of_a_file_is_found(tmp_path: Path) -> None:
    (tmp_path / "pelican.txt").write_bytes(b"abc")
    assert Search(WORDS).in_directory(tmp_path) == ({"pelican"}, 3)


def test_what_this_process_holds_is_found_in_its_memory() -> None:
    rare = os.urandom(16).hex()
    seen = in_memory(os.getpid(), [rare])
    if seen is None:
        pytest.skip("this user may not read the memory of processes")
    assert seen.found == {rare}
    assert seen.size_bytes > 1_000_000
