"""The world ``daemon``: real daemons in one process, in virtual time. See ``world``."""
