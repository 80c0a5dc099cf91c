"""One seed, one order of tasks.

What is ready at the same moment trio runs in an order that nobody may rely on: each batch stands in the order in which
tasks became ready, and is turned round or not by the toss of a coin. Two things in that are not repeatable: the coin
(``trio._core._run._r``, a generator of the module), and the order of tasks that one event or one cancellation wakes,
which comes out of sets of objects and so out of memory addresses.

trio has an answer of its own for Hypothesis: with ``_ALLOW_DETERMINISTIC_SCHEDULING`` each batch is sorted by the age
of its tasks and then shuffled by ``_r``. Turned on here with a generator of the run's seed, the order depends on the
seed alone, and differs from seed to seed: so seeds search orders of tasks, which no fixed order (first in, first out)
would do. Deadlines that are equal fall into one batch and are sorted with it; sockets of one process are ready as soon
as they are written to, before the next batch.

Both names are private, and there is no public way: instruments see tasks only one by one, after the order is made, and
guest mode chooses when batches run, not how. So they are touched in this file alone, put back after the run, and a
trio without them is refused rather than run at random.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from random import Random
from typing import Any

import trio._core._run as _trio_run

from simulations.worlds.contract import WorldUnavailableError

_SWITCH = "_ALLOW_DETERMINISTIC_SCHEDULING"
_COIN = "_r"


@contextmanager
def seeded_order(seed: int) -> Iterator[None]:
    """For one ``trio.run``. Raises WorldUnavailableError where this trio has no such switch."""
    module: Any = _trio_run
    if not isinstance(getattr(module, _SWITCH, None), bool) or not isinstance(getattr(module, _COIN, None), Random):
        raise WorldUnavailableError("this version of trio cannot be given an order of tasks; use the pinned one")
    before = getattr(module, _SWITCH), getattr(module, _COIN)
    setattr(module, _SWITCH, True)
    setattr(module, _COIN, Random(f"order of tasks {seed}"))
    try:
        yield
    finally:
        setattr(module, _SWITCH, before[0])
        setattr(module, _COIN, before[1])
