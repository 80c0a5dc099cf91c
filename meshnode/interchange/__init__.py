"""Formats of the outside world, turned into commands of the local API. Runs in the client, never in the daemon."""
