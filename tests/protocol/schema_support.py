"""The schema of the protocol, ready to judge bytes."""

from __future__ import annotations

import logging

from cddl_verifier import Validator
from vector_case import VECTORS

logging.getLogger("cddl_verifier").setLevel(logging.CRITICAL)  # it logs every refusal, and refusals are wanted here

SCHEMA = Validator(VECTORS.parent / "wire.cddl")


def takes(rule: str, data: bytes) -> bool:
    return bool(SCHEMA.validate(data, root_type=rule).valid)
