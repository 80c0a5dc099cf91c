"""What a client is told and nothing follows from; what a client is refused for no reason."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any
from unittest.mock import patch

from meshnode.core.archive import Archive
from meshnode.core.events import Now, OpenIncident, ShareIncident, Written
from meshnode.core.incidents import Incidents
from meshnode.errors import RefusedError
from simulations.defects.table import defect

BLACKOUT = str(Path(__file__).with_name("blackout.toml"))


@defect(
    "every key forgotten at a restart",
    "no epoch key is read back from the disk, so that after a power cut nobody reads anything",
    *("I9", "I6", "I1", "I2", "I5"),
    scenario=BLACKOUT,
)
def _keys_forgotten() -> Iterator[None]:
    with patch.object(Archive, "epoch_keys", lambda self: iter(())):
        yield


@defect("share does nothing", "a share is acknowledged and writes no entry", "I9", "I5", scenario=BLACKOUT)
def _share_nothing() -> Iterator[None]:
    share = Incidents.share

    def pretend(self: Incidents, event: ShareIncident, now: Now) -> Written:
        with patch.object(Incidents, "_write_epoch", lambda *_: None):
            return share(self, event, now)

    with patch.object(Incidents, "share", pretend):
        yield


@defect("only the first NOC is invited", "of the NOCs that an opening names all but the first are left out", "I9", "I5")
def _first_noc() -> Iterator[None]:
    open_ = Incidents.open

    def fewer(self: Incidents, event: OpenIncident, attached: Sequence[Any], now: Now) -> Written:
        return open_(self, replace(event, share_with=event.share_with[:1]), attached, now)

    with patch.object(Incidents, "open", fewer):
        yield


@defect("every write refused", "each change is refused, with a code that other requests may be given", "I6")
def _refuse_all() -> Iterator[None]:
    def refuse(self: Incidents, *_args: Any, **_more: Any) -> Written:
        raise RefusedError("no-prekey", "no prekey of the node itself", "try again in a moment")

    with patch.object(Incidents, "change", refuse):
        yield
