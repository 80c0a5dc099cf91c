"""Files come back as they came, or not at all, whatever another member adds to them."""

from __future__ import annotations

import hashlib
import random
from typing import Any

import pytest
from core_support import refused, search
from hypothesis import given
from hypothesis import strategies as st

from meshnode.core import attachments
from meshnode.core.attachments import ATTACHMENT_BYTES_MAX, COLLECTION, PIECES_MAX, assemble, attach
from meshnode.core.codec import encode
from meshnode.core.events import Attachment
from meshnode.core.ids import DeviceId, Dot, LogId, ObjectId
from meshnode.core.incident import Author, Document
from meshnode.core.operations import CHUNK_BYTES_MAX, Chunk, Create, Operation, Set, encode_operation
from meshnode.errors import RefusedError

LOG, HOSTILE = LogId(b"M" * 32), LogId(b"A" * 32)
AUTHOR = Author(DeviceId(bytes(32)), "BE", "1", "officer", 0)


class Shelf:
    """A document and the operations it was told, found again by their dots."""

    def __init__(self) -> None:
        self.document = Document()
        self.operations: dict[Dot, Operation] = {}
        self.heights: dict[LogId, int] = {}
        self.read = 0

    def write(self, operations: list[Operation], log: LogId = LOG) -> None:
        seq = self.heights[log] = self.heights.get(log, 0) + 1
        for index, operation in enumerate(operations):
            dot = Dot(log, seq, index)
            self.operations[dot] = operation
            self.document.apply(dot, operation, AUTHOR)

    def chunk(self, dot: Dot) -> Chunk:
        self.read += 1
        found = self.operations[dot]
        assert isinstance(found, Chunk)
        return found

    def assemble(self, obj: ObjectId) -> bytes:
        return assemble(self.document, obj, self.chunk)


def file(data: bytes, name: str = "alert.xml") -> list[Operation]:
    return attach([Attachment(name, "application/xml", data)], random.Random(1).randbytes)


def object_of(operations: list[Operation]) -> ObjectId:
    assert isinstance(operations[0], Create)
    return operations[0].object


def incomplete(shelf: Shelf, obj: ObjectId) -> None:
    with refused("attachment-incomplete", error=RefusedError):
        shelf.assemble(obj)


@given(st.integers(0, 3 * CHUNK_BYTES_MAX), st.randoms(use_true_random=False))
@search(20)
def test_a_file_comes_back_from_its_pieces_in_whatever_order_they_came(size_bytes: int, rng: Any) -> None:
    data = rng.randbytes(size_bytes)
    operations = file(data)
    shelf = Shelf()
    rng.shuffle(operations)
    shelf.write(operations)
    obj = next(operation.object for operation in operations if isinstance(operation, Create))
    assert shelf.assemble(obj) == data


def test_a_piece_is_small_enough_for_two_to_fit_an_entry() -> None:
    pieces = [operation for operation in file(bytes(ATTACHMENT_BYTES_MAX)) if isinstance(operation, Chunk)]
    assert (len(pieces), {len(piece.data) for piece in pieces}) == (32, {CHUNK_BYTES_MAX})
    assert 2 * len(encode(encode_operation(pieces[0]))) < 66_000


def test_a_file_tells_its_name_type_size_and_checksum() -> None:
    operations = file(b"data", name="plan.pdf")
    said = {operation.field: operation.value for operation in operations if isinstance(operation, Set)}
    assert said == {
        "name": "plan.pdf",
        "media_type": "application/xml",
        "size_bytes": 4,
        "sha256": hashlib.sha256(b"data").hexdigest(),
    }
    assert attach([], random.Random(1).randbytes) == []


def test_a_file_above_the_limit_is_refused_and_one_at_the_limit_is_not() -> None:
    with refused("attachment-too-large", error=RefusedError):
        file(bytes(ATTACHMENT_BYTES_MAX + 1))
    shelf = Shelf()
    largest = file(bytes(ATTACHMENT_BYTES_MAX))
    shelf.write(largest)
    assert shelf.assemble(object_of(largest)) == bytes(ATTACHMENT_BYTES_MAX)


def test_a_file_of_which_a_piece_or_the_checksum_is_missing_is_not_given_out() -> None:
    operations = file(random.Random(2).randbytes(2 * CHUNK_BYTES_MAX))
    for missing in (operations[-1], operations[-2], operations[4]):
        shelf = Shelf()
        shelf.write([operation for operation in operations if operation is not missing])
        incomplete(shelf, object_of(operations))
    with refused("unknown-object", error=RefusedError):
        Shelf().assemble(ObjectId(bytes(16)))


def test_pieces_of_another_member_do_not_spoil_a_file() -> None:
    operations = file(b"the file")
    obj = object_of(operations)
    shelf = Shelf()
    shelf.write([Create(COLLECTION, obj), Chunk(obj, 0, b"forged"), Chunk(obj, 1, b"more")], HOSTILE)
    shelf.write(operations)
    assert shelf.assemble(obj) == b"the file"
    shelf.write([Set(COLLECTION, obj, "sha256", hashlib.sha256(b"else").hexdigest())], HOSTILE)
    assert shelf.assemble(obj) == b"the file"


@pytest.mark.parametrize("checksum", [["list"], {"map": 1}, 7, None, True, b"bytes", ""])
def test_a_checksum_of_any_type_is_only_a_wrong_one(checksum: Any) -> None:
    operations = [Set(*_place(op), "sha256", checksum) if _is_checksum(op) else op for op in file(b"the file")]
    shelf = Shelf()
    shelf.write(operations)
    incomplete(shelf, object_of(operations))


def _is_checksum(operation: Operation) -> bool:
    return isinstance(operation, Set) and operation.field == "sha256"


def _place(operation: Operation) -> tuple[str, ObjectId]:
    assert isinstance(operation, Set)
    return operation.collection, operation.object


def test_what_a_hostile_member_piles_up_is_not_all_read() -> None:
    many = [*file(b"")[:5], *(Chunk(object_of(file(b"")), index, b"") for index in range(3 * PIECES_MAX))]
    shelf = Shelf()
    shelf.write(many)
    shelf.assemble(object_of(many))  # nothing joined is what the checksum is of
    assert shelf.read == PIECES_MAX
    large = file(b"")[:5] + [Chunk(object_of(file(b"")), index, bytes(CHUNK_BYTES_MAX)) for index in range(100)]
    shelf = Shelf()
    shelf.write(large)
    incomplete(shelf, object_of(large))
    assert shelf.read == ATTACHMENT_BYTES_MAX // CHUNK_BYTES_MAX + 1


def test_the_first_of_two_pieces_with_one_index_counts() -> None:
    operations = file(b"the file")
    obj = object_of(operations)
    shelf = Shelf()
    shelf.write([*operations, Chunk(obj, 0, b"second")])
    assert shelf.assemble(obj) == b"the file"
    assert attachments.COLLECTION == COLLECTION
