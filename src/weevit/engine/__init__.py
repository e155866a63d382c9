"""Running a graph: threads, sessions, the cache of built graphs."""
