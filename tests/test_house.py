"""The rules of the house. Each exception names its reason; a new one is a decision, not a convenience.

The import law is that of docs/ARCHITECTURE.md: arguments come in at the top, decisions are made at the bottom, and what
waits for the world (sockets, disks, threads) stands in rooms that do not know each other.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Iterable
from graphlib import CycleError, TopologicalSorter

import pytest
from house import (
    CODE,
    ROOT,
    Source,
    broad_handlers,
    calls,
    foreign_to_the_core,
    imports,
    is_under,
    long_files,
    long_functions,
    silencers_without_reason,
    sources,
    texts,
    unfinished,
)

SHELLS = ("storage", "transport", "discovery", "api")

MAY_IMPORT: dict[str, tuple[str, ...]] = {
    "errors": (),
    "core": ("errors",),
    **dict.fromkeys(SHELLS, ("core", "errors")),
    "config": (*SHELLS, "core", "errors"),
    "daemon": ("config", *SHELLS, "core", "errors"),
    # CAP and other formats are read in the client process: a hostile file never meets a key of the daemon.
    "interchange": ("core", "errors"),
    # The client speaks the records of the API; it does not serve them.
    "client": ("api.records", "core", "errors"),
    # The ceremony works on key files, without a daemon.
    "authority": ("storage", "core", "errors"),
    "enrolment": ("storage", "core", "errors"),
    "cli": (
        *("daemon", "config", "client", "authority", "enrolment", "interchange", "core", "errors"),
        "api.records",  # what the client returns
        *("storage.keyfiles", "storage.sealed_key"),  # names of files and limits of passphrases, for help texts
    ),
    "__main__": ("cli",),
}
"""Room -> what it may import besides itself. Rooms that are not named here do not exist."""

CORE_LAYERS: tuple[tuple[str, ...], ...] = (
    ("ids", "codec", "names", "geometry", "views", "budget", "aead"),
    ("keys", "log", "events", "facts", "operations", "causal", "retention", "accounts"),
    ("certificates", "entry", "prekeys", "vault", "epochs", "hello", "identity", "roster", "wire", "acts"),
    ("verdicts", "pasts", "lineage", "rights", "groups"),
    ("crdt", "snapshot", "field_types", "schema_fields", "schema", "planning", "incident", "attachments"),
    ("replica", "reseal", "holdings", "outbox", "archive", "own_logs", "incidents"),
    ("sync", "gossip", "peers", "introductions", "picture", "rollcall", "custody", "refusals", "invitations"),
    ("exchange",),
    ("node",),
    ("reading",),
)
"""From words to the whole. A room of the core imports from its own layer, without a circle, or from those before."""

STRANGERS = {"sync", "gossip", "peers"}
"""Do not import each other: what one does with the other is decided above them."""

LIBRARY_ROOMS: dict[str, tuple[str, ...]] = {
    "aioquic": ("transport",),
    "zeroconf": ("discovery",),
    "ifaddr": ("discovery",),
    "asyncio": ("discovery",),  # zeroconf's loop, on its own thread
    "sqlite3": ("storage",),
    "httptools": ("api",),
    "msgpack": ("api",),
    "msgspec": ("api", "client"),  # one set of records at both ends
    "lxml": ("interchange",),
    "click": ("cli",),
    "cbor2": ("core.codec",),
    "nacl": ("core", "storage.sealed_key"),  # the passphrase of a root key file; no key of a running node
    "cryptography": ("core", "transport"),  # the certificates of TLS, which prove nothing by themselves
    "trio": ("daemon", "transport", "discovery", "api"),
    "outcome": ("daemon.disk",),  # carries a result from the disk's thread
    "threading": ("daemon.disk", "discovery.session"),  # what cannot be awaited: the disk, and zeroconf
}
"""Foreign library (or part of the standard library that matters as much) -> the rooms that may know it."""

CORE_STDLIB = frozenset(
    (
        *("__future__", "typing", "dataclasses", "enum", "collections", "collections.abc", "functools", "itertools"),
        *("array", "bisect", "difflib", "hashlib", "heapq", "math", "re", "struct"),
        "random",  # only as the type random.Random: the caller brings the generator
        "sys",  # only sys.intern
        "zlib",  # masks that are kept packed
        "datetime",  # only datetime.fromisoformat: the form of a text, never the time
    )
)
"""What the core uses of the standard library: nothing that waits, looks at the world or has a memory."""

BROAD_HANDLERS: dict[tuple[str, str], str] = {
    ("meshnode/cli/base.py", "LazyGroup.main"): "the outermost edge: a bug must not look like a refusal",
    ("meshnode/api/connection.py", "Connection.run"): "a task's outer edge: a defect costs one client its answer",
    ("meshnode/daemon/links.py", "Links.run"): "a task's outer edge: a defect of the transport leaves the API serving",
    ("meshnode/discovery/session.py", "Worker._main"): "a thread's outer edge: whatever the library raises is a reason",
    ("meshnode/discovery/session.py", "Worker._run"): "a session's outer edge: whatever the library raises is a reason",
    ("simulations/sweep.py", "attempt"): "a seed's outer edge: a defect of the harness costs one seed, not the sweep",
}
"""(file, function) -> why it may catch what it does not know."""

REAL_SLEEPS: dict[tuple[str, str], str] = {
    ("meshnode/client.py", "Client.events"): "a plain synchronous client waits before it connects anew",
}
"""(file, function) -> why it may hold its thread. Nothing else does, and no test."""

FILE_LINES_MAX = 600
FUNCTION_LINES_MAX = 70
"""A screen. What does not fit is two things."""

MESHNODE = sources("meshnode")
ALL = sources(*CODE)


def hold(breaches: Iterable[str]) -> None:
    """Fails with one line per breach."""
    found = sorted(breaches)
    if found:
        pytest.fail("\n".join(found), pytrace=False)


def room_of(source: Source) -> str:
    """``core.ids`` for meshnode/core/ids.py."""
    return source.module.removeprefix("meshnode").lstrip(".")


def ours(module: str) -> str | None:
    """``core.ids`` for ``meshnode.core.ids``, None for other people's."""
    return module.removeprefix("meshnode.") if module.startswith("meshnode.") else None


