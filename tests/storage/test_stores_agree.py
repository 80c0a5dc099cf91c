"""One rule machine drives the store on SQLite and the store in memory side by side and demands equal answers.

The store on SQLite crashes for real as far as its files go: they are copied while it runs, and the copy is opened.
What is dropped is deleted three rows at a time and sizes are marked every five entries: both are often halfway.
"""

from __future__ import annotations

import shutil
import tempfile
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule
from log_builder import INCIDENT, KEY, LogBuilder, crash_image, name

from meshnode.core.ids import IncidentId, KeyId, LogId
from meshnode.core.log import CommitBatch
from meshnode.storage import sqlite, sweep
from meshnode.storage.memory import MemoryLogStore
from meshnode.storage.sqlite import SqliteLogStore
from meshnode.storage.ticket import Ticket

RELAYED = IncidentId(name("relayed incident", 16))
"""Never in the journal, so it may be dropped."""
INCIDENTS = (INCIDENT, IncidentId(name("other incident", 16)), RELAYED)
LOGS = tuple(LogId(name(f"log {number}", 32)) for number in range(3))
KEYS = (KEY, KeyId(name("other key", 32)))
NAMESPACES = ("peers", "ring")
VALUE_KEYS = (b"", b"b\0c")
PLACES = [(incident, log) for incident in INCIDENTS for log in LOGS]


