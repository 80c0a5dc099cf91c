"""Everything that decides. Pure: no await, no clock, no socket, no file, no thread, no logging, no global randomness."""
