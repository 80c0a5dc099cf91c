"""Names of NOCs and devices. Short and of one alphabet, so that they can be read out on the telephone, typed on any
keyboard of the Union, shown on any terminal and used as host names, and no two of them look the same."""

from __future__ import annotations

import re

_NOC_CODE = re.compile(r"[A-Z][A-Z0-9]{1,7}")
_DEVICE_NAME = re.compile(r"[a-z0-9][a-z0-9-]{0,62}")


def is_noc_code(text: str) -> bool:
    """``BE``, ``EU``, ``DE2``: 2 to 8 capital letters and digits, a letter first."""
    return _NOC_CODE.fullmatch(text) is not None


def is_device_name(text: str) -> bool:
    """``be-1``: 1 to 63 of a-z, 0-9 and hyphen, so that it can be a host name."""
    return _DEVICE_NAME.fullmatch(text) is not None
