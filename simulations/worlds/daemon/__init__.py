"""The world ``daemon``: real daemons in one process, in virtual time. See ``world``."""

from simulations.worlds.daemon.world import DaemonWorld

__all__ = ["DaemonWorld"]
