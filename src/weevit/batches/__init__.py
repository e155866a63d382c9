"""Training batches: order, draws, augmentation, mixing; the same for any number of threads, restarts and ranks."""

__all__ = ["augment", "loader", "mixing"]
