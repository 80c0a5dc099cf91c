"""The local clients of a run: who writes what the plan says, who follows each event stream, who reads now and then.

All speak HTTP over the Unix sockets of the daemons. What they were answered is the record that checkers judge.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from random import Random

import trio

from meshnode.api.records import WrittenView
from meshnode.core.ids import IncidentId, LogId
from meshnode.core.operations import Delete, operation_untrusted
from meshnode.core.views import HistoryView, IncidentView, NodeView
from simulations.scenario.plan import Open, ShareWith, Write
from simulations.worlds import work
from simulations.worlds.clockwork import Trace
from simulations.worlds.contract import Acknowledged, Invited, Outcome, Refused, Sealed, Sighting, Spread, Touch
from simulations.worlds.daemon.client import Client, NoAnswer, RefusalError, connected, plain
from simulations.worlds.daemon.host import Host
from simulations.worlds.membership import invited_nodes, known_nodes

READ_INTERVAL_S = 5.0
READ_WITHIN_S = 1.0
"""Virtual time that a read may take: none of it is computing, so whoever takes longer waited for the disk or a peer."""
RECONNECT_S = 1.0
EVENT_WITHIN_S = 1.0
"""From the answer to a client until another client of the same node is told of the entry: both wait for one commit."""
NOT_A_READER = frozenset(("unknown-incident", "not-a-member"))


@dataclass(slots=True)
class Follower:
    """A client of one node's event stream, over all its lives."""

    cursor: str = "0"
    """As the node gave it: a journal number, and more that is the node's to understand."""
    number: int = 0
    since_s: float = 0.0
    """When its stream began."""
    entries: set[str] = field(default_factory=set)
    gaps: int = 0


