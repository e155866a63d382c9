"""Embeddings that are kept, the nearest of them, an index of images, and copies."""

__all__ = [
    "bringing",
    "building",
    "card",
    "copies",
    "duplicates",
    "duplicates_folder",
    "embeddings",
    "groups",
    "index",
    "looks",
    "manifest",
    "moments",
    "moves",
    "neighbours",
    "page",
    "removal",
    "trash",
    "undoing",
]
