"""The command line: arguments in, text and an exit code out. The only printing and exiting in the project is here.

Commands live in one module per group and are imported when they are called, so that a question to the daemon costs a
fraction of a second: a client command loads click and the client, never the daemon. ``base`` turns every error into two
lines for people or one object for programs, and into an exit code; ``output`` prints; ``connection`` finds the daemon.
"""

from __future__ import annotations

from meshnode.cli.base import LazyGroup

root = LazyGroup(
    "meshnode",
    help="Shared, encrypted incident state between National Operational Centres.",
    modules={
        "run": ("meshnode.cli.run", "run"),
        "status": ("meshnode.cli.status", "status"),
        "peers": ("meshnode.cli.status", "peers"),
        "incident": ("meshnode.cli.incident", "incident"),
        "init": ("meshnode.cli.identity", "init"),
        "enrol": ("meshnode.cli.identity", "enrol"),
        "identity": ("meshnode.cli.identity", "identity"),
        "authority": ("meshnode.cli.authority", "authority"),
        "config": ("meshnode.cli.config", "config"),
        "completion": ("meshnode.cli.completion", "completion"),
    },
    version=True,
)


def main() -> None:
    """The ``meshnode`` program."""
    root.main(prog_name="meshnode")
