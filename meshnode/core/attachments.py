"""Files kept as they came: an object of the collection ``attachments`` and its bytes in pieces.

The pieces are operations of their own, small enough that an urgent entry never waits behind a whole file on a thin
link. They stay in the store; the document only knows where they are.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence

from meshnode.core.events import Attachment
from meshnode.core.ids import Dot, LogId, ObjectId, parse_dot_untrusted
from meshnode.core.incident import Document
from meshnode.core.operations import CHUNK_BYTES_MAX, Chunk, Create, Operation, Set
from meshnode.errors import RefusedError

ATTACHMENT_BYTES_MAX = 1_048_576
"""One file. The largest alert that is accepted has this size; video does not travel as incident state."""
PIECES_MAX = 1_024
"""Pieces read for one file: those of the largest are 32, and what a hostile member adds must not hold the loop."""
COLLECTION = "attachments"


def attach(attachments: Sequence[Attachment], random_bytes: Callable[[int], bytes]) -> list[Operation]:
    """The operations that carry these files. Raises RefusedError ``attachment-too-large``."""
    operations: list[Operation] = []
    for attachment in attachments:
        size_bytes = len(attachment.data)
        if size_bytes > ATTACHMENT_BYTES_MAX:
            raise RefusedError(
                "attachment-too-large",
                f"{attachment.name} has {size_bytes} bytes where at most {ATTACHMENT_BYTES_MAX} are allowed",
                "attach a smaller file, or a reference to where the large one is kept",
            )
        obj = ObjectId(random_bytes(16))
        fields = {
            "name": attachment.name,
            "media_type": attachment.media_type,
            "size_bytes": size_bytes,
            "sha256": hashlib.sha256(attachment.data).hexdigest(),
        }
        operations.append(Create(COLLECTION, obj))
        operations += [Set(COLLECTION, obj, name, value) for name, value in fields.items()]
        operations += [
            Chunk(obj, index, attachment.data[start : start + CHUNK_BYTES_MAX])
            for index, start in enumerate(range(0, size_bytes, CHUNK_BYTES_MAX))
        ]
    return operations


def objects_of(attached: Sequence[Operation]) -> tuple[ObjectId, ...]:
    """The objects that :func:`attach` made, one for each file."""
    return tuple(operation.object for operation in attached if isinstance(operation, Create))


def assemble(document: Document, obj: ObjectId, read_chunk: Callable[[Dot], Chunk]) -> bytes:
    """The bytes of a file from its pieces. Raises RefusedError ``attachment-incomplete`` when they do not add up.

    Pieces count only in the log that gives the checksum: a file is written in one go, so nobody else can spoil it.
    """
    view = document.object_view(COLLECTION, obj)
    if view is None:
        raise RefusedError("unknown-object", "there is no such attachment", "list the attachments of the incident")
    checksums = view.fields["sha256"].values if "sha256" in view.fields else []
    for value in checksums:
        data = _join(document, obj, parse_dot_untrusted(value.id).log, read_chunk)
        if hashlib.sha256(data).hexdigest() == value.value:
            return data
    raise RefusedError(
        "attachment-incomplete", "its pieces have not all arrived, or do not match its checksum", "try again later"
    )


def _join(document: Document, obj: ObjectId, log: LogId, read_chunk: Callable[[Dot], Chunk]) -> bytes:
    """The pieces of one log in order, as long as they can be those of a file."""
    pieces: dict[int, bytes] = {}
    size_bytes = 0
    for index, dot in document.attachment_chunks(obj):
        if dot.log == log and index not in pieces:
            pieces[index] = read_chunk(dot).data
            size_bytes += len(pieces[index])
            if size_bytes > ATTACHMENT_BYTES_MAX or len(pieces) >= PIECES_MAX:
                break
    return b"".join(pieces[index] for index in sorted(pieces))
