"""The machines: each a daemon with a directory, a network and a disk of its own, and what may befall it.

Everything goes the way it goes in reality: enrolment by the command line and by files, signals for a crash and a
pause, a full file system, bytes changed in files, a copied directory for a clone or a backup (taken as a snapshot of
the disk is: of one moment, under a running daemon).
"""

from __future__ import annotations

import os
import shutil
import signal
import sqlite3
import struct
import subprocess
import sys
from contextlib import closing, suppress
from dataclasses import dataclass, field
from pathlib import Path
from random import Random

from simulations.mesh import KEPT_WHEN_WIPED, MESHNODE, Mesh, Node
from simulations.scenario.plan import NodeFault, Plan
from simulations.scenario.records import NodeSpec
from simulations.worlds.lab.network import PORT, Network
from simulations.worlds.lab.odd import NOTHING, write_skew

STORE_FILE = "meshnode.db"
DISK_BYTES = 64 * 1024 * 1024
"""File system of a machine whose disk will be full. Stores of lab runs have a few MB."""
WAL_HEADER, WAL_FRAME = struct.Struct(">IIIIII"), struct.Struct(">IIII")
"""As far as they are read here: magic, version, page size, number, two salts; page, size after commit, two salts."""
FILLER = "filler"
FILL_BYTES = 1024 * 1024
CLONE = "~"
"""Behind the name of a machine: its copy, as in the protocol world."""

Heights = dict[str, dict[str, int]]
"""Incident -> log -> height, of the entries on a disk."""


@dataclass(slots=True, eq=False)
class Machine:
    name: str
    spec: NodeSpec
    node: Node
    small_disk: bool
    for_good: bool = False
    paused: bool = False
    backups: dict[float, Path] = field(default_factory=dict)

    @property
    def up(self) -> bool:
        return self.node.process is not None and self.node.process.poll() is None

    @property
    def relay(self) -> bool:
        return self.spec.role != "member"

    @property
    def clock_file(self) -> Path:
        return self.node.directory / "clock"

    # --- its process ----------------------------------------------------------------------------------------------

    def kill(self) -> None:
        if self.up:
            self.resume()
            self.node.kill()
        self.node.process = None

    def stop(self) -> None:
        """In order. A daemon that does not end in time is killed, and that is the exit code's to tell."""
        if self.up:
            self.resume()
            try:
                self.node.stop()
            except subprocess.TimeoutExpired:
                self.node.kill()
        self.node.process = None

    def pause(self) -> None:
        if self.up:
            os.kill(self.node.pid, signal.SIGSTOP)
            self.paused = True

    def resume(self) -> None:
        if self.paused and self.up:
            os.kill(self.node.pid, signal.SIGCONT)
        self.paused = False

    # --- its disk -------------------------------------------------------------------------------------------------

    def fill_disk(self) -> None:
        """Not a byte is left, also where a file has room that it does not use.

        The store keeps such room in its write-ahead log, to end in order on a full disk. A file system that copies on
        write, or one on thin storage, breaks that promise, and this is one.
        """
        was_paused = self.paused
        self.pause()
        wal = self.node.data / f"{STORE_FILE}-wal"
        used_bytes = wal_used_bytes(wal)
        if wal.exists() and used_bytes < wal.stat().st_size:
            size = wal.stat().st_size - used_bytes
            hole = ["--punch-hole", "--offset", str(used_bytes), "--length", str(size)]
            subprocess.run(["fallocate", *hole, str(wal)], check=True)
        self._fill()
        if not was_paused:
            self.resume()

    def _fill(self) -> None:
        with (self.node.data / FILLER).open("wb", buffering=0) as file, suppress(OSError):
            piece = bytes(FILL_BYTES)
            while file.write(piece) == FILL_BYTES:
                pass
            while file.write(bytes(512)):
                pass

    def free_disk(self) -> None:
        (self.node.data / FILLER).unlink(missing_ok=True)

    def snapshot(self, to: Path) -> None:
        """A copy of the data directory as it is at one moment."""
        was_paused = self.paused
        if not was_paused:
            self.pause()
        shutil.copytree(self.node.data, to, ignore=shutil.ignore_patterns(FILLER, "*.sock", "lock"))
        if not was_paused:
            self.resume()

    def put_back(self, backup: Path) -> None:
        """The data directory becomes what it was. Not while it runs."""
        _empty(self.node.data, frozenset({FILLER}))
        shutil.copytree(backup, self.node.data, dirs_exist_ok=True)

    def wipe(self) -> None:
        """The disk is lost but for what makes it the same device. Not while it runs."""
        _empty(self.node.data, KEPT_WHEN_WIPED | {FILLER})

    def flip_bits(self, rng: Random, count: int) -> int:
        """Changes so many bits of stored entries, in the file, under the running daemon. How many it could.

        Of the ciphertext of entries in the database: what a scrubber must find and peers must mend. In the write-ahead
        log a bit costs all that follows it, and in SQLite's own structure it ends commits: those are other faults.
        """
        done = 0
        for _ in range(count):
            for row in rng.sample(rows := self._sealed_rows(), len(rows)):
                # A newer copy of the page in the write-ahead log hides the change: then another row.
                if _flip_in(self.node.data / STORE_FILE, row, rng) and row not in self._sealed_rows():
                    done += 1
                    break
        return done

    def _sealed_rows(self) -> list[bytes]:
        with closing(_connect(self.node.data)) as connection:
            return [row[0][:200] for row in connection.execute("SELECT sealed FROM entry ORDER BY place")]

    def heights(self) -> Heights:
        """What lies durable on its disk, read beside the daemon. Empty where there is no store yet."""
        found: Heights = {}
        for (incident, log), (height, _) in stored_heads(self.node.data).items():
            found.setdefault(incident, {})[log] = height
        return found


