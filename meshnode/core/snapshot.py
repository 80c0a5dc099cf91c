"""The state of a document as plain data, and back.

Exact: the restored state has the same digest and behaves the same for ever after. Canonical: equal states give equal
data, so two snapshots can be compared byte for byte. Built to be read fast, because a node reads it when it starts:
logs, operators and field names stand once in tables, and the values of an object are one flat list.

    [version, facts, log records, unknown operations, logs, operators, field names, objects, chunks]

    log      [log id, device, noc, name, seq, op]                    the last place that was applied
    object   [collection, id, exists, deletions, values]
    values   flat: code, log index, seq, op, operator index, time_ms, marked, field index, value; ...
    chunks   [attachment, flat: chunk index, log index, seq, op; ...]

Snapshots never leave the node: a version that cannot read one builds the state from the entries again.
"""

from __future__ import annotations

import sys
from typing import Any

from meshnode.core.crdt import LogState, State, Thing, Value
from meshnode.core.facts import FactSum
from meshnode.core.ids import Dot
from meshnode.errors import LocalFaultError

VERSION = 2
_WIDTH = 9
_CHUNK_WIDTH = 4


def write(state: State) -> list[Any]:
    """The state as plain data for core/codec."""
    logs = sorted(state.logs)
    log_index = {log: index for index, log in enumerate(logs)}
    things = [thing for _, things in sorted(state.things.items()) for _, thing in sorted(things.items())]
    operators = sorted({value.operator for thing in things for value in thing.values.values()})
    operator_index = {operator: index for index, operator in enumerate(operators)}
    fields = sorted({value.field for thing in things for value in thing.values.values()})
    field_index = {field: index for index, field in enumerate(fields)}
    objects = []
    for thing in things:
        flat: list[Any] = []
        for (log, seq, op), value in sorted(thing.values.items()):
            flat += (
                value.code,
                log_index[log],
                seq,
                op,
                operator_index[value.operator],
                value.time_ms,
                value.marked,
                field_index[value.field],
                value.value,
            )
        objects.append([thing.collection, thing.id, thing.exists, thing.deletions, flat])
    chunks = [
        [obj, [number for index, (log, seq, op) in sorted(pieces) for number in (index, log_index[log], seq, op)]]
        for obj, pieces in sorted(state.chunks.items())
    ]
    return [
        VERSION,
        state.facts.to_bytes(),
        state.log_count,
        state.unknown_count,
        [[log, known.device, known.noc, known.name, *known.place] for log, known in sorted(state.logs.items())],
        operators,
        fields,
        objects,
        chunks,
    ]


def read(data: Any) -> State:
    """The state of plain data that :func:`write` made. Raises LocalFaultError ``snapshot-version``."""
    if data[0] != VERSION:
        raise LocalFaultError(
            "snapshot-version", f"a snapshot of version {data[0]}", "nothing to do: the state is built from the entries"
        )
    _, summed, log_count, unknown_count, logs, operators, fields, objects, chunks = data
    state = State()
    state.facts = FactSum(summed)
    state.log_count, state.unknown_count = log_count, unknown_count
    for log, device, noc, name, seq, op in logs:
        state.logs[log] = LogState(device, noc, name, (seq, op))
    ids = [log for log, *_ in logs]
    fields = [sys.intern(field) for field in fields]
    for collection, obj, exists, deletions, flat in objects:
        thing = Thing(sys.intern(collection), obj)
        thing.exists, thing.deletions = exists, deletions
        _read_values(thing, flat, ids, operators, fields)
        state.adopt(thing)
    for obj, flat in chunks:
        state.chunks[obj] = [
            (flat[at], Dot(ids[flat[at + 1]], flat[at + 2], flat[at + 3])) for at in range(0, len(flat), _CHUNK_WIDTH)
        ]
    return state


def _read_values(thing: Thing, flat: list[Any], ids: list[Any], operators: list[str], fields: list[str]) -> None:
    columns = (flat[column::_WIDTH] for column in range(_WIDTH))
    for code, log, seq, op, operator, time_ms, marked, field, value in zip(*columns, strict=True):
        dot = Dot(ids[log], seq, op)
        thing.insert(Value(code, dot, fields[field], value, operators[operator], time_ms, marked))
    for field, cell in thing.fields.items():
        if isinstance(cell, dict):
            thing.recheck_conflict(field)