# --- the import law ---------------------------------------------------------------------------------------------------


def breaches_of_the_import_law(source: Source) -> list[str]:
    room = room_of(source).split(".")[0]
    if room not in MAY_IMPORT:
        return [] if room == "" else [f"{source.path}: {room!r} is no room of the house"]
    allowed = (room, *MAY_IMPORT[room])
    breaches = []
    for line, module in imports(source):
        target = ours(module)
        if module.startswith((".", "simulations", "tests")) or (target and not is_under(target, allowed)):
            breaches.append(source.at(line, f"{room} imports {module}"))
    return breaches


def breaches_of_the_library_rule(source: Source) -> list[str]:
    breaches = []
    for line, module in imports(source):
        top = module.split(".")[0]
        if top == "meshnode" or (top in sys.stdlib_module_names and top not in LIBRARY_ROOMS):
            continue
        if not is_under(room_of(source), LIBRARY_ROOMS.get(top, ())):
            breaches.append(source.at(line, f"{top} does not belong here"))
    return breaches


def core_imports() -> dict[str, set[str]]:
    """Room of the core -> rooms of the core that it imports."""
    graph: dict[str, set[str]] = {}
    for source in MESHNODE:
        room = room_of(source)
        if room.startswith("core."):
            targets = {ours(module) for _, module in imports(source)}
            graph[room[5:]] = {target[5:] for target in targets if target and target.startswith("core.")}
    return graph


def test_imports_point_from_the_command_line_to_the_core_and_shells_do_not_know_each_other() -> None:
    hold(breach for source in MESHNODE for breach in breaches_of_the_import_law(source))


def test_each_foreign_library_lives_in_its_own_room() -> None:
    hold(breach for source in MESHNODE for breach in breaches_of_the_library_rule(source))


def test_every_library_that_is_used_is_pinned() -> None:
    named = {"nacl": "pynacl"}
    pinned = (ROOT / "pyproject.toml").read_text(encoding="utf-8").partition("[project.optional-dependencies]")[0]
    libraries = [library for library in LIBRARY_ROOMS if library not in sys.stdlib_module_names]
    hold(library for library in libraries if f'"{named.get(library, library)}==' not in pinned)


