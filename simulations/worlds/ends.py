"""Looks into nodes and disks in virtual time: are they one, and what does each hold at the end."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence, Set
from typing import Protocol

from meshnode.core.events import Now
from meshnode.core.identity import Identity
from meshnode.core.ids import DeviceId, IncidentId, LogId
from meshnode.core.node import Node
from meshnode.core.reading import Reading
from meshnode.core.replica import Replica
from meshnode.errors import MeshnodeError
from simulations.liars.ring import Ring
from simulations.worlds import work
from simulations.worlds.contract import IncidentEnd, NodeEnd, Outcome, Sighting, Uttered
from simulations.worlds.disk import Disk
from simulations.worlds.host import DEFECTS
from simulations.worlds.timeline import Timeline

LOG_PAGE = 1_000


class Timed(Protocol):
    @property
    def now_s(self) -> float: ...


class Host(Protocol):
    """What the machines of the worlds ``protocol`` and ``daemon`` have in common."""

    @property
    def name(self) -> str: ...
    @property
    def role(self) -> str: ...
    @property
    def identity(self) -> Identity: ...
    @property
    def clock(self) -> Timed: ...
    @property
    def disk(self) -> Disk: ...
    @property
    def node(self) -> Node | None: ...
    @property
    def reading(self) -> Reading | None: ...
    @property
    def life(self) -> int: ...
    @property
    def sometimes(self) -> Counter[str]: ...
    @property
    def peaks(self) -> Counter[str]: ...
    @property
    def reports(self) -> Counter[str]: ...
    @property
    def codes(self) -> dict[str, str]: ...
    @property
    def unreasoned(self) -> list[str]: ...
    @property
    def said(self) -> set[str]: ...

    def now(self) -> Now: ...
    def measure(self) -> None: ...


def is_one(
    core: Sequence[Host],
    due: Mapping[str, Set[str]],
    ring: Ring | None = None,
    without: Iterable[IncidentId] = (),
) -> bool:
    """Does all of the core hold the same, and read the same? Members read what they are members of; relays store it.
    ``due``: incident -> names of those that must read it, whatever nodes say of themselves.

    Of what a liar made this is asked too, as far as it can be merged; an outsider who was given keys is no reader."""
    if any(host.node is None for host in core):
        return False
    incidents = dict.fromkeys(incident for host in core for incident in host.disk.incidents())
    incidents.update(dict.fromkeys(IncidentId(bytes.fromhex(incident)) for incident in due))
    return all(
        is_one_in(core, incident, due.get(incident.hex(), set()), ring) and _are_stores_alike(core, incident, ring)
        for incident in incidents
        if incident not in without
    )


def is_one_in(core: Sequence[Host], incident: IncidentId, due: Set[str], ring: Ring | None) -> bool:
    outsiders = ring.outsiders(incident) if ring is not None else set()
    digests, readers = set(), []
    for host in core:
        node, reading = host.node, host.reading
        if node is None or reading is None:
            return False
        reads = node.incidents.is_member(incident) and host.identity.device not in outsiders
        if reads or host.role != "member":
            if not node.holdings.holds(incident):
                return False
            digests.add(node.holdings.incident_digest(incident))
        if reads:
            replica = node.incidents.replicas[incident]
            if not replica.merged or _waiting(host, replica, ring):
                return False
            digests_read = reading.digest(incident)
            readers.append((host, digests_read))
    if len(digests) > 1 or len({digest for _, digest in readers}) > 1:
        return False
    if (ring is None or not ring.logs) and any(_needs_epoch(host, incident) for host, _ in readers):
        return False
    names = {host.name for host, _ in readers}
    if any(host.name in due and host.name not in names for host in core):
        return False
    # Of what only relays store nobody was told that it is durable, or the plan destroyed every key to it.
    return not readers or all(host.name in names for host in core if _is_listed(readers[0][0], incident, host))


def _waiting(host: Host, replica: Replica, ring: Ring | None) -> int:
    """Entries that wait in logs that are not a liar's."""
    waiting = replica.waiting_entries()
    if not waiting or ring is None or not ring.minds:
        return waiting
    broken = {log for log, _ in replica.broken_logs()}
    heads = [head for head in host.disk.heads(replica.incident) if head.log not in broken]
    return sum(head.height - replica.graph.height(head.log) for head in heads if not ring.is_of_liar(head.log))


