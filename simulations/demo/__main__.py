"""``python -m simulations.demo``: sets up five nodes, tells the story, prints a table. Exit code 0: all checks held."""

from __future__ import annotations

import argparse
import shlex
import signal
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from types import FrameType

from meshnode.errors import MeshnodeError
from simulations import mesh as meshes
from simulations.demo import namespace
from simulations.demo.cut import TABLE, Cut, PacketDrop, best_cut
from simulations.demo.report import Report
from simulations.demo.script import HUB, MEMBERS
from simulations.demo.secrecy import Secrecy, stored_ciphertexts
from simulations.demo.story import Story
from simulations.mesh import Mesh, MeshError, Node

IDLE_TIMEOUT = "4s"
ANTI_ENTROPY = "3s"
"""Shorter than the defaults (30 s and 10 s), so that one need not wait for a cut to be noticed."""


def main(arguments: list[str]) -> int:
    parser = argparse.ArgumentParser(prog="python -m simulations.demo", description=__doc__)
    parser.add_argument("--keep", action="store_true", help="leave the nodes running, and say how to play with them")
    parser.add_argument("--directory", type=Path, metavar="DIR", help="new directory for everything; stays afterwards")
    options = parser.parse_args(arguments)
    private = namespace.enter(arguments)
    signal.signal(signal.SIGTERM, _interrupt)
    directory = _make_directory(options.directory)
    report = Report()
    mesh = Mesh(directory, idle_timeout=IDLE_TIMEOUT)
    keep_nodes, keep_files = False, True
    try:
        cut = _run(mesh, report, private)
        keep_nodes = options.keep and cut is not None
        keep_files = keep_nodes or report.failed > 0 or options.directory is not None
    except KeyboardInterrupt:
        keep_files = options.directory is not None
        report.say("\nstopped; the nodes are ended")
        return 130
    finally:
        if not keep_nodes:
            mesh.stop_all()
        if not keep_files:
            meshes.remove(directory)
    if keep_nodes:
        _say_how_to_play(report, mesh, cut)
    elif keep_files:
        report.say(f"   logs, data and the hub's traffic are in {directory}")
    return 1 if report.failed else 0


def _run(mesh: Mesh, report: Report, private: bool) -> Cut | None:
    """The whole story and its table. None when it could not be told to the end."""
    begin = time.monotonic()
    cut: Cut | None = None
    report.say("meshnode: five nodes on this machine share one incident")
    story: Story | None = None
    try:
        with report.step("Five nodes are enrolled by files and linked"):
            cut, secrecy = _set_up(mesh, report, private)
        story = Story(mesh, report, cut, secrecy)
        story.tell()
    except (MeshError, MeshnodeError, OSError) as error:
        report.check("the story goes on", False, str(error))
        cut = None
    report.say("")
    if story is not None and cut is not None:
        _table(mesh, report, story)
    rows = [
        (number, step.title, f"{sum(step.checks)} of {len(step.checks)}", f"{step.took_s:.1f} s")
        for number, step in enumerate(report.steps, 1)
    ]
    report.table(("", "STEP", "HELD", "TOOK"), rows)
    report.say("")
    verdict = "every check held" if not report.failed else f"{report.failed} CHECKS DO NOT HOLD"
    report.say(f"   {verdict}: {report.held} of {report.held + report.failed}, in {time.monotonic() - begin:.0f} s")
    return cut


