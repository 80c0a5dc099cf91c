"""A mesh of real daemons on this machine, each ``meshnode run`` in a process of its own.

Used by the demonstration, the benchmarks and the tests of the whole daemon. Enrolment goes the operator's way, by the
command line and by files. Every node has its own data directory, UDP port on loopback and Unix socket.
"""

from __future__ import annotations

import contextlib
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path

from meshnode.client import Client
from meshnode.errors import MeshnodeError
from meshnode.storage import keyfiles

MESHNODE = (sys.executable, "-m", "meshnode")
START_TIMEOUT_S = 30.0
POLL_S = 0.02
AT_ONCE = 2
"""Command lines run side by side during enrolment: each keeps a core busy, and small machines have two."""

KEPT_WHEN_WIPED = frozenset(
    {
        keyfiles.DEVICE_KEY_FILE,
        keyfiles.STORE_KEY_FILE,
        keyfiles.CERTIFICATE_FILE,
        keyfiles.NETWORK_ROOT_FILE,
    }
)
"""What a node needs to be the same device again. Prekeys live in the store and go with it."""


class MeshError(Exception):
    """Something in the mesh did not come about in time; says what, and where the logs are."""


@dataclass
class Node:
    """One daemon: its place on disk, its address, and its process while it runs."""

    noc: str
    directory: Path
    port: int
    relay: bool
    process: subprocess.Popen[bytes] | None = None
    command: tuple[str, ...] = MESHNODE
    """What is run as ``meshnode``, for a daemon under a wrapper of its own."""
    extra: str = ""
    """More lines for its configuration file."""
    host: str = "127.0.0.1"
    """Its address, where it has a network of its own."""

    @property
    def data(self) -> Path:
        return self.directory / "data"

    @property
    def config(self) -> Path:
        return self.directory / "meshnode.toml"

    @property
    def socket(self) -> Path:
        return self.directory / "api.sock"

    @property
    def log(self) -> Path:
        return self.directory / "node.log"

    @property
    def address(self) -> str:
        return f"{self.host}:{self.port}"

    @property
    def pid(self) -> int:
        if self.process is None:
            raise MeshError(f"{self.noc} does not run")
        return self.process.pid

    def client(self, timeout_s: float = 30.0, operator: str = "") -> Client:
        return Client(str(self.socket), operator=operator, timeout_s=timeout_s)

    def kill(self) -> None:
        """SIGKILL: no goodbye, no clean stop."""
        self._end(signal.SIGKILL)

    def stop(self) -> int:
        """SIGTERM; the exit code."""
        return self._end(signal.SIGTERM)

    def wipe(self) -> None:
        """Loses the disk and gets it back empty, with the same keys and certificate. Not while it runs."""
        for path in self.data.iterdir():
            if path.name not in KEPT_WHEN_WIPED:
                path.unlink()

    def _end(self, number: signal.Signals) -> int:
        if self.process is None:
            return 0
        self.process.send_signal(number)
        code = self.process.wait(timeout=20)
        self.process = None
        return code