def _needs_epoch(host: Host, incident: IncidentId) -> bool:
    """Is there no usable epoch for exactly the members, or one that some of them cannot reach (E4, E6)?"""
    return host.node is not None and host.node.incidents.replicas[incident].group.lineage.needs_repair()


def _are_stores_alike(core: Sequence[Host], incident: IncidentId, ring: Ring | None) -> bool:
    """Do the disks of all that must store it hold the same? Asked last: what nodes say of themselves is quicker."""
    outsiders = ring.outsiders(incident) if ring is not None else set()
    found = set()
    for host in core:
        reads = host.node is not None and host.node.incidents.is_member(incident)
        if host.role != "member" or (reads and host.identity.device not in outsiders):
            found.add(tuple((head.log, head.height, head.hash) for head in host.disk.heads(incident)))
    return len(found) <= 1


def _is_listed(reader: Host, incident: IncidentId, host: Host) -> bool:
    """Does the group name this device as a member?"""
    return reader.node is not None and reader.node.incidents.replicas[incident].group.is_member(host.identity.device)


def sample(timeline: Timeline, at_s: float, hosts: Sequence[Host], bytes_by_class: dict[str, int]) -> None:
    """What members show at this moment."""
    digests: dict[str, dict[str, str]] = {}
    conflicts: dict[str, int] = {}
    for host in hosts:
        if host.node is None or host.reading is None or host.role != "member":
            continue
        replicas = {incident: replica for incident, replica in host.node.incidents.replicas.items() if replica.merged}
        digests[host.name] = {incident.hex(): host.reading.digest(incident).hex() for incident in replicas}
        conflicts[host.name] = sum(replica.document.conflict_count for replica in replicas.values())
    timeline.sample(at_s, digests, conflicts, bytes_by_class)


def look(outcome: Outcome, hosts: Sequence[Host], ring: Ring | None = None) -> None:
    """Fills in ``ends``, and the sightings that need a look into disks."""
    names = {host.identity.device: host.name for host in reversed(hosts)}
    secrets: dict[IncidentId, list[bytes]] = {}
    for host in hosts:
        if host.node is not None:
            for incident, replica in host.node.incidents.replicas.items():
                secrets.setdefault(incident, []).extend(replica.keys.values())
    for host in hosts:
        host.measure()
        end = _end(host, names, ring)
        outcome.ends.append(end)
        said = " ".join(sorted(host.said))
        end.leaked = sum(key.hex() in said for found in secrets.values() for key in dict.fromkeys(found))
        outcome.sometimes.update(host.sometimes)
        if host.disk.marked:
            what = f"{host.disk.marked} rows on disk held a marked word in clear"
            outcome.sightings.append(Sighting("I4", host.clock.now_s, host.name, what))
        keys = [key for found in secrets.values() for key in found]
        if keys and host.disk.holds_bytes(list(dict.fromkeys(keys))):
            what = "an epoch key lies on the disk in clear"
            outcome.sightings.append(Sighting("I12", host.clock.now_s, host.name, what))