def test_every_room_of_the_core_has_its_layer() -> None:
    assert sorted(core_imports()) == sorted(room for layer in CORE_LAYERS for room in layer)


def test_inside_the_core_imports_point_from_the_whole_to_the_words() -> None:
    layer_of = {room: number for number, layer in enumerate(CORE_LAYERS) for room in layer}
    breaches = [
        f"core/{room}.py imports {target}, which stands above it"
        for room, targets in core_imports().items()
        for target in targets
        if layer_of[target] > layer_of[room] or {room, target} <= STRANGERS
    ]
    hold(breaches)


def test_inside_the_core_there_is_no_circle() -> None:
    try:
        TopologicalSorter(core_imports()).prepare()
    except CycleError as error:
        pytest.fail(f"a circle of imports: {' -> '.join(error.args[1])}")


# --- what decides is pure ---------------------------------------------------------------------------------------------


def test_the_core_does_not_wait_or_ask_what_time_it_is_or_throw_dice() -> None:
    core = [source for source in MESHNODE if source.path.startswith("meshnode/core/")]
    hold(breach for source in core for breach in foreign_to_the_core(source, CORE_STDLIB))


# --- tidy -------------------------------------------------------------------------------------------------------------


def test_no_file_is_too_long() -> None:
    hold(breach for source in ALL for breach in long_files(source, FILE_LINES_MAX))


def test_every_function_fits_a_screen() -> None:
    hold(breach for source in ALL for breach in long_functions(source, FUNCTION_LINES_MAX))


def test_nobody_swallows_what_they_do_not_know_but_a_few_outer_edges() -> None:
    found = {(source.path, function): breach for source in ALL for function, breach in broad_handlers(source)}
    hold(breach for place, breach in found.items() if place not in BROAD_HANDLERS)
    assert set(BROAD_HANDLERS) - set(found) == set(), "an exception that nobody needs any more"


def test_every_silenced_warning_has_its_reason() -> None:
    hold(breach for source in ALL for breach in silencers_without_reason(source))


def test_nothing_is_left_for_later() -> None:
    hold(breach for source in ALL for breach in unfinished(source))


def test_no_thread_sleeps() -> None:
    """Of the simulations only those that watch real processes do, so they are not asked."""
    found = {}
    for source in sources("meshnode", "tests"):
        for line, text in calls(source, "time.sleep"):
            found[source.path, source.function_at(line)] = source.at(line, text)
    hold(breach for place, breach in found.items() if place not in REAL_SLEEPS)
    assert set(REAL_SLEEPS) - set(found) == set(), "an exception that nobody needs any more"


def test_tests_sleep_only_on_a_clock_of_their_own() -> None:
    """A test that lets real time pass is slow on a good day and flaky on a bad one: wait for what happens."""
    clock = re.compile(r"autojump_clock|mock_clock|MockClock|virtual time")
    breaches = [
        source.at(line, text)
        for source in sources("tests")
        if not clock.search(source.text)
        for line, text in calls(source, "trio.sleep", "asyncio.sleep")
    ]
    hold(breaches)


def test_nothing_names_the_machine_it_was_written_on_or_a_place_to_fetch_packages_from() -> None:
    paths = ["/" + "work/", "/" + "tmp/venv", "/" + "root/", ".." + "/shared"]
    hosts = ["py" + "pi", "npm" + "js", "python" + "hosted", "art" + "ifactory"]
    forbidden = re.compile("|".join(re.escape(word) for word in paths + hosts), re.IGNORECASE)
    breaches = [
        f"{path}:{number}: {found.group()}"
        for path, text in texts()
        for number, line in enumerate(text.splitlines(), start=1)
        if (found := forbidden.search(line))
    ]
    hold(breaches)