@dataclass(slots=True)
class Machines:
    """All machines of a plan, and its clones: those have a network from the start, a disk when they are made."""

    plan: Plan
    network: Network
    directory: Path
    defect: str = ""
    """Planted in every member: one of ``simulations.defects``."""
    by_name: dict[str, Machine] = field(default_factory=dict)
    mesh: Mesh = field(init=False)

    def __post_init__(self) -> None:
        plan = self.plan
        self.mesh = Mesh(
            self.directory,
            idle_timeout=f"{max(3, round(plan.idle_timeout_s))}s",
            redial_max=f"{max(1, round(plan.redial_max_s))}s",
        )

    def build(self) -> None:
        """Enrols and configures everybody. Raises MeshError."""
        plan, mesh = self.plan, self.mesh
        first = [spec for spec in plan.nodes if spec.device == 1]
        mesh.enrol([spec.noc for spec in first], [spec.noc for spec in first if spec.role != "member"])
        filled = {
            action.node for action in plan.actions if isinstance(action, NodeFault) and action.verb == "disk-full"
        }
        skewed = {
            action.node for action in plan.actions if isinstance(action, NodeFault) and action.verb == "skew-clock"
        }
        for spec in plan.nodes:
            if spec.device > 1:
                node = Node(spec.noc, self.directory / spec.name.lower(), PORT, spec.role != "member")
                node.directory.mkdir()
                mesh.nodes[spec.name] = node
                mesh.enrol_device(node, spec.name.lower())
            machine = Machine(spec.name, spec, mesh[spec.name], spec.name in filled)
            self.by_name[spec.name] = machine
            if spec.name in filled:
                self._give_small_disk(machine)
            self._place(machine, spec.name in skewed)
        for machine in self.by_name.values():
            self._configure(machine)

    def _place(self, machine: Machine, skewed: bool) -> None:
        node = machine.node
        node.host, node.port = self.network.address(machine.name), PORT
        program: tuple[str, ...] = MESHNODE
        if skewed:
            write_skew(machine.clock_file, 0.0, 0.0)
        # Relays stay sound: what plants a defect brings the marked word into their memory.
        defect = "" if machine.relay else self.defect
        if skewed or defect:
            clock = str(machine.clock_file) if skewed else NOTHING
            program = (sys.executable, "-m", "simulations.worlds.lab.odd", clock, defect or NOTHING)
        node.command = (*self.network.command(machine.name), *program)

    def _configure(self, machine: Machine) -> None:
        machine.node.extra = f'[sync]\nanti_entropy_interval = "{max(1, round(self.plan.anti_entropy_interval_s))}s"'
        peers = [self.mesh[name] for name in self.plan.dials_of(machine.spec.name)]
        self.mesh.configure(machine.node, peers)

    @staticmethod
    def _give_small_disk(machine: Machine) -> None:
        data = machine.node.data
        kept = data.with_name("data.enrolled")
        data.rename(kept)
        data.mkdir(mode=0o700)
        size = f"size={DISK_BYTES},mode=0700"
        subprocess.run(["mount", "-t", "tmpfs", "-o", size, "tmpfs", str(data)], check=True)
        shutil.copytree(kept, data, dirs_exist_ok=True)
        shutil.rmtree(kept)

    def clone(self, original: Machine, name: str) -> Machine:
        """A second live copy, from a snapshot of the disk. Its network is there; it is not started yet."""
        old = original.node
        node = Node(old.noc, self.directory / name.lower(), PORT, old.relay)
        node.directory.mkdir()
        machine = Machine(name, original.spec, node, False)
        original.snapshot(node.data)
        self.by_name[name] = machine
        self._place(machine, False)
        self._configure(machine)
        return machine

    def start(self, machine: Machine) -> None:
        """Starts its daemon if it does not run, and waits for nothing."""
        if not machine.up:
            machine.node.process = None
            machine.paused = False
            self.mesh.launch(machine.node)

    def skew(self, machine: Machine, skew_s: float, drift: float) -> None:
        if machine.clock_file.exists():
            write_skew(machine.clock_file, skew_s, drift)


