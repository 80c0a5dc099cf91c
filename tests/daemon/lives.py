"""Many short lives of one daemon: a program that has loaded everything, and forks a daemon whenever it is told to.

A life begins in the time of a fork in place of a second of imports. It is the real daemon from there on: its own
process, its own threads, its own store, opened anew. Called as ``lives.py CONFIG LOG``; each line on standard input
starts a life, whose process id is the answer on standard output; the life before must have ended.
"""

from __future__ import annotations

import gc
import os
import sys
import traceback
from pathlib import Path
from typing import NoReturn

from meshnode.cli.base import EXIT_BUG
from meshnode.config import Config, load
from meshnode.daemon import run


def main() -> None:
    config = load(Path(sys.argv[1]))
    gc.collect()
    gc.freeze()  # what is loaded stays where it is: a life shares its pages
    log = os.open(sys.argv[2], os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    for _ in sys.stdin:
        life = os.fork()
        if not life:
            os.dup2(log, sys.stdout.fileno())
            os.dup2(log, sys.stderr.fileno())
            _live(config)
        print(life, flush=True)
        os.waitpid(life, 0)
        print("ended", flush=True)


def _live(config: Config) -> NoReturn:
    """Ends this process; what went wrong is in the log."""
    code = EXIT_BUG
    try:
        run(config)
        code = 0
    finally:
        if code:
            traceback.print_exc()
        os._exit(code)


if __name__ == "__main__":
    main()
