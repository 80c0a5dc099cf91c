"""Partition simulations, the demonstration, benchmarks: what is run against meshnode, never part of it."""
