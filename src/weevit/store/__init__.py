"""Whatever is kept, on disk or in a bucket: files whole or not at all, folders held by one process, what an output may
not replace.
"""

__all__ = [
    "below",
    "bucket",
    "cache",
    "extras",
    "files",
    "folder",
    "home",
    "keys",
    "moving",
    "outputs",
    "own",
    "place",
    "provenance",
]
