"""What is wrong with a data set: broken files, copies, leaks between splits, labels that their neighbours deny."""

__all__ = ["check", "neighbours", "results", "saved"]
