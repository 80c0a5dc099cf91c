"""The log on disk and in memory, and key files."""
