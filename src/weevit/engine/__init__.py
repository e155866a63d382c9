"""Running a graph: threads, sessions, the cache of built graphs."""

__all__ = ["ahead", "bench", "cache", "choice", "machine", "session", "threads", "timing"]
