"""``meshnode run`` on a machine of which one thing is altered: ``altered.py WHAT [ARGUMENT] python -m meshnode ...``.

| what | argument | altered |
|---|---|---|
| clock | seconds | the wall clock is off by so much |
| file-size | bytes | no file may grow beyond this |
| loop | - | the node meets a defect once it has served for a moment |
| reading | - | the list of members meets a defect |
| slow-start | seconds | the node takes so long to be built |
"""

from __future__ import annotations

import resource
import signal
import sys
import threading
import time
from typing import Any


def main() -> None:
    what, *rest = sys.argv[1:]
    at = rest.index("-m")
    argument = float(rest[0]) if at > 1 else 0.0
    sys.argv = ["meshnode", *rest[at + 2 :]]
    alter = {"clock": _clock, "file-size": _file_size, "loop": _loop, "reading": _reading, "slow-start": _slow_start}
    alter[what](argument)
    from meshnode.cli import main as meshnode

    meshnode()


def _clock(seconds: float) -> None:
    true_time = time.time
    time.time = lambda: true_time() + seconds


def _file_size(size_bytes: float) -> None:
    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (int(size_bytes), int(size_bytes)))


def _loop(_: float) -> None:
    from meshnode.core.node import Node

    step, steps = Node.step, 0

    def broken(node: Node, events: Any, now: Any) -> Any:
        nonlocal steps
        steps += 1
        if steps > 3:
            raise ZeroDivisionError("a defect in the loop")
        return step(node, events, now)

    Node.step = broken


def _reading(_: float) -> None:
    from meshnode.core.reading import Reading

    def broken(reading: Reading, incident: Any) -> Any:
        raise ZeroDivisionError("a defect in reading")

    Reading.members = broken


def _slow_start(seconds: float) -> None:
    from meshnode.core.node import Node

    build = Node.__init__

    def slow(node: Node, *arguments: Any, **named: Any) -> None:
        print("building the node", flush=True)
        threading.Event().wait(seconds)
        build(node, *arguments, **named)

    Node.__init__ = slow


if __name__ == "__main__":
    main()
