"""One host on a cable: run in a network namespace of its own by test_lan.py. Writes one JSON line per report and find.

Arguments: where QUIC would listen, the network root in hexadecimal. Ends when its standard input does.
"""

from __future__ import annotations

import json
import random
import sys

import trio

from meshnode.core.keys import PublicKey
from meshnode.discovery.mdns import discover
from meshnode.discovery.settings import DiscoverySettings


def tell(*what: str) -> None:
    sys.stdout.write(json.dumps(what) + "\n")
    sys.stdout.flush()


async def main(listen: str, network: str) -> None:
    settings = DiscoverySettings(
        PublicKey(bytes.fromhex(network)), listen, retry_min_s=0.1, retry_max_s=0.2, beat_s=0.1, ask_again_s=0.5
    )
    async with trio.open_nursery() as nursery:
        nursery.start_soon(discover, settings, lambda address: tell("found", address), tell, random.Random(1))
        await trio.to_thread.run_sync(sys.stdin.read)
        nursery.cancel_scope.cancel()


trio.run(main, *sys.argv[1:])
