"""``python -m simulations.worlds.lab.odd CLOCK DEFECT ...``: runs ``meshnode ...`` with something wrong; ``-`` is none.

CLOCK is a file that sets the wall clock wrong. The daemon asks ``time.time`` for it and nothing else, and the kernel
offers no wall clock of one's own to a process. The file holds three doubles: seconds ahead, seconds gained per second,
and since when (of the true clock). DEFECT is a planted one of ``simulations.defects``, to see that it is found.
"""

from __future__ import annotations

import mmap
import struct
import sys
import time
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path

NOTHING = "-"
ROW = struct.Struct("<ddd")


def write_skew(path: Path, skew_s: float, drift: float) -> None:
    """The clock that reads this file is ahead by ``skew_s`` from now on, and gains ``drift`` seconds a second."""
    content = ROW.pack(skew_s, drift, time.time())
    if not path.exists():
        path.write_bytes(content)
        return
    # Written over, not replaced: a running daemon has it mapped.
    with path.open("r+b") as file:
        file.write(content)


def skewed_clock(path: Path, true_clock: Callable[[], float]) -> Callable[[], float]:
    with path.open("rb") as file:
        row = mmap.mmap(file.fileno(), ROW.size, prot=mmap.PROT_READ)

    def clock() -> float:
        now_s = true_clock()
        skew_s, drift, since_s = ROW.unpack_from(row)
        ahead_s: float = skew_s + drift * (now_s - since_s)
        return now_s + ahead_s

    return clock


def main() -> None:
    clock, defect = sys.argv[1:3]
    if clock != NOTHING:
        # Before anything of the node is imported: some of it keeps the function itself.
        time.time = skewed_clock(Path(clock), time.time)
    sys.argv = ["meshnode", *sys.argv[3:]]
    planted: AbstractContextManager[None] = nullcontext()
    if defect != NOTHING:
        from simulations.defects import DEFECTS

        planted = DEFECTS[defect].plant()
    from meshnode.cli import main as run

    with planted:
        run()


if __name__ == "__main__":
    main()
