"""Where tests of the whole daemon find what other tests use too, and daemons that are enrolled already."""

from __future__ import annotations

import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

# `simulations` starts real daemons; `world` has the enrolled identities.
sys.path += [str(Path(__file__).parents[2]), str(Path(__file__).parents[1])]

from processes import MakeMesh

from simulations.mesh import Mesh, Node, free_port, remove

NOCS = ("BE", "NL", "XX")
"""BE is a hub, so that it tells everybody of everything; XX is enrolled, and what it does is up to each test."""


@pytest.fixture(scope="session")
def enrolled() -> Iterator[Mesh]:
    """The ceremony of three NOCs, done once. Nothing runs here: tests take copies."""
    directory = Path(tempfile.mkdtemp(prefix="mn-"))
    mesh = Mesh(directory)
    mesh.enrol(NOCS, relays=("BE",))
    yield mesh
    remove(directory)


@pytest.fixture
def make_mesh(enrolled: Mesh) -> Iterator[MakeMesh]:
    """``make_mesh("BE", "NL")``: new nodes with the enrolled keys and empty disks, configured with each other."""
    made: list[Mesh] = []

    def make(*nocs: str, **settings: str) -> Mesh:
        # Not under tmp_path: the path of a Unix socket has at most 107 bytes.
        mesh = Mesh(Path(tempfile.mkdtemp(prefix="mn-")), **settings)
        made.append(mesh)
        for noc in nocs:
            mesh.nodes[noc] = Node(noc, mesh.directory / noc.lower(), free_port(), noc == "BE")
            shutil.copytree(enrolled[noc].data, mesh[noc].data)
        mesh.configure_all()
        return mesh

    yield make
    for mesh in made:
        mesh.stop_all()
        remove(mesh.directory)


DISK_MIB = 24
"""Room for a store with its write-ahead log of 8 MiB in reserve, and soon full."""


@pytest.fixture
def own_disk() -> Iterator[Callable[[Path], None]]:
    """Puts a file system of DISK_MIB under a directory, with what is in it; skips where this user may not."""
    mounted: list[Path] = []

    def mount(place: Path) -> None:
        kept = place.with_name(place.name + ".kept")
        place.rename(kept)
        place.mkdir(mode=0o700)
        options = f"size={DISK_MIB}m,mode=0700"
        done = subprocess.run(["mount", "-t", "tmpfs", "-o", options, "none", place], capture_output=True, check=False)
        if done.returncode:
            pytest.skip("this user may not mount a file system")
        mounted.append(place)
        shutil.copytree(kept, place, dirs_exist_ok=True)

    yield mount
    for place in mounted:
        subprocess.run(["umount", "--lazy", place], check=True)
        # Its mesh could not remove what was mounted.
        remove(place.parents[1])
