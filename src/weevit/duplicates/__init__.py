"""Images that are there twice: copies that are certain, moments to look at, and moving copies away and back."""

__all__ = ["copies", "find", "folder", "groups", "looks", "moments", "moves", "removal", "trash", "undoing"]