# --- the rules see what they are made for -----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("path", "text"),
    [
        ("meshnode/core/x.py", "from meshnode.storage import rows"),
        ("meshnode/core/x.py", "def f():\n    import meshnode.api.server"),
        ("meshnode/storage/x.py", "from meshnode.transport.base import Transport"),
        ("meshnode/api/x.py", "from meshnode import storage"),
        ("meshnode/transport/x.py", "from meshnode.config import Config"),
        ("meshnode/daemon/x.py", "from meshnode.interchange import cap"),
        ("meshnode/daemon/x.py", "import meshnode.cli.base"),
        ("meshnode/config/x.py", "from meshnode.daemon import run"),
        ("meshnode/client.py", "from meshnode.api import server"),
        ("meshnode/core/x.py", "from .ids import Dot"),
        ("meshnode/core/x.py", "from simulations import mesh"),
        ("meshnode/cellar/x.py", ""),
    ],
)
def test_a_planted_import_against_the_law_is_found(path: str, text: str) -> None:
    assert breaches_of_the_import_law(Source(path, text)) != []


@pytest.mark.parametrize(
    ("path", "text"),
    [
        ("meshnode/daemon/x.py", "import sqlite3"),
        ("meshnode/core/x.py", "import trio"),
        ("meshnode/core/log.py", "import cbor2"),
        ("meshnode/storage/rows.py", "from nacl import bindings"),
        ("meshnode/api/x.py", "import a_library_that_nobody_decided_on"),
        ("meshnode/transport/x.py", "import asyncio"),
        ("meshnode/cli/x.py", "from lxml import etree"),
    ],
)
def test_a_planted_library_in_the_wrong_room_is_found(path: str, text: str) -> None:
    assert breaches_of_the_library_rule(Source(path, text)) != []


@pytest.mark.parametrize(
    "text",
    [
        "import time",
        "from os import urandom",
        "import logging",
        "import socket",
        "import random\nrandom.shuffle([])",
        "import random\nrandom.Random(1)",
        "import random\nchoose = random.choice",
        "from datetime import datetime\ndatetime.now()",
        "import sys\nsys.argv",
        "async def f(): pass",
        "open('x')",
        "hash('x')",
        "X25519PrivateKey.generate()",
        "def f(randombytes=os.urandom): pass\nimport os",
    ],
)
def test_a_planted_impurity_of_the_core_is_found(text: str) -> None:
    assert list(foreign_to_the_core(Source("meshnode/core/x.py", text), CORE_STDLIB)) != []


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("try:\n    f()\nexcept Exception:\n    pass", True),
        ("try:\n    f()\nexcept:\n    pass", True),
        ("try:\n    f()\nexcept (OSError, BaseException) as e:\n    raise OSError from e", True),
        ("with contextlib.suppress(Exception):\n    f()", True),
        ("try:\n    f()\nexcept BaseException:\n    close()\n    raise", False),
        ("try:\n    f()\nexcept OSError:\n    pass", False),
    ],
)
def test_a_planted_broad_handler_is_found_and_cleaning_up_is_not_one(text: str, found: bool) -> None:
    assert bool(list(broad_handlers(Source("meshnode/x.py", text)))) is found


@pytest.mark.parametrize(
    ("comment", "found"),
    [
        ("# noqa", True),
        ("# noqa: S311", True),
        ("# type: ignore", True),
        ("# type: ignore[arg-type]", True),
        ("# noqa: S311 - a seed is what a test wants", False),
        ("# noqa: S311  (loss, not a secret)", False),
        ("# type: ignore[arg-type]  # only its length is used", False),
        ("# an ordinary comment", False),
    ],
)
def test_a_planted_silencer_needs_a_reason(comment: str, found: bool) -> None:
    assert bool(list(silencers_without_reason(Source("x.py", f"f()  {comment}\n")))) is found


def test_planted_untidiness_is_found() -> None:
    assert list(unfinished(Source("x.py", "# TO" + "DO: later\n")))
    assert list(unfinished(Source("x.py", "raise NotImplementedError\n")))
    assert list(long_files(Source("x.py", "\n" * 601), FILE_LINES_MAX))
    assert list(long_functions(Source("x.py", "class C:\n def f():\n" + "  x\n" * 70), FUNCTION_LINES_MAX))
    assert list(calls(Source("x.py", "from time import sleep\n"), "time.sleep"))
