"""What is looked after while nothing happens: rows nobody reads, the node's own certificate, refusals at the door.

* A **scrub** checks every stored row against its hash, a slice at a time. Rows rot unread for months, and a damaged one
  is fetched again only while some peer still has it.
* Commits are **tidied** into the main file of the store soon after the node falls quiet, so that a write-ahead log that
  somebody removes takes little along: above all no keys.
* The **certificate** of this node ends one day, or seems to while its clock is wrong. Peers then refuse it; the local
  service goes on, and the status says why nobody answers. A clock that is put right ends it.
* Whoever is **refused at the door** (no certificate, a foreign one) never becomes a link. The operator hears of it,
  and the node, which may know whose address that is.

Each runs on the loop's thread, between steps, for as long as the daemon.
"""

from __future__ import annotations

from collections.abc import Callable

import trio

from meshnode.core.certificates import Certificate, check_validity
from meshnode.core.events import Report, Tick
from meshnode.daemon.links import Links
from meshnode.daemon.loop import Loop
from meshnode.errors import LocalFaultError, UntrustedInputError
from meshnode.storage.ticket import SCRUB_START, CommittingLogStore

SCRUB_ROWS = 200
"""Rows of one slice. Reading and hashing them takes 2 ms (entries of 250 bytes) to 30 ms (the largest there are)."""
SCRUB_INTERVAL_S = 5.0
"""Between two slices: 100,000 entries with their seals and journal take two hours and 0.05 % of a core."""
TIDY_INTERVAL_S = 30.0
"""Commits younger than this may be in the write-ahead log only. Under load the store asks for itself, and sooner."""
CERTIFICATE_INTERVAL_S = 3600.0
"""A certificate's dates have a day of slack; an hour is soon enough for it, and for a clock that was put right."""
DOOR_INTERVAL_S = 2.0
"""Refusals at the door are written down at most this late. The journal itself leaves out repetitions."""

CERTIFICATE_CODES = ("certificate-expired", "certificate-not-yet-valid")


async def look_after(
    loop: Loop,
    store: CommittingLogStore,
    links: Links,
    certificate: Certificate,
    wall_s: Callable[[], float],
    report: Callable[[Report], None],
) -> None:
    """Runs until cancelled."""
    async with trio.open_nursery() as nursery:
        nursery.start_soon(scrub, loop, store)
        nursery.start_soon(tidy, loop)
        nursery.start_soon(watch_certificate, loop, certificate, wall_s)
        nursery.start_soon(watch_door, loop, links, report)


async def scrub(loop: Loop, store: CommittingLogStore) -> None:
    """Goes through the store for ever. Damage is reported by the node, which asks its peers for what is lost."""
    position = SCRUB_START
    while True:
        await trio.sleep(SCRUB_INTERVAL_S)
        looked = damaged = 0
        try:
            while looked < SCRUB_ROWS:
                done = store.scrub(position, SCRUB_ROWS - looked)
                position = done.following
                looked += done.rows
                damaged += done.damaged
                if position == SCRUB_START:
                    break
        except LocalFaultError as fault:
            # What cannot be read at all: shown, and tried again from the start.
            loop.note_degraded(fault)
            position = SCRUB_START
        if damaged:
            loop.post(Tick())


async def tidy(loop: Loop) -> None:
    while True:
        loop.tidy_soon()
        await trio.sleep(TIDY_INTERVAL_S)


async def watch_certificate(loop: Loop, certificate: Certificate, wall_s: Callable[[], float]) -> None:
    while True:
        code = ""
        try:
            check_validity(certificate, wall_s())
        except UntrustedInputError as error:
            code = error.code
            loop.note_degraded(error)
        for other in CERTIFICATE_CODES:
            if other != code:
                loop.end_degraded(other, "this node's certificate is valid by its clock")
        await trio.sleep(CERTIFICATE_INTERVAL_S)


async def watch_door(loop: Loop, links: Links, report: Callable[[Report], None]) -> None:
    while True:
        await trio.sleep(DOOR_INTERVAL_S)
        for news in links.news():
            report(news)
        for refused in links.refused_from():
            loop.offer(refused)
