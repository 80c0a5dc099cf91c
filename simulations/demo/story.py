"""What happens, step by step, and what must hold after each."""

from __future__ import annotations

import functools
import json
import math
import statistics
import threading
import time
from collections.abc import Callable

from meshnode.api.records import ChangeRequest, CreateChange, LogChange, LogRecord, SetChange, WrittenView
from meshnode.cli.output import short
from meshnode.client import ApiError, Client
from meshnode.core.views import IncidentView, PeerView
from simulations.demo import script
from simulations.demo.cut import Cut
from simulations.demo.ledger import Ledger
from simulations.demo.report import Report
from simulations.demo.script import HUB, MEMBERS, OPERATORS
from simulations.demo.secrecy import Secrecy
from simulations.mesh import Mesh, run_cli, wait_for

LINK_TIMEOUT_S = 45.0
ROUNDS_WITHOUT_HUB = 12
WRITERS = 4
ACKNOWLEDGED_BEFORE_KILL = 120
POLL_S = 0.001
COLUMNS = 80
"""Of a table; what stands further right is not needed here."""


class Story:
    def __init__(self, mesh: Mesh, report: Report, cut: Cut, secrecy: Secrecy) -> None:
        self._mesh = mesh
        self._report = report
        self._cut = cut
        self._secrecy = secrecy
        self._ledger = Ledger(mesh, "")
        self._van = ""

    @property
    def incident(self) -> str:
        return self._ledger.incident

    @property
    def ledger(self) -> Ledger:
        return self._ledger

    def tell(self) -> None:
        report = self._report
        with report.step("BE opens an incident from a CAP alert and shares it with NL, DE and FR"):
            self._open()
        with report.step("NL and DE change it"):
            self._change()
        with report.step("The hub is killed (SIGKILL); changes go on arriving"):
            self._kill_hub()
        with report.step("FR is cut off; both sides go on working"):
            self._cut_off()
        with report.step("FR comes back: everything merges, the conflict is shown until DE resolves it"):
            self._heal()
        with report.step("NL is killed (SIGKILL) in the middle of a burst of writes, and started again"):
            self._kill_in_burst()
        with report.step("The hub comes back with an empty disk and fills up with ciphertext"):
            self._hub_returns()
        with report.step("The hub's disk and traffic are searched for every word of the incident"):
            self._secrecy.search(self._ledger)

    # --- 1 and 2: an incident ---------------------------------------------------------------------------------------

    def _open(self) -> None:
        report, ledger = self._report, self._ledger
        command = ["incident", "open", "--cap", str(script.ALERT), "--share", "NL,DE,FR"]
        answer = self._cli("BE", *command, "--json", writes=True)
        ledger.incident = json.loads(answer)["incident"]
        report.quote(f"opened {ledger.incident}", "meshnode incident open --cap alert.cap --share NL,DE,FR")
        took_s = ledger.wait_same(MEMBERS)
        ledger.note("BE", ledger.history("BE"))
        self._check_same(f"{took_s:.2f} s after the command returned")
        original = script.ALERT.read_bytes()
        with self._mesh["FR"].client() as client:
            summary = client.incident(ledger.incident).summary
            attached = client.attachments(ledger.incident)
            copies = [client.attachment(ledger.incident, item.id).data for item in attached]
            members = {member.noc for member in client.members(ledger.incident)}
        report.check(
            "FR reads title, severity and kind from the alert",
            summary.title in original.decode() and (summary.severity, summary.kind) == ("extreme", "cbrn-e"),
            f"“{summary.title}”, {summary.severity}, {summary.kind}",
        )
        report.check("FR holds the alert byte for byte", copies == [original], f"{len(original)} bytes")
        report.check("the members are BE, NL, DE and FR", members == set(MEMBERS), ", ".join(sorted(members)))
        entries = ledger.entries("BE")
        took_s = wait_for(lambda: self._hub_entries() >= entries, LINK_TIMEOUT_S, "the hub stores the incident")
        with self._mesh[HUB].client() as client:
            readable = client.incidents()
        self._report.check(
            "the hub stores it and can read nothing of it",
            not readable and self._hub_entries() == entries,
            f"{entries} entries held, {len(readable)} incidents readable",
        )

    def _change(self) -> None:
        ledger = self._ledger
        made = self._write("NL", CreateChange("vehicles", None, script.VAN), _log(script.NL_LOG))
        self._van = made.objects[0]
        self._write("DE", CreateChange("tasks", None, script.DECONTAMINATION), _log(script.DE_LOG))
        self._write("DE", CreateChange("units", None, script.CBRN_TEAM), SetChange("lead", "BE"))
        took_s = self._wait_merged()
        self._check_same(f"{took_s:.2f} s after the last write")
        with self._mesh["FR"].client() as client:
            plate = client.object(ledger.incident, "vehicles", self._van).fields["plate"].values[0]
        self._report.check(
            "FR sees the van, and who reported it",
            plate.value == script.PLATE and plate.author.operator.startswith(OPERATORS["NL"]),
            f"{plate.value}, by {plate.author.operator} at {plate.author.noc}",
        )

    # --- 3: without the hub -----------------------------------------------------------------------------------------

    def _kill_hub(self) -> None:
        report = self._report
        self._mesh[HUB].kill()
        spreads_s = [self._spread(MEMBERS[number % 3], number) for number in range(ROUNDS_WITHOUT_HUB)]
        report.check(
            f"{ROUNDS_WITHOUT_HUB} changes of BE, NL and DE arrive at all members",
            max(spreads_s) < math.inf,
            f"from acknowledged to visible at the last one: median {statistics.median(spreads_s) * 1000:.0f} ms, "
            f"slowest {max(spreads_s) * 1000:.0f} ms",
        )
        self._wait_merged()
        self._check_same("without a hub")
        peer = self._wait_peer("BE", HUB, lambda peer: peer.state == "cut-off")
        report.check("BE's peers show the hub as cut off", peer.state != "connected", f"since {_clock(peer.since_ms)}")

    def _spread(self, author: str, number: int) -> float:
        """Seconds from the acknowledgement of a write until the last other member's API shows it; infinite if never."""
        others = [noc for noc in MEMBERS if noc != author]
        clients = [self._mesh[noc].client() for noc in others]
        for client in clients:
            client.digest(self.incident)  # connects
        written = self._write(author, _log(script.WITHOUT_HUB_LOG.format(number=number)))
        begin = time.monotonic()
        for client in clients:
            with client:
                while written.ids[0] not in _newest(client, self.incident):
                    if time.monotonic() - begin > LINK_TIMEOUT_S:
                        return math.inf
                    time.sleep(POLL_S)
        return time.monotonic() - begin

    # --- 4 and 5: a partition ---------------------------------------------------------------------------------------

    def _cut_off(self) -> None:
        report, ledger = self._report, self._ledger
        self._wait_peer("BE", "FR", lambda peer: peer.they_lack == 0)
        together = ledger.entries("BE")
        report.tell(f"FR is cut off: {self._cut.how}.")
        self._cut_at_ms = int(time.time() * 1000)
        self._cut.cut_off(self._mesh["FR"])
        local_s = []
        for changes in (
            (self._send_van(script.FR_DIRECTION), _log(script.FR_CUT_LOG)),
            (CreateChange("locations", None, script.CHECKPOINT),),
        ):
            begin = time.monotonic()
            self._write("FR", *changes)
            with self._mesh["FR"].client() as client:
                view = client.incident(self.incident)
            local_s.append(time.monotonic() - begin)
        self._write("BE", self._send_van(script.BE_DIRECTION))
        self._write("BE", CreateChange("persons", None, script.SUSPECT))
        self._write("BE", _log(script.BE_CUT_LOG))
        report.check(
            "FR goes on reading and writing",
            self._direction("FR") == {script.FR_DIRECTION} and _names(view) >= {script.CHECKPOINT["name"]},
            f"a write and a read of the whole incident took {max(local_s) * 1000:.0f} ms at most",
        )
        others = [noc for noc in MEMBERS if noc != "FR"]
        ledger.wait_same(others)
        here, there = ledger.history("BE"), ledger.history("FR")
        report.check(
            "nothing passes: neither side has what the other wrote",
            bool(here - there) and bool(there - here),
            f"{len(there - here)} values only at FR, {len(here - there)} only at BE, NL and DE",
        )
        self._wait_peer("BE", "FR", lambda peer: peer.state == "cut-off")
        written = ledger.entries("BE") - together
        peer = self._wait_peer("BE", "FR", lambda peer: peer.they_lack == written)
        report.check(
            "BE's peers show FR as cut off, since when, and how many entries it lacks",
            peer.state != "connected" and peer.they_lack == written and abs(peer.since_ms - self._cut_at_ms) < 30_000,
            f"since {_clock(peer.since_ms)} (cut at {_clock(self._cut_at_ms)}), lacks {peer.they_lack}, "
            f"written meanwhile {written}",
        )
        report.quote(_cut_lines(self._cli("BE", "peers")), "meshnode peers        # at BE")

    def _send_van(self, direction: str) -> SetChange:
        return SetChange(script.CONFLICT_FIELD, direction, "vehicles", self._van)

    def _heal(self) -> None:
        report, ledger = self._report, self._ledger
        said = self._cut.heal(self._mesh["FR"])
        took_s = self._wait_merged()
        report.tell(f"FR is linked again; {said}.")
        self._check_same(f"{took_s:.1f} s after the cut was healed")
        self._check_nothing_lost(MEMBERS)
        expected = {(script.BE_DIRECTION, "BE", OPERATORS["BE"]), (script.FR_DIRECTION, "FR", OPERATORS["FR"])}
        shown = {noc: self._conflict(noc) for noc in MEMBERS}
        report.check(
            "each member shows one conflict, with both values, author and time",
            all(conflict == expected for conflict in shown.values()),
            f"{script.CONFLICT_FIELD} of the van, at {', '.join(noc for noc in MEMBERS if shown[noc] == expected)}",
        )
        conflicts = self._cli("DE", "incident", "conflicts", self.incident)
        report.quote(conflicts, f"meshnode incident conflicts {self.incident[:8]}        # at DE")
        with self._mesh["DE"].client() as client:
            values = client.conflicts(ledger.incident)[0].values
        taken = next(value for value in values if value.author.noc == "BE")
        place = f"vehicles/{self._van}"
        command = ("incident", "resolve", self.incident, script.CONFLICT_FIELD, "--take", taken.id, "--object", place)
        ledger.note("DE", json.loads(self._cli("DE", *command, "--json", writes=True))["ids"])
        typed = f"meshnode incident resolve {self.incident[:8]} {script.CONFLICT_FIELD} --take {short(taken.id)}"
        report.quote("", f"{typed} --object {place[:17]}")
        self._wait_merged()
        left = {noc: self._conflict(noc) for noc in MEMBERS}
        report.check(
            "DE resolves it; no member shows a conflict any more",
            not any(left.values()) and self._directions() == {script.BE_DIRECTION},
            f"the van goes {', '.join(self._directions())}",
        )
        self._check_same("after resolving")

    def _conflict(self, noc: str) -> set[tuple[str, str, str]]:
        """Values in conflict at this member: value, NOC, operator; only those with a time within the cut."""
        with self._mesh[noc].client() as client:
            found = client.conflicts(self.incident)
        return {
            (value.value, value.author.noc, value.author.operator.partition(" (uid")[0])
            for conflict in found
            for value in conflict.values
            if conflict.field == script.CONFLICT_FIELD and value.author.time_ms >= self._cut_at_ms
        }

    def _directions(self) -> set[str]:
        return {direction for noc in MEMBERS for direction in self._direction(noc)}

    def _direction(self, noc: str) -> set[str]:
        """Where the van goes, as this member shows it."""
        with self._mesh[noc].client() as client:
            field = client.object(self.incident, "vehicles", self._van).fields[script.CONFLICT_FIELD]
        return {value.value for value in field.values}

    # --- 6: a crash -------------------------------------------------------------------------------------------------

    def _kill_in_burst(self) -> None:
        report, ledger = self._report, self._ledger
        before = len(ledger.of("NL"))
        threads = [threading.Thread(target=self._write_until_killed, args=(writer,)) for writer in range(WRITERS)]
        for thread in threads:
            thread.start()
        wait_for(lambda: len(ledger.of("NL")) - before >= ACKNOWLEDGED_BEFORE_KILL, LINK_TIMEOUT_S, "a burst at NL")
        self._mesh["NL"].kill()
        for thread in threads:
            thread.join()
        acknowledged = len(ledger.of("NL")) - before
        report.tell(f"{WRITERS} writers at NL had {acknowledged} writes acknowledged when it was killed.")
        serving_s = self._mesh.start(self._mesh["NL"])
        missing = ledger.missing("NL")
        report.check(
            "NL has every write it acknowledged",
            not missing,
            f"{acknowledged} acknowledged in the burst, {len(missing)} missing, serving after {serving_s:.1f} s",
        )
        took_s = self._wait_merged()
        self._check_same(f"{took_s:.1f} s after NL served again")
        self._check_nothing_lost(MEMBERS)

    def _write_until_killed(self, writer: int) -> None:
        with self._mesh["NL"].client(operator=OPERATORS["NL"]) as client:
            number = 0
            while True:
                text = script.BURST_LOG.format(writer=writer, number=number)
                try:
                    self._ledger.write_with(client, "NL", _log(text))
                except ApiError:
                    return
                number += 1

    # --- 7: the hub comes back --------------------------------------------------------------------------------------

    def _hub_returns(self) -> None:
        report, ledger = self._report, self._ledger
        hub = self._mesh[HUB]
        self._secrecy.search_old_disk()
        hub.wipe()
        kept = sorted(path.name for path in hub.data.iterdir())
        report.tell(f"All it has left is {', '.join(kept)}.")
        self._mesh.start(hub)
        begin = time.monotonic()
        self._write("DE", _log(script.LATE_LOG))
        self._wait_merged()
        entries = ledger.entries("BE")
        wait_for(lambda: self._hub_entries() >= entries, LINK_TIMEOUT_S, "the hub fills up")
        took_s = time.monotonic() - begin
        with hub.client() as client:
            readable = len(client.incidents())
        report.check(
            "the hub holds every entry again, and can read none",
            self._hub_entries() == entries and readable == 0,
            f"{self._hub_entries()} of {entries} entries after {took_s:.1f} s, {readable} incidents readable",
        )
        peer = self._wait_peer("BE", HUB, lambda peer: peer.they_lack == 0)
        report.check(
            "BE's peers show that the hub lacks nothing", peer.state == "connected", f"{peer.they_lack} entries"
        )

    # --- questions --------------------------------------------------------------------------------------------------

    def _write(self, noc: str, *changes: ChangeRequest) -> WrittenView:
        return self._ledger.write(noc, OPERATORS[noc], *changes)

    def _wait_merged(self) -> float:
        """Until all members hold what was acknowledged, and show one digest."""
        begin = time.monotonic()
        for noc in MEMBERS:
            holds_all = functools.partial(self._ledger.holds_all, noc)
            wait_for(holds_all, LINK_TIMEOUT_S, f"{noc} holds everything that was acknowledged")
        self._ledger.wait_same(MEMBERS)
        return time.monotonic() - begin

    def _check_same(self, when: str) -> None:
        digests = self._ledger.digests(MEMBERS)
        shown = sorted({digest[:8] for digest in digests.values()})
        self._report.check("all members show the same digest", len(shown) == 1, f"{', '.join(shown)}, {when}")

    def _check_nothing_lost(self, nocs: tuple[str, ...]) -> None:
        missing = {noc: len(self._ledger.missing(noc)) for noc in nocs}
        self._report.check(
            "nothing acknowledged is missing anywhere",
            not any(missing.values()),
            f"{len(self._ledger.acknowledged)} values acknowledged so far; missing: "
            + ", ".join(f"{noc} {count}" for noc, count in missing.items()),
        )

    def _hub_entries(self) -> int:
        with self._mesh[HUB].client() as client:
            return client.node().entries

    def _peer(self, noc: str, other: str) -> PeerView:
        with self._mesh[noc].client() as client:
            return next(peer for peer in client.peers() if peer.noc == other)

    def _wait_peer(self, noc: str, other: str, holds: Callable[[PeerView], bool]) -> PeerView:
        wait_for(lambda: holds(self._peer(noc, other)), LINK_TIMEOUT_S, f"what {noc}'s peers say of {other}")
        return self._peer(noc, other)

    def _cli(self, noc: str, *command: str, writes: bool = False) -> str:
        operator = ("--operator", OPERATORS[noc]) if writes else ()
        return run_cli(*command, "--socket", str(self._mesh[noc].socket), *operator)


def _log(text: str) -> LogChange:
    return LogChange(LogRecord(text))


def _newest(client: Client, incident: str) -> set[str]:
    return {item.id for item in client.log(incident, limit=3, order="newest").items}


def _names(view: IncidentView) -> set[str]:
    """Of all locations."""
    return {value.value for place in view.collections["locations"] for value in place.fields["name"].values}


def _clock(time_ms: int) -> str:
    return time.strftime("%H:%M:%S", time.gmtime(time_ms / 1000)) + "Z"


def _cut_lines(table: str) -> str:
    return "\n".join(f"{line[:COLUMNS].rstrip()} …" for line in table.splitlines())
