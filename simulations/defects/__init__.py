"""Planted defects: small errors put into the node while a plan is performed, to prove that the checkers catch them.

A check that cannot fail is worth nothing. Each row of ``DEFECTS`` names an error that a developer could make; ``hunt``
runs seeds until a check finds it. The product knows nothing of this: the node is patched from here, in this process
only.
"""

from simulations.defects import clocks, durability, groups, hostile, merging, promises, travelling
from simulations.defects.hunt import Found, hunt, hunt_all
from simulations.defects.table import DEFECTS, Defect, defect

from simulations.defects import shell  # isort: skip  # last in the table: its world takes longest

__all__ = ["DEFECTS", "Defect", "Found", "defect", "hunt", "hunt_all"]

_ROWS = (durability, merging, travelling, groups, promises, clocks, hostile, shell)
"""Files that fill the table when they are imported."""
