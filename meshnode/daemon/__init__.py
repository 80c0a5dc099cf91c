"""The daemon: builds the rooms, runs the effect loop, and stops cleanly.

* ``compose``: configuration and key files -> rooms -> one nursery; the only place where the shells meet
* ``loop``: the effect loop and the group commit; the one task that owns the node
* ``links``: a transport that is made anew when it fails
* ``upkeep``: what is looked after while nothing happens
* ``disk``: the one thread that waits for the disk
* ``service``: what the local API asks of the node
* ``journal``: one line per event for the operator, with the code of every refusal
"""

from meshnode.daemon.compose import run

__all__ = ["run"]