def stored_heads(data: Path) -> dict[tuple[str, str], tuple[int, str]]:
    """(incident, log) -> (height, 8 bytes of the hash of the entry there), of what lies durable in this directory.

    A process of its own may have the store open.
    """
    found: dict[tuple[str, str], tuple[int, str]] = {}
    if not (data / STORE_FILE).exists():
        return found
    with closing(_connect(data)) as connection:
        names = {
            number: (parent, name)
            for number, parent, name in connection.execute("SELECT number, parent, name FROM name")
        }
        # With MAX, SQLite takes the other columns from the row that has the maximum.
        query = "SELECT place >> 32, MAX(place & 4294967295), prefix FROM entry GROUP BY place >> 32"
        for number, height, prefix in connection.execute(query):
            parent, log = names[number]
            found[names[parent][1].hex(), log.hex()] = (height, f"{prefix & (1 << 64) - 1:016x}")
    return found


def wal_used_bytes(wal: Path) -> int:
    """Where the frames of this write-ahead log end that belong to it: what follows is older, or room."""
    if not wal.exists() or wal.stat().st_size < WAL_HEADER.size:
        return 0
    with wal.open("rb") as file:
        _, _, page_bytes, _, *salts = WAL_HEADER.unpack(file.read(WAL_HEADER.size))
        end = 32
        while True:
            file.seek(end)
            frame = file.read(WAL_FRAME.size)
            if len(frame) < WAL_FRAME.size or list(WAL_FRAME.unpack(frame)[2:]) != salts:
                return end
            end += 24 + page_bytes


def _connect(data: Path) -> sqlite3.Connection:
    return sqlite3.connect(f"{(data / STORE_FILE).as_uri()}?mode=ro", uri=True, timeout=10)


def _empty(directory: Path, kept: frozenset[str]) -> None:
    for path in directory.iterdir():
        if path.name not in kept:
            path.unlink()


def _flip_in(path: Path, row: bytes, rng: Random) -> bool:
    place = path.read_bytes().find(row)
    if place < 0:
        return False
    with path.open("r+b") as file:
        at = place + rng.randrange(len(row))
        file.seek(at)
        (byte,) = file.read(1)
        file.seek(at)
        file.write(bytes([byte ^ 1 << rng.randrange(8)]))
    return True
