"""A run: one step, everything that it is resumed from, and what comes of it. Needs `weevit[train]`."""

__all__ = [
    "determinism",
    "loop",
    "loss",
    "module",
    "optim",
    "pages",
    "ranks",
    "results",
    "run_data",
    "run_folder",
    "setup",
    "validation",
    "watch",
]
