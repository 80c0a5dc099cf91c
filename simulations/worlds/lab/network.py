"""A network for each machine, a router between them, and what the kernel does to packets on their way.

Inside the lab's own network namespace, which is the router:

    machine BE                         router                                          machine NL
    eth0 198.18.1.2 ---- veth ---- port1 -> [nftables] -> TUN -> forwarder -> TUN -> port2 ---- veth ---- eth0

Every packet between two machines passes the filter (cuts and losses of one direction) on its way into the TUN device,
and the forwarder behind it. A machine cut off from everybody has its port put down. A line with a rate has a token
bucket at the sender's end.

Without nftables the cuts are ``blackhole`` rules of the routing policy, and the forwarder loses what is to be lost.
"""

from __future__ import annotations

import contextlib
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

from simulations.demo.cut import dropped_packets, find_program
from simulations.worlds.lab.shaper import Direction
from simulations.worlds.lab.state import Lines

TUN = "lab-tun"
PORT = 7411
NETWORK = "198.18.0.0/15"
"""Set aside for benchmarks of networks (RFC 2544): nobody's own."""
TABLE = 100
MACHINES_MAX = 250
"""One octet of the address."""
BURST_BYTES = 3_000
"""Two packets: less, and the bucket could not pass one."""
BUFFER_MIN_BYTES = 32 * 1024
"""Of a line with a rate; else a second of it. What does not fit is lost, as at a real modem."""
BANDS = "1:"


class LabFaultError(Exception):
    """The machinery of the lab itself failed; says which command and what it said."""


