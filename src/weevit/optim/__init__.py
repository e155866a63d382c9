"""How weights change: losses, optimisers, schedule, moving average, equal to timm's step by step. Needs torch."""

__all__ = ["ema", "loss", "nadamuon", "optimizer", "schedule"]
