"""Looking inside: what a model attends to, and whether that is what its answer rests on."""

__all__ = ["draw", "relevance"]
