"""weevit inside other engines: one picklable class for what maps batches of rows (Ray Data, Spark, Daft)."""

__all__ = ["ray"]
