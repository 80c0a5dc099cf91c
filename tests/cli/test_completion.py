"""What the shell offers: commands, options and the words of the incident model, without a daemon."""

from __future__ import annotations

import shlex

import pytest
from click.shell_completion import ShellComplete

from meshnode.cli import root
from meshnode.core.schema import FIELDS, KINDS


def offered(line: str) -> list[str]:
    """For a line that ends where the cursor stands."""
    words = shlex.split(line)[1:]
    incomplete = "" if line.endswith(" ") else words.pop()
    completion = ShellComplete(root, {}, "meshnode", "_MESHNODE_COMPLETE")
    return [item.value for item in completion.get_completions(words, incomplete)]


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("meshnode incident op", ["open"]),
        ("meshnode incident open --ki", ["--kind"]),
        ("meshnode incident open --kind ", list(KINDS)),
        ("meshnode incident open --kind m", ["man-hunt"]),
        ("meshnode incident open --field preced", ["precedence="]),
        ("meshnode incident open --field severity=m", ["severity=moderate", "severity=minor"]),
        ("meshnode incident open --field no-such-field=", []),
        ("meshnode incident log 1a2b text --precedence ", ["flash", "immediate", "priority", "routine"]),
        ("meshnode incident log 1a2b text --marking TLP:A", ["TLP:AMBER+STRICT", "TLP:AMBER"]),
        ("meshnode incident set 1a2b stat", ["status"]),
        ("meshnode incident set 1a2b status ", ["open", "contained", "closed"]),
        ("meshnode incident set 1a2b title ", []),
        ("meshnode incident set --object persons/1a2b 1a2b sex f", ["female"]),
        ("meshnode incident resolve 1a2b status --value c", ["contained", "closed"]),
        ("meshnode incident add 1a2b veh", ["vehicles"]),
        ("meshnode incident add 1a2b persons role=w", ["role=wanted", "role=witness"]),
        ("meshnode incident add 1a2b x-own ", []),
        ("meshnode completion ", ["bash", "zsh", "fish"]),
    ],
)
def test_words_are_offered(line: str, expected: list[str]) -> None:
    assert offered(line) == expected


def test_a_set_is_offered_as_one_and_a_yes_or_no_with_both() -> None:
    sets = [name for name, field in FIELDS["persons"].items() if field.is_set]
    given = offered("meshnode incident add 1a2b persons ")
    assert {name for name in given if name.endswith("+=")} == {f"{name}+=" for name in sets}
    assert len(given) == len(FIELDS["persons"])
    collection, flag = next(
        (collection, name)
        for collection, fields in FIELDS.items()
        for name, field in fields.items()
        if field.type.text == "true or false" and collection != "incident"
    )
    assert offered(f"meshnode incident add 1a2b {collection} {flag}=") == [f"{flag}=true", f"{flag}=false"]
