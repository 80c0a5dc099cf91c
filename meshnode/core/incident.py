"""The replicated document of one incident.

:class:`Document` joins the parts: the merge laws (core/crdt), the plan of local changes (core/planning), the read
views, the digest and the snapshot. It is told operations in causal order and never asks for anything: who may write,
what an entry says and where records are kept is decided before and elsewhere.

The log book and attachments are not held here. The document counts their operations in its digest; the store has
their bytes, and dots find them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

from meshnode.core import planning, snapshot
from meshnode.core.codec import encode
from meshnode.core.crdt import ROOT_COLLECTION, Author, State, Thing, Value
from meshnode.core.events import Change
from meshnode.core.ids import ROOT_OBJECT, Dot, LogId, ObjectId
from meshnode.core.keys import digest
from meshnode.core.log import LogHead
from meshnode.core.operations import Operation
from meshnode.core.schema import plain_value, view_value, well_typed
from meshnode.core.views import AuthorView, ConflictView, FieldView, ObjectView, ValueView

__all__ = ["Author", "Document"]

SUMMARY_FIELDS = ("kind", "title", "status", "severity", "precedence", "marking")


class Document:
    """The state of one incident, and everything that can be read from it."""

    __slots__ = ("_state",)

    def __init__(self) -> None:
        self._state = State()

    @classmethod
    def restore(cls, data: Any) -> Document:
        """The document of a :meth:`snapshot`, which this process wrote itself and whose hash was checked."""
        document = cls()
        document._state = snapshot.read(data)
        return document

    def snapshot(self) -> Any:
        """Plain data for ``codec.encode``: equal for equal states, whatever the order of arrival was."""
        return snapshot.write(self._state)

    # --- changes ---

    def apply(self, dot: Dot, operation: Operation, author: Author) -> bool:
        """Merges one operation; False when it was applied before.

        Operations come in causal order, those of one log in ascending dots, and name only dots that came before.
        ``author`` has the same device, NOC and name for every dot of a log.
        """
        return self._state.apply(dot, operation, author)

    def plan(self, change: Change, new_id: Callable[[int], bytes]) -> tuple[Operation, ObjectId]:
        """The operation that carries out a local change, and the object it touches. Changes nothing here.

        ``new_id(16)`` gives random bytes for a new object. Raises RefusedError; see core/planning for the codes.
        """
        return planning.plan(self._state, change, new_id)

    def plan_all(self, changes: Iterable[Change], new_id: Callable[[int], bytes]) -> list[tuple[Operation, ObjectId]]:
        """Plans the changes of one request; also refuses a register that is set twice (``repeated-field``)."""
        return planning.plan_all(self._state, changes, new_id)

    # --- what two members compare ---

    def digest(self, heads: Iterable[LogHead]) -> bytes:
        """32 bytes: equal exactly when two members applied the same entries and so hold the same state."""
        ascending = sorted([head.log, head.height, head.hash] for head in heads)
        return digest("meshnode state", self._state.facts.to_bytes(), encode(ascending))

    @property
    def facts_sum(self) -> bytes:
        """256 bytes that stand for the state alone, without the heads."""
        return self._state.facts.to_bytes()

    # --- counts ---

    @property
    def conflict_count(self) -> int:
        return self._state.conflict_count

    @property
    def log_count(self) -> int:
        """Records of the log book."""
        return self._state.log_count

    @property
    def unknown_count(self) -> int:
        """Operations of a newer version, kept and passed on without being understood."""
        return self._state.unknown_count

    # --- views ---

    def collections(self) -> list[str]:
        """Names of the collections that have objects, deleted ones included, ascending."""
        return sorted(name for name in self._state.things if any(self._objects(name)))

    def collection_view(self, collection: str) -> list[ObjectView]:
        """Every object of the collection, deleted ones included, ascending by id."""
        viewer = _Viewer(self._state)
        return [viewer.object(thing) for thing in self._objects(collection)]

    def object_view(self, collection: str, obj: ObjectId) -> ObjectView | None:
        """None when no operation made such an object."""
        thing = self._state.existing(collection, obj)
        return None if thing is None else _Viewer(self._state).object(thing)

    def fields_view(self, collection: str = ROOT_COLLECTION, obj: ObjectId = ROOT_OBJECT) -> dict[str, FieldView]:
        """The fields that have values, by name; empty for an object that does not exist."""
        thing = self._state.existing(collection, obj)
        return {} if thing is None else _Viewer(self._state).fields(thing)

    def conflicts(self) -> list[ConflictView]:
        """Every register whose visible values differ, ascending by collection, object and field."""
        viewer = _Viewer(self._state)
        return [
            ConflictView(name, obj.hex(), field, viewer.values(thing, field))
            for name, things in sorted(self._state.things.items())
            for obj, thing in sorted(things.items())
            if not thing.deleted
            for field in sorted(thing.conflicts)
        ]

    def summary_fields(self) -> dict[str, str]:
        """kind, title, status, severity, precedence and marking as text; a conflict shows as ``A | B``."""
        root = self._state.existing(ROOT_COLLECTION, ROOT_OBJECT)
        shown = dict.fromkeys(SUMMARY_FIELDS, "")
        if root is not None:
            for field in SUMMARY_FIELDS:
                shown[field] = " | ".join(sorted({_line(value.value) for value in root.of_field(field)}))
        return shown

    def attachment_chunks(self, obj: ObjectId) -> list[tuple[int, Dot]]:
        """(index, dot) of each piece of an attachment, ascending. The bytes are in the store."""
        return sorted(self._state.chunks.get(obj, ()))

    def _objects(self, collection: str) -> list[Thing]:
        things = self._state.things.get(collection, {})
        return [
            thing
            for obj, thing in sorted(things.items())
            if thing.exists and not (collection == ROOT_COLLECTION and obj == ROOT_OBJECT)
        ]


class _Viewer:
    """Builds the records of one answer. Values of one entry share their author's record."""

    __slots__ = ("_authors", "_log_texts", "_logs")

    def __init__(self, state: State) -> None:
        self._logs = state.logs
        self._authors: dict[tuple[LogId, str, int], AuthorView] = {}
        self._log_texts: dict[LogId, str] = {}

    def object(self, thing: Thing) -> ObjectView:
        return ObjectView(
            thing.id.hex(), thing.collection, self.fields(thing), thing.deleted, thing.edited_after_delete
        )

    def fields(self, thing: Thing) -> dict[str, FieldView]:
        return {field: FieldView(self.values(thing, field), field in thing.conflicts) for field in sorted(thing.fields)}

    def values(self, thing: Thing, field: str) -> list[ValueView]:
        """In the order of the authors' clocks, which is for the eye only."""
        cell = thing.fields[field]
        if isinstance(cell, Value):  # nearly always, and half the time of an answer
            return [self._value(thing.collection, cell)]
        ordered = sorted(cell.values(), key=lambda value: (value.time_ms, value.dot))
        return [self._value(thing.collection, value) for value in ordered]

    def _value(self, collection: str, value: Value) -> ValueView:
        log, seq, op = value.dot
        log_text = self._log_texts.get(log)
        if log_text is None:
            log_text = self._log_texts[log] = log.hex()
        typed = well_typed(collection, value.field, value.value)
        shown = view_value(collection, value.field, value.value)
        return ValueView(f"{log_text}.{seq}.{op}", shown, self._author(log, value), typed)

    def _author(self, log: LogId, value: Value) -> AuthorView:
        key = (log, value.operator, value.time_ms)
        author = self._authors.get(key)
        if author is None:
            known = self._logs[log]
            author = AuthorView(known.device.hex(), known.noc, known.name, value.operator, value.time_ms)
            self._authors[key] = author
        return author


def _line(value: Any) -> str:
    """Any value in one line of text: fields may hold what their type here does not foresee."""
    return value if isinstance(value, str) else str(plain_value(value))
