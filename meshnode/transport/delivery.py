"""The way from the links to the daemon: one bounded channel, filled in turn.

Each record goes straight into the channel while it has room. When it is full, records wait here and one task carries
them over: first what happened to links (few, and everything else depends on it), then frames, one from each waiting
link in turn, its CONTROL frame before its BULK frame. So a peer that floods takes one place in turn, however many
frames it has waiting, and nobody's small frame waits for more than one frame of each other link.

What waits is bounded without a counter here: a frame that waits has not been consumed, so its link's window does not
move, and the peer can have sent at most a window more. Frames of a link that died are dropped with it: otherwise a
peer could fill a window, reconnect and fill another. Whatever was in them is asked for again on the next link.
"""

from __future__ import annotations

import contextlib
from collections import deque
from collections.abc import Callable

import trio

from meshnode.core.events import LinkDown, LinkUp, Received
from meshnode.transport.base import Record

Consumed = Callable[[Received], None]
"""Told when a frame that had to wait was handed over."""


class Delivery:
    """Hands records to the daemon in a fair order. Plain calls, and one task: ``run``."""

    def __init__(self, records_max: int, on_consumed: Consumed) -> None:
        self._to_daemon, self.receive = trio.open_memory_channel[Record](records_max)
        self._on_consumed = on_consumed
        self._news: deque[Record] = deque()
        self._waiting: dict[int, tuple[deque[Received], deque[Received]]] = {}
        """Link to its waiting frames, by channel. The first key is the next to be served."""
        self._carrying = False
        self._wake = trio.Event()

    @property
    def is_behind(self) -> bool:
        return self._carrying or bool(self._news) or bool(self._waiting)

    def put(self, record: Record) -> None:
        """Something happened to a link. Never lost, never refused."""
        if not (self.is_behind or not self._put_now(record)):
            return
        if isinstance(record, LinkDown) and self._forget_unborn(record.link):
            return
        self._news.append(record)
        self._wake.set()

    def put_if_room(self, record: Record) -> None:
        """Something that is soon out of date anyway; dropped when the daemon is behind."""
        if not self.is_behind:
            self._put_now(record)

    def put_frame(self, frame: Received) -> bool:
        """True when the frame was handed over; False when it waits, and ``on_consumed`` will tell."""
        if not self.is_behind and self._put_now(frame):
            return True
        queues = self._waiting.setdefault(frame.link, (deque(), deque()))
        queues[frame.channel].append(frame)
        self._wake.set()
        return False

    def drop_frames(self, link: int) -> None:
        """The link died."""
        self._waiting.pop(link, None)

    async def run(self) -> None:
        while True:
            await self._wake.wait()
            self._wake = trio.Event()
            while (record := self._next()) is not None:
                self._carrying = True
                with contextlib.suppress(trio.BrokenResourceError):  # as in _put_now
                    await self._to_daemon.send(record)
                self._carrying = False
                if isinstance(record, Received):
                    self._on_consumed(record)

    def close(self) -> None:
        self._to_daemon.close()

    def _put_now(self, record: Record) -> bool:
        try:
            self._to_daemon.send_nowait(record)
        except trio.WouldBlock:
            return False
        except (trio.BrokenResourceError, trio.ClosedResourceError):
            # The daemon closed its end, or the transport has ended: it is stopping and wants no more. What a commit
            # that the disk finishes only then wants dialled comes here too.
            return True
        return True

    def _forget_unborn(self, link: int) -> bool:
        """A link that died before the daemon heard of it never was: so pending news cannot pile up by flapping."""
        for record in self._news:
            if isinstance(record, LinkUp) and record.link == link:
                self._news.remove(record)
                return True
        return False

    def _next(self) -> Record | None:
        if self._news:
            return self._news.popleft()
        for link, (control, bulk) in self._waiting.items():
            frame = (control or bulk).popleft()
            # The link goes to the end of the ring, or out of it.
            queues = self._waiting.pop(link)
            if control or bulk:
                self._waiting[link] = queues
            return frame
        return None
