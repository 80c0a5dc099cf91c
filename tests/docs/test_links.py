"""What the manuals point at is there: links, anchors, paths, make targets, commands, modules."""

from __future__ import annotations

import importlib.util
import re
import shlex
from pathlib import Path

import click
import pytest
from manuals import ROOT, anchors, commands, links, name_of, pages, prose, spans

from meshnode.cli import root as program

PAGES = pages()

OURS = {".ci", "docs", "meshnode", "protocol", "simulations", "systemd", "tests"}
ROOMS = {path.name for path in (ROOT / "meshnode").iterdir() if path.is_dir() and not path.name.startswith("_")}
SUFFIXES = {".py", ".md", ".cddl", ".xsd"}
"""A name with one of these is a file of this tree wherever it stands; others may be files of the reader's."""

LABELS = {"meshnode/1", "meshnode state"}
"""Bytes of the protocol that look like a path or a command."""

_PATH = re.compile(r"\.{0,2}[A-Za-z0-9_][A-Za-z0-9_.*-]*(?:/[A-Za-z0-9_.*-]+)*/?|\.\./[A-Za-z0-9_./*-]+")
_MAKE = re.compile(r"(?:^|[;&] *)make((?: +[A-Z_]+=\S+)*)((?: +[a-z][a-z-]*)+)$")
_MODULE = re.compile(r"python[0-9.]* -m ([a-z_]+(?:\.[a-z_]+)*)")


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_every_relative_link_leads_to_a_page_and_a_heading(page: Path) -> None:
    for link in links(page):
        if re.match(r"[a-z]+:", link):
            continue
        name, _, anchor = link.partition("#")
        target = (page.parent / name).resolve() if name else page
        assert target.exists(), f"{link} leads nowhere"
        if anchor:
            assert anchor in anchors(target), f"{link}: no such heading; there are {sorted(anchors(target))}"


def is_there(path: str, page: Path) -> bool:
    """Relative to the tree, to the page or its parent, to the package or to a room: as file, directory or module."""
    package = ROOT / "meshnode"
    for base in (ROOT, page.parent, page.parent.parent, package, *(package / room for room in ROOMS)):
        if "*" in path:
            found = any(base.glob(path.rstrip("/")))
        else:
            found = (base / path).exists() or (base / f"{path}.py").exists()
        if found:
            return True
    return False


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_code_in_a_line_ends_in_that_line(page: Path) -> None:
    """Or the tests below would not see it."""
    assert [line for line in prose(page).splitlines() if line.count("`") % 2] == []


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_every_path_of_this_tree_exists(page: Path) -> None:
    for span in spans(page):
        path, _, test = span.partition("::")
        if not _PATH.fullmatch(path) or "NNNN" in path or span in LABELS:
            continue
        first, slash, _ = path.partition("/")
        if (slash and first in OURS | ROOMS | {".."}) or Path(path).suffix in SUFFIXES:
            assert is_there(path, page), f"`{span}` is not in this tree"
            if test:
                source = (ROOT / path).read_text("utf-8")
                assert re.search(rf"^(?:async )?def {re.escape(test)}\(", source, re.MULTILINE), f"no test `{span}`"


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_every_make_target_exists(page: Path) -> None:
    makefile = (ROOT / "Makefile").read_text("utf-8")
    targets = set(re.findall(r"^([a-z][a-z-]*):", makefile, re.MULTILINE))
    for line in commands(page):
        found = _MAKE.search(line)
        for target in found[2].split() if found else ():
            assert target in targets, f"`{line}`"


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_every_command_line_is_one_that_the_program_takes(page: Path) -> None:
    for line in commands(page):
        if line.startswith("meshnode ") and line not in LABELS:
            check_command(line)


def check_command(line: str) -> None:
    """Every word up to the first argument is a command, every option one of it. Capitals are placeholders."""
    words = shlex.split(re.split(r" [|<>;&]+ | \[", line)[0], posix=False)[1:]
    command: click.Command = program
    context = click.Context(command)
    options: set[str] = {"--help", "--version"}
    while words and isinstance(command, click.Group) and not words[0].startswith("-"):
        if words[0].isupper() or words[0] in ("...", "…"):
            return
        found = [command.get_command(context, name) for name in words.pop(0).split("|")]
        assert all(found), f"`{line}`: no such command"
        command = found[0] or command
    for parameter in command.params:
        options |= {*parameter.opts, *parameter.secondary_opts}
    for word in words:
        if word.startswith("--"):
            assert word.partition("=")[0] in options, f"`{line}`: no option {word}"


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_every_module_that_is_run_can_be_found(page: Path) -> None:
    for line in commands(page):
        for module in _MODULE.findall(line):
            assert importlib.util.find_spec(module), f"`{line}`"


def test_every_page_for_readers_is_reached_from_the_index() -> None:
    index = ROOT / "docs" / "README.md"
    reached = {(index.parent / link.partition("#")[0]).resolve() for link in links(index)}
    for page in PAGES:
        if page.parent == index.parent and page != index:
            assert page in reached, f"docs/README.md does not name {page.name}"
