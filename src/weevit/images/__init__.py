"""Bytes to pixels: what a user gives as a stream of named inputs, each decoded to upright RGB, resized and cropped.

Formats, archives, tables and addresses are read here and nowhere else.
"""

__all__ = [
    "budget",
    "decode",
    "facts",
    "files",
    "formats",
    "jpeg",
    "lines",
    "names",
    "parquet",
    "preprocess",
    "remote",
    "source",
    "sources",
    "tables",
    "taken",
    "values",
]
