"""Images with classes: folders, tables and archives as splits whose classes have one order for ever."""

__all__ = ["dataset", "found", "hashing", "read", "splitting"]