class StoresAgree(RuleBasedStateMachine):
    def __init__(self) -> None:
        super().__init__()
        self.patch = pytest.MonkeyPatch()
        self.patch.setattr(sweep, "SLICE_ROWS", 3)
        self.patch.setattr(sqlite, "MARK_ENTRIES", 5)
        self.directory = Path(tempfile.mkdtemp(prefix="stores-agree-"))
        self.crashes = 0
        self.path = self.directory / "store"
        self.memory = MemoryLogStore()
        self.sqlite = SqliteLogStore.open(self.path, wal_reserve_bytes=0)
        self.builders: dict[tuple[IncidentId, LogId], LogBuilder] = {}
        self.tickets: tuple[Ticket, Ticket] | None = None

    @initialize()
    def start_empty(self) -> None:
        self.forget_what_was_lost()

    def teardown(self) -> None:
        self.sqlite.close()
        shutil.rmtree(self.directory)
        self.patch.undo()

    # --- what is staged -----------------------------------------------------------------------------------------

    @rule(
        place=st.sampled_from(PLACES),
        count=st.integers(1, 4),
        key=st.sampled_from(KEYS),
        package=st.sampled_from((None, b"package")),
        sealed=st.booleans(),
        journaled=st.integers(0, 3),
    )
    def stage_entries(
        self,
        place: tuple[IncidentId, LogId],
        count: int,
        key: KeyId,
        package: bytes | None,
        sealed: bool,
        journaled: int,
    ) -> None:
        builder = self.builders[place]
        builder.key = key
        entries = builder.grow(count, size_bytes=40, package=package)
        journaled = 0 if builder.incident == RELAYED else journaled
        number = self.memory.applied_last()
        self.stage(
            CommitBatch(
                entries=entries,
                seals=(builder.seal(entries[-1].seq),) if sealed else (),
                applied=tuple(
                    builder.applied(number + index + 1, entry.seq) for index, entry in enumerate(entries[:journaled])
                ),
            )
        )

    @rule(data=st.data(), place=st.sampled_from(PLACES))
    def stage_again_with_late_seal(self, data: st.DataObject, place: tuple[IncidentId, LogId]) -> None:
        builder = self.builders[place]
        if builder.entries:
            seq = data.draw(st.integers(1, len(builder.entries)))
            first = data.draw(st.integers(1, seq))
            self.stage(CommitBatch(entries=tuple(builder.entries[first - 1 : seq]), seals=(builder.seal(seq),)))

    @rule(
        namespace=st.sampled_from(NAMESPACES),
        puts=st.lists(
            st.tuples(st.sampled_from(VALUE_KEYS), st.none() | st.binary(max_size=4)), min_size=1, max_size=3
        ),
    )
    def stage_values(self, namespace: str, puts: list[tuple[bytes, bytes | None]]) -> None:
        self.stage(CommitBatch(puts=tuple((namespace, key, value) for key, value in puts)))

    @rule(incident=st.sampled_from(INCIDENTS), with_value=st.booleans())
    def drop(self, incident: IncidentId, with_value: bool) -> None:
        puts = (("peers", b"", b"dropped"),) if with_value else ()
        batch = CommitBatch(puts=puts, drops=(incident,))
        if self.memory.journaled(incident):
            for store in (self.memory, self.sqlite):
                with pytest.raises(ValueError, match="in the journal"):
                    store.stage(batch)
        else:
            self.stage(batch)
            self.forget_what_was_lost()

    @precondition(lambda self: self.tickets is None)
    @rule(slices=st.integers(1, 3))
    def tidy(self, slices: int) -> None:
        for _slice in range(slices):
            self.sqlite.tidy()

    @rule(place=st.sampled_from(PLACES), gap=st.integers(2, 3))
    def refuse_a_gap(self, place: tuple[IncidentId, LogId], gap: int) -> None:
        ahead = LogBuilder(*place)
        ahead.entries = list(self.builders[place].entries)
        entries = ahead.grow(gap)
        for store in (self.memory, self.sqlite):
            with pytest.raises(ValueError, match="whose last entry"):
                store.stage(CommitBatch(entries=entries[-1:], puts=(("peers", b"a", b"never"),)))

    @rule()
    def refuse_a_gap_in_the_journal(self) -> None:
        for builder in self.builders.values():
            if builder.entries:
                batch = CommitBatch(applied=(builder.applied(self.memory.applied_last() + 2, 1),))
                for store in (self.memory, self.sqlite):
                    with pytest.raises(ValueError, match="journal number"):
                        store.stage(batch)

    # --- commits and crashes ------------------------------------------------------------------------------------

    @rule(steps=st.integers(1, 4), tidy=st.booleans())
    def go_on_with_the_commit(self, steps: int, tidy: bool) -> None:
        """begin, write, end, begin, ...: some steps further."""
        for _step in range(steps):
            if self.tickets is None:
                first, second = self.memory.begin_commit(), self.sqlite.begin_commit()
                assert (first is None) == (second is None)
                self.tickets = (first, second) if first is not None and second is not None else None
            elif not self.tickets[0].written:
                self.memory.write(self.tickets[0])
                self.sqlite.write(self.tickets[1])
            else:
                self.end_commit()
                if tidy:
                    self.sqlite.tidy()

    def end_commit(self) -> None:
        assert self.tickets is not None
        self.memory.end_commit(self.tickets[0])
        self.sqlite.end_commit(self.tickets[1])
        self.tickets = None

    @rule()
    def abandon(self) -> None:
        self.memory.abandon()
        self.sqlite.abandon()
        self.tickets = None
        self.forget_what_was_lost()

    @rule()
    def crash(self) -> None:
        if self.tickets is not None and self.tickets[0].written:
            # Written and not yet ended: durable on a disk, and for the store in memory only once ended.
            self.end_commit()
        self.crashes += 1
        image = crash_image(self.path, self.directory / str(self.crashes))
        self.sqlite.close()
        self.path = image
        self.sqlite = SqliteLogStore.open(image, wal_reserve_bytes=0)
        self.memory.lose_uncommitted()
        assert self.sqlite.notices() == ()
        self.tickets = None
        self.forget_what_was_lost()

    @precondition(lambda self: self.tickets is None)
    @rule()
    def close_and_open(self) -> None:
        self.sqlite.close()
        self.memory.close()
        self.sqlite = SqliteLogStore.open(self.path, wal_reserve_bytes=0)
        self.forget_what_was_lost()

    # --- the demand ---------------------------------------------------------------------------------------------

    @invariant()
    def answers_are_equal(self) -> None:
        memory, sqlite = self.memory, self.sqlite
        assert sqlite.incidents() == memory.incidents()
        for incident in (*INCIDENTS, IncidentId(bytes(16))):
            assert sqlite.incident_bytes(incident) == memory.incident_bytes(incident)
            assert sqlite.journaled(incident) == memory.journaled(incident)
        for incident, log in PLACES:
            assert sqlite.heads(incident) == memory.heads(incident)
            entries = memory.read(incident, log, 1, 1_000)
            for first, last in ((1, 1_000), (0, 2), (2, 3), (3, 2)):
                assert sqlite.read(incident, log, first, last) == memory.read(incident, log, first, last)
                assert sqlite.seals(incident, log, first, last) == memory.seals(incident, log, first, last)
            for entry in self.builders[incident, log].entries[-3:]:
                found = (log, entry.seq) if entry in entries else None
                assert sqlite.find(incident, entry.hash) == memory.find(incident, entry.hash) == found
                assert sqlite.find(INCIDENTS[0] if incident != INCIDENTS[0] else INCIDENTS[1], entry.hash) is None
        for number, limit in ((0, 1_000), (1, 2), (5, 1)):
            assert sqlite.applied_after(number, limit) == memory.applied_after(number, limit)
        assert sqlite.applied_last() == memory.applied_last()
        for namespace in NAMESPACES:
            assert sqlite.scan(namespace) == memory.scan(namespace)
            assert [sqlite.get(namespace, key) for key in VALUE_KEYS] == [
                memory.get(namespace, key) for key in VALUE_KEYS
            ]
        assert sqlite.damaged() == 0

    def stage(self, batch: CommitBatch) -> None:
        self.memory.stage(batch)
        self.sqlite.stage(batch)

    def forget_what_was_lost(self) -> None:
        """The builders go on behind what the store in memory still has."""
        for place in PLACES:
            builder = LogBuilder(*place)
            builder.entries = self.memory.read(*place, 1, 1_000)
            self.builders[place] = builder


TestStoresAgree = StoresAgree.TestCase
TestStoresAgree.settings = settings(
    max_examples=100, stateful_step_count=30, deadline=None, suppress_health_check=[HealthCheck.too_slow]
)