class Network:
    """``numbers``: machine -> its number from 1."""

    def __init__(self, names: list[str], nft: str | None) -> None:
        self.numbers = {name: number for number, name in enumerate(names, 1)}
        self._nft = nft
        self._lines: Lines | None = None
        self._dropped = 0
        self._forwarder: subprocess.Popen[bytes] | None = None

    def address(self, name: str) -> str:
        return f"198.18.{self.numbers[name]}.2"

    def command(self, name: str) -> tuple[str, ...]:
        """What stands before a command that is to run on this machine."""
        return ("nsenter", f"--net=/run/netns/{name}")

    def build(self) -> None:
        """Everything is linked with everything, and nothing is treated. /run is the lab's own. Raises LabFaultError."""
        for setting in (
            "ip_forward=1",
            "conf/all/rp_filter=0",
            "conf/default/rp_filter=0",
            "conf/all/send_redirects=0",
        ):
            path, _, value = setting.partition("=")
            Path("/proc/sys/net/ipv4", path).write_text(value, encoding="ascii")
        rows = [
            "link set lo up",
            f"tuntap add dev {TUN} mode tun",
            f"link set {TUN} addrgenmode none up txqueuelen 10000",
        ]
        rows += [
            f"route add default dev {TUN} table {TABLE}",
            # What has no way, its receiver being down, vanishes: an answer would tell the sender.
            "route add blackhole default",
            f"rule add pref 10 iif {TUN} lookup main",
            f"rule add pref 20 from {NETWORK} to {NETWORK} lookup {TABLE}",
        ]
        _ip(rows)
        for name, number in self.numbers.items():
            _run("ip", "netns", "add", name)
            _ip(
                [
                    f"link add port{number} type veth peer name eth0 netns {name}",
                    f"address add 198.18.{number}.1/30 dev port{number}",
                    f"link set port{number} up",
                ]
            )
            _ip(
                [
                    "link set lo up",
                    f"address add {self.address(name)}/30 dev eth0",
                    "link set eth0 up",
                    f"route add default via 198.18.{number}.1",
                ],
                name,
            )

    def limit(self, rates: dict[Direction, float]) -> None:
        """Lines that carry so many bytes a second, at the sender's end. Once, before anything is sent."""
        for sender in dict.fromkeys(sender for sender, _ in rates):
            root = ["qdisc", "add", "dev", "eth0", "root", "handle", BANDS]
            peers = {receiver: rate for (name, receiver), rate in rates.items() if name == sender}
            if len(peers) == len(self.numbers) - 1 == 1:
                (rate,) = peers.values()
                self._tc(sender, [*root, "tbf", *_bucket(rate), "limit", str(_buffer_bytes(rate))])
                continue
            self._tc(sender, [*root, "htb"])  # what no class takes is without limit
            for number, (receiver, rate) in enumerate(peers.items(), 1):
                line = ["dev", "eth0", "parent", BANDS]
                flow = f"{BANDS}{number:x}"
                self._tc(sender, ["class", "add", *line, "classid", flow, "htb", *_bucket(rate)])
                leaf = ["qdisc", "add", "dev", "eth0", "parent", flow, "bfifo", "limit", str(_buffer_bytes(rate))]
                self._tc(sender, leaf)
                match = ["protocol", "ip", "u32", "match", "ip", "dst", f"{self.address(receiver)}/32"]
                self._tc(sender, ["filter", "add", *line, *match, "flowid", flow])

    def _tc(self, name: str, arguments: list[str]) -> None:
        _run(*self.command(name), "tc", *arguments)

    # --- the forwarder --------------------------------------------------------------------------------------------

    def start_forwarder(self, seed: int, word: str, recorded: list[str], pcap: Path) -> None:
        command = [sys.executable, "-m", "simulations.worlds.lab.forwarder"]
        self._forwarder = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        names = {self.address(name): name for name in self.numbers}
        self._ask(
            {"device": TUN, "seed": seed, "names": names, "word": word, "recorded": recorded, "pcap": str(pcap)},
        )

    def told(self) -> dict[str, Any]:
        """What the forwarder has counted: ``counts``, ``bytes_sent`` by machine, ``marked`` by direction."""
        self._count_dropped()
        told = self._ask({"tell": True})
        told["counts"]["dropped by the kernel"] = self._dropped
        return told

    def _ask(self, order: dict[str, Any]) -> dict[str, Any]:
        process = self._forwarder
        if process is None or process.stdin is None or process.stdout is None:
            raise LabFaultError("the forwarder does not run")
        try:
            process.stdin.write(json.dumps(order).encode() + b"\n")
            process.stdin.flush()
            answer = process.stdout.readline()
        except BrokenPipeError:
            answer = b""
        if not answer:
            raise LabFaultError("the forwarder has ended")
        told: dict[str, Any] = json.loads(answer)
        return told

    def close(self) -> None:
        if self._forwarder is not None and self._forwarder.stdin is not None:
            with contextlib.suppress(BrokenPipeError):
                self._forwarder.stdin.close()
            self._forwarder.wait(timeout=10)

    # --- faults ---------------------------------------------------------------------------------------------------

    def apply(self, lines: Lines) -> None:
        """Makes the lines so. Raises LabFaultError."""
        before, self._lines = self._lines, lines
        self._count_dropped()
        if before is None or (before.cuts, before.losses) != (lines.cuts, lines.losses):
            if self._nft is not None:
                _run(self._nft, "-f", "-", given=self._ruleset(lines))
            else:
                self._route_around(before.cuts if before else frozenset(), lines.cuts)
        old_down = before.down if before else frozenset()
        _ip(
            [f"link set port{self.numbers[name]} down" for name in sorted(lines.down - old_down)]
            + [f"link set port{self.numbers[name]} up" for name in sorted(old_down - lines.down)]
        )
        if before is None or before.treatments != lines.treatments:
            self._ask({"treat": [[*direction, *how] for direction, how in lines.treatments.items()]})

    def _count_dropped(self) -> None:
        """Before the rules are replaced, and their counters with them."""
        if self._nft is not None:
            command = [self._nft, "--json", "list", "table", "ip", "lab"]
            done = subprocess.run(command, capture_output=True, check=False)
            if done.returncode == 0:
                self._dropped += dropped_packets(done.stdout)

    def _ruleset(self, lines: Lines) -> str:
        def of(direction: Direction) -> str:
            return f"oifname {TUN} ip saddr {self.address(direction[0])} ip daddr {self.address(direction[1])}"

        rules = [f"{of(direction)} counter drop" for direction in sorted(lines.cuts)]
        for direction, share in sorted(lines.losses.items()):
            rules.append(f"{of(direction)} numgen random mod 10000 < {round(share * 10_000)} counter drop")
        body = "\n".join(["type filter hook forward priority 0", *rules])
        # One transaction: no packet meets half of the rules.
        return f"table ip lab\nflush table ip lab\ntable ip lab {{\nchain way {{\n{body}\n}}\n}}\n"

    def _route_around(self, before: frozenset[Direction], now: frozenset[Direction]) -> None:
        def row(verb: str, direction: Direction) -> str:
            a, b = direction
            return f"rule {verb} pref 15 from {self.address(a)} to {self.address(b)} blackhole"

        _ip([row("add", cut) for cut in sorted(now - before)] + [row("del", cut) for cut in sorted(before - now)])


def find_nft() -> str | None:
    """nftables, if it is installed and this kernel has it."""
    nft = find_program("nft")
    if nft is None or subprocess.run([nft, "list", "ruleset"], capture_output=True, check=False).returncode != 0:
        return None
    return nft


def _bucket(rate_bytes_per_s: float) -> list[str]:
    return ["rate", f"{max(8, round(rate_bytes_per_s * 8))}bit", "burst", str(BURST_BYTES)]


def _buffer_bytes(rate_bytes_per_s: float) -> int:
    return max(BUFFER_MIN_BYTES, round(rate_bytes_per_s))


def _ip(rows: list[str], name: str = "") -> None:
    """Runs the rows as one batch, on this machine or on the router."""
    if rows:
        where = ("-netns", name) if name else ()
        _run("ip", *where, "-batch", "-", given="\n".join(rows) + "\n")


def _run(*command: str, given: str = "") -> None:
    program = find_program(command[0]) or command[0]
    done = subprocess.run([program, *command[1:]], input=given, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        what = given.strip() or " ".join(command)
        raise LabFaultError(f"{' '.join(command)} ended with {done.returncode}: {done.stderr.strip()}\n{what}")
