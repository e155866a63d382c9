"""Embeddings that are kept, the nearest of them, and an index of images."""

__all__ = ["bringing", "building", "card", "embeddings", "index", "kept", "manifest", "neighbours", "page"]
