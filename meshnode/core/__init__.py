"""Everything that decides, pure: no await, clock, socket, file, thread, logging or global randomness."""
