"""The same moment: images that embeddings can hardly tell apart."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from weevit.search.neighbours import nearest

Rows = npt.NDArray[np.float32]

NEARER, CLOSE = 0.4, 0.15
"""Two images are alike if each is the other's nearest, at a distance below CLOSE and below NEARER times that of the
next (Lowe, 2004)."""


def standardised(vectors: Rows) -> Rows:
    """Each column with mean 0 and variance 1; a constant one is 0."""
    spread = vectors.std(axis=0)
    return np.asarray((vectors - vectors.mean(axis=0)) / np.where(spread > 0, spread, 1), dtype=np.float32)


def unit(rows: Rows) -> Rows:
    """Rows of length 1."""
    return np.asarray(rows / np.maximum(np.linalg.norm(rows, axis=1, keepdims=True), 1e-12), dtype=np.float32)


def alike(vectors: Rows, own: Sequence[int]) -> list[tuple[int, int, float]]:
    """(first, second, distance) of pairs that are hard to tell apart, the nearest first.

    Args:
        vectors: (n, D) of images of which no two are copies.
        own: the index of each, for the result.
    """
    if len(vectors) < 3:
        return []
    rows = unit(standardised(vectors))
    indices, cosines = nearest(rows, rows, 2, others=True)
    first, distances = indices[:, 0], (1 - cosines).astype(np.float64)
    close = (distances[:, 0] < CLOSE) & (distances[:, 0] < NEARER * distances[:, 1])
    pairs = [
        (own[row], own[other], float(distances[row, 0]))
        for row, other in enumerate(first)
        if row < other and close[row] and close[other] and first[other] == row
    ]
    return sorted(pairs, key=lambda pair: pair[2])
