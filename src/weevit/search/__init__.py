"""Embeddings that are kept, the nearest of them, an index of images, and copies."""

__all__ = ["copies", "embeddings", "looks", "moments", "neighbours"]
