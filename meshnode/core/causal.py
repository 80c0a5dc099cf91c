"""The causal graph of one incident: who had seen what when they wrote.

Every entry follows the entry before it in its log and names heads of other logs as parents. This keeps, per log and
compactly, what questions about the past need: the cross edges, and for each entry its **order time**.

The order time is the capped hybrid clock of the display: with ``p`` the highest order time among an entry's parents,
it is the author's own time clamped into ``[p + 1 tick, p + 15 minutes]``. It is a function of the graph, the same
everywhere; it exceeds all parents' by construction; a clock ten years ahead moves the display by fifteen minutes once
instead of dragging every later entry with it. Units: ticks of 2**-16 ms, so 65,536 entries fit into one millisecond.

Questions about the whole past walk backwards over cross edges only. They are asked for rare entries (openings,
membership acts, epochs), so nothing is kept per entry but sixteen bytes.

What an author **has seen** is a smaller question, asked for every value that an operation names: how far in another
log do the parents reach that this log names itself? One number per pair of logs that ever met answers it at once,
however long the record is, and its memory is bounded by the parents that entries carry (decision 0063).
"""

from __future__ import annotations

from array import array
from bisect import bisect_right
from typing import Any

from meshnode.core.ids import LogId

TICKS_PER_MS = 1 << 16
DISPLAY_LEAD_TICKS_MAX = 15 * 60 * 1000 * TICKS_PER_MS
"""How far one entry may run ahead of everything it has seen."""
TIME_MS_MAX = 1 << 46
"""Times behind this (the year 4199) count as this, so that order times fit 64 bits whatever an author's clock says."""

Position = tuple[LogId, int]


class _LogGraph:
    """Order times of a log's merged entries, and its cross edges as three parallel arrays."""

    __slots__ = ("edge_logs", "edge_seqs", "edge_targets", "order_times", "seen")

    def __init__(self) -> None:
        self.order_times = array("q")
        self.edge_seqs = array("I")
        """Position in this log that names the edge, ascending."""
        self.edge_logs = array("I")
        self.edge_targets = array("I")
        self.seen: dict[int, int] = {}
        """Number of a log -> the highest position in it that an edge leads to."""


_COLUMNS = ("edge_logs", "edge_seqs", "edge_targets", "order_times")
"""What a snapshot holds; ``seen`` follows from the edges."""


class CausalGraph:
    """Merged entries only: an entry is added after everything it names."""

    def __init__(self) -> None:
        self._logs: list[LogId] = []
        self._numbers: dict[LogId, int] = {}
        self._graphs: list[_LogGraph] = []
        self._frontier: dict[LogId, int] = {}

    def height(self, log: LogId) -> int:
        """How many entries of the log were added."""
        number = self._numbers.get(log)
        return 0 if number is None else len(self._graphs[number].order_times)

    def order_time(self, log: LogId, seq: int) -> int:
        """Ticks of 2**-16 ms."""
        return self._graphs[self._numbers[log]].order_times[seq - 1]

    def add(self, log: LogId, seq: int, parents: list[Position], time_ms: int) -> int:
        """Adds the next entry of a log and returns its order time. Parents were added before, or KeyError."""
        number = self._number(log)
        graph = self._graphs[number]
        if seq != len(graph.order_times) + 1:
            raise ValueError(f"entry {seq} does not follow {len(graph.order_times)}")
        highest = graph.order_times[-1] if graph.order_times else -1
        for parent_log, parent_seq in parents:
            highest = max(highest, self.order_time(parent_log, parent_seq))
            parent_number = self._numbers[parent_log]
            graph.edge_seqs.append(seq)
            graph.edge_logs.append(parent_number)
            graph.edge_targets.append(parent_seq)
            if parent_seq > graph.seen.get(parent_number, 0):
                graph.seen[parent_number] = parent_seq
            if self._frontier.get(parent_log, 0) <= parent_seq:
                self._frontier.pop(parent_log, None)
        own = min(time_ms, TIME_MS_MAX) * TICKS_PER_MS
        order = own if highest < 0 else min(max(own, highest + 1), highest + DISPLAY_LEAD_TICKS_MAX)
        graph.order_times.append(order)
        self._frontier[log] = seq
        return order

    def frontier(self) -> list[Position]:
        """Entries that no other added entry names or follows, latest order time first."""
        heads = list(self._frontier.items())
        heads.sort(key=lambda head: (-self.order_time(*head), head[0]))
        return heads

    def seen(self, log: LogId, other: LogId) -> int:
        """The highest position in another log that the added entries of this log name as a parent; 0 without any."""
        number, other_number = self._numbers.get(log), self._numbers.get(other)
        if number is None or other_number is None:
            return 0
        return self._graphs[number].seen.get(other_number, 0)

    def covers(self, entry: Position, ancestor: Position) -> bool:
        """Is ``ancestor`` the entry itself or in its causal past? Both were added, or the answer is False."""
        target = self._numbers.get(ancestor[0])
        start = self._numbers.get(entry[0])
        if target is None or start is None:
            return False
        if self.height(ancestor[0]) < ancestor[1] or self.height(entry[0]) < entry[1]:
            return False
        reached: dict[int, int] = {}
        waiting: list[tuple[int, int]] = [(start, entry[1])]
        while waiting:
            number, seq = waiting.pop()
            if number == target and seq >= ancestor[1]:
                return True
            done = reached.get(number, 0)
            if seq <= done:
                continue
            reached[number] = seq
            graph = self._graphs[number]
            for edge in range(bisect_right(graph.edge_seqs, done), bisect_right(graph.edge_seqs, seq)):
                waiting.append((graph.edge_logs[edge], graph.edge_targets[edge]))
        return False

    def snapshot(self) -> list[Any]:
        """Plain data for the codec; arrays as little-endian bytes."""
        rows = [
            [log, *(_little_endian(getattr(graph, name)) for name in _COLUMNS)]
            for log, graph in zip(self._logs, self._graphs, strict=True)
        ]
        return [rows, [[log, seq] for log, seq in self._frontier.items()]]

    @classmethod
    def restore(cls, data: list[Any]) -> CausalGraph:
        """The graph whose :meth:`snapshot` this is."""
        graph = cls()
        for log, *columns in data[0]:
            kept = graph._graphs[graph._number(LogId(log))]
            for name, column in zip(_COLUMNS, columns, strict=True):
                values = getattr(kept, name)
                values.frombytes(column)
                if _BIG_ENDIAN:
                    values.byteswap()
            for other, target in zip(kept.edge_logs, kept.edge_targets, strict=True):
                if target > kept.seen.get(other, 0):
                    kept.seen[other] = target
        graph._frontier = {LogId(log): seq for log, seq in data[1]}
        return graph

    def _number(self, log: LogId) -> int:
        number = self._numbers.get(log)
        if number is None:
            number = self._numbers[log] = len(self._logs)
            self._logs.append(log)
            self._graphs.append(_LogGraph())
        return number


_BIG_ENDIAN = array("H", b"\x00\x01")[0] == 1


def _little_endian(values: array[int]) -> bytes:
    if _BIG_ENDIAN:
        values = values[:]
        values.byteswap()
    return values.tobytes()
