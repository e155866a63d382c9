"""What an answer is and how it is had: typed results, the rule from logits to classes, the pipeline of a model."""

__all__ = ["columns", "desk", "known", "pipeline", "results", "tables"]
