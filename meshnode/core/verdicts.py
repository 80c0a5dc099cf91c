"""What became of acts and epochs, in words."""

from __future__ import annotations

from dataclasses import dataclass

from meshnode.core.acts import MEMBERS_MAX


@dataclass(frozen=True, slots=True)
class Verdict:
    """What became of one act or epoch, the same at every member."""

    act: int | None
    """Index of the act in its entry; None for the epoch."""
    code: str
    """Empty when it holds."""

    @property
    def valid(self) -> bool:
        return not self.code

    @property
    def reason(self) -> str:
        return _REASONS[self.code]


_REASONS = {
    "": "it holds",
    "act-unknown": "a membership act of a newer version was kept and not applied",
    "act-malformed": "a membership act is not well formed",
    "act-not-entitled": "its author had no right to it in the act's own causal past",
    "act-wrong-handle": "the incident was not created by this author",
    "act-created-again": "the incident had been created before",
    "act-group-too-large": f"more than {MEMBERS_MAX} member devices",
    "act-under-wrong-key": "it is sealed under a key that no valid epoch in its past starts",
    "act-changes-nothing": "whom it limits had no more than that in the act's own causal past",
    "act-needs-majority": "whom it limits is more senior, and the managers of too few NOCs have said the same; it "
    "counts as a vote",
    "act-last-manager": "its author is the last manager, and others are members",
    "act-author-limited": "a manager removed or limited its author, and neither had seen what the other did",
    "act-rests-on-void": "its author's right rests on an act that is void",
    "epoch-not-entitled": "its author could not write in the epoch's own causal past",
    "epoch-wrong-recipients": "its recipients are not the members in its causal past",
    "epoch-key-reused": "its key id had been used before, and it is sealed to an outsider",
    "epoch-past-unreachable": "its parent keys do not lead to every epoch in its causal past",
}
