"""The nearest rows of a matrix: one exact search, in blocks that bound the memory.

    asked (m, D) ── blocks ── cosines (block, n) = asked @ known.T ── the best of each row

Rows have length 1 (`unit_length`), so that a product is a cosine.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import numpy.typing as npt

from weevit.answers.results import Array

Ints = npt.NDArray[np.int64]

_BLOCK = 2048
"""Rows of a block at most."""

_AT_ONCE = 1 << 25
"""Products of a block at most: 128 MB in float32, and twice that for their order."""


def products(known: Array, asked: Array, later: bool = False) -> Iterator[tuple[int, Array]]:
    """All products of two sets of rows.

    Args:
        known: (n, D) float32.
        asked: (m, D) float32.
        later: as many rows are asked as known, and each with those from its own index on: half of the work where the
            other half is the same.

    Yields:
        Index t of the first asked row of a block, and the block's (b, n) products, or (b, n - t) if `later`.
    """
    rows = min(_BLOCK, max(1, _AT_ONCE // max(1, len(known))))
    for top in range(0, len(asked), rows):
        yield top, asked[top : top + rows] @ (known[top:] if later else known).T


def nearest(known: Array, asked: Array, count: int, others: bool = False) -> tuple[Ints, Array]:
    """The known rows with the largest products, for each asked row.

    Args:
        known: (n, D) float32, of length 1 for cosines.
        asked: (m, D) float32.
        count: rows to find; at most n, or n - 1 of others.
        others: `asked` is `known`, and no row is its own neighbour.

    Returns:
        (m, count) indices, the largest product first, equal ones in the order of `known`; (m, count) float32 products.
    """
    count = min(count, len(known) - others)
    indices, found = np.zeros((len(asked), count), np.int64), np.zeros((len(asked), count), np.float32)
    for top, block in products(known, asked) if count else ():
        if others:
            block[np.arange(len(block)), np.arange(top, top + len(block))] = -np.inf
        rough = np.sort(best_columns(block, count), axis=1)
        near = np.take_along_axis(block, rough, axis=1)
        order = np.argsort(-near, axis=1, kind="stable")
        indices[top : top + len(block)] = np.take_along_axis(rough, order, axis=1)
        found[top : top + len(block)] = np.take_along_axis(near, order, axis=1)
    return indices, found


def best_columns(block: Array, count: int) -> Ints:
    """(b, count) columns of the largest values of each row, in no order."""
    return np.argpartition(block, block.shape[1] - count, axis=1)[:, block.shape[1] - count :]
