"""The folder of a run, and the schemas of its files, which a stranger may have written. Needs `weevit[train]`."""

__all__ = ["folder", "saved"]
