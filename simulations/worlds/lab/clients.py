"""Who writes and reads at the machines: one thread for each machine, so that one that stands still delays nobody else.

All go by the daemon's local API, and keep what they were answered in one record (:class:`Record`).
"""

from __future__ import annotations

import queue
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field

from meshnode.api.records import (
    AddChange,
    ChangeRequest,
    CreateChange,
    DeleteChange,
    LogChange,
    LogRecord,
    RemoveChange,
    SetChange,
)
from meshnode.client import ApiError, Client
from meshnode.core.events import ChangeKind
from simulations.scenario.plan import Open, Plan, ShareWith, Write
from simulations.worlds import work
from simulations.worlds.contract import Acknowledged, Outcome, Refused, Sealed, Spread, Touch
from simulations.worlds.lab.machines import Machine

ANSWER_TIMEOUT_S = 30.0
"""For one answer; longer than any pause that a client would sit through."""
NO_ANSWER = "no-answer"

Asked = Open | ShareWith | Write


@dataclass(slots=True)
class Record:
    """What clients asked and were answered. For any thread."""

    plan: Plan
    outcome: Outcome
    now_s: Callable[[], float]
    lock: threading.Lock = field(default_factory=threading.Lock)
    answer_s: dict[str, float] = field(default_factory=dict)
    """Machine -> the slowest answer to a write while it was neither paused nor down."""

    def incident(self, name: str) -> str:
        with self.lock:
            return self.outcome.incidents.get(name, "")

    def acknowledged_at(self, machine: str) -> list[Acknowledged]:
        with self.lock:
            return [row for row in self.outcome.acknowledged if row.node == machine]

    def passed_over(self, what: str) -> None:
        with self.lock:
            self.outcome.sometimes[what] += 1

    def answered(self, row: Acknowledged) -> None:
        with self.lock:
            self.outcome.acknowledged.append(row)

    def refused(self, action: Asked, code: str) -> None:
        with self.lock:
            self.outcome.refused.append(Refused(action.number, self.now_s(), action.node, code))

    def unanswered(self, action: Asked, touch: Touch) -> None:
        """It may have been done or not."""
        with self.lock:
            self.outcome.unanswered.append((action.number, action.node, touch))

    def sealed(self, at_s: float, machine: Machine, incident: str, nocs: tuple[str, ...]) -> None:
        with self.lock:
            self.outcome.sealed.append(Sealed(at_s, machine.name, incident, (*nocs, machine.spec.noc)))


class Operator:
    """The people at one machine: what is asked of them is done one after the other."""

    def __init__(self, machine: Machine, record: Record) -> None:
        self._machine = machine
        self._record = record
        self._jobs: queue.Queue[Asked | None] = queue.Queue()
        self._thread = threading.Thread(target=self._run, name=f"operator {machine.name}", daemon=True)
        self._thread.start()

    def ask(self, action: Asked) -> None:
        self._jobs.put(action)

    def finish(self, timeout_s: float) -> bool:
        """Nothing more will be asked; whether all was answered in time."""
        self._jobs.put(None)
        self._thread.join(timeout_s)
        return not self._thread.is_alive()

    def _run(self) -> None:
        while (action := self._jobs.get()) is not None:
            asked_s = self._record.now_s()
            if not self._machine.up or self._machine.paused:
                self._record.refused(action, NO_ANSWER)
                continue
            with self._machine.node.client(ANSWER_TIMEOUT_S, work.OPERATOR) as client:
                if isinstance(action, Open):
                    self._open(client, action, asked_s)
                elif isinstance(action, ShareWith):
                    self._share(client, action, asked_s)
                else:
                    self._write(client, action, asked_s)

    def _open(self, client: Client, action: Open, asked_s: float) -> None:
        record, machine = self._record, self._machine
        try:
            # An incident can be shared with NOCs that are known by now; the rest is left out, as in the other worlds.
            known = {peer.noc for peer in client.peers() if peer.prekey_known}
            share_with = [noc for noc in action.nocs if noc in known and noc != machine.spec.noc]
            if len(share_with) + 1 < len({*action.nocs, machine.spec.noc}):
                record.passed_over("opened before all were known")
            title = work.canary(record.plan.seed, action.number)
            written = client.open_incident(work.KIND, {"title": title}, share_with=share_with)
        except ApiError as error:
            record.sealed(asked_s, machine, "", action.nocs)
            record.refused(action, code_of(error))
            return
        with record.lock:
            record.outcome.incidents[action.incident] = written.incident
        record.sealed(record.now_s(), machine, written.incident, action.nocs)
        touch = Touch(written.incident, "incident", work.ROOT_HEX, "title")
        times = (action.number, asked_s, record.now_s())
        record.answered(Acknowledged(*times, machine.name, "set", touch, written.ids[0], title, ()))

    def _share(self, client: Client, action: ShareWith, asked_s: float) -> None:
        record, incident = self._record, self._record.incident(action.incident)
        if not incident:
            return
        try:
            client.digest(incident)
        except ApiError:
            record.passed_over("passed over: cannot read the incident")
            return
        record.sealed(asked_s, self._machine, incident, action.nocs)
        try:
            client.share(incident, action.nocs)
        except ApiError as error:
            record.refused(action, code_of(error))

    def _write(self, client: Client, action: Write, asked_s: float) -> None:
        record, incident = self._record, self._record.incident(action.incident)
        if not incident:
            return
        try:
            view = client.incident(incident)
        except ApiError as error:
            if code_of(error) == NO_ANSWER:
                record.refused(action, NO_ANSWER)
            else:
                record.passed_over("passed over: cannot read the incident")
            return
        asked = work.ask(action, record.plan.seed, incident, view)
        begin_s = time.monotonic()
        try:
            written = client.change(incident, [as_request(asked)])
        except ApiError as error:
            record.refused(action, code_of(error))
            if code_of(error) == NO_ANSWER:
                record.unanswered(action, asked.touch)
            return
        with record.lock:
            took_s = time.monotonic() - begin_s
            record.answer_s[action.node] = max(took_s, record.answer_s.get(action.node, 0.0))
        seen = asked.seen
        if asked.kind == "delete":
            seen = _deleted(client, incident, asked, written.ids[0])
        row = (asked.kind, asked.touch, written.ids[0], asked.text, seen)
        record.answered(Acknowledged(action.number, asked_s, record.now_s(), action.node, *row))


