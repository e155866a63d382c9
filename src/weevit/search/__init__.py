"""Embeddings that are kept, the nearest of them, an index of images, and copies."""

__all__ = [
    "copies",
    "duplicates",
    "duplicates_folder",
    "embeddings",
    "groups",
    "looks",
    "moments",
    "neighbours",
    "removal",
    "trash",
]
