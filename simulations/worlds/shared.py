"""Work that is done once for the whole mesh: what pure functions of the core make of the same immutable bytes.

One entry reaches thirty nodes, and each decodes, hashes and verifies the same bytes. In one process that is the same
work thirty times. Here the functions that only look at bytes are replaced, for one run, by ones that remember.

* Only what depends on its arguments alone is remembered, and only results that nobody can change.
* What was refused is not remembered: it is refused anew each time.
* Everything is bounded and dropped at the end of the run, so no run sees another's.
* Nothing is shared as soon as any function of these modules is not the one that the product wrote: a planted defect
  runs for every node as often as it would in reality.

So the trace of a seed is the same with it and without it (tests/simulations/test_speed.py). A seed that a sweep runs a
second time is run without it there (``APART``): what a node does when it does its own work is proven all the time.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from functools import lru_cache
from types import ModuleType
from typing import Any
from unittest.mock import patch

from meshnode.core import aead, certificates, codec, entry, keys, prekeys, replica, roster, wire
from meshnode.core.log import Entry
from meshnode.core.roster import Enrolled, Roster
from simulations.worlds import crypto

BYTES_MAX = 8_192
LARGE_MAX = 256
"""Larger messages that are remembered: one is decoded by all whom it was sent to, a moment later. At most 256 MiB,
usually a tenth."""
MESSAGES_MAX = 16_384
"""Decoded and encoded messages that are remembered: those of the last seconds of 1,000 nodes, at most 128 MiB."""
ENTRIES_MAX = 16_384
RECORDS_MAX = 8_192
"""Roster records: two of each device of the largest mesh that is simulated."""
PLACES: tuple[ModuleType | type, ...] = (aead, certificates, codec, entry, keys, prekeys, roster, wire, Roster)
"""Where the shared functions are, and what they call."""


def _functions() -> list[tuple[str, str, object]]:
    return [
        (place.__name__, name, value)
        for place in PLACES
        for name, value in vars(place).items()
        if callable(value) or isinstance(value, ModuleType)
    ]


_AS_WRITTEN = _functions()
APART = "MESHNODE_SIMULATIONS_APART"
"""Set in the environment: nothing is shared in this process."""
LIKELY_SHARED = frozenset((wire.Summary, wire.Announce, wire.Prune, wire.Incidents, wire.RosterRecords, wire.Run))
"""Messages that many nodes make alike, or one node for many links."""


@contextmanager
def sharing(kind: str) -> Iterator[None]:
    """One run: signatures of this kind, and what is pure is done once."""
    if _functions() != _AS_WRITTEN or os.environ.get(APART):
        with crypto.signing(kind):
            yield
        return
    with ExitStack() as stack:
        stack.enter_context(crypto.signing(kind, once=True))
        for place, name, shared in _shared():
            stack.enter_context(patch.object(place, name, shared))
        yield


def _shared() -> Iterator[tuple[Any, str, Callable[..., Any]]]:
    """(place, name, function that remembers)"""
    yield codec, "_scan", _of_bytes(codec._scan, MESSAGES_MAX)
    yield wire, "decode_untrusted", _of_bytes(wire.decode_untrusted, MESSAGES_MAX)
    yield wire, "encode", _encode(wire.encode)
    yield wire, "run_entries_untrusted", _run_entries(wire.run_entries_untrusted)
    yield roster, "claimed_device_untrusted", lru_cache(maxsize=RECORDS_MAX)(prekeys.claimed_device_untrusted)
    yield Roster, "_verify_untrusted", _verify_record(Roster._verify_untrusted)
    yield replica, "verify_bundle_untrusted", lru_cache(maxsize=RECORDS_MAX)(certificates.verify_bundle_untrusted)
    yield entry, "log_keys", lru_cache(maxsize=ENTRIES_MAX)(entry.log_keys)
    yield aead, "open_untrusted", _of_bytes(aead.open_untrusted, ENTRIES_MAX)


def _of_bytes(function: Callable[..., Any], count_max: int) -> Callable[..., Any]:
    """Of bytes, and perhaps further arguments that are smaller. Many small ones are remembered, and few large ones."""
    remembering = lru_cache(maxsize=count_max)(function)
    remembering_large = lru_cache(maxsize=LARGE_MAX)(function)

    def call(data: bytes, *more: Any) -> Any:
        return remembering(data, *more) if len(data) <= BYTES_MAX else remembering_large(data, *more)

    return call


def _encode(function: Callable[[wire.Message], bytes]) -> Callable[[wire.Message], bytes]:
    remembering = lru_cache(maxsize=MESSAGES_MAX // 4)(function)

    def encode(message: wire.Message) -> bytes:
        return remembering(message) if type(message) in LIKELY_SHARED else function(message)

    return encode


def _run_entries(function: Callable[[wire.Run], list[Entry]]) -> Callable[[wire.Run], list[Entry]]:
    remembering = lru_cache(maxsize=ENTRIES_MAX)(lambda run: tuple(function(run)))
    return lambda run: list(remembering(run))  # each caller may change its list


def _verify_record(function: Callable[..., Enrolled]) -> Callable[..., Enrolled]:
    """What a node holds of the device already (``held``) is an argument like the others: another branch is taken."""

    @lru_cache(maxsize=RECORDS_MAX)
    def remembering(network_root: keys.PublicKey, bundle: bytes, record: bytes, held: tuple[Enrolled, ...]) -> Enrolled:
        return function(Roster(network_root), bundle, record, held)

    def verify(self: Roster, bundle: bytes, record: bytes, held: tuple[Enrolled, ...]) -> Enrolled:
        return remembering(self._network_root, bundle, record, held)

    return verify
