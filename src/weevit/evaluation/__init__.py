"""How good a model is, on your images and on ImageNet's, and which of two is better."""

__all__ = [
    "ask",
    "compare",
    "comparison_report",
    "evaluate",
    "imagenet",
    "metrics",
    "model",
    "paired",
    "report",
    "results",
    "saved",
    "suite",
]
