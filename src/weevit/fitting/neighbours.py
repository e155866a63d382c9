"""Nearest neighbours by the cosine of embeddings: a measure of what a linear head could be missing."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import numpy.typing as npt

from weevit.answers.results import Array, unit_length
from weevit.fitting.heads import Floats
from weevit.search.neighbours import nearest

COUNTS = (1, 3, 5, 10, 20, 50)
"""Numbers of neighbours that vote."""

WEIGHTINGS = ("uniform", "distance")
"""Equal votes, or votes of 1 / (1 - cosine), as in scikit-learn's `KNeighborsClassifier`."""

MOST = 50_000
"""Images; the time grows with their square."""

_CLOSEST = 1e-6
"""Least distance, of the size of rounding errors."""


def scores(
    known: Array, targets: npt.NDArray[Any], asked: Array, num_classes: int
) -> Iterator[tuple[int, str, Floats]]:
    """The votes of the neighbours of each image.

    Args:
        known: (n, D) embeddings.
        targets: (n) class index, or (n, K) of 0 and 1.
        asked: (m, D) embeddings.
        num_classes: K.

    Yields:
        Number of neighbours, weighting, (m, K) shares of the votes; nothing for more neighbours than images.
    """
    votes = targets.astype(np.float64) if targets.ndim == 2 else np.eye(num_classes)[targets]
    counts = [count for count in COUNTS if count <= len(known)]
    indices, cosines = nearest(unit_length(known), unit_length(asked), max(counts, default=0))
    distances = 1 - cosines.astype(np.float64)
    for weighting in WEIGHTINGS:
        weights = np.ones_like(distances) if weighting == "uniform" else 1 / np.maximum(distances, _CLOSEST)
        summed = np.zeros((len(asked), num_classes))
        for rank in range(indices.shape[1]):
            summed += weights[:, rank, None] * votes[indices[:, rank]]
            if rank + 1 in counts:
                yield rank + 1, weighting, summed / weights[:, : rank + 1].sum(axis=1, keepdims=True)
