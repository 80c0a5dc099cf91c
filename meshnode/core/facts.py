"""The digest of a document: exact, incremental, and the same whatever the order of arrival.

A document's state is a set of *facts*: a live value with its dot and author, a marker of creation or deletion, a
record of the log book, an operation this version does not know. Each fact hashes to a number of 2,048 bits
(SHAKE-128 of its canonical encoding), and the sum of these numbers modulo 2**2048 stands for the set: a fact is added
when it becomes live and subtracted when it dies, each in a few microseconds, however large the document is.

This is AdHash (Bellare and Micciancio, 1997). Two sets with one sum are a generalised birthday problem (Wagner, 2002):
easier with many facts of the attacker's choice, harder with the modulus. At 256 bits it would cost 2**31; at 2,048 bits
and with 16 million chosen facts about 2**106. The digest covers the heads of all logs besides, so whoever forged a sum
would still have to forge a hash chain.

A fact is encoded as a head of fixed length (its kind, and for most the dot of an operation) and a sequence of canonical
CBOR items, so two different facts never share an encoding.

What it does not promise: it is a sum over *sets* (callers never add a live fact twice), it says nothing about what is
missing, it is not a signature, and it is not secret: whoever knows all facts but one can test guesses of that one.
"""

from __future__ import annotations

import hashlib
import struct
from typing import Any

from meshnode.core.codec import encode
from meshnode.core.ids import Dot, ObjectId

FACT_BYTES = 256
_MODULUS_MASK = 2 ** (8 * FACT_BYTES) - 1

_HEAD = struct.Struct(">c32sIHI")
"""Kind, dot, and the code of an operation."""
_TIME_BYTES = 9
"""Any integer that an entry can carry as its time, and a sign."""


def operation_fact(code: int, dot: Dot, operator: str, time_ms: int, *items: Any) -> bytes:
    """An operation, or the value that it left: who wrote what under which dot."""
    head = _HEAD.pack(b"o", *dot, code) + time_ms.to_bytes(_TIME_BYTES, "big", signed=True)
    return b"".join((head, encode(operator), *map(encode, items)))


def extra_fact(dot: Dot, extra: tuple[Any, ...]) -> bytes:
    """Items of a known operation that only a newer version understands."""
    return _HEAD.pack(b"x", *dot, 0) + encode(list(extra))


def object_fact(collection: str, obj: ObjectId) -> bytes:
    """The object came into being."""
    return b"e" + obj + encode(collection)


class FactSum:
    """The sum over the live facts."""

    __slots__ = ("_sum",)

    def __init__(self, summed: bytes = bytes(FACT_BYTES)) -> None:
        self._sum = int.from_bytes(summed, "big")

    def add(self, fact: bytes) -> None:
        self._sum = (self._sum + _number(fact)) & _MODULUS_MASK

    def subtract(self, fact: bytes) -> None:
        self._sum = (self._sum - _number(fact)) & _MODULUS_MASK

    def to_bytes(self) -> bytes:
        return self._sum.to_bytes(FACT_BYTES, "big")


def _number(fact: bytes) -> int:
    return int.from_bytes(hashlib.shake_128(fact).digest(FACT_BYTES), "big")