def _deleted(client: Client, incident: str, asked: work.Asked, dot: str) -> tuple[str, ...]:
    """What a deletion ended: what the client was shown, and what came since then, which only the node can tell."""
    try:
        for entry in client.history(incident, limit=1_000, object_id=asked.touch.object).items:
            for operation in entry.operations:
                if operation.id == dot:
                    return tuple(dict.fromkeys((*asked.seen, *operation.replaces)))
    except ApiError:
        return asked.seen
    return asked.seen


def code_of(error: ApiError) -> str:
    """What a refusal is called in the record: everything without an answer is one thing."""
    return NO_ANSWER if error.status == 0 else error.code


def as_request(asked: work.Asked) -> ChangeRequest:
    """The change as the local API is asked for it. What it replaces is named: more may have come since the look."""
    change = asked.change
    obj = None if change.object is None else change.object.hex()
    match change.kind:
        case ChangeKind.SET:
            return SetChange(change.field, change.value, change.collection, obj, list(asked.seen))
        case ChangeKind.ADD:
            return AddChange(change.field, change.value, change.collection, obj)
        case ChangeKind.REMOVE:
            return RemoveChange(change.field, None, change.collection, obj, list(asked.seen))
        case ChangeKind.CREATE:
            return CreateChange(change.collection, obj)
        case ChangeKind.DELETE if obj is not None:
            return DeleteChange(change.collection, obj)
        case ChangeKind.LOG:
            return LogChange(LogRecord(change.value["text"]))
    raise ValueError(f"the workload makes no {change.kind.name}")


class Reader:
    """Follows a member's events, to tell how long a write took to be seen there."""

    def __init__(self, machine: Machine, now_s: Callable[[], float]) -> None:
        self.machine = machine
        self.seen_s: dict[str, float] = {}
        """Entry -> when it was shown."""
        self._now_s = now_s
        threading.Thread(target=self._run, name=f"reader {machine.name}", daemon=True).start()

    def _run(self) -> None:
        while True:
            try:
                with self.machine.node.client() as client:
                    for entry in client.events(after="0"):
                        self.seen_s.setdefault(entry.entry, self._now_s())
            except ApiError:
                # Down, or come back with another disk: from the beginning, what was seen stays as it was.
                time.sleep(1.0)


def spread(outcome: Outcome, readers: list[Reader]) -> list[Spread]:
    """How long each write took to be shown by each other member that ever showed it."""
    found = []
    for row in outcome.acknowledged:
        entry = row.dot.rpartition(".")[0]
        for reader in readers:
            if reader.machine.name != row.node and entry in reader.seen_s:
                after_s = max(0.0, reader.seen_s[entry] - row.at_s)
                found.append(Spread(row.number, reader.machine.name, after_s))
    return found
