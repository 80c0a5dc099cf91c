"""Which code tells which lie, and how a plan's lie begins."""

from __future__ import annotations

from simulations.liars import entries, epochs, frames, two_keys
from simulations.liars.mind import Mind, Tell
from simulations.liars.relays import BENDS
from simulations.scenario.plan import Lie

TELLS: dict[str, Tell] = {
    "equivocate": entries.equivocate,
    "hide-branch": entries.hide_branch,
    "replay": frames.replay,
    "flood-valid": entries.flood_valid,
    "flood-invalid": frames.flood_invalid,
    "back-date": entries.back_date,
    "future-date": entries.future_date,
    "forge-parents": entries.forge_parents,
    "overstep": entries.overstep,
    "seal-to-itself": epochs.seal_to_itself,
    "seal-wrong-key": epochs.seal_wrong_key,
    "seal-to-outsider": epochs.seal_to_outsider,
    "two-keys": two_keys.two_keys,
    "false-requests": frames.false_requests,
    "false-repair": entries.false_repair,
}


def begin(mind: Mind, lie: Lie) -> None:
    """The node tells it at its next step, or from then on."""
    if lie.kind in BENDS:
        mind.lasting.append(BENDS[lie.kind](mind, lie))
    else:
        mind.will_tell(lie, TELLS[lie.kind])
