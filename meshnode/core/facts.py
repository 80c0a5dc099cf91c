"""The digest of a document: exact, incremental, and the same whatever the order of arrival.

A document's state is a set of *facts*: a live value with its dot and author, a marker of creation or deletion, a
record of the log book, an operation this version does not know. Each fact hashes to a number of 2,048 bits
(SHAKE-128 of its canonical encoding), and the sum of these numbers modulo 2**2048 stands for the set: a fact is added
when it becomes live and subtracted when it dies, each in a few microseconds, however large the document is.

This is AdHash (Bellare and Micciancio, 1997; LtHash is its vector form). Finding two sets with one sum is a
generalised birthday problem, which gets easier with many freely chosen facts and harder with the modulus; at 256 bits
a hostile member could afford it, at 2,048 bits it costs far more than 2**100. SHAKE-128 bounds the rest at 2**128.

What it does not promise: it is a sum over *sets* (callers never add a live fact twice), it says nothing about what is
missing, it is not a signature, and it is not secret: whoever knows all facts but one can test guesses of that one.
"""

from __future__ import annotations

import hashlib
from typing import Any

from meshnode.core import codec

FACT_BYTES = 256
_MODULUS_MASK = 2 ** (8 * FACT_BYTES) - 1


class FactSum:
    """The sum over the live facts. A fact is a list of encodable values that begins with its kind."""

    __slots__ = ("_sum",)

    def __init__(self, summed: bytes = bytes(FACT_BYTES)) -> None:
        self._sum = int.from_bytes(summed, "big")

    def add(self, fact: list[Any]) -> None:
        self._sum = (self._sum + _number(fact)) & _MODULUS_MASK

    def subtract(self, fact: list[Any]) -> None:
        self._sum = (self._sum - _number(fact)) & _MODULUS_MASK

    def to_bytes(self) -> bytes:
        return self._sum.to_bytes(FACT_BYTES, "big")


def _number(fact: list[Any]) -> int:
    return int.from_bytes(hashlib.shake_128(codec.encode(fact)).digest(FACT_BYTES), "big")