def _set_up(mesh: Mesh, report: Report, private: bool) -> tuple[Cut, Secrecy]:
    report.tell(f"{HUB} is the hub: it relays and is no member. {', '.join(MEMBERS)} are the operational centres.")
    where = "a network namespace of their own" if private else "this machine's own network"
    report.tell(f"Each is a `meshnode run` process with its own data, QUIC on loopback in {where}.")
    report.tell(f"A silent link counts as dead after {IDLE_TIMEOUT[:-1]} s (default 30 s), for a short story.")
    report.tell(f"Directory: {mesh.directory}")
    mesh.enrol([HUB, *MEMBERS], relays=[HUB])
    for node in mesh.nodes.values():
        node.extra = f'[sync]\nanti_entropy_interval = "{ANTI_ENTROPY}"'
    mesh.configure_all()
    secrecy = Secrecy(mesh, report)
    mesh.start_all()
    mesh.wait_linked()
    linked = {noc: _connected(node) for noc, node in mesh.nodes.items()}
    report.check(
        "each node is linked with the four others",
        set(linked.values()) == {len(mesh.nodes) - 1},
        ", ".join(f"{noc} {count}" for noc, count in linked.items()),
    )
    secrecy.begin()
    return best_cut(mesh), secrecy


def _connected(node: Node) -> int:
    with node.client() as client:
        return client.node().peers_connected


def _table(mesh: Mesh, report: Report, story: Story) -> None:
    rows: list[tuple[object, ...]] = []
    for noc in MEMBERS:
        with mesh[noc].client() as client:
            summary = client.incident(story.incident).summary
        rows.append(
            (
                noc,
                "member",
                summary.entries,
                summary.digest[:8],
                summary.conflicts,
                len(story.ledger.of(noc)),
                sum(map(len, stored_ciphertexts(mesh[noc].data))),
            )
        )
    with mesh[HUB].client() as client:
        entries = client.node().entries
    sealed = sum(map(len, stored_ciphertexts(mesh[HUB].data)))
    rows.append((HUB, "relay", entries, "cannot read", "-", "-", sealed))
    heads = ("NODE", "ROLE", "ENTRIES", "DIGEST", "CONFLICTS", "VALUES ACKNOWLEDGED", "CIPHERTEXT BYTES")
    report.table(heads, rows)
    report.say("")


def _say_how_to_play(report: Report, mesh: Mesh, cut: Cut | None) -> None:
    program = Path(sys.executable).with_name("meshnode")
    command = str(program) if program.exists() else f"{sys.executable} -m meshnode"
    with mesh[MEMBERS[0]].client() as client:
        incident = client.incidents()[0].id[:8]
    report.say("\n   The nodes are up. Choose one:")
    for noc, node in mesh.nodes.items():
        report.say(f"     export MESHNODE_SOCKET={node.socket}        # {noc}")
    report.say("   Ask it, and change something:")
    report.say("     export MESHNODE_OPERATOR=you")
    asked = ("peers", "incident list", f"incident show {incident}", f"incident watch {incident}")
    for line in ("status", *asked, f"incident log {incident} 'all quiet'"):
        report.say(f"     {command} {line}")
    if isinstance(cut, PacketDrop):
        node = mesh["FR"]
        enter = namespace.command_inside(node.pid)
        report.say("   Cut FR off, and heal:")
        report.say(f"     {enter} {cut.nft} '{cut.rules(node)}'")
        report.say(f"     {enter} {cut.nft} delete table inet {TABLE}")
    report.say("   End it:")
    report.say(f"     {end_command([node.pid for node in mesh.nodes.values()], mesh.directory)}")


def end_command(pids: Sequence[int], directory: Path) -> str:
    """Ends the processes and removes the directory when they have gone: a node that stops still writes. A process that
    ended and was not waited for keeps its number, but has no ``exe``."""
    numbers = " ".join(map(str, pids))
    wait = f"for p in {numbers}; do while [ -e /proc/$p/exe ]; do sleep 0.1; done; done"
    return f"kill {numbers}; {wait}; rm -r {shlex.quote(str(directory))}"


def _make_directory(wanted: Path | None) -> Path:
    if wanted is None:
        return Path(tempfile.mkdtemp(prefix="meshnode-demo-"))
    wanted.mkdir(parents=True, exist_ok=False)
    return wanted.absolute()


def _interrupt(number: int, frame: FrameType | None) -> None:
    raise KeyboardInterrupt


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
