"""Many images: jobs that can be killed, resumed, shared out and checked."""

__all__ = ["folder", "results", "run", "settings"]
