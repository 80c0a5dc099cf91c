"""Where tests of the whole daemon find what other tests use too."""

from __future__ import annotations

import sys
from pathlib import Path

# `simulations` starts real daemons; `world` has the enrolled identities.
sys.path += [str(Path(__file__).parents[2]), str(Path(__file__).parents[1])]
