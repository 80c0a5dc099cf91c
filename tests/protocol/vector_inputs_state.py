"""Cases of sections "Document", "State digest" and "Order"."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from vector_book import Book, cbor
from vector_cast import BE, LOG, LOG_2, LOG_3, NL, PERSON, VEHICLE, Device, secret

from meshnode.core.ids import ROOT_OBJECT

ROOT, P, V = bytes(ROOT_OBJECT), bytes(PERSON), bytes(VEHICLE)
MINUTE_MS = 60_000


def add(book: Book) -> None:
    _registers(book)
    _sets_and_objects(book)
    _records(book)
    _unseen(book)
    _orders(book)


def dot(log: bytes, seq: int, op: int = 0) -> list[Any]:
    return [bytes(log), seq, op]


def entry(
    log: bytes, seq: int, *operations: Any, device: Device = BE, parents: Sequence[tuple[bytes, int]] = ()
) -> dict[str, Any]:
    return {
        "log": log.hex(),
        "seq": seq,
        "device": device.id.hex(),
        "noc": device.noc,
        "name": device.name,
        "operator": f"officer at {device.name}",
        "time_ms": 1_000,
        "parents": [[parent.hex(), position] for parent, position in parents],
        "hash": secret(f"hash {log.hex()} {seq}").hex(),
        "operations": [cbor(operation) for operation in operations],
    }


def both(book: Book, name: str, about: str, *entries: dict[str, Any]) -> None:
    book.takes("document", name, about, entries=list(entries))


def title(value: Any, *replaces: Any) -> list[Any]:
    return [1, "incident", ROOT, "title", value, sorted(replaces)]


def _registers(book: Book) -> None:
    a1 = entry(LOG, 1, title("A"))
    b1 = entry(LOG_2, 1, title("B"), device=NL)
    solved = entry(LOG, 2, title("C", dot(LOG, 1), dot(LOG_2, 1)), parents=[(LOG_2, 1)])
    both(book, "empty", "no entries: sum of nothing")
    both(book, "set-once", "one value", a1)
    both(book, "set-replaced", "the value named ends", a1, entry(LOG, 2, title("C", dot(LOG, 1))))
    both(book, "conflict", "concurrent values both stay", a1, b1)
    both(book, "conflict-other-order", "the same entries in another causal order", b1, a1)
    both(book, "conflict-resolved", "a value that names both", a1, b1, solved)
    both(book, "same-value-twice", "equal values are no conflict", a1, entry(LOG_2, 1, title("A"), device=NL))
    both(
        book,
        "true-is-not-1",
        "equal only when the encodings are",
        entry(LOG, 1, title(True)),
        entry(LOG_2, 1, title(1), device=NL),
    )
    both(
        book,
        "replaces-other-field",
        "a dot of another field ends nothing",
        a1,
        entry(LOG, 2, [1, "incident", ROOT, "status", "open", [dot(LOG, 1)]]),
    )


def _sets_and_objects(book: Book) -> None:
    made = entry(LOG, 1, [4, "persons", P], [2, "persons", P, "aliases", "Red"], [2, "persons", P, "aliases", "Blue"])
    again = entry(LOG_2, 1, [2, "persons", P, "aliases", "Red"], device=NL)
    removed = entry(LOG, 2, [3, "persons", P, "aliases", [dot(LOG, 1, 1)]])
    both(book, "set-add-remove", "an element leaves by its dot", made, removed)
    both(book, "set-add-wins", "an element added concurrently stays", made, again, removed)
    seen = sorted([dot(LOG, 1, 0), dot(LOG, 1, 1), dot(LOG, 1, 2)])
    deleted = entry(LOG, 2, [5, "persons", P, seen])
    late = entry(LOG_2, 1, [1, "persons", P, "role", "suspect", []], device=NL)
    both(book, "deleted", "all its values are marked", made, deleted)
    both(book, "deleted-and-edited", "a value the deleter had not seen shows it again", made, late, deleted)
    both(book, "deleted-unmade", "a deletion of an object that nobody made", entry(LOG, 1, [5, "vehicles", V, []]))
    both(
        book,
        "root-not-deleted",
        "the incident itself is never deleted",
        entry(LOG, 1, title("A")),
        entry(LOG, 2, [5, "incident", ROOT, [dot(LOG, 1)]]),
    )
    both(
        book,
        "add-ended-by-set",
        "a Set ends an element of its field too",
        made,
        entry(LOG, 2, [1, "persons", P, "aliases", "Green", [dot(LOG, 1, 1)]]),
    )


def _records(book: Book) -> None:
    both(
        book,
        "log-records",
        "two records",
        entry(LOG, 1, [6, {"text": "Cordon set"}]),
        entry(LOG_2, 1, [6, {"text": "Road closed", "x-road": 7}], device=NL),
    )
    both(
        book,
        "chunks",
        "pieces of an attachment",
        entry(LOG, 1, [4, "attachments", V], [7, V, 0, b"abc"], [7, V, 1, b"de"]),
    )
    both(
        book,
        "newer-operations",
        "an unknown code, and an item appended to a known one",
        entry(LOG, 1, [9, "later", {1: b"x"}], [*title("A"), "later"]),
    )


def _unseen(book: Book) -> None:
    a1, a2 = entry(LOG, 1, title("A")), entry(LOG, 2, title("B"))

    def naming(*dots: list[Any], parents: Sequence[tuple[bytes, int]] = ()) -> dict[str, Any]:
        return entry(LOG_2, 1, title("C", *dots), device=NL, parents=parents)

    both(book, "unseen-never", "a dot of a log that nobody saw", naming(dot(LOG_3, 1)))
    both(book, "unseen-ahead", "a dot that comes later", naming(dot(LOG, 1)), a1)
    both(book, "unseen-other-order", "the same entries in another order", a1, naming(dot(LOG, 1)))
    both(
        book,
        "unseen-behind-a-parent",
        "a parent reaches up to its position and no further",
        a1,
        naming(dot(LOG, 1), dot(LOG, 2), parents=[(LOG, 1)]),
        a2,
    )
    both(book, "seen-before-a-parent", "and all before it", a1, a2, naming(dot(LOG, 1), parents=[(LOG, 2)]))
    between = entry(LOG_2, 1, [6, {"text": "between"}], device=NL, parents=[(LOG, 1)])
    both(
        book,
        "unseen-parent-of-a-parent",
        "what only a parent names is not shown to have been seen",
        a1,
        between,
        entry(LOG_3, 1, title("C", dot(LOG, 1)), device=NL, parents=[(LOG_2, 1)]),
    )
    both(
        book,
        "seen-by-an-earlier-parent",
        "parents of earlier entries of the log count",
        a1,
        between,
        entry(LOG_2, 2, title("C", dot(LOG, 1)), device=NL),
    )
    both(
        book,
        "unseen-in-its-own-entry",
        "an operation has seen those before it in its entry, not itself nor those behind it",
        entry(LOG, 1, title("A"), title("B", dot(LOG, 1, 0))),
        entry(LOG, 2, title("C", dot(LOG, 2, 0))),
        entry(LOG, 3, title("D", dot(LOG, 3, 1)), title("E")),
    )
    both(
        book,
        "unseen-whole-entry",
        "a void entry does none of what it says, and what later names it does nothing",
        entry(LOG, 1, [4, "persons", P], [5, "persons", P, [dot(LOG_3, 1)]]),
        entry(LOG, 2, [1, "persons", P, "role", "suspect", [dot(LOG, 1, 0)]]),
    )


def _orders(book: Book) -> None:
    def row(log: bytes, seq: int, time_ms: int, *parents: tuple[bytes, int]) -> dict[str, Any]:
        rows = [[parent.hex(), position] for parent, position in parents]
        return {"log": log.hex(), "seq": seq, "time_ms": time_ms, "parents": rows}

    def takes(name: str, about: str, *rows: dict[str, Any]) -> None:
        book.takes("order", name, about, entries=list(rows))

    start = 1_790_000_000_000
    takes(
        "own-clock",
        "clocks that agree",
        row(LOG, 1, start),
        row(LOG_2, 1, start + 5, (LOG, 1)),
        row(LOG, 2, start + 9, (LOG_2, 1)),
    )
    takes(
        "same-millisecond",
        "a tick behind the highest parent",
        row(LOG, 1, start),
        row(LOG, 2, start),
        row(LOG, 3, start),
    )
    takes("clock-behind", "an old clock is pulled up", row(LOG, 1, start), row(LOG_2, 1, 1, (LOG, 1)))
    takes(
        "clock-ahead",
        "ten years ahead moves the display by 15 minutes",
        row(LOG, 1, start),
        row(LOG_2, 1, start + 3650 * 24 * 60 * MINUTE_MS, (LOG, 1)),
        row(LOG, 2, start + MINUTE_MS),
    )
    takes(
        "ties",
        "equal order times stand by log, then position",
        row(LOG, 1, start),
        row(LOG_2, 1, start),
        row(LOG_3, 1, start),
    )
    takes("clock-at-zero", "order times still ascend", row(LOG, 1, 0), row(LOG, 2, 0), row(LOG_2, 1, start, (LOG, 2)))
    takes("clock-at-the-end", "times behind 2**46 ms count as that", row(LOG, 1, 2**53 - 1), row(LOG, 2, 2**53 - 1))
