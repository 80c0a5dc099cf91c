"""What a thief of the hub and a listener on its line would have: its disk, its packets, its memory.

Each is searched for every word of the incident. A search that finds nothing proves little by itself, so the same search
is shown to find: the words in what a member's API tells, and in its memory; known ciphertext on the hub's disk; a word
sent in a plain packet to the hub's port.
"""

from __future__ import annotations

import socket
import sqlite3
import time
from contextlib import closing
from pathlib import Path

import msgspec

from simulations.demo import script
from simulations.demo.capture import SocketCapture, recorded_command
from simulations.demo.ledger import Ledger
from simulations.demo.report import Report
from simulations.demo.script import HUB
from simulations.demo.search import Search, holds, in_memory, words_in
from simulations.mesh import Mesh

STORE_FILE = "meshnode.db"
PLANTED = "Waldfeucht"
PLANTED_DATAGRAM = f"a stranger says {PLANTED} in the clear".encode()
SAMPLES = 25
SAMPLE_BYTES = 200
"""The beginning of a ciphertext: the database lays a long one out over several pages."""
MEMORY_WORDS = ("Zilverbeek", "pelican", "Kestrel", "QUARTZ HERON", *script.OPERATORS.values(), script.FR_DIRECTION)
"""Words that no program has in its memory unless it read them in the incident."""
CAPTURE_LAG_S = 0.3
TRAFFIC_BYTES_MIN = 50_000
"""Less than this cannot be the traffic of the whole story, twice over."""


class Secrecy:
    """Listens from before the hub starts until :meth:`search`."""

    def __init__(self, mesh: Mesh, report: Report) -> None:
        self._mesh = mesh
        self._report = report
        self._hub = mesh[HUB]
        self._old_disk: tuple[set[str], int] | None = None
        self.pcap = mesh.directory / "hub.pcap"
        self._capture: SocketCapture | None = None
        try:
            self._capture = SocketCapture(self.pcap, self._hub.port)
            self.how = "copied from the loopback device by a raw socket"
        except PermissionError:
            self._hub.command = recorded_command(self.pcap)
            self.how = "written down by a wrapper around the hub's socket, as this user may not open a raw one"

    def begin(self) -> None:
        """Before the incident is opened: words that stand on the hub's disk already do not come from it."""
        everything = Search(words_in(script.texts()))
        known, _ = everything.in_directory(self._hub.data)
        self._left_out = sorted(known)
        self._search = Search(set(everything.words) - known)

    def search_old_disk(self) -> None:
        """The disk that the hub had when it was killed."""
        found, size_bytes = self._search.in_directory(self._hub.data)
        what = "on the disk that the hub had when it was killed, no word is found"
        self._report.check(what, not found, f"{self._searched()} in {_mb(size_bytes)}{_found(found)}")

    def search(self, ledger: Ledger) -> None:
        report = self._report
        if self._left_out:
            report.tell(f"Left out, for the hub has them without the incident: {', '.join(self._left_out)}.")
        self._prove_search(ledger)
        found, size_bytes = self._search.in_directory(self._hub.data)
        what = "on the hub's disk no word is found"
        report.check(what, not found, f"{self._searched()} in {_mb(size_bytes)}{_found(found)}")
        self._search_disk_for_ciphertext(ledger)
        self._search_memory()
        self._search_traffic()

    # --- each place -------------------------------------------------------------------------------------------------

    def _prove_search(self, ledger: Ledger) -> None:
        with self._mesh["FR"].client() as client:
            view = client.incident(ledger.incident)
            records = client.log(ledger.incident, limit=1_000).items
            alert = client.attachment(ledger.incident, client.attachments(ledger.incident)[0].id).data
        told = msgspec.json.encode((view, records)) + alert
        found = self._search.in_bytes(told)
        # The search may name a word by a shorter one that it begins with.
        seen = {word for word in self._search.words if any(word.startswith(hit) for hit in found)}
        self._report.check(
            "the same search finds them at a member",
            len(seen) >= 0.9 * len(self._search.words),
            f"{len(seen)} of {len(self._search.words)} words in what FR's API tells",
        )

    def _search_disk_for_ciphertext(self, ledger: Ledger) -> None:
        samples = [sealed[:SAMPLE_BYTES] for sealed in stored_ciphertexts(self._mesh["BE"].data)[:SAMPLES]]
        there = sum(holds(self._hub.data, sample) for sample in samples)
        handle = holds(self._hub.data, bytes.fromhex(ledger.incident))
        self._report.check(
            "the search finds what must be there",
            there == len(samples) > 0 and handle,
            f"{there} of {len(samples)} ciphertexts of BE's store, and the incident's handle",
        )

    def _search_traffic(self) -> None:
        self._report.tell(f"The hub's traffic was {self.how}.")
        packets, lost = "", 0
        if self._capture is not None:
            with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as stranger:
                stranger.sendto(PLANTED_DATAGRAM, ("127.0.0.1", self._hub.port))
            time.sleep(CAPTURE_LAG_S)
            lost = self._capture.stop()
            packets = f"{self._capture.packets} packets, "
        before, planted, after = self.pcap.read_bytes().partition(PLANTED_DATAGRAM)
        found = self._search.in_bytes(before) | self._search.in_bytes(after)
        size_bytes = len(before) + len(after)
        self._report.check(
            "in the hub's traffic no word is found",
            not found and size_bytes > TRAFFIC_BYTES_MIN and lost == 0,
            f"{self._searched()} in {packets}{_mb(size_bytes)}, {lost} packets missed{_found(found)}",
        )
        if self._capture is not None:
            hit = self._search.in_bytes(planted)
            self._report.check("one word sent to it in the clear is found", hit == {PLANTED}, ", ".join(hit))

    def _search_memory(self) -> None:
        hub, member = (in_memory(self._mesh[noc].pid, MEMORY_WORDS) for noc in (HUB, "FR"))
        if hub is None or member is None:
            self._report.tell("The hub's memory is not searched: this user may not read it.")
            return
        self._report.check(
            "in the hub's memory no word is found, in FR's they are",
            not hub.found and len(member.found) == len(MEMORY_WORDS),
            f"{len(MEMORY_WORDS)} rare words: {len(hub.found)} in {_mb(hub.size_bytes)} of the hub, "
            f"{len(member.found)} in {_mb(member.size_bytes)} of FR",
        )

    def _searched(self) -> str:
        return f"{len(self._search.words)} words in {self._search.forms} forms"


def stored_ciphertexts(data: Path) -> list[bytes]:
    """What a node's store holds of entries, read beside the running daemon."""
    with closing(sqlite3.connect(f"{(data / STORE_FILE).as_uri()}?mode=ro", uri=True)) as connection:
        return [row[0] for row in connection.execute("SELECT sealed FROM entry")]


def _mb(size_bytes: int) -> str:
    return f"{size_bytes / 1e6:.1f} MB"


def _found(found: set[str]) -> str:
    return f"; FOUND: {', '.join(sorted(found))}" if found else ""
