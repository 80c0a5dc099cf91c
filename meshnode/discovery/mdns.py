"""The task of the daemon that keeps mDNS going: it starts a session, watches it, and starts the next one.

::

    start --Started--> serving --Alive--> serving          (within start_timeout_s; then within silence_max_s)
      |                   |
      +---- time-out, failure, silence, changed interfaces ----> report, stop, back off, start

A session lives on a thread that can hang in a way nothing can end. There is never more than one: as long as an old one
has not ended, no new one starts, so a library that hangs costs one thread and the hints, and is reported.
"""

from __future__ import annotations

import random
from collections.abc import Callable

import trio

from meshnode.discovery.hints import Hints
from meshnode.discovery.interfaces import local_addresses
from meshnode.discovery.session import (
    Alive,
    Ended,
    Hint,
    OpenZeroconf,
    Scan,
    Started,
    Trouble,
    Worker,
    open_zeroconf,
    run_session,
)
from meshnode.discovery.settings import DiscoverySettings

Found = Callable[[str], None]
"""Called on trio's thread with ``ip:port`` or ``[ip6]:port``. Unproven, and the same one may come again."""
Report = Callable[[str, str], None]
"""Called on trio's thread with a code of ``settings.CODES`` and a reason for a person."""


async def discover(
    settings: DiscoverySettings,
    found: Found,
    report: Report,
    rng: random.Random,
    *,
    open_zeroconf: OpenZeroconf = open_zeroconf,
    scan: Scan = local_addresses,
) -> None:
    """Announces this node and finds others, until cancelled; the goodbye takes at most ``stop_timeout_s``.

    Raises nothing of its own: every fault is reported and tried again. What ``found`` and ``report`` raise passes.
    """
    hints = Hints()
    back_off_s = settings.retry_min_s
    while True:
        started_at = trio.current_time()
        worker = Worker(lambda post: run_session(settings, hints, post, open_zeroconf, scan))
        end = await _attend(worker, settings, found, report)
        report(end.code, end.reason)
        while not worker.ended:
            report("mdns-stuck", "the thread of mDNS hangs; mDNS stays off until it ends")
            with trio.move_on_after(settings.retry_max_s):
                await _drain(worker)
        if trio.current_time() - started_at > settings.retry_max_s:
            back_off_s = settings.retry_min_s
        await trio.sleep(back_off_s * rng.uniform(0.5, 1.0))
        back_off_s = min(2 * back_off_s, settings.retry_max_s)


async def _attend(worker: Worker, settings: DiscoverySettings, found: Found, report: Report) -> Ended:
    """One session. Returns why it is over; its thread has ended then, or hangs (``worker.ended``)."""
    worker.start()
    try:
        return await _watch(worker, settings, found, report)
    finally:
        worker.stop()
        with trio.CancelScope(shield=True, deadline=trio.current_time() + settings.stop_timeout_s):
            await _drain(worker)


async def _watch(worker: Worker, settings: DiscoverySettings, found: Found, report: Report) -> Ended:
    """Passes on what the session posts, until it ends or shows no life in time."""
    silent = Ended("mdns-timeout", f"mDNS did not start within {settings.start_timeout_s:g} s")
    deadline = trio.current_time() + settings.start_timeout_s
    while True:
        note = None
        with trio.move_on_at(deadline):
            note = await worker.next_note()
        match note:
            case None:
                return silent
            case Ended():
                return note
            case Hint(address):
                found(address)
            case Trouble(code, reason):
                report(code, reason)
            case Started() | Alive():
                if isinstance(note, Started):
                    report("mdns-ready", f"announced on {note.where}")
                silent = Ended("mdns-timeout", f"mDNS showed no life for {settings.silence_max_s:g} s")
                deadline = trio.current_time() + settings.silence_max_s


async def _drain(worker: Worker) -> None:
    """Waits until the session has ended; what it still posts is not wanted any more."""
    while not worker.ended:
        await worker.next_note()
