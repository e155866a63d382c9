"""Running a graph: threads, sessions, the cache of built graphs."""

__all__ = ["ahead", "cache", "machine", "session", "threads"]
