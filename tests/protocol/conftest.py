"""Puts ``tests`` on the path: the small virtual world lives there."""

from __future__ import annotations

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))
