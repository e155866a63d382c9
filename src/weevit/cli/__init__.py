"""The command line: one verb, one file."""

__all__ = ["app"]