def _end(host: Host, names: dict[DeviceId, str], ring: Ring | None) -> NodeEnd:
    node = host.node
    stored = {
        incident.hex(): {head.log.hex(): head.height for head in host.disk.heads(incident)}
        for incident in host.disk.incidents()
    }
    end = NodeEnd(
        name=host.name,
        up=node is not None,
        role=host.role,
        stored=stored,
        heads={
            (incident.hex(), head.log.hex()): (head.height, head.hash.hex())
            for incident in host.disk.incidents()
            for head in host.disk.heads(incident)
        },
        incidents={},
        journal_gaps=_journal_gaps(host),
        keys=(),
        refusals={},
        degraded=(),
        sizes=dict(host.peaks),
        codes=dict(sorted(host.codes.items())),
        unreasoned=tuple(dict.fromkeys(host.unreasoned)),
        rotted=host.disk.rotted,
        unnoticed=host.disk.unnoticed,
        holes=tuple((incident.hex(), log.hex(), seq) for incident, log, seq in host.disk.holes()),
        uttered=() if ring is None else ring.kept_by(host.disk),
        reports=dict(sorted(host.reports.items())),
        handed=() if ring is None else tuple(sorted(ring.handed.get(host.name, ()))),
        lives=host.life,
    )
    if node is not None and host.reading is not None:
        replicas = node.incidents.replicas
        end.keys = tuple(sorted(incident.hex() for incident, replica in replicas.items() if replica.keys))
        end.refusals = dict(sorted(node.outbox.counts.items()))
        end.degraded = tuple(sorted(node.degraded))
        for code, (reason, action, _) in sorted(node.degraded.items()):
            end.codes.setdefault(code, reason)
            if not (code and reason and action):
                end.unreasoned += (f"a degraded state ({code or 'no code'}: {reason or 'no reason'})",)
        end.codes.update((code, "counted") for code in end.refusals if code not in end.codes)
        made_ms = [secret.created_ms for secret in node.rollcall.ring.secrets()]
        end.old_prekeys_ms = host.now().wall_ms - min(made_ms, default=host.now().wall_ms)
        told = [] if ring is None else [ring.uttered[number] for number in end.uttered]
        for incident, replica in sorted(replicas.items()):
            if replica.keys and replica.merged:
                try:
                    end.incidents[incident.hex()] = _incident(host, incident, names, told)
                except (MeshnodeError, *DEFECTS) as error:
                    end.unreadable += (f"{incident.hex()[:8]}: {type(error).__name__}: {error}",)
    return end


def _incident(host: Host, incident: IncidentId, names: dict[DeviceId, str], uttered: Sequence[Uttered]) -> IncidentEnd:
    assert host.node is not None
    assert host.reading is not None
    replica = host.node.incidents.replicas[incident]
    view = host.reading.incident(incident)
    registers, deleted = work.shown_values(incident.hex(), view)
    records: dict[str, str] = {}
    after = ""
    while True:
        page = host.reading.log_page(incident, after, LOG_PAGE, newest_first=False)
        records.update((row.id, str(row.record.get("text", ""))) for row in page.items)
        after = page.next
        if not after:
            break
    heads = dict(replica.merged_heads())
    return IncidentEnd(
        digest=view.summary.digest,
        heads={log.hex(): height for log, height in heads.items()},
        registers=registers,
        deleted=deleted,
        records=records,
        conflicts=view.summary.conflicts,
        void=tuple(
            f"{log.hex()}.{seq}: {replica.void(log, seq)[0]}"
            for log, height in heads.items()
            for seq in range(1, height + 1)
            if replica.void(log, seq)[0]
        ),
        members=tuple(sorted(names[member.device] for member in replica.group.members() if member.device in names)),
        waiting=replica.waiting_entries(),
        uttered=tuple(
            row.number
            for row in uttered
            if row.incident == incident.hex() and heads.get(LogId(bytes.fromhex(row.log)), 0) >= row.seq
        ),
        write_key=(replica.group.write_key() or b"").hex(),
    )


def _journal_gaps(host: Host) -> int:
    """Numbers that are missing, and rows that name an entry that is not stored or one that an earlier row named. Of a
    disk that rotted, lost rows are known to be missing, and what is merged again behind them is journalled again."""
    gaps, expected, seen = 0, 1, set()
    lost, rotted = host.disk.journal_holes(), not host.disk.is_sound
    for row in host.disk.applied_after(0, host.disk.applied_last()):
        place = (row.incident, row.log, row.seq)
        while expected in lost:
            expected += 1
        gaps += (
            row.number != expected or (place in seen and not rotted) or host.disk.top(row.incident, row.log) < row.seq
        )
        seen.add(place)
        expected = row.number + 1
    if host.node is not None and not rotted:  # what is merged and in no row is never told to anybody
        for incident, replica in host.node.incidents.replicas.items():
            for log, height in replica.merged_heads():
                gaps += sum((incident, log, seq) not in seen for seq in range(1, height + 1))
    return gaps
