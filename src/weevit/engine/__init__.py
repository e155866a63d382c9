"""Running a graph: threads, sessions, the cache of built graphs."""

__all__ = ["ahead", "cache", "choice", "machine", "session", "threads"]
