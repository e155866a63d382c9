"""A run: one step, everything that it is resumed from, and what comes of it. Needs `weevit[train]`."""

__all__ = [
    "determinism",
    "loop",
    "machine",
    "micro_batches",
    "module",
    "pages",
    "ranks",
    "results",
    "run_data",
    "setup",
    "state",
    "step",
    "validation",
    "watch",
]
