"""docs/HACKING.md: its story in virtual time is told as written."""

from __future__ import annotations

from manuals import ROOT, blocks


def test_the_story_of_the_manual_ends_as_it_says() -> None:
    (story, *_) = [text for language, text in blocks(ROOT / "docs" / "HACKING.md") if language == "python"]
    assert "world.partition" in story
    exec(compile(story, "docs/HACKING.md", "exec"), {})  # noqa: S102 - our own manual
