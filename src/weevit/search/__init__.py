"""Embeddings that are kept, the nearest of them, an index of images, and copies."""

__all__ = ["bringing", "building", "card", "embeddings", "index", "manifest", "neighbours"]
