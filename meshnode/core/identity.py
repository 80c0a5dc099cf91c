"""Who this node is: what it was given at enrolment. One record, so that secrets have one home and one ``repr``."""

from __future__ import annotations

from dataclasses import dataclass, field

from meshnode.core.certificates import Certificate
from meshnode.core.ids import DeviceId
from meshnode.core.keys import PublicKey, SigningKey


@dataclass(frozen=True, slots=True)
class Identity:
    device_key: SigningKey = field(repr=False)
    store_key: bytes = field(repr=False)
    """32 bytes that seal prekeys, epoch keys and checkpoints at rest."""
    certificate: Certificate
    network_root: PublicKey

    @property
    def device(self) -> DeviceId:
        return self.device_key.device_id
