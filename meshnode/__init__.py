"""meshnode: shared incident state for National Operational Centres."""

__version__ = "0.1.0"
