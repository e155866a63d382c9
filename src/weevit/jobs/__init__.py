"""Many images: jobs that can be killed, resumed, shared out and checked."""

__all__ = ["folder", "on_ray", "places", "results", "run", "settings"]