class Clients:
    def __init__(self, outcome: Outcome, hosts: dict[str, Host], trace: Trace) -> None:
        self._outcome = outcome
        self._plan = outcome.plan
        self._hosts = hosts
        self._trace = trace
        self._ids: dict[str, str] = {}
        specs = {spec.name: spec for spec in self._plan.nodes}
        self._devices = {host.identity.device: specs[name] for name, host in hosts.items()}
        self._by_entry: dict[str, Acknowledged] = {}
        self.waiting: dict[int, str] = {}
        """Number of a request that is on its way -> node."""
        self.followers = {name: Follower() for name in hosts}

    # --- writers --------------------------------------------------------------------------------------------------

    async def ask(self, action: Open | ShareWith | Write) -> None:
        """Carries out one action of the plan and writes down how it was answered."""
        host = self._hosts[action.node]
        if not host.answers:
            self._refuse(action.number, host, "no-answer")
            return
        if not isinstance(action, Open) and action.incident not in self._ids:
            return
        self._note(host, "asked", action.number)
        self.waiting[action.number] = host.name
        try:
            async with connected(host.socket) as client:
                if isinstance(action, Open):
                    await self._open(client, host, action)
                elif isinstance(action, ShareWith):
                    await self._share(client, host, action)
                else:
                    await self._write(client, host, action)
        except NoAnswer:
            self._note(host, "no answer", action.number)
            self._refuse(action.number, host, "no-answer")
        except RefusalError as refusal:
            self._note(host, "refused", action.number, refusal.code)
            self._refuse(action.number, host, refusal.code)
        finally:
            self.waiting.pop(action.number, None)

    async def _open(self, client: Client, host: Host, action: Open) -> None:
        own = host.identity.certificate.noc
        nodes = known_nodes(host.disk, self._devices)
        known = {spec.noc for spec in nodes}
        share_with = [noc for noc in action.nocs if noc in known and noc != own]
        if len(share_with) + 1 < len({*action.nocs, own}):
            self._outcome.sometimes["opened before all were known"] += 1
        change = work.opening(self._plan.seed, action.number)
        body = {"kind": work.KIND, "changes": [plain(change)], "share_with": share_with}
        asked_s = trio.current_time()
        try:
            written = (await client.ask("POST", "/v1/incidents", body)).decode(WrittenView)
        except NoAnswer:
            self._outcome.sealed.append(Sealed(asked_s, host.name, "", (*action.nocs, own)))
            raise
        self._ids[action.incident] = self._outcome.incidents[action.incident] = written.incident
        self._outcome.sealed.append(Sealed(trio.current_time(), host.name, written.incident, (*action.nocs, own)))
        self._invite(action, host, written.incident, invited_nodes(host.name, share_with, nodes), written.ids[0])
        touch = Touch(written.incident, "incident", work.ROOT_HEX, "title")
        asked = work.Asked(change, "set", touch, str(change.value), ())
        self._acknowledge(action.number, asked_s, host, asked, written)

    async def _share(self, client: Client, host: Host, action: ShareWith) -> None:
        incident = self._ids[action.incident]
        nocs = (*action.nocs, host.identity.certificate.noc)
        self._outcome.sealed.append(Sealed(trio.current_time(), host.name, incident, nocs))
        nodes = invited_nodes(host.name, action.nocs, known_nodes(host.disk, self._devices))
        answer = await client.ask("POST", f"/v1/incidents/{incident}/members", {"nocs": list(action.nocs)})
        if answer.status < 400:
            self._invite(action, host, incident, nodes)
        if answer.status >= 400:
            try:
                answer.decode(WrittenView)
            except RefusalError as refusal:
                if refusal.code not in NOT_A_READER:
                    raise
                self._outcome.sometimes["passed over: cannot read the incident"] += 1

    def _invite(
        self, action: Open | ShareWith, host: Host, incident: str, nodes: tuple[str, ...], dot: str = ""
    ) -> None:
        entry = dot.rpartition(".")[0]
        row = Invited(action.number, trio.current_time(), host.name, incident, nodes, entry)
        self._outcome.invited.append(row)

    async def _write(self, client: Client, host: Host, action: Write) -> None:
        incident = self._ids[action.incident]
        try:
            view = await client.get(f"/v1/incidents/{incident}", IncidentView)
        except RefusalError as refusal:
            if refusal.code not in NOT_A_READER:
                raise
            self._outcome.sometimes["passed over: cannot read the incident"] += 1
            return
        asked = work.ask(action, self._plan.seed, incident, view)
        body = plain(asked.change)
        if asked.kind == "set":
            body["replaces"] = list(asked.seen)  # what this client was shown, not what has come since
        asked_s, life = trio.current_time(), host.life
        try:
            answer = await client.ask("POST", f"/v1/incidents/{incident}/changes", {"changes": [body]})
        except NoAnswer:
            self._outcome.unanswered.append((action.number, host.name, asked.touch))
            await self._check_stop(action.number, host, life, asked_s)
            raise
        self._acknowledge(action.number, asked_s, host, asked, answer.decode(WrittenView))

    async def _check_stop(self, number: int, host: Host, life: int, asked_s: float) -> None:
        """Nobody answered. A stop in order that came after the request and ended in time may not leave it so."""
        await host.over.wait()
        stopped_s = host.stopped.get(life)
        if stopped_s is not None and asked_s < stopped_s:
            self._sight("I6", host, f"a stop in order at {stopped_s:.3f} s left request {number} without an answer")

    def _acknowledge(self, number: int, asked_s: float, host: Host, asked: work.Asked, written: WrittenView) -> None:
        now_s, dot = trio.current_time(), work.parse_dot(written.ids[0])
        incident = IncidentId(bytes.fromhex(written.incident))
        self._note(host, "answered", number, *written.ids)
        seen = asked.seen
        if asked.kind == "delete":
            seen = _deleted(host, incident, dot.log, dot.seq, dot.op) or seen
        row = Acknowledged(number, asked_s, now_s, host.name, asked.kind, asked.touch, written.ids[0], asked.text, seen)
        self._outcome.acknowledged.append(row)
        self._by_entry[f"{dot.log.hex()}.{dot.seq}"] = row
        if not host.disk.has(incident, dot.log, dot.seq):
            self._sight("I1", host, f"write {number} was acknowledged and is not durable")

    def _refuse(self, number: int, host: Host, code: str) -> None:
        self._outcome.refused.append(Refused(number, trio.current_time(), host.name, code))

    # --- followers ------------------------------------------------------------------------------------------------

    async def follow(self, host: Host) -> None:
        """Reads the event stream of one node for ever, and reads on where it stopped."""
        follower = self.followers[host.name]
        while True:
            while not host.answers:
                await host.changed.wait()
            try:
                async with connected(host.socket) as client:
                    follower.since_s = trio.current_time()
                    async for cursor, entry in client.events(follower.cursor):
                        self._take(host, follower, cursor, entry)
            except NoAnswer:
                self._note(host, "stream ended", follower.cursor)
            except RefusalError as refusal:
                self._note(host, "stream refused", refusal.code)
                if refusal.code == "bad-cursor":
                    what = f"it told events up to {follower.cursor}, and had lost some of them after a crash"
                    self._sight("I1", host, what)
                    self.start_over(host.name)
                elif refusal.code != "stopping":
                    self._sight("I6", host, f"the event stream was refused: {refusal.code}")
            await trio.sleep(RECONNECT_S)

    def start_over(self, name: str) -> None:
        """The node's journal is another one from here on."""
        follower = self.followers[name]
        follower.cursor, follower.number = "0", 0
        follower.entries.clear()

    def _take(self, host: Host, follower: Follower, cursor: str, view: HistoryView | None) -> None:
        number, before = int(cursor.partition("-")[0]), follower.number
        follower.cursor, follower.number = cursor, number
        if view is None:
            if number != before:
                follower.gaps += 1
                self._sight("I3", host, f"the event stream went from {before} to {number} without a word")
            return
        entry = view.entry
        self._note(host, "event", number, entry)
        log, _, seq = entry.partition(".")
        if not host.disk.has(IncidentId(bytes.fromhex(view.incident)), LogId(bytes.fromhex(log)), int(seq)):
            self._sight("I1", host, f"event {number} told of an entry that is not durable")
        if number != before + 1 or entry in follower.entries:
            follower.gaps += 1
            self._sight("I3", host, f"after event {before} came {number}, entry {entry[:12]}")
        follower.entries.add(entry)
        row = self._by_entry.get(entry)
        if row is None:
            return
        late_s = trio.current_time() - row.at_s
        if row.node != host.name:
            self._outcome.spread_s.append(Spread(row.number, host.name, max(0.0, late_s)))
        elif late_s > EVENT_WITHIN_S and row.at_s > max(follower.since_s, host.resumed_s):
            self._sight("I6", host, f"event {number} came {late_s:.1f} s after the answer to its writer")

    # --- readers --------------------------------------------------------------------------------------------------

    async def read(self, host: Host) -> None:
        """Asks one node for its state now and then: it must answer at once, whatever the disk and the links do."""
        rng = Random(f"reader {self._plan.seed} {host.name}")
        while True:
            await trio.sleep(READ_INTERVAL_S * (0.5 + rng.random()))
            if not host.answers:
                continue
            life, busy = host.life, host.queue.stage == "writing"
            try:
                with trio.move_on_after(READ_WITHIN_S) as scope:
                    async with connected(host.socket) as client:
                        await client.get("/v1/node", NodeView)
            except (NoAnswer, RefusalError):
                continue
            if scope.cancelled_caught and host.life == life and host.answers:
                self._sight("I6", host, f"a read was not answered within {READ_WITHIN_S:g} s")
            if busy:
                self._outcome.sometimes["read while the disk was writing"] += 1
            host.measure()

    # --- inside ---------------------------------------------------------------------------------------------------

    def _note(self, host: Host, what: str, *details: object) -> None:
        self._trace.note(trio.current_time(), host.name, what, *details)

    def _sight(self, invariant: str, host: Host, what: str) -> None:
        self._outcome.sightings.append(Sighting(invariant, trio.current_time(), host.name, what))


def _deleted(host: Host, incident: IncidentId, log: LogId, seq: int, op: int) -> tuple[str, ...]:
    """What a deletion names. The API deletes what the node shows when it takes the request, which can be more than this
    client saw a moment before."""
    node = host.node
    if node is None:
        return ()
    operation = operation_untrusted(node.incidents.replicas[incident].read_content(log, seq).operations[op])
    return tuple(dot.text for dot in operation.seen) if isinstance(operation, Delete) else ()
