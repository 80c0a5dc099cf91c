"""The command. What it needs is loaded within reach of Ctrl-C."""

from __future__ import annotations

import sys


def main() -> None:
    try:
        from simulations import program
    except KeyboardInterrupt:
        sys.exit("meshnode-sim: stopped")
    program.main()


if __name__ == "__main__":
    main()