@dataclass
class Mesh:
    """Nodes under one directory, all enrolled in one network."""

    directory: Path
    nodes: dict[str, Node] = field(default_factory=dict)
    command_prefix: tuple[str, ...] = ()
    idle_timeout: str = "6s"
    """Shorter than the default, so that a story about cut links can be told in a minute."""
    redial_max: str = "2s"

    def __getitem__(self, noc: str) -> Node:
        return self.nodes[noc]

    # --- enrolment ------------------------------------------------------------------------------------------------

    def enrol(self, nocs: Sequence[str], relays: Sequence[str] = ()) -> None:
        """The whole ceremony: network root, one NOC root and one device for each of ``nocs``."""
        run_cli("authority", "init", "--network", "demo", "--out", str(self._network))
        for noc in nocs:
            node = Node(noc, self.directory / noc.lower(), free_port(), noc in relays)
            node.directory.mkdir(parents=True)
            self.nodes[noc] = node
        at_the_network_root = threading.Lock()
        with ThreadPoolExecutor(AT_ONCE) as pool:
            for done in [pool.submit(self._enrol, self[noc], at_the_network_root) for noc in nocs]:
                done.result()

    def _enrol(self, node: Node, at_the_network_root: threading.Lock) -> None:
        noc = node.noc
        root = self.directory / "authority" / noc.lower()
        run_cli("authority", "init", "--noc", noc, "--out", str(root))
        certificate = root / "noc.signed"
        request = _request_in(root)
        with at_the_network_root:
            run_cli("authority", "certify", "--authority", str(self._network), str(request), "--out", str(certificate))
        run_cli("authority", "accept", "--authority", str(root), str(certificate))
        self.enrol_device(node, f"{noc.lower()}-1")

    def enrol_device(self, node: Node, name: str) -> None:
        """One more device of a NOC whose root is there."""
        root = self.directory / "authority" / node.noc.lower()
        run_cli("init", "--data", str(node.data), "--noc", node.noc, "--name", name)
        bundle = node.directory / "device.certificate"
        relay = ("--relay",) if node.relay else ()
        request = node.data / keyfiles.REQUEST_FILE
        run_cli("authority", "certify", "--authority", str(root), str(request), "--out", str(bundle), *relay)
        run_cli("enrol", "--data", str(node.data), str(bundle))

    @property
    def _network(self) -> Path:
        return self.directory / "authority" / "network"

    def configure(self, node: Node, peers: Sequence[Node]) -> None:
        """Writes the configuration file of one node."""
        lines = [
            "[node]",
            f'data_dir = "{node.data}"',
            f"relay = {'true' if node.relay else 'false'}",
            "[listen]",
            f'address = "{node.address}"',
            "[api]",
            f'socket = "{node.socket}"',
            "[links]",
            f'idle_timeout = "{self.idle_timeout}"',
            f'redial_max = "{self.redial_max}"',
            *([node.extra] if node.extra else []),
        ]
        for peer in peers:
            lines += ["[[peer]]", f'addresses = ["{peer.address}"]', f'noc = "{peer.noc}"']
        node.config.write_text("\n".join(lines) + "\n", encoding="utf-8")

    def configure_all(self) -> None:
        """Everybody is configured with everybody."""
        for node in self.nodes.values():
            self.configure(node, [other for other in self.nodes.values() if other is not node])

    # --- processes ------------------------------------------------------------------------------------------------

    def start(self, node: Node) -> float:
        """Starts a daemon and waits until it serves. Returns the seconds that took."""
        begin = time.monotonic()
        self.launch(node)
        self.wait_serving(node)
        return time.monotonic() - begin

    def start_all(self) -> None:
        for node in self.nodes.values():
            self.launch(node)
        for node in self.nodes.values():
            self.wait_serving(node)

    def launch(self, node: Node) -> None:
        with node.log.open("ab") as log:
            node.process = subprocess.Popen(
                [*self.command_prefix, *node.command, "run", "--config", str(node.config)],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                # Ctrl-C is for whoever drives the mesh, which then stops the daemons in its own order.
                start_new_session=True,
            )

    def wait_serving(self, node: Node) -> None:
        process = node.process

        def serves() -> bool:
            if process is None or process.poll() is not None:
                code = None if process is None else process.returncode
                raise MeshError(f"{node.noc} ended with code {code}:\n{tail(node.log)}")
            try:
                with node.client(5.0) as client:
                    client.node()
            except (MeshnodeError, OSError):
                return False
            return True

        wait_for(serves, START_TIMEOUT_S, f"{node.noc} serves")

    def stop_all(self) -> None:
        for node in self.nodes.values():
            if node.process is not None:
                with contextlib.suppress(ProcessLookupError):
                    node.process.send_signal(signal.SIGCONT)
                    node.process.send_signal(signal.SIGTERM)
        for node in self.nodes.values():
            if node.process is not None:
                try:
                    node.process.wait(timeout=10)
                except subprocess.TimeoutExpired:
                    node.process.kill()
                    node.process.wait()
                node.process = None

    def wait_linked(self, nocs: Sequence[str] | None = None, timeout_s: float = 30.0) -> None:
        """Every one of these nodes is linked with every other, and knows its prekey."""
        names = list(nocs or self.nodes)

        def linked() -> bool:
            for name in names:
                with self[name].client() as client:
                    connected = {peer.noc for peer in client.peers() if peer.state == "connected" and peer.prekey_known}
                if not connected >= set(names) - {name}:
                    return False
            return True

        wait_for(linked, timeout_s, f"links between {', '.join(names)}")


@contextlib.contextmanager
def running(directory: Path, nocs: Sequence[str], relays: Sequence[str] = ()) -> Iterator[Mesh]:
    """An enrolled, fully connected mesh, stopped at the end."""
    mesh = Mesh(directory)
    mesh.enrol(nocs, relays)
    mesh.configure_all()
    try:
        mesh.start_all()
        mesh.wait_linked()
        yield mesh
    finally:
        mesh.stop_all()


def run_cli(*arguments: str) -> str:
    """Runs ``meshnode ARGUMENTS``; its output. Raises MeshError with what it said when it fails."""
    done = subprocess.run([*MESHNODE, *arguments], capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise MeshError(f"meshnode {' '.join(arguments)} ended with {done.returncode}:\n{done.stdout}{done.stderr}")
    return done.stdout


def wait_for(holds: Callable[[], bool], timeout_s: float, what: str) -> float:
    """Asks until it holds; the seconds that took. For processes of their own, which no event of ours reports on."""
    begin = time.monotonic()
    while not holds():
        if time.monotonic() - begin > timeout_s:
            raise MeshError(f"not within {timeout_s:.0f} s: {what}")
        time.sleep(POLL_S)
    return time.monotonic() - begin


def tail(path: Path, lines: int = 15) -> str:
    return "\n".join(path.read_text(encoding="utf-8", errors="replace").splitlines()[-lines:])


def _request_in(root: Path) -> Path:
    return next(path for path in root.iterdir() if path.name.endswith(".request"))


def free_port() -> int:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def remove(directory: Path) -> None:
    shutil.rmtree(directory, ignore_errors=True)
